//! Resume and lag: the one way in which a reader gets what he was not given live.
//!
//! The connection's task asks [`Hub::next_step`] what to read, reads it from the store and gives it back;
//! everything that decides is in here, under the locks.

use std::collections::HashSet;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use tertulia_protocol::event::ConversationNews;
use tertulia_protocol::rest::Conversation;
use tertulia_protocol::{ConvoId, Entry, Seq, UserId};
use tertulia_websocket::Frame;

use super::connection::{Lag, Lagging, Room, State};
use super::frames;
use super::receipts::Ahead;
use super::routes::Routes;
use super::{Connection, Hub, MISSED_KEPT, MISSED_MAX, PAGE_MAX, count};
use crate::log::{Change, Commit, HistorySlice, Missed, Position, Receipt};

/// What a lagging reader needs next from the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// All that he missed while he was away; give it to [`Hub::finish_resume`].
    Missed {
        /// In commits from here on.
        since: Position,
    },
    /// What changed in a conversation besides entries; give it to [`Hub::give_news`].
    News {
        /// Which.
        convo: ConvoId,
        /// In commits from here on; `None`: nothing but the conversation itself is asked for.
        since: Option<Commit>,
        /// Whether the conversation itself is to be told.
        whole: bool,
    },
    /// The next entries of a conversation; give them to [`Hub::give_page`].
    Page {
        /// Which.
        convo: ConvoId,
        /// Those with a greater seq.
        after: Seq,
        /// How many at most.
        limit: usize,
    },
}

impl Hub {
    /// Says what the reader missed while he was away, read from the store after [`register`](Hub::register) and
    /// [`attach`](Hub::attach). From here on he is live where nothing changed, or where all that he missed came along
    /// and meets what the hub delivers next; elsewhere he lags.
    ///
    /// `hiding` are those who hide what they have read.
    pub fn finish_resume(&self, connection: &Arc<Connection>, missed: Missed, hiding: &HashSet<UserId>) {
        let Missed { changes, pages } = missed;
        let mut routes = self.routes();
        let reader_shows_read = routes.user(connection.user).is_some_and(|user| user.shows_read());
        let mut state = connection.state();
        let Some(lag) = &mut state.lag else { return };
        lag.resuming = false;
        let since = lag.safe;
        let (mut waiting, mut ahead) = (Vec::new(), Ahead::default());
        for change in changes {
            match change {
                // The hub has still to come to his removal: nothing of what comes before it is his to be told.
                Change::Left(convo) if routes.is_member(connection.user, convo) => {
                    let lagging = lag.convos.entry(convo).or_insert_with(|| Lagging::from(Seq::default()));
                    // One that is to be told whole has come in again since the store was read.
                    lagging.parting = !lagging.whole;
                    if lagging.parting && self.settings.others_append {
                        routes.doubts.insert((connection.user, convo));
                    }
                }
                Change::Left(convo) => waiting.push(frames::left(convo)),
                Change::In { convo, joined, first_missed, last_seq, shared, own, mut receipts } => {
                    let mut lacks_news =
                        !joined && (shared.is_some() || own.is_some() || !receipts.is_empty());
                    // Who was put out since this was read has been told so, and nothing more.
                    let is_in = routes.is_member(connection.user, convo);
                    if !joined && is_in {
                        // What else changed is told at once, if there is room.
                        let reader = connection.user;
                        self.as_read(&mut routes, &mut receipts, hiding, &mut ahead);
                        let news =
                            news_frames(convo, reader, shared, own, receipts, reader_shows_read, hiding);
                        if waiting.len() + news.len() <= self.settings.outbox.frames / 2 {
                            waiting.extend(news);
                            if first_missed.is_none() && !lag.convos.contains_key(&convo) {
                                continue;
                            }
                            lacks_news = false;
                        }
                    }
                    let next = first_missed.unwrap_or(last_seq.next());
                    let lagging = lag.convos.entry(convo).or_insert_with(|| Lagging::from(next));
                    // Who has just come in reads from there on, also where the hub, which is behind, has meanwhile
                    // delivered what was before him.
                    lagging.next = if joined { next } else { lagging.next.min(next) };
                    lagging.whole |= joined;
                    if lacks_news {
                        lagging.lack_news(self.position_in(&since, convo));
                    }
                }
            }
        }
        for frame in waiting {
            push(&mut state, &frame);
        }
        let mut room = state.room(&self.settings.outbox, false);
        let Some(lag) = &mut state.lag else { return };
        let mut given = Vec::new();
        for (convo, page) in &pages {
            // Whoever was put out meanwhile, or came in anew, reads what he may see now.
            let is_good = routes.is_member(connection.user, *convo)
                && lag
                    .convos
                    .get(convo)
                    .is_some_and(|lagging| !lagging.whole && !lagging.is_barred() && lagging.news.is_none());
            // What finds no room is read as soon as there is.
            if is_good && !self.read_page(&mut routes, lag, *convo, page, &mut room, &mut given) {
                break;
            }
        }
        self.give_entries(&mut state, since, &given);
        wake(state.wake_to_catch_up());
        drop(state);
        self.tell_ahead(&routes, connection, &ahead);
    }

