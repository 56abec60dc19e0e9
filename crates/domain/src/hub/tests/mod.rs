//! The hub by itself: a world of two users in one conversation, whose log is a list.

mod runs;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tertulia_protocol::event::{CloseReason, ConversationNews, OwnPresence, Presence, ServerEvent};
use tertulia_protocol::rest::{Audience, Privacy};
use tertulia_protocol::{ClientSeq, ConvoId, DeviceId, Entry, EntryKind, Seq, Timestamp, UserId};
use tertulia_websocket::payloads;

use super::{
    Committed, Connection, Hole, Hub, Limits, MISSED_KEPT, MISSED_MAX, Mode, Origin, Settings, Sighting,
    Status, Step,
};
use crate::log::{Change, Commit, Head, HistorySlice, Missed, Outcome, Position, Receipt};

const ANA: UserId = UserId::from_bytes([1; 16]);
const BO: UserId = UserId::from_bytes([2; 16]);
const CY: UserId = UserId::from_bytes([4; 16]);
const CONVO: ConvoId = ConvoId::from_bytes([3; 16]);

const fn at(number: u64) -> Position {
    Position::before(Commit::new(number))
}

struct World {
    hub: Hub,
    log: Vec<(Arc<Entry>, Commit)>,
    now: Timestamp,
}

impl World {
    fn new(limits: Limits) -> Self {
        Self::with(limits, false)
    }

    /// One of several nodes.
    fn of_many() -> Self {
        Self::with(Limits::default(), true)
    }

    fn with(limits: Limits, others_append: bool) -> Self {
        let settings = Settings {
            position: Box::new(|position| position.of_part(0).get().to_string()),
            part_of: Box::new(|_| 0),
            presence_ttl: Duration::from_secs(60),
            heartbeat: Duration::from_secs(25),
            outbox: limits,
            others_append,
        };
        Self { hub: Hub::new(settings, at(1)), log: Vec::new(), now: Timestamp::from_millis(1_000_000) }
    }

    /// A live connection.
    fn connect(&mut self, user: UserId) -> Arc<Connection> {
        self.connect_with(user, Privacy::default())
    }

    /// A user who is in these conversations, and in no others.
    fn connect_in(&self, user: UserId, heads: &[Head]) -> Arc<Connection> {
        let who = (user, DeviceId::from_bytes([9; 16]));
        let since = self.hub.position();
        let (connection, _) = self.hub.register(Mode::Socket, who, Privacy::default(), since, self.now);
        self.hub.attach(user, heads);
        self.hub.finish_resume(&connection, Missed::default(), &HashSet::new());
        connection
    }

    fn connect_with(&mut self, user: UserId, privacy: Privacy) -> Arc<Connection> {
        let device = DeviceId::from_bytes([9; 16]);
        let since = self.hub.position();
        let (connection, attach) = self.hub.register(Mode::Socket, (user, device), privacy, since, self.now);
        if attach {
            let last_seq = Seq::new(self.log.len() as u64);
            self.hub.attach(user, &[Head { convo: CONVO, last_seq, member_count: 2 }]);
        }
        self.hub.finish_resume(&connection, Missed::default(), &HashSet::new());
        connection
    }

    /// The connection watches a user who was last seen now, and is told what he is.
    fn watch(&self, connection: &Arc<Connection>, user: UserId) -> bool {
        let status = Status { user, allowed: true, last_seen: Some(self.now) };
        let watches = self.hub.watch(connection, &[status]);
        self.hub.tell_statuses(connection, &[status]);
        watches
    }

    fn text(&mut self, body: &str) -> (Outcome, Commit) {
        let number = self.log.len() as u64 + 1;
        let entry = Arc::new(Entry {
            convo_id: CONVO,
            seq: Seq::new(number),
            sender_id: ANA,
            client_seq: Some(ClientSeq::new(number)),
            ts: self.now,
            kind: EntryKind::Text { body: body.into(), reply_to: None },
        });
        let commit = Commit::new(number);
        self.log.push((Arc::clone(&entry), commit));
        (Outcome::Appended { entry, shared: None }, commit)
    }

    /// Ana's message is committed and handed over.
    fn send(&mut self, body: &str, origin: Option<&Arc<Connection>>) {
        let (outcome, commit) = self.text(body);
        let origin =
            origin.map(|connection| Origin { connection, convo: CONVO, client_seq: Some(ClientSeq::new(7)) });
        self.hand_over(commit, Committed { outcome: &outcome, origin, shows_read: true });
        self.hub.caught_up(Position::before(commit.next()));
    }

    /// All before it was handed over.
    fn hand_over(&self, commit: Commit, committed: Committed<'_>) {
        self.hub.caught_up(Position::before(commit));
        self.hub.deliver([committed]);
    }

    /// Bo's removal is committed; it still has to be handed over.
    fn remove_bo(&mut self) -> (Outcome, Commit) {
        let number = self.log.len() as u64 + 1;
        let kind = EntryKind::MemberRemoved { user_ids: vec![BO] };
        let (seq, ts) = (Seq::new(number), self.now);
        let entry = Arc::new(Entry { convo_id: CONVO, seq, sender_id: ANA, client_seq: None, ts, kind });
        let commit = Commit::new(number);
        self.log.push((Arc::clone(&entry), commit));
        (Outcome::Appended { entry, shared: None }, commit)
    }

