//! A device with sockets of its own: what no good client does, and what a bad network makes good ones do.
//!
//! It has up to two connections at a time, resumes from positions of long ago, sends the same message on several
//! connections and by calls, leaves its socket unread while its groups are busy, and drops it in mid-air.

use std::time::Duration;

use tertulia_client::error::Error as ClientError;
use tertulia_history::event::Settled;
use tertulia_protocol::Code;
use tertulia_protocol::event::{ClientEvent, OwnPresence, ServerEvent};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{be_quiet_and_keep, call, is_over, pause, read_everything};
use crate::device::{Device, LoggedOut, Message};
use crate::wire::{News, NoWire, Wire};

/// Positions that are remembered, old ones too.
const POSITIONS_MAX: usize = 24;
/// Connections of a device at a time.
const WIRES_MAX: usize = 2;
/// By when the socket of a revoked device is closed: the contract says a second, but the server may be stopped.
const CLOSED_MAX: Duration = Duration::from_secs(20);
/// How long the last `pong` may take.
const PONG_MAX: Duration = Duration::from_secs(60);

struct Raw {
    device: Device,
    wires: Vec<Wire>,
    news: mpsc::Receiver<(u64, News)>,
    teller: mpsc::Sender<(u64, News)>,
    resume_token: Option<String>,
    positions: Vec<String>,
    /// A connection that is left unread, and until when.
    unread: Option<(u64, Instant)>,
    /// Not before.
    connect_at: Instant,
    failures: u32,
    /// Connections on which a `pong` has come since it was wanted.
    pongs: Vec<u64>,
}

/// What it does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Send,
    Burst,
    SendAgain,
    Retry,
    Mark,
    Typing,
    Presence,
    Ping,
    Cut,
    Leave,
    Another,
    Unread,
    Call,
}

const ACTS: [(u32, Act); 13] = [
    (30, Act::Send),
    (3, Act::Burst),
    (6, Act::SendAgain),
    (8, Act::Retry),
    (8, Act::Mark),
    (6, Act::Typing),
    (2, Act::Presence),
    (3, Act::Ping),
    (3, Act::Cut),
    (2, Act::Leave),
    (3, Act::Another),
    (2, Act::Unread),
    (24, Act::Call),
];

pub(super) async fn run(device: Device) -> Result<(), ClientError> {
    let (teller, news) = mpsc::channel(512);
    let mut raw = Raw {
        device,
        wires: Vec::new(),
        news,
        teller,
        resume_token: None,
        positions: Vec::new(),
        unread: None,
        connect_at: Instant::now(),
        failures: 0,
        pongs: Vec::new(),
    };
    while !raw.device.is_settling() {
        if raw.turn().await.is_err() {
            raw.start_anew().await?;
        }
    }
    while !is_over(&raw.device) && raw.end().await.is_err() {
        raw.start_anew().await?;
    }
    for wire in raw.wires.drain(..) {
        wire.leave().await;
    }
    Ok(())
}

