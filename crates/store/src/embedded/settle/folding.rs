//! Folding the records of one conversation into its rows.

use rusqlite::{CachedStatement, Connection, Transaction};
use tertulia_domain::conversation::{Effect, Passed, Record};
use tertulia_domain::log::Commit;
use tertulia_protocol::entry::Role;
use tertulia_protocol::{Entry, EntryKind, IdMap, Seq, Timestamp, UserId};

use super::super::block::Packer;
use super::super::log;
use super::super::rows::{self, Key, sql};
use super::SettleError;
use super::keys::Keys;
use crate::codes::Code;

/// The statements that nearly every message needs.
pub(super) struct Statements<'db> {
    block: CachedStatement<'db>,
    run: CachedStatement<'db>,
    head: CachedStatement<'db>,
    marks: CachedStatement<'db>,
    receipt: CachedStatement<'db>,
}

impl<'db> Statements<'db> {
    pub(super) fn prepare(db: &'db Transaction<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            block: db.prepare_cached(
                "INSERT INTO log (convo, first, entries) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET entries = excluded.entries",
            )?,
            run: db.prepare_cached(
                "INSERT INTO sends (convo, device, client_seq, seq, count) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?,
            head: db.prepare_cached(
                "UPDATE conversations SET last_seq = ?2, last_ts = ?3, last_message_no = ?4,
                    last_message_seq = max(last_message_seq, ?5), last_change_seq = max(last_change_seq, ?6),
                    last_commit = ?7 WHERE key = ?1",
            )?,
            marks: db.prepare_cached(
                // Where nothing more was received that has its time and its commit still.
                "UPDATE participants SET delivered_seq = ?3, read_seq = ?4, read_no = ?5, marked_at = ?6,
                    marked_commit = ?7,
                    delivered_at = iif(delivered_seq < ?3, ?8, coalesce(delivered_at, marked_at)),
                    delivered_commit = iif(delivered_seq < ?3, ?9, coalesce(delivered_commit, marked_commit))
                 WHERE convo = ?1 AND user = ?2",
            )?,
            receipt: db.prepare_cached(
                "INSERT INTO receipts (convo, user, seq, delivered_at, seen_at) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET delivered_at = coalesce(delivered_at, excluded.delivered_at),
                    seen_at = coalesce(seen_at, excluded.seen_at)",
            )?,
        })
    }
}

/// Messages of one device whose numbers and places both go up by one.
#[derive(Clone, Copy)]
struct Run {
    device: Key,
    client_seq: u64,
    seq: u64,
    count: u64,
}

impl Run {
    /// Takes the message that follows in; `false` if that one does not follow.
    fn extend(&mut self, device: Key, client_seq: u64, seq: u64) -> bool {
        let follows = device == self.device
            && client_seq == self.client_seq + self.count
            && seq == self.seq + self.count;
        self.count += u64::from(follows);
        follows
    }
}

/// A member's watermarks at the end of the bite; one row is written however often they moved.
#[derive(Clone, Copy)]
struct Marks {
    delivered: Seq,
    read: Seq,
    read_no: u64,
    at: Timestamp,
    commit: Commit,
    /// When `delivered` last rose within the bite; if it never did: of the first of its marks.
    delivered_at: Timestamp,
    delivered_commit: Commit,
}

impl Marks {
    /// What is not known yet of `delivered` is found when it is written.
    const fn new((delivered, read, read_no): (Seq, Seq, u64), at: Timestamp, commit: Commit) -> Self {
        Self { delivered, read, read_no, at, commit, delivered_at: at, delivered_commit: commit }
    }
}

/// The head of the conversation at the end of the bite.
struct Head {
    seq: Seq,
    ts: Timestamp,
    message_no: u64,
    message_seq: Seq,
    change_seq: Seq,
}

