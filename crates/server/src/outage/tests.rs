//! What is said of an outage, and when.

use std::io::{self, Write};

use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

use super::*;

/// A log that can be read.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    /// What has been said since somebody last looked, each with its level.
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
        text.lines().map(|line| line.trim().to_owned()).collect()
    }
}

#[test]
fn an_outage_is_said_once_and_its_end_with_how_many_calls_were_refused() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(log.clone())
        .with_max_level(Level::INFO)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        let (clock, hand) = Clock::manual();
        let outage = Outage::new(Arc::new(Metrics::new("0")), clock);
        assert!(outage.is_over());
        for round in 1..=2 {
            for calls in [1, 3, 0, 96] {
                outage.refused(calls, "it is away");
                hand.advance(Duration::from_secs(1));
            }
            let said = log.lines();
            assert!(said.len() == 1 && said[0].starts_with("WARN"), "round {round}: {said:?}");
            assert!(said[0].contains("it is away"), "{said:?}");
            // It answers, and yet the last was refused only now.
            assert!(!outage.is_over());
            hand.advance(QUIET);
            assert!(outage.is_over());
            let said = log.lines();
            assert!(said.len() == 1 && said[0].starts_with("INFO"), "round {round}: {said:?}");
            assert!(said[0].contains("refused=100") && said[0].contains("seconds=3"), "{said:?}");
            assert!(outage.is_over());
            assert_eq!(log.lines(), Vec::<String>::new());
        }
    });
}
