//! The service that is measured: its nodes, and the servers that work for them.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;

use crate::crowd::Api;
use crate::error::Error;
use crate::process::{Memory, Process};
use crate::report::Cost;

/// The metric that a figure is in.
macro_rules! figure {
    ($name:literal) => {
        concat!("tertulia_store_figure{figure=\"", $name, "\"}")
    };
}

/// What nodes say of themselves that a message adds to: the metric, and in words.
const COUNTED: [(&str, &str); 8] = [
    (figure!("store_batches"), "appends to the store"),
    (figure!("store_round_trips"), "round trips to the store"),
    (figure!("live_published"), "messages published to the live channel"),
    (figure!("live_published_bytes"), "bytes published to the live channel"),
    (figure!("live_heard"), "messages heard from the live channel"),
    (figure!("live_heard_bytes"), "bytes heard from the live channel"),
    (figure!("presence_commands"), "commands for presence"),
    ("tertulia_feed_relay_records_total", "records for the feed"),
];

/// Where to connect.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// The `Host` of the request.
    pub(crate) host: String,
}

/// Where to connect: a node each.
#[derive(Debug, Clone)]
pub(crate) struct Targets(Arc<[Target]>);

impl Targets {
    /// The node of a connection: drawn, but always the same.
    pub(crate) fn of(&self, number: usize) -> &Target {
        let mixed = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        &self.0[mixed as usize % self.0.len()]
    }

    /// One of the nodes, where it does not matter which.
    pub(crate) fn first(&self) -> &Target {
        &self.0[0]
    }
}

/// A server that works for the nodes, such as a database: what it is called, and the port on which it listens on this
/// machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beside {
    /// Its name in the report.
    pub name: String,
    /// Its port.
    pub port: u16,
}

impl FromStr for Beside {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no NAME=PORT, such as postgresql=5432");
        let (name, port) = text.split_once('=').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        if name.is_empty() {
            return Err(wrong());
        }
        Ok(Self { name: name.to_owned(), port })
    }
}

/// The nodes, and what works for them.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) targets: Targets,
    apis: Vec<Api>,
    /// A process each, if all of them are known.
    nodes: Vec<Process>,
    beside: Vec<(String, Process)>,
}

/// What everything has used up to a moment.
#[derive(Debug)]
pub(crate) struct Usage {
    nodes: Option<Duration>,
    beside: Vec<Option<Duration>>,
    counted: [f64; COUNTED.len()],
}

/// What was used between two moments.
#[derive(Debug, Default)]
pub(crate) struct Used {
    pub(crate) nodes: Option<Duration>,
    pub(crate) beside: Vec<(String, Duration)>,
    pub(crate) costs: Vec<Cost>,
}

impl Service {
    /// Looks for it.
    ///
    /// # Errors
    /// If an address is none, or a server beside is not there.
    pub(crate) fn find(servers: &[String], pid: Option<u32>, beside: &[Beside]) -> Result<Self, Error> {
        let found = servers.iter().map(|server| target(server)).collect::<Result<Vec<_>, _>>()?;
        if found.is_empty() {
            return Err(Error::Arguments("there is no server to measure".into()));
        }
        let processes = match (pid, found.as_slice()) {
            (Some(pid), [_]) => Some(vec![Process { pid }]),
            (Some(_), _) => {
                return Err(Error::Arguments("one process is not several nodes: leave it out".into()));
            }
            (None, found) => found
                .iter()
                .map(|(target, port)| {
                    target.address.ip().is_loopback().then(|| Process::listening_on(*port)).flatten()
                })
                .collect(),
        };
        let beside = beside.iter().map(|Beside { name, port }| {
            let process = Process::listening_on(*port).ok_or_else(|| {
                Error::Arguments(format!("{name}: no process of this machine listens on port {port}"))
            })?;
            Ok((name.clone(), process))
        });
        Ok(Self {
            apis: servers.iter().map(|server| Api::new(server)).collect::<Result<_, _>>()?,
            targets: Targets(found.into_iter().map(|(target, _)| target).collect()),
            nodes: processes.unwrap_or_default(),
            beside: beside.collect::<Result<_, Error>>()?,
        })
    }

    /// One of the nodes, for what any of them does.
    pub(crate) fn api(&self) -> &Api {
        &self.apis[0]
    }

    /// The process of the first node.
    pub(crate) fn process(&self) -> Option<Process> {
        self.nodes.first().copied()
    }

    /// The processes of all nodes; none if one is not known.
    pub(crate) fn processes(&self) -> &[Process] {
        &self.nodes
    }

