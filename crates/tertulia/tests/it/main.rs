//! The binary as scripts and people meet it: its lines, its exit statuses, and that it survives being killed.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests say what they check by their names"
)]

mod bench;
mod chat;
mod check;
mod command_line;
mod feed;
mod process;
mod rolling;
mod survival;
mod torture;
