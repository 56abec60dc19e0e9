//! Makes the conversations that a scenario wants, unless an earlier run has.

use futures_util::{StreamExt as _, stream};
use tertulia_protocol::ConvoId;
use tertulia_protocol::entry::ConversationType;
use tertulia_protocol::rest::{AddMembers, ConversationAnswer, HistoryPage, NewConversation};
use tertulia_protocol::rules::MEMBERS_PER_CALL_MAX;

use super::file::Made;
use super::{Api, Crowd};
use crate::error::Error;
use crate::progress::Progress;

/// Conversations that are made at once.
const AT_ONCE: usize = 8;
/// Between two looks at the tokens of those who make them.
const BATCH: usize = 1_000;

/// A conversation that a scenario needs.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// What it is for: the same name is the same conversation in a later run.
    pub(crate) name: String,
    /// Direct or group.
    pub(crate) kind: ConversationType,
    /// By their numbers; the first one makes it.
    pub(crate) members: Vec<usize>,
}

impl Crowd {
    /// The ids of these conversations, in their order.
    ///
    /// # Errors
    /// If one cannot be made. Those that were are in the file.
    pub(crate) async fn meet(
        &mut self,
        wanted: &[Wanted],
        progress: &Progress,
    ) -> Result<Vec<ConvoId>, Error> {
        let is_missing = |wanted: &&Wanted| !self.file.conversations.contains_key(&wanted.name);
        let missing: Vec<&Wanted> = wanted.iter().filter(is_missing).collect();
        for (done, batch) in missing.chunks(BATCH).enumerate() {
            self.sign_in(batch.iter().map(|wanted| wanted.members[0]), progress).await?;
            progress.begin("conversations", missing.len());
            progress.show(done * BATCH, "");
            let crowd = &*self;
            let making = stream::iter(batch.iter().copied())
                .map(|wanted| async move { Ok((wanted.name.clone(), crowd.make(wanted).await?)) })
                .buffer_unordered(AT_ONCE);
            let (made, outcome) = progress.collect(making).await;
            self.conversations_made += made.len();
            self.file.conversations.extend(made);
            self.save()?;
            outcome?;
        }
        Ok(wanted.iter().map(|wanted| self.file.conversations[&wanted.name].id).collect())
    }

    /// The number of the newest entry of a conversation, as one of its members sees it.
    ///
    /// # Errors
    /// If it cannot be had.
    pub(crate) async fn head(&self, member: usize, convo: ConvoId) -> Result<u64, Error> {
        let path = format!("/conversations/{convo}/messages?limit=1");
        let page: HistoryPage = self.api.get(&path, self.token(member)).await?;
        Ok(page.items.last().map_or(0, |entry| entry.seq.get()))
    }

    /// How many memberships there are in all conversations of the file.
    pub(crate) fn memberships(&self) -> usize {
        self.file.conversations.values().map(|made| made.members).sum()
    }

    async fn make(&self, wanted: &Wanted) -> Result<Made, Error> {
        let api: &Api = &self.api;
        let what = format!("make the conversation {}", wanted.name);
        let token = Some(self.token(wanted.members[0]));
        let mut others = wanted.members[1..].chunks(MEMBERS_PER_CALL_MAX);
        let ids = |numbers: &[usize]| numbers.iter().map(|&number| self.id(number)).collect::<Vec<_>>();
        let is_group = wanted.kind == ConversationType::Group;
        let body = NewConversation {
            kind: wanted.kind,
            members: others.next().map(ids).unwrap_or_default(),
            title: is_group.then(|| wanted.name.clone()),
            history: None,
        };
        let answer: ConversationAnswer = api.post("/conversations", token, &body).await?.done(&what)?;
        let id = answer.conversation.id;
        for more in others {
            let body = AddMembers { user_ids: ids(more) };
            let path = format!("/conversations/{id}/members");
            let _: ConversationAnswer = api.post(&path, token, &body).await?.done(&what)?;
        }
        Ok(Made { id, members: wanted.members.len() })
    }
}
