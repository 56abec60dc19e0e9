//! `rooms`: many groups of mixed sizes and direct conversations, as in a workspace.

use std::collections::BTreeSet;

use serde::Serialize;
use tertulia_protocol::entry::ConversationType;

use super::Traffic;
use crate::bench::Bench;
use crate::crowd::Wanted;
use crate::error::Error;
use crate::load::plan::{Load, Seat, Sends};
use crate::report::Findings;
use crate::seeded::Seeded;

/// The size of the room of rank r is that of the first by r to this power, and so is its activity: some rooms have
/// everybody, most have few.
const EXPONENT: f64 = 0.9;
/// No room has fewer members.
const SIZE_MIN: usize = 3;

/// A workspace.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rooms {
    /// How many users, all connected.
    pub users: usize,
    /// How many rooms.
    pub rooms: usize,
    /// Direct conversations of each user, on average.
    pub directs: usize,
    /// How much of what is written is written in direct ones, from 0 to 1.
    pub direct_share: f64,
    /// The same seed is the same workspace.
    pub seed: u64,
    /// How they write.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// What a workspace looks like.
struct Workspace {
    wanted: Vec<Wanted>,
    /// Where each user writes.
    writes: Vec<usize>,
}

impl Rooms {
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.users < 3 || self.rooms == 0 || self.directs == 0 || self.directs >= self.users {
            let why =
                "a workspace has three users, a room, and fewer direct conversations of each than users";
            return Err(Error::Arguments(why.into()));
        }
        if !(0.0..=1.0).contains(&self.direct_share) {
            return Err(Error::Arguments("a share is from 0 to 1".into()));
        }
        self.traffic.check()
    }

    pub(super) async fn run(&self, bench: &mut Bench) -> Result<Findings, Error> {
        bench.crowd.grow(self.users, &bench.progress).await?;
        let Workspace { wanted, writes } = self.workspace();
        let convos = bench.crowd.meet(&wanted, &bench.progress).await?;
        bench.crowd.sign_in(0..self.users, &bench.progress).await?;
        let crowd = &bench.crowd;
        let seats = (0..self.users).map(|user| {
            let place = writes[user];
            let audience = wanted[place].members.len() as u64 - 1;
            Seat {
                token: crowd.token(user).to_owned(),
                place: user,
                hears: None,
                sends: Some(Sends { convo: convos[place], audience }),
            }
        });
        let load = Load {
            seats: seats.collect(),
            pace: self.traffic.pace,
            body_bytes: self.traffic.body_bytes,
            audience_of_all: None,
        };
        let mut findings = bench.measure(load).await?;
        findings.notes.push(self.note(&wanted, &writes));
        Ok(findings)
    }

    /// Rooms and directs, and where everybody writes. How many write in a room is drawn by its activity, which is not
    /// its size: in the room that has everybody few speak.
    fn workspace(&self) -> Workspace {
        let mut seeded = Seeded::new(self.seed);
        let sizes = sizes(self.users, self.rooms);
        let tag =
            format!("rooms of {} by {} and {}, seed {}", self.users, self.rooms, self.directs, self.seed);
        let mut wanted: Vec<Wanted> = sizes
            .iter()
            .enumerate()
            .map(|(rank, &size)| Wanted {
                name: format!("room {rank}, {tag}"),
                kind: ConversationType::Group,
                members: seeded.sample(self.users, size),
            })
            .collect();
        let mut pairs = BTreeSet::new();
        while pairs.len() < self.users * self.directs / 2 {
            let (one, other) = (seeded.below(self.users), seeded.below(self.users));
            if one != other {
                pairs.insert((one.min(other), one.max(other)));
            }
        }
        wanted.extend(pairs.into_iter().map(|(one, other)| Wanted {
            name: format!("direct {one} {other}, {tag}"),
            kind: ConversationType::Direct,
            members: vec![one, other],
        }));

        let mut activity: Vec<f64> = (0..self.rooms).map(|rank| weight(rank, EXPONENT)).collect();
        // The most active are some of any size.
        let order = seeded.sample(self.rooms, self.rooms);
        activity = order.iter().map(|&rank| activity[rank]).collect();
        let mut of_user: Vec<(Vec<usize>, Vec<usize>)> = vec![Default::default(); self.users];
        for (place, wanted) in wanted.iter().enumerate() {
            for &member in &wanted.members {
                let (rooms, directs) = &mut of_user[member];
                if wanted.kind == ConversationType::Direct { directs.push(place) } else { rooms.push(place) }
            }
        }
        let writes = of_user
            .iter()
            .map(|(rooms, directs)| {
                let is_direct = !directs.is_empty() && seeded.roll() < self.direct_share;
                if is_direct {
                    return directs[seeded.below(directs.len())];
                }
                // The first room has everybody.
                draw(rooms, |&room| activity[room], seeded.roll())
            })
            .collect();
        Workspace { wanted, writes }
    }

    fn note(&self, wanted: &[Wanted], writes: &[usize]) -> String {
        let mut sizes: Vec<usize> = wanted[..self.rooms].iter().map(|room| room.members.len()).collect();
        sizes.sort_unstable();
        let directs = writes.iter().filter(|&&place| place >= self.rooms).count();
        let busy: BTreeSet<&usize> = writes.iter().collect();
        format!(
            "{} rooms of {} to {} members, half of them at most {}; {} direct conversations; {directs} of {} users write \
             in a direct one; {} conversations are written in",
            self.rooms,
            sizes[0],
            sizes[sizes.len() - 1],
            sizes[sizes.len() / 2],
            wanted.len() - self.rooms,
            self.users,
            busy.len()
        )
    }
}

