//! What is known of somebody: profiles, privacy, when he was there, whom he blocks.

use std::collections::{HashMap, HashSet};

use tertulia_protocol::rest::{Audience, Page, Privacy, User, UserPatch};
use tertulia_protocol::rules::{self, Violation};
use tertulia_protocol::{Timestamp, UserId};
use tertulia_store::StoreError;
use tertulia_store::accounts::UserRecord;

use super::{AccountsService, BlockError, ProfileError, SearchError};

/// The longest beginning that is searched for, in characters: as long as the longest display name.
const QUERY_CHARS_MAX: usize = 64;

impl AccountsService {
    /// A user as he sees himself, with his settings.
    ///
    /// # Errors
    /// See [`ProfileError`].
    pub async fn me(&self, user: UserId) -> Result<User, ProfileError> {
        self.record(user).await.map(own_profile)
    }

    /// A user as others see him.
    ///
    /// # Errors
    /// See [`ProfileError`].
    pub async fn user(&self, user: UserId) -> Result<User, ProfileError> {
        self.record(user).await.map(profile)
    }

    async fn record(&self, user: UserId) -> Result<UserRecord, ProfileError> {
        self.inner.store.users(&[user]).await?.into_iter().next().ok_or(ProfileError::NotFound)
    }

    /// Changes what `patch` has, and gives the profile after it.
    ///
    /// # Errors
    /// See [`ProfileError`].
    pub async fn update(&self, user: UserId, patch: UserPatch) -> Result<User, ProfileError> {
        patch.display_name.as_deref().map_or(Ok(()), rules::display_name)?;
        patch.about.as_deref().map_or(Ok(()), rules::about)?;
        let this = self.clone();
        let updating = async move {
            let inner = &*this.inner;
            if patch.privacy.is_none() {
                return Ok::<_, ProfileError>(inner.store.update_user(user, patch).await?);
            }
            let _order = inner.privacy_order.lock().await;
            let updated = inner.store.update_user(user, patch).await;
            inner.privacies.forget(&user);
            if let Ok(Some(record)) = &updated {
                inner.events.privacy_changed(user, record.privacy);
            }
            Ok(updated?)
        };
        self.to_the_end(updating).await?.map(own_profile).ok_or(ProfileError::NotFound)
    }

    /// Users whose username or display name begins with `query`, in any case, by username.
    ///
    /// # Errors
    /// See [`SearchError`].
    pub async fn search(
        &self,
        query: &str,
        limit: Option<usize>,
        cursor: Option<&str>,
    ) -> Result<Page<User>, SearchError> {
        if query.trim().is_empty() || query.chars().count() > QUERY_CHARS_MAX {
            let detail = format!("query must have 1 to {QUERY_CHARS_MAX} characters, not all of them spaces");
            return Err(Violation::invalid(detail).into());
        }
        let limit = rules::page_limit(limit)?;
        let page = self.inner.store.search(query, cursor, limit).await?;
        Ok(Page { items: page.items.into_iter().map(profile).collect(), next_cursor: page.next_cursor })
    }

    /// The user of a username, which is folded to lower case.
    ///
    /// # Errors
    /// If the store cannot do it now.
    pub async fn named(&self, username: &str) -> Result<Option<UserId>, StoreError> {
        Ok(self.inner.store.credentials(username).await?.map(|credentials| credentials.user))
    }

    /// Those of `users` who do not exist.
    ///
    /// # Errors
    /// If the store cannot do it now.
    pub async fn missing(&self, users: &[UserId]) -> Result<Vec<UserId>, StoreError> {
        let known: HashSet<UserId> = self.privacies(users).await?.into_iter().map(|(user, _)| user).collect();
        Ok(users.iter().filter(|&user| !known.contains(user)).copied().collect())
    }

    /// What a user shows of himself; of nobody: what is shown by default.
    ///
    /// # Errors
    /// If the store cannot do it now; never for one who was asked for lately.
    pub async fn privacy(&self, user: UserId) -> Result<Privacy, StoreError> {
        Ok(self.privacies(&[user]).await?.first().map(|&(_, privacy)| privacy).unwrap_or_default())
    }

