//! Whoever stands at one node, says something again and again to those at the others, and hears what they say: by him it is
//! known when everything that is said at one node is told at all of them.

use std::collections::HashMap;
use std::time::Duration;

use tertulia_client::error::Error as ClientError;
use tertulia_protocol::event::{ClientEvent, ServerEvent};
use tertulia_protocol::{ClientSeq, ConvoId, UserId};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{be_quiet_and_keep, is_over, read_everything};
use crate::cast::Driver;
use crate::device::{Device, LoggedOut};
use crate::wire::{News, Wire};

/// From an ack to the next message, and between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(150);
/// By when a message is sent again that was not answered.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// By when a node that does not answer at all is given up: its connection may be as dead as it is.
const SILENCE_MAX: Duration = Duration::from_secs(5);

struct Speaker {
    device: Device,
    node: usize,
    convo: ConvoId,
    /// Who speaks at which node.
    others: HashMap<UserId, usize>,
    wire: Option<Wire>,
    news: mpsc::Receiver<(u64, News)>,
    teller: mpsc::Sender<(u64, News)>,
    /// When something has come on it.
    heard: Instant,
}

pub(super) async fn run(device: Device, node: usize) -> Result<(), ClientError> {
    let world = &device.world;
    let Some(convo) = world.of_speakers else { return Ok(()) };
    let speakers = world.devices.iter().filter_map(|plan| match plan.driver {
        Driver::Speaker { node } => Some((world.people.get(plan.user)?.id, node)),
        _ => None,
    });
    let others = speakers.collect();
    let (teller, news) = mpsc::channel(512);
    let mut speaker =
        Speaker { device, node, convo, others, wire: None, news, teller, heard: Instant::now() };
    while !speaker.device.is_settling() {
        if speaker.turn().await.is_err() {
            speaker.leave().await;
            speaker.device.log_in_again().await?;
        }
    }
    while !is_over(&speaker.device) && speaker.end().await.is_err() {
        speaker.leave().await;
        speaker.device.log_in_again().await?;
    }
    speaker.leave().await;
    Ok(())
}

impl Speaker {
    async fn turn(&mut self) -> Result<(), LoggedOut> {
        if self.wire.is_none() {
            self.connect().await?;
        }
        if self.wire.is_some() {
            let message = match self.device.pending.values().next() {
                Some(message) => message.clone(),
                None => {
                    let message = self.device.compose(self.convo);
                    self.device.board().echoes.said(self.node, message.n, Instant::now());
                    self.device.pending.insert(message.n, message.clone());
                    message
                }
            };
            self.say(&message).await;
            self.listen(ANSWER_MAX, Some(message.n)).await?;
        }
        self.listen(PAUSE, None).await?;
        if self.wire.is_some() && self.heard.elapsed() > SILENCE_MAX {
            self.leave().await;
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<(), LoggedOut> {
        let token = match self.device.api.session().access_token().await {
            Ok(token) => token,
            Err(error) => return self.device.look_at(&error),
        };
        let url = self.device.world.route(self.device.number).socket.clone();
        let (id, hello) = (self.device.login.device_id, ClientEvent::Connect { token });
        let opening = Wire::open(&url, &hello, id, self.device.recorder(), self.teller.clone());
        // One that hangs is tried again: what is measured is when the node is well.
        if let Ok(Ok((wire, _))) = tokio::time::timeout(SILENCE_MAX, opening).await {
            self.heard = Instant::now();
            self.wire = Some(wire);
        }
        Ok(())
    }

    async fn say(&mut self, message: &crate::device::Message) {
        let Some(wire) = &mut self.wire else { return };
        self.device.attempted(message, Some(wire.c));
        if !wire.send(&message.to_event()).await {
            self.leave().await;
        }
    }

    async fn leave(&mut self) {
        if let Some(wire) = self.wire.take() {
            wire.cut().await;
        }
    }

    /// Hears what comes, for so long or until this message is not waited for any more.
    async fn listen(&mut self, how_long: Duration, n: Option<ClientSeq>) -> Result<(), LoggedOut> {
        let until = Instant::now() + how_long;
        while n.is_none_or(|n| self.device.pending.contains_key(&n)) {
            tokio::select! {
                Some((c, news)) = self.news.recv() => self.hear(c, news)?,
                () = tokio::time::sleep_until(until) => break,
            }
        }
        Ok(())
    }

    fn hear(&mut self, c: u64, news: News) -> Result<(), LoggedOut> {
        if self.wire.as_ref().is_none_or(|wire| wire.c != c) {
            return Ok(());
        }
        self.heard = Instant::now();
        match news {
            News::Closed(code) => {
                self.wire = None;
                if code == Some(4002) {
                    self.device.lost("a speaker was closed with 4002", false);
                    return Err(LoggedOut);
                }
            }
            News::Event(event) => match *event {
                ServerEvent::MessageAck { convo_id, client_seq, server_seq, .. } => {
                    self.device.acked(convo_id, client_seq, server_seq);
                }
                ServerEvent::Message { entry, .. } if entry.convo_id == self.convo => {
                    if let (Some(from), Some(n)) = (self.others.get(&entry.sender_id), entry.client_seq) {
                        self.device.board().echoes.heard(self.node, *from, n);
                        self.device.count("entries from node to node");
                    }
                }
                ServerEvent::Error { code, convo_id: Some(convo), client_seq: Some(n), .. } => {
                    self.device.refused(convo, n, code, None);
                }
                _ => {}
            },
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<(), LoggedOut> {
        for message in self.device.pending.values_mut() {
            message.due = Instant::now();
        }
        let Self { device, news, .. } = self;
        let (kept, outcome) = be_quiet_and_keep(device, news).await;
        for (c, news) in kept {
            self.hear(c, news)?;
        }
        outcome?;
        read_everything(&mut self.device).await
    }
}
