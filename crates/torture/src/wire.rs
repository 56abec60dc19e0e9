//! A socket of our own: it can be cut, left unread, and resumed from any position, which a good client never does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::SplitSink;
use futures_util::{SinkExt as _, StreamExt as _};
use tertulia_history::Recorder;
use tertulia_history::Seen;
use tertulia_history::event::{Ack, Close, Gap, Left, Open, Pong, Push, Receipt, Refuse};
use tertulia_protocol::DeviceId;
use tertulia_protocol::event::{ClientEvent, ConversationNews, ServerEvent};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::board::Life;

/// How long a connection may take to stand and to say `ready`.
const OPEN_MAX: Duration = Duration::from_secs(20);
/// How long a frame may take to be written.
const WRITE_MAX: Duration = Duration::from_secs(10);

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// An open connection.
#[derive(Debug)]
pub(crate) struct Wire {
    /// Its number in the history.
    pub(crate) c: u64,
    /// The life of the server that it goes to.
    pub(crate) life: Life,
    sink: SplitSink<Stream, Message>,
    reading: watch::Sender<bool>,
    reader: JoinHandle<()>,
    closed: Closed,
}

/// Writes down once that a connection is over, whoever notices it.
#[derive(Debug, Clone)]
struct Closed {
    c: u64,
    written: Arc<AtomicBool>,
    recorder: Recorder,
}

impl Closed {
    fn write(&self, why: String) {
        if !self.written.swap(true, Ordering::SeqCst) {
            self.recorder.record(Close { c: self.c, why: Some(why) });
        }
    }
}

/// What `ready` said.
#[derive(Debug)]
pub(crate) struct Welcome {
    pub(crate) resume_token: String,
    pub(crate) position: String,
    pub(crate) resumed: bool,
}

/// What a connection brings.
#[derive(Debug)]
pub(crate) enum News {
    Event(Box<ServerEvent>),
    /// It is over; the close code, if the server said one.
    Closed(Option<u16>),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoWire {
    /// The server closed it, with this code.
    #[error("closed with {0}")]
    Closed(u16),
    #[error("{0}")]
    Broken(String),
}

impl Wire {
    /// Connects, says hello, and waits for `ready`.
    pub(crate) async fn open(
        url: &str,
        hello: &ClientEvent,
        device: DeviceId,
        recorder: &Recorder,
        news: mpsc::Sender<(u64, News)>,
    ) -> Result<(Self, Welcome), NoWire> {
        tokio::time::timeout(OPEN_MAX, Self::greet(url, hello, device, recorder, news))
            .await
            .unwrap_or_else(|_| Err(NoWire::Broken("nothing for too long".into())))
    }

    async fn greet(
        url: &str,
        hello: &ClientEvent,
        device: DeviceId,
        recorder: &Recorder,
        news: mpsc::Sender<(u64, News)>,
    ) -> Result<(Self, Welcome), NoWire> {
        let config = WebSocketConfig::default()
            .read_buffer_size(4 * 1_024)
            .write_buffer_size(0)
            .max_message_size(Some(1 << 20))
            .max_frame_size(Some(1 << 20));
        let (stream, _) = tokio_tungstenite::connect_async_with_config(url, Some(config), true)
            .await
            .map_err(|error| NoWire::Broken(format!("no socket: {error}")))?;
        let (mut sink, mut stream) = stream.split();
        sink.send(frame(hello)).await.map_err(|error| NoWire::Broken(format!("no hello: {error}")))?;
        let welcome = loop {
            match stream.next().await {
                Some(Ok(Message::Text(text))) => match serde_json::from_str(text.as_str()) {
                    Ok(ServerEvent::Ready { resume_token, position, resumed, .. }) => {
                        break Welcome { resume_token, position, resumed };
                    }
                    _ => return Err(NoWire::Broken(format!("not ready but {text}"))),
                },
                Some(Ok(Message::Close(Some(close)))) => return Err(NoWire::Closed(close.code.into())),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => return Err(NoWire::Broken(format!("not ready but {other:?}"))),
            }
        };
        let c = recorder.connection();
        let from = match hello {
            ClientEvent::Resume { position, .. } => Some(position.clone()),
            _ => None,
        };
        recorder.record(Open {
            c,
            device,
            from,
            resumed: welcome.resumed,
            position: welcome.position.clone(),
        });
        let (reading, read) = watch::channel(true);
        let closed = Closed { c, written: Arc::default(), recorder: recorder.clone() };
        let reader = tokio::spawn(read_all(device, stream, read, closed.clone(), news));
        Ok((Self { c, life: Life::MAX, sink, reading, reader, closed }, welcome))
    }

