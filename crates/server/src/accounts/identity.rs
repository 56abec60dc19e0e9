//! Who asks.

use tertulia_protocol::{DeviceId, UserId};

/// A user, on one of his devices, whose token was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The user.
    pub user: UserId,
    /// His device.
    pub device: DeviceId,
}
