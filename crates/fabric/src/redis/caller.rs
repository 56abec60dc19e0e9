//! Commands to one server, and their answers: one connection, all that is asked pipelined, in order.
//!
//! A connection that breaks is made anew, with growing waits. What was under way then fails: nobody knows whether the
//! server did it. So does, at once, what is asked while it waits to try again; a call ends in bounded time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use super::target::{Address, Target};
use super::wire::{Incoming, Life, Outgoing, SILENCE_MAX, WireError, dial};
use super::{Command, Reply, Value};
use crate::backoff::{SERVER, STEADY, roll};

/// How long a call may take, connecting included.
const CALL_MAX: Duration = Duration::from_secs(2);
/// How many calls wait to be written; whoever comes then waits with his own.
const WAITING_MAX: usize = 256;
/// How many calls may be under way.
const UNDER_WAY_MAX: usize = 1_024;
/// What is written at once at most, unless one call is longer.
const WRITE_MAX: usize = 256 * 1024;

/// A call that has no answer. The server may have done what was asked, or not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// The connection is broken.
    #[error("{0}")]
    Broken(String),
    /// We are going down.
    #[error("the connection was closed")]
    Closed,
}

/// The way to one server.
#[derive(Clone)]
pub(crate) struct Caller {
    calls: mpsc::Sender<Call>,
}

struct Call {
    commands: Command,
    /// How many commands those are.
    count: usize,
    /// Who waits; nobody for a ping of ours.
    answer: Option<oneshot::Sender<Result<Vec<Reply>, CallError>>>,
}

impl Call {
    fn ping() -> Self {
        Self { commands: Command::new("PING", 1), count: 1, answer: None }
    }

    /// Whether who asked has not given up.
    fn is_wanted(&self) -> bool {
        self.answer.as_ref().is_none_or(|answer| !answer.is_closed())
    }

    fn answer(self, answer: Result<Vec<Reply>, CallError>) {
        if let Some(sender) = self.answer {
            // Whoever asked may have gone.
            drop(sender.send(answer));
        }
    }
}

/// A call that was written.
struct UnderWay {
    call: Call,
    replies: Vec<Reply>,
}

impl Caller {
    /// The way to a server, and what has to run for it. `connections` counts how often one was made.
    pub(crate) fn new(
        target: Target,
        address: Address,
        connections: Arc<AtomicU64>,
    ) -> (Self, impl Future<Output = ()>) {
        let (calls, receiver) = mpsc::channel(WAITING_MAX);
        let end = CallerEnd { target, address, calls: receiver, connections };
        (Self { calls }, end.run())
    }

    /// Asks `count` commands, and waits for all answers.
    pub(crate) async fn call(&self, commands: Command, count: usize) -> Result<Vec<Reply>, CallError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let (answer, answered) = oneshot::channel();
        let call = async {
            self.calls
                .send(Call { commands, count, answer: Some(answer) })
                .await
                .map_err(|_| CallError::Closed)?;
            answered.await.map_err(|_| CallError::Closed)?
        };
        let in_time = tokio::time::timeout(CALL_MAX, call).await;
        in_time.unwrap_or_else(|_| Err(CallError::Broken("the server did not answer in time".into())))
    }
}

struct CallerEnd {
    target: Target,
    address: Address,
    calls: mpsc::Receiver<Call>,
    connections: Arc<AtomicU64>,
}

impl CallerEnd {
    async fn run(mut self) {
        let mut failures: u32 = 0;
        loop {
            let begun = Instant::now();
            let error = match dial(&self.target, &self.address).await {
                Ok((incoming, outgoing)) => {
                    self.connections.fetch_add(1, Ordering::AcqRel);
                    tracing::debug!(server = %self.address, "connected");
                    match self.serve(incoming, outgoing).await {
                        Some(error) => error,
                        None => return,
                    }
                }
                Err(error) => error,
            };
            failures = if begun.elapsed() >= STEADY { 1 } else { failures.saturating_add(1) };
            if failures == 1 {
                tracing::warn!(server = %self.address, %error, "the connection to Redis is broken");
            } else {
                tracing::debug!(server = %self.address, %error, failures, "the connection to Redis is still broken");
            }
            let wait = tokio::time::sleep(SERVER.wait(failures, roll()));
            tokio::pin!(wait);
            loop {
                tokio::select! {
                    () = &mut wait => break,
                    call = self.calls.recv() => match call {
                        Some(call) => call.answer(Err(broken(&error))),
                        None => return,
                    },
                }
            }
        }
    }

