//! What the hostile have achieved.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use indicatif::HumanCount;
use serde::Serialize;

use super::kind::Kind;
use super::mob::Damage;
use crate::histogram::Latency;
use crate::report::LoadFigures;

/// The well behaved alone, and beside each kind of the others.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AbuseFigures {
    /// How many were hostile.
    pub hostile: usize,
    /// The well behaved alone.
    pub alone: Calm,
    /// Beside each kind.
    pub kinds: Vec<KindFigures>,
    /// The well behaved alone, once more in the end: what differs from the first time is not the fault of anybody.
    pub alone_again: Calm,
}

/// What the well behaved notice.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Calm {
    /// From when a message was due until it was known to be durable.
    pub send_to_ack: Option<Latency>,
    /// From when a message was due until the other had it.
    pub send_to_receive: Option<Latency>,
    /// Cores of the server that were busy meanwhile.
    pub server_cores: Option<f64>,
}

/// One kind of hostility.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KindFigures {
    /// Which.
    pub kind: Kind,
    /// How often one of them has connected.
    pub connects: u64,
    /// What they sent: frames, or bytes of requests.
    pub sent: u64,
    /// The same in bytes.
    pub bytes: u64,
    /// How their connections ended, and how often.
    pub closed: BTreeMap<String, u64>,
    /// How many of them were still connected in the end.
    pub open_in_the_end: usize,
    /// The well behaved meanwhile.
    #[serde(flatten)]
    pub calm: Calm,
    /// The most memory of the server meanwhile, less that before (resident).
    pub server_grown_bytes: Option<f64>,
}

impl Calm {
    pub(super) fn of(load: Option<&LoadFigures>) -> Self {
        Self {
            send_to_ack: load.and_then(|load| load.send_to_ack),
            send_to_receive: load.and_then(|load| load.send_to_receive),
            server_cores: load.and_then(|load| load.server_cpu).map(|cpu| cpu.cores),
        }
    }
}

impl KindFigures {
    pub(super) fn new(kind: Kind, calm: Calm, damage: Damage, grown: Option<f64>) -> Self {
        let Damage { connects, sent, bytes, closed, open_in_the_end } = damage;
        Self { kind, connects, sent, bytes, closed, open_in_the_end, calm, server_grown_bytes: grown }
    }
}

impl Display for AbuseFigures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "  send→ack of the others, ms      p50      p99      max   server: cores  grown by")?;
        row(f, "alone", self.alone, None)?;
        for kind in &self.kinds {
            row(f, kind.kind.name(), kind.calm, kind.server_grown_bytes)?;
            write!(
                f,
                "    {} peers, {} connects, {} sent",
                self.hostile,
                kind.connects,
                HumanCount(kind.sent)
            )?;
            for (what, count) in &kind.closed {
                write!(f, "; {count} × {what}")?;
            }
            writeln!(f, "; {} open in the end", kind.open_in_the_end)?;
        }
        row(f, "alone again", self.alone_again, None)
    }
}

fn row(f: &mut Formatter<'_>, name: &str, calm: Calm, grown: Option<f64>) -> fmt::Result {
    let latency = calm.send_to_ack;
    let millis = |of: fn(Latency) -> f64| {
        latency.map_or_else(|| "—".to_owned(), |latency| format!("{:.2}", of(latency) / 1e3))
    };
    write!(
        f,
        "  {name:<26} {:>8} {:>8} {:>8}",
        millis(|latency| latency.p50_micros),
        millis(|latency| latency.p99_micros),
        millis(|latency| latency.max_micros)
    )?;
    match calm.server_cores {
        Some(cores) => write!(f, "   {cores:>13.2}")?,
        None => write!(f, "   {:>13}", "—")?,
    }
    match grown {
        Some(grown) => writeln!(f, "  {:>6.1} MiB", grown / 1024.0 / 1024.0),
        None => writeln!(f),
    }
}
