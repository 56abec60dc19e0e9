//! Passwords: Argon2id on threads of its own, so that a storm of logins cannot stop messages.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::password_hash::{self, PasswordHasher};
use argon2::{Algorithm, Argon2, Params, PasswordVerifier, Version};
use tokio::sync::{mpsc, oneshot};

use super::Trouble;
use crate::clock::Random;

/// How passwords are hashed, and how many may wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordConfig {
    /// Memory of one hash, in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// How many are hashed at once.
    pub threads: usize,
    /// How many may wait; one more is refused.
    pub queue_max: usize,
}

impl Default for PasswordConfig {
    /// Argon2id with 19 MiB and two passes, as OWASP's Password Storage Cheat Sheet has it; a thread for each core.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { memory_kib: 19 * 1_024, passes: 2, threads, queue_max: 256 }
    }
}

/// When trying again makes sense: about as long as a full queue takes.
const RETRY_AFTER: Duration = Duration::from_secs(3);

/// The threads, and the queue before them. They end when the last clone is dropped.
#[derive(Clone)]
pub(super) struct Passwords {
    queue: mpsc::Sender<Job>,
    random: Random,
    /// Nobody's hash, of the present cost: what a login of an unknown user is checked against.
    nobody: Arc<str>,
    /// How many passwords were hashed, to check them or anew.
    hashed: Arc<AtomicU64>,
}

/// What a check came to.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the password. If its hash is of another cost than new ones are, here is a new one.
    Right { rehashed: Option<String> },
    /// It is not.
    Wrong,
}

struct Job {
    password: String,
    /// To check against; `None`: only make a new hash.
    against: Option<String>,
    /// For a new hash.
    salt: [u8; 16],
    reply: oneshot::Sender<Result<Verdict, password_hash::Error>>,
}

