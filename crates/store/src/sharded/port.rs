//! The port, answered.

use std::num::NonZeroUsize;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{join_all, try_join_all};
use tertulia_domain::log::{Change, Commit, Head, HistorySlice, Intent, Missed, Outcome, Position};
use tertulia_protocol::rest::Conversation;
use tertulia_protocol::{ConvoId, Seq, Timestamp, UserId};

use super::{Sharded, in_its_words, merge, place};
use crate::{
    Batch, InboxPage, JournalRow, Leftover, Logged, MemberPage, ReceiptPage, Slice, Store, StoreError,
    Touched,
};

/// What separates the numbers in a position, and the two halves of each.
const SEPARATOR: char = '.';

impl Sharded {
    async fn append_in(
        &self,
        part: usize,
        intents: Vec<Intent>,
        now: Timestamp,
    ) -> Result<Batch, StoreError> {
        let mut batch = self.parts[part].store.append(intents, now).await?;
        batch.commit = batch.commit.map(|commit| commit.in_part(part));
        Ok(batch)
    }
}

fn in_part(entries: &mut [Logged], part: usize) {
    for (_, commit) in entries {
        *commit = commit.in_part(part);
    }
}

#[async_trait]
impl Store for Sharded {
    async fn append(&self, intents: Vec<Intent>, now: Timestamp) -> Result<Batch, StoreError> {
        let part = |intent: &Intent| self.part_of(intent.convo());
        let first = intents.first().map_or(0, part);
        if intents.iter().all(|intent| part(intent) == first) {
            return self.append_in(first, intents, now).await;
        }
        // Of several parts: beside each other, and put together again.
        let count = intents.len();
        let mut split = vec![(Vec::new(), Vec::new()); self.parts.len()];
        for (place, intent) in intents.into_iter().enumerate() {
            let (places, intents) = &mut split[part(&intent)];
            places.push(place);
            intents.push(intent);
        }
        let parts = split.into_iter().enumerate().filter(|(_, (places, _))| !places.is_empty());
        let parts =
            parts.map(async |(part, (places, intents))| (places, self.append_in(part, intents, now).await));
        let (mut outcomes, mut commit) = (vec![None::<Outcome>; count], None);
        for (places, batch) in join_all(parts).await {
            let batch = batch?;
            commit = commit.or(batch.commit);
            for (place, outcome) in places.into_iter().zip(batch.outcomes) {
                outcomes[place] = Some(outcome);
            }
        }
        Ok(Batch { commit, outcomes: outcomes.into_iter().flatten().collect() })
    }

    fn lanes(&self) -> NonZeroUsize {
        let last = self.parts.last().map(|part| part.first_lane + part.store.lanes().get());
        last.and_then(NonZeroUsize::new).unwrap_or(NonZeroUsize::MIN)
    }

    fn lane_of(&self, convo: ConvoId) -> usize {
        let part = &self.parts[self.part_of(convo)];
        part.first_lane + part.store.lane_of(convo)
    }

    fn part_of(&self, convo: ConvoId) -> usize {
        place::part_of(convo, self.parts.len())
    }

    fn is_sole_writer(&self) -> bool {
        false
    }

    async fn horizon(&self) -> Result<Position, StoreError> {
        self.position_of(|part| &part.horizon, |store| Box::pin(async move { store.horizon().await })).await
    }

    fn position(&self, position: Position) -> String {
        let parts = self.parts.iter().enumerate();
        let numbers = parts.map(|(number, part)| part.store.position(in_its_words(&position, number)));
        numbers.collect::<Vec<_>>().join(&SEPARATOR.to_string())
    }

    async fn parse_position(&self, position: &str) -> Result<Option<Position>, StoreError> {
        // Each part's number has a separator in it, too.
        let halves: Vec<_> = position.split(SEPARATOR).take(2 * self.parts.len() + 1).collect();
        if halves.len() != 2 * self.parts.len() {
            return Ok(None);
        }
        let numbers: Vec<_> = halves.chunks(2).map(|pair| pair.join(&SEPARATOR.to_string())).collect();
        let known = self.of_all(|part, store| store.parse_position(&numbers[part])).await?;
        let mut position = Position::default();
        for (part, known) in known.into_iter().enumerate() {
            let Some(known) = known else { return Ok(None) };
            position.set(known.of_part(0).in_part(part));
        }
        Ok(Some(position))
    }

