//! Those who use the server: each device is driven by one of them, from its first login to its last read.

mod raw;
mod rest;
mod sdk;
mod speaker;

use std::sync::Arc;
use std::time::Duration;

use tertulia_client::api::From;
use tertulia_client::error::Error as ClientError;
use tertulia_protocol::Seq;
use tokio::sync::mpsc;

use crate::board::Phase;
use crate::cast::Driver;
use crate::chance::Chance;
use crate::device::{Device, LoggedOut};
use crate::world::World;

/// From one thing that a device does to the next, on the average.
const PACE: Duration = Duration::from_millis(150);
/// Pages of history in the end are as large as they may be.
const LAST_PAGE: usize = 200;

/// Drives a device through a whole run.
pub(crate) async fn run(world: Arc<World>, number: usize) {
    let driver = world.devices.get(number).map_or(Driver::Rest, |plan| plan.driver);
    let board = Arc::clone(&world.board);
    let outcome = async {
        let device = Device::new(world, number).await?;
        match driver {
            Driver::Sdk => sdk::run(device).await,
            Driver::Raw => raw::run(device).await,
            Driver::Rest => rest::run(device).await,
            Driver::Speaker { node } => speaker::run(device, node).await,
        }
    };
    let outcome: Result<(), ClientError> = outcome.await;
    board.away(number);
    match outcome {
        Ok(()) => board.count("devices that came to their end"),
        Err(error) => board.find(format!("device {number} could not log in any more: {error}")),
    }
    board.quiet(number);
}

/// A wait that a device draws: short mostly, long now and then.
fn pause(chance: &mut Chance) -> Duration {
    let average = PACE.as_millis() as u64;
    if chance.percent(10) {
        chance.millis(average..=average * 5)
    } else {
        chance.millis(0..=average * 12 / 10)
    }
}

/// What every device can do by calls alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Send,
    SendAgain,
    OtherContent,
    Retry,
    Mark,
    ReadHistory,
    ReadInbox,
    ChangeGroup,
    OwnSettings,
    Block,
    Revoke,
}

const CALLS: [(u32, Call); 11] = [
    (20, Call::Send),
    (6, Call::SendAgain),
    (4, Call::OtherContent),
    (20, Call::Retry),
    (8, Call::Mark),
    (12, Call::ReadHistory),
    (8, Call::ReadInbox),
    (20, Call::ChangeGroup),
    (2, Call::OwnSettings),
    (1, Call::Block),
    (1, Call::Revoke),
];

/// Makes one call, whichever comes.
async fn call(device: &mut Device) -> Result<(), LoggedOut> {
    match device.chance.weighted(&CALLS) {
        Some(Call::Send) => match device.some_convo() {
            Some((convo, _)) => {
                let message = device.compose(convo);
                device.send_by_call(message).await
            }
            None => device.read_inbox().await.map(drop),
        },
        Some(Call::SendAgain) => device.send_again().await,
        Some(Call::OtherContent) => device.send_other_content().await,
        Some(Call::Retry) => device.retry_by_calls().await,
        Some(Call::Mark) => device.mark_by_call().await,
        Some(Call::ReadHistory) => device.read_somewhere().await,
        Some(Call::ReadInbox) => device.read_inbox().await.map(drop),
        Some(Call::ChangeGroup) => device.change_group().await,
        Some(Call::OwnSettings) => device.change_own_settings().await,
        Some(Call::Block) => device.block().await,
        Some(Call::Revoke) => device.revoke_another().await,
        None => Ok(()),
    }
}

/// Whether the run is over for those who have not finished.
fn is_over(device: &Device) -> bool {
    *device.board().phase().borrow() == Phase::Over
}

/// Sends what is not known to be stored until it is, and waits until all others have done so, too.
async fn be_quiet(device: &mut Device) -> Result<(), LoggedOut> {
    while !device.pending.is_empty() && !is_over(device) {
        device.retry_by_calls().await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    device.board().quiet(device.number);
    // The board lives as long as the device.
    drop(device.board().phase().wait_for(|phase| *phase >= Phase::Read).await);
    Ok(())
}

/// The same for a device with sockets; what comes on them meanwhile is kept.
async fn be_quiet_and_keep<T>(
    device: &mut Device,
    news: &mut mpsc::Receiver<T>,
) -> (Vec<T>, Result<(), LoggedOut>) {
    let mut kept = Vec::new();
    let quiet = be_quiet(device);
    tokio::pin!(quiet);
    let outcome = loop {
        tokio::select! {
            outcome = &mut quiet => break outcome,
            Some(told) = news.recv() => kept.push(told),
        }
    };
    (kept, outcome)
}

/// Reads everything that this device may see, from its beginning to its end.
async fn read_everything(device: &mut Device) -> Result<(), LoggedOut> {
    for convo in device.read_inbox().await? {
        let mut after = Seq::default();
        while !is_over(device) {
            match device.read_history(convo.id, From::After(after), LAST_PAGE).await? {
                Some(page) => {
                    after = page.items.last().map_or(after, |entry| entry.seq);
                    if !page.has_more {
                        break;
                    }
                }
                None if !device.convos.contains_key(&convo.id) => break,
                None => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
    device.count("devices that read everything");
    Ok(())
}
