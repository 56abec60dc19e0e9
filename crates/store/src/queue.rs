//! The door of a writer: calls of `append` in their order, a bounded number of them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tertulia_domain::log::Intent;
use tertulia_protocol::Timestamp;
use tokio::sync::{Notify, oneshot};

use crate::{Batch, StoreError};

/// One call of `append`.
pub(crate) struct Call {
    pub(crate) intents: Vec<Intent>,
    pub(crate) now: Timestamp,
    /// For the observer alone; no rule depends on it.
    pub(crate) arrived: Instant,
    pub(crate) answer: oneshot::Sender<Result<Batch, StoreError>>,
}

impl Call {
    fn bytes(&self) -> usize {
        self.intents
            .iter()
            .map(|intent| if let Intent::Send { body, .. } = intent { body.len() } else { 0 })
            .sum()
    }
}

/// Calls that wait for the writer, in the order in which they were first polled.
///
/// Bounded in intents and bytes. When it is full, calls wait at the door, one behind the other, so that the
/// order holds there too; a call that is larger than the whole queue comes in when it is empty.
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    /// A writer that is a thread waits here for calls.
    work: Condvar,
    /// A writer that is a task waits here for calls.
    arrived: Notify,
    /// The call that is next at the door waits here for room.
    room: Notify,
    /// Held by the call that is next at the door. Tokio's mutex is fair: first come, first served.
    door: tokio::sync::Mutex<()>,
    /// How many are at the door; while somebody is, nobody goes past.
    at_door: AtomicUsize,
    intents_max: usize,
    bytes_max: usize,
}

#[derive(Default)]
struct Inner {
    calls: VecDeque<Call>,
    intents: usize,
    bytes: usize,
    closed: bool,
}

impl Queue {
    pub(crate) fn new(intents_max: usize, bytes_max: usize) -> Self {
        Self {
            inner: Mutex::default(),
            work: Condvar::new(),
            arrived: Notify::new(),
            room: Notify::new(),
            door: tokio::sync::Mutex::new(()),
            at_door: AtomicUsize::new(0),
            intents_max,
            bytes_max,
        }
    }

    /// Puts a call into the queue, once there is room.
    pub(crate) async fn push(&self, call: Call) -> Result<(), StoreError> {
        let Err(call) = self.try_push(call, 0)? else { return Ok(()) };
        let _counted = AtDoor::enter(&self.at_door);
        let _next = self.door.lock().await;
        let mut waiting = call;
        loop {
            // Registered before the look, so that room made in between is not missed.
            let room = self.room.notified();
            match self.try_push(waiting, 1)? {
                Ok(()) => return Ok(()),
                Err(call) => waiting = call,
            }
            room.await;
        }
    }

    /// `ahead`: how many may be at the door without being ahead of this call: itself.
    fn try_push(&self, call: Call, ahead: usize) -> Result<Result<(), Call>, StoreError> {
        let (intents, bytes) = (call.intents.len(), call.bytes());
        let mut inner = self.lock();
        if inner.closed {
            return Err(StoreError::Closed);
        }
        let has_room = inner.calls.is_empty()
            || (inner.intents + intents <= self.intents_max && inner.bytes + bytes <= self.bytes_max);
        let is_next = ahead > 0 || self.at_door.load(Ordering::Acquire) == 0;
        if !has_room || !is_next {
            return Ok(Err(call));
        }
        inner.calls.push_back(call);
        inner.intents += intents;
        inner.bytes += bytes;
        drop(inner);
        self.work.notify_one();
        self.arrived.notify_one();
        Ok(Ok(()))
    }

    /// Waits for calls and takes all that are there.
    pub(crate) fn take(&self, patience: Option<Duration>) -> Taken {
        let inner = self.lock();
        let is_idle = |inner: &mut Inner| inner.calls.is_empty() && !inner.closed;
        let mut inner = match patience {
            None => self.work.wait_while(inner, is_idle).unwrap_or_else(PoisonError::into_inner),
            Some(patience) => {
                self.work
                    .wait_timeout_while(inner, patience, is_idle)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        };
        let taken = inner.take(usize::MAX);
        drop(inner);
        self.room.notify_one();
        taken
    }

    /// Waits for calls and takes those that are there, up to so many intents, and one call at least.
    pub(crate) async fn taken(&self, intents_max: usize) -> Taken {
        loop {
            // Registered before the look, so that what arrives in between is not missed.
            let arrived = self.arrived.notified();
            let taken = self.lock().take(intents_max);
            if !matches!(taken, Taken::Nothing) {
                self.room.notify_one();
                return taken;
            }
            arrived.await;
        }
    }

    /// Takes no more calls; those in it are still handed out.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_one();
        self.arrived.notify_one();
        self.room.notify_one();
    }

    /// Drops what waits, as a crash would.
    pub(crate) fn abandon(&self) {
        self.close();
        self.lock().calls.clear();
    }

    /// How many intents wait.
    pub(crate) fn depth(&self) -> usize {
        self.lock().intents
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing under this lock leaves it half done, so a poisoned one is as good.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn take(&mut self, intents_max: usize) -> Taken {
        if self.calls.is_empty() {
            return if self.closed { Taken::Closed } else { Taken::Nothing };
        }
        let mut sum = 0;
        let fits = |call: &Call| {
            let is_first = sum == 0;
            sum += call.intents.len();
            is_first || sum <= intents_max
        };
        let count = self.calls.iter().map(fits).take_while(|&fits| fits).count();
        let rest = self.calls.split_off(count);
        let calls = std::mem::replace(&mut self.calls, rest);
        self.intents -= calls.iter().map(|call| call.intents.len()).sum::<usize>();
        self.bytes -= calls.iter().map(Call::bytes).sum::<usize>();
        Taken::Calls(calls)
    }
}

/// What there was in a queue.
pub(crate) enum Taken {
    Calls(VecDeque<Call>),
    /// Patience ended.
    Nothing,
    /// Closed, and nothing is left.
    Closed,
}

/// Counts a call at the door until it is in, or dropped.
struct AtDoor<'a>(&'a AtomicUsize);

impl<'a> AtDoor<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for AtDoor<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
