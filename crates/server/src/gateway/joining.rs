//! How a reader begins, whether it connects, resumes or polls: it is registered first, then reads what it
//! missed, so that nothing falls between.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tertulia_domain::hub::{Connection, Mode, PAGE_MAX, Step};
use tertulia_domain::log::{Change, Head, Missed, Position};
use tertulia_fabric::live::Topic;
use tertulia_protocol::rest::Privacy;
use tertulia_protocol::{ConvoId, UserId};
use tertulia_store::{Slice, StoreError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::accounts::Identity;
use crate::app::App;
use crate::cluster::Cluster;
use crate::rest::problem::ApiError;
use crate::views;

/// How many of those who come in or go are worked for at one time: the head of a request and the end of a registration, and
/// as many again of who somebody is and his registration. The others wait in the order in which they came. So when thousands
/// are cut and come back at once, those who are here find the threads as busy as by twice [`ARRIVALS_MAX`] tasks, not by
/// thousands.
///
/// These are two queues because only the second one waits for the store: while that hangs, a request is heard that does not
/// need it.
pub const ARRIVALS_MAX: usize = 8;
/// For how long a turn is held at most: who takes longer waits for the store, and keeps no thread busy.
const TURN_MAX: Duration = Duration::from_millis(250);

/// A place among those who come in or go, until it is dropped.
pub type Turn = Option<OwnedSemaphorePermit>;

/// Waits for a turn to be heard, or to go. Nobody keeps one while he is waited for himself.
pub async fn turn(app: &App) -> Turn {
    // The semaphore is never closed.
    Arc::clone(&app.arrivals).acquire_owned().await.ok()
}

/// Waits for a turn to become a reader, and does `work` in it. If that takes long the turn goes to the next: a store that
/// hangs for seconds would hold up all who come.
pub async fn in_turn<T>(turns: &Arc<Semaphore>, work: impl Future<Output = T>) -> T {
    // The semaphore is never closed.
    let turn = Arc::clone(turns).acquire_owned().await.ok();
    let mut work = pin!(work);
    match timeout(TURN_MAX, work.as_mut()).await {
        Ok(done) => done,
        Err(_) => {
            drop(turn);
            work.await
        }
    }
}

/// Registers a reader who has everything below `since`; he lags until his first step is done.
///
/// # Errors
/// If the user's settings cannot be read.
pub async fn register(
    app: &App,
    mode: Mode,
    identity: Identity,
    since: Position,
) -> Result<Registered, ApiError> {
    let privacy = app.accounts.privacy(identity.user).await?;
    let who = (identity.user, identity.device);
    let (connection, attach) = app.hub.register(mode, who, privacy, since, app.steady_now());
    let registered = Registered { app: app.clone(), connection, is_kept: false };
    keep_up_with_privacy(app, identity.user, privacy).await?;
    if attach {
        let heads = heads(app, identity.user).await?;
        app.hub.attach(identity.user, &heads);
    }
    Ok(registered)
}

/// A reader in the hub, until it is dropped: however a call ends, also when its client hangs up in the midst of it.
pub struct Registered {
    app: App,
    /// The reader.
    pub connection: Arc<Connection>,
    is_kept: bool,
}

impl Registered {
    /// The reader, which somebody else lets go: [`unregister`].
    pub fn keep(mut self) -> Arc<Connection> {
        self.is_kept = true;
        Arc::clone(&self.connection)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        if !self.is_kept {
            unregister(&self.app, &self.connection);
        }
    }
}

/// What a user changed of what he shows since `told` was read the hub may have heard before it was told that. A change is
/// stored first and told then: once what is stored is what was told last here, nothing newer was taken back.
async fn keep_up_with_privacy(app: &App, user: UserId, mut told: Privacy) -> Result<(), StoreError> {
    loop {
        let stored = app.accounts.privacy(user).await?;
        if stored == told {
            return Ok(());
        }
        told = stored;
        app.hub.set_privacy(user, told);
    }
}

/// In which conversations a user is. Of what is told of them from here on this node hears; who missed what was told
/// before reads it.
async fn heads(app: &App, user: UserId) -> Result<Vec<Head>, StoreError> {
    if let Some(Cluster { topics, .. }) = &app.cluster {
        topics.hear(vec![Topic::User(user)]).await;
    }
    let heads = app.store.heads(user).await?;
    if let Some(Cluster { topics, .. }) = &app.cluster {
        topics.hear(heads.iter().map(|head| Topic::Conversation(head.convo)).collect()).await;
    }
    Ok(heads)
}

/// Lets a reader go.
pub fn unregister(app: &App, connection: &Arc<Connection>) {
    let departed = app.hub.unregister(connection, app.steady_now());
    app.note_departed(departed);
}

/// Reads one piece of what a lagging reader lacks, and gives it to him.
///
/// # Errors
/// If the store does not answer; the piece is still lacking then.
pub async fn catch_up_step(app: &App, connection: &Arc<Connection>, step: Step) -> Result<(), ApiError> {
    match step {
        Step::Missed { since } => {
            // Nothing was committed meanwhile: nothing to read. Where others append, more may be committed than the
            // horizon tells.
            let missed = if app.store.is_sole_writer() && since.covers(&app.store.horizon().await?) {
                Missed::default()
            } else {
                app.store.missed(connection.user, since, PAGE_MAX).await?
            };
            let hiding = hiding(app, &missed.changes).await?;
            app.hub.finish_resume(connection, missed, &hiding);
            ask_for_repair(app);
        }
        Step::News { convo, since, whole } => {
            let conversation = if whole {
                let Some(conversation) = views::whole(app, connection.user, convo).await? else {
                    forget(app, connection, convo);
                    return Ok(());
                };
                Some(conversation)
            } else {
                None
            };
            let change = match since {
                Some(since) => {
                    let since = Position::before(since);
                    app.store.changes(connection.user, since, Some(convo)).await?.into_iter().next()
                }
                None => None,
            };
            let hiding = hiding(app, change.as_slice()).await?;
            app.hub.give_news(connection, convo, conversation, change, &hiding);
        }
        Step::Page { convo, after, limit } => {
            match app.store.history(connection.user, convo, Slice::After(after), limit).await? {
                Some(page) => app.hub.give_page(connection, convo, &page),
                None => forget(app, connection, convo),
            }
        }
    }
    Ok(())
}

/// He is out of it, in the store. The hub may still have to hear of it.
fn forget(app: &App, connection: &Arc<Connection>, convo: ConvoId) {
    app.hub.forget(connection, convo);
    ask_for_repair(app);
}

/// Where others append, what the store says and what has come here may contradict each other.
fn ask_for_repair(app: &App) {
    if !app.store.is_sole_writer() && app.hub.needs_repair() {
        app.repairs.notify_one();
    }
}

/// Those among the owners of moved watermarks who hide what they have read.
async fn hiding(app: &App, changes: &[Change]) -> Result<HashSet<UserId>, ApiError> {
    let receipts = changes.iter().flat_map(|change| match change {
        Change::In { receipts, .. } => receipts.as_slice(),
        Change::Left(_) => &[],
    });
    let users: Vec<UserId> = receipts.map(|receipt| receipt.user).collect();
    if users.is_empty() {
        return Ok(HashSet::new());
    }
    Ok(app.accounts.hiding_read(&users).await?)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::task::Poll;

    use serde_json::Value;
    use tertulia_domain::hub::Committed;
    use tertulia_domain::log::{Intent, Outcome, Receipt};
    use tertulia_protocol::entry::ConversationType;
    use tertulia_protocol::rest::{Audience, PrivacyPatch, Register, UserPatch};
    use tertulia_protocol::{Seq, Timestamp};
    use tokio::time::Instant;

    use super::*;
    use crate::Node;
    use crate::clock::{Clock, Random};
    use crate::config::Config;

    async fn node(data: &tempfile::TempDir) -> Node {
        let mut config = Config::new(data.path().to_owned(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        config.limits = None;
        Node::open(config, Clock::system(), Random::system()).await.unwrap()
    }

    async fn account(app: &App, username: String) -> Identity {
        let account =
            Register { username, password: "correct horse battery".into(), display_name: None, device: None };
        let session = app.accounts.register(account, Ipv4Addr::LOCALHOST.into()).await.unwrap();
        Identity { user: session.user.id, device: session.device_id }
    }

    #[tokio::test]
    async fn who_hangs_up_in_the_midst_of_coming_in_leaves_no_reader_behind() {
        let data = tempfile::tempdir().unwrap();
        let node = node(&data).await;
        let app = &node.app;
        for number in 0..50 {
            let identity = account(app, format!("user{number}")).await;
            let mut coming = Box::pin(register(app, Mode::Poll, identity, app.hub.position()));
            while futures_util::poll!(&mut coming).is_pending() {
                if app.hub.present().polls == 1 {
                    // It has yet to be read in which conversations he is.
                    drop(coming);
                    assert_eq!(app.hub.present().polls, 0);
                    return;
                }
                tokio::task::yield_now().await;
            }
            // Read before it was looked for: the next one.
        }
        panic!("nobody was met in the midst of coming in");
    }

    #[tokio::test]
    async fn what_a_user_shows_is_what_he_changed_it_to_while_he_came_in() {
        let data = tempfile::tempdir().unwrap();
        let node = node(&data).await;
        let app = &node.app;
        let identity = account(app, "ana".into()).await;
        let bo = account(app, "bob".into()).await.user;
        let (by, members) = (identity.user, vec![identity.user, bo]);
        let (convo, kind) = (ConvoId::direct(by, bo), ConversationType::Direct);
        let create = Intent::Create { convo, by, kind, title: None, members, history: Default::default() };
        app.store.append(vec![create], Timestamp::from_millis(0)).await.unwrap();
        let mut coming = Box::pin(register(app, Mode::Socket, identity, Position::default()));
        // He is asked for, and what was read waits here while it changes (or he is in already: then he is told of it).
        let came = futures_util::poll!(&mut coming);
        let privacy = Some(PrivacyPatch { last_seen: None, read_receipts: Some(Audience::Nobody) });
        app.accounts.update(identity.user, UserPatch { privacy, ..UserPatch::default() }).await.unwrap();
        let came = match came {
            Poll::Ready(came) => came,
            Poll::Pending => coming.await,
        };
        let registered = came.ok().unwrap();
        let connection = &registered.connection;

        app.hub.finish_resume(connection, Missed::default(), &HashSet::new());
        let (delivered, read, ts) = (Seq::new(1), Seq::new(1), Timestamp::from_millis(0));
        let delivered_at = Some(ts);
        let outcome = Outcome::Marked(Receipt { convo, user: bo, delivered, read, ts, delivered_at });
        app.hub.deliver([Committed { outcome: &outcome, origin: None, shows_read: true }]);
        let wire = connection.take().outbox.to_vec();
        let told: Vec<Value> =
            tertulia_websocket::payloads(&wire).map(|text| serde_json::from_slice(text).unwrap()).collect();
        assert_eq!(
            (told.len(), &told[0]["deliveredSeq"], told[0].get("readSeq")),
            (1, &Value::from(1), None)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_a_store_that_hangs_holds_up_those_behind_him_for_a_moment_only() {
        const HANGS: Duration = Duration::from_secs(10);
        let (turns, began) = (Arc::new(Semaphore::new(2)), Instant::now());
        let came = async |number: u32| {
            let entered = in_turn(&turns, async {
                let entered = began.elapsed();
                tokio::time::sleep(HANGS).await;
                entered
            });
            (number, entered.await)
        };
        let all = futures_util::future::join_all((0..20).map(came)).await;
        for (number, entered) in all {
            assert!(entered <= (TURN_MAX + Duration::from_millis(2)) * (number / 2), "{number}: {entered:?}");
        }
        assert!(began.elapsed() < HANGS + 10 * (TURN_MAX + Duration::from_millis(2)));
        assert_eq!(turns.available_permits(), 2);
    }
}
