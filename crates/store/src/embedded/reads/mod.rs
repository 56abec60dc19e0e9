//! Reads of the settled rows, one file a question.
//!
//! Each runs in one transaction, after its caller has waited for whatever must be settled to be exact.

pub(super) mod changes;
pub(super) mod conversation;
pub(super) mod feed;
pub(super) mod heads;
pub(super) mod history;
pub(super) mod inbox;
pub(super) mod members;
pub(super) mod receipts;
pub(super) mod sharing;
