//! The REST calls of the contract, typed.

use std::time::Duration;

use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tertulia_history::Recorder;
use tertulia_history::event::Kind;
use tertulia_protocol::entry::Role;
use tertulia_protocol::rest::{
    AddMembers, Conversation, ConversationAnswer, ConversationPatch, Device, EventsPage, FoundMessage,
    HistoryPage, Mark, MemberSettingsPatch, MessageAnswer, MessageReceipt, NewConversation, Page, RolePatch,
    SearchOrder, SendMessage, User, UserAnswer, UserPatch,
};
use tertulia_protocol::{ConvoId, DeviceId, Entry, Seq, UserId};

use crate::error::Error;
use crate::record::{self, Calls};
use crate::server::Server;
use crate::session::Session;

/// The longest wait of a long-poll: less than a call may take.
const EVENTS_WAIT_MAX: Duration = Duration::from_secs(20);
/// No body.
const NONE: Option<&()> = None;

/// The calls, made in the name of a [`Session`]; clones share it.
///
/// Each is tried once; a second time only when the access token was refused and a fresh one could be had, for
/// then nothing was carried out. Calls that are safe to repeat are repeated with
/// [`retry`](crate::backoff::retry). All of them fail with [`Error`].
#[derive(Debug, Clone)]
pub struct Api {
    session: Session,
    record: Option<Calls>,
}

/// Where a page of history begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The newest page.
    Newest,
    /// What follows an entry; `Seq` 0 is the beginning.
    After(Seq),
    /// What precedes an entry.
    Before(Seq),
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Query<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    members_cursor: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Seq>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Seq>,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    q: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<SearchOrder>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait: Option<u64>,
}

#[expect(clippy::missing_errors_doc, reason = "said once, at the type")]
impl Api {
    /// The calls of a session.
    pub fn new(session: Session) -> Self {
        Self { session, record: None }
    }

    /// The calls of a session, written down with what they gave: messages sent, history and inbox read, marks
    /// and memberships.
    pub fn recorded(session: Session, recorder: Recorder) -> Self {
        Self { session, record: Some(Calls::new(recorder)) }
    }

    /// The session that they are made in.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Oneself.
    pub async fn me(&self) -> Result<User, Error> {
        let answer: UserAnswer = self.get(&["users", "me"], Query::default()).await?;
        Ok(answer.user)
    }

    /// Changes oneself; what is absent stays.
    pub async fn update_me(&self, patch: &UserPatch) -> Result<User, Error> {
        let answer: UserAnswer = self.call(Method::PATCH, &["users", "me"], &(), Some(patch)).await?;
        Ok(answer.user)
    }

    /// A user by his id.
    pub async fn user(&self, id: UserId) -> Result<User, Error> {
        let answer: UserAnswer = self.get(&["users", &id.to_string()], Query::default()).await?;
        Ok(answer.user)
    }

    /// Users whose username or display name begins with `prefix`; one page.
    pub async fn users(&self, prefix: &str) -> Result<Vec<User>, Error> {
        let page: Page<User> =
            self.get(&["users"], Query { query: Some(prefix), ..Query::default() }).await?;
        Ok(page.items)
    }

    /// Blocks a user: neither can start or continue a direct conversation with the other.
    pub async fn block(&self, id: UserId) -> Result<(), Error> {
        self.call(Method::PUT, &["users", &id.to_string(), "block"], &(), NONE).await
    }

    /// Takes the block back.
    pub async fn unblock(&self, id: UserId) -> Result<(), Error> {
        self.call(Method::DELETE, &["users", &id.to_string(), "block"], &(), NONE).await
    }

    /// Starts a conversation. A direct one is idempotent; of a group, after an uncertain error, look into the
    /// inbox before trying again.
    pub async fn create_conversation(&self, new: &NewConversation) -> Result<Conversation, Error> {
        self.conversation_answer(Method::POST, &["conversations"], Some(new)).await
    }

