//! The rules: who may do what, and what comes of it.

use std::sync::Arc;

use tertulia_protocol::entry::{ConversationType, HistoryPolicy, Posting, Role};
use tertulia_protocol::rest::{MemberSettings, MemberSettingsPatch};
use tertulia_protocol::{ClientSeq, ConvoId, DeviceId, Entry, EntryKind, Seq, Timestamp, UserId};

use super::GROUP_MEMBERS_MAX;
use super::state::{Conversation, Membership};
use crate::log::{Intent, Outcome, Receipt, Refusal};

/// What is decided of an intent.
#[derive(Debug)]
pub enum Decision {
    /// It is let in: [`apply`](super::apply) it.
    Accept(Proposal),
    /// There is nothing to keep; this is the answer.
    Answer(Outcome),
    /// Answer this, and decide again with the intent that comes back.
    Ask(Question, Intent),
}

/// What an intent does once it is applied.
#[derive(Debug)]
pub enum Proposal {
    /// The next entry.
    Entry {
        /// The entry.
        entry: Entry,
        /// Of a message: the device that it came from.
        device: Option<DeviceId>,
    },
    /// A member's watermarks.
    Mark {
        /// The watermarks, after it.
        receipt: Receipt,
        /// How many messages there are up to `receipt.read`.
        read_no: u64,
    },
    /// A member's own settings.
    Own {
        /// Where.
        convo: ConvoId,
        /// Whose.
        user: UserId,
        /// All of them, after it.
        settings: MemberSettings,
    },
    /// Whether a member closes a direct conversation for sends.
    Block {
        /// Where.
        convo: ConvoId,
        /// Who.
        user: UserId,
        /// Whether he does.
        blocked: bool,
    },
}

/// What the conversation in memory does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// What is the highest number that this device has sent here? The answer goes to
    /// [`Conversation::learn_highest_sent`].
    HighestSent(DeviceId),
    /// Which message has this device sent under this number? The answer goes to [`Facts::sent`].
    Sent(DeviceId, ClientSeq),
    /// How many messages are there up to this entry? The answer goes to [`Facts::message_no`].
    MessageNo(Seq),
}

/// What was looked up for one intent.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The message in its present state, or that there is none.
    pub sent: Option<Option<Arc<Entry>>>,
    /// How many messages there are up to the entry that was asked for.
    pub message_no: Option<u64>,
}

/// Decides whether `intent` is let into its conversation (`None`: there is none yet).
///
/// Who is not in it learns nothing: every refusal but [`Refusal::NotFound`] is for members.
pub fn decide(convo: Option<&Conversation>, intent: Intent, now: Timestamp, facts: &Facts) -> Decision {
    let Some(convo) = convo else { return begin(intent, now) };
    let decided = match intent {
        Intent::Send { .. } => return send(convo, intent, now, facts),
        Intent::Mark { user, delivered, read, .. } => {
            return mark(convo, intent, (user, delivered, read), now, facts);
        }
        Intent::Create { by, kind, .. } => create_again(convo, by, kind),
        Intent::AddMembers { by, users, .. } => add_members(convo, by, users),
        Intent::RemoveMember { by, user, .. } => remove_member(convo, by, user),
        Intent::SetRole { by, user, role, .. } => set_role(convo, by, user, role),
        Intent::Rename { by, title, .. } => rename(convo, by, title),
        Intent::ChangeSettings { by, about, posting, history, .. } => {
            change_settings(convo, by, about, posting, history)
        }
        Intent::SetOwn { user, patch, .. } => set_own(convo, user, patch),
        Intent::SetBlock { by, blocked, .. } => set_block(convo, by, blocked),
    };
    match decided {
        Ok(Step::Entry { by, kind }) => {
            Decision::Accept(Proposal::Entry { entry: next_entry(convo, by, None, kind, now), device: None })
        }
        Ok(Step::Quiet(proposal)) => Decision::Accept(proposal),
        Ok(Step::Nothing) => Decision::Answer(Outcome::Unchanged),
        Err(refusal) => Decision::Answer(Outcome::Refused(refusal)),
    }
}

/// What a rule gives for what it lets in.
enum Step {
    /// A change that is an entry.
    Entry { by: UserId, kind: EntryKind },
    /// A change that is none.
    Quiet(Proposal),
    /// It is so already.
    Nothing,
}

fn next_entry(
    convo: &Conversation,
    by: UserId,
    client_seq: Option<ClientSeq>,
    kind: EntryKind,
    now: Timestamp,
) -> Entry {
    Entry {
        convo_id: convo.summary.id,
        seq: convo.summary.last_seq.next(),
        sender_id: by,
        client_seq,
        ts: not_before(convo, now),
        kind,
    }
}

/// A clock that was set back does not take a conversation back in time.
fn not_before(convo: &Conversation, now: Timestamp) -> Timestamp {
    now.max(convo.summary.last_ts)
}

