//! Accounts against the suite of their port.

use super::database::{Database, options};
use crate::accounts::testsuite::AccountsUnderTest;
use crate::accounts::{Accounts, SigningKey};
use crate::postgres::PostgresAccounts;

struct Postgres {
    accounts: PostgresAccounts,
    database: Database,
}

impl Postgres {
    async fn at(database: Database, key: u8) -> Self {
        let accounts =
            PostgresAccounts::open(&database.url(), &options(), SigningKey::new([key; 32])).await.unwrap();
        Self { accounts, database }
    }
}

impl AccountsUnderTest for Postgres {
    async fn open() -> Self {
        Self::at(Database::new().await, 1).await
    }

    async fn reopen(self) -> Self {
        self.accounts.close().await;
        // Another key is offered, and must not be taken.
        Self::at(self.database, 2).await
    }

    fn accounts(&self) -> &dyn Accounts {
        &self.accounts
    }
}

crate::accounts_suite!(Postgres);
