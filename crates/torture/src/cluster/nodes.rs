//! The nodes of a cluster and what they use: each reaches PostgreSQL, Redis and Kafka on ways of its own, which can be broken.

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
    ways: Ways,
}

/// How a node reaches what all of them use.
#[derive(Debug)]
pub(crate) struct Ways {
    to_postgres: Proxy,
    to_redis: Proxy,
    to_kafka: Option<Proxy>,
}

impl Node {
    /// One that is not started yet, with its files in `folder`.
    pub(crate) fn new(number: usize, binary: &Path, folder: &Path, ways: Ways) -> Result<Self, Error> {
        let port = tertulia_services::free_port().map_err(Error::service)?;
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
        let mut node = Self { server, address, log, ways };
        node.set_clock(None);
        Ok(node)
    }

    /// From its next start on its clock is off by so many seconds.
    pub(crate) fn set_clock(&mut self, off_by: Option<i64>) {
        let mut options = vec![
            "--store".to_owned(),
            format!("postgres://postgres@{}/postgres", self.ways.to_postgres.address()),
            "--live".to_owned(),
            format!("redis://{}", self.ways.to_redis.address()),
        ];
        if let Some(to_kafka) = &self.ways.to_kafka {
            options.extend(["--feed".to_owned(), format!("kafka://{}?partitions=4", to_kafka.address())]);
        }
        options.extend(off_by.map(|seconds| format!("--clock-off-by={seconds}")));
        self.server.set_options(options);
    }

    fn way(&self, to: Backend) -> Option<&Proxy> {
        match to {
            Backend::Postgres => Some(&self.ways.to_postgres),
            Backend::Redis => Some(&self.ways.to_redis),
            Backend::Kafka => self.ways.to_kafka.as_ref(),
        }
    }

    pub(crate) fn part(&self, from: Backend, how: Break) {
        let Some(way) = self.way(from) else { return };
        match how {
            Break::Reset => {
                way.set(Fault::Refused);
                way.cut();
            }
            Break::Hole => way.set(Fault::Stalled),
        }
    }

    pub(crate) fn join(&self, with: Backend) {
        if let Some(way) = self.way(with) {
            way.set(Fault::None);
        }
    }
}

/// What all nodes use: servers of this run alone.
#[derive(Debug)]
pub(crate) struct Backends {
    postgres: Option<Service>,
    redis: Option<Service>,
    kafka: Option<Service>,
    redis_at: SocketAddr,
}

impl Backends {
    /// Starts them, and makes the ways of so many nodes to them.
    pub(crate) async fn start(nodes: usize, with_kafka: bool) -> Result<(Self, Vec<Ways>), Error> {
        let start =
            |kind| tokio::task::spawn_blocking(move || Service::temporary(kind).map_err(Error::service));
        let (postgres, redis) = (start(Kind::Postgres), start(Kind::Redis));
        let kafka = tokio::task::spawn_blocking(move || {
            let ways = (0..if with_kafka { nodes } else { 0 }).map(|_| way_to_kafka());
            let ways = ways.collect::<Result<Vec<_>, _>>()?;
            let known: Vec<_> = ways.iter().map(|(port, way)| (*port, way.address())).collect();
            let kafka = with_kafka.then(|| Service::temporary_kafka(&known)).transpose();
            let ways = ways.into_iter().map(|(_, way)| way).collect::<Vec<_>>();
            kafka.map(|kafka| (kafka, ways)).map_err(Error::service)
        });
        let (postgres, redis) =
            (postgres.await.map_err(Error::service)??, redis.await.map_err(Error::service)??);
        let (kafka, to_kafka) = kafka.await.map_err(Error::service)??;
        let mut to_kafka = to_kafka.into_iter();
        let ways = (0..nodes).map(|_| {
            let way = |to: SocketAddr| Proxy::to(to).map_err(Error::service);
            let (to_postgres, to_redis) = (way(postgres.address())?, way(redis.address())?);
            Ok::<_, Error>(Ways { to_postgres, to_redis, to_kafka: to_kafka.next() })
        });
        let ways = ways.collect::<Result<_, _>>()?;
        let redis_at = redis.address();
        Ok((Self { postgres: Some(postgres), redis: Some(redis), kafka, redis_at }, ways))
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
            Backend::Kafka => &mut self.kafka,
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
        let all = [("postgres.log", &self.postgres), ("redis.log", &self.redis), ("kafka.log", &self.kafka)];
        for (name, service) in all {
            if let Some(service) = service {
                // It is for whoever looks for a cause: without it he has less.
                drop(std::fs::copy(service.folder().join("log"), folder.join(name)));
            }
        }
    }
}

/// A way to a port on which Kafka will listen, and will say that it is reached on this way: whoever asks one of its brokers
/// where the others are is told so.
fn way_to_kafka() -> Result<(u16, Proxy), Error> {
    let port = tertulia_services::free_port().map_err(Error::service)?;
    let way = Proxy::to(SocketAddr::from(([127, 0, 0, 1], port))).map_err(Error::service)?;
    Ok((port, way))
}

/// Makes Redis forget everything.
fn empty(at: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"FLUSHALL\r\n")?;
    stream.read_exact(&mut [0; 5])
}
