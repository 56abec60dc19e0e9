//! Who somebody is: registering, logging in, tokens, devices.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tertulia_protocol::rest::{Device, DeviceInfo, Login, Page, Privacy, Refresh, Register, Session, User};
use tertulia_protocol::rules::{self, Violation};
use tertulia_protocol::{DeviceId, Timestamp, UserId};
use tertulia_store::StoreError;
use tertulia_store::accounts::{Access, Creation, NewDevice, NewUser, Rotation, TokenHash, Tokens};

use super::passwords::Verdict;
use super::profiles::own_profile;
use super::service::Life;
use super::tokens::{self, AccessToken};
use super::{
    AccountsService, AuthError, Identity, LoginError, RefreshError, RegisterError, RevokeError, Trouble,
};
use crate::clock::RandomError;
use crate::limits::Network;

/// How long an access token is valid.
const ACCESS_LIFE: Duration = Duration::from_secs(15 * 60);
/// How long a refresh token is valid, and a device that does not refresh.
const REFRESH_LIFE: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// How many devices are looked at by one statement.
const LIVES_AT_ONCE: usize = 10_000;

/// A pair of tokens that was just made: as the store keeps it, and as the client gets it.
struct MintedPair {
    stored: Tokens,
    access: String,
    refresh: String,
}

impl AccountsService {
    /// Creates a user, and logs him in on his first device.
    ///
    /// # Errors
    /// See [`RegisterError`].
    pub async fn register(&self, register: Register, from: IpAddr) -> Result<Session, RegisterError> {
        let inner = &*self.inner;
        let username = rules::username(&register.username)?;
        rules::password(&register.password)?;
        let display_name = register.display_name.unwrap_or_else(|| username.clone());
        rules::display_name(&display_name)?;
        let info = checked(register.device)?;
        inner.limits.registrations.check(from, inner.clock.monotonic()).map_err(RegisterError::Limited)?;
        // Asked before the work of a hash; who has it for sure is decided when it is written.
        if inner.store.credentials(&username).await.map_err(Trouble::from)?.is_some() {
            return Err(RegisterError::UsernameTaken(username));
        }
        let password_hash = inner.passwords.hash(register.password).await?;

        let now = inner.clock.now();
        let id = UserId::new(now, inner.random.bytes().map_err(Trouble::from)?);
        let (device, pair) = self.new_device(id, info, now).map_err(Trouble::from)?;
        let device_id = device.id;
        let user = NewUser {
            id,
            username: username.clone(),
            display_name: display_name.clone(),
            password_hash,
            created_at: now,
        };
        match inner.store.create_user(user, device).await.map_err(Trouble::from)? {
            Creation::UsernameTaken => Err(RegisterError::UsernameTaken(username)),
            Creation::Created => {
                let user = User {
                    id,
                    username,
                    display_name,
                    about: String::new(),
                    created_at: now,
                    privacy: Some(Privacy::default()),
                };
                Ok(session(user, device_id, pair))
            }
        }
    }

    /// Logs a user in on a new device.
    ///
    /// An unknown user and a wrong password get the same answer after the same work.
    ///
    /// # Errors
    /// See [`LoginError`].
    pub async fn login(&self, login: Login, from: IpAddr) -> Result<Session, LoginError> {
        let inner = &*self.inner;
        let info = checked(login.device)?;
        let now = inner.clock.monotonic();
        inner.limits.logins_per_address.check(from, now).map_err(LoginError::Limited)?;
        // What cannot be a username is nobody's: there is nobody to protect, and no key to remember.
        let username = rules::username(&login.username).ok();
        if let Some(username) = &username {
            // His own attempts first: what is refused here takes nothing from those of others with his name.
            let limits = &inner.limits;
            let here = (Box::<str>::from(username.as_str()), Network::from(from));
            limits.logins_per_user.check(here, now).map_err(LoginError::Limited)?;
            limits.logins_per_user_anywhere.check(username.as_str(), now).map_err(LoginError::Limited)?;
        }
        let credentials =
            inner.store.credentials(username.as_deref().unwrap_or_default()).await.map_err(Trouble::from)?;
        let against = credentials.as_ref().map(|credentials| credentials.password_hash.clone());
        let rehashed = match inner.passwords.check(login.password, against).await? {
            Verdict::Right { rehashed } => rehashed,
            Verdict::Wrong => return Err(LoginError::WrongCredentials),
        };
        let Some(credentials) = credentials else { return Err(LoginError::WrongCredentials) };
        if let Some(new) = rehashed {
            let old = &credentials.password_hash;
            inner.store.replace_password_hash(credentials.user, old, &new).await.map_err(Trouble::from)?;
        }
        self.log_in(credentials.user, info).await
    }

