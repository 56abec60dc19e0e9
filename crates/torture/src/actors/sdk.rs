//! A device that is driven by the client library, as a program of somebody would be.
//!
//! The library sees to retries, resumes and holes by itself; what is random here is what a user and his machine do:
//! he sends, marks, looks away, and ends and starts his program.

use std::collections::HashMap;
use std::time::Duration;

use tertulia_client::client::{Client, Config, Events, Start};
use tertulia_client::error::{Error as ClientError, SessionLost};
use tertulia_client::event::{Disconnect, Event};
use tertulia_protocol::event::{ConversationNews, OwnPresence};
use tertulia_protocol::{Code, ConvoId, Seq};
use tokio::time::Instant;

use super::{be_quiet, call, is_over, pause, read_everything};
use crate::device::{Device, LoggedOut};

/// How many numbers a client may use up.
const NUMBERS: u64 = 1 << 24;
/// With more that is not acked a user waits.
const PENDING_MAX: usize = 100;
/// By when a revoked device's client has ended.
const CLOSED_MAX: Duration = Duration::from_secs(20);
/// By when a client has been handed everything in the end.
const CAUGHT_UP_MAX: Duration = Duration::from_secs(60);
/// While the library sees to a message nobody else does.
const NOT_BY_CALLS: Duration = Duration::from_secs(24 * 60 * 60);

struct Sdk {
    device: Device,
    client: Option<(Client, Events)>,
    /// The newest entry that the client has handed over, of each conversation.
    handed: HashMap<ConvoId, Seq>,
    /// It does not look at its events before this.
    looks_at: Instant,
    /// What the board knew of it before it looked away.
    before: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Send,
    Burst,
    Mark,
    Typing,
    Presence,
    LookAway,
    Restart,
    Call,
}

const ACTS: [(u32, Act); 8] = [
    (52, Act::Send),
    (3, Act::Burst),
    (10, Act::Mark),
    (6, Act::Typing),
    (2, Act::Presence),
    (2, Act::LookAway),
    (2, Act::Restart),
    (23, Act::Call),
];

pub(super) async fn run(device: Device) -> Result<(), ClientError> {
    let mut sdk =
        Sdk { device, client: None, handed: HashMap::new(), looks_at: Instant::now(), before: None };
    while !sdk.device.is_settling() {
        if sdk.turn().await.is_err() {
            sdk.start_anew().await?;
        }
    }
    while !is_over(&sdk.device) && sdk.end().await.is_err() {
        sdk.start_anew().await?;
    }
    sdk.stop().await;
    Ok(())
}

impl Sdk {
    async fn turn(&mut self) -> Result<(), LoggedOut> {
        self.start();
        if let Some(act) = self.device.chance.weighted(&ACTS) {
            self.act(act).await?;
        }
        let until = Instant::now() + pause(&mut self.device.chance);
        self.listen_until(until).await
    }

    async fn act(&mut self, act: Act) -> Result<(), LoggedOut> {
        match act {
            Act::Send => self.send_some(1).await,
            Act::Burst => {
                let count = self.device.chance.within(5..=30);
                self.send_some(count).await;
            }
            Act::Mark => {
                if let (Some((convo, mark)), Some((client, _))) = (self.device.some_mark(), &self.client) {
                    let _ = client.mark(convo, mark.delivered_seq, mark.read_seq).await;
                    self.device.count("marks");
                }
            }
            Act::Typing => {
                let active = self.device.chance.percent(80);
                if let (Some((convo, _)), Some((client, _))) = (self.device.some_convo(), &self.client) {
                    let _ = client.typing(convo, active).await;
                }
            }
            Act::Presence => {
                let away = self.device.chance.percent(50);
                let users = self.device.world.people.iter().map(|person| person.id).take(20).collect();
                if let Some((client, _)) = &self.client {
                    let status = if away { OwnPresence::Away } else { OwnPresence::Online };
                    let _ = client.set_presence(status).await;
                    let _ = client.watch(users).await;
                }
            }
            Act::LookAway => {
                self.looks_at = Instant::now() + self.device.chance.millis(1_000..=5_000);
                self.device.reads_slowly(self.looks_at);
                let was = self.device.board().looks_away(self.device.number);
                self.before.get_or_insert(was);
                self.device.count("slow readers");
            }
            Act::Restart => {
                self.device.count("clients started anew");
                self.stop().await;
                self.device.retry_by_calls().await?;
            }
            Act::Call => call(&mut self.device).await?,
        }
        Ok(())
    }

