//! Whether presence is true (guarantee 8): whoever is connected is shown so, and nobody else, to those who may see him and at
//! every node.
//!
//! It is judged when nothing is done to the cluster: at the end of the load of those who are connected then, and at the
//! very end of everybody, of whom nobody is. Each user of the crowd is watched by the next one, with whom he always has a
//! direct conversation, by a device of its own that is there for this alone. Under the load one who is nowhere else is
//! connected to a node that is killed, and stays away: no other node shows him for longer than the TTL.

use std::time::Duration;

use tertulia_client::backoff::retry;
use tertulia_history::event::Device;
use tertulia_protocol::UserId;
use tertulia_protocol::event::{ClientEvent, Presence, ServerEvent};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::doors::Doors;
use crate::wire::{News, Wire};
use crate::world::{PATIENT, World};

/// How long something else may be shown than is: the TTL of 9 s, what nodes need to hear of each other, and some patience
/// with a busy machine.
const SHOWN_LATE_MAX: Duration = Duration::from_secs(20);
/// How long is waited for somebody who comes and goes all the time.
const JUDGED_MAX: Duration = Duration::from_secs(30);
/// What is counted.
const SEEN: &str = "presences seen as they are";
const NOT_JUDGED: &str = "presences that could not be judged";
/// How long it may take until the ghost is connected.
const HAUNT_MAX: Duration = Duration::from_secs(5);
/// How long a node may take to say what somebody is, when it is asked once more.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// How often it is looked who is connected.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What somebody is, and what is shown of him.
#[derive(Debug)]
struct Sight {
    /// `None`: nobody knows.
    is_here: Option<bool>,
    since: Instant,
    shown: Option<Presence>,
}

/// What can be said of a sight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judgement {
    True,
    /// It may still become true.
    Open,
    False,
}

impl Sight {
    fn new(is_here: Option<bool>, now: Instant) -> Self {
        Self { is_here, since: now, shown: None }
    }

    fn is(&mut self, is_here: Option<bool>, now: Instant) {
        if self.is_here != is_here {
            (self.is_here, self.since) = (is_here, now);
        }
    }

    fn judge(&self, now: Instant) -> Judgement {
        let shown = self.shown.map(|shown| shown != Presence::Offline);
        if self.is_here.is_none() || shown.is_none() {
            Judgement::Open
        } else if shown == self.is_here {
            Judgement::True
        } else if now.duration_since(self.since) < SHOWN_LATE_MAX {
            Judgement::Open
        } else {
            Judgement::False
        }
    }
}

/// Whom to judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// Those who have a connection.
    Connected,
    /// Everybody: nobody has one any more.
    Nobody,
}

/// Looks at everybody, from one node after the other, and finds what is not true.
pub(super) async fn judge(world: &World, doors: &Doors, nodes: usize, who: Who) {
    let crowd = world.crowd();
    for user in 0..crowd {
        look(world, doors, user, ((user + 1) % crowd, user % nodes.max(1)), who).await;
    }
}

/// Connects the ghost, who is nowhere else, to a node; `None` if that cannot be had now.
pub(super) async fn haunt(world: &World, doors: &Doors, node: usize) -> Option<Wire> {
    let (ghost, url) = (world.ghost?, socket_at(doors, node)?);
    let connected = connect(world, &url, ghost);
    tokio::time::timeout(HAUNT_MAX, connected).await.ok().flatten().map(|(wire, _)| wire)
}

/// The node of the ghost is dead: sees to it that another one does not show him for too long.
pub(super) async fn exorcise(world: &World, doors: &Doors, ghost: Wire, node: usize) {
    ghost.cut().await;
    if let Some(user) = world.ghost {
        look(world, doors, user, (0, node), Who::Nobody).await;
    }
}

