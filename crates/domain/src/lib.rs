//! The rules of Tertulia, without I/O: no socket, disk, clock or randomness in here; time comes in as an argument.
//!
//! - [`log`]: what can be asked of a conversation's log, and what comes of it.
//! - [`conversation`]: what a conversation is: a fold over its log, and the rules that let an intent in.
//! - [`hub`]: who gets which frame: live or lagging readers, their outboxes, the positions they are told.
//! - [`presence`]: who is there.
//! - [`limits`]: how often somebody may do something.
//! - [`rendezvous`]: which of several places something belongs to.
//! - [`backoff`]: when to try again.

pub mod backoff;
pub mod conversation;
pub mod hub;
pub mod limits;
pub mod log;
pub mod presence;
pub mod rendezvous;
