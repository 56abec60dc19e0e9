//! The doors of the nodes, and who stands before them: new connections go to a node that says it is ready.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::chance::Chance;

/// How often a node is asked whether it is ready.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// How long it has for the answer.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// What a node that takes new clients answers.
const READY: &[u8] = b"HTTP/1.1 200";

#[derive(Debug)]
struct Door {
    address: SocketAddr,
    is_open: AtomicBool,
}

/// One door a node.
#[derive(Debug)]
pub(crate) struct Doors(Vec<Door>);

impl Doors {
    pub(crate) fn new(addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        let door = |address| Door { address, is_open: AtomicBool::new(true) };
        Self(addresses.into_iter().map(door).collect())
    }

    pub(crate) fn address(&self, node: usize) -> Option<SocketAddr> {
        self.0.get(node).map(|door| door.address)
    }

    pub(crate) fn is_open(&self, node: usize) -> bool {
        self.0.get(node).is_some_and(|door| door.is_open.load(Ordering::Relaxed))
    }

    /// In which order somebody tries them: those that are ready first.
    pub(crate) fn order(&self, chance: &mut Chance) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.0.len()).collect();
        chance.shuffle(&mut order);
        order.sort_by_key(|node| !self.is_open(*node));
        order
    }

    /// Connects to the first that is there.
    pub(crate) async fn enter(&self, order: &[usize]) -> Option<(usize, TcpStream)> {
        for node in order {
            let Some(address) = self.address(*node) else { continue };
            if let Ok(Ok(stream)) = tokio::time::timeout(ANSWER_MAX, TcpStream::connect(address)).await {
                return Some((*node, stream));
            }
        }
        None
    }

    /// Asks a node again and again, until it is dropped.
    pub(crate) async fn watch(self: Arc<Self>, node: usize) {
        let Some(door) = self.0.get(node) else { return };
        loop {
            let ready = tokio::time::timeout(ANSWER_MAX, is_ready(door.address)).await;
            door.is_open.store(matches!(ready, Ok(Ok(true))), Ordering::Relaxed);
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
}

async fn is_ready(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n").await?;
    let mut begin = [0; READY.len()];
    stream.read_exact(&mut begin).await?;
    Ok(begin == READY)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn whoever_finds_a_door_shut_goes_on_to_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let shut = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let doors = Doors::new([shut, open]);
        assert_eq!(doors.enter(&[0, 1]).await.map(|(node, _)| node), Some(1));
        assert!(Doors::new([shut]).enter(&[0]).await.is_none());
    }

    #[test]
    fn those_that_are_ready_are_tried_first() {
        let doors = Doors::new((1..=3).map(|port| SocketAddr::from(([127, 0, 0, 1], port))));
        doors.0[1].is_open.store(false, Ordering::Relaxed);
        for number in 0..20 {
            assert_eq!(doors.order(&mut Chance::stream(1, "door", number))[2], 1);
        }
    }
}
