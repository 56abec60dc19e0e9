//! `storm`: everybody is cut at once and comes back at once, while messages arrive.

mod shared;

mod member;

mod crew;
mod stayers;

mod figures;

pub use figures::{Phase, StormFigures};
use shared::Shared;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Serialize;

use self::crew::{Return, Seen};
use self::figures::Timeline;
use self::member::Member;
use self::stayers::{Plan, Sent};
use super::{Pace, Traffic, idle};
use crate::bench::Bench;
use crate::crowd::Wanted;
use crate::error::Error;
use crate::process::Process;
use crate::report::Findings;
use crate::sampling::Sampler;

/// Those who stay connected and write; fewer if there are fewer conversations.
const WRITERS_MAX: usize = 50;
/// How long everybody may take to come back and to catch up.
const BACK_MAX: Duration = Duration::from_secs(60);
/// How long everything goes on after the last has caught up.
const AFTER: Duration = Duration::from_secs(1);
/// How long the last messages may take to reach everybody.
const DRAIN_MAX: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Many connections, cut at once.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Storm {
    /// How many connections.
    pub connections: usize,
    /// How many of them belong to one user.
    pub connections_per_user: usize,
    /// Groups of 100 that each user is in.
    pub conversations: usize,
    /// How long they are away before the first comes back.
    #[serde(rename = "awayMillis", serialize_with = "as_millis")]
    pub away: Duration,
    /// Over what time each of them draws its moment to come back.
    #[serde(rename = "spreadMillis", serialize_with = "as_millis")]
    pub spread: Duration,
    /// What those write who stay; with a rate.
    #[serde(flatten)]
    pub traffic: Traffic,
}

fn as_millis<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u128(duration.as_millis())
}

