//! `group`: one message to many, until the last has it.

use serde::Serialize;
use tertulia_protocol::entry::ConversationType;

use super::Traffic;
use crate::bench::Bench;
use crate::crowd::Wanted;
use crate::error::Error;
use crate::load::plan::{Load, Seat, Sends};
use crate::report::Findings;

/// One group, all of its members connected: some write, all others read.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// How many members, the writers among them.
    pub members: usize,
    /// How many of them write.
    pub writers: usize,
    /// How they write.
    #[serde(flatten)]
    pub traffic: Traffic,
}

impl Group {
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.members < 2 || !(1..=self.members).contains(&self.writers) {
            return Err(Error::Arguments("a group has a writer and somebody else".into()));
        }
        self.traffic.check()
    }

    pub(super) async fn run(&self, bench: &mut Bench) -> Result<Findings, Error> {
        let members = self.members;
        bench.crowd.grow(members, &bench.progress).await?;
        let wanted = Wanted {
            name: format!("group of {members}"),
            kind: ConversationType::Group,
            members: (0..members).collect(),
        };
        let convos = bench.crowd.meet(&[wanted], &bench.progress).await?;
        bench.crowd.sign_in(0..members, &bench.progress).await?;

        let crowd = &bench.crowd;
        let audience = members as u64 - 1;
        let seats = convos.into_iter().flat_map(|convo| {
            (0..members).map(move |member| Seat {
                token: crowd.token(member).to_owned(),
                place: member,
                hears: Some(convo),
                sends: (member < self.writers).then_some(Sends { convo, audience }),
            })
        });
        let load = Load {
            seats: seats.collect(),
            pace: self.traffic.pace,
            body_bytes: self.traffic.body_bytes,
            audience_of_all: Some(audience as u32),
        };
        bench.measure(load).await
    }
}
