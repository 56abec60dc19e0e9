//! `idle`: what a connection costs that says nothing, is in many conversations, and sometimes hears something.

use std::time::Duration;

use serde::Serialize;
use tertulia_protocol::entry::ConversationType;

use super::Traffic;
use crate::bench::Bench;
use crate::crowd::Wanted;
use crate::error::Error;
use crate::load::plan::{Load, Seat, Sends};
use crate::report::{Findings, IdleFigures, LoadFigures, MemoryPoint};

/// Members of a group, if there are so many users.
const GROUP_MEMBERS: usize = 100;
/// How many of them write at most, in the load after the idling.
const WRITERS_MAX: usize = 100;
/// How long a server may take to give memory back.
const SETTLE: Duration = Duration::from_secs(6);

/// Many connections: the server's memory before them, with them, after they heard something, and without them.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Idle {
    /// How many connections.
    pub connections: usize,
    /// How many of them belong to one user.
    pub connections_per_user: usize,
    /// In how many conversations each user is: a tenth of them direct ones, the others groups of 100.
    pub conversations: usize,
    /// What is sent after the idling; with a rate, as each message goes to a hundred.
    #[serde(flatten)]
    pub traffic: Traffic,
}

impl Idle {
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.connections_per_user == 0 || self.users() < 2 {
            return Err(Error::Arguments("there must be two users, with a connection each".into()));
        }
        if self.conversations == 0 || self.conversations >= self.users() {
            let why = "each user is in another direct conversation with each of the others";
            return Err(Error::Arguments(format!("there are too few users, or no conversations: {why}")));
        }
        self.traffic.check()
    }

    fn users(&self) -> usize {
        self.connections / self.connections_per_user.max(1)
    }

    pub(super) async fn run(&self, bench: &mut Bench) -> Result<Findings, Error> {
        let users = self.users();
        if bench.service.process().is_none() {
            let why = "the memory is that of the server's process";
            return Err(Error::Arguments(format!("{why}: give --server-pid, on the server's machine")));
        }
        bench.crowd.grow(users, &bench.progress).await?;
        let groups = groups(users, self.conversations - self.conversations / 10);
        let mut wanted = groups.clone();
        wanted.extend(directs(users, self.conversations / 10));
        let convos = bench.crowd.meet(&wanted, &bench.progress).await?;
        bench.crowd.sign_in(0..users, &bench.progress).await?;

        // The first member of each of the first groups, once.
        let mut sends: Vec<Option<Sends>> = vec![None; users];
        for (group, &convo) in groups.iter().zip(&convos).take(WRITERS_MAX) {
            let audience = (group.members.len() * self.connections_per_user - 1) as u64;
            sends[group.members[0]].get_or_insert(Sends { convo, audience });
        }
        let crowd = &bench.crowd;
        let seats = (0..self.connections_per_user).flat_map(|turn| {
            let sends = &sends;
            (0..users).map(move |user| Seat {
                token: crowd.token(user).to_owned(),
                place: user,
                hears: None,
                sends: sends[user].filter(|_| turn == 0),
            })
        });
        let load = Load {
            seats: seats.collect(),
            pace: self.traffic.pace,
            body_bytes: self.traffic.body_bytes,
            audience_of_all: None,
        };
        let memberships = bench.crowd.memberships();
        self.measure(bench, load, users, memberships).await
    }

    async fn measure(
        &self,
        bench: &mut Bench,
        load: Load,
        users: usize,
        memberships: usize,
    ) -> Result<Findings, Error> {
        bench.progress.begin("settling", 0);
        bench.progress.unless_interrupted(tokio::time::sleep(SETTLE)).await?;
        let connections = load.seats.len();
        let before = bench.memory("before");
        let generator = bench.connect(load).await?;
        let stood = generator.idle(bench.measured.max(SETTLE), &bench.progress).await?;
        let idle = bench.memory("idle");
        let mut played =
            generator.play(bench.warm_up, bench.measured, &bench.service, &bench.progress).await?;
        bench.progress.unless_interrupted(tokio::time::sleep(SETTLE)).await?;
        let loaded = bench.memory("after load");
        let tally = generator.leave().await?;
        bench.progress.unless_interrupted(tokio::time::sleep(SETTLE)).await?;
        let left = bench.memory("after they left");
        if !stood && played.problems.is_empty() {
            played.problems.push("a connection was lost while nothing happened".into());
        }
        let grown = |now: MemoryPoint| {
            let pss = |point: MemoryPoint| point.server.map(|memory| memory.pss_bytes as f64);
            Some(pss(now)? - pss(before)?)
        };
        let mut notes = Vec::new();
        if bench.crowd.registered + bench.crowd.conversations_made > 0 {
            notes.push(
                "the server has done the set-up, too: for memory without its traces, start it anew and run again \
                 with the same --users-file"
                    .into(),
            );
        }
        Ok(Findings {
            load: Some(LoadFigures::new(&tally, &played, bench.measured)),
            memory: vec![before, idle, loaded, left],
            idle: Some(IdleFigures {
                connections,
                users,
                conversations_per_user: memberships as f64 / users as f64,
                bytes_per_connection: grown(idle).map(|bytes| bytes / connections as f64),
                bytes_per_connection_after_load: grown(loaded).map(|bytes| bytes / connections as f64),
                bytes_left: grown(left),
            }),
            problems: played.problems,
            notes,
            ..Findings::default()
        })
    }
}

