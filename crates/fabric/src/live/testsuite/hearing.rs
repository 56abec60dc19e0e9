//! Topics, messages and their order, over a link that stands.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::future::join_all;

use super::LiveUnderTest;
use super::world::*;
use crate::live::{Heard, Limits, LiveError, MESSAGE_BYTES_MAX, Topic};

pub async fn what_is_published_is_heard_by_whoever_subscribed<A: LiveUnderTest>() {
    let adapter = A::open().await;
    let (ana, mut bo, mut eve) =
        (Node::join(&adapter).await, Node::join(&adapter).await, Node::join(&adapter).await);
    bo.subscribe(&[convo(1), Topic::Everyone]).await;
    eve.subscribe(&[convo(2), Topic::Everyone]).await;
    ana.publish(convo(1), "to one").await;
    ana.publish(convo(2), "to two").await;
    ana.publish(convo(3), "to nobody").await;
    ana.publish(Topic::Everyone, "to all").await;
    let heard = [bo.all().await, eve.all().await];
    for (heard, text) in heard.into_iter().zip(["to one", "to two"]) {
        // The order is that of each topic.
        let mut heard: Vec<_> = heard.into_iter().map(|(_, bytes)| bytes).collect();
        heard.sort();
        assert_eq!(heard, ["to all", text]);
    }
}

pub async fn ones_own_publications_come_back<A: LiveUnderTest>() {
    let adapter = A::open().await;
    let mut ana = Node::join(&adapter).await;
    ana.subscribe(&[node(1)]).await;
    ana.publish(node(1), "to myself").await;
    ana.expect(node(1), "to myself").await;
}

pub async fn what_one_node_publishes_to_a_topic_is_heard_in_order<A: LiveUnderTest>() {
    const CALLS: u32 = 40;
    let adapter = A::open().await;
    let publishers = [Node::join(&adapter).await, Node::join(&adapter).await];
    let mut listener = Node::join(&adapter).await;
    let topics = [convo(1), convo(2), user(1)];
    listener.subscribe(&topics).await;
    let publish = |number: usize| {
        let live = &publishers[number].live;
        async move {
            for call in 0..CALLS {
                let texts = (0..25).map(|at| format!("{number} {}", call * 25 + at));
                let messages = texts.flat_map(|text| topics.map(|topic| (topic, Bytes::from(text.clone()))));
                assert_eq!(live.publish(messages.collect()).await, Ok(()));
            }
        }
    };
    join_all((0..publishers.len()).map(publish)).await;
    let mut next: HashMap<(Topic, String), u32> = HashMap::new();
    for (topic, bytes) in listener.all().await {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let (publisher, number) = text.split_once(' ').unwrap();
        let next = next.entry((topic, publisher.into())).or_default();
        assert_eq!(number, next.to_string(), "{topic} from {publisher}");
        *next += 1;
    }
    assert_eq!(next.len(), 6);
    assert!(next.values().all(|next| *next == CALLS * 25), "{next:?}");
}

pub async fn nothing_is_missed_once_subscribe_has_returned<A: LiveUnderTest>() {
    let adapter = A::open().await;
    let (ana, mut bo) = (Node::join(&adapter).await, Node::join(&adapter).await);
    for number in 0..100 {
        bo.subscribe(&[convo(number)]).await;
        ana.publish(convo(number), "x").await;
        bo.expect(convo(number), "x").await;
    }
}

pub async fn topics_that_were_left_fall_silent<A: LiveUnderTest>() {
    let adapter = A::open().await;
    let (ana, mut bo) = (Node::join(&adapter).await, Node::join(&adapter).await);
    bo.subscribe(&[convo(1), convo(2)]).await;
    bo.live.unsubscribe(&[convo(1), convo(99)]);
    // Soon: asked for as long as it takes.
    loop {
        ana.publish(convo(1), "left").await;
        ana.publish(convo(2), "kept").await;
        let heard = bo.all().await;
        assert!(heard.iter().any(|(topic, _)| *topic == convo(2)), "{heard:?}");
        if heard.iter().all(|(topic, _)| *topic != convo(1)) {
            break;
        }
    }
}

pub async fn a_topic_left_and_subscribed_again_is_heard<A: LiveUnderTest>() {
    let adapter = A::open().await;
    let (ana, mut bo) = (Node::join(&adapter).await, Node::join(&adapter).await);
    for _ in 0..50 {
        bo.subscribe(&[convo(1)]).await;
        ana.publish(convo(1), "x").await;
        bo.expect(convo(1), "x").await;
        bo.live.unsubscribe(&[convo(1)]);
    }
}

pub async fn subscribing_again_changes_nothing<A: LiveUnderTest>() {
    let adapter = A::open().await;
    let (ana, mut bo) = (Node::join(&adapter).await, Node::join(&adapter).await);
    bo.subscribe(&[convo(1), convo(1)]).await;
    bo.subscribe(&[convo(1), convo(2)]).await;
    ana.publish(convo(1), "once").await;
    assert_eq!(bo.all().await.len(), 1);
    bo.live.unsubscribe(&[convo(2)]);
    ana.publish(convo(1), "still").await;
    bo.expect(convo(1), "still").await;
}

