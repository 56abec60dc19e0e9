//! Real PostgreSQL, Redis and Kafka for tests and development: each in a folder, on a port of this machine alone.
//!
//! - A test that only needs *a* server asks for [`shared::url`]: those are started by `make services`, and by
//!   `make test` for itself.
//! - One that needs an empty database in it has a [`Database`].
//! - A test that does something to a server has its own: [`Server::temporary`], which is gone when it is dropped, or
//!   when the test is killed.
//! - What happens on the way to a server is a [`Proxy`]'s work: answers that are lost, connections that break.
//!
//! The programs come from the system (`scripts/setup test` installs them). Everything blocks; nothing here is for
//! production: whoever reaches the port is let in.

mod database;
mod kafka;
mod keeper;
mod ports;
mod postgres;
mod process;
mod proxy;
mod redis;
mod server;
pub mod shared;

pub use database::Database;
pub use ports::free as free_port;
pub use proxy::{Fault, Proxy};
pub use server::{Kind, Life, Server};