    /// A page of the inbox, newest activity first; at most 200 conversations.
    pub async fn inbox(&self, cursor: Option<&str>, limit: usize) -> Result<Page<Conversation>, Error> {
        let call = Calls::begin(self.record.as_ref(), &self.session, record::read_inbox);
        let query = Query { cursor, limit: Some(limit), ..Query::default() };
        let outcome = self.get(&["conversations"], query).await;
        call.end(&outcome, record::inbox);
        outcome
    }

    /// A conversation with its first page of members.
    pub async fn conversation(&self, id: ConvoId) -> Result<Conversation, Error> {
        self.conversation_answer(Method::GET, &["conversations", &id.to_string()], NONE).await
    }

    /// A further page of members: `cursor` is `membersNextCursor` of the one before.
    pub async fn conversation_members(&self, id: ConvoId, cursor: &str) -> Result<Conversation, Error> {
        let query = Query { members_cursor: Some(cursor), ..Query::default() };
        let answer: ConversationAnswer = self.get(&["conversations", &id.to_string()], query).await?;
        Ok(answer.conversation)
    }

    /// Changes what all members share of a group.
    pub async fn update_conversation(
        &self,
        id: ConvoId,
        patch: &ConversationPatch,
    ) -> Result<Conversation, Error> {
        self.conversation_answer(Method::PATCH, &["conversations", &id.to_string()], Some(patch)).await
    }

    /// Adds members: 1 to 1,000 users.
    pub async fn add_members(&self, id: ConvoId, user_ids: Vec<UserId>) -> Result<Conversation, Error> {
        let call = Calls::begin(self.record.as_ref(), &self.session, |op, device| {
            record::members(op, device, id, Kind::MemberAdded, user_ids.clone())
        });
        let body = AddMembers { user_ids };
        let path = ["conversations", &id.to_string(), "members"];
        let outcome = self.conversation_answer(Method::POST, &path, Some(&body)).await;
        call.done(&outcome);
        outcome
    }

    /// Removes a member.
    pub async fn remove_member(&self, id: ConvoId, user: UserId) -> Result<(), Error> {
        let call = Calls::begin(self.record.as_ref(), &self.session, |op, device| {
            record::members(op, device, id, Kind::MemberRemoved, vec![user])
        });
        let path = ["conversations", &id.to_string(), "members", &user.to_string()];
        let outcome = self.call::<Ignored>(Method::DELETE, &path, &(), NONE).await.map(drop);
        call.done(&outcome);
        outcome
    }

    /// Leaves a group.
    pub async fn leave(&self, id: ConvoId) -> Result<(), Error> {
        self.remove_member(id, self.session.user_id()).await
    }

    /// Gives a member another role.
    pub async fn set_role(&self, id: ConvoId, user: UserId, role: Role) -> Result<Conversation, Error> {
        let path = ["conversations", &id.to_string(), "members", &user.to_string()];
        self.conversation_answer(Method::PATCH, &path, Some(&RolePatch { role })).await
    }

    /// Changes one's own settings of a conversation.
    pub async fn update_settings(&self, id: ConvoId, patch: &MemberSettingsPatch) -> Result<(), Error> {
        let path = ["conversations", &id.to_string(), "settings"];
        self.call::<Ignored>(Method::PATCH, &path, &(), Some(patch)).await.map(drop)
    }

    /// Sends a message; the same `clientSeq` again is the same message, so this is safe to repeat.
    pub async fn send(&self, id: ConvoId, message: &SendMessage) -> Result<Entry, Error> {
        if let Some(record) = &self.record {
            record.send(&self.session, id, message);
        }
        let path = ["conversations", &id.to_string(), "messages"];
        let outcome = self.call(Method::POST, &path, &(), Some(message)).await;
        let outcome = outcome.map(|answer: MessageAnswer| answer.message);
        if let Some(record) = &self.record {
            record.sent(&self.session, id, message, &outcome);
        }
        outcome
    }

    /// A page of history, ascending; at most 200 entries.
    pub async fn history(&self, id: ConvoId, from: From, limit: usize) -> Result<HistoryPage, Error> {
        let (after, before) = match from {
            From::Newest => (None, None),
            From::After(seq) => (Some(seq), None),
            From::Before(seq) => (None, Some(seq)),
        };
        let call = Calls::begin(self.record.as_ref(), &self.session, |op, device| {
            record::read(op, device, id, from, limit)
        });
        let query = Query { after, before, limit: Some(limit), ..Query::default() };
        let outcome = self.get(&["conversations", &id.to_string(), "messages"], query).await;
        call.end(&outcome, record::page);
        outcome
    }

