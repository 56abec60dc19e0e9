//! What a check says, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::evidence::{abridge, texts};
use super::learn::Counts;
use super::retrace::Outcome;
use super::rules::{Finding, Proof, Rule};
use super::source::{At, Remarks, Source};
use super::{Error, Options};
use crate::event::Line;

/// Of each rule so many violations are printed for people.
const PRINTED_MAX: usize = 3;

/// What came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every rule held, and the run says enough.
    Holds,
    /// At least one rule was broken.
    Violated,
    /// No rule was broken, and the run says too little.
    Invalid,
}

/// A check's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The result.
    pub verdict: Verdict,
    /// Why the run says too little.
    pub invalid: Vec<String>,
    /// What else is to be known.
    pub remarks: Vec<String>,
    /// What was done.
    pub counts: Counts,
    /// Rule by rule.
    pub rules: Vec<RuleReport>,
    /// What was broken, of each rule the first twenty.
    pub violations: Vec<Violation>,
}

/// What became of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleReport {
    /// Which.
    pub rule: Rule,
    /// How often something was there to judge.
    pub judged: u64,
    /// How often it was broken.
    pub broken: u64,
}

/// A broken rule and what shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// What happened.
    pub what: String,
    /// The lines that show it: without one of them they would not.
    pub evidence: Vec<Evidence>,
    /// What the driver noted between the first and the last of them.
    pub notes: Vec<Evidence>,
}

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// The file and the line's number.
    pub place: String,
    /// When, in nanoseconds on the machine's clock.
    pub t: u64,
    /// The line; a long one is cut.
    pub line: String,
}

/// Of the notes between the first and the last line of evidence, this many are shown: the first ones.
const NOTES_MAX: usize = 3;

/// What a report is made of.
pub(super) struct Making<'a> {
    pub(super) source: &'a Source,
    pub(super) counts: Counts,
    /// When the driver noted something, ascending.
    pub(super) notes: Vec<(u64, At)>,
    pub(super) outcome: Outcome,
}

impl Making<'_> {
    /// Puts it together.
    pub(super) fn report(mut self, remarks: Remarks, options: Options) -> Result<Report, Error> {
        let violations = self.violations()?;
        let invalid = self.invalid(options);
        let verdict = match (violations.is_empty(), invalid.is_empty()) {
            (false, _) => Verdict::Violated,
            (true, false) => Verdict::Invalid,
            (true, true) => Verdict::Holds,
        };
        let findings = &self.outcome.findings;
        let rules = Rule::ALL.map(|rule| {
            let (judged, broken) = (findings.looked[rule as usize], findings.broken[rule as usize]);
            RuleReport { rule, judged, broken }
        });
        let counts = self.counts;
        Ok(Report { verdict, invalid, remarks: remarks.0, counts, rules: rules.into(), violations })
    }

    /// Why the run says too little.
    fn invalid(&self, options: Options) -> Vec<String> {
        let Outcome { is_final, unread_back, .. } = self.outcome;
        let (acked, wanted) = (self.counts.acked, options.min_operations);
        let mut invalid = Vec::new();
        if acked < wanted {
            invalid.push(format!("only {acked} acked messages, and at least {wanted} are wanted"));
        }
        match unread_back {
            (0, _) => {}
            (missing, _) if !is_final => invalid.push(format!(
                "there is no final reading: whether {missing} acked messages are lost is not known"
            )),
            (missing, first) => {
                let first =
                    first.map_or_else(String::new, |at| format!(", the first acked at {}", self.place(at)));
                invalid.push(format!("{missing} acked messages were not read back in the end{first}"));
            }
        }
        invalid
    }

    fn violations(&mut self) -> Result<Vec<Violation>, Error> {
        // Of a rule, the shortest evidence first, then the earliest.
        let kept = &mut self.outcome.findings.kept;
        kept.sort_by_key(|finding| {
            (finding.rule, finding.proof.len(), finding.proof.iter().map(|proof| proof.at).max())
        });
        let proofs = self.outcome.findings.kept.iter().flat_map(|finding| &finding.proof);
        let noted = self.notes.iter().map(|(_, at)| *at);
        let texts = texts(self.source, proofs.map(|proof| proof.at).chain(noted))?;
        let violation = |finding: &Finding| {
            let mut evidence: Vec<Evidence> =
                finding.proof.iter().map(|proof| self.evidence(&texts, *proof)).collect();
            evidence.sort_by_key(|line| line.t);
            let (first, last) =
                (evidence.first().map_or(0, |line| line.t), evidence.last().map_or(0, |line| line.t));
            let from = self.notes.partition_point(|(t, _)| *t < first);
            let notes = self.notes[from..].iter().take_while(|(t, _)| *t <= last).take(NOTES_MAX);
            let notes = notes.map(|(_, at)| self.evidence(&texts, (*at).into())).collect();
            Violation { rule: finding.rule, what: finding.what.clone(), evidence, notes }
        };
        Ok(self.outcome.findings.kept.iter().map(violation).collect())
    }

    fn evidence(&self, texts: &BTreeMap<At, String>, proof: Proof) -> Evidence {
        let text = texts.get(&proof.at).map_or("", String::as_str);
        let t = Line::parse(text).map_or(0, |line| line.t);
        Evidence { place: self.place(proof.at), t, line: abridge(text, proof) }
    }

    fn place(&self, at: At) -> String {
        format!("{}:{}", self.source.files[at.file()].display(), at.line())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { lines, sends, attempts, acked, refused, pushes, gaps, receipts, .. } = self.counts;
        let Counts { connections, resumes, pages, inboxes, changes, failures, .. } = self.counts;
        writeln!(
            f,
            "{lines} lines: {sends} messages in {attempts} attempts, {acked} acked, {refused} refused;"
        )?;
        writeln!(
            f,
            "{pushes} pushes, {gaps} gaps, {receipts} receipts on {connections} connections, {resumes} of them resumed;"
        )?;
        writeln!(
            f,
            "{pages} pages, {inboxes} inboxes, {changes} marks and changes, {failures} calls failed."
        )?;
        writeln!(f)?;
        for rule in &self.rules {
            let result = match (rule.broken, rule.judged) {
                (0, 0) => "nothing to judge".to_owned(),
                (0, judged) => format!("holds, judged {judged} times"),
                (broken, _) => format!("BROKEN {broken} times"),
            };
            writeln!(f, "  {:<26}{result}", rule.rule.title())?;
        }
        for rule in Rule::ALL {
            for violation in self.violations.iter().filter(|found| found.rule == rule).take(PRINTED_MAX) {
                writeln!(f, "\n{}: {}", rule.title(), violation.what)?;
                let first = violation.evidence.first().map_or(0, |line| line.t);
                let mut lines: Vec<&Evidence> = violation.evidence.iter().chain(&violation.notes).collect();
                lines.sort_by_key(|line| line.t);
                for Evidence { place, t, line } in lines {
                    let later = (t - first) as f64 / 1e9;
                    writeln!(f, "  {place}  +{later:.6} s  {line}")?;
                }
            }
        }
        for remark in &self.remarks {
            writeln!(f, "\nnote: {remark}")?;
        }
        for why in &self.invalid {
            writeln!(f, "\ninvalid: {why}")?;
        }
        match self.verdict {
            Verdict::Holds => writeln!(f, "\nEvery guarantee held."),
            Verdict::Violated => writeln!(f, "\nA guarantee was broken."),
            Verdict::Invalid => {
                writeln!(f, "\nNo guarantee was seen to be broken, but the run proves too little.")
            }
        }
    }
}
