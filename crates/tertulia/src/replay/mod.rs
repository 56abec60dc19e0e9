//! `tertulia replay`: sends IRC logs through a server and proves that everybody saw everything.
//!
//! A newcomer reads in this order: [`log`] (which lines there are), [`plan`] (who sends what, and when),
//! [`view`] (what everybody must see), [`mod@conduct`] and [`listen`] (sending and seeing it happen), [`verify`]
//! (reading it back). [`stage`] is what they share; [`watch`] sees to it that a replay ends.

mod log;
mod names;
mod plan;

mod view;

mod conduct;
mod listen;
mod people;
mod stage;
mod verify;
mod watch;

mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum};
use futures_util::future::{join_all, try_join_all};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tertulia_client::api::Api;
use tertulia_client::client::{Client, Config, Start, first_client_seq};
use tertulia_client::server::Server;
use tertulia_client::session::{Session, timestamp};
use tertulia_history::Recorder;
use tertulia_history::event::Final;
use tertulia_protocol::UserId;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::conduct::{Pace, conduct};
use self::plan::Plan;
use self::report::{Cast, Report, Seconds};
use self::stage::{Group, Latencies, Stage};
use self::watch::Watch;

/// Connections opened at once, so that the server's queue of new ones does not overflow.
const CONNECTING_AT_ONCE: usize = 100;
/// Groups made at once.
const GROUPS_AT_ONCE: usize = 4;
/// Who writes a history.
const PROGRAM: &str = concat!("tertulia replay ", env!("CARGO_PKG_VERSION"));
/// Events that wait for each listener: they are compared faster than they come.
const EVENTS_MAX: usize = 64;

/// Replays IRC logs through a server and checks what everybody sees.
///
/// Each nick becomes a user and each log a group that all its nicks are in. Every line is sent by its speaker,
/// in the order of the log, and every user is connected and compares what reaches him, byte for byte and in
/// order. In the end each view is read back and compared once more. The exit status is 0 only if nobody
/// missed a line, saw one twice, or saw another than was sent; a server that is restarted meanwhile is no excuse.
///
/// `<nick> text` is sent as it is, `* nick waves` with its star, `=== nick has joined` without the `===`.
///
/// At full speed start the server with `tertulia serve --limits off`; with limits on, registering many users
/// takes hours: the replay waits as it is told.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Logs, as in `[12:34] <nick> text`
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The server
    #[arg(long, env = "TERTULIA_SERVER", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    server: String,

    /// So many times as fast as the lines were written; without it at full speed
    #[arg(long, value_name = "TIMES", value_parser = speed)]
    speed: Option<f64>,

    /// Lines of one speaker that are under way at once in a group; with more than 1, a server that limits rates
    /// may put them out of order
    #[arg(long, value_name = "LINES", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    in_flight: u16,

    /// Whose view is read back in the end
    #[arg(long, value_name = "WHOSE", default_value = "all")]
    verify: Verify,

    /// What tells this run from others on the same server: 1 to 12 of a-z and 0-9 [default: six random letters]
    #[arg(long, value_name = "TAG", value_parser = tag)]
    tag: Option<String>,

    /// Writes down what everybody says and hears, for `tertulia check FILE`; no message is in it
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,

    /// Prints the figures as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Verify {
    /// Everybody's.
    All,
    /// That of one member in twenty.
    Sample,
}

/// What a replay has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everybody saw what was sent.
    Right,
    /// Something differs, or it could not be brought to its end; the report says what.
    Different,
}

/// Replays, and prints the report.
///
/// # Errors
/// If it cannot begin: a file that cannot be read, a server that does not answer, users who cannot be registered.
pub(crate) async fn run(args: ReplayArgs, shutdown: CancellationToken) -> anyhow::Result<Outcome> {
    let watch = Arc::new(Watch::new(shutdown));
    let report = replay(&args, &watch).await;
    watch.finish();
    let report = report?;
    let text = if args.json { serde_json::to_string_pretty(&report)? } else { report.to_string() };
    say(&text);
    Ok(if report.is_right() { Outcome::Right } else { Outcome::Different })
}