    /// Messages with what `q` names (see the service's description of it), a page of at most 200.
    pub async fn search(
        &self,
        q: &str,
        order: SearchOrder,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<FoundMessage>, Error> {
        let query = Query { q: Some(q), order: Some(order), cursor, limit: Some(limit), ..Query::default() };
        self.get(&["search"], query).await
    }

    /// A long-poll: what has happened since `cursor`, or what comes first within `wait` (at most 20 s, which a
    /// call may take). Without a cursor it answers at once with one. The same cursor again gives the same events.
    pub async fn events(&self, cursor: Option<&str>, wait: Duration) -> Result<EventsPage, Error> {
        let wait = wait.min(EVENTS_WAIT_MAX).as_secs();
        self.get(&["events"], Query { cursor, wait: Some(wait), ..Query::default() }).await
    }

    /// Moves one's own watermarks forward.
    pub async fn mark(&self, id: ConvoId, mark: &Mark) -> Result<(), Error> {
        let call = Calls::begin(self.record.as_ref(), &self.session, |op, device| {
            record::mark(op, device, id, mark.delivered_seq, mark.read_seq)
        });
        let path = ["conversations", &id.to_string(), "receipts"];
        let outcome = self.call(Method::PUT, &path, &(), Some(mark)).await;
        call.done(&outcome);
        outcome
    }

    /// Who has received and read a message: a page of at most 200 members.
    pub async fn message_receipts(
        &self,
        id: ConvoId,
        seq: Seq,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<MessageReceipt>, Error> {
        let path = ["conversations", &id.to_string(), "messages", &seq.to_string(), "receipts"];
        self.get(&path, Query { cursor, limit: Some(limit), ..Query::default() }).await
    }

    /// The devices that are logged in.
    pub async fn devices(&self) -> Result<Vec<Device>, Error> {
        let page: Page<Device> = self.get(&["sessions"], Query::default()).await?;
        Ok(page.items)
    }

    /// Logs a device out.
    pub async fn revoke(&self, device: DeviceId) -> Result<(), Error> {
        self.call(Method::DELETE, &["sessions", &device.to_string()], &(), NONE).await
    }

    /// Logs this device out.
    pub async fn log_out(&self) -> Result<(), Error> {
        self.call(Method::DELETE, &["sessions", "current"], &(), NONE).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &[&str], query: Query<'_>) -> Result<T, Error> {
        self.call(Method::GET, path, &query, NONE).await
    }

    async fn conversation_answer(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<Conversation, Error> {
        let answer: ConversationAnswer = self.call(method, path, &(), body).await?;
        Ok(answer.conversation)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &(impl Serialize + Sync),
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<T, Error> {
        let token = self.session.access_token().await?;
        match self.call_with(&token, &method, path, query, body).await {
            Err(error) if error.is_unauthenticated() => {
                let token = self.session.renew(&token).await?;
                self.call_with(&token, &method, path, query, body).await
            }
            // What may be done twice is asked again: the node may have gone in between.
            Err(Error::Unreachable(_)) if method.is_idempotent() && method != Method::DELETE => {
                self.call_with(&token, &method, path, query, body).await
            }
            outcome => outcome,
        }
    }

    async fn call_with<T: DeserializeOwned>(
        &self,
        token: &str,
        method: &Method,
        path: &[&str],
        query: &(impl Serialize + Sync),
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<T, Error> {
        let call =
            |server: Server| async move { server.call_as(token, method.clone(), path, query, body).await };
        self.session.on_some_node(call).await
    }
}

/// An answer whose body, if there is one, does not matter.
#[derive(serde::Deserialize)]
#[serde(from = "Option<serde::de::IgnoredAny>")]
struct Ignored;

impl std::convert::From<Option<serde::de::IgnoredAny>> for Ignored {
    fn from(_: Option<serde::de::IgnoredAny>) -> Self {
        Self
    }
}
