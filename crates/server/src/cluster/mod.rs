//! What makes nodes one service: what one of them appends, the others tell their readers.
//!
//! The log stays the truth. A letter is a hint that comes sooner than a read would: it may be lost, come twice or late,
//! and the hub reads what it lacks.
//!
//! ```text
//! lane ── outgoing: letters, a message a conversation and batch ── the live channel ── incoming ── hub of another node
//!   └─ published: the store knows that it was told      barrier: nothing below it is on its way ── the hub's position
//! ```

mod barriers;
mod incoming;
mod join;
pub mod letters;
mod members;
mod outgoing;
pub mod presence;
mod reach;
mod topics;
mod watch;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tertulia_domain::hub::Hub;
use tertulia_fabric::live::{Ear, Live};
use tertulia_fabric::nodes::{NodeInfo, Nodes};
use tertulia_fabric::presence::Presence;
use tertulia_store::Store;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::barriers::Barriers;
pub use self::join::join;
use self::members::{Members, Node};
pub use self::outgoing::Outgoing;
pub use self::presence::Presences;
use self::reach::Reach;
pub use self::topics::Topics;
use crate::accounts::AccountsService;
use crate::clock::{Clock, Random};
use crate::config::Config;

/// How long a node that goes waits until the others were told what it has appended.
const LEAVE_MAX: Duration = Duration::from_secs(3);

/// For so long after a barrier has come what others tell comes, too.
const FRESH_FOR: Duration = Duration::from_millis(450);

/// How a node stands to the others.
#[derive(Clone)]
pub struct Cluster {
    /// What it tells.
    pub outgoing: Arc<Outgoing>,
    /// What it hears.
    pub topics: Topics,
    /// Who is there on other nodes.
    pub presences: Presences,
    members: Arc<Members>,
    reaches: Arc<Reaches>,
    parts: Arc<Parts>,
}

/// Whether this node reaches what it keeps things in.
struct Reaches {
    /// Who somebody is: without it nobody is let in.
    accounts: Reach,
    /// All conversations, on whichever server.
    store: Reach,
}

impl Reaches {
    fn is_cut_off(&self) -> bool {
        !(self.accounts.is_there() && self.store.is_there())
    }
}

/// A node's ways to the others.
pub struct Links {
    /// What is committed.
    pub live: Arc<dyn Live>,
    /// Who is there.
    pub presence: Arc<dyn Presence>,
    /// Which nodes there are.
    pub nodes: Arc<dyn Nodes>,
}

struct Parts {
    live: Arc<dyn Live>,
    store: Arc<dyn Store>,
    hub: Arc<Hub>,
    repairs: Arc<Notify>,
    presences: Presences,
    random: Random,
    link: Link,
    barriers: Barriers,
}

/// Whether what the others tell comes here.
struct Link {
    /// How often it broke; it begins so.
    breaks: AtomicU64,
    /// The number of the break after which what was missed has been made good.
    made_good: AtomicU64,
    /// When something last showed that what the others tell comes here.
    heard: Mutex<Option<Instant>>,
    /// Told when it stands again.
    restored: Notify,
    /// Told when devices may be gone of which nobody here has heard.
    recheck: Notify,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            breaks: AtomicU64::new(1),
            made_good: AtomicU64::new(0),
            heard: Mutex::default(),
            restored: Notify::default(),
            recheck: Notify::default(),
        }
    }
}

impl Link {
    /// From the moment that what was missed has been made good until it breaks again.
    fn is_whole(&self) -> bool {
        self.made_good.load(Ordering::Acquire) == self.breaks.load(Ordering::Acquire)
    }

    /// Whether what others tell comes here, for certain: a break is noticed after a while only.
    fn is_fresh(&self) -> bool {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_whole() && heard.is_some_and(|at| at.elapsed() < FRESH_FOR)
    }