async fn replay(args: &ReplayArgs, watch: &Arc<Watch>) -> anyhow::Result<Report> {
    let tag = args.tag.clone().unwrap_or_else(random_tag);
    let logs = args.files.iter().map(|file| read(file)).collect::<anyhow::Result<Vec<_>>>()?;
    let plan = Plan::new(logs, &tag);
    ensure!(
        plan.lines() > 0,
        "no line of these files can be sent; a log has lines like `[12:34] <nick> text`"
    );
    let cast = Cast {
        tag,
        files: args.files.len(),
        lines: plan.counts,
        memberships: plan.memberships(),
        deliveries: plan.deliveries(),
    };
    let (lines, memberships) = (plan.lines(), plan.memberships());
    let server = Server::new(&args.server)?;
    let history = args.history.as_ref().map(|file| Recorder::create(file, PROGRAM)).transpose()?;
    let mut seconds = Seconds::default();

    let clock = Instant::now();
    let Plan { people, scripts, .. } = plan;
    let password = Uuid::now_v7().simple().to_string();
    let registering = people::register(watch, &server, &people, &password);
    let sessions = watch.step("registering", people.len(), registering).await?;
    let users: Arc<[UserId]> = sessions.iter().map(Session::user_id).collect();
    let api = |session| match history.clone() {
        Some(recorder) => Api::recorded(session, recorder),
        None => Api::new(session),
    };
    let apis: Vec<Api> = sessions.into_iter().map(api).collect();
    let groups = scripts.len();
    let making = stream::iter(scripts)
        .map(|script| people::make_group(watch, &apis[script.members[0]], script, Arc::clone(&users)))
        .buffered(GROUPS_AT_ONCE)
        .map_ok(Group::new)
        .try_collect();
    let groups = watch.step("groups", groups, making).await?;
    seconds.registering = clock.elapsed().as_secs_f64();

    let clock = Instant::now();
    let stage = Arc::new(Stage::new(Arc::clone(watch), people, groups));
    let mut listeners = JoinSet::new();
    let connecting = connect(&stage, &apis, args.in_flight, history.as_ref(), memberships, &mut listeners);
    let clients = watch.step("connecting", memberships, connecting).await?;
    seconds.connecting = clock.elapsed().as_secs_f64();

    let clock = Instant::now();
    let pace = args.speed.map_or(Pace::Full, Pace::Times);
    let expected = cast.deliveries + lines;
    let sending = send_all(&stage, &clients, pace, memberships);
    let mut outcome = watch.step("sending", expected, sending).await;
    seconds.sending = clock.elapsed().as_secs_f64();

    let clock = Instant::now();
    let mut read_back = 0;
    if outcome.is_ok() {
        if let Some(recorder) = &history {
            recorder.record(Final {});
        }
        let views = verify::memberships(&stage, args.verify == Verify::Sample);
        let verifying = watch.step("reading back", views.len(), verify::verify(&stage, &apis, views));
        outcome = verifying.await.map(|entries| read_back = entries);
    }
    seconds.reading_back = clock.elapsed().as_secs_f64();

    join_all(clients.into_iter().map(Client::close)).await;
    while let Some(listener) = listeners.join_next().await {
        listener.context("a listener has failed")?;
    }
    if let Some(recorder) = history {
        recorder.finish()?;
    }
    let broken_off = outcome.err().map(|error| format!("{error:#}"));
    Ok(Report::new(cast, &stage, seconds, read_back, broken_off))
}

