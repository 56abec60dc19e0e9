//! What is rare in a batch and not written by `append_1`: conversations that begin, who comes and goes, roles, settings.
//!
//! It goes into the same transaction, which holds the locks.

use std::collections::BTreeMap;

use tertulia_domain::conversation::{Effect, Record};
use tertulia_protocol::{EntryKind, Seq, Timestamp, UserId};

use super::group::{Cached, Group};
use crate::codes::Code as _;
use crate::postgres::connect::Session;
use crate::postgres::error::Failure;
use crate::postgres::rows::seq;
use crate::postgres::types::{Id, integer};

/// Before `append_1`: it finds the row at version 0.
const BEGIN_CONVERSATIONS: &str = "INSERT INTO conversations (id, kind, title, history, created_at, last_ts)
    SELECT b.id, b.kind, b.title, b.history, b.created_at, b.created_at
    FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::smallint[], $5::bigint[])
        AS b(id, kind, title, history, created_at) ORDER BY b.id";

const SHARE: &str = "UPDATE conversations c SET title = s.title, about = s.about, posting = s.posting,
        history = s.history, shared_commit = pg_current_xact_id()::text::bigint + $6
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::smallint[], $5::smallint[])
        AS s(id, title, about, posting, history)
    WHERE c.id = s.id";

/// Whoever was here before starts anew: nothing of the old row stays.
const JOIN: &str = "INSERT INTO participants (convo, user_id, role, joined_no, joined_seq, joined_at, joined_commit,
        visible_from, delivered_seq, read_seq, read_no, marked_at, marked_commit, delivered_at, delivered_commit, muted,
        muted_until, pinned, archived, own_commit, blocks, left_seq, left_commit)
    SELECT j.convo, j.user_id, j.role, j.joined_no, j.joined_seq, j.joined_at, n.commit, j.visible_from, j.delivered,
        j.read, j.read_no, j.marked_at, CASE WHEN j.is_marked THEN n.commit ELSE 0 END, j.marked_at,
        CASE WHEN j.is_marked AND j.delivered > j.joined_seq THEN n.commit ELSE 0 END, j.muted, j.muted_until, j.pinned,
        j.archived, CASE WHEN j.is_own THEN n.commit ELSE 0 END, j.blocks, NULL, NULL
    FROM unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
        $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::boolean[], $13::boolean[], $14::bigint[],
        $15::boolean[], $16::boolean[], $17::boolean[], $18::boolean[])
        AS j(convo, user_id, role, joined_no, joined_seq, joined_at, visible_from, delivered, read, read_no,
            marked_at, is_marked, muted, muted_until, pinned, archived, is_own, blocks),
        (SELECT pg_current_xact_id()::text::bigint + $19) AS n(commit)
    ON CONFLICT (convo, user_id) DO UPDATE SET role = excluded.role, joined_no = excluded.joined_no,
        joined_seq = excluded.joined_seq, joined_at = excluded.joined_at, joined_commit = excluded.joined_commit,
        visible_from = excluded.visible_from, delivered_seq = excluded.delivered_seq, read_seq = excluded.read_seq,
        read_no = excluded.read_no, marked_at = excluded.marked_at, marked_commit = excluded.marked_commit,
        delivered_at = excluded.delivered_at, delivered_commit = excluded.delivered_commit,
        muted = excluded.muted, muted_until = excluded.muted_until, pinned = excluded.pinned,
        archived = excluded.archived, own_commit = excluded.own_commit, blocks = excluded.blocks,
        left_seq = NULL, left_commit = NULL";

/// What is null stays as it was.
const CHANGE: &str = "UPDATE participants p SET
        role = coalesce(u.role, p.role), blocks = coalesce(u.blocks, p.blocks),
        muted = coalesce(u.muted, p.muted), pinned = coalesce(u.pinned, p.pinned),
        archived = coalesce(u.archived, p.archived),
        muted_until = CASE WHEN u.muted IS NULL THEN p.muted_until ELSE u.muted_until END,
        own_commit = CASE WHEN u.muted IS NULL THEN p.own_commit ELSE n.commit END,
        left_seq = u.left_seq, left_commit = CASE WHEN u.left_seq IS NULL THEN NULL ELSE n.commit END
    FROM unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::boolean[], $5::boolean[], $6::bigint[], $7::boolean[],
        $8::boolean[], $9::bigint[])
        AS u(convo, user_id, role, blocks, muted, muted_until, pinned, archived, left_seq),
        (SELECT pg_current_xact_id()::text::bigint + $10) AS n(commit)
    WHERE p.convo = u.convo AND p.user_id = u.user_id AND p.left_commit IS NULL";

pub(super) const STATEMENTS: [&str; 4] = [BEGIN_CONVERSATIONS, SHARE, JOIN, CHANGE];

/// The arrays of these statements.
#[derive(Default)]
pub(super) struct Rare {
    begun: Begun,
    shared: Shared,
    joined: Joined,
    changed: Changed,
}

