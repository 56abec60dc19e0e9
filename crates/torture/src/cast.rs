//! Who takes part: users, their devices, and their conversations; the seed determines all of it.

use std::collections::BTreeSet;

use tertulia_protocol::entry::HistoryPolicy;

use crate::chance::Chance;

/// What drives a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Driver {
    /// The client library.
    Sdk,
    /// Sockets of our own, which do what no good client does.
    Raw,
    /// REST and long-polls only.
    Rest,
    /// One at each node, who says something and listens all the time: [`Echoes`](crate::echoes::Echoes).
    Speaker { node: usize },
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DevicePlan {
    /// Its user.
    pub(crate) user: usize,
    pub(crate) driver: Driver,
    /// Whether its socket goes through the network that is cut now and then.
    pub(crate) by_cutter: bool,
}

/// A conversation that is there from the beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConvoPlan {
    /// The creator first; two of them and no policy make a direct one.
    pub(crate) members: Vec<usize>,
    /// `None`: a direct one.
    pub(crate) group: Option<HistoryPolicy>,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cast {
    pub(crate) users: usize,
    pub(crate) devices: Vec<DevicePlan>,
    pub(crate) convos: Vec<ConvoPlan>,
    /// Which of them is the speakers' own, if there are any.
    pub(crate) of_speakers: Option<usize>,
    /// A user without a device, who has a direct conversation with the first one and no other.
    pub(crate) ghost: Option<usize>,
}

/// Devices of a user, on the average: enough that a device is told what another of the same user has sent.
const DEVICES_EACH: usize = 2;

impl Cast {
    /// As many devices as asked for.
    pub(crate) fn new(seed: u64, devices: usize, with_cutter: bool) -> Self {
        let mut chance = Chance::stream(seed, "cast", 0);
        let devices = devices.max(4);
        let users = (devices / DEVICES_EACH).max(2);
        let devices = (0..devices)
            .map(|number| {
                // Some of each kind, also in the smallest cast; then as it comes.
                let driver = match number {
                    0 => Driver::Sdk,
                    1 => Driver::Raw,
                    2 => Driver::Rest,
                    _ => chance
                        .weighted(&[(45, Driver::Sdk), (35, Driver::Raw), (20, Driver::Rest)])
                        .unwrap_or(Driver::Sdk),
                };
                let by_cutter = with_cutter && driver != Driver::Rest && (number < 2 || chance.percent(50));
                DevicePlan { user: number % users, driver, by_cutter }
            })
            .collect();
        Self { users, devices, convos: convos(users, &mut chance), of_speakers: None, ghost: None }
    }

    /// With a speaker at each of so many nodes, each a user of his own, and a group of all of them.
    pub(crate) fn with_speakers(mut self, nodes: usize) -> Self {
        let first = self.users;
        self.users += nodes;
        let speaker =
            |node| DevicePlan { user: first + node, driver: Driver::Speaker { node }, by_cutter: false };
        self.devices.extend((0..nodes).map(speaker));
        self.of_speakers = Some(self.convos.len());
        let members = (first..self.users).collect();
        self.convos.push(ConvoPlan { members, group: Some(HistoryPolicy::SinceJoined) });
        self
    }

    /// With somebody who is there only to vanish.
    pub(crate) fn with_a_ghost(mut self) -> Self {
        self.ghost = Some(self.users);
        self.convos.push(ConvoPlan { members: vec![0, self.users], group: None });
        self.users += 1;
        self
    }
}

fn convos(users: usize, chance: &mut Chance) -> Vec<ConvoPlan> {
    let mut convos = Vec::new();
    // A ring of direct ones: everybody has two.
    let pairs: BTreeSet<(usize, usize)> =
        (0..users).map(|user| (user, (user + 1) % users)).map(|(a, b)| (a.min(b), a.max(b))).collect();
    convos.extend(pairs.into_iter().map(|(a, b)| ConvoPlan { members: vec![a, b], group: None }));
    // Groups of every size, one of them with everybody, half of them of each policy.
    let groups = (users / 3).max(2);
    for number in 0..groups {
        let mut members: Vec<usize> = (0..users).collect();
        chance.shuffle(&mut members);
        if number > 0 {
            let size = chance.within(2..=(users as u64).clamp(2, 12)) as usize;
            members.truncate(size);
        }
        let policy = if number % 2 == 0 { HistoryPolicy::SinceJoined } else { HistoryPolicy::All };
        convos.push(ConvoPlan { members, group: Some(policy) });
    }
    convos
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cast_has_all_drivers_both_policies_and_a_group_of_everybody() {
        for (seed, devices) in [(1, 0), (1, 4), (2, 12), (3, 40), (4, 200)] {
            let cast = Cast::new(seed, devices, true);
            for driver in [Driver::Sdk, Driver::Raw, Driver::Rest] {
                assert!(cast.devices.iter().any(|device| device.driver == driver), "{driver:?} of {devices}");
            }
            assert!(cast.devices.iter().any(|device| device.by_cutter));
            for policy in [HistoryPolicy::SinceJoined, HistoryPolicy::All] {
                assert!(cast.convos.iter().any(|convo| convo.group == Some(policy)));
            }
            assert!(cast.convos.iter().any(|convo| convo.members.len() == cast.users));
            for convo in &cast.convos {
                assert!(convo.group.is_some() || convo.members.len() == 2);
                assert!(convo.members.iter().collect::<BTreeSet<_>>().len() == convo.members.len());
                assert!(convo.members.iter().all(|user| *user < cast.users));
            }
            assert!((0..cast.users).all(|user| cast.devices.iter().any(|device| device.user == user)));
        }
    }

    #[test]
    fn a_seed_determines_the_cast() {
        assert_eq!(Cast::new(5, 30, true), Cast::new(5, 30, true));
        assert_ne!(Cast::new(5, 30, true), Cast::new(6, 30, true));
        assert!(Cast::new(5, 30, false).devices.iter().all(|device| !device.by_cutter));
    }
}
