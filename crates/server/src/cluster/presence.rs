//! Who is there, on whichever node.
//!
//! ```text
//! hub ── what is seen here ── announce ── the others can know it ── a letter to all nodes: of these something changed
//! a letter, somebody who begins to watch, a look now and then ── ask: what do the others see of them? ── hub
//! ```
//!
//! A letter only hints whom to ask for, so one that is lost costs time and nothing else: all who are watched here are asked
//! for again and again. So is the cost bounded: one letter for all who changed in a twentieth of a second, and one batch of
//! questions at a time, in which all that is wanted meanwhile goes together.
//!
//! **No ghost for longer than the TTL**, which is six leases: a node that dies is seen no more after one; within two more
//! each watched user is asked for; who seems to have gone without a word is asked for once more, half a lease later, so
//! that nobody flickers while the servers are told everything anew. Who cannot ask for three leases, forgets what he knew.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tertulia_domain::hub::{Hub, Sighting};
use tertulia_fabric::ClusterError;
use tertulia_fabric::live::{Live, Topic};
use tertulia_fabric::presence::Presence;
use tertulia_protocol::event::Presence as Status;
use tertulia_protocol::id::{IdMap, IdSet};
use tertulia_protocol::rest::Audience;
use tertulia_protocol::{Timestamp, UserId};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::Outgoing;
use super::letters::{Letter, News};
use crate::accounts::AccountsService;
use crate::clock::Clock;

/// How often what is seen here is announced, and how long questions gather at least.
const GATHER: Duration = Duration::from_millis(50);
/// How many users are told of in one letter.
const LETTER_USERS: usize = 1_000;
/// How many users are asked for at once.
const ASK_USERS: usize = 10_000;
/// How many users wait for the others to be told of them; of more than that they find out by themselves.
const UNTOLD_MAX: usize = 100_000;
/// The longest that somebody who begins to watch waits for what other nodes see.
const ANSWER_MAX: Duration = Duration::from_millis(500);
/// For how long, about, it is remembered what other nodes have said: until they have surely written down when somebody was
/// last seen.
const NEWS_FOR: Duration = Duration::from_secs(60);
/// Of how many users, in each half of that time.
const NEWS_MAX: usize = 50_000;
/// For so long a node is believed that somebody is there, although whoever was asked does not know it: a node that has just
/// come is not known at once.
const BELIEVED_FOR: Duration = Duration::from_secs(2);

/// The lease of a node of which a user who has gone must be known to have gone within `ttl`.
pub fn lease(ttl: Duration) -> Duration {
    (ttl / 6).clamp(Duration::from_millis(300), Duration::from_secs(10))
}

/// Who is there on other nodes; cheap to clone.
#[derive(Clone)]
pub struct Presences(Arc<Shared>);

struct Shared {
    presence: Arc<dyn Presence>,
    hub: Arc<Hub>,
    clock: Clock,
    lease: Duration,
    /// Those who changed here, of whom the others were not told.
    untold: Mutex<IdMap<UserId, News>>,
    telling: Notify,
    asked: Mutex<Asked>,
    asking: Notify,
    said: Mutex<Said>,
    /// Whether the last question had no answer.
    is_deaf: AtomicBool,
    counts: Counts,
}

/// Whom to ask for.
#[derive(Default)]
struct Asked {
    /// Those of whom another node has said something.
    hinted: IdSet<UserId>,
    /// Those whom somebody begins to watch.
    begun: IdSet<UserId>,
    /// Who waits for the answer.
    waiting: Vec<oneshot::Sender<()>>,
    /// Everybody who is watched.
    all: bool,
}

/// What other nodes have said; the older news go by and by.
#[derive(Default)]
struct Said {
    young: IdMap<UserId, (News, Instant)>,
    old: IdMap<UserId, (News, Instant)>,
}

#[derive(Default)]
struct Counts {
    questions: AtomicU64,
    users: AtomicU64,
    failures: AtomicU64,
    unanswered: AtomicU64,
}

/// The looks that are taken without a hint, at all who are watched, one piece after the other.
struct Looks {
    left: Vec<UserId>,
    piece: usize,
    /// Those who seemed to have gone, and are asked for once more.
    doubted: IdSet<UserId>,
    /// When this time and the time before all began to be looked at: who was there then was seen so since.
    begun: Timestamp,
    before: Timestamp,
}

impl Presences {
    pub(super) fn new(presence: Arc<dyn Presence>, hub: Arc<Hub>, clock: Clock, ttl: Duration) -> Self {
        Self(Arc::new(Shared {
            presence,
            hub,
            clock,
            lease: lease(ttl),
            untold: Mutex::default(),
            telling: Notify::new(),
            asked: Mutex::default(),
            asking: Notify::new(),
            said: Mutex::default(),
            is_deaf: AtomicBool::new(false),
            counts: Counts::default(),
        }))
    }

