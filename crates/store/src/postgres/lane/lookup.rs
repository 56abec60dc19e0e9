//! What a lane looks up before it can decide: all that a batch asks goes in one round trip.

use std::collections::HashMap;

use tertulia_domain::conversation::{Conversation, Membership, Question, Summary};
use tertulia_protocol::rest::MemberSettings;
use tertulia_protocol::{ClientSeq, ConvoId, DeviceId, IdMap, Seq, UserId};
use tokio_postgres::Row;

use super::group::SentKey;
use crate::Logged;
use crate::postgres::connect::{Parameters, Session};
use crate::postgres::error::Failure;
use crate::postgres::rows::{self, entry_columns};
use crate::postgres::types::{Id, RowExt as _, integer};

/// How many entries are followed at the most; beyond, a conversation is loaded anew.
pub(super) const FOLLOWED_MAX: i64 = 1_000;

/// What has to be looked up.
#[derive(Default)]
pub(super) struct Asks {
    /// Conversations to read whole.
    pub(super) load: Vec<ConvoId>,
    /// Conversations whose log is read from behind a place.
    pub(super) follow: Vec<(ConvoId, Seq)>,
    /// Own settings of members.
    pub(super) settings: Vec<(ConvoId, UserId)>,
    /// The highest number that a device has sent.
    pub(super) highest: Vec<(ConvoId, DeviceId)>,
    /// Messages of devices by their numbers.
    pub(super) sent: Vec<SentKey>,
    /// How many messages there are up to an entry.
    pub(super) numbers: Vec<(ConvoId, Seq)>,
}

impl Asks {
    pub(super) fn is_empty(&self) -> bool {
        self.load.is_empty()
            && self.follow.is_empty()
            && self.settings.is_empty()
            && self.highest.is_empty()
            && self.sent.is_empty()
            && self.numbers.is_empty()
    }

    pub(super) fn ask(&mut self, convo: ConvoId, question: Question) {
        match question {
            Question::HighestSent(device) => self.highest.push((convo, device)),
            Question::Sent(device, client_seq) => self.sent.push((convo, device, client_seq)),
            Question::MessageNo(seq) => self.numbers.push((convo, seq)),
        }
    }
}

/// What was found, in the order in which it was asked for.
#[derive(Default)]
pub(super) struct Answers {
    /// Those that exist of all that were to be loaded or followed, with their versions.
    pub(super) summaries: HashMap<ConvoId, (Summary, i64)>,
    /// Of those that were to be loaded.
    pub(super) members: HashMap<ConvoId, IdMap<UserId, Membership>>,
    /// Of those that were to be followed.
    pub(super) entries: HashMap<ConvoId, Vec<(Logged, Option<DeviceId>)>>,
    pub(super) settings: Vec<(ConvoId, UserId, MemberSettings)>,
    pub(super) highest: Vec<(ConvoId, DeviceId, Option<ClientSeq>)>,
    pub(super) sent: Vec<(SentKey, Option<Logged>)>,
    pub(super) numbers: Vec<(ConvoId, u64)>,
}

/// Within what is looked up.
#[derive(Clone, Copy)]
pub(super) enum Moment<'a> {
    /// One moment of its own.
    Snapshot,
    /// A transaction that begins with these locks; nothing of what they stand for changes until it ends.
    Locked(&'a [i64]),
    /// The transaction that was begun so.
    StillLocked,
}

const LOCK: &str = "SELECT count(pg_advisory_xact_lock(key)) FROM unnest($1::bigint[]) AS locks(key)";

const CONVERSATIONS: &str =
    "SELECT id, version, kind, title, about, posting, history, created_at, last_seq, last_ts,
    last_message_no, last_change_seq, last_joined_no FROM conversations WHERE id = ANY($1)";

const MEMBERS: &str =
    "SELECT convo, user_id, role, joined_no, joined_seq, visible_from, delivered_seq, read_seq,
    read_no, muted, muted_until, pinned, archived, blocks FROM participants
    WHERE convo = ANY($1) AND left_commit IS NULL";

