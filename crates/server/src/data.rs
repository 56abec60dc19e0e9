//! What a node keeps, opened as it was told: all in a folder, or conversations and accounts in PostgreSQL, and in the
//! folder what each node has of its own.

use std::path::Path;
use std::sync::Arc;

use tertulia_fabric::NodeId;
use tertulia_search::SearchIndex;
use tertulia_store::accounts::{Accounts, EmbeddedAccounts, SigningKey};
use tertulia_store::dead_letters::{DeadLetters, FolderDeadLetters};
use tertulia_store::embedded::sqlite::FolderLock;
use tertulia_store::embedded::{Embedded, OpenOptions};
use tertulia_store::leases::Leases;
use tertulia_store::postgres::{
    Postgres, PostgresAccounts, PostgresDeadLetters, PostgresLeases, PostgresOptions, servers,
};
use tertulia_store::{AppendObserver, Sharded, Store};

use crate::StartError;
use crate::clock::Random;
use crate::config::{Config, FeedAt, StoreAt};
use crate::metrics::Metrics;

/// What a node keeps.
pub(crate) struct Data {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) accounts: Arc<dyn Accounts>,
    pub(crate) search: Arc<dyn SearchIndex>,
    pub(crate) letters: Arc<dyn DeadLetters>,
    /// Where nodes that share what they derive decide who does what.
    pub(crate) leases: Option<Arc<dyn Leases>>,
    /// Of a folder that no store has locked.
    pub(crate) lock: Option<FolderLock>,
}

impl Data {
    /// Opens it.
    pub(crate) async fn open(
        config: &Config,
        node: NodeId,
        random: &Random,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, StartError> {
        let new_key = SigningKey::new(random.bytes()?);
        match &config.store {
            StoreAt::Folder => {
                let (config, metrics) = (config.clone(), Arc::clone(metrics));
                blocking(move || Self::in_folder(&config, new_key, metrics)).await
            }
            StoreAt::Postgres(url) => {
                Self::in_postgres(config, std::slice::from_ref(url), node, new_key, Arc::clone(metrics)).await
            }
            StoreAt::PostgresServers(urls) => {
                Self::in_postgres(config, urls, node, new_key, Arc::clone(metrics)).await
            }
        }
    }

    /// Accounts, and what nodes share besides conversations, on the first server.
    async fn in_postgres(
        config: &Config,
        urls: &[String],
        node: NodeId,
        new_key: SigningKey,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StartError> {
        let (folder, is_shared) = (config.data.clone(), config.feed != FeedAt::Journal);
        let (lock, own) = blocking(move || {
            let lock = FolderLock::take(&folder)?;
            Ok((Some(lock), if is_shared { None } else { Some(of_each_node(&folder)?) }))
        })
        .await?;
        let options = PostgresOptions { on_append: Some(on_append(metrics)), ..PostgresOptions::default() };
        let urls = servers::agree(urls, &options).await?;
        let first = urls.first().map_or("", String::as_str);
        let accounts = Arc::new(PostgresAccounts::open(first, &options, new_key).await?);
        let mut stores: Vec<Arc<dyn Store>> = Vec::new();
        for url in &urls {
            stores.push(Postgres::open(url, &options).await?);
        }
        let store: Arc<dyn Store> = match stores.as_slice() {
            [one] => Arc::clone(one),
            _ => Sharded::over(stores).await?,
        };
        // The store has made the tables.
        let (search, letters, leases) = match own {
            Some((search, letters)) => (search, letters, None),
            None => of_all_nodes(first, node).await?,
        };
        Ok(Self { store, accounts, search, letters, leases, lock })
    }

    /// The log first, whose lock keeps other processes out of the rest, too.
    fn in_folder(config: &Config, new_key: SigningKey, metrics: Arc<Metrics>) -> Result<Self, StartError> {
        let mut options = OpenOptions { on_append: Some(on_append(metrics)), ..OpenOptions::default() };
        if let Some(bytes) = config.journal_segment_bytes {
            options.journal_segment_bytes = bytes;
        }
        let store = Embedded::open(&config.data, options)?;
        let accounts = Arc::new(EmbeddedAccounts::open(&config.data, new_key)?);
        let (search, letters) = of_each_node(&config.data)?;
        Ok(Self { store, accounts, search, letters, leases: None, lock: None })
    }
}

/// The search index, and what could not be taken into it.
type Derived = (Arc<dyn SearchIndex>, Arc<dyn DeadLetters>);
/// The same, and who of all nodes does what.
type Shared = (Arc<dyn SearchIndex>, Arc<dyn DeadLetters>, Option<Arc<dyn Leases>>);

fn on_append(metrics: Arc<Metrics>) -> AppendObserver {
    Arc::new(move |stats| metrics.appended(stats.intents, stats.commit))
}

fn of_each_node(folder: &Path) -> Result<Derived, StartError> {
    let search = Arc::new(tertulia_search::Embedded::open(folder).map_err(StartError::Search)?);
    Ok((search, Arc::new(FolderDeadLetters::open(folder)?)))
}

/// Few connections: what goes over them is seldom, and short.
const SHARED_CONNECTIONS: usize = 2;

/// What all nodes share: search index, dead letters, and who of them does what.
async fn of_all_nodes(url: &str, node: NodeId) -> Result<Shared, StartError> {
    let search = tertulia_search::postgres::Postgres::open(url, &PostgresOptions::default()).await?;
    let options = PostgresOptions { readers: SHARED_CONNECTIONS, ..PostgresOptions::default() };
    let letters = PostgresDeadLetters::open(url, &options).await?;
    let leases = PostgresLeases::open(url, &options, node.to_string()).await?;
    Ok((Arc::new(search), Arc::new(letters), Some(Arc::new(leases))))
}

async fn blocking<T: Send + 'static>(
    open: impl FnOnce() -> Result<T, StartError> + Send + 'static,
) -> Result<T, StartError> {
    let opened = tokio::task::spawn_blocking(open).await;
    opened.map_err(|error| StartError::System(error.to_string()))?
}
