//! The Rust client of Tertulia: what the command line, the load generator and the tests speak with.
//!
//! A newcomer reads in this order: [`server`] is an address; [`session`] is a login on it that keeps itself
//! fresh; [`api`] makes the calls of the contract; [`client`] holds the socket and hands over every entry of
//! every conversation once and in order, whatever happens to the connection. Its logic is a state machine
//! without socket, clock or randomness (`machine`), made of an ordered outbox (`outbox`) and of what has
//! been handed over of each conversation (`timeline`).

pub mod api;
pub mod backoff;
pub mod client;
pub mod error;
pub mod event;
pub mod server;
pub mod session;

mod machine;
mod marks;
mod outbox;
mod record;
mod route;
mod socket;
mod timeline;

#[cfg(test)]
mod tests;
