//! Does to the nodes and their servers what was dealt, and takes the time until all is well again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tertulia_history::Recorder;
use tertulia_history::event::Note;
use tokio::time::Instant;

use super::doors::Doors;
use super::nodes::{Backends, Node};
use super::plan::{Backend, Break, Fault, FaultKind, Outage};
use super::sights;
use crate::board::Board;
use crate::chance::Chance;
use crate::cutter::Cutter;
use crate::error::Error;
use crate::recovery::{AbortOnDrop, Recoveries, Recovering};
use crate::server::NotReady;
use crate::world::World;

/// How often it is looked whether all nodes still run.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// By when all is well again after the end of any fault.
const WELL_MAX: Duration = Duration::from_secs(90);
/// How far a clock is off.
const OFF_BY: i64 = 3_600;
/// What a client that goes on elsewhere does not see.
const COMPLAINTS: [&str; 6] = [
    "answers that cannot be understood",
    "calls told to wait",
    "calls without an answer",
    "connections lost",
    "connections that did not come about",
    "sends told to wait",
];

/// Who does the harm.
#[derive(Debug)]
pub(crate) struct Harm {
    pub(crate) nodes: Vec<Node>,
    pub(crate) backends: Backends,
    doors: Arc<Doors>,
    /// Before those devices whose connections are cut now and then.
    fronts: Vec<Arc<Cutter>>,
    board: Arc<Board>,
    recorder: Recorder,
    pub(crate) chance: Chance,
    recovering: Recovering<FaultKind>,
    /// The end of the last fault.
    healed: Instant,
    world: Arc<World>,
    /// Whoever looks whether the ghost is still shown.
    haunted: Option<AbortOnDrop>,
}

impl Harm {
    pub(crate) fn new(
        nodes: Vec<Node>,
        backends: Backends,
        doors: Arc<Doors>,
        fronts: Vec<Arc<Cutter>>,
        world: &Arc<World>,
    ) -> Self {
        let board = &world.board;
        Self {
            nodes,
            backends,
            doors,
            fronts,
            board: Arc::clone(board),
            recorder: world.recorder.clone(),
            chance: Chance::stream(world.seed, "harm", 0),
            recovering: Recovering::new(Arc::clone(board)),
            healed: Instant::now(),
            world: Arc::clone(world),
            haunted: None,
        }
    }

    pub(crate) async fn inflict(&mut self, fault: Fault) -> Result<(), Error> {
        let kind = fault.kind();
        self.recovering.begin(kind);
        match fault {
            Fault::Kill { node, down } => {
                // One ghost at a time: he is nowhere else.
                self.haunted = None;
                let ghost = sights::haunt(&self.world, &self.doors, node).await;
                self.kill(node).await?;
                self.haunted = ghost.map(|ghost| {
                    let (world, doors) = (Arc::clone(&self.world), Arc::clone(&self.doors));
                    let elsewhere = (node + 1) % self.nodes.len();
                    let looking = async move { sights::exorcise(&world, &doors, ghost, elsewhere).await };
                    AbortOnDrop(tokio::spawn(looking))
                });
                self.recovering.count(kind);
                self.wait(down).await?;
                self.start(node).await?;
            }
            Fault::Stop { node, how_long, .. } => {
                self.note(&format!("node {node} is stopped for {how_long:?}"));
                self.signal(node, Signal::STOP)?;
                self.wait(how_long).await?;
                self.note(&format!("node {node} goes on"));
                self.signal(node, Signal::CONT)?;
                self.recovering.count(kind);
            }
            Fault::Rolling { first, down } => self.roll(first, down).await?,
            Fault::Partition { node, from, how, how_long, killed } => {
                self.part(node, from, how, how_long, killed).await?;
                self.recovering.count(kind);
            }
            Fault::Backend { of, outage } => {
                self.note(&format!("{of:?}: {outage:?}"));
                self.backends.strike(of, outage).await?;
                match outage {
                    Outage::Killed(how_long) | Outage::Paused(how_long) => self.wait(how_long).await?,
                    Outage::Emptied => {}
                }
                self.backends.heal(of, outage).await?;
                self.note(&format!("{of:?} is back"));
                self.recovering.count(kind);
            }
            Fault::Cut { percent } => {
                let mut cut = 0;
                for front in &self.fronts {
                    cut += front.cut(percent, &mut self.chance);
                }
                self.note("connections of clients are cut");
                self.board.count_many("connections cut", cut as u64);
                self.recovering.count(kind);
            }
            Fault::Clock { node, ahead, how_long } => {
                let off_by = if ahead { OFF_BY } else { -OFF_BY };
                self.restart(node, Some(off_by), kind).await?;
                self.wait(how_long).await?;
                self.restart(node, None, kind).await?;
            }
        }
        self.healed = Instant::now();
        self.recovering.count_hearing(kind);
        Ok(())
    }

    /// Waits, and looks after the nodes meanwhile.
    pub(crate) async fn wait(&mut self, how_long: Duration) -> Result<(), Error> {
        let until = Instant::now() + how_long;
        loop {
            self.look_after().await?;
            let now = Instant::now();
            if now >= until {
                return Ok(());
            }
            tokio::time::sleep_until(until.min(now + LOOK_EVERY)).await;
        }
    }