/// Why the service of accounts did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The cost is not one that Argon2 has.
    #[error("the cost of passwords is out of range: {0}")]
    Cost(password_hash::Error),
    /// No threads.
    #[error("cannot start the threads for passwords: {0}")]
    Threads(#[from] std::io::Error),
    /// No secrets can be made.
    #[error(transparent)]
    Random(#[from] crate::clock::RandomError),
}

impl Passwords {
    pub(super) fn start(config: PasswordConfig, random: Random) -> Result<Self, StartError> {
        let params = Params::new(config.memory_kib, config.passes, 1, None)
            .map_err(|error| StartError::Cost(error.into()))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let nobody = nobody(&argon2, random.bytes()?, random.bytes()?).map_err(StartError::Cost)?;
        let (queue, jobs) = mpsc::channel(config.queue_max.max(1));
        let jobs = Arc::new(Mutex::new(jobs));
        let hashed = Arc::new(AtomicU64::new(0));
        for _ in 0..config.threads.max(1) {
            let (jobs, argon2, hashed) = (Arc::clone(&jobs), argon2.clone(), Arc::clone(&hashed));
            std::thread::Builder::new()
                .name("passwords".into())
                .spawn(move || work(&jobs, &argon2, &hashed))?;
        }
        Ok(Self { queue, random, nobody: nobody.into(), hashed })
    }

    /// The hash of a new password, as a PHC string.
    pub(super) async fn hash(&self, password: String) -> Result<String, Trouble> {
        match self.run(password, None).await? {
            Verdict::Right { rehashed: Some(hash) } => Ok(hash),
            Verdict::Right { rehashed: None } | Verdict::Wrong => Err(busy()),
        }
    }

    /// Checks a password against a hash; without one it is wrong, after the same work.
    pub(super) async fn check(&self, password: String, against: Option<String>) -> Result<Verdict, Trouble> {
        let known = against.is_some();
        let against = against.unwrap_or_else(|| self.nobody.to_string());
        let verdict = self.run(password, Some(against)).await?;
        Ok(if known { verdict } else { Verdict::Wrong })
    }

    /// How many passwords were hashed, and how many wait for it.
    pub(super) fn figures(&self) -> (u64, usize) {
        (self.hashed.load(Ordering::Relaxed), self.queue.max_capacity() - self.queue.capacity())
    }

    async fn run(&self, password: String, against: Option<String>) -> Result<Verdict, Trouble> {
        let (reply, answer) = oneshot::channel();
        let job = Job { password, against, salt: self.random.bytes()?, reply };
        self.queue.try_send(job).map_err(|_| busy())?;
        // A thread that went away had a bug; the login may be tried again on another.
        answer.await.map_err(|_| busy())?.map_err(|error| {
            tracing::error!(%error, "a password cannot be hashed or checked");
            busy()
        })
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passwords")
    }
}

fn busy() -> Trouble {
    Trouble::Busy { retry_after: RETRY_AFTER }
}

fn work(jobs: &Mutex<mpsc::Receiver<Job>>, argon2: &Argon2<'_>, hashed: &AtomicU64) {
    // The lock is held while waiting: whoever has it takes the next one, and then lets another wait.
    let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
    while let Some(job) = next() {
        // Who does not wait any more costs nothing more.
        if !job.reply.is_closed() {
            hashed.fetch_add(1, Ordering::Relaxed);
            let _ = job.reply.send(verdict(argon2, &job.password, job.against.as_deref(), &job.salt));
        }
    }
}

fn verdict(
    argon2: &Argon2<'_>,
    password: &str,
    against: Option<&str>,
    salt: &[u8],
) -> Result<Verdict, password_hash::Error> {
    let hash = || argon2.hash_password_with_salt(password.as_bytes(), salt).map(|hash| hash.to_string());
    let Some(against) = against else { return Ok(Verdict::Right { rehashed: Some(hash()?) }) };
    let against = PasswordHash::new(against)?;
    match argon2.verify_password(password.as_bytes(), &against) {
        Ok(()) => {
            let rehashed = if is_current(argon2, &against) { None } else { Some(hash()?) };
            Ok(Verdict::Right { rehashed })
        }
        Err(password_hash::Error::PasswordInvalid) => Ok(Verdict::Wrong),
        Err(error) => Err(error),
    }
}

fn is_current(argon2: &Argon2<'_>, hash: &PasswordHash) -> bool {
    hash.algorithm == Algorithm::Argon2id.ident()
        && hash.version == Some(Version::V0x13.into())
        && Params::try_from(hash).is_ok_and(|params| {
            let cost = |params: &Params| (params.m_cost(), params.t_cost(), params.p_cost());
            cost(&params) == cost(argon2.params())
        })
}

/// A hash that no password is known to have.
fn nobody(argon2: &Argon2<'_>, salt: [u8; 16], output: [u8; 32]) -> Result<String, password_hash::Error> {
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(argon2.params())?,
        salt: Some(Salt::new(&salt)?),
        hash: Some(Output::new(&output)?),
    };
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: PasswordConfig = PasswordConfig { memory_kib: 8, passes: 1, threads: 1, queue_max: 8 };

    #[test]
    fn new_hashes_cost_what_owasp_says() {
        let PasswordConfig { memory_kib, passes, .. } = PasswordConfig::default();
        assert_eq!((memory_kib, passes), (19_456, 2));
    }

    #[tokio::test]
    async fn nobodys_hash_costs_what_new_hashes_cost() {
        let passwords = Passwords::start(CHEAP, Random::seeded(1)).unwrap();
        let cost = |hash: &str| hash.rsplitn(3, '$').last().unwrap().to_owned();
        let hash = passwords.hash("correct horse".into()).await.unwrap();
        assert_eq!(cost(&passwords.nobody), cost(&hash));
        assert_eq!(cost(&hash), "$argon2id$v=19$m=8,t=1,p=1");
    }

    #[tokio::test]
    async fn a_hash_holds_for_its_password_alone_and_is_salted() {
        let passwords = Passwords::start(CHEAP, Random::seeded(1)).unwrap();
        let hash = passwords.hash("correct horse".into()).await.unwrap();
        assert_ne!(hash, passwords.hash("correct horse".into()).await.unwrap());
        let check = |password: &str| passwords.check(password.into(), Some(hash.clone()));
        assert!(check("correct horse").await.unwrap() == Verdict::Right { rehashed: None });
        assert!(check("correct hors").await.unwrap() == Verdict::Wrong);
        assert!(passwords.check("correct horse".into(), None).await.unwrap() == Verdict::Wrong);
    }

    #[tokio::test]
    async fn a_hash_that_cannot_be_read_is_trouble_and_stops_nobody_else() {
        let passwords = Passwords::start(CHEAP, Random::seeded(1)).unwrap();
        assert!(passwords.check("correct horse".into(), Some("garbage".into())).await.is_err());
        assert!(passwords.hash("correct horse".into()).await.is_ok());
    }

    #[test]
    fn a_cost_that_argon2_does_not_have_is_refused_at_the_start() {
        let started = Passwords::start(PasswordConfig { memory_kib: 1, ..CHEAP }, Random::seeded(1));
        assert!(matches!(started, Err(StartError::Cost(_))));
    }
}
