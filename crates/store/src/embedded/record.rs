//! A batch of records as the bytes of a frame of the journal, which has their checksum.
//!
//! One version byte, the number of records, then each of them in postcard's encoding.
//! The types in here are the stored format: they change only together with [`VERSION`], and what an older
//! version wrote can be read for ever (a journal is left over wherever a process was killed before an update).

use std::sync::Arc;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tertulia_domain::conversation::{Effect, Passed, Record};
use tertulia_domain::log::Receipt;
use tertulia_protocol::rest::MemberSettings;
use tertulia_protocol::{ClientSeq, ConvoId, DeviceId, Entry, EntryKind, Seq, Timestamp, UserId};

const VERSION: u8 = 1;

/// A batch that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("it has format {0}, which this program does not know")]
    Version(u8),
    #[error("it ends too early, or is no record: {0}")]
    Encoding(#[from] postcard::Error),
    #[error("a change in it is not understood: {0}")]
    Change(#[from] serde_json::Error),
    #[error("a message in it stands as a change")]
    NoChange,
    #[error("{0} bytes stand behind its last record")]
    TooLong(usize),
}

/// Appends `records` to `bytes`, and to `starts` where in them each begins.
pub(super) fn encode(
    records: &[Record],
    bytes: &mut Vec<u8>,
    starts: &mut Vec<u32>,
) -> Result<(), postcard::Error> {
    let begin = bytes.len();
    bytes.push(VERSION);
    let mut out = postcard::to_extend(&records.len(), std::mem::take(bytes))?;
    for record in records {
        starts.push(u32::try_from(out.len() - begin).map_err(|_| postcard::Error::SerializeBufferFull)?);
        // The kind of a change is JSON: it is rare, and the same in the settled rows.
        let json;
        let stored = match record {
            Record::Entry { entry, message_no, effect } => {
                let body = match &entry.kind {
                    EntryKind::Text { body, .. } => body.as_str(),
                    kind => {
                        json = serde_json::to_string(kind).map_err(|_| postcard::Error::SerdeSerCustom)?;
                        &json
                    }
                };
                Stored::from_entry(entry, *message_no, *effect, body)
            }
            Record::Mark { receipt, read_no, passed } => Stored::Mark {
                convo: Id(*receipt.convo.as_bytes()),
                user: Id(*receipt.user.as_bytes()),
                delivered: receipt.delivered.get(),
                read: receipt.read.get(),
                ts: receipt.ts.as_millis(),
                read_no: *read_no,
                passed: StoredPassed::from(*passed),
            },
            Record::Own { convo, user, settings } => Stored::Own {
                convo: Id(*convo.as_bytes()),
                user: Id(*user.as_bytes()),
                muted: settings.muted,
                muted_until: settings.muted_until.map(Timestamp::as_millis),
                pinned: settings.pinned,
                archived: settings.archived,
            },
            Record::Block { convo, user, blocked } => {
                Stored::Block { convo: Id(*convo.as_bytes()), user: Id(*user.as_bytes()), blocked: *blocked }
            }
        };
        out = postcard::to_extend(&stored, out)?;
    }
    *bytes = out;
    Ok(())
}

/// Reads what [`encode`] wrote.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Record>, DecodeError> {
    decode_with(bytes, |_| {})
}

/// The same, and tells where each record begins.
pub(super) fn decode_with(bytes: &[u8], mut begins: impl FnMut(usize)) -> Result<Vec<Record>, DecodeError> {
    let Some((&version, payload)) = bytes.split_first() else {
        return Err(DecodeError::Encoding(postcard::Error::DeserializeUnexpectedEnd));
    };
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let (count, mut rest) = postcard::take_from_bytes::<usize>(payload)?;
    // A record has at least two bytes: what the count says is not believed beyond that.
    let mut records = Vec::with_capacity(count.min(rest.len() / 2));
    for _ in 0..count {
        begins(bytes.len() - rest.len());
        let (stored, tail) = postcard::take_from_bytes::<Stored<'_>>(rest)?;
        records.push(stored.into_record()?);
        rest = tail;
    }
    if !rest.is_empty() {
        return Err(DecodeError::TooLong(rest.len()));
    }
    Ok(records)
}

/// Reads the record that `bytes` begin with, one of those of [`encode`].
pub(super) fn decode_one(bytes: &[u8]) -> Result<Record, DecodeError> {
    postcard::take_from_bytes::<Stored<'_>>(bytes)?.0.into_record()
}

