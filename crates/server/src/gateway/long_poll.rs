//! `GET /api/events`: the events of the socket for clients that cannot keep one.
//!
//! A cursor is a position, and while a long list of events is given in pieces also how far it was given; the
//! server keeps nothing between two calls. What is durable is read from the store, as a resume does it;
//! waiting is a reader in the hub that is only told that there is something.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::IntoResponse;
use serde::Deserialize;
use tertulia_domain::hub::{MISSED_KEPT, MISSED_MAX, Mode, Taken};
use tertulia_domain::log::{Change, Missed, Position};
use tertulia_protocol::event::{CloseReason, ConversationNews, ServerEvent};
use tertulia_protocol::rest::EventsPage;
use tertulia_protocol::rules::json_bytes_max;
use tertulia_protocol::{Code, ConvoId, Seq, UserId};
use tertulia_store::Slice;

use super::cursor::{Cursor, Part};
use super::joining;
use crate::app::App;
use crate::rest::extract::{Auth, Json, Query};
use crate::rest::problem::ApiError;
use crate::{accounts::Identity, views};

/// The longest wait, in seconds.
const WAIT_MAX: u64 = 60;
/// How many calls of one device wait at most; one more, and the oldest answers.
const WAITING_MAX: usize = 8;
/// How many entries one answer holds.
const ENTRIES_MAX: usize = 500;
/// How many bytes of bodies one answer holds, as they are written, or one body more.
const BYTES_MAX: usize = 2 * 1_024 * 1_024;

/// `?cursor=&wait=`.
#[derive(Deserialize)]
pub struct EventsQuery {
    cursor: Option<String>,
    wait: Option<u64>,
}

/// The cursor in the words of this store.
fn write(app: &App, cursor: Cursor) -> String {
    cursor.write(|position| app.store.position(position))
}

/// The events since `cursor`, or, if there are none, the first that come within `wait` seconds.
///
/// # Errors
/// `invalid` for a cursor that was not given out here: begin without one, and read the inbox.
pub async fn events(
    State(app): State<App>,
    Auth(identity): Auth,
    Query(query): Query<EventsQuery>,
) -> Result<impl IntoResponse, ApiError> {
    let Some(text) = query.cursor else {
        let cursor = app.store.position(app.hub.position());
        return Ok(Json(EventsPage { events: Vec::new(), cursor }));
    };
    let mut known = Vec::new();
    for position in Cursor::positions(&text) {
        known.push((position, app.store.parse_position(position).await?));
    }
    let position = |position: &str| known.iter().find(|(text, _)| *text == position)?.1;
    let cursor = Cursor::parse(&text, position).ok_or_else(|| {
        let detail = "this cursor is not known here; begin without one, and read the inbox anew";
        ApiError::new(Code::Invalid, detail)
    })?;
    app.accounts.touch_device(identity.device);
    let page = read(&app, identity.user, cursor).await?;
    if !page.events.is_empty() {
        return Ok(Json(page));
    }
    let wait = Duration::from_secs(query.wait.unwrap_or(25).min(WAIT_MAX));
    Ok(Json(wait_for_events(&app, identity, cursor, wait).await?))
}

async fn wait_for_events(
    app: &App,
    identity: Identity,
    cursor: Cursor,
    wait: Duration,
) -> Result<EventsPage, ApiError> {
    let registered = joining::register(app, Mode::Poll, identity, cursor.since).await?;
    let connection = &registered.connection;
    // A device that was logged out while it was registered was not yet there to be told.
    app.accounts.recheck(identity).await?;
    app.hub.end_oldest_polls(identity.user, identity.device, WAITING_MAX);
    app.hub.finish_resume(connection, Missed::default(), &HashSet::new());
    // What came before the reader was in the hub did not wake it.
    let page = read(app, identity.user, cursor).await?;
    if !page.events.is_empty() {
        return Ok(page);
    }
    let something = std::future::poll_fn(|cx| match connection.poll_taken(cx.waker()) {
        Some(taken) => std::task::Poll::Ready(taken),
        None => std::task::Poll::Pending,
    });
    let taken = tokio::select! {
        taken = something => taken,
        () = tokio::time::sleep(wait) => Taken::default(),
        () = app.draining.cancelled() => Taken::default(),
    };
    // A node that goes ends the wait early, and that is all: the cursor is good on the next one.
    if taken.close.is_some_and(|close| close.reason == CloseReason::Revoked) {
        return Err(ApiError::new(Code::Unauthenticated, "this device was logged out; log in again"));
    }
    let mut page = if taken.hint {
        read(app, identity.user, cursor).await?
    } else {
        EventsPage { events: Vec::new(), cursor: write(app, cursor) }
    };
    for payload in tertulia_websocket::payloads(&taken.outbox.to_vec()) {
        match serde_json::from_slice(payload) {
            Ok(event) => page.events.push(event),
            Err(error) => tracing::error!(%error, "an event of our own cannot be read"),
        }
    }
    Ok(page)
}

/// A list of events that grows to about a page.
struct Gathering {
    events: Vec<ServerEvent>,
    entries: usize,
    bytes: usize,
}

impl Gathering {
    const fn is_full(&self) -> bool {
        self.entries >= ENTRIES_MAX || self.bytes >= BYTES_MAX
    }

    fn entry(&mut self, entry: &tertulia_protocol::Entry) {
        self.entries += 1;
        self.bytes += match &entry.kind {
            tertulia_protocol::EntryKind::Text { body, .. } => json_bytes_max(body),
            _ => 64,
        };
        self.events.push(ServerEvent::Message { entry: entry.clone(), position: None });
    }
}

