//! A device without a socket: calls, and long-polls for what happens.
//!
//! A chain of long-polls is written down as a connection: it begins at a cursor, and each answer brings events and
//! the next cursor. When a cursor is used again, another connection begins there.

use std::time::Duration;

use tertulia_client::error::Error as ClientError;
use tertulia_history::event::{Close, Open, Pong, Settled};
use tertulia_protocol::event::ServerEvent;

use super::{be_quiet, call, is_over, pause, read_everything};
use crate::device::{Device, LoggedOut};
use crate::wire;

/// Cursors that are remembered, to be used again.
const CURSORS_MAX: usize = 16;

/// A chain of long-polls.
#[derive(Debug, Default)]
struct Polls {
    /// The connection in the history, and where it is.
    chain: Option<(u64, String)>,
    /// Cursors of before.
    earlier: Vec<String>,
}

pub(super) async fn run(mut device: Device) -> Result<(), ClientError> {
    let mut polls = Polls::default();
    while !device.is_settling() {
        let outcome = turn(&mut device, &mut polls).await;
        if outcome.is_err() {
            polls.close(&device, "logged out");
            // The cursors are the user's, so the next device goes on from there.
            device.log_in_again().await?;
        }
    }
    while !is_over(&device) && end(&mut device, &mut polls).await.is_err() {
        polls.close(&device, "logged out");
        device.log_in_again().await?;
    }
    Ok(())
}

async fn turn(device: &mut Device, polls: &mut Polls) -> Result<(), LoggedOut> {
    match device.chance.below(100) {
        0..=44 => {
            let wait = device.chance.within(0..=2);
            polls.poll(device, wait).await?;
        }
        45..=49 => polls.go_back(device),
        _ => call(device).await?,
    }
    let wait = pause(&mut device.chance);
    tokio::time::sleep(wait).await;
    Ok(())
}

async fn end(device: &mut Device, polls: &mut Polls) -> Result<(), LoggedOut> {
    be_quiet(device).await?;
    // Until there is nothing more.
    while !is_over(device) && polls.poll(device, 0).await? != Some(0) {}
    polls.settled(device);
    read_everything(device).await
}

impl Polls {
    /// Asks once; says how many events have come, if there was an answer.
    async fn poll(&mut self, device: &mut Device, wait: u64) -> Result<Option<usize>, LoggedOut> {
        let cursor = self.chain.as_ref().map(|(_, cursor)| cursor.clone());
        device.count("long-polls");
        let page = match device.api.events(cursor.as_deref(), Duration::from_secs(wait)).await {
            Ok(page) => page,
            Err(error) => {
                if self.chain.is_none() && is_over(device) {
                    return Ok(Some(0));
                }
                device.look_at(&error)?;
                tokio::time::sleep(Duration::from_millis(100)).await;
                return Ok(None);
            }
        };
        let c = match &self.chain {
            Some((c, _)) => *c,
            None => self.open(device, None, page.cursor.clone()),
        };
        for event in &page.events {
            wire::record(c, device.login.device_id, event, device.recorder());
            if let ServerEvent::Message { entry, .. } = event
                && let Some(known) = device.convos.get_mut(&entry.convo_id)
            {
                known.head = known.head.max(entry.seq);
            }
        }
        device.recorder().record(Pong { c, position: page.cursor.clone() });
        device.count_many("events by long-poll", page.events.len());
        if self.earlier.len() >= CURSORS_MAX {
            let place = device.chance.below(CURSORS_MAX);
            self.earlier.swap_remove(place);
        }
        self.earlier.push(page.cursor.clone());
        self.chain = Some((c, page.cursor));
        Ok(Some(page.events.len()))
    }

    fn open(&self, device: &Device, from: Option<String>, position: String) -> u64 {
        let c = device.recorder().connection();
        let resumed = from.is_some();
        device.recorder().record(Open { c, device: device.login.device_id, from, resumed, position });
        c
    }

    /// Goes on from a cursor of before, mostly the newest: what has come since comes again.
    fn go_back(&mut self, device: &mut Device) {
        let newest = self.chain.as_ref().map(|(_, cursor)| cursor.clone());
        let earlier = device.chance.pick(&self.earlier).cloned();
        let Some(cursor) = (if device.chance.percent(50) { newest } else { earlier }) else { return };
        self.close(device, "going back");
        let c = self.open(device, Some(cursor.clone()), cursor.clone());
        self.chain = Some((c, cursor));
        device.count("cursors used again");
    }

    fn close(&mut self, device: &Device, why: &str) {
        if let Some((c, cursor)) = self.chain.take() {
            device.recorder().record(Close { c, why: Some(why.into()) });
            self.earlier.push(cursor);
        }
    }

    fn settled(&self, device: &Device) {
        if let Some((c, _)) = &self.chain {
            device.recorder().record(Settled { c: *c });
        }
    }
}
