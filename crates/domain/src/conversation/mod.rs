//! What a conversation is (a fold over its log), and the rules that let an intent in.
//!
//! The path of an intent: [`decide()`] says whether it is let in, given the conversation as it is; what is let
//! in is a [`Proposal`], which [`apply`] folds into the conversation, giving a [`Record`] to keep and an
//! [`Outcome`](crate::log::Outcome) to tell. Nothing in here waits or remembers: what `decide` does not know
//! (was this number sent before?) it asks, and whoever calls looks it up and decides again.
//!
//! Members, roles, titles and policies come out of the entries alone, so a reader of the log sees what the
//! server sees. Watermarks and a member's own settings are no entries; they have records of their own.

mod decide;
mod record;
mod state;
#[cfg(test)]
mod tests;

pub use decide::{Decision, Facts, Proposal, Question, decide};
pub use record::{Effect, Passed, Record};
pub use state::{Conversation, Membership, Summary, apply};

/// The most members of a group.
pub const GROUP_MEMBERS_MAX: usize = 100_000;

/// The most members of a conversation in which the receipts of others are pushed and replayed.
///
/// Every receipt goes to every member: in a group of thousands that is millions of frames for one message,
/// and nobody reads them. Who wants to know asks for the receipts of one message.
pub const RECEIPTS_MEMBERS_MAX: usize = 256;
