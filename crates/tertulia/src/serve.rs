//! `tertulia serve`: runs a node.

use std::io::IsTerminal as _;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde::Deserialize;
use tertulia_server::Node;
use tertulia_server::clock::{Clock, Random};
use tertulia_server::config::{Config, FeedAt, LiveAt, PresenceAt, StoreAt};
use tertulia_server::limits::LimitsConfig;
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;

/// The presence TTL, in seconds.
const PRESENCE_TTL: RangeInclusive<u64> = 1..=3_600;
/// The heartbeat, in seconds.
const HEARTBEAT: RangeInclusive<u64> = 1..=600;
/// How long a drain may take, in seconds.
const DRAIN: RangeInclusive<u64> = 0..=3_600;

/// How many threads may serve connections.
const THREADS: RangeInclusive<i64> = 1..=1_024;

/// Runs a server: everything in this one process, with its data in one folder; or, with --store, a node of a cluster.
///
/// It prints one line when it is ready. On SIGTERM or Ctrl-C it drains: sockets are told when to come back,
/// what was taken is stored and answered, and it exits with 0.
///
/// Each option can also stand in the environment (TERTULIA_LISTEN, …) or, with underscores, in the file of --config
/// (not --threads and those of the log); an option wins over the environment, and the environment over the file.
/// What stands in the file alone: each rate limit, how long going down may take, what a node is made for, web origins,
/// and proxies that are trusted.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// A TOML file with these options and more; docs/tertulia.example.toml has all, with their defaults
    #[arg(long, env = "TERTULIA_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where to listen [default: 127.0.0.1:8080]
    #[arg(long, env = "TERTULIA_LISTEN", value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,

    /// The data folder, of this process alone; made if it is not there [default: data]
    #[arg(long, env = "TERTULIA_DATA", value_name = "DIR")]
    data: Option<PathBuf>,

    /// Where conversations and accounts are kept: in the data folder, or in the PostgreSQL database
    /// postgres://USER:PASSWORD@HOST:PORT/NAME. Given several times, conversations are spread over these servers, and
    /// accounts are on the one that was the first when the data was made; in the environment by spaces. A primary and its
    /// standbys are hosts of one URL, by commas; ?sslmode=require and &sslrootcert=FILE ask for TLS [default: the data folder]
    #[arg(long, env = "TERTULIA_STORE", value_name = "URL", hide_env_values = true)]
    store: Vec<String>,

    /// How nodes with one store tell each other what was sent: redis://HOST:PORT or redis://USER:PASSWORD@HOST:PORT, with TLS
    /// rediss://, several hosts of a Redis Cluster by commas [default: there is one node]
    #[arg(long, env = "TERTULIA_LIVE", value_name = "URL", hide_env_values = true, value_parser = live_at)]
    live: Option<LiveAt>,

    /// Where nodes with one store know of each other and of each other's users: a Redis as in --live [default: that one]
    #[arg(long, env = "TERTULIA_PRESENCE", value_name = "URL", hide_env_values = true, value_parser = presence_at)]
    presence: Option<PresenceAt>,

    /// Where nodes with one store are told what came in the conversations, and share the work on it and the search index:
    /// kafka://HOST:PORT, several by commas, and after it ?topic=NAME&partitions=NUMBER [default: each node follows for
    /// itself, and has an index of its own]
    #[arg(long, env = "TERTULIA_FEED", value_name = "URL", value_parser = feed_at)]
    feed: Option<FeedAt>,

    /// Where clients reach this node, https://HOST: what GET /api/gateway of all nodes says of it [default: the others do not
    /// name it, and it names the address at which it was asked]
    #[arg(long, env = "TERTULIA_PUBLIC_URL", value_name = "URL", value_parser = public_url)]
    public_url: Option<String>,

    /// Rate limits: on, as configured, or off, for load tests [default: on]
    #[arg(long, env = "TERTULIA_LIMITS", value_name = "on|off")]
    limits: Option<Switch>,

    /// How long a user counts as present after his last sign of life, in seconds [default: 60]
    #[arg(long, env = "TERTULIA_PRESENCE_TTL", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(PRESENCE_TTL))]
    presence_ttl: Option<u64>,

    /// How often a silent connection is pinged, in seconds; after two silent ones it is closed
    /// [default: 25, or less where the presence TTL asks for it]
    #[arg(long, env = "TERTULIA_HEARTBEAT", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(HEARTBEAT))]
    heartbeat: Option<u64>,

    /// How many threads serve connections; what is stored, settled and indexed has threads of its own
    /// [default: one fewer than there are cores, and at least one]
    #[arg(long, env = "TERTULIA_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(THREADS))]
    threads: Option<u16>,

    /// What to log: error, warn, info, debug or trace, also by module, as in tertulia_server=debug
    #[arg(long, env = "TERTULIA_LOG", value_name = "FILTER", default_value = "info")]
    log: String,

    /// How to log, on stderr: text for people, json for collectors
    #[arg(long, env = "TERTULIA_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,

    /// How many seconds are added to the machine's clock: for tests of clocks that are wrong
    #[arg(long, value_name = "SECONDS", default_value_t = 0, hide = true, allow_negative_numbers = true)]
    clock_off_by: i32,
}

