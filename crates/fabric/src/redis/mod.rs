//! What all adapters for Redis share: addresses, the wire, connections that come back, and which server has what.
//!
//! One code for a single server and for a Redis Cluster; the servers say which they are. Not a client for everything:
//! it has what the adapters need (docs/decisions/008-our-own-connections-to-redis.md).
//!
//! Files, in reading order: `target` (the URL), `resp` (the protocol, without I/O), `wire` (a connection), `caller`
//! (commands and their answers), `topology` (which server has which key), `servers` (all of them).

mod caller;
mod resp;
mod servers;
mod target;
#[cfg(test)]
pub(crate) mod testing;
mod topology;
mod wire;

#[cfg(feature = "fuzzing")]
pub mod fuzzing;

pub(crate) use caller::CallError;
pub(crate) use resp::{Command, Reply, Value};
pub(crate) use servers::{Routed, Servers};
pub(crate) use target::Address;
pub use target::{InvalidTarget, Target};
pub(crate) use topology::{Topology, slot_of};
pub(crate) use wire::{Incoming, Life, Outgoing, WireError, dial};
