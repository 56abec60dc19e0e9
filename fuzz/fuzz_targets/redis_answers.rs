//! Whatever a Redis server says: no panic, nothing beyond what is there, and a map of a cluster has a server for each key.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tertulia_fabric::redis::fuzzing::server_says(bytes));
