//! The service: what it is made of, and what it does from time to time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tertulia_protocol::rest::Privacy;
use tertulia_protocol::{DeviceId, Timestamp, UserId};
use tertulia_store::accounts::{Access, TokenHash};
use tertulia_store::{Accounts, StoreError};
use tokio::task::JoinError;
use tokio_util::task::TaskTracker;

use super::cache::Cache;
use super::passwords::{PasswordConfig, Passwords, StartError};
use super::seen::Seen;
use super::{SessionEvents, Signer};
use crate::clock::{Clock, Random};
use crate::limits::Limits;

/// How often [`AccountsService::flush`] is to be called.
pub const FLUSH_EVERY: Duration = Duration::from_secs(30);
/// The most devices that one [`AccountsService::flush`] ends.
const ENDED_PER_FLUSH_MAX: usize = 1_000;

/// How many tokens and devices are remembered: some 150 bytes each.
const SESSIONS_CACHED: usize = 131_072;
/// How many users' settings are remembered: some 50 bytes each.
const PRIVACIES_CACHED: usize = 262_144;
/// How many pairs are remembered: some 80 bytes each.
const BLOCKS_CACHED: usize = 65_536;

/// What the service needs.
pub struct AccountsConfig {
    /// Where accounts live.
    pub store: Arc<dyn Accounts>,
    /// Who hears of revoked devices and changed privacy.
    pub events: Arc<dyn SessionEvents>,
    /// How often somebody may log in, register and refresh.
    pub limits: Limits,
    /// The time.
    pub clock: Clock,
    /// For ids, tokens and salts.
    pub random: Random,
    /// How passwords are hashed.
    pub passwords: PasswordConfig,
}

/// Accounts, with their rules; cheap to clone.
///
/// Its methods are sorted into who somebody is (`register`, `login`, `refresh`, `authenticate`, …), what is known
/// of him (`me`, `user`, `search`, `privacy`, …) and what is to be done from time to time (`flush`).
#[derive(Clone)]
pub struct AccountsService {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) store: Arc<dyn Accounts>,
    pub(super) events: Arc<dyn SessionEvents>,
    pub(super) limits: Limits,
    pub(super) clock: Clock,
    pub(super) random: Random,
    pub(super) passwords: Passwords,
    pub(super) signer: Signer,
    /// What access tokens stand for; their devices may be gone.
    pub(super) tokens: Cache<TokenHash, Access>,
    /// Whose a device is and when it ends; `None`: it is gone.
    pub(super) devices: Cache<DeviceId, Option<Life>>,
    pub(super) privacies: Cache<UserId, Privacy>,
    /// Whether the first blocks the second.
    pub(super) blocks: Cache<(UserId, UserId), bool>,
    pub(super) seen: Seen,
    /// Held while a change of privacy is written and told, so that the last one told is the last one written.
    pub(super) privacy_order: tokio::sync::Mutex<()>,
    /// What must be finished although whoever asked for it has gone.
    tasks: TaskTracker,
}

/// Whose a device is, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) user: UserId,
    pub(super) ends_at: Timestamp,
}

impl AccountsService {
    /// Starts the service; the threads for passwords end with its last clone.
    ///
    /// # Errors
    /// If those threads cannot be started, or the cost of passwords is out of range.
    pub fn start(config: AccountsConfig) -> Result<Self, StartError> {
        let AccountsConfig { store, events, limits, clock, random, passwords } = config;
        let passwords = Passwords::start(passwords, random.clone())?;
        let signer = Signer::new(&store.signing_key());
        Ok(Self {
            inner: Arc::new(Inner {
                store,
                events,
                limits,
                clock,
                random,
                passwords,
                signer,
                tokens: Cache::new(SESSIONS_CACHED),
                devices: Cache::new(SESSIONS_CACHED),
                privacies: Cache::new(PRIVACIES_CACHED),
                blocks: Cache::new(BLOCKS_CACHED),
                seen: Seen::default(),
                privacy_order: tokio::sync::Mutex::default(),
                tasks: TaskTracker::new(),
            }),
        })
    }

