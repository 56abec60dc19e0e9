//! `abuse`: what peers with bad intentions or bad code cost those who are well behaved.

mod figures;
mod kind;
mod mob;
mod peer;

pub use figures::{AbuseFigures, Calm, KindFigures};
pub use kind::Kind;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use tertulia_protocol::entry::ConversationType;
use tertulia_protocol::rules::PAGE_MAX;

use self::mob::{Damage, Mob};
use super::{Pace, Pairs};
use crate::bench::Bench;
use crate::crowd::Wanted;
use crate::error::Error;
use crate::fleet::fill::fill;
use crate::report::{Findings, LoadFigures};
use crate::sampling::{Sampler, peak};

/// The messages of which a page is 12 MB.
const LONG_BYTES: usize = 60_000;
/// How long the hostile have to get going.
const LEAD: Duration = Duration::from_secs(2);

/// Pairs that talk, and others that disturb.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Abuse {
    /// What the hostile do, one after the other.
    pub kinds: Vec<Kind>,
    /// How many hostile peers.
    pub hostile: usize,
    /// Those who talk, at a rate.
    #[serde(flatten)]
    pub pairs: Pairs,
}

/// Orders for the hostile, and how it goes.
#[derive(Debug, Default)]
struct Orders {
    stopped: AtomicBool,
    closed: AtomicU64,
}

impl Abuse {
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.kinds.is_empty() || self.hostile == 0 || self.pairs.pairs == 0 {
            return Err(Error::Arguments("somebody disturbs, and somebody is disturbed".into()));
        }
        if !matches!(self.pairs.traffic.pace, Pace::Rate(_)) {
            return Err(Error::Arguments("those who talk do it at a rate, the same all the time".into()));
        }
        self.pairs.traffic.check()
    }

    pub(super) async fn run(&self, bench: &mut Bench) -> Result<Findings, Error> {
        // The last one writes to the group that the others do not read.
        let talkers = 2 * self.pairs.pairs;
        let all = talkers + self.hostile + 1;
        bench.crowd.grow(all, &bench.progress).await?;
        let wanted = Wanted {
            name: format!("abuse {talkers} to {all}"),
            kind: ConversationType::Group,
            members: (talkers..all).collect(),
        };
        let group = bench.crowd.meet(&[wanted], &bench.progress).await?[0];
        let load = self.pairs.load(bench).await?;
        let alone = bench.measure(load).await?;
        let mut findings = Findings { memory: alone.memory, problems: alone.problems, ..Findings::default() };
        let mut kinds = Vec::new();
        for &kind in &self.kinds {
            bench.crowd.sign_in(talkers..all, &bench.progress).await?;
            if kind == Kind::UnreadAnswers {
                let (target, writer) = (bench.service.targets.first(), bench.crowd.token(all - 1));
                fill(target, writer, &[group], PAGE_MAX as u64, LONG_BYTES).await?;
            }
            let tokens = (talkers..all).map(|user| bench.crowd.token(user).to_owned()).collect();
            let mob = Mob { kind, tokens, group };
            let (load, damage, grown) = self.beside(bench, mob, &mut findings).await?;
            kinds.push(KindFigures::new(kind, Calm::of(load.as_ref()), damage, grown));
        }
        let load = self.pairs.load(bench).await?;
        let again = bench.measure(load).await?;
        findings.problems.extend(again.problems);
        findings.memory.push(bench.memory("after"));
        findings.abuse = Some(AbuseFigures {
            hostile: self.hostile,
            alone: Calm::of(alone.load.as_ref()),
            kinds,
            alone_again: Calm::of(again.load.as_ref()),
        });
        Ok(findings)
    }

    /// The pairs talk while the mob is there: what they saw, what the mob did, and how much memory it took.
    async fn beside(
        &self,
        bench: &mut Bench,
        mob: Mob,
        findings: &mut Findings,
    ) -> Result<(Option<LoadFigures>, Damage, Option<f64>), Error> {
        let load = self.pairs.load(bench).await?;
        let before = bench.service.resident();
        let sampler = Sampler::begin(&bench.service);
        let orders = Arc::new(Orders::default());
        let (target, told, name) =
            (bench.service.targets.first().clone(), Arc::clone(&orders), mob.kind.name());
        let thread = thread::Builder::new().name("bench-mob".into());
        let thread = thread.spawn(move || mob.run(&target, &told)).map_err(Error::io("start a thread"))?;
        bench.progress.begin(name, 0);
        let lead = bench.progress.unless_interrupted(tokio::time::sleep(LEAD)).await;
        let measured = match lead {
            Ok(()) => bench.measure(load).await,
            Err(error) => Err(error),
        };
        orders.stopped.store(true, Relaxed);
        let damage = tokio::task::spawn_blocking(move || thread.join()).await;
        let damage =
            damage.ok().and_then(Result::ok).unwrap_or_else(|| Err(io::Error::other("it has panicked")));
        let grown = peak(&sampler.end()).zip(before).map(|(peak, before)| peak as f64 - before as f64);
        let damage = damage.map_err(Error::io("disturb"))?;
        match measured {
            Ok(measured) => {
                let told = measured.problems.into_iter().map(|problem| format!("{name}: {problem}"));
                findings.problems.extend(told);
                Ok((measured.load, damage, grown))
            }
            // That others cannot connect any more is what was to be found out.
            Err(Error::Refused { what, detail }) => {
                findings.problems.push(format!("{name}: {what}: {detail}"));
                Ok((None, damage, grown))
            }
            Err(error) => Err(error),
        }
    }
}
