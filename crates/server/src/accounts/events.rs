//! What others must hear of at once.

use tertulia_protocol::rest::Privacy;
use tertulia_protocol::{DeviceId, UserId};

/// Hears what happens to sessions; the hub does. Calls come from async tasks: they must be quick and never block.
///
/// A device may be revoked between the check of its token and the moment when its connection is known here. So a
/// connection is first made known, and then asks [`AccountsService::recheck`](super::AccountsService::recheck).
pub trait SessionEvents: Send + Sync + 'static {
    /// A device is gone: by itself, by its user, by a stolen refresh token, or because it ended.
    /// Its tokens are refused already; its connections must be closed.
    fn revoked(&self, user: UserId, device: DeviceId);

    /// One user blocks another, or no longer.
    fn block_changed(&self, by: UserId, other: UserId);

    /// A user shows more or less of himself from now on. Changes come in the order in which they were made.
    fn privacy_changed(&self, user: UserId, privacy: Privacy);
}

/// Nobody hears anything: for tools and tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoEvents;

impl SessionEvents for NoEvents {
    fn revoked(&self, _: UserId, _: DeviceId) {}

    fn block_changed(&self, _: UserId, _: UserId) {}

    fn privacy_changed(&self, _: UserId, _: Privacy) {}
}
