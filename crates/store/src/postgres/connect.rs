//! How a connection comes about, and what it is set to.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tertulia_domain::backoff::Backoff;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Connection, NoTls, Row, Statement};

use super::error::{Failure, OpenError};
use super::options::PostgresOptions;
use super::tls::{self, Tls};
use super::types::RowExt as _;

/// The oldest version that has all that the statements use.
const VERSION_MIN: i32 = 150_000;
/// Of what the server is asked for at the least, beyond what it may take: then its own patience ends first.
const GRACE: Duration = Duration::from_secs(1);
/// How long nothing may be heard from a machine that is gone before its connection is.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// When a connection is tried again that could not be made: the connections of all nodes do not come at once.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));

/// Plans are made once for each statement, and go by the indexes whatever the statistics say: a plan that is made while
/// the tables are empty has to do when they are large.
const PLANNING: &str = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c enable_hashjoin=off \
    -c enable_mergejoin=off -c random_page_cost=1.1 -c jit=off";

/// What is there already, and so is not made, is no news.
const QUIET: &str = "-c client_min_messages=warning";

/// Which server this is, and since when, and on which timeline.
const SERVER: &str =
    "SELECT concat_ws('/', s.system_identifier, left(pg_walfile_name(pg_current_wal_lsn()), 8),
        extract(epoch FROM pg_postmaster_start_time()))
    FROM pg_control_system() s";

/// What a statement is given for its `$1`, `$2`, …
pub type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Makes connections to one database.
pub struct Connector {
    /// One for each host of the address.
    hosts: Vec<Config>,
    /// Which of them was the primary last.
    primary: AtomicUsize,
    tls: Option<Tls>,
    connect_max: Duration,
    statement_max: Duration,
    lately: Mutex<Lately>,
}

/// How it went lately: while the server is away, nobody waits for it in vain.
#[derive(Default)]
struct Lately {
    failures: u32,
    reason: String,
    next_try: Option<Instant>,
}

impl Connector {
    /// For the database of a URL.
    ///
    /// # Errors
    /// It is none.
    pub fn new(url: &str, options: &PostgresOptions) -> Result<Self, OpenError> {
        let (url, roots) = tls::split(url);
        let mut config: Config = url.parse().map_err(OpenError::Url)?;
        let tls = match config.get_ssl_mode() {
            SslMode::Require => Some(Tls::new(roots)?),
            _ => None,
        };
        let statement_max = options.statement_max.as_millis();
        let given = config.get_options().unwrap_or_default().to_owned();
        config
            .options(format!(
                "{PLANNING} {QUIET} -c statement_timeout={statement_max} -c lock_timeout={statement_max} \
                 -c idle_in_transaction_session_timeout={statement_max} {given}"
            ))
            .connect_timeout(options.connect_max)
            .keepalives(true)
            .keepalives_idle(KEEPALIVE)
            .keepalives_interval(KEEPALIVE)
            .keepalives_retries(3)
            .tcp_user_timeout(options.statement_max + GRACE)
            // Of several hosts the one that is the primary now; a standby takes no writes.
            .target_session_attrs(tokio_postgres::config::TargetSessionAttrs::ReadWrite);
        if config.get_application_name().is_none() {
            config.application_name("tertulia");
        }
        let (connect_max, statement_max) = (options.connect_max, options.statement_max);
        let (hosts, primary) = (each_host(&config), AtomicUsize::new(0));
        Ok(Self { hosts, primary, tls, connect_max, statement_max, lately: Mutex::default() })
    }

    /// Makes a connection, unless it is too early to try again.
    ///
    /// # Errors
    /// The server does not answer, or it is too early.
    pub async fn connect(&self) -> Result<Session, Failure> {
        if let Some(down) = self.lately().is_too_early(Instant::now()) {
            return Err(down);
        }
        let made = self.try_connect().await;
        let mut lately = self.lately();
        match &made {
            Ok(_) => *lately = Lately::default(),
            Err(error) => lately.failed(error.to_string(), Instant::now()),
        }
        made
    }