const FOLLOW: &str = concat!(
    "SELECT a.convo, m.device, ",
    entry_columns!(),
    " FROM unnest($1::uuid[], $2::bigint[]) AS a(convo, seq) CROSS JOIN LATERAL (
        SELECT * FROM messages n WHERE n.convo = a.convo AND n.seq > a.seq ORDER BY n.seq LIMIT $3
      ) m ORDER BY a.convo, m.seq"
);

const SETTINGS: &str = "SELECT a.convo, a.user_id, p.muted, p.muted_until, p.pinned, p.archived
    FROM unnest($1::uuid[], $2::uuid[]) AS a(convo, user_id)
    JOIN participants p ON p.convo = a.convo AND p.user_id = a.user_id AND p.left_commit IS NULL";

const HIGHEST: &str = "SELECT (
        SELECT m.client_seq FROM messages m WHERE m.convo = a.convo AND m.device = a.device
        ORDER BY m.client_seq DESC LIMIT 1)
    FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS a(convo, device, no) ORDER BY a.no";

const SENT: &str = concat!(
    "SELECT ",
    entry_columns!(),
    " FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) WITH ORDINALITY AS a(convo, device, client_seq, no)
      LEFT JOIN messages m ON m.convo = a.convo AND m.device = a.device AND m.client_seq = a.client_seq ORDER BY a.no"
);

const NUMBERS: &str =
    "SELECT m.message_no FROM unnest($1::uuid[], $2::bigint[]) WITH ORDINALITY AS a(convo, seq, no)
    LEFT JOIN messages m ON m.convo = a.convo AND m.seq = a.seq ORDER BY a.no";

/// All that may be used; those that go out together must have been prepared before.
pub(super) const STATEMENTS: [&str; 8] =
    [LOCK, CONVERSATIONS, MEMBERS, FOLLOW, SETTINGS, HIGHEST, SENT, NUMBERS];

/// Looks everything up, in one round trip.
pub(super) async fn look_up(session: &Session, asks: &Asks, moment: Moment<'_>) -> Result<Answers, Failure> {
    let load = rows::ids(&asks.load);
    let followed: Vec<ConvoId> = asks.follow.iter().map(|&(convo, _)| convo).collect();
    let all: Vec<Id> = load.iter().copied().chain(rows::ids(&followed)).collect();
    let follow = (rows::ids(&followed), column(&asks.follow, |&(_, seq)| rows::seq(seq)));
    let settings = (
        column(&asks.settings, |&(convo, _)| Id::from(convo)),
        column(&asks.settings, |&(_, user)| Id::from(user)),
    );
    let highest = (
        column(&asks.highest, |&(convo, _)| Id::from(convo)),
        column(&asks.highest, |&(_, device)| Id::from(device)),
    );
    let sent = (
        column(&asks.sent, |&(convo, ..)| Id::from(convo)),
        column(&asks.sent, |&(_, device, _)| Id::from(device)),
        column(&asks.sent, |&(.., number)| integer(number.get())),
    );
    let numbers = (
        column(&asks.numbers, |&(convo, _)| Id::from(convo)),
        column(&asks.numbers, |&(_, seq)| rows::seq(seq)),
    );
    let (begin, end, locks) = match moment {
        // Of one moment have to be a conversation and its members alone; the rest stands for itself.
        Moment::Snapshot if asks.load.is_empty() => ("", "", &[][..]),
        Moment::Snapshot => ("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY", "COMMIT", &[][..]),
        Moment::Locked(keys) => ("BEGIN", "", keys),
        Moment::StillLocked => ("", "", &[][..]),
    };
    let run = async |sql: &str| if sql.is_empty() { Ok(()) } else { session.run(sql).await };
    let (locked, conversations, members, entries, of_settings, of_highest, of_sent, of_numbers): (
        [_; 1],
        [_; 1],
        [_; 1],
        [_; 3],
        [_; 2],
        [_; 2],
        [_; 3],
        [_; 2],
    ) = (
        [&locks as _],
        [&all as _],
        [&load as _],
        [&follow.0 as _, &follow.1 as _, &FOLLOWED_MAX as _],
        [&settings.0 as _, &settings.1 as _],
        [&highest.0 as _, &highest.1 as _],
        [&sent.0 as _, &sent.1 as _, &sent.2 as _],
        [&numbers.0 as _, &numbers.1 as _],
    );
    let ((), _, conversations, members, entries, of_settings, of_highest, of_sent, of_numbers, ()) = tokio::try_join!(
        biased;
        run(begin),
        some(session, locks.len(), LOCK, &locked),
        some(session, all.len(), CONVERSATIONS, &conversations),
        some(session, load.len(), MEMBERS, &members),
        some(session, followed.len(), FOLLOW, &entries),
        some(session, asks.settings.len(), SETTINGS, &of_settings),
        some(session, asks.highest.len(), HIGHEST, &of_highest),
        some(session, asks.sent.len(), SENT, &of_sent),
        some(session, asks.numbers.len(), NUMBERS, &of_numbers),
        run(end)
    )?;
    let mut answers = Answers::default();
    for row in &conversations {
        let summary = summary(row)?;
        answers.summaries.insert(summary.id, (summary, row.value(1)?));
    }
    for row in &members {
        answers.members.entry(row.id(0)?).or_default().insert(row.id(1)?, membership(row)?);
    }
    for row in &entries {
        let convo = row.id(0)?;
        let device = row.value::<Option<Id>>(1)?.map(DeviceId::from);
        answers.entries.entry(convo).or_default().push((rows::entry(convo, row, 2)?, device));
    }
    for row in &of_settings {
        answers.settings.push((row.id(0)?, row.id(1)?, rows::settings(row, 2)?));
    }
    for (&(convo, device), row) in asks.highest.iter().zip(&of_highest) {
        let highest = row.value::<Option<i64>>(0)?;
        answers.highest.push((convo, device, highest.map(|number| ClientSeq::new(number.cast_unsigned()))));
    }
    for (&key, row) in asks.sent.iter().zip(&of_sent) {
        let found = row.value::<Option<i64>>(0)?.map(|_| rows::entry(key.0, row, 0)).transpose()?;
        answers.sent.push((key, found));
    }
    for (&(convo, seq), row) in asks.numbers.iter().zip(&of_numbers) {
        let number = row.value::<Option<i64>>(0)?;
        let number = number
            .ok_or_else(|| Failure::Row(format!("entry {seq} of conversation {convo} is not there")))?;
        answers.numbers.push((convo, number.cast_unsigned()));
    }
    Ok(answers)
}

