//! What goes wrong with PostgreSQL, and what callers are told of it.

use std::time::Duration;

use tokio_postgres::error::SqlState;

use crate::StoreError;

/// When trying again makes sense, if nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a database could not be opened; the texts say what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address is none.
    #[error("this is no address of a PostgreSQL database: {0}")]
    Url(#[source] tokio_postgres::Error),
    /// It does not answer, or not as it should.
    #[error("cannot use the PostgreSQL database: {0}")]
    Unreachable(StoreError),
    /// An older one lacks what the statements need.
    #[error("this is PostgreSQL {found}; the service needs 15 or newer")]
    TooOld {
        /// The number that it gives for its version: 140005 is 14.5.
        found: i32,
    },
    /// It tells of commits that a power cut takes back.
    #[error("PostgreSQL is set to `{0} = off`: it would lose what was acknowledged; set it to `on`")]
    Unsafe(&'static str),
    /// A newer program has changed the tables so that this one would do harm.
    #[error(
        "the tables were made by a newer version (migration {found}, this program knows {known}); start that version"
    )]
    Newer {
        /// The newest migration that was applied.
        found: i32,
        /// The newest that this program has.
        known: i32,
    },
    /// A migration is not the one that was applied: this is a build that was never released.
    #[error("migration {number} ({name}) is not the one that made these tables; start the version that did")]
    Edited {
        /// Which.
        number: i32,
        /// Its name.
        name: &'static str,
    },
    /// The certificates that the address names cannot be used.
    #[error("cannot use the certificates in {}: {reason}", file.display())]
    Certificates {
        /// Where they are.
        file: std::path::PathBuf,
        /// What is the matter.
        reason: String,
    },
    /// Several servers that are not one store.
    #[error("these are not the PostgreSQL servers of one store: {0}")]
    NotOneStore(#[from] super::servers::NotOneStore),
    /// One of several servers cannot be used.
    #[error("store {number}: {error}")]
    OfServer {
        /// Which, as they were named, from 1.
        number: usize,
        /// Why.
        error: Box<Self>,
    },
    /// TLS cannot be set up.
    #[error("no TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The system gives no random numbers.
    #[error("no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

impl OpenError {
    /// Says which of several servers it is about.
    pub(super) fn of_server(self, number: usize, servers: usize) -> Self {
        if servers == 1 { self } else { Self::OfServer { number, error: Box::new(self) } }
    }
}

impl From<Failure> for OpenError {
    fn from(failure: Failure) -> Self {
        Self::Unreachable(failure.into())
    }
}

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// PostgreSQL, or the way to it.
    #[error("{}", describe(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// It did not answer in time.
    #[error("PostgreSQL did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// It could not be reached a moment ago, and the next try is later.
    #[error("PostgreSQL cannot be reached: {reason}")]
    Down {
        /// What the last try said.
        reason: String,
        /// When the next one is.
        retry_after: Duration,
    },
    /// All connections are busy.
    #[error("all connections to PostgreSQL are busy")]
    Busy,
    /// What is stored is not what this program stores.
    #[error("a stored row is not understood: {0}")]
    Row(String),
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

impl Failure {
    fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Postgres(error) => error.code(),
            _ => None,
        }
    }

    /// Whether PostgreSQL gives one of these classes for its reason: the first two characters of the code.
    pub fn is_of_class(&self, classes: &[&str]) -> bool {
        let class = self.code().and_then(|code| code.code().get(..2));
        class.is_some_and(|class| classes.contains(&class))
    }

    /// Whether another has changed what this was decided by, or stood in its way: deciding again may do.
    pub fn is_conflict(&self) -> bool {
        let conflicts = [
            SqlState::UNIQUE_VIOLATION,
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
        ];
        self.code().is_some_and(|code| conflicts.contains(code))
    }

    /// Whether the connection on which it happened is of no more use.
    pub fn breaks_connection(&self) -> bool {
        match self {
            Self::Postgres(error) => error.code().is_none_or(|code| {
                // A server that was a primary and is none any more goes on answering.
                let class = code.code().get(..2);
                let ends =
                    [SqlState::READ_ONLY_SQL_TRANSACTION, SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT];
                matches!(class, Some("57" | "08")) && *code != SqlState::QUERY_CANCELED || ends.contains(code)
            }),
            Self::TimedOut(_) => true,
            Self::Down { .. } | Self::Busy | Self::Row(_) | Self::Closed => false,
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        failure.told()
    }
}

impl Failure {
    /// What callers are told.
    pub fn told(&self) -> StoreError {
        let unavailable = |retry_after| StoreError::Unavailable { reason: self.to_string(), retry_after };
        match self {
            Self::Closed => StoreError::Closed,
            Self::Row(what) => StoreError::Damaged(what.clone()),
            Self::Down { retry_after, .. } => unavailable(*retry_after),
            Self::TimedOut(_) | Self::Busy => unavailable(RETRY_AFTER),
            Self::Postgres(error) => {
                match error.code().map(|code| code.code().get(..2).unwrap_or_default()) {
                    // Damaged pages; tables or functions that are not as this program makes them.
                    Some("XX" | "42") => StoreError::Damaged(self.to_string()),
                    _ => unavailable(RETRY_AFTER),
                }
            }
        }
    }
}

/// What there is to say for the log: of the server's words the code and the message, which carry no values.
fn describe(error: &tokio_postgres::Error) -> String {
    use std::error::Error as _;
    match (error.as_db_error(), error.source()) {
        (Some(said), _) => format!("PostgreSQL says {}: {}", said.code().code(), said.message()),
        (None, Some(cause)) => format!("{error}: {cause}"),
        (None, None) => error.to_string(),
    }
}
