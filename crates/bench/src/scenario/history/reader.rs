//! One reader: a connection that asks for one page after the other, as quickly as it gets them.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use memchr::memmem;

use crate::service::Target;

/// How long a server may take for one answer.
const PATIENCE: Duration = Duration::from_secs(30);
const INPUT_BYTES: usize = 64 * 1024;
const HEAD_END: &[u8] = b"\r\n\r\n";

/// HTTP/1.1 on a connection that stays open.
pub(super) struct Reader {
    stream: TcpStream,
    input: Box<[u8]>,
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// All of it, its head included.
    pub(super) bytes: usize,
}

/// A `GET` of a path, as it is written.
pub(super) fn request(target: &Target, token: &str, path: &str) -> String {
    format!("GET /api{path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n\r\n", target.host)
}

impl Reader {
    /// # Errors
    /// Of the network.
    pub(super) fn dial(target: &Target) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&target.address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, input: vec![0; INPUT_BYTES].into() })
    }

    /// Asks, and reads the answer to its end.
    ///
    /// # Errors
    /// Of the network, or if the answer is none.
    pub(super) fn get(&mut self, request: &str) -> io::Result<Answer> {
        self.stream.write_all(request.as_bytes())?;
        let mut head = Vec::new();
        let (status, mut rest) = loop {
            let read = self.read()?;
            head.extend_from_slice(&self.input[..read]);
            if let Some((status, whole)) = whole(&head)? {
                break (status, whole.saturating_sub(head.len()));
            }
        };
        let bytes = head.len() + rest;
        while rest > 0 {
            rest = rest.saturating_sub(self.read()?);
        }
        Ok(Answer { status, bytes })
    }

    fn read(&mut self) -> io::Result<usize> {
        match self.stream.read(&mut self.input)? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server has hung up")),
            read => Ok(read),
        }
    }
}

/// The status of an answer and its length with its head, once that has come.
fn whole(answer: &[u8]) -> io::Result<Option<(u16, usize)>> {
    let Some(end) = memmem::find(answer, HEAD_END) else { return Ok(None) };
    let head = String::from_utf8_lossy(&answer[..end]);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    match (status, length) {
        (Some(status), Some(length)) => Ok(Some((status, end + HEAD_END.len() + length))),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("an answer without a length: {head}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_as_long_as_its_head_says() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: x\r\nContent-Length: 5\r\n\r\nhe";
        assert_eq!(whole(answer).unwrap(), Some((200, answer.len() + 3)));
        assert_eq!(whole(&answer[..30]).unwrap(), None);
        assert!(whole(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
