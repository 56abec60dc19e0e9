//! What a node sees of its users, and how far the server was told. No I/O.

use std::collections::VecDeque;

use tertulia_protocol::UserId;
use tertulia_protocol::event::Presence as Status;
use tertulia_protocol::id::IdMap;

/// How many hashes the users of a node are spread over: none is too long to be moved between servers of a cluster or to
/// be deleted, and a change of many users is as many commands at most.
pub(super) const SHARDS: usize = 64;

/// The hash that a user is in.
pub(super) const fn shard_of(user: UserId) -> usize {
    // The end of an id is random.
    let [.., last] = *user.as_bytes();
    last as usize % SHARDS
}

pub(super) struct View {
    users: IdMap<UserId, Entry>,
    /// Whom the server has to be told of; each once.
    changed: VecDeque<UserId>,
    /// How many users the server has, by shards.
    told: [u32; SHARDS],
    /// Counts what was announced: that there is this node is the first.
    announced: u64,
}

#[derive(Clone, Copy)]
struct Entry {
    now: Status,
    told: Status,
    /// Whether he is among those who changed.
    waits: bool,
    /// Whether the server is being told of him; then it is looked again when it has been.
    under_way: bool,
}

impl View {
    pub(super) fn new() -> Self {
        Self { users: IdMap::default(), changed: VecDeque::new(), told: [0; SHARDS], announced: 1 }
    }

    pub(super) fn announce(&mut self, changes: &[(UserId, Status)]) {
        self.announced += 1;
        for &(user, now) in changes {
            let unknown =
                Entry { now: Status::Offline, told: Status::Offline, waits: false, under_way: false };
            let entry = self.users.entry(user).or_insert(unknown);
            entry.now = now;
            self.look_again(user);
        }
    }

    /// Notes a user if the server has to be told of him, and forgets him if nobody needs him any more.
    fn look_again(&mut self, user: UserId) {
        let Some(entry) = self.users.get_mut(&user) else { return };
        if entry.waits || entry.under_way {
            return;
        }
        if entry.now != entry.told {
            entry.waits = true;
            self.changed.push_back(user);
        } else if entry.now == Status::Offline {
            self.users.remove(&user);
        }
    }

    /// How often something was announced.
    pub(super) const fn announced(&self) -> u64 {
        self.announced
    }

    /// Whether the server has to be told of nobody but those whom it is being told of.
    pub(super) fn is_settled(&self) -> bool {
        self.changed.is_empty()
    }

    pub(super) fn status(&self, user: UserId) -> Status {
        self.users.get(&user).map_or(Status::Offline, |entry| entry.now)
    }

    pub(super) fn len(&self) -> usize {
        self.users.len()
    }

    /// What the server has to be told, of at most so many users.
    pub(super) fn take(&mut self, max: usize) -> Vec<(UserId, Status)> {
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some(user) = self.changed.pop_front()
        {
            let Some(entry) = self.users.get_mut(&user) else { continue };
            entry.waits = false;
            if entry.now == entry.told {
                self.look_again(user);
            } else {
                entry.under_way = true;
                taken.push((user, entry.now));
            }
        }
        if self.changed.is_empty() {
            self.changed.shrink_to(1_024);
        }
        taken
    }

    /// The server has taken this.
    pub(super) fn took(&mut self, taken: &[(UserId, Status)]) {
        for &(user, status) in taken {
            let Some(entry) = self.users.get_mut(&user) else { continue };
            entry.under_way = false;
            let before = std::mem::replace(&mut entry.told, status);
            let told = &mut self.told[shard_of(user)];
            match (before, status) {
                (Status::Offline, Status::Online | Status::Away) => *told += 1,
                (Status::Online | Status::Away, Status::Offline) => *told -= 1,
                _ => {}
            }
            self.look_again(user);
        }
    }

    /// The server knows nothing: all has to be told.
    pub(super) fn begin_anew(&mut self) {
        self.told = [0; SHARDS];
        self.users.retain(|_, entry| entry.now != Status::Offline);
        self.changed = self.users.keys().copied().collect();
        for entry in self.users.values_mut() {
            *entry = Entry { now: entry.now, told: Status::Offline, waits: true, under_way: false };
        }
    }

    /// Whether the server has users in a shard.
    pub(super) const fn is_told(&self, shard: usize) -> bool {
        self.told[shard] > 0
    }
}

#[cfg(test)]
mod tests {
    use Status::{Away, Offline, Online};

    use super::*;

    fn user(number: u8) -> UserId {
        UserId::from_bytes([number; 16])
    }

    #[test]
    fn of_a_user_who_changes_often_the_server_hears_the_last() {
        let mut view = View::new();
        let (ana, bo) = (user(1), user(2));
        view.announce(&[(ana, Online), (bo, Online)]);
        view.announce(&[(ana, Away), (bo, Offline)]);
        assert_eq!(view.take(10), [(ana, Away)]);
        assert_eq!(view.len(), 1, "nobody remembers who was never told of");
        view.took(&[(ana, Away)]);
        assert_eq!(view.take(10), []);
        assert!(view.is_told(shard_of(ana)) && !view.is_told(shard_of(bo)));
    }

    #[test]
    fn what_changes_while_the_server_is_told_is_told_after() {
        let mut view = View::new();
        let ana = user(1);
        view.announce(&[(ana, Online)]);
        let taken = view.take(10);
        view.announce(&[(ana, Offline)]);
        view.took(&taken);
        assert_eq!(view.take(10), [(ana, Offline)]);
        view.took(&[(ana, Offline)]);
        assert_eq!((view.len(), view.take(10)), (0, vec![]));
        assert!(!view.is_told(shard_of(ana)));
    }

    #[test]
    fn who_flaps_while_nobody_can_be_told_takes_no_memory() {
        let mut view = View::new();
        for _ in 0..1_000 {
            view.announce(&[(user(1), Online)]);
            view.announce(&[(user(1), Offline)]);
        }
        assert_eq!(view.changed.len(), 1);
        assert_eq!((view.take(10), view.len()), (vec![], 0));
    }

    #[test]
    fn all_is_told_anew_in_pieces() {
        let mut view = View::new();
        let all: Vec<_> = (0..100).map(|number| (user(number), Online)).collect();
        view.announce(&all);
        let taken = view.take(usize::MAX);
        view.took(&taken);
        view.announce(&[(user(0), Offline)]);
        view.begin_anew();
        let mut again = [view.take(60), view.take(60)].concat();
        again.sort_by_key(|(user, _)| *user);
        assert_eq!(again, all[1..]);
        assert_eq!(view.take(60), []);
    }
}
