//! What all actors and the one who does the harm share: counts, findings, who is connected, and what time it is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::echoes::Echoes;

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Everybody does as he likes, and the server suffers.
    Load,
    /// Nothing new is sent; everybody brings what he has begun to its end.
    Settle,
    /// Nobody sends or changes anything; everybody reads everything.
    Read,
    /// Whoever has not finished by now never will.
    Over,
}

/// A life of a server, in the place of a seat that is connected to it: the server's number in the upper half, how
/// often it has been started in the lower.
pub(crate) type Life = u64;

/// Nobody waits for this one: it is away because it wants to be.
const AWAY: u64 = u64::MAX;
/// It wants a connection and has none.
const WANTING: u64 = u64::MAX - 1;

/// Shared by everybody.
#[derive(Debug)]
pub(crate) struct Board {
    counts: Mutex<BTreeMap<&'static str, u64>>,
    findings: Mutex<Vec<String>>,
    /// What did not go well and may be so; the newest.
    complaints: Mutex<VecDeque<String>>,
    acks: watch::Sender<u64>,
    unavailable: watch::Sender<u64>,
    /// Of each server.
    lives: Vec<AtomicU64>,
    seats: Vec<AtomicU64>,
    /// Who will not send or change anything any more.
    quiet: watch::Sender<BTreeSet<usize>>,
    moves: watch::Sender<u64>,
    phase: watch::Sender<Phase>,
    /// Which node has heard what of which other.
    pub(crate) echoes: Echoes,
}

const fn life_of(server: usize, number: u64) -> Life {
    ((server as u64) << 32) | number
}

/// More findings than this say nothing new.
const FINDINGS_MAX: usize = 50;
/// So many complaints are kept, for those who ask.
const COMPLAINTS_MAX: usize = 10;

impl Board {
    pub(crate) fn new(seats: usize, servers: usize) -> Self {
        Self {
            counts: Mutex::default(),
            findings: Mutex::default(),
            complaints: Mutex::default(),
            acks: watch::Sender::new(0),
            unavailable: watch::Sender::new(0),
            lives: (0..servers).map(|server| AtomicU64::new(life_of(server, 1))).collect(),
            seats: (0..seats).map(|_| AtomicU64::new(AWAY)).collect(),
            quiet: watch::Sender::default(),
            moves: watch::Sender::new(0),
            phase: watch::Sender::new(Phase::Load),
            echoes: Echoes::new(servers),
        }
    }

    /// Counts something that was done.
    pub(crate) fn count(&self, what: &'static str) {
        self.count_many(what, 1);
    }

    pub(crate) fn count_many(&self, what: &'static str, how_many: u64) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += how_many;
    }

    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Something that must not be, seen on the spot.
    pub(crate) fn find(&self, what: String) {
        let mut findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        if findings.len() < FINDINGS_MAX {
            findings.push(what);
        }
    }

    pub(crate) fn findings(&self) -> Vec<String> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Something that may be while something is done to the server, with how it was told.
    pub(crate) fn complain(&self, what: &'static str, how: impl std::fmt::Display) {
        self.count(what);
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if complaints.len() >= COMPLAINTS_MAX {
            complaints.pop_front();
        }
        complaints.push_back(format!("{what}: {how}"));
    }

    /// The newest complaints; they are forgotten by that.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.complaints.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    /// A message was acked.
    pub(crate) fn acked(&self) {
        self.acks.send_modify(|acks| *acks += 1);
    }

    pub(crate) fn acks(&self) -> watch::Receiver<u64> {
        self.acks.subscribe()
    }

    /// A send was refused with `unavailable`.
    pub(crate) fn unavailable(&self) {
        self.unavailable.send_modify(|refused| *refused += 1);
    }

    pub(crate) fn refusals(&self) -> watch::Receiver<u64> {
        self.unavailable.subscribe()
    }

