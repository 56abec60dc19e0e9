//! What typing has cost, and whom.

use std::fmt::{self, Display, Formatter};

use indicatif::HumanCount;
use serde::Serialize;

use super::flood::Typed;
use crate::histogram::Latency;
use crate::report::LoadFigures;

/// With typing and without. The load of the report is the one with it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TypingFigures {
    /// Typing events that were sent.
    pub sent: u64,
    /// The same, a second.
    pub sent_per_second: f64,
    /// How often one would have come to another of those who type, had none been dropped or merged.
    pub possible: u64,
    /// How often one did.
    pub heard: u64,
    /// The share that was dropped or merged.
    pub dropped_share: f64,
    /// Messages that came to those who type, each as often as it did.
    pub messages: u64,
    /// Messages that did not come to one of them.
    pub messages_lost: u64,
    /// Without typing: from when a message was due until it was known to be durable.
    pub quiet_send_to_ack: Option<Latency>,
    /// Without typing: from when a message was due until a member had it.
    pub quiet_send_to_receive: Option<Latency>,
    /// With typing.
    pub send_to_ack: Option<Latency>,
    /// With typing.
    pub send_to_receive: Option<Latency>,
}

impl TypingFigures {
    pub(super) fn new(
        typed: &Typed,
        typists: u64,
        quiet: Option<&LoadFigures>,
        loud: Option<&LoadFigures>,
    ) -> Self {
        let possible = typed.sent * (typists - 1);
        Self {
            sent: typed.sent,
            sent_per_second: typed.sent as f64 / typed.seconds.max(f64::MIN_POSITIVE),
            possible,
            heard: typed.heard,
            dropped_share: 1.0 - typed.heard as f64 / possible.max(1) as f64,
            messages: typed.messages,
            messages_lost: typed.holes,
            quiet_send_to_ack: quiet.and_then(|load| load.send_to_ack),
            quiet_send_to_receive: quiet.and_then(|load| load.send_to_receive),
            send_to_ack: loud.and_then(|load| load.send_to_ack),
            send_to_receive: loud.and_then(|load| load.send_to_receive),
        }
    }

    /// What must not happen.
    pub(super) fn problems(&self, problems: &mut Vec<String>) {
        if self.messages_lost > 0 {
            problems.push(format!("{} messages did not come to one who typed", self.messages_lost));
        }
        if self.sent == 0 {
            problems.push("nobody typed".into());
        }
    }
}

impl Display for TypingFigures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  typing         {} sent, {:.0}/s; {} of {} came: {:.1} % were dropped or merged",
            HumanCount(self.sent),
            self.sent_per_second,
            HumanCount(self.heard),
            HumanCount(self.possible),
            self.dropped_share * 100.0
        )?;
        writeln!(
            f,
            "  messages       {} came to those who type, {} did not",
            HumanCount(self.messages),
            self.messages_lost
        )?;
        for (name, latency) in [
            ("quiet  ack    ", &self.quiet_send_to_ack),
            ("typing ack    ", &self.send_to_ack),
            ("quiet  receive", &self.quiet_send_to_receive),
            ("typing receive", &self.send_to_receive),
        ] {
            if let Some(latency) = latency {
                writeln!(f, "  {name} {latency}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_come_was_dropped_and_a_lost_message_is_a_problem() {
        let typed = Typed { sent: 100, heard: 450, messages: 30, holes: 0, seconds: 2.0 };
        let mut figures = TypingFigures::new(&typed, 10, None, None);
        assert_eq!((figures.possible, figures.dropped_share, figures.sent_per_second), (900, 0.5, 50.0));
        let mut problems = Vec::new();
        figures.problems(&mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        figures.messages_lost = 1;
        figures.problems(&mut problems);
        assert_eq!(problems.len(), 1);
    }
}
