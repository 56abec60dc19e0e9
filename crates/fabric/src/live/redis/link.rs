//! The link to one server on which a node hears: a connection of its own, made anew when it breaks.
//!
//! Nothing else is asked here, so that the link may stop reading while the ear is full without holding up what the
//! node publishes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Shared;
use crate::backoff::{SERVER, STEADY, roll};
use crate::live::Topic;
use crate::redis::{Address, Command, Incoming, Life, Outgoing, Value, WireError, dial};

/// Topics of one command. In a cluster those of one slot are, of which there are fewer.
const COMMAND_TOPICS: usize = 512;
/// Topics that are asked for before the first of them is confirmed: confirmations wait with the server, and count
/// against what it holds for us.
const UNCONFIRMED_MAX: usize = 16 * 1_024;
/// Topics that are written at once.
const ROUND_TOPICS: usize = 4 * 1_024;

/// What the server has still to say to what it was asked, in its order.
enum Owed {
    Subscribed { topics: Vec<Topic>, done: usize },
    Unsubscribed { topics: Vec<Topic>, done: usize },
    Round(u64),
    Ping,
    Barrier(u64),
}

pub(super) struct Link {
    pub(super) shared: Arc<Shared>,
    pub(super) server: Address,
    /// There is something to ask for.
    pub(super) work: Arc<Notify>,
}

struct Session<'l> {
    link: &'l Link,
    owed: Mutex<VecDeque<Owed>>,
    /// Something was confirmed.
    confirmed: Notify,
    ping: Notify,
    life: Life,
}

impl Link {
    /// Keeps the link.
    pub(super) async fn run(self) {
        let mut failures: u32 = 0;
        loop {
            let begun = Instant::now();
            let error = match dial(self.shared.servers.target(), &self.server).await {
                Ok((incoming, outgoing)) => self.serve(incoming, outgoing).await,
                Err(error) => error,
            };
            failures = if begun.elapsed() >= STEADY { 1 } else { failures.saturating_add(1) };
            if failures == 1 {
                tracing::warn!(server = %self.server, %error, "the live channel is broken");
            } else {
                tracing::debug!(server = %self.server, %error, failures, "the live channel is still broken");
            }
            self.shared.servers.doubt();
            tokio::time::sleep(SERVER.wait(failures, roll())).await;
        }
    }

    async fn serve(&self, incoming: Incoming, outgoing: Outgoing) -> WireError {
        let session = Session {
            link: self,
            owed: Mutex::default(),
            confirmed: Notify::new(),
            ping: Notify::new(),
            life: Life::new(),
        };
        self.shared.counts.connections.add(1);
        let connection = self.shared.change(|wanted| wanted.is_up(&self.server));
        // Also when this future is dropped: the server is not one of the cluster any more.
        let _down = Down { link: self, connection };
        tokio::select! {
            error = session.read(incoming) => error,
            error = session.write(outgoing) => error,
            () = session.life.watch(|| session.ping.notify_one()) => WireError::Silent,
        }
    }
}

/// Says that a link is down when it goes.
struct Down<'l> {
    link: &'l Link,
    connection: u64,
}

impl Drop for Down<'_> {
    fn drop(&mut self) {
        self.link.shared.change(|wanted| wanted.is_down(&self.link.server, self.connection));
    }
}