    fn deliver(&self, (outcome, commit): &(Outcome, Commit)) {
        self.hand_over(*commit, Committed { outcome, origin: None, shows_read: true });
    }

    /// Bo resumes; the hub knows of him in the conversation up to the end of the log.
    fn begin_resume(&self, since: u64) -> Arc<Connection> {
        let who = (BO, DeviceId::from_bytes([9; 16]));
        let since = at(since);
        let (connection, _) = self.hub.register(Mode::Socket, who, Privacy::default(), since, self.now);
        let last_seq = Seq::new(self.log.len() as u64);
        self.hub.attach(BO, &[Head { convo: CONVO, last_seq, member_count: 2 }]);
        connection
    }

    /// The same where there are news, in which nothing is told.
    fn catch_up_with_news(&self, connection: &Arc<Connection>) {
        if let Some(Step::News { convo, .. }) = self.hub.next_step(connection) {
            self.hub.give_news(connection, convo, None, None, &HashSet::new());
        }
        self.catch_up(connection);
    }

    /// Does what a lagging connection's task does, until there is nothing to do.
    fn catch_up(&self, connection: &Arc<Connection>) {
        while let Some(step) = self.hub.next_step(connection) {
            let Step::Page { convo, after } = step else { panic!("no news here: {step:?}") };
            let entries: Vec<_> =
                self.log.iter().filter(|(entry, _)| entry.seq > after).take(2).cloned().collect();
            let has_more = entries.last().is_some_and(|(entry, _)| entry.seq.get() < self.log.len() as u64);
            self.hub.give_page(connection, convo, &HistorySlice { entries, has_more });
        }
    }
}

/// What a connection got, in short.
fn got(connection: &Connection) -> Vec<String> {
    let wire = connection.take().outbox.to_vec();
    let events = payloads(&wire).filter_map(|text| serde_json::from_slice(text).ok());
    events
        .map(|event| match event {
            ServerEvent::Message { entry, position } => {
                let what = match entry.kind {
                    EntryKind::Text { body, .. } => body,
                    EntryKind::MemberRemoved { .. } => "removed".to_owned(),
                    other => panic!("not here: {other:?}"),
                };
                format!(
                    "{} {what}{}",
                    entry.seq,
                    position.map_or(String::new(), |position| format!(" @{position}"))
                )
            }
            ServerEvent::MessageAck { client_seq, server_seq, .. } => {
                format!("ack {client_seq}={server_seq}")
            }
            ServerEvent::ConversationUpdate { conversation: ConversationNews::Left { .. } } => {
                "left".to_owned()
            }
            ServerEvent::Gap { from_seq, to_seq, .. } => format!("gap {from_seq}-{to_seq}"),
            ServerEvent::Receipt { delivered_seq, read_seq, .. } => {
                format!("receipt {delivered_seq} {}", read_seq.map_or("hidden".into(), |seq| seq.to_string()))
            }
            ServerEvent::Typing { active, .. } => format!("typing {active}"),
            ServerEvent::PresenceUpdate { status, last_seen, .. } => {
                format!("{status:?}{}", if last_seen.is_some() { " with last seen" } else { "" })
            }
            other => format!("{other:?}"),
        })
        .collect()
}

/// Bo comes with heads that are ahead of what was delivered; what is between lets Cy in, and puts him out.
#[test]
fn who_is_let_in_by_an_entry_that_another_has_brought_along_is_told_all_the_same() {
    let world = World::new(Limits::default());
    let cy = world.connect_in(CY, &[]);
    let entry = |seq, kind| {
        let (seq, ts) = (Seq::new(seq), world.now);
        let entry = Entry { convo_id: CONVO, seq, sender_id: ANA, client_seq: None, ts, kind };
        Outcome::Appended { entry: Arc::new(entry), shared: None }
    };
    let added = entry(1, EntryKind::MemberAdded { user_ids: vec![CY] });
    let removed = entry(2, EntryKind::MemberRemoved { user_ids: vec![CY] });
    let bo = world.connect_in(BO, &[Head { convo: CONVO, last_seq: Seq::new(2), member_count: 2 }]);
    let deliver = |commit, outcome: &Outcome| {
        world.hand_over(Commit::new(commit), Committed { outcome, origin: None, shows_read: true });
    };
    deliver(1, &added);
    let step = world.hub.next_step(&cy);
    assert!(matches!(step, Some(Step::News { convo: CONVO, whole: true, .. })), "{step:?}");
    assert_eq!(world.hub.next_step(&bo), None);
    deliver(2, &removed);
    assert_eq!(world.hub.next_step(&cy), None);
    let told: Vec<_> =
        payloads(&cy.take().outbox.to_vec()).map(|text| String::from_utf8_lossy(text).into_owned()).collect();
    assert!(told.last().is_some_and(|event| event.contains("\"left\":true")), "{told:?}");
    assert!(got(&bo).is_empty());
}

const fn missed_from(first: u64, last: u64) -> Change {
    Change::In {
        convo: CONVO,
        joined: false,
        first_missed: Some(Seq::new(first)),
        last_seq: Seq::new(last),
        shared: None,
        own: None,
        receipts: Vec::new(),
    }
}

fn changed(change: Change) -> Missed {
    Missed { changes: vec![change], pages: Vec::new() }
}