fn begin(intent: Intent, now: Timestamp) -> Decision {
    let answer = match intent {
        Intent::Create { convo, by, kind, title, members, history } => {
            let members_max = match kind {
                ConversationType::Direct => 2,
                ConversationType::Group => GROUP_MEMBERS_MAX,
            };
            if members.len() <= members_max {
                let kind = EntryKind::Created { conversation_type: kind, title, user_ids: members, history };
                let (seq, client_seq) = (Seq::new(1), None);
                let entry = Entry { convo_id: convo, seq, sender_id: by, client_seq, ts: now, kind };
                return Decision::Accept(Proposal::Entry { entry, device: None });
            }
            Outcome::Refused(Refusal::TooManyMembers(members_max))
        }
        // A block of two who have not talked yet: whoever begins their conversation later asks for blocks first.
        Intent::SetBlock { .. } => Outcome::Unchanged,
        _ => Outcome::Refused(Refusal::NotFound),
    };
    Decision::Answer(answer)
}

/// The same pair again, or the same call again because its answer was lost, is no second conversation.
fn create_again(convo: &Conversation, by: UserId, kind: ConversationType) -> Result<Step, Refusal> {
    let his_own = match convo.summary.kind {
        ConversationType::Direct => convo.member(by).is_some(),
        ConversationType::Group => convo.member(by).is_some_and(|member| member.role == Role::Owner),
    };
    if his_own && convo.summary.kind == kind { Ok(Step::Nothing) } else { Err(Refusal::Exists) }
}

fn send(convo: &Conversation, intent: Intent, now: Timestamp, facts: &Facts) -> Decision {
    let Intent::Send { sender, device, client_seq, .. } = intent else {
        return Decision::Answer(Outcome::Refused(Refusal::NotFound));
    };
    let refused = |refusal| Decision::Answer(Outcome::Refused(refusal));
    let Some(member) = convo.member(sender) else { return refused(Refusal::NotFound) };
    // A retry comes before all other rules: what was taken stays taken, also when it is no longer allowed.
    match convo.highest_sent.get(&device) {
        None => return Decision::Ask(Question::HighestSent(device), intent),
        Some(&highest) if client_seq > highest => {}
        Some(_) => match &facts.sent {
            None => return Decision::Ask(Question::Sent(device, client_seq), intent),
            Some(Some(sent)) => return Decision::Answer(sent_before(sent, &intent, client_seq)),
            Some(None) => {}
        },
    }
    let Intent::Send { body, reply_to, .. } = intent else { return refused(Refusal::NotFound) };
    if convo.is_blocked() {
        return refused(Refusal::Blocked);
    }
    if convo.summary.posting == Posting::Admins && member.role < Role::Admin {
        return refused(Refusal::Role(OWNERS_AND_ADMINS));
    }
    if let Some(target) = reply_to
        && !(member.visible_from..=convo.summary.last_seq).contains(&target)
    {
        return refused(Refusal::NoSuchTarget(target));
    }
    let kind = EntryKind::Text { body, reply_to };
    let entry = next_entry(convo, sender, Some(client_seq), kind, now);
    Decision::Accept(Proposal::Entry { entry, device: Some(device) })
}

/// One number carries one content.
fn sent_before(sent: &Arc<Entry>, intent: &Intent, client_seq: ClientSeq) -> Outcome {
    let same = match (&sent.kind, intent) {
        (EntryKind::Text { body: first, reply_to: first_reply_to }, Intent::Send { body, reply_to, .. }) => {
            first == body && first_reply_to == reply_to
        }
        _ => false,
    };
    if same {
        Outcome::Duplicate(sent.clone())
    } else {
        Outcome::Refused(Refusal::ClientSeqTaken(client_seq))
    }
}

fn mark(
    convo: &Conversation,
    intent: Intent,
    (user, delivered, read): (UserId, Option<Seq>, Option<Seq>),
    now: Timestamp,
    facts: &Facts,
) -> Decision {
    let refused = |refusal| Decision::Answer(Outcome::Refused(refusal));
    let Some(member) = convo.member(user) else { return refused(Refusal::NotFound) };
    let head = convo.summary.last_seq;
    if let Some(beyond) = [delivered, read].into_iter().flatten().find(|&seq| seq > head) {
        return refused(Refusal::BeyondHead(beyond, head));
    }
    let read = read.unwrap_or_default().max(member.read);
    let delivered = delivered.unwrap_or_default().max(member.delivered).max(read);
    if (delivered, read) == (member.delivered, member.read) {
        return Decision::Answer(Outcome::Unchanged);
    }
    let known = if read == member.read { Some(member.read_no) } else { convo.message_no(read) };
    let Some(read_no) = known.or(facts.message_no) else {
        return Decision::Ask(Question::MessageNo(read), intent);
    };
    let ts = not_before(convo, now);
    let delivered_at = (delivered > member.delivered).then_some(ts);
    let receipt = Receipt { convo: convo.summary.id, user, delivered, read, ts, delivered_at };
    Decision::Accept(Proposal::Mark { receipt, read_no })
}

