//! What was read: pages of the inbox and of histories.

use std::time::Instant;

use tertulia_protocol::ConvoId;
use tertulia_protocol::rest::{Conversation, HistoryPage, Page};

use super::{Inbox, Machine, READ_BACKOFF, ReadFailure, Start, Told};
use crate::timeline::Timeline;

impl Machine {
    /// A page of the inbox has been read.
    pub(crate) fn handle_inbox(&mut self, round: u64, page: Page<Conversation>, now: Instant) {
        if round != self.inbox_round {
            return;
        }
        self.inbox_failures = 0;
        for conversation in &page.items {
            self.meet(conversation, Told::ByInbox, now);
        }
        self.inbox = match page.next_cursor {
            Some(cursor) => Inbox::Due(Some(cursor), now),
            None => {
                self.inbox_known = true;
                self.missed = false;
                Inbox::Known
            }
        };
    }

    /// A page of the inbox could not be read: it begins anew.
    pub(crate) fn handle_inbox_failed(&mut self, round: u64, failure: &ReadFailure, now: Instant, roll: f64) {
        if round != self.inbox_round {
            return;
        }
        let wait = failure.told().unwrap_or_else(|| READ_BACKOFF.delay(self.inbox_failures, roll));
        self.inbox_failures = self.inbox_failures.saturating_add(1);
        self.inbox = Inbox::Due(None, now + wait);
    }

    /// A page of history has been read.
    pub(crate) fn handle_history(&mut self, convo_id: ConvoId, page: HistoryPage, now: Instant) {
        self.reads -= 1;
        if let Some(timeline) = self.timelines.get_mut(&convo_id) {
            timeline.page(page, now);
            self.hand_over(convo_id, now);
        }
    }

    /// A page of history could not be read.
    pub(crate) fn handle_history_failed(
        &mut self,
        convo_id: ConvoId,
        failure: &ReadFailure,
        now: Instant,
        roll: f64,
    ) {
        self.reads -= 1;
        let Some(timeline) = self.timelines.get_mut(&convo_id) else { return };
        match failure {
            ReadFailure::Temporary(_) => {
                let wait = failure.told().unwrap_or_else(|| READ_BACKOFF.delay(timeline.failures(), roll));
                timeline.failed(now + wait);
            }
            ReadFailure::Final => {
                timeline.unreadable();
                self.hand_over(convo_id, now);
            }
        }
    }

    /// Learns of a conversation.
    pub(super) fn meet(&mut self, conversation: &Conversation, told: Told, now: Instant) {
        let Conversation { id, last_seq, visible_from_seq, .. } = conversation;
        if let Some(timeline) = self.timelines.get_mut(id) {
            timeline.visible_from(*visible_from_seq);
            // From the head on, all that a first inbox shows of a known conversation has come or comes by itself.
            if told == Told::ByInbox && (self.missed || self.settings.start == Start::Beginning) {
                timeline.expect_up_to(*last_seq);
            }
        } else if self.settings.start == Start::Head && (told == Told::ByEvent || !self.inbox_known) {
            self.timelines.insert(*id, Timeline::from_head(*last_seq));
        } else {
            let mut timeline = Timeline::after(visible_from_seq.previous());
            if told == Told::ByInbox {
                timeline.expect_up_to(*last_seq);
            }
            self.timelines.insert(*id, timeline);
        }
        self.hand_over(*id, now);
    }
}