    /// Waits until everybody is connected and all nodes hear each other; says so if that never comes.
    pub(crate) async fn wait_until_well(&mut self) -> Result<(), Error> {
        let (board, since) = (Arc::clone(&self.board), self.healed);
        let well = async {
            board.all_back().await;
            board.echoes.all_hear(since).await;
        };
        tokio::select! {
            () = well => return Ok(()),
            waited = self.wait(WELL_MAX) => waited?,
        }
        let (here, wanted) = self.board.present();
        let deaf = self.board.echoes.silent(since).map_or_else(String::new, |(node, from)| {
            format!(", and node {node} has heard nothing of node {from}")
        });
        self.board
            .find(format!("{WELL_MAX:?} after the end of a fault {here} of {wanted} were connected{deaf}"));
        Ok(())
    }

    /// A node that has ended by itself is a finding; the run goes on with another one.
    pub(crate) async fn look_after(&mut self) -> Result<(), Error> {
        for node in 0..self.nodes.len() {
            let ended = self.nodes.get_mut(node).and_then(|node| node.server.ended());
            if let Some(status) = ended {
                self.board.find(format!("node {node} ended by itself, with {status}"));
                self.note(&format!("node {node} ended by itself"));
                self.board.new_life(node);
                self.start(node).await?;
            }
        }
        Ok(())
    }

    async fn kill(&mut self, node: usize) -> Result<(), Error> {
        self.note(&format!("node {node} is killed"));
        if let Some(node) = self.nodes.get_mut(node) {
            node.server.kill().await?;
        }
        self.board.new_life(node);
        Ok(())
    }

    /// Starts a node and waits until it is ready.
    pub(crate) async fn start(&mut self, number: usize) -> Result<(), Error> {
        self.note(&format!("node {number} is started"));
        let Some(node) = self.nodes.get_mut(number) else { return Ok(()) };
        node.server.spawn()?;
        match node.server.ready(None).await? {
            Ok(()) => Ok(()),
            Err(NotReady::Ended(status)) => {
                self.board.find(format!("node {number} did not start: {status}"));
                Err(Error::NeverReady)
            }
            Err(NotReady::Killed) => Ok(()),
        }
    }

    fn signal(&self, node: usize, signal: Signal) -> Result<(), Error> {
        self.nodes.get(node).map_or(Ok(()), |node| node.server.signal(signal))
    }

    /// Asks a node to end, as somebody does who wants to start it anew.
    pub(crate) async fn end(&mut self, number: usize) -> Result<(), Error> {
        self.note(&format!("node {number} is asked to end"));
        self.board.new_life(number);
        let Some(node) = self.nodes.get_mut(number) else { return Ok(()) };
        match node.server.terminate().await? {
            Some(status) if status.success() => {}
            Some(status) => self.board.find(format!("asked to end, node {number} did so with {status}")),
            None => self.board.find(format!("asked to end, node {number} did not")),
        }
        Ok(())
    }

    async fn restart(&mut self, number: usize, off_by: Option<i64>, kind: FaultKind) -> Result<(), Error> {
        self.recovering.count(kind);
        self.end(number).await?;
        if let Some(node) = self.nodes.get_mut(number) {
            node.set_clock(off_by);
        }
        match off_by {
            Some(seconds) => self.note(&format!("the clock of node {number} is off by {seconds} s")),
            None => self.note(&format!("the clock of node {number} is right")),
        }
        self.start(number).await
    }

    /// All nodes, one after the other; nobody may notice.
    async fn roll(&mut self, first: usize, down: Duration) -> Result<(), Error> {
        // What somebody complains about now is of an earlier fault.
        self.wait_until_well().await?;
        let before = self.board.counts();
        self.board.complaints();
        for number in 0..self.nodes.len() {
            let node = (first + number) % self.nodes.len();
            self.recovering.count(FaultKind::Rolling);
            self.end(node).await?;
            self.wait(down).await?;
            self.start(node).await?;
            self.healed = Instant::now();
            // Whoever does this waits for the node before he goes on to the next.
            while !self.doors.is_open(node) {
                self.wait(LOOK_EVERY).await?;
            }
            self.wait_until_well().await?;
        }
        let after = self.board.counts();
        let of = |counts: &BTreeMap<&'static str, u64>, what| counts.get(what).copied().unwrap_or(0);
        let how = self.board.complaints();
        for what in COMPLAINTS {
            let count = of(&after, what) - of(&before, what);
            if count > 0 {
                let how: Vec<&String> = how.iter().filter(|how| how.starts_with(what)).collect();
                self.board
                    .find(format!("while the nodes were started anew one by one: {count} {what}: {how:?}"));
            }
        }
        Ok(())
    }

    async fn part(
        &mut self,
        node: usize,
        from: Backend,
        how: Break,
        how_long: Duration,
        killed: Option<usize>,
    ) -> Result<(), Error> {
        self.note(&format!("node {node} is cut off from {from:?} ({how:?}) for {how_long:?}"));
        if let Some(node) = self.nodes.get(node) {
            node.part(from, how);
        }
        match killed {
            Some(other) => {
                self.board.count("kills of a node while another was cut off");
                self.wait(how_long / 3).await?;
                self.kill(other).await?;
                self.start(other).await?;
                self.wait(how_long / 3).await?;
            }
            None => self.wait(how_long).await?,
        }
        if let Some(node) = self.nodes.get(node) {
            node.join(from);
        }
        self.note(&format!("node {node} reaches {from:?} again"));
        Ok(())
    }

    /// What was done, and how long it took to recover.
    pub(crate) fn recoveries(&self) -> BTreeMap<FaultKind, Recoveries> {
        self.recovering.all()
    }

    fn note(&self, text: &str) {
        self.recorder.record(Note { text: text.into() });
    }
}
