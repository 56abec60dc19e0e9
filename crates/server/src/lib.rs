//! The server: gateway (HTTP, socket, long-poll), hub, append lanes and their wiring.

pub mod accounts;
pub mod clock;
pub mod limits;
pub mod rest;
