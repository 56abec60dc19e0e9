//! What a run writes down for `tertulia check`: what was there before, who sent what and was told what, and what is there
//! in the end.
//!
//! Each connection has a tape of its own; here is what they share. A conversation that is written in is read back whole,
//! by the one who may see most of it, and everybody's inbox is read: only so acked messages are known not to be lost.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use futures_util::{StreamExt as _, stream};
use tertulia_history::event::{Before, Final, Inbox, Item, Page, Read, ReadInbox, Seen};
use tertulia_history::{Recorder, Tape, Written};
use tertulia_protocol::rules::PAGE_MAX;
use tertulia_protocol::{ConvoId, DeviceId, Seq};

use crate::crowd::{Api, Crowd};
use crate::error::Error;
use crate::progress::Progress;

/// Who writes it.
const PROGRAM: &str = concat!("tertulia bench ", env!("CARGO_PKG_VERSION"));
/// Calls at once.
const AT_ONCE: usize = 16;
/// The beginning of every conversation.
const BEGINNING: Seq = Seq::new(0);

/// The history of a run.
#[derive(Debug)]
pub(crate) struct Chronicle {
    recorder: Recorder,
    /// By access token: those who have entered.
    entered: Mutex<BTreeMap<String, DeviceId>>,
}

/// By conversation: the access token of the one who is to read it in the end.
#[derive(Debug, Default)]
pub(crate) struct Readers(BTreeMap<ConvoId, String>);

/// A conversation as one of its members sees it before anything is written in it.
struct Sight {
    /// The first entry that he may see.
    first: Seq,
    last: Seq,
    token: String,
}

impl Chronicle {
    /// Begins it in this file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn create(path: &Path) -> Result<Self, Error> {
        let recorder = Recorder::create(path, PROGRAM).map_err(not_written)?;
        Ok(Self { recorder, entered: Mutex::default() })
    }

    /// For a connection.
    pub(crate) fn tape(&self) -> Tape {
        Tape::new(self.recorder.clone())
    }

    /// The connection of this tape stands; its user has logged in with `token`.
    pub(crate) fn entered(&self, token: &str, tape: &Tape) {
        if let Some(device) = tape.device() {
            let mut entered = self.entered.lock().unwrap_or_else(PoisonError::into_inner);
            entered.insert(token.to_owned(), device);
        }
    }

    /// Why it is no longer written.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.recorder.error().map(|error| error.to_string())
    }

    /// Writes down how far these conversations are, before anybody connects; finds out who of their members may see
    /// most of each.
    ///
    /// # Errors
    /// If an inbox cannot be read.
    pub(crate) async fn begin(
        &self,
        api: &Api,
        members: BTreeSet<String>,
        convos: &BTreeSet<ConvoId>,
        progress: &Progress,
    ) -> Result<Readers, Error> {
        progress.begin("inboxes", members.len());
        let sights = |token: String| async move {
            let (mut sights, mut cursor) = (Vec::new(), None);
            loop {
                let page = api.inbox(&token, cursor.as_deref()).await?;
                let theirs = page.items.iter().filter(|item| convos.contains(&item.id));
                sights.extend(theirs.map(|item| {
                    let (first, last) = (item.visible_from_seq, item.last_seq);
                    (item.id, Sight { first, last, token: token.clone() })
                }));
                cursor = page.next_cursor;
                if cursor.is_none() {
                    return Ok(sights);
                }
            }
        };
        let sights = stream::iter(members).map(sights).buffer_unordered(AT_ONCE);
        let (sights, outcome) = progress.collect(sights).await;
        outcome?;
        let mut best: BTreeMap<ConvoId, Sight> = BTreeMap::new();
        for (convo, sight) in sights.into_iter().flatten() {
            match best.get_mut(&convo) {
                Some(before) if before.first <= sight.first => before.last = before.last.max(sight.last),
                Some(before) => *before = Sight { last: before.last.max(sight.last), ..sight },
                None => drop(best.insert(convo, sight)),
            }
        }
        for (&convo, sight) in &best {
            self.recorder.record(Before { convo, seq: sight.last });
        }
        Ok(Readers(best.into_iter().map(|(convo, sight)| (convo, sight.token)).collect()))
    }

    /// Reads everything back, when nobody sends any more, and ends the file.
    ///
    /// # Errors
    /// If something cannot be read, or the file cannot be written.
    pub(crate) async fn end(
        &self,
        crowd: &mut Crowd,
        readers: Readers,
        progress: &Progress,
    ) -> Result<Written, Error> {
        // One that has a hole already needs no end.
        self.recorder.flush().map_err(not_written)?;
        let entered = std::mem::take(&mut *self.entered.lock().unwrap_or_else(PoisonError::into_inner));
        // After a long run an access token is no longer good.
        let fresh = crowd.renewed(entered.keys(), progress).await?;
        let fresh = |token: &str| fresh.get(token).map_or_else(|| token.to_owned(), Clone::clone);
        let mut reads: Vec<(String, DeviceId, Option<ConvoId>)> = Vec::new();
        for (convo, token) in &readers.0 {
            // If the run ended before somebody entered, his device is not known.
            if let Some(&device) = entered.get(token) {
                reads.push((fresh(token), device, Some(*convo)));
            }
        }
        reads.extend(entered.iter().map(|(token, &device)| (fresh(token), device, None)));

        self.recorder.record(Final {});
        progress.begin("reading back", reads.len());
        let api = crowd.api();
        let reading = stream::iter(reads).map(|(token, device, convo)| async move {
            match convo {
                Some(convo) => self.read_log(api, &token, device, convo).await,
                None => self.read_inbox(api, &token, device).await,
            }
        });
        progress.collect(reading.buffer_unordered(AT_ONCE)).await.1?;
        self.recorder.flush().map_err(not_written)
    }

    /// All entries of a conversation.
    async fn read_log(&self, api: &Api, token: &str, device: DeviceId, convo: ConvoId) -> Result<(), Error> {
        let mut after = BEGINNING;
        loop {
            let op = self.recorder.op();
            let limit = PAGE_MAX;
            self.recorder.record(Read { op, device, convo, after: Some(after), before: None, limit });
            let page = api.entries(token, convo, after).await?;
            let last = page.items.last().map(|entry| entry.seq);
            let entries = page.items.iter().map(Seen::of).collect();
            self.recorder.record(Page { op, entries, more: page.has_more });
            match last {
                // A page that leads nowhere would be read for ever.
                Some(last) if page.has_more && last > after => after = last,
                _ => return Ok(()),
            }
        }
    }

    /// All conversations of a user.
    async fn read_inbox(&self, api: &Api, token: &str, device: DeviceId) -> Result<(), Error> {
        let mut cursor = None;
        loop {
            let op = self.recorder.op();
            self.recorder.record(ReadInbox { op, device });
            let page = api.inbox(token, cursor.as_deref()).await?;
            self.recorder.record(Inbox { op, items: page.items.iter().map(Item::of).collect() });
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }
}

/// Writes down a frame that has come.
///
/// # Errors
/// If it is no event of the protocol.
// Out of the way of those loops that have no tape.
#[cold]
#[inline(never)]
pub(crate) fn record(tape: &mut Tape, frame: &str) -> io::Result<()> {
    let event = serde_json::from_str(frame).map_err(|error| {
        let what = format!("the server says what no history can hold: {error}: {frame}");
        io::Error::new(io::ErrorKind::InvalidData, what)
    })?;
    tape.hears(&event);
    Ok(())
}

fn not_written(error: tertulia_history::record::Error) -> Error {
    Error::io(format!("write the history {}", error.path.display()))(error.cause)
}
