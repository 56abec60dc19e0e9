//! What a node looks after, now and then: how far everybody has been told, what dead nodes have left untold, and what
//! it has missed itself.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tertulia_domain::backoff::Backoff;
use tertulia_domain::hub::{Connection, Typing};
use tertulia_domain::log::{Commit, Position};
use tertulia_fabric::live::Topic;
use tertulia_protocol::{ConvoId, Seq};
use tertulia_store::{StoreError, Touched};
use tokio::time::Instant;

use super::letters::{self, Letter};
use super::members::Members;
use super::{Outgoing, Parts, Reaches};
use crate::accounts::{AccountsService, Identity};
use crate::clock::Random;
use crate::drain;
use crate::retry::Retry;

/// How often the position moves.
const BARRIER_EVERY: Duration = Duration::from_millis(100);
/// How often what was left untold is looked for, and how old it is then.
const LEFTOVERS_EVERY: Duration = Duration::from_secs(1);
/// How often other nodes are told who types.
const TYPING_EVERY: Duration = Duration::from_millis(150);
/// How often it is looked whether what others tell comes here, and how long the store is left alone after it was asked
/// which devices are gone: together with [`FRESH_FOR`](super::FRESH_FOR) less than a second.
const DEVICES_LOOK: Duration = Duration::from_millis(150);
const DEVICES_REST: Duration = Duration::from_millis(350);
/// A barrier is asked for so often, although it says nothing new: that it comes shows that the link stands.
const BARRIER_AT_LEAST: Duration = Duration::from_millis(200);
/// The longest wait while the store does not answer.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How many rows of the journal are read at a time.
const PAGE: usize = 500;
/// Of how many conversations it is asked at once who came in or went out.
const CONVOS_MAX: usize = 1_000;

/// The beat of what is done again and again: slower from time to time while it fails.
struct Pace<'a> {
    random: &'a Random,
    every: Duration,
    retry: Retry,
}

impl<'a> Pace<'a> {
    fn new(parts: &'a Parts, every: Duration) -> Self {
        let backoff = Backoff::new(4 * every, RETRY_MAX.max(4 * every));
        Self { random: &parts.random, every, retry: Retry::new(backoff, parts.random.clone()) }
    }