/// Folds the records of one conversation.
pub(super) struct Folding<'a, 'db> {
    db: &'a Connection,
    keys: &'a mut Keys,
    statements: &'a mut Statements<'db>,
    /// The block that is being filled.
    packer: &'a mut Packer,
    convo: Key,
    run: Option<Run>,
    head: Option<Head>,
    marks: IdMap<UserId, Marks>,
}

impl<'a, 'db> Folding<'a, 'db> {
    pub(super) fn new(
        db: &'a Connection,
        keys: &'a mut Keys,
        statements: &'a mut Statements<'db>,
        packer: &'a mut Packer,
        convo: Key,
    ) -> Self {
        Self { db, keys, statements, packer, convo, run: None, head: None, marks: IdMap::default() }
    }

    pub(super) fn fold(mut self, records: &[(Key, Commit, &Record)]) -> Result<(), SettleError> {
        for &(_, commit, record) in records {
            match record {
                Record::Entry { entry, message_no, effect } => {
                    self.entry(entry, *message_no, effect, commit)?;
                }
                Record::Mark { receipt, read_no, passed } => {
                    let (delivered, read, at) = (receipt.delivered, receipt.read, receipt.ts);
                    let marks = Marks::new((delivered, read, *read_no), at, commit);
                    self.mark(receipt.user, *passed, marks)?;
                }
                Record::Own { user, settings, .. } => {
                    let user = self.keys.id(self.db, user.as_bytes())?;
                    self.db
                        .prepare_cached(
                            "UPDATE participants SET muted = ?3, muted_until = ?4, pinned = ?5, archived = ?6,
                                own_commit = ?7 WHERE convo = ?1 AND user = ?2",
                        )?
                        .execute((
                            self.convo,
                            user,
                            settings.muted,
                            settings.muted_until.map(Timestamp::as_millis),
                            settings.pinned,
                            settings.archived,
                            sql(commit),
                        ))?;
                }
                Record::Block { user, blocked, .. } => {
                    let user = self.keys.id(self.db, user.as_bytes())?;
                    self.db
                        .prepare_cached("UPDATE participants SET blocks = ?3 WHERE convo = ?1 AND user = ?2")?
                        .execute((self.convo, user, *blocked))?;
                }
            }
        }
        self.end_run()?;
        self.write_block()?;
        self.write_marks()?;
        // There is a last one: `chunk_by` gives no empty chunks.
        let last = records.last().map_or(Commit::default(), |&(_, commit, _)| commit);
        self.write_head(last)?;
        Ok(())
    }

    fn entry(
        &mut self,
        entry: &Entry,
        message_no: u64,
        effect: &Effect,
        commit: Commit,
    ) -> Result<(), SettleError> {
        if let (&Effect::Sent { device, .. }, Some(client_seq)) = (effect, entry.client_seq) {
            let device = self.keys.id(self.db, device.as_bytes())?;
            self.sent(device, client_seq.get(), entry.seq.get())?;
        }
        if self.head.is_none() {
            log::resume(self.db, self.convo, entry.seq, self.packer)?;
        }
        self.packer.push(entry, commit, message_no)?;
        if self.packer.is_full() {
            self.write_block()?;
        }
        self.advance(entry, message_no);
        match *effect {
            Effect::None => {}
            Effect::Sent { passed, .. } => {
                let (seq, at) = (entry.seq, entry.ts);
                let marks = Marks::new((seq, seq, message_no), at, commit);
                self.mark(entry.sender_id, passed, marks)?;
            }
            Effect::Joined { first_joined_no, visible_from } => {
                self.join(entry, message_no, first_joined_no, visible_from, commit)?;
            }
            Effect::Left { successor } => self.leave(entry, successor, commit)?,
        }
        self.change(entry, commit)
    }

    fn write_block(&mut self) -> rusqlite::Result<()> {
        if let Some((first, bytes)) = self.packer.block() {
            self.statements.block.execute((self.convo, rows::seq(first), bytes))?;
            self.packer.clear();
        }
        Ok(())
    }

