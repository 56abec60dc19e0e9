//! Buckets by key: sharded, bounded, swept.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tertulia_domain::limits::{Gcra, Quota};

/// Enough that two cores seldom meet at one.
const SHARDS: usize = 32;
/// The most buckets that a shard remembers, not counting those that connections hold.
///
/// All shards together remember 131,072 keys, some 10 MiB at the most.
const BUCKETS_PER_SHARD_MAX: usize = 4_096;

/// The bucket of one key; cheap to clone, all clones are the same bucket.
#[derive(Clone)]
pub struct Bucket {
    quota: Quota,
    state: Arc<AtomicU64>,
}

impl Bucket {
    /// A bucket of nobody else.
    pub(super) fn new(quota: Quota) -> Self {
        Self { quota, state: Arc::default() }
    }

    /// Counts one.
    ///
    /// # Errors
    /// How long to wait; nothing is counted then.
    pub fn check(&self, now: Duration) -> Result<(), Duration> {
        self.check_cost(1, now)
    }

    /// Counts `cost`; what is more than a burst counts as a burst.
    ///
    /// # Errors
    /// How long to wait; nothing is counted then.
    pub fn check_cost(&self, cost: u32, now: Duration) -> Result<(), Duration> {
        if self.quota.is_unlimited() {
            return Ok(());
        }
        take(self.quota, &self.state, cost, now)
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("quota", &self.quota).finish_non_exhaustive()
    }
}

fn take(quota: Quota, state: &AtomicU64, cost: u32, now: Duration) -> Result<(), Duration> {
    let mut seen = state.load(Ordering::Relaxed);
    loop {
        let next = quota.take(Gcra::from_bits(seen), now, cost)?.to_bits();
        // Relaxed: the number is all there is, nothing else is published by it.
        match state.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return Ok(()),
            Err(other) => seen = other,
        }
    }
}

/// One bucket for each key.
///
/// Memory is bounded: when a shard is full, buckets that are as good as new are forgotten, and if all
/// are in use, the eighth of them with the least in it. A bucket that somebody holds is never forgotten,
/// so a device has one bucket however many connections it has.
pub struct Keyed<K> {
    quota: Quota,
    hasher: RandomState,
    shards: Box<[Mutex<Shard<K>>]>,
}

struct Shard<K> {
    buckets: HashMap<K, Arc<AtomicU64>>,
    /// At this size room is made. Held buckets may push it up: else every new key would look through all of them.
    full_at: usize,
}

impl<K: Hash + Eq> Keyed<K> {
    pub(super) fn new(quota: Quota) -> Self {
        let empty = || Mutex::new(Shard { buckets: HashMap::new(), full_at: BUCKETS_PER_SHARD_MAX });
        let shards = (0..SHARDS).map(|_| empty()).collect();
        Self { quota, hasher: RandomState::new(), shards }
    }

    /// Counts one for `key`.
    ///
    /// # Errors
    /// How long to wait; nothing is counted then.
    pub fn check(&self, key: impl Into<K>, now: Duration) -> Result<(), Duration> {
        self.check_cost(key, 1, now)
    }

    /// Counts `cost` for `key`; what is more than a burst counts as a burst.
    ///
    /// # Errors
    /// How long to wait; nothing is counted then.
    pub fn check_cost(&self, key: impl Into<K>, cost: u32, now: Duration) -> Result<(), Duration> {
        if self.quota.is_unlimited() {
            return Ok(());
        }
        let key = key.into();
        let mut shard = self.shard(&key);
        if let Some(state) = shard.buckets.get(&key) {
            return take(self.quota, state, cost, now);
        }
        shard.make_room(now);
        let state = shard.buckets.entry(key).or_default();
        take(self.quota, state, cost, now)
    }

    /// Counts `cost` for `key`, however much it is: `key` may be in debt then, and every check is refused until that is paid.
    pub fn owe(&self, key: impl Into<K>, cost: u32, now: Duration) {
        if self.quota.is_unlimited() {
            return;
        }
        let key = key.into();
        let mut shard = self.shard(&key);
        if !shard.buckets.contains_key(&key) {
            shard.make_room(now);
        }
        let state = shard.buckets.entry(key).or_default();
        // Never refused, so it is always `Ok`. Relaxed as in `take`.
        let owe = |bits| Some(self.quota.owe(Gcra::from_bits(bits), now, cost).to_bits());
        let _ = state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, owe);
    }

    /// The bucket of `key`, to keep: checking it takes no look-up.
    pub fn bucket(&self, key: impl Into<K>) -> Bucket {
        if self.quota.is_unlimited() {
            return Bucket::new(self.quota);
        }
        let key = key.into();
        let mut shard = self.shard(&key);
        // No room is made here: who holds buckets is bounded by the number of connections.
        let state = Arc::clone(shard.buckets.entry(key).or_default());
        Bucket { quota: self.quota, state }
    }

    /// Forgets what is as good as new.
    pub fn sweep(&self, now: Duration) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.forget_empty(now);
            shard.buckets.shrink_to(BUCKETS_PER_SHARD_MAX / 8);
            shard.full_at = BUCKETS_PER_SHARD_MAX;
        }
    }

    /// How many buckets are remembered.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).buckets.len()).sum()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, key: &K) -> MutexGuard<'_, Shard<K>> {
        let hash = self.hasher.hash_one(key);
        lock(&self.shards[hash as usize % SHARDS])
    }
}