/// The store is ahead of the hub: there he is out already, and no page is to be had.
#[test]
fn who_lags_when_he_is_put_out_is_told_what_he_lacks_also_where_the_store_knows_of_it_first() {
    let mut world = World::new(Limits::default());
    world.send("a", None);
    world.send("b", None);
    let bo = world.begin_resume(1);
    world.hub.finish_resume(&bo, changed(missed_from(1, 2)), &HashSet::new());
    let (late, removal) = (world.text("c"), world.remove_bo());
    assert!(matches!(world.hub.next_step(&bo), Some(Step::Page { .. })));
    world.hub.forget(&bo, CONVO);
    world.deliver(&late);
    assert!(got(&bo).is_empty(), "what comes before his removal is not live to him");
    world.deliver(&removal);
    assert_eq!(got(&bo), ["gap 1-3", "4 removed", "left"]);
    world.hub.forget(&bo, CONVO);
    assert_eq!((world.hub.next_step(&bo), bo.is_lagging()), (None, false));
}

#[test]
fn who_is_put_out_while_he_resumes_is_told_that_and_no_part_of_what_he_missed() {
    let mut world = World::new(Limits::default());
    world.send("a", None);
    let bo = world.begin_resume(1);
    let (late, removal) = (world.text("b"), world.remove_bo());
    world.deliver(&late);
    world.deliver(&removal);
    assert_eq!(got(&bo), ["left"]);
    // What was read from the store before that is of no use any more.
    world.hub.finish_resume(&bo, changed(missed_from(1, 1)), &HashSet::new());
    assert!(matches!(world.hub.next_step(&bo), Some(Step::Page { .. })));
    world.hub.forget(&bo, CONVO);
    assert_eq!((got(&bo).len(), bo.is_lagging()), (0, false));
}

#[test]
fn who_resumes_and_is_out_already_in_the_store_gets_nothing_live_until_the_hub_knows_it_too() {
    let mut world = World::new(Limits::default());
    world.send("a", None);
    let bo = world.begin_resume(1);
    let (late, removal) = (world.text("b"), world.remove_bo());
    world.hub.finish_resume(&bo, changed(Change::Left(CONVO)), &HashSet::new());
    assert_eq!(world.hub.next_step(&bo), None);
    world.deliver(&late);
    assert!(got(&bo).is_empty());
    world.deliver(&removal);
    assert_eq!((got(&bo), bo.is_lagging()), (vec!["left".to_owned()], false));
}

#[test]
fn the_sender_gets_the_ack_and_everybody_else_the_entry() {
    let mut world = World::new(Limits::default());
    let (ana, anas_other, bo) = (world.connect(ANA), world.connect(ANA), world.connect(BO));
    world.send("hola", Some(&ana));
    assert_eq!(got(&ana), ["ack 7=1"]);
    assert_eq!(got(&anas_other), ["1 hola @1"]);
    assert_eq!(got(&bo), ["1 hola @1"]);
}

#[test]
fn a_full_outbox_makes_its_reader_lag_and_nobody_else() {
    let mut world = World::new(Limits { frames: 2, ..Limits::default() });
    let (quick, slow) = (world.connect(BO), world.connect(BO));
    for body in ["a", "b", "c", "d"] {
        world.send(body, None);
        assert_eq!(got(&quick).len(), 1);
    }
    assert_eq!(got(&slow), ["1 a @1", "2 b @2"]);
    assert!(slow.is_lagging() && !quick.is_lagging());
    world.catch_up(&slow);
    // The last of what was missed says how far the reader is; before it there is no position.
    assert_eq!(got(&slow), ["3 c", "4 d @5"]);
    world.send("e", None);
    assert_eq!(got(&slow), ["5 e @5"]);
}

#[test]
fn while_a_reader_lags_its_position_stands_still() {
    let mut world = World::new(Limits { frames: 1, ..Limits::default() });
    let slow = world.connect(BO);
    world.send("a", None);
    world.send("b", None);
    world.send("c", None);
    assert_eq!(world.hub.position_of(&slow), "2", "everything below commit 2 is in the outbox");
    assert_eq!(world.hub.position(), at(4));
}

#[test]
fn what_comes_too_early_waits_for_what_is_before_it() {
    let mut world = World::of_many();
    let (ana, bo) = (world.connect(ANA), world.connect(BO));
    let late = world.text("late");
    world.send("early", Some(&ana));
    assert_eq!((got(&ana), got(&bo)), (vec!["ack 7=2".to_owned()], Vec::new()), "an ack waits for nobody");
    world.deliver(&late);
    assert_eq!(
        (got(&ana), got(&bo)),
        (vec!["1 late @2".to_owned()], vec!["1 late @2".to_owned(), "2 early @2".to_owned()])
    );
    assert_eq!((world.hub.overdue(), bo.is_lagging()), (Vec::new(), false));
    assert_eq!(world.hub.position(), at(3), "nothing is missing any more");
}

