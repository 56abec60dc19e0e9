//! The calls that a set-up makes, answered as a server does; whoever asks is who he says he is.

use std::time::Duration;

use serde::de::DeserializeOwned;
use tertulia_protocol::entry::{ConversationType, HistoryPolicy, Posting, Role};
use tertulia_protocol::rest::{
    AddMembers, Conversation, ConversationAnswer, Login, MemberSettings, NewConversation, Refresh, Register,
    Session, User,
};
use tertulia_protocol::{Code, ConvoId, DeviceId, Seq, Timestamp, UserId};

use super::http::{Answer, Request};
use super::registry::Registry;

/// Longer than any run.
const TOKEN_LASTS: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const TOKEN: &str = "floor-";

/// Whose token it is.
pub(super) fn user_of_token(token: &str) -> Option<usize> {
    token.strip_prefix(TOKEN)?.parse().ok()
}

/// Answers a call.
pub(super) fn call(registry: &mut Registry, request: &Request<'_>, now: Timestamp) -> Answer {
    let (path, body) = (request.path.split('?').next().unwrap_or_default(), request.body);
    let caller = request.token.and_then(user_of_token).filter(|&user| user < registry.users.len());
    let answer = match (request.method, path) {
        ("GET", "/metrics") => Ok(Answer::text(format!(
            "tertulia_floor_build_info{{version=\"{} (floor)\"}} 1\n",
            env!("CARGO_PKG_VERSION")
        ))),
        ("GET", "/healthz" | "/readyz") => Ok(Answer::text("ok\n")),
        ("POST", "/api/users") => parse::<Register>(body).and_then(|register| {
            let (user, is_new) = registry.user(&register.username, now);
            is_new
                .then(|| session(registry, user, now))
                .ok_or_else(|| Answer::problem(Code::Conflict, "somebody has this name"))
        }),
        ("POST", "/api/sessions") => parse::<Login>(body).map(|login| {
            let (user, _) = registry.user(&login.username, now);
            session(registry, user, now)
        }),
        ("POST", "/api/sessions/refresh") => parse::<Refresh>(body).and_then(|refresh| {
            let user = user_of_token(&refresh.refresh_token).filter(|&user| user < registry.users.len());
            let unknown = || Answer::problem(Code::Unauthenticated, "this session is not known");
            user.map(|user| session(registry, user, now)).ok_or_else(unknown)
        }),
        ("POST", path) => match caller {
            None => Err(Answer::problem(Code::Unauthenticated, "this session is not known")),
            Some(caller) => match path.strip_prefix("/api/conversations") {
                Some("") => parse(body).and_then(|new| converse(registry, caller, new, now)),
                Some(rest) => parse(body).and_then(|more| add(registry, rest, &more, now)),
                None => Err(unknown_call()),
            },
        },
        _ => Err(unknown_call()),
    };
    answer.unwrap_or_else(|refusal| refusal)
}

fn unknown_call() -> Answer {
    Answer::problem(Code::NotFound, "the floor does not know this call")
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Answer> {
    serde_json::from_slice(body).map_err(|error| Answer::problem(Code::Invalid, &error.to_string()))
}

fn session(registry: &Registry, number: usize, now: Timestamp) -> Answer {
    let user = &registry.users[number];
    let token = format!("{TOKEN}{number}");
    Answer::json(
        201,
        &Session {
            user: User {
                id: user.id,
                username: user.name.clone(),
                display_name: user.name.clone(),
                about: String::new(),
                created_at: user.since,
                privacy: None,
            },
            access_token: token.clone(),
            refresh_token: token,
            expires_at: now.plus(TOKEN_LASTS),
            device_id: DeviceId::from_bytes(*user.id.as_bytes()),
        },
    )
}

fn converse(
    registry: &mut Registry,
    caller: usize,
    new: NewConversation,
    now: Timestamp,
) -> Result<Answer, Answer> {
    let mut members = vec![caller];
    members.extend(numbers(registry, &new.members)?);
    let (convo, is_new) = registry.converse(new.kind, new.title, &members, now);
    Ok(conversation(registry, convo, if is_new { 201 } else { 200 }, now))
}

fn add(registry: &mut Registry, rest: &str, more: &AddMembers, now: Timestamp) -> Result<Answer, Answer> {
    let id = rest.strip_prefix('/').and_then(|rest| rest.strip_suffix("/members"));
    let id = id.and_then(|id| id.parse::<ConvoId>().ok());
    let convo = id.and_then(|id| registry.convo_of(id)).ok_or_else(unknown_call)?;
    let members = numbers(registry, &more.user_ids)?;
    registry.join(convo, &members);
    Ok(conversation(registry, convo, 200, now))
}

fn numbers(registry: &Registry, ids: &[UserId]) -> Result<Vec<usize>, Answer> {
    let numbers = ids.iter().map(|&id| registry.user_of(id)).collect::<Option<_>>();
    numbers.ok_or_else(|| Answer::problem(Code::NotFound, "a user is not known"))
}

fn conversation(registry: &Registry, number: usize, status: u16, now: Timestamp) -> Answer {
    let convo = &registry.convos[number];
    let conversation = Conversation {
        id: convo.id,
        kind: convo.kind,
        title: convo.title.clone().filter(|_| convo.kind == ConversationType::Group),
        about: String::new(),
        posting: Posting::All,
        history: HistoryPolicy::SinceJoined,
        created_at: convo.since,
        updated_at: now,
        last_seq: Seq::new(convo.next - 1),
        last_message: None,
        visible_from_seq: Seq::new(1),
        delivered_seq: Seq::new(0),
        read_seq: Seq::new(0),
        unread_count: 0,
        role: Role::Owner,
        member_count: convo.members.len() as u64,
        settings: MemberSettings::default(),
        members: None,
        members_next_cursor: None,
    };
    Answer::json(status, &ConversationAnswer { conversation })
}
