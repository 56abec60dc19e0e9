//! Reads an IRC log: who says what in which line, and what becomes of the lines that nobody can send.
//!
//! | line | sent by | body |
//! |---|---|---|
//! | `[hh:mm] <nick> text` | nick | `text`, as it is |
//! | `[hh:mm]  * nick does something` | nick | `* nick does something` |
//! | `[hh:mm] -nick:#channel- text` | nick | `text`, as it is |
//! | `=== nick [host]  has joined #channel`, `=== nick is now known as other`, `=== nick waves` | nick | what follows `=== ` |
//! | `=== mode/#channel [+o other]  by nick` | nick | what follows `=== ` |
//!
//! Some loggers write a space after each `]` of a nick; no nick has spaces, so they are taken out again.

use std::fmt;

use serde::Serialize;
use tertulia_protocol::rules;

/// A log: the lines that are sent, and the count of those that are not.
#[derive(Debug)]
pub(super) struct Log {
    /// The file's name without folder and ending.
    pub(super) name: String,
    /// The channel, if a line names it: `#ubuntu`.
    pub(super) channel: Option<String>,
    /// What is sent, in order.
    pub(super) lines: Vec<Line>,
    /// How many lines there are of each kind.
    pub(super) counts: Counts,
}

/// A line that is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Who sends it.
    pub(super) nick: String,
    /// What is sent.
    pub(super) body: String,
    /// When: the minute of the day. Lines that bear no time have that of the line before.
    pub(super) minute: u16,
}

/// How many lines there are of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Counts {
    /// `<nick> text`.
    pub(super) speech: u64,
    /// ` * nick does something`.
    pub(super) actions: u64,
    /// `-nick:#channel- text`.
    pub(super) notices: u64,
    /// `=== nick …`.
    pub(super) status: u64,
    /// Not sent: an empty line.
    pub(super) blank: u64,
    /// Not sent: it names nobody.
    pub(super) nameless: u64,
    /// Not sent: the contract refuses such a body: blank, or with NUL, or over 65,536 bytes.
    pub(super) refused: u64,
    /// Lines with bytes that are not UTF-8.
    pub(super) repaired_lines: u64,
    /// The bytes in them that are not UTF-8; each sequence of them has become one U+FFFD.
    pub(super) repaired_bytes: u64,
}

impl Counts {
    /// How many lines are sent.
    pub(super) fn sent(&self) -> u64 {
        self.speech + self.actions + self.notices + self.status
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.speech += other.speech;
        self.actions += other.actions;
        self.notices += other.notices;
        self.status += other.status;
        self.blank += other.blank;
        self.nameless += other.nameless;
        self.refused += other.refused;
        self.repaired_lines += other.repaired_lines;
        self.repaired_bytes += other.repaired_bytes;
    }
}

/// Reads the bytes of a log.
pub(super) fn parse(name: String, bytes: &[u8]) -> Log {
    let mut log = Log { name, channel: None, lines: Vec::new(), counts: Counts::default() };
    let mut minute = None;
    let mut before_the_first_time = 0;
    // What follows the last line feed is a line only if there is something.
    for raw in bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|&byte| byte == b'\n') {
        let text = decode(raw.strip_suffix(b"\r").unwrap_or(raw), &mut log.counts);
        let (time, rest) = split_time(&text);
        minute = time.or(minute);
        let Some(read) = read(time.is_some(), rest) else {
            let skipped =
                if rest.trim().is_empty() { &mut log.counts.blank } else { &mut log.counts.nameless };
            *skipped += 1;
            continue;
        };
        if log.channel.is_none() {
            log.channel = read.channel.map(str::to_owned);
        }
        if rules::body(read.body).is_err() {
            log.counts.refused += 1;
            continue;
        }
        *match read.kind {
            Kind::Speech => &mut log.counts.speech,
            Kind::Action => &mut log.counts.actions,
            Kind::Notice => &mut log.counts.notices,
            Kind::Status => &mut log.counts.status,
        } += 1;
        if minute.is_none() {
            before_the_first_time += 1;
        }
        let minute = minute.unwrap_or(0);
        log.lines.push(Line { nick: read.nick, body: read.body.to_owned(), minute });
    }
    let (early, rest) = log.lines.split_at_mut(before_the_first_time);
    if let Some(first) = rest.first() {
        early.iter_mut().for_each(|line| line.minute = first.minute);
    }
    log
}