impl Session<'_> {
    fn owed(&self) -> MutexGuard<'_, VecDeque<Owed>> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self, mut incoming: Incoming) -> WireError {
        loop {
            loop {
                let said = match incoming.next() {
                    Ok(Some(Value::Push(said))) => self.pushed(&said).await,
                    Ok(Some(Value::Error(text))) => self.refused(text),
                    Ok(Some(_)) => self.ponged(),
                    Ok(None) => break,
                    Err(error) => return error.into(),
                };
                if let Err(error) = said {
                    return error;
                }
            }
            if let Err(error) = incoming.fill().await {
                return error;
            }
            self.life.sign();
        }
    }

    async fn pushed(&self, said: &[Value<'_>]) -> Result<(), WireError> {
        let prefix = &*self.link.shared.prefix;
        let [Value::Text(kind), Value::Text(channel), rest @ ..] = said else { return Ok(()) };
        // One that is not ours, or of a version that we do not know.
        let topic = channel.strip_prefix(prefix).and_then(Topic::from_key);
        let Some(topic) = topic else { return Ok(()) };
        match (*kind, rest) {
            (b"smessage", [Value::Text(payload)]) => {
                self.link.shared.counts.heard.add(1);
                self.link.shared.counts.heard_bytes.add(payload.len() as u64);
                let mut put = std::pin::pin!(self.link.shared.inlet.message(topic, payload));
                if futures_util::poll!(&mut put).is_pending() {
                    self.life.set_reading(false);
                    put.await;
                    self.life.set_reading(true);
                }
                Ok(())
            }
            (b"ssubscribe", _) => self.subscribed(topic),
            (b"sunsubscribe", _) => {
                self.unsubscribed(topic);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn subscribed(&self, topic: Topic) -> Result<(), WireError> {
        let mut owed = self.owed();
        match owed.front_mut() {
            Some(Owed::Subscribed { topics, done }) if topics.get(*done) == Some(&topic) => {
                *done += 1;
                if *done == topics.len() {
                    owed.pop_front();
                    self.settle(owed);
                }
                Ok(())
            }
            _ => Err(WireError::Unexpected),
        }
    }

    /// What we asked for; or the topic has moved to another server, which nobody has asked for.
    fn unsubscribed(&self, topic: Topic) {
        let mut owed = self.owed();
        if let Some(Owed::Unsubscribed { topics, done }) = owed.front_mut()
            && topics.get(*done) == Some(&topic)
        {
            *done += 1;
            if *done == topics.len() {
                owed.pop_front();
                self.settle(owed);
            }
            return;
        }
        drop(owed);
        if self.link.shared.change(|wanted| wanted.lost(topic)) {
            self.link.shared.servers.doubt();
        }
    }

    fn ponged(&self) -> Result<(), WireError> {
        let mut owed = self.owed();
        let passed = match owed.pop_front() {
            Some(Owed::Ping) => None,
            Some(Owed::Barrier(token)) => Some(token),
            _ => return Err(WireError::Unexpected),
        };
        self.settle(owed);
        if let Some(token) = passed {
            self.link.shared.passed(token);
        }
        Ok(())
    }

    fn refused(&self, text: &[u8]) -> Result<(), WireError> {
        let text = String::from_utf8_lossy(text).into_owned();
        let mut owed = self.owed();
        let topics = match owed.pop_front() {
            Some(Owed::Subscribed { topics, done: 0 }) if is_elsewhere(&text) => topics,
            // The server has given them up already.
            Some(Owed::Unsubscribed { done: 0, .. }) if is_elsewhere(&text) => Vec::new(),
            // Anything else has to do with us, such as a right that is missing: the link is of no use, and that shows.
            _ => return Err(WireError::Refused(text)),
        };
        self.link.shared.change(|wanted| wanted.refused(&self.link.server, topics));
        self.link.shared.servers.doubt();
        self.settle(owed);
        Ok(())
    }

    /// Says that what needs no answer of its own has been reached.
    fn settle(&self, mut owed: MutexGuard<'_, VecDeque<Owed>>) {
        let mut reached = None;
        while let Some(Owed::Round(round)) = owed.front() {
            reached = Some(*round);
            owed.pop_front();
        }
        if owed.is_empty() {
            self.life.answered();
        }
        drop(owed);
        self.confirmed.notify_one();
        if let Some(round) = reached {
            self.link.shared.change(|wanted| wanted.confirmed(&self.link.server, round));
        }
    }

    async fn write(&self, mut outgoing: Outgoing) -> WireError {
        let mut buffer = Command::default();
        loop {
            let round = self.link.shared.round(&self.link.server, ROUND_TOPICS);
            buffer.clear();
            let Some(round) = round else {
                tokio::select! {
                    () = self.link.work.notified() => continue,
                    () = self.ping.notified() => {}
                }
                self.owe(Owed::Ping);
                buffer.begin("PING", 1);
                if let Err(error) = outgoing.write(buffer.as_bytes()).await {
                    return error;
                }
                continue;
            };
            while self.unconfirmed() > UNCONFIRMED_MAX {
                self.confirmed.notified().await;
            }
            self.ask(&mut buffer, "SSUBSCRIBE", round.subscribe, |topics| Owed::Subscribed {
                topics,
                done: 0,
            });
            self.ask(&mut buffer, "SUNSUBSCRIBE", round.unsubscribe, |topics| Owed::Unsubscribed {
                topics,
                done: 0,
            });
            if let Some(round) = round.ends {
                let mut owed = self.owed();
                owed.push_back(Owed::Round(round));
                self.settle(owed);
            }
            for token in round.barriers {
                buffer.begin("PING", 1);
                self.owe(Owed::Barrier(token));
            }
            if let Err(error) = outgoing.write(buffer.as_bytes()).await {
                return error;
            }
        }
    }

    fn ask(&self, buffer: &mut Command, name: &str, topics: Vec<Topic>, owed: impl Fn(Vec<Topic>) -> Owed) {
        let shared = &self.link.shared;
        for topics in shared.commands(topics, COMMAND_TOPICS) {
            buffer.begin(name, 1 + topics.len());
            topics.iter().for_each(|topic| buffer.word_of(&shared.prefix, &topic.key()));
            self.owe(owed(topics));
        }
    }

    fn owe(&self, what: Owed) {
        let mut owed = self.owed();
        owed.push_back(what);
        self.life.asked();
    }

    fn unconfirmed(&self) -> usize {
        let count = |owed: &Owed| match owed {
            Owed::Subscribed { topics, done } | Owed::Unsubscribed { topics, done } => topics.len() - done,
            Owed::Round(_) | Owed::Ping | Owed::Barrier(_) => 0,
        };
        self.owed().iter().map(count).sum()
    }
}

/// Whether a server says that another one, or itself in a moment, has what was asked for.
fn is_elsewhere(text: &str) -> bool {
    ["MOVED ", "CLUSTERDOWN ", "TRYAGAIN ", "LOADING "].iter().any(|kind| text.starts_with(kind))
}