impl Storm {
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.connections_per_user == 0 || self.users() < 2 || self.conversations == 0 {
            return Err(Error::Arguments(
                "there must be two users, with a connection and a group each".into(),
            ));
        }
        if !matches!(self.traffic.pace, Pace::Rate(_)) {
            return Err(Error::Arguments("those who stay write at a rate".into()));
        }
        self.traffic.check()
    }

    fn users(&self) -> usize {
        self.connections / self.connections_per_user.max(1)
    }

    pub(super) async fn run(&self, bench: &mut Bench) -> Result<Findings, Error> {
        let users = self.users();
        let mut wanted = idle::groups(users, self.conversations);
        let writers = wanted.len().min(WRITERS_MAX);
        bench.crowd.grow(users + writers, &bench.progress).await?;
        let members = self.seat(&mut wanted, users, writers);
        let convos = bench.crowd.meet(&wanted, &bench.progress).await?;
        bench.crowd.sign_in(0..users + writers, &bench.progress).await?;
        let members_and_writers = (0..users + writers).map(|user| bench.crowd.token(user));
        let readers = bench.begin_history(members_and_writers, convos.iter().copied()).await?;
        bench.set_up_is_done();

        let threads = bench.threads;
        let shared = Arc::new(Shared::new(convos.len(), threads, bench.chronicle.clone()));
        let Pace::Rate(per_second) = self.traffic.pace else {
            return self.check().map(|()| Findings::default());
        };
        let plan = Plan {
            tokens: (users..users + writers).map(|user| bench.crowd.token(user).to_owned()).collect(),
            convos: convos.clone(),
            per_second,
            body_bytes: self.traffic.body_bytes,
        };
        let mut crews: Vec<Vec<Member>> = (0..threads).map(|_| Vec::new()).collect();
        for turn in 0..self.connections_per_user {
            for (user, groups) in members.iter().enumerate() {
                let seen = groups.iter().map(|&group| (group, convos[group].to_string())).collect();
                let mut member = Member::new(bench.crowd.token(user).to_owned(), seen);
                member.tape = bench.chronicle.as_ref().map(|chronicle| Box::new(chronicle.tape()));
                crews[(turn * users + user) % threads].push(member);
            }
        }
        let storm = Standing::begin(plan, crews, self, bench, &shared)?;
        let outcome = self.watch(bench, writers, &shared).await;
        shared.stop();
        let (sent, seen) = storm.end().await?;
        let course = outcome?;
        let mut findings = course.findings;
        let figures = StormFigures::new(self, users, &course.timeline, &sent, &seen, &course.samples);
        figures.problems(&mut findings.problems);
        findings.storm = Some(figures);
        bench.end_history(readers, &mut findings).await?;
        Ok(findings)
    }

    /// The groups of each user; the writers join.
    fn seat(&self, wanted: &mut [Wanted], users: usize, writers: usize) -> Vec<Vec<usize>> {
        let mut of_user: Vec<Vec<usize>> = vec![Vec::new(); users];
        for (number, wanted) in wanted.iter_mut().enumerate() {
            for &member in &wanted.members {
                of_user[member].push(number);
            }
            wanted.members.push(users + number % writers);
            wanted.name = format!("storm {} and {writers}", wanted.name);
        }
        of_user
    }

    /// From connecting to the last message.
    async fn watch(&self, bench: &Bench, writers: usize, shared: &Shared) -> Result<Course, Error> {
        let connections = self.users() * self.connections_per_user;
        let mut findings = Findings::default();
        let until = |counter: &AtomicUsize, all: usize| counter.load(Relaxed) >= all;
        bench.progress.begin("connecting", connections);
        findings.memory.push(bench.memory("before"));
        let all_stand = || until(&shared.standing, connections) && until(&shared.writers_ready, writers);
        wait(bench, shared, None, || shared.standing.load(Relaxed), all_stand).await?;

        let writing_from = shared.now() + LOOK_EVERY.as_nanos() as u64;
        shared.writing_from.store(writing_from, Relaxed);
        let counted_from = writing_from + bench.warm_up.as_nanos() as u64;
        let cut_at = counted_from + bench.measured.as_nanos() as u64;
        bench.progress.begin("before", bench.measured.as_secs() as usize);
        let seconds = || (shared.now().saturating_sub(counted_from) / 1_000_000_000) as usize;
        wait(bench, shared, None, seconds, || shared.now() + 40_000_000 >= cut_at).await?;
        findings.memory.push(bench.memory("standing"));

        shared.cut_at.store(cut_at, Relaxed);
        let usage = || (bench.service.cpu(), Process::own().cpu());
        let before = usage();
        let sampler = Sampler::begin(&bench.service);
        bench.progress.begin("storm", connections);
        let all_cut = || until(&shared.cut, bench.threads);
        wait(bench, shared, None, || 0, all_cut).await?;
        let back = || shared.caught_up.load(Relaxed);
        let deadline = self.away + self.spread + BACK_MAX;
        let all_back =
            wait(bench, shared, Some(deadline), back, || until(&shared.caught_up, connections)).await?;
        let (ended, after) = (shared.now(), usage());
        findings.memory.push(bench.memory("all back"));
        if !all_back {
            let missing = connections - back();
            findings.problems.push(format!("{missing} connections did not come back, or did not catch up"));
        }
        let _ = wait(bench, shared, Some(AFTER), back, || false).await?;

        shared.be_quiet();
        bench.progress.begin("the rest", connections);
        let level = || shared.level.iter().map(|level| level.load(Relaxed)).sum();
        if !wait(bench, shared, Some(DRAIN_MAX), level, || level() == connections).await? {
            let missing = connections - level();
            findings.problems.push(format!("{missing} connections do not have all messages in the end"));
        }
        shared.settled.store(level() == connections, Relaxed);
        let samples = sampler.end();
        let spent = |after: Option<Duration>, before: Option<Duration>| {
            after.zip(before).map(|(after, before)| after.saturating_sub(before).as_secs_f64())
        };
        let timeline = Timeline {
            counted_from,
            cut_at,
            ended,
            server_cpu: spent(after.0, before.0),
            generator_cpu: spent(after.1, before.1),
        };
        Ok(Course { findings, timeline, samples })
    }
}