    // The client.

    fn start(&mut self) {
        if self.client.is_some() {
            return;
        }
        // All of it only the first time: later there is much.
        let start = if self.handed.is_empty() && self.device.chance.percent(50) {
            Start::Beginning
        } else {
            Start::Head
        };
        let mut config = Config::new(start, self.device.reserve_numbers(NUMBERS));
        config.history = Some(self.device.recorder().clone());
        config.events_max = self.device.chance.within(8..=256) as usize;
        config.in_flight_per_convo_max = if self.device.chance.percent(50) { 1 } else { 8 };
        self.device.board().wanting(self.device.number);
        self.client = Some(Client::connect(self.device.login.session.clone(), &config));
        self.handed.clear();
    }

    /// Ends it; what it had not been told the outcome of is sent by calls afterwards.
    async fn stop(&mut self) {
        self.device.board().away(self.device.number);
        self.before = None;
        if let Some((client, mut events)) = self.client.take() {
            client.close().await;
            while let Some(event) = events.try_next() {
                let _ = self.event(event);
            }
        }
        for message in self.device.pending.values_mut() {
            message.due = Instant::now();
        }
        self.looks_at = Instant::now();
    }

    async fn start_anew(&mut self) -> Result<(), ClientError> {
        self.stop().await;
        self.device.board().wanting(self.device.number);
        self.device.log_in_again().await
    }

    async fn send_some(&mut self, count: u64) {
        let Some((convo, _)) = self.device.some_convo() else { return };
        for _ in 0..count {
            if self.device.pending.len() >= PENDING_MAX {
                return;
            }
            let mut message = self.device.compose(convo);
            let Some((client, _)) = &self.client else { return };
            let Ok(n) = client.send(convo, message.body.clone(), None).await else { return };
            message.n = n;
            message.due = Instant::now() + NOT_BY_CALLS;
            self.device.count("sends by the client library");
            self.device.pending.insert(n, message);
        }
    }

    // What comes in.

    async fn listen_until(&mut self, until: Instant) -> Result<(), LoggedOut> {
        loop {
            let looks_at = self.looks_at;
            if looks_at <= Instant::now()
                && let Some(was) = self.before.take()
            {
                self.device.board().looks_again(self.device.number, was);
            }
            let Some((_, events)) = &mut self.client else { break };
            let event = async {
                tokio::time::sleep_until(looks_at).await;
                events.next().await
            };
            tokio::select! {
                event = event => match event {
                    Some(event) => self.event(event)?,
                    None => {
                        self.device.find("the client has ended by itself");
                        return Err(LoggedOut);
                    }
                },
                () = tokio::time::sleep_until(looks_at), if self.before.is_some() => {}
                () = tokio::time::sleep_until(until) => break,
            }
        }
        self.device.listened = Instant::now();
        if *self.device.login.revoked.borrow() {
            self.wait_for_the_end().await?;
        }
        Ok(())
    }

