//! One connection of the storm: what it has seen, and how it comes back.

use std::io;

use tertulia_history::Tape;
use tertulia_protocol::event::{ClientEvent, ServerEvent};

use crate::chronicle::record;
use crate::fleet::caller::{Bookmark, bookmark};
use crate::fleet::frames::Frame;
use crate::fleet::line::Line;

/// A connection that is cut and comes back.
#[derive(Debug)]
pub(super) struct Member {
    /// The access token, for the first time.
    pub(super) token: String,
    pub(super) line: Option<Line>,
    /// What it says and hears is written here, if a history is.
    pub(super) tape: Option<Box<Tape>>,
    pub(super) bookmark: Option<Bookmark>,
    pub(super) seen: Vec<Seen>,
    pub(super) back: Back,
    /// How often it has failed to come back.
    pub(super) attempts: u32,
}

/// What it has seen of one conversation.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Its number among all.
    pub(super) convo: usize,
    pub(super) id: String,
    /// The last entry, zero at first.
    pub(super) last: u64,
    /// It has caught up when it has this one.
    pub(super) target: u64,
}

/// When it came back, in nanoseconds of the crew's clock.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Back {
    pub(super) ready: Option<u64>,
    pub(super) caught_up: Option<u64>,
}

/// What members count together.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    /// Entries that came between being cut and having caught up.
    pub(super) missed: u64,
    /// All entries.
    pub(super) entries: u64,
    /// Entries that came again.
    pub(super) again: u64,
    /// Gaps that were named.
    pub(super) gaps: u64,
    /// Entries that were neither pushed nor named.
    pub(super) holes: u64,
    /// `resumed: false`.
    pub(super) not_resumed: u64,
    /// Bytes read after the cut.
    pub(super) bytes: u64,
}

impl Member {
    pub(super) fn new(token: String, convos: Vec<(usize, String)>) -> Self {
        let seen = convos.into_iter().map(|(convo, id)| Seen { convo, id, last: 0, target: 0 }).collect();
        Self { token, line: None, tape: None, bookmark: None, seen, back: Back::default(), attempts: 0 }
    }

    /// What it logs in with: where it was, if it was here before.
    pub(super) fn first_frame(&mut self) -> io::Result<String> {
        if let Some(tape) = &mut self.tape {
            tape.opens(self.bookmark.as_ref().map(|bookmark| bookmark.position.clone()));
        }
        let event = match &self.bookmark {
            None => ClientEvent::Connect { token: self.token.clone() },
            Some(Bookmark { resume_token, position, .. }) => {
                ClientEvent::Resume { resume_token: resume_token.clone(), position: position.clone() }
            }
        };
        Ok(serde_json::to_string(&event)?)
    }

    /// The connection is gone.
    pub(super) fn lost(&mut self, why: Option<&str>) {
        self.line = None;
        self.back = Back::default();
        if let Some(tape) = &mut self.tape {
            tape.closed(why.map(str::to_owned));
        }
    }

    /// The connection stands; `head` tells which entry of a conversation is there by now.
    pub(super) fn ready(
        &mut self,
        text: &str,
        now: u64,
        counts: &mut Counts,
        head: impl Fn(usize) -> u64,
    ) -> io::Result<()> {
        if let Some(tape) = &mut self.tape {
            record(tape, text)?;
        }
        let was_here = self.bookmark.is_some();
        let ready = bookmark(text)?.ok_or(io::ErrorKind::InvalidData)?;
        counts.not_resumed += u64::from(was_here && !ready.resumed);
        self.bookmark = Some(ready);
        self.back.ready = Some(now);
        self.seen.iter_mut().for_each(|seen| seen.target = head(seen.convo));
        self.look(now);
        Ok(())
    }

