//! A node in this process, and clients that speak to it over real sockets: `reqwest` for REST and
//! tokio-tungstenite as an independent WebSocket peer. Every answer is checked against the descriptions.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use jsonschema::Validator;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tertulia_protocol::describe;
use tertulia_server::Node;
use tertulia_server::clock::{Clock, ClockHand, Random};
use tertulia_server::config::Config;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;

/// Longer than anything here may take, on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A running node.
pub struct Server {
    pub address: SocketAddr,
    http: reqwest::Client,
    shutdown: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
    data: tempfile::TempDir,
}

impl Server {
    /// A node without limits on an empty folder.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// A node on an empty folder; `change` changes its configuration (limits are off before).
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_on(tempfile::tempdir().unwrap(), change).await
    }

    /// A node whose time stands still until the hand is moved.
    pub async fn start_with_hand(change: impl FnOnce(&mut Config)) -> (Self, ClockHand) {
        let (clock, hand) = Clock::manual();
        (Self::start_at(tempfile::tempdir().unwrap(), change, clock).await, hand)
    }

    /// A node on a folder that may have been used before.
    pub async fn start_on(data: tempfile::TempDir, change: impl FnOnce(&mut Config)) -> Self {
        Self::start_at(data, change, Clock::system()).await
    }

    /// A node with any clock.
    pub async fn start_at(data: tempfile::TempDir, change: impl FnOnce(&mut Config), clock: Clock) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = Config::new(data.path().to_owned(), address);
        config.limits = None;
        change(&mut config);
        let node = Node::open(config, clock, Random::system()).await.unwrap();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(node.serve(listener, shutdown.clone()));
        Self { address, http: http_client(), shutdown, serving, data }
    }

    /// Asks the node to drain, and goes on at once.
    pub fn begin_drain(&self) {
        self.shutdown.cancel();
    }

    /// Drains the node; its folder can be used again.
    pub async fn stop(self) -> tempfile::TempDir {
        self.shutdown.cancel();
        tokio::time::timeout(DEADLINE, self.serving).await.unwrap().unwrap().unwrap();
        self.data
    }

    /// A call whose answer is checked against the description; `path` begins with `/`.
    pub async fn call(&self, method: Method, path: &str, token: Option<&str>, body: Option<Value>) -> Answer {
        let mut request = self.http.request(method.clone(), format!("http://{}{path}", self.address));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = tokio::time::timeout(DEADLINE, request.send()).await.unwrap().unwrap();
        let status = response.status();
        let headers = response.headers().clone();
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        check_answer(&method, path, status, &body);
        Answer { status, headers, body, text }
    }

    /// Whether the node answers on a connection of its own, if that is not closed at once.
    pub async fn try_healthz(&self) -> Option<StatusCode> {
        let asked = http_client().get(format!("http://{}/healthz", self.address)).send();
        tokio::time::timeout(DEADLINE, asked).await.unwrap().ok().map(|answer| answer.status())
    }

    /// Registers a user; the name is made unique by the caller.
    pub async fn user(&self, name: &str) -> User {
        let body = json!({ "username": name, "password": "correct horse battery" });
        let answer = self.call(Method::POST, "/api/users", None, Some(body)).await.expect(201);
        User::of(&answer)
    }

    /// A figure of `/metrics`, without the prefix of its name.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.call(Method::GET, "/metrics", None, None).await.expect(200).text;
        let line = format!("tertulia_{name} ");
        text.lines().find_map(|known| known.strip_prefix(&line)).expect("no such figure").parse().unwrap()
    }

    /// Waits until a figure of `/metrics` is as wanted.
    pub async fn until_metric(&self, name: &str, is_reached: impl Fn(f64) -> bool) {
        let reached = async {
            while !is_reached(self.metric(name).await) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(DEADLINE, reached).await.expect(name);
    }

    /// Opens a socket, and says nothing yet.
    pub async fn socket(&self) -> Socket {
        let url = format!("ws://{}/api/ws", self.address);
        let (stream, _) =
            tokio::time::timeout(DEADLINE, tokio_tungstenite::connect_async(url)).await.unwrap().unwrap();
        Socket { stream }
    }

    /// Opens a socket over a TCP stream that the caller has connected, and says nothing yet.
    pub async fn socket_over(&self, stream: TcpStream) -> Socket {
        let (url, stream) = (format!("ws://{}/api/ws", self.address), MaybeTlsStream::Plain(stream));
        let opening = tokio_tungstenite::client_async(url, stream);
        let (stream, _) = tokio::time::timeout(DEADLINE, opening).await.unwrap().unwrap();
        Socket { stream }
    }

    /// Logs a user of [`user`](Self::user) in on another device.
    pub async fn another_device(&self, name: &str) -> User {
        let body = json!({ "username": name, "password": "correct horse battery" });
        User::of(&self.call(Method::POST, "/api/sessions", None, Some(body)).await.expect(201))
    }

    /// A ready socket of a user, and what `ready` said.
    pub async fn connect(&self, user: &User) -> (Socket, Value) {
        let mut socket = self.socket().await;
        socket.say(json!({ "type": "connect", "token": user.token })).await;
        let ready = socket.event("ready").await;
        (socket, ready)
    }

    /// A resumed socket, and what `ready` said.
    pub async fn resume(&self, resume_token: &Value, position: &Value) -> (Socket, Value) {
        let mut socket = self.socket().await;
        socket.say(json!({ "type": "resume", "resumeToken": resume_token, "position": position })).await;
        let ready = socket.event("ready").await;
        (socket, ready)
    }

    /// A group that `owner` creates; its id.
    pub async fn group(&self, owner: &User, members: &[&User]) -> String {
        let ids: Vec<&str> = members.iter().map(|member| member.id.as_str()).collect();
        let body = json!({ "type": "group", "title": "Tertulia", "members": ids });
        let answer = owner.post(self, "/api/conversations", body).await.expect(201);
        answer.body["conversation"]["id"].as_str().unwrap().to_owned()
    }
}

