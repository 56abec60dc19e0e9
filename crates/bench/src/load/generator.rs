//! All threads of the generator, from connecting to leaving.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::connection::Totals;
use super::fanout::Fanout;
use super::plan::{Load, Schedule, Seat};
use super::tally::Tally;
use super::worker::{Work, Worker};
use crate::chronicle::Chronicle;
use crate::error::Error;
use crate::process::Process;
use crate::progress::Progress;
use crate::sampling::{Sample, Sampler};
use crate::service::{Service, Targets, Used};

/// How often the threads are looked at while they work.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long the server may take for the rest after the last message was sent.
const DRAIN_MAX: Duration = Duration::from_secs(15);

/// What the threads and their owner tell each other.
pub(super) struct Control {
    began: Instant,
    pub(super) schedule: OnceLock<Schedule>,
    pub(super) connected: AtomicUsize,
    /// Whether everybody has been told everything.
    pub(super) settled: AtomicBool,
    /// Where all of it is written down, if it is.
    pub(super) chronicle: Option<Arc<Chronicle>>,
    stopped: AtomicBool,
    trouble: Mutex<Option<String>>,
    published: Box<[Published]>,
}

/// The totals of one thread, for others to see.
#[derive(Default)]
struct Published {
    sent: AtomicU64,
    acked: AtomicU64,
    delivered: AtomicU64,
    expected: AtomicU64,
}

impl Control {
    fn new(threads: usize, chronicle: Option<Arc<Chronicle>>) -> Self {
        Self {
            began: Instant::now(),
            schedule: OnceLock::new(),
            connected: AtomicUsize::new(0),
            settled: AtomicBool::new(false),
            chronicle,
            stopped: AtomicBool::new(false),
            trouble: Mutex::new(None),
            published: (0..threads).map(|_| Published::default()).collect(),
        }
    }

    /// Nanoseconds since the generator began.
    pub(super) fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    pub(super) fn publish(&self, thread: usize, totals: Totals) {
        let published = &self.published[thread];
        published.sent.store(totals.sent, Relaxed);
        published.acked.store(totals.acked, Relaxed);
        published.delivered.store(totals.delivered, Relaxed);
        published.expected.store(totals.expected, Relaxed);
    }

    fn totals(&self) -> Totals {
        let sum =
            |field: fn(&Published) -> &AtomicU64| self.published.iter().map(|p| field(p).load(Relaxed)).sum();
        Totals {
            sent: sum(|p| &p.sent),
            acked: sum(|p| &p.acked),
            delivered: sum(|p| &p.delivered),
            expected: sum(|p| &p.expected),
        }
    }

