//! The life of the connection: opened, ready, silent, gone, and when to try again.

use std::time::{Duration, Instant};

use tertulia_protocol::DeviceId;
use tertulia_protocol::event::CloseReason;

use super::{Action, Closed, GOOD_CONNECTION, Machine, Phase, READY_PATIENCE, REFUSALS_MAX};
use crate::backoff::{Backoff, TOLD_MAX};
use crate::error::SessionLost;
use crate::event::{Disconnect, Event};

impl Machine {
    /// The socket is open and hello is on its way.
    pub(crate) fn handle_opened(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Opening) {
            self.phase = Phase::Greeting { until: now + READY_PATIENCE };
        }
    }

    /// The socket could not be opened, or is gone. `roll` is drawn evenly from 0 to 1.
    pub(crate) fn handle_closed(&mut self, closed: Closed, now: Instant, roll: f64) {
        if self.is_over() {
            return;
        }
        match &closed.reason {
            // A revoked device that the session has left behind is no loss.
            Disconnect::Closed { code, .. } if *code == CloseReason::Revoked.code() && !self.moved => {
                return self.end(SessionLost::Revoked);
            }
            Disconnect::Closed { code, .. } if *code == CloseReason::Unauthenticated.code() => {
                self.refusals += 1;
                if self.refusals > REFUSALS_MAX {
                    return self.end(SessionLost::Expired);
                }
                // The token of a resume may have been too old; with a fresh one the inbox tells the rest.
                self.resume = None;
            }
            _ => {}
        }
        self.lose(closed.reason, closed.retry_after, now, roll);
    }

    /// A node has let the socket in and has turned it away, and there is another one to try at once.
    pub(crate) fn handle_turned_away(&mut self, reason: Disconnect, now: Instant) {
        if !self.is_over() {
            self.give_up(reason, Duration::ZERO, now);
        }
    }

    /// The session is `device`'s now: after a new login the next connection is that one's.
    pub(crate) fn handle_device(&mut self, device: DeviceId) {
        if self.device.is_some_and(|connected| connected != device) {
            self.moved = true;
            self.resume = None;
        }
    }

    /// There is no session any more.
    pub(crate) fn handle_session_lost(&mut self, lost: SessionLost) {
        self.end(lost);
    }

    /// Something that is no event arrived: a sign of life.
    pub(crate) fn handle_sign_of_life(&mut self, now: Instant) {
        if let Phase::Ready(ready) = &mut self.phase {
            ready.heard = now;
        }
    }

    /// A moment that [`poll_timeout`](Self::poll_timeout) named has come. `roll` is drawn evenly from 0 to 1.
    pub(crate) fn handle_timeout(&mut self, now: Instant, roll: f64) {
        self.outbox.handle_timeout(now);
        let silent = match &self.phase {
            Phase::Greeting { until } => *until <= now,
            Phase::Ready(ready) => ready.silent_at() <= now,
            _ => false,
        };
        if silent {
            self.lose(Disconnect::Silent, None, now, roll);
        }
    }

    /// Gives the connection up and waits: see [`backoff`](crate::backoff).
    pub(super) fn lose(
        &mut self,
        reason: Disconnect,
        retry_after: Option<Duration>,
        now: Instant,
        roll: f64,
    ) {
        if let Phase::Ready(ready) = &self.phase
            && now.saturating_duration_since(ready.since) >= GOOD_CONNECTION
        {
            self.attempt = 0;
        }
        // Zero would be no wait at all, whatever was meant by it.
        let told = retry_after.filter(|told| !told.is_zero()).map(|told| told.min(TOLD_MAX));
        let retry_in = match told {
            // A refusal's number is the same for everybody; that of a close has jitter in it.
            Some(told) if matches!(reason, Disconnect::Refused(_)) => told.mul_f64(1.0 + 0.1 * roll),
            Some(told) => told,
            None => {
                let wait = Backoff::CONNECT.delay(self.attempt, roll);
                self.attempt = self.attempt.saturating_add(1);
                wait
            }
        };
        self.give_up(reason, retry_in, now);
    }

    pub(super) fn give_up(&mut self, reason: Disconnect, retry_in: Duration, now: Instant) {
        self.phase = Phase::Waiting { until: now + retry_in };
        self.outbox.disconnected();
        self.marks.disconnected();
        self.typing.clear();
        for timeline in self.timelines.values_mut() {
            timeline.disconnected();
        }
        // Frames that were not handed to the socket are said again, or not needed, on the next one.
        self.actions.retain(|action| !matches!(action, Action::Send(_)));
        self.actions.push_back(Action::Close);
        self.emit(Event::Disconnected { reason, retry_in });
    }

    pub(super) fn end(&mut self, lost: SessionLost) {
        if !self.is_over() {
            self.phase = Phase::Over;
            self.actions.push_back(Action::Close);
            self.emit(Event::SessionLost(lost));
        }
    }
}
