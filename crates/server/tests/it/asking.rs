//! Short forms of what tests over REST ask for again and again.

use serde_json::{Value, json};

use crate::harness::{Answer, Server, User};

/// A path below a conversation: `path(&convo, "/messages")`.
pub fn path(convo: &str, below: &str) -> String {
    format!("/api/conversations/{convo}{below}")
}

/// A field of every item of a list.
#[track_caller]
pub fn field(items: &Value, name: &str) -> Vec<Value> {
    items.as_array().unwrap().iter().map(|item| item[name].clone()).collect()
}

/// The `seq` of every item of a list.
#[track_caller]
pub fn seqs(items: &Value) -> Vec<u64> {
    field(items, "seq").iter().map(|seq| seq.as_u64().unwrap()).collect()
}

/// A problem without the id of the request: what tells two refusals apart, if anything does.
pub fn told(answer: &Answer) -> (u16, String, String) {
    (answer.status.as_u16(), answer.headers["content-type"].to_str().unwrap().to_owned(), answer.text.clone())
}

impl User {
    /// Asks for the direct conversation with another.
    pub async fn ask_direct(&self, server: &Server, other: &Self) -> Answer {
        let body = json!({ "type": "direct", "members": [other.id] });
        self.post(server, "/api/conversations", body).await
    }

    /// The id of the direct conversation with another, who has none with him yet.
    pub async fn direct(&self, server: &Server, other: &Self) -> String {
        let answer = self.ask_direct(server, other).await.expect(201);
        answer.body["conversation"]["id"].as_str().unwrap().to_owned()
    }

    /// A conversation as he sees it.
    pub async fn convo(&self, server: &Server, convo: &str) -> Value {
        self.get(server, &path(convo, "")).await.expect(200).body["conversation"].clone()
    }

    /// A member of a conversation as he sees it.
    pub async fn member(&self, server: &Server, convo: &str, other: &Self) -> Value {
        let convo = self.convo(server, convo).await;
        let members = convo["members"].as_array().unwrap();
        members.iter().find(|member| member["userId"] == other.id.as_str()).expect("no such member").clone()
    }

    /// A page of a history; `query` as in `after=3&limit=10`.
    pub async fn history(&self, server: &Server, convo: &str, query: &str) -> Value {
        self.get(server, &path(convo, &format!("/messages?{query}"))).await.expect(200).body
    }

    /// Everything that he sees of a short history.
    pub async fn entries(&self, server: &Server, convo: &str) -> Vec<Value> {
        let page = self.history(server, convo, "limit=200").await;
        assert_eq!(page["hasMore"], false);
        page["items"].as_array().unwrap().clone()
    }

    /// The newest entry of a conversation.
    pub async fn newest(&self, server: &Server, convo: &str) -> Value {
        self.history(server, convo, "limit=1").await["items"][0].clone()
    }

    /// Moves his watermarks.
    pub async fn mark(&self, server: &Server, convo: &str, mark: Value) -> Answer {
        self.put(server, &path(convo, "/receipts"), Some(mark)).await
    }

    /// Adds somebody to a group.
    pub async fn add(&self, server: &Server, convo: &str, other: &Self) -> Answer {
        self.post(server, &path(convo, "/members"), json!({ "userIds": [other.id] })).await
    }

    /// Removes somebody from a group; himself: leaves.
    pub async fn remove(&self, server: &Server, convo: &str, other: &Self) -> Answer {
        self.delete(server, &path(convo, &format!("/members/{}", other.id))).await
    }

    /// Gives a member a role.
    pub async fn promote(&self, server: &Server, convo: &str, other: &Self, role: &str) -> Answer {
        self.patch(server, &path(convo, &format!("/members/{}", other.id)), json!({ "role": role })).await
    }

    /// Sends something whose answer is looked at.
    pub async fn try_send(&self, server: &Server, convo: &str, message: Value) -> Answer {
        self.post(server, &path(convo, "/messages"), message).await
    }

    /// Changes his own profile or privacy.
    pub async fn change(&self, server: &Server, patch: Value) -> Answer {
        self.patch(server, "/api/users/me", patch).await.expect(200)
    }

    /// Blocks another.
    pub async fn block(&self, server: &Server, other: &Self) {
        self.put(server, &format!("/api/users/{}/block", other.id), None).await.expect(204);
    }

    /// Ends a block.
    pub async fn unblock(&self, server: &Server, other: &Self) {
        self.delete(server, &format!("/api/users/{}/block", other.id)).await.expect(204);
    }
}
