//! What a floor says is what a server would say, and not before it is durable.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use tertulia_protocol::entry::{ConversationType, EntryKind};
use tertulia_protocol::event::ServerEvent;
use tertulia_protocol::rest::{ConversationAnswer, NewConversation, Register, Session};
use tertulia_protocol::{ClientSeq, Code, ConvoId, Seq, Timestamp};
use tertulia_websocket::{Decoder, Event};

use super::frames::{Letter, letter};
use super::http::{self, Malformed};
use super::log::{Log, Medium, Nowhere, Ring};
use super::relay::Relay;
use super::rest;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_123);

/// A relay with users at connections of the same numbers, all in one group.
fn group(members: usize) -> (Relay, ConvoId) {
    let mut relay = Relay::default();
    let users: Vec<usize> = (0..members).map(|n| relay.registry.user(&format!("u{n}"), NOW).0).collect();
    let (convo, _) = relay.registry.converse(ConversationType::Group, None, &users, NOW);
    let id = relay.registry.convos[convo].id;
    relay.begin(NOW, true);
    for peer in users {
        relay.hear(peer, &format!(r#"{{"type":"connect","token":"floor-{peer}"}}"#));
    }
    let ready = heard(&mut relay, &mut Nowhere);
    assert!(ready.values().all(|events| matches!(events.as_slice(), [ServerEvent::Ready { .. }])));
    (relay, id)
}

/// Ends the turn; gives what each connection hears.
fn heard(relay: &mut Relay, log: &mut dyn Log) -> BTreeMap<usize, Vec<ServerEvent>> {
    let mut heard = BTreeMap::new();
    relay
        .settle(log, |peer, bytes| assert!(heard.insert(peer, events(bytes)).is_none(), "written once"))
        .unwrap();
    heard
}

/// Every frame is one event of the contract.
fn events(bytes: &[u8]) -> Vec<ServerEvent> {
    let (mut wire, mut decoder, mut events) = (bytes.to_vec(), Decoder::for_client(1 << 20), Vec::new());
    let mut input = wire.as_mut_slice();
    while let Some(event) = decoder.next(&mut input).unwrap() {
        let Event::Text(text) = event else { panic!("{event:?}") };
        events.push(serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}")));
    }
    events
}

fn send(convo: ConvoId, client_seq: u64, body: &str) -> String {
    let body = serde_json::to_string(body).unwrap();
    format!(r#"{{"type":"send_message","convoId":"{convo}","clientSeq":{client_seq},"body":{body}}}"#)
}

fn bodies(events: &[ServerEvent]) -> Vec<(u64, String)> {
    let body = |event: &ServerEvent| match event {
        ServerEvent::Message { entry, position: Some(_) } => match &entry.kind {
            EntryKind::Text { body, .. } => (entry.seq.get(), body.clone()),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    events.iter().map(body).collect()
}

#[test]
fn the_sender_hears_an_ack_and_everybody_else_the_message_as_a_server_says_them() {
    let (mut relay, convo) = group(3);
    relay.begin(NOW, true);
    relay.hear(1, &send(convo, 7, "hello"));
    relay.hand_out(1);
    let heard = heard(&mut relay, &mut Nowhere);
    assert_eq!(
        heard[&1],
        [ServerEvent::MessageAck {
            convo_id: convo,
            client_seq: ClientSeq::new(7),
            server_seq: Seq::new(2),
            ts: NOW
        }]
    );
    assert_eq!(heard[&0], heard[&2]);
    let [ServerEvent::Message { entry, position: Some(_) }] = heard[&0].as_slice() else {
        panic!("{heard:?}")
    };
    assert_eq!((entry.convo_id, entry.seq, entry.ts), (convo, Seq::new(2), NOW));
    assert_eq!(entry.sender_id, relay.registry.users[1].id);
    assert_eq!(entry.client_seq, Some(ClientSeq::new(7)));
    assert_eq!(entry.kind, EntryKind::Text { body: "hello".into(), reply_to: None });
}

#[test]
fn every_reader_has_one_order_however_many_write() {
    let (mut relay, convo) = group(4);
    for turn in 0..3 {
        relay.begin(NOW, true);
        for sender in [0, 1, 0] {
            for number in 0..2 {
                relay.hear(sender, &send(convo, 10 * turn + number, &format!("{turn} {sender} {number}")));
            }
            relay.hand_out(sender);
        }
        let heard = heard(&mut relay, &mut Nowhere);
        let (two, three) = (bodies(&heard[&2]), bodies(&heard[&3]));
        assert_eq!(two, three);
        let first = 2 + 6 * turn;
        assert!(two.iter().map(|(seq, _)| *seq).eq(first..first + 6), "{two:?}");
        // Who writes hears what others wrote, besides acks.
        let is_ack = |event: &&ServerEvent| matches!(event, ServerEvent::MessageAck { .. });
        assert_eq!((heard[&0].len(), heard[&0].iter().filter(is_ack).count()), (6, 4));
        assert_eq!((heard[&1].len(), heard[&1].iter().filter(is_ack).count()), (6, 2));
    }
}

#[test]
fn one_read_may_hold_messages_to_several_conversations() {
    let (mut relay, group) = group(3);
    let (direct, _) = relay.registry.converse(ConversationType::Direct, None, &[0, 2], NOW);
    let direct = relay.registry.convos[direct].id;
    assert_eq!(direct, ConvoId::direct(relay.registry.users[2].id, relay.registry.users[0].id));
    relay.begin(NOW, true);
    for (convo, body) in [(group, "a"), (direct, "b"), (group, "c")] {
        relay.hear(0, &send(convo, 1, body));
    }
    relay.hand_out(0);
    let heard = heard(&mut relay, &mut Nowhere);
    let of = |peer: usize| bodies(&heard[&peer]).into_iter().map(|(_, body)| body).collect::<String>();
    assert_eq!((of(1), of(2)), ("ac".to_owned(), "abc".to_owned()));
}

#[test]
fn whatever_form_a_message_has_it_is_relayed_as_it_was_meant() {
    let (mut relay, convo) = group(2);
    let plain = send(convo, 1, "a plain one");
    assert!(letter(&plain).is_some(), "the common form is scanned");
    let odd = [
        (send(convo, 1, r#"quotes " and \ and "}"#), r#"quotes " and \ and "}"#),
        (format!(r#"{{"clientSeq":1,"body":"x\u0041","convoId":"{convo}","type":"send_message"}}"#), "xA"),
        (
            format!(r#"{{ "type":"send_message","convoId":"{convo}","clientSeq":1,"body":"y","replyTo":2}}"#),
            "y",
        ),
    ];
    for (frame, body) in odd {
        assert_eq!(letter(&frame), None, "{frame}");
        relay.begin(NOW, false);
        relay.hear(0, &frame);
        relay.hand_out(0);
        let heard = heard(&mut relay, &mut Nowhere);
        assert_eq!(bodies(&heard[&1])[0].1, body);
    }
    // No other frame is taken for one.
    for frame in ["", "{}", r#"{"type":"send_message","convoId":"x"}"#, &plain[..plain.len() - 1]] {
        assert_eq!(letter(frame), None, "{frame}");
    }
    let Some(Letter { client_seq, body, .. }) = letter(&plain) else { panic!("{plain}") };
    assert_eq!((client_seq, body), ("1", r#""a plain one""#));
}

#[test]
fn what_cannot_be_relayed_is_refused() {
    let (mut relay, convo) = group(2);
    relay.begin(NOW, true);
    relay.hear(0, "nonsense");
    relay.hear(0, &send(ConvoId::from_bytes([9; 16]), 1, "x"));
    relay.hear(5, &send(convo, 1, "who is this?"));
    relay.hear(6, r#"{"type":"connect","token":"floor-77"}"#);
    let heard = heard(&mut relay, &mut Nowhere);
    let codes = |peer: usize| -> Vec<Code> {
        let code = |event: &ServerEvent| match event {
            ServerEvent::Error { code, .. } => *code,
            other => panic!("{other:?}"),
        };
        heard.get(&peer).map(|events| events.iter().map(code).collect()).unwrap_or_default()
    };
    assert_eq!(codes(0), [Code::Invalid, Code::NotFound]);
    assert_eq!(codes(6), [Code::Unauthenticated]);
    assert_eq!(heard.len(), 2);
}

#[test]
fn who_has_gone_hears_nothing_nor_does_who_comes_in_his_place() {
    let (mut relay, convo) = group(3);
    relay.begin(NOW, true);
    relay.hear(0, &send(convo, 1, "x"));
    relay.hand_out(0);
    relay.leave(1);
    let heard = heard(&mut relay, &mut Nowhere);
    assert_eq!(heard.keys().copied().collect::<Vec<_>>(), [0, 2]);
}

/// Notes what happens to it; fails if it is full.
#[derive(Default)]
struct Disk {
    happened: Rc<RefCell<Vec<String>>>,
    full: bool,
}

impl Log for Disk {
    fn sync(&mut self, records: &[u8]) -> io::Result<()> {
        self.happened.borrow_mut().push(format!("synced {}", records.len() > 100));
        if self.full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

#[test]
fn nobody_hears_of_a_turn_before_it_is_durable() {
    let (mut relay, convo) = group(2);
    let mut disk = Disk::default();
    let happened = Rc::clone(&disk.happened);
    let say = |relay: &mut Relay| {
        relay.begin(NOW, true);
        relay.hear(0, &send(convo, 1, &"x".repeat(100)));
        relay.hand_out(0);
    };
    say(&mut relay);
    relay.settle(&mut disk, |peer, _| happened.borrow_mut().push(format!("told {peer}"))).unwrap();
    assert_eq!(*happened.borrow(), ["synced true", "told 0", "told 1"]);

    disk.full = true;
    say(&mut relay);
    assert!(relay.settle(&mut disk, |peer, _| panic!("{peer} was told")).is_err());
}

#[derive(Default)]
struct Medium64 {
    bytes: RefCell<Vec<u8>>,
    syncs: RefCell<usize>,
}

impl Medium for Rc<Medium64> {
    fn put(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut whole = self.bytes.borrow_mut();
        whole.resize(64, 0);
        whole[at as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        *self.syncs.borrow_mut() += 1;
        Ok(())
    }
}

#[test]
fn a_full_ring_is_written_over_from_its_beginning_with_one_sync_a_turn() {
    let medium = Rc::new(Medium64::default());
    let mut ring = Ring::new(Rc::clone(&medium), 64);
    ring.sync(&[1; 40]).unwrap();
    ring.sync(&[2; 40]).unwrap();
    ring.sync(&[]).unwrap();
    assert_eq!(*medium.syncs.borrow(), 2, "where nothing was said there is nothing to sync");
    assert_eq!(*medium.bytes.borrow(), [[2; 16].as_slice(), &[1; 24], &[2; 24]].concat());
    ring.sync(&[3; 48]).unwrap();
    ring.sync(&[4; 130]).unwrap();
    assert_eq!(*medium.bytes.borrow(), [4; 64], "more than it can hold goes round");
    ring.sync(&[5; 1]).unwrap();
    assert_eq!(medium.bytes.borrow()[2], 5);
}

fn post<T: serde::de::DeserializeOwned>(relay: &mut Relay, path: &str, body: &impl serde::Serialize) -> T {
    let body = serde_json::to_string(body).unwrap();
    let text = format!(
        "POST /api{path} HTTP/1.1\r\nauthorization: Bearer floor-0\r\nContent-Length: {}\r\n\r\n{body}GET",
        body.len()
    );
    let request = http::request(text.as_bytes()).unwrap().unwrap();
    assert_eq!(request.len, text.len() - 3);
    let mut wire = Vec::new();
    rest::call(&mut relay.registry, &request, NOW).put(&mut wire);
    let answer = String::from_utf8(wire).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

#[test]
fn a_set_up_finds_the_calls_that_it_makes() {
    let mut relay = Relay::default();
    let register = |username: &str| Register {
        username: username.into(),
        password: "secret".into(),
        display_name: None,
        device: None,
    };
    let [ana, bo, cy] =
        ["ana", "bo", "cy"].map(|name| post::<Session>(&mut relay, "/users", &register(name)));
    assert_eq!((ana.access_token.as_str(), bo.access_token.as_str()), ("floor-0", "floor-1"));
    let kind = ConversationType::Group;
    let new = NewConversation { kind, members: vec![bo.user.id], title: None, history: None };
    let made: ConversationAnswer = post(&mut relay, "/conversations", &new);
    assert_eq!((made.conversation.member_count, made.conversation.last_seq), (2, Seq::new(1)));
    let more = serde_json::json!({ "userIds": [cy.user.id, bo.user.id] });
    let path = format!("/conversations/{}/members", made.conversation.id);
    let grown: ConversationAnswer = post(&mut relay, &path, &more);
    assert_eq!((grown.conversation.member_count, grown.conversation.last_seq), (3, Seq::new(2)));
    let refused: tertulia_protocol::problem::Problem = post(&mut relay, "/users", &register("ana"));
    assert_eq!(refused.code, Code::Conflict);
}

#[test]
fn a_request_is_answered_when_all_of_it_has_come() {
    let whole = b"POST /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
    for len in 0..whole.len() {
        assert!(http::request(&whole[..len]).unwrap().is_none(), "{len}");
    }
    let request = http::request(whole).unwrap().unwrap();
    assert_eq!((request.method, request.path, request.body), ("POST", "/x", b"abc".as_slice()));
    for wrong in
        ["GET / HTTP/1.0\r\n\r\n", "nonsense\r\n\r\n", "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"]
    {
        assert_eq!(http::request(wrong.as_bytes()).unwrap_err(), Malformed, "{wrong}");
    }
}
