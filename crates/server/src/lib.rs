//! The server: what a node is made of, from the socket to the store and back.
//!
//! The path of a message, by file names: [`gateway::socket`] reads it, [`gateway::incoming`] checks it,
//! [`lane`] appends it, the store syncs it, the hub (`tertulia_domain::hub`) gives it to its readers, and
//! [`gateway::socket`] writes it.

pub mod accounts;
pub mod answers;
pub mod app;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod consumers;
mod data;
mod drain;
mod feed;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod gateway;
pub mod lane;
pub mod limits;
pub mod messages;
pub mod metrics;
mod observe;
pub mod outage;
pub mod repair;
pub mod rest;
pub mod retry;
mod search;
mod time;
pub mod turns;
mod views;
mod watchers;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tertulia_domain::hub::{self, Hub};
use tertulia_fabric::NodeId;
use tertulia_fabric::live::Ear;
use tertulia_store::accounts::Accounts;
use tertulia_store::embedded::sqlite::FolderLock;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accounts::{AccountsConfig, AccountsService, FLUSH_EVERY, PasswordConfig};
use crate::answers::Answers;
use crate::app::{App, Parts, TellNodes};
use crate::clock::{Clock, Random};
use crate::cluster::Cluster;
use crate::config::Config;
use crate::consumers::search::Indexing;
use crate::consumers::{Consumer, Consumers};
use crate::data::Data;
use crate::feed::Feeding;
use crate::limits::{Limits, SOCKETS_PER_DEVICE_MAX};
use crate::metrics::Metrics;
use crate::outage::Outage;
use crate::repair::Repairer;
use crate::turns::{Pages, Turns};