/// How a refusal names who may.
const OWNERS_AND_ADMINS: &str = "owners and admins";
const OWNERS: &str = "owners";

/// The one who asks, if he is a member of a group and has at least this role.
fn actor(convo: &Conversation, by: UserId, at_least: Role) -> Result<&Membership, Refusal> {
    let member = convo.member(by).ok_or(Refusal::NotFound)?;
    if convo.summary.kind == ConversationType::Direct {
        return Err(Refusal::Direct);
    }
    if member.role < at_least {
        return Err(Refusal::Role(if at_least == Role::Owner { OWNERS } else { OWNERS_AND_ADMINS }));
    }
    Ok(member)
}

fn add_members(convo: &Conversation, by: UserId, mut users: Vec<UserId>) -> Result<Step, Refusal> {
    actor(convo, by, Role::Admin)?;
    users.retain(|&user| convo.member(user).is_none());
    if users.is_empty() {
        return Ok(Step::Nothing);
    }
    if convo.members.len() + users.len() > GROUP_MEMBERS_MAX {
        return Err(Refusal::TooManyMembers(GROUP_MEMBERS_MAX));
    }
    Ok(Step::Entry { by, kind: EntryKind::MemberAdded { user_ids: users } })
}

/// Everybody may leave. An admin removes those below him; an owner removes anybody, other owners too,
/// for he could take their role first anyway.
fn remove_member(convo: &Conversation, by: UserId, user: UserId) -> Result<Step, Refusal> {
    if by == user {
        actor(convo, by, Role::Member)?;
    } else {
        let actor = actor(convo, by, Role::Admin)?;
        let target = convo.member(user).ok_or(Refusal::NoSuchMember)?;
        if actor.role < Role::Owner && target.role >= actor.role {
            return Err(Refusal::Role(OWNERS));
        }
    }
    Ok(Step::Entry { by, kind: EntryKind::MemberRemoved { user_ids: vec![user] } })
}

fn set_role(convo: &Conversation, by: UserId, user: UserId, role: Role) -> Result<Step, Refusal> {
    actor(convo, by, Role::Owner)?;
    let target = convo.member(user).ok_or(Refusal::NoSuchMember)?;
    if target.role == role {
        return Ok(Step::Nothing);
    }
    if target.role == Role::Owner && convo.owners() == 1 {
        return Err(Refusal::LastOwner);
    }
    Ok(Step::Entry { by, kind: EntryKind::RoleChanged { user_id: user, role } })
}

fn rename(convo: &Conversation, by: UserId, title: String) -> Result<Step, Refusal> {
    actor(convo, by, Role::Admin)?;
    if convo.summary.title.as_ref() == Some(&title) {
        return Ok(Step::Nothing);
    }
    Ok(Step::Entry { by, kind: EntryKind::Renamed { title } })
}

/// Only what is new goes into the entry.
fn change_settings(
    convo: &Conversation,
    by: UserId,
    about: Option<String>,
    posting: Option<Posting>,
    history: Option<HistoryPolicy>,
) -> Result<Step, Refusal> {
    actor(convo, by, Role::Admin)?;
    let about = about.filter(|about| *about != convo.summary.about);
    let posting = posting.filter(|posting| *posting != convo.summary.posting);
    let history = history.filter(|history| *history != convo.summary.history);
    if about.is_none() && posting.is_none() && history.is_none() {
        return Ok(Step::Nothing);
    }
    Ok(Step::Entry { by, kind: EntryKind::SettingsChanged { about, posting, history } })
}

fn set_own(convo: &Conversation, user: UserId, patch: MemberSettingsPatch) -> Result<Step, Refusal> {
    let member = convo.member(user).ok_or(Refusal::NotFound)?;
    let MemberSettingsPatch { muted, muted_until, pinned, archived } = patch;
    let mut settings = member.settings;
    match (muted, muted_until) {
        (Some(false), _) => (settings.muted, settings.muted_until) = (false, None),
        (_, Some(until)) => (settings.muted, settings.muted_until) = (true, Some(until)),
        // Without an end it is for ever, whatever end there was before.
        (Some(true), None) => (settings.muted, settings.muted_until) = (true, None),
        (None, None) => {}
    }
    settings.pinned = pinned.unwrap_or(settings.pinned);
    settings.archived = archived.unwrap_or(settings.archived);
    if settings == member.settings {
        return Ok(Step::Nothing);
    }
    Ok(Step::Quiet(Proposal::Own { convo: convo.summary.id, user, settings }))
}

fn set_block(convo: &Conversation, by: UserId, blocked: bool) -> Result<Step, Refusal> {
    let member = convo.member(by).ok_or(Refusal::NotFound)?;
    // In a group two who block each other both stay; it belongs to all its members.
    if convo.summary.kind == ConversationType::Group || member.blocks == blocked {
        return Ok(Step::Nothing);
    }
    Ok(Step::Quiet(Proposal::Block { convo: convo.summary.id, user: by, blocked }))
}
