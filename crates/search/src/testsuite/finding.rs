//! What is found, and in which order.

use tertulia_protocol::{ConvoId, Seq, Timestamp};

use super::IndexUnderTest;
use super::world::{ANA, BO, NOTHING, World, convo, in_convos, pages};
use crate::{Document, Order, Search};

pub async fn all_words_must_be_there<I: IndexUnderTest>() {
    let mut world = World::<I>::new().await;
    for body in ["tea", "tea for two", "two cups of tea", "coffee for two", "teapot"] {
        world.say(body).await;
    }
    assert_eq!(world.find("tea").await, [3, 2, 1]);
    assert_eq!(world.find("two tea").await, [3, 2]);
    assert_eq!(world.find("two tea for").await, [2]);
    assert_eq!(world.find("tea milk").await, NOTHING);
    assert_eq!(world.find("tea tea").await, [3, 2, 1]);
}

pub async fn case_and_accents_are_one<I: IndexUnderTest>() {
    let mut world = World::<I>::new().await;
    for body in ["Un TÉ, por favor", "te\u{301}", "STRASSE", "ΟΔΟΣ", "مُحَمَّد"] {
        world.say(body).await;
    }
    assert_eq!(world.find("te").await, [2, 1]);
    assert_eq!(world.find("Té").await, [2, 1]);
    assert_eq!(world.find("Straße").await, [3]);
    assert_eq!(world.find("οδός").await, [4]);
    assert_eq!(world.find("محمد").await, [5]);
}

pub async fn a_phrase_is_words_beside_each_other<I: IndexUnderTest>() {
    let mut world = World::<I>::new().await;
    for body in ["Tea for two!", "for tea, two", "two for tea", "I don't", "don, to: t"] {
        world.say(body).await;
    }
    assert_eq!(world.find("tea_for").await, [1]);
    assert_eq!(world.find("for_tea").await, [3, 2]);
    assert_eq!(world.find("for_tea two").await, [3, 2]);
    assert_eq!(world.find("tea_for_two").await, [1]);
    assert_eq!(world.find("don't").await, [4]);
    assert_eq!(world.find("two_two").await, NOTHING);
}

pub async fn scripts_without_spaces_are_found_inside_a_sentence<I: IndexUnderTest>() {
    let mut world = World::<I>::new().await;
    for body in ["我在上海工作。", "海上的船", "東京タワーに行きたい", "ดื่มกาแฟเย็น", "去 tea 上海"]
    {
        world.say(body).await;
    }
    assert_eq!(world.find("上海").await, [5, 1]);
    assert_eq!(world.find("海").await, [5, 2, 1]);
    assert_eq!(world.find("海上").await, [2]);
    assert_eq!(world.find("在上海工").await, [1]);
    assert_eq!(world.find("作").await, [1]);
    assert_eq!(world.find("上工").await, NOTHING);
    assert_eq!(world.find("ﾀﾜｰ").await, [3]);
    assert_eq!(world.find("กาแฟ").await, [4]);
    assert_eq!(world.find("tea_上").await, [5]);
    assert_eq!(world.find("去_tea_上海").await, [5]);
}

pub async fn only_what_may_be_seen_is_found<I: IndexUnderTest>() {
    let mut world = World::<I>::new().await;
    let messages: Vec<_> = (0..9).map(|number| world.message(convo(1 + number % 3), ANA, "tea")).collect();
    world.put(messages).await;
    let mut search = in_convos("tea", &[1]);
    search.convos.insert(convo(2), Seq::new(3));
    search.convos.insert(convo(9), Seq::new(1));
    let hits = world.search(search).await.hits;
    let hits: Vec<_> = hits.iter().map(|hit| (hit.convo, hit.seq.get())).collect();
    assert_eq!(hits, [(convo(2), 3), (convo(1), 3), (convo(1), 2), (convo(1), 1)]);
    assert_eq!(world.search(in_convos("tea", &[])).await.hits, []);
}

