//! Three nodes are restarted one after the other while clients talk: none of them notices more than that his socket moved.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tertulia_client::api::Api;
use tertulia_client::client::{Client, Config, Events, Start, first_client_seq};
use tertulia_client::event::{Disconnect, Event};
use tertulia_client::server::Server as Service;
use tertulia_client::session::{Session, timestamp};
use tertulia_protocol::entry::{ConversationType, EntryKind};
use tertulia_protocol::rest::{NewConversation, Register};
use tertulia_protocol::{ConvoId, Seq};
use tertulia_services::{Kind, Server as Backing};

use tokio::sync::Barrier;

use crate::process::{DEADLINE, Server, free_port};

const NODES: usize = 3;
const CLIENTS: usize = 6;
/// How long a client rests between an ack and its next message: the load is not what is tried out here.
const PAUSE: Duration = Duration::from_millis(15);

struct Signs {
    /// All have their first ack.
    all_talk: Barrier,
    is_over: AtomicBool,
}

struct Member {
    session: Session,
    client: Client,
    events: Events,
}

/// What one client has seen.
#[derive(Default)]
struct Seen {
    /// How many of his messages were acked.
    sent: u64,
    /// The last entry.
    last: Seq,
    /// Of each speaker the number of his last message.
    of: HashMap<String, u64>,
    /// How often he was sent to another node.
    moves: usize,
}

fn node(port: u16, data: &Path, [store, live]: [&str; 2]) -> Server {
    let url = format!("http://127.0.0.1:{port}");
    Server::start_with(port, data, &["--store", store, "--live", live, "--public-url", &url])
}

async fn log_in(service: &Service, name: &str) -> Session {
    let (username, password) = (name.to_owned(), "correct horse battery".to_owned());
    let register = Register { username, password, display_name: None, device: None };
    let tokens = service.register(&register).await.unwrap();
    Session::new(service.clone(), tokens, None)
}

impl Seen {
    /// Takes an event; whether it is the ack of one's own message.
    fn take(&mut self, event: Event) -> bool {
        match event {
            Event::SendAcked { .. } => {
                self.sent += 1;
                return true;
            }
            Event::Entry { entry, .. } => {
                assert_eq!(entry.seq, self.last.next(), "nothing is missing, and nothing comes twice");
                self.last = entry.seq;
                if let EntryKind::Text { body, .. } = &entry.kind {
                    let (speaker, number) = body.split_once(' ').unwrap();
                    let before = self.of.insert(speaker.to_owned(), number.parse().unwrap());
                    assert_eq!(
                        before.unwrap_or(0) + 1,
                        self.of[speaker],
                        "{speaker}, in the order of his sends"
                    );
                }
            }
            Event::Disconnected { reason, .. } => {
                assert!(matches!(reason, Disconnect::Closed { code: 4010, .. }), "{reason}");
                self.moves += 1;
            }
            Event::SendFailed { .. } | Event::Refused { .. } | Event::SessionLost(_) => panic!("{event:?}"),
            _ => {}
        }
        false
    }
}

/// Talks until it is told to stop, and waits for the last ack.
async fn talk(mut member: Member, convo: ConvoId, name: String, signs: Arc<Signs>) -> (Member, Seen) {
    let mut seen = Seen::default();
    let api = Api::new(member.session.clone());
    while !signs.is_over.load(Ordering::Relaxed) {
        let number = seen.sent + 1;
        member.client.send(convo, format!("{name} {number}"), None).await.unwrap();
        while !seen.take(member.events.next().await.unwrap()) {}
        if number == 1 {
            signs.all_talk.wait().await;
        }
        if number % 8 == 0 {
            api.conversation(convo).await.expect("a call does not notice that nodes come and go");
        }
        tokio::time::sleep(PAUSE).await;
    }
    (member, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_are_restarted_in_turn_and_no_client_has_an_error() {
    let backing =
        async |kind| tokio::task::spawn_blocking(move || Backing::temporary(kind).unwrap()).await.unwrap();
    let (postgres, redis) = tokio::join!(backing(Kind::Postgres), backing(Kind::Redis));
    let (store, live) = (postgres.url(), redis.url());
    let folders: Vec<_> = (0..NODES).map(|_| tempfile::tempdir().unwrap()).collect();
    let ports: Vec<u16> = (0..NODES).map(|_| free_port()).collect();
    let start = |number: usize| node(ports[number], folders[number].path(), [&store, &live]);
    let mut nodes: Vec<Server> = tokio::task::block_in_place(|| (0..NODES).map(start).collect());

    // All are told of one node; they find out where to go.
    let service = Service::new(&format!("http://127.0.0.1:{}", ports[0])).unwrap();
    let mut sessions = Vec::new();
    for number in 0..CLIENTS {
        sessions.push(log_in(&service, &format!("user{number}")).await);
    }
    let new = NewConversation {
        kind: ConversationType::Group,
        members: sessions.iter().map(Session::user_id).collect(),
        title: Some("Tertulia".into()),
        history: None,
    };
    let convo = Api::new(sessions[0].clone()).create_conversation(&new).await.unwrap().id;
    let signs = Arc::new(Signs { all_talk: Barrier::new(CLIENTS + 1), is_over: AtomicBool::new(false) });
    let mut talking = Vec::new();
    for (number, session) in sessions.into_iter().enumerate() {
        let first = first_client_seq(timestamp(std::time::SystemTime::now()));
        let (client, events) = Client::connect(session.clone(), &Config::new(Start::Beginning, first));
        let member = Member { session, client, events };
        talking.push(tokio::spawn(talk(member, convo, format!("user{number}"), Arc::clone(&signs))));
    }
    signs.all_talk.wait().await;

    for number in 0..NODES {
        let node = nodes.remove(0);
        let status = tokio::task::block_in_place(|| node.terminate());
        assert_eq!(status.code(), Some(0));
        nodes.push(tokio::task::block_in_place(|| start(number)));
    }
    signs.is_over.store(true, Ordering::Relaxed);

    let mut all = Vec::new();
    for talking in talking {
        all.push(tokio::time::timeout(DEADLINE, talking).await.unwrap().unwrap());
    }
    let sent: HashMap<String, u64> =
        all.iter().enumerate().map(|(number, (_, seen))| (format!("user{number}"), seen.sent)).collect();
    let moves: usize = all.iter().map(|(_, seen)| seen.moves).sum();
    assert!(moves >= CLIENTS, "each was somewhere, and every node was restarted: {moves} moves");
    for (member, seen) in &mut all {
        while seen.of != sent {
            let event = tokio::time::timeout(DEADLINE, member.events.next()).await.expect("all arrives");
            seen.take(event.unwrap());
        }
    }
}
