//! From a username to a session.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers};
use tertulia_client::api::Api;
use tertulia_client::error::Error;
use tertulia_client::server::Server;
use tertulia_client::session::Session;
use tertulia_protocol::rest::{self, DeviceInfo, Register};
use tertulia_protocol::rules;
use tokio::task::JoinHandle;

use super::keep::{self, Keep};

/// Where scripts put the password.
const PASSWORD_VARIABLE: &str = "TERTULIA_PASSWORD";

/// A session, and the task that writes its tokens down whenever they change; it ends with the session.
pub(super) struct LoggedIn {
    pub(super) session: Session,
    pub(super) keeper: Option<JoinHandle<()>>,
}

/// Goes on with the session of the last run, or logs in, or registers.
///
/// # Errors
/// If the server does not let the user in, or does not answer.
pub(super) async fn log_in(
    server: Server,
    address: &str,
    user: &str,
    register: bool,
) -> anyhow::Result<LoggedIn> {
    let keep = open_keep(address, user);
    if let Some(keep) = &keep
        && let Some(tokens) = keep.load()
    {
        let logged_in = start(server.clone(), tokens, Some(keep));
        match Api::new(logged_in.session.clone()).me().await {
            Ok(_) => return Ok(logged_in),
            // The client goes on trying; what is said meanwhile waits.
            Err(error) if error.is_temporary() => return Ok(logged_in),
            Err(error) if error.is_unauthenticated() => {
                keep.forget();
                tell("The session of the last run has ended.");
            }
            Err(error) => {
                return Err(error).context("the server does not accept the session of the last run");
            }
        }
    }
    let tokens = fresh(&server, user, register).await?;
    Ok(start(server, tokens, keep.as_ref()))
}

fn open_keep(address: &str, user: &str) -> Option<Arc<Keep>> {
    match keep::folder().map(|folder| Keep::open(&folder, address, user)) {
        Some(Ok(Some(keep))) => Some(Arc::new(keep)),
        Some(Ok(None)) => {
            tell("Another chat of this user is running here; this one is a device of its own.");
            None
        }
        Some(Err(error)) => {
            tell(&format!("The session will not be kept: {error}"));
            None
        }
        None => None,
    }
}

fn start(server: Server, tokens: rest::Session, keep: Option<&Arc<Keep>>) -> LoggedIn {
    let session = Session::new(server, tokens, None);
    let mut watch = session.watch();
    let keeper = keep.cloned().map(|keep| {
        tokio::spawn(async move {
            loop {
                let (keep, tokens) = (Arc::clone(&keep), Arc::clone(&watch.borrow_and_update()));
                let saved = tokio::task::spawn_blocking(move || keep.save(&tokens)).await;
                if let Ok(Err(error)) = saved {
                    tracing::warn!(%error, "the session could not be kept");
                }
                if watch.changed().await.is_err() {
                    break;
                }
            }
        })
    });
    LoggedIn { session, keeper }
}

/// A session by password.
async fn fresh(server: &Server, user: &str, register: bool) -> anyhow::Result<rest::Session> {
    let password = password(&format!("Password of {user}: ")).await?;
    let new = Register {
        username: user.to_owned(),
        password: password.clone(),
        display_name: None,
        device: Some(device()),
    };
    if register {
        match server.register(&new).await {
            Err(error) if error.is_conflict() => {}
            outcome => return outcome.with_context(|| format!("cannot register {user}")),
        }
    }
    match server.login(user, &password, device()).await {
        Err(Error::Refused { code: tertulia_protocol::Code::Unauthenticated, .. }) => {}
        outcome => return outcome.with_context(|| format!("cannot log in as {user}")),
    }
    // The server does not tell which of the two it is.
    if register || !io::stdin().is_terminal() {
        let hint = if register { "" } else { "; --register makes a new user" };
        bail!("there is no user {user}, or the password is another{hint}");
    }
    let question =
        format!("There is no user {user}, or the password is another. Register {user} now? [y/N] ");
    if !ask(&question).await?.eq_ignore_ascii_case("y") {
        bail!("not logged in");
    }
    match server.register(&new).await {
        Err(error) if error.is_conflict() => bail!("{user} is taken, so the password is another"),
        outcome => outcome.with_context(|| format!("cannot register {user}")),
    }
}

fn device() -> DeviceInfo {
    DeviceInfo { name: "tertulia chat".into(), platform: std::env::consts::OS.into() }
}

async fn password(prompt: &str) -> anyhow::Result<String> {
    let password = match std::env::var(PASSWORD_VARIABLE) {
        Ok(password) => password,
        Err(_) if io::stdin().is_terminal() => {
            let prompt = prompt.to_owned();
            tokio::task::spawn_blocking(move || read_unseen(&prompt)).await??
        }
        Err(_) => bail!("no terminal to ask for the password: put it into {PASSWORD_VARIABLE}"),
    };
    rules::password(&password)?;
    Ok(password)
}

/// Reads a line without showing it.
fn read_unseen(prompt: &str) -> anyhow::Result<String> {
    let mut out = io::stderr();
    write!(out, "{prompt}")?;
    out.flush()?;
    let raw = RawMode::enter()?;
    let mut text = String::new();
    let typed = loop {
        let Event::Key(key) = crossterm::event::read()? else { continue };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        match (key.code, key.modifiers.contains(KeyModifiers::CONTROL)) {
            (KeyCode::Enter, _) | (KeyCode::Char('j' | 'm'), true) => break Ok(text),
            (KeyCode::Char('c' | 'd'), true) | (KeyCode::Esc, _) => {
                break Err(anyhow::anyhow!("not logged in"));
            }
            (KeyCode::Char('u'), true) => text.clear(),
            (KeyCode::Backspace, _) => {
                text.pop();
            }
            (KeyCode::Char(c), false) => text.push(c),
            _ => {}
        }
    };
    drop(raw);
    writeln!(out)?;
    typed
}

/// The terminal gives single keys and shows nothing, until this is dropped.
struct RawMode;

impl RawMode {
    fn enter() -> io::Result<Self> {
        crossterm::terminal::enable_raw_mode()?;
        Ok(Self)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        if let Err(error) = crossterm::terminal::disable_raw_mode() {
            tracing::warn!(%error, "the terminal stays in raw mode; `reset` helps");
        }
    }
}

async fn ask(question: &str) -> anyhow::Result<String> {
    let mut out = io::stderr();
    write!(out, "{question}")?;
    out.flush()?;
    let answer = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map(|_| answer)
    });
    Ok(answer.await??.trim().to_owned())
}

#[expect(clippy::print_stderr, reason = "said before the chat takes the screen")]
fn tell(text: &str) {
    eprintln!("{text}");
}
