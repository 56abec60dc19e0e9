//! `catchup`: what it costs to come back, by what was missed and by how long the history is.

mod figures;

pub use figures::{CatchupCase, CatchupFigures};

use std::io;
use std::time::Instant;

use serde::Serialize;
use tertulia_protocol::ConvoId;
use tertulia_protocol::entry::ConversationType;
use tertulia_protocol::event::ClientEvent;

use super::{Pace, Traffic};
use crate::bench::Bench;
use crate::crowd::Wanted;
use crate::error::Error;
use crate::fleet::caller::{Bookmark, Caller, bookmark};
use crate::fleet::fill::{fill, now_micros};
use crate::fleet::frames::Frame;
use crate::report::Findings;
use crate::service::Target;

/// Who writes; the readers are those after him.
const WRITER: usize = 0;
/// Fewer rounds are anecdotes.
const ROUNDS_MIN: usize = 3;

/// One who was away.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Catchup {
    /// How many entries were missed, one case each.
    pub missed: Vec<u64>,
    /// How many conversations are many.
    pub conversations: usize,
    /// How many entries are a long history, all conversations together.
    pub history: u64,
    /// How often each case is measured; all cases in turn, so that a busy moment falls on all of them.
    pub rounds: usize,
    /// The length of each message.
    pub body_bytes: usize,
}

/// A reader, and what he is in.
struct Reader {
    user: usize,
    is_long: bool,
    convos: Vec<ConvoId>,
}

/// One time of one case.
struct Caught {
    millis: f64,
    bytes: u64,
    pushed: u64,
    /// Entries that gaps name.
    named: u64,
}

impl Catchup {
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.missed.is_empty() || self.missed.contains(&0) || self.conversations < 2 || self.rounds == 0 {
            let why = "something is missed, in one conversation or in two or more, at least once";
            return Err(Error::Arguments(why.into()));
        }
        Traffic { pace: Pace::Window(1), body_bytes: self.body_bytes }.check()
    }

    pub(super) async fn run(&self, bench: &mut Bench) -> Result<Findings, Error> {
        let readers = self.readers(bench).await?;
        let token = bench.crowd.token(WRITER).to_owned();
        let mut findings = Findings { memory: vec![bench.memory("before")], ..Findings::default() };
        let mut cases: Vec<CatchupCase> = Vec::new();
        let steps = self.rounds * self.missed.len() * readers.len();
        bench.progress.begin("catching up", steps);
        for step in 0..steps {
            bench.progress.show(step, "");
            let place = step % (self.missed.len() * readers.len());
            let (missed, reader) = (self.missed[place / readers.len()], &readers[place % readers.len()]);
            let caught = self.catch_up(bench, reader, missed, &token).await?;
            if place == cases.len() {
                cases.push(CatchupCase::new(missed, reader.convos.len(), reader.is_long, self.history));
            }
            if caught.pushed + caught.named != missed {
                let all = caught.pushed + caught.named;
                findings.problems.push(format!("{missed} entries were missed, and {all} came or were named"));
            }
            cases[place].add(caught.millis, caught.bytes, caught.pushed, caught.named);
        }
        if self.rounds < ROUNDS_MIN {
            findings.problems.push(format!("too few rounds: {ROUNDS_MIN} are the least"));
        }
        findings.memory.push(bench.memory("after"));
        cases.iter_mut().for_each(CatchupCase::finish);
        findings.catchup = Some(CatchupFigures { rounds: self.rounds, cases });
        Ok(findings)
    }

    /// One or many conversations, with a short or a long history.
    async fn readers(&self, bench: &mut Bench) -> Result<Vec<Reader>, Error> {
        let kinds = [(1, false), (1, true), (self.conversations, false), (self.conversations, true)];
        bench.crowd.grow(1 + kinds.len(), &bench.progress).await?;
        let mut readers = Vec::new();
        for (number, (count, is_long)) in kinds.into_iter().enumerate() {
            let user = WRITER + 1 + number;
            let length = if is_long { self.history } else { 0 };
            let wanted: Vec<Wanted> = (0..count)
                .map(|place| Wanted {
                    name: format!("catchup {place} of {count} after {length}"),
                    kind: ConversationType::Group,
                    members: vec![WRITER, user],
                })
                .collect();
            let convos = bench.crowd.meet(&wanted, &bench.progress).await?;
            bench.crowd.sign_in([WRITER, user], &bench.progress).await?;
            let mut there = 0;
            for &convo in &convos {
                there += bench.crowd.head(WRITER, convo).await?;
            }
            bench.progress.begin("filling", length as usize);
            let token = bench.crowd.token(WRITER).to_owned();
            fill(
                bench.service.targets.first(),
                &token,
                &convos,
                length.saturating_sub(there),
                self.body_bytes,
            )
            .await?;
            readers.push(Reader { user, is_long, convos });
        }
        bench.set_up_is_done();
        Ok(readers)
    }

    /// The reader goes, misses something, and comes back.
    async fn catch_up(
        &self,
        bench: &Bench,
        reader: &Reader,
        missed: u64,
        writer: &str,
    ) -> Result<Caught, Error> {
        let (target, token) =
            (bench.service.targets.first().clone(), bench.crowd.token(reader.user).to_owned());
        let failed = || Error::io("catch up");
        let going = tokio::task::spawn_blocking(move || go(&target, &token));
        let left = going.await.map_err(io::Error::other).and_then(|left| left).map_err(failed())?;
        fill(bench.service.targets.first(), writer, &reader.convos, missed, self.body_bytes).await?;
        let target = bench.service.targets.first().clone();
        let coming = tokio::task::spawn_blocking(move || come_back(&target, left, missed));
        let coming = bench.progress.unless_interrupted(coming).await?;
        coming.map_err(io::Error::other).and_then(|caught| caught).map_err(failed())
    }
}

/// Connects, and leaves: whatever is written after it is missed.
fn go(target: &Target, token: &str) -> io::Result<Bookmark> {
    let (caller, bookmark) = Caller::connect(target, now_micros()?, token)?;
    caller.leave();
    Ok(bookmark)
}

/// Resumes, and reads until everything is there.
fn come_back(target: &Target, left: Bookmark, missed: u64) -> io::Result<Caught> {
    let mut caller = Caller::dial(target, now_micros()?)?;
    let (began, mut is_ready) = (Instant::now(), false);
    let (mut pushed, mut named) = (0, 0);
    caller.say(&ClientEvent::Resume { resume_token: left.resume_token, position: left.position })?;
    while !is_ready || pushed + named < missed {
        caller.hear(|text| {
            match Frame::read(text) {
                Frame::Entry { .. } => pushed += 1,
                Frame::Gap { from_seq, to_seq, .. } => named += (to_seq + 1).saturating_sub(from_seq),
                Frame::Trouble(frame) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, frame.to_owned()));
                }
                _ if is_ready => {}
                _ => match bookmark(text)? {
                    Some(ready) if !ready.resumed => {
                        let why = "the server does not know the position";
                        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
                    }
                    ready => is_ready = ready.is_some(),
                },
            }
            Ok(())
        })?;
    }
    let (millis, bytes) = (began.elapsed().as_secs_f64() * 1e3, caller.bytes_read);
    caller.leave();
    Ok(Caught { millis, bytes, pushed, named })
}
