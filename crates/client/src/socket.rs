//! One WebSocket: text frames in and out, small buffers, reading and writing at once.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Sink, Stream};
use serde::Deserialize;
use tertulia_protocol::event::{ClientEvent, CloseReason, ServerEvent};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::error::chain;
use crate::event::Disconnect;
use crate::machine::Closed;
use crate::server::{CONNECT_TIMEOUT, Server, retry_after_header};
use crate::session::Session;

/// What a socket reads into; it grows for larger frames and shrinks again.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// The largest frame that is taken: the largest body with every byte escaped, and more.
const FRAME_BYTES_MAX: usize = 1024 * 1024;
/// With so many frames waiting to be written, the task takes no commands.
const OUTGOING_MAX: usize = 64;
/// A node that does not answer for so long is passed over while there are others.
const PASSED_OVER_AFTER: Duration = Duration::from_secs(5);
/// The close of a node that cannot serve a socket now (RFC 6455's registry).
const TRY_LATER: u16 = 1013;
/// How long an orderly goodbye may take.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// An open socket. Frames that wait to be written are bounded: the messages in flight, a mark a conversation,
/// and single frames, for which no commands are taken while it is congested.
pub(crate) struct Socket {
    /// To which node.
    pub(crate) server: Server,
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    outgoing: VecDeque<Message>,
    flushed: bool,
    /// Nothing can be written any more, and why; what the server said last is still read.
    deaf: Option<Closed>,
}

/// What a socket brings.
pub(crate) enum Turn {
    Event(Box<ServerEvent>),
    /// A frame without news.
    SignOfLife,
    Closed(Closed),
}

impl Socket {
    /// Connects to the node that the session is with, or, when it does not answer, to one of the others, and queues the
    /// first frame.
    pub(crate) async fn open_on_some_node(session: &Session, hello: &ClientEvent) -> Result<Self, Closed> {
        let mut server = session.server();
        for _ in 1..session.nodes() {
            match Self::open(&server, hello, PASSED_OVER_AFTER).await {
                Err(closed) if is_of_node(&closed) => server = session.server_after(&server),
                outcome => return outcome,
            }
        }
        Self::open(&server, hello, CONNECT_TIMEOUT).await.inspect_err(|_| drop(session.server_after(&server)))
    }

    /// Connects and queues the first frame.
    async fn open(server: &Server, hello: &ClientEvent, patience: Duration) -> Result<Self, Closed> {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(FRAME_BYTES_MAX))
            .max_frame_size(Some(FRAME_BYTES_MAX));
        #[cfg(feature = "tls")]
        let opening = tokio_tungstenite::connect_async_tls_with_config(
            server.socket_url(),
            Some(config),
            true,
            Some(tokio_tungstenite::Connector::Rustls(server.tls())),
        );
        #[cfg(not(feature = "tls"))]
        let opening = tokio_tungstenite::connect_async_with_config(server.socket_url(), Some(config), true);