impl<K> fmt::Debug for Keyed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed").field("quota", &self.quota).finish_non_exhaustive()
    }
}

/// A panic elsewhere leaves a map of numbers as good as it was.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_held(state: &Arc<AtomicU64>) -> bool {
    // The map's own is one; others are only made under the shard's lock, or from others.
    Arc::strong_count(state) > 1
}

impl<K> Shard<K> {
    fn forget_empty(&mut self, now: Duration) {
        self.buckets.retain(|_, state| {
            is_held(state) || !Gcra::from_bits(state.load(Ordering::Relaxed)).is_empty(now)
        });
    }

    /// Makes room for one more. An eighth goes at once, so that a storm of new keys pays for it once in 512.
    fn make_room(&mut self, now: Duration) {
        if self.buckets.len() < self.full_at {
            return;
        }
        self.forget_empty(now);
        self.forget_least(BUCKETS_PER_SHARD_MAX / 8 * 7);
        self.full_at = BUCKETS_PER_SHARD_MAX.max(self.buckets.len() + BUCKETS_PER_SHARD_MAX / 8);
    }

    /// Forgets of the buckets that nobody holds those with the least in them, until `keep` are left.
    fn forget_least(&mut self, keep: usize) {
        let loose = self.buckets.values().filter(|state| !is_held(state));
        let mut loose: Vec<u64> = loose.map(|state| state.load(Ordering::Relaxed)).collect();
        let mut too_many = loose.len().saturating_sub(keep);
        let Some(last) = too_many.checked_sub(1) else { return };
        let (_, &mut least, _) = loose.select_nth_unstable(last);
        self.buckets.retain(|_, state| {
            let goes = too_many > 0 && !is_held(state) && state.load(Ordering::Relaxed) <= least;
            too_many -= usize::from(goes);
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn keyed(count: u32, burst: u32) -> Keyed<u64> {
        let number = |n| NonZeroU32::new(n).unwrap();
        Keyed::new(Quota::new(number(count), Duration::from_secs(1), number(burst)))
    }

    #[test]
    fn keys_do_not_share_a_bucket() {
        let keyed = keyed(1, 1);
        assert_eq!(keyed.check(1_u64, Duration::ZERO), Ok(()));
        assert_eq!(keyed.check(2_u64, Duration::ZERO), Ok(()));
        assert_eq!(keyed.check(1_u64, Duration::ZERO), Err(Duration::from_secs(1)));
    }

    #[test]
    fn a_kept_bucket_is_the_one_of_its_key_also_after_a_sweep() {
        let keyed = keyed(1, 1);
        let held = keyed.bucket(7_u64);
        keyed.sweep(Duration::from_secs(9));
        assert_eq!(held.check(Duration::from_secs(9)), Ok(()));
        assert!(keyed.check(7_u64, Duration::from_secs(9)).is_err());
        assert!(keyed.bucket(7_u64).check(Duration::from_secs(9)).is_err());
        drop(held);
        keyed.sweep(Duration::from_secs(10));
        assert!(keyed.is_empty());
    }

    #[test]
    fn a_sweep_forgets_only_what_is_as_good_as_new() {
        let keyed = keyed(1, 2);
        for _ in 0..2 {
            keyed.check(1_u64, Duration::ZERO).unwrap();
        }
        keyed.check(2_u64, Duration::ZERO).unwrap();
        keyed.sweep(Duration::from_secs(1));
        assert_eq!(keyed.len(), 1);
        assert!(keyed.check_cost(1_u64, 2, Duration::from_secs(1)).is_err());
    }

    #[test]
    fn a_storm_of_keys_stays_in_bounds_and_spares_who_is_deepest_in_debt() {
        let keyed = keyed(1, 50);
        keyed.check_cost(u64::MAX, 50, Duration::ZERO).unwrap();
        for key in 0..400_000_u64 {
            keyed.check(key, Duration::ZERO).unwrap();
        }
        assert!(keyed.len() <= SHARDS * BUCKETS_PER_SHARD_MAX, "{}", keyed.len());
        assert!(keyed.check(u64::MAX, Duration::ZERO).is_err());
    }

    #[test]
    fn threads_together_get_no_more_than_the_burst() {
        let bucket = keyed(1, 100).bucket(1_u64);
        let taken: usize = std::thread::scope(|scope| {
            let run = || (0..100).filter(|_| bucket.check(Duration::ZERO).is_ok()).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, 100);
    }
}
