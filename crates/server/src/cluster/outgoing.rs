//! What was appended here, on its way to the other nodes.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tertulia_domain::backoff::Backoff;
use tertulia_domain::log::{Commit, Outcome, Position};
use tertulia_fabric::NodeId;
use tertulia_fabric::live::Topic;
use tokio::sync::Notify;

use super::Parts;
use super::letters::{self, AccountLetter, Letter};
use crate::retry::Retry;

/// What waits for the channel, in bytes; beyond it batches are not told from here any more, but by the journal.
const WAITING_BYTES_MAX: usize = 32 << 20;
/// How many changes of accounts wait for the channel; of more than that only is told that there were.
const ACCOUNTS_MAX: usize = 4_096;
/// When they are told again, if they could not be.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(400), Duration::from_secs(2));
/// When a message is this long, the next letter begins another.
const MESSAGE_BYTES: usize = 256 << 10;
/// The first byte of a message: how it is written.
const FORMAT: u8 = 1;
/// What comes before the letters: the format, and who sends it.
const HEAD: usize = 17;

/// What is to be told.
pub struct Outgoing {
    node: NodeId,
    queue: Mutex<Queue>,
    work: Notify,
    /// Told when there is nothing to tell.
    sent: Notify,
}

struct Queue {
    batches: Vec<Batch>,
    bytes: usize,
    /// Changes of accounts. No log has them: they are told until they were.
    accounts: Vec<AccountLetter>,
    /// Whether some are with the channel.
    is_sending: bool,
    lanes: Vec<LaneState>,
}

/// How far the others were told of a lane's commits.
#[derive(Clone, Copy, Default)]
struct LaneState {
    /// The newest commit that could not be told: the journal's leftovers tell it. Until they have, nothing is said of
    /// later ones, for that would stand for it, too.
    untold: Option<Commit>,
}

/// What is told of one append.
struct Batch {
    lane: usize,
    commit: Commit,
    messages: Vec<(Topic, Bytes)>,
}

impl Outgoing {
    pub(super) fn new(node: NodeId, lanes: NonZeroUsize) -> Self {
        let (batches, accounts) = (Vec::new(), Vec::new());
        let queue = Queue {
            batches,
            bytes: 0,
            accounts,
            is_sending: false,
            lanes: vec![LaneState::default(); lanes.get()],
        };
        Self { node, queue: Mutex::new(queue), work: Notify::new(), sent: Notify::new() }
    }

