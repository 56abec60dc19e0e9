//! Reads what is to be told, as it is now.

use std::iter::Peekable;
use std::sync::Arc;

use futures_util::future::join_all;
use tertulia_feed::Came;
use tertulia_protocol::{ConvoId, Entry, EntryKind, Seq};
use tertulia_store::{Store, StoreError, Touched};

use super::follow::Follower;
use super::parts::{Stopped, insist};

/// Pages that are read at one time, and the entries of them: of what comes little at a time many, and few whole ones.
const PAGES_AT_ONCE: usize = 256;
const ENTRIES_AT_ONCE: usize = WHOLE_AT_ONCE * PAGE_ENTRIES;
/// Whole pages that are read at one time.
pub(super) const WHOLE_AT_ONCE: usize = 16;
/// The most entries of a batch, and the most bytes of it, about; alone, and where others wait meanwhile, as they do for one
/// statement of a database.
const ALONE_MAX: (usize, usize) = (20_000, 16 << 20);
const TOGETHER_MAX: (usize, usize) = (2_000, 1 << 20);
/// Entries of a log that are read at once: each may have 64 KiB.
const PAGE_ENTRIES: usize = 100;

/// A stretch of a log that is read at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    /// Where it came from.
    pub(super) partition: i32,
    pub(super) convo: ConvoId,
    pub(super) first: Seq,
    pub(super) count: usize,
}

impl Page {
    fn range(&self) -> Touched {
        let last = Seq::new(self.first.get() + self.count as u64).previous();
        Touched { convo: self.convo, first: self.first, last }
    }
}

/// A stretch as pages.
pub(super) fn pages(came: &Came) -> impl Iterator<Item = Page> + use<> {
    let Came { partition, range: Touched { convo, first, last } } = *came;
    (first.get()..=last.get()).step_by(PAGE_ENTRIES).map(move |first| {
        let left = usize::try_from(last.get() + 1 - first).unwrap_or(PAGE_ENTRIES);
        Page { partition, convo, first: Seq::new(first), count: left.min(PAGE_ENTRIES) }
    })
}

/// The next pages that are read together; none: there are no more.
pub(super) fn some(pages: &mut Peekable<impl Iterator<Item = Page>>) -> Vec<Page> {
    let (mut some, mut entries) = (Vec::new(), 0);
    while some.len() < PAGES_AT_ONCE
        && let Some(page) = pages.next_if(|page| entries + page.count <= ENTRIES_AT_ONCE)
    {
        entries += page.count;
        some.push(page);
    }
    some
}

impl Follower {
    /// Reads pages of logs, in their order, each with where it came from.
    pub(super) async fn read(&self, pages: Vec<Page>) -> Result<Vec<(i32, Vec<Arc<Entry>>)>, Stopped> {
        let read = insist!(
            self.parts,
            "read what came",
            match ranges(self.parts.sources.store.as_ref(), &pages).await {
                // Whatever it is, the others are read without it.
                Err(StoreError::Damaged(_)) => Ok(None),
                read => read.map(Some),
            }
        );
        if let Some(read) = read {
            return Ok(pages.iter().map(|page| page.partition).zip(read).collect());
        }
        let reads = pages.into_iter().map(async |page| Ok((page.partition, self.read_page(page).await?)));
        join_all(reads).await.into_iter().collect()
    }

    /// Reads a page. What of it cannot be understood is laid with the dead letters.
    pub(super) async fn read_page(&self, page: Page) -> Result<Vec<Arc<Entry>>, Stopped> {
        let read = insist!(
            self.parts,
            "read a log",
            match entries(self.parts.sources.store.as_ref(), page).await {
                // Another try gives the same.
                Err(StoreError::Damaged(why)) => Ok(Err(why)),
                read => read.map(Ok),
            }
        );
        let Err(why) = read else { return Ok(read.unwrap_or_default()) };
        if page.count == 1 {
            self.lay_down(page.convo, page.first, &why).await?;
            return Ok(Vec::new());
        }
        // Somewhere in it: entry by entry.
        let mut read = Vec::new();
        for seq in page.first.get()..page.first.get() + page.count as u64 {
            let one = Page { first: Seq::new(seq), count: 1, ..page };
            read.extend(Box::pin(self.read_page(one)).await?);
        }
        Ok(read)
    }
}

async fn ranges(store: &dyn Store, pages: &[Page]) -> Result<Vec<Vec<Arc<Entry>>>, StoreError> {
    let ranges: Vec<_> = pages.iter().map(Page::range).collect();
    let lists = store.ranges(&ranges).await?;
    Ok(lists.into_iter().map(|list| list.into_iter().map(|(entry, _)| entry).collect()).collect())
}

async fn entries(store: &dyn Store, page: Page) -> Result<Vec<Arc<Entry>>, StoreError> {
    let entries = store.entries(page.convo, page.first, page.count).await?;
    Ok(entries.into_iter().map(|(entry, _)| entry).collect())
}

/// Entries that are taken together.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) entries: Vec<Arc<Entry>>,
    bytes: usize,
}

impl Batch {
    pub(super) fn of(entries: Vec<Arc<Entry>>) -> Self {
        let mut batch = Self::default();
        batch.extend(entries);
        batch
    }

    pub(super) fn extend(&mut self, entries: Vec<Arc<Entry>>) {
        let body =
            |entry: &Arc<Entry>| if let EntryKind::Text { body, .. } = &entry.kind { body.len() } else { 0 };
        self.bytes += entries.iter().map(body).sum::<usize>();
        self.entries.extend(entries);
    }

    /// Whether it is large enough, with others beside it or without.
    pub(super) fn is_full(&self, is_together: bool) -> bool {
        let (entries, bytes) = if is_together { TOGETHER_MAX } else { ALONE_MAX };
        self.entries.len() >= entries || self.bytes >= bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_short_pages_are_read_together_and_few_long_ones() {
        let page =
            |count| Page { partition: 0, convo: ConvoId::from_bytes([1; 16]), first: Seq::new(1), count };
        for (counts, expected) in [
            (vec![1; 600], vec![256, 256, 88]),
            (vec![100; 40], vec![16, 16, 8]),
            ([vec![100; 15], vec![99], vec![2; 3]].concat(), vec![16, 3]),
            (vec![], vec![]),
        ] {
            let mut pages = counts.into_iter().map(page).peekable();
            let read: Vec<_> =
                std::iter::from_fn(|| Some(some(&mut pages).len()).filter(|&read| read > 0)).collect();
            assert_eq!(read, expected);
        }
    }

    #[test]
    fn pages_of_a_stretch_are_dense() {
        let convo = ConvoId::from_bytes([1; 16]);
        for (first, last) in [(1, 1), (3, 102), (1, 100), (1, 101), (7, 1_900)] {
            let range = Touched { convo, first: Seq::new(first), last: Seq::new(last) };
            let mut next = first;
            for page in pages(&Came { partition: 0, range }) {
                assert_eq!(page.first.get(), next);
                next += page.count as u64;
            }
            assert_eq!(next, last + 1);
        }
    }
}
