//! What a server does under load, measured: scenarios, the generator of their load, and a report.
//!
//! A newcomer reads in this order: [`scenario`] (what is measured), `crowd` (users and conversations, made once
//! and used again), `load` (threads of lean connections that send, receive and take times), `fleet` (connections that
//! do what no steady load does: come back, catch up, disturb), [`report`] (what came out, and under which
//! conditions), [`plot`] (the same as a chart); then [`floor`] and [`against`] (what a server is compared with).
//!
//! The generator shares the machine with the server, so it must cost little: each thread waits in one place for
//! all of its connections, reads into one buffer, looks for the three or four numbers that it needs instead of
//! parsing JSON, and answers each read with at most one write. What it costs all the same stands in the report,
//! beside what the server costs. A run that writes a history (`chronicle`) reads every frame whole, and costs more.
//!
//! Every latency is taken from the moment a message was due; in a closed loop that is when it is sent.

mod error;
pub mod scenario;

mod appends;
mod bench;

mod crowd;

mod chronicle;

mod load;

mod fleet;

mod conditions;
pub mod histogram;
pub mod plot;
mod process;
mod progress;
pub mod report;
mod sampling;
mod seeded;
mod service;

pub mod against;
pub mod floor;

pub use bench::{Options, run};
pub use error::Error;
pub use scenario::Scenario;
pub use service::Beside;