fn weight(rank: usize, exponent: f64) -> f64 {
    ((rank + 1) as f64).powf(-exponent)
}

/// The sizes of rooms by rank: the first has everybody, none has less than three.
fn sizes(users: usize, rooms: usize) -> Vec<usize> {
    let size = |rank| (users as f64 * weight(rank, EXPONENT)).round() as usize;
    (0..rooms).map(|rank| size(rank).clamp(SIZE_MIN.min(users), users)).collect()
}

/// One of these by its weight; `roll` is drawn evenly from 0 to 1.
fn draw(choices: &[usize], weight: impl Fn(&usize) -> f64, roll: f64) -> usize {
    let all: f64 = choices.iter().map(&weight).sum();
    let mut rest = roll * all;
    let found = choices.iter().find(|choice| {
        rest -= weight(choice);
        rest < 0.0
    });
    found.or(choices.last()).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Pace;

    fn rooms(users: usize, rooms: usize, direct_share: f64) -> Rooms {
        let traffic = Traffic { pace: Pace::Window(1), body_bytes: 100 };
        Rooms { users, rooms, directs: 4, direct_share, seed: 1, traffic }
    }

    #[test]
    fn sizes_fall_from_everybody_to_a_few() {
        let sizes = sizes(1_000, 200);
        assert_eq!((sizes[0], sizes[1]), (1_000, 536));
        assert!(sizes.windows(2).all(|pair| pair[0] >= pair[1]), "{sizes:?}");
        assert!(sizes[199] >= 3 && sizes[100] < 20, "{sizes:?}");
        assert_eq!(super::sizes(3, 2), [3, 3]);
    }

    #[test]
    fn a_seed_is_a_workspace_and_everybody_writes_where_he_is_a_member() {
        let workspace = rooms(200, 40, 0.4).workspace();
        let again = rooms(200, 40, 0.4).workspace();
        assert_eq!(workspace.writes, again.writes);
        let members = |workspace: &Workspace| {
            workspace.wanted.iter().map(|wanted| wanted.members.clone()).collect::<Vec<_>>()
        };
        assert_eq!(members(&workspace), members(&again));
        for (user, &place) in workspace.writes.iter().enumerate() {
            assert!(workspace.wanted[place].members.contains(&user));
        }
        let directs = workspace.writes.iter().filter(|&&place| place >= 40).count();
        assert!((50..110).contains(&directs), "{directs} of 200, of which 0.4 are to");
    }

    #[test]
    fn with_a_share_of_nothing_nobody_writes_in_a_direct_conversation() {
        let workspace = rooms(50, 5, 0.0).workspace();
        assert!(workspace.writes.iter().all(|&place| place < 5));
    }

    #[test]
    fn draws_are_by_weight() {
        let weights = [1.0, 3.0];
        let at = |roll| draw(&[0, 1], |&choice| weights[choice], roll);
        assert_eq!([at(0.0), at(0.24), at(0.26), at(0.999)], [0, 0, 1, 1]);
    }
}