fn column<T, C>(items: &[T], of: impl Fn(&T) -> C) -> Vec<C> {
    items.iter().map(of).collect()
}

/// Asks nothing for nothing.
async fn some(
    session: &Session,
    count: usize,
    sql: &'static str,
    parameters: Parameters<'_>,
) -> Result<Vec<Row>, Failure> {
    if count == 0 { Ok(Vec::new()) } else { session.rows(sql, parameters).await }
}

fn summary(row: &Row) -> Result<Summary, Failure> {
    Ok(Summary {
        id: row.id(0)?,
        kind: rows::code(row, 2)?,
        title: row.value(3)?,
        about: row.value(4)?,
        posting: rows::code(row, 5)?,
        history: rows::code(row, 6)?,
        created_at: row.time(7)?,
        last_seq: row.seq(8)?,
        last_ts: row.time(9)?,
        last_message_no: row.count(10)?,
        last_change_seq: row.seq(11)?,
        last_joined_no: row.count(12)?,
    })
}

fn membership(row: &Row) -> Result<Membership, Failure> {
    Ok(Membership {
        role: rows::code(row, 2)?,
        joined_no: row.count(3)?,
        joined_seq: row.seq(4)?,
        visible_from: row.seq(5)?,
        delivered: row.seq(6)?,
        read: row.seq(7)?,
        read_no: row.count(8)?,
        settings: rows::settings(row, 9)?,
        blocks: row.value(13)?,
    })
}

impl Answers {
    /// A conversation that was to be loaded: what it is, and its version.
    pub(super) fn loaded(&mut self, convo: ConvoId) -> (Option<Conversation>, i64) {
        match self.summaries.remove(&convo) {
            Some((summary, version)) => {
                let members = self.members.remove(&convo).unwrap_or_default();
                (Some(Conversation::restored(summary, members)), version)
            }
            None => (None, 0),
        }
    }
}
