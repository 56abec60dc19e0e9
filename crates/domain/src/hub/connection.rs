//! One reader: the frames that wait for it, and where it lags.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tertulia_protocol::event::CloseReason;
use tertulia_protocol::{ConvoId, DeviceId, Seq, Timestamp, UserId};
use tertulia_websocket::Frame;

use super::PAGE_MAX;
use super::outbox::{Encoded, Outbox};
use crate::log::{Commit, Position};

/// What an outbox holds at most. A reader who is slower than that lags.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Frames.
    pub frames: usize,
    /// Bytes of frames. One frame always fits into an empty outbox.
    pub bytes: usize,
    /// Typing and presence frames; the oldest goes first.
    pub ephemeral: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { frames: 1_024, bytes: 512 * 1_024, ephemeral: 64 }
    }
}

/// How a connection takes what the hub has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A socket: every frame.
    Socket,
    /// A waiting long-poll: typing and presence as frames, of everything else only that there is something.
    Poll,
}

/// Why, and with which text, a connection is to be closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// The reason.
    pub reason: CloseReason,
    /// The text of the close frame.
    pub text: String,
}

/// What a connection's task takes at once.
#[derive(Debug, Default)]
pub struct Taken {
    /// Frames to write.
    pub outbox: Outbox,
    /// Something durable happened (long-polls only).
    pub hint: bool,
    /// Close after these frames.
    pub close: Option<Box<Close>>,
}

/// One socket (or waiting long-poll) of a device.
pub struct Connection {
    pub(super) mode: Mode,
    /// Whose.
    pub user: UserId,
    /// On which device.
    pub device: DeviceId,
    /// The last sign of life, in milliseconds since the epoch.
    life: AtomicU64,
    /// When it was last pinged, in milliseconds since the epoch.
    pinged: AtomicU64,
    away: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    outbox: Outbox,
    /// Typing and presence: latest value wins, the oldest goes first.
    ephemeral: VecDeque<(EphemeralKey, Frame)>,
    hint: bool,
    /// Where this reader lags; `None`: nowhere. Boxed, because nearly always it is `None`.
    pub(super) lag: Option<Box<Lag>>,
    /// Where its user is typing, and until when unless said again.
    pub(super) typing: Option<Box<(ConvoId, Timestamp)>>,
    /// Whose presence it watches.
    pub(super) watching: Box<[UserId]>,
    close: Option<Box<Close>>,
    pub(super) gone: bool,
    /// It was asked to close.
    is_closing: bool,
    waker: Option<Waker>,
}

/// What still fits into an outbox.
#[derive(Debug)]
pub(super) struct Room {
    frames: usize,
    bytes: usize,
    is_due: bool,
}

impl Room {
    /// Takes the room of a frame of `len` bytes, if it is there.
    pub(super) const fn take(&mut self, len: usize) -> bool {
        let fits = self.is_due || (self.frames > 0 && self.bytes >= len);
        if fits {
            self.frames = self.frames.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(len);
            self.is_due = false;
        }
        fits
    }
}

/// What a newer ephemeral frame replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EphemeralKey {
    Typing(ConvoId, UserId),
    Presence(UserId),
}

/// Where a reader lags, and the position that it may be told meanwhile.
#[derive(Debug)]
pub(super) struct Lag {
    /// Everything below it has been handed over in every conversation.
    pub(super) safe: Position,
    /// It is not yet known which conversations changed while the reader was away: until then nothing is live.
    pub(super) resuming: bool,
    pub(super) convos: BTreeMap<ConvoId, Lagging>,
    /// What could not be read when it was tried last: the others come first.
    pub(super) put_off: Option<ConvoId>,
    /// The length of an entry that was read and found no room, or zero: it is read again once there is.
    pub(super) needs: usize,
    _counted: Counted,
}

impl Lag {
    fn from(safe: Position, resuming: bool, lagging: &LaggingCount) -> Self {
        Self {
            safe,
            resuming,
            convos: BTreeMap::new(),
            put_off: None,
            needs: 0,
            _counted: Counted::one(lagging),
        }
    }
}

/// How many readers of a hub lag.
#[derive(Debug, Clone, Default)]
pub(super) struct LaggingCount(Arc<AtomicUsize>);

