//! The bounded queue between a link and its node.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{Heard, Topic};

/// What may wait in an ear. When either is reached the link stops reading, and what is published waits with the
/// server; one that does not want to hold it any longer cuts the link, which is heard as [`Heard::Broken`].
///
/// Up to as much again is in the hands of who reads: an ear takes all that waits at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Messages.
    pub messages: usize,
    /// Their bytes together. One that is longer passes alone.
    pub bytes: usize,
}

impl Default for Limits {
    /// 16,384 messages, 16 MiB: a node that hears 20,000 messages a second may stop for most of a second.
    fn default() -> Self {
        Self { messages: 16_384, bytes: 16 * 1024 * 1024 }
    }
}

/// Where a node hears what is published.
pub struct Ear {
    shared: Arc<Shared>,
    /// Taken from the queue, and not handed out yet.
    taken: VecDeque<Heard>,
}

impl Ear {
    /// What is heard next; `None` after the channel was closed. Nothing is lost if this is dropped while it waits.
    pub async fn next(&mut self) -> Option<Heard> {
        loop {
            if let Some(heard) = self.taken.pop_front() {
                return Some(heard);
            }
            if !self.take_all() {
                return None;
            }
            if self.taken.is_empty() {
                self.shared.heard.notified().await;
            }
        }
    }

    /// Takes what waits, and returns whether more may come.
    fn take_all(&mut self) -> bool {
        let mut queue = self.shared.lock();
        std::mem::swap(&mut self.taken, &mut queue.waiting);
        (queue.messages, queue.bytes) = (0, 0);
        if std::mem::take(&mut queue.overrun) && queue.whole {
            self.taken.push_back(Heard::Restored);
            queue.told_whole = true;
        }
        let is_open = !queue.closed || !self.taken.is_empty();
        drop(queue);
        self.shared.room.notify_waiters();
        is_open
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        // Nobody will ever make room: the link must not wait for it.
        let mut queue = self.shared.lock();
        queue.deaf = true;
        queue.waiting = VecDeque::new();
        drop(queue);
        self.shared.room.notify_waiters();
    }
}

/// The end of an ear that a link puts things in.
#[derive(Clone)]
pub(super) struct Inlet(Arc<Shared>);

struct Shared {
    limits: Limits,
    queue: Mutex<Queue>,
    /// Something was put in.
    heard: Notify,
    /// Something was taken out.
    room: Notify,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Heard>,
    /// How many of those are messages.
    messages: usize,
    /// How long they are together.
    bytes: usize,
    /// Whether the link stands.
    whole: bool,
    /// Whether messages were dropped because there was no room; until the ear has taken what waits.
    overrun: bool,
    /// Whether the last thing said about the link was `Restored`.
    told_whole: bool,
    closed: bool,
    deaf: bool,
}

