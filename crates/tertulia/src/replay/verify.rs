//! Reads every participant's view back over REST, once all is sent, and compares it with what was sent.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tertulia_client::api::{Api, From};
use tertulia_client::backoff::retry;
use tertulia_client::error::Error;
use tertulia_protocol::Seq;
use tertulia_protocol::rest::Mark;
use tertulia_protocol::rules::PAGE_MAX;

use super::people::{BACKOFF, inbox};
use super::stage::{Group, Stage};
use super::view::{Difference, View};

/// Views read at once.
const READERS: usize = 16;
/// Of so many members one is in the sample.
const SAMPLE_EVERY: usize = 20;

/// One member of one group.
#[derive(Clone, Copy)]
pub(super) struct Membership<'a> {
    pub(super) person: usize,
    pub(super) group: &'a Group,
    /// Whether he marks everything as read in the end.
    reads_all: bool,
}

/// Every member of every group; of some of them, if only a sample is wanted.
pub(super) fn memberships(stage: &Stage, sample: bool) -> Vec<Membership<'_>> {
    let of_group = |group| {
        let members = group_members(group).enumerate();
        members.map(move |(place, person)| Membership { person, group, reads_all: place % SAMPLE_EVERY == 0 })
    };
    stage.groups.iter().flat_map(of_group).filter(|member| member.reads_all || !sample).collect()
}

fn group_members(group: &Group) -> impl Iterator<Item = usize> {
    group.expected.script.members.iter().copied()
}

/// Reads back and compares; gives the number of entries that were read.
///
/// # Errors
/// If the server refuses for good to be read.
pub(super) async fn verify(
    stage: &Stage,
    apis: &[Api],
    memberships: Vec<Membership<'_>>,
) -> anyhow::Result<u64> {
    let read = stream::iter(memberships).map(async |member| {
        let api = &apis[member.person];
        let entries = member.read_history(stage, api).await?;
        member.check_inbox(stage, api).await?;
        stage.watch.advance();
        anyhow::Ok(entries)
    });
    read.buffer_unordered(READERS).try_fold(0, async |sum, entries| Ok(sum + entries)).await
}

impl Membership<'_> {
    /// The whole history, a page at a time.
    async fn read_history(self, stage: &Stage, api: &Api) -> Result<u64, Error> {
        let expected = &self.group.expected;
        let mut view = View::new();
        let mut entries = 0;
        loop {
            let after = view.seen();
            let page = persist(stage, || api.history(expected.convo, From::After(after), PAGE_MAX)).await?;
            for entry in &page.items {
                view.take(expected, entry, |difference| self.differs(stage, &difference));
            }
            entries += page.items.len() as u64;
            stage.watch.moved();
            // A page that leads nowhere would be read for ever.
            if !page.has_more || view.seen() <= after {
                break;
            }
        }
        if let Err(difference) = view.finish(expected) {
            self.differs(stage, &difference);
        }
        Ok(entries)
    }

    /// What the inbox counts, before and after reading everything.
    async fn check_inbox(self, stage: &Stage, api: &Api) -> Result<(), Error> {
        let expected = &self.group.expected;
        self.compare_counts(stage, api, expected.last_of(self.person), expected.unread_of(self.person))
            .await?;
        let last = expected.last();
        let mark = Mark { delivered_seq: Some(last), read_seq: self.reads_all.then_some(last) };
        persist(stage, || api.mark(expected.convo, &mark)).await?;
        if self.reads_all {
            self.compare_counts(stage, api, last, 0).await?;
        }
        Ok(())
    }

    /// Compares the conversation in the inbox with what it must be.
    async fn compare_counts(self, stage: &Stage, api: &Api, read: Seq, unread: u64) -> Result<(), Error> {
        let expected = &self.group.expected;
        let inbox = persist(stage, || inbox(api)).await?;
        let Some(seen) = inbox.iter().find(|conversation| conversation.id == expected.convo) else {
            self.differs(stage, &Difference::Count { what: "places in the inbox", expected: 1, seen: 0 });
            return Ok(());
        };
        for (what, expected, seen) in [
            ("lastSeq", expected.last().get(), seen.last_seq.get()),
            ("readSeq", read.get(), seen.read_seq.get()),
            ("unreadCount", unread, seen.unread_count),
        ] {
            if seen != expected {
                self.differs(stage, &Difference::Count { what, expected, seen });
            }
        }
        Ok(())
    }

    fn differs(self, stage: &Stage, difference: &Difference) {
        stage.differs(self.person, Some(self.group), difference);
    }
}

/// Makes a call that is safe to repeat until it is answered.
async fn persist<T, F: Future<Output = Result<T, Error>>>(
    stage: &Stage,
    call: impl FnMut() -> F,
) -> Result<T, Error> {
    retry(BACKOFF, |error, wait| stage.watch.retries("reading back", error, wait), call).await
}