    fn sent(&mut self, device: Key, client_seq: u64, seq: u64) -> rusqlite::Result<()> {
        if !self.run.as_mut().is_some_and(|run| run.extend(device, client_seq, seq)) {
            self.end_run()?;
            self.run = Some(Run { device, client_seq, seq, count: 1 });
        }
        Ok(())
    }

    fn end_run(&mut self) -> rusqlite::Result<()> {
        if let Some(Run { device, client_seq, seq, count }) = self.run.take() {
            let numbers = (rows::count(client_seq), rows::count(seq), rows::count(count));
            self.statements.run.execute((self.convo, device, numbers.0, numbers.1, numbers.2))?;
        }
        Ok(())
    }

    fn advance(&mut self, entry: &Entry, message_no: u64) {
        let head = self.head.get_or_insert(Head {
            seq: entry.seq,
            ts: entry.ts,
            message_no,
            message_seq: Seq::default(),
            change_seq: Seq::default(),
        });
        (head.seq, head.ts, head.message_no) = (entry.seq, entry.ts, message_no);
        if entry.kind.is_message() {
            head.message_seq = entry.seq;
        } else {
            head.change_seq = entry.seq;
        }
    }

    /// What an entry changes beyond who is in the conversation.
    fn change(&mut self, entry: &Entry, commit: Commit) -> Result<(), SettleError> {
        match &entry.kind {
            EntryKind::Renamed { title } => {
                self.db
                    .prepare_cached("UPDATE conversations SET title = ?2, shared_commit = ?3 WHERE key = ?1")?
                    .execute((self.convo, title, sql(commit)))?;
            }
            EntryKind::SettingsChanged { about, posting, history } => {
                self.db
                    .prepare_cached(
                        "UPDATE conversations SET about = coalesce(?2, about), posting = coalesce(?3, posting),
                            history = coalesce(?4, history), shared_commit = ?5 WHERE key = ?1",
                    )?
                    .execute((
                        self.convo,
                        about,
                        posting.map(Code::code),
                        history.map(Code::code),
                        sql(commit),
                    ))?;
            }
            EntryKind::RoleChanged { user_id, role } => self.set_role(*user_id, *role)?,
            EntryKind::Text { .. }
            | EntryKind::Created { .. }
            | EntryKind::MemberAdded { .. }
            | EntryKind::MemberRemoved { .. } => {}
        }
        Ok(())
    }

    fn set_role(&mut self, user: UserId, role: Role) -> rusqlite::Result<()> {
        let user = self.keys.id(self.db, user.as_bytes())?;
        self.db
            .prepare_cached("UPDATE participants SET role = ?3 WHERE convo = ?1 AND user = ?2")?
            .execute((self.convo, user, role.code()))?;
        Ok(())
    }