/// Connects everybody, and waits until each has seen his groups begin: what is sent from now on is live.
async fn connect(
    stage: &Arc<Stage>,
    apis: &[Api],
    in_flight: u16,
    history: Option<&Recorder>,
    memberships: usize,
    listeners: &mut JoinSet<()>,
) -> anyhow::Result<Vec<Client>> {
    let tally = &stage.tally;
    let mut clients = Vec::with_capacity(apis.len());
    for some in apis.chunks(CONNECTING_AT_ONCE) {
        for api in some {
            let session = api.session().clone();
            let user = session.user_id();
            let config = Config {
                events_max: EVENTS_MAX,
                in_flight_per_convo_max: in_flight.into(),
                history: history.cloned(),
                ..Config::new(Start::Beginning, first_client_seq(timestamp(SystemTime::now())))
            };
            let (client, events) = Client::connect(session, &config);
            listeners.spawn(listen::listen(Arc::clone(stage), clients.len(), user, events));
            clients.push(client);
        }
        let (mut connected, mut opened) = (tally.connected.subscribe(), tally.opened.subscribe());
        while *connected.borrow_and_update() < clients.len() {
            tokio::select! {
                changed = connected.changed() => changed?,
                changed = opened.changed() => changed?,
            }
            stage.watch.show(*opened.borrow_and_update() as u64, "");
        }
    }
    tally.opened.subscribe().wait_for(|opened| *opened >= memberships).await?;
    Ok(clients)
}

/// Sends all lines of all groups, and waits until every member has them all.
async fn send_all(stage: &Stage, clients: &[Client], pace: Pace, memberships: usize) -> anyhow::Result<()> {
    let sending = async {
        try_join_all(stage.groups.iter().map(|group| conduct(stage, group, clients, pace))).await?;
        stage.tally.complete.subscribe().wait_for(|complete| *complete >= memberships).await?;
        Ok(())
    };
    tokio::select! {
        outcome = sending => outcome,
        never = show_progress(stage) => match never {},
    }
}

/// Shows rate and latency, twice a second.
async fn show_progress(stage: &Stage) -> std::convert::Infallible {
    let tally = &stage.tally;
    let began = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    loop {
        ticks.tick().await;
        let received =
            [&tally.live, &tally.caught_up, &tally.own].map(|counter| counter.load(Relaxed)).iter().sum();
        let elapsed = began.elapsed().as_secs_f64().max(0.001);
        let rate = |number: u64| number as f64 / elapsed;
        let p99_millis =
            |latencies: &Latencies| latencies.summary().map_or(0.0, |latency| latency.p99_micros / 1e3);
        let (ack, receive) = (p99_millis(&tally.send_to_ack), p99_millis(&tally.send_to_receive));
        stage.watch.show(
            received,
            format_args!(
                "{:.0} lines/s, {:.0} deliveries/s; ack p99 {ack:.0} ms, receive p99 {receive:.0} ms",
                rate(tally.acked.load(Relaxed)),
                rate(received)
            ),
        );
    }
}

fn read(file: &Path) -> anyhow::Result<log::Log> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(log::parse(name, &bytes))
}

/// Six letters, out of the random part of a UUIDv7.
fn random_tag() -> String {
    let random = Uuid::now_v7();
    random.as_bytes()[10..].iter().map(|byte| char::from(b'a' + byte % 26)).collect()
}

fn tag(text: &str) -> anyhow::Result<String> {
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if text.is_empty() || text.len() > names::TAG_CHARS_MAX || !text.chars().all(valid) {
        bail!("a tag has 1 to {} characters of a-z and 0-9", names::TAG_CHARS_MAX);
    }
    Ok(text.to_owned())
}

fn speed(text: &str) -> anyhow::Result<f64> {
    let times: f64 = text.parse()?;
    ensure!(
        times.is_finite() && times > 0.0,
        "a speed is a number above 0; 1 is as fast as the lines were written"
    );
    Ok(times)
}

#[expect(clippy::print_stdout, reason = "the report is what was asked for")]
fn say(text: &str) {
    println!("{text}");
}
