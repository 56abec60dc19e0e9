//! Does to the server what the plan says, and takes the time until it is well again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tertulia_history::Recorder;
use tertulia_history::event::Note;
use tokio::time::Instant;

use crate::board::Board;
use crate::chance::Chance;
use crate::cutter::Cutter;
use crate::disk::Disk;
use crate::error::Error;
use crate::plan::{Fault, FaultKind};
use crate::recovery::{Recoveries, Recovering};
use crate::server::{NotReady, Server};

/// How long a full disk may go unnoticed: files that are there already have some room in them.
const NOTICED_MAX: Duration = Duration::from_secs(20);
/// By when a send is accepted after a full disk has room again, in whatever way it was waited for.
const ACCEPTED_MAX: Duration = Duration::from_secs(60);
/// What is counted of full disks.
pub(crate) const NOTICED: &str = "full disks that refused sends";
pub(crate) const UNNOTICED: &str = "full disks that nobody noticed";
/// The number of a server that is alone.
pub(crate) const ALONE: usize = 0;
/// How often it is looked whether the server still runs.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Who does the harm.
#[derive(Debug)]
pub(crate) struct Harm {
    pub(crate) server: Server,
    pub(crate) disk: Disk,
    pub(crate) cutter: Option<Cutter>,
    pub(crate) board: Arc<Board>,
    pub(crate) recorder: Recorder,
    pub(crate) chance: Chance,
    recovering: Recovering<FaultKind>,
}

impl Harm {
    pub(crate) fn new(
        server: Server,
        disk: Disk,
        cutter: Option<Cutter>,
        board: Arc<Board>,
        recorder: Recorder,
        seed: u64,
    ) -> Self {
        let chance = Chance::stream(seed, "harm", 0);
        let recovering = Recovering::new(Arc::clone(&board));
        Self { server, disk, cutter, board, recorder, chance, recovering }
    }

    /// Waits until `until`, and watches the server meanwhile.
    pub(crate) async fn wait_until(&mut self, until: Instant) -> Result<(), Error> {
        loop {
            self.look_after().await?;
            let now = Instant::now();
            if now >= until {
                return Ok(());
            }
            tokio::time::sleep_until(until.min(now + LOOK_EVERY)).await;
        }
    }

    /// Waits until everybody who wants a connection has one, but for so long at most.
    pub(crate) async fn wait_for_all(&mut self, at_most: Duration) -> Result<(), Error> {
        let until = Instant::now() + at_most;
        let board = Arc::clone(&self.board);
        tokio::select! {
            () = board.all_back() => Ok(()),
            waited = self.wait_until(until) => waited,
        }
    }

    /// A server that has ended by itself is a finding; the run goes on with another one.
    pub(crate) async fn look_after(&mut self) -> Result<(), Error> {
        if let Some(status) = self.server.ended() {
            self.board.find(format!("the server ended by itself, with {status}"));
            self.note("ended by itself");
            self.board.new_life(ALONE);
            self.start().await?;
        }
        Ok(())
    }

    /// Starts the server, and waits until it is ready.
    pub(crate) async fn start(&mut self) -> Result<(), Error> {
        self.note("started");
        self.server.spawn()?;
        match self.server.ready(None).await? {
            Ok(()) => Ok(()),
            Err(NotReady::Ended(status)) => {
                self.board.find(format!("the server did not start: {status}"));
                Err(Error::NeverReady)
            }
            Err(NotReady::Killed) => Ok(()),
        }
    }