    /// What the reader needs next; `None` if he is live everywhere, waits for the hub, or must first write what
    /// is in his outbox.
    pub fn next_step(&self, connection: &Arc<Connection>) -> Option<Step> {
        // Asked each time that a task has nothing else to do, and mostly in vain: without the lock of all.
        if !connection.is_lagging() {
            return None;
        }
        let mut routes = self.routes();
        let mut state = connection.state();
        let needs = state.lag.as_ref().map_or(0, |lag| lag.needs);
        if !state.has_room(&self.settings.outbox, needs.max(self.settings.outbox.bytes / 2)) {
            return None;
        }
        let lag = state.lag.as_mut()?;
        if lag.resuming {
            return Some(Step::Missed { since: lag.safe });
        }
        let delivered = self.position();
        lag.convos.retain(|convo, lagging| {
            // What is missing here still comes: to those who have it, too.
            let is_met =
                lagging.ahead.is_some_and(|commit| delivered.has(commit)) && !routes.has_hole(*convo);
            if is_met {
                routes.passed(*convo, lagging.next);
            }
            !is_met
        });
        let reads = |lagging: &Lagging| lagging.ahead.is_none() && !lagging.is_barred();
        let mut behind = lag.convos.range((lag.put_off.map_or(Unbounded, Excluded), Unbounded));
        let next = behind.find(|(_, lagging)| reads(lagging));
        let next = next.or_else(|| lag.convos.iter().find(|(_, lagging)| reads(lagging)));
        let next = next.map(|(convo, _)| *convo);
        let Some((convo, lagging)) =
            next.and_then(|convo| lag.convos.get_mut(&convo).map(|lagging| (convo, lagging)))
        else {
            if lag.convos.is_empty() {
                state.end_lag_if_over();
            } else {
                self.is_awaited.store(true, Ordering::Release);
            }
            return None;
        };
        if lagging.whole || lagging.news.is_some() {
            return Some(Step::News { convo, since: lagging.news, whole: lagging.whole });
        }
        let next = routes.convo(convo).map_or(lagging.next, |route| route.next);
        let gap = skip_to_newest(lagging, next.previous());
        let (after, limit) = (lagging.next.previous(), lagging.page);
        if let Some((from, to)) = gap {
            count(&self.stats.gaps, 1);
            push(&mut state, &frames::gap(convo, from, to));
        }
        Some(Step::Page { convo, after, limit })
    }

    /// What a step asked for cannot be read now: it is asked for again after what is lacking in other conversations.
    pub fn put_off(&self, connection: &Connection, step: Step) {
        if let Some(lag) = &mut connection.state().lag {
            lag.put_off = match step {
                Step::Missed { .. } => None,
                Step::News { convo, .. } | Step::Page { convo, .. } => Some(convo),
            };
        }
    }

