//! Answers on their way: however many long ones are asked for and not read, they take no more memory than they may.
//!
//! A page of history has up to 75 MiB in JSON, and a client may ask for many at once and read none. So the bytes of long
//! answers are counted from when they are made until they are written, or their connection is over. Where there is no room
//! for one, whoever holds the most gives way to whoever would hold less; if that is himself, he comes back.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use tertulia_protocol::UserId;
use tokio_util::sync::CancellationToken;

use crate::accounts::Identity;
use crate::app::App;
use crate::limits::Network;
use crate::rest::problem::ApiError;

/// What is shorter is not counted: there are no more of these than connections.
const COUNTED_MIN: usize = 64 * 1_024;
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
    /// Ends answers of those who hold the most until there is room, as long as these are more than `own` bytes.
    fn make_room(&mut self, len: usize, bytes_max: usize, own: usize) -> bool {
        while self.all + len > bytes_max {
            let most = self.of.iter().max_by_key(|(_, of)| of.bytes).filter(|(_, of)| of.bytes > own);
            let oldest = most.and_then(|(asker, of)| Some((*asker, of.answers.front()?.number)));
            let Some(answer) = oldest.and_then(|(asker, number)| self.give_back(asker, number)) else {
                return false;
            };
            answer.cut.0.cancel();
        }
        true
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
        Self { bytes_max, taken: Mutex::default() }
    }

    /// Takes room for an answer on a connection that `cut` ends. One asker has a quarter of all at most, or one answer.
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
    let identity = asking.identity.get();
    let response = if len < COUNTED_MIN {
        response
    } else {
        let asker = identity.map_or(Asker::At(asking.from), |identity| Asker::User(identity.user));
        let Some(room) = app.answers.take(asker, len, &asking.cut) else { return no_room() };
        let (head, body) = response.into_parts();
        // It is there in one piece, and no copy is made.
        let Ok(bytes) = to_bytes(body, usize::MAX).await else { return no_room() };
        Response::from_parts(head, Body::from(Bytes::from_owner(Held { bytes, _room: room })))
    };
    // Whoever is refused something does not pay for hearing it: he would wait the longer the more often he asks.
    if let Some(identity) = identity.filter(|_| response.status().is_success()) {
        let cost = u32::try_from(len).unwrap_or(u32::MAX);
        app.limits.answers.owe(identity.device, cost, app.clock.monotonic());
    }
    response
}

fn no_room() -> Response {
    ApiError::unavailable("too much that was asked for waits to be read; try again", COME_BACK)
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

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
