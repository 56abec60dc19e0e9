//! The embedded store: a synced journal in front, SQLite settled behind, both in one data folder.
//!
//! ```text
//! append ── queue ── writer thread ──┬─ journal-*.log: one frame a commit, synced   (the promise)
//!                                    └─ tail: where they stand in it, in memory
//!                                         │
//!                                    settler thread ── tertulia.db: folded, in bites (the settled rows)
//! reads  ── the tail for the newest entries, the settled rows for everything else
//! ```
//!
//! Why two: a message that goes straight into its table dirties a page of the table and one of the key's
//! index, which is 25 KB of writing for 100 bytes of text. The journal takes it in one sequential write and one
//! sync; the settler folds thousands at a time, sorted, so that they share their pages.
//!
//! Invariants:
//! - **E1** Nothing is told before its frame in the journal is synced.
//! - **E2** A frame goes only after a synced commit of `tertulia.db` holds it.
//! - **E3** `meta.settled` and a conversation's `last_commit` change in the transaction that folds those commits: nothing is
//!   ever folded twice.
//! - **E4** An entry is in the tail or settled, at every moment; a read looks into the tail first.
//! - **E5** A conversation is loaded from rows only when nothing of it is unsettled.
//! - **E6** `touched` names what came in the order of commits, also what was settled before its turn.
//! - **E7** A segment of the journal is not written over while somebody reads in it.
//! - **E8** Only the writer thread writes the journal, only the settler thread writes `tertulia.db`.
//!
//! Where to look: `writer` (decide, journal, answer), `conversations` (what the writer
//! knows), `record` (a batch as bytes), `journal`, `tail` (of each conversation: `unsettled`), `settler` (when: `burst`) and `settle` (folding), `log` and `block` (neighbours in a row; `pack`: as they were not yet),
//! `paced` (how it comes to the disk; `disk`: every sync), `priority`, `readers` and `reads` (one file a question), `touched` (what came, for those who follow), `newest` (what many ask for), `open` (replay), `store`
//! (the port), `sqlite` (all files).

mod block;
mod burst;
mod conversations;
mod disk;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod journal;
#[cfg(target_os = "linux")]
mod linux;
mod log;
mod newest;
mod open;
mod options;
pub mod paced;
mod pack;
pub mod priority;
mod readers;
mod reads;
mod record;
mod rows;
mod settle;
mod settled;
mod settler;
pub mod sqlite;
mod store;
mod tail;
#[cfg(test)]
mod tests;
mod touched;
mod unsettled;
mod writer;

pub use error::OpenError;
pub use options::{Faults, OpenOptions, TailLimits};
pub(crate) use readers::from_sqlite as unavailable_or_damaged;
pub use store::Embedded;
