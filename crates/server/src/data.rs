//! What a node keeps, opened as it was told: all in a folder, or conversations and accounts in PostgreSQL, and in the
//! folder what each node has of its own.

use std::path::Path;
use std::sync::Arc;

use tertulia_search::SearchIndex;
use tertulia_store::Store;
use tertulia_store::accounts::{Accounts, EmbeddedAccounts, SigningKey};
use tertulia_store::dead_letters::{DeadLetters, FolderDeadLetters};
use tertulia_store::embedded::sqlite::FolderLock;
use tertulia_store::embedded::{AppendObserver, Embedded, OpenOptions};
use tertulia_store::postgres::{Postgres, PostgresAccounts, PostgresOptions};

use crate::StartError;
use crate::clock::Random;
use crate::config::{Config, StoreAt};
use crate::metrics::Metrics;

/// What a node keeps.
pub(crate) struct Data {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) accounts: Arc<dyn Accounts>,
    pub(crate) search: Arc<dyn SearchIndex>,
    pub(crate) letters: Arc<dyn DeadLetters>,
    /// Of a folder that no store has locked.
    pub(crate) lock: Option<FolderLock>,
}

impl Data {
    /// Opens it.
    pub(crate) async fn open(
        config: &Config,
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
                let folder = config.data.clone();
                let (lock, search, letters) = blocking(move || {
                    let lock = FolderLock::take(&folder)?;
                    let (search, letters) = of_each_node(&folder)?;
                    Ok((Some(lock), search, letters))
                })
                .await?;
                let options = PostgresOptions::default();
                let accounts = Arc::new(PostgresAccounts::open(url, &options, new_key).await?);
                let store = Postgres::open(url, &options).await?;
                Ok(Self { store, accounts, search, letters, lock })
            }
        }
    }

    /// The log first, whose lock keeps other processes out of the rest, too.
    fn in_folder(config: &Config, new_key: SigningKey, metrics: Arc<Metrics>) -> Result<Self, StartError> {
        let on_append: AppendObserver = Arc::new(move |stats| metrics.appended(stats.intents, stats.commit));
        let mut options = OpenOptions { on_append: Some(on_append), ..OpenOptions::default() };
        if let Some(bytes) = config.journal_segment_bytes {
            options.journal_segment_bytes = bytes;
        }
        let store = Embedded::open(&config.data, options)?;
        let accounts = Arc::new(EmbeddedAccounts::open(&config.data, new_key)?);
        let (search, letters) = of_each_node(&config.data)?;
        Ok(Self { store, accounts, search, letters, lock: None })
    }
}

/// The search index, and what could not be taken into it.
type Derived = (Arc<dyn SearchIndex>, Arc<dyn DeadLetters>);

fn of_each_node(folder: &Path) -> Result<Derived, StartError> {
    let search = Arc::new(tertulia_search::Embedded::open(folder).map_err(StartError::Search)?);
    Ok((search, Arc::new(FolderDeadLetters::open(folder)?)))
}

async fn blocking<T: Send + 'static>(
    open: impl FnOnce() -> Result<T, StartError> + Send + 'static,
) -> Result<T, StartError> {
    let opened = tokio::task::spawn_blocking(open).await;
    opened.map_err(|error| StartError::System(error.to_string()))?
}