    /// Signs what others of this service give out and want to know again, with the same key.
    pub fn signer(&self) -> &Signer {
        &self.inner.signer
    }

    /// Figures for `/metrics`, cheap to take: (name without prefix, value).
    pub fn figures(&self) -> Vec<(&'static str, f64)> {
        let (hashed, waiting) = self.inner.passwords.figures();
        vec![("passwords_hashed", hashed as f64), ("passwords_waiting", waiting as f64)]
    }

    /// Asks the store for something small, to see whether it answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn reach(&self) -> Result<(), StoreError> {
        self.inner.store.time().await.map(drop)
    }

    /// Writes down who was seen, and ends devices whose refresh tokens have ended. To be called every
    /// [`FLUSH_EVERY`], by one task, and once more before the store is closed.
    ///
    /// # Errors
    /// Nothing is lost then: the next call tries it again.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let inner = &*self.inner;
        let batch = inner.seen.take();
        if !(batch.devices.is_empty() && batch.users.is_empty()) {
            match inner.store.touch(batch.devices.clone(), batch.users).await {
                Ok(()) => inner.seen.written(),
                Err(error) => {
                    inner.seen.not_written(batch.devices);
                    return Err(error);
                }
            }
        }
        for (user, device) in inner.store.remove_ended(inner.clock.now(), ENDED_PER_FLUSH_MAX).await? {
            self.gone(user, device);
        }
        Ok(())
    }

    /// Finishes what is under way, writes down who was seen, and closes the store. Calls that come later and need
    /// the store are refused.
    pub async fn close(&self) {
        let inner = &*self.inner;
        inner.tasks.close();
        inner.tasks.wait().await;
        if let Err(error) = self.flush().await {
            tracing::warn!(%error, "who was seen last could not be written");
        }
        inner.store.close().await;
    }

    /// Does `work` to its end, also if the caller goes away in the middle (a client that hangs up drops the call):
    /// what is changed in the store must be forgotten here, and told. The service is not closed before it is done.
    pub(crate) async fn to_the_end<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, E> {
        match self.inner.tasks.spawn(work).await.map_err(JoinError::try_into_panic) {
            Ok(result) => result,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            Err(Err(_)) => Err(StoreError::Closed.into()),
        }
    }

    /// Another node has removed a device.
    pub fn forget_device(&self, device: DeviceId) {
        self.inner.devices.forget(&device);
    }

    /// Another node has changed what a user shows.
    pub fn forget_privacy(&self, user: UserId) {
        self.inner.privacies.forget(&user);
    }

    /// Another node has changed whether one user blocks another.
    pub fn forget_block(&self, by: UserId, other: UserId) {
        self.inner.blocks.forget(&(by, other));
    }

    /// Remembers nothing as long as other nodes cannot tell what they change (`is_blind`); what was remembered before is
    /// forgotten.
    pub fn set_blind(&self, is_blind: bool) {
        let Inner { tokens, devices, privacies, blocks, .. } = &*self.inner;
        tokens.set_blind(is_blind);
        devices.set_blind(is_blind);
        privacies.set_blind(is_blind);
        blocks.set_blind(is_blind);
    }

    /// Forgets all that other nodes may have changed.
    pub fn forget_all(&self) {
        let Inner { tokens, devices, privacies, blocks, .. } = &*self.inner;
        tokens.forget_all();
        devices.forget_all();
        privacies.forget_all();
        blocks.forget_all();
    }

    /// What must happen here when a device is gone from the store.
    pub(super) fn gone(&self, user: UserId, device: DeviceId) {
        self.inner.devices.forget(&device);
        self.inner.events.revoked(user, device);
    }
}

impl fmt::Debug for AccountsService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccountsService")
    }
}
