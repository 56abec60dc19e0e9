//! `kill -9`, for real: a child process appends and prints what was acked, and is killed in the middle of it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tertulia_domain::log::Outcome;
use tertulia_protocol::Timestamp;

use super::support::*;
use crate::embedded::{Embedded, OpenOptions};
use crate::testsuite::world::{ANA, BO, convo, create_group, send};
use crate::{Slice, Store};

const CONVERSATIONS: u16 = 5;
/// Where it is set, this process is the child.
const FOLDER: &str = "TERTULIA_TEST_FOLDER";

#[test]
fn nothing_that_was_acked_is_lost_by_kill_9() {
    survive("nothing_that_was_acked_is_lost_by_kill_9", &OpenOptions::default());
}

/// Nothing is settled in its turn, and much before it, while others append.
#[test]
fn nothing_that_was_acked_is_lost_by_kill_9_in_a_burst() {
    survive("nothing_that_was_acked_is_lost_by_kill_9_in_a_burst", &burst().0);
}

/// `test`: which one this is, to be run by the child.
fn survive(test: &str, options: &OpenOptions) {
    if let Some(folder) = std::env::var_os(FOLDER) {
        append_for_ever(Path::new(&folder), options.clone());
    }
    let dir = tempfile::tempdir().unwrap();
    // What was acked: (conversation, client_seq) → seq.
    let mut acked: BTreeMap<(u16, u64), u64> = BTreeMap::new();
    for round in 0..5_u64 {
        let known = acked.len();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", &format!("embedded::tests::kill::{test}")])
            .env(FOLDER, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut take = |line: String| {
            let mut words = line.strip_prefix("acked ")?.split(' ').map(|word| word.parse::<u64>().unwrap());
            let (convo, number, seq) = (words.next()?, words.next()?, words.next()?);
            acked.insert((convo as u16, number), seq)
        };
        // Sooner or later in its life: while it replays, in its first batches, while it settles.
        for line in lines.by_ref() {
            let is_ack = line.starts_with("acked ");
            take(line);
            if is_ack {
                break;
            }
        }
        std::thread::sleep(Duration::from_millis(30 + round * 130));
        child.kill().unwrap();
        for line in lines {
            take(line);
        }
        child.wait().unwrap();
        assert!(acked.len() > known, "round {round}: nothing was acked");
        verify(dir.path(), &acked);
    }
}

/// Appends to a few conversations from where they are, several calls at a time, until it is killed.
fn append_for_ever(folder: &Path, options: OpenOptions) -> ! {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Embedded::open(folder, options).unwrap();
        let mut tasks = Vec::new();
        for number in 0..CONVERSATIONS {
            let store = store.clone();
            tasks.push(tokio::spawn(async move {
                let id = convo(number);
                try_one(&store, create_group(id, &[ANA, BO], Default::default())).await.unwrap();
                let head = store.conversation(ANA, id).await.unwrap().unwrap().last_seq.get();
                for first in (head..).step_by(3) {
                    let intents = (first..first + 3).map(|number| send(id, ANA, number, &number.to_string()));
                    let batch = store.append(intents.collect(), Timestamp::from_millis(0)).await.unwrap();
                    for (client_seq, outcome) in (first..).zip(batch.outcomes) {
                        let Outcome::Appended { entry, .. } = outcome else { panic!("{outcome:?}") };
                        println!("acked {number} {client_seq} {}", entry.seq);
                    }
                    // Each at its own pace.
                    if first / 3 % (2 + u64::from(number)) == 0 {
                        let seen = store.conversation(BO, id).await.unwrap().unwrap();
                        assert_eq!((seen.last_seq.get(), seen.unread_count), (first + 3, first + 2));
                    }
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        unreachable!("its tasks never end")
    })
}

fn verify(folder: &Path, acked: &BTreeMap<(u16, u64), u64>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Embedded::open(folder, OpenOptions::default()).unwrap();
        for number in 0..CONVERSATIONS {
            let Some(page) =
                store.history(BO, convo(number), Slice::After(Default::default()), 1_000_000).await.unwrap()
            else {
                assert!(!acked.keys().any(|&(convo, _)| convo == number), "conversation {number} is gone");
                continue;
            };
            let found: Vec<_> = page.entries.iter().map(|(entry, _)| entry).collect();
            let seen = store.conversation(BO, convo(number)).await.unwrap().unwrap();
            assert_eq!(
                (seen.last_seq.get(), seen.unread_count + 1),
                (found.len() as u64, found.len() as u64)
            );
            for (place, entry) in (1..).zip(&found) {
                assert_eq!(entry.seq.get(), place, "dense");
                // Every number once, in order: the child counts on from the head.
                assert_eq!(entry.client_seq.map(|number| number.get()), (place > 1).then(|| place - 1));
            }
            for (&(_, client_seq), &seq) in acked.range((number, 0)..=(number, u64::MAX)) {
                let entry =
                    found.get(seq as usize - 1).unwrap_or_else(|| panic!("{seq} of {number} is lost"));
                assert_eq!(entry.client_seq.map(|number| number.get()), Some(client_seq));
            }
        }
        drop(std::sync::Arc::into_inner(store));
    });
}
