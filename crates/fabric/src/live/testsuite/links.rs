//! Links that break, and the end.

use super::LiveUnderTest;
use super::world::*;
use crate::live::{Heard, Limits, LiveError};

pub async fn the_first_thing_heard_is_that_the_link_stands<A: LiveUnderTest>() {
    let mut adapter = A::open().await;
    adapter.cut().await;
    adapter.mend().await;
    let (live, ear) = adapter.join(Limits::default()).await;
    let mut ana = Node { live, ear };
    assert_eq!(ana.hear().await, Heard::Restored);
    ana.subscribe_in_the_end(&[convo(1)]).await;
    ana.expect_in_the_end(convo(1)).await;
}

pub async fn a_broken_link_is_heard_and_so_is_its_end<A: LiveUnderTest>() {
    let mut adapter = A::open().await;
    let mut nodes = [Node::join(&adapter).await, Node::join(&adapter).await];
    adapter.cut().await;
    for node in &mut nodes {
        assert_eq!(node.hear().await, Heard::Broken);
    }
    adapter.mend().await;
    for node in &mut nodes {
        node.hear_until(&Heard::Restored).await;
    }
}

pub async fn over_a_broken_link_publishing_fails_soon<A: LiveUnderTest>() {
    let mut adapter = A::open().await;
    let mut ana = Node::join(&adapter).await;
    adapter.cut().await;
    assert_eq!(ana.hear().await, Heard::Broken);
    for _ in 0..3 {
        assert!(matches!(ana.try_publish(convo(1), "x").await, Err(LiveError::Broken(_))));
    }
    ana.live.barrier(1);
    adapter.mend().await;
    ana.hear_until(&Heard::Restored).await;
    // The link to hear on stands; the one to publish on comes by itself.
    while ana.try_publish(convo(1), "x").await.is_err() {}
}

pub async fn topics_that_were_wanted_are_heard_again<A: LiveUnderTest>() {
    let mut adapter = A::open().await;
    let mut ana = Node::join(&adapter).await;
    let topics: Vec<_> = (0..3_000).map(convo).collect();
    ana.subscribe(&topics).await;
    adapter.cut().await;
    adapter.mend().await;
    ana.hear_until(&Heard::Restored).await;
    for topic in topics.into_iter().step_by(100) {
        ana.expect_in_the_end(topic).await;
    }
}

pub async fn topics_wanted_while_it_was_broken_are_heard_afterwards<A: LiveUnderTest>() {
    let mut adapter = A::open().await;
    let mut ana = Node::join(&adapter).await;
    adapter.cut().await;
    assert_eq!(ana.hear().await, Heard::Broken);
    let refused = soon("the end of a subscription", ana.live.subscribe(vec![convo(1), user(2)])).await;
    assert!(matches!(refused, Err(LiveError::Broken(_))));
    adapter.mend().await;
    ana.hear_until(&Heard::Restored).await;
    for topic in [convo(1), user(2)] {
        ana.expect_in_the_end(topic).await;
    }
}

pub async fn topics_left_while_it_was_broken_are_silent_afterwards<A: LiveUnderTest>() {
    let mut adapter = A::open().await;
    let mut ana = Node::join(&adapter).await;
    ana.subscribe(&[convo(1), convo(2)]).await;
    adapter.cut().await;
    assert_eq!(ana.hear().await, Heard::Broken);
    ana.live.unsubscribe(&[convo(1)]);
    adapter.mend().await;
    ana.hear_until(&Heard::Restored).await;
    while ana.try_publish(convo(1), "x").await.is_err() {}
    while ana.try_publish(convo(2), "x").await.is_err() {}
    // Whatever happens to the links meanwhile, the first is not heard.
    loop {
        match ana.hear().await {
            Heard::Message { topic, .. } if topic == convo(2) => break,
            Heard::Broken => while ana.try_publish(convo(2), "x").await.is_err() {},
            other => assert_eq!(other, Heard::Restored),
        }
    }
}

pub async fn a_link_that_breaks_again_and_again_is_heard_to<A: LiveUnderTest>() {
    let mut adapter = A::open().await;
    let mut ana = Node::join(&adapter).await;
    ana.subscribe(&[convo(0)]).await;
    for round in 1..5 {
        adapter.cut().await;
        ana.hear_until(&Heard::Broken).await;
        adapter.mend().await;
        ana.hear_until(&Heard::Restored).await;
        ana.subscribe_in_the_end(&[convo(round)]).await;
        for topic in [convo(0), convo(round)] {
            ana.expect_in_the_end(topic).await;
        }
    }
}

pub async fn a_channel_that_was_closed_says_so<A: LiveUnderTest>() {
    let adapter = A::open().await;
    let (mut ana, mut bo) = (Node::join(&adapter).await, Node::join(&adapter).await);
    ana.subscribe(&[convo(1)]).await;
    bo.publish(convo(1), "the last one").await;
    ana.live.barrier(1);
    ana.expect(convo(1), "the last one").await;
    ana.hear_until(&Heard::Barrier(1)).await;
    ana.live.close().await;
    assert_eq!(soon("the end", ana.ear.next()).await, None);
    assert_eq!(ana.try_publish(convo(1), "x").await, Err(LiveError::Closed));
    assert_eq!(ana.live.subscribe(vec![convo(2)]).await, Err(LiveError::Closed));
    ana.live.unsubscribe(&[convo(1)]);
    ana.live.close().await;
    bo.publish(convo(1), "to nobody").await;
    assert_eq!(bo.all().await, []);
}
