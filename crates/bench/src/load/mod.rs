//! The generator: threads of lean connections that send, receive and take times.
//!
//! Reading order: [`plan`] (what is to be done), [`wire`] (frames), [`connection`] (one socket: what it does
//! when something comes), [`worker`] (one thread: it waits, and looks at the clock), [`generator`] (all threads,
//! from connecting to leaving), [`tally`] (what they counted).

pub(crate) mod plan;

mod wire;

mod handshake;

mod connection;

mod alarm;
mod fanout;
mod worker;

pub(crate) mod generator;
pub(crate) mod tally;

pub(crate) use wire::STAMP_BYTES;
