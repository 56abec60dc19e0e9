//! The doors: TCP and HTTP ([`listener`]), the socket ([`socket`] and what it hears, [`incoming`]), the
//! long-poll ([`long_poll`]), and what all readers begin with ([`joining`]).

pub(crate) mod cursor;
pub mod incoming;
pub mod joining;
pub mod listener;
pub mod long_poll;
pub(crate) mod slow;
pub mod socket;
pub mod turned_away;
pub mod upgrade;