/// So many groups for each user, each time with others.
pub(super) fn groups(users: usize, per_user: usize) -> Vec<Wanted> {
    let mut groups = Vec::new();
    for round in 0..per_user {
        // Steps through all users, if the two have no common divisor.
        let stride = (2 * round + 1..).find(|&stride| gcd(stride, users) == 1).unwrap_or(1);
        let order: Vec<usize> = (0..users).map(|place| place * stride % users).collect();
        groups.extend(order.chunks(GROUP_MEMBERS).enumerate().map(|(number, members)| Wanted {
            name: format!("group {round}.{number} of {users}"),
            kind: ConversationType::Group,
            members: members.to_vec(),
        }));
    }
    groups
}

/// So many direct conversations for each user, with neighbours on both sides, as in a ring.
fn directs(users: usize, per_user: usize) -> Vec<Wanted> {
    let distances = 1..=per_user / 2;
    let direct = |one: usize, other: usize| Wanted {
        name: format!("direct {one} {other} of {users}"),
        kind: ConversationType::Direct,
        members: vec![one, other],
    };
    let mut directs: Vec<Wanted> = distances
        .flat_map(|distance| (0..users).map(move |user| direct(user, (user + distance) % users)))
        .collect();
    // The odd one: with whom is furthest away.
    if per_user % 2 == 1 {
        directs.extend((0..users / 2).map(|user| direct(user, user + users / 2)));
    }
    directs
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_user_is_in_as_many_conversations_as_asked_for_and_never_twice_with_one_in_a_direct_one() {
        for (users, per_user) in [(200, 50), (1_000, 20), (12, 10)] {
            let (groups, directs) = (groups(users, per_user - per_user / 10), directs(users, per_user / 10));
            let mut counts = vec![0; users];
            groups
                .iter()
                .chain(&directs)
                .flat_map(|wanted| &wanted.members)
                .for_each(|&user| counts[user] += 1);
            assert!(counts.iter().all(|&count| count == per_user), "{users} users: {counts:?}");
            let names: BTreeSet<&str> =
                groups.iter().chain(&directs).map(|wanted| wanted.name.as_str()).collect();
            assert_eq!(names.len(), groups.len() + directs.len());
            let pairs: BTreeSet<BTreeSet<usize>> =
                directs.iter().map(|direct| direct.members.iter().copied().collect()).collect();
            assert_eq!(pairs.len(), directs.len());
        }
    }
}
