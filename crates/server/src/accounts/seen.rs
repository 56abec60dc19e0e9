//! When devices and users were last there: noted in memory, written in batches.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tertulia_protocol::{DeviceId, Timestamp, UserId};

/// The most that waits to be written, of devices and of users each. When it is full the new ones are dropped:
/// nothing depends on them but what people are shown.
const WAITING_MAX: usize = 100_000;

/// What waits to be written.
#[derive(Debug, Default)]
pub(super) struct Seen {
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    devices: HashMap<DeviceId, Timestamp>,
    users: HashMap<UserId, Timestamp>,
    /// Being written now: not yet to be read from the store.
    users_on_their_way: HashMap<UserId, Timestamp>,
}

/// A batch to write.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) devices: Vec<(DeviceId, Timestamp)>,
    pub(super) users: Vec<(UserId, Timestamp)>,
}

impl Seen {
    /// Notes a device, to the minute.
    pub(super) fn device(&self, device: DeviceId, at: Timestamp) {
        let minute = Timestamp::from_millis(at.as_millis() - at.as_millis().rem_euclid(60_000));
        note(&mut self.lock().devices, device, minute);
    }

    pub(super) fn user(&self, user: UserId, at: Timestamp) {
        note(&mut self.lock().users, user, at);
    }

    /// What is known of a device here; the store may have something newer.
    pub(super) fn of_device(&self, device: DeviceId) -> Option<Timestamp> {
        self.lock().devices.get(&device).copied()
    }

    /// What is known of a user here; it is newer than what the store has.
    pub(super) fn of_user(&self, user: UserId) -> Option<Timestamp> {
        let notes = self.lock();
        notes.users.get(&user).max(notes.users_on_their_way.get(&user)).copied()
    }

    /// Takes what waits; to be followed by [`written`](Self::written) or [`not_written`](Self::not_written).
    pub(super) fn take(&self) -> Batch {
        let mut notes = self.lock();
        // What is still on its way belongs to a write that was given up: once more.
        let mut users = std::mem::take(&mut notes.users_on_their_way);
        for (user, at) in std::mem::take(&mut notes.users) {
            note(&mut users, user, at);
        }
        let batch = Batch {
            devices: std::mem::take(&mut notes.devices).into_iter().collect(),
            users: users.iter().map(|(&user, &at)| (user, at)).collect(),
        };
        notes.users_on_their_way = users;
        batch
    }

    pub(super) fn written(&self) {
        self.lock().users_on_their_way = HashMap::new();
    }

    pub(super) fn not_written(&self, devices: Vec<(DeviceId, Timestamp)>) {
        let mut notes = self.lock();
        for (device, at) in devices {
            note(&mut notes.devices, device, at);
        }
        for (user, at) in std::mem::take(&mut notes.users_on_their_way) {
            note(&mut notes.users, user, at);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note<K: std::hash::Hash + Eq>(notes: &mut HashMap<K, Timestamp>, key: K, at: Timestamp) {
    if let Some(noted) = notes.get_mut(&key) {
        *noted = at.max(*noted);
    } else if notes.len() < WAITING_MAX {
        notes.insert(key, at);
    }
}