    async fn history(
        &self,
        user: UserId,
        convo: ConvoId,
        slice: Slice,
        limit: usize,
    ) -> Result<Option<HistorySlice>, StoreError> {
        let (part, store) = self.part(convo);
        let mut found = store.history(user, convo, slice, limit).await?;
        if let Some(found) = &mut found {
            in_part(&mut found.entries, part);
        }
        Ok(found)
    }

    async fn entries(&self, convo: ConvoId, from: Seq, limit: usize) -> Result<Vec<Logged>, StoreError> {
        let (part, store) = self.part(convo);
        let mut found = store.entries(convo, from, limit).await?;
        in_part(&mut found, part);
        Ok(found)
    }

    async fn member_changes(&self, among: &[Touched]) -> Result<Vec<Logged>, StoreError> {
        let mut asked = vec![Vec::new(); self.parts.len()];
        among.iter().for_each(|touched| asked[self.part_of(touched.convo)].push(*touched));
        let asked = &asked;
        // A part that is asked nothing may be away.
        let ask = async |part: usize, store: &dyn Store| {
            let mut found = match asked[part].as_slice() {
                [] => Vec::new(),
                among => store.member_changes(among).await?,
            };
            in_part(&mut found, part);
            Ok::<_, StoreError>(found)
        };
        let parts = self.parts.iter().enumerate().map(|(number, part)| ask(number, &*part.store));
        Ok(try_join_all(parts).await?.concat())
    }

    async fn ranges(&self, ranges: &[Touched]) -> Result<Vec<Vec<Logged>>, StoreError> {
        let mut split = vec![(Vec::new(), Vec::new()); self.parts.len()];
        for (place, range) in ranges.iter().enumerate() {
            let (places, ranges) = &mut split[self.part_of(range.convo)];
            places.push(place);
            ranges.push(*range);
        }
        let parts = split.into_iter().enumerate().filter(|(_, (places, _))| !places.is_empty());
        let reads = parts.map(async |(part, (places, ranges))| {
            let found = self.parts[part].store.ranges(&ranges).await?;
            Ok::<_, StoreError>((part, places, found))
        });
        let mut lists = vec![Vec::new(); ranges.len()];
        for (part, places, found) in try_join_all(reads).await? {
            for (place, mut entries) in places.into_iter().zip(found) {
                in_part(&mut entries, part);
                lists[place] = entries;
            }
        }
        Ok(lists)
    }

    async fn conversation(&self, user: UserId, convo: ConvoId) -> Result<Option<Conversation>, StoreError> {
        self.part(convo).1.conversation(user, convo).await
    }

    async fn inbox(&self, user: UserId, cursor: Option<&str>, limit: usize) -> Result<InboxPage, StoreError> {
        // A cursor says where in the order of all a page ended: each part goes on from there.
        let pages = self.of_all(|_, store| store.inbox(user, cursor, limit)).await?;
        Ok(merge::inbox(pages, limit))
    }

