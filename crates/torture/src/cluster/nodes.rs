//! The nodes of a cluster and what they use: each reaches PostgreSQL and Redis on ways of its own, which can be broken.
//!
//! Another server that all nodes use (a feed) has its place here: a [`Way`] of each node, a slot in [`Backends`], a
//! [`Backend`] and the kinds of faults that go with it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tertulia_services::{Fault, Kind, Proxy, Server as Service};

use super::plan::{Backend, Break, Outage};
use crate::error::Error;
use crate::server::{Launch, Server};

/// Silence is noticed soon, so that a run of minutes has much of it.
pub(crate) const SETTINGS: &str = "heartbeat = 3\npresence_ttl = 9\n";

/// A node, and its ways to what all nodes use.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) server: Server,
    pub(crate) address: SocketAddr,
    pub(crate) log: PathBuf,
    to_postgres: Proxy,
    to_redis: Proxy,
}

impl Node {
    /// One that is not started yet, with its files in `folder`.
    pub(crate) fn new(
        number: usize,
        binary: &Path,
        folder: &Path,
        backends: &Backends,
    ) -> Result<Self, Error> {
        let port = tertulia_services::free_port().map_err(Error::service)?;
        let way = |to: SocketAddr| Proxy::to(to).map_err(Error::service);
        let (to_postgres, to_redis) = (way(backends.postgres_at)?, way(backends.redis_at)?);
        let log = folder.join(format!("node{number}.log"));
        let launch = Launch {
            binary: binary.to_owned(),
            port,
            data: folder.join(format!("node{number}")),
            log: log.clone(),
            by_shell: false,
            mounted: false,
            config: folder.join(format!("node{number}.toml")),
            settings: SETTINGS,
            more: Vec::new(),
        };
        let server = Server::new(launch)?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut node = Self { server, address, log, to_postgres, to_redis };
        node.set_clock(None);
        Ok(node)
    }

    /// From its next start on its clock is off by so many seconds.
    pub(crate) fn set_clock(&mut self, off_by: Option<i64>) {
        let mut options = vec![
            "--store".to_owned(),
            format!("postgres://postgres@{}/postgres", self.to_postgres.address()),
            "--live".to_owned(),
            format!("redis://{}", self.to_redis.address()),
        ];
        options.extend(off_by.map(|seconds| format!("--clock-off-by={seconds}")));
        self.server.set_options(options);
    }

    fn way(&self, to: Backend) -> &Proxy {
        match to {
            Backend::Postgres => &self.to_postgres,
            Backend::Redis => &self.to_redis,
        }
    }

    pub(crate) fn part(&self, from: Backend, how: Break) {
        let way = self.way(from);
        match how {
            Break::Reset => {
                way.set(Fault::Refused);
                way.cut();
            }
            Break::Hole => way.set(Fault::Stalled),
        }
    }

    pub(crate) fn join(&self, with: Backend) {
        self.way(with).set(Fault::None);
    }
}

/// What all nodes use: servers of this run alone.
#[derive(Debug)]
pub(crate) struct Backends {
    postgres: Option<Service>,
    redis: Option<Service>,
    postgres_at: SocketAddr,
    redis_at: SocketAddr,
}

impl Backends {
    pub(crate) async fn start() -> Result<Self, Error> {
        let start =
            |kind| tokio::task::spawn_blocking(move || Service::temporary(kind).map_err(Error::service));
        let (postgres, redis) = (start(Kind::Postgres), start(Kind::Redis));
        let (postgres, redis) =
            (postgres.await.map_err(Error::service)??, redis.await.map_err(Error::service)??);
        let (postgres_at, redis_at) = (postgres.address(), redis.address());
        Ok(Self { postgres: Some(postgres), redis: Some(redis), postgres_at, redis_at })
    }

    pub(crate) async fn strike(&mut self, of: Backend, outage: Outage) -> Result<(), Error> {
        match outage {
            Outage::Killed(_) => self.with(of, Service::kill).await,
            Outage::Paused(_) => self.with(of, |service| service.pause()).await,
            Outage::Emptied => {
                let at = self.redis_at;
                let emptied = tokio::task::spawn_blocking(move || empty(at)).await.map_err(Error::service)?;
                emptied.map_err(Error::io("empty Redis", Path::new(&at.to_string())))
            }
        }
    }

    pub(crate) async fn heal(&mut self, of: Backend, outage: Outage) -> Result<(), Error> {
        match outage {
            Outage::Killed(_) => self.with(of, Service::restart).await,
            Outage::Paused(_) => self.with(of, |service| service.resume()).await,
            Outage::Emptied => Ok(()),
        }
    }

    /// Does something that takes its time.
    async fn with<E: std::fmt::Display + Send + 'static>(
        &mut self,
        which: Backend,
        work: impl FnOnce(&mut Service) -> Result<(), E> + Send + 'static,
    ) -> Result<(), Error> {
        let slot = match which {
            Backend::Postgres => &mut self.postgres,
            Backend::Redis => &mut self.redis,
        };
        let Some(mut service) = slot.take() else { return Ok(()) };
        let working = tokio::task::spawn_blocking(move || {
            let done = work(&mut service).map_err(Error::service);
            (service, done)
        });
        let (service, done) = working.await.map_err(Error::service)?;
        *slot = Some(service);
        done
    }

    /// Copies what they have said to `folder`.
    pub(crate) fn keep_logs(&self, folder: &Path) {
        for (name, service) in [("postgres.log", &self.postgres), ("redis.log", &self.redis)] {
            if let Some(service) = service {
                // It is for whoever looks for a cause: without it he has less.
                drop(std::fs::copy(service.folder().join("log"), folder.join(name)));
            }
        }
    }
}

/// Makes Redis forget everything.
fn empty(at: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"FLUSHALL\r\n")?;
    stream.read_exact(&mut [0; 5])
}