pub async fn topics_of_other_kinds_are_other_topics<A: LiveUnderTest>() {
    let adapter = A::open().await;
    let (ana, mut bo) = (Node::join(&adapter).await, Node::join(&adapter).await);
    let kinds = [convo(1), user(1), watched(1), node(1), Topic::Everyone];
    for topic in kinds {
        bo.subscribe(&[topic]).await;
        for topic in kinds {
            ana.publish(topic, "x").await;
        }
        let heard = bo.all().await;
        assert!(heard.iter().any(|(heard, _)| *heard == topic));
        assert!(heard.len() <= kinds.len());
    }
    for topic in kinds {
        ana.publish(topic, "x").await;
    }
    assert_eq!(bo.all().await.len(), kinds.len());
}

pub async fn payloads_are_heard_byte_for_byte<A: LiveUnderTest>() {
    let adapter = A::open().await;
    let (ana, mut bo) = (Node::join(&adapter).await, Node::join(&adapter).await);
    bo.subscribe(&[convo(1)]).await;
    let all_bytes: Vec<u8> = (0..=u8::MAX).collect();
    let payloads = [
        Bytes::new(),
        Bytes::from_static(b"\r\n$-1\r\n>0\r\n\0"),
        Bytes::from(all_bytes.repeat(1_024)),
        Bytes::from(vec![b'\r'; MESSAGE_BYTES_MAX]),
        Bytes::from(all_bytes),
    ];
    let messages = payloads.iter().map(|bytes| (convo(1), bytes.clone())).collect();
    assert_eq!(ana.live.publish(messages).await, Ok(()));
    for payload in payloads {
        let (_, heard) = bo.message().await;
        assert!(heard == payload, "{} bytes became {}", payload.len(), heard.len());
    }
}

pub async fn a_message_that_is_too_long_is_refused_and_none_of_its_call_is_heard<A: LiveUnderTest>() {
    let adapter = A::open().await;
    let mut ana = Node::join(&adapter).await;
    ana.subscribe(&[convo(1)]).await;
    let long = Bytes::from(vec![0; MESSAGE_BYTES_MAX + 1]);
    let messages = vec![(convo(1), Bytes::from_static(b"short")), (convo(1), long)];
    assert_eq!(ana.live.publish(messages).await, Err(LiveError::TooLarge(MESSAGE_BYTES_MAX + 1)));
    assert_eq!(ana.all().await, []);
}

pub async fn many_topics_are_heard_each<A: LiveUnderTest>() {
    const TOPICS: u32 = 20_000;
    let adapter = A::open().await;
    let (ana, mut bo) = (Node::join(&adapter).await, Node::join(&adapter).await);
    let topics: Vec<_> = (0..TOPICS).map(convo).collect();
    bo.subscribe(&topics).await;
    let sample: Vec<_> = topics.iter().step_by(37).copied().collect();
    let messages = sample.iter().map(|topic| (*topic, Bytes::from_static(b"x"))).collect();
    assert_eq!(ana.live.publish(messages).await, Ok(()));
    let mut heard: Vec<_> = bo.all().await.into_iter().map(|(topic, _)| topic).collect();
    heard.sort();
    assert_eq!(heard, sample);
    bo.live.unsubscribe(&topics[1..]);
    ana.publish(topics[0], "kept").await;
    bo.expect(topics[0], "kept").await;
}

pub async fn many_subscribers_at_once_are_all_served<A: LiveUnderTest>() {
    let adapter = A::open().await;
    let (ana, mut bo) = (Node::join(&adapter).await, Node::join(&adapter).await);
    join_all((0..2_000).map(|number| {
        let bo = &bo;
        async move { bo.subscribe(&[convo(number), user(number)]).await }
    }))
    .await;
    let messages = (0..2_000).map(|number| (user(number), Bytes::from_static(b"x"))).collect();
    assert_eq!(ana.live.publish(messages).await, Ok(()));
    assert_eq!(bo.all().await.len(), 2_000);
}

pub async fn a_barrier_comes_after_all_that_was_published_before<A: LiveUnderTest>() {
    let adapter = A::open().await;
    let (ana, mut bo) = (Node::join(&adapter).await, Node::join(&adapter).await);
    let topics: Vec<_> = (0..64).map(convo).collect();
    bo.subscribe(&topics).await;
    for token in 0..50 {
        let messages = topics.iter().map(|topic| (*topic, Bytes::from_static(b"x"))).collect();
        assert_eq!(ana.live.publish(messages).await, Ok(()));
        bo.live.barrier(token);
        for _ in &topics {
            bo.message().await;
        }
        assert_eq!(bo.hear().await, Heard::Barrier(token));
    }
}

pub async fn a_node_that_does_not_listen_holds_up_nobody<A: LiveUnderTest>() {
    let adapter = A::open().await;
    let mut ana = Node::join(&adapter).await;
    let deaf = Node::join_with(&adapter, Limits { messages: 4, bytes: 1_000 }).await;
    ana.subscribe(&[convo(1)]).await;
    deaf.subscribe(&[convo(1)]).await;
    for _ in 0..200 {
        ana.publish(convo(1), "x").await;
        ana.expect(convo(1), "x").await;
    }
}

pub async fn calls_without_topics_and_messages_are_answered<A: LiveUnderTest>() {
    let adapter = A::open().await;
    let mut ana = Node::join(&adapter).await;
    ana.subscribe(&[]).await;
    ana.live.unsubscribe(&[]);
    assert_eq!(ana.live.publish(Vec::new()).await, Ok(()));
    assert_eq!(ana.all().await, []);
}