    pub(crate) async fn inflict(&mut self, fault: Fault) -> Result<(), Error> {
        self.recovering.begin(fault.kind());
        match fault {
            Fault::Kill { stopped, down, again } => self.kill(stopped, down, again).await,
            Fault::Stop { how_long } => {
                self.note("stopped");
                self.server.signal(Signal::STOP)?;
                tokio::time::sleep(how_long).await;
                self.healed(FaultKind::Stop);
                self.note("goes on");
                self.server.signal(Signal::CONT)
            }
            Fault::Drain { down } => {
                self.note("asked to end");
                match self.server.terminate().await? {
                    Some(status) if status.success() => {}
                    Some(status) => self.board.find(format!("asked to end, the server did so with {status}")),
                    None => self.board.find("asked to end, the server did not".into()),
                }
                tokio::time::sleep(down).await;
                self.board.new_life(ALONE);
                self.healed(FaultKind::Drain);
                self.start().await
            }
            Fault::Disk { how_long, killed } => self.fill_disk(how_long, killed).await,
            Fault::Cut { percent } => {
                if let Some(cutter) = &self.cutter {
                    self.note("connections cut");
                    let cut = cutter.cut(percent, &mut self.chance);
                    self.board.count_many("connections cut", cut as u64);
                }
                self.healed(FaultKind::Cut);
                Ok(())
            }
        }
    }

    async fn kill(
        &mut self,
        stopped: Option<Duration>,
        down: Duration,
        again: Option<Duration>,
    ) -> Result<(), Error> {
        if let Some(stopped) = stopped {
            self.server.signal(Signal::STOP)?;
            tokio::time::sleep(stopped).await;
        }
        self.note("killed");
        self.server.kill().await?;
        tokio::time::sleep(down).await;
        if let Some(again) = again {
            self.board.new_life(ALONE);
            self.note("started");
            self.server.spawn()?;
            match self.server.ready(Some(again)).await? {
                Ok(()) => self.server.kill().await?,
                Err(NotReady::Killed) => self.board.count("kills before it was ready"),
                Err(NotReady::Ended(status)) => {
                    self.board.find(format!("the server did not start: {status}"));
                }
            }
            self.note("killed again");
            self.recovering.inflicted(FaultKind::Kill);
        }
        self.board.new_life(ALONE);
        self.healed(FaultKind::Kill);
        self.start().await
    }

    async fn fill_disk(&mut self, how_long: Duration, killed: bool) -> Result<(), Error> {
        let mut refusals = self.board.refusals();
        refusals.borrow_and_update();
        self.note("the disk is full");
        self.disk.fill(self.server.pid())?;
        let noticed = tokio::time::timeout(NOTICED_MAX, refusals.changed()).await.is_ok();
        self.board.count(if noticed { NOTICED } else { UNNOTICED });
        let mut runs = true;
        if killed {
            self.note("killed on a full disk");
            self.server.kill().await?;
            self.board.new_life(ALONE);
            self.server.spawn()?;
            if matches!(self.disk, Disk::Limit) {
                self.disk.fill(self.server.pid())?;
            }
            match self.server.ready(Some(how_long)).await? {
                Ok(()) => self.board.count("starts on a full disk"),
                Err(_) => {
                    self.board.count("starts refused by a full disk");
                    runs = false;
                }
            }
        }
        tokio::time::sleep(how_long).await;
        self.note("the disk has room");
        self.disk.empty(self.server.pid())?;
        if !runs {
            self.board.new_life(ALONE);
        }
        self.healed(FaultKind::Disk);
        let mut acks = self.board.acks();
        acks.borrow_and_update();
        if !runs {
            self.start().await?;
        }
        // Else service must go on by itself: nobody starts it anew.
        if tokio::time::timeout(ACCEPTED_MAX, acks.changed()).await.is_ok() {
            self.board.count("disks with room again that took sends");
        } else {
            self.board
                .find(format!("no send was acked within {ACCEPTED_MAX:?} after the disk had room again"));
        }
        self.look_after().await
    }

    /// Whatever was done to the server is over: it runs, it has room, nobody is cut.
    pub(crate) async fn heal(&mut self) -> Result<(), Error> {
        self.server.signal(Signal::CONT)?;
        self.disk.empty(self.server.pid())?;
        self.look_after().await
    }

    /// What was done, and how long it took to recover.
    pub(crate) fn recoveries(&self) -> BTreeMap<FaultKind, Recoveries> {
        self.recovering.all()
    }

    /// The end of a fault: from here on the recovery counts.
    fn healed(&mut self, kind: FaultKind) {
        self.recovering.count(kind);
    }

    fn note(&self, text: &str) {
        self.recorder.record(Note { text: text.into() });
    }
}