#[test]
fn what_does_not_come_is_read_from_the_log_once_for_all() {
    let mut world = World::of_many();
    let (bo, cy) = (world.connect(BO), world.connect(CY));
    let lost = [world.text("lost on its way here"), world.text("this one, too")];
    world.send("c", None);
    assert_eq!(world.hub.overdue(), [], "it may still come");
    let hole = Hole { convo: CONVO, from: Seq::new(1), last: Seq::new(3) };
    assert_eq!(world.hub.overdue(), [hole]);
    assert_eq!(world.hub.overdue(), [hole], "until it is filled");
    for entry in &lost {
        world.deliver(entry);
    }
    assert_eq!(world.hub.overdue(), []);
    for reader in [bo, cy] {
        assert_eq!(got(&reader), ["1 lost on its way here @3", "2 this one, too @3", "3 c @3"]);
    }
}

/// Bo comes with a head that was read before another entry was delivered, to nobody.
#[test]
fn where_nobody_else_appends_what_did_not_come_is_read_at_once() {
    let mut world = World::new(Limits::default());
    let lost = world.text("told before anybody was here");
    let bo = world.connect_in(BO, &[Head { convo: CONVO, last_seq: Seq::new(0), member_count: 2 }]);
    world.send("b", None);
    assert_eq!(world.hub.overdue(), [Hole { convo: CONVO, from: Seq::new(1), last: Seq::new(2) }]);
    world.deliver(&lost);
    assert_eq!(got(&bo), ["1 told before anybody was here @3", "2 b @3"]);
}

#[test]
fn what_is_known_to_be_there_and_did_not_come_is_a_hole_at_once() {
    let mut world = World::new(Limits::default());
    let bo = world.connect(BO);
    world.hub.has_come_to(CONVO, Seq::new(0));
    assert_eq!(world.hub.overdue(), []);
    let lost = world.text("lost");
    world.hub.has_come_to(CONVO, Seq::new(1));
    assert_eq!(world.hub.overdue(), [Hole { convo: CONVO, from: Seq::new(1), last: Seq::new(1) }]);
    world.deliver(&lost);
    assert_eq!((got(&bo), world.hub.overdue()), (vec!["1 lost @1".to_owned()], Vec::new()));
}

#[test]
fn no_more_waits_behind_a_hole_than_fits_and_the_rest_is_read_too() {
    let mut world = World::of_many();
    let bo = world.connect(BO);
    let lost = world.text("lost");
    for _ in 0..600 {
        world.send("x", None);
    }
    world.hub.overdue();
    world.deliver(&lost);
    let first = got(&bo).len();
    assert!((2..600).contains(&first), "{first}");
    let [Hole { from, last, .. }] = world.hub.overdue()[..] else { panic!("the rest is still missing") };
    assert_eq!((from, last), (Seq::new(first as u64 + 1), Seq::new(601)));
    for (entry, _) in world.log.clone().split_off(first) {
        world.hub.deliver([Committed {
            outcome: &Outcome::Appended { entry, shared: None },
            origin: None,
            shows_read: true,
        }]);
    }
    assert_eq!((got(&bo).len(), world.hub.overdue()), (601 - first, Vec::new()));
}

/// He has read what the hub has still to deliver, and news came between that page and the next, which is empty.
#[test]
fn who_has_read_ahead_takes_nothing_from_others_when_news_come_in_between() {
    let mut world = World::new(Limits::default());
    let bo = world.connect(BO);
    world.send("a", None);
    let late = world.text("b");
    assert_eq!(got(&bo).len(), 1);
    world.hub.lacks_news(CONVO, Some(Commit::new(1)));
    for page in [vec![world.log[1].clone()], Vec::new()] {
        assert!(matches!(world.hub.next_step(&bo), Some(Step::News { .. })));
        world.hub.give_news(&bo, CONVO, None, None, &HashSet::new());
        assert!(matches!(world.hub.next_step(&bo), Some(Step::Page { .. })));
        if !page.is_empty() {
            world.hub.lacks_news(CONVO, Some(Commit::new(1)));
        }
        world.hub.give_page(&bo, CONVO, &HistorySlice { entries: page, has_more: false });
    }
    assert_eq!((world.hub.next_step(&bo), got(&bo)), (None, vec!["2 b".to_owned()]));
    let cy = world.connect(CY);
    world.deliver(&late);
    world.hub.caught_up(at(3));
    assert_eq!((got(&cy), got(&bo)), (vec!["2 b @2".to_owned()], Vec::new()));
    world.send("c", None);
    assert_eq!((got(&cy), got(&bo)), (vec!["3 c @3".to_owned()], vec!["3 c @3".to_owned()]));
}

/// A hint makes a reader read by himself what the hub also reads for all.
#[test]
fn who_has_read_what_is_missing_here_gets_it_once() {
    let mut world = World::of_many();
    let bo = world.connect(BO);
    let lost: Vec<_> = (0..3).map(|_| world.text("x")).collect();
    world.hub.caught_up(at(9));
    world.hub.has_come_to(CONVO, Seq::new(3));
    world.hub.lacks_news(CONVO, Some(Commit::new(1)));
    world.catch_up_with_news(&bo);
    assert_eq!((got(&bo).len(), world.hub.next_step(&bo)), (3, None));
    for entry in &lost {
        world.hub.deliver([Committed { outcome: &entry.0, origin: None, shows_read: true }]);
    }
    assert_eq!((got(&bo), bo.is_lagging()), (Vec::new(), false));
}

