//! Random corpora against a model that looks at every message.

use std::collections::BTreeMap;

use tertulia_protocol::{ConvoId, Seq, Timestamp, UserId};

use super::IndexUnderTest;
use super::world::{ANA, BO, World, convo};
use crate::words::words;
use crate::{Change, Document, Order, Search, Term, find, rank};

/// Numbers that look random and are always the same (Knuth, volume 2, 3.3.4).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn text(&mut self, words_max: usize) -> String {
        const WORDS: [&str; 12] =
            ["tea", "Té", "for", "two", "don't", "上海", "海上", "上", "กาแฟ", "カー", "über", "x1"];
        let count = 1 + self.below(words_max);
        let mut text = String::new();
        for _ in 0..count {
            text.push_str(WORDS[self.below(WORDS.len())]);
            text.push_str([" ", " ", ", ", ""][self.below(4)]);
        }
        text
    }
}

struct Message {
    sender: UserId,
    ts: Timestamp,
    body: String,
    /// When it came, for those of one moment.
    number: usize,
}

type Model = BTreeMap<(ConvoId, u64), Message>;

fn expected(model: &Model, search: &Search) -> Vec<(ConvoId, u64)> {
    let fits = |&(&(convo, seq), message): &(&(ConvoId, u64), &Message)| {
        search.convos.get(&convo).is_some_and(|&from| Seq::new(seq) >= from)
            && search.sender.is_none_or(|sender| message.sender == sender)
            && search.before.is_none_or(|before| message.ts < before)
            && search.after.is_none_or(|after| message.ts >= after)
            && find(&search.terms, &words(&message.body)).is_some()
    };
    let mut hits: Vec<_> = model.iter().filter(fits).collect();
    hits.sort_by_key(|(_, message)| {
        let count = u32::try_from(words(&message.body).len()).unwrap();
        let weight = if search.order == Order::Rank { rank(message.ts, count) } else { 0 };
        std::cmp::Reverse((weight, message.ts, message.number))
    });
    hits.into_iter().map(|(&place, _)| place).collect()
}

pub async fn random_corpora_agree_with_the_model<I: IndexUnderTest>() {
    for seed in 0..4 {
        let mut dice = Dice(seed);
        let mut world = World::<I>::new().await;
        let mut model = Model::new();
        let mut seqs = [0; 4];
        for round in 0..12_usize {
            let mut batch = Vec::new();
            for _ in 0..dice.below(40) {
                let (place, sender) = (dice.below(4), [ANA, BO][dice.below(2)]);
                let at = convo(u16::try_from(place).unwrap());
                // Each moment has messages of one conversation: of two the order is not promised.
                world.now += 3_600_000 * i64::try_from(1 + dice.below(100)).unwrap();
                let ts = Timestamp::from_millis(world.now);
                for _ in 0..=dice.below(3) {
                    seqs[place] += 1;
                    let (seq, body) = (Seq::new(seqs[place]), dice.text(8));
                    batch.push(Change::Put(Document::new(at, seq, sender, ts, &body)));
                    let number = model.len() + 1_000 * round;
                    model.insert((at, seq.get()), Message { sender, ts, body, number });
                }
            }
            let places: Vec<_> = model.keys().copied().collect();
            for _ in 0..if places.is_empty() { 0 } else { dice.below(8) } {
                let place = places[dice.below(places.len())];
                let Some(message) = model.get_mut(&place) else { continue };
                let (convo, seq, ts) = (place.0, Seq::new(place.1), message.ts);
                if dice.below(2) == 0 {
                    message.body = dice.text(8);
                    batch.push(Change::Put(Document::new(convo, seq, message.sender, ts, &message.body)));
                } else {
                    model.remove(&place);
                    batch.push(Change::Remove { convo, seq, ts });
                }
            }
            world.index().apply(batch, Some(&format!("{seed} {round}"))).await.unwrap();
            for _ in 0..20 {
                let search = draw(&mut dice, &model);
                let found = world.search(search.clone()).await;
                let found: Vec<_> = found.hits.iter().map(|hit| (hit.convo, hit.seq.get())).collect();
                assert_eq!(found, expected(&model, &search), "seed {seed}, round {round}: {search:?}");
            }
        }
    }
}

fn draw(dice: &mut Dice, model: &Model) -> Search {
    let time = |dice: &mut Dice| {
        let at = dice.below(model.len().max(1));
        model.values().nth(at).map(|message| message.ts).filter(|_| dice.below(4) == 0)
    };
    let terms = (0..=dice.below(2)).filter_map(|_| Term::of(&dice.text(2))).collect();
    let convos: Vec<u16> = (0..4).filter(|_| dice.below(4) > 0).collect();
    let convos = convos.into_iter().map(|number| (convo(number), Seq::new(1 + dice.below(3) as u64 * 10)));
    let convos = convos.collect();
    Search {
        terms,
        convos,
        sender: [None, None, Some(ANA), Some(BO)][dice.below(4)],
        before: time(dice),
        after: time(dice),
        order: [Order::Newest, Order::Rank][dice.below(2)],
        from: None,
        limit: 10_000,
    }
}
