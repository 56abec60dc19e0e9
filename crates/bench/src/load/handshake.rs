//! From nothing to a socket that is logged in, one after the other: it happens before the load begins.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tertulia_websocket::{Decoder, Event, MESSAGE_BYTES_MAX, PROTOCOL_VERSION, accept_key, client};

use super::wire::KEY;

/// How long a server may take for each step of it.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer to an upgrade.
const ANSWER_BYTES_MAX: usize = 8 * 1024;

/// Connects and logs in; gives the socket, and the decoder with a part of a frame that has come after `ready`. `hear` is
/// told what has come whole, from `ready` on.
///
/// # Errors
/// Of the network; `InvalidData` with what the server has said instead.
pub(super) fn connect(
    address: SocketAddr,
    host: &str,
    token: &str,
    nonce: u64,
    mut hear: impl FnMut(&str) -> io::Result<()>,
) -> io::Result<(TcpStream, Decoder)> {
    let mut stream = upgrade(address, host, nonce)?;
    let mut wire = Vec::new();
    client::put_text(&mut wire, KEY, &format!(r#"{{"type":"connect","token":"{token}"}}"#));
    stream.write_all(&wire)?;
    let mut decoder = decoder();
    let mut scratch = [0; 4096];
    loop {
        let read = stream.read(&mut scratch)?;
        let mut input = &mut scratch[..read];
        if input.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut ready = false;
        while let Some(event) = decoder.next(&mut input).map_err(io::Error::other)? {
            match event {
                Event::Text(text) if ready || text.contains(r#""type":"ready""#) => {
                    ready = true;
                    hear(text)?;
                }
                Event::Ping(_) | Event::Pong(_) => {}
                other => return Err(unexpected(&format!("{other:?}"))),
            }
        }
        if ready {
            return Ok((stream, decoder));
        }
    }
}

/// Connects, up to where one logs in.
///
/// # Errors
/// As [`connect`].
pub(crate) fn upgrade(address: SocketAddr, host: &str, nonce: u64) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let key = client::handshake_key(u128::from(nonce).to_le_bytes());
    stream.write_all(upgrade_request(host, &key).as_bytes())?;
    let answer = read_answer(&mut stream)?;
    let accept = accept_key(&key).map_err(io::Error::other)?;
    if !answer.starts_with("HTTP/1.1 101 ") || !answer.contains(&accept) {
        return Err(unexpected(&answer));
    }
    Ok(stream)
}

/// The request of a socket, with this `Sec-WebSocket-Key`.
pub(crate) fn upgrade_request(host: &str, key: &str) -> String {
    format!(
        "GET /api/ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: {PROTOCOL_VERSION}\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    )
}

/// Reads what a server says.
pub(crate) fn decoder() -> Decoder {
    Decoder::for_client(MESSAGE_BYTES_MAX * 2)
}

/// The head of an HTTP answer. Nothing follows a 101 before we have logged in.
fn read_answer(stream: &mut TcpStream) -> io::Result<String> {
    let mut answer = Vec::new();
    let mut scratch = [0; 1024];
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read(&mut scratch)?;
        if read == 0 || answer.len() + read > ANSWER_BYTES_MAX {
            return Err(unexpected(&String::from_utf8_lossy(&answer)));
        }
        answer.extend_from_slice(&scratch[..read]);
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn unexpected(answer: &str) -> io::Error {
    let line = answer.lines().next().unwrap_or("nothing");
    io::Error::new(io::ErrorKind::InvalidData, format!("the server does not let us in: {line}"))
}