#[test]
fn news_that_were_not_told_here_are_read_by_the_readers() {
    let mut world = World::new(Limits::default());
    let bo = world.connect(BO);
    world.send("a", None);
    assert_eq!(got(&bo), ["1 a @1"]);
    world.hub.lacks_news(CONVO, Some(Commit::new(1)));
    let news = Step::News { convo: CONVO, since: Some(Commit::new(1)), whole: false };
    assert_eq!(world.hub.next_step(&bo), Some(news));
}

#[test]
fn who_has_read_that_he_was_let_in_before_it_came_here_is_told_it_once() {
    for mut world in [World::new(Limits::default()), World::of_many()] {
        let ana = world.connect(ANA);
        let before = world.text("before");
        let kind = EntryKind::MemberAdded { user_ids: vec![CY] };
        let entry = Entry {
            convo_id: CONVO,
            seq: Seq::new(2),
            sender_id: ANA,
            client_seq: None,
            ts: world.now,
            kind,
        };
        let added = (Arc::new(entry), Commit::new(2));
        let who = (CY, DeviceId::from_bytes([8; 16]));
        let (cy, _) =
            world.hub.register(Mode::Socket, who, Privacy::default(), world.hub.position(), world.now);
        world.hub.attach(CY, &[Head { convo: CONVO, last_seq: Seq::new(2), member_count: 3 }]);
        let missed = changed(Change::In {
            convo: CONVO,
            joined: true,
            first_missed: Some(Seq::new(2)),
            last_seq: Seq::new(2),
            shared: None,
            own: None,
            receipts: Vec::new(),
        });
        world.hub.finish_resume(&cy, missed, &HashSet::new());
        assert!(matches!(world.hub.next_step(&cy), Some(Step::News { whole: true, .. })));
        world.hub.give_news(&cy, CONVO, None, None, &HashSet::new());
        assert_eq!(world.hub.next_step(&cy), Some(Step::Page { convo: CONVO, after: Seq::new(1) }));
        let page = HistorySlice { entries: vec![added.clone()], has_more: false };
        world.hub.give_page(&cy, CONVO, &page);
        assert!(!cy.take().outbox.to_vec().is_empty());

        world.deliver(&before);
        world.deliver(&(Outcome::Appended { entry: added.0, shared: None }, added.1));
        world.hub.caught_up(at(3));
        assert_eq!((world.hub.next_step(&cy), cy.is_lagging()), (None, false));
        assert!(cy.take().outbox.to_vec().is_empty());
        assert!(!ana.take().outbox.to_vec().is_empty());
    }
}

fn mark(user: UserId, upto: u64) -> Receipt {
    Receipt { convo: CONVO, user, delivered: Seq::new(upto), read: Seq::new(upto), ts: Timestamp::default() }
}

#[test]
fn a_watermark_that_comes_behind_a_higher_one_is_told_to_nobody() {
    let mut world = World::of_many();
    let bo = world.connect(BO);
    for upto in [3, 2, 4] {
        let outcome = Outcome::Marked(mark(ANA, upto));
        world.hub.deliver([Committed { outcome: &outcome, origin: None, shows_read: true }]);
    }
    assert_eq!(got(&bo), ["receipt 3 3", "receipt 4 4"]);
    // Each of the two may be ahead.
    let outcome = Outcome::Marked(Receipt { delivered: Seq::new(6), read: Seq::new(1), ..mark(ANA, 0) });
    world.hub.deliver([Committed { outcome: &outcome, origin: None, shows_read: true }]);
    assert_eq!(got(&bo), ["receipt 6 4"]);
}

#[test]
fn a_watermark_that_somebody_has_read_is_told_to_all_and_none_below_it_to_anybody() {
    let mut world = World::of_many();
    let (bo, cy) = (world.connect(BO), world.connect(CY));
    world.hub.lacks_news(CONVO, Some(Commit::new(1)));
    let change = Change::In {
        convo: CONVO,
        joined: false,
        first_missed: None,
        last_seq: Seq::new(0),
        shared: None,
        own: None,
        receipts: vec![mark(ANA, 3)],
    };
    assert!(matches!(world.hub.next_step(&bo), Some(Step::News { .. })));
    world.hub.give_news(&bo, CONVO, None, Some(change), &HashSet::new());
    world.catch_up(&bo);
    // Who lags too is told it at once; when he has read it himself, both are live.
    assert_eq!((got(&bo), got(&cy)), (vec!["receipt 3 3".to_owned()], vec!["receipt 3 3".to_owned()]));
    world.catch_up_with_news(&cy);
    let later = world.connect(CY);
    for upto in [2, 3, 4] {
        let outcome = Outcome::Marked(mark(ANA, upto));
        world.hub.deliver([Committed { outcome: &outcome, origin: None, shows_read: true }]);
    }
    for reader in [&bo, &cy, &later] {
        assert_eq!(got(reader), ["receipt 4 4"]);
    }
}

