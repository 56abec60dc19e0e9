//! What goes into the port [`Accounts`](super::Accounts) and comes out of it. Secrets have no readable `Debug`.

use std::fmt;

use subtle::ConstantTimeEq;
use tertulia_protocol::rest::Privacy;
use tertulia_protocol::{DeviceId, Timestamp, UserId};

/// The SHA-256 of a token: the token itself is never stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Wraps the 32 bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether both are the same, in a time that does not tell where they differ.
    pub fn matches(&self, other: &[u8]) -> bool {
        self.0.as_slice().ct_eq(other).into()
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

/// The key that signs what the service gives out; made once, the same for all nodes.
#[derive(Clone, Copy)]
pub struct SigningKey([u8; 32]);

impl SigningKey {
    /// Wraps 32 random bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

/// A user to create.
#[derive(Clone)]
pub struct NewUser {
    /// His id.
    pub id: UserId,
    /// Folded to lower case.
    pub username: String,
    /// For people.
    pub display_name: String,
    /// As a PHC string.
    pub password_hash: String,
    /// When.
    pub created_at: Timestamp,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// His id.
    pub id: UserId,
    /// Unique, lower case.
    pub username: String,
    /// For people.
    pub display_name: String,
    /// A description; empty at first.
    pub about: String,
    /// What he shows of himself.
    pub privacy: Privacy,
    /// When he registered.
    pub created_at: Timestamp,
    /// When he was last there; `None`: never yet.
    pub last_seen_at: Option<Timestamp>,
}

/// What a login is checked against.
#[derive(Clone)]
pub struct Credentials {
    /// Who.
    pub user: UserId,
    /// As a PHC string.
    pub password_hash: String,
}

/// A page of users, by username.
#[derive(Debug, Clone)]
pub struct UserPage {
    /// The users.
    pub items: Vec<UserRecord>,
    /// For the next page; `None` on the last.
    pub next_cursor: Option<String>,
}

/// A device to add: one login.
#[derive(Debug, Clone)]
pub struct NewDevice {
    /// Its id.
    pub id: DeviceId,
    /// Whose.
    pub user: UserId,
    /// What it calls itself.
    pub name: String,
    /// What it runs on.
    pub platform: String,
    /// Its first tokens.
    pub tokens: Tokens,
    /// When; it counts as seen then.
    pub created_at: Timestamp,
}

/// A pair of tokens, as it is stored.
#[derive(Debug, Clone, Copy)]
pub struct Tokens {
    /// Of the access token.
    pub access: TokenHash,
    /// When that ends.
    pub access_expires_at: Timestamp,
    /// Of the refresh token.
    pub refresh: TokenHash,
    /// Which refresh token of the device it is: 1, 2, 3, …
    pub generation: u64,
    /// When that ends, and the device with it.
    pub refresh_expires_at: Timestamp,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRecord {
    /// Its id.
    pub id: DeviceId,
    /// Whose.
    pub user: UserId,
    /// What it calls itself.
    pub name: String,
    /// What it runs on.
    pub platform: String,
    /// When it logged in.
    pub created_at: Timestamp,
    /// When it was last there.
    pub last_seen_at: Timestamp,
    /// When it ends, unless it refreshes before.
    pub expires_at: Timestamp,
}

/// What an access token stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Whose.
    pub user: UserId,
    /// Which device's.
    pub device: DeviceId,
    /// When it ends; the port does not look at the clock.
    pub expires_at: Timestamp,
}

/// A refresh token that somebody showed, its signature checked.
#[derive(Debug, Clone, Copy)]
pub struct Presented {
    /// The device in it.
    pub device: DeviceId,
    /// The generation in it.
    pub generation: u64,
    /// Its hash.
    pub hash: TokenHash,
}

/// What became of an attempt to create a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// He is there, and his first device.
    Created,
    /// Somebody has this username; nothing was changed.
    UsernameTaken,
}

/// What became of an attempt to rotate a device's tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rotation {
    /// The device has its next pair; this is its user.
    Rotated(UserRecord),
    /// The token was used before: two hold it, and one of them is a thief. The device is gone.
    Reused(UserId),
    /// No such device, or it has ended, or the token is from a future that a restored backup does not know.
    Unknown,
}