async fn read(app: &App, user: UserId, cursor: Cursor) -> Result<EventsPage, ApiError> {
    // Taken before anything is read: what is committed later belongs to the next cursor.
    let until = match cursor.until {
        Some(part) => part.until,
        None => app.store.horizon().await?,
    };
    let mut gathering = Gathering { events: Vec::new(), entries: 0, bytes: 0 };
    let changes = if cursor.since.covers(&until) {
        Vec::new()
    } else {
        app.store.changes(user, cursor.since, None).await?
    };
    let shows_read = crate::messages::shows_read(app, user).await?;
    for change in changes {
        let Change::In { convo, joined, first_missed, last_seq, shared, own, receipts } = change else {
            let Change::Left(convo) = change else { continue };
            if cursor.until.is_none_or(|part| convo >= part.convo) {
                let conversation = ConversationNews::Left { id: convo, left: true };
                gathering.events.push(ServerEvent::ConversationUpdate { conversation });
            }
            continue;
        };
        let begun = match cursor.until {
            Some(part) if convo < part.convo => continue,
            Some(part) if convo == part.convo && part.next > Seq::default() => Some(part.next),
            _ => None,
        };
        if begun.is_none() {
            if gathering.is_full() {
                return Ok(partial(app, cursor, gathering, Part { until, convo, next: Seq::default() }));
            }
            if joined && let Some(conversation) = views::whole(app, user, convo).await? {
                let conversation = ConversationNews::Whole(Box::new(conversation));
                gathering.events.push(ServerEvent::ConversationUpdate { conversation });
            }
        }
        let mut next = begun.or(first_missed).unwrap_or(last_seq.next());
        let missed = (last_seq.get() + 1).saturating_sub(next.get());
        if begun.is_none() && missed > MISSED_MAX {
            // A gap names nothing that belongs to the next list, however much of that there is by now.
            let last = last_before(app, user, convo, (next, last_seq), until).await?;
            if (last.get() + 1).saturating_sub(next.get()) > MISSED_MAX {
                let to_seq = Seq::new(last.get() - MISSED_KEPT);
                gathering.events.push(ServerEvent::Gap { convo_id: convo, from_seq: next, to_seq });
                next = to_seq.next();
            }
        }
        while next <= last_seq {
            if gathering.is_full() {
                return Ok(partial(app, cursor, gathering, Part { until, convo, next }));
            }
            let mut turn = app.pages.of_part(app.store.part_of(convo)).next(user).await?;
            let read = app.store.history(user, convo, Slice::After(next.previous()), 200);
            let Some(slice) = turn.wait_for(read).await? else { break };
            let more = slice.has_more;
            let within = slice.entries.into_iter().take_while(|(_, commit)| until.has(*commit));
            let before = next;
            for (entry, _) in within {
                if gathering.is_full() {
                    return Ok(partial(app, cursor, gathering, Part { until, convo, next }));
                }
                next = entry.seq.next();
                gathering.entry(&entry);
            }
            if !more || next == before {
                break;
            }
        }
        changed_besides(app, user, shows_read, convo, (shared, own, receipts), &mut gathering.events).await?;
    }
    let cursor = write(app, Cursor { since: until, until: None });
    Ok(EventsPage { events: gathering.events, cursor })
}

/// The last entry in `first..=last` that was committed before `until`, or the one before `first`.
async fn last_before(
    app: &App,
    user: UserId,
    convo: ConvoId,
    (first, last): (Seq, Seq),
    until: Position,
) -> Result<Seq, ApiError> {
    // All up to `low` were, all from `high` on were not; mostly the last one was, too.
    let (mut low, mut high) = (first.previous(), last.next());
    let mut probe = last;
    while low.next() < high {
        let slice = app.store.history(user, convo, Slice::After(probe.previous()), 1).await?;
        // Whoever is no longer in it reads nothing at all.
        let Some((_, commit)) = slice.and_then(|slice| slice.entries.into_iter().next()) else {
            return Ok(low);
        };
        if until.has(commit) {
            low = probe;
        } else {
            high = probe;
        }
        probe = Seq::new(low.get().midpoint(high.get()));
    }
    Ok(low)
}

fn partial(app: &App, cursor: Cursor, gathering: Gathering, part: Part) -> EventsPage {
    let cursor = write(app, Cursor { since: cursor.since, until: Some(part) });
    EventsPage { events: gathering.events, cursor }
}

type Besides = (
    Option<Arc<tertulia_protocol::event::SharedSettings>>,
    Option<tertulia_protocol::rest::MemberSettings>,
    Vec<tertulia_domain::log::Receipt>,
);

/// What changed in a conversation besides entries, as events.
async fn changed_besides(
    app: &App,
    user: UserId,
    shows_read: bool,
    convo: ConvoId,
    (shared, own, receipts): Besides,
    events: &mut Vec<ServerEvent>,
) -> Result<(), ApiError> {
    if let Some(shared) = shared {
        let conversation = ConversationNews::Shared(shared.as_ref().clone());
        events.push(ServerEvent::ConversationUpdate { conversation });
    }
    if let Some(settings) = own {
        let conversation = ConversationNews::Own { id: convo, settings };
        events.push(ServerEvent::ConversationUpdate { conversation });
    }
    let owners: Vec<UserId> = receipts.iter().map(|receipt| receipt.user).collect();
    let hiding = app.accounts.hiding_read(&owners).await?;
    for receipt in receipts {
        let is_own = receipt.user == user;
        let shown = is_own || (shows_read && !hiding.contains(&receipt.user));
        events.extend(tertulia_domain::hub::receipt(&receipt, shown));
    }
    Ok(())
}