#[test]
fn who_lags_is_told_a_watermark_at_once_and_reads_nothing_more_for_it() {
    let mut world = World::of_many();
    let cy = world.connect(CY);
    let marked = |world: &World, upto| {
        let outcome = Outcome::Marked(mark(ANA, upto));
        world.hub.deliver([Committed { outcome: &outcome, origin: None, shows_read: true }]);
    };
    world.hub.lacks_news(CONVO, Some(Commit::new(1)));
    assert!(matches!(world.hub.next_step(&cy), Some(Step::News { .. })));
    marked(&world, 3);
    assert_eq!(got(&cy), ["receipt 3 3"]);
    // What he was reading meanwhile is older.
    let change = Change::In {
        convo: CONVO,
        joined: false,
        first_missed: None,
        last_seq: Seq::new(0),
        shared: None,
        own: None,
        receipts: vec![mark(ANA, 2)],
    };
    world.hub.give_news(&cy, CONVO, None, Some(change), &HashSet::new());
    assert_eq!(got(&cy), ["receipt 3 3"]);
    assert!(matches!(world.hub.next_step(&cy), Some(Step::Page { .. })));
    marked(&world, 4);
    assert_eq!(got(&cy), ["receipt 4 4"]);
    world.catch_up(&cy);
    assert_eq!((world.hub.next_step(&cy), cy.is_lagging(), got(&cy)), (None, false, vec![]));
}

#[test]
fn how_far_a_sender_has_read_is_news_to_nobody_who_has_what_he_sent() {
    let mut world = World::of_many();
    let (bo, cy) = (world.connect(BO), world.connect(CY));
    let said = world.text("a");
    world.deliver(&said);
    assert_eq!((got(&bo).len(), got(&cy).len()), (1, 1));
    // Bo reads the store, where what Ana has sent has moved her watermarks, and Cy lags meanwhile.
    world.hub.lacks_news(CONVO, Some(Commit::new(1)));
    let change = Change::In {
        convo: CONVO,
        joined: false,
        first_missed: None,
        last_seq: Seq::new(1),
        shared: None,
        own: None,
        receipts: vec![mark(ANA, 1)],
    };
    world.catch_up_with_news(&cy);
    assert!(matches!(world.hub.next_step(&bo), Some(Step::News { .. })));
    world.hub.give_news(&bo, CONVO, None, Some(change), &HashSet::new());
    world.catch_up(&bo);
    assert_eq!(got(&bo), ["receipt 1 1"]);
    assert_eq!((world.hub.next_step(&cy), cy.is_lagging(), got(&cy)), (None, false, vec![]));
}

#[test]
fn what_comes_twice_is_delivered_once() {
    let mut world = World::new(Limits::default());
    let bo = world.connect(BO);
    let (outcome, commit) = world.text("a");
    for _ in 0..2 {
        world.hand_over(commit, Committed { outcome: &outcome, origin: None, shows_read: true });
    }
    assert_eq!(got(&bo), ["1 a @1"]);
}

#[test]
fn who_missed_more_than_a_thousand_gets_the_newest_and_a_gap() {
    let mut world = World::new(Limits { frames: 4_096, ..Limits::default() });
    let (connection, _) = {
        let who = (BO, DeviceId::from_bytes([9; 16]));
        world.hub.register(Mode::Socket, who, Privacy::default(), at(1), world.now)
    };
    world.hub.attach(BO, &[Head { convo: CONVO, last_seq: Seq::default(), member_count: 2 }]);
    let missed = MISSED_MAX + 1;
    for _ in 0..missed {
        world.send("x", None);
    }
    world.hub.finish_resume(&connection, changed(missed_from(1, missed)), &HashSet::new());
    world.catch_up(&connection);
    let got = got(&connection);
    assert_eq!(got[0], format!("gap 1-{}", missed - MISSED_KEPT));
    assert_eq!(got.len() as u64, 1 + MISSED_KEPT);
    assert!(!connection.is_lagging());
}

/// What Bo missed since the first commit: all there is, and it came along.
fn missed_all(world: &World) -> Missed {
    let entries = world.log.clone();
    let last_seq = entries.last().map_or(Seq::default(), |(entry, _)| entry.seq);
    let change = missed_from(1, last_seq.get());
    Missed { changes: vec![change], pages: vec![(CONVO, HistorySlice { entries, has_more: false })] }
}

fn returning(world: &World) -> Arc<Connection> {
    let who = (BO, DeviceId::from_bytes([9; 16]));
    let (connection, _) = world.hub.register(Mode::Socket, who, Privacy::default(), at(1), world.now);
    world.hub.attach(BO, &[Head { convo: CONVO, last_seq: Seq::default(), member_count: 2 }]);
    connection
}

#[test]
fn what_was_missed_and_came_along_is_given_at_once_and_the_last_says_how_far() {
    let mut world = World::new(Limits::default());
    let bo = returning(&world);
    assert_eq!(world.hub.next_step(&bo), Some(Step::Missed { since: at(1) }));
    world.send("a", None);
    world.send("b", None);
    assert!(got(&bo).is_empty(), "nothing is live before it is known what was missed");
    world.hub.finish_resume(&bo, missed_all(&world), &HashSet::new());
    assert_eq!(got(&bo), ["1 a", "2 b @3"]);
    assert_eq!(world.hub.next_step(&bo), None);
    world.send("c", None);
    assert_eq!(got(&bo), ["3 c @3"]);
}

#[test]
fn what_came_after_what_came_along_is_read() {
    let mut world = World::new(Limits::default());
    let bo = returning(&world);
    world.send("a", None);
    let missed = missed_all(&world);
    world.send("b", None);
    world.hub.finish_resume(&bo, missed, &HashSet::new());
    assert_eq!(got(&bo), ["1 a"]);
    world.catch_up(&bo);
    assert_eq!(got(&bo), ["2 b @3"]);
}

