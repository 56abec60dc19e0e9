//! Several nodes on one database: the same promises as of one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tertulia_domain::log::{Intent, Outcome, Receipt, Refusal};
use tertulia_protocol::entry::Role;
use tertulia_protocol::rest::MemberSettingsPatch;
use tertulia_protocol::{ConvoId, Seq, Timestamp, UserId};

use super::database::{Database, options};
use crate::postgres::Postgres;
use crate::testsuite::world::*;
use crate::{Logged, Store};

const NOW: Timestamp = Timestamp::from_millis(1_795_563_466_000);

struct Nodes {
    nodes: Vec<Arc<Postgres>>,
    _database: Database,
}

impl Nodes {
    async fn new(count: usize) -> Self {
        let database = Database::new().await;
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(Postgres::open(&database.url(), &options()).await.unwrap());
        }
        Self { nodes, _database: database }
    }

    async fn one(&self, node: usize, intent: Intent) -> Outcome {
        one(&self.nodes[node], intent).await
    }

    /// A whole log, which is dense.
    async fn log(&self, convo: ConvoId) -> Vec<Logged> {
        let log = self.nodes[0].entries(convo, seq(1), 100_000).await.unwrap();
        let seqs: Vec<_> = log.iter().map(|(entry, _)| entry.seq.get()).collect();
        assert_eq!(seqs, (1..=log.len() as u64).collect::<Vec<_>>());
        log
    }

    fn stale(&self) -> f64 {
        let of = |node: &Arc<Postgres>| {
            node.figures().into_iter().find(|(name, _)| *name == "store_stale_conversations").unwrap().1
        };
        self.nodes.iter().map(of).sum()
    }
}

async fn one(node: &Arc<Postgres>, intent: Intent) -> Outcome {
    node.append(vec![intent], NOW).await.unwrap().outcomes.remove(0)
}

/// A small generator, so that each writer's way is its own and the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % count
    }
}

/// What a writer was told.
#[derive(Default)]
struct Told {
    sent: Vec<(ConvoId, u64, Seq)>,
    marks: Vec<Receipt>,
}

