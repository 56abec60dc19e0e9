//! A way to a server on which things go wrong when a test says so.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;

/// How often one looks whether somebody connects, or the proxy has ended.
const TICK: Duration = Duration::from_millis(5);

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// What the server says is thrown away; it hears everything.
    AnswersLost,
    /// Nothing goes through either way, and nothing is thrown away.
    Stalled,
    /// Whoever connects is sent away.
    Refused,
}

/// A way to a server; it ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Told when the state changes.
    changed: Condvar,
    ended: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    fault: Fault,
    /// Both ends of all connections.
    sockets: Vec<TcpStream>,
    /// How many bytes the server has said that were thrown away.
    lost: u64,
}

impl Proxy {
    /// Opens a way to `server`.
    ///
    /// # Errors
    /// There is no free port.
    pub fn to(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, crate::ports::free()?))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::<Shared>::default();
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || accepting.accept(&listener, server));
        Ok(Self { address, shared })
    }

    /// Where it is reached instead of the server.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on this goes wrong.
    pub fn set(&self, fault: Fault) {
        self.shared.lock().fault = fault;
        self.shared.changed.notify_all();
    }

    /// Breaks all connections. New ones are taken.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Waits until the server has answered something that was [lost](Fault::AnswersLost).
    ///
    /// # Panics
    /// It did not, for a minute.
    pub fn wait_for_lost(&self) {
        let state = self.shared.lock();
        let waited =
            self.shared.changed.wait_timeout_while(state, Duration::from_secs(60), |state| state.lost == 0);
        let (mut state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "the server has not answered");
        state.lost = 0;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.shared.cut();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut(&self) {
        for socket in self.lock().sockets.drain(..) {
            // It may be broken already.
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.changed.notify_all();
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener, server: SocketAddr) {
        while !self.ended.load(Ordering::Relaxed) {
            match listener.accept() {
                // Whoever cannot be served sees his connection end.
                Ok((client, _)) => drop(self.serve(client, server)),
                Err(_) => std::thread::sleep(TICK),
            }
        }
    }

    fn serve(self: &Arc<Self>, client: TcpStream, server: SocketAddr) -> std::io::Result<()> {
        if self.lock().fault == Fault::Refused {
            return client.shutdown(Shutdown::Both);
        }
        client.set_nonblocking(false)?;
        let server = TcpStream::connect(server)?;
        for socket in [&client, &server] {
            socket.set_nodelay(true)?;
        }
        let mut state = self.lock();
        // Those that have ended are of no use any more.
        state.sockets.retain(|socket| socket.peer_addr().is_ok());
        state.sockets.extend([client.try_clone()?, server.try_clone()?]);
        drop(state);
        for (from, to, is_answer) in
            [(client.try_clone()?, server.try_clone()?, false), (server, client, true)]
        {
            let shared = Arc::clone(self);
            std::thread::spawn(move || shared.carry(from, to, is_answer));
        }
        Ok(())
    }

    /// Carries bytes one way until either end is closed.
    fn carry(&self, mut from: TcpStream, mut to: TcpStream, is_answer: bool) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let (Ok(read) | Err(read)) = from.read(&mut buffer).map_err(|_| 0);
            if read == 0 || (self.pass(read, is_answer) && to.write_all(&buffer[..read]).is_err()) {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }

    /// Waits while nothing goes through; says whether these bytes do.
    fn pass(&self, bytes: usize, is_answer: bool) -> bool {
        let is_stalled =
            |state: &mut State| state.fault == Fault::Stalled && !self.ended.load(Ordering::Relaxed);
        let waited = self.changed.wait_while(self.lock(), is_stalled);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        let is_lost = is_answer && state.fault == Fault::AnswersLost;
        if is_lost {
            state.lost += bytes as u64;
            self.changed.notify_all();
        }
        !is_lost
    }
}
