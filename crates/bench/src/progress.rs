//! A bar for people at a terminal; where there is none, silence.

use std::fmt::Display;

use futures_util::Stream;
use futures_util::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

use crate::error::Error;

/// How far a run is, and the user's wish to end it.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    shutdown: CancellationToken,
}

impl Progress {
    pub(crate) fn new(shutdown: CancellationToken) -> Self {
        let bar = ProgressBar::no_length();
        let style =
            ProgressStyle::with_template("{prefix:>13} [{bar:30}] {human_pos}/{human_len} {wide_msg}");
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { bar, shutdown }
    }

    /// Begins a step of `length` parts.
    pub(crate) fn begin(&self, name: &'static str, length: usize) {
        self.bar.reset();
        self.bar.set_length(length as u64);
        self.bar.set_prefix(name);
        self.bar.set_message("");
    }

    /// So many parts are done; `how` says how it goes.
    pub(crate) fn show(&self, done: usize, how: impl Display) {
        self.bar.set_position(done as u64);
        self.bar.set_message(how.to_string());
    }

    /// The parts of a stream, counted, up to the first that fails; and what that failed with, or the user's wish to end.
    pub(crate) async fn collect<T>(
        &self,
        parts: impl Stream<Item = Result<T, Error>>,
    ) -> (Vec<T>, Result<(), Error>) {
        let mut parts = std::pin::pin!(parts);
        let mut collected = Vec::new();
        let outcome = loop {
            match self.unless_interrupted(parts.next()).await {
                Ok(Some(Ok(part))) => collected.push(part),
                Ok(Some(Err(error))) | Err(error) => break Err(error),
                Ok(None) => break Ok(()),
            }
            self.bar.inc(1);
        };
        (collected, outcome)
    }

    /// Waits, unless the user wishes to end.
    ///
    /// # Errors
    /// That wish.
    pub(crate) async fn unless_interrupted<T>(&self, work: impl Future<Output = T>) -> Result<T, Error> {
        tokio::select! {
            result = work => Ok(result),
            () = self.shutdown.cancelled() => Err(Error::Interrupted),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
