//! The documents against the types: what is written must fit what is described, and what is described must bite.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::calls::{CALLS, Call, Place, Who};
use super::events::{CLIENT, CLOSES, SERVER};
use super::{alone, asyncapi, openapi, schema_for_answer, schema_for_event, schemas};
use crate::entry::{ConversationType, HistoryPolicy, Posting, Role};
use crate::event::{ClientEvent, ConversationNews, OwnPresence, Presence, ServerEvent, SharedSettings};
use crate::problem::{Code, Problem};
use crate::rest::{
    AddMembers, Audience, Conversation, ConversationAnswer, ConversationPatch, Device, DeviceInfo,
    EventsPage, FoundMessage, Gateway, HistoryPage, Login, Mark, Member, MemberSettings, MemberSettingsPatch,
    MessageAnswer, MessageReceipt, NewConversation, Page, Privacy, PrivacyPatch, Refresh, Register,
    RolePatch, SendMessage, Session, Snippet, User, UserAnswer, UserPatch,
};
use crate::{ClientSeq, ConvoId, DeviceId, Entry, EntryKind, Seq, Timestamp, UserId};

// ── golden files

#[test]
fn the_committed_openapi_document_is_the_one_of_the_code() {
    check_golden("openapi.json", &openapi(env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_committed_asyncapi_document_is_the_one_of_the_code() {
    check_golden("asyncapi.json", &asyncapi(env!("CARGO_PKG_VERSION")));
}

#[track_caller]
fn check_golden(name: &str, document: &Value) {
    // Asked for when it runs: two clones may share the folder that holds this test.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap();
    let path = Path::new(&package).join("../../docs/api").join(name);
    let now = serde_json::to_string_pretty(document).unwrap() + "\n";
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, now).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == now,
        "docs/api/{name} is not what the code says; `UPDATE_EXPECT=1 cargo test -p tertulia-protocol` writes it anew"
    );
}

// ── the tables

#[test]
fn calls_have_names_of_their_own_and_say_what_they_need() {
    let mut names = BTreeSet::new();
    for call in CALLS {
        let at = format!("{} {}", call.method, call.path);
        assert!(names.insert(call.name), "{at}: the name {} is taken", call.name);
        assert!(!call.summary.is_empty() && !call.summary.ends_with('.'), "{at}");
        let braces: Vec<&str> =
            call.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        let in_path: Vec<&str> =
            call.parameters.iter().filter(|it| it.place == Place::Path).map(|it| it.name).collect();
        assert_eq!(braces, in_path, "{at}");
        assert!(
            call.who == Who::Anyone || call.problems().iter().any(|it| it.0 == Code::Unauthenticated),
            "{at}"
        );
    }
}

#[test]
fn a_real_path_finds_its_call() {
    let name = |method, path| Call::find(method, path).map(|call| call.name);
    assert_eq!(name("GET", "/api/users/me"), Some("getMe"));
    assert_eq!(name("GET", "/api/users/0198f3a2-7c4e-7b1a-9d3e-5f6a7b8c9d0e"), Some("getUser"));
    assert_eq!(name("GET", "/api/users?query=an"), Some("findUsers"));
    assert_eq!(name("DELETE", "/api/sessions/current"), Some("logOut"));
    assert_eq!(name("GET", "/api/conversations/x/messages/7/receipts"), Some("listReceipts"));
    assert_eq!(name("PUT", "/api/users/me"), None);
    assert_eq!(name("GET", "/api/conversations/x/"), None);
}

#[test]
fn every_event_of_the_types_is_in_the_table_and_the_other_way_round() {
    let document = asyncapi("");
    let described: BTreeSet<&str> = keys(&document["components"]["messages"]);
    let schemas = keys(&document["components"]["schemas"]);
    let events: BTreeSet<String> = CLIENT.iter().chain(SERVER).map(|event| event.schema_name()).collect();
    assert_eq!(described, events.iter().map(String::as_str).collect());
    let cases: BTreeSet<&str> = schemas.iter().copied().filter(|name| is_case(&document, name)).collect();
    assert_eq!(cases, described);
    for answer in CLIENT.iter().flat_map(|event| event.answers) {
        assert!(SERVER.iter().any(|event| event.name == *answer), "{answer}");
    }
}

fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Whether a schema is of an event: the only ones with a fixed `type`.
fn is_case(document: &Value, name: &str) -> bool {
    !document["components"]["schemas"][name]["properties"]["type"]["const"].is_null()
}

#[test]
fn close_codes_are_said_once_each() {
    let codes: BTreeSet<u16> = CLOSES.iter().map(|close| close.0).collect();
    assert_eq!(codes.len(), CLOSES.len());
}

#[test]
fn every_reference_leads_somewhere() {
    for document in [openapi(""), asyncapi("")] {
        for reference in references(&document) {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }
}

fn references(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(object) => {
            let here = object.get("$ref").and_then(Value::as_str);
            object.values().flat_map(references).chain(here).collect()
        }
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn in_asyncapi_nothing_stands_beside_a_reference() {
    fn check(value: &Value) {
        match value {
            Value::Object(object) => {
                assert!(!object.contains_key("$ref") || object.len() == 1, "{value}");
                object.values().for_each(check);
            }
            Value::Array(items) => items.iter().for_each(check),
            _ => {}
        }
    }
    check(&asyncapi(""));
}

// ── the shapes

/// What is written fits its schema, and no field of it can be anything else: a field that the schema does not know
/// by its name on the wire would take any value.
#[track_caller]
fn check(schema: &Value, example: &impl Serialize) {
    let validator = jsonschema::options().should_validate_formats(true).build(schema).unwrap();
    let example = serde_json::to_value(example).unwrap();
    if let Err(error) = validator.validate(&example) {
        panic!("{error}\nat {} in {example}", error.instance_path());
    }
    for pointer in pointers(&example, "") {
        let mut spoilt = example.clone();
        *spoilt.pointer_mut(&pointer).unwrap() = json!([[]]);
        assert!(!validator.is_valid(&spoilt), "anything would do at {pointer} of {example}");
    }
}

/// Every place in a document. What a `conversation_update` carries is left out: the cases of that union overlap,
/// so what is wrong for one may do for another. Each is checked by itself.
fn pointers(value: &Value, at: &str) -> Vec<String> {
    let below: Vec<(String, &Value)> = match value {
        Value::Object(object) if object.get("type") == Some(&json!("conversation_update")) => Vec::new(),
        Value::Object(object) => object.iter().map(|(key, value)| (format!("{at}/{key}"), value)).collect(),
        Value::Array(items) => {
            items.iter().zip(0..).map(|(item, index)| (format!("{at}/{index}"), item)).collect()
        }
        _ => Vec::new(),
    };
    let deeper = below.iter().flat_map(|(at, value)| pointers(value, at)).collect::<Vec<_>>();
    below.iter().map(|(at, _)| at.clone()).chain(deeper).collect()
}

#[track_caller]
fn check_body(method: &str, path: &str, example: &impl Serialize) {
    let document = openapi("");
    let pointer =
        format!("/paths/{}/{method}/requestBody/content/application~1json/schema", path.replace('/', "~1"));
    check(&alone(document.pointer(&pointer).expect("such a body")), example);
}

#[track_caller]
fn check_answer(method: &str, path: &str, status: u16, example: &impl Serialize) {
    check(&schema_for_answer(method, path, status).expect("such an answer"), example);
}

fn user(number: u8) -> UserId {
    UserId::new(moment(), [number; 10])
}

fn convo() -> ConvoId {
    ConvoId::direct(user(1), user(2))
}

fn device() -> DeviceId {
    DeviceId::new(moment(), [9; 10])
}

fn moment() -> Timestamp {
    Timestamp::from_millis(1_795_563_466_123)
}

fn profile() -> User {
    User {
        id: user(1),
        username: "ana".into(),
        display_name: "Ana".into(),
        about: String::new(),
        created_at: moment(),
        privacy: Some(Privacy { last_seen: Audience::Nobody, read_receipts: Audience::Everyone }),
    }
}

fn entry(kind: EntryKind) -> Entry {
    let client_seq = kind.is_message().then_some(ClientSeq::new(7));
    Entry { convo_id: convo(), seq: Seq::new(3), sender_id: user(1), client_seq, ts: moment(), kind }
}

/// One of each kind.
fn entries() -> Vec<Entry> {
    let kinds = [
        EntryKind::Text { body: "hi".into(), reply_to: Some(Seq::new(2)) },
        EntryKind::Text { body: "hi".into(), reply_to: None },
        EntryKind::Created {
            conversation_type: ConversationType::Group,
            title: Some("Round table".into()),
            user_ids: vec![user(1), user(2)],
            history: HistoryPolicy::SinceJoined,
        },
        EntryKind::MemberAdded { user_ids: vec![user(3)] },
        EntryKind::MemberRemoved { user_ids: vec![user(3)] },
        EntryKind::RoleChanged { user_id: user(2), role: Role::Admin },
        EntryKind::Renamed { title: "Square table".into() },
        EntryKind::SettingsChanged {
            about: Some(String::new()),
            posting: Some(Posting::Admins),
            history: Some(HistoryPolicy::All),
        },
        EntryKind::SettingsChanged { about: None, posting: None, history: None },
    ];
    kinds.map(entry).into()
}

fn own_settings() -> MemberSettings {
    MemberSettings { muted: true, muted_until: Some(moment()), pinned: false, archived: true }
}

fn conversation() -> Conversation {
    let member = |number, read_seq| Member {
        user_id: user(number),
        role: Role::Owner,
        delivered_seq: Seq::new(3),
        read_seq,
    };
    Conversation {
        id: convo(),
        kind: ConversationType::Group,
        title: Some("Round table".into()),
        about: "All are equal.".into(),
        posting: Posting::All,
        history: HistoryPolicy::All,
        created_at: moment(),
        updated_at: moment(),
        last_seq: Seq::new(3),
        last_message: Some(entry(EntryKind::Text { body: "hi".into(), reply_to: None })),
        visible_from_seq: Seq::new(1),
        delivered_seq: Seq::new(3),
        read_seq: Seq::default(),
        unread_count: 1,
        role: Role::Member,
        member_count: 2,
        settings: own_settings(),
        members: Some(vec![member(1, Some(Seq::new(2))), member(2, None)]),
        members_next_cursor: Some("c".into()),
    }
}

/// A conversation of which only what must be there is there.
fn bare_conversation() -> Conversation {
    Conversation {
        title: None,
        last_message: None,
        members: None,
        members_next_cursor: None,
        settings: MemberSettings::default(),
        ..conversation()
    }
}

fn shared_settings() -> SharedSettings {
    SharedSettings {
        id: convo(),
        title: Some("Round table".into()),
        about: String::new(),
        posting: Posting::Admins,
        history: HistoryPolicy::SinceJoined,
    }
}

fn page<T>(items: Vec<T>) -> Page<T> {
    Page { items, next_cursor: Some("c".into()) }
}

fn client_events() -> Vec<ClientEvent> {
    let (convo_id, user_ids) = (convo(), vec![user(1), user(2)]);
    vec![
        ClientEvent::Connect { token: "t".into() },
        ClientEvent::Resume { resume_token: "r".into(), position: "p".into() },
        ClientEvent::SendMessage {
            convo_id,
            client_seq: ClientSeq::new(7),
            body: "hi".into(),
            media_ids: vec!["m".into()],
            reply_to: Some(Seq::new(2)),
        },
        ClientEvent::Mark { convo_id, delivered_seq: Some(Seq::new(3)), read_seq: Some(Seq::new(2)) },
        ClientEvent::Typing { convo_id, active: true },
        ClientEvent::PresenceSet { status: OwnPresence::Away },
        ClientEvent::PresenceSubscribe { user_ids: user_ids.clone() },
        ClientEvent::PresenceUnsubscribe { user_ids },
        ClientEvent::Ping {},
    ]
}

fn server_events() -> Vec<ServerEvent> {
    let (convo_id, user_id, ts) = (convo(), user(2), moment());
    let news = [
        ConversationNews::Whole(Box::new(conversation())),
        ConversationNews::Whole(Box::new(bare_conversation())),
        ConversationNews::Left { id: convo_id, left: true },
        ConversationNews::Own { id: convo_id, settings: own_settings() },
        ConversationNews::Shared(shared_settings()),
    ];
    let mut events = vec![
        ServerEvent::Ready {
            user_id,
            device_id: device(),
            resume_token: "r".into(),
            position: "p".into(),
            heartbeat_seconds: 25,
            resumed: false,
        },
        ServerEvent::MessageAck { convo_id, client_seq: ClientSeq::new(7), server_seq: Seq::new(3), ts },
        ServerEvent::Gap { convo_id, from_seq: Seq::new(4), to_seq: Seq::new(9) },
        ServerEvent::Receipt {
            convo_id,
            user_id,
            delivered_seq: Seq::new(3),
            read_seq: Some(Seq::new(2)),
            ts,
        },
        ServerEvent::Typing { convo_id, user_id, active: false },
        ServerEvent::PresenceUpdate { user_id, status: Presence::Offline, last_seen: Some(ts) },
        ServerEvent::Pong { position: "p".into() },
        ServerEvent::Error {
            code: Code::RateLimited,
            detail: "slower".into(),
            convo_id: Some(convo_id),
            client_seq: Some(ClientSeq::new(7)),
            retry_after_ms: Some(250),
        },
    ];
    events.extend(
        entries().into_iter().map(|entry| ServerEvent::Message { entry, position: Some("p".into()) }),
    );
    events.extend(news.map(|conversation| ServerEvent::ConversationUpdate { conversation }));
    events
}

#[test]
fn every_frame_of_the_server_fits_its_schema() {
    let mut seen = BTreeSet::new();
    for event in server_events() {
        let written = serde_json::to_value(&event).unwrap();
        let name = written["type"].as_str().unwrap().to_owned();
        check(&schema_for_event(&name).expect("such an event"), &event);
        seen.insert(name);
    }
    assert_eq!(seen, SERVER.iter().map(|event| event.name.to_owned()).collect());
}

#[test]
fn every_frame_of_a_client_fits_its_schema() {
    let document = asyncapi("");
    let mut seen = BTreeSet::new();
    for event in client_events() {
        let name = serde_json::to_value(&event).unwrap()["type"].as_str().unwrap().to_owned();
        let reference = schemas::reference(&format!("Client{}", schemas::one_word(&name)));
        let schema = json!({
            "$schema": "http://json-schema.org/draft-07/schema#",
            "allOf": [{ "$ref": reference }],
            "components": document["components"],
        });
        check(&schema, &event);
        seen.insert(name);
    }
    assert_eq!(seen, CLIENT.iter().map(|event| event.name.to_owned()).collect());
}

#[test]
fn each_kind_of_news_of_a_conversation_fits_and_bites() {
    let components = openapi("")["components"].clone();
    let cases = components["schemas"]["ConversationNews"]["anyOf"].as_array().unwrap().clone();
    let [whole, left, own, shared] = <[Value; 4]>::try_from(cases).unwrap();
    check(&alone(&whole), &conversation());
    check(&alone(&whole), &bare_conversation());
    check(&alone(&left), &ConversationNews::Left { id: convo(), left: true });
    check(&alone(&own), &ConversationNews::Own { id: convo(), settings: own_settings() });
    check(&alone(&shared), &ConversationNews::Shared(shared_settings()));
}

#[test]
fn every_answer_fits_its_schema() {
    let session = Session {
        user: profile(),
        access_token: "a".into(),
        refresh_token: "r".into(),
        expires_at: moment(),
        device_id: device(),
    };
    check_answer("POST", "/api/users", 201, &session);
    check_answer("POST", "/api/sessions", 201, &session);
    check_answer("POST", "/api/sessions/refresh", 200, &session);
    let listed = Device {
        device_id: device(),
        name: "Ana's phone".into(),
        platform: "android".into(),
        created_at: moment(),
        last_seen_at: moment(),
        current: true,
    };
    check_answer("GET", "/api/sessions", 200, &page(vec![listed]));
    let other = User { privacy: None, ..profile() };
    check_answer("GET", "/api/users/me", 200, &UserAnswer { user: profile() });
    check_answer("PATCH", "/api/users/me", 200, &UserAnswer { user: profile() });
    check_answer("GET", "/api/users/x", 200, &UserAnswer { user: other.clone() });
    check_answer("GET", "/api/users?query=a", 200, &page(vec![other]));
    check_answer("GET", "/api/conversations", 200, &page(vec![conversation(), bare_conversation()]));
    let answer = ConversationAnswer { conversation: conversation() };
    for (method, path, status) in [
        ("POST", "/api/conversations", 201),
        ("POST", "/api/conversations", 200),
        ("GET", "/api/conversations/x", 200),
        ("PATCH", "/api/conversations/x", 200),
        ("POST", "/api/conversations/x/members", 200),
        ("PATCH", "/api/conversations/x/members/y", 200),
        ("PATCH", "/api/conversations/x/settings", 200),
    ] {
        check_answer(method, path, status, &answer);
    }
    for message in entries() {
        check_answer("POST", "/api/conversations/x/messages", 201, &MessageAnswer { message });
    }
    let history = HistoryPage { items: entries(), has_more: true };
    check_answer("GET", "/api/conversations/x/messages?before=7", 200, &history);
    let receipts =
        [Some(moment()), None].map(|at| MessageReceipt { user_id: user(2), delivered_at: at, seen_at: at });
    check_answer("GET", "/api/conversations/x/messages/3/receipts", 200, &page(receipts.into()));
    let found = entries().into_iter().take(2).map(|message| FoundMessage {
        message,
        snippet: Snippet { text: "…hi".into(), marks: vec![[1, 3]] },
    });
    check_answer("GET", "/api/search?q=hi", 200, &page(found.collect()));
    let gateway =
        Gateway { url: "https://chat1.example.org".into(), others: vec!["https://chat2.example.org".into()] };
    check_answer("GET", "/api/gateway", 200, &gateway);
    let events = EventsPage { events: server_events(), cursor: "c".into() };
    check_answer("GET", "/api/events", 200, &events);
}

#[test]
fn every_body_fits_its_schema() {
    let named = Some(DeviceInfo { name: "Ana's phone".into(), platform: "android".into() });
    let (username, password) = ("ana".to_owned(), "correct horse".to_owned());
    let register = Register {
        username: username.clone(),
        password: password.clone(),
        display_name: Some("Ana".into()),
        device: named.clone(),
    };
    check_body("post", "/api/users", &register);
    check_body("post", "/api/sessions", &Login { username, password, device: named });
    check_body("post", "/api/sessions/refresh", &Refresh { refresh_token: "r".into() });
    let privacy = PrivacyPatch { last_seen: Some(Audience::Nobody), read_receipts: Some(Audience::Everyone) };
    let patch = UserPatch { display_name: Some("A".into()), about: Some("b".into()), privacy: Some(privacy) };
    check_body("patch", "/api/users/me", &patch);
    check_body("patch", "/api/users/me", &UserPatch::default());
    let new = NewConversation {
        kind: ConversationType::Group,
        members: vec![user(2)],
        title: Some("Round table".into()),
        history: Some(HistoryPolicy::All),
    };
    check_body("post", "/api/conversations", &new);
    let patch = ConversationPatch {
        title: Some("Square table".into()),
        about: Some(String::new()),
        posting: Some(Posting::Admins),
        history: Some(HistoryPolicy::SinceJoined),
    };
    check_body("patch", "/api/conversations/{id}", &patch);
    check_body("post", "/api/conversations/{id}/members", &AddMembers { user_ids: vec![user(3)] });
    check_body("patch", "/api/conversations/{id}/members/{userId}", &RolePatch { role: Role::Admin });
    let settings = MemberSettingsPatch {
        muted: Some(true),
        muted_until: Some(moment()),
        pinned: Some(true),
        archived: Some(false),
    };
    check_body("patch", "/api/conversations/{id}/settings", &settings);
    let send = SendMessage {
        client_seq: ClientSeq::new(7),
        body: "hi".into(),
        reply_to: Some(Seq::new(2)),
        media_ids: vec!["m".into()],
    };
    check_body("post", "/api/conversations/{id}/messages", &send);
    let mark = Mark { delivered_seq: Some(Seq::new(3)), read_seq: Some(Seq::new(2)) };
    check_body("put", "/api/conversations/{id}/receipts", &mark);
}

#[test]
fn every_refusal_is_a_problem_document() {
    for code in Code::ALL {
        let problem = Problem { retry_after_ms: Some(250), ..Problem::new(code, "do this") };
        check_answer("POST", "/api/conversations/x/messages", code.status(), &problem);
    }
    check_answer("GET", "/api/ws", 426, &Problem::new(Code::Invalid, "ask for a WebSocket"));
}

#[test]
fn an_answer_that_is_not_described_has_no_schema() {
    assert_eq!(schema_for_answer("GET", "/api/users/me", 201), None);
    assert_eq!(schema_for_answer("GET", "/api/nothing", 200), None);
    assert_eq!(schema_for_answer("PUT", "/api/conversations/x/receipts", 204), None);
    assert_eq!(schema_for_event("connect"), None);
}