    /// Tries all hosts, the last primary first. Each has the whole time: one that does not answer hides none that would.
    async fn try_connect(&self) -> Result<Session, Failure> {
        let first = self.primary.load(Ordering::Relaxed);
        let mut failed = None;
        for place in (0..self.hosts.len()).map(|further| (first + further) % self.hosts.len()) {
            match self.try_host(&self.hosts[place]).await {
                Ok(session) => {
                    self.primary.store(place, Ordering::Relaxed);
                    return Ok(session);
                }
                // What is wrong with the one that should be there says more than that others are no primaries.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(failed.unwrap_or_else(|| Failure::Row("no host".into())))
    }

    async fn try_host(&self, host: &Config) -> Result<Session, Failure> {
        let connecting = async {
            match &self.tls {
                Some(tls) => host.connect(tls.clone()).await.map(|(client, connection)| {
                    drive(connection);
                    client
                }),
                None => host.connect(NoTls).await.map(|(client, connection)| {
                    drive(connection);
                    client
                }),
            }
        };
        let client = tokio::time::timeout(self.connect_max, connecting).await;
        let client = client.map_err(|_| Failure::TimedOut(self.connect_max))??;
        let mut session = Session {
            client,
            statements: Mutex::default(),
            statement_max: self.statement_max,
            connect_max: self.connect_max,
            server: String::new(),
            in_transaction: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
            tls: self.tls.clone(),
        };
        let row = session.row(SERVER, &[]).await?.ok_or_else(|| Failure::Row("no server".into()))?;
        session.server = row.value(0)?;
        Ok(session)
    }

    fn lately(&self) -> MutexGuard<'_, Lately> {
        self.lately.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same for each host by itself.
fn each_host(config: &Config) -> Vec<Config> {
    let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let count = hosts.len().max(addresses.len());
    if count <= 1 {
        return vec![config.clone()];
    }
    let one = |place: usize| {
        let mut one = Config::new();
        one.options(config.get_options().unwrap_or_default())
            .ssl_mode(config.get_ssl_mode())
            .ssl_negotiation(config.get_ssl_negotiation())
            .channel_binding(config.get_channel_binding())
            .target_session_attrs(config.get_target_session_attrs())
            .keepalives(config.get_keepalives())
            .keepalives_idle(config.get_keepalives_idle());
        if let Some(name) = config.get_application_name() {
            one.application_name(name);
        }
        if let Some(user) = config.get_user() {
            one.user(user);
        }
        if let Some(password) = config.get_password() {
            one.password(password);
        }
        if let Some(dbname) = config.get_dbname() {
            one.dbname(dbname);
        }
        if let Some(timeout) = config.get_connect_timeout() {
            one.connect_timeout(*timeout);
        }
        if let Some(timeout) = config.get_tcp_user_timeout() {
            one.tcp_user_timeout(*timeout);
        }
        if let Some(interval) = config.get_keepalives_interval() {
            one.keepalives_interval(interval);
        }
        if let Some(retries) = config.get_keepalives_retries() {
            one.keepalives_retries(retries);
        }
        match hosts.get(place) {
            Some(Host::Tcp(host)) => {
                one.host(host);
            }
            #[cfg(unix)]
            Some(Host::Unix(path)) => {
                one.host_path(path);
            }
            None => {}
        }
        if let Some(address) = addresses.get(place) {
            one.hostaddr(*address);
        }
        // One port is that of all.
        if let Some(port) = ports.get(place).or(ports.first()) {
            one.port(*port);
        }
        one
    };
    (0..count).map(one).collect()
}

/// Does a connection's work. It ends when the client is dropped, or when the connection breaks; what waits for it is told
/// by then.
fn drive<S, T>(connection: Connection<S, T>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to PostgreSQL ended");
        }
    });
}

impl Lately {
    fn is_too_early(&self, now: Instant) -> Option<Failure> {
        let retry_after = self.next_try?.checked_duration_since(now)?;
        Some(Failure::Down { reason: self.reason.clone(), retry_after })
    }

    fn failed(&mut self, reason: String, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        let roll = getrandom::u32().map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX));
        self.next_try = Some(now + BACKOFF.wait(self.failures, roll));
        self.reason = reason;
    }
}

/// A connection, with the statements that it has prepared.
pub struct Session {
    client: Client,
    statements: Mutex<HashMap<&'static str, Statement>>,
    statement_max: Duration,
    connect_max: Duration,
    server: String,
    in_transaction: AtomicBool,
    /// How many calls have begun and not ended.
    under_way: AtomicUsize,
    tls: Option<Tls>,
}

impl Session {
    /// The start of the server that it is connected to, and its timeline: another after every restart and restore.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Whether it is known to be broken.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// What a statement gives. Several that are polled together go to the server together, in the order in which they
    /// were first polled.
    ///
    /// # Errors
    /// It failed, or nobody knows.
    pub async fn rows(&self, sql: &'static str, parameters: Parameters<'_>) -> Result<Vec<Row>, Failure> {
        self.in_time(async {
            let statement = self.prepared(sql).await?;
            Ok(self.client.query(&statement, parameters).await?)
        })
        .await
    }