/// A record as it is stored.
#[derive(Serialize, Deserialize)]
enum Stored<'a> {
    Text {
        convo: Id,
        seq: u64,
        sender: Id,
        client_seq: u64,
        ts: i64,
        reply_to: Option<u64>,
        body: &'a str,
        message_no: u64,
        device: Id,
        passed: StoredPassed,
    },
    Change {
        convo: Id,
        seq: u64,
        sender: Id,
        ts: i64,
        json: &'a str,
        message_no: u64,
        effect: StoredEffect,
    },
    Mark {
        convo: Id,
        user: Id,
        delivered: u64,
        read: u64,
        ts: i64,
        read_no: u64,
        passed: StoredPassed,
    },
    Own {
        convo: Id,
        user: Id,
        muted: bool,
        muted_until: Option<i64>,
        pinned: bool,
        archived: bool,
    },
    Block {
        convo: Id,
        user: Id,
        blocked: bool,
    },
}

#[derive(Serialize, Deserialize)]
enum StoredEffect {
    None,
    Joined { first_joined_no: u64, visible_from: u64 },
    Left { successor: Option<Id> },
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct StoredPassed {
    delivered: bool,
    read: bool,
}

impl From<Passed> for StoredPassed {
    fn from(Passed { delivered, read }: Passed) -> Self {
        Self { delivered, read }
    }
}

impl From<StoredPassed> for Passed {
    fn from(StoredPassed { delivered, read }: StoredPassed) -> Self {
        Self { delivered, read }
    }
}

impl<'a> Stored<'a> {
    fn from_entry(entry: &Entry, message_no: u64, effect: Effect, body: &'a str) -> Self {
        let (convo, seq, sender) =
            (Id(*entry.convo_id.as_bytes()), entry.seq.get(), Id(*entry.sender_id.as_bytes()));
        let ts = entry.ts.as_millis();
        let effect = match effect {
            Effect::Sent { device, passed } => {
                let reply_to = match entry.kind {
                    EntryKind::Text { reply_to, .. } => reply_to.map(Seq::get),
                    _ => None,
                };
                let client_seq = entry.client_seq.unwrap_or_default().get();
                let (device, passed) = (Id(*device.as_bytes()), passed.into());
                return Self::Text {
                    convo,
                    seq,
                    sender,
                    client_seq,
                    ts,
                    reply_to,
                    body,
                    message_no,
                    device,
                    passed,
                };
            }
            Effect::None => StoredEffect::None,
            Effect::Joined { first_joined_no, visible_from } => {
                StoredEffect::Joined { first_joined_no, visible_from: visible_from.get() }
            }
            Effect::Left { successor } => {
                StoredEffect::Left { successor: successor.map(|user| Id(*user.as_bytes())) }
            }
        };
        Self::Change { convo, seq, sender, ts, json: body, message_no, effect }
    }