pub async fn filters_narrow_it<I: IndexUnderTest>() {
    let mut world = World::<I>::new().await;
    let begin = world.now;
    for (sender, body) in [(ANA, "tea"), (BO, "tea"), (BO, "coffee"), (ANA, "coffee"), (BO, "tea")] {
        let message = world.message(convo(1), sender, body);
        world.put(vec![message]).await;
    }
    let ask = async |search: Search| -> Vec<u64> {
        world.search(search).await.hits.iter().map(|hit| hit.seq.get()).collect()
    };
    let at = |second: i64| Some(Timestamp::from_millis(begin + second * 1_000));
    let tea = in_convos("tea", &[1]);
    assert_eq!(ask(Search { sender: Some(BO), ..tea.clone() }).await, [5, 2]);
    assert_eq!(ask(Search { sender: Some(BO), ..in_convos("", &[1]) }).await, [5, 3, 2]);
    assert_eq!(ask(Search { before: at(5), ..tea.clone() }).await, [2, 1]);
    assert_eq!(ask(Search { after: at(2), ..tea.clone() }).await, [5, 2]);
    assert_eq!(ask(Search { after: at(2), before: at(5), ..tea.clone() }).await, [2]);
    assert_eq!(ask(Search { after: at(5), before: at(2), ..tea.clone() }).await, NOTHING);
    let nobody = Some(tertulia_protocol::UserId::from_bytes([1; 16]));
    assert_eq!(ask(Search { sender: nobody, ..tea }).await, NOTHING);
}

pub async fn the_newest_comes_first<I: IndexUnderTest>() {
    let mut world = World::<I>::new().await;
    let mut messages: Vec<_> =
        (0..20).map(|number| world.message(convo(1 + number % 2), ANA, "tea")).collect();
    let expected: Vec<_> = messages.iter().rev().map(|message| (message.convo, message.seq)).collect();
    // Whichever way they came.
    messages.swap(3, 17);
    let later = messages.split_off(10);
    world.put(later).await;
    world.put(messages).await;
    let hits = world.search(in_convos("tea", &[1, 2])).await.hits;
    assert_eq!(hits.iter().map(|hit| (hit.convo, hit.seq)).collect::<Vec<_>>(), expected);
}

pub async fn of_one_moment_the_later_entry_comes_first<I: IndexUnderTest>() {
    let mut world = World::<I>::new().await;
    for _ in 0..3 {
        let batch: Vec<_> =
            (0..10).map(|number| world.message_now(convo(1 + number % 2), ANA, "tea")).collect();
        world.put(batch).await;
    }
    assert_eq!(world.find("tea").await, (1..=15).rev().collect::<Vec<_>>());
}

fn sorted(mut places: Vec<(ConvoId, u64)>) -> Vec<(ConvoId, u64)> {
    places.sort_unstable();
    places
}

pub async fn pages_make_up_the_whole_while_more_is_written<I: IndexUnderTest>() {
    let mut world = World::<I>::new().await;
    let messages: Vec<_> = (0..50).map(|number| world.message(convo(1 + number % 3), ANA, "tea")).collect();
    let expected: Vec<_> = messages.iter().rev().map(|message| (message.convo, message.seq.get())).collect();
    world.put(messages).await;
    for limit in [1, 7, 50, 51] {
        let search = Search { limit, ..in_convos("tea", &[1, 2, 3]) };
        // What comes meanwhile would come first: it is for those who ask anew.
        let found = pages(&mut world, search, async |world| drop(world.say("more tea").await)).await;
        let found: Vec<_> = found.into_iter().filter(|place| expected.contains(place)).collect();
        assert_eq!(found, expected, "{limit}");
    }
}

/// As many words as are asked for, one of them tea.
fn of_length(words: usize) -> String {
    format!("tea{}", " and".repeat(words - 1))
}

pub async fn short_and_new_ranks_before_long_and_old<I: IndexUnderTest>() {
    let mut world = World::<I>::new().await;
    let days = |days: i64| days * 24 * 3_600_000;
    for (later, words) in [(0, 2), (days(1), 1), (days(1), 2), (days(1), 300), (days(30), 3)] {
        world.now += later;
        world.say(&of_length(words)).await;
    }
    assert_eq!(world.find("tea").await, [5, 4, 3, 2, 1]);
    let ranked = world.search(Search { order: Order::Rank, ..in_convos("tea", &[1]) }).await;
    // The 2nd is a day older than the 3rd, and half as long; the 4th is the longest.
    assert_eq!(ranked.hits.iter().map(|hit| hit.seq.get()).collect::<Vec<_>>(), [5, 2, 3, 1, 4]);
}

