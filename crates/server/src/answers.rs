//! Answers on their way: however many long ones are asked for and not read, they take no more memory than they may.
//!
//! A page of history has up to 75 MiB in JSON, and a client may ask for many at once and read none. So the bytes of long
//! answers are counted from when they were read from the store until they are written, or their connection is over. Where there is
//! no room for one, whoever holds the most gives way to whoever would hold less; if that is himself, he comes back.
//!
//! To make one takes up to half a second. That is done beside the threads that serve, where the others have their turns, and only
//! when there is room for it. A device pays for the bytes that are made for it, also if it does not wait for them.

use std::collections::{HashMap, VecDeque};
use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde::Serialize;
use tertulia_protocol::rules::json_bytes_max;
use tertulia_protocol::{Entry, EntryKind, UserId};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::accounts::Identity;
use crate::app::App;
use crate::limits::Network;
use crate::rest::extract::Json;
use crate::rest::problem::ApiError;
use crate::turns::{Turn, Turns};

/// What is shorter is not counted: there are no more of these than connections.
const COUNTED_MIN: usize = 64 * 1_024;
/// An id in JSON: a UUID in quotes, and a comma.
const ID_BYTES: usize = 39;
/// To look through so many bytes takes a tenth of a millisecond.
const LOOKED_THROUGH_MIN: usize = 1 << 20;
/// What is refused was read all the same. That costs so much less than what is made: whoever comes back when he is told
/// never gets into debt by it.
const READ_SHARE: usize = 32;
/// When to come back where there is no room.
const COME_BACK: Duration = Duration::from_secs(1);

/// Ends the connection of a request, in whose extensions it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cut(pub(crate) CancellationToken);

/// Who makes a call, as soon as that is known: put into the extensions of each request.
#[derive(Debug, Clone)]
pub(crate) struct Asking {
    identity: Arc<OnceLock<Identity>>,
    from: Option<Network>,
    cut: Cut,
}

impl Asking {
    /// Somebody who is there, on a connection that `cut` ends.
    pub(crate) fn new(from: Option<Network>, cut: Cut) -> Self {
        Self { identity: Arc::default(), from, cut }
    }

    /// He has said it by his token.
    pub(crate) fn is(&self, identity: Identity) {
        // A call has one token, so it is the same if it is said again.
        let _ = self.identity.set(identity);
    }

    /// Waits for his turn, one of these, to read a page.
    ///
    /// # Errors
    /// `rate_limited` if too many of his wait already, or those before this one were more than he may have.
    pub(crate) async fn turn<'a>(
        &self,
        app: &App,
        turns: &'a Turns,
        identity: Identity,
    ) -> Result<Turn<'a>, ApiError> {
        let turn = turns.next(identity.user).await?;
        app.limits.may_read(identity.device, app.clock.monotonic())?;
        Ok(turn)
    }

    /// Makes the JSON of an answer of `items`; `sum` adds up something of all their entries.
    ///
    /// # Errors
    /// `unavailable` if it is long and there is no room for it.
    pub(crate) async fn answer<I: Send + 'static, T: Serialize>(
        &self,
        app: &App,
        items: I,
        sum: impl Fn(&I, fn(&Entry) -> usize) -> usize + Send + 'static,
        make: impl FnOnce(I) -> T + Send + 'static,
    ) -> Result<Response, ApiError> {
        let least = sum(&items, least);
        let (items, about) = if least < LOOKED_THROUGH_MIN {
            // Six times as many at the most.
            let about = if least < COUNTED_MIN / 6 { least } else { sum(&items, about) };
            (items, about)
        } else {
            beside(move || {
                let about = sum(&items, about);
                (items, about)
            })
            .await?
        };
        if about < COUNTED_MIN {
            return Ok(Json(make(items)).into_response());
        }
        let for_reading = about / READ_SHARE;
        self.pay(app, for_reading);
        let make = || Json(make(items)).into_response();
        let (mut response, room) =
            app.answers.make(self.asker(), about, || self.pay(app, about - for_reading), make).await?;
        response.extensions_mut().insert(Arc::new(Made { paid: about, _room: room }));
        Ok(response)
    }

    fn asker(&self) -> Asker {
        self.identity.get().map_or(Asker::At(self.from), |identity| Asker::User(identity.user))
    }

    /// The device owes for what it was given.
    fn pay(&self, app: &App, len: usize) {
        if let Some(identity) = self.identity.get() {
            let cost = u32::try_from(len).unwrap_or(u32::MAX);
            app.limits.answers.owe(identity.device, cost, app.clock.monotonic());
        }
    }
}

