//! What of others' watermarks a user may see.

use std::collections::HashSet;

use tertulia_protocol::entry::ConversationType;
use tertulia_protocol::rest::{Conversation, Member, MessageReceipt};
use tertulia_protocol::{ConvoId, UserId};

use crate::app::App;
use crate::messages::shows_read;
use crate::rest::problem::ApiError;

/// Who, among some users, does not show `reader` what he has read.
pub(crate) struct Mask {
    reader: UserId,
    reader_shows_read: bool,
    hiding: HashSet<UserId>,
}

impl Mask {
    /// The mask over `users` for `reader`: who hides his read receipts sees none of others.
    ///
    /// # Errors
    /// If their settings cannot be read.
    pub(crate) async fn new(app: &App, reader: UserId, users: &[UserId]) -> Result<Self, ApiError> {
        let reader_shows_read = shows_read(app, reader).await?;
        let hiding = if reader_shows_read { app.accounts.hiding_read(users).await? } else { HashSet::new() };
        Ok(Self { reader, reader_shows_read, hiding })
    }

    fn hides(&self, user: UserId) -> bool {
        user != self.reader && (!self.reader_shows_read || self.hiding.contains(&user))
    }

    /// Takes away what `reader` may not see of members.
    pub(crate) fn members(&self, members: &mut [Member]) {
        for member in members.iter_mut().filter(|member| self.hides(member.user_id)) {
            member.read_seq = None;
        }
    }

    /// Takes away what `reader` may not see of receipts.
    pub(crate) fn receipts(&self, receipts: &mut [MessageReceipt]) {
        for receipt in receipts.iter_mut().filter(|receipt| self.hides(receipt.user_id)) {
            receipt.seen_at = None;
        }
    }
}

/// A conversation as `reader` may see it.
///
/// # Errors
/// If the settings of its members cannot be read.
pub(crate) async fn masked(
    app: &App,
    reader: UserId,
    mut conversation: Conversation,
) -> Result<Conversation, ApiError> {
    if let Some(members) = &mut conversation.members {
        let users: Vec<UserId> = members.iter().map(|member| member.user_id).collect();
        Mask::new(app, reader, &users).await?.members(members);
    }
    Ok(conversation)
}

/// A conversation as news to `reader`: all of it, a direct one with its two members; `None` if he is not in it.
///
/// # Errors
/// If the store does not answer.
pub(crate) async fn whole(
    app: &App,
    reader: UserId,
    convo: ConvoId,
) -> Result<Option<Conversation>, ApiError> {
    let Some(mut conversation) = app.store.conversation(reader, convo).await? else { return Ok(None) };
    if conversation.kind == ConversationType::Direct {
        conversation.members = app.store.members(reader, convo, None, 2).await?.map(|page| page.items);
    }
    masked(app, reader, conversation).await.map(Some)
}
