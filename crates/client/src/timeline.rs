//! What has been handed over of one conversation: a watermark, and the entries that wait above a hole.
//!
//! Invariants: T1: entries leave in `seq` order, none twice. T2: nothing leaves while one before it is
//! missing. T3: at most [`PENDING_MAX`] entries wait; one more is dropped and read from history later.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tertulia_protocol::rest::HistoryPage;
use tertulia_protocol::{Entry, Seq};

use crate::event::Via;

/// The most entries that wait above a hole: as many as history gives in a page.
pub(crate) const PENDING_MAX: usize = 200;
/// How long a hole may stay that the server has not named. On one connection it names every one, so what is
/// missing is on its way: most often one's own message, whose ack comes by another path.
const HOLE_PATIENCE: Duration = Duration::from_secs(3);

/// One conversation.
#[derive(Debug)]
pub(crate) struct Timeline {
    /// Everything up to here has left, or is not to be handed over.
    handed: u64,
    /// The beginning is a guess; the first entry that comes settles it.
    provisional: bool,
    waiting: BTreeMap<u64, (Entry, Via)>,
    /// Everything up to here that is missing is known not to come by itself.
    read_to: u64,
    /// History is to be read until it ends.
    read_on: bool,
    /// Since when entries wait above a hole that nobody has named.
    hole_since: Option<Instant>,
    /// A page is being read.
    reading: bool,
    /// Not before this.
    read_after: Option<Instant>,
    failures: u32,
}

/// A page of history to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) after: Seq,
    pub(crate) limit: usize,
}

impl Timeline {
    /// A conversation of which everything after `seq` is to be handed over.
    pub(crate) fn after(seq: Seq) -> Self {
        Self {
            handed: bounded(seq),
            provisional: false,
            waiting: BTreeMap::new(),
            read_to: 0,
            read_on: false,
            hole_since: None,
            reading: false,
            read_after: None,
            failures: 0,
        }
    }

    /// A conversation that is handed over from about its head on: at the latest from the first entry that comes.
    pub(crate) fn from_head(head: Seq) -> Self {
        Self { provisional: true, ..Self::after(head) }
    }

    /// What is handed over so far.
    pub(crate) fn handed(&self) -> Seq {
        Seq::new(self.handed)
    }

    /// Whether something is known to be missing.
    pub(crate) fn is_behind(&self) -> bool {
        self.read_on || self.read_to > self.handed
    }

    /// Whether nothing is missing, as far as is known.
    pub(crate) fn is_complete(&self) -> bool {
        self.waiting.is_empty() && !self.is_behind()
    }

    /// Takes an entry that was pushed or acked.
    pub(crate) fn offer(&mut self, entry: Entry, via: Via, now: Instant) {
        let seq = entry.seq.get();
        if self.provisional && via == Via::Push && seq > 0 {
            self.handed = self.handed.min(seq - 1);
        }
        if seq <= self.handed || seq > Seq::MAX.get() || self.waiting.contains_key(&seq) {
            return;
        }
        self.provisional = false;
        if seq != self.handed + 1 {
            if self.waiting.len() >= PENDING_MAX {
                self.read_to = self.read_to.max(seq);
                return;
            }
            self.hole_since.get_or_insert(now);
        }
        self.waiting.insert(seq, (entry, via));
    }

    /// Learns that the conversation reaches to `head`, and that what is missing will not come by itself.
    pub(crate) fn expect_up_to(&mut self, head: Seq) {
        self.provisional = false;
        self.read_to = self.read_to.max(head.get());
    }

    /// Learns that there may be more, without knowing how much.
    pub(crate) fn expect_more(&mut self) {
        self.provisional = false;
        self.read_on = true;
    }

    /// A named gap.
    pub(crate) fn gap(&mut self, from: Seq, to: Seq) {
        if self.provisional {
            self.provisional = false;
            self.handed = self.handed.min(from.previous().get());
        }
        self.read_to = self.read_to.max(to.get());
    }

    /// Learns that nothing before `seq` is visible.
    pub(crate) fn visible_from(&mut self, seq: Seq) {
        self.skip_to(bounded(seq.previous()));
    }

