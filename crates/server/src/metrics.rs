//! What is seen from outside: counters, gauges and histograms for Prometheus.
//!
//! Names are `tertulia_<area>_<thing>_<unit>`; no label ever names a user or a conversation.

mod latencies;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tertulia_domain::hub::Hub;
use tertulia_feed::relay::RelayProgress;
use tertulia_protocol::event::CloseReason;
use tertulia_protocol::{Code, Timestamp};

use self::latencies::Latencies;
use crate::consumers::Progresses;

/// Seconds; closer together around what people notice.
const LATENCY_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0];
const BATCH_BUCKETS: [f64; 12] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0];

/// The `Content-Type` of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of a node.
pub struct Metrics {
    registry: Registry,
    ack_seconds: Latencies,
    append_seconds: Histogram,
    batch_intents: Histogram,
    append_failures: Counter,
    store_refusals: Counter,
    connects: Family<ConnectLabel, Counter>,
    closes: Family<CloseLabel, Counter>,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<MethodLabel, Histogram, fn() -> Histogram>,
    problems: Family<CodeLabel, Counter>,
    refused_connections: Counter,
    refused_http_connections: Counter,
    from_hub: HubMetrics,
    from_store: Family<FigureLabel, Gauge<f64, AtomicU64>>,
    lane_waiting: Gauge,
    from_consumers: ConsumerMetrics,
    from_relay: RelayMetrics,
}

