//! What real servers do to the adapter, and what it makes of it.

use std::sync::Arc;

use bytes::Bytes;
use tertulia_services::Fault;
use tokio_util::sync::CancellationToken;

use super::{Options, RedisLive};
use crate::live::testsuite::world::{Node, convo, soon, user};
use crate::live::{Heard, Limits, Live, LiveError, Topic};
use crate::redis::Target;
use crate::redis::testing::{Cluster, Server};

async fn join(target: Target) -> Node {
    join_with(target, Limits::default()).await
}

async fn join_with(target: Target, limits: Limits) -> Node {
    let (live, ear) = RedisLive::start(Options { limits, ..Options::new(target) });
    let mut node = Node { live: Arc::new(live), ear };
    assert_eq!(node.hear().await, Heard::Restored);
    node
}

fn topics(count: u32) -> Vec<Topic> {
    (0..count).map(|number| if number % 2 == 0 { convo(number) } else { user(number) }).collect()
}

async fn expect_heard(node: &mut Node, topics: impl IntoIterator<Item = Topic>) {
    for topic in topics {
        node.expect_in_the_end(topic).await;
    }
}

fn channels(server: &Server) -> usize {
    server.info("stats", "pubsubshard_channels").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_server_is_noticed_and_comes_back() {
    let server = Server::start();
    let mut ana = join(server.target()).await;
    ana.subscribe(&topics(100)).await;
    server.pause();
    assert_eq!(ana.hear().await, Heard::Broken);
    assert!(matches!(ana.try_publish(convo(0), "x").await, Err(LiveError::Broken(_))));
    let subscribed = soon("the end of a subscription", ana.live.subscribe(vec![convo(1_000)])).await;
    assert!(matches!(subscribed, Err(LiveError::Broken(_))));
    server.resume();
    ana.hear_until(&Heard::Restored).await;
    // What it was told while it was paused, and what the connections before that one had asked, may come yet.
    expect_heard(&mut ana, [convo(1_000)]).await;
    assert_eq!(channels(&server), 101);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_swallows_everything_is_noticed() {
    let server = Server::start();
    let (proxy, target) = server.proxy();
    let (mut ana, bo) = (join(target).await, join(server.target()).await);
    ana.subscribe(&topics(100)).await;
    for fault in [Fault::Stalled, Fault::AnswersLost, Fault::Refused] {
        proxy.set(fault);
        if fault == Fault::Refused {
            proxy.cut();
        }
        ana.hear_until(&Heard::Broken).await;
        // The others do not know of it.
        bo.publish(convo(0), "missed").await;
        proxy.set(Fault::None);
        ana.hear_until(&Heard::Restored).await;
        expect_heard(&mut ana, topics(100).into_iter().step_by(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_whose_answer_is_lost_may_have_been_heard() {
    let server = Server::start();
    let (proxy, target) = server.proxy();
    let (ana, mut bo) = (join(target).await, join(server.target()).await);
    bo.subscribe(&[convo(1)]).await;
    ana.publish(convo(1), "answered").await;
    proxy.set(Fault::AnswersLost);
    let published = ana.try_publish(convo(1), "unanswered").await;
    assert!(matches!(published, Err(LiveError::Broken(_))));
    for text in ["answered", "unanswered"] {
        bo.expect(convo(1), text).await;
    }
    // It is not published again by itself.
    assert_eq!(bo.all().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_on_which_nothing_happens_stays() {
    let server = Server::start();
    let mut ana = join(server.target()).await;
    ana.subscribe(&topics(2)).await;
    // For as long as it takes to be asked ten times whether it is there.
    let pings = || {
        let stats = server.info("commandstats", "cmdstat_ping");
        stats.trim_start_matches("calls=").split(',').next().unwrap().parse::<u32>().unwrap()
    };
    let begun = pings();
    let is_asked = async {
        while pings() < begun + 10 {
            tokio::task::yield_now().await;
        }
    };
    soon("pings", is_asked).await;
    assert_eq!(ana.all().await, []);
    let connections = ana.live.figures().into_iter().find(|(name, _)| *name == "live_connections");
    assert_eq!(connections.unwrap().1, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_the_server_kills_are_made_again_with_all_topics() {
    let server = Server::start();
    let mut ana = join(server.target()).await;
    ana.subscribe(&topics(5_000)).await;
    for _ in 0..3 {
        server.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        ana.hear_until(&Heard::Broken).await;
        ana.hear_until(&Heard::Restored).await;
        assert_eq!(channels(&server), 5_000);
    }
    // One that only publishes is not missed.
    server.ask(&["CLIENT", "KILL", "TYPE", "normal"]);
    expect_heard(&mut ana, topics(5_000).into_iter().step_by(97)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_flushed_changes_nothing() {
    let server = Server::start();
    let mut ana = join(server.target()).await;
    ana.subscribe(&topics(10)).await;
    server.ask(&["FLUSHALL"]);
    expect_heard(&mut ana, topics(10)).await;
    assert_eq!(ana.all().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_nothing_is_heard_twice_or_out_of_order() {
    let mut server = Server::start();
    let mut bo = join(server.target()).await;
    bo.subscribe(&[convo(1)]).await;
    let (ana, _deaf) = RedisLive::start(Options::new(server.target()));
    let (stop, enough) = (CancellationToken::new(), CancellationToken::new());
    let (stopping, ending) = (stop.clone(), enough.clone());
    let publisher = tokio::spawn(async move {
        for number in 0_u32.. {
            if stopping.is_cancelled() {
                break;
            }
            let texts = (0..10).map(|at| format!("{}", number * 10 + at));
            // Some fail, and nobody knows which of their messages were taken.
            drop(ana.publish(texts.map(|text| (convo(1), Bytes::from(text))).collect()).await);
        }
        while !ending.is_cancelled() {
            drop(ana.publish(vec![(convo(1), Bytes::from_static(b"the end"))]).await);
        }
    });
    let (mut last, mut heard, mut restored) = (None, 0, 0);
    loop {
        match bo.hear().await {
            Heard::Message { bytes, .. } if bytes == "the end" => break,
            Heard::Message { bytes, .. } => {
                let number: u32 = std::str::from_utf8(&bytes).unwrap().parse().unwrap();
                assert!(last < Some(number), "{number} after {last:?}");
                last = Some(number);
                heard += 1;
                match heard {
                    100 => {
                        server.kill();
                        server.restart();
                    }
                    200 => drop(server.ask(&["CLIENT", "KILL", "TYPE", "pubsub"])),
                    300 => drop(server.ask(&["CLIENT", "KILL", "TYPE", "normal"])),
                    _ => {}
                }
            }
            Heard::Restored => restored += 1,
            Heard::Broken | Heard::Barrier(_) => {}
        }
        if heard > 400 && restored >= 2 {
            stop.cancel();
        }
    }
    enough.cancel();
    publisher.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_is_cut_off_and_hears_so() {
    let server = Server::start_with(&["--client-output-buffer-limit", "pubsub 1mb 0 0"]);
    let ana = join(server.target()).await;
    let mut bo = join_with(server.target(), Limits { messages: 8, bytes: 1_000_000 }).await;
    bo.subscribe(&[convo(1), convo(2)]).await;
    let message = (convo(1), Bytes::from(vec![7; 100_000]));
    // The kernel's buffers hold some of it.
    while server.info("clients", "connected_clients") == "5" {
        assert_eq!(ana.live.publish(vec![message.clone(); 20]).await, Ok(()));
    }
    bo.hear_until(&Heard::Broken).await;
    bo.hear_until(&Heard::Restored).await;
    ana.publish(convo(2), "again").await;
    bo.expect(convo(2), "again").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_that_were_left_are_forgotten_by_the_server() {
    let server = Server::start();
    let ana = join(server.target()).await;
    ana.subscribe(&topics(3_000)).await;
    ana.live.unsubscribe(&topics(2_990));
    let is_done = async {
        while channels(&server) != 10 {
            tokio::task::yield_now().await;
        }
    };
    soon("silence", is_done).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_log_in_and_whoever_may_not_hears_nothing() {
    let server = Server::start_with(&["--requirepass", "secret@word"]);
    let at = |login: &str| format!("redis://{login}127.0.0.1:{}", server.port()).parse().unwrap();
    let mut ana = join(at("default:secret%40word@")).await;
    for login in ["", ":wrong@", "bo:secret%40word@"] {
        let (eve, mut ear) = RedisLive::start(Options::new(at(login)));
        let refused = soon("the end of a publication", eve.publish(vec![(convo(1), Bytes::new())])).await;
        assert!(matches!(refused, Err(LiveError::Broken(_))), "{login} {refused:?}");
        eve.close().await;
        assert_eq!(soon("the end", ear.next()).await, None);
    }
    ana.subscribe(&[convo(1)]).await;
    expect_heard(&mut ana, [convo(1)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_with_prefixes_of_their_own_share_a_server() {
    let server = Server::start();
    let mut ana = join(server.target()).await;
    let (live, ear) = RedisLive::start(Options { prefix: "other:".into(), ..Options::new(server.target()) });
    let mut bo = Node { live: Arc::new(live), ear };
    assert_eq!(bo.hear().await, Heard::Restored);
    ana.subscribe(&[Topic::Everyone]).await;
    bo.subscribe(&[Topic::Everyone]).await;
    ana.publish(Topic::Everyone, "to us").await;
    bo.publish(Topic::Everyone, "to them").await;
    ana.expect(Topic::Everyone, "to us").await;
    bo.expect(Topic::Everyone, "to them").await;
    assert_eq!((ana.all().await, bo.all().await), (vec![], vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_takes_its_topics_along() {
    let cluster = Cluster::start(0);
    let (mut ana, bo) = (join(cluster.target()).await, join(cluster.target()).await);
    let everything = topics(600);
    ana.subscribe(&everything).await;
    for topic in everything.iter().step_by(200) {
        let channel = [b"t:", topic.key().as_slice()].concat();
        let from = cluster.server_of(&channel);
        cluster.move_slot(&channel, from, (from + 1) % 3);
        ana.hear_until(&Heard::Broken).await;
        ana.hear_until(&Heard::Restored).await;
        // Who publishes has not heard of it, and is told by the server that had it.
        bo.publish(*topic, "moved").await;
        ana.expect(*topic, "moved").await;
    }
    expect_heard(&mut ana, everything.into_iter().step_by(7)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribing_to_what_has_just_moved_works_or_says_that_it_did_not() {
    let cluster = Cluster::start(0);
    let mut ana = join(cluster.target()).await;
    let channel = [b"t:", convo(1).key().as_slice()].concat();
    let from = cluster.server_of(&channel);
    cluster.move_slot(&channel, from, (from + 1) % 3);
    let subscribed = soon("a subscription", ana.live.subscribe(vec![convo(1)])).await;
    if subscribed.is_err() {
        ana.hear_until(&Heard::Restored).await;
    }
    expect_heard(&mut ana, [convo(1)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_master_dies_its_topics_are_heard_of_its_replica() {
    let mut cluster = Cluster::start(1);
    let mut ana = join(cluster.target()).await;
    let everything = topics(300);
    ana.subscribe(&everything).await;
    cluster.servers[0].kill();
    assert_eq!(ana.hear().await, Heard::Broken);
    ana.hear_until(&Heard::Restored).await;
    expect_heard(&mut ana, everything.clone()).await;
    // It comes back as a replica, and nobody hears of it.
    cluster.servers[0].restart();
    cluster.wait_until_whole();
    expect_heard(&mut ana, everything.into_iter().step_by(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_of_a_cluster_that_is_restarted_gets_its_topics_again() {
    let mut cluster = Cluster::start(0);
    let mut ana = join(cluster.target()).await;
    let everything = topics(300);
    ana.subscribe(&everything).await;
    for server in 0..3 {
        cluster.servers[server].kill();
        assert_eq!(ana.hear().await, Heard::Broken);
        cluster.servers[server].restart();
        cluster.wait_until_whole();
        ana.hear_until(&Heard::Restored).await;
        expect_heard(&mut ana, everything.iter().step_by(3).copied()).await;
    }
}