/// Looks at one user, as another one at a node.
async fn look(world: &World, doors: &Doors, user: usize, (watcher, node): (usize, usize), who: Who) {
    // Whoever has no socket may be there all the same, by a long-poll.
    let is_here = || match who {
        Who::Connected => world.is_connected(user).then_some(true),
        Who::Nobody => Some(false),
    };
    let (Some(seen), Some(url)) = (world.people.get(user), socket_at(doors, node)) else { return };
    if watcher == user {
        return;
    }
    let Some((mut wire, mut news)) = connect(world, &url, watcher).await else {
        world.board.count(NOT_JUDGED);
        return;
    };
    let asked = ClientEvent::PresenceSubscribe { user_ids: vec![seen.id] };
    let mut sight = Sight::new(is_here(), Instant::now());
    let mut until = Instant::now() + JUDGED_MAX;
    // What was told before the node was stopped is no longer what it shows: it is asked once more before it is blamed.
    let mut is_asked_again = false;
    let mut judgement = Judgement::Open;
    if wire.send(&asked).await {
        judgement = loop {
            match told(&mut news, seen.id).await {
                Told::Shown(status) => sight.shown = Some(status),
                Told::Nothing => {}
                Told::Closed => break Judgement::Open,
            }
            let now = Instant::now();
            sight.is(is_here(), now);
            match sight.judge(now) {
                Judgement::Open if now < until => {}
                Judgement::False if !is_asked_again => {
                    (is_asked_again, sight.shown, until) = (true, None, now + ANSWER_MAX);
                    if !wire.send(&asked).await {
                        break Judgement::Open;
                    }
                }
                judgement => break judgement,
            }
        };
    }
    match judgement {
        Judgement::True => world.board.count(SEEN),
        Judgement::Open => world.board.count(NOT_JUDGED),
        Judgement::False => world.board.find(format!(
            "at node {node} user {user} is shown as {:?} although for {:?} he has had {} connection",
            sight.shown,
            sight.since.elapsed(),
            if sight.is_here == Some(true) { "a" } else { "no" }
        )),
    }
    wire.leave().await;
}

enum Told {
    Shown(Presence),
    Nothing,
    Closed,
}

/// What comes next of somebody's presence, for a moment.
async fn told(news: &mut mpsc::Receiver<(u64, News)>, seen: UserId) -> Told {
    match tokio::time::timeout(LOOK_EVERY, news.recv()).await {
        Ok(Some((_, News::Event(event)))) => match *event {
            ServerEvent::PresenceUpdate { user_id, status, .. } if user_id == seen => Told::Shown(status),
            _ => Told::Nothing,
        },
        Ok(Some((_, News::Closed(_))) | None) => Told::Closed,
        Err(_) => Told::Nothing,
    }
}

type Watch = (Wire, mpsc::Receiver<(u64, News)>);

fn socket_at(doors: &Doors, node: usize) -> Option<String> {
    Some(format!("ws://{}/api/ws", doors.address(node)?))
}

/// Connects a user to a node, on a device of its own.
async fn connect(world: &World, url: &str, user: usize) -> Option<Watch> {
    let logging_in = retry(PATIENT, |_, _| {}, || world.log_in_to_watch(user));
    let session = tokio::time::timeout(SHOWN_LATE_MAX, logging_in).await.ok()?.ok()?;
    world.recorder.record(Device { device: session.device_id, user: session.user.id });
    let (teller, news) = mpsc::channel(512);
    let hello = ClientEvent::Connect { token: session.access_token };
    let opened = Wire::open(url, &hello, session.device_id, &world.recorder, teller).await;
    Some((opened.ok()?.0, news))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_may_be_late_but_not_for_longer_than_a_ttl_and_some_patience() {
        let begun = Instant::now();
        let late = begun + SHOWN_LATE_MAX;
        let soon = late - Duration::from_millis(1);
        for (is_here, right, wrong) in
            [(true, Presence::Away, Presence::Offline), (false, Presence::Offline, Presence::Online)]
        {
            let mut sight = Sight::new(Some(is_here), begun);
            assert_eq!(sight.judge(late), Judgement::Open, "nothing is shown yet");
            sight.shown = Some(wrong);
            assert_eq!((sight.judge(soon), sight.judge(late)), (Judgement::Open, Judgement::False));
            sight.shown = Some(right);
            assert_eq!((sight.judge(soon), sight.judge(late)), (Judgement::True, Judgement::True));
            // From the moment when he is something else, that may be late.
            sight.is(Some(!is_here), late);
            assert_eq!(sight.judge(late), Judgement::Open);
            assert_eq!(sight.judge(late + SHOWN_LATE_MAX), Judgement::False);
            sight.is(None, late);
            assert_eq!(sight.judge(late + SHOWN_LATE_MAX), Judgement::Open);
        }
    }
}