    async fn log_in(&self, user: UserId, info: DeviceInfo) -> Result<Session, LoginError> {
        let inner = &*self.inner;
        let (device, pair) = self.new_device(user, info, inner.clock.now()).map_err(Trouble::from)?;
        let device_id = device.id;
        let this = self.clone();
        let adding = async move {
            let gone = this.inner.store.add_device(device).await?;
            for &gone in gone.iter().flatten() {
                this.gone(user, gone);
            }
            Ok::<_, Trouble>(gone.is_some())
        };
        let is_added = self.to_the_end(adding).await?;
        let users = inner.store.users(&[user]).await.map_err(Trouble::from)?;
        match users.into_iter().next() {
            Some(record) if is_added => Ok(session(own_profile(record), device_id, pair)),
            // He was deleted in the middle.
            Some(_) | None => Err(LoginError::WrongCredentials),
        }
    }

    /// Gives a device its next pair of tokens. A refresh token works once; used again it revokes its device.
    ///
    /// # Errors
    /// See [`RefreshError`].
    pub async fn refresh(&self, refresh: &Refresh) -> Result<Session, RefreshError> {
        let inner = &*self.inner;
        let presented = tokens::parse_refresh(&inner.signer, &refresh.refresh_token)
            .ok_or(RefreshError::Unauthenticated)?;
        let device = presented.device;
        inner.limits.writes.check(device, inner.clock.monotonic()).map_err(RefreshError::Limited)?;
        let now = inner.clock.now();
        let next = presented.generation.saturating_add(1);
        let pair = self.mint(device, next, now).map_err(Trouble::from)?;
        let (this, stored) = (self.clone(), pair.stored);
        let rotating = async move {
            let rotation = this.inner.store.rotate(presented, stored, now).await;
            // It ends later now, or is gone, or nobody knows.
            this.inner.devices.forget(&device);
            if let Ok(Rotation::Reused(user)) = rotation {
                tracing::warn!(%user, %device, "a refresh token was used twice; its device is revoked");
                this.gone(user, device);
            }
            Ok::<_, Trouble>(rotation?)
        };
        match self.to_the_end(rotating).await? {
            Rotation::Rotated(record) => Ok(session(own_profile(record), device, pair)),
            Rotation::Reused(_) => Err(RefreshError::Reused),
            Rotation::Unknown => Err(RefreshError::Unauthenticated),
        }
    }

    /// Whose an access token is. Costs no disk while the token is remembered here.
    ///
    /// # Errors
    /// See [`AuthError`].
    pub async fn authenticate(&self, access_token: &str) -> Result<Identity, AuthError> {
        let inner = &*self.inner;
        let token = AccessToken::parse(access_token).ok_or(AuthError::Unauthenticated)?;
        let hash = token.hash();
        let access = match inner.tokens.get(&hash) {
            Some(access) => access,
            None if token.is_signed(&inner.signer) => self.load_access(hash).await?,
            None => return Err(AuthError::Unauthenticated),
        };
        if access.expires_at <= inner.clock.now() {
            return Err(AuthError::Unauthenticated);
        }
        let identity = Identity { user: access.user, device: access.device };
        self.recheck(identity).await?;
        Ok(identity)
    }

    async fn load_access(&self, hash: TokenHash) -> Result<Access, AuthError> {
        let inner = &*self.inner;
        let ticket = inner.tokens.ticket(&hash);
        // What is not there is not remembered: it was given out once, and will not come back.
        let access = inner.store.access(hash).await?.ok_or(AuthError::Unauthenticated)?;
        inner.tokens.fill(ticket, hash, access);
        Ok(access)
    }

    /// Whether a device that was known is still there. Costs no disk while the device is remembered here.
    ///
    /// # Errors
    /// [`AuthError::Unauthenticated`] if it was revoked or has ended.
    pub async fn recheck(&self, identity: Identity) -> Result<(), AuthError> {
        let inner = &*self.inner;
        let device = identity.device;
        let mut life = inner.devices.get_or(device, self.load_life(device)).await?;
        let is_over = |life: &Life| life.ends_at <= inner.clock.now();
        if life.as_ref().is_some_and(is_over) {
            // It may have been refreshed on another node, and ends later now.
            inner.devices.forget(&device);
            life = inner.devices.get_or(device, self.load_life(device)).await?;
        }
        match life {
            Some(life) if life.user == identity.user && !is_over(&life) => Ok(()),
            Some(_) | None => Err(AuthError::Unauthenticated),
        }
    }

    /// Those of `identities` whose devices were revoked or have ended, as the store knows it; they are forgotten here.
    ///
    /// # Errors
    /// If the store cannot tell now.
    pub async fn gone_among(&self, mut identities: Vec<Identity>) -> Result<Vec<Identity>, StoreError> {
        let inner = &*self.inner;
        let (mut lives, now) = (HashMap::with_capacity(identities.len()), inner.clock.now());
        for piece in identities.chunks(LIVES_AT_ONCE) {
            let devices: Vec<DeviceId> = piece.iter().map(|identity| identity.device).collect();
            let found = inner.store.lives(&devices).await?;
            lives.extend(found.into_iter().map(|(device, user, ends_at)| (device, Life { user, ends_at })));
        }
        identities.retain(|identity| {
            let life = lives.get(&identity.device);
            !life.is_some_and(|life| life.user == identity.user && life.ends_at > now)
        });
        for identity in &identities {
            inner.devices.forget(&identity.device);
        }
        Ok(identities)
    }

