//! Keeps an eye on a replay: shows how far it is, says when it has to wait, and ends it when nothing moves.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};
use tertulia_client::error::Error;
use tokio_util::sync::CancellationToken;

/// When nothing has moved for so long, and no wait was asked for, nothing will.
const PATIENCE: Duration = Duration::from_secs(60);
/// Waits are said at most this often: after a restart all connections come back at once.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// One for each run; all times are milliseconds since it began.
#[derive(Debug)]
pub(super) struct Watch {
    bar: ProgressBar,
    began: Instant,
    /// When something last moved.
    moved: AtomicU64,
    /// Until when the server has asked to wait.
    told_until: AtomicU64,
    waits: AtomicU64,
    /// What was told last, and when.
    said: Mutex<Option<(Instant, String)>>,
    shutdown: CancellationToken,
    broken: CancellationToken,
    why_broken: OnceLock<String>,
}

impl Watch {
    /// Begins to watch; `shutdown` is the user's wish to end.
    pub(super) fn new(shutdown: CancellationToken) -> Self {
        let bar = ProgressBar::no_length();
        if let Ok(style) =
            ProgressStyle::with_template("{prefix:>12} [{bar:30}] {human_pos}/{human_len} {wide_msg}")
        {
            bar.set_style(style.progress_chars("=> "));
        }
        Self {
            bar,
            began: Instant::now(),
            moved: AtomicU64::new(0),
            told_until: AtomicU64::new(0),
            waits: AtomicU64::new(0),
            said: Mutex::new(None),
            shutdown,
            broken: CancellationToken::new(),
            why_broken: OnceLock::new(),
        }
    }

    /// Does one step of the replay, of `length` parts, for as long as it moves.
    ///
    /// # Errors
    /// What the step fails with; and when nothing moves, when something has broken, or on the user's wish.
    pub(super) async fn step<T>(
        &self,
        name: &'static str,
        length: usize,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        self.bar.reset();
        self.bar.set_length(length as u64);
        self.bar.set_prefix(name);
        self.bar.set_message("");
        self.moved();
        if self.bar.is_hidden() {
            write_line(format_args!("{name}: {length} to do"));
        }
        let outcome = tokio::select! {
            outcome = work => outcome,
            () = self.stalled() => {
                let last = self.said.lock().unwrap_or_else(PoisonError::into_inner).take();
                let last = last.map_or_else(String::new, |(_, what)| format!("; last: {what}"));
                bail!("{name}: nothing has moved for {} s{last}", PATIENCE.as_secs());
            }
            () = self.broken.cancelled() => {
                bail!("{name}: {}", self.why_broken.get().map_or("broken off", String::as_str))
            }
            () = self.shutdown.cancelled() => bail!("{name}: interrupted"),
        };
        self.bar.set_message("");
        outcome
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Something moved.
    pub(super) fn moved(&self) {
        self.moved.store(self.millis(Instant::now()), Relaxed);
    }

    /// A part of the step is done.
    pub(super) fn advance(&self) {
        self.moved();
        self.bar.inc(1);
    }

    /// So many parts of the step are done; `how` says how it goes.
    pub(super) fn show(&self, done: u64, how: impl Display) {
        self.bar.set_position(done);
        self.bar.set_message(how.to_string());
    }

    /// A call has failed for now and is repeated after `wait`.
    pub(super) fn retries(&self, what: &str, error: &Error, wait: Duration) {
        if error.retry_after().is_some() {
            self.told_to_wait(what, &error, wait);
        } else {
            self.say(format_args!("{what}: {error}; again in {}", seconds(wait)));
        }
    }

    /// The server has asked to wait: this is no standstill.
    pub(super) fn told_to_wait(&self, what: &str, why: &dyn Display, wait: Duration) {
        self.waits.fetch_add(1, Relaxed);
        self.told_until.fetch_max(self.millis(Instant::now() + wait), Relaxed);
        self.say(format_args!("{what}: {why}; waiting {} as told", seconds(wait)));
    }

    /// How often the server has asked to wait.
    pub(super) fn waits(&self) -> u64 {
        self.waits.load(Relaxed)
    }

    /// Ends the replay: it cannot succeed any more. The first reason counts.
    pub(super) fn break_off(&self, why: String) {
        if self.why_broken.set(why).is_ok() {
            self.broken.cancel();
        }
    }

    /// Tells people, unless something was told just now.
    pub(super) fn say(&self, what: impl Display) {
        let now = Instant::now();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.as_ref().is_some_and(|(at, _)| now - *at < SAY_EVERY) {
            return;
        }
        let what = what.to_string();
        if self.bar.is_hidden() {
            write_line(&what);
        } else {
            self.bar.println(&what);
        }
        *said = Some((now, what));
    }

    /// Ends when nothing has moved for [`PATIENCE`].
    async fn stalled(&self) {
        loop {
            let alive = Duration::from_millis(self.moved.load(Relaxed).max(self.told_until.load(Relaxed)));
            let deadline = self.began + alive + PATIENCE;
            if deadline <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(deadline.into()).await;
        }
    }

    fn millis(&self, moment: Instant) -> u64 {
        u64::try_from(moment.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }
}

#[expect(clippy::print_stderr, reason = "without a terminal there is no bar to write above")]
fn write_line(what: impl Display) {
    eprintln!("{what}");
}

fn seconds(wait: Duration) -> String {
    format!("{:.1} s", wait.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn watch() -> Watch {
        Watch::new(CancellationToken::new())
    }

    async fn endless(watch: &Watch) -> String {
        watch.step("sending", 1, pending::<anyhow::Result<()>>()).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_step_gives_what_its_work_gives() {
        assert_eq!(watch().step("sending", 1, async { Ok(7) }).await.unwrap(), 7);
        let failed = watch().step("sending", 1, async { bail!("no") as anyhow::Result<()> }).await;
        assert_eq!(failed.unwrap_err().to_string(), "no");
    }

    #[tokio::test]
    async fn a_step_ends_when_something_has_broken_and_the_first_reason_counts() {
        let watch = watch();
        watch.break_off("a line was refused".into());
        watch.break_off("and so was the next".into());
        assert_eq!(endless(&watch).await, "sending: a line was refused");
    }

    #[tokio::test]
    async fn a_step_ends_on_the_users_wish() {
        let watch = watch();
        watch.shutdown.cancel();
        assert_eq!(endless(&watch).await, "sending: interrupted");
    }

    #[tokio::test]
    async fn a_standstill_is_told_with_the_last_trouble_and_a_wait_that_was_asked_for_is_none() {
        let began = Instant::now() - 2 * PATIENCE;
        let stalled = Watch { began, ..watch() };
        stalled.say("the server does not answer");
        let soon = || std::future::poll_fn(|_| std::task::Poll::Ready(()));
        let ended = async |watch: &Watch| {
            tokio::select! { biased; () = watch.stalled() => true, () = soon() => false }
        };
        assert!(ended(&stalled).await);
        stalled.told_to_wait("registering", &"rate_limited", Duration::from_secs(600));
        assert!(!ended(&stalled).await);
        assert_eq!(stalled.waits(), 1);
        let moving = Watch { began, ..watch() };
        moving.moved();
        assert!(!ended(&moving).await);
    }
}