    /// A new server in the place of this one: whoever is connected is so to an earlier one.
    pub(crate) fn new_life(&self, server: usize) {
        if let Some(life) = self.lives.get(server) {
            life.fetch_add(1, Ordering::SeqCst);
            self.moves.send_modify(|moves| *moves += 1);
        }
    }

    /// The present life of a server.
    pub(crate) fn life(&self, server: usize) -> Life {
        self.lives.get(server).map_or(WANTING, |life| life.load(Ordering::SeqCst))
    }

    /// A connection to a server in this life of it stands.
    pub(crate) fn connected(&self, seat: usize, life: Life) {
        self.sit(seat, life);
    }

    /// It wants one.
    pub(crate) fn wanting(&self, seat: usize) {
        self.sit(seat, WANTING);
    }

    /// It wants none.
    pub(crate) fn away(&self, seat: usize) {
        self.sit(seat, AWAY);
    }

    /// For a while it neither looks at its connection nor says what has become of it: nobody waits for it. What it
    /// was comes back by [`looks_again`](Self::looks_again).
    pub(crate) fn looks_away(&self, seat: usize) -> u64 {
        let was = self.seats.get(seat).map_or(AWAY, |place| place.load(Ordering::SeqCst));
        self.away(seat);
        was
    }

    pub(crate) fn looks_again(&self, seat: usize, was: u64) {
        self.sit(seat, was);
    }

    fn sit(&self, seat: usize, state: u64) {
        if let Some(place) = self.seats.get(seat)
            && place.swap(state, Ordering::SeqCst) != state
        {
            self.moves.send_modify(|moves| *moves += 1);
        }
    }

    /// Those who are connected to a server that lives, and those who want to be.
    pub(crate) fn present(&self) -> (usize, usize) {
        let wanted = self.seats.iter().map(|seat| seat.load(Ordering::SeqCst)).filter(|state| *state != AWAY);
        wanted.fold((0, 0), |(here, all), state| (here + usize::from(self.lives(state)), all + 1))
    }

    /// Whether it is connected to a server that lives.
    pub(crate) fn is_connected(&self, seat: usize) -> bool {
        self.seats.get(seat).is_some_and(|state| self.lives(state.load(Ordering::SeqCst)))
    }

    fn lives(&self, state: u64) -> bool {
        self.lives.iter().any(|life| life.load(Ordering::SeqCst) == state)
    }

    /// Waits until everybody who wants a connection to a server that lives has one.
    pub(crate) async fn all_back(&self) {
        let mut moves = self.moves.subscribe();
        loop {
            let (here, wanted) = self.present();
            if here == wanted || moves.changed().await.is_err() {
                return;
            }
        }
    }

    /// This device will not send or change anything any more.
    pub(crate) fn quiet(&self, device: usize) {
        self.quiet.send_if_modified(|quiet| quiet.insert(device));
    }

    /// Those who will not.
    pub(crate) fn all_quiet(&self) -> watch::Receiver<BTreeSet<usize>> {
        self.quiet.subscribe()
    }

    pub(crate) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_is_back_when_all_who_want_to_be_are_connected_to_the_new_server() {
        let board = Board::new(3, 1);
        board.connected(0, board.life(0));
        board.connected(1, board.life(0));
        assert_eq!(board.present(), (2, 2));
        board.new_life(0);
        assert_eq!(board.present(), (0, 2), "those of the server that is gone do not count");
        let back = board.all_back();
        let come = async {
            board.wanting(1);
            board.connected(0, board.life(0));
            assert_eq!(board.present(), (1, 2));
            board.away(1);
        };
        tokio::join!(back, come);
        assert_eq!(board.present(), (1, 1));
    }

    #[test]
    fn of_several_servers_each_has_its_own_lives() {
        let board = Board::new(2, 2);
        board.connected(0, board.life(0));
        board.connected(1, board.life(1));
        board.new_life(1);
        assert_eq!(board.present(), (1, 2));
        assert!(board.is_connected(0) && !board.is_connected(1));
        board.connected(1, board.life(0));
        assert_eq!(board.present(), (2, 2));
    }
}
