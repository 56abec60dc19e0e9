//! What a conversation is.
/// In larger conversations receipts of others are not replayed.
pub const RECEIPTS_MEMBERS_MAX: usize = 256;