    /// Serves calls by a connection until it breaks; `None` if nobody can call any more.
    async fn serve(&mut self, incoming: Incoming, outgoing: Outgoing) -> Option<WireError> {
        let session = Session {
            under_way: Mutex::default(),
            answered: Notify::new(),
            ping: Notify::new(),
            life: Life::new(),
        };
        let error = tokio::select! {
            error = session.read(incoming) => Some(error),
            error = session.write(outgoing, &mut self.calls) => error,
            () = session.life.watch(|| session.ping.notify_one()) => Some(WireError::Silent),
        };
        let failure = error.as_ref().map_or(CallError::Closed, broken);
        for under_way in session.lock().drain(..) {
            under_way.call.answer(Err(failure.clone()));
        }
        error
    }
}

fn broken(error: &WireError) -> CallError {
    CallError::Broken(error.to_string())
}

struct Session {
    under_way: Mutex<VecDeque<UnderWay>>,
    answered: Notify,
    ping: Notify,
    life: Life,
}

impl Session {
    fn lock(&self) -> MutexGuard<'_, VecDeque<UnderWay>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self, mut incoming: Incoming) -> WireError {
        loop {
            loop {
                match incoming.next() {
                    Ok(Some(Value::Push(_))) => {}
                    Ok(Some(value)) => {
                        if let Err(error) = self.answer(&value) {
                            return error;
                        }
                    }
                    Ok(None) => break,
                    Err(error) => return error.into(),
                }
            }
            if let Err(error) = incoming.fill().await {
                return error;
            }
            self.life.sign();
        }
    }

    fn answer(&self, value: &Value<'_>) -> Result<(), WireError> {
        let mut queue = self.lock();
        let under_way = queue.front_mut().ok_or(WireError::Unexpected)?;
        under_way.replies.push(value.to_reply());
        if under_way.replies.len() < under_way.call.count {
            return Ok(());
        }
        let done = queue.pop_front();
        if queue.is_empty() {
            self.life.answered();
        }
        drop(queue);
        self.answered.notify_one();
        if let Some(UnderWay { call, replies }) = done {
            call.answer(Ok(replies));
        }
        Ok(())
    }

    /// Writes what is asked; ends with `None` when nobody can ask any more and all is answered.
    async fn write(&self, mut outgoing: Outgoing, calls: &mut mpsc::Receiver<Call>) -> Option<WireError> {
        let mut buffer = Command::default();
        loop {
            while self.lock().len() >= UNDER_WAY_MAX {
                self.answered.notified().await;
            }
            let mut next = tokio::select! {
                call = calls.recv() => match call {
                    Some(call) => Some(call),
                    None => return self.finish().await,
                },
                () = self.ping.notified() => Some(Call::ping()),
            };
            buffer.clear();
            while let Some(call) = next {
                // Who has given up before his commands were written does not want them any more.
                if call.is_wanted() {
                    buffer.append(&call.commands);
                    let mut queue = self.lock();
                    queue.push_back(UnderWay { replies: Vec::with_capacity(call.count), call });
                    self.life.asked();
                }
                let has_room = buffer.len() < WRITE_MAX && self.lock().len() < UNDER_WAY_MAX;
                next = if has_room { calls.try_recv().ok() } else { None };
            }
            if buffer.len() == 0 {
                continue;
            }
            if let Err(error) = outgoing.write(buffer.as_bytes()).await {
                return Some(error);
            }
        }
    }

    async fn finish(&self) -> Option<WireError> {
        let answered = async {
            while !self.lock().is_empty() {
                self.answered.notified().await;
            }
        };
        tokio::time::timeout(SILENCE_MAX, answered).await.err().map(|_| WireError::Silent)
    }
}