    /// Wakes the tasks of all who lag.
    pub(super) fn wake_lagging(&self) {
        let routes = self.routes();
        let connections = routes.users.iter().flat_map(|(_, user)| &user.connections);
        let lagging = connections.filter_map(|connection| {
            let mut state = connection.state();
            state.lag.is_some().then(|| state.wake_to_catch_up()).flatten()
        });
        let wakers: Vec<Waker> = lagging.collect();
        drop(routes);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Gives what a [`Step::News`] asked for: the conversation if it was to be told, and what changed.
    ///
    /// `hiding` are those who hide what they have read.
    pub fn give_news(
        &self,
        connection: &Arc<Connection>,
        convo: ConvoId,
        whole: Option<Conversation>,
        change: Option<Change>,
        hiding: &HashSet<UserId>,
    ) {
        let mut routes = self.routes();
        let reader_shows_read = routes.user(connection.user).is_some_and(|user| user.shows_read());
        let mut state = connection.state();
        let mut ahead = Ahead::default();
        let Some(lagging) = state.lag.as_mut().and_then(|lag| lag.convos.get_mut(&convo)) else { return };
        lagging.whole = false;
        lagging.news = None;
        if let Some(whole) = whole {
            push(&mut state, &frames::news(ConversationNews::Whole(Box::new(whole))));
        }
        if let Some(Change::In { shared, own, mut receipts, .. }) = change {
            self.as_read(&mut routes, &mut receipts, hiding, &mut ahead);
            for frame in news_frames(convo, connection.user, shared, own, receipts, reader_shows_read, hiding)
            {
                push(&mut state, &frame);
            }
        }
        drop(state);
        self.tell_ahead(&routes, connection, &ahead);
    }

    /// Gives what a [`Step::Page`] asked for.
    ///
    /// The reader becomes live here exactly when the page reaches what the hub delivers next: no hole, no repeat.
    pub fn give_page(&self, connection: &Arc<Connection>, convo: ConvoId, page: &HistorySlice) {
        let mut routes = self.routes();
        let mut state = connection.state();
        // What once found no room is given now, whatever was put in meanwhile: else a busy reader might never get it.
        let is_due = state.lag.as_mut().is_some_and(|lag| std::mem::take(&mut lag.needs) > 0);
        let mut room = state.room(&self.settings.outbox, is_due);
        let Some(lag) = state.lag.as_deref_mut() else { return };
        let safe = lag.safe;
        let mut given = Vec::with_capacity(page.entries.len());
        self.read_page(&mut routes, lag, convo, page, &mut room, &mut given);
        self.give_entries(&mut state, safe, &given);
        // There may be something else to read.
        wake(state.wake_to_catch_up());
    }

    /// Takes from a page what the reader lacks and what fits, and looks whether he has come to where the hub is. Returns
    /// whether all of it did.
    fn read_page<'p>(
        &self,
        routes: &mut Routes,
        Lag { safe, convos, needs, .. }: &mut Lag,
        convo: ConvoId,
        page: &'p HistorySlice,
        room: &mut Room,
        given: &mut Vec<&'p Arc<Entry>>,
    ) -> bool {
        let Some(lagging) = convos.get_mut(&convo) else { return true };
        let (mut passed, mut fits) = (0, true);
        for (entry, commit) in &page.entries {
            if entry.seq >= lagging.next {
                if !lagging.own.contains(&entry.seq) {
                    let len = frames::message_bytes(entry);
                    fits = room.take(len);
                    if !fits {
                        *needs = len;
                        break;
                    }
                    given.push(entry);
                }
                lagging.next = entry.seq.next();
            }
            lagging.read_to = lagging.read_to.max(Some(*commit));
            passed += 1;
        }
        // Read again is about as much as was given.
        lagging.page = if fits { PAGE_MAX.min(2 * lagging.page) } else { passed.max(1) };
        let next = lagging.next;
        lagging.own.retain(|seq| *seq >= next);
        let lacks_news = lagging.whole || lagging.news.is_some();
        if !fits || page.has_more || lacks_news {
            return fits;
        }
        // Where nothing was missed, all there is was committed before the reader began.
        let read_to = lagging.read_to.unwrap_or_else(|| self.position_in(safe, convo).previous());
        if self.position().has(read_to) {
            routes.passed(convo, lagging.next);
        }
        match routes.convo(convo) {
            Some(route) if lagging.next > route.next => lagging.ahead = Some(read_to),
            Some(route) if lagging.next < route.next => {}
            // That he is in it is still to come here, and he has read it.
            None if !self.position().has(read_to) => lagging.ahead = Some(read_to),
            // Met, or nobody delivers here: live.
            _ => {
                convos.remove(&convo);
            }
        }
        true
    }