    /// The next entry to hand over.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(Entry, Via)> {
        let next = self.waiting.remove(&(self.handed + 1))?;
        self.handed += 1;
        if self.waiting.is_empty() || self.waiting.contains_key(&(self.handed + 1)) {
            self.hole_since = None;
        } else {
            // Another hole than the one before.
            self.hole_since = Some(now);
        }
        Some(next)
    }

    /// The page that has to be read now, if any; it counts as being read until [`page`](Self::page),
    /// [`failed`](Self::failed) or [`unreadable`](Self::unreadable).
    pub(crate) fn poll_read(&mut self, now: Instant) -> Option<Read> {
        if self.read_due(now)? > now {
            return None;
        }
        self.reading = true;
        self.read_after = None;
        // No further than to what waits already, or to what is known to be missing.
        let hole = self.waiting.keys().next().map(|first| first - self.handed - 1);
        let known =
            if self.read_on { None } else { self.read_to.checked_sub(self.handed).filter(|&n| n > 0) };
        let missing = hole.into_iter().chain(known).min().unwrap_or(u64::MAX);
        let limit = usize::try_from(missing).unwrap_or(usize::MAX).clamp(1, PENDING_MAX);
        Some(Read { after: self.handed(), limit })
    }

    /// When [`poll_read`](Self::poll_read) will have something; not after `now` means at once.
    pub(crate) fn read_due(&self, now: Instant) -> Option<Instant> {
        if self.reading || self.waiting.contains_key(&(self.handed + 1)) {
            return None;
        }
        let due = if self.is_behind() { now } else { self.hole_since? + HOLE_PATIENCE };
        Some(self.read_after.map_or(due, |after| due.max(after)))
    }

    /// Takes a page; entries that the application has go no further.
    pub(crate) fn page(&mut self, page: HistoryPage, now: Instant) {
        self.reading = false;
        self.failures = 0;
        let before = self.handed;
        if let Some(first) = page.items.first() {
            // History has no holes: what it does not begin with, this user may not see.
            self.skip_to(bounded(first.seq.previous()));
        }
        for entry in page.items {
            let seq = entry.seq.get();
            if seq > self.handed && seq <= Seq::MAX.get() {
                self.waiting.entry(seq).or_insert((entry, Via::History));
            }
        }
        self.read_on &= page.has_more;
        if self.handed == before && !self.waiting.contains_key(&(before + 1)) {
            // History does not have yet what was said to be there: give it time.
            self.read_after = Some(now + HOLE_PATIENCE);
        }
    }

    /// A page could not be read, for now.
    pub(crate) fn failed(&mut self, again_at: Instant) {
        self.reading = false;
        self.failures = self.failures.saturating_add(1);
        self.read_after = Some(again_at);
    }

    /// How often reading has failed in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// The conversation cannot be read any more. What was pushed before is handed over still.
    pub(crate) fn unreadable(&mut self) {
        self.reading = false;
        self.failures = 0;
        self.read_to = 0;
        self.read_on = false;
        if let Some((&first, _)) = self.waiting.first_key_value() {
            self.skip_to(first - 1);
        }
    }

    /// The connection is gone: a hole gets new patience on the next one, which may bring what is missing.
    pub(crate) fn disconnected(&mut self) {
        self.hole_since = None;
    }

    /// The connection stands again.
    pub(crate) fn connected(&mut self, now: Instant) {
        if !self.waiting.is_empty() {
            self.hole_since.get_or_insert(now);
        }
    }

    fn skip_to(&mut self, seq: u64) {
        if seq > self.handed {
            self.handed = seq;
            self.waiting = self.waiting.split_off(&(seq + 1));
        }
    }
}

/// A number within the contract, so that counting on from it cannot overflow, whatever a server says.
fn bounded(seq: Seq) -> u64 {
    seq.min(Seq::MAX).get()
}

#[cfg(test)]
mod tests {
    use tertulia_protocol::{ConvoId, EntryKind, Timestamp, UserId};

    use super::*;

    fn entry(seq: u64) -> Entry {
        Entry {
            convo_id: ConvoId::from_bytes([1; 16]),
            seq: Seq::new(seq),
            sender_id: UserId::from_bytes([2; 16]),
            client_seq: None,
            ts: Timestamp::from_millis(0),
            kind: EntryKind::Text { body: seq.to_string(), reply_to: None },
        }
    }

    fn page(seqs: std::ops::RangeInclusive<u64>, has_more: bool) -> HistoryPage {
        HistoryPage { items: seqs.map(entry).collect(), has_more }
    }

    /// What leaves now.
    fn drain(timeline: &mut Timeline, now: Instant) -> Vec<u64> {
        std::iter::from_fn(|| timeline.pop(now)).map(|(entry, _)| entry.seq.get()).collect()
    }

    #[track_caller]
    fn check(timeline: &mut Timeline, pushed: &[u64], leaves: &[u64]) {
        let now = Instant::now();
        for &seq in pushed {
            timeline.offer(entry(seq), Via::Push, now);
        }
        assert_eq!(drain(timeline, now), leaves);
    }

    #[test]
    fn t1_entries_leave_in_order_and_once() {
        let mut timeline = Timeline::after(Seq::new(0));
        check(&mut timeline, &[1, 2, 2, 1], &[1, 2]);
        check(&mut timeline, &[4, 5, 4], &[]);
        check(&mut timeline, &[3], &[3, 4, 5]);
        check(&mut timeline, &[5, 1, 6], &[6]);
    }

