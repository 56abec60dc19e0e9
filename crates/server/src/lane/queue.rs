//! Where intents gather while a batch is under way.
//!
//! Not a channel: what gathers is taken as a whole, in the two lists in which it is needed.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tertulia_domain::log::Intent;
use tokio::sync::Notify;

/// How many intents may wait. When it is full, sockets are not read and calls wait: TCP pushes back.
const INTENTS_MAX: usize = 16_384;
/// How many bytes of bodies may wait; the last one may go beyond it.
const BYTES_MAX: usize = 32 << 20;

/// Intents in the order in which they came, each with who waits for what comes of it (a `W`).
pub(super) struct Queue<W> {
    inner: Mutex<Inner<W>>,
    /// The other end waits here for intents.
    work: Notify,
    /// Those wait here who found it full.
    room: Notify,
}

struct Inner<W> {
    gathered: Gathered<W>,
    bytes: usize,
    closed: bool,
}

/// What has gathered; both lists are of one length.
pub(super) struct Gathered<W> {
    pub(super) intents: Vec<Intent>,
    pub(super) waiting: Vec<W>,
}

impl<W> Gathered<W> {
    fn with_capacity(capacity: usize) -> Self {
        Self { intents: Vec::with_capacity(capacity), waiting: Vec::with_capacity(capacity) }
    }
}

impl<W> Inner<W> {
    fn has_room(&self) -> bool {
        self.gathered.intents.len() < INTENTS_MAX && self.bytes < BYTES_MAX
    }
}

impl<W> Queue<W> {
    pub(super) fn new() -> Self {
        let inner = Inner { gathered: Gathered::with_capacity(0), bytes: 0, closed: false };
        Self { inner: Mutex::new(inner), work: Notify::new(), room: Notify::new() }
    }

    /// Puts intents behind the others, each once there is room.
    pub(super) async fn push(
        &self,
        intents: impl IntoIterator<Item = (Intent, W), IntoIter: ExactSizeIterator>,
    ) {
        let mut left = intents.into_iter();
        if self.push_what_fits(&mut left) {
            return;
        }
        loop {
            // Registered before the look, so that room made in between is not missed.
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            if self.push_what_fits(&mut left) {
                return;
            }
            room.await;
        }
    }

    /// Whether all did.
    fn push_what_fits(&self, left: &mut impl ExactSizeIterator<Item = (Intent, W)>) -> bool {
        let mut inner = self.lock();
        let was_empty = inner.gathered.intents.is_empty();
        while inner.has_room()
            && let Some((intent, waiting)) = left.next()
        {
            inner.bytes += bytes(&intent);
            inner.gathered.intents.push(intent);
            inner.gathered.waiting.push(waiting);
        }
        let has_work = was_empty && !inner.gathered.intents.is_empty();
        drop(inner);
        if has_work {
            self.work.notify_one();
        }
        left.len() == 0
    }

    /// Takes all that has gathered; mostly nothing, or something.
    pub(super) fn take(&self) -> Gathered<W> {
        let mut inner = self.lock();
        // The next batch is mostly as long as this one.
        let next = Gathered::with_capacity(inner.gathered.intents.len());
        let gathered = std::mem::replace(&mut inner.gathered, next);
        inner.bytes = 0;
        drop(inner);
        if !gathered.intents.is_empty() {
            self.room.notify_waiters();
        }
        gathered
    }

    /// Waits until something has gathered and takes it, with what is on its way here; `None`: it is closed, and nothing
    /// waits.
    pub(super) async fn wait(&self) -> Option<Gathered<W>> {
        loop {
            let closed = self.lock().closed;
            if self.len() > 0 {
                // Whoever woke this task is not the only one who has something to say: the others whose sockets can be read
                // come first, and one sync serves them all.
                tokio::task::yield_now().await;
                return Some(self.take());
            }
            if closed {
                return None;
            }
            self.work.notified().await;
        }
    }

    /// Nothing more will come.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_one();
    }

    /// How many intents wait.
    pub(super) fn len(&self) -> usize {
        self.lock().gathered.intents.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner<W>> {
        // Nothing under this lock leaves it half done, so a poisoned one is as good.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes(intent: &Intent) -> usize {
    if let Intent::Send { body, .. } = intent { body.len() } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tertulia_protocol::{ClientSeq, ConvoId, DeviceId, UserId};

    use super::*;

    fn send(body: String) -> Intent {
        Intent::Send {
            convo: ConvoId::from_bytes([1; 16]),
            sender: UserId::from_bytes([2; 16]),
            device: DeviceId::from_bytes([3; 16]),
            client_seq: ClientSeq::new(1),
            body,
            reply_to: None,
        }
    }

    #[tokio::test]
    async fn what_gathers_is_taken_as_a_whole_in_its_order() {
        let queue = Queue::new();
        for number in 0..5 {
            queue.push([(send(number.to_string()), number)]).await;
        }
        assert_eq!(queue.len(), 5);
        let Gathered { intents, waiting } = queue.wait().await.unwrap();
        assert_eq!(waiting, [0, 1, 2, 3, 4]);
        assert_eq!(intents, (0..5).map(|number| send(number.to_string())).collect::<Vec<_>>());
        assert_eq!(queue.len(), 0);
    }

    #[tokio::test]
    async fn whoever_finds_it_full_waits_until_it_is_taken() {
        let queue = Queue::new();
        let half = "x".repeat(BYTES_MAX / 2);
        let rest = queue.push([(send(half.clone()), 0), (send(half), 1), (send("x".into()), 2)]);
        tokio::pin!(rest);
        assert!(tokio::time::timeout(Duration::ZERO, &mut rest).await.is_err());
        assert_eq!(queue.take().waiting, [0, 1]);
        rest.await;
        assert_eq!(queue.take().waiting, [2]);
        // What is longer than all that may wait comes in, too.
        queue.push([(send("x".repeat(BYTES_MAX + 1)), 3)]).await;
        assert_eq!(queue.take().waiting, [3]);
    }

    #[tokio::test]
    async fn what_waits_when_it_is_closed_is_still_taken() {
        let queue = Queue::new();
        queue.push([(send("x".into()), 0)]).await;
        queue.close();
        assert_eq!(queue.wait().await.unwrap().waiting, [0]);
        assert!(queue.wait().await.is_none());
    }
}
