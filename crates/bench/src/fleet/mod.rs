//! Connections for what the steady load of `load` does not do: being cut and coming back, asking for what was missed,
//! saying things that are no messages.
//!
//! Reading order: [`frames`] (what matters in a frame), [`mod@line`] (one socket that does not block, from dialling to
//! hearing), [`caller`] (one that blocks, for doing one thing after the other), [`fill`] (a history, quickly).

pub(crate) mod frames;
pub(crate) mod line;

pub(crate) mod caller;
pub(crate) mod fill;