#[derive(Default)]
struct Begun {
    id: Vec<Id>,
    kind: Vec<i16>,
    title: Vec<Option<String>>,
    history: Vec<i16>,
    created_at: Vec<i64>,
}

#[derive(Default)]
struct Shared {
    id: Vec<Id>,
    title: Vec<Option<String>>,
    about: Vec<String>,
    posting: Vec<i16>,
    history: Vec<i16>,
}

#[derive(Default)]
struct Joined {
    convo: Vec<Id>,
    user: Vec<Id>,
    role: Vec<i16>,
    joined_no: Vec<i64>,
    joined_seq: Vec<i64>,
    joined_at: Vec<i64>,
    visible_from: Vec<i64>,
    delivered: Vec<i64>,
    read: Vec<i64>,
    read_no: Vec<i64>,
    marked_at: Vec<i64>,
    is_marked: Vec<bool>,
    muted: Vec<bool>,
    muted_until: Vec<Option<i64>>,
    pinned: Vec<bool>,
    archived: Vec<bool>,
    is_own: Vec<bool>,
    blocks: Vec<bool>,
}

#[derive(Default)]
struct Changed {
    convo: Vec<Id>,
    user: Vec<Id>,
    role: Vec<Option<i16>>,
    blocks: Vec<Option<bool>>,
    muted: Vec<Option<bool>>,
    muted_until: Vec<Option<i64>>,
    pinned: Vec<Option<bool>>,
    archived: Vec<Option<bool>>,
    left_seq: Vec<Option<i64>>,
}

/// What happened to a member in a batch.
#[derive(Default)]
struct Fate {
    /// When he came; nothing of what was before counts then.
    joined_at: Option<Timestamp>,
    /// The entry that he went out with, unless he came again.
    left: Option<Seq>,
    marked_at: Option<Timestamp>,
    role: bool,
    own: bool,
    blocks: bool,
}

impl Rare {
    /// Takes in what is rare of what was decided of a group; `cached` is the conversation after it.
    pub(super) fn add(&mut self, group: &Group, cached: &Cached) {
        let Some(convo) = &cached.convo else { return };
        let is_rare = |record: &Record| match record {
            Record::Entry { entry, .. } => !entry.kind.is_message(),
            Record::Mark { .. } => false,
            Record::Own { .. } | Record::Block { .. } => true,
        };
        if !group.records().any(is_rare) {
            return;
        }
        let id = Id::from(group.convo);
        let mut fates = BTreeMap::<UserId, Fate>::new();
        let (mut is_begun, mut is_shared) = (false, false);
        for record in group.records() {
            match record {
                Record::Entry { entry, effect, .. } => {
                    match &entry.kind {
                        EntryKind::Created { user_ids, .. } | EntryKind::MemberAdded { user_ids } => {
                            for &user in user_ids {
                                fates.insert(user, Fate { joined_at: Some(entry.ts), ..Fate::default() });
                            }
                        }
                        EntryKind::MemberRemoved { user_ids } => {
                            for &user in user_ids {
                                fates.entry(user).or_default().left = Some(entry.seq);
                            }
                        }
                        EntryKind::RoleChanged { user_id, .. } => {
                            fates.entry(*user_id).or_default().role = true;
                        }
                        EntryKind::Renamed { .. } | EntryKind::SettingsChanged { .. } => is_shared = true,
                        EntryKind::Text { .. } => {
                            fates.entry(entry.sender_id).or_default().marked_at = Some(entry.ts);
                        }
                    }
                    is_begun |= matches!(entry.kind, EntryKind::Created { .. });
                    if let Effect::Left { successor: Some(user) } = effect {
                        fates.entry(*user).or_default().role = true;
                    }
                }
                Record::Mark { receipt, .. } => {
                    fates.entry(receipt.user).or_default().marked_at = Some(receipt.ts);
                }
                Record::Own { user, .. } => fates.entry(*user).or_default().own = true,
                Record::Block { user, .. } => fates.entry(*user).or_default().blocks = true,
            }
        }
        let summary = convo.summary();
        if is_begun {
            self.begun.id.push(id);
            self.begun.kind.push(summary.kind.code());
            self.begun.title.push(summary.title.clone());
            self.begun.history.push(summary.history.code());
            self.begun.created_at.push(summary.created_at.as_millis());
        }
        if is_shared {
            self.shared.id.push(id);
            self.shared.title.push(summary.title.clone());
            self.shared.about.push(summary.about.clone());
            self.shared.posting.push(summary.posting.code());
            self.shared.history.push(summary.history.code());
        }
        for (user, fate) in fates {
            if fate.joined_at.is_some() {
                self.join(group, cached, user, &fate);
            }
            let has_changed = fate.left.is_some() || fate.role || fate.own || fate.blocks;
            if has_changed && (fate.joined_at.is_none() || fate.left.is_some()) {
                self.change(id, cached, user, &fate);
            }
        }
    }

