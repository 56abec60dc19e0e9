//! Apache Kafka in KRaft mode: one process that is broker and controller.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::ports;
use crate::process::{Process, Start, in_path};
use crate::server::Life;

/// Of a cluster: 16 bytes as base64. It means nothing here, but there must be one.
const CLUSTER: &str = "dGVydHVsaWEtdGVzdHMtMQ";
/// What it says when it takes requests: by then the broker is known to the controller.
const READY: &str = "Kafka Server started";
/// Its memory, which is for small tests.
const MEMORY: &str = "-Xmx512m";
/// In this file of the folder stands the controller's port.
const CONTROLLER: &str = "controller-port";

pub(crate) fn start(folder: &Path, port: u16, life: Life, ways: &[String]) -> Result<Process> {
    let java = in_path("java").context("Java is not installed; run scripts/setup test")?;
    let libraries = libraries()?;
    let class_path = format!("{}/*:{}", libraries.display(), folder.display());
    let properties = folder.join("server.properties");
    let controller = controller(folder)?;
    fs::write(&properties, settings(folder, port, controller, ways))?;
    fs::write(folder.join("log4j2.properties"), LOGGING)?;
    if !folder.join("data/meta.properties").is_file() {
        format(&java, &class_path, &properties)?;
    }
    let log = folder.join("log");
    let before = fs::metadata(&log).map_or(0, |meta| meta.len());
    let arguments = vec![
        MEMORY.to_owned(),
        "-XX:+UseSerialGC".to_owned(),
        "-cp".to_owned(),
        class_path,
        "kafka.Kafka".to_owned(),
        properties.display().to_string(),
    ];
    let start = Start { program: &java, arguments, folder, log: &log, user: None, life, farewell: "KILL" };
    let mut process = Process::start(&start)?;
    process.wait_until(&log, || {
        let said = fs::read(&log).unwrap_or_default();
        let new = said.get(usize::try_from(before).unwrap_or_default()..).unwrap_or_default();
        String::from_utf8_lossy(new).contains(READY)
    })?;
    Ok(process)
}

/// The same over restarts: it stands in what the broker has stored.
fn controller(folder: &Path) -> Result<u16> {
    if let Some(port) = remembered(folder) {
        return Ok(port);
    }
    let port = ports::free()?;
    fs::write(folder.join(CONTROLLER), port.to_string())?;
    Ok(port)
}

fn remembered(folder: &Path) -> Option<u16> {
    fs::read_to_string(folder.join(CONTROLLER)).ok()?.trim().parse().ok()
}

/// Whether somebody else has the port that this one needs: then what it has stored is of no use.
pub(crate) fn is_displaced(folder: &Path) -> bool {
    remembered(folder).is_some_and(|port| TcpListener::bind(("127.0.0.1", port)).is_err())
}

fn settings(folder: &Path, port: u16, controller: u16, ways: &[String]) -> String {
    let data = folder.join("data");
    let (mut listeners, mut advertised, mut protocols) = (String::new(), String::new(), String::new());
    for (number, (port, at)) in ways.iter().filter_map(|way| way.split_once('=')).enumerate() {
        listeners += &format!(",WAY{number}://127.0.0.1:{port}");
        advertised += &format!(",WAY{number}://{at}");
        protocols += &format!(",WAY{number}:PLAINTEXT");
    }
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{listeners}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{advertised}\n\
         inter.broker.listener.name=PLAINTEXT\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT{protocols}\n\
         controller.listener.names=CONTROLLER\n\
         log.dirs={}\n\
         offsets.topic.replication.factor=1\n\
         offsets.topic.num.partitions=4\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n",
        data.display()
    )
}

const LOGGING: &str = "\
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=[%d] %p %m (%c)%n
rootLogger.level=INFO
rootLogger.appenderRef.console.ref=console
";

/// Writes the cluster's id into an empty folder, without which the broker does not start.
fn format(java: &Path, class_path: &str, properties: &Path) -> Result<()> {
    let mut command = Command::new(java);
    command.args(["-cp", class_path, "kafka.tools.StorageTool", "format", "--standalone"]);
    let done = command.args(["--cluster-id", CLUSTER, "--config"]).arg(properties).output()?;
    ensure!(done.status.success(), "format: {}", String::from_utf8_lossy(&done.stderr).trim());
    Ok(())
}

/// Where `scripts/setup` has put the newest Kafka.
fn libraries() -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let cache = cache.context("neither XDG_CACHE_HOME nor HOME is set")?.join("tertulia");
    let versions = fs::read_dir(&cache).into_iter().flatten().filter_map(|item| {
        let path = item.ok()?.path();
        let version = path.file_name()?.to_str()?.strip_prefix("kafka-")?;
        let version: Vec<u32> = version.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
        Some((version, path))
    });
    versions.max().map(|(_, path)| path).context("Kafka is not installed; run scripts/setup test")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_whose_port_somebody_else_has_is_known() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_displaced(folder.path()), "it has none yet");
        let port = controller(folder.path()).unwrap();
        assert_eq!((controller(folder.path()).unwrap(), is_displaced(folder.path())), (port, false));
        let _other = TcpListener::bind(("127.0.0.1", port)).unwrap();
        assert!(is_displaced(folder.path()));
    }
}