/// What a line says.
struct Read<'a> {
    kind: Kind,
    nick: String,
    body: &'a str,
    channel: Option<&'a str>,
}

enum Kind {
    Speech,
    Action,
    Notice,
    Status,
}

/// Turns bytes into text, once for all: what is not UTF-8 becomes U+FFFD, and is counted.
fn decode(raw: &[u8], counts: &mut Counts) -> String {
    let bad: usize = raw.utf8_chunks().map(|chunk| chunk.invalid().len()).sum();
    if bad > 0 {
        counts.repaired_lines += 1;
        counts.repaired_bytes += bad as u64;
    }
    String::from_utf8_lossy(raw).into_owned()
}

/// `[hh:mm] rest` as the minute of the day and the rest; without a time all is the rest.
fn split_time(text: &str) -> (Option<u16>, &str) {
    let read = || {
        let (time, rest) = text.strip_prefix('[')?.split_once("] ")?;
        let (hours, minutes) = time.split_once(':')?;
        let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
        (hours < 24 && minutes < 60).then_some((hours * 60 + minutes, rest))
    };
    read().map_or((None, text), |(minute, rest)| (Some(minute), rest))
}

/// Who says what in a line, if it names anybody.
fn read(timed: bool, rest: &str) -> Option<Read<'_>> {
    if !timed {
        let body = rest.strip_prefix("=== ")?;
        return Some(Read { kind: Kind::Status, nick: subject(body)?, body, channel: channel_of(body) });
    }
    if let Some(speech) = rest.strip_prefix('<') {
        let (nick, text) = speech.split_once('>')?;
        let body = text.strip_prefix(' ').unwrap_or(text);
        return Some(Read { kind: Kind::Speech, nick: without_spaces(nick)?, body, channel: None });
    }
    if let Some(notice) = rest.strip_prefix('-') {
        let (source, body) = notice.split_once("- ")?;
        let (nick, channel) = source.split_once(':')?;
        return Some(Read { kind: Kind::Notice, nick: without_spaces(nick)?, body, channel: Some(channel) });
    }
    let body = rest.trim_start();
    let nick = body.strip_prefix("* ")?.split(' ').next()?;
    Some(Read { kind: Kind::Action, nick: without_spaces(nick)?, body, channel: None })
}

/// Whom a status line is about.
fn subject(status: &str) -> Option<String> {
    let coming_or_going = [" has joined #", " has left #"].iter().find_map(|what| status.split_once(what));
    if let Some((nick, _host)) = coming_or_going.and_then(|(who, _)| who.trim_end().rsplit_once(" [")) {
        return without_spaces(nick);
    }
    let first = status.split_whitespace().next()?;
    if is_nick(first) {
        return Some(first.to_owned());
    }
    // A change of modes begins with the channel; who made it stands at its end.
    let (_, actor) = status.rsplit_once(" by ")?;
    without_spaces(actor).filter(|nick| is_nick(nick))
}

/// Whether the first word of a status line can be a nick, and not a channel, a host or a mask.
fn is_nick(word: &str) -> bool {
    !word.contains(['#', '/', ':', '!', '@', '*', '='])
}

fn without_spaces(nick: &str) -> Option<String> {
    let nick: String = nick.split_whitespace().collect();
    (!nick.is_empty()).then_some(nick)
}

/// The channel that a status line names: in a join, a leave or a change of modes.
fn channel_of(status: &str) -> Option<&str> {
    let found = ["has joined ", "has left ", "mode/"].iter().find_map(|what| status.split_once(what));
    found.and_then(|(_, after)| after.split(' ').next()).filter(|channel| channel.starts_with('#'))
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.channel {
            Some(channel) => write!(f, "{channel} {}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

#[cfg(test)]
mod tests;
