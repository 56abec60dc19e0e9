//! What every part of a node has in its hands.

use std::ops::Deref;
use std::sync::Arc;

use axum::extract::FromRef;
use tertulia_domain::hub::{Departed, Hub};
use tertulia_feed::relay::RelayProgress;
use tertulia_protocol::rest::Privacy;
use tertulia_protocol::{DeviceId, Timestamp, UserId};
use tertulia_search::SearchIndex;
use tertulia_store::Store;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accounts::{AccountsService, SessionEvents};
use crate::answers::Answers;
use crate::clock::{Clock, Random};
use crate::cluster::letters::AccountLetter;
use crate::cluster::{Cluster, Outgoing};
use crate::config::Config;
use crate::consumers::Progresses;
use crate::gateway::turned_away::TurnedAway;
use crate::lane::Lanes;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::outage::Outage;
use crate::rest::problem::{ApiError, Refused};
use crate::turns::{Pages, Turns};

/// The node; cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The parts of a node.
pub struct Parts {
    /// What it was told.
    pub config: Config,
    /// Users, devices, tokens.
    pub accounts: AccountsService,
    /// Conversations and their logs: for reads; writes go through the lanes.
    pub store: Arc<dyn Store>,
    /// Whether it refuses what it is asked.
    pub store_outage: Arc<Outage>,
    /// Where messages are found by their words.
    pub search: Arc<dyn SearchIndex>,
    /// Who searches now.
    pub searching: Turns,
    /// Whose pages of messages are read now.
    pub pages: Pages,
    /// How far those have come who follow the logs.
    pub followers: Progresses,
    /// How far what came is relayed, where a feed is shared.
    pub relay: Option<Arc<RelayProgress>>,
    /// The way of everything durable.
    pub lanes: Lanes,
    /// Who gets which frame.
    pub hub: Arc<Hub>,
    /// The other nodes, where the store is shared.
    pub cluster: Option<Cluster>,
    /// How often somebody may do something.
    pub limits: Limits,
    /// Seen from outside.
    pub metrics: Arc<Metrics>,
    /// What time it is.
    pub clock: Clock,
    /// Chance.
    pub random: Random,
    /// The time of day when the clock's monotonic time was zero.
    pub started: Timestamp,
    /// The room for long answers.
    pub answers: Arc<Answers>,
    /// The turns of those who come in: see [`joining`](crate::gateway::joining).
    pub arrivals: Arc<Semaphore>,
    /// The turns of those who become readers.
    pub joins: Arc<Semaphore>,
    /// Those who cannot be served now.
    pub turned_away: TurnedAway,
    /// Cancelled when the node is about to go: it says so, and serves on.
    pub leaving: CancellationToken,
    /// Cancelled when the node begins to go: it takes nothing new.
    pub draining: CancellationToken,
    /// Cancelled when the node waits no longer for HTTP connections: those that are left are cut.
    pub over: CancellationToken,
    /// The HTTP connections, from when they are accepted until they end or are sockets.
    pub http: TaskTracker,
    /// Told when something did not come to the hub.
    pub repairs: Arc<Notify>,
    /// The tasks of sockets and of what runs beside requests; waited for at the end.
    pub tasks: TaskTracker,
}

impl App {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Parts {
    /// The time for heartbeats and presence: it does not jump when the machine's clock is set.
    pub fn steady_now(&self) -> Timestamp {
        self.started.plus(self.clock.monotonic())
    }

    /// Notes that a call was refused, if that is because the store could not do it.
    pub fn note_refused(&self, problem: &ApiError) {
        if let Some(Refused(why)) = problem.refused() {
            self.store_outage.refused(1, why);
        }
    }

    /// Notes in the accounts when somebody was last here.
    pub fn note_departed(&self, departed: impl IntoIterator<Item = Departed>) {
        for Departed { user, last_seen } in departed {
            self.accounts.set_last_seen(user, last_seen);
        }
    }
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl FromRef<App> for AccountsService {
    fn from_ref(app: &App) -> Self {
        app.accounts.clone()
    }
}

impl FromRef<App> for Limits {
    fn from_ref(app: &App) -> Self {
        app.limits.clone()
    }
}

impl FromRef<App> for Clock {
    fn from_ref(app: &App) -> Self {
        app.clock.clone()
    }
}

/// Tells the hub, and the other nodes, what happens to accounts.
pub struct TellNodes {
    /// Of this node.
    pub hub: Arc<Hub>,
    /// The other nodes, if there are any.
    pub outgoing: Option<Arc<Outgoing>>,
}

impl TellNodes {
    fn tell(&self, letter: AccountLetter) {
        if let Some(outgoing) = &self.outgoing {
            outgoing.tell_of_account(letter);
        }
    }
}

impl SessionEvents for TellNodes {
    fn revoked(&self, user: UserId, device: DeviceId) {
        self.hub.revoke(user, device);
        self.tell(AccountLetter::Revoked { user, device });
    }

    fn block_changed(&self, by: UserId, other: UserId) {
        self.tell(AccountLetter::Block { by, other });
    }

    fn privacy_changed(&self, user: UserId, privacy: Privacy) {
        self.hub.set_privacy(user, privacy);
        self.tell(AccountLetter::Privacy { user, privacy });
    }
}