    /// What a statement gives, if that is a row.
    ///
    /// # Errors
    /// As [`rows`](Self::rows).
    pub async fn row(&self, sql: &'static str, parameters: Parameters<'_>) -> Result<Option<Row>, Failure> {
        Ok(self.rows(sql, parameters).await?.into_iter().next())
    }

    /// Statements without parameters, one after the other.
    ///
    /// # Errors
    /// As [`rows`](Self::rows).
    pub async fn run(&self, sql: &str) -> Result<(), Failure> {
        if sql.starts_with("BEGIN") {
            self.in_transaction.store(true, Ordering::Relaxed);
        }
        self.in_time(async { Ok(self.client.batch_execute(sql).await?) }).await?;
        if sql == "COMMIT" || sql == "ROLLBACK" {
            self.in_transaction.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether a transaction was begun and did not end: whoever was at it has gone, or it went wrong.
    pub fn is_in_transaction(&self) -> bool {
        self.in_transaction.load(Ordering::Relaxed)
    }

    /// Prepares what will be needed, in one round trip.
    ///
    /// # Errors
    /// As [`rows`](Self::rows).
    pub async fn prepare(&self, statements: &[&'static str]) -> Result<(), Failure> {
        self.in_time(try_join_all(statements.iter().map(|sql| self.prepared(sql)))).await.map(drop)
    }

    async fn prepared(&self, sql: &'static str) -> Result<Statement, Failure> {
        if let Some(statement) = self.statements().get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.statements().insert(sql, statement.clone());
        Ok(statement)
    }

    fn statements(&self) -> MutexGuard<'_, HashMap<&'static str, Statement>> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let patience = self.statement_max + GRACE;
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let done = tokio::time::timeout(patience, work).await.unwrap_or(Err(Failure::TimedOut(patience)));
        // Not where it is dropped in the middle: then the server is still at it.
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        done
    }

    /// Whether a statement was begun for which nobody waits any more, once nobody waits for any.
    pub fn is_under_way(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) > 0
    }

    /// Tells the server to end what it is at, and ends the connection: what it may yet say is for nobody.
    pub async fn give_up(self) {
        let (token, patience) = (self.client.cancel_token(), self.connect_max);
        drop(self.client);
        let telling = async {
            match self.tls {
                Some(tls) => token.cancel_query(tls).await,
                None => token.cancel_query(NoTls).await,
            }
        };
        if let Ok(Err(error)) = tokio::time::timeout(patience, telling).await {
            // Its own patience ends it.
            tracing::debug!(%error, "PostgreSQL goes on with what nobody waits for");
        }
    }

    /// Whether this is a server that keeps what it says it has kept.
    ///
    /// # Errors
    /// It is none, or too old.
    pub async fn check(&self) -> Result<(), OpenError> {
        let asked = "SELECT current_setting('server_version_num')::int, current_setting('fsync') = 'off',
            current_setting('synchronous_commit') = 'off'";
        let row = self.row(asked, &[]).await?.ok_or_else(|| Failure::Row("no settings".into()))?;
        let found: i32 = row.value(0)?;
        if found < VERSION_MIN {
            return Err(OpenError::TooOld { found });
        }
        match (row.value(1)?, row.value(2)?) {
            (true, _) => Err(OpenError::Unsafe("fsync")),
            (_, true) => Err(OpenError::Unsafe("synchronous_commit")),
            (false, false) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_several_hosts_is_several_addresses_that_differ_in_nothing_else() {
        let url = "postgres://me:secret@one:1,two:2/chat?application_name=x";
        let connector = Connector::new(url, &PostgresOptions::default()).unwrap();
        let whole =
            Connector::new("postgres://me:secret@one:1/chat?application_name=x", &PostgresOptions::default());
        assert_eq!(connector.hosts.len(), 2);
        assert_eq!(connector.hosts[0], whole.unwrap().hosts[0]);
        assert_eq!(connector.hosts[1].get_hosts(), [Host::Tcp("two".into())]);
        assert_eq!(connector.hosts[1].get_ports(), [2]);
    }

    #[test]
    fn after_a_failure_nobody_tries_for_a_while_that_grows_up_to_a_bound() {
        let (mut lately, mut now) = (Lately::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..12 {
            assert!(lately.is_too_early(now).is_none());
            lately.failed("away".into(), now);
            let Some(Failure::Down { retry_after, .. }) = lately.is_too_early(now) else { panic!() };
            waits.push(retry_after);
            now += retry_after + Duration::from_nanos(1);
        }
        for (number, wait) in (1..).zip(waits) {
            let (least, most) = (BACKOFF.wait(number, 0.0), BACKOFF.wait(number, 1.0));
            assert!((least..=most).contains(&wait), "{number}: {wait:?}");
        }
    }
}
