//! Free ports.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, Result};

/// Below those that the system gives to outgoing connections, as is the second port that a Redis Cluster's server takes
/// ([`BUS`]): one of these could else take the port of a server while that is being restarted.
const FIRST: u16 = 14_000;
const COUNT: u16 = 8_000;
/// How far above its port a server of a Redis Cluster talks to the others (the default of its `cluster-port`).
const BUS: u16 = 10_000;
const _: () = assert!(BUS >= COUNT, "the one's bus is the other's port");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_outgoing_connection_is_given_the_port_of_a_server_or_of_its_cluster() {
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let first: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
        assert!(FIRST + COUNT + BUS <= first, "outgoing connections begin at {first}");
    }
}