    fn join(
        &mut self,
        entry: &Entry,
        message_no: u64,
        first_joined_no: u64,
        visible_from: Seq,
        commit: Commit,
    ) -> Result<(), SettleError> {
        let (users, owner) = match &entry.kind {
            EntryKind::Created { user_ids, conversation_type, .. } => {
                let is_group = *conversation_type == tertulia_protocol::entry::ConversationType::Group;
                (user_ids, is_group.then_some(entry.sender_id))
            }
            EntryKind::MemberAdded { user_ids } => (user_ids, None),
            _ => return Ok(()),
        };
        // Marks of an earlier membership are over.
        self.write_marks()?;
        let mut statement = self.db.prepare_cached(
            // Whoever was here before starts anew: nothing of the old row stays.
            "INSERT OR REPLACE INTO participants (convo, user, role, joined_no, joined_seq, joined_at,
                joined_commit, visible_from, delivered_seq, read_seq, read_no, marked_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?5, ?5, ?9, ?6)",
        )?;
        for (joined_no, user) in (first_joined_no..).zip(users) {
            let role = if owner == Some(*user) { Role::Owner } else { Role::Member };
            statement.execute((
                self.convo,
                self.keys.id(self.db, user.as_bytes())?,
                role.code(),
                rows::count(joined_no),
                rows::seq(entry.seq),
                entry.ts.as_millis(),
                sql(commit),
                rows::seq(visible_from),
                rows::count(message_no),
            ))?;
        }
        let joined = i64::try_from(users.len()).unwrap_or(i64::MAX);
        self.db
            .prepare_cached(
                "UPDATE conversations SET member_count = member_count + ?2, last_joined_no = ?3 WHERE key = ?1",
            )?
            .execute((self.convo, joined, rows::count(first_joined_no) + joined - 1))?;
        Ok(())
    }

    fn leave(&mut self, entry: &Entry, successor: Option<UserId>, commit: Commit) -> Result<(), SettleError> {
        let EntryKind::MemberRemoved { user_ids } = &entry.kind else { return Ok(()) };
        self.write_marks()?;
        let mut left = 0_i64;
        for user in user_ids {
            let user = self.keys.id(self.db, user.as_bytes())?;
            self.db
                .prepare_cached(
                    "UPDATE participants SET left_seq = ?3, left_commit = ?4 WHERE convo = ?1 AND user = ?2",
                )?
                .execute((self.convo, user, rows::seq(entry.seq), sql(commit)))?;
            left += 1;
        }
        self.db
            .prepare_cached("UPDATE conversations SET member_count = member_count - ?2 WHERE key = ?1")?
            .execute((self.convo, left))?;
        if let Some(successor) = successor {
            self.set_role(successor, Role::Owner)?;
        }
        Ok(())
    }

    fn mark(&mut self, user: UserId, passed: Passed, marks: Marks) -> Result<(), SettleError> {
        let at = Some(marks.at.as_millis());
        match (passed.delivered.then_some(marks.delivered), passed.read.then_some(marks.read)) {
            (None, None) => {}
            // Mostly both reach one place: one row.
            (Some(seq), Some(read)) if seq == read => self.receipt(user, seq, at, at)?,
            (delivered, read) => {
                if let Some(seq) = delivered {
                    self.receipt(user, seq, at, None)?;
                }
                if let Some(seq) = read {
                    self.receipt(user, seq, None, at)?;
                }
            }
        }
        let before = self.marks.get(&user).filter(|before| before.delivered >= marks.delivered);
        let (delivered_at, delivered_commit) =
            before.map_or((marks.at, marks.commit), |before| (before.delivered_at, before.delivered_commit));
        self.marks.insert(user, Marks { delivered_at, delivered_commit, ..marks });
        Ok(())
    }

    fn receipt(
        &mut self,
        user: UserId,
        seq: Seq,
        delivered_at: Option<i64>,
        seen_at: Option<i64>,
    ) -> rusqlite::Result<()> {
        let user = self.keys.id(self.db, user.as_bytes())?;
        self.statements.receipt.execute((self.convo, user, rows::seq(seq), delivered_at, seen_at))?;
        Ok(())
    }

    fn write_marks(&mut self) -> Result<(), SettleError> {
        for (user, marks) in self.marks.drain() {
            self.statements.marks.execute((
                self.convo,
                self.keys.id(self.db, user.as_bytes())?,
                rows::seq(marks.delivered),
                rows::seq(marks.read),
                rows::count(marks.read_no),
                marks.at.as_millis(),
                sql(marks.commit),
                marks.delivered_at.as_millis(),
                sql(marks.delivered_commit),
            ))?;
        }
        Ok(())
    }

    fn write_head(&mut self, last: Commit) -> rusqlite::Result<()> {
        match &self.head {
            Some(head) => self.statements.head.execute((
                self.convo,
                rows::seq(head.seq),
                head.ts.as_millis(),
                rows::count(head.message_no),
                rows::seq(head.message_seq),
                rows::seq(head.change_seq),
                sql(last),
            ))?,
            None => self
                .db
                .prepare_cached("UPDATE conversations SET last_commit = ?2 WHERE key = ?1")?
                .execute((self.convo, sql(last)))?,
        };
        Ok(())
    }
}