    async fn load_life(&self, device: DeviceId) -> Result<Option<Life>, StoreError> {
        let device = self.inner.store.device(device).await?;
        Ok(device.map(|device| Life { user: device.user, ends_at: device.expires_at }))
    }

    /// A token with which this device may resume, on whichever node, as long as it is there.
    pub fn resume_token(&self, identity: Identity) -> String {
        tokens::resume(&self.inner.signer, identity)
    }

    /// Whose a resume token is. Costs no disk while the device is remembered here.
    ///
    /// # Errors
    /// See [`AuthError`].
    pub async fn authenticate_resume(&self, resume_token: &str) -> Result<Identity, AuthError> {
        let identity =
            tokens::parse_resume(&self.inner.signer, resume_token).ok_or(AuthError::Unauthenticated)?;
        self.recheck(identity).await?;
        Ok(identity)
    }

    /// The devices of the one who asks, by the time they logged in: all of them, on one page.
    ///
    /// # Errors
    /// If the store cannot do it now.
    pub async fn sessions(&self, identity: Identity) -> Result<Page<Device>, StoreError> {
        let inner = &*self.inner;
        let devices = inner.store.devices(identity.user, inner.clock.now()).await?;
        let items = devices.into_iter().map(|device| Device {
            device_id: device.id,
            name: device.name,
            platform: device.platform,
            created_at: device.created_at,
            last_seen_at: inner
                .seen
                .of_device(device.id)
                .map_or(device.last_seen_at, |at| at.max(device.last_seen_at)),
            current: device.id == identity.device,
        });
        Ok(Page { items: items.collect(), next_cursor: None })
    }

    /// Revokes a device of the one who asks: its tokens are refused when this returns, and its sockets close.
    ///
    /// # Errors
    /// See [`RevokeError`].
    pub async fn revoke(&self, identity: Identity, device: DeviceId) -> Result<(), RevokeError> {
        let this = self.clone();
        self.to_the_end(async move {
            let removed = this.inner.store.remove_device(identity.user, device).await;
            // Also when nobody knows whether it was removed.
            this.inner.devices.forget(&device);
            if !removed? {
                return Err(RevokeError::NotFound);
            }
            this.gone(identity.user, device);
            Ok(())
        })
        .await
    }

    /// Revokes the device that asks.
    ///
    /// # Errors
    /// See [`RevokeError`]; [`RevokeError::NotFound`] if it was revoked meanwhile.
    pub async fn logout(&self, identity: Identity) -> Result<(), RevokeError> {
        self.revoke(identity, identity.device).await
    }

    /// Notes that a device is there; it is shown to the minute, and written in batches.
    pub fn touch_device(&self, device: DeviceId) {
        self.inner.seen.device(device, self.inner.clock.now());
    }

    fn new_device(
        &self,
        user: UserId,
        info: DeviceInfo,
        now: Timestamp,
    ) -> Result<(NewDevice, MintedPair), RandomError> {
        let id = DeviceId::new(now, self.inner.random.bytes()?);
        let pair = self.mint(id, 1, now)?;
        let DeviceInfo { name, platform } = info;
        Ok((NewDevice { id, user, name, platform, tokens: pair.stored, created_at: now }, pair))
    }

    fn mint(&self, device: DeviceId, generation: u64, now: Timestamp) -> Result<MintedPair, RandomError> {
        let inner = &*self.inner;
        let access = AccessToken::mint(&inner.signer, inner.random.bytes()?);
        let refresh = tokens::mint_refresh(&inner.signer, device, generation, inner.random.bytes()?);
        let stored = Tokens {
            access: access.hash,
            access_expires_at: now.plus(ACCESS_LIFE),
            refresh: refresh.hash,
            generation,
            refresh_expires_at: now.plus(REFRESH_LIFE),
        };
        Ok(MintedPair { stored, access: access.text, refresh: refresh.text })
    }
}

fn checked(device: Option<DeviceInfo>) -> Result<DeviceInfo, Violation> {
    let device = device.unwrap_or_default();
    rules::device_text(&device.name)?;
    rules::device_text(&device.platform)?;
    Ok(device)
}

fn session(user: User, device_id: DeviceId, pair: MintedPair) -> Session {
    Session {
        user,
        access_token: pair.access,
        refresh_token: pair.refresh,
        expires_at: pair.stored.access_expires_at,
        device_id,
    }
}