    /// The time that the nodes have run.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        sum(&self.nodes, Process::cpu)
    }

    /// What of the nodes is resident, in bytes.
    pub(crate) fn resident(&self) -> Option<u64> {
        sum(&self.nodes, Process::resident)
    }

    /// What the nodes hold.
    pub(crate) fn memory(&self) -> Option<Memory> {
        let each = |take: fn(Memory) -> u64| sum(&self.nodes, |node| node.memory().map(take));
        Some(Memory {
            pss_bytes: each(|memory| memory.pss_bytes)?,
            rss_bytes: each(|memory| memory.rss_bytes)?,
        })
    }

    /// What everything has used.
    ///
    /// # Errors
    /// If a node does not say.
    pub(crate) async fn usage(&self) -> Result<Usage, Error> {
        let mut counted = [0.0; COUNTED.len()];
        for api in &self.apis {
            let metrics = api.text("/metrics").await?;
            for (sum, (metric, _)) in counted.iter_mut().zip(COUNTED) {
                *sum += value_of(&metrics, metric).unwrap_or(0.0);
            }
        }
        let beside = self.beside.iter().map(|(_, process)| process.cpu_with_descendants()).collect();
        Ok(Usage { nodes: self.cpu(), beside, counted })
    }

    /// What was used between two moments.
    pub(crate) fn used(&self, before: &Usage, after: &Usage) -> Used {
        let less = |after: Option<Duration>, before: Option<Duration>| {
            after.zip(before).map(|(after, before)| after.saturating_sub(before))
        };
        let beside = self.beside.iter().zip(after.beside.iter().zip(&before.beside));
        let counted = COUNTED.iter().zip(after.counted.iter().zip(&before.counted));
        Used {
            nodes: less(after.nodes, before.nodes),
            beside: beside
                .filter_map(|((name, _), (after, before))| Some((name.clone(), less(*after, *before)?)))
                .collect(),
            costs: counted
                .map(|((_, what), (after, before))| Cost { what, count: after - before })
                .filter(|cost| cost.count > 0.0)
                .collect(),
        }
    }
}

/// Of no processes nothing is known.
pub(crate) fn sum<T: std::iter::Sum>(
    processes: &[Process],
    take: impl Fn(Process) -> Option<T>,
) -> Option<T> {
    if processes.is_empty() {
        return None;
    }
    processes.iter().map(|process| take(*process)).sum()
}

fn value_of(metrics: &str, name: &str) -> Option<f64> {
    let of_line = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    metrics.lines().find_map(of_line)
}

/// Where the sockets connect to, and the port.
fn target(server: &str) -> Result<(Target, u16), Error> {
    let wrong = |why: &str| Error::Arguments(format!("{server:?} {why}: write http://HOST:PORT"));
    let url: Url = server.parse().map_err(|_| wrong("is no address"))?;
    if url.scheme() != "http" {
        return Err(wrong("is not measured: what TLS costs is not the server's"));
    }
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Err(wrong("has no host"));
    };
    let what = format!("look up {host}");
    let addresses = (host.trim_matches(['[', ']']), port).to_socket_addrs().map_err(Error::io(what))?;
    // A server listens on IPv4 more often than on IPv6.
    let addresses: Vec<SocketAddr> = addresses.collect();
    let address = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    let &address = address.ok_or_else(|| wrong("has no address"))?;
    Ok((Target { address, host: format!("{host}:{port}") }, port))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_server_is_a_plain_http_address() {
        let (found, port) = target("http://127.0.0.1:8080").unwrap();
        assert_eq!(
            (found.address.to_string().as_str(), found.host.as_str()),
            ("127.0.0.1:8080", "127.0.0.1:8080")
        );
        assert_eq!(port, 8080);
        assert_eq!(target("http://[::1]:81/").unwrap().0.address.to_string(), "[::1]:81");
        for wrong in ["localhost", "https://localhost", "127.0.0.1:8080", "http://"] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn connections_are_spread_over_the_nodes_and_so_are_the_two_of_a_pair() {
        let nodes: Vec<_> =
            (1..=3).map(|port| target(&format!("http://127.0.0.1:{port}")).unwrap().0).collect();
        let targets = Targets(nodes.into());
        let port = |number| targets.of(number).address.port();
        let mut counts = HashMap::<_, usize>::new();
        let mut apart = 0;
        for pair in 0..300 {
            *counts.entry(port(2 * pair)).or_default() += 1;
            *counts.entry(port(2 * pair + 1)).or_default() += 1;
            apart += usize::from(port(2 * pair) != port(2 * pair + 1));
        }
        assert!(counts.len() == 3 && counts.values().all(|count| (170..=230).contains(count)), "{counts:?}");
        assert!((150..=300).contains(&apart), "{apart}");
    }

    #[test]
    fn a_figure_is_read_from_the_metrics() {
        let metrics = "# HELP tertulia_store_figure What.\n\
                       tertulia_store_figure{figure=\"store_batches\"} 12.0\n\
                       tertulia_feed_relay_records_total 3\n";
        assert_eq!(value_of(metrics, COUNTED[0].0), Some(12.0));
        assert_eq!(value_of(metrics, COUNTED[7].0), Some(3.0));
        assert_eq!(value_of(metrics, "tertulia_store_figure"), None);
    }

    #[test]
    fn a_server_beside_is_a_name_and_a_port() {
        assert_eq!("redis=6379".parse(), Ok(Beside { name: "redis".into(), port: 6379 }));
        for wrong in ["redis", "=6379", "redis=", "redis=70000"] {
            assert!(wrong.parse::<Beside>().is_err(), "{wrong}");
        }
    }
}