    /// A frame has come.
    pub(super) fn hear(&mut self, text: &str, now: u64, counts: &mut Counts) -> io::Result<()> {
        if let Some(tape) = &mut self.tape {
            record(tape, text)?;
        }
        match Frame::read(text) {
            Frame::Entry { convo, seq, position } => {
                counts.entries += 1;
                counts.missed += u64::from(self.back.caught_up.is_none());
                if let (Some(position), Some(bookmark)) = (position, &mut self.bookmark) {
                    bookmark.position.clear();
                    bookmark.position.push_str(position);
                }
                self.moved(convo, seq, seq, counts);
            }
            Frame::Gap { convo, from_seq, to_seq } => {
                counts.gaps += 1;
                self.moved(convo, from_seq, to_seq, counts);
            }
            Frame::Trouble(frame) => return Err(trouble(frame)),
            Frame::Ack { .. } | Frame::Typing | Frame::Other => return Ok(()),
        }
        self.look(now);
        Ok(())
    }

    fn moved(&mut self, convo: &str, from: u64, to: u64, counts: &mut Counts) {
        // Conversations of other runs are silent but for their changes.
        let Some(seen) = self.seen.iter_mut().find(|seen| seen.id == convo) else { return };
        if to <= seen.last {
            counts.again += 1;
            return;
        }
        if seen.last > 0 && from > seen.last + 1 {
            counts.holes += from - seen.last - 1;
        }
        seen.last = to;
    }

    fn look(&mut self, now: u64) {
        if self.back.caught_up.is_none()
            && self.back.ready.is_some()
            && self.seen.iter().all(|seen| seen.last >= seen.target)
        {
            self.back.caught_up = Some(now);
        }
    }
}

/// What an error is about, without what differs from one to the next.
fn trouble(frame: &str) -> io::Error {
    let what = match serde_json::from_str(frame) {
        Ok(ServerEvent::Error { code, detail, .. }) => format!("error {code:?}: {detail}"),
        _ => frame.chars().take(80).collect(),
    };
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONVO: &str = "0198f3a2-7c4e-7b1a-9d3e-5f6a7b8c9d0e";

    fn ready(position: &str, resumed: bool) -> String {
        format!(
            r#"{{"type":"ready","userId":"{CONVO}","deviceId":"{CONVO}","resumeToken":"r","position":"{position}","heartbeatSeconds":30,"resumed":{resumed}}}"#
        )
    }

    fn entry(seq: u64) -> String {
        format!(r#"{{"type":"message","convoId":"{CONVO}","seq":{seq},"body":"x","position":"p{seq}"}}"#)
    }

    #[test]
    fn a_member_has_caught_up_with_the_head_of_when_it_was_ready() {
        let mut member = Member::new("t".into(), vec![(0, CONVO.into())]);
        let mut counts = Counts::default();
        member.ready(&ready("p0", false), 1, &mut counts, |_| 0).unwrap();
        assert_eq!(member.back.caught_up, Some(1), "there was nothing");
        member.hear(&entry(5), 2, &mut counts).unwrap();
        member.back = Back::default();
        assert!(member.first_frame().unwrap().contains(r#""position":"p5""#));

        member.ready(&ready("p5", true), 10, &mut counts, |_| 7).unwrap();
        for (seq, now) in [(5, 11), (6, 12), (7, 13)] {
            assert_eq!(member.back.caught_up, None);
            member.hear(&entry(seq), now, &mut counts).unwrap();
        }
        assert_eq!(member.back.caught_up, Some(13));
        assert_eq!((counts.again, counts.holes, counts.missed, counts.not_resumed), (1, 0, 3, 0));
    }

    #[test]
    fn what_is_neither_pushed_nor_named_is_a_hole() {
        let mut member = Member::new("t".into(), vec![(0, CONVO.into())]);
        let mut counts = Counts::default();
        member.ready(&ready("p0", false), 1, &mut counts, |_| 0).unwrap();
        member.hear(&entry(5), 2, &mut counts).unwrap();
        let gap = format!(r#"{{"type":"gap","convoId":"{CONVO}","fromSeq":6,"toSeq":9}}"#);
        member.hear(&gap, 3, &mut counts).unwrap();
        member.hear(&entry(10), 4, &mut counts).unwrap();
        assert_eq!((counts.gaps, counts.holes), (1, 0));
        member.hear(&entry(13), 5, &mut counts).unwrap();
        assert_eq!(counts.holes, 2);
    }
}
