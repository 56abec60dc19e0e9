//! The floor: what this machine could do at best, without a store, rules or limits.
//!
//! A relay that speaks the same frames as a server, of the same length, and has nothing else to do: conversations are
//! in memory, nothing is checked, nothing can be read again. With a file it syncs what it relays, so that an ack says
//! as much about the disk as a server's does. A server's figure beside this one says what its guarantees cost; a
//! figure alone says as much about the machine and its neighbours.
//!
//! It is as fast as we could write it. One thread works in turns: it reads every socket that has something into one
//! buffer, puts what was said into one arena of frames, syncs once, and then writes each connection once, straight
//! from the arena if what the connection is to hear stands there in one piece (as it does, but for who writes in one
//! conversation and reads in another). Frames are scanned for their few fields, never parsed, and a message's frame
//! is made once, however many hear it.
//!
//! Most of what it costs is the system's: of the CPU of a pair's message some 85 % go to sockets. So there is one sync
//! in the same thread (a second one would have a tenth of a core to win, and locks to pay), and a file that is
//! neither read again nor longer than it was.
//!
//! Reading order: `serve` (the thread), `relay` (a turn, without sockets), `frames` (what is said), `log` (the file);
//! `registry`, `rest` and `http` (users and conversations, before anything is said).

mod frames;
mod http;
mod log;
mod registry;
mod relay;
mod rest;
mod serve;

#[cfg(test)]
mod tests;

pub use serve::{Floor, Stop};
