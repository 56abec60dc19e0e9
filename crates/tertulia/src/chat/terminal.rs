//! The screen's driver: keys, client and calls in, state, effects and pictures out.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use crossterm::event::{DisableBracketedPaste, EnableBracketedPaste, Event as TerminalEvent, EventStream};
use futures_util::StreamExt as _;
use ratatui::DefaultTerminal;
use tertulia_client::api::Api;
use tertulia_client::client::{Client, Events};
use tertulia_protocol::rest::User;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::app::{App, Done, Effect, Input};
use super::{view, work};

/// Commands that wait for the client; it takes them at once unless its outbox is full.
const COMMANDS_MAX: usize = 256;
/// Calls under way at once; the others wait for them.
const CALLS_AT_ONCE: usize = 4;
/// Events that are taken in before the screen is drawn again.
const EVENTS_A_DRAW: usize = 256;
/// Countdowns and expiries are seen this often.
const TICK: Duration = Duration::from_millis(500);

/// Shows the chat until the user leaves it.
///
/// # Errors
/// If the terminal cannot be drawn on.
pub(super) async fn run(
    api: Api,
    client: Client,
    events: Events,
    me: &User,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let (commands, command_queue) = mpsc::channel(COMMANDS_MAX);
    let (answers, answer_queue) = mpsc::channel(COMMANDS_MAX);
    let mut tasks = JoinSet::new();
    tasks.spawn(speak(client.clone(), command_queue, answers));
    let mut driver =
        Driver { app: App::new(me), api, commands, waiting: VecDeque::new(), calls: JoinSet::new() };
    let outcome = {
        let mut screen = Screen::open()?;
        driver.run(&mut screen.terminal, events, answer_queue, shutdown).await
    };
    drop(driver);
    client.close().await;
    tasks.shutdown().await;
    outcome
}

/// Passes commands on, one after the other: messages keep their order.
async fn speak(client: Client, mut commands: mpsc::Receiver<Effect>, answers: mpsc::Sender<Done>) {
    while let Some(effect) = commands.recv().await {
        if answers.send(work::tell(&client, effect).await).await.is_err() {
            break;
        }
    }
}

struct Driver {
    app: App,
    api: Api,
    commands: mpsc::Sender<Effect>,
    /// Calls that wait for their turn: what pages name, and what the user asks for.
    waiting: VecDeque<Effect>,
    calls: JoinSet<Done>,
}

impl Driver {
    async fn run(
        &mut self,
        terminal: &mut DefaultTerminal,
        mut events: Events,
        mut answers: mpsc::Receiver<Done>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut keys = EventStream::new();
        let mut ticks = tokio::time::interval(TICK);
        let mut client_lives = true;
        while !self.app.over {
            let mut drawn = view::Drawn::default();
            terminal
                .draw(|frame| drawn = view::draw(frame, &self.app, Instant::now()))
                .context("cannot draw on this terminal")?;
            self.app.scrolled(drawn);
            let input = tokio::select! {
                () = shutdown.cancelled() => break,
                key = keys.next() => match key {
                    Some(key) => match key.context("cannot read from this terminal")? {
                        TerminalEvent::Key(key) => Input::Key(key),
                        TerminalEvent::Paste(text) => Input::Paste(text),
                        // A new size: it is drawn again.
                        _ => continue,
                    },
                    None => break,
                },
                event = events.next(), if client_lives => match event {
                    Some(event) => Input::Client(event),
                    None => {
                        client_lives = false;
                        continue;
                    }
                },
                Some(done) = answers.recv() => Input::Done(done),
                Some(done) = self.calls.join_next() => match done {
                    Ok(done) => Input::Done(done),
                    Err(error) => {
                        tracing::error!(%error, "a call has failed");
                        continue;
                    }
                },
                _ = ticks.tick() => Input::Tick,
            };
            self.take(input);
            for _ in 0..EVENTS_A_DRAW {
                let Some(event) = events.try_next() else { break };
                self.take(Input::Client(event));
            }
        }
        Ok(())
    }

    fn take(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for effect in self.app.handle(input, Instant::now()) {
                if !work::is_for_client(&effect) {
                    self.waiting.push_back(effect);
                } else if let Err(refused) = self.commands.try_send(effect)
                    && let Effect::Send { local, convo, .. } = refused.into_inner()
                {
                    inputs.push_back(Input::Done(Done::NotSent { local, convo }));
                }
            }
        }
        while self.calls.len() < CALLS_AT_ONCE
            && let Some(effect) = self.waiting.pop_front()
        {
            let api = self.api.clone();
            self.calls.spawn(async move { work::call(&api, effect).await });
        }
    }
}

/// The terminal as ours, until this is dropped; a panic gives it back, too.
struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    fn open() -> anyhow::Result<Self> {
        let terminal = ratatui::try_init().context("this terminal cannot show the chat; try --plain")?;
        let screen = Self { terminal };
        crossterm::execute!(io::stdout(), EnableBracketedPaste)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let pasting = crossterm::execute!(io::stdout(), DisableBracketedPaste);
        if let Err(error) = pasting.and_then(|()| ratatui::try_restore()) {
            tracing::warn!(%error, "the terminal was not given back in order; `reset` helps");
        }
    }
}
