//! What stands where on the servers.
//!
//! | key | what |
//! |---|---|
//! | `nodes` | the set of all leases that were taken and not given back |
//! | `lease:`*lease* | what the node says of itself; lives as long as the lease |
//! | `here:`*lease*`:`*shard* | a hash: the users of that node in one of 64 shards, and what they are |
//!
//! What stands under a lease counts while the lease lives. A node takes a new one whenever the servers may have forgotten
//! something, and never uses one again: so whoever finds a lease that is over may delete all that stands under it.
//! Leases are renewed, and end, by the servers' clock alone.

use std::collections::BTreeMap;
use std::time::Duration;

use tertulia_protocol::UserId;
use tertulia_protocol::event::Presence as Status;

use super::view::{SHARDS, shard_of};
use crate::redis::{Command, Reply, Routed};

/// How long a hash stays that nobody cares for: its node and all others have died.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// A lease: random, and never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lease([u8; 16]);

impl Lease {
    pub(super) const fn new(random: [u8; 16]) -> Self {
        Self(random)
    }

    /// As a member of the set of all.
    pub(super) fn from_member(member: &Reply) -> Option<Self> {
        match member {
            Reply::Text(member) => member[..].try_into().ok().map(Self),
            _ => None,
        }
    }
}

/// Keys that begin with what this cluster's keys begin with.
#[derive(Clone)]
pub(super) struct Layout(pub(super) String);

/// Commands, with the key of each.
#[derive(Default)]
pub(super) struct Commands(Vec<(Vec<u8>, Command)>);

impl Routed for Commands {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn key(&self, at: usize) -> Vec<u8> {
        self.0[at].0.clone()
    }

    fn write(&self, at: usize, commands: &mut Command) {
        commands.append(&self.0[at].1);
    }
}

impl Commands {
    /// Adds a command of a name, a key, and these words.
    fn add(&mut self, name: &str, key: Vec<u8>, words: &[&[u8]]) {
        let mut command = Command::new(name, 2 + words.len());
        command.word(&key);
        words.iter().for_each(|word| command.word(word));
        self.0.push((key, command));
    }
}

impl Layout {
    fn nodes(&self) -> Vec<u8> {
        format!("{}nodes", self.0).into_bytes()
    }

    /// Leases are written as they are, which is shorter than in digits.
    fn lease(&self, lease: Lease) -> Vec<u8> {
        [self.0.as_bytes(), b"lease:", &lease.0].concat()
    }

    fn here(&self, lease: Lease, shard: usize) -> Vec<u8> {
        [self.0.as_bytes(), b"here:", &lease.0, format!(":{shard}").as_bytes()].concat()
    }

    /// Takes a lease: before [`enlist`](Self::enlist), or others find a node without one and sweep it away.
    pub(super) fn take(&self, lease: Lease, about: &[u8], lives: Duration) -> Commands {
        let mut commands = Commands::default();
        commands.add("SET", self.lease(lease), &[about, b"PX", &millis(lives)]);
        commands
    }

    /// Puts a lease among all.
    pub(super) fn enlist(&self, lease: Lease) -> Commands {
        let mut commands = Commands::default();
        commands.add("SADD", self.nodes(), &[&lease.0]);
        commands
    }

    /// Renews a lease if it lives, and keeps some shards. The first answer is nothing if it is over; those from the
    /// third on are 0 for a shard that is gone.
    pub(super) fn renew(
        &self,
        lease: Lease,
        about: &[u8],
        lives: Duration,
        shards: impl IntoIterator<Item = usize>,
    ) -> Commands {
        let mut commands = Commands::default();
        commands.add("SET", self.lease(lease), &[about, b"XX", b"PX", &millis(lives)]);
        commands.add("SADD", self.nodes(), &[&lease.0]);
        shards.into_iter().for_each(|shard| self.keep(&mut commands, lease, shard));
        commands
    }

    fn keep(&self, commands: &mut Commands, lease: Lease, shard: usize) {
        commands.add("PEXPIRE", self.here(lease, shard), &[&millis(FORGOTTEN_AFTER)]);
    }

    /// Says what users are: three commands for each shard that one of them is in, at most.
    pub(super) fn tell(&self, lease: Lease, changes: &[(UserId, Status)]) -> Commands {
        /// Words of two commands.
        #[derive(Default)]
        struct Words<'a> {
            there: Vec<&'a [u8]>,
            gone: Vec<&'a [u8]>,
        }
        let mut shards: BTreeMap<usize, Words<'_>> = BTreeMap::new();
        for (user, status) in changes {
            let words = shards.entry(shard_of(*user)).or_default();
            match status {
                Status::Online => words.there.extend([user.as_bytes(), &b"o"[..]]),
                Status::Away => words.there.extend([user.as_bytes(), &b"a"[..]]),
                Status::Offline => words.gone.push(user.as_bytes()),
            }
        }
        let mut commands = Commands::default();
        for (shard, Words { there, gone }) in shards {
            if !there.is_empty() {
                commands.add("HSET", self.here(lease, shard), &there);
                self.keep(&mut commands, lease, shard);
            }
            if !gone.is_empty() {
                commands.add("HDEL", self.here(lease, shard), &gone);
            }
        }
        commands
    }

    /// All leases that were taken.
    pub(super) fn all(&self) -> Commands {
        let mut commands = Commands::default();
        commands.add("SMEMBERS", self.nodes(), &[]);
        commands
    }

    /// What the nodes of these leases say of themselves; nothing of one that is over.
    pub(super) fn about(&self, leases: &[Lease]) -> Commands {
        let mut commands = Commands::default();
        leases.iter().for_each(|lease| commands.add("GET", self.lease(*lease), &[]));
        commands
    }

    /// What users are under a lease: first 0 if that is over, then an answer for each of `shards`.
    pub(super) fn ask(&self, commands: &mut Commands, lease: Lease, shards: &BTreeMap<usize, Vec<UserId>>) {
        commands.add("EXISTS", self.lease(lease), &[]);
        for (shard, users) in shards {
            let users: Vec<&[u8]> = users.iter().map(|user| &user.as_bytes()[..]).collect();
            commands.add("HMGET", self.here(lease, *shard), &users);
        }
    }

    /// Takes a lease out of all; the answer is 1 for who did it.
    pub(super) fn strike(&self, lease: Lease) -> Commands {
        let mut commands = Commands::default();
        commands.add("SREM", self.nodes(), &[&lease.0]);
        commands
    }

    /// Ends a lease, and deletes what stands under it.
    pub(super) fn sweep(&self, lease: Lease) -> Commands {
        let mut commands = Commands::default();
        commands.add("UNLINK", self.lease(lease), &[]);
        (0..SHARDS).for_each(|shard| commands.add("UNLINK", self.here(lease, shard), &[]));
        commands
    }
}

/// What a field of a hash says.
pub(super) fn status(field: &Reply) -> Status {
    match field {
        Reply::Text(text) if text == "o" => Status::Online,
        Reply::Text(text) if text == "a" => Status::Away,
        // Nothing, or what a later version says.
        _ => Status::Offline,
    }
}

fn millis(duration: Duration) -> Vec<u8> {
    duration.as_millis().to_string().into_bytes()
}