/// Sends messages of one user to all conversations, each over any node, some twice; and marks.
async fn write(nodes: Vec<Arc<Postgres>>, user: UserId, convos: Vec<ConvoId>, seed: u64) -> Told {
    let (mut dice, mut told) = (Dice(seed), Told::default());
    let mut numbers = HashMap::<ConvoId, u64>::new();
    for _ in 0..120 {
        let convo = convos[dice.below(convos.len() as u64) as usize];
        let node = &nodes[dice.below(nodes.len() as u64) as usize];
        let other = &nodes[dice.below(nodes.len() as u64) as usize];
        let number = numbers.entry(convo).or_default();
        *number += 1;
        let message = send(convo, user, *number, &format!("{number}"));
        // The same message on two ways at once is one entry.
        let (first, second) = tokio::join!(one(node, message.clone()), async {
            match dice.below(4) {
                0 => Some(one(other, message.clone()).await),
                _ => None,
            }
        });
        let mut appended = 0;
        let mut places = BTreeSet::new();
        for outcome in [Some(first), second].into_iter().flatten() {
            match outcome {
                Outcome::Appended { entry, .. } => {
                    appended += 1;
                    places.insert(entry.seq);
                }
                Outcome::Duplicate(entry) => drop(places.insert(entry.seq)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((appended, places.len()), (1, 1));
        let place = places.pop_first().unwrap();
        told.sent.push((convo, *number, place));
        if dice.below(3) == 0 {
            let node = &nodes[dice.below(nodes.len() as u64) as usize];
            let reached = 1 + dice.below(place.get());
            match one(node, mark(convo, user, reached, reached / 2)).await {
                Outcome::Marked(receipt) => told.marks.push(receipt),
                Outcome::Unchanged => {}
                other => panic!("{other:?}"),
            }
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_several_nodes_append_at_once_is_dense_in_each_devices_order_and_nothing_twice() {
    let world = Nodes::new(3).await;
    let convos: Vec<_> = (1..=4).map(convo).collect();
    let users = [ANA, BO, CY, DI];
    for &convo in &convos {
        world.one(0, create_group(convo, &users, Default::default())).await;
    }
    let mut writers = tokio::task::JoinSet::new();
    for (seed, &user) in (1..).zip(&users) {
        let (nodes, convos) = (world.nodes.clone(), convos.clone());
        writers.spawn(async move { (user, write(nodes, user, convos, seed * 7_919).await) });
    }
    let mut told = BTreeMap::new();
    while let Some(written) = writers.join_next().await {
        let (user, of_user) = written.unwrap();
        told.insert(user, of_user);
    }
    assert!(world.stale() > 0.0, "the nodes did not get in each other's way, so this shows nothing");
    for &convo in &convos {
        let log = world.log(convo).await;
        // Commits rise with seq: what a resume is found by.
        assert!(log.is_sorted_by_key(|&(_, commit)| commit));
        for (&user, of_user) in &told {
            let stored: Vec<_> = log
                .iter()
                .filter(|(entry, _)| entry.sender_id == user && entry.kind.is_message())
                .map(|(entry, _)| (entry.client_seq.unwrap().get(), entry.seq))
                .collect();
            let sent: Vec<_> = of_user
                .sent
                .iter()
                .filter(|sent| sent.0 == convo)
                .map(|&(_, number, seq)| (number, seq))
                .collect();
            assert_eq!(stored, sent, "each once, in the order in which they were sent, where it was told");
            // Marks that were told only rise, and the last of all is what everybody sees.
            let marks: Vec<_> = of_user.marks.iter().filter(|mark| mark.convo == convo).collect();
            assert!(marks.is_sorted_by(|a, b| a.delivered <= b.delivered && a.read <= b.read), "{marks:?}");
            let seen = world.nodes[1].conversation(user, convo).await.unwrap().unwrap();
            let last = sent.last().map_or(Seq::default(), |&(_, seq)| seq);
            assert!(seen.read_seq >= last && seen.delivered_seq >= seen.read_seq, "{seen:?}");
            let unread = log.iter().filter(|(entry, _)| {
                entry.seq > seen.read_seq && entry.kind.is_message() && entry.sender_id != user
            });
            assert_eq!(seen.unread_count, unread.count() as u64);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_has_decided_holds_on_the_other_at_once() {
    let world = Nodes::new(2).await;
    let (tea, talk) = (convo(1), ConvoId::direct(ANA, BO));
    world.one(0, create_group(tea, &[ANA, BO], Default::default())).await;
    world.one(0, create_direct(ANA, BO)).await;
    for (round, number) in (0..6).zip(1..) {
        // Both know the conversations by now.
        let (here, there) = (round % 2, (round + 1) % 2);
        for node in [here, there] {
            assert!(matches!(world.one(node, mark(tea, BO, 0, 1)).await, Outcome::Unchanged));
            assert!(matches!(world.one(node, mark(talk, BO, 0, 1)).await, Outcome::Unchanged));
        }
        world.one(here, Intent::RemoveMember { convo: tea, by: ANA, user: BO }).await;
        let refused = world.one(there, send(tea, BO, number, "x")).await;
        assert_eq!(refused, Outcome::Refused(Refusal::NotFound));
        world.one(there, Intent::AddMembers { convo: tea, by: ANA, users: vec![BO] }).await;
        let sent = world.one(here, send(tea, BO, number, "x")).await;
        assert!(matches!(sent, Outcome::Appended { .. }), "{sent:?}");

        world.one(there, Intent::SetBlock { convo: talk, by: ANA, blocked: true }).await;
        let refused = world.one(here, send(talk, BO, number, "x")).await;
        assert_eq!(refused, Outcome::Refused(Refusal::Blocked));
        world.one(here, Intent::SetBlock { convo: talk, by: ANA, blocked: false }).await;
        let sent = world.one(there, send(talk, BO, number, "x")).await;
        assert!(matches!(sent, Outcome::Appended { .. }), "{sent:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_that_create_a_direct_conversation_at_once_one_does() {
    let world = Nodes::new(2).await;
    for number in 10..30 {
        let (create, other) = (create_direct(ANA, user(number)), create_direct(ANA, user(number)));
        let outcomes = tokio::join!(world.one(0, create), world.one(1, other));
        let outcomes = [outcomes.0, outcomes.1];
        let created = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Appended { .. })).count();
        let found = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Unchanged)).count();
        assert_eq!((created, found), (1, 1), "{outcomes:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_members_settings_that_two_nodes_change_are_both_kept() {
    let world = Nodes::new(2).await;
    let tea = convo(1);
    let members: Vec<_> = (1..=100).map(user).collect();
    world.one(0, create_group(tea, &members, Default::default())).await;
    let pin = |pinned| MemberSettingsPatch { pinned: Some(pinned), ..Default::default() };
    let archive = |archived| MemberSettingsPatch { archived: Some(archived), ..Default::default() };
    for round in 0..4 {
        let value = round % 2 == 0;
        world.one(0, set_own(tea, BO, pin(value))).await;
        world.one(1, set_own(tea, BO, archive(value))).await;
        let seen = world.nodes[0].conversation(BO, tea).await.unwrap().unwrap();
        assert_eq!((seen.settings.pinned, seen.settings.archived), (value, value));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_larger_group_that_two_nodes_change_is_followed_and_stays_one() {
    let world = Nodes::new(2).await;
    let tea = convo(1);
    let members: Vec<_> = (1..=100).map(user).collect();
    world.one(0, create_group(tea, &members, Default::default())).await;
    let mut expected: Vec<_> = members.clone();
    for round in 0..30_u16 {
        let (here, there) = (usize::from(round % 2), usize::from((round + 1) % 2));
        let (old, new) = (user(50 + round), user(200 + round));
        world.one(here, Intent::RemoveMember { convo: tea, by: ANA, user: old }).await;
        world.one(there, Intent::AddMembers { convo: tea, by: ANA, users: vec![new] }).await;
        world.one(here, set_role(tea, ANA, new, Role::Admin)).await;
        // Who came on the other node may here what his role allows.
        let renamed = world.one(there, rename(tea, new, &format!("{round}"))).await;
        assert!(matches!(renamed, Outcome::Appended { .. }), "{renamed:?}");
        let sent = world.one(here, send(tea, new, 1, "hi")).await;
        assert!(matches!(sent, Outcome::Appended { .. }), "{sent:?}");
        let again = world.one(there, send(tea, new, 1, "hi")).await;
        assert!(matches!(again, Outcome::Duplicate(_)), "{again:?}");
        assert_eq!(world.one(there, send(tea, old, 1, "x")).await, Outcome::Refused(Refusal::NotFound));
        expected.retain(|&user| user != old);
        expected.push(new);
    }
    assert_eq!(world.log(tea).await.len(), 1 + 30 * 5);
    for node in &world.nodes {
        let listed = node.members(ANA, tea, None, 200).await.unwrap().unwrap();
        assert_eq!(listed.items.iter().map(|member| member.user_id).collect::<Vec<_>>(), expected);
    }
}
