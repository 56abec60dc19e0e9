//! Answers of the parts, put together.

use std::cmp::Reverse;

use tertulia_domain::log::{Change, Missed};
use tertulia_protocol::ConvoId;

use crate::cursor::InboxCursor;
use crate::{InboxPage, JournalRow};

/// A page of the inbox, out of those of the parts.
pub(super) fn inbox(pages: Vec<InboxPage>, limit: usize) -> InboxPage {
    let mut has_more = pages.iter().any(|page| page.next_cursor.is_some());
    let mut items: Vec<_> = pages.into_iter().flat_map(|page| page.items).collect();
    items.sort_by_key(|item| Reverse((item.updated_at, item.id)));
    has_more |= items.len() > limit;
    items.truncate(limit);
    let last = items.last().filter(|_| has_more);
    let next_cursor = last.map(|last| InboxCursor { ts: last.updated_at, convo: last.id }.encode());
    InboxPage { items, next_cursor }
}

/// Changes, ordered by id.
pub(super) fn changes(parts: Vec<Vec<Change>>) -> Vec<Change> {
    let mut changes: Vec<_> = parts.into_iter().flatten().collect();
    changes.sort_by_key(|change| match change {
        Change::Left(convo) | Change::In { convo, .. } => *convo,
    });
    changes
}

/// What was missed, with so many entries at most: of each conversation all or none, and the first has the first say.
pub(super) fn missed(parts: Vec<Missed>, mut entries_max: usize) -> Missed {
    let (parts, pages): (Vec<_>, Vec<_>) = parts.into_iter().map(|part| (part.changes, part.pages)).unzip();
    let mut pages: Vec<_> = pages.into_iter().flatten().collect();
    pages.sort_by_key(|(convo, _)| *convo);
    pages.retain(|(_, page)| match entries_max.checked_sub(page.entries.len()) {
        Some(left) => {
            entries_max = left;
            true
        }
        None => false,
    });
    Missed { changes: changes(parts), pages }
}

/// Rows of all parts in turn, so that none of them waits behind another.
pub(super) fn journal(parts: Vec<Vec<JournalRow>>, limit: usize) -> Vec<JournalRow> {
    let mut parts: Vec<_> = parts.into_iter().map(Vec::into_iter).collect();
    let mut rows = Vec::new();
    while rows.len() < limit {
        let before = rows.len();
        rows.extend(parts.iter_mut().filter_map(Iterator::next));
        if rows.len() == before {
            break;
        }
    }
    rows.truncate(limit);
    rows
}

/// What is ordered by the id of a conversation.
pub(super) fn by_id<T: Ord>(parts: Vec<Vec<(ConvoId, T)>>, limit: usize) -> Vec<(ConvoId, T)> {
    let mut all: Vec<_> = parts.into_iter().flatten().collect();
    all.sort_unstable();
    all.truncate(limit);
    all
}

#[cfg(test)]
mod tests {
    use tertulia_domain::log::{Commit, HistorySlice};

    use super::*;

    #[test]
    fn rows_of_all_parts_come_in_turn_and_those_of_each_in_their_order() {
        let row = |part, number| JournalRow {
            commit: Commit::new(number).in_part(part),
            ranges: Vec::new(),
            quiet: Vec::new(),
        };
        let parts =
            || vec![(1..=5).map(|number| row(0, number)).collect(), vec![], vec![row(2, 1), row(2, 2)]];
        let merged = |limit| {
            let rows = journal(parts(), limit);
            rows.iter().map(|row| (row.commit.part(), row.commit.in_part(0).get())).collect::<Vec<_>>()
        };
        assert_eq!(merged(9), [(0, 1), (2, 1), (0, 2), (2, 2), (0, 3), (0, 4), (0, 5)]);
        assert_eq!(merged(3), [(0, 1), (2, 1), (0, 2)]);
        assert_eq!(merged(0), []);
    }

    #[test]
    fn of_pages_that_are_too_many_the_first_that_fit_come_along() {
        let convo = |number| ConvoId::from_bytes([number; 16]);
        let entry = |number| {
            let (seq, sender_id) = (number, tertulia_protocol::UserId::from_bytes([1; 16]));
            let (ts, kind) = (
                tertulia_protocol::Timestamp::from_millis(1),
                tertulia_protocol::EntryKind::Renamed { title: "x".into() },
            );
            let seq = tertulia_protocol::Seq::new(seq);
            let entry =
                tertulia_protocol::Entry { convo_id: convo(1), seq, sender_id, client_seq: None, ts, kind };
            (std::sync::Arc::new(entry), Commit::new(number))
        };
        let page = |number, count: u64| {
            (convo(number), HistorySlice { entries: (1..=count).map(entry).collect(), has_more: false })
        };
        let part = |pages| Missed { changes: Vec::new(), pages };
        let parts = vec![part(vec![page(2, 4), page(4, 1)]), part(vec![page(1, 3), page(3, 9)])];
        let missed = missed(parts, 8);
        assert_eq!(missed.pages.iter().map(|(convo, _)| *convo).collect::<Vec<_>>(), [1, 2, 4].map(convo));
    }
}