#[test]
fn who_was_put_out_after_it_was_read_gets_nothing_of_what_came_along() {
    let mut world = World::new(Limits::default());
    let bo = returning(&world);
    world.send("a", None);
    let missed = missed_all(&world);
    let removal = world.remove_bo();
    world.deliver(&removal);
    bo.take();
    world.hub.finish_resume(&bo, missed, &HashSet::new());
    assert!(bo.take().outbox.is_empty());
}

#[test]
fn who_hides_what_he_has_read_shows_none_and_sees_none() {
    let hides = Privacy { read_receipts: Audience::Nobody, ..Privacy::default() };
    let receipt = |user| Receipt {
        convo: CONVO,
        user,
        delivered: Seq::new(2),
        read: Seq::new(1),
        ts: Timestamp::default(),
    };
    let mut world = World::new(Limits::default());
    let (ana, bo) = (world.connect(ANA), world.connect_with(BO, hides));
    for (user, shows_read) in [(ANA, true), (BO, false)] {
        let outcome = Outcome::Marked(receipt(user));
        world.hand_over(Commit::new(1), Committed { outcome: &outcome, origin: None, shows_read });
    }
    assert_eq!(got(&ana), ["receipt 2 1", "receipt 2 hidden"]);
    assert_eq!(got(&bo), ["receipt 2 hidden", "receipt 2 1"]);
}

#[test]
fn typing_goes_to_the_others_and_ends_by_itself() {
    let mut world = World::new(Limits::default());
    let (ana, bo) = (world.connect(ANA), world.connect(BO));
    assert!(world.hub.typing(&ana, CONVO, true, world.now));
    assert!(
        !world.hub.typing(&ana, ConvoId::from_bytes([4; 16]), true, world.now),
        "not where one is no member"
    );
    assert_eq!((got(&ana), got(&bo)), (vec![], vec!["typing true".to_owned()]));
    world.now = world.now.plus(Duration::from_secs(9));
    world.hub.sweep(world.now);
    assert_eq!(got(&bo), ["typing false"]);
}

#[test]
fn of_what_may_be_dropped_the_latest_stays_and_the_oldest_goes() {
    let mut world = World::new(Limits { ephemeral: 1, ..Limits::default() });
    let (ana, bo) = (world.connect(ANA), world.connect(BO));
    world.hub.typing(&ana, CONVO, true, world.now);
    world.hub.typing(&ana, CONVO, false, world.now);
    assert_eq!(got(&bo), ["typing false"], "the newer value took the place of the older");
    assert!(world.watch(&bo, ANA));
    got(&bo);
    world.hub.typing(&ana, CONVO, true, world.now);
    world.hub.set_presence(&ana, OwnPresence::Away, world.now);
    assert_eq!(got(&bo), ["Away"], "there was room for one");
}

#[test]
fn a_message_is_written_before_what_may_be_dropped() {
    let mut world = World::new(Limits::default());
    let (ana, bo) = (world.connect(ANA), world.connect(BO));
    world.hub.typing(&ana, CONVO, true, world.now);
    world.send("hola", Some(&ana));
    assert_eq!(got(&bo), ["1 hola @1", "typing true"]);
}

#[test]
fn presence_is_told_to_those_who_watch_and_ends_with_the_last_connection() {
    let mut world = World::new(Limits::default());
    let bo = world.connect(BO);
    assert!(world.watch(&bo, ANA));
    assert_eq!(got(&bo), ["Offline with last seen"]);
    let (phone, laptop) = (world.connect(ANA), world.connect(ANA));
    assert_eq!(got(&bo), ["Online"]);
    assert_eq!(world.hub.unregister(&phone, world.now), None);
    world.hub.set_presence(&laptop, OwnPresence::Away, world.now);
    assert_eq!(got(&bo), ["Away"]);
    let departed = world.hub.unregister(&laptop, world.now).map(|departed| departed.user);
    assert_eq!((departed, got(&bo)), (Some(ANA), vec!["Offline with last seen".to_owned()]));
}

fn sighting(user: UserId, presence: Presence, last_seen: Option<Timestamp>) -> Sighting {
    Sighting { user, presence, last_seen }
}

#[test]
fn a_user_is_what_is_seen_of_him_here_and_elsewhere() {
    use Presence::{Away, Offline, Online};
    let mut world = World::of_many();
    let bo = world.connect(BO);
    assert!(world.watch(&bo, ANA));
    assert_eq!(got(&bo), ["Offline with last seen"]);
    let elsewhere =
        |world: &World, presence| world.hub.seen_elsewhere([sighting(ANA, presence, Some(world.now))]);
    elsewhere(&world, Away);
    assert_eq!(got(&bo), ["Away"]);
    let ana = world.connect(ANA);
    assert_eq!(got(&bo), ["Online"]);
    elsewhere(&world, Online);
    world.hub.unregister(&ana, world.now);
    assert_eq!(got(&bo), [""; 0], "he is still online elsewhere");
    elsewhere(&world, Offline);
    assert_eq!(got(&bo), ["Offline with last seen"]);
    elsewhere(&world, Online);
    assert!(world.watch(&bo, ANA));
    assert_eq!(got(&bo), ["Online"], "once, not as a change and as the answer");
    world.hub.forget_elsewhere();
    assert_eq!(got(&bo), ["Offline"]);
    world.hub.unwatch(&bo, &[ANA]);
    elsewhere(&world, Online);
    assert_eq!((got(&bo), world.hub.watched([ANA])), (vec![], vec![]));
}