/// What the hub counts itself; copied when somebody asks.
#[derive(Default)]
struct HubMetrics {
    deliveries: Counter,
    gaps: Counter,
    lagged: Counter,
    holes: Counter,
    dropped: Family<DropLabel, Counter>,
    sockets: Gauge,
    polls: Gauge,
    users: Gauge,
    conversations: Gauge,
    lagging: Gauge,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ConnectLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CloseLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct MethodLabel {
    method: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CodeLabel {
    code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DropLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FigureLabel {
    figure: &'static str,
}

fn latency() -> Histogram {
    Histogram::new(LATENCY_BUCKETS)
}

impl Metrics {
    /// All metrics, at zero.
    pub fn new(version: &'static str) -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("tertulia"),
            ack_seconds: Latencies::default(),
            append_seconds: latency(),
            batch_intents: Histogram::new(BATCH_BUCKETS),
            append_failures: Counter::default(),
            store_refusals: Counter::default(),
            connects: Family::default(),
            closes: Family::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(latency),
            problems: Family::default(),
            refused_connections: Counter::default(),
            refused_http_connections: Counter::default(),
            from_hub: HubMetrics::default(),
            from_store: Family::default(),
            lane_waiting: Gauge::default(),
            from_consumers: ConsumerMetrics::default(),
            from_relay: RelayMetrics::default(),
        };
        metrics.registered(version)
    }

    fn registered(mut self, version: &'static str) -> Self {
        let registry = &mut self.registry;
        let build = Family::<VersionLabel, Gauge>::default();
        build.get_or_create(&VersionLabel { version }).set(1);
        registry.register("build_info", "The version that runs", build);
        registry.register(
            "send_ack_seconds",
            "From the moment a message, or another entry, was taken until its ack is in the outbox of whoever sent it",
            self.ack_seconds.clone(),
        );
        registry.register(
            "append_seconds",
            "One commit of the store, sync included",
            self.append_seconds.clone(),
        );
        registry.register("append_batch_intents", "Intents of one commit", self.batch_intents.clone());
        registry.register(
            "append_failures",
            "Batches that could not be stored",
            self.append_failures.clone(),
        );
        registry.register(
            "store_refusals",
            "Calls that were refused because the store could not do what they needed",
            self.store_refusals.clone(),
        );
        registry.register(
            "lane_waiting_intents",
            "Intents that wait to be appended",
            self.lane_waiting.clone(),
        );
        registry.register(
            "socket_connects",
            "Sockets that became ready, by kind: connect, resume, resume_unknown",
            self.connects.clone(),
        );
        registry.register("socket_closes", "Sockets that ended, by reason", self.closes.clone());
        registry.register("http_requests", "Requests answered", self.requests.clone());
        registry.register("http_request_seconds", "Time to the answer", self.request_seconds.clone());
        registry.register("problems", "Problems told to clients, by code", self.problems.clone());
        registry.register(
            "connections_refused",
            "Sockets refused because their address opened too many",
            self.refused_connections.clone(),
        );
        registry.register(
            "http_connections_refused",
            "HTTP connections closed at once because their address has too many",
            self.refused_http_connections.clone(),
        );
        registry.register(
            "store_figure",
            "What the stores say of themselves, by figure",
            self.from_store.clone(),
        );
        let hub = &self.from_hub;
        registry.register("deliveries", "Entries pushed to connections", hub.deliveries.clone());
        registry.register("gaps", "Gap events told", hub.gaps.clone());
        registry.register(
            "readers_lagged",
            "Times that a reader fell behind because its outbox was full",
            hub.lagged.clone(),
        );
        registry.register("live_holes", "Holes in what came live, read from the store", hub.holes.clone());
        registry.register(
            "drops",
            "Ephemeral frames not written, by reason: full, merged",
            hub.dropped.clone(),
        );
        registry.register("sockets", "Open sockets", hub.sockets.clone());
        registry.register("long_polls", "Waiting long-polls", hub.polls.clone());
        registry.register("users_present", "Users with a connection here", hub.users.clone());
        registry.register(
            "conversations_live",
            "Conversations with somebody here",
            hub.conversations.clone(),
        );
        registry.register("readers_lagging", "Connections that catch up now", hub.lagging.clone());
        let consumers = &self.from_consumers;
        registry.register(
            "consumer_entries",
            "Entries that a consumer of the logs has taken",
            consumers.taken.clone(),
        );
        registry.register(
            "consumer_failures",
            "Times that a consumer had to try again",
            consumers.failures.clone(),
        );
        registry.register(
            "consumer_lag_entries",
            "Entries that wait for a consumer, as far as it has looked, by partition of the feed",
            consumers.lag_entries.clone(),
        );
        registry.register(
            "consumer_lag_seconds",
            "How long the oldest entry has waited for a consumer, by partition of the feed",
            consumers.lag_seconds.clone(),
        );
        registry.register(
            "consumer_dead_letters",
            "Entries that a consumer can never take; `tertulia admin dead-letters` shows them",
            consumers.dead_letters.clone(),
        );
        registry.register(
            "consumer_backfill_entries",
            "Entries of the logs from before a consumer: done, left",
            consumers.backfill.clone(),
        );
        let relay = &self.from_relay;
        registry.register(
            "feed_relay_leads",
            "Whether this node relays the journal to the feed of all nodes",
            relay.leads.clone(),
        );
        registry.register(
            "feed_relay_records",
            "Records that this node has relayed to the feed",
            relay.records.clone(),
        );
        registry.register(
            "feed_relay_failures",
            "Times that this node had to try again to relay",
            relay.failures.clone(),
        );
        registry.register(
            "feed_relay_lag_seconds",
            "How long something has waited in the journal to be relayed by this node",
            relay.lag_seconds.clone(),
        );
        self
    }

    /// Sends were acked, each of them so long after it was taken.
    pub fn acked(&self, each_after: impl IntoIterator<Item = Duration>) {
        self.ack_seconds.observe(each_after);
    }

    /// The store committed a batch.
    pub fn appended(&self, intents: usize, took: Duration) {
        self.append_seconds.observe(took.as_secs_f64());
        self.batch_intents.observe(intents as f64);
    }

    /// The store could not commit a batch.
    pub fn append_failed(&self) {
        self.append_failures.inc();
    }

    /// So many calls were refused because the store could not do what they needed.
    pub fn store_refused(&self, calls: u64) {
        self.store_refusals.inc_by(calls);
    }

    /// A socket became ready.
    pub fn connected(&self, kind: &'static str) {
        self.connects.get_or_create(&ConnectLabel { kind }).inc();
    }

    /// A socket ended; `None`: the client closed it.
    pub fn closed(&self, reason: Option<CloseReason>) {
        let reason = reason.map_or("client", CloseReason::as_str);
        self.closes.get_or_create(&CloseLabel { reason }).inc();
    }

    /// A request was answered.
    pub fn answered(&self, method: &'static str, route: &str, status: u16, took: Duration) {
        self.requests.get_or_create(&RequestLabels { method, route: route.to_owned(), status }).inc();
        self.request_seconds.get_or_create(&MethodLabel { method }).observe(took.as_secs_f64());
    }

    /// A client was told a problem.
    pub fn problem(&self, code: Code) {
        self.problems.get_or_create(&CodeLabel { code: code.as_str() }).inc();
    }

    /// A socket was refused: too many from its address.
    pub fn connection_refused(&self) {
        self.refused_connections.inc();
    }

    /// An HTTP connection was closed at once: its address has too many.
    pub fn http_connection_refused(&self) {
        self.refused_http_connections.inc();
    }

    /// The text that Prometheus reads.
    ///
    /// `figures` is what the stores say of themselves, `consumers` and `relay` how far those are at `now` who follow the
    /// logs; `lane_depth` is how many intents wait to be appended.
    pub fn encode(
        &self,
        hub: &Hub,
        figures: impl IntoIterator<Item = (&'static str, f64)>,
        (consumers, relay): (&Progresses, Option<&RelayProgress>),
        now: Timestamp,
        lane_depth: usize,
    ) -> String {
        self.from_hub.copy(hub);
        self.from_consumers.copy(consumers, now);
        if let Some(relay) = relay {
            self.from_relay.copy(relay, now);
        }
        for (figure, value) in figures {
            self.from_store.get_or_create(&FigureLabel { figure }).set(value);
        }
        self.lane_waiting.set(i64::try_from(lane_depth).unwrap_or(i64::MAX));
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            tracing::error!("metrics could not be written");
        }
        text
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct VersionLabel {
    version: &'static str,
}

/// What consumers tell of themselves; copied when somebody asks.
#[derive(Default)]
struct ConsumerMetrics {
    taken: Family<ConsumerLabel, Counter>,
    failures: Family<ConsumerLabel, Counter>,
    lag_entries: Family<PartitionLabels, Gauge>,
    lag_seconds: Family<PartitionLabels, Gauge<f64, AtomicU64>>,
    dead_letters: Family<ConsumerLabel, Gauge>,
    backfill: Family<BackfillLabels, Gauge>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ConsumerLabel {
    consumer: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PartitionLabels {
    consumer: &'static str,
    partition: i32,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BackfillLabels {
    consumer: &'static str,
    state: &'static str,
}

impl ConsumerMetrics {
    fn copy(&self, consumers: &Progresses, now: Timestamp) {
        let catch_up = |family: &Family<ConsumerLabel, Counter>, label: &ConsumerLabel, value: u64| {
            let counter = family.get_or_create(label);
            counter.inc_by(value.saturating_sub(counter.get()));
        };
        let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        // A partition that another node follows now is shown by that.
        self.lag_entries.clear();
        self.lag_seconds.clear();
        for progress in consumers.iter() {
            let consumer = progress.name();
            let label = ConsumerLabel { consumer };
            catch_up(&self.taken, &label, progress.taken());
            catch_up(&self.failures, &label, progress.failures());
            for (partition, entries, waited) in progress.lag(now) {
                let label = PartitionLabels { consumer, partition };
                self.lag_entries.get_or_create(&label).set(whole(entries));
                self.lag_seconds.get_or_create(&label).set(waited.as_secs_f64());
            }
            self.dead_letters.get_or_create(&label).set(whole(progress.dead_letters()));
            let (done, left) = progress.backfill();
            for (state, entries) in [("done", done), ("left", left)] {
                self.backfill.get_or_create(&BackfillLabels { consumer, state }).set(whole(entries));
            }
        }
    }
}

/// What the relay tells of itself; copied when somebody asks.
#[derive(Default)]
struct RelayMetrics {
    leads: Gauge,
    records: Counter,
    failures: Counter,
    lag_seconds: Gauge<f64, AtomicU64>,
}

impl RelayMetrics {
    fn copy(&self, relay: &RelayProgress, now: Timestamp) {
        self.leads.set(i64::from(relay.leads()));
        self.records.inc_by(relay.published().saturating_sub(self.records.get()));
        self.failures.inc_by(relay.failures().saturating_sub(self.failures.get()));
        self.lag_seconds.set(relay.lag(now.as_millis()).as_secs_f64());
    }
}

impl HubMetrics {
    fn copy(&self, hub: &Hub) {
        let stats = hub.stats();
        let catch_up = |counter: &Counter, stat: &AtomicU64| {
            counter.inc_by(stat.load(Ordering::Relaxed).saturating_sub(counter.get()));
        };
        catch_up(&self.deliveries, &stats.deliveries);
        catch_up(&self.gaps, &stats.gaps);
        catch_up(&self.lagged, &stats.lagged);
        catch_up(&self.holes, &stats.holes);
        catch_up(&self.dropped.get_or_create(&DropLabel { reason: "full" }), &stats.ephemeral_dropped);
        catch_up(&self.dropped.get_or_create(&DropLabel { reason: "merged" }), &stats.ephemeral_merged);
        let present = hub.present();
        let set = |gauge: &Gauge, value: usize| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(&self.sockets, present.sockets);
        set(&self.polls, present.polls);
        set(&self.users, present.users);
        set(&self.conversations, present.conversations);
        set(&self.lagging, present.lagging);
    }
}