    /// Tells what was committed, after it was handed over here. Never waits.
    pub fn tell<'a>(&self, lane: usize, commit: Commit, outcomes: impl Iterator<Item = (&'a Outcome, bool)>) {
        let mut messages = Messages::new(self.node);
        for (outcome, shows_read) in outcomes {
            letters::write(outcome, shows_read, |topic, letter| messages.put(topic, letter));
        }
        let messages = messages.finish();
        let bytes: usize = messages.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut queue = self.lock();
        if queue.bytes + bytes > WAITING_BYTES_MAX {
            queue.lanes[lane].untold = Some(commit);
            return;
        }
        queue.bytes += bytes;
        queue.batches.push(Batch { lane, commit, messages });
        drop(queue);
        self.work.notify_one();
    }

    /// Tells what changed of an account, once it is durable. Never waits.
    pub fn tell_of_account(&self, letter: AccountLetter) {
        self.put_accounts([letter]);
        self.work.notify_one();
    }

    fn put_accounts(&self, letters: impl IntoIterator<Item = AccountLetter>) {
        let mut queue = self.lock();
        queue.accounts.extend(letters);
        if queue.accounts.len() > ACCOUNTS_MAX {
            queue.accounts = vec![AccountLetter::Anything];
        }
    }

    /// Waits until there is nothing to tell.
    pub(super) async fn idle(&self) {
        loop {
            let mut sent = std::pin::pin!(self.sent.notified());
            // Registered before the look, so that what is sent in between is not missed.
            sent.as_mut().enable();
            {
                let queue = self.lock();
                if queue.batches.is_empty() && queue.accounts.is_empty() && !queue.is_sending {
                    return;
                }
            }
            sent.await;
        }
    }

    /// Who sent a message, and its letters; `None` of what this node does not understand, or has sent itself.
    pub(super) fn open(&self, message: &[u8]) -> Option<Vec<Letter>> {
        let (head, letters) = message.split_at_checked(HEAD)?;
        if head[0] != FORMAT || head[1..] == self.node.as_bytes()[..] {
            return None;
        }
        match serde_json::from_slice(letters) {
            Ok(letters) => Some(letters),
            Err(error) => {
                tracing::error!(%error, "a letter of another node cannot be read");
                None
            }
        }
    }

    /// Letters of others, as messages.
    pub(super) fn messages(&self, letters: impl IntoIterator<Item = (Topic, Letter)>) -> Vec<(Topic, Bytes)> {
        let mut messages = Messages::new(self.node);
        for (topic, letter) in letters {
            messages.put(topic, &letter);
        }
        messages.finish()
    }

    /// Everything below `horizon` was told to the others, by whomever.
    pub(super) fn told_below(&self, horizon: &Position) {
        for lane in &mut self.lock().lanes {
            lane.untold = lane.untold.filter(|commit| !horizon.has(*commit));
        }
    }

    /// Sends what there is, for ever.
    pub(super) async fn send(&self, parts: &Parts) {
        let mut retry = Retry::new(BACKOFF, parts.random.clone());
        loop {
            let (batches, accounts) = {
                let mut queue = self.lock();
                queue.bytes = 0;
                queue.is_sending = !(queue.batches.is_empty() && queue.accounts.is_empty());
                (std::mem::take(&mut queue.batches), std::mem::take(&mut queue.accounts))
            };
            if batches.is_empty() && accounts.is_empty() {
                self.sent.notify_waiters();
                self.work.notified().await;
                continue;
            }
            let newest = batches.iter().fold(HashMap::new(), |mut newest, batch| {
                let known = newest.entry(batch.lane).or_insert(batch.commit);
                *known = batch.commit.max(*known);
                newest
            });
            let to_all = accounts.iter().map(|letter| (Topic::Everyone, Letter::Account(*letter)));
            let mut messages = self.messages(to_all);
            messages.extend(batches.into_iter().flat_map(|batch| batch.messages));
            let sent = if messages.is_empty() { Ok(()) } else { parts.live.publish(messages).await };
            let wait = match &sent {
                Ok(()) => {
                    retry.succeeded();
                    None
                }
                Err(error) => {
                    // Not again from here: the journal has it, and whoever finds it there tells it.
                    let wait = retry.failed(Duration::ZERO);
                    if retry.is_first() {
                        tracing::warn!(%error, "what was appended is told to the other nodes later");
                    } else {
                        tracing::debug!(%error, "what was appended is told to the other nodes later");
                    }
                    Some(wait)
                }
            };
            {
                let mut queue = self.lock();
                for (lane, commit) in newest {
                    match (&sent, queue.lanes[lane].untold) {
                        (Ok(()), None) => parts.store.published(lane, commit),
                        (Ok(()), Some(_)) => {}
                        (Err(_), _) => queue.lanes[lane].untold = Some(commit),
                    }
                }
            }
            if let Some(wait) = wait.filter(|_| !accounts.is_empty()) {
                self.put_accounts(accounts);
                tokio::time::sleep(wait).await;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing under this lock leaves it half done.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Letters as messages: one a topic, in their order.
struct Messages {
    node: NodeId,
    messages: Vec<(Topic, Vec<u8>)>,
    /// The message of a topic that is still written to.
    open: HashMap<Topic, usize>,
}

impl Messages {
    fn new(node: NodeId) -> Self {
        Self { node, messages: Vec::new(), open: HashMap::new() }
    }

    fn put(&mut self, topic: Topic, letter: &Letter) {
        let at = match self.open.get(&topic) {
            Some(at) => *at,
            None => {
                let mut message = Vec::with_capacity(512);
                message.push(FORMAT);
                message.extend_from_slice(self.node.as_bytes());
                message.push(b'[');
                self.messages.push((topic, message));
                self.open.insert(topic, self.messages.len() - 1);
                self.messages.len() - 1
            }
        };
        let message = &mut self.messages[at].1;
        if message.len() > HEAD + 1 {
            message.push(b',');
        }
        let written = serde_json::to_writer(&mut *message, letter);
        debug_assert!(written.is_ok(), "a letter that cannot be written: {written:?}");
        if message.len() >= MESSAGE_BYTES {
            self.open.remove(&topic);
        }
    }

    fn finish(self) -> Vec<(Topic, Bytes)> {
        let messages = self.messages.into_iter().map(|(topic, mut message)| {
            message.push(b']');
            (topic, Bytes::from(message))
        });
        messages.collect()
    }
}

#[cfg(test)]
mod tests {
    use tertulia_protocol::{ConvoId, Seq};

    use super::*;

    #[test]
    fn letters_come_as_they_were_written_and_ones_own_are_passed_over() {
        let [one, other] = [1, 2].map(|number| {
            Outgoing::new(NodeId::from_bytes([number; 16]), const { NonZeroUsize::new(1).unwrap() })
        });
        let convo = |number| ConvoId::from_bytes([number; 16]);
        let hint = |number, last| {
            let letter = Letter::Hint { convo: convo(number), last: Seq::new(last), since: 7 };
            (Topic::Conversation(convo(number)), letter)
        };
        let messages = one.messages([hint(1, 1), hint(2, 1), hint(1, 2)]);
        let topics: Vec<_> = messages.iter().map(|(topic, _)| *topic).collect();
        assert_eq!(topics, [1, 2].map(|number| Topic::Conversation(convo(number))));
        assert_eq!(other.open(&messages[0].1), Some(vec![hint(1, 1).1, hint(1, 2).1]));
        assert_eq!(one.open(&messages[0].1), None);
        for garbage in [&b""[..], b"\x01", &[9; 40], &[1; 40]] {
            assert_eq!(other.open(garbage), None);
        }
    }
}
