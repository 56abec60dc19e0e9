//! As much of HTTP/1.1 as a set-up needs: requests with a length, answers that keep the connection.

use tertulia_protocol::Code;
use tertulia_protocol::problem::Problem;
use tertulia_websocket::{UpgradeHeaders, check_request};

/// The longest request, head and body; a list of a thousand members is 39 KB.
pub(super) const REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// A request, and how much of the input it was.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    /// What stands after `Bearer`.
    pub(super) token: Option<&'a str>,
    pub(super) upgrade: UpgradeHeaders<'a>,
    pub(super) body: &'a [u8],
    pub(super) len: usize,
}

/// What is no request, or one that is too long: the connection ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The first request in `input`, if all of it has come.
///
/// # Errors
/// If it is none.
pub(super) fn request(input: &[u8]) -> Result<Option<Request<'_>>, Malformed> {
    let Some(head_len) = memchr::memmem::find(input, b"\r\n\r\n") else {
        return if input.len() > REQUEST_BYTES_MAX { Err(Malformed) } else { Ok(None) };
    };
    let head = str::from_utf8(&input[..head_len]).map_err(|_| Malformed)?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(path), Some("HTTP/1.1")) = (words.next(), words.next(), words.next()) else {
        return Err(Malformed);
    };
    let (mut token, mut body_len, mut upgrade) = (None, 0, UpgradeHeaders::default());
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(Malformed)?;
        let (name, value) = (name.to_ascii_lowercase(), value.trim_ascii());
        match name.as_str() {
            "authorization" => token = value.strip_prefix("Bearer "),
            "content-length" => body_len = value.parse().map_err(|_| Malformed)?,
            "transfer-encoding" => return Err(Malformed),
            "upgrade" => upgrade.upgrade = Some(value),
            "connection" => upgrade.connection = Some(value),
            "sec-websocket-version" => upgrade.version = Some(value),
            "sec-websocket-key" => upgrade.key = Some(value),
            _ => {}
        }
    }
    if body_len > REQUEST_BYTES_MAX {
        return Err(Malformed);
    }
    let body = head_len + 4;
    let Some(rest) = input.get(body..body + body_len) else { return Ok(None) };
    Ok(Some(Request { method, path, token, upgrade, body: rest, len: body + body_len }))
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    status: u16,
    content_type: &'static str,
    body: String,
}

impl Answer {
    /// A JSON document.
    pub(super) fn json(status: u16, value: &impl serde::Serialize) -> Self {
        // Our own types have string keys and no failing `Serialize`.
        let body = serde_json::to_string(value).unwrap_or_default();
        Self { status, content_type: "application/json", body }
    }

    /// A text that is no JSON.
    pub(super) fn text(body: impl Into<String>) -> Self {
        Self { status: 200, content_type: "text/plain; charset=utf-8", body: body.into() }
    }

    /// A refusal.
    pub(super) fn problem(code: Code, detail: &str) -> Self {
        let body = serde_json::to_string(&Problem::new(code, detail)).unwrap_or_default();
        Self { status: code.status(), content_type: "application/problem+json", body }
    }

    /// Appends it to what is to be written.
    pub(super) fn put(&self, wire: &mut Vec<u8>) {
        let Self { status, content_type, body } = self;
        let head = format!(
            "HTTP/1.1 {status} -\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        wire.extend_from_slice(head.as_bytes());
        wire.extend_from_slice(body.as_bytes());
    }
}

/// The answer to a request for a WebSocket, if it is one that we can speak.
pub(super) fn upgrade(headers: &UpgradeHeaders<'_>) -> Result<String, Answer> {
    let accept =
        check_request(headers).map_err(|error| Answer::problem(Code::Invalid, &error.to_string()))?;
    Ok(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ))
}