    fn into_record(self) -> Result<Record, DecodeError> {
        Ok(match self {
            Self::Text { convo, seq, sender, client_seq, ts, reply_to, body, message_no, device, passed } => {
                Record::Entry {
                    entry: Arc::new(Entry {
                        convo_id: ConvoId::from_bytes(convo.0),
                        seq: Seq::new(seq),
                        sender_id: UserId::from_bytes(sender.0),
                        client_seq: Some(ClientSeq::new(client_seq)),
                        ts: Timestamp::from_millis(ts),
                        kind: EntryKind::Text { body: body.to_owned(), reply_to: reply_to.map(Seq::new) },
                    }),
                    message_no,
                    effect: Effect::Sent { device: DeviceId::from_bytes(device.0), passed: passed.into() },
                }
            }
            Self::Change { convo, seq, sender, ts, json, message_no, effect } => Record::Entry {
                entry: Arc::new(Entry {
                    convo_id: ConvoId::from_bytes(convo.0),
                    seq: Seq::new(seq),
                    sender_id: UserId::from_bytes(sender.0),
                    client_seq: None,
                    ts: Timestamp::from_millis(ts),
                    kind: match serde_json::from_str(json)? {
                        EntryKind::Text { .. } => return Err(DecodeError::NoChange),
                        kind => kind,
                    },
                }),
                message_no,
                effect: match effect {
                    StoredEffect::None => Effect::None,
                    StoredEffect::Joined { first_joined_no, visible_from } => {
                        Effect::Joined { first_joined_no, visible_from: Seq::new(visible_from) }
                    }
                    StoredEffect::Left { successor } => {
                        Effect::Left { successor: successor.map(|id| UserId::from_bytes(id.0)) }
                    }
                },
            },
            Self::Mark { convo, user, delivered, read, ts, read_no, passed } => Record::Mark {
                receipt: Receipt {
                    convo: ConvoId::from_bytes(convo.0),
                    user: UserId::from_bytes(user.0),
                    delivered: Seq::new(delivered),
                    read: Seq::new(read),
                    ts: Timestamp::from_millis(ts),
                    // What a mark did to what was before is found when it is settled.
                    delivered_at: None,
                },
                read_no,
                passed: passed.into(),
            },
            Self::Own { convo, user, muted, muted_until, pinned, archived } => Record::Own {
                convo: ConvoId::from_bytes(convo.0),
                user: UserId::from_bytes(user.0),
                settings: MemberSettings {
                    muted,
                    muted_until: muted_until.map(Timestamp::from_millis),
                    pinned,
                    archived,
                },
            },
            Self::Block { convo, user, blocked } => Record::Block {
                convo: ConvoId::from_bytes(convo.0),
                user: UserId::from_bytes(user.0),
                blocked,
            },
        })
    }
}

/// The 16 bytes of an id in one piece: an array would be written byte by byte.
#[derive(Clone, Copy)]
struct Id([u8; 16]);

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Id;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("16 bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Id, E> {
                bytes.try_into().map(Id).map_err(|_| E::invalid_length(bytes.len(), &self))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Record> {
        let (convo, ana, bo) =
            (ConvoId::from_bytes([1; 16]), UserId::from_bytes([2; 16]), UserId::from_bytes([3; 16]));
        let entry = |seq, client_seq, kind| {
            let (seq, ts) = (Seq::new(seq), Timestamp::from_millis(1_795_563_466_123));
            Arc::new(Entry { convo_id: convo, seq, sender_id: ana, client_seq, ts, kind })
        };
        vec![
            Record::Entry {
                entry: entry(1, None, EntryKind::MemberAdded { user_ids: vec![ana, bo] }),
                message_no: 0,
                effect: Effect::Joined { first_joined_no: 1, visible_from: Seq::new(1) },
            },
            Record::Entry {
                entry: entry(
                    2,
                    Some(ClientSeq::MAX),
                    EntryKind::Text { body: "¿qué tal?".into(), reply_to: Some(Seq::new(1)) },
                ),
                message_no: 1,
                effect: Effect::Sent {
                    device: DeviceId::from_bytes([4; 16]),
                    passed: Passed { delivered: true, read: false },
                },
            },
            Record::Entry {
                entry: entry(3, None, EntryKind::MemberRemoved { user_ids: vec![ana] }),
                message_no: 1,
                effect: Effect::Left { successor: Some(bo) },
            },
            Record::Entry {
                entry: entry(4, None, EntryKind::Renamed { title: "tea".into() }),
                message_no: 1,
                effect: Effect::None,
            },
            Record::Mark {
                receipt: Receipt {
                    convo,
                    user: bo,
                    delivered: Seq::new(4),
                    read: Seq::new(2),
                    ts: Timestamp::from_millis(-5),
                    delivered_at: None,
                },
                read_no: 1,
                passed: Passed { delivered: true, read: true },
            },
            Record::Own {
                convo,
                user: bo,
                settings: MemberSettings {
                    muted: true,
                    muted_until: Some(Timestamp::from_millis(7)),
                    pinned: false,
                    archived: true,
                },
            },
            Record::Block { convo, user: bo, blocked: true },
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        let (mut bytes, mut starts) = (b"before".to_vec(), Vec::new());
        encode(&samples(), &mut bytes, &mut starts).unwrap();
        let batch = &bytes[6..];
        let mut found = Vec::new();
        assert_eq!(decode_with(batch, |start| found.push(start as u32)).unwrap(), samples());
        assert_eq!(found, starts);
        let each = starts.iter().map(|&start| decode_one(&batch[start as usize..]).unwrap());
        assert_eq!(each.collect::<Vec<_>>(), samples());
    }

    /// The bytes of version 1, as they were first written: a journal of that time must stay readable.
    #[test]
    fn a_batch_of_version_1_can_be_read() {
        let hex = include_str!("record_v1.hex");
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let bytes: Vec<u8> = digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        assert_eq!(decode(&bytes).unwrap(), samples());
    }

    #[test]
    fn a_batch_that_ends_too_early_is_noticed() {
        let mut bytes = Vec::new();
        encode(&samples(), &mut bytes, &mut Vec::new()).unwrap();
        for at in 0..bytes.len() {
            assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
