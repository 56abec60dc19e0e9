//! Identifiers and counters, each a type of its own so that none is taken for another.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::str::FromStr;
use std::sync::LazyLock;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// An identifier that is not a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id: ids are UUIDs, as in 0198f3a2-7c4e-7b1a-9d3e-5f6a7b8c9d0e")]
pub struct InvalidId;

/// A map by ids; see [`IdHash`].
pub type IdMap<K, V> = HashMap<K, V, IdHash>;
/// A set of ids; see [`IdHash`].
pub type IdSet<K> = HashSet<K, IdHash>;

/// Hashes what is random already: one multiplication instead of SipHash.
///
/// Ids are made by servers, of which clients choose no bit; and a key that each process draws at its start keeps places
/// in a table from whoever collects ids that he knows.
#[derive(Debug, Clone, Copy)]
pub struct IdHash(u64);

impl Default for IdHash {
    fn default() -> Self {
        static KEY: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0_u8));
        Self(*KEY)
    }
}

impl BuildHasher for IdHash {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher(self.0)
    }
}

/// The hasher of [`IdHash`].
#[derive(Debug)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write_u64(&mut self, number: u64) {
        /// The fraction of the golden ratio, odd: it moves every bit into the upper half (Knuth, volume 3, 6.4).
        const RATIO: u128 = 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(self.0 ^ number) * RATIO;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut number = [0; 8];
            number[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(number));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Reads an id where it stands, without a copy of the text.
struct IdVisitor<T>(std::marker::PhantomData<T>);

impl<T: FromStr<Err = InvalidId>> serde::de::Visitor<'_> for IdVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a UUID")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// A UUIDv7 (RFC 9562 section 5.7), written in its hyphenated lower-case form.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                let (time, random) = self.0.as_u64_pair();
                state.write_u64(time.rotate_left(32) ^ random);
            }
        }

        impl $name {
            /// Wraps a UUID that is known to name one of these.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// Wraps the 16 bytes of a UUID, as [`as_bytes`](Self::as_bytes) gave them.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// Makes a UUIDv7 of a moment and 10 random bytes; both are passed in, so that tests own them.
            pub fn new(now: crate::Timestamp, random: [u8; 10]) -> Self {
                let millis = u64::try_from(now.as_millis()).unwrap_or(0);
                Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
            }

            /// The 36 ASCII characters of the hyphenated form, as [`Display`](fmt::Display) writes it, without its detours.
            pub fn to_hyphenated(&self) -> [u8; uuid::fmt::Hyphenated::LENGTH] {
                let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
                self.0.hyphenated().encode_lower(&mut text);
                text
            }

            /// The 16 bytes of the UUID.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                // Only the hyphenated form: one id has one spelling.
                if text.len() != 36 {
                    return Err(InvalidId);
                }
                Uuid::try_parse(text).map(Self).map_err(|_| InvalidId)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(IdVisitor(std::marker::PhantomData))
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": "uuid" })
            }
        }
    )*};
}

ids! {
    /// Names a conversation.
    ConvoId;
    /// Names a user.
    UserId;
    /// Names a device: one login of one user.
    DeviceId;
}

impl ConvoId {
    /// The one id that the direct conversation of two users (or of a user with himself) can have.
    ///
    /// Both sides compute the same id, whoever asks first and on whichever node, so the primary
    /// key alone makes the conversation unique. The time in it is the younger user's, the rest
    /// comes from a hash of the ordered pair; a valid UUIDv7 like any other.
    pub fn direct(a: UserId, b: UserId) -> Self {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        let hash = Sha256::new()
            .chain_update(b"tertulia direct conversation")
            .chain_update(low.as_bytes())
            .chain_update(high.as_bytes())
            .finalize();
        let mut random = [0; 10];
        random.copy_from_slice(&hash[..10]);
        let younger: &[u8] = std::cmp::max(&low.as_bytes()[..6], &high.as_bytes()[..6]);
        let mut millis = [0; 8];
        millis[2..].copy_from_slice(younger);
        Self(uuid::Builder::from_unix_timestamp_millis(u64::from_be_bytes(millis), &random).into_uuid())
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident, $max:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            /// The largest value: 2^53 - 1, the largest integer that every JSON reader keeps exact.
            pub const MAX: Self = Self($max);

            /// Wraps a number.
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// The number.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The next one; the largest has none and stays.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }

            /// The one before; zero has none and stays.
            #[must_use]
            pub const fn previous(self) -> Self {
                Self(self.0.saturating_sub(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "integer", "minimum": 0, "maximum": 9_007_199_254_740_991_u64 })
            }
        }
    )*};
}

counters! {
    /// The place of an entry in its conversation: 1, 2, 3, … without holes. As a watermark 0 means nothing yet.
    Seq, (1 << 53) - 1;
    /// The sender's own number of a message, unique in (device, conversation): 1 … 2^53 - 1, in any order.
    ClientSeq, (1 << 53) - 1;
}

impl ClientSeq {
    /// Whether the number is in the range that a client may use.
    pub const fn is_valid(self) -> bool {
        self.0 >= 1 && self.0 <= Self::MAX.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    fn user(millis: i64, fill: u8) -> UserId {
        UserId::new(Timestamp::from_millis(millis), [fill; 10])
    }

    #[test]
    fn both_sides_of_a_pair_compute_the_same_direct_conversation() {
        let (ana, bo) = (user(1_000, 1), user(2_000, 2));
        assert_eq!(ConvoId::direct(ana, bo), ConvoId::direct(bo, ana));
        assert_ne!(ConvoId::direct(ana, bo), ConvoId::direct(ana, ana));
    }

    #[test]
    fn a_direct_conversation_has_a_valid_uuid_of_version_7() {
        let id = ConvoId::direct(user(1_000, 1), user(2_000, 2));
        assert_eq!(id.0.get_version_num(), 7);
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn ids_spread_over_a_table() {
        let hash = IdHash::default();
        let hashes = (0..4_096_u64).map(|number| {
            let mut random = [0; 10];
            random[2..].copy_from_slice(&number.to_be_bytes());
            hash.hash_one(UserId::new(Timestamp::from_millis(7), random))
        });
        let mut places = [0_u32; 256];
        hashes.for_each(|hash| places[(hash % 256) as usize] += 1);
        // 16 each on average.
        assert!(places.iter().all(|&count| count < 64), "{places:?}");
    }

    #[test]
    fn an_id_has_one_spelling() {
        let id = user(5, 9);
        let simple = id.0.simple().to_string();
        assert_eq!(simple.parse::<UserId>(), Err(InvalidId));
        assert_eq!(format!("{{{id}}}").parse::<UserId>(), Err(InvalidId));
    }
}
