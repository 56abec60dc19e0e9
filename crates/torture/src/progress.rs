//! How a run goes: a bar at a terminal, a line now and then elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::board::Board;

/// From one line to the next, where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// Shows how far a run is.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    begun: Instant,
    said: Instant,
}

impl Progress {
    pub(crate) fn new(how_long: Duration) -> Self {
        let bar = ProgressBar::new(how_long.as_secs());
        let style = ProgressStyle::with_template("{prefix:>11} [{bar:30}] {pos}/{len} s {wide_msg}");
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix("under load");
        Self { bar, begun: Instant::now(), said: Instant::now() }
    }

    pub(crate) fn show(&mut self, board: &Board, faults: &str) {
        let counts = board.counts();
        let count = |what| counts.get(what).copied().unwrap_or(0);
        let (here, wanted) = board.present();
        let text = format!(
            "{faults}; {} acked, {} connections, {here} of {wanted} connected now, {} findings",
            count("acked"),
            count("connections"),
            board.findings().len()
        );
        self.bar.set_position(self.begun.elapsed().as_secs());
        if self.bar.is_hidden() && self.said.elapsed() >= LINE_EVERY {
            self.said = Instant::now();
            say(&format!("{} s: {text}", self.begun.elapsed().as_secs()));
        }
        self.bar.set_message(text);
    }

    /// Another part begins.
    pub(crate) fn begin(&self, what: &'static str) {
        self.bar.set_prefix(what);
        self.bar.tick();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Says something to whoever waits.
#[expect(clippy::print_stderr, reason = "stdout is for the report")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}
