//! The contract that clients rely on, as types: ids, entries, REST bodies, socket events and errors.
//!
//! Nothing in here does I/O. A newcomer reads [`entry`] first (what a conversation is made of),
//! then [`event`] (the socket) and [`rest`] (the calls); [`describe`] tells programs about both.

pub mod describe;
pub mod entry;
pub mod event;
pub mod id;
pub mod problem;
pub mod rest;
pub mod rules;
pub mod time;

pub use entry::{Entry, EntryKind};
pub use id::{ClientSeq, ConvoId, DeviceId, IdHash, IdMap, IdSet, Seq, UserId};
pub use problem::Code;
pub use time::Timestamp;