    async fn members(
        &self,
        user: UserId,
        convo: ConvoId,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Option<MemberPage>, StoreError> {
        self.part(convo).1.members(user, convo, cursor, limit).await
    }

    async fn message_receipts(
        &self,
        user: UserId,
        convo: ConvoId,
        seq: Seq,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Option<ReceiptPage>, StoreError> {
        self.part(convo).1.message_receipts(user, convo, seq, cursor, limit).await
    }

    async fn heads(&self, user: UserId) -> Result<Vec<Head>, StoreError> {
        Ok(self.of_all(|_, store| store.heads(user)).await?.into_iter().flatten().collect())
    }

    async fn changes(
        &self,
        user: UserId,
        since: Position,
        only: Option<ConvoId>,
    ) -> Result<Vec<Change>, StoreError> {
        if let Some(convo) = only {
            let (part, store) = self.part(convo);
            return store.changes(user, in_its_words(&since, part), only).await;
        }
        let parts = self.of_all(|part, store| store.changes(user, in_its_words(&since, part), None)).await?;
        Ok(merge::changes(parts))
    }

    async fn missed(&self, user: UserId, since: Position, entries_max: usize) -> Result<Missed, StoreError> {
        let parts = self.of_all(|part, store| store.missed(user, in_its_words(&since, part), entries_max));
        let mut parts = parts.await?;
        for (number, part) in parts.iter_mut().enumerate() {
            part.pages.iter_mut().for_each(|(_, page)| in_part(&mut page.entries, number));
        }
        Ok(merge::missed(parts, entries_max))
    }

    async fn sharing(&self, user: UserId, others: &[UserId]) -> Result<Vec<UserId>, StoreError> {
        let parts = self.of_all(|_, store| store.sharing(user, others)).await?;
        Ok(others.iter().filter(|other| parts.iter().any(|part| part.contains(other))).copied().collect())
    }

    async fn visible_from(
        &self,
        user: UserId,
        only: Option<ConvoId>,
    ) -> Result<Vec<(ConvoId, Seq)>, StoreError> {
        if let Some(convo) = only {
            return self.part(convo).1.visible_from(user, only).await;
        }
        Ok(self.of_all(|_, store| store.visible_from(user, None)).await?.into_iter().flatten().collect())
    }

    async fn ceiling(&self) -> Result<Position, StoreError> {
        let mut ceiling = Position::default();
        for (part, told) in self.of_all(|_, store| store.ceiling()).await?.into_iter().enumerate() {
            ceiling.set(told.of_part(0).in_part(part));
        }
        Ok(ceiling)
    }

    async fn journal(&self, since: Position, limit: usize) -> Result<Option<Vec<JournalRow>>, StoreError> {
        let told = self.ask(|part, store| store.journal(in_its_words(&since, part), limit)).await;
        let (mut parts, mut failed) = (Vec::new(), None);
        for (part, told) in told.into_iter().enumerate() {
            match told {
                Ok(Some(mut rows)) => {
                    rows.iter_mut().for_each(|row| row.commit = row.commit.in_part(part));
                    parts.push(rows);
                }
                Ok(None) => return Ok(None),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        let rows = merge::journal(parts, limit);
        match failed {
            // That there are no more, nobody knows.
            Some(error) if rows.is_empty() => Err(error),
            _ => Ok(Some(rows)),
        }
    }

    async fn forget_journal(&self, before: Position) -> Result<(), StoreError> {
        // A part that is away is told the next time.
        let told = self.of_those_that_answer(|part, store| store.forget_journal(in_its_words(&before, part)));
        told.await.map(drop)
    }

    fn published(&self, lane: usize, commit: Commit) {
        if let Some(part) = self.parts.get(commit.part()) {
            part.store.published(lane.saturating_sub(part.first_lane), commit.in_part(0));
        }
    }

    async fn barrier_horizon(&self) -> Result<Position, StoreError> {
        let ask = |store: std::sync::Arc<dyn Store>| -> futures_util::future::BoxFuture<'static, _> {
            Box::pin(async move { store.barrier_horizon().await })
        };
        self.position_of(|part| &part.barrier, ask).await
    }

    async fn unpublished(&self, longer_than: Duration, limit: usize) -> Result<Vec<Leftover>, StoreError> {
        let parts = self.of_those_that_answer(|_, store| store.unpublished(longer_than, limit)).await?;
        let of_part = |(part, leftovers): (usize, Vec<Leftover>)| {
            leftovers.into_iter().map(move |left| Leftover { commit: left.commit.in_part(part), ..left })
        };
        Ok(parts.into_iter().flat_map(of_part).take(limit).collect())
    }

    async fn take_over(&self, leftovers: &[Leftover]) -> Result<(), StoreError> {
        let taken = self.ask(async |part, store: &dyn Store| {
            let own = leftovers.iter().filter(|left| left.commit.part() == part);
            let own: Vec<_> =
                own.map(|left| Leftover { commit: left.commit.in_part(0), ..left.clone() }).collect();
            if own.is_empty() { Ok(()) } else { store.take_over(&own).await }
        });
        taken.await.into_iter().collect()
    }

    async fn logs(&self, after: Option<ConvoId>, limit: usize) -> Result<Vec<(ConvoId, Seq)>, StoreError> {
        Ok(merge::by_id(self.of_all(|_, store| store.logs(after, limit)).await?, limit))
    }

    fn figures(&self) -> Vec<(&'static str, f64)> {
        let away = self.parts.iter().filter(|part| part.is_away()).count();
        let mut figures = vec![("store_parts", self.parts.len() as f64), ("store_parts_away", away as f64)];
        for (name, value) in self.parts.iter().flat_map(|part| part.store.figures()) {
            match figures.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += value,
                None => figures.push((name, value)),
            }
        }
        figures
    }

    async fn close(&self) {
        join_all(self.parts.iter().map(|part| part.store.close())).await;
    }
}