    async fn wait<T>(&mut self, result: &Result<T, StoreError>, what: &str) {
        let wait = match result {
            Ok(_) => {
                self.retry.succeeded();
                self.random.jitter(self.every)
            }
            Err(error) => {
                let wait = self.retry.failed(Duration::ZERO);
                if self.retry.is_first() {
                    tracing::warn!(%error, "cannot {what} now; trying again");
                } else {
                    tracing::debug!(%error, "still cannot {what}");
                }
                wait
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// Moves the position: everything below what the store gives was told, so once the channel has brought what it had
/// taken before, it has come here.
pub(super) async fn barrier(outgoing: &Outgoing, parts: &Parts) {
    let mut pace = Pace::new(parts, BARRIER_EVERY);
    let (mut asked, mut asked_at) = (Position::default(), Instant::now());
    loop {
        let horizon = parts.store.barrier_horizon().await;
        if let Ok(horizon) = &horizon {
            outgoing.told_below(horizon);
            let is_due = !asked.covers(horizon) || asked_at.elapsed() >= BARRIER_AT_LEAST;
            if parts.link.is_whole() && is_due {
                (asked, asked_at) = (asked.or(horizon), Instant::now());
                parts.live.barrier(parts.barriers.ask(asked));
            }
            if !parts.link.is_whole() {
                // What is asked for while it is broken is never heard.
                asked = Position::default();
            }
        }
        pace.wait(&horizon, "find out how far the nodes have told each other").await;
    }
}

/// Tells what was committed and not told: whoever appended it has died, or could not.
pub(super) async fn leftovers(outgoing: &Outgoing, parts: &Parts) {
    let mut pace = Pace::new(parts, LEFTOVERS_EVERY);
    loop {
        let told = tell_leftovers(outgoing, parts).await;
        pace.wait(&told, "tell what dead nodes have left").await;
    }
}

async fn tell_leftovers(outgoing: &Outgoing, parts: &Parts) -> Result<(), StoreError> {
    let leftovers = parts.store.unpublished(LEFTOVERS_EVERY, PAGE).await?;
    if leftovers.is_empty() {
        return Ok(());
    }
    let mut touched = Vec::new();
    for leftover in &leftovers {
        touched.extend(leftover.touched.iter().map(|touched| (*touched, leftover.commit)));
    }
    let letters = hints(parts, touched).await?;
    let messages = outgoing.messages(letters.iter().cloned());
    if let Err(error) = parts.live.publish(messages).await {
        tracing::debug!(%error, "what was left untold stays so for now");
        return Ok(());
    }
    for (_, letter) in letters {
        letters::read(&parts.hub, letter);
    }
    parts.repairs.notify_one();
    parts.store.take_over(&leftovers).await
}

/// What there is to tell of what commits touched, without those who did it: of each conversation once, and who came in or
/// went out. Messages are not read for it, however many there were.
async fn hints(parts: &Parts, touched: Vec<(Touched, Commit)>) -> Result<Vec<(Topic, Letter)>, StoreError> {
    let convos = by_conversation(touched);
    let entries =
        |(&convo, by): (&ConvoId, &TouchedBy)| Some(Touched { convo, first: by.first?, last: by.last });
    let entries: Vec<_> = convos.iter().filter_map(entries).collect();
    let mut letters = Vec::new();
    for among in entries.chunks(CONVOS_MAX) {
        for (entry, _) in parts.store.member_changes(among).await? {
            let outcome = tertulia_domain::log::Outcome::Appended { entry, shared: None };
            letters::write(&outcome, true, |topic, letter| letters.push((topic, letter.clone())));
        }
    }
    let hint = |(convo, touched): (ConvoId, TouchedBy)| {
        let TouchedBy { last, since, .. } = touched;
        (Topic::Conversation(convo), Letter::Hint { convo, last, since: since.get() })
    };
    letters.extend(convos.into_iter().map(hint));
    Ok(letters)
}

/// What several commits touched of a conversation.
struct TouchedBy {
    /// The first entry; `None`: watermarks and settings alone.
    first: Option<Seq>,
    /// The last entry, or zero.
    last: Seq,
    /// The first of the commits.
    since: Commit,
}

fn by_conversation(touched: impl IntoIterator<Item = (Touched, Commit)>) -> BTreeMap<ConvoId, TouchedBy> {
    let mut convos = BTreeMap::new();
    for (Touched { convo, first, last }, commit) in touched {
        let (first, last) = if first <= last { (Some(first), last) } else { (None, Seq::default()) };
        let known = convos.entry(convo).or_insert(TouchedBy { first, last, since: commit });
        known.first = [known.first, first].into_iter().flatten().min();
        known.last = known.last.max(last);
        known.since = known.since.min(commit);
    }
    convos
}

/// Makes good what was missed, each time that the link stands again.
pub(super) async fn make_good(parts: &Parts, accounts: &AccountsService) {
    loop {
        parts.link.restored.notified().await;
        // If it breaks again meanwhile, this was for nothing, and is done again.
        let mended = parts.link.breaks.load(Ordering::Acquire);
        accounts.set_blind(false);
        if parts.link.breaks.load(Ordering::Acquire) != mended {
            // Whoever hears of the break may have said so before this took it back.
            accounts.set_blind(true);
        }
        parts.link.recheck.notify_one();
        let mut pace = Pace::new(parts, BARRIER_EVERY);
        loop {
            let done = read_what_was_missed(parts).await;
            let is_done = done.is_ok();
            if is_done {
                parts.link.made_good.store(mended, Ordering::Release);
                parts.repairs.notify_one();
                break;
            }
            pace.wait(&done, "read what was missed while the link was broken").await;
        }
    }
}

/// Everything that was committed before the link stood again, and told by whoever appended it.
async fn read_what_was_missed(parts: &Parts) -> Result<(), StoreError> {
    let Parts { store, hub, .. } = parts;
    let mut ceiling = store.ceiling().await;
    let mut since = hub.position();
    loop {
        let horizon = store.horizon().await?;
        let Some(rows) = store.journal(since, PAGE).await? else {
            begin_anew(parts);
            return Ok(());
        };
        let is_last = rows.len() < PAGE;
        let mut touched = Vec::new();
        for row in rows {
            since.pass(row.commit);
            let quiet = row.quiet.into_iter().map(|convo| Touched {
                convo,
                first: Seq::new(1),
                last: Seq::default(),
            });
            touched.extend(row.ranges.into_iter().chain(quiet).map(|touched| (touched, row.commit)));
        }
        for (_, letter) in hints(parts, touched).await? {
            letters::read(hub, letter);
        }
        // Nothing that was committed before has a number from here on.
        if is_last && ceiling.as_ref().is_ok_and(|ceiling| horizon.covers(ceiling)) {
            return Ok(());
        }
        if ceiling.is_err() {
            // A part of the store is away; what was missed in the others is told meanwhile.
            ceiling = store.ceiling().await;
        }
        if is_last {
            tokio::time::sleep(parts.random.jitter(BARRIER_EVERY)).await;
        }
    }
}

/// Tells who types. What cannot be told now is not told later.
pub(super) async fn typing(outgoing: &Outgoing, parts: &Parts) {
    loop {
        tokio::time::sleep(TYPING_EVERY).await;
        let typing = parts.hub.take_typing();
        if typing.is_empty() || !parts.link.is_whole() {
            continue;
        }
        let letters = typing.into_iter().map(|Typing { convo, user, active }| {
            (Topic::Conversation(convo), Letter::Typing { convo, user, active })
        });
        if let Err(error) = parts.live.publish(outgoing.messages(letters)).await {
            tracing::debug!(%error, "who types was not told");
        }
    }
}

/// Closes the sockets of devices that were logged out where nobody could tell: as long as it is not certain that what
/// others tell comes here, the store is asked again and again.
pub(super) async fn devices(parts: &Parts, accounts: &AccountsService) {
    loop {
        tokio::select! {
            () = parts.link.recheck.notified() => {}
            () = tokio::time::sleep(DEVICES_LOOK) => {
                if parts.link.is_fresh() {
                    continue;
                }
                // What is remembered is as uncertain.
                accounts.forget_all();
            }
        }
        let mut pace = Pace::new(parts, BARRIER_EVERY);
        loop {
            let looked_at = look_at_devices(parts, accounts).await;
            if looked_at.is_ok() {
                break;
            }
            pace.wait(&looked_at, "find out which devices are gone").await;
        }
        tokio::time::sleep(DEVICES_REST).await;
    }
}

async fn look_at_devices(parts: &Parts, accounts: &AccountsService) -> Result<(), StoreError> {
    let identity =
        |connection: Arc<Connection>| Identity { user: connection.user, device: connection.device };
    let here: HashSet<Identity> = parts.hub.connections().into_iter().map(identity).collect();
    if here.is_empty() {
        return Ok(());
    }
    for identity in accounts.gone_among(here.into_iter().collect()).await? {
        parts.hub.revoke(identity.user, identity.device);
    }
    Ok(())
}

/// Looks whether this node reaches what it keeps things in, and tells the others when it does not.
pub(super) async fn reaches(reaches: &Reaches, parts: &Parts, accounts: &AccountsService, members: &Members) {
    let changed = |what: &str, is_there: bool| {
        if is_there {
            tracing::info!("{what} can be reached again");
        } else {
            tracing::warn!("{what} cannot be reached; new clients had better go to another node");
        }
        members.cut_off(reaches.is_cut_off());
    };
    let store = || async { parts.store.ceiling().await.map(drop) };
    tokio::join!(
        reaches.accounts.keep(|| accounts.reach(), |is_there| changed("the database of accounts", is_there)),
        reaches.store.keep(store, |is_there| changed("the store", is_there)),
    );
}

/// So much was missed that nobody knows what: those who are here come back, and read it as they do after any absence.
fn begin_anew(parts: &Parts) {
    tracing::warn!("the link was broken for so long that those who are here have to come back");
    for connection in parts.hub.connections() {
        connection.close(drain::come_back(&parts.random, Duration::from_millis(500)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_commits_touched_of_a_conversation_is_told_once() {
        let (tea, cake) = (ConvoId::from_bytes([1; 16]), ConvoId::from_bytes([2; 16]));
        let touched = |convo, first, last, commit| {
            (Touched { convo, first: Seq::new(first), last: Seq::new(last) }, Commit::new(commit))
        };
        let told = by_conversation([
            touched(tea, 7, 9, 4),
            // No entry.
            touched(tea, 1, 0, 3),
            touched(cake, 10, 9, 5),
            touched(tea, 10, 10, 6),
        ]);
        let told: Vec<_> = told.into_iter().map(|(convo, by)| (convo, by.first, by.last, by.since)).collect();
        assert_eq!(
            told,
            [
                (tea, Some(Seq::new(7)), Seq::new(10), Commit::new(3)),
                (cake, None, Seq::default(), Commit::new(5)),
            ]
        );
    }
}
