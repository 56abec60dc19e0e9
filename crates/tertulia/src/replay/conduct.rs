//! Sends the lines of a group, each by its speaker, in the order of the log.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tertulia_client::client::Client;
use tokio::time::Instant;

use super::stage::{Group, Stage};

/// How fast lines are sent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// As fast as the server takes them.
    Full,
    /// So many times as fast as they were written.
    Times(f64),
}

/// Sends all lines of a group, and waits until they are acked.
///
/// The lines of one speaker follow each other as his client sends them. When the speaker changes, all lines
/// before are acked first: only then the contract promises that the next one comes after them.
///
/// # Errors
/// If a client has stopped.
pub(super) async fn conduct(
    stage: &Stage,
    group: &Group,
    clients: &[Client],
    pace: Pace,
) -> anyhow::Result<()> {
    let expected = &group.expected;
    let begin = Instant::now();
    let mut speaker = None;
    for (line, cue) in expected.script.cues.iter().enumerate() {
        if let Pace::Times(speed) = pace {
            wait_until(stage, begin + cue.at.div_f64(speed)).await;
        }
        if speaker != Some(cue.speaker) {
            group.wait_for_acks(line).await;
            speaker = Some(cue.speaker);
        }
        group.sends(line);
        clients[cue.speaker].send(expected.convo, cue.body.as_str(), None).await?;
        stage.tally.sent.fetch_add(1, Relaxed);
    }
    group.wait_for_acks(expected.script.cues.len()).await;
    Ok(())
}

/// Waits for a line's time; a pause of the log is no standstill.
async fn wait_until(stage: &Stage, moment: Instant) {
    const STEP: Duration = Duration::from_secs(10);
    while Instant::now() < moment {
        tokio::time::sleep_until(moment.min(Instant::now() + STEP)).await;
        stage.watch.moved();
    }
}
