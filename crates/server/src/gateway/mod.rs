//! The doors: TCP and HTTP ([`listener`]), the socket ([`socket`], what it hears, [`incoming`], and what is read for it,
//! `catching_up`), the long-poll ([`long_poll`]), and what all readers begin with ([`joining`]).

mod catching_up;
pub(crate) mod cursor;
pub mod incoming;
pub mod joining;
pub mod listener;
pub mod long_poll;
pub(crate) mod slow;
pub mod socket;
pub mod turned_away;
pub mod upgrade;
