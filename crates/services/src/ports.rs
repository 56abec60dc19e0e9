//! Free ports.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, Result};

/// Below those that the system gives to outgoing connections: one of these could else take the port of a server while
/// that is being restarted.
const FIRST: u16 = 7_600;
const COUNT: u16 = 100;

/// How many were asked for by this process.
static ASKED: AtomicU16 = AtomicU16::new(0);

/// A port that nobody listens on at this moment.
///
/// Somebody else may take it before its user does: then the user asks again.
///
/// # Errors
/// There is none.
pub fn free() -> Result<u16> {
    // Other processes begin elsewhere.
    let begin = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap_or_default();
    (0..COUNT)
        .map(|_| FIRST + begin.wrapping_add(ASKED.fetch_add(1, Ordering::Relaxed)) % COUNT)
        .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .with_context(|| format!("all ports from {FIRST} to {} are in use", FIRST + COUNT - 1))
}
