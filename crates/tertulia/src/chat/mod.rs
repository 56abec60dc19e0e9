//! `tertulia chat`: a client for the terminal.
//!
//! A newcomer reads [`app`] first (the state, a fold without I/O), then [`view`] (how it looks) and
//! [`terminal`] (what drives both). [`plain`] is the same for pipes; [`login`] and [`keep`] come before.
//! Everything that others wrote goes through [`safe`] before it is shown.

mod app;
mod command;
mod editor;
mod safe;
mod view;
mod work;

mod keep;
mod login;

mod plain;
mod terminal;

use std::io::{self, IsTerminal as _};
use std::time::{Duration, SystemTime};

use anyhow::bail;
use clap::Args;
use tertulia_client::api::Api;
use tertulia_client::client::{Client, Config, Start, first_client_seq};
use tertulia_client::server::Server;
use tertulia_client::session::timestamp;
use tertulia_protocol::rules;
use tokio_util::sync::CancellationToken;

use self::login::LoggedIn;

/// How long the last token may take to be written down.
const KEEPING_TIMEOUT: Duration = Duration::from_secs(2);

/// Talks with others, in the terminal.
///
/// Conversations are on the left, the open one on the right; type and press Enter. `/direct USER` and
/// `/group TITLE USER…` begin a conversation, `/help` shows everything. What you send while the server is
/// away goes out when it is back.
///
/// The password is asked for once and then not needed: the session is kept in `$XDG_STATE_HOME/tertulia`, or
/// `~/.local/state/tertulia`, in a file that only you can read.
#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    /// The server
    #[arg(long, env = "TERTULIA_SERVER", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    server: String,

    /// Who you are: 3 to 32 characters of a-z 0-9 . _ -
    #[arg(long, env = "TERTULIA_USER", value_name = "NAME", value_parser = username)]
    user: String,

    /// Makes the user if there is none of that name; the password comes from the terminal or TERTULIA_PASSWORD
    #[arg(long)]
    register: bool,

    /// For pipes: prints `CONVERSATION #SEQ NAME: text` for what is said, unread messages first, and sends each
    /// line `NAME: text` of stdin, NAME being the title of a group or else a user; a line without a name goes where the
    /// last one went. Ends when stdin has ended and everything is stored
    #[arg(long)]
    plain: bool,

    /// With --plain: goes on after stdin has ended
    #[arg(long, requires = "plain")]
    follow: bool,
}

/// Chats until the user leaves.
///
/// # Errors
/// If there is no session to be had, or the terminal fails.
pub(crate) async fn run(args: ChatArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    if !args.plain && !io::stdout().is_terminal() {
        bail!("the chat needs a terminal; --plain is for pipes");
    }
    let server = Server::new(&args.server)?;
    let login = login::log_in(server, &args.server, &args.user, args.register);
    let LoggedIn { session, keeper } = tokio::select! {
        logged_in = login => logged_in?,
        () = shutdown.cancelled() => bail!("not logged in"),
    };
    let me = session.watch().borrow().user.clone();
    let config = Config::new(Start::Head, first_client_seq(timestamp(SystemTime::now())));
    let api = Api::new(session.clone());
    let (client, events) = Client::connect(session, &config);
    let outcome = if args.plain {
        plain::run(api, client, events, args.follow, shutdown).await
    } else {
        terminal::run(api, client, events, &me, shutdown).await
    };
    // All handles of the session are gone: the keeper writes what is new and ends.
    if let Some(keeper) = keeper
        && tokio::time::timeout(KEEPING_TIMEOUT, keeper).await.is_err()
    {
        tracing::warn!("the session may not be kept");
    }
    outcome
}

fn username(text: &str) -> Result<String, rules::Violation> {
    rules::username(text)
}