    /// Puts entries that were read into the outbox. The last of all that was missed tells how far the reader now is.
    fn give_entries(&self, state: &mut State, safe: Position, given: &[&Arc<Entry>]) {
        state.end_lag_if_over();
        let position = if state.lag.is_none() { self.position().or(&safe) } else { Position::default() };
        let last = given.len().saturating_sub(1);
        let mut texts = frames::Texts::default();
        for (at, entry) in given.iter().enumerate() {
            let is_end = at == last && state.lag.is_none();
            let text = is_end.then(|| self.position_text(position));
            wake(state.push_written(|wire| {
                frames::write_message(wire, entry, text.as_deref(), &mut texts);
            }));
        }
        count(&self.stats.deliveries, given.len() as u64);
    }

    /// The store no longer has the reader in the conversation that a step asked for: there is nothing to read there
    /// for him. If the hub still has him, it is behind: his removal is on its way here and names what he lacks, and
    /// until then he is given nothing. Without that what comes before it would be live to him.
    pub fn forget(&self, connection: &Arc<Connection>, convo: ConvoId) {
        let mut routes = self.routes();
        let is_member = routes.is_member(connection.user, convo);
        let mut state = connection.state();
        if let Some(lag) = &mut state.lag {
            if is_member {
                if let Some(lagging) = lag.convos.get_mut(&convo) {
                    lagging.barred = true;
                }
                if self.settings.others_append {
                    routes.doubts.insert((connection.user, convo));
                }
            } else {
                lag.convos.remove(&convo);
            }
        }
        state.end_lag_if_over();
    }

    /// The position that a reader may be told now: everything below it is in his outbox or written.
    pub fn position_of(&self, connection: &Arc<Connection>) -> String {
        // Taken before the lag is looked at: what the hub delivers in between can only make it too low.
        let here = self.position();
        let state = connection.state();
        let position = state.lag.as_ref().map_or(here, |lag| lag.safe);
        drop(state);
        self.position_text(position)
    }
}

/// If more than [`MISSED_MAX`] entries up to `last` are missing: names all but the newest [`MISSED_KEPT`].
fn skip_to_newest(lagging: &mut Lagging, last: Seq) -> Option<(Seq, Seq)> {
    let missed = (last.get() + 1).saturating_sub(lagging.next.get());
    if missed <= MISSED_MAX {
        return None;
    }
    let from = lagging.next;
    let to = Seq::new(last.get() - MISSED_KEPT);
    lagging.next = to.next();
    lagging.own.retain(|seq| *seq > to);
    Some((from, to))
}

fn news_frames(
    convo: ConvoId,
    reader: UserId,
    shared: Option<Arc<tertulia_protocol::event::SharedSettings>>,
    own: Option<tertulia_protocol::rest::MemberSettings>,
    receipts: Vec<Receipt>,
    reader_shows_read: bool,
    hiding: &HashSet<UserId>,
) -> Vec<Frame> {
    let shared = shared.map(|shared| frames::shared(&shared));
    let own = own.map(|settings| frames::news(ConversationNews::Own { id: convo, settings }));
    let receipts = receipts.into_iter().filter_map(|receipt| {
        let is_own = receipt.user == reader;
        let shows_read = is_own || (reader_shows_read && !hiding.contains(&receipt.user));
        frames::receipt(&receipt, shows_read).as_ref().map(frames::encode)
    });
    shared.into_iter().chain(own).chain(receipts).collect()
}

/// The reader's own task is at work here and looks at the outbox next: nobody needs to be woken.
fn push(state: &mut State, frame: &Frame) {
    wake(state.push(frame));
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
