//! A server under torture: it is killed, stopped, drained, its disk is filled and its connections are cut, while a
//! seeded crowd of clients does everything that clients do; then it is checked that every guarantee held.
//!
//! A newcomer reads in this order: [`torture`] (a run from its first user to its report), `plan` (what is done to
//! the server, and when), `harm` (how it is done), `cast` and `actors` (who uses the server meanwhile, and how),
//! `device` (what each of them does by calls, and what is judged on the spot), `verdict` (what the history says).
//!
//! All choices come from one seed. Which of them meets what at the server does not: a run cannot be repeated move
//! by move, but the same seed gives the same mix again.

mod actors;
mod board;
mod cast;
mod chance;
pub mod cluster;
mod cutter;
mod device;
mod disk;
mod echoes;
mod error;
mod folder;
mod guard;
mod harm;
mod members;
mod plan;
mod progress;
mod recovery;
pub mod report;
mod server;
pub mod torture;
mod verdict;
mod wire;
mod world;

pub use cluster::{ClusterOptions, run_cluster};
pub use error::Error;
pub use plan::FaultKind;
pub use report::Report;
pub use torture::{Options, run};