    fn event(&mut self, event: Event) -> Result<(), LoggedOut> {
        match event {
            Event::Connected { .. } => {
                self.device.connected();
                self.device.count("connections");
            }
            Event::Disconnected { reason, .. } => {
                self.device.board().wanting(self.device.number);
                match reason {
                    Disconnect::Closed { code: 4010, .. } => self.device.count("connections sent away"),
                    Disconnect::Closed { code: code @ (4003 | 4008 | 1009), reason } => {
                        self.device.find(&format!("the client was closed with {code}: {reason}"));
                    }
                    // Somebody has logged this device out.
                    Disconnect::Closed { code: 4001 | 4002, .. } if self.device.login.is_revoking() => {}
                    Disconnect::Closed { code: 4009, .. } if self.device.world.has_nodes() => {
                        self.device.count("connections given up for silence");
                    }
                    _ => self.device.lost_connection(reason),
                }
            }
            Event::Entry { entry, .. } => {
                self.device.count("entries by the client library");
                let last = self.handed.entry(entry.convo_id).or_default();
                if entry.seq <= *last {
                    let text =
                        format!("the client handed over {} of {} after {last}", entry.seq, entry.convo_id);
                    self.device.find(&text);
                } else {
                    *last = entry.seq;
                }
                if let Some(known) = self.device.convos.get_mut(&entry.convo_id) {
                    known.head = known.head.max(entry.seq);
                }
            }
            Event::SendAcked { convo_id, client_seq, seq, .. } => {
                self.device.acked(convo_id, client_seq, seq);
            }
            Event::SendDelayed { code: Code::Unavailable, convo_id, .. } => {
                self.device.board().unavailable();
                self.device.complain("sends told to wait", convo_id);
            }
            Event::SendFailed { convo_id, client_seq, code, .. } => {
                self.device.refused(convo_id, client_seq, code, None);
            }
            Event::Refused { code: Code::Invalid, detail, .. } => {
                self.device.find(&format!("a frame of the client was refused as invalid: {detail}"));
            }
            Event::Conversation(ConversationNews::Left { id, .. }) => {
                self.device.convos.remove(&id);
                // If he is added again he sees it from there.
                self.handed.remove(&id);
            }
            Event::SessionLost(lost) => {
                if lost == SessionLost::Revoked {
                    self.device.count("sockets of revoked devices closed");
                }
                self.device.lost(lost.to_string(), lost == SessionLost::RefreshUncertain);
                return Err(LoggedOut);
            }
            _ => {}
        }
        Ok(())
    }

    /// This device was revoked: its client must come to know of it.
    async fn wait_for_the_end(&mut self) -> Result<(), LoggedOut> {
        let until = Instant::now() + CLOSED_MAX;
        while let Some((_, events)) = &mut self.client {
            match tokio::time::timeout_at(until, events.next()).await {
                Ok(Some(event)) => self.event(event)?,
                Ok(None) => break,
                Err(_) => {
                    // Between two connections it has nothing to be closed.
                    if self.device.board().is_connected(self.device.number) {
                        self.device.find("it was revoked, but its client goes on");
                    }
                    break;
                }
            }
        }
        Err(LoggedOut)
    }

    // The end.

    async fn end(&mut self) -> Result<(), LoggedOut> {
        self.looks_at = Instant::now();
        self.start();
        while !self.device.pending.is_empty() && !is_over(&self.device) {
            self.listen_until(Instant::now() + Duration::from_millis(100)).await?;
            // What an earlier client has left.
            self.device.retry_by_calls().await?;
        }
        self.be_quiet_and_listen().await?;
        self.catch_up().await?;
        read_everything(&mut self.device).await
    }

    /// Waits until everybody is quiet, and takes what comes meanwhile.
    async fn be_quiet_and_listen(&mut self) -> Result<(), LoggedOut> {
        let Some((_, events)) = &mut self.client else { return be_quiet(&mut self.device).await };
        let mut kept = Vec::new();
        let outcome = {
            let quiet = be_quiet(&mut self.device);
            tokio::pin!(quiet);
            loop {
                tokio::select! {
                    outcome = &mut quiet => break outcome,
                    Some(event) = events.next() => kept.push(event),
                }
            }
        };
        for event in kept {
            self.event(event)?;
        }
        outcome
    }

    /// All that is in the inbox has been handed over, or comes now.
    async fn catch_up(&mut self) -> Result<(), LoggedOut> {
        let until = Instant::now() + CAUGHT_UP_MAX;
        let inbox = self.device.read_inbox().await?;
        while !is_over(&self.device) {
            let behind = inbox.iter().find(|convo| {
                // What there was before the client started, it need not hand over.
                self.handed.get(&convo.id).is_some_and(|handed| *handed < convo.last_seq)
            });
            let Some(convo) = behind else { break };
            if Instant::now() > until {
                let handed = self.handed.get(&convo.id).copied().unwrap_or_default();
                let text =
                    format!("its client was handed {} up to {handed} only, of {}", convo.id, convo.last_seq);
                self.device.find(&text);
                break;
            }
            self.listen_until(Instant::now() + Duration::from_millis(100)).await?;
        }
        Ok(())
    }
}