    /// Ends the run; the first reason counts.
    fn fail(&self, why: String) {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.stopped.store(true, Relaxed);
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The generator, with all of its connections standing.
pub(crate) struct Generator {
    control: Arc<Control>,
    threads: Vec<JoinHandle<Option<Tally>>>,
}

/// What the load has cost while it counted.
#[derive(Debug, Default)]
pub(crate) struct Played {
    pub(crate) used: Used,
    pub(crate) own_cpu: Option<Duration>,
    /// The same from moment to moment.
    pub(crate) samples: Vec<Sample>,
    /// What was wrong with it.
    pub(crate) problems: Vec<String>,
}

impl Generator {
    /// Connects all seats; what they say and hear goes into the chronicle, if there is one.
    ///
    /// # Errors
    /// If one cannot be connected.
    pub(crate) async fn connect(
        load: Load,
        targets: &Targets,
        threads: usize,
        chronicle: Option<Arc<Chronicle>>,
        progress: &Progress,
    ) -> Result<Self, Error> {
        let seats = load.seats.len();
        let senders = load.seats.iter().filter(|seat| seat.sends.is_some()).count();
        let control = Arc::new(Control::new(threads, chronicle));
        let fanout = load.audience_of_all.map(|audience| Arc::new(Fanout::new(audience)));
        let mut shares: Vec<Vec<(Seat, usize, usize)>> = (0..threads).map(|_| Vec::new()).collect();
        let mut sender_number = 0;
        for (place, seat) in load.seats.into_iter().enumerate() {
            let number = sender_number;
            sender_number += usize::from(seat.sends.is_some());
            shares[seat.place % threads].push((seat, place, number));
        }
        let mut generator = Self { control, threads: Vec::new() };
        for (thread, share) in shares.into_iter().enumerate() {
            let work = Work { thread, pace: load.pace, body_bytes: load.body_bytes, senders };
            let (control, fanout, targets) =
                (Arc::clone(&generator.control), fanout.clone(), targets.clone());
            let worker = move || {
                let worker = Worker::connect(work, &targets, share, fanout, Arc::clone(&control));
                worker.and_then(Worker::run).map_err(|error| control.fail(explain(&error))).ok()
            };
            let thread = thread::Builder::new().name(format!("bench-{thread}"));
            generator.threads.push(thread.spawn(worker).map_err(Error::io("start a thread"))?);
        }
        progress.begin("connecting", seats);
        loop {
            let connected = generator.control.connected.load(Relaxed);
            progress.show(connected, "");
            if let Some(detail) = generator.control.trouble() {
                return Err(Error::Refused { what: format!("connect {connected} of {seats}"), detail });
            }
            if connected == seats {
                return Ok(generator);
            }
            progress.unless_interrupted(tokio::time::sleep(LOOK_EVERY)).await?;
        }
    }

    /// Waits, with all connections standing; `false` if one did not.
    ///
    /// # Errors
    /// The user's wish to end.
    pub(crate) async fn idle(&self, wait: Duration, progress: &Progress) -> Result<bool, Error> {
        let began = Instant::now();
        progress.begin("idle", wait.as_secs() as usize);
        while began.elapsed() < wait && !self.control.is_stopped() {
            progress.show(began.elapsed().as_secs() as usize, "");
            progress.unless_interrupted(tokio::time::sleep(LOOK_EVERY)).await?;
        }
        Ok(!self.control.is_stopped())
    }

    /// Plays the load: warms up, measures, and waits for what is still under way. Once only.
    ///
    /// # Errors
    /// The user's wish to end.
    pub(crate) async fn play(
        &self,
        warm_up: Duration,
        measured: Duration,
        service: &Service,
        progress: &Progress,
    ) -> Result<Played, Error> {
        let control = &self.control;
        let schedule =
            control.schedule.get_or_init(|| Schedule::new(control.began.elapsed(), warm_up, measured));
        let (from, until) = (schedule.counted.start, schedule.counted.end);

        progress.begin("warming up", warm_up.as_secs() as usize);
        self.wait_until(from, progress, 0).await?;
        let before = (service.usage().await?, Process::own().cpu());
        let sampler = Sampler::begin(service);
        progress.begin("measuring", measured.as_secs() as usize);
        self.wait_until(until, progress, from).await?;
        let after = (service.usage().await?, Process::own().cpu());

        let mut played = Played {
            used: service.used(&before.0, &after.0),
            own_cpu: after.1.zip(before.1).map(|(after, before)| after.saturating_sub(before)),
            samples: sampler.end(),
            problems: Vec::new(),
        };
        progress.begin("the rest", 0);
        let deadline = Instant::now() + DRAIN_MAX;
        // Threads look at the clock before they send: after this long none sends any more.
        progress.unless_interrupted(tokio::time::sleep(2 * LOOK_EVERY)).await?;
        let is_open = |totals: Totals| totals.acked < totals.sent || totals.delivered < totals.expected;
        while is_open(control.totals()) && Instant::now() < deadline && !control.is_stopped() {
            progress.unless_interrupted(tokio::time::sleep(LOOK_EVERY)).await?;
        }
        let Totals { sent, acked, delivered, expected } = control.totals();
        if let Some(trouble) = control.trouble() {
            played.problems.push(trouble);
        } else if is_open(control.totals()) {
            let waited = DRAIN_MAX.as_secs();
            played.problems.push(format!(
                "{waited} s after the last message {} acks and {} deliveries are missing",
                sent - acked,
                expected.saturating_sub(delivered)
            ));
        } else if delivered > expected {
            played.problems.push(format!("{} deliveries too many", delivered - expected));
        }
        control.settled.store(played.problems.is_empty(), Relaxed);
        Ok(played)
    }

    /// Waits until a moment on the generator's clock, or until there is trouble.
    async fn wait_until(&self, until: u64, progress: &Progress, from: u64) -> Result<(), Error> {
        loop {
            let now = self.control.now();
            if now >= until || self.control.is_stopped() {
                return Ok(());
            }
            if let Some(trouble) = self.control.chronicle.as_ref().and_then(|chronicle| chronicle.trouble()) {
                self.control.fail(trouble);
            }
            let Totals { acked, delivered, .. } = self.control.totals();
            let seconds = now.saturating_sub(from) / 1_000_000_000;
            progress.show(seconds as usize, format_args!("{acked} acked, {delivered} delivered"));
            let rest = Duration::from_nanos(until - now);
            progress.unless_interrupted(tokio::time::sleep(rest.min(LOOK_EVERY))).await?;
        }
    }

    /// Closes all connections; gives what was counted.
    ///
    /// # Errors
    /// If a thread has failed in a way of its own.
    pub(crate) async fn leave(mut self) -> Result<Tally, Error> {
        self.control.stopped.store(true, Relaxed);
        let threads = std::mem::take(&mut self.threads);
        let tallies = tokio::task::spawn_blocking(move || {
            threads.into_iter().map(JoinHandle::join).collect::<Result<Vec<_>, _>>()
        });
        let mut sum = Tally::new();
        let panicked = || Error::io("a thread of the generator")(io::Error::other("it has panicked"));
        let tallies = tallies.await.map_err(|_| panicked())?.map_err(|_| panicked())?;
        tallies.iter().flatten().for_each(|tally| sum.add(tally));
        Ok(sum)
    }
}

impl Drop for Generator {
    /// Whatever happens, threads and connections end.
    fn drop(&mut self) {
        self.control.stopped.store(true, Relaxed);
    }
}

/// What the server says speaks for itself; what the network says needs a subject.
fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::ConnectionAborted => error.to_string(),
        _ => format!("a connection is lost: {error}"),
    }
}
