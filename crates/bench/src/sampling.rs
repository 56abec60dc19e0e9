//! What the server costs from moment to moment, while something else is measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::process::Process;
use crate::service::{Service, sum};

/// The time between two samples: `/proc` counts CPU in hundredths of a second, so shorter ones would be noise.
const EVERY: Duration = Duration::from_millis(250);

/// One moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// Since the beginning.
    pub seconds: f64,
    /// Cores that were busy with the nodes since the sample before.
    pub server_cores: f64,
    /// What of the nodes is resident.
    pub server_bytes: u64,
}

/// Takes samples on a thread of its own until it is asked for them.
#[derive(Debug)]
pub(crate) struct Sampler {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Sample>>>,
}

impl Sampler {
    /// Begins; of a server that is not known it takes none.
    pub(crate) fn begin(service: &Service) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ended);
        let nodes = service.processes().to_vec();
        let thread = (!nodes.is_empty()).then(|| {
            thread::Builder::new().name("bench-samples".into()).spawn(move || sample(&nodes, &flag)).ok()
        });
        Self { ended, thread: thread.flatten() }
    }

    /// Ends; gives what was taken.
    pub(crate) fn end(mut self) -> Vec<Sample> {
        self.ended.store(true, Relaxed);
        let Some(thread) = self.thread.take() else { return Vec::new() };
        thread.thread().unpark();
        thread.join().unwrap_or_default()
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
    }
}

fn sample(nodes: &[Process], ended: &AtomicBool) -> Vec<Sample> {
    let began = Instant::now();
    let mut samples = Vec::new();
    let (mut at, mut used) = (Duration::ZERO, sum(nodes, Process::cpu));
    while !ended.load(Relaxed) {
        // Exact to the beginning, however long a sample takes.
        thread::park_timeout((at + EVERY).saturating_sub(began.elapsed()));
        let now = began.elapsed();
        if now < at + EVERY {
            continue;
        }
        let (cpu, memory) = (sum(nodes, Process::cpu), sum(nodes, Process::resident));
        if let (Some(cpu), Some(before), Some(server_bytes)) = (cpu, used, memory) {
            let cores = cpu.saturating_sub(before).as_secs_f64() / (now - at).as_secs_f64();
            samples.push(Sample { seconds: now.as_secs_f64(), server_cores: cores, server_bytes });
        }
        (at, used) = (now, cpu);
    }
    samples
}

/// The most memory that was held, and nothing if no sample was taken.
pub(crate) fn peak(samples: &[Sample]) -> Option<u64> {
    samples.iter().map(|sample| sample.server_bytes).max()
}