impl ServeArgs {
    /// How many threads serve connections.
    ///
    /// A core is left to those that store, settle and index: with a thread for each core, those who serve went on waking
    /// each other and waited for cores (two cores, measured: a group had two thirds of the deliveries; `docs/performance.md`).
    pub(crate) fn threads(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        self.threads.map_or(cores.saturating_sub(1).max(1), usize::from)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Switch {
    On,
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// The file of `--config`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    listen: Option<SocketAddr>,
    data: Option<PathBuf>,
    presence_ttl: Option<u64>,
    heartbeat: Option<u64>,
    /// Web origins besides the server's own.
    allowed_origins: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    trusted_proxies: Vec<IpAddr>,
    /// How long a drain may take, in seconds.
    drain: Option<u64>,
    limits: LimitsSection,
    store: StoreSection,
    /// `live = "redis://…"`.
    live: Option<String>,
    /// `feed = "kafka://…"`.
    feed: Option<String>,
    /// `presence = "redis://…"`.
    presence: Option<String>,
    public_url: Option<String>,
    /// How many sockets this node is made for.
    capacity: Option<u32>,
}

/// `store = "postgres://…"`, `store = ["postgres://…", "postgres://…"]`, or how the data folder is kept, for those who know why.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "store is an address, a list of them, or a table as in docs/tertulia.example.toml"
)]
enum StoreSection {
    Url(String),
    Urls(Vec<String>),
    Folder(FolderSection),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FolderSection {
    /// The length of a file of the journal, in bytes.
    journal_segment_bytes: Option<u64>,
}

impl Default for StoreSection {
    fn default() -> Self {
        Self::Folder(FolderSection::default())
    }
}

/// One address or several; in each text there may be several, too. (Commas separate hosts of one address.)
fn store_at(texts: &[String]) -> anyhow::Result<StoreAt> {
    let mut urls: Vec<String> =
        texts.iter().flat_map(|text| text.split_whitespace()).map(str::to_owned).collect();
    anyhow::ensure!(
        !urls.is_empty()
            && urls.iter().all(|url| url.starts_with("postgres://") || url.starts_with("postgresql://")),
        "a store is postgres://USER:PASSWORD@HOST:PORT/NAME; leave it out for the data folder"
    );
    Ok(if urls.len() == 1 { StoreAt::Postgres(urls.remove(0)) } else { StoreAt::PostgresServers(urls) })
}

fn is_redis(url: &str) -> bool {
    url.starts_with("redis://") || url.starts_with("rediss://")
}

fn feed_at(url: &str) -> Result<FeedAt, String> {
    url.parse().map(FeedAt::Kafka).map_err(|error: tertulia_server::config::InvalidTarget| error.to_string())
}

fn presence_at(url: &str) -> Result<PresenceAt, String> {
    if is_redis(url) {
        Ok(PresenceAt::Redis(url.to_owned()))
    } else {
        Err("presence is redis://[USER:PASSWORD@]HOST:PORT; leave it out for the Redis of --live".to_owned())
    }
}

fn public_url(url: &str) -> Result<String, String> {
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let is_address = host.is_some_and(|host| {
        !host.is_empty() && host.chars().all(|c| c.is_ascii_graphic() && !"?#\"<>".contains(c))
    });
    if is_address {
        Ok(url.trim_end_matches('/').to_owned())
    } else {
        Err("the public address of a node is http://HOST:PORT or https://HOST".to_owned())
    }
}

fn live_at(url: &str) -> Result<LiveAt, String> {
    if is_redis(url) {
        Ok(LiveAt::Redis(url.to_owned()))
    } else {
        Err("a live channel is redis://[USER:PASSWORD@]HOST:PORT; leave it out for a single node".to_owned())
    }
}

/// A file of the journal holds some messages at least, and is read into memory as a whole at a start.
const SEGMENT_BYTES: RangeInclusive<u64> = 16 << 10..=1 << 30;

impl File {
    fn read(text: &str) -> anyhow::Result<Self> {
        toml::from_str(text).map_err(|error| told(text, &error)).and_then(Self::checked)
    }

