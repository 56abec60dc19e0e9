//! Whoever waits until something is settled: the writer for a while, reads until it is, or does not go on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use tertulia_domain::log::Commit;
use tertulia_protocol::ConvoId;

use super::{Inner, Settled, Tail};
use crate::StoreError;

/// When conversations that a read waits for are settled.
enum Turn {
    /// They are.
    None,
    /// With this commit, in its turn.
    Commit(Commit),
    /// At the end of this round, or in their turn with this commit.
    Round(u64, Commit),
}

impl Tail {
    /// Waits until all of a conversation is settled, before its turn, but not for ever.
    pub(in crate::embedded) fn wait_settled(
        &self,
        convo: ConvoId,
        patience: Duration,
    ) -> Result<(), StoreError> {
        let is_unsettled = |inner: &Inner| inner.convos.get(&convo).is_some_and(|found| !found.is_settled());
        let mut inner = self.lock();
        if is_unsettled(&inner) {
            inner.wanted.insert(convo);
        }
        self.wait_while(inner, patience, is_unsettled)
    }

    /// Has these settled before their turn, as far as they are not; nobody waits for it yet.
    pub(in crate::embedded) fn want_settled(&self, convos: impl IntoIterator<Item = ConvoId>) {
        let mut inner = self.lock();
        let Inner { convos: known, wanted, .. } = &mut *inner;
        let is_unsettled = |convo: &ConvoId| known.get(convo).is_some_and(|found| !found.is_settled());
        wanted.extend(convos.into_iter().filter(is_unsettled));
        let is_any = !wanted.is_empty();
        drop(inner);
        if is_any {
            self.work.notify_one();
        }
    }

    /// Waits until there is room for more, but not for ever.
    pub(in crate::embedded) fn wait_for_room(&self, patience: Duration) -> Result<(), StoreError> {
        let is_full = |inner: &Inner| inner.fill(&self.limits) >= 1.0;
        let inner = self.lock();
        // The settler must not linger while somebody waits for it.
        let _waiting = is_full(&inner).then(|| Waiting::enter(&self.waiting));
        self.wait_while(inner, patience, is_full)
    }

    fn wait_while(
        &self,
        inner: MutexGuard<'_, Inner>,
        patience: Duration,
        blocked: impl Fn(&Inner) -> bool,
    ) -> Result<(), StoreError> {
        if !blocked(&inner) {
            return Ok(());
        }
        self.work.notify_one();
        let (inner, _) = self
            .progress
            .wait_timeout_while(inner, patience, |inner| {
                blocked(inner) && inner.stuck.is_none() && !inner.abandoned
            })
            .unwrap_or_else(PoisonError::into_inner);
        if !blocked(&inner) {
            return Ok(());
        }
        Err(behind(inner.stuck.as_deref()))
    }

    /// Waits until everything up to `commit` is settled.
    ///
    /// # Errors
    /// `Unavailable` if settling does not go on.
    pub(in crate::embedded) async fn settled_to(&self, commit: Commit) -> Result<(), StoreError> {
        if self.settled.borrow().commit >= commit {
            return Ok(());
        }
        let _waiting = Waiting::enter(&self.waiting);
        // Under the lock the settler either waits already, or has yet to look at the count.
        drop(self.lock());
        self.work.notify_one();
        self.wait_for(|settled| settled.commit >= commit).await
    }

    /// Waits until everything that is visible now is settled.
    pub(in crate::embedded) async fn all_settled(&self) -> Result<(), StoreError> {
        self.settled_to(Commit::new(self.horizon().get().saturating_sub(1))).await
    }

    /// Waits until everything of these conversations that is visible now is settled: if much is before it, they are
    /// settled before their turn.
    pub(in crate::embedded) async fn convos_settled(
        &self,
        convos: impl IntoIterator<Item = ConvoId>,
    ) -> Result<(), StoreError> {
        match self.want(convos) {
            Turn::None => Ok(()),
            Turn::Commit(commit) => self.settled_to(commit).await,
            Turn::Round(round, commit) => {
                self.work.notify_one();
                self.wait_for(|settled| settled.rounds >= round || settled.commit >= commit).await
            }
        }
    }

    fn want(&self, convos: impl IntoIterator<Item = ConvoId>) -> Turn {
        let mut inner = self.lock();
        let mut unsettled = Vec::new();
        let mut newest = None;
        for convo in convos {
            if let Some(found) = inner.convos.get(&convo).filter(|found| !found.is_settled()) {
                newest = newest.max(Some(found.last));
                unsettled.push(convo);
            }
        }
        match newest {
            None => Turn::None,
            Some(commit) if inner.is_short(&self.limits) => Turn::Commit(commit),
            Some(commit) => {
                inner.wanted.extend(unsettled);
                Turn::Round(inner.rounds + 1, commit)
            }
        }
    }

    /// Waits until it is settled who is in which conversation, as it is visible now.
    pub(in crate::embedded) async fn members_settled(&self) -> Result<(), StoreError> {
        let joining: Vec<_> = self.lock().joining.iter().copied().collect();
        self.convos_settled(joining).await
    }

    async fn wait_for(&self, is_reached: impl Fn(&Settled) -> bool) -> Result<(), StoreError> {
        let mut settled = self.settled.subscribe();
        let reached = settled
            .wait_for(|settled| is_reached(settled) || settled.stuck.is_some())
            .await
            .map_err(|_| StoreError::Closed)?;
        if is_reached(&reached) { Ok(()) } else { Err(behind(reached.stuck.as_deref())) }
    }
}

fn behind(stuck: Option<&str>) -> StoreError {
    StoreError::Unavailable {
        reason: stuck.map_or_else(|| "settling is behind".into(), |why| format!("settling stopped: {why}")),
        retry_after: Duration::from_secs(2),
    }
}

/// Counts somebody who waits for settling.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
