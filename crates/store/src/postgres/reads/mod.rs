//! Reads, one file a question: each is one statement, so that all that it sees is of one moment.

pub(super) mod changes;
pub(super) mod conversation;
pub(super) mod feed;
pub(super) mod history;
pub(super) mod leftovers;
pub(super) mod members;