    /// Sends a frame; `false` if the connection is of no use any more.
    pub(crate) async fn send(&mut self, event: &ClientEvent) -> bool {
        matches!(tokio::time::timeout(WRITE_MAX, self.sink.send(frame(event))).await, Ok(Ok(())))
    }

    /// Reads, or leaves unread what comes.
    pub(crate) fn read(&self, read: bool) {
        self.reading.send_replace(read);
    }

    /// Drops it without a word.
    pub(crate) async fn cut(self) {
        self.reader.abort();
        // What the reader wrote down last comes before this.
        drop(self.reader.await);
        self.closed.write("given up by the client".into());
    }

    /// Says goodbye.
    pub(crate) async fn leave(mut self) {
        drop(tokio::time::timeout(Duration::from_secs(1), self.sink.close()).await);
        self.cut().await;
    }
}

fn frame(event: &ClientEvent) -> Message {
    Message::text(serde_json::to_string(event).unwrap_or_default())
}

async fn read_all(
    device: DeviceId,
    mut stream: futures_util::stream::SplitStream<Stream>,
    mut reading: watch::Receiver<bool>,
    closed: Closed,
    news: mpsc::Sender<(u64, News)>,
) {
    let (c, mut why) = (closed.c, "ended".to_owned());
    let code = loop {
        if reading.wait_for(|read| *read).await.is_err() {
            break None;
        }
        match stream.next().await {
            Some(Ok(Message::Text(text))) => {
                // What cannot be understood is of a later version; the contract has us ignore it.
                let Ok(event) = serde_json::from_str::<ServerEvent>(text.as_str()) else { continue };
                record(c, device, &event, &closed.recorder);
                if news.send((c, News::Event(Box::new(event)))).await.is_err() {
                    break None;
                }
            }
            Some(Ok(Message::Close(close))) => break close.map(|close| close.code.into()),
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                why = error.to_string();
                break None;
            }
            None => break None,
        }
    };
    closed.write(code.map_or(why, |code: u16| format!("closed with {code}")));
    drop(news.send((c, News::Closed(code))).await);
}

/// Writes down what has come on a connection, before anybody looks at it: the order is the socket's.
pub(crate) fn record(c: u64, device: DeviceId, event: &ServerEvent, recorder: &Recorder) {
    match event {
        ServerEvent::MessageAck { convo_id, client_seq, server_seq, .. } => {
            recorder.record(Ack { c: Some(c), device, convo: *convo_id, n: *client_seq, seq: *server_seq });
        }
        ServerEvent::Error { code, convo_id: Some(convo), client_seq: Some(n), .. } => {
            recorder.record(Refuse { c: Some(c), device, convo: *convo, n: *n, code: *code });
        }
        ServerEvent::Message { entry, position } => recorder.record(Push {
            c,
            convo: entry.convo_id,
            entry: Seen::of(entry),
            position: position.clone(),
        }),
        ServerEvent::Gap { convo_id, from_seq, to_seq } => {
            recorder.record(Gap { c, convo: *convo_id, from: *from_seq, to: *to_seq });
        }
        ServerEvent::Receipt { convo_id, user_id, delivered_seq, read_seq, .. } => recorder.record(Receipt {
            c,
            convo: *convo_id,
            user: *user_id,
            delivered: *delivered_seq,
            read: *read_seq,
        }),
        ServerEvent::Pong { position } => recorder.record(Pong { c, position: position.clone() }),
        ServerEvent::ConversationUpdate { conversation: ConversationNews::Left { id, .. } } => {
            recorder.record(Left { c, convo: *id });
        }
        _ => {}
    }
}