    /// Those of `users` who hide what they have read.
    ///
    /// # Errors
    /// If the store cannot do it now; never if all were asked for lately.
    pub async fn hiding_read(&self, users: &[UserId]) -> Result<HashSet<UserId>, StoreError> {
        let hides = |&(_, privacy): &(UserId, Privacy)| privacy.read_receipts == Audience::Nobody;
        Ok(self.privacies(users).await?.into_iter().filter(hides).map(|(user, _)| user).collect())
    }

    /// The settings of those of `users` who exist, in no order.
    async fn privacies(&self, users: &[UserId]) -> Result<Vec<(UserId, Privacy)>, StoreError> {
        let cache = &self.inner.privacies;
        let mut known = Vec::with_capacity(users.len());
        let mut unknown = Vec::new();
        let mut tickets = HashMap::new();
        for &user in users {
            if let Some(privacy) = cache.get(&user) {
                known.push((user, privacy));
            } else {
                tickets.insert(user, cache.ticket(&user));
                unknown.push(user);
            }
        }
        if unknown.is_empty() {
            return Ok(known);
        }
        for (user, privacy) in self.inner.store.privacies(&unknown).await? {
            if let Some(&ticket) = tickets.get(&user) {
                cache.fill(ticket, user, privacy);
            }
            known.push((user, privacy));
        }
        Ok(known)
    }

    /// When a user was last there, whether or not he shows it; `None`: never yet.
    ///
    /// # Errors
    /// If the store cannot do it now.
    pub async fn last_seen(&self, user: UserId) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.last_seen_of(&[user]).await?.remove(&user))
    }

    /// When users were last there, whether or not they show it; those who never were are not in it.
    ///
    /// # Errors
    /// If the store cannot do it now.
    pub async fn last_seen_of(&self, users: &[UserId]) -> Result<HashMap<UserId, Timestamp>, StoreError> {
        let mut seen = HashMap::with_capacity(users.len());
        let mut unknown = Vec::new();
        for &user in users {
            match self.inner.seen.of_user(user) {
                Some(at) => drop(seen.insert(user, at)),
                None => unknown.push(user),
            }
        }
        if !unknown.is_empty() {
            let records = self.inner.store.users(&unknown).await?;
            seen.extend(records.into_iter().filter_map(|record| Some((record.id, record.last_seen_at?))));
        }
        Ok(seen)
    }

    /// Notes when a user was last there; read back at once, written in batches.
    pub fn set_last_seen(&self, user: UserId, at: Timestamp) {
        self.inner.seen.user(user, at);
    }

    /// Sets or lifts a block.
    ///
    /// # Errors
    /// See [`BlockError`].
    pub async fn set_block(&self, by: UserId, other: UserId, blocked: bool) -> Result<(), BlockError> {
        if by == other {
            return Err(BlockError::Oneself);
        }
        let this = self.clone();
        self.to_the_end(async move {
            let done = this.inner.store.set_block(by, other, blocked).await;
            this.inner.blocks.forget(&(by, other));
            // Also when nobody knows whether it was changed.
            this.inner.events.block_changed(by, other);
            if done? { Ok(()) } else { Err(BlockError::NotFound) }
        })
        .await
    }

    /// Whether `by` blocks `other`.
    ///
    /// # Errors
    /// If the store cannot do it now; never for two who were asked for lately.
    pub async fn blocks(&self, by: UserId, other: UserId) -> Result<bool, StoreError> {
        let load = async { self.inner.store.blocks(by, other).await };
        self.inner.blocks.get_or((by, other), load).await
    }

    /// The same as the store has it now. What is remembered here may be what was, as long as another node that changed it
    /// has not told so.
    ///
    /// # Errors
    /// If the store cannot do it now.
    pub async fn blocks_now(&self, by: UserId, other: UserId) -> Result<bool, StoreError> {
        self.inner.store.blocks(by, other).await
    }

    /// Whether one of the two blocks the other.
    ///
    /// # Errors
    /// As [`blocks`](Self::blocks).
    pub async fn blocked_between(&self, a: UserId, b: UserId) -> Result<bool, StoreError> {
        Ok(self.blocks(a, b).await? || self.blocks(b, a).await?)
    }
}

fn profile(record: UserRecord) -> User {
    User { privacy: None, ..own_profile(record) }
}

pub(super) fn own_profile(record: UserRecord) -> User {
    User {
        id: record.id,
        username: record.username,
        display_name: record.display_name,
        about: record.about,
        created_at: record.created_at,
        privacy: Some(record.privacy),
    }
}
