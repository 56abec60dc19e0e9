//! Watermarks only go forward.
//!
//! On a connection, the receipts of a member in a conversation never fall. In inboxes of a device that follow
//! each other neither does `deliveredSeq` or `readSeq`; they are at least what the user has marked, and was
//! answered, before, and at least what he was acked as his own messages; and
//! `readSeq` ≤ `deliveredSeq` ≤ `lastSeq`.

use std::collections::HashMap;

use super::reads::{Asked, Floors};
use super::{Findings, Rule};
use crate::check::source::At;
use crate::event::{Item, Receipt};

/// By conversation and user: delivered and read, and where they were seen.
type Receipts = HashMap<(u32, u32), (u64, u64, At)>;

/// The watermarks that were seen.
#[derive(Debug, Default)]
pub(in crate::check) struct Watermarks {
    /// By connection.
    receipts: HashMap<u32, Receipts>,
    /// By user.
    marked: [Floors; 2],
    /// By device.
    seen: [Floors; 2],
}

const NAMES: [&str; 2] = ["deliveredSeq", "readSeq"];

impl Watermarks {
    pub(in crate::check) fn receipt(
        &mut self,
        findings: &mut Findings,
        (conn, convo, user): (u32, u32, u32),
        receipt: &Receipt,
        at: At,
    ) {
        findings.looked(Rule::Watermarks);
        let (delivered, read) = (receipt.delivered.get(), receipt.read.map_or(0, |read| read.get()));
        let seen = self.receipts.entry(conn).or_default().entry((convo, user)).or_insert((0, 0, at));
        if delivered < seen.0 || (receipt.read.is_some() && read < seen.1) {
            let what = || format!("the watermarks of {} fall: {delivered} and {read}", receipt.user);
            findings.broken(Rule::Watermarks, what, &[seen.2.into(), at.into()]);
        }
        *seen = (delivered.max(seen.0), read.max(seen.1), at);
    }

    pub(in crate::check) fn close(&mut self, conn: u32) {
        self.receipts.remove(&conn);
    }

    /// A mark was answered.
    pub(in crate::check) fn marked(
        &mut self,
        key: (u32, u32),
        (delivered, read): (u64, u64),
        t: u64,
        at: At,
        horizon: u64,
    ) {
        self.marked[0].raise(key, t, delivered.max(read), at, horizon);
        self.marked[1].raise(key, t, read, at, horizon);
    }

    /// A conversation in an inbox.
    #[expect(clippy::too_many_arguments, reason = "they are the line, and what was asked")]
    pub(in crate::check) fn inbox(
        &mut self,
        findings: &mut Findings,
        own: Option<(u64, At)>,
        asked: Asked,
        convo: u32,
        item: &Item,
        at: At,
        t: u64,
        horizon: u64,
    ) {
        findings.looked(Rule::Watermarks);
        let shown = [item.delivered.get(), item.read.get()];
        if shown[1] > shown[0] || shown[0] > item.last.get() {
            let what = || format!("{} is read, {} delivered, and {} the last", shown[1], shown[0], item.last);
            findings.broken(Rule::Watermarks, what, &[at.into()]);
            return;
        }
        for (which, &shown) in shown.iter().enumerate() {
            let marked = self.marked[which].before((asked.user, convo), asked.t);
            let seen = self.seen[which].before((asked.device, convo), asked.t);
            let floor = [marked, seen, own].into_iter().flatten().max_by_key(|(seq, _)| *seq);
            if let Some((floor, floor_at)) = floor.filter(|(floor, _)| *floor > shown) {
                let what = || format!("{} is {shown} and was {floor}", NAMES[which]);
                findings.broken(Rule::Watermarks, what, &[floor_at.into(), asked.at.into(), at.into()]);
            }
            self.seen[which].raise((asked.device, convo), t, shown, at, horizon);
        }
    }
}
