//! Does what the state asks for: calls of the API, and commands to the client.

use anyhow::Context as _;
use tertulia_client::api::{Api, From};
use tertulia_client::client::Client;
use tertulia_protocol::UserId;
use tertulia_protocol::entry::ConversationType;
use tertulia_protocol::rest::{Conversation, ConversationPatch, NewConversation, SearchOrder};
use tertulia_protocol::rules::PAGE_MAX;

use super::app::{Done, Effect};

/// Entries in a page of history.
const HISTORY_PAGE: usize = 100;
/// Results that are asked for at once.
pub(super) const RESULTS_PAGE: usize = 45;

/// Whether an effect is for the client, which takes them in order, or a call of its own.
pub(super) const fn is_for_client(effect: &Effect) -> bool {
    matches!(effect, Effect::Send { .. } | Effect::Mark { .. } | Effect::Typing { .. } | Effect::Watch(_))
}

/// Tells the client.
pub(super) async fn tell(client: &Client, effect: Effect) -> Done {
    let told = match effect.clone() {
        Effect::Send { local, convo, body, reply_to } => {
            return match client.send(convo, body, reply_to).await {
                Ok(client_seq) => Done::Sent { local, convo, client_seq },
                Err(_) => Done::NotSent { local, convo },
            };
        }
        Effect::Mark { convo, delivered, read } => client.mark(convo, Some(delivered), read).await,
        Effect::Typing { convo, active } => client.typing(convo, active).await,
        Effect::Watch(users) => client.watch(users).await,
        _ => Ok(()),
    };
    match told {
        Ok(()) => Done::Well,
        Err(stopped) => Done::Failed { effect, why: stopped.to_string() },
    }
}

/// Makes a call.
pub(super) async fn call(api: &Api, effect: Effect) -> Done {
    match attempt(api, &effect).await {
        Ok(done) => done,
        Err(error) => Done::Failed { effect, why: error.to_string() },
    }
}

async fn attempt(api: &Api, effect: &Effect) -> anyhow::Result<Done> {
    let opened = |conversation| Done::Conversation { conversation: Box::new(conversation), open: true };
    let known = |conversation| Done::Conversation { conversation: Box::new(conversation), open: false };
    Ok(match effect {
        Effect::LoadInbox(cursor) => Done::Inbox(api.inbox(cursor.as_deref(), PAGE_MAX).await?),
        Effect::LoadHistory { convo, before } => {
            let from = before.map_or(From::Newest, From::Before);
            Done::History {
                convo: *convo,
                before: *before,
                page: api.history(*convo, from, HISTORY_PAGE).await?,
            }
        }
        Effect::LoadConversation(convo) => known(api.conversation(*convo).await?),
        Effect::LoadUser(id) => Done::User(api.user(*id).await?),
        Effect::OpenDirect(user) => opened(direct(api, user).await?),
        Effect::OpenGroup { title, users } => opened(group(api, title, users).await?),
        Effect::Add { convo, users } => {
            let members = find_all(api, users).await?;
            known(api.add_members(*convo, members).await?)
        }
        Effect::Remove { convo, user } => {
            api.remove_member(*convo, find(api, user).await?).await?;
            Done::Well
        }
        Effect::Leave(convo) => {
            api.leave(*convo).await?;
            Done::Left(*convo)
        }
        Effect::Rename { convo, title } => {
            let patch = ConversationPatch { title: Some(title.clone()), ..ConversationPatch::default() };
            known(api.update_conversation(*convo, &patch).await?)
        }
        Effect::Search { q, cursor } => {
            let page = api.search(q, SearchOrder::Newest, cursor.as_deref(), RESULTS_PAGE).await?;
            Done::Found { q: q.clone(), page }
        }
        Effect::Send { .. } | Effect::Mark { .. } | Effect::Typing { .. } | Effect::Watch(_) => Done::Well,
    })
}

/// The direct conversation with a user, new or not.
pub(super) async fn direct(api: &Api, user: &str) -> anyhow::Result<Conversation> {
    let members = vec![find(api, user).await?];
    let new = NewConversation { kind: ConversationType::Direct, members, title: None, history: None };
    // Members are in it: two at most.
    let conversation = api.create_conversation(&new).await?;
    Ok(api.conversation(conversation.id).await?)
}

/// A new group.
pub(super) async fn group(api: &Api, title: &str, users: &[String]) -> anyhow::Result<Conversation> {
    let members = find_all(api, users).await?;
    let title = Some(title.to_owned());
    let new = NewConversation { kind: ConversationType::Group, members, title, history: None };
    let conversation = api.create_conversation(&new).await?;
    Ok(api.conversation(conversation.id).await?)
}

async fn find_all(api: &Api, users: &[String]) -> anyhow::Result<Vec<UserId>> {
    let mut found = Vec::with_capacity(users.len());
    for user in users {
        found.push(find(api, user).await?);
    }
    Ok(found)
}

/// A user by his username.
async fn find(api: &Api, username: &str) -> anyhow::Result<UserId> {
    let users = api.users(username).await?;
    let user = users.iter().find(|user| user.username == username);
    user.map(|user| user.id).with_context(|| format!("there is no user {username}"))
}
