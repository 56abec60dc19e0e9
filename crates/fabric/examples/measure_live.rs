//! What the live channel costs over a Redis that one starts: `cargo run --release -p tertulia-fabric --example
//! measure_live -- redis://127.0.0.1:6379 [TOPICS]`.
//!
//! One process is both sides, so what it prints of CPU is that of publishing and hearing together.

#![expect(clippy::print_stdout, reason = "a program for people at a terminal")]

use std::error::Error;
use std::fs;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tertulia_fabric::live::redis::{Options, RedisLive};
use tertulia_fabric::live::{Ear, Heard, Live as _, Topic};
use tertulia_protocol::ConvoId;

type Done = Result<(), Box<dyn Error>>;

/// Messages of one call, as the outcomes of one append are.
const BATCH: usize = 100;
const BATCHES: usize = 2_000;
const PAYLOAD: usize = 300;
const ROUNDS: u32 = 2_000;

#[tokio::main]
async fn main() -> Done {
    let mut arguments = std::env::args().skip(1);
    let target = arguments.next().unwrap_or_else(|| "redis://127.0.0.1:6379".into()).parse()?;
    let count = arguments.next().map_or(Ok(500_000), |count| count.parse())?;
    let (live, mut ear) = RedisLive::start(Options::new(target));
    hear_until(&mut ear, &Heard::Restored).await?;

    let topics: Vec<Topic> = (0..count).map(topic).collect();
    let before = resident();
    let begun = Instant::now();
    live.subscribe(topics.clone()).await?;
    println!("{count} topics subscribed in {:.2?}, {} MiB more in use", begun.elapsed(), resident() - before);

    messages(&live, &mut ear, &topics).await?;
    calls(&live, &mut ear, &topics).await?;

    println!("stop or cut the server now, or wait: measuring how long it takes to come back …");
    let broken = tokio::time::timeout(Duration::from_secs(20), hear_until(&mut ear, &Heard::Broken)).await;
    if broken.is_ok() {
        let begun = Instant::now();
        hear_until(&mut ear, &Heard::Restored).await?;
        println!("all topics were subscribed again {:.2?} after the break was heard", begun.elapsed());
    }

    let begun = Instant::now();
    live.unsubscribe(&topics);
    live.barrier(u64::MAX);
    hear_until(&mut ear, &Heard::Barrier(u64::MAX)).await?;
    println!(
        "{count} topics left in {:.2?}, {} MiB more in use than before",
        begun.elapsed(),
        resident() - before
    );
    println!("{:?}", live.figures());
    live.close().await;
    Ok(())
}

/// Batches published one after the other, each heard here.
async fn messages(live: &RedisLive, ear: &mut Ear, topics: &[Topic]) -> Done {
    let payload = Bytes::from(vec![b'x'; PAYLOAD]);
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    let publish = async {
        for batch in 0..BATCHES {
            let topic = |at| topics[(batch * BATCH + at) * 7_919 % topics.len()];
            live.publish((0..BATCH).map(|at| (topic(at), payload.clone())).collect()).await?;
        }
        Ok::<_, Box<dyn Error>>(())
    };
    let hear = async {
        for _ in 0..BATCH * BATCHES {
            ear.next().await.ok_or("the ear was closed")?;
        }
        Ok::<_, Box<dyn Error>>(())
    };
    tokio::try_join!(publish, hear)?;
    let total = (BATCH * BATCHES) as f64;
    println!(
        "messages of {PAYLOAD} bytes in calls of {BATCH}: {:.0}/s published and heard, {:.2} µs of CPU each",
        total / begun.elapsed().as_secs_f64(),
        (cpu_seconds() - cpu) * 1e6 / total,
    );
    Ok(())
}

/// Calls of one message, each waited for; and barriers.
async fn calls(live: &RedisLive, ear: &mut Ear, topics: &[Topic]) -> Done {
    let (mut published, mut heard, mut passed) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let begun = Instant::now();
        live.publish(vec![(topics[0], Bytes::from_static(b"x"))]).await?;
        published.push(begun.elapsed());
        ear.next().await.ok_or("the ear was closed")?;
        heard.push(begun.elapsed());
        let begun = Instant::now();
        live.barrier(round.into());
        hear_until(ear, &Heard::Barrier(round.into())).await?;
        passed.push(begun.elapsed());
    }
    for (what, mut times) in [("published", published), ("heard", heard), ("a barrier passed", passed)] {
        times.sort_unstable();
        println!(
            "one alone: {what} after {:.0?} (p99 {:.0?})",
            times[times.len() / 2],
            times[times.len() * 99 / 100]
        );
    }
    Ok(())
}

fn topic(number: usize) -> Topic {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&(number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    Topic::Conversation(ConvoId::from_bytes(id))
}

async fn hear_until(ear: &mut Ear, what: &Heard) -> Done {
    while ear.next().await.ok_or("the ear was closed")? != *what {}
    Ok(())
}

/// MiB of memory in use, by what Linux says.
fn resident() -> i64 {
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<i64>().ok());
    pages.unwrap_or(0) * 4 / 1_024
}

/// CPU of this process so far.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
