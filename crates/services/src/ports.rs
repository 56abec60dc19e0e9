//! Free ports.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, Result};

/// Below those that the system gives to outgoing connections: one of these could else take the port of a server while
/// that is being restarted.
const FIRST: u16 = 20_000;
const COUNT: u16 = 8_000;
/// How far from each other processes begin that were started one after the other: nobody takes the port of a server that
/// another one is just restarting.
const APART: u32 = 80;

/// How many were asked for by this process.
static ASKED: AtomicU16 = AtomicU16::new(0);

/// A port that nobody listens on at this moment.
///
/// Somebody else may take it before its user does: then the user asks again.
///
/// # Errors
/// There is none.
pub fn free() -> Result<u16> {
    let begin = u16::try_from(std::process::id().wrapping_mul(APART) % u32::from(COUNT)).unwrap_or_default();
    (0..COUNT)
        .map(|_| FIRST + begin.wrapping_add(ASKED.fetch_add(1, Ordering::Relaxed)) % COUNT)
        .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .with_context(|| format!("all ports from {FIRST} to {} are in use", FIRST + COUNT - 1))
}