/// An ear, and the inlet of it; the link does not stand.
pub(super) fn ear(limits: Limits) -> (Inlet, Ear) {
    let shared =
        Arc::new(Shared { limits, queue: Mutex::default(), heard: Notify::new(), room: Notify::new() });
    (Inlet(Arc::clone(&shared)), Ear { shared, taken: VecDeque::new() })
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A panic under the lock is a bug that was logged; what the queue holds is still worth more than nothing.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inlet {
    /// Puts a message in; waits while there is no room. Messages of one caller stay in order.
    pub(super) async fn message(&self, topic: Topic, payload: &[u8]) {
        if self.try_message(topic, payload) {
            return;
        }
        loop {
            let room = self.0.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if self.try_message(topic, payload) {
                return;
            }
            room.await;
        }
    }

    /// Puts a message in if there is room, and returns whether there was.
    fn try_message(&self, topic: Topic, payload: &[u8]) -> bool {
        let limits = self.0.limits;
        let mut queue = self.0.lock();
        if queue.deaf || queue.closed {
            return true;
        }
        let is_full = queue.messages >= limits.messages || queue.bytes + payload.len() > limits.bytes;
        if is_full && queue.messages > 0 {
            return false;
        }
        queue.messages += 1;
        queue.bytes += payload.len();
        queue.waiting.push_back(Heard::Message { topic, bytes: Bytes::copy_from_slice(payload) });
        drop(queue);
        self.0.heard.notify_one();
        true
    }

    /// Puts a message in if there is room; else it is lost, as all others are until the ear has taken what waits, and
    /// that is heard as a broken link.
    pub(super) fn message_or_overrun(&self, topic: Topic, payload: &[u8]) {
        let is_overrun = self.0.lock().overrun;
        if is_overrun || self.try_message(topic, payload) {
            return;
        }
        self.say(|queue| queue.overrun = true);
    }

    /// Says whether the link stands.
    pub(super) fn set_whole(&self, whole: bool) {
        self.say(|queue| queue.whole = whole);
    }

    /// Whether the link stood when somebody last said so.
    pub(super) fn is_whole(&self) -> bool {
        self.0.lock().whole
    }

    /// Puts a barrier in. One that waits directly before it has nothing left to say.
    pub(super) fn barrier(&self, token: u64) {
        self.say(|queue| {
            if let Some(Heard::Barrier(_)) = queue.waiting.back() {
                queue.waiting.pop_back();
            }
            queue.waiting.push_back(Heard::Barrier(token));
        });
    }

    /// Nothing more will come.
    pub(super) fn close(&self) {
        self.say(|queue| queue.closed = true);
        self.0.room.notify_waiters();
    }

    /// How many messages wait.
    pub(super) fn depth(&self) -> usize {
        self.0.lock().messages
    }

    fn say(&self, what: impl FnOnce(&mut Queue)) {
        let mut queue = self.0.lock();
        if queue.deaf || queue.closed {
            return;
        }
        what(&mut queue);
        queue.tell_state();
        drop(queue);
        self.0.heard.notify_one();
    }
}

impl Queue {
    /// Says what has become of the link. Always fits: whatever it does while nobody listens takes two places.
    fn tell_state(&mut self) {
        let is_whole = self.whole && !self.overrun;
        if is_whole == std::mem::replace(&mut self.told_whole, is_whole) {
            return;
        }
        if is_whole {
            self.waiting.push_back(Heard::Restored);
        } else if let Some(Heard::Restored) = self.waiting.back() {
            // Nobody has heard yet that it was restored, and it is not.
            self.waiting.pop_back();
        } else {
            self.waiting.push_back(Heard::Broken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: Topic = Topic::Everyone;

    fn message(bytes: &'static [u8]) -> Heard {
        Heard::Message { topic: TOPIC, bytes: Bytes::from_static(bytes) }
    }

    async fn all(ear: &mut Ear) -> Vec<Heard> {
        let mut heard = Vec::new();
        while let Some(next) = ear.next().await {
            heard.push(next);
        }
        heard
    }

    #[tokio::test]
    async fn what_is_put_in_comes_out_in_order_and_then_the_end() {
        let (inlet, mut ear) = ear(Limits::default());
        inlet.set_whole(true);
        inlet.message(TOPIC, b"a").await;
        inlet.barrier(7);
        inlet.message(TOPIC, b"b").await;
        inlet.set_whole(false);
        inlet.close();
        inlet.message(TOPIC, b"too late").await;
        let expected = vec![Heard::Restored, message(b"a"), Heard::Barrier(7), message(b"b"), Heard::Broken];
        assert_eq!(all(&mut ear).await, expected);
    }

    #[tokio::test]
    async fn a_full_ear_makes_the_link_wait() {
        let (inlet, mut ear) = ear(Limits { messages: 2, bytes: 100 });
        inlet.message(TOPIC, b"a").await;
        inlet.message(TOPIC, b"b").await;
        let mut third = Box::pin(inlet.message(TOPIC, b"c"));
        assert!(futures_util::poll!(&mut third).is_pending());
        assert_eq!(inlet.depth(), 2);
        assert_eq!(ear.next().await, Some(message(b"a")));
        third.await;
        assert_eq!((ear.next().await, ear.next().await), (Some(message(b"b")), Some(message(b"c"))));
    }

    #[tokio::test]
    async fn a_message_that_is_longer_than_all_room_passes_alone() {
        let (inlet, mut ear) = ear(Limits { messages: 10, bytes: 2 });
        inlet.message(TOPIC, b"abc").await;
        assert!(!inlet.try_message(TOPIC, b"d"));
        assert_eq!(ear.next().await, Some(message(b"abc")));
        assert!(inlet.try_message(TOPIC, b"d"));
    }

    #[tokio::test]
    async fn a_link_that_flaps_while_nobody_listens_takes_no_memory() {
        let (inlet, mut ear) = ear(Limits::default());
        inlet.set_whole(true);
        inlet.message(TOPIC, b"a").await;
        for _ in 0..1_000 {
            inlet.set_whole(false);
            inlet.set_whole(true);
        }
        inlet.close();
        let expected = vec![Heard::Restored, message(b"a"), Heard::Broken, Heard::Restored];
        assert_eq!(all(&mut ear).await, expected);
    }

    #[tokio::test]
    async fn barriers_that_nobody_heard_are_one() {
        let (inlet, mut ear) = ear(Limits::default());
        (1..=1_000).for_each(|token| inlet.barrier(token));
        inlet.close();
        assert_eq!(all(&mut ear).await, [Heard::Barrier(1_000)]);
    }

    #[tokio::test]
    async fn an_overrun_is_heard_as_a_broken_link_that_is_whole_again_once_there_is_room() {
        let (inlet, mut ear) = ear(Limits { messages: 1, bytes: 100 });
        inlet.set_whole(true);
        for text in [b"a", b"b", b"c"] {
            inlet.message_or_overrun(TOPIC, text);
        }
        let expected = [Heard::Restored, message(b"a"), Heard::Broken, Heard::Restored, message(b"d")];
        for (at, expected) in expected.into_iter().enumerate() {
            assert_eq!(ear.next().await, Some(expected), "{at}");
            if at == 3 {
                inlet.message_or_overrun(TOPIC, b"d");
            }
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_an_ear_that_is_gone() {
        let (inlet, ear) = ear(Limits { messages: 1, bytes: 100 });
        inlet.message(TOPIC, b"a").await;
        let mut second = Box::pin(inlet.message(TOPIC, b"b"));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(ear);
        second.await;
    }
}
