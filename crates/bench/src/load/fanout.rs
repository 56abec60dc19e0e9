//! When has the last member of a group got a message?

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::histogram::Histogram;

/// Messages that may be under way to some member at once; a server that is further behind leaves gaps, and
/// those end a run.
const SLOTS: usize = 1 << 16;

/// How many members have got each message that is under way; shared by all threads.
pub(super) struct Fanout {
    audience: u32,
    arrived: Box<[AtomicU32]>,
}

impl Fanout {
    /// Of a group in which each message goes to `audience` connections.
    pub(super) fn new(audience: u32) -> Self {
        Self { audience, arrived: (0..SLOTS).map(|_| AtomicU32::new(0)).collect() }
    }
}

/// What one thread adds to it. Its members are counted here first, so that threads meet once a turn and not
/// once a delivery.
pub(super) struct FanoutPart {
    whole: Arc<Fanout>,
    counts: Box<[u32]>,
    /// What has come in this turn: a slot, and when the message was due.
    touched: Vec<(usize, u64)>,
}

impl FanoutPart {
    pub(super) fn new(whole: Arc<Fanout>) -> Self {
        Self { whole, counts: vec![0; SLOTS].into(), touched: Vec::new() }
    }

    /// A member has got the message `seq`.
    pub(super) fn arrived(&mut self, seq: u64, stamp: u64) {
        let slot = seq as usize % SLOTS;
        if self.counts[slot] == 0 {
            self.touched.push((slot, stamp));
        }
        self.counts[slot] += 1;
    }

    /// The turn has ended, at `now`: whoever brings the last members of a message records how long it took.
    pub(super) fn settle(&mut self, now: u64, counts: impl Fn(u64) -> bool, last: &mut Histogram) {
        for (slot, stamp) in self.touched.drain(..) {
            let here = std::mem::take(&mut self.counts[slot]);
            let arrived = &self.whole.arrived[slot];
            if arrived.fetch_add(here, Relaxed) + here >= self.whole.audience {
                arrived.store(0, Relaxed);
                if counts(stamp) {
                    last.record(now.saturating_sub(stamp));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_member_of_all_threads_ends_a_message() {
        let whole = Arc::new(Fanout::new(3));
        let (mut one, mut two) = (FanoutPart::new(Arc::clone(&whole)), FanoutPart::new(whole));
        let mut last = Histogram::new();
        let always = |_| true;
        for seq in [7, 7 + SLOTS as u64] {
            one.arrived(seq, 100);
            one.settle(150, always, &mut last);
            two.arrived(seq, 100);
            two.settle(160, always, &mut last);
            one.arrived(seq, 100);
            one.settle(1_100, always, &mut last);
        }
        let latency = last.summary().unwrap();
        assert_eq!((latency.count, latency.max_micros), (2, 1.0));
    }
}
