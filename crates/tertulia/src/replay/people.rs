//! Accounts and groups: made once, however often the server has to be asked.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use std::time::Duration;
use tertulia_client::api::Api;
use tertulia_client::backoff::{Backoff, retry};
use tertulia_client::error::Error;
use tertulia_client::server::Server;
use tertulia_client::session::{Password, Session};
use tertulia_protocol::entry::{ConversationType, HistoryPolicy};
use tertulia_protocol::rest::{Conversation, DeviceInfo, NewConversation, Register};
use tertulia_protocol::rules::{MEMBERS_PER_CALL_MAX, PAGE_MAX};
use tertulia_protocol::{ConvoId, UserId};

use super::plan::{Person, Script};
use super::view::Expected;
use super::watch::Watch;

/// Registrations under way at once: hashing passwords is the server's slowest work, on few threads.
const REGISTRATIONS_AT_ONCE: usize = 8;
/// Waits before a call is repeated, where the server names none.
pub(super) const BACKOFF: Backoff = Backoff { base: Duration::from_millis(200), cap: Duration::from_secs(3) };

/// Registers everybody; the sessions come in the order of the people.
///
/// # Errors
/// If a username is taken, or the server refuses for good.
pub(super) async fn register(
    watch: &Watch,
    server: &Server,
    people: &[Person],
    password: &str,
) -> anyhow::Result<Vec<Session>> {
    stream::iter(people)
        .map(async |person| {
            let session = account(watch, server, person, password).await?;
            watch.advance();
            Ok(session)
        })
        .buffered(REGISTRATIONS_AT_ONCE)
        .try_collect()
        .await
}

/// Registers one person. A name that is taken may be his own already, when an answer was lost on its way.
async fn account(watch: &Watch, server: &Server, person: &Person, password: &str) -> anyhow::Result<Session> {
    let Person { username, display_name } = person;
    let device = DeviceInfo { name: "replay".into(), platform: "cli".into() };
    let new = Register {
        username: username.clone(),
        password: password.into(),
        display_name: Some(display_name.clone()),
        device: Some(device.clone()),
    };
    let register_or_login = async || match server.register(&new).await {
        Err(error) if error.is_conflict() => server.login(username, password, device.clone()).await,
        outcome => outcome,
    };
    let on_wait = |error: &Error, wait| watch.retries("registering", error, wait);
    let tokens = retry(BACKOFF, on_wait, register_or_login).await.map_err(|error| {
        if error.is_unauthenticated() {
            anyhow!("the username {username} is taken on this server: choose another --tag")
        } else {
            anyhow!(error).context(format!("cannot register {username}"))
        }
    })?;
    let login = Password { username: username.clone(), password: password.into(), device };
    Ok(Session::new(server.clone(), tokens, Some(login)))
}

/// Makes the group of a script: its first speaker begins it with as many as one call takes, and adds the rest.
///
/// # Errors
/// If the server refuses for good.
pub(super) async fn make_group(
    watch: &Watch,
    owner: &Api,
    script: Script,
    users: Arc<[UserId]>,
) -> anyhow::Result<Expected> {
    let members: Vec<UserId> = script.members.iter().map(|&person| users[person]).collect();
    let (begin, others) = members.split_at(members.len().min(1 + MEMBERS_PER_CALL_MAX));
    let new = NewConversation {
        kind: ConversationType::Group,
        members: begin.to_vec(),
        title: Some(script.title.clone()),
        // Everybody sees all of it, whichever call has brought him in.
        history: Some(HistoryPolicy::All),
    };
    let on_wait = |error: &Error, wait| watch.retries("making a group", error, wait);
    let make = async || match find(owner, &script.title).await? {
        Some(made_before) => Ok(made_before),
        None => owner.create_conversation(&new).await.map(|conversation| conversation.id),
    };
    let convo =
        retry(BACKOFF, on_wait, make).await.with_context(|| format!("cannot make {}", script.title))?;
    let mut opening = vec![begin.to_vec()];
    for added in others.chunks(MEMBERS_PER_CALL_MAX) {
        // Adding who is a member already makes no entry: safe to repeat.
        retry(BACKOFF, on_wait, || owner.add_members(convo, added.to_vec()))
            .await
            .with_context(|| format!("cannot add members to {}", script.title))?;
        opening.push(added.to_vec());
    }
    watch.advance();
    Ok(Expected::new(convo, script, users, opening))
}

/// The group of that title in somebody's inbox.
async fn find(api: &Api, title: &str) -> Result<Option<ConvoId>, Error> {
    let has_title = |conversation: &Conversation| conversation.title.as_deref() == Some(title);
    Ok(inbox(api).await?.into_iter().find(has_title).map(|conversation| conversation.id))
}

/// All conversations of somebody; those of a replay are few.
pub(super) async fn inbox(api: &Api) -> Result<Vec<Conversation>, Error> {
    let mut conversations = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = api.inbox(cursor.as_deref(), PAGE_MAX).await?;
        conversations.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(conversations);
        }
    }
}
