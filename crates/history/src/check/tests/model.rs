//! A small model of a server that keeps its promises: whatever its clients do, the history is right; and what is
//! then changed at random is found.

use std::collections::VecDeque;

use proptest::prelude::*;
use tertulia_protocol::{Code, Seq};

use super::story::*;
use crate::check::Rule;
use crate::event::*;

/// Numbers that look random and are the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }
}

/// Members of the one conversation; each has one device.
const USERS: u8 = 4;

/// What waits in an outbox.
#[derive(Clone)]
enum Frame {
    Entry(Seen),
    Ack(u64, u64),
    Gap(u64, u64),
}

#[derive(Default)]
struct Person {
    /// The open connection, and what waits for it.
    conn: Option<(u64, VecDeque<Frame>)>,
    /// The position that was told last: entries below it were handed over.
    position: Option<u64>,
    /// Sent, and not acked: the number, and where it was stored if it was.
    unanswered: Vec<(u64, Option<u64>)>,
    next: u64,
    /// His time as a member.
    joined: Option<u64>,
    left: Option<u64>,
    read: u64,
}

struct World {
    dice: Dice,
    story: Story,
    log: Vec<Seen>,
    people: Vec<Person>,
    conns: u64,
    ops: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let people = (0..USERS).map(|_| Person { next: 1, ..Person::default() }).collect();
        let mut world =
            Self { dice: Dice(seed), story: Story::default(), log: vec![], people, conns: 0, ops: 0 };
        for who in 1..=USERS {
            world.story.tell("", login(who));
        }
        world.log.push(created(&[1, 2, 3]));
        world.people[..3].iter_mut().for_each(|person| person.joined = Some(1));
        world
    }

    fn person(&mut self, who: u8) -> &mut Person {
        &mut self.people[usize::from(who - 1)]
    }

    fn is_member(&self, who: u8) -> bool {
        let person = &self.people[usize::from(who - 1)];
        person.joined.is_some() && person.left.is_none()
    }

    fn op(&mut self) -> u64 {
        self.ops += 1;
        self.ops
    }

    fn head(&self) -> u64 {
        self.log.len() as u64
    }

    /// Appends, and hands it to all members' connections but the sender's own.
    fn append(&mut self, entry: Seen, but: Option<u8>) {
        for who in 1..=USERS {
            let is_there = self.is_member(who) || self.person(who).left == Some(entry.seq.get());
            if but != Some(who)
                && is_there
                && let Some((_, outbox)) = &mut self.person(who).conn
            {
                outbox.push_back(Frame::Entry(entry.clone()));
            }
        }
        self.log.push(entry);
    }

    fn connect(&mut self, who: u8) {
        self.conns += 1;
        let (c, head) = (self.conns, self.head());
        let position = self.person(who).position;
        let mut outbox = VecDeque::new();
        let resumes = position.filter(|_| self.dice.roll(4) > 0);
        if let Some(from) = resumes {
            self.story.tell("", resume(c, who, &from.to_string()));
            if self.is_member(who) {
                let first = from.max(self.person(who).joined.unwrap_or(0));
                let gap_to = if head > first + 4 && self.dice.roll(3) == 0 { head - 2 } else { 0 };
                if gap_to > 0 {
                    outbox.push_back(Frame::Gap(first, gap_to));
                }
                let missed = self.log.iter().filter(|entry| entry.seq.get() >= first.max(gap_to + 1));
                outbox.extend(missed.cloned().map(Frame::Entry));
            }
        } else {
            let position = (head + 1).to_string();
            let open = Open { c, device: device(who), from: None, resumed: false, position };
            self.story.tell("", open);
            self.person(who).position = Some(head + 1);
        }
        self.person(who).conn = Some((c, outbox));
    }

    /// The connection takes the next frame.
    fn hear(&mut self, who: u8) {
        let Some((c, outbox)) = &mut self.person(who).conn else { return };
        let (c, frame) = (*c, outbox.pop_front());
        match frame {
            Some(Frame::Entry(entry)) => {
                let told = (self.dice.roll(3) > 0).then(|| entry.seq.get() + 1);
                if told.is_some() {
                    self.person(who).position = told;
                }
                let position = told.map(|told| told.to_string());
                self.story.tell("push", push(c, &entry, position.as_deref()));
            }
            Some(Frame::Ack(n, seq)) => {
                self.person(who).unanswered.retain(|(number, _)| *number != n);
                self.story.tell("", ack(Some(c), who, n, seq));
            }
            Some(Frame::Gap(from, to)) => {
                let [from, to] = [from, to].map(Seq::new);
                self.story.tell("", Gap { c, convo: CONVO, from, to });
            }
            None => {}
        }
    }

    fn close(&mut self, who: u8) {
        if let Some((c, _)) = self.person(who).conn.take() {
            self.story.tell("", Close { c, why: None });
        }
    }

    /// Sends something new, or again what was not acked.
    fn send(&mut self, who: u8) {
        let again = self.person(who).unanswered.first().copied().filter(|_| self.dice.roll(2) == 0);
        let conn = self.person(who).conn.as_ref().map(|(c, _)| *c).filter(|_| self.dice.roll(4) > 0);
        let (n, stored) = again.unwrap_or_else(|| {
            let person = self.person(who);
            person.next += 1;
            (person.next - 1, None)
        });
        self.story.tell("", send(conn, who, n));
        if again.is_none() {
            self.person(who).unanswered.push((n, None));
        }
        if stored.is_none() && !self.is_member(who) {
            self.story.tell("", refuse(conn, who, n, Code::NotFound));
            return self.person(who).unanswered.retain(|(number, _)| *number != n);
        }
        if self.dice.roll(6) == 0 {
            return; // It is lost on its way.
        }
        let seq = stored.unwrap_or(self.head() + 1);
        if stored.is_none() {
            self.person(who)
                .unanswered
                .iter_mut()
                .filter(|(number, _)| *number == n)
                .for_each(|sent| sent.1 = Some(seq));
            self.append(text(seq, who, n), conn.map(|_| who));
            self.person(who).read = seq;
        }
        match conn {
            Some(_) => {
                if let Some((_, outbox)) = &mut self.person(who).conn {
                    outbox.push_back(Frame::Ack(n, seq));
                }
            }
            None if self.dice.roll(4) > 0 => {
                self.person(who).unanswered.retain(|(number, _)| *number != n);
                self.story.tell("", ack(None, who, n, seq));
            }
            None => {}
        }
    }

    /// User 1 adds or removes somebody.
    fn change(&mut self, who: u8) {
        if who == 1 {
            return;
        }
        let (op, seq) = (self.op(), self.head() + 1);
        let kind = if self.is_member(who) { Kind::MemberRemoved } else { Kind::MemberAdded };
        self.story.tell("", change(op, kind, who));
        let person = self.person(who);
        if kind == Kind::MemberAdded {
            (person.joined, person.left, person.read) = (Some(seq), None, seq);
        } else {
            person.left = Some(seq);
        }
        self.append(members(seq, kind, who), None);
        if self.dice.roll(5) > 0 {
            self.story.tell("", Done { op });
        } else {
            self.story.tell("", Fail { op, code: None });
        }
    }

    fn read(&mut self, who: u8) {
        let op = self.op();
        let (head, joined) = (self.head(), self.person(who).joined.unwrap_or(0));
        let after = self.dice.roll(head + 2);
        self.story.tell("", read(op, who, after));
        if !self.is_member(who) {
            self.story.tell("", Fail { op, code: Some(Code::NotFound) });
            return;
        }
        let entries: Vec<Seen> =
            self.log.iter().filter(|entry| entry.seq.get() > after.max(joined - 1)).cloned().collect();
        self.story.tell("page", page(op, &entries));
    }

    fn inbox(&mut self, who: u8) {
        let (op, marked, head) = (self.op(), self.op(), self.head());
        self.story.tell("", ReadInbox { op, device: device(who) });
        if !self.is_member(who) {
            self.story.tell("", Inbox { op, items: vec![] });
            return;
        }
        let read = self.person(who).read;
        let others = self.log.iter().filter(|entry| entry.kind == Kind::Text && entry.by != user(who));
        let unread = others.filter(|entry| entry.seq.get() > read).count() as u64;
        self.story.tell("", inbox(op, head, read, unread));
        let read = Some(Seq::new(head));
        self.story.tell("", Mark { op: marked, device: device(who), convo: CONVO, delivered: None, read });
        self.person(who).read = head;
        self.story.tell("", Done { op: marked });
    }

    /// A history of so many steps, and everything read in the end.
    fn run(seed: u64, steps: usize) -> Story {
        let mut world = Self::new(seed);
        for _ in 0..steps {
            let who = world.dice.roll(u64::from(USERS)) as u8 + 1;
            match (world.dice.roll(24), world.person(who).conn.is_some()) {
                (0..4, false) => world.connect(who),
                (4..10, _) => world.send(who),
                (10..12, _) => world.read(who),
                (12, true) => world.close(who),
                (13, _) => world.change(who),
                (14, _) => world.inbox(who),
                _ => world.hear(who),
            }
        }
        world.story.tell("final", Final {});
        let op = world.op();
        let all = world.log.clone();
        world.story.tell("", read(op, 1, 0)).tell("last page", page(op, &all));
        world.story
    }
}

