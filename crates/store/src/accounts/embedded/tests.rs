//! The embedded adapter against the suite of its port, and what it alone promises.

use super::*;
use crate::accounts::testsuite::AccountsUnderTest;

struct Embedded {
    dir: tempfile::TempDir,
    accounts: EmbeddedAccounts,
}

impl Embedded {
    fn at(dir: tempfile::TempDir, key: u8) -> Self {
        let accounts = EmbeddedAccounts::open(dir.path(), SigningKey::new([key; 32])).unwrap();
        Self { dir, accounts }
    }
}

impl AccountsUnderTest for Embedded {
    async fn open() -> Self {
        Self::at(tempfile::tempdir().unwrap(), 1)
    }

    async fn reopen(self) -> Self {
        self.accounts.close().await;
        // Another key is offered, and must not be taken.
        Self::at(self.dir, 2)
    }

    fn accounts(&self) -> &dyn Accounts {
        &self.accounts
    }
}

crate::accounts_suite!(Embedded);

#[tokio::test]
async fn every_commit_is_synced() {
    let under_test = Embedded::open().await;
    let (mode, level) = under_test
        .accounts
        .write(|db| {
            let mode: String = db.query_row("PRAGMA journal_mode", (), |row| row.get(0))?;
            let level: i64 = db.query_row("PRAGMA synchronous", (), |row| row.get(0))?;
            Ok((mode, level))
        })
        .await
        .unwrap();
    assert_eq!((mode.as_str(), level), ("wal", 2));
}

#[tokio::test]
async fn a_search_reads_the_indexes_and_a_page_of_the_table() {
    let under_test = Embedded::open().await;
    let plan: Vec<String> = under_test
        .accounts
        .read(|db| {
            let sql = format!("EXPLAIN QUERY PLAN {SEARCH}");
            db.prepare(&sql)?.query_map(("", "a", "b", "a", 10), |row| row.get(3))?.collect()
        })
        .await
        .unwrap();
    assert!(plan.iter().all(|step| !step.starts_with("SCAN users")), "{plan:#?}");
    assert!(plan.iter().any(|step| step.contains("(username>? AND username<?)")), "{plan:#?}");
    assert!(
        plan.iter().any(|step| step.contains("COVERING INDEX users_by_display_name (display_name_folded>?")),
        "{plan:#?}"
    );
}