#[test]
fn what_is_seen_here_is_for_the_other_nodes_the_last_of_each_user() {
    let mut world = World::of_many();
    let hides = Privacy { last_seen: Audience::Nobody, ..Privacy::default() };
    let (ana, bo) = (world.connect(ANA), world.connect_with(BO, hides));
    let taken = |world: &World| {
        let mut taken = world.hub.take_sightings();
        taken.sort_by_key(|sighting| sighting.user);
        taken
    };
    let online = |user| sighting(user, Presence::Online, None);
    assert_eq!(taken(&world), [online(ANA), online(BO)]);
    world.hub.set_presence(&ana, OwnPresence::Away, world.now);
    world.hub.unregister(&ana, world.now);
    world.hub.unregister(&bo, world.now);
    let gone = [sighting(ANA, Presence::Offline, Some(world.now)), sighting(BO, Presence::Offline, None)];
    assert_eq!(taken(&world), gone, "and when he was last there is for those to whom he shows it");
    assert_eq!(taken(&world), []);
    let mut alone = World::new(Limits::default());
    alone.connect(ANA);
    assert_eq!(taken(&alone), [], "there is nobody to tell");
}

#[test]
fn who_watches_somebody_who_was_removed_may_share_no_conversation_any_more() {
    let mut world = World::of_many();
    let (ana, bo) = (world.connect(ANA), world.connect(BO));
    world.watch(&ana, BO);
    assert!(world.hub.take_unsure().is_empty());
    let (outcome, commit) = world.remove_bo();
    world.hand_over(commit, Committed { outcome: &outcome, origin: None, shows_read: true });
    let unsure = world.hub.take_unsure();
    assert!(unsure.len() == 1 && Arc::ptr_eq(&unsure[0], &ana), "bo watches nobody");
    drop(bo);
}

#[test]
fn a_silent_connection_is_pinged_then_closed_and_its_user_is_gone_within_the_ttl() {
    let mut world = World::new(Limits::default());
    let ana = world.connect(ANA);
    world.now = world.now.plus(Duration::from_secs(25));
    world.hub.sweep(world.now);
    let taken = ana.take();
    assert_eq!((taken.outbox.frames(), taken.close), (1, None), "a ping");
    world.now = world.now.plus(Duration::from_secs(25));
    world.hub.sweep(world.now);
    assert_eq!(ana.take().close.map(|close| close.reason), Some(CloseReason::HeartbeatMissed));
    world.now = world.now.plus(Duration::from_secs(10));
    let departed = world.hub.sweep(world.now);
    assert_eq!(
        departed.iter().map(|departed| departed.user).collect::<Vec<_>>(),
        [ANA],
        "60 s after the last sign"
    );
    assert_eq!(world.hub.present().users, 1, "the connection itself is for its task to end");
}

#[test]
fn nothing_remains_of_those_who_have_gone() {
    let mut world = World::new(Limits::default());
    let (ana, bo) = (world.connect(ANA), world.connect(BO));
    world.watch(&ana, BO);
    world.hub.seen_elsewhere([sighting(BO, Presence::Away, None)]);
    world.hub.unregister(&ana, world.now);
    world.hub.unregister(&bo, world.now);
    let routes = world.hub.routes();
    assert_eq!((routes.users.len(), routes.convos.len()), (0, 0));
    assert_eq!((routes.watchers.len(), routes.elsewhere.len(), routes.unsure.len()), (0, 0, 0));
}

/// There may be very many of them, and nearly all are idle. With the counters of their `Arc` it is 224 bytes, which
/// the allocator hands out as they are.
#[test]
fn an_idle_connection_is_small() {
    let bytes = size_of::<Connection>() + 2 * size_of::<usize>();
    assert!(bytes <= 224, "{bytes}: what is seldom needed can be boxed");
    let routes = (size_of::<super::routes::User>(), size_of::<super::routes::Convo>());
    assert!(routes <= (128, 56), "{routes:?}: a user who is here, and a conversation");
}

#[test]
fn what_cannot_be_read_now_comes_after_what_is_lacking_elsewhere() {
    let world = World::of_many();
    let convos = [3, 5, 7].map(|number| ConvoId::from_bytes([number; 16]));
    let who = (BO, DeviceId::from_bytes([9; 16]));
    let (bo, _) = world.hub.register(Mode::Socket, who, Privacy::default(), at(1), world.now);
    let (first, last_seq) = (Seq::new(5), Seq::new(9));
    world.hub.attach(BO, &convos.map(|convo| Head { convo, last_seq, member_count: 2 }));
    let change = |convo| Change::In {
        convo,
        joined: false,
        first_missed: Some(first),
        last_seq,
        shared: None,
        own: None,
        receipts: Vec::new(),
    };
    let missed = Missed { changes: convos.map(change).into(), pages: Vec::new() };
    world.hub.finish_resume(&bo, missed, &HashSet::new());
    for convo in convos.into_iter().chain(convos) {
        let step = world.hub.next_step(&bo).unwrap();
        assert_eq!(step, Step::Page { convo, after: first.previous() });
        world.hub.put_off(&bo, step);
    }
}