    /// Refuses what the options would refuse: a heartbeat of no time would never rest.
    fn checked(self) -> anyhow::Result<Self> {
        for (key, seconds, range) in [
            ("presence_ttl", self.presence_ttl, PRESENCE_TTL),
            ("heartbeat", self.heartbeat, HEARTBEAT),
            ("drain", self.drain, DRAIN),
        ] {
            if let Some(seconds) = seconds.filter(|seconds| !range.contains(seconds)) {
                anyhow::bail!("{key} is {seconds}, and not in {} to {} seconds", range.start(), range.end());
            }
        }
        Ok(self)
    }
}

/// What is wrong with a file, in one line. Not what stands there, which may be an address with a password: neither the line
/// nor a value of the wrong type, which stands in the message in quotation marks.
fn told(text: &str, error: &toml::de::Error) -> anyhow::Error {
    let mut what = error.message().lines().collect::<Vec<_>>().join(", ");
    if let (Some(from), Some(to)) = (what.find('"'), what.rfind('"'))
        && from < to
    {
        what.replace_range(from..=to, "…");
    }
    let before = error.span().and_then(|span| text.as_bytes().get(..span.start));
    match before {
        Some(before) => {
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            anyhow::anyhow!("line {line}: {what}")
        }
        None => anyhow::anyhow!("{what}"),
    }
}

/// `limits = "off"`, or a table of rates.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "limits is a table of rates as in docs/tertulia.example.toml, or off")]
enum LimitsSection {
    Switch(Switch),
    Rates(Box<LimitsConfig>),
}

impl Default for LimitsSection {
    fn default() -> Self {
        Self::Switch(Switch::On)
    }
}

/// Runs a node until `shutdown`.
///
/// # Errors
/// If it cannot start: one line says why.
pub(crate) async fn run(args: ServeArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    init_log(&args.log, args.log_format)?;
    let config = merge(&args)?;
    if config.limits.is_none() {
        tracing::warn!("rate limits are off: anybody may ask for as much as he likes; for load tests only");
    }
    if config.presence_ttl < 2 * config.heartbeat {
        tracing::warn!(
            presence_ttl = config.presence_ttl.as_secs(),
            heartbeat = config.heartbeat.as_secs(),
            "the presence TTL is less than two heartbeats: users who are silent but here will seem to come and go"
        );
    }
    let data = config.data.clone();
    let clock = Clock::system_off_by(i64::from(args.clock_off_by) * 1_000);
    let node = Node::open(config.clone(), clock, Random::system()).await.context("cannot start")?;
    let listener = listen(config.listen)
        .with_context(|| format!("cannot listen on {}; is something else there?", config.listen))?;
    let address = listener.local_addr().context("cannot listen")?;
    say_ready(address, &data);
    node.serve(listener, shutdown).await.context("cannot listen")?;
    tracing::info!("drained and closed");
    Ok(())
}

/// Binds, with room for as many connections that wait to be accepted as Linux allows: after a restart all clients
/// come back at once, and one whose SYN is dropped comes back seconds later.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    const BACKLOG: u32 = 4_096;
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A server that was killed comes back at once, although connections of its predecessor linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[expect(clippy::print_stdout, reason = "the ready line is what scripts wait for")]
fn say_ready(address: SocketAddr, data: &Path) {
    println!(
        "tertulia {} is ready on http://{address} with data in {}",
        tertulia_server::VERSION,
        data.display()
    );
}

/// Options over environment (both in `args`) over file over defaults.
fn merge(args: &ServeArgs) -> anyhow::Result<Config> {
    let file: File = match &args.config {
        None => File::default(),
        Some(path) => {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            File::read(&text).with_context(|| format!("{} is not a configuration", path.display()))?
        }
    };
    let data = args.data.clone().or(file.data).unwrap_or_else(|| PathBuf::from("data"));
    let listen = args.listen.or(file.listen).unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8080)));
    let mut config = Config::new(data, listen);
    if let Some(seconds) = args.presence_ttl.or(file.presence_ttl) {
        config.presence_ttl = Duration::from_secs(seconds);
        // Whoever is here answers a heartbeat before he seems to be gone.
        config.heartbeat = config.heartbeat.min(config.presence_ttl * 2 / 5);
    }
    if let Some(seconds) = args.heartbeat.or(file.heartbeat) {
        config.heartbeat = Duration::from_secs(seconds);
    }
    if let Some(seconds) = file.drain {
        config.drain = Duration::from_secs(seconds);
    }
    match file.store {
        StoreSection::Url(url) => config.store = store_at(&[url]).context("store")?,
        StoreSection::Urls(urls) => config.store = store_at(&urls).context("store")?,
        StoreSection::Folder(FolderSection { journal_segment_bytes: None }) => {}
        StoreSection::Folder(FolderSection { journal_segment_bytes: Some(bytes) }) => {
            anyhow::ensure!(
                SEGMENT_BYTES.contains(&bytes),
                "journal_segment_bytes is from {} to {}",
                SEGMENT_BYTES.start(),
                SEGMENT_BYTES.end()
            );
            config.journal_segment_bytes = Some(bytes);
        }
    }
    if !args.store.is_empty() {
        config.store = store_at(&args.store).context("--store")?;
    }
    if let Some(url) = file.live {
        config.live = live_at(&url).map_err(anyhow::Error::msg)?;
    }
    if let Some(live) = &args.live {
        config.live = live.clone();
    }
    if let Some(url) = file.feed {
        config.feed = feed_at(&url).map_err(anyhow::Error::msg)?;
    }
    if let Some(feed) = &args.feed {
        config.feed = feed.clone();
    }
    anyhow::ensure!(
        config.feed == FeedAt::Journal || config.store != StoreAt::Folder,
        "--feed is for nodes that share a store: say --store postgres://… too"
    );
    if let Some(url) = file.presence {
        config.presence = presence_at(&url).map_err(anyhow::Error::msg)?;
    }
    if let Some(presence) = &args.presence {
        config.presence = presence.clone();
    }
    config.public_url =
        file.public_url.map(|url| public_url(&url)).transpose().map_err(anyhow::Error::msg)?;
    if let Some(url) = &args.public_url {
        config.public_url = Some(url.clone());
    }
    if let Some(capacity) = file.capacity {
        anyhow::ensure!(capacity > 0, "capacity is how many sockets a node is made for: at least 1");
        config.capacity = capacity;
    }
    let is_alone = config.live == LiveAt::Process && config.presence == PresenceAt::Live;
    anyhow::ensure!(
        is_alone || config.store != StoreAt::Folder,
        "--live and --presence are for nodes that share a store: say --store postgres://… too"
    );
    config.allowed_origins = file.allowed_origins;
    config.trusted_proxies = file.trusted_proxies;
    config.limits = match (args.limits, file.limits) {
        (Some(Switch::Off), _) | (None, LimitsSection::Switch(Switch::Off)) => None,
        (_, LimitsSection::Rates(rates)) => Some(*rates),
        (_, LimitsSection::Switch(_)) => Some(LimitsConfig::default()),
    };
    Ok(config)
}

