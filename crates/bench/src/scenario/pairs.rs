//! `pairs`: the path of a message between two, and how many of them fit.

use serde::Serialize;
use tertulia_protocol::entry::ConversationType;

use super::Traffic;
use crate::bench::Bench;
use crate::crowd::Wanted;
use crate::error::Error;
use crate::load::plan::{Load, Seat, Sends};
use crate::report::Findings;

/// Pairs of users, each in a direct conversation: one writes, the other reads.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pairs {
    /// How many pairs.
    pub pairs: usize,
    /// How they write.
    #[serde(flatten)]
    pub traffic: Traffic,
}

impl Pairs {
    pub(super) async fn run(&self, bench: &mut Bench) -> Result<Findings, Error> {
        let load = self.load(bench).await?;
        bench.measure(load).await
    }

    /// Who sits where.
    pub(super) async fn load(&self, bench: &mut Bench) -> Result<Load, Error> {
        bench.crowd.grow(2 * self.pairs, &bench.progress).await?;
        let wanted: Vec<Wanted> = (0..self.pairs)
            .map(|pair| {
                let members = vec![2 * pair, 2 * pair + 1];
                Wanted { name: format!("direct {pair}"), kind: ConversationType::Direct, members }
            })
            .collect();
        let convos = bench.crowd.meet(&wanted, &bench.progress).await?;
        bench.crowd.sign_in(0..2 * self.pairs, &bench.progress).await?;

        let crowd = &bench.crowd;
        let seat = |user: usize, convo, sends| Seat {
            token: crowd.token(user).to_owned(),
            // Both of a pair on one thread: neither's clock is read while the other's thread waits for a core.
            place: user / 2,
            hears: Some(convo),
            sends,
        };
        let seats = convos.into_iter().enumerate().flat_map(|(pair, convo)| {
            let sends = Sends { convo, audience: 1 };
            [seat(2 * pair, convo, Some(sends)), seat(2 * pair + 1, convo, None)]
        });
        Ok(Load {
            seats: seats.collect(),
            pace: self.traffic.pace,
            body_bytes: self.traffic.body_bytes,
            audience_of_all: None,
        })
    }
}