/// The version that runs.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How often heartbeats, typing and presence are looked at.
const SWEEP_MAX: Duration = Duration::from_secs(1);
/// How often limits forget who has been quiet.
const LIMITS_SWEEP: Duration = Duration::from_secs(60);
/// How long the last writes may take once everybody has gone.
const CLOSE_MAX: Duration = Duration::from_secs(30);

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be used.
    #[error(transparent)]
    Store(#[from] tertulia_store::embedded::OpenError),
    /// The database cannot be used.
    #[error(transparent)]
    Postgres(#[from] tertulia_store::postgres::OpenError),
    /// The address of the live channel, or of presence, is none.
    #[error(transparent)]
    Address(tertulia_fabric::redis::InvalidTarget),
    /// The search index cannot be opened.
    #[error("cannot open the search index ({0}); if it is damaged, delete it: it is made anew")]
    Search(tertulia_store::embedded::OpenError),
    /// The data cannot be read.
    #[error(transparent)]
    Read(#[from] tertulia_store::StoreError),
    /// The system gives no random bytes or no threads.
    #[error("the system refuses what a node needs: {0}")]
    System(String),
}

impl From<clock::RandomError> for StartError {
    fn from(error: clock::RandomError) -> Self {
        Self::System(error.to_string())
    }
}

/// A node that has opened its data and is about to listen.
pub struct Node {
    app: App,
    lane_ends: Vec<lane::LaneEnd>,
    feeding: Feeding,
    /// What other nodes tell.
    ear: Option<Ear>,
    /// Who knows what time it is for all nodes.
    shared_time: Arc<dyn Accounts>,
    /// Of a data folder without a store.
    lock: Option<FolderLock>,
}

impl Node {
    /// Opens what it keeps.
    ///
    /// # Errors
    /// If the data folder or the database cannot be used: it belongs to another process, or to a newer version, is
    /// damaged, or does not answer.
    pub async fn open(config: Config, clock: Clock, random: Random) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::new(VERSION));
        let node = NodeId::from_bytes(random.bytes()?);
        let data = Data::open(&config, node, &random, &metrics).await?;
        let indexing: Arc<dyn Consumer> = Arc::new(Indexing(Arc::clone(&data.search)));
        let feeding = Feeding::new(&config.feed, &data, node, Consumers::new([indexing]));
        let (followers, relay) = feeding.progresses();
        let Data { store, accounts, search, lock, .. } = data;
        let (positions, parts) = (Arc::clone(&store), Arc::clone(&store));
        let settings = hub::Settings {
            position: Box::new(move |position| positions.position(position)),
            part_of: Box::new(move |convo| parts.part_of(convo)),
            presence_ttl: config.presence_ttl,
            heartbeat: config.heartbeat,
            outbox: hub::Limits::default(),
            sockets_per_device: config.limits.as_ref().map_or(usize::MAX, |_| SOCKETS_PER_DEVICE_MAX),
            others_append: !store.is_sole_writer(),
        };
        let hub = Arc::new(Hub::new(settings, store.horizon().await?));
        let limits = config.limits.as_ref().map_or_else(Limits::off, Limits::new);
        let repairs = Arc::new(Notify::new());
        let (cluster, ear) = if store.is_sole_writer() {
            (None, None)
        } else {
            let (links, ear) = cluster::join(&config, node).map_err(StartError::Address)?;
            (Some(Cluster::new(links, &store, &hub, &repairs, (&clock, &random), &config)), Some(ear))
        };
        let outgoing = cluster.as_ref().map(|cluster| &cluster.outgoing);
        time::set(&*accounts, &clock).await;
        let shared_time = Arc::clone(&accounts);
        let accounts = AccountsService::start(AccountsConfig {
            store: accounts,
            events: Arc::new(TellNodes { hub: Arc::clone(&hub), outgoing: outgoing.cloned() }),
            limits: limits.clone(),
            clock: clock.clone(),
            random: random.clone(),
            passwords: PasswordConfig::default(),
        })
        .map_err(|error| StartError::System(error.to_string()))?;
        let store_outage = Arc::new(Outage::new(Arc::clone(&metrics), clock.clone()));
        let (lanes, lane_ends) =
            lane::lanes(&store, &hub, &repairs, outgoing, (&metrics, &store_outage), &clock);
        let started = clock.now();
        let answers_bytes = config.answers_bytes;
        let app = App::new(Parts {
            config,
            accounts,
            store,
            store_outage,
            search,
            searching: Turns::of_searches(),
            pages: Pages::of_this_machine(),
            followers,
            relay,
            lanes,
            hub,
            cluster,
            limits,
            metrics,
            clock,
            random,
            started,
            answers: Arc::new(Answers::new(answers_bytes)),
            arrivals: Arc::new(tokio::sync::Semaphore::new(gateway::joining::ARRIVALS_MAX)),
            joins: Arc::new(tokio::sync::Semaphore::new(gateway::joining::ARRIVALS_MAX)),
            turned_away: gateway::turned_away::TurnedAway::default(),
            leaving: CancellationToken::new(),
            draining: CancellationToken::new(),
            over: CancellationToken::new(),
            http: TaskTracker::new(),
            repairs,
            tasks: TaskTracker::new(),
        });
        Ok(Self { app, lane_ends, feeding, ear, lock, shared_time })
    }

    /// Serves on `listener` until `shutdown`, then drains: sockets are told to come back elsewhere, what was
    /// taken is stored and answered, and the data is closed.
    ///
    /// # Errors
    /// If it cannot begin to listen.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) -> io::Result<()> {
        let Self { app, lane_ends, feeding, ear, lock, shared_time } = self;
        let (store, search) = (Arc::clone(&app.store), Arc::clone(&app.search));
        let fed = feeding.start(&app.clock, &app.random);
        let mut lanes: JoinSet<()> = lane_ends.into_iter().map(lane::LaneEnd::run).collect();
        let sweeper = app.tasks.spawn(sweep(app.clone()));
        let repairer = Repairer {
            hub: Arc::clone(&app.hub),
            store: Arc::clone(&app.store),
            wanted: Arc::clone(&app.repairs),
            own: app.lanes.batches(),
            topics: app.cluster.as_ref().map(|cluster| cluster.topics.clone()),
            random: app.random.clone(),
        };
        app.tasks.spawn(repairer.run(app.draining.clone()));
        let watchers = watchers::keep(Arc::clone(&app.hub), Arc::clone(&store), app.random.clone());
        app.tasks.spawn(app.draining.clone().run_until_cancelled_owned(watchers));
        let outage = Arc::clone(&app.store_outage);
        let (watched, random, stop) = (Arc::clone(&store), app.random.clone(), app.draining.clone());
        app.tasks.spawn(async move { outage.watch(watched, random, stop).await });
        let cluster = app.cluster.clone();
        // Longer than the sockets: what their last sends append is told, too.
        let (cluster_tasks, cluster_stop) = (TaskTracker::new(), CancellationToken::new());
        if let (Some(cluster), Some(ear)) = (&cluster, ear) {
            cluster.start(&app.accounts, ear, &cluster_tasks, &cluster_stop);
            let keeping = time::keep(shared_time, app.clock.clone(), app.random.clone());
            cluster_tasks.spawn(cluster_stop.clone().run_until_cancelled_owned(keeping));
        }
        let router = rest::router(app.clone());
        let listening = gateway::listener::listen(app.clone(), listener, router)?;
        shutdown.cancelled().await;
        let until = drain::drain(&app).await;
        if let Err(error) = listening.await {
            tracing::error!(%error, "the listener ended badly");
        }
        drain::end_http(&app, until).await;
        if let Err(error) = sweeper.await {
            tracing::error!(%error, "the sweeper ended badly");
        }
        app.accounts.close().await;
        // The last holder of the lanes: now they finish what waits, and end.
        drop(app);
        let finished = async {
            while let Some(ended) = lanes.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "a lane ended badly");
                }
            }
        };
        if tokio::time::timeout(CLOSE_MAX, finished).await.is_err() {
            tracing::warn!("somebody still holds the lanes; closing the store under them");
        }
        if let Some(cluster) = cluster {
            cluster.leave().await;
        }
        cluster_stop.cancel();
        cluster_tasks.close();
        cluster_tasks.wait().await;
        fed.stop().await;
        search.close().await;
        store.close().await;
        drop(lock);
        Ok(())
    }
}

async fn sweep(app: App) {
    let every = SWEEP_MAX.min(app.config.heartbeat / 4);
    let mut limits_swept = app.clock.monotonic();
    let mut accounts_flushed = limits_swept;
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = app.draining.cancelled() => return,
        }
        let departed = app.hub.sweep(app.steady_now());
        app.note_departed(departed);
        let now = app.clock.monotonic();
        if now.saturating_sub(limits_swept) >= LIMITS_SWEEP {
            limits_swept = now;
            app.limits.sweep(now);
        }
        if now.saturating_sub(accounts_flushed) >= FLUSH_EVERY {
            accounts_flushed = now;
            flush_accounts(&app.accounts).await;
        }
    }
}

async fn flush_accounts(accounts: &AccountsService) {
    if let Err(error) = accounts.flush().await {
        tracing::warn!(%error, "who was seen when could not be written; trying again later");
    }
}