/// Does what takes long on a thread that serves nobody.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "the making of an answer has panicked");
        ApiError::fault()
    })
}

/// How many bytes of JSON an entry has at least.
fn least(entry: &Entry) -> usize {
    bytes(entry, str::len)
}

/// How many it has, but for what is of no account where it is long.
fn about(entry: &Entry) -> usize {
    bytes(entry, json_bytes_max)
}

fn bytes(entry: &Entry, of_text: impl Fn(&str) -> usize) -> usize {
    match &entry.kind {
        EntryKind::Text { body, .. } => of_text(body),
        EntryKind::Created { user_ids, .. }
        | EntryKind::MemberAdded { user_ids }
        | EntryKind::MemberRemoved { user_ids } => user_ids.len() * ID_BYTES,
        EntryKind::RoleChanged { .. } | EntryKind::Renamed { .. } | EntryKind::SettingsChanged { .. } => 0,
    }
}

/// Whose an answer is: a user's, or that of somebody of whom no more is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Asker {
    User(UserId),
    At(Option<Network>),
}

/// The room for long answers of this node.
#[derive(Debug)]
pub struct Answers {
    bytes_max: usize,
    taken: Mutex<Taken>,
    /// The turns of those that are made, on half of the cores.
    making: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    of: HashMap<Asker, Own>,
    last: u64,
}

/// What one asker has on its way.
#[derive(Debug, Default)]
struct Own {
    bytes: usize,
    /// The oldest first.
    answers: VecDeque<Answer>,
}

#[derive(Debug)]
struct Answer {
    number: u64,
    len: usize,
    cut: Cut,
}

impl Taken {
    /// Makes room: ends answers of those who hold the most, as long as these have more than `own` bytes. Where that is not enough,
    /// none is ended.
    fn make_room(&mut self, len: usize, bytes_max: usize, own: usize) -> bool {
        let lacks = (self.all + len).saturating_sub(bytes_max);
        let Some(give_way) = self.who_give_way(lacks, own) else { return false };
        for (asker, number) in give_way {
            if let Some(answer) = self.give_back(asker, number) {
                answer.cut.0.cancel();
            }
        }
        true
    }

    fn who_give_way(&self, mut lacks: usize, own: usize) -> Option<Vec<(Asker, u64)>> {
        let mut give_way = Vec::new();
        if lacks == 0 {
            return Some(give_way);
        }
        let mut holders: Vec<_> =
            self.of.iter().map(|(asker, of)| (of.bytes, *asker, of.answers.iter())).collect();
        while lacks > 0 {
            let most = holders.iter_mut().max_by_key(|(bytes, ..)| *bytes);
            let (bytes, asker, answers) = most.filter(|(bytes, ..)| *bytes > own)?;
            let oldest = answers.next()?;
            *bytes -= oldest.len;
            lacks = lacks.saturating_sub(oldest.len);
            give_way.push((*asker, oldest.number));
        }
        Some(give_way)
    }

    /// Forgets an answer, if it is not already.
    fn give_back(&mut self, asker: Asker, number: u64) -> Option<Answer> {
        let own = self.of.get_mut(&asker)?;
        let place = own.answers.iter().position(|answer| answer.number == number)?;
        let answer = own.answers.remove(place)?;
        own.bytes -= answer.len;
        self.all -= answer.len;
        if own.answers.is_empty() {
            self.of.remove(&asker);
        }
        Some(answer)
    }
}