/// In a build of the whole workspace `reqwest` has TLS, of which it wants to know whose; nothing here uses it.
fn http_client() -> reqwest::Client {
    static PROVIDER: std::sync::Once = std::sync::Once::new();
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    // A connection on which nobody has called for ten seconds is closed, perhaps under the next call.
    reqwest::Client::builder().pool_idle_timeout(Duration::from_secs(2)).build().unwrap()
}

/// What a call gave.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    /// `null` if it was no JSON.
    pub body: Value,
    pub text: String,
}

impl Answer {
    /// This answer, if it has the status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self
    }

    /// This answer, if it is the problem.
    #[track_caller]
    pub fn expect_problem(self, status: u16, code: &str) -> Self {
        assert_eq!((self.status.as_u16(), &self.body["code"]), (status, &json!(code)), "{}", self.text);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        self
    }
}

/// A registered user with one session.
#[derive(Debug, Clone)]
pub struct User {
    pub id: String,
    pub device: String,
    pub token: String,
    pub refresh_token: String,
}

impl User {
    /// Out of the answer to a registration, login or refresh.
    pub fn of(answer: &Answer) -> Self {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Self {
            id: text(&answer.body["user"]["id"]),
            device: text(&answer.body["deviceId"]),
            token: text(&answer.body["accessToken"]),
            refresh_token: text(&answer.body["refreshToken"]),
        }
    }

    pub async fn get(&self, server: &Server, path: &str) -> Answer {
        server.call(Method::GET, path, Some(&self.token), None).await
    }

    pub async fn delete(&self, server: &Server, path: &str) -> Answer {
        server.call(Method::DELETE, path, Some(&self.token), None).await
    }

    pub async fn post(&self, server: &Server, path: &str, body: Value) -> Answer {
        server.call(Method::POST, path, Some(&self.token), Some(body)).await
    }

    pub async fn patch(&self, server: &Server, path: &str, body: Value) -> Answer {
        server.call(Method::PATCH, path, Some(&self.token), Some(body)).await
    }

    pub async fn put(&self, server: &Server, path: &str, body: Option<Value>) -> Answer {
        server.call(Method::PUT, path, Some(&self.token), body).await
    }

    /// Sends over REST; the message.
    pub async fn send(&self, server: &Server, convo: &str, client_seq: u64, body: &str) -> Value {
        let path = format!("/api/conversations/{convo}/messages");
        let answer =
            self.post(server, &path, json!({ "clientSeq": client_seq, "body": body })).await.expect(201);
        answer.body["message"].clone()
    }
}

