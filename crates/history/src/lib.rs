//! Histories: what clients did and saw, written as they went along, and a checker that proves or refutes
//! the guarantees of the service by them.
//!
//! A newcomer reads [`event`] (what is written down), then [`record`] (how a program writes it) and [`Tape`] (how it
//! writes what its sockets say and hear), then [`mod@check`] (what is made of it); `docs/history.md` says the same for
//! people who write other programs.

pub mod check;
pub mod clock;
pub mod event;
pub mod record;
mod tape;

pub use event::{Body, Event, Seen};
pub use record::{Recorder, Written};
pub use tape::Tape;
