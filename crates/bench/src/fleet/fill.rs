//! Makes a history, as quickly as a server takes it.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use tertulia_protocol::ConvoId;

use super::caller::Caller;
use super::frames::Frame;
use crate::error::Error;
use crate::load::Letter;
use crate::service::Target;

/// Messages that are unanswered at once.
const WINDOW: u64 = 512;
/// Messages that are written at once.
const BATCH: u64 = 64;

/// Sends `count` messages, to these conversations in turn; returns when all are durable.
///
/// # Errors
/// If one is refused, or the connection is lost.
pub(crate) async fn fill(
    target: &Target,
    token: &str,
    convos: &[ConvoId],
    count: u64,
    body_bytes: usize,
) -> Result<(), Error> {
    if count == 0 || convos.is_empty() {
        return Ok(());
    }
    let (target, token, convos) = (target.clone(), token.to_owned(), convos.to_vec());
    let filling = move || fill_now(&target, &token, &convos, count, body_bytes);
    let done = tokio::task::spawn_blocking(filling).await.map_err(io::Error::other);
    done.and_then(|done| done).map_err(Error::io("fill a conversation"))
}

fn fill_now(
    target: &Target,
    token: &str,
    convos: &[ConvoId],
    count: u64,
    body_bytes: usize,
) -> io::Result<()> {
    // Numbers of messages are microseconds: those of a later run are higher.
    let first = now_micros()?;
    let (mut caller, _) = Caller::connect(target, first, token)?;
    let letters: Vec<Letter> = convos.iter().map(|&convo| Letter::new(convo, body_bytes)).collect();
    let (mut sent, mut acked, mut text) = (0, 0, String::new());
    while acked < count {
        if sent < count && sent + BATCH <= acked + WINDOW {
            let until = (sent + BATCH).min(count);
            caller.put(|output| {
                for number in sent..until {
                    let letter = &letters[(number % letters.len() as u64) as usize];
                    letter.put(output, &mut text, first + number, number);
                }
            })?;
            sent = until;
            continue;
        }
        caller.hear(|text| match Frame::read(text) {
            Frame::Ack { .. } => {
                acked += 1;
                Ok(())
            }
            Frame::Trouble(frame) => {
                Err(io::Error::new(io::ErrorKind::InvalidData, format!("the server says: {frame}")))
            }
            _ => Ok(()),
        })?;
    }
    caller.leave();
    Ok(())
}

/// Microseconds since 1970.
///
/// # Errors
/// If the machine's clock is older.
pub(crate) fn now_micros() -> io::Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    Ok(now.as_micros() as u64)
}
