//! Registers users, and renews the sessions of those there are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{StreamExt as _, stream};
use reqwest::StatusCode;
use tertulia_protocol::rest::{Login, Refresh, Register, Session};
use tertulia_protocol::{Timestamp, UserId};

use super::api::Answer;
use super::file::{File, Person};
use super::{Api, Crowd};
use crate::error::Error;
use crate::progress::Progress;

/// Calls at once: enough to keep the server's cores busy.
const AT_ONCE: usize = 16;
/// A token is renewed if it is good for less than this.
const GOOD_FOR: Duration = Duration::from_secs(5 * 60);

impl Crowd {
    /// Sees to it that there are `count` users.
    ///
    /// # Errors
    /// If one cannot be registered. Those who were are in the file.
    pub(crate) async fn grow(&mut self, count: usize, progress: &Progress) -> Result<(), Error> {
        let there = self.file.people.len();
        if there >= count {
            return Ok(());
        }
        progress.begin("registering", count - there);
        let (api, file) = (&self.api, &self.file);
        let sessions = stream::iter(there..count).map(|number| register(api, file, number)).buffered(AT_ONCE);
        let (sessions, outcome) = progress.collect(sessions).await;
        self.registered += sessions.len();
        self.file.people.extend(sessions.into_iter().map(Person::from));
        self.save()?;
        outcome
    }

    /// Sees to it that these users have access tokens that are good for some minutes.
    ///
    /// # Errors
    /// If a session cannot be renewed, nor a new one be had.
    pub(crate) async fn sign_in(
        &mut self,
        numbers: impl IntoIterator<Item = usize>,
        progress: &Progress,
    ) -> Result<(), Error> {
        let soon = now().plus(GOOD_FOR);
        let mut stale: Vec<usize> =
            numbers.into_iter().filter(|&n| self.file.people[n].expires_at < soon).collect();
        stale.sort_unstable();
        stale.dedup();
        if stale.is_empty() {
            return Ok(());
        }
        progress.begin("signing in", stale.len());
        let (api, file) = (&self.api, &self.file);
        let sessions = stream::iter(stale)
            .map(|number| async move { Ok((number, renew(api, file, number).await?)) })
            .buffer_unordered(AT_ONCE);
        let (renewed, outcome) = progress.collect(sessions).await;
        for (number, session) in renewed {
            self.file.people[number] = session.into();
        }
        self.save()?;
        outcome
    }

    /// The tokens to use instead of these, by them: those that are no longer good have been renewed.
    ///
    /// # Errors
    /// If a session cannot be renewed.
    pub(crate) async fn renewed(
        &mut self,
        tokens: impl IntoIterator<Item = &String>,
        progress: &Progress,
    ) -> Result<BTreeMap<String, String>, Error> {
        let tokens: BTreeSet<&String> = tokens.into_iter().collect();
        let numbers = 0..self.file.people.len();
        let theirs: Vec<(usize, String)> = numbers
            .map(|number| (number, self.token(number).to_owned()))
            .filter(|(_, token)| tokens.contains(token))
            .collect();
        self.sign_in(theirs.iter().map(|&(number, _)| number), progress).await?;
        Ok(theirs.into_iter().map(|(number, token)| (token, self.token(number).to_owned())).collect())
    }

    /// The id of a user.
    pub(crate) fn id(&self, number: usize) -> UserId {
        self.file.people[number].id
    }

    /// The access token of a user.
    pub(crate) fn token(&self, number: usize) -> &str {
        &self.file.people[number].access_token
    }
}

fn name(file: &File, number: usize) -> String {
    format!("bench-{}-{number}", file.tag)
}

async fn register(api: &Api, file: &File, number: usize) -> Result<Session, Error> {
    let username = name(file, number);
    let body = Register {
        username: username.clone(),
        password: file.password.clone(),
        display_name: None,
        device: None,
    };
    match api.post("/users", None, &body).await? {
        // An earlier run was interrupted before it could write this one down.
        Answer::Refused(StatusCode::CONFLICT, _) => log_in(api, file, number).await,
        answer => answer.done(&format!("register {username}")),
    }
}

async fn renew(api: &Api, file: &File, number: usize) -> Result<Session, Error> {
    let body = Refresh { refresh_token: file.people[number].refresh_token.clone() };
    match api.post("/sessions/refresh", None, &body).await? {
        Answer::Refused(StatusCode::UNAUTHORIZED, _) => log_in(api, file, number).await,
        answer => answer.done(&format!("renew the session of {}", name(file, number))),
    }
}

async fn log_in(api: &Api, file: &File, number: usize) -> Result<Session, Error> {
    let username = name(file, number);
    let what = format!("log in {username}");
    let body = Login { username, password: file.password.clone(), device: None };
    match api.post("/sessions", None, &body).await? {
        Answer::Refused(StatusCode::UNAUTHORIZED, detail) => Err(Error::Refused {
            what,
            detail: format!("{detail}; are the users of this file those of another data folder?"),
        }),
        answer => answer.done(&what),
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(since.as_millis() as i64)
}
