//! The generator: threads of lean connections that send, receive and take times.
//!
//! Reading order: [`plan`] (what is to be done), [`wire`] (frames), [`connection`] (one socket: what it does
//! when something comes), [`worker`] (one thread: it waits, and looks at the clock), [`generator`] (all threads,
//! from connecting to leaving), [`tally`] (what they counted).

pub(crate) mod plan;

mod wire;

pub(crate) mod handshake;

mod connection;

mod alarm;
mod fanout;
mod worker;

pub(crate) mod generator;
pub(crate) mod tally;

pub(crate) use alarm::Alarm;
pub(crate) use handshake::upgrade_request;
pub(crate) use wire::{KEY, Letter, STAMP_BYTES};
