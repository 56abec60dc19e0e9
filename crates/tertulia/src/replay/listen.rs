//! One participant: takes what his client hands over, and compares it at once with what it must be.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use tertulia_client::client::Events;
use tertulia_client::event::{Disconnect, Event, Via};
use tertulia_protocol::{ConvoId, Entry, Seq, UserId};

use super::stage::{Group, Stage};
use super::view::{Difference, View};

/// Listens until the client is closed; what is missing then is a difference.
pub(super) async fn listen(stage: Arc<Stage>, person: usize, user: UserId, mut events: Events) {
    let mut listener = Listener::new(&stage, person, user);
    while let Some(event) = events.next().await {
        listener.take(event);
    }
    listener.finish();
}

struct Listener<'a> {
    stage: &'a Stage,
    person: usize,
    user: UserId,
    was_connected: bool,
    views: HashMap<ConvoId, (&'a Group, View)>,
}

impl<'a> Listener<'a> {
    fn new(stage: &'a Stage, person: usize, user: UserId) -> Self {
        let groups = stage.groups.iter().filter(|group| group.expected.script.members.contains(&person));
        let views = groups.map(|group| (group.expected.convo, (group, View::new()))).collect();
        Self { stage, person, user, was_connected: false, views }
    }

    fn take(&mut self, event: Event) {
        let (watch, tally) = (&self.stage.watch, &self.stage.tally);
        match event {
            Event::Entry { entry, via } => self.take_entry(&entry, via),
            Event::SendAcked { convo_id, seq, .. } => self.take_ack(convo_id, seq),
            Event::Connected { resumed, .. } => {
                if self.was_connected {
                    tally.reconnects.fetch_add(1, Relaxed);
                    tally.resumed.fetch_add(u64::from(resumed), Relaxed);
                } else {
                    tally.connected.send_modify(|connected| *connected += 1);
                }
                self.was_connected = true;
                watch.moved();
            }
            Event::Disconnected { reason, retry_in } => match reason {
                Disconnect::Refused(_) | Disconnect::Closed { .. } => {
                    watch.told_to_wait("connecting", &reason, retry_in);
                }
                Disconnect::Broken(_) | Disconnect::Silent => {
                    watch.say(format_args!("{reason}; connecting again in {:.1} s", retry_in.as_secs_f64()));
                }
            },
            Event::SendDelayed { code, retry_in, .. } => {
                watch.told_to_wait("sending", &code.as_str(), retry_in);
            }
            Event::SendFailed { detail, .. } => watch.break_off(format!("a line was refused: {detail}")),
            Event::SessionLost(why) => {
                watch.break_off(format!("{}: {why}", self.stage.people[self.person].username));
            }
            Event::Refused { code, detail, .. } => watch.say(format_args!("{detail} ({})", code.as_str())),
            Event::Receipt { .. }
            | Event::Typing { .. }
            | Event::Presence { .. }
            | Event::Conversation(_) => {}
        }
    }

    fn take_entry(&mut self, entry: &Entry, via: Via) {
        let (stage, person) = (self.stage, self.person);
        let tally = &stage.tally;
        let Some((group, view)) = self.views.get_mut(&entry.convo_id) else {
            return stage.differs(person, None, &Difference::Foreign { convo: entry.convo_id });
        };
        let expected = &group.expected;
        let seen = view.seen();
        view.take(expected, entry, |difference| stage.differs(person, Some(group), &difference));
        let newly = |milestone| seen.get() < milestone && view.seen().get() >= milestone;
        if newly(expected.opening_entries()) {
            tally.opened.send_modify(|opened| *opened += 1);
        }
        if newly(expected.last().get()) {
            tally.complete.send_modify(|complete| *complete += 1);
        }
        if expected.line_at(entry.seq).is_some() {
            match via {
                _ if entry.sender_id == self.user => &tally.own,
                Via::Push => &tally.live,
                Via::Ack | Via::History => &tally.caught_up,
            }
            .fetch_add(1, Relaxed);
        }
        if entry.sender_id != self.user
            && let Some(sent_at) = group.sent_at(entry.seq)
        {
            tally.send_to_receive.record(Instant::now() - sent_at);
        }
        stage.watch.moved();
    }

    fn take_ack(&self, convo: ConvoId, seq: Seq) {
        let tally = &self.stage.tally;
        let group = self.views.get(&convo).map(|(group, _)| *group);
        let taken = match group {
            Some(group) => group.take_ack(self.person, seq),
            None => Err(Difference::Foreign { convo }),
        };
        if let Err(difference) = taken {
            return self.stage.differs(self.person, group, &difference);
        }
        tally.acked.fetch_add(1, Relaxed);
        if let Some(sent_at) = group.and_then(|group| group.sent_at(seq)) {
            tally.send_to_ack.record(Instant::now() - sent_at);
        }
        self.stage.watch.moved();
    }

    fn finish(&self) {
        for (group, view) in self.views.values() {
            if let Err(difference) = view.finish(&group.expected) {
                self.stage.differs(self.person, Some(group), &difference);
            }
        }
    }
}
