//! What a process costs, as `/proc` tells it. Where there is no `/proc`, nothing is known.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

/// `utime` and `stime` are counted in hundredths of a second, on every Linux.
const TICK: Duration = Duration::from_millis(10);
/// The state of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// A process of this machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process {
    pub(crate) pid: u32,
}

/// What a process has used and holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Its proportional share of memory: pages that it shares with others count in part.
    pub pss_bytes: u64,
    /// All that is resident.
    pub rss_bytes: u64,
}

impl Process {
    /// This one.
    pub(crate) fn own() -> Self {
        Self { pid: std::process::id() }
    }

    /// The one that listens on a TCP port of this machine, as far as we may see it.
    pub(crate) fn listening_on(port: u16) -> Option<Self> {
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).ok());
        let sockets: Vec<PathBuf> = tables
            .iter()
            .flatten()
            .flat_map(|table| table.lines())
            .filter_map(|line| listener(line, port))
            .map(|inode| PathBuf::from(format!("socket:[{inode}]")))
            .collect();
        let mut pids =
            fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let pid = pids.find(|pid: &u32| {
            let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            files.filter_map(|file| fs::read_link(file.path()).ok()).any(|target| sockets.contains(&target))
        })?;
        Some(Self { pid })
    }

    /// The time that its threads have run, in user and kernel mode together.
    pub(crate) fn cpu(self) -> Option<Duration> {
        let stat = self.read("stat")?;
        // The name, in parentheses, may hold anything; `utime` and `stime` are fields 14 and 15.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut times = fields.split_whitespace().skip(11).map(|field| field.parse::<u32>().ok());
        Some(TICK * (times.next()?? + times.next()??))
    }

    /// The same of it and of all that it has started, those included that have ended and were waited for.
    pub(crate) fn cpu_with_descendants(self) -> Option<Duration> {
        let children = Self::children();
        let mut sum = self.read("stat").and_then(|stat| of_children(&stat)).unwrap_or_default();
        let (mut left, mut is_root) = (vec![self.pid], true);
        while let Some(pid) = left.pop() {
            match (Self { pid }.cpu(), is_root) {
                (Some(cpu), _) => sum += cpu,
                (None, true) => return None,
                // It has ended since it was found.
                (None, false) => {}
            }
            is_root = false;
            left.extend(children.get(&pid).into_iter().flatten());
        }
        Some(sum)
    }

    /// All processes, by who has started them.
    fn children() -> HashMap<u32, Vec<u32>> {
        let mut children = HashMap::<_, Vec<_>>::new();
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        for pid in pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
            let parent = Self { pid }.read("stat").and_then(|stat| {
                let (_, fields) = stat.rsplit_once(')')?;
                fields.split_whitespace().nth(1)?.parse::<u32>().ok()
            });
            if let Some(parent) = parent {
                children.entry(parent).or_default().push(pid);
            }
        }
        children
    }

    /// The memory that it holds.
    pub(crate) fn memory(self) -> Option<Memory> {
        let text = self.read("smaps_rollup")?;
        let bytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
        };
        Some(Memory { pss_bytes: bytes("Pss:")?, rss_bytes: bytes("Rss:")? })
    }

    /// All that is resident, in bytes. It is counted all the time: to ask for it costs the process nothing, while for
    /// [`memory`](Self::memory) the kernel looks at all of its pages.
    pub(crate) fn resident(self) -> Option<u64> {
        let text = self.read("status")?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
    }

    /// The command that started it.
    pub(crate) fn command(self) -> Option<String> {
        let arguments = self.read("cmdline")?;
        Some(arguments.trim_end_matches('\0').replace('\0', " "))
    }

    /// The folder in which it has a file of this name open.
    pub(crate) fn folder_of(self, name: &str) -> Option<PathBuf> {
        let files = fs::read_dir(format!("/proc/{}/fd", self.pid)).ok()?;
        let mut open = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        let file =
            open.find(|target| target.is_absolute() && target.file_name().is_some_and(|is| is == name))?;
        file.parent().map(Path::to_path_buf)
    }

    fn read(self, file: &str) -> Option<String> {
        fs::read_to_string(format!("/proc/{}/{file}", self.pid)).ok()
    }
}

/// The time of a process's children that have ended, from its `stat`: `cutime` and `cstime`, fields 16 and 17.
fn of_children(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(13).map(|field| field.parse::<u32>().ok());
    Some(TICK * (times.next()?? + times.next()??))
}

/// The inode of the socket in a line of `/proc/net/tcp`, if it listens on `port`.
fn listener(line: &str, port: u16) -> Option<&str> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let &[_, local, _, state, _, _, _, _, _, inode, ..] = fields.as_slice() else { return None };
    let (_, local_port) = local.rsplit_once(':')?;
    (state == LISTEN && u16::from_str_radix(local_port, 16) == Ok(port)).then_some(inode)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_process_that_listens_is_found_and_its_costs_are_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let found = Process::listening_on(listener.local_addr().unwrap().port()).unwrap();
        assert_eq!(found.pid, Process::own().pid);
        assert!(found.cpu().is_some());
        let memory = found.memory().unwrap();
        assert!(memory.pss_bytes > 100_000 && memory.rss_bytes >= memory.pss_bytes, "{memory:?}");
        assert!(found.resident().unwrap() > 100_000);
        assert!(found.command().unwrap().contains("tertulia_bench"));
    }

    #[test]
    fn what_a_process_has_started_counts_with_it() {
        // It works for two tenths of a second at least, in a child of the child.
        let script = "sh -c 'while :; do :; done' & echo $!; wait";
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", script]).stdout(std::process::Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        let mut busy = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(shell.stdout.take().unwrap()), &mut busy)
            .unwrap();
        let (busy, root) = (Process { pid: busy.trim().parse().unwrap() }, Process { pid: shell.id() });
        let worked = Duration::from_millis(200);
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while busy.cpu().unwrap() < worked {
            assert!(std::time::Instant::now() < deadline, "it does not work");
            std::thread::yield_now();
        }
        assert!(root.cpu_with_descendants().unwrap() >= worked);
        assert!(root.cpu().unwrap() < worked);
        std::process::Command::new("kill").arg("-9").arg(busy.pid.to_string()).status().unwrap();
        shell.wait().unwrap();
        assert_eq!(root.cpu_with_descendants(), None);
    }

    #[test]
    fn only_listening_sockets_of_the_port_count() {
        let line = |local, state| {
            format!("  0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 4711 1 0")
        };
        assert_eq!(listener(&line("0100007F:1F90", "0A"), 8080), Some("4711"));
        assert_eq!(listener(&line("0100007F:1F90", "01"), 8080), None);
        assert_eq!(listener(&line("0100007F:1F91", "0A"), 8080), None);
        assert_eq!(listener("  sl  local_address rem_address st", 8080), None);
    }
}
