//! The words of the suite.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tertulia_protocol::{ConvoId, UserId};

use super::LiveUnderTest;
use crate::NodeId;
use crate::live::{Ear, Heard, Limits, Live, LiveError, Topic};

/// How long anything may take before it counts as never happening.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for what has to come.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not come"))
}

/// Bytes of an id that are all different for different numbers.
pub fn id(number: u32) -> [u8; 16] {
    let mut id = [0x7b; 16];
    id[12..].copy_from_slice(&number.to_be_bytes());
    id
}

pub fn convo(number: u32) -> Topic {
    Topic::Conversation(ConvoId::from_bytes(id(number)))
}

pub fn user(number: u32) -> Topic {
    Topic::User(UserId::from_bytes(id(number)))
}

pub fn watched(number: u32) -> Topic {
    Topic::Watched(UserId::from_bytes(id(number)))
}

pub fn node(number: u32) -> Topic {
    Topic::Node(NodeId::from_bytes(id(number)))
}

/// A node with its ear.
pub struct Node {
    pub live: Arc<dyn Live>,
    pub ear: Ear,
}

impl Node {
    /// One that has heard that its link stands.
    pub async fn join<A: LiveUnderTest>(adapter: &A) -> Self {
        Self::join_with(adapter, Limits::default()).await
    }

    pub async fn join_with<A: LiveUnderTest>(adapter: &A, limits: Limits) -> Self {
        let (live, ear) = adapter.join(limits).await;
        let mut node = Self { live, ear };
        assert_eq!(node.hear().await, Heard::Restored);
        node
    }

    pub async fn subscribe(&self, topics: &[Topic]) {
        let subscribed = soon("a subscription", self.live.subscribe(topics.to_vec())).await;
        assert_eq!(subscribed, Ok(()));
    }

    pub async fn publish(&self, topic: Topic, text: &str) {
        let published = self.try_publish(topic, text).await;
        assert_eq!(published, Ok(()));
    }

    pub async fn try_publish(&self, topic: Topic, text: &str) -> Result<(), LiveError> {
        let message = (topic, Bytes::copy_from_slice(text.as_bytes()));
        soon("the end of a publication", self.live.publish(vec![message])).await
    }

    /// What is heard next.
    pub async fn hear(&mut self) -> Heard {
        soon("something to hear", self.ear.next()).await.expect("the ear was closed")
    }

    /// The next message, if the link does not break.
    pub async fn message(&mut self) -> (Topic, Bytes) {
        match self.hear().await {
            Heard::Message { topic, bytes } => (topic, bytes),
            other => panic!("{other:?} instead of a message"),
        }
    }

    #[track_caller]
    pub fn expect(&mut self, topic: Topic, text: &'static str) -> impl Future<Output = ()> {
        let at = std::panic::Location::caller();
        async move {
            let heard = self.message().await;
            assert_eq!(heard, (topic, Bytes::from_static(text.as_bytes())), "at {at}");
        }
    }

    /// Everything until a barrier that is asked for now.
    pub async fn all(&mut self) -> Vec<(Topic, Bytes)> {
        const TOKEN: u64 = u64::MAX;
        self.live.barrier(TOKEN);
        let mut heard = Vec::new();
        loop {
            match self.hear().await {
                Heard::Message { topic, bytes } => heard.push((topic, bytes)),
                Heard::Barrier(TOKEN) => return heard,
                other => panic!("{other:?} instead of a message or the barrier"),
            }
        }
    }

    /// Listens until this is heard.
    pub async fn hear_until(&mut self, what: &Heard) {
        while self.hear().await != *what {}
    }

    /// Publishes until it is heard: where links were broken just now they may break again.
    pub async fn expect_in_the_end(&mut self, topic: Topic) {
        let text = format!("to {topic}");
        loop {
            if self.try_publish(topic, &text).await.is_err() {
                continue;
            }
            loop {
                match self.hear().await {
                    Heard::Message { topic: heard, .. } if heard == topic => return,
                    Heard::Broken => {
                        self.hear_until(&Heard::Restored).await;
                        break;
                    }
                    // One that was published when a link broke may have been heard, and is again.
                    Heard::Message { .. } | Heard::Restored | Heard::Barrier(_) => {}
                }
            }
        }
    }

    /// Subscribes, or waits until that has been made up for.
    pub async fn subscribe_in_the_end(&mut self, topics: &[Topic]) {
        if soon("a subscription", self.live.subscribe(topics.to_vec())).await.is_err() {
            self.hear_until(&Heard::Restored).await;
        }
    }
}