    fn join(&mut self, group: &Group, cached: &Cached, user: UserId, fate: &Fate) {
        let member = cached.convo.as_ref().and_then(|convo| convo.member(user)).copied();
        let joined_at = fate.joined_at.unwrap_or_default();
        let joined = &mut self.joined;
        // Who has gone again leaves a row that says no more than that.
        let number =
            |of: fn(&tertulia_domain::conversation::Membership) -> i64| member.as_ref().map_or(0, of);
        let settings = member.map(|member| member.settings).unwrap_or_default();
        joined.convo.push(group.convo.into());
        joined.user.push(user.into());
        joined.role.push(member.map_or(0, |member| member.role.code()));
        joined.joined_no.push(number(|member| integer(member.joined_no)));
        joined.joined_seq.push(number(|member| seq(member.joined_seq)));
        joined.joined_at.push(joined_at.as_millis());
        joined.visible_from.push(number(|member| seq(member.visible_from)));
        joined.delivered.push(number(|member| seq(member.delivered)));
        joined.read.push(number(|member| seq(member.read)));
        joined.read_no.push(number(|member| integer(member.read_no)));
        joined.marked_at.push(fate.marked_at.unwrap_or(joined_at).as_millis());
        joined.is_marked.push(fate.marked_at.is_some());
        joined.muted.push(settings.muted);
        joined.muted_until.push(settings.muted_until.map(Timestamp::as_millis));
        joined.pinned.push(settings.pinned);
        joined.archived.push(settings.archived);
        joined.is_own.push(fate.own);
        joined.blocks.push(member.is_some_and(|member| member.blocks));
    }

    fn change(&mut self, id: Id, cached: &Cached, user: UserId, fate: &Fate) {
        let member = cached.convo.as_ref().and_then(|convo| convo.member(user));
        let own = member.filter(|_| fate.own).map(|member| member.settings);
        let changed = &mut self.changed;
        changed.convo.push(id);
        changed.user.push(user.into());
        changed.role.push(member.filter(|_| fate.role).map(|member| member.role.code()));
        changed.blocks.push(member.filter(|_| fate.blocks).map(|member| member.blocks));
        changed.muted.push(own.map(|own| own.muted));
        changed.muted_until.push(own.and_then(|own| own.muted_until).map(Timestamp::as_millis));
        changed.pinned.push(own.map(|own| own.pinned));
        changed.archived.push(own.map(|own| own.archived));
        changed.left_seq.push(fate.left.map(seq));
    }

    /// Makes the rows of conversations that begin.
    pub(super) async fn begin(&self, session: &Session) -> Result<(), Failure> {
        let Begun { id, kind, title, history, created_at } = &self.begun;
        if id.is_empty() {
            return Ok(());
        }
        session.rows(BEGIN_CONVERSATIONS, &[id, kind, title, history, created_at]).await.map(drop)
    }

    /// Writes the rest, behind `append_1`.
    pub(super) async fn write(&self, session: &Session, base: i64) -> Result<(), Failure> {
        tokio::try_join!(biased; self.share(session, base), self.joins(session, base), self.changes(session, base))?;
        Ok(())
    }

    async fn share(&self, session: &Session, base: i64) -> Result<(), Failure> {
        let Shared { id, title, about, posting, history } = &self.shared;
        if id.is_empty() {
            return Ok(());
        }
        session.rows(SHARE, &[id, title, about, posting, history, &base]).await.map(drop)
    }

    async fn joins(&self, session: &Session, base: i64) -> Result<(), Failure> {
        let joined = &self.joined;
        if joined.convo.is_empty() {
            return Ok(());
        }
        session
            .rows(
                JOIN,
                &[
                    &joined.convo,
                    &joined.user,
                    &joined.role,
                    &joined.joined_no,
                    &joined.joined_seq,
                    &joined.joined_at,
                    &joined.visible_from,
                    &joined.delivered,
                    &joined.read,
                    &joined.read_no,
                    &joined.marked_at,
                    &joined.is_marked,
                    &joined.muted,
                    &joined.muted_until,
                    &joined.pinned,
                    &joined.archived,
                    &joined.is_own,
                    &joined.blocks,
                    &base,
                ],
            )
            .await
            .map(drop)
    }

    /// Behind the joins: who has come and gone is both.
    async fn changes(&self, session: &Session, base: i64) -> Result<(), Failure> {
        let changed = &self.changed;
        if changed.convo.is_empty() {
            return Ok(());
        }
        session
            .rows(
                CHANGE,
                &[
                    &changed.convo,
                    &changed.user,
                    &changed.role,
                    &changed.blocks,
                    &changed.muted,
                    &changed.muted_until,
                    &changed.pinned,
                    &changed.archived,
                    &changed.left_seq,
                    &base,
                ],
            )
            .await
            .map(drop)
    }
}