    fn hears(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

impl Cluster {
    /// A node that tells others what it appends, and of whom it sees.
    pub fn new(
        links: Links,
        store: &Arc<dyn Store>,
        hub: &Arc<Hub>,
        repairs: &Arc<Notify>,
        (clock, random): (&Clock, &Random),
        config: &Config,
    ) -> Self {
        let Links { live, presence, nodes } = links;
        let presences = Presences::new(presence, Arc::clone(hub), clock.clone(), config.presence_ttl);
        let node = Node { url: config.public_url.clone().unwrap_or_default(), capacity: config.capacity };
        let parts = Parts {
            live: Arc::clone(&live),
            store: Arc::clone(store),
            hub: Arc::clone(hub),
            repairs: Arc::clone(repairs),
            presences: presences.clone(),
            random: random.clone(),
            link: Link::default(),
            barriers: Barriers::default(),
        };
        Self {
            outgoing: Arc::new(Outgoing::new(nodes.id(), store.lanes())),
            topics: Topics::new(live, Arc::clone(hub)),
            presences,
            members: Arc::new(Members::new(nodes, Arc::clone(hub), node)),
            reaches: Arc::new(Reaches { accounts: Reach::new(), store: Reach::new() }),
            parts: Arc::new(parts),
        }
    }

    /// The nodes there are, as far as this one knows: while nobody can tell, those of whom it last heard.
    pub async fn known_nodes(&self) -> Vec<NodeInfo> {
        self.members.known().await
    }

    /// Says to all that this node sends its sessions away, and wants no new ones.
    pub fn drain(&self) {
        self.members.drain();
    }

    /// Whether this node can know who somebody is. While it cannot, whoever comes had better go to another.
    pub fn reaches_accounts(&self) -> bool {
        self.reaches.accounts.is_there()
    }

    /// Figures for `/metrics`: (name without prefix, value).
    pub fn figures(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let whole = ("live_whole", f64::from(self.parts.link.is_whole()));
        let reaches = [("accounts_reached", &self.reaches.accounts), ("store_reached", &self.reaches.store)];
        let reaches = reaches.map(|(name, reach)| (name, f64::from(reach.is_there())));
        self.parts.live.figures().into_iter().chain(self.presences.figures()).chain([whole]).chain(reaches)
    }

    /// Waits a moment for what was appended to be told, and leaves the others.
    pub async fn leave(&self) {
        // What is not told by then the others find in the journal.
        if tokio::time::timeout(LEAVE_MAX, self.outgoing.idle()).await.is_err() {
            tracing::warn!("the other nodes could not be told everything; they will find it");
        }
        self.presences.leave(&self.outgoing, &*self.parts.live).await;
        self.parts.live.close().await;
    }

    /// Begins to tell and to hear, until `stop`.
    pub fn start(&self, accounts: &AccountsService, ear: Ear, tasks: &TaskTracker, stop: &CancellationToken) {
        let spawn = |task: BoxFuture<'static, ()>| {
            tasks.spawn(stop.clone().run_until_cancelled_owned(task));
        };
        let own = || (Arc::clone(&self.outgoing), Arc::clone(&self.parts), accounts.clone());
        let (outgoing, parts, _) = own();
        spawn(Box::pin(async move { outgoing.send(&parts).await }));
        let (outgoing, parts, accounts) = own();
        spawn(Box::pin(async move { incoming::hear(&outgoing, &parts, &accounts, ear).await }));
        spawn(Box::pin(self.topics.clone().run()));
        let (outgoing, parts, _) = own();
        spawn(Box::pin(async move { watch::barrier(&outgoing, &parts).await }));
        let (outgoing, parts, _) = own();
        spawn(Box::pin(async move { watch::leftovers(&outgoing, &parts).await }));
        let (outgoing, parts, _) = own();
        spawn(Box::pin(async move { watch::typing(&outgoing, &parts).await }));
        let (outgoing, parts, accounts) = own();
        let presences = || self.presences.clone();
        let members = Arc::clone(&self.members);
        spawn(Box::pin(async move { members.tell_load().await }));
        spawn(Box::pin(presences().announce()));
        spawn(Box::pin(presences().tell(outgoing, Arc::clone(&parts.live))));
        spawn(Box::pin(presences().look(accounts)));
        let (_, parts, accounts) = own();
        spawn(Box::pin(async move { watch::devices(&parts, &accounts).await }));
        let (_, parts, accounts) = own();
        spawn(Box::pin(async move { watch::make_good(&parts, &accounts).await }));
        let (_, parts, accounts) = own();
        let (reaches, members) = (Arc::clone(&self.reaches), Arc::clone(&self.members));
        spawn(Box::pin(async move { watch::reaches(&reaches, &parts, &accounts, &members).await }));
    }
}
