//! Answers on their way: however many long ones are asked for and not read, they take no more memory than they may.
//!
//! A page of history has up to 75 MiB in JSON, and a client may ask for many at once and read none. So the bytes of long
//! answers are counted from when they are made until they are written, or their connection is over; for what has no room the
//! client comes back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use tertulia_protocol::UserId;

use crate::accounts::Identity;
use crate::app::App;
use crate::limits::Network;
use crate::rest::problem::ApiError;

/// What is shorter is not counted: there are no more of these than connections.
const COUNTED_MIN: usize = 64 * 1_024;
/// When to come back where there is no room.
const COME_BACK: Duration = Duration::from_secs(1);

/// Who makes a call, as soon as that is known: put into the extensions of each request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asking(Arc<OnceLock<Identity>>);

impl Asking {
    /// He has said it by his token.
    pub(crate) fn is(&self, identity: Identity) {
        // A call has one token, so it is the same if it is said again.
        let _ = self.0.set(identity);
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
    of: HashMap<Asker, usize>,
}

impl Answers {
    /// Room for `bytes_max` bytes. A single answer that is longer takes all of it.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, taken: Mutex::default() }
    }

    /// Takes room for an answer. One asker has a quarter of all at most, or one answer.
    fn take(self: &Arc<Self>, asker: Asker, len: usize) -> Option<Room> {
        let len = len.min(self.bytes_max);
        let mut taken = self.taken();
        let own = taken.of.get(&asker).copied().unwrap_or(0);
        if taken.all + len > self.bytes_max || (own > 0 && own + len > self.bytes_max / 4) {
            return None;
        }
        taken.all += len;
        taken.of.insert(asker, own + len);
        Some(Room { answers: Arc::clone(self), asker, len })
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
    len: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut taken = self.answers.taken();
        taken.all -= self.len;
        if let Some(own) = taken.of.get_mut(&self.asker) {
            *own -= self.len;
            if *own == 0 {
                taken.of.remove(&self.asker);
            }
        }
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

/// Lets an answer out if there is room, and has the device pay for its bytes; `from` is where the client is.
pub(crate) async fn let_out(
    app: &App,
    asking: &Asking,
    from: Option<Network>,
    response: Response,
) -> Response {
    let Some(len) = response.body().size_hint().exact() else { return response };
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let identity = asking.0.get();
    let response = if len < COUNTED_MIN {
        response
    } else {
        let asker = identity.map_or(Asker::At(from), |identity| Asker::User(identity.user));
        let Some(room) = app.answers.take(asker, len) else { return no_room() };
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

    #[test]
    fn one_asker_takes_a_quarter_or_one_answer_and_all_together_no_more_than_there_is() {
        let answers = Arc::new(Answers::new(1_000));
        let few: Vec<_> = (0..2).map(|_| answers.take(ANA, 125).unwrap()).collect();
        assert!(answers.take(ANA, 1).is_none(), "his quarter is taken");
        let one = answers.take(BO, 700).unwrap();
        assert!(answers.take(BO, 1).is_none(), "it is more than a quarter");
        assert!(answers.take(Asker::At(None), 51).is_none(), "all is taken");
        drop(answers.take(Asker::At(None), 50).unwrap());
        drop(few);
        drop(one);
        assert!(answers.taken().of.is_empty() && answers.taken().all == 0);
    }

    #[test]
    fn an_answer_that_is_longer_than_all_there_is_takes_all_of_it() {
        let answers = Arc::new(Answers::new(1_000));
        let small = answers.take(ANA, 1).unwrap();
        assert!(answers.take(BO, 2_000).is_none());
        drop(small);
        let _all = answers.take(BO, 2_000).unwrap();
        assert!(answers.take(ANA, 1).is_none());
    }
}
