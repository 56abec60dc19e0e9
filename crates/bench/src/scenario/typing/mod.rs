//! `typing`: a group in which many type all the time: what of it is dropped, and that no message is.

mod figures;
mod flood;

pub use figures::TypingFigures;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use serde::Serialize;
use tertulia_protocol::entry::ConversationType;

use self::flood::{Flood, Orders};
use super::{Pace, Traffic};
use crate::bench::Bench;
use crate::crowd::Wanted;
use crate::error::Error;
use crate::load::plan::{Load, Seat, Sends};
use crate::report::Findings;

const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long those who type may take to connect, and the last event to come.
const PATIENCE: Duration = Duration::from_secs(15);

/// A group, some of whose members type.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Typing {
    /// Members who read and write messages.
    pub members: usize,
    /// More members, who type.
    pub typists: usize,
    /// How many typing events they send a second, all together.
    pub typing_rate: f64,
    /// How messages are written, by one member.
    #[serde(flatten)]
    pub traffic: Traffic,
}

impl Typing {
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.members < 2 || self.typists < 2 || !(self.typing_rate > 0.0 && self.typing_rate.is_finite()) {
            return Err(Error::Arguments("two read and write, and two type, at a rate".into()));
        }
        if !matches!(self.traffic.pace, Pace::Rate(_)) {
            return Err(Error::Arguments(
                "messages are written at a rate, the same with and without typing".into(),
            ));
        }
        self.traffic.check()
    }

    pub(super) async fn run(&self, bench: &mut Bench) -> Result<Findings, Error> {
        let all = self.members + self.typists;
        bench.crowd.grow(all, &bench.progress).await?;
        let wanted = Wanted {
            name: format!("typing {} and {}", self.members, self.typists),
            kind: ConversationType::Group,
            members: (0..all).collect(),
        };
        let convo = bench.crowd.meet(&[wanted], &bench.progress).await?[0];
        bench.crowd.sign_in(0..all, &bench.progress).await?;

        let load = |bench: &Bench| Load {
            seats: (0..self.members)
                .map(|member| Seat {
                    token: bench.crowd.token(member).to_owned(),
                    place: member,
                    hears: Some(convo),
                    sends: (member == 0).then_some(Sends { convo, audience: self.members as u64 - 1 }),
                })
                .collect(),
            pace: self.traffic.pace,
            body_bytes: self.traffic.body_bytes,
            audience_of_all: Some(self.members as u32 - 1),
        };
        let quiet = bench.measure(load(bench)).await?;

        let orders = Arc::new(Orders::default());
        let flood = Flood {
            tokens: (self.members..all).map(|user| bench.crowd.token(user).to_owned()).collect(),
            convo,
            per_second: self.typing_rate,
        };
        let (targets, told) = (bench.service.targets.clone(), Arc::clone(&orders));
        let thread = thread::Builder::new()
            .name("bench-typists".into())
            .spawn(move || {
                let typed = flood.run(&targets, &told);
                told.over.store(true, Relaxed);
                typed
            })
            .map_err(Error::io("start a thread"))?;
        let loud = self.with_typing(bench, load(bench), &orders).await;
        orders.stopped.store(true, Relaxed);
        let typed = tokio::task::spawn_blocking(move || thread.join()).await;
        let typed =
            typed.ok().and_then(Result::ok).unwrap_or_else(|| Err(io::Error::other("it has panicked")));
        let mut findings = loud?;
        match typed {
            Ok(typed) => {
                let figures = TypingFigures::new(
                    &typed,
                    self.typists as u64,
                    quiet.load.as_ref(),
                    findings.load.as_ref(),
                );
                figures.problems(&mut findings.problems);
                findings.typing = Some(figures);
            }
            Err(error) => findings.problems.push(format!("one who typed: {error}")),
        }
        findings.problems.extend(quiet.problems);
        Ok(findings)
    }

    async fn with_typing(&self, bench: &mut Bench, load: Load, orders: &Orders) -> Result<Findings, Error> {
        bench.progress.begin("typists", self.typists);
        let began = std::time::Instant::now();
        while orders.ready.load(Relaxed) < self.typists
            && !orders.over.load(Relaxed)
            && began.elapsed() < PATIENCE
        {
            bench.progress.show(orders.ready.load(Relaxed), "");
            bench.progress.unless_interrupted(tokio::time::sleep(LOOK_EVERY)).await?;
        }
        orders.begun.store(true, Relaxed);
        let findings = bench.measure(load).await?;
        // The last event has been sent; what is heard a while later is what was not dropped.
        orders.quiet.store(true, Relaxed);
        let mut before = u64::MAX;
        while before != orders.heard.load(Relaxed) {
            before = orders.heard.load(Relaxed);
            bench.progress.unless_interrupted(tokio::time::sleep(10 * LOOK_EVERY)).await?;
        }
        Ok(findings)
    }
}