/// A socket.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Socket {
    /// Sends an event.
    pub async fn say(&mut self, event: Value) {
        self.raw(Message::text(event.to_string())).await;
    }

    /// Sends an event to a server that may be gone; whether it still took it.
    pub async fn try_say(&mut self, event: Value) -> bool {
        self.try_raw(Message::text(event.to_string())).await
    }

    /// Sends a frame as it is to a server that may be gone; whether it still took it.
    pub async fn try_raw(&mut self, message: Message) -> bool {
        self.stream.send(message).await.is_ok()
    }

    /// Sends a frame as it is.
    pub async fn raw(&mut self, message: Message) {
        self.stream.send(message).await.unwrap();
    }

    /// The next event, checked against the description.
    pub async fn next(&mut self) -> Value {
        loop {
            match self.frame().await {
                Message::Text(text) => {
                    let event: Value = serde_json::from_str(&text).unwrap();
                    check_event(&event);
                    return event;
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("expected an event, got {other:?}"),
            }
        }
    }

    /// The next event, which is of this type.
    pub async fn event(&mut self, kind: &str) -> Value {
        let event = self.next().await;
        assert_eq!(event["type"], kind, "{event}");
        event
    }

    /// The next event of this type; others that come before are passed over.
    pub async fn wait_for(&mut self, kind: &str) -> Value {
        loop {
            let event = self.next().await;
            if event["type"] == kind {
                return event;
            }
        }
    }

    /// Closes it as a client does who leaves, and waits for the answer: its code.
    pub async fn close(mut self, code: u16) -> u16 {
        let frame = CloseFrame { code: code.into(), reason: "".into() };
        self.stream.close(Some(frame)).await.unwrap();
        self.closed().await.0
    }

    /// The next frame as it is; pings are answered by tungstenite.
    pub async fn frame(&mut self) -> Message {
        let next = tokio::time::timeout(DEADLINE, self.stream.next()).await;
        next.expect("nothing came in time").expect("the socket ended").expect("the socket broke")
    }

    /// The code and reason with which the server closes; events that come before are passed over.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            if let Message::Close(close) = self.frame().await {
                let close = close.expect("a close has a code");
                return (close.code.into(), close.reason.to_string());
            }
        }
    }

    /// Everything that has come by now: says `ping`, and takes what comes before its `pong`.
    pub async fn so_far(&mut self) -> Vec<Value> {
        self.say(json!({ "type": "ping" })).await;
        let mut events = Vec::new();
        loop {
            let event = self.next().await;
            if event["type"] == "pong" {
                return events;
            }
            events.push(event);
        }
    }
}

#[track_caller]
fn check_answer(method: &Method, path: &str, status: StatusCode, body: &Value) {
    let path = path.split('?').next().unwrap_or(path);
    let Some(schema) = describe::schema_for_answer(method.as_str(), path, status.as_u16()) else { return };
    let errors: Vec<String> = validator(&schema).iter_errors(body).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{method} {path} {status} is not as described: {errors:?}\n{body:#}");
}

#[track_caller]
fn check_event(event: &Value) {
    let kind = event["type"].as_str().expect("an event has a type");
    let schema = describe::schema_for_event(kind).unwrap_or_else(|| panic!("{kind} is not described"));
    let errors: Vec<String> = validator(&schema).iter_errors(event).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{kind} is not as described: {errors:?}\n{event:#}");
}

/// Made once for each schema: that takes longer than a call. What a schema refers to is the same for all.
fn validator(schema: &Value) -> Arc<Validator> {
    static KNOWN: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap();
    let make = || Arc::new(jsonschema::validator_for(schema).unwrap());
    Arc::clone(known.entry(schema["allOf"].to_string()).or_insert_with(make))
}

impl Server {
    /// A call with any headers and any bytes; its answer is checked against the description.
    pub async fn call_raw(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let mut request = self.http.request(method.clone(), format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = tokio::time::timeout(DEADLINE, request.body(body).send()).await.unwrap().unwrap();
        let status = response.status();
        let headers = response.headers().clone();
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        check_answer(&method, path, status, &body);
        Answer { status, headers, body, text }
    }
}