    /// Finds out what these users, whom somebody here watches now, are on other nodes, and tells the hub. Returns whether
    /// it could; if not, the hub is told later.
    pub async fn ask(&self, users: impl IntoIterator<Item = UserId>) -> bool {
        let shared = &*self.0;
        let (done, answered) = oneshot::channel();
        {
            let mut asked = lock(&shared.asked);
            asked.begun.extend(users);
            asked.waiting.push(done);
        }
        shared.asking.notify_one();
        let is_answered = !shared.is_deaf.load(Ordering::Acquire)
            && timeout(ANSWER_MAX, answered).await.is_ok_and(|answer| answer.is_ok());
        add(&shared.counts.unanswered, u64::from(!is_answered));
        is_answered
    }

    /// When a user was last seen, if that was on another node a moment ago.
    pub fn last_seen(&self, user: UserId) -> Option<Timestamp> {
        lock(&self.0.said).of(user)?.0.last_seen
    }

    /// Figures for `/metrics`: (name without prefix, value).
    pub fn figures(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let Counts { questions, users, failures, unanswered } = &self.0.counts;
        let counts = [
            ("presence_questions", questions),
            ("presence_users_asked_for", users),
            ("presence_questions_failed", failures),
            ("presence_watchers_not_answered", unanswered),
        ];
        let counts = counts.map(|(name, count)| (name, count.load(Ordering::Relaxed) as f64));
        self.0.presence.figures().into_iter().chain(counts)
    }

    /// Another node sees something else of users than before.
    pub(super) fn hear(&self, users: Vec<News>) {
        let shared = &*self.0;
        lock(&shared.said).note(&users, Instant::now());
        let watched = shared.hub.watched(users.into_iter().map(|news| news.user));
        if !watched.is_empty() {
            lock(&shared.asked).hinted.extend(watched.into_iter().map(|(user, _)| user));
            shared.asking.notify_one();
        }
    }

    /// Hints may have been lost.
    pub(super) fn ask_for_all(&self) {
        lock(&self.0.asked).all = true;
        self.0.asking.notify_one();
    }

    /// Announces what is seen here, for ever. Never waits for anybody.
    pub(super) async fn announce(self) {
        let mut aged = Instant::now();
        loop {
            sleep(GATHER).await;
            if self.0.announce() {
                self.0.telling.notify_one();
            }
            if aged.elapsed() >= NEWS_FOR {
                aged = Instant::now();
                lock(&self.0.said).age();
            }
        }
    }

    /// Tells the other nodes of whom they may ask something new, for ever.
    pub(super) async fn tell(self, outgoing: Arc<Outgoing>, live: Arc<dyn Live>) {
        loop {
            self.0.telling.notified().await;
            let users = self.0.take_untold();
            // What cannot be told now is announced anew when it can be, and the others look without a hint.
            match self.0.presence.told().await {
                Ok(()) => hint(&outgoing, &*live, &users).await,
                Err(error) => tracing::debug!(%error, "who is here is told later"),
            }
        }
    }

    /// Tells the others that nobody is here any more.
    pub(super) async fn leave(&self, outgoing: &Outgoing, live: &dyn Live) {
        self.0.announce();
        self.0.presence.close().await;
        hint(outgoing, live, &self.0.take_untold()).await;
    }

    /// Asks for those of whom something may be new, for ever.
    pub(super) async fn look(self, accounts: AccountsService) {
        let shared = &*self.0;
        let mut looks = Looks::new(shared.clock.now());
        let mut heard = Instant::now();
        let mut tick = interval(shared.lease / 2);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_due = tokio::select! {
                () = shared.asking.notified() => false,
                _ = tick.tick() => true,
            };
            let begun = Instant::now();
            let Asked { hinted, begun: watched, waiting, all } = std::mem::take(&mut *lock(&shared.asked));
            let mut users: Vec<UserId> = hinted.iter().chain(&watched).copied().collect();
            if all {
                users.extend(shared.hub.all_watched());
            } else if is_due {
                users.extend(looks.next(|| shared.hub.all_watched(), shared.clock.now()));
            }
            let confirmed = if is_due { std::mem::take(&mut looks.doubted) } else { IdSet::default() };
            users.extend(&confirmed);
            users.sort_unstable();
            users.dedup();
            match shared.ask(&accounts, &mut looks, users, &hinted, &confirmed).await {
                Ok(has_asked) => {
                    if has_asked {
                        heard = Instant::now();
                    }
                    if has_asked && shared.is_deaf.swap(false, Ordering::AcqRel) {
                        tracing::info!("what other nodes see of users is known again");
                        self.ask_for_all();
                    }
                    // Whoever waited may have gone.
                    for done in waiting {
                        let _ = done.send(());
                    }
                }
                Err(ClusterError::Closed) => return,
                Err(error) => {
                    add(&shared.counts.failures, 1);
                    if !shared.is_deaf.swap(true, Ordering::AcqRel) {
                        tracing::warn!(%error, "what other nodes see of users cannot be found out");
                    }
                    if heard.elapsed() >= 3 * shared.lease {
                        shared.hub.forget_elsewhere();
                    }
                }
            }
            sleep_until(begun + GATHER).await;
        }
    }
}

