//! A network that cuts connections: whatever goes through it is forwarded byte by byte, until it is not.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::chance::Chance;
use crate::cluster::doors::Doors;

/// How long a connection that is to be cut after some bytes waits for them.
const PATIENCE: Duration = Duration::from_millis(100);

/// What stands at the beginning of a request for a socket.
const SOCKET: &[u8] = b"GET /api/ws";

/// How long a connection goes on after one side has said goodbye.
const FAREWELL_MAX: Duration = Duration::from_secs(5);

type Cuts = Arc<Mutex<HashMap<u64, watch::Sender<Option<usize>>>>>;

/// Where connections go.
#[derive(Debug)]
pub(crate) enum Target {
    One(SocketAddr),
    /// To whichever node takes it, as chance has it.
    Any(Arc<Doors>, Chance),
}

/// Forwards to one address, or to one of several, from another.
#[derive(Debug)]
pub(crate) struct Cutter {
    pub(crate) address: SocketAddr,
    cuts: Cuts,
    socket_at: Arc<AtomicUsize>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Cutter {
    pub(crate) async fn new(target: Target) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (cuts, socket_at) = (Cuts::default(), Arc::<AtomicUsize>::default());
        let accepting = tokio::spawn(accept(listener, target, Arc::clone(&cuts), Arc::clone(&socket_at)));
        Ok(Self { address, cuts, socket_at, accepting })
    }

    /// The number of the node to which the newest socket has gone.
    pub(crate) fn socket_at(&self) -> usize {
        self.socket_at.load(Ordering::SeqCst)
    }

    /// Cuts so many of 100 connections, each after a few more bytes: in the middle of a frame, if one is under way.
    pub(crate) fn cut(&self, percent: u64, chance: &mut Chance) -> usize {
        let cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cut = 0;
        for connection in cuts.values() {
            if chance.percent(percent) {
                connection.send_replace(Some(chance.below(400)));
                cut += 1;
            }
        }
        cut
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, mut target: Target, cuts: Cuts, socket_at: Arc<AtomicUsize>) {
    let mut number = 0_u64;
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        number += 1;
        let (cut, told) = watch::channel(None);
        cuts.lock().unwrap_or_else(PoisonError::into_inner).insert(number, cut);
        let (cuts, socket_at) = (Arc::clone(&cuts), Arc::clone(&socket_at));
        let way = match &mut target {
            Target::One(address) => Way::One(*address),
            Target::Any(doors, chance) => Way::Any(Arc::clone(doors), doors.order(chance)),
        };
        tokio::spawn(async move {
            // A server that is not there closes the connection, too.
            if let Some((node, server)) = way.connect().await {
                let mut begin = [0; SOCKET.len()];
                if matches!(way, Way::Any(..)) && client.peek(&mut begin).await.is_ok() && begin == SOCKET {
                    // Before the node has heard of it, and so before anybody can say that he is connected.
                    socket_at.store(node, Ordering::SeqCst);
                }
                forward(client, server, told).await;
            }
            cuts.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        });
    }
}

/// Where a connection goes.
enum Way {
    One(SocketAddr),
    Any(Arc<Doors>, Vec<usize>),
}

impl Way {
    async fn connect(&self) -> Option<(usize, TcpStream)> {
        match self {
            Self::One(address) => Some((0, TcpStream::connect(address).await.ok()?)),
            Self::Any(doors, order) => doors.enter(order).await,
        }
    }
}

async fn forward(mut client: TcpStream, mut server: TcpStream, mut told: watch::Receiver<Option<usize>>) {
    let (mut up, mut down) = (vec![0; 16 * 1_024], vec![0; 16 * 1_024]);
    let mut left: Option<usize> = None;
    // When either says goodbye the other is told, and may still say his last.
    let (mut client_speaks, mut server_speaks, mut farewell) = (true, true, None);
    for stream in [&client, &server] {
        // Without it only the speed differs.
        drop(stream.set_nodelay(true));
    }
    let over = loop {
        let (from_client, read) = tokio::select! {
            read = client.read(&mut up), if client_speaks => (true, read),
            read = server.read(&mut down), if server_speaks => (false, read),
            () = cut(&mut told), if left.is_none() => {
                left = *told.borrow();
                continue;
            }
            () = tokio::time::sleep(PATIENCE), if left.is_some() => break true,
            () = until(farewell) => break true,
        };
        let Ok(read) = read else { break true };
        let (buffer, to) = if from_client { (&up, &mut server) } else { (&down, &mut client) };
        if read == 0 {
            if from_client {
                client_speaks = false;
            } else {
                server_speaks = false;
            }
            if !client_speaks && !server_speaks {
                break false;
            }
            farewell.get_or_insert(Instant::now() + FAREWELL_MAX);
            if to.shutdown().await.is_err() {
                break true;
            }
            continue;
        }
        let passed = left.map_or(read, |left| left.min(read));
        if to.write_all(&buffer[..passed]).await.is_err() {
            break true;
        }
        if let Some(left) = &mut left {
            *left -= passed;
            if *left == 0 {
                break true;
            }
        }
    };
    if over {
        for stream in [&client, &server] {
            // A reset instead of a goodbye; where that fails it is a goodbye.
            drop(socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)));
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

async fn cut(told: &mut watch::Receiver<Option<usize>>) {
    if told.wait_for(Option::is_some).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pair() -> (Cutter, TcpStream, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let cutter = Cutter::new(Target::One(listener.local_addr().unwrap())).await.unwrap();
        let client = TcpStream::connect(cutter.address).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        (cutter, client, server)
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_and_a_goodbye_too() {
        let (_cutter, mut client, mut server) = pair().await;
        client.write_all(b"hola").await.unwrap();
        let mut four = [0; 4];
        server.read_exact(&mut four).await.unwrap();
        server.write_all(&four).await.unwrap();
        client.read_exact(&mut four).await.unwrap();
        assert_eq!(&four, b"hola");
        drop(server);
        assert_eq!(client.read(&mut four).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn who_is_told_goodbye_may_still_say_his_last() {
        let (_cutter, mut client, mut server) = pair().await;
        server.write_all(b"that is all").await.unwrap();
        server.shutdown().await.unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"that is all");
        client.write_all(b"good").await.unwrap();
        client.shutdown().await.unwrap();
        all.clear();
        server.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"good");
    }

    #[tokio::test]
    async fn a_cut_ends_a_connection_within_what_was_still_to_pass() {
        let (cutter, mut client, mut server) = pair().await;
        client.write_all(b"x").await.unwrap();
        server.read_exact(&mut [0]).await.unwrap();
        assert_eq!(cutter.cut(100, &mut Chance::stream(1, "cut", 0)), 1);
        // However much is sent, the other end sees at most 400 more bytes and then the end of it.
        drop(client.write_all(&[1; 4_000]).await);
        let mut seen = Vec::new();
        drop(server.read_to_end(&mut seen).await);
        assert!(seen.len() <= 400, "{}", seen.len());
    }
}
