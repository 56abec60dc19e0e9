//! What will be sent: the people, and for each log a script.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tertulia_protocol::rules::TITLE_CHARS_MAX;

use super::log::{Counts, Line, Log};
use super::names;

/// Everybody and everything.
#[derive(Debug)]
pub(super) struct Plan {
    /// Each nick once, however many logs it is in.
    pub(super) people: Vec<Person>,
    /// One for each log.
    pub(super) scripts: Vec<Script>,
    /// The lines of all logs by their kind.
    pub(super) counts: Counts,
}

/// A nick and its user.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) username: String,
    pub(super) display_name: String,
}

/// What happens in one group.
#[derive(Debug)]
pub(super) struct Script {
    /// The group's title; no other has it.
    pub(super) title: String,
    /// Who is in it, as places in [`Plan::people`], by their first line.
    pub(super) members: Vec<usize>,
    /// What is sent, in order.
    pub(super) cues: Vec<Cue>,
}

/// A line to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cue {
    /// By whom, as a place in [`Plan::people`].
    pub(super) speaker: usize,
    /// What.
    pub(super) body: String,
    /// When, from the beginning of its log.
    pub(super) at: Duration,
}

impl Plan {
    /// Makes the plan of these logs. `tag` tells this run from others on the same server.
    pub(super) fn new(logs: Vec<Log>, tag: &str) -> Self {
        let nicks: BTreeSet<String> =
            logs.iter().flat_map(|log| &log.lines).map(|line| line.nick.clone()).collect();
        let usernames = names::assign(&nicks, tag);
        let people = nicks
            .iter()
            .zip(usernames)
            .map(|(nick, username)| Person { username, display_name: names::display_name(nick) });
        let mut plan = Self { people: people.collect(), scripts: Vec::new(), counts: Counts::default() };
        let places: HashMap<&str, usize> = nicks.iter().map(String::as_str).zip(0..).collect();
        for (number, log) in (1..).zip(logs) {
            plan.counts += log.counts;
            let mut script =
                Script { title: title(&log, tag, number), members: Vec::new(), cues: Vec::new() };
            let times = times(&log.lines);
            for (Line { nick, body, .. }, at) in log.lines.into_iter().zip(times) {
                let speaker = places[nick.as_str()];
                if !script.members.contains(&speaker) {
                    script.members.push(speaker);
                }
                script.cues.push(Cue { speaker, body, at });
            }
            // A log of which nothing can be sent makes no group.
            if !script.cues.is_empty() {
                plan.scripts.push(script);
            }
        }
        plan
    }

    /// How many lines are sent.
    pub(super) fn lines(&self) -> usize {
        self.scripts.iter().map(|script| script.cues.len()).sum()
    }

    /// How many members there are, over all groups.
    pub(super) fn memberships(&self) -> usize {
        self.scripts.iter().map(|script| script.members.len()).sum()
    }

    /// How often a line has to reach somebody else than its sender.
    pub(super) fn deliveries(&self) -> usize {
        self.scripts.iter().map(|script| script.cues.len() * (script.members.len() - 1)).sum()
    }
}

/// The title of a log's group: what the log is called, and what no other group of any run is called.
fn title(log: &Log, tag: &str, number: usize) -> String {
    let name: String = log.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let end = format!(" ({tag}.{number})");
    let room = TITLE_CHARS_MAX - end.len();
    format!("{}{end}", name.chars().take(room).collect::<String>().trim())
}

/// When each line was written: the lines of a minute are spread evenly over it, midnight is passed, and a
/// clock that was put back does not take time back.
fn times(lines: &[Line]) -> Vec<Duration> {
    const DAY: u64 = 24 * 60;
    let mut times = Vec::with_capacity(lines.len());
    let mut now = lines.first().map_or(0, |line| u64::from(line.minute));
    let start = now;
    for minute in lines.chunk_by(|a, b| a.minute == b.minute) {
        let forward = (u64::from(minute[0].minute) + DAY - now % DAY) % DAY;
        if forward < DAY / 2 {
            now += forward;
        }
        let begin = Duration::from_secs((now - start) * 60);
        let count = u32::try_from(minute.len()).unwrap_or(u32::MAX);
        times.extend((0..count).map(|place| begin + Duration::from_secs(60) * place / count));
    }
    // After a clock was put back a minute is lived through twice.
    for at in 1..times.len() {
        times[at] = times[at].max(times[at - 1]);
    }
    times
}

#[cfg(test)]
mod tests {
    use super::super::log::parse;
    use super::*;

    fn plan(logs: &[(&str, &str)]) -> Plan {
        Plan::new(logs.iter().map(|(name, text)| parse((*name).into(), text.as_bytes())).collect(), "tag")
    }

    #[test]
    fn each_log_is_a_group_and_a_nick_in_several_logs_is_one_user() {
        let plan = plan(&[
            ("monday", "=== ana [a@b]  has joined #tea\n[10:00] <bo> hi\n[10:00] <ana> hi bo\n"),
            ("tuesday", "[10:00] <cy> hello?\n[10:01] <ana> hi cy\n"),
            ("empty", "nothing\n"),
        ]);
        let names: Vec<_> = plan.people.iter().map(|person| person.username.as_str()).collect();
        assert_eq!(names, ["ana.tag", "bo.tag", "cy.tag"]);
        let groups: Vec<_> =
            plan.scripts.iter().map(|script| (script.title.as_str(), script.members.as_slice())).collect();
        assert_eq!(groups, [("#tea monday (tag.1)", &[0, 1][..]), ("tuesday (tag.2)", &[2, 0])]);
        assert_eq!((plan.lines(), plan.memberships(), plan.deliveries()), (5, 4, 5));
    }

    #[test]
    fn the_lines_of_a_log_keep_their_order() {
        let plan = plan(&[("log", "[10:00] <a> 1\n[09:59] <b> 2\n[10:00] <a> 3\n[10:00] <a> 4\n")]);
        let order: Vec<_> = plan.scripts[0].cues.iter().map(|cue| (cue.speaker, cue.body.as_str())).collect();
        assert_eq!(order, [(0, "1"), (1, "2"), (0, "3"), (0, "4")]);
    }

    #[test]
    fn a_title_is_valid_whatever_the_file_is_called() {
        for name in ["x".repeat(200), "tab\there".into(), String::new()] {
            let title = plan(&[(&name, "[10:00] <a> 1\n")]).scripts.remove(0).title;
            assert_eq!(tertulia_protocol::rules::title(&title), Ok(()), "{title:?}");
        }
    }

    #[track_caller]
    fn seconds(minutes: &[u16], expected: &[u64]) {
        let line = |&minute| Line { nick: "a".into(), body: "x".into(), minute };
        let times = times(&minutes.iter().map(line).collect::<Vec<_>>());
        assert_eq!(times.iter().map(Duration::as_secs).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_lines_of_a_minute_are_spread_over_it() {
        seconds(&[600, 600, 600, 602], &[0, 20, 40, 120]);
    }

    #[test]
    fn midnight_is_passed() {
        seconds(&[1_439, 0, 1], &[0, 60, 120]);
    }

    #[test]
    fn a_clock_that_was_put_back_does_not_take_time_back() {
        seconds(&[600, 600, 599, 601], &[0, 30, 30, 60]);
    }
}
