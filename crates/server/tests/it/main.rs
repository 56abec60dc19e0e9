//! The contract over real sockets, row by row, against a node in this process.

#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests say what they check by their names"
)]

mod asking;
mod basics;
mod cluster;
mod cluster_presence;
mod drain;
mod feed;
mod follow;
mod gateway;
mod harness;
mod limits;
mod long_poll;
mod outside;
mod reach;
mod rest_accounts;
mod rest_blocks;
mod rest_conversations;
mod rest_errors;
mod rest_history;
mod rest_members;
mod rest_messages;
mod rest_receipts;
mod search;
mod slow_readers;
mod socket_close;
mod socket_handshake;
mod socket_limits;
mod socket_members;
mod socket_messages;
mod socket_presence;
mod socket_receipts;
mod socket_resume;
mod socket_typing;
mod storm;
mod two_stores;
mod wire;