/// The pushes that others follow on the same connection, and that are not of its own user.
fn followed_pushes(story: &Story) -> Vec<usize> {
    let push = |place: usize| match &story.0[place].1 {
        Event::Push(push) => Some((push.c, push.entry.clone())),
        _ => None,
    };
    let mut found = Vec::new();
    for place in 0..story.0.len() {
        let Some((c, entry)) = push(place) else { continue };
        let same = |other: &usize| push(*other).is_some_and(|(on, _)| on == c);
        let before = (0..place).rev().find(same).and_then(push);
        let after = (place + 1..story.0.len()).find(same).and_then(push);
        let device = story.0.iter().find_map(|(_, event)| match event {
            Event::Open(open) if open.c == c => Some(open.device),
            _ => None,
        });
        let is_own = (1..=USERS).any(|who| device == Some(self::device(who)) && entry.by == user(who));
        if let (Some((_, before)), Some((_, after))) = (before, after)
            && entry.kind == Kind::Text
            && after.kind == Kind::Text
            && before.seq < entry.seq
            && !is_own
        {
            found.push(place);
        }
    }
    found
}

fn cases() -> ProptestConfig {
    ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_server_that_keeps_its_promises_breaks_no_rule(seed: u64, steps in 10_usize..400) {
        let report = World::run(seed, steps).check(0);
        prop_assert!(report.violations.is_empty(), "{}", report);
        prop_assert!(report.invalid.is_empty(), "{}", report);
    }

    #[test]
    fn a_push_that_is_dropped_is_found(seed: u64) {
        let mut story = World::run(seed, 300);
        let pushes = followed_pushes(&story);
        prop_assume!(!pushes.is_empty());
        story.0.remove(pushes[seed as usize % pushes.len()]);
        let broken = story.broken();
        prop_assert!(broken.contains(&Rule::LiveOrder) || broken.contains(&Rule::Resume), "{:?}", broken);
    }

    #[test]
    fn a_push_that_comes_twice_is_found(seed: u64) {
        let mut story = World::run(seed, 300);
        let pushes = followed_pushes(&story);
        prop_assume!(!pushes.is_empty());
        let place = pushes[seed as usize % pushes.len()];
        let again = story.0[place].clone();
        story.0.insert(place + 1, again);
        prop_assert_eq!(story.broken(), [Rule::LiveOrder]);
    }

    #[test]
    fn two_messages_that_change_places_are_found(seed: u64) {
        let story = World::run(seed, 300).edit_page("last page", |page| {
            let texts: Vec<usize> = (0..page.len()).filter(|place| page[*place].kind == Kind::Text).collect();
            if let [first, .., last] = texts[..] {
                page.swap(first, last);
                (page[first].seq, page[last].seq) = (page[last].seq, page[first].seq);
            }
        });
        let texts = story.0.iter().filter(|(label, _)| label == "push").count();
        prop_assume!(texts > 3);
        prop_assert!(story.broken().contains(&Rule::Duplicate));
    }

    #[test]
    fn what_is_lost_in_the_end_is_found(seed: u64) {
        let story = World::run(seed, 300).edit_page("last page", |page| page.truncate(page.len() / 2));
        let broken = story.broken();
        // Where the lost half says who came or went, other rules miss it, too.
        prop_assert!(broken.contains(&Rule::AckedLoss), "{broken:?}");
    }
}