impl Answers {
    /// Room for `bytes_max` bytes. A single answer that is longer takes all of it.
    pub fn new(bytes_max: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let making = Arc::new(Semaphore::new((cores / 2).max(1)));
        Self { bytes_max, taken: Mutex::default(), making }
    }

    /// Makes an answer of about so many bytes when it has its turn, which it is told by `begins`.
    async fn make<T: Send + 'static>(
        self: &Arc<Self>,
        asker: Asker,
        about: usize,
        begins: impl FnOnce(),
        make: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(T, Room), ApiError> {
        // Whoever gives way before anything of his is on its way is told so.
        let given_way = Cut::default();
        let room = self.take(asker, about, &given_way).ok_or_else(no_room)?;
        let making = async {
            // It is never closed.
            let turn = Arc::clone(&self.making).acquire_owned().await.map_err(|_| ApiError::fault())?;
            begins();
            beside(move || {
                let made = make();
                drop(turn);
                made
            })
            .await
        };
        tokio::select! {
            made = making => Ok((made?, room)),
            () = given_way.0.cancelled() => Err(no_room()),
        }
    }

    /// Takes room for an answer of `len` bytes, which `cut` ends. One asker has a quarter of all at most, or one answer.
    fn take(self: &Arc<Self>, asker: Asker, len: usize, cut: &Cut) -> Option<Room> {
        let len = len.min(self.bytes_max);
        let mut taken = self.taken();
        let own = taken.of.get(&asker).map_or(0, |own| own.bytes);
        let may = own == 0 || own + len <= self.bytes_max / 4;
        if !may || !taken.make_room(len, self.bytes_max, own + len) {
            return None;
        }
        taken.all += len;
        taken.last += 1;
        let number = taken.last;
        let own = taken.of.entry(asker).or_default();
        own.bytes += len;
        own.answers.push_back(Answer { number, len, cut: cut.clone() });
        Some(Room { answers: Arc::clone(self), asker, number })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Nothing under this lock leaves it half done.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The room of one answer, given back when it is dropped.
#[derive(Debug)]
struct Room {
    answers: Arc<Answers>,
    asker: Asker,
    number: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        // It is not there if he had to give way.
        self.answers.taken().give_back(self.asker, self.number);
    }
}

/// An answer that was made.
struct Made {
    paid: usize,
    _room: Room,
}

/// The bytes of an answer, which are kept until the last of them is written, and their room.
struct Held {
    bytes: Bytes,
    _room: Room,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Lets an answer out if there is room, and has the device pay for its bytes.
pub(crate) async fn let_out(app: &App, asking: &Asking, response: Response) -> Response {
    let Some(len) = response.body().size_hint().exact() else { return response };
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let (mut head, body) = response.into_parts();
    // Whoever is refused something does not pay for hearing it: he would wait the longer the more often he asks.
    if head.status.is_success() {
        let paid = head.extensions.get::<Arc<Made>>().map_or(0, |made| made.paid);
        asking.pay(app, len.saturating_sub(paid));
    }
    if len < COUNTED_MIN {
        return Response::from_parts(head, body);
    }
    // What it was thought to have gives way to what it has.
    drop(head.extensions.remove::<Arc<Made>>());
    let Some(room) = app.answers.take(asking.asker(), len, &asking.cut) else {
        return no_room().into_response();
    };
    // It is there in one piece, and no copy is made.
    let Ok(bytes) = to_bytes(body, usize::MAX).await else { return no_room().into_response() };
    Response::from_parts(head, Body::from(Bytes::from_owner(Held { bytes, _room: room })))
}

fn no_room() -> ApiError {
    ApiError::unavailable("too much that was asked for waits to be read; try again", COME_BACK)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::num::NonZeroU32;

    use futures_util::FutureExt as _;
    use tertulia_protocol::rules::{BODY_BYTES_MAX, PAGE_MAX};
    use tertulia_protocol::{Code, ConvoId, DeviceId, Seq};

    use super::*;
    use crate::Node;
    use crate::clock::{Clock, Random};
    use crate::config::Config;
    use crate::limits::LimitsConfig;

    const ANA: Asker = Asker::User(UserId::from_bytes([1; 16]));
    const BO: Asker = Asker::User(UserId::from_bytes([2; 16]));
    const CY: Asker = Asker::User(UserId::from_bytes([3; 16]));

    fn take(answers: &Arc<Answers>, asker: Asker, len: usize) -> Option<(Room, Cut)> {
        let cut = Cut::default();
        Some((answers.take(asker, len, &cut)?, cut))
    }

    fn was_cut((_, cut): &(Room, Cut)) -> bool {
        cut.0.is_cancelled()
    }

    #[test]
    fn one_asker_takes_a_quarter_or_one_answer_and_all_together_no_more_than_there_is() {
        let answers = Arc::new(Answers::new(1_000));
        let few: Vec<_> = (0..2).map(|_| take(&answers, ANA, 125).unwrap()).collect();
        assert!(take(&answers, ANA, 1).is_none(), "his quarter is taken");
        let one = take(&answers, BO, 700).unwrap();
        assert!(take(&answers, BO, 1).is_none(), "it is more than a quarter");
        assert!(take(&answers, Asker::At(None), 701).is_none(), "he would be the one who has the most");
        drop(take(&answers, Asker::At(None), 50).unwrap());
        assert!(!was_cut(&one) && !few.iter().any(was_cut));
        drop(few);
        drop(one);
        assert!(answers.taken().of.is_empty() && answers.taken().all == 0);
    }

    #[test]
    fn who_holds_the_most_gives_way_to_whoever_would_hold_less() {
        let answers = Arc::new(Answers::new(1_000));
        let few = [100, 60, 90].map(|len| take(&answers, ANA, len).unwrap());
        let most = take(&answers, BO, 700).unwrap();
        let small = take(&answers, CY, 60).unwrap();
        assert!(was_cut(&most) && !few.iter().any(was_cut), "nobody has more than he");
        let second = take(&answers, BO, 240).unwrap();
        let third = take(&answers, Asker::At(None), 450).unwrap();
        assert_eq!(answers.taken().all, 1_000);
        // Of several answers the oldest goes first, and no more than there must.
        let last = take(&answers, CY, 100).unwrap();
        assert!(was_cut(&third) && !was_cut(&second), "that was the most");
        drop(third);
        let fill = take(&answers, Asker::At(None), 249).unwrap();
        assert_eq!(answers.taken().all, 899);
        let other = take(&answers, Asker::User(UserId::from_bytes([4; 16])), 101).unwrap();
        let and_another = take(&answers, Asker::User(UserId::from_bytes([5; 16])), 50).unwrap();
        assert_eq!(few.each_ref().map(was_cut), [true, false, false]);
        drop((most, few, small, second, last, fill, other, and_another));
        assert!(answers.taken().of.is_empty() && answers.taken().all == 0, "nothing is given back twice");
    }

    #[test]
    fn nobody_is_cut_off_where_that_makes_too_little_room() {
        let answers = Arc::new(Answers::new(1_000));
        let many: Vec<_> = (0..20).map(|_| take(&answers, ANA, 10).unwrap()).collect();
        let others = [3, 4, 5, 6].map(|user| {
            take(&answers, Asker::User(UserId::from_bytes([user; 16])), 190).expect("there is room")
        });
        assert!(take(&answers, BO, 195).is_none(), "with one of ten bytes gone nobody has more than he");
        assert!(!many.iter().chain(&others).any(was_cut));
        assert_eq!(answers.taken().all, 960);
    }

    #[test]
    fn a_few_who_have_taken_all_there_is_keep_out_nobody_who_asks_for_less() {
        let answers = Arc::new(Answers::new(1_000));
        let few = [ANA, BO, CY, Asker::At(None)]
            .map(|asker| [take(&answers, asker, 125).unwrap(), take(&answers, asker, 125).unwrap()]);
        let other = take(&answers, Asker::User(UserId::from_bytes([4; 16])), 124).expect("he asks for less");
        assert_eq!(few.iter().flatten().filter(|answer| was_cut(answer)).count(), 1);
        assert!(!was_cut(&other));
    }

    #[tokio::test]
    async fn who_gives_way_before_his_answer_is_made_is_told_and_has_paid_for_none() {
        let answers = Arc::new(Answers::new(1_000));
        let permits = u32::try_from(answers.making.available_permits()).unwrap();
        let all_turns = Arc::clone(&answers.making).acquire_many_owned(permits).await.unwrap();
        let has_begun = std::cell::Cell::new(false);
        let mut first = Box::pin(answers.make(ANA, 600, || has_begun.set(true), || "page"));
        assert!(first.as_mut().now_or_never().is_none(), "it waits for its turn");
        let second = take(&answers, BO, 500).expect("he asks for less");
        let told = first.await.expect_err("it gave way");
        assert_eq!((told.code(), told.retry_after()), (Code::Unavailable, Some(COME_BACK)));
        assert!(!has_begun.get());
        drop(second);
        let mut third = Box::pin(answers.make(ANA, 600, || has_begun.set(true), || "page"));
        assert!(third.as_mut().now_or_never().is_none(), "it waits for its turn");
        drop(all_turns);
        let (page, room) = third.await.unwrap();
        assert_eq!((page, has_begun.get(), answers.taken().all), ("page", true, 600));
        drop(room);
        assert_eq!(answers.taken().all, 0);
    }

    #[tokio::test]
    async fn who_is_refused_the_longest_page_and_comes_back_when_he_is_told_is_never_in_debt() {
        let (data, (clock, hand)) = (tempfile::tempdir().unwrap(), Clock::manual());
        let mut config = Config::new(data.path().to_owned(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        // As quickly as it comes, and next to nothing saved up: what is paid too much for is soon seen.
        let mut limits = LimitsConfig::default();
        limits.answers.burst = NonZeroU32::new(1 << 20);
        config.limits = Some(limits);
        let node = Node::open(config, clock, Random::system()).await.unwrap();
        let app = &node.app;
        let identity = Identity { user: UserId::from_bytes([1; 16]), device: DeviceId::from_bytes([1; 16]) };
        let asking = Asking::new(None, Cut::default());
        asking.identity.set(identity).unwrap();
        let message = Entry {
            convo_id: ConvoId::from_bytes([7; 16]),
            seq: Seq::new(1),
            sender_id: identity.user,
            client_seq: None,
            ts: app.clock.now(),
            // In JSON six times as long.
            kind: EntryKind::Text { body: "\u{1}".repeat(BODY_BYTES_MAX), reply_to: None },
        };
        let message = Arc::new(message);
        let page: Vec<_> = (0..PAGE_MAX).map(|_| Arc::clone(&message)).collect();
        let sum = |page: &Vec<Arc<Entry>>, of: fn(&Entry) -> usize| page.iter().map(|entry| of(entry)).sum();
        let ask = || asking.answer(app, page.clone(), sum, |page| page.len());
        let may_read = || app.limits.may_read(identity.device, app.clock.monotonic());

        let others: Vec<_> = (2..18)
            .map(|user| take(&app.answers, Asker::User(UserId::from_bytes([user; 16])), 8 << 20).unwrap())
            .collect();
        for _ in 0..5 {
            may_read().expect("he was given nothing");
            let told = ask().await.expect_err("others have less, and all there is");
            assert_eq!(told.code(), Code::Unavailable);
            hand.advance(told.retry_after().unwrap());
        }
        drop(others);
        ask().await.expect("there is room");
        assert_eq!(
            may_read().map_err(|told| told.code()),
            Err(Code::RateLimited),
            "that is what he pays for"
        );
    }

    #[test]
    fn an_answer_that_is_longer_than_all_there_is_takes_all_of_it() {
        let answers = Arc::new(Answers::new(1_000));
        let small = take(&answers, ANA, 1).unwrap();
        assert!(take(&answers, BO, 2_000).is_none());
        drop(small);
        let all = take(&answers, BO, 2_000).unwrap();
        assert!(take(&answers, ANA, 1_000).is_none(), "he would have no less");
        drop(take(&answers, ANA, 1).unwrap());
        assert!(was_cut(&all));
    }
}
