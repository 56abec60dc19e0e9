//! A server that answers REST calls by a function and gives its sockets to the test.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tertulia_protocol::rest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::server::Server;
use crate::session::{Password, Session};

pub(super) const CONVO: &str = "01010101-0101-7101-8101-010101010101";
pub(super) const ME: &str = "02020202-0202-7202-8202-020202020202";
pub(super) const OTHER: &str = "03030303-0303-7303-8303-030303030303";
const DEVICE: &str = "04040404-0404-7404-8404-040404040404";
const DEADLINE: Duration = Duration::from_secs(20);

/// Status and body, or nothing: the connection is dropped without an answer.
pub(super) type Answer = Option<(u16, Value)>;

pub(super) struct Fake {
    address: SocketAddr,
    sockets: mpsc::Receiver<WebSocketStream<TcpStream>>,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// `script` gets method, path and query (the access token is in it as `token=…`).
    pub(super) async fn start(script: impl Fn(&str, &str, &str) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_on(SocketAddr::from(([127, 0, 0, 1], 0)), script).await
    }

    pub(super) async fn start_on(
        address: SocketAddr,
        script: impl Fn(&str, &str, &str) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (sender, sockets) = mpsc::channel(8);
        let calls = Arc::<Mutex<Vec<String>>>::default();
        let (script, called) = (Arc::new(script), Arc::clone(&calls));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, called, sender) = (Arc::clone(&script), Arc::clone(&called), sender.clone());
                tokio::spawn(async move {
                    if is_socket(&stream).await {
                        if let Ok(socket) = tokio_tungstenite::accept_async(stream).await {
                            let _ = sender.send(socket).await;
                        }
                    } else {
                        let _ = rest_call(stream, &*script, &called).await;
                    }
                });
            }
        });
        Self { address, sockets, calls }
    }

    pub(super) fn session(&self, password: Option<Password>) -> Session {
        session_on(self.address, password)
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) async fn socket(&mut self) -> FakeSocket {
        let stream = tokio::time::timeout(DEADLINE, self.sockets.recv()).await;
        FakeSocket { stream: stream.expect("a socket in time").expect("a running fake") }
    }

    pub(super) fn calls(&self, path: &str) -> usize {
        self.calls.lock().expect("no panic").iter().filter(|call| *call == path).count()
    }
}

pub(super) fn session_on(address: SocketAddr, password: Option<Password>) -> Session {
    let server = Server::new(&format!("http://{address}")).expect("an address");
    let tokens: rest::Session = serde_json::from_value(login(1)).expect("a session");
    Session::new(server, tokens, password)
}

pub(super) struct FakeSocket {
    stream: WebSocketStream<TcpStream>,
}

impl FakeSocket {
    pub(super) async fn hello(&mut self) -> Value {
        self.read().await
    }

    pub(super) async fn read(&mut self) -> Value {
        loop {
            let frame = tokio::time::timeout(DEADLINE, self.stream.next()).await.expect("a frame in time");
            match frame.expect("an open socket").expect("a frame") {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                Message::Close(_) => panic!("the client closed the socket"),
                _ => {}
            }
        }
    }

    pub(super) async fn is_closed(&mut self) -> bool {
        let frame = tokio::time::timeout(DEADLINE, self.stream.next()).await.expect("a frame in time");
        matches!(frame, None | Some(Ok(Message::Close(_)) | Err(_)))
    }

    pub(super) async fn write(&mut self, event: Value) {
        self.stream.send(Message::text(event.to_string())).await.expect("an open socket");
    }

    pub(super) async fn ready(&mut self, position: &str, resumed: bool) {
        self.write(json!({"type": "ready", "userId": ME, "deviceId": DEVICE, "resumeToken": "resume",
            "position": position, "heartbeatSeconds": 25, "resumed": resumed}))
            .await;
    }

    pub(super) async fn push(&mut self, seq: u64) {
        self.write(entry(seq)).await;
    }

    pub(super) async fn ack(&mut self, client_seq: u64, seq: u64) {
        self.write(json!({"type": "message_ack", "convoId": CONVO, "clientSeq": client_seq,
            "serverSeq": seq, "ts": "2026-01-01T00:00:00.000Z"}))
            .await;
    }

    pub(super) async fn close(&mut self, code: u16, reason: &'static str) {
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        self.stream.close(Some(frame)).await.expect("an open socket");
    }
}

pub(super) fn answer(status: u16, body: Value) -> Answer {
    Some((status, body))
}

pub(super) fn entry(seq: u64) -> Value {
    json!({"type": "message", "convoId": CONVO, "seq": seq, "senderId": OTHER, "clientSeq": seq,
        "ts": "2026-01-01T00:00:00.000Z", "kind": "text", "body": format!("s{seq}")})
}

/// A conversation with entries 1 to `head`, read as `?after=&limit=`.
pub(super) fn history(query: &str, head: u64) -> Answer {
    let number = |name: &str| {
        query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok())
    };
    let after = number("after").unwrap_or(0);
    let last = head.min(after + number("limit").unwrap_or(50));
    let items: Vec<Value> = (after + 1..=last).map(entry).collect();
    answer(200, json!({"items": items, "hasMore": last < head}))
}

pub(super) fn inbox(head: u64) -> Answer {
    answer(
        200,
        json!({"items": [{"id": CONVO, "type": "group", "about": "", "posting": "all", "history": "all",
            "createdAt": "2026-01-01T00:00:00.000Z", "updatedAt": "2026-01-01T00:00:00.000Z",
            "lastSeq": head, "visibleFromSeq": 1, "deliveredSeq": 0, "readSeq": 0, "unreadCount": head,
            "role": "member", "memberCount": 2, "muted": false, "pinned": false, "archived": false}]}),
    )
}

pub(super) fn user() -> Value {
    json!({"id": ME, "username": "ana", "displayName": "Ana", "about": "",
        "createdAt": "2026-01-01T00:00:00.000Z"})
}

pub(super) fn login(generation: u32) -> Value {
    json!({"user": user(), "accessToken": format!("access-{generation}"),
        "refreshToken": format!("refresh-{generation}"), "expiresAt": "2999-01-01T00:00:00.000Z",
        "deviceId": DEVICE})
}

pub(super) fn problem(status: u16, code: &str) -> Value {
    json!({"type": "about:blank", "title": "No", "status": status, "code": code, "detail": "no"})
}

async fn is_socket(stream: &TcpStream) -> bool {
    let mut head = [0; 64];
    let read = stream.peek(&mut head).await.unwrap_or(0);
    head[..read].starts_with(b"GET /api/ws ")
}

async fn rest_call(
    mut stream: TcpStream,
    script: &(dyn Fn(&str, &str, &str) -> Answer + Send + Sync),
    called: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    let head = loop {
        if let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            break String::from_utf8_lossy(&request[..end]).into_owned();
        }
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    };
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let body_bytes: usize = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while request.len() < head.len() + 4 + body_bytes {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let mut words = head.split_whitespace();
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    called.lock().expect("no panic").push(path.to_owned());
    let token = header("authorization").unwrap_or_default();
    let query = format!("{query}&token={}", token.trim_start_matches("Bearer "));
    let Some((status, body)) = script(method, path, &query) else { return Ok(()) };
    let body = body.to_string();
    let answer = format!(
        "HTTP/1.1 {status} Scripted\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}
