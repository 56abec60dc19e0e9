//! The consumer that feeds the search index.

use std::sync::Arc;

use async_trait::async_trait;
use tertulia_protocol::{Entry, EntryKind};
use tertulia_search::{Change, Document, IndexError, SearchIndex};

use super::{ConsumeError, Consumer};

/// Feeds a search index with messages.
pub struct Indexing(pub Arc<dyn SearchIndex>);

#[async_trait]
impl Consumer for Indexing {
    fn name(&self) -> &'static str {
        "search"
    }

    async fn cursor(&self) -> Result<Option<String>, ConsumeError> {
        Ok(self.0.cursor().await?)
    }

    async fn take(&self, entries: Vec<Arc<Entry>>, cursor: Option<&str>) -> Result<(), ConsumeError> {
        let changes = entries.iter().filter_map(|entry| change(entry)).collect();
        Ok(self.0.apply(changes, cursor).await?)
    }

    async fn move_cursor(&self, from: Option<&str>, to: &str) -> Result<bool, ConsumeError> {
        Ok(self.0.move_cursor(from, to).await?)
    }

    async fn sync(&self) -> Result<(), ConsumeError> {
        Ok(self.0.sync().await?)
    }

    async fn reset(&self) -> Result<(), ConsumeError> {
        Ok(self.0.clear().await?)
    }
}

/// What an entry changes in the index.
fn change(entry: &Entry) -> Option<Change> {
    match &entry.kind {
        EntryKind::Text { body, .. } => {
            // What has no words is found by its sender.
            Some(Change::Put(Document::new(entry.convo_id, entry.seq, entry.sender_id, entry.ts, body)))
        }
        EntryKind::Created { .. }
        | EntryKind::MemberAdded { .. }
        | EntryKind::MemberRemoved { .. }
        | EntryKind::RoleChanged { .. }
        | EntryKind::Renamed { .. }
        | EntryKind::SettingsChanged { .. } => None,
    }
}

impl From<IndexError> for ConsumeError {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Unavailable { reason, retry_after } => Self::Again { why: reason, retry_after },
            IndexError::Refused(why) => Self::Never(why),
            IndexError::Closed => Self::Closed,
        }
    }
}