impl Raw {
    /// One thing, and whatever comes meanwhile.
    async fn turn(&mut self) -> Result<(), LoggedOut> {
        self.reconnect().await?;
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
            Act::SendAgain => {
                let place = self.device.chance.below(self.device.settled.len());
                if let Some((message, _)) = self.device.settled.get(place).cloned() {
                    self.say_message(&message).await;
                }
            }
            Act::Retry => self.retry().await,
            Act::Mark => {
                if let Some((convo_id, mark)) = self.device.some_mark() {
                    self.device.marking(convo_id, mark);
                    self.device.count("marks");
                    let (delivered_seq, read_seq) = (mark.delivered_seq, mark.read_seq);
                    self.say(&ClientEvent::Mark { convo_id, delivered_seq, read_seq }).await;
                }
            }
            Act::Typing => {
                for active in [true, false, true] {
                    if let Some((convo_id, _)) = self.device.some_convo() {
                        self.say(&ClientEvent::Typing { convo_id, active }).await;
                    }
                }
            }
            Act::Presence => {
                let status =
                    if self.device.chance.percent(50) { OwnPresence::Away } else { OwnPresence::Online };
                self.say(&ClientEvent::PresenceSet { status }).await;
                let user_ids = self.device.world.people.iter().map(|person| person.id).take(20).collect();
                self.say(&ClientEvent::PresenceSubscribe { user_ids }).await;
            }
            Act::Ping => self.say(&ClientEvent::Ping {}).await,
            Act::Cut => {
                if let Some(wire) = self.take_some_wire() {
                    self.device.count("connections dropped");
                    wire.cut().await;
                }
            }
            Act::Leave => {
                if let Some(wire) = self.take_some_wire() {
                    self.device.count("connections closed");
                    wire.leave().await;
                }
            }
            Act::Another => {
                if self.wires.len() < WIRES_MAX {
                    self.connect().await?;
                }
            }
            Act::Unread => {
                if self.unread.is_none()
                    && let Some(wire) = self.wires.last()
                {
                    wire.read(false);
                    let until = Instant::now() + self.device.chance.millis(1_000..=6_000);
                    self.unread = Some((wire.c, until));
                    self.device.reads_slowly(until);
                    self.device.count("slow readers");
                }
            }
            Act::Call => call(&mut self.device).await?,
        }
        Ok(())
    }

    // Connections.

    async fn reconnect(&mut self) -> Result<(), LoggedOut> {
        if self.wires.is_empty() {
            self.device.board().wanting(self.device.number);
            if self.connect_at <= Instant::now() {
                self.connect().await?;
            }
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<(), LoggedOut> {
        let resume = match (&self.resume_token, self.positions.last()) {
            (Some(token), Some(newest)) if !self.device.chance.percent(15) => {
                let old = self.device.chance.percent(30);
                let position = self.device.chance.pick(&self.positions).filter(|_| old).unwrap_or(newest);
                self.device.count(if old { "resumes from old positions" } else { "resumes" });
                Some(ClientEvent::Resume { resume_token: token.clone(), position: position.clone() })
            }
            _ => None,
        };
        let hello = match resume {
            Some(resume) => resume,
            None => match self.device.api.session().access_token().await {
                Ok(token) => ClientEvent::Connect { token },
                Err(error) => {
                    self.wait_before_connecting();
                    return self.device.look_at(&error);
                }
            },
        };
        let resuming = matches!(hello, ClientEvent::Resume { .. });
        let url = self.device.world.route(self.device.number).socket.clone();
        let id = self.device.login.device_id;
        let opened = Wire::open(&url, &hello, id, self.device.recorder(), self.teller.clone()).await;
        match opened {
            Ok((mut wire, welcome)) => {
                if resuming && !welcome.resumed {
                    self.device.find("a position of before was not known any more");
                }
                self.device.count("connections");
                wire.life = self.device.connected();
                self.resume_token = Some(welcome.resume_token);
                self.remember(welcome.position);
                self.wires.push(wire);
                self.failures = 0;
                // What is not known to be stored is sent again on the new connection.
                for message in self.device.pending.values_mut() {
                    message.due = Instant::now();
                }
                Ok(())
            }
            Err(NoWire::Closed(code @ (4001 | 4002))) => {
                if self.device.login.is_revoking() {
                    return Err(LoggedOut);
                }
                // A resume token ends some time; an access token is made fresh.
                self.wait_before_connecting();
                if resuming {
                    self.resume_token = None;
                    return Ok(());
                }
                self.device.lost(format!("closed with {code} at a connect"), false);
                Err(LoggedOut)
            }
            Err(why) => {
                self.device.complain("connections that did not come about", why);
                self.wait_before_connecting();
                Ok(())
            }
        }
    }

    fn wait_before_connecting(&mut self) {
        self.failures = (self.failures + 1).min(5);
        let most = 100 << self.failures;
        self.connect_at = Instant::now() + self.device.chance.millis(20..=most);
    }

    fn remember(&mut self, position: String) {
        if self.positions.len() >= POSITIONS_MAX {
            let place = self.device.chance.below(POSITIONS_MAX - 1);
            self.positions.remove(place);
        }
        self.positions.push(position);
    }

    fn take_some_wire(&mut self) -> Option<Wire> {
        let place = self.device.chance.below(self.wires.len());
        (!self.wires.is_empty()).then(|| self.wires.swap_remove(place))
    }

    /// After the login has ended: another one, with nothing in common but the user.
    async fn start_anew(&mut self) -> Result<(), ClientError> {
        self.device.board().wanting(self.device.number);
        for wire in self.wires.drain(..) {
            wire.cut().await;
        }
        self.unread = None;
        self.resume_token = None;
        self.device.log_in_again().await
    }

    // What goes out.

    async fn say(&mut self, event: &ClientEvent) {
        let place = self.device.chance.below(self.wires.len());
        let Some(wire) = self.wires.get_mut(place) else { return };
        if !wire.send(event).await && place < self.wires.len() {
            self.wires.swap_remove(place).cut().await;
        }
    }

    async fn say_message(&mut self, message: &Message) {
        let place = self.device.chance.below(self.wires.len());
        let Some(wire) = self.wires.get_mut(place) else { return };
        self.device.attempted(message, Some(wire.c));
        self.device.count("sends by socket");
        if !wire.send(&message.to_event()).await {
            self.wires.swap_remove(place).cut().await;
        }
    }

    async fn send_some(&mut self, count: u64) {
        let Some((convo, _)) = self.device.some_convo() else { return };
        for _ in 0..count {
            if self.wires.is_empty() {
                return;
            }
            let mut message = self.device.compose(convo);
            message.due = Instant::now() + Duration::from_secs(5);
            self.device.pending.insert(message.n, message.clone());
            self.say_message(&message).await;
        }
    }

    /// Sends again what was not answered, on whichever connection.
    async fn retry(&mut self) {
        let now = Instant::now();
        let due: Vec<Message> =
            self.device.pending.values().filter(|message| message.due <= now).cloned().collect();
        for message in due {
            if let Some(kept) = self.device.pending.get_mut(&message.n) {
                kept.due = now + Duration::from_secs(5);
            }
            self.device.count("retries of uncertain sends");
            self.say_message(&message).await;
        }
    }

    // What comes in.

    async fn listen_until(&mut self, until: Instant) -> Result<(), LoggedOut> {
        loop {
            let unread_until = self.unread.map_or(until, |(_, unread)| unread.min(until));
            tokio::select! {
                Some((c, news)) = self.news.recv() => self.hear(c, news)?,
                () = tokio::time::sleep_until(unread_until) => {
                    if let Some((c, at)) = self.unread
                        && at <= Instant::now()
                    {
                        self.unread = None;
                        self.wires.iter().filter(|wire| wire.c == c).for_each(|wire| wire.read(true));
                    }
                    if until <= Instant::now() {
                        break;
                    }
                }
            }
        }
        self.device.listened = Instant::now();
        if *self.device.login.revoked.borrow() {
            self.wait_for_the_end().await?;
        }
        Ok(())
    }

    fn hear(&mut self, c: u64, news: News) -> Result<(), LoggedOut> {
        match news {
            News::Event(event) => self.event(c, *event),
            News::Closed(code) => {
                let Some(place) = self.wires.iter().position(|wire| wire.c == c) else { return Ok(()) };
                self.wires.swap_remove(place);
                match self.wires.last() {
                    Some(wire) => self.device.board().connected(self.device.number, wire.life),
                    None => self.device.board().wanting(self.device.number),
                }
                match code {
                    Some(4002) => {
                        self.device.lost("closed with 4002", false);
                        self.device.count("sockets of revoked devices closed");
                        return Err(LoggedOut);
                    }
                    // Of nodes silence is noticed soon, and some are stopped for longer than that.
                    Some(4009) if self.device.world.has_nodes() => {
                        self.device.count("connections given up for silence");
                    }
                    Some(4003 | 4008 | 4009 | 1009) => {
                        self.device.find(&format!("a socket was closed with {}", code.unwrap_or(0)));
                    }
                    Some(4010) => self.device.count("connections sent away"),
                    _ => self.device.lost_connection(format_args!("socket {c}, with {code:?}")),
                }
            }
        }
        Ok(())
    }

    fn event(&mut self, c: u64, event: ServerEvent) {
        match event {
            ServerEvent::MessageAck { convo_id, client_seq, server_seq, .. } => {
                self.device.acked(convo_id, client_seq, server_seq);
            }
            ServerEvent::Message { entry, position } => {
                if let Some(known) = self.device.convos.get_mut(&entry.convo_id) {
                    known.head = known.head.max(entry.seq);
                }
                self.device.count("entries by socket");
                if let Some(position) = position
                    && self.device.chance.percent(5)
                {
                    self.remember(position);
                }
            }
            ServerEvent::Gap { .. } => self.device.count("gaps"),
            ServerEvent::Pong { position } => {
                self.pongs.push(c);
                self.remember(position);
            }
            ServerEvent::Error {
                code, convo_id: Some(convo), client_seq: Some(n), retry_after_ms, ..
            } => {
                self.device.refused(convo, n, code, retry_after_ms.map(Duration::from_millis));
            }
            ServerEvent::Error { code: Code::Invalid, detail, .. } => {
                self.device.find(&format!("a frame was refused as invalid: {detail}"));
            }
            _ => {}
        }
    }

    /// This device was revoked: its sockets must be closed for it.
    async fn wait_for_the_end(&mut self) -> Result<(), LoggedOut> {
        for wire in &self.wires {
            wire.read(true);
        }
        let until = Instant::now() + CLOSED_MAX;
        while !self.wires.is_empty() {
            tokio::select! {
                Some((c, news)) = self.news.recv() => self.hear(c, news)?,
                () = tokio::time::sleep_until(until) => {
                    self.device.find("it was revoked, but its socket stays open");
                    break;
                }
            }
        }
        Err(LoggedOut)
    }

    // The end.

    async fn end(&mut self) -> Result<(), LoggedOut> {
        if let Some((c, _)) = self.unread.take() {
            self.wires.iter().filter(|wire| wire.c == c).for_each(|wire| wire.read(true));
        }
        be_quiet_and_listen(self).await?;
        // Whatever there was before the pong has come before it.
        let until = Instant::now() + PONG_MAX;
        while !is_over(&self.device) {
            self.reconnect().await?;
            self.pongs.clear();
            for wire in &mut self.wires {
                wire.send(&ClientEvent::Ping {}).await;
            }
            self.listen_until(Instant::now() + Duration::from_millis(500)).await?;
            let answered = self.wires.iter().all(|wire| self.pongs.contains(&wire.c));
            if answered && !self.wires.is_empty() {
                break;
            }
            if Instant::now() > until {
                self.device.find("a ping was not answered in the end");
                break;
            }
        }
        for wire in &self.wires {
            self.device.recorder().record(Settled { c: wire.c });
        }
        read_everything(&mut self.device).await
    }
}

/// Brings the last sends to their end, by calls, and reads the sockets meanwhile.
async fn be_quiet_and_listen(raw: &mut Raw) -> Result<(), LoggedOut> {
    // What is on its way on a socket is sent by calls as well.
    for message in raw.device.pending.values_mut() {
        message.due = Instant::now();
    }
    let Raw { device, news, .. } = raw;
    let (kept, outcome) = be_quiet_and_keep(device, news).await;
    for (c, news) in kept {
        raw.hear(c, news)?;
    }
    outcome
}
