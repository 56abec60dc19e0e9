//! Redis.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::process::{Process, Start, in_path};
use crate::server::Life;

/// How long it may take to answer once it is up.
const ANSWER_MAX: Duration = Duration::from_secs(1);

pub(crate) fn start(folder: &Path, port: u16, life: Life, options: &[String]) -> Result<Process> {
    let program: PathBuf =
        in_path("redis-server").context("Redis is not installed; run scripts/setup test")?;
    let log = folder.join("log");
    let port_text = port.to_string();
    let arguments = ["--bind", "127.0.0.1", "--port", &port_text, "--save", "", "--appendonly", "no"];
    let arguments = [&arguments.map(str::to_owned), options].concat();
    let start = Start { program: &program, arguments, folder, log: &log, user: None, life, farewell: "KILL" };
    let mut process = Process::start(&start)?;
    process.wait_until(&log, || answers(port))?;
    Ok(process)
}

fn answers(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        socket.set_read_timeout(Some(ANSWER_MAX))?;
        socket.write_all(b"PING\r\n")?;
        let mut answer = [0; 7];
        socket.read_exact(&mut answer)?;
        // One that wants a password is up, too.
        Ok(&answer == b"+PONG\r\n" || &answer == b"-NOAUTH")
    };
    ask().unwrap_or(false)
}
