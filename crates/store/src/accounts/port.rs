//! The port of accounts.

use async_trait::async_trait;
use tertulia_protocol::rest::{Privacy, UserPatch};
use tertulia_protocol::{DeviceId, Timestamp, UserId};

use super::{
    Access, Creation, Credentials, DeviceRecord, NewDevice, NewUser, Presented, Rotation, SigningKey,
    TokenHash, Tokens, UserPage, UserRecord,
};
use crate::StoreError;

/// The most devices that a user has; one more, and the one that was not seen for the longest time goes.
pub const DEVICES_PER_USER_MAX: usize = 200;

/// The most access tokens of a device: the newest, and those that calls under way may still carry.
pub(crate) const ACCESS_TOKENS_PER_DEVICE_MAX: usize = 4;

/// Users, their devices and tokens, and whom they block.
///
/// What is promised, whatever stands behind it:
/// - Every change is durable (synced) when its call returns, except those of [`touch`](Self::touch), and every
///   read that begins after that sees it.
/// - A call changes everything that it says or nothing, also when two nodes make it at once.
/// - When a call that changes something fails, nobody knows whether it was done.
///
/// Not promised: to look at the clock, at what text may contain, or at who asks; those above do.
#[async_trait]
pub trait Accounts: Send + Sync + 'static {
    /// The key that signs resume tokens and the like: random, made with the data, the same for ever.
    fn signing_key(&self) -> SigningKey;

    /// What time it is by the clock that everybody has who shares these accounts; `None`: whoever asks has the only one.
    async fn time(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Creates a user and his first device.
    async fn create_user(&self, user: NewUser, device: NewDevice) -> Result<Creation, StoreError>;

    /// What the login of a username (folded to lower case) is checked against; `None` if nobody has it.
    async fn credentials(&self, username: &str) -> Result<Option<Credentials>, StoreError>;

    /// Replaces a password hash, if it is still `old`; says whether it was.
    async fn replace_password_hash(&self, user: UserId, old: &str, new: &str) -> Result<bool, StoreError>;

    /// Those of `ids` who exist, in no order.
    async fn users(&self, ids: &[UserId]) -> Result<Vec<UserRecord>, StoreError>;

    /// Those of `ids` who exist, with what they show, in no order. Cheaper than [`users`](Self::users).
    async fn privacies(&self, ids: &[UserId]) -> Result<Vec<(UserId, Privacy)>, StoreError>;

    /// Users whose username or display name begins with `prefix` ([`fold`](fn@super::fold)ed on both sides), by
    /// username, `limit` of them after `cursor`.
    ///
    /// # Errors
    /// [`StoreError::InvalidCursor`] for a cursor that no page gave out.
    async fn search(&self, prefix: &str, cursor: Option<&str>, limit: usize) -> Result<UserPage, StoreError>;

    /// Changes what `patch` has and gives the user after it; `None` if there is no such user.
    async fn update_user(&self, user: UserId, patch: UserPatch) -> Result<Option<UserRecord>, StoreError>;

    /// Adds a device and gives those that went to make room for it; `None`, and nothing is added, if its user
    /// does not exist.
    async fn add_device(&self, device: NewDevice) -> Result<Option<Vec<DeviceId>>, StoreError>;

    /// The devices of a user that have not ended at `now`, by the time they logged in.
    async fn devices(&self, user: UserId, now: Timestamp) -> Result<Vec<DeviceRecord>, StoreError>;

    /// A device, also one that has ended but was not swept away yet.
    async fn device(&self, device: DeviceId) -> Result<Option<DeviceRecord>, StoreError>;

    /// Those of `devices` that are there, each with whose it is and when it ends, in no order; also such as have ended but
    /// were not swept away yet.
    async fn lives(&self, devices: &[DeviceId]) -> Result<Vec<(DeviceId, UserId, Timestamp)>, StoreError>;

    /// What an access token stands for, also one that has ended, until its device's next rotation.
    ///
    /// It stays valid until it ends, also after a rotation; but only the newest four of a device do.
    async fn access(&self, token: TokenHash) -> Result<Option<Access>, StoreError>;

    /// Gives the device its next pair of tokens, if `presented` is its newest refresh token and the device has not
    /// ended at `now`; it counts as seen then. Of two calls with the same token one at the most rotates.
    ///
    /// A token that was the newest once removes the device; see [`Rotation`].
    async fn rotate(
        &self,
        presented: Presented,
        next: Tokens,
        now: Timestamp,
    ) -> Result<Rotation, StoreError>;

    /// Removes a user's device and its tokens; says whether he had it.
    async fn remove_device(&self, user: UserId, device: DeviceId) -> Result<bool, StoreError>;

    /// Removes at most `limit` devices that have ended at `now`, and says which.
    async fn remove_ended(&self, now: Timestamp, limit: usize)
    -> Result<Vec<(UserId, DeviceId)>, StoreError>;

    /// Notes when devices and users were last there. Only forward; unknown ones are passed over.
    ///
    /// A crash may take the last of these.
    async fn touch(
        &self,
        devices: Vec<(DeviceId, Timestamp)>,
        users: Vec<(UserId, Timestamp)>,
    ) -> Result<(), StoreError>;

    /// Notes whether `by` blocks `other`; says whether both exist. The same again changes nothing.
    async fn set_block(&self, by: UserId, other: UserId, blocked: bool) -> Result<bool, StoreError>;

    /// Whether `by` blocks `other`.
    async fn blocks(&self, by: UserId, other: UserId) -> Result<bool, StoreError>;

    /// Finishes what is under way and lets go of the data; later calls fail with [`StoreError::Closed`].
    async fn close(&self);
}