fn init_log(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter).context("--log does not name a filter")?;
    let colours = std::io::stderr().is_terminal();
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    let done = match format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    done.map_err(|error| anyhow::anyhow!("the log cannot be set up: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_says_what_holds_without_it() {
        const EXAMPLE: &str = include_str!("../../../docs/tertulia.example.toml");
        let file: File = toml::from_str(EXAMPLE).unwrap();
        let default = Config::new(PathBuf::from("data"), SocketAddr::from(([127, 0, 0, 1], 8080)));
        assert_eq!(file.listen, Some(default.listen));
        assert_eq!(file.data, Some(default.data));
        assert_eq!(file.presence_ttl, Some(default.presence_ttl.as_secs()));
        assert_eq!(file.heartbeat, None, "it goes by the presence TTL where it does not stand");
        assert!(EXAMPLE.contains(&format!("\n# heartbeat = {}\n", default.heartbeat.as_secs())));
        assert_eq!(file.drain, Some(default.drain.as_secs()));
        assert_eq!(file.capacity, Some(default.capacity));
        let journal = tertulia_store::embedded::OpenOptions::default().journal_segment_bytes;
        let StoreSection::Folder(folder) = file.store else { panic!("the example keeps all in the folder") };
        assert_eq!(folder.journal_segment_bytes, Some(journal));
        let LimitsSection::Rates(rates) = file.limits else { panic!("the example has a table of limits") };
        let quotas = |limits: &LimitsConfig| {
            [limits.sends, limits.reads, limits.writes, limits.events, limits.bytes, limits.answers]
                .into_iter()
                .chain([
                    limits.logins_per_user,
                    limits.logins_per_address,
                    limits.registrations,
                    limits.connections,
                ])
                .map(tertulia_server::limits::Rate::quota)
                .collect::<Vec<_>>()
        };
        assert_eq!(quotas(&rates), quotas(&LimitsConfig::default()));
    }

    #[test]
    fn there_is_always_a_thread_to_serve_and_never_more_than_were_asked_for() {
        #[derive(Debug, clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: ServeArgs,
        }
        let threads = |line: &[&str]| {
            let line = <Line as clap::Parser>::try_parse_from(std::iter::once(&"serve").chain(line))?;
            Ok::<_, clap::Error>(line.args.threads())
        };
        let cores = std::thread::available_parallelism().unwrap().get();
        assert_eq!(threads(&[]).unwrap(), if cores == 1 { 1 } else { cores - 1 });
        assert_eq!(threads(&["--threads", "3"]).unwrap(), 3);
        for wrong in ["0", "-1", "1025", "many"] {
            assert!(threads(&["--threads", wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_that_no_option_could_say_is_refused() {
        let read = |text| toml::from_str::<File>(text).unwrap().checked();
        for text in ["heartbeat = 0", "heartbeat = 601", "presence_ttl = 0", "drain = 9223372036854775807"] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(read("heartbeat = 1\npresence_ttl = 3600\ndrain = 0").is_ok());
    }

    #[test]
    fn a_public_address_is_one_of_http_without_what_follows_a_path() {
        assert_eq!(public_url("https://chat1.example.org/").as_deref(), Ok("https://chat1.example.org"));
        assert_eq!(public_url("http://10.0.0.1:8080/chat").as_deref(), Ok("http://10.0.0.1:8080/chat"));
        for wrong in ["", "chat1.example.org", "https://", "https://a b", "ftp://host", "http://host?x"] {
            assert!(public_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_store_is_one_server_or_several() {
        let at = |texts: &[&str]| store_at(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        let (one, other) = ("postgres://a,b:5433/x", "postgresql://c/x");
        assert_eq!(at(&[one]).unwrap(), StoreAt::Postgres(one.to_owned()));
        let both = StoreAt::PostgresServers(vec![one.to_owned(), other.to_owned()]);
        assert_eq!(at(&[one, other]).unwrap(), both);
        assert_eq!(at(&[&format!(" {one}\n{other}")]).unwrap(), both);
        for wrong in [&[""][..], &[], &[one, "redis://c"], &["postgres"]] {
            assert!(at(wrong).is_err(), "{wrong:?}");
        }
        let file: File = toml::from_str(&format!("store = ['{one}', '{other}']")).unwrap();
        assert!(matches!(file.store, StoreSection::Urls(urls) if urls.len() == 2));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(toml::from_str::<File>("lisen = \"127.0.0.1:1\"").is_err());
    }
}
