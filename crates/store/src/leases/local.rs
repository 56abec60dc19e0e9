//! Leases within a process, for tests of those who hold them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::{Lease, Leases};
use crate::StoreError;

/// Leases in memory.
#[derive(Debug, Default)]
pub struct LocalLeases(Mutex<HashMap<String, Row>>);

#[derive(Debug, Default)]
struct Row {
    term: i64,
    until: Option<Instant>,
    note: Option<String>,
}

impl Row {
    fn is_held(&self) -> bool {
        self.until.is_some_and(|until| until > Instant::now())
    }
}

impl LocalLeases {
    /// Ends a lease at once, as if its holder had been late.
    pub fn expire(&self, name: &str) {
        if let Some(row) = self.rows().get_mut(name) {
            row.until = None;
        }
    }

    /// How far its holders have come.
    pub fn note(&self, name: &str) -> Option<String> {
        self.rows().get(name)?.note.clone()
    }

    fn rows(&self) -> MutexGuard<'_, HashMap<String, Row>> {
        // Each use is one step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Leases for LocalLeases {
    async fn take(&self, name: &str, ttl: Duration) -> Result<Option<Lease>, StoreError> {
        let mut rows = self.rows();
        let row = rows.entry(name.to_owned()).or_default();
        if row.is_held() {
            return Ok(None);
        }
        row.term += 1;
        row.until = Some(Instant::now() + ttl);
        Ok(Some(Lease { name: name.to_owned(), term: row.term, ttl, note: row.note.clone() }))
    }

    async fn keep(&self, lease: &Lease, note: Option<&str>) -> Result<bool, StoreError> {
        let mut rows = self.rows();
        let Some(row) = rows.get_mut(&lease.name).filter(|row| row.term == lease.term && row.is_held())
        else {
            return Ok(false);
        };
        row.until = Some(Instant::now() + lease.ttl);
        if let Some(note) = note {
            row.note = Some(note.to_owned());
        }
        Ok(true)
    }

    async fn give_up(&self, lease: &Lease) -> Result<(), StoreError> {
        if let Some(row) = self.rows().get_mut(&lease.name).filter(|row| row.term == lease.term) {
            row.until = None;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leases::testsuite;

    #[tokio::test]
    async fn one_holds_a_lease_at_a_time() {
        testsuite::one_holds_a_lease_at_a_time(&LocalLeases::default()).await;
    }

    #[tokio::test]
    async fn who_is_late_holds_it_no_longer_and_notes_nothing() {
        testsuite::who_is_late_holds_it_no_longer_and_notes_nothing(&LocalLeases::default()).await;
    }
}
