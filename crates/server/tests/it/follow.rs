//! A client that keeps what it was given, and fails where an entry is missing, comes twice or out of order.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// What a device has, over all its connections.
#[derive(Default)]
pub struct Follower {
    /// The entries of each conversation that it has, or whose absence was named.
    pub known: BTreeMap<String, BTreeSet<u64>>,
    /// Those of them that a gap named.
    pub named: BTreeMap<String, BTreeSet<u64>>,
    /// The watermarks of each (conversation, user): deliveredSeq, readSeq.
    pub receipts: BTreeMap<(String, String), (u64, Option<u64>)>,
    /// The newest position.
    pub position: Value,
    /// The last entry of each conversation on this connection.
    last: BTreeMap<String, u64>,
}

impl Follower {
    pub fn from(position: &Value) -> Self {
        Self { position: position.clone(), ..Self::default() }
    }

    /// Has everything up to `seq` of a conversation.
    pub fn has(&mut self, convo: &str, seq: u64) {
        self.known.entry(convo.to_owned()).or_default().extend(1..=seq);
    }

    /// A new connection begins.
    pub fn begin(&mut self) {
        self.last.clear();
    }

    /// The number of entries of a conversation that it has.
    pub fn count(&self, convo: &str) -> u64 {
        self.known.get(convo).map_or(0, |known| known.len() as u64)
    }

    /// Takes an event.
    #[track_caller]
    pub fn hear(&mut self, event: &Value) {
        if event["position"].is_string() {
            self.position = event["position"].clone();
        }
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let seq = |name: &str| event[name].as_u64().unwrap_or_default();
        match event["type"].as_str().unwrap() {
            "message" => {
                if event["kind"] == "text" {
                    // Sending moves one's own watermarks.
                    self.mark(text("convoId"), text("senderId"), (seq("seq"), Some(seq("seq"))));
                }
                self.entry(text("convoId"), seq("seq"));
            }
            "message_ack" => {
                self.known.entry(text("convoId")).or_default().insert(seq("serverSeq"));
            }
            "gap" => {
                let named = seq("fromSeq")..=seq("toSeq");
                assert!(!named.is_empty(), "{event}");
                self.known.entry(text("convoId")).or_default().extend(named.clone());
                self.named.entry(text("convoId")).or_default().extend(named);
                self.last.insert(text("convoId"), seq("toSeq"));
            }
            "receipt" => {
                let watermarks = (seq("deliveredSeq"), event["readSeq"].as_u64());
                self.mark(text("convoId"), text("userId"), watermarks);
            }
            _ => {}
        }
    }

    fn mark(&mut self, convo: String, user: String, (delivered, read): (u64, Option<u64>)) {
        let known = self.receipts.entry((convo, user)).or_default();
        *known = (known.0.max(delivered), known.1.max(read));
    }

    #[track_caller]
    fn entry(&mut self, convo: String, seq: u64) {
        let known = self.known.entry(convo.clone()).or_default();
        if let Some(last) = self.last.insert(convo, seq) {
            assert!(seq > last, "{seq} came after {last}");
        }
        known.insert(seq);
        let first = *known.first().unwrap();
        let missing: Vec<u64> = (first..seq).filter(|seq| !known.contains(seq)).collect();
        assert!(missing.is_empty(), "{seq} came, but {missing:?} did not");
    }
}
