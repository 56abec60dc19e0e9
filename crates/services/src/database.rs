//! A database of a test's own in the PostgreSQL that all tests share.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};

use crate::{Kind, postgres, shared};

/// An empty one, gone when this is dropped.
#[derive(Debug)]
pub struct Database {
    server: String,
    name: String,
}

impl Database {
    /// Makes one; whose it is says the beginning of its name, in lower case.
    ///
    /// # Errors
    /// There is no shared PostgreSQL, or it refuses.
    pub fn new(of: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let server = shared::url(Kind::Postgres)?;
        let name = format!("{of}{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        // One of a process with the same number may have been left.
        let statements = [forget(&name), format!("CREATE DATABASE {name}")];
        postgres::tell_at(&server, &statements.each_ref().map(String::as_str))
            .with_context(|| format!("make the database {name}"))?;
        Ok(Self { server, name })
    }

    /// Where it is reached.
    pub fn url(&self) -> String {
        let server = self.server.rsplit_once('/').map_or(&*self.server, |(server, _)| server);
        format!("{server}/{}", self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A test is over: there is nobody to tell.
        let _ = postgres::tell_at(&self.server, &[&forget(&self.name)]);
    }
}

/// Whoever is still at work there is sent away.
fn forget(name: &str) -> String {
    format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")
}