impl Shared {
    /// Returns whether there was something to announce.
    fn announce(&self) -> bool {
        let sightings = self.hub.take_sightings();
        let changes: Vec<_> = sightings.iter().map(|sighting| (sighting.user, sighting.presence)).collect();
        self.presence.announce(&changes);
        let mut untold = lock(&self.untold);
        for Sighting { user, presence, last_seen } in sightings {
            if untold.len() < UNTOLD_MAX {
                untold.insert(user, News { user, presence, last_seen });
            }
        }
        !changes.is_empty()
    }

    fn take_untold(&self) -> Vec<News> {
        std::mem::take(&mut *lock(&self.untold)).into_values().collect()
    }

    /// Asks for users, and tells the hub what is new. Returns whether there was anybody to ask for.
    async fn ask(
        &self,
        accounts: &AccountsService,
        looks: &mut Looks,
        users: Vec<UserId>,
        hinted: &IdSet<UserId>,
        confirmed: &IdSet<UserId>,
    ) -> Result<bool, ClusterError> {
        let watched = self.hub.watched(users);
        for piece in watched.chunks(ASK_USERS) {
            let users: Vec<UserId> = piece.iter().map(|(user, _)| *user).collect();
            add(&self.counts.questions, 1);
            add(&self.counts.users, users.len() as u64);
            let seen = self.presence.elsewhere(&users).await?;
            let (mut sightings, mut vanished) = (Vec::new(), Vec::new());
            {
                let said = lock(&self.said);
                for ((user, known), seen) in piece.iter().copied().zip(seen) {
                    let news = said.of(user);
                    let believed = news.filter(|(_, at)| at.elapsed() < BELIEVED_FOR);
                    let presence = believed.map_or(seen, |(news, _)| seen.most(news.presence));
                    let last_seen = news.and_then(|(news, _)| news.last_seen);
                    match presence {
                        presence if presence == known => {}
                        Status::Offline if hinted.contains(&user) => {
                            sightings.push(Sighting { user, presence, last_seen });
                        }
                        Status::Offline if confirmed.contains(&user) => vanished.push(user),
                        Status::Offline => drop(looks.doubted.insert(user)),
                        presence => sightings.push(Sighting { user, presence, last_seen: None }),
                    }
                }
            }
            self.hub.seen_elsewhere(sightings);
            if !vanished.is_empty() {
                self.vanished(accounts, vanished, looks.before).await;
            }
        }
        Ok(!watched.is_empty())
    }

    /// These have gone and nobody has said so: their node has died, or what it said was lost. It is known when they were
    /// still there.
    async fn vanished(&self, accounts: &AccountsService, users: Vec<UserId>, last_seen: Timestamp) {
        let mut sightings = Vec::with_capacity(users.len());
        for user in users {
            accounts.set_last_seen(user, last_seen);
            let shows = match accounts.privacy(user).await {
                Ok(privacy) => privacy.last_seen == Audience::Everyone,
                Err(_) => false,
            };
            sightings.push(Sighting {
                user,
                presence: Status::Offline,
                last_seen: shows.then_some(last_seen),
            });
        }
        self.hub.seen_elsewhere(sightings);
    }
}

impl Looks {
    fn new(now: Timestamp) -> Self {
        Self { left: Vec::new(), piece: 0, doubted: IdSet::default(), begun: now, before: now }
    }

    /// The next piece: all that `all` gives have their turn within four.
    fn next(&mut self, all: impl FnOnce() -> Vec<UserId>, now: Timestamp) -> Vec<UserId> {
        if self.left.is_empty() {
            self.left = all();
            self.piece = self.left.len().div_ceil(4).max(ASK_USERS / 4);
            (self.before, self.begun) = (self.begun, now);
        }
        self.left.split_off(self.left.len().saturating_sub(self.piece))
    }
}

impl Said {
    fn of(&self, user: UserId) -> Option<(News, Instant)> {
        self.young.get(&user).or_else(|| self.old.get(&user)).copied()
    }

    fn note(&mut self, users: &[News], now: Instant) {
        for news in users {
            self.old.remove(&news.user);
            if self.young.len() < NEWS_MAX {
                self.young.insert(news.user, (*news, now));
            } else {
                self.young.remove(&news.user);
            }
        }
    }

    fn age(&mut self) {
        self.old = std::mem::take(&mut self.young);
    }
}

/// Tells all nodes that something changed of users.
async fn hint(outgoing: &Outgoing, live: &dyn Live, users: &[News]) {
    if users.is_empty() {
        return;
    }
    let letters = users.chunks(LETTER_USERS).map(|users| {
        let letter = Letter::Seen { users: users.to_vec() };
        (Topic::Everyone, letter)
    });
    if let Err(error) = live.publish(outgoing.messages(letters)).await {
        tracing::debug!(%error, "the other nodes find out by themselves who is here");
    }
}

fn add(count: &AtomicU64, by: u64) {
    count.fetch_add(by, Ordering::Relaxed);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks leaves it half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
