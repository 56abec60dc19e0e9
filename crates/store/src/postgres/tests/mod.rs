//! The PostgreSQL adapters against the suites of their ports, and what they alone promise.

mod accounts;
pub(crate) mod database;
mod encrypted;
mod faults;
mod horizon;
mod migrations;
mod nodes;
mod observed;
mod plans;
mod published;
mod shared;
mod suite;
