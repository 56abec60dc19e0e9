//! Connections, hub and store through random interleavings, from a seed: guarantees 1 to 6.
//!
//! Everything that takes time in a node is cut here into steps that the seed puts in any order: a batch is
//! appended but not yet handed over, a reader is registered but has not read what it missed, a page was read
//! but not yet given, a client does not read, a connection breaks, the process dies and starts again. With
//! several nodes a letter is late, a link breaks, a node dies and another takes its place. The hubs and the store are
//! the real ones; their driver is this test instead of sockets and tasks.
//!
//! `TERTULIA_SIM_SEED=n cargo test -p tertulia-server --test simulation` repeats one run,
//! `TERTULIA_SIM_RUNS=n` makes n runs.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "tests fail by panics"
)]

mod chance;
mod client;
mod crowd;
mod one_node;
mod several_nodes;
mod truth;

use std::time::Duration;

use tertulia_domain::hub::{Limits, Settings};

const STEPS: usize = 700;

/// Seeds that once found something.
const FOUND: [u64; 8] = [46, 61, 97, 113, 146, 164, 168, 1027];

#[test]
fn guarantees_1_to_6_hold_in_every_interleaving() {
    run_seeds(&FOUND, 40, one_node::run);
}

#[test]
fn guarantees_1_to_6_hold_on_several_nodes_that_lose_their_links_and_their_lives() {
    run_seeds(&[20, 52, 79], 27, several_nodes::run);
}

#[test]
fn guarantees_1_to_6_hold_on_several_nodes_whose_store_has_two_parts() {
    run_seeds(&[], 20, several_nodes::run_on_two_parts);
}

#[test]
fn guarantees_1_to_6_hold_on_several_nodes_to_which_conversations_come_and_go() {
    run_seeds(&[116], 20, several_nodes::run_sparse);
}

fn run_seeds(found: &[u64], runs: u64, run: impl AsyncFn(u64)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds: Vec<u64> = match number("TERTULIA_SIM_SEED") {
        Some(seed) => vec![seed],
        // The first seeds always, so that a failure of tomorrow is not one of chance alone.
        None => found.iter().copied().chain(0..number("TERTULIA_SIM_RUNS").unwrap_or(runs)).collect(),
    };
    for seed in seeds {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(run(seed));
        }));
        if let Err(panic) = result {
            eprintln!("failed with TERTULIA_SIM_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// A hub whose outboxes are so small that readers lag all the time.
fn settings() -> Settings {
    Settings {
        position: Box::new(|_| String::new()),
        part_of: Box::new(|_| 0),
        presence_ttl: Duration::from_secs(60),
        heartbeat: Duration::from_secs(25),
        outbox: Limits { frames: 4, bytes: 64 * 1_024, ephemeral: 4 },
        sockets_per_device: usize::MAX,
        others_append: false,
    }
}