pub async fn ranked_pages_make_up_the_whole_while_more_is_written<I: IndexUnderTest>() {
    let mut world = World::<I>::new().await;
    let messages: Vec<Document> = (0..60)
        .map(|number| world.message(convo(1 + number % 3), ANA, &of_length(1 + usize::from(number) % 11)))
        .collect();
    let places: Vec<_> = messages.iter().map(|message| (message.convo, message.seq.get())).collect();
    world.put(messages).await;
    let search = Search { order: Order::Rank, limit: 100, ..in_convos("tea", &[1, 2, 3]) };
    let whole = pages(&mut world, search.clone(), async |_| {}).await;
    assert_eq!(sorted(whole.clone()), sorted(places));
    for limit in [1, 7, 60] {
        let mut before = pages(&mut world, Search { limit: 100, ..search.clone() }, async |_| {}).await;
        let found =
            pages(&mut world, Search { limit, ..search.clone() }, async |world| drop(world.say("tea").await))
                .await;
        assert_eq!(found, before, "{limit}");
        before.retain(|place| whole.contains(place));
        assert_eq!(before, whole);
    }
}

pub async fn who_is_in_a_thousand_conversations_finds_the_same<I: IndexUnderTest>() {
    let mut world = World::<I>::new().await;
    let messages: Vec<_> = (0..60).map(|number| world.message(convo(number % 6), ANA, "tea")).collect();
    world.put(messages).await;
    let few = world.search(in_convos("tea", &[1, 3, 5])).await;
    let mut many: Vec<u16> = (100..1_100).collect();
    many.extend([1, 3, 5]);
    let many = world.search(in_convos("tea", &many)).await;
    assert_eq!(many, few);
    assert_eq!(many.hits.len(), 30);
}

pub async fn messages_that_may_not_be_seen_do_not_end_the_search<I: IndexUnderTest>() {
    const HIDDEN: u64 = 30_000;
    let mut world = World::<I>::new().await;
    let first = world.message(convo(2), ANA, "tea");
    world.put(vec![first]).await;
    for _ in 0..3 {
        let batch: Vec<_> = (0..HIDDEN / 3).map(|_| world.message(convo(1), ANA, "tea")).collect();
        world.put(batch).await;
    }
    let mut search = in_convos("tea", &[2]);
    search.convos.insert(convo(1), Seq::new(HIDDEN));
    // However many pages it takes.
    let found = pages(&mut world, search, async |_| {}).await;
    assert_eq!(found, [(convo(1), HIDDEN), (convo(2), 1)]);
}

/// Each page, its places too, is what it would be if there were only what may be seen.
pub async fn a_place_tells_nothing_of_what_may_not_be_seen<I: IndexUnderTest>() {
    let (mut whole, mut visible) = (World::<I>::new().await, World::<I>::new().await);
    // In 1 he may see what came since he did; in 9 he is not. Its messages are before, between and behind.
    let messages: Vec<_> = (0..46)
        .map(|number| {
            let at = if number % 5 == 2 || number % 7 == 3 { convo(1) } else { convo(9) };
            whole.message(at, ANA, &of_length(1 + number % 4))
        })
        .collect();
    let may_see = |message: &&Document| message.convo == convo(1) && message.seq >= Seq::new(4);
    visible.put(messages.iter().filter(may_see).cloned().collect()).await;
    whole.put(messages).await;
    // As many more conversations, in which nobody has said it: few, some, more than are named.
    for more in [0, 8, 300] {
        for (order, limit) in
            [1, 2, 5, 11, 50].map(|limit| [Order::Newest, Order::Rank].map(|order| (order, limit))).concat()
        {
            let mut search = Search { order, limit, ..in_convos("tea", &[1]) };
            search.convos.insert(convo(1), Seq::new(4));
            search.convos.extend((100..100 + more).map(|number| (convo(number), Seq::new(1))));
            loop {
                let (found, expected) =
                    (whole.search(search.clone()).await, visible.search(search.clone()).await);
                assert_eq!(found, expected, "{more} more, {order:?}, {limit} a page");
                if found.next.is_none() {
                    break;
                }
                search.from = found.next;
            }
        }
    }
}
