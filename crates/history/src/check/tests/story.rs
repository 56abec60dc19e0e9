//! Histories by hand: labelled events, which can be changed by their labels.

use tertulia_protocol::entry::HistoryPolicy;
use tertulia_protocol::{ClientSeq, Code, ConvoId, DeviceId, Seq, UserId};

use crate::check::{Options, Report, Rule, check};
use crate::event::*;

pub(super) const CONVO: ConvoId = ConvoId::from_bytes([0xC0; 16]);

pub(super) fn user(number: u8) -> UserId {
    UserId::from_bytes([number; 16])
}

pub(super) fn device(number: u8) -> DeviceId {
    DeviceId::from_bytes([0xD0 + number; 16])
}

/// What `user` sends as `n`.
pub(super) fn body(by: u8, n: u64) -> Body {
    Body::of(&format!("message {n} of {by}"))
}

/// An entry without anything.
pub(super) fn entry(seq: u64, kind: Kind, by: u8) -> Seen {
    let (seq, by) = (Seq::new(seq), user(by));
    Seen { seq, kind, by, n: None, body: None, users: vec![], target: None, history: None }
}

pub(super) fn text(seq: u64, by: u8, n: u64) -> Seen {
    Seen { n: Some(ClientSeq::new(n)), body: Some(body(by, n)), ..entry(seq, Kind::Text, by) }
}

pub(super) fn created(users: &[u8]) -> Seen {
    let history = Some(HistoryPolicy::SinceJoined);
    Seen { users: users.iter().map(|number| user(*number)).collect(), history, ..entry(1, Kind::Created, 1) }
}

pub(super) fn members(seq: u64, kind: Kind, who: u8) -> Seen {
    Seen { users: vec![user(who)], ..entry(seq, kind, 1) }
}

pub(super) fn login(number: u8) -> Event {
    Device { device: device(number), user: user(number) }.into()
}

pub(super) fn connect(c: u64, who: u8) -> Event {
    Open { c, device: device(who), from: None, resumed: false, position: format!("begin of {c}") }.into()
}

pub(super) fn resume(c: u64, who: u8, from: &str) -> Event {
    let position = from.to_owned();
    Open { c, device: device(who), from: Some(from.into()), resumed: true, position }.into()
}

pub(super) fn send(c: Option<u64>, by: u8, n: u64) -> Event {
    Send { c, device: device(by), convo: CONVO, n: ClientSeq::new(n), body: body(by, n) }.into()
}

pub(super) fn ack(c: Option<u64>, by: u8, n: u64, seq: u64) -> Event {
    Ack { c, device: device(by), convo: CONVO, n: ClientSeq::new(n), seq: Seq::new(seq) }.into()
}

pub(super) fn refuse(c: Option<u64>, by: u8, n: u64, code: Code) -> Event {
    Refuse { c, device: device(by), convo: CONVO, n: ClientSeq::new(n), code }.into()
}

pub(super) fn push(c: u64, entry: &Seen, position: Option<&str>) -> Event {
    Push { c, convo: CONVO, entry: entry.clone(), position: position.map(Into::into) }.into()
}

pub(super) fn read(op: u64, by: u8, after: u64) -> Event {
    let (device, after) = (device(by), Some(Seq::new(after)));
    Read { op, device, convo: CONVO, after, before: None, limit: 200 }.into()
}

pub(super) fn page(op: u64, entries: &[Seen]) -> Event {
    Page { op, entries: entries.to_vec(), more: false }.into()
}

pub(super) fn inbox(op: u64, last: u64, read: u64, unread: u64) -> Event {
    let [last, read] = [last, read].map(Seq::new);
    let items = vec![Item { convo: CONVO, last, delivered: read, read, unread, visible: None }];
    Inbox { op, items }.into()
}

pub(super) fn change(op: u64, kind: Kind, who: u8) -> Event {
    let (device, users) = (device(1), vec![user(who)]);
    Change { op, device, convo: CONVO, kind, users, target: None, body: None }.into()
}

/// A history.
#[derive(Debug, Clone, Default)]
pub(super) struct Story(pub(super) Vec<(String, Event)>);

impl Story {
    pub(super) fn tell(&mut self, label: &str, event: impl Into<Event>) -> &mut Self {
        self.0.push((label.into(), event.into()));
        self
    }

    fn find(&self, label: &str) -> usize {
        self.0.iter().position(|(at, _)| at == label).unwrap_or_else(|| panic!("no {label}"))
    }

    pub(super) fn remove(mut self, label: &str) -> Self {
        self.0.remove(self.find(label));
        self
    }

    pub(super) fn replace(mut self, label: &str, event: impl Into<Event>) -> Self {
        let at = self.find(label);
        self.0[at].1 = event.into();
        self
    }

    pub(super) fn insert_before(mut self, before: &str, label: &str, event: impl Into<Event>) -> Self {
        self.0.insert(self.find(before), (label.into(), event.into()));
        self
    }

    pub(super) fn change(mut self, label: &str, change: impl FnOnce(&mut Event)) -> Self {
        let at = self.find(label);
        change(&mut self.0[at].1);
        self
    }

    /// Changes the entries of a page.
    pub(super) fn edit_page(self, label: &str, edit: impl FnOnce(&mut Vec<Seen>)) -> Self {
        self.change(label, |event| match event {
            Event::Page(page) => edit(&mut page.entries),
            other => panic!("no page: {other:?}"),
        })
    }

    pub(super) fn check(&self, min_operations: u64) -> Report {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("story.ndjson");
        std::fs::write(&path, self.lines()).unwrap();
        check(&[path], Options { min_operations }).unwrap()
    }

    pub(super) fn lines(&self) -> String {
        let header = Header { version: VERSION, program: "a test".into(), clock: None };
        let events = std::iter::once(header.into()).chain(self.0.iter().map(|(_, event)| event.clone()));
        let line = |(t, event)| serde_json::to_string(&Line { t, event }).unwrap() + "\n";
        (0..).map(|number| number * 1_000).zip(events).map(line).collect()
    }

    /// Which rules are broken.
    pub(super) fn broken(&self) -> Vec<Rule> {
        let report = self.check(1);
        report.rules.iter().filter(|rule| rule.broken > 0).map(|rule| rule.rule).collect()
    }

    /// Just this rule is broken, and these lines show it.
    #[track_caller]
    pub(super) fn breaks(&self, rule: Rule, evidence: &[&str]) {
        let report = self.check(1);
        let broken: Vec<Rule> =
            report.rules.iter().filter(|rule| rule.broken > 0).map(|rule| rule.rule).collect();
        assert_eq!(broken, [rule], "{report}");
        let places = report.violations[0].evidence.iter();
        let labels: Vec<&str> = places
            .map(|line| {
                let number = line.place.rsplit(':').next().unwrap().parse::<usize>().unwrap();
                self.0[number - 2].0.as_str()
            })
            .collect();
        assert_eq!(labels, evidence, "{report}");
    }
}