/// What was seen from outside.
struct Course {
    findings: Findings,
    timeline: Timeline,
    samples: Vec<crate::sampling::Sample>,
}

/// Waits until something is so: `false` if it was not in time.
async fn wait(
    bench: &Bench,
    shared: &Shared,
    at_most: Option<Duration>,
    done: impl Fn() -> usize,
    is_so: impl Fn() -> bool,
) -> Result<bool, Error> {
    let began = Instant::now();
    while !is_so() {
        if let Some(detail) = shared.trouble() {
            return Err(Error::Refused { what: "storm".into(), detail });
        }
        if at_most.is_some_and(|at_most| began.elapsed() >= at_most) {
            return Ok(false);
        }
        let errors = shared.errors.load(Relaxed);
        let acked = shared.acked.load(Relaxed);
        bench.progress.show(done(), format_args!("{acked} acked, {errors} errors"));
        bench.progress.unless_interrupted(tokio::time::sleep(LOOK_EVERY)).await?;
    }
    Ok(true)
}

/// All threads.
struct Standing {
    stayers: JoinHandle<Vec<Sent>>,
    crews: Vec<JoinHandle<Seen>>,
}

impl Standing {
    fn begin(
        plan: Plan,
        crews: Vec<Vec<Member>>,
        storm: &Storm,
        bench: &Bench,
        shared: &Arc<Shared>,
    ) -> Result<Self, Error> {
        let how = Return { away: storm.away, spread: storm.spread };
        let spawn = |name: String| thread::Builder::new().name(name);
        let (targets, told) = (bench.service.targets.clone(), Arc::clone(shared));
        let write = move || {
            let sent = stayers::write(&plan, &targets, Arc::clone(&told));
            sent.unwrap_or_else(|error| {
                told.fail(error.to_string());
                Vec::new()
            })
        };
        let failed = "start a thread";
        let stayers = spawn("bench-stayers".into()).spawn(write).map_err(Error::io(failed))?;
        let mut standing = Self { stayers, crews: Vec::new() };
        for (number, members) in crews.into_iter().enumerate() {
            let (targets, told) = (bench.service.targets.clone(), Arc::clone(shared));
            let sail = move || {
                let seen = crew::sail(members, how, &targets, Arc::clone(&told), number);
                seen.unwrap_or_else(|error| {
                    told.fail(error.to_string());
                    Seen::default()
                })
            };
            let thread = spawn(format!("bench-crew-{number}")).spawn(sail).map_err(Error::io(failed));
            standing.crews.push(thread.inspect_err(|_| shared.stop())?);
        }
        Ok(standing)
    }

    async fn end(self) -> Result<(Vec<Sent>, Vec<Seen>), Error> {
        let join = move || {
            let seen = self.crews.into_iter().map(JoinHandle::join).collect::<Result<Vec<_>, _>>();
            Some((self.stayers.join().ok()?, seen.ok()?))
        };
        let joined = tokio::task::spawn_blocking(join).await.ok().flatten();
        joined.ok_or_else(|| Error::io("a thread of the generator")(io::Error::other("it has panicked")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_group_has_a_writer_who_is_not_cut() {
        let traffic = Traffic { pace: Pace::Rate(10.0), body_bytes: 100 };
        let storm = Storm {
            connections: 600,
            connections_per_user: 2,
            conversations: 2,
            away: Duration::ZERO,
            spread: Duration::ZERO,
            traffic,
        };
        let mut wanted = idle::groups(storm.users(), storm.conversations);
        let of_user = storm.seat(&mut wanted, 300, 4);
        assert!(of_user.iter().all(|groups| groups.len() == 2), "{of_user:?}");
        for (number, wanted) in wanted.iter().enumerate() {
            assert_eq!(wanted.members.last(), Some(&(300 + number % 4)));
            assert!(wanted.members[0] < 300);
        }
    }
}