impl LaggingCount {
    pub(super) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// One of them, until it is dropped.
#[derive(Debug)]
struct Counted(LaggingCount);

impl Counted {
    fn one(lagging: &LaggingCount) -> Self {
        lagging.0.fetch_add(1, Ordering::Relaxed);
        Self(lagging.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How far a reader is in a conversation where it lags.
#[derive(Debug)]
pub(super) struct Lagging {
    /// The next entry to hand over.
    pub(super) next: Seq,
    /// How many entries are read at once: where they are long, about as many as found room the last time.
    pub(super) page: usize,
    /// The commit of the newest entry that was read here.
    pub(super) read_to: Option<Commit>,
    /// Watermarks and settings that changed in commits from here on are still to be told.
    pub(super) news: Option<Commit>,
    /// The conversation itself is still to be told: the user has just come into it.
    pub(super) whole: bool,
    /// It has read further than the hub has delivered, up to an entry of this commit: it waits for the hub to
    /// come to `next`.
    pub(super) ahead: Option<Commit>,
    /// The store has him out of it, and the hub has still to come to his removal: until then he is given nothing.
    pub(super) parting: bool,
    /// The store has him out of it, or nobody knows: until the hub does he is given nothing.
    pub(super) barred: bool,
    /// Entries from `next` on that were acked to this very connection: the acks stand for them.
    pub(super) own: Vec<Seq>,
}

impl Lagging {
    pub(super) const fn from(next: Seq) -> Self {
        Self {
            next,
            page: PAGE_MAX,
            read_to: None,
            news: None,
            whole: false,
            ahead: None,
            parting: false,
            barred: false,
            own: Vec::new(),
        }
    }

    /// Whether he is given nothing until the hub knows whether he is in.
    pub(super) const fn is_barred(&self) -> bool {
        self.parting || self.barred
    }

    /// Also lacks what `news` says.
    pub(super) fn lack_news(&mut self, since: Commit) {
        self.news = Some(self.news.map_or(since, |earlier| earlier.min(since)));
    }
}

impl Connection {
    /// Whose presence it watches.
    pub fn watching(&self) -> Vec<UserId> {
        self.state().watching.to_vec()
    }

    /// A connection that does not know yet what it missed since `since`.
    pub(super) fn new(
        mode: Mode,
        (user, device): (UserId, DeviceId),
        since: Position,
        lagging: &LaggingCount,
        now: Timestamp,
    ) -> Self {
        let lag = Some(Box::new(Lag::from(since, true, lagging)));
        Self {
            mode,
            user,
            device,
            life: AtomicU64::new(millis(now)),
            pinged: AtomicU64::new(0),
            away: AtomicBool::new(false),
            state: Mutex::new(State { lag, ..State::default() }),
        }
    }

    /// Notes a sign of life: any frame of the client.
    pub fn alive(&self, now: Timestamp) {
        self.life.fetch_max(millis(now), Ordering::Relaxed);
    }

    /// The last sign of life.
    pub fn last_life(&self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(self.life.load(Ordering::Relaxed)).unwrap_or(i64::MAX))
    }

    pub(super) fn pinged(&self) -> u64 {
        self.pinged.load(Ordering::Relaxed)
    }

    pub(super) fn set_pinged(&self, now: Timestamp) {
        self.pinged.store(millis(now), Ordering::Relaxed);
    }

    pub(super) fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    pub(super) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes all that waits to be written; when there is nothing, `waker` is woken once there is.
    pub fn poll_taken(&self, waker: &Waker) -> Option<Taken> {
        let mut state = self.state();
        if state.outbox.is_empty() && state.ephemeral.is_empty() && state.close.is_none() && !state.hint {
            if state.waker.as_ref().is_none_or(|known| !known.will_wake(waker)) {
                state.waker = Some(waker.clone());
            }
            return None;
        }
        Some(state.take())
    }

    /// Whether it is to be closed, while what was taken cannot be written; if not, `waker` is woken once it is.
    pub fn poll_close(&self, waker: &Waker) -> Option<Box<Close>> {
        let mut state = self.state();
        if state.close.is_none() && state.waker.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
        state.close.take()
    }

    /// Takes all that waits to be written.
    pub fn take(&self) -> Taken {
        self.state().take()
    }

    /// Puts a frame behind all others, also over the limits: for answers, of which there are no more than requests.
    #[expect(clippy::needless_pass_by_value, reason = "a frame is made for one connection")]
    pub fn push(&self, frame: Frame) {
        let waker = self.state().push(&frame);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Asks the connection's task to close, after what waits to be written.
    pub fn close(&self, close: Close) {
        let waker = self.state().close(close);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether its task was asked to close: it is there until it has.
    pub(super) fn is_closing(&self) -> bool {
        self.state().is_closing
    }

    /// Whether it lags anywhere.
    pub fn is_lagging(&self) -> bool {
        self.state().lag.is_some()
    }
}

impl State {
    /// Whether twice as much waits as should.
    pub(super) fn is_congested(&self, limits: &Limits) -> bool {
        self.outbox.frames() > 2 * limits.frames || self.outbox.bytes() > 2 * limits.bytes
    }

    /// Whether a frame of `len` bytes fits.
    pub(super) fn has_room(&self, limits: &Limits, len: usize) -> bool {
        self.outbox.is_empty() || self.has_room_for(limits, 1, len)
    }

    /// Whether `frames` frames of `len` bytes together fit.
    pub(super) fn has_room_for(&self, limits: &Limits, frames: usize, len: usize) -> bool {
        self.outbox.frames() + frames <= limits.frames && self.outbox.bytes() + len <= limits.bytes
    }

    /// What still fits. If `is_due` the first frame does in any case, as every frame does into an empty outbox.
    pub(super) fn room(&self, limits: &Limits, is_due: bool) -> Room {
        Room {
            frames: limits.frames.saturating_sub(self.outbox.frames()),
            bytes: limits.bytes.saturating_sub(self.outbox.bytes()),
            is_due: is_due || self.outbox.is_empty(),
        }
    }

    /// The reader lags in `convo` from `next` on, if he does not already; `reached` is the position of the hub, and `lagging`
    /// its count.
    pub(super) fn lag_at(
        &mut self,
        (reached, lagging): (Position, &LaggingCount),
        convo: ConvoId,
        next: Seq,
    ) -> &mut Lagging {
        let lag = self.lag.get_or_insert_with(|| Box::new(Lag::from(reached, false, lagging)));
        lag.convos.entry(convo).or_insert_with(|| Lagging::from(next))
    }

    /// The reader is live everywhere as soon as he lags nowhere.
    pub(super) fn end_lag_if_over(&mut self) {
        if self.lag.as_ref().is_some_and(|lag| !lag.resuming && lag.convos.is_empty()) {
            self.lag = None;
        }
    }

    #[must_use = "the task sleeps until it is woken"]
    pub(super) fn push(&mut self, frame: &Frame) -> Option<Waker> {
        self.outbox.push(frame);
        self.waker.take()
    }

    /// Pushes frames that others get, too.
    #[must_use = "the task sleeps until it is woken"]
    pub(super) fn push_encoded(&mut self, encoded: &mut Encoded) -> Option<Waker> {
        self.outbox.push_encoded(encoded);
        self.waker.take()
    }

    /// Pushes a frame that nobody else gets; `write` appends it.
    #[must_use = "the task sleeps until it is woken"]
    pub(super) fn push_written(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Option<Waker> {
        self.outbox.write(write);
        self.waker.take()
    }

    #[must_use = "the task sleeps until it is woken"]
    pub(super) fn hint(&mut self) -> Option<Waker> {
        self.hint = true;
        self.waker.take()
    }

    #[must_use = "the task sleeps until it is woken"]
    pub(super) fn close(&mut self, close: Close) -> Option<Waker> {
        self.is_closing = true;
        self.close.get_or_insert_with(|| Box::new(close));
        self.waker.take()
    }

    /// The task has something to read from the store: wakes it although there is nothing to write.
    #[must_use = "the task sleeps until it is woken"]
    pub(super) fn wake_to_catch_up(&mut self) -> Option<Waker> {
        self.waker.take()
    }

    /// Puts a frame into the lane that may drop. Returns (merged, dropped) and whom to wake.
    pub(super) fn push_ephemeral(
        &mut self,
        limits: &Limits,
        key: EphemeralKey,
        frame: Frame,
    ) -> (u64, u64, Option<Waker>) {
        if let Some(waiting) = self.ephemeral.iter_mut().find(|waiting| waiting.0 == key) {
            waiting.1 = frame;
            return (1, 0, None);
        }
        let mut dropped = 0;
        if self.ephemeral.len() >= limits.ephemeral {
            self.ephemeral.pop_front();
            dropped = 1;
        }
        self.ephemeral.push_back((key, frame));
        (0, dropped, self.waker.take())
    }

    /// What waits under this key is told otherwise.
    pub(super) fn drop_ephemeral(&mut self, key: EphemeralKey) {
        self.ephemeral.retain(|waiting| waiting.0 != key);
    }

    fn take(&mut self) -> Taken {
        // In `take`, an idle connection gives its buffers away: it holds none.
        let mut outbox = self.outbox.take();
        for (_, frame) in std::mem::take(&mut self.ephemeral) {
            outbox.push(&frame);
        }
        Taken { outbox, hint: std::mem::take(&mut self.hint), close: self.close.take() }
    }
}

pub(super) fn millis(moment: Timestamp) -> u64 {
    u64::try_from(moment.as_millis()).unwrap_or(0)
}