        let broken = |text: String| Closed { reason: Disconnect::Broken(text), retry_after: None };
        let (stream, _) = tokio::time::timeout(patience, opening)
            .await
            .map_err(|_| broken("the server takes too long to answer".into()))?
            .map_err(|error| closed_by_error(&error))?;
        let (server, outgoing) = (server.clone(), VecDeque::new());
        let mut socket = Self { server, stream, outgoing, flushed: true, deaf: None };
        socket.push(hello);
        Ok(socket)
    }

    /// Whether the server does not take what is written.
    pub(crate) fn is_congested(&self) -> bool {
        self.outgoing.len() >= OUTGOING_MAX
    }

    /// Queues a frame; [`turn`](Self::turn) writes it.
    pub(crate) fn push(&mut self, frame: &ClientEvent) {
        match serde_json::to_string(frame) {
            Ok(text) => self.outgoing.push_back(Message::text(text)),
            Err(error) => tracing::error!(%error, "an event of ours has no JSON"),
        }
    }

    /// Writes what is queued and, if `read`, waits for a frame; safe to drop and call again.
    pub(crate) async fn turn(&mut self, read: bool) -> Turn {
        poll_fn(|cx| self.poll_turn(read, cx)).await
    }

    fn poll_turn(&mut self, read: bool, cx: &mut Context<'_>) -> Poll<Turn> {
        if self.deaf.is_none()
            && let Poll::Ready(Err(error)) = self.poll_write(cx)
        {
            self.deaf = Some(closed_by_error(&error));
        }
        if !read {
            return Poll::Pending;
        }
        // A server that goes says so, and when to come back: it stands before the end, if it has come so far.
        let frame = match (Pin::new(&mut self.stream).poll_next(cx), self.deaf.take()) {
            (Poll::Ready(Some(Ok(frame))), deaf) => {
                self.deaf = deaf;
                Some(Ok(frame))
            }
            (_, Some(deaf)) => return Poll::Ready(Turn::Closed(deaf)),
            (Poll::Ready(frame), None) => frame,
            (Poll::Pending, None) => return Poll::Pending,
        };
        Poll::Ready(match frame {
            Some(Ok(Message::Text(text))) => match serde_json::from_str(text.as_str()) {
                Ok(event) => Turn::Event(Box::new(event)),
                Err(error) => {
                    // A later version may say more than we know; the contract has us ignore it.
                    tracing::debug!(%error, "ignored an event");
                    Turn::SignOfLife
                }
            },
            Some(Ok(Message::Close(frame))) => {
                let (code, reason) = frame
                    .map_or((1005, String::new()), |frame| (frame.code.into(), frame.reason.to_string()));
                Turn::Closed(closed_by_server(code, reason))
            }
            Some(Ok(_)) => Turn::SignOfLife,
            Some(Err(error)) => Turn::Closed(closed_by_error(&error)),
            None => Turn::Closed(Closed {
                reason: Disconnect::Broken("the connection was closed".into()),
                retry_after: None,
            }),
        })
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), tungstenite::Error>> {
        let mut stream = Pin::new(&mut self.stream);
        while !self.outgoing.is_empty() {
            match stream.as_mut().poll_ready(cx)? {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) => {}
            }
            if let Some(message) = self.outgoing.pop_front() {
                self.flushed = false;
                stream.as_mut().start_send(message)?;
            }
        }
        if !self.flushed {
            match stream.poll_flush(cx)? {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) => self.flushed = true,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what is queued and says goodbye, within a second.
    pub(crate) async fn close(mut self) {
        let goodbye = async {
            let written = poll_fn(|cx| self.poll_write(cx)).await;
            written.is_ok() && self.stream.close(None).await.is_ok()
        };
        if tokio::time::timeout(GOODBYE_TIMEOUT, goodbye).await != Ok(true) {
            tracing::debug!("the socket was closed without a goodbye");
        }
    }
}

/// Whether another node may serve the socket: this one does not answer, goes down, or cannot serve it now.
pub(crate) fn is_of_node(closed: &Closed) -> bool {
    match &closed.reason {
        Disconnect::Broken(_) | Disconnect::Closed { code: TRY_LATER, .. } => true,
        Disconnect::Refused(text) => text.starts_with("HTTP 503"),
        _ => false,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ComeBack {
    retry_after_ms: u64,
}

fn closed_by_server(code: u16, reason: String) -> Closed {
    let told = [CloseReason::Draining.code(), CloseReason::RateLimited.code(), TRY_LATER].contains(&code);
    let come_back = serde_json::from_str::<ComeBack>(&reason).ok().filter(|_| told);
    Closed {
        reason: Disconnect::Closed { code, reason },
        retry_after: come_back.map(|come_back| Duration::from_millis(come_back.retry_after_ms)),
    }
}

fn closed_by_error(error: &tungstenite::Error) -> Closed {
    let tungstenite::Error::Http(response) = error else {
        return Closed { reason: Disconnect::Broken(chain(error)), retry_after: None };
    };
    if response.status() == 401 {
        return closed_by_server(CloseReason::Unauthenticated.code(), String::new());
    }
    Closed {
        reason: Disconnect::Refused(format!("HTTP {}", response.status())),
        retry_after: retry_after_header(response.headers()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draining_server_says_when_to_come_back() {
        let closed = closed_by_server(4010, r#"{"retryAfterMs":1500}"#.into());
        assert_eq!(closed.retry_after, Some(Duration::from_millis(1_500)));
        let busy = closed_by_server(1013, r#"{"retryAfterMs":700}"#.into());
        assert_eq!(busy.retry_after, Some(Duration::from_millis(700)));
        assert_eq!(closed_by_server(1006, r#"{"retryAfterMs":1500}"#.into()).retry_after, None);
        assert_eq!(closed_by_server(4010, "soon".into()).retry_after, None);
    }
}
