//! PostgreSQL.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::process::geteuid;

use crate::process::{Process, Start, User, in_path};
use crate::server::{Kind, Life};

/// The oldest that the store works with.
const VERSION_MIN: u32 = 15;
/// Where Debian has the programs of its versions.
const DEBIAN: &str = "/usr/lib/postgresql";

/// What is not as it comes. Commits are synced as in production: tests look at what survives a crash.
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "fsync=on",
    "synchronous_commit=on",
    "max_connections=300",
    "max_prepared_transactions=0",
    "shared_buffers=64MB",
    "max_wal_size=512MB",
    "log_line_prefix=%m [%p] %d ",
];

pub(crate) fn start(folder: &Path, port: u16, life: Life, options: &[String]) -> Result<Process> {
    let programs = programs()?;
    let user = user()?;
    if let Some(User { uid, gid }) = user {
        chown(folder, Some(uid), Some(gid))?;
        if let Some(closed) = closed_to(folder, uid) {
            anyhow::bail!("user postgres cannot come through {}", closed.display());
        }
    }
    let data = folder.join("data");
    if !data.join("PG_VERSION").is_file() {
        initialise(&programs, &data, user)?;
    }
    let log = folder.join("log");
    let mut arguments = vec!["-D".to_owned(), data.display().to_string()];
    let port = format!("port={port}");
    arguments
        .extend(SETTINGS.iter().copied().chain([port.as_str()]).flat_map(|set| ["-c".into(), set.into()]));
    arguments.extend_from_slice(options);
    let program = programs.join("postgres");
    // Its quickest orderly end: killed, it would leave shared memory behind.
    let farewell = "QUIT";
    let start = Start { program: &program, arguments, folder: &data, log: &log, user, life, farewell };
    let mut process = Process::start(&start)?;
    let pid_file = data.join("postmaster.pid");
    let pid = process.id().to_string();
    process.wait_until(&log, || {
        // Its first line is the process, its last says how far it is. One that was left behind has another process.
        let lines = fs::read_to_string(&pid_file).unwrap_or_default();
        let is_up = |line: &str| matches!(line.trim(), "ready" | "standby");
        lines.lines().next() == Some(&*pid) && lines.lines().last().is_some_and(is_up)
    })?;
    Ok(process)
}

/// Copies a server that runs on `port` into a folder, so that what is started there follows it.
pub(crate) fn copy(port: u16, folder: &Path) -> Result<()> {
    let user = user()?;
    if let Some(User { uid, gid }) = user {
        chown(folder, Some(uid), Some(gid))?;
    }
    let mut command = run_as(user);
    command.arg(programs()?.join("pg_basebackup")).arg("-D").arg(folder.join("data"));
    command.args([
        "--host=127.0.0.1",
        "--username=postgres",
        "--no-password",
        "--checkpoint=fast",
        "--no-sync",
    ]);
    command.args(["--write-recovery-conf", &format!("--port={port}")]);
    ended_well("pg_basebackup", &mut command)
}

/// Has a server do what it says in SQL, one statement each.
pub(crate) fn tell(port: u16, statements: &[&str]) -> Result<()> {
    tell_at(&Kind::Postgres.url(port), statements)
}

/// Has the server of a database do what it says there.
pub(crate) fn tell_at(url: &str, statements: &[&str]) -> Result<()> {
    let mut command = Command::new(programs()?.join("psql"));
    command.args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--output=/dev/null"]);
    command.arg(url);
    command.args(statements.iter().flat_map(|statement| ["-c", statement]));
    ended_well("psql", &mut command)
}

/// The beginning of a command that one user of this machine gives as another.
fn run_as(user: Option<User>) -> Command {
    let mut command = Command::new("setpriv");
    if let Some(User { uid, gid }) = user {
        command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".into()]);
    }
    command.arg("--");
    command
}

fn ended_well(name: &str, command: &mut Command) -> Result<()> {
    let done =
        command.current_dir("/").output().context("setpriv is of util-linux, the others of PostgreSQL")?;
    ensure!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr).trim());
    Ok(())
}

/// Makes a cluster whose superuser `postgres` needs no password.
fn initialise(programs: &Path, data: &Path, user: Option<User>) -> Result<()> {
    let mut command = run_as(user);
    command.arg(programs.join("initdb")).arg("-D").arg(data);
    // Not synced: an empty cluster is made again in a second.
    command.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]);
    ended_well("initdb", &mut command)
}

/// The folder of its programs.
fn programs() -> Result<PathBuf> {
    let versions = fs::read_dir(DEBIAN).into_iter().flatten().filter_map(|item| {
        let item = item.ok()?;
        let version: u32 = item.file_name().to_str()?.parse().ok()?;
        let programs = item.path().join("bin");
        (version >= VERSION_MIN && programs.join("postgres").is_file()).then_some((version, programs))
    });
    if let Some((_, programs)) = versions.max() {
        return Ok(programs);
    }
    let elsewhere = in_path("postgres").context("PostgreSQL is not installed; run scripts/setup test")?;
    // A link in the path has `initdb` beside what it leads to.
    Ok(elsewhere.canonicalize()?.parent().context("a program has a folder")?.to_path_buf())
}

/// Whom it runs as: it refuses to be root.
fn user() -> Result<Option<User>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let found = users.lines().find_map(|line| {
        let mut fields = line.strip_prefix("postgres:")?.split(':').skip(1);
        Some(User { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
    });
    found.map(Some).context("there is no user postgres; run scripts/setup test")
}

/// Whether the server, as it would run here, can come to a folder that is below `folder` or it.
pub(crate) fn can_reach(folder: &Path) -> bool {
    user().is_ok_and(|user| user.is_none_or(|user| closed_to(folder, user.uid).is_none()))
}

/// The folder on the way, or at the end of it, that lets this user not through.
fn closed_to(folder: &Path, uid: u32) -> Option<PathBuf> {
    let closed = |folder: &Path| {
        fs::metadata(folder).is_ok_and(|meta| meta.uid() != uid && meta.permissions().mode() & 0o001 == 0)
    };
    folder.ancestors().find(|folder| closed(folder)).map(Path::to_path_buf)
}
