//! A bounded cache that never serves what was changed before the question.
//!
//! A value comes in only from a read, and only if nothing of its shard was forgotten since that read began:
//! so a read that overtakes a change cannot bring the old value back. Whoever changes something forgets it
//! here when the change is durable, and tells nobody before.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

const SHARDS: usize = 16;

/// Values by key; at most about `capacity` of them, those that were not asked for lately go first.
pub(super) struct Cache<K, V> {
    hasher: RandomState,
    shards: Box<[Mutex<Shard<K, V>>]>,
    /// The most values of each generation of a shard.
    generation_max: usize,
    /// Whether nothing is kept: others change what is remembered here, and cannot tell.
    is_blind: AtomicBool,
}

/// Two generations: what is asked for moves to the young one; when that is full it becomes the old one, and what
/// was old goes. Nearly as good as a list of the least recently used, without one.
struct Shard<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    /// How often something was forgotten.
    changes: u64,
}

/// Proof of when a read began.
#[derive(Clone, Copy)]
pub(super) struct Ticket {
    changes: u64,
}

impl<K: Hash + Eq + Clone, V: Clone> Cache<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        let empty = || Mutex::new(Shard { young: HashMap::new(), old: HashMap::new(), changes: 0 });
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| empty()).collect(),
            generation_max: (capacity / SHARDS / 2).max(1),
            is_blind: AtomicBool::new(false),
        }
    }

    /// Keeps nothing from now on, or again; what was kept before is forgotten.
    pub(super) fn set_blind(&self, is_blind: bool) {
        self.is_blind.store(is_blind, Ordering::Release);
        self.forget_all();
    }

    /// Forgets everything.
    pub(super) fn forget_all(&self) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.changes += 1;
            (shard.young, shard.old) = (HashMap::new(), HashMap::new());
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<V> {
        let mut shard = self.shard(key);
        if let Some(value) = shard.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = shard.old.remove_entry(key)?;
        shard.insert(key, value.clone(), self.generation_max);
        Some(value)
    }

    /// To be taken before the read whose value shall be filled in.
    pub(super) fn ticket(&self, key: &K) -> Ticket {
        Ticket { changes: self.shard(key).changes }
    }

    /// Keeps what a read gave, unless it may be out of date already.
    pub(super) fn fill(&self, ticket: Ticket, key: K, value: V) {
        let mut shard = self.shard(&key);
        // Looked at under the lock: what is forgotten after it was set goes all of it.
        if shard.changes == ticket.changes && !self.is_blind.load(Ordering::Acquire) {
            shard.insert(key, value, self.generation_max);
        }
    }

    /// Forgets a value that has changed; reads that are under way will not be kept.
    pub(super) fn forget(&self, key: &K) {
        let mut shard = self.shard(key);
        shard.changes += 1;
        shard.young.remove(key);
        shard.old.remove(key);
    }

    /// The value, from here or else from `load`.
    pub(super) async fn get_or<E>(&self, key: K, load: impl Future<Output = Result<V, E>>) -> Result<V, E> {
        if let Some(value) = self.get(&key) {
            return Ok(value);
        }
        let ticket = self.ticket(&key);
        let value = load.await?;
        self.fill(ticket, key, value.clone());
        Ok(value)
    }

    fn shard(&self, key: &K) -> MutexGuard<'_, Shard<K, V>> {
        let hash = self.hasher.hash_one(key);
        lock(&self.shards[hash as usize % SHARDS])
    }
}

fn lock<K, V>(shard: &Mutex<Shard<K, V>>) -> MutexGuard<'_, Shard<K, V>> {
    // A panic elsewhere cannot leave a map half changed.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Hash + Eq, V> Shard<K, V> {
    fn insert(&mut self, key: K, value: V, generation_max: usize) {
        if self.young.len() >= generation_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn len(cache: &Cache<u32, u32>) -> usize {
        let size = |shard: &Mutex<Shard<u32, u32>>| {
            let shard = shard.lock().unwrap();
            shard.young.len() + shard.old.len()
        };
        cache.shards.iter().map(size).sum()
    }

    #[test]
    fn it_stays_in_bounds_and_keeps_what_is_asked_for() {
        let cache = Cache::new(320);
        cache.fill(cache.ticket(&0), 0, 7);
        for key in 1..10_000 {
            cache.fill(cache.ticket(&key), key, key);
            assert_eq!(cache.get(&0), Some(7), "{key}");
        }
        assert!(len(&cache) <= 320, "{}", len(&cache));
        assert_eq!(cache.get(&1), None);
    }

    #[test]
    fn a_read_that_began_before_a_change_is_not_kept() {
        let cache = Cache::new(320);
        let ticket = cache.ticket(&1);
        cache.forget(&1);
        cache.fill(ticket, 1, 1);
        assert_eq!(cache.get(&1), None);
        cache.fill(cache.ticket(&1), 1, 2);
        assert_eq!(cache.get(&1), Some(2));
        cache.forget(&1);
        assert_eq!(cache.get(&1), None);
    }

    #[test]
    fn what_is_blind_keeps_nothing() {
        let cache = Cache::new(320);
        cache.fill(cache.ticket(&1), 1, 1);
        let begun_before = cache.ticket(&2);
        cache.set_blind(true);
        cache.fill(cache.ticket(&1), 1, 1);
        assert_eq!(cache.get(&1), None);
        cache.forget_all();
        cache.fill(cache.ticket(&1), 1, 1);
        assert_eq!(cache.get(&1), None, "it is blind as before");
        cache.set_blind(false);
        cache.fill(begun_before, 2, 2);
        assert_eq!(cache.get(&2), None, "it may have been read while nobody could tell of a change");
        cache.fill(cache.ticket(&1), 1, 1);
        assert_eq!(cache.get(&1), Some(1));
    }

    #[tokio::test]
    async fn a_value_is_loaded_once_and_an_error_is_not_kept() {
        let cache: Cache<u32, u32> = Cache::new(320);
        assert_eq!(cache.get_or(1, async { Err("down") }).await, Err("down"));
        assert_eq!(cache.get_or(1, async { Ok::<_, &str>(5) }).await, Ok(5));
        assert_eq!(cache.get_or(1, async { Err("down") }).await, Ok(5));
    }
}