    #[test]
    fn t2_a_hole_that_stays_is_read_from_history() {
        let (now, mut timeline) = (Instant::now(), Timeline::after(Seq::new(10)));
        timeline.offer(entry(13), Via::Push, now);
        assert_eq!(timeline.poll_read(now), None);
        let later = now + HOLE_PATIENCE;
        assert_eq!(timeline.read_due(now), Some(later));
        assert_eq!(timeline.poll_read(later), Some(Read { after: Seq::new(10), limit: 2 }));
        assert_eq!(timeline.poll_read(later), None, "one page at a time");
        timeline.page(page(11..=12, true), later);
        assert_eq!(drain(&mut timeline, later), [11, 12, 13]);
        assert_eq!(timeline.read_due(later), None);
    }

    #[test]
    fn t3_beyond_the_bound_entries_are_dropped_and_read_again() {
        let (now, mut timeline) = (Instant::now(), Timeline::after(Seq::new(0)));
        timeline.gap(Seq::new(1), Seq::new(1));
        assert_eq!(timeline.poll_read(now), Some(Read { after: Seq::new(0), limit: 1 }));
        let pushed: Vec<u64> = (2..=300).collect();
        check(&mut timeline, &pushed, &[]);
        timeline.page(page(1..=1, true), now);
        assert_eq!(drain(&mut timeline, now), (1..=201).collect::<Vec<_>>());
        assert_eq!(timeline.poll_read(now), Some(Read { after: Seq::new(201), limit: 99 }));
        timeline.page(page(202..=300, false), now);
        assert_eq!(drain(&mut timeline, now), (202..=300).collect::<Vec<_>>());
        assert!(!timeline.is_behind());
    }

    #[test]
    fn a_gap_is_read_page_by_page_before_later_entries_leave() {
        let (now, mut timeline) = (Instant::now(), Timeline::after(Seq::new(0)));
        timeline.gap(Seq::new(1), Seq::new(350));
        timeline.offer(entry(351), Via::Push, now);
        assert_eq!(timeline.poll_read(now), Some(Read { after: Seq::new(0), limit: 200 }));
        timeline.page(page(1..=200, true), now);
        assert_eq!(drain(&mut timeline, now).len(), 200);
        assert_eq!(timeline.poll_read(now), Some(Read { after: Seq::new(200), limit: 150 }));
        timeline.page(page(201..=350, true), now);
        assert_eq!(drain(&mut timeline, now).last(), Some(&351));
    }

    #[test]
    fn what_may_not_be_seen_is_skipped() {
        let (now, mut timeline) = (Instant::now(), Timeline::after(Seq::new(0)));
        timeline.expect_up_to(Seq::new(50));
        assert!(timeline.poll_read(now).is_some());
        timeline.page(page(40..=50, false), now);
        assert_eq!(drain(&mut timeline, now), (40..=50).collect::<Vec<_>>());
    }

    #[test]
    fn from_the_head_on_the_first_push_decides_where_it_begins() {
        let mut timeline = Timeline::from_head(Seq::new(20));
        check(&mut timeline, &[19, 20, 21], &[19, 20, 21]);
        let mut timeline = Timeline::from_head(Seq::new(20));
        check(&mut timeline, &[21], &[21]);
        check(&mut timeline, &[20], &[]);
    }

    #[test]
    fn an_unreadable_hole_is_given_up_and_the_rest_is_handed_over() {
        let (now, mut timeline) = (Instant::now(), Timeline::after(Seq::new(0)));
        timeline.gap(Seq::new(1), Seq::new(4));
        check(&mut timeline, &[5, 6], &[]);
        assert!(timeline.poll_read(now).is_some());
        timeline.unreadable();
        assert_eq!(drain(&mut timeline, now), [5, 6]);
        assert_eq!(timeline.read_due(now), None);
    }

    #[test]
    fn a_page_that_failed_is_read_again_when_it_is_time() {
        let (now, mut timeline) = (Instant::now(), Timeline::after(Seq::new(0)));
        timeline.expect_up_to(Seq::new(1));
        assert!(timeline.poll_read(now).is_some());
        let later = now + Duration::from_secs(1);
        timeline.failed(later);
        assert_eq!(timeline.poll_read(now), None);
        assert_eq!(timeline.read_due(now), Some(later));
        assert!(timeline.poll_read(later).is_some());
    }

    #[test]
    fn a_page_that_lags_behind_what_is_known_is_not_asked_for_in_a_hot_loop() {
        let (now, mut timeline) = (Instant::now(), Timeline::after(Seq::new(0)));
        timeline.expect_up_to(Seq::new(1));
        assert!(timeline.poll_read(now).is_some());
        timeline.page(HistoryPage { items: vec![], has_more: false }, now);
        assert_eq!(timeline.read_due(now), Some(now + HOLE_PATIENCE));
    }
}
