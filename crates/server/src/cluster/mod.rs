//! What makes nodes one service: what one of them appends, the others tell their readers.
//!
//! The log stays the truth. A letter is a hint that comes sooner than a read would: it may be lost, come twice or late,
//! and the hub reads what it lacks.

pub mod letters;
