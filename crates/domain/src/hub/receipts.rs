//! Watermarks never fall, in whatever order their news come.
//!
//! Who marks at one node and then at another may be told of in the other order, and who reads from the store what he
//! missed is ahead of what is still on its way. So where others append, the hub knows what was told last of each member of
//! a conversation with somebody here. What is not above that is news to nobody; what somebody has read above it is
//! told to all who are here, as if it had come.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tertulia_protocol::{Seq, UserId};

use super::delivery::Delivery;
use super::routes::Routes;
use super::{Connection, Hub};
use crate::log::Receipt;

/// What was told last, by the slots of conversations: how far each member has received and read.
#[derive(Debug, Default)]
pub(super) struct Told(HashMap<u32, HashMap<UserId, (Seq, Seq)>>);

impl Told {
    /// Puts together what was told and what is to be; says whether that is more than was told.
    fn raise(&mut self, slot: u32, receipt: &mut Receipt) -> bool {
        let told = self.0.entry(slot).or_default().entry(receipt.user).or_default();
        let before = *told;
        *told = (before.0.max(receipt.delivered), before.1.max(receipt.read));
        (receipt.delivered, receipt.read) = *told;
        *told != before
    }

    /// What somebody has said he has received and read: whoever was told that was told this, too.
    pub(super) fn said(&mut self, slot: u32, user: UserId, seq: Seq) {
        let told = self.0.entry(slot).or_default().entry(user).or_default();
        *told = (told.0.max(seq), told.1.max(seq));
    }

    /// Nobody is here any more to whom it was told.
    pub(super) fn forget(&mut self, slot: u32) {
        self.0.remove(&slot);
    }
}

/// What somebody has read of watermarks that was not told here yet.
#[derive(Debug, Default)]
pub(super) struct Ahead(Vec<(Receipt, bool)>);

impl Hub {
    /// Makes of a watermark that came what is to be told; `None` if it is no news.
    pub(super) fn as_told(&self, routes: &mut Routes, mut receipt: Receipt) -> Option<Receipt> {
        if !self.settings.others_append {
            // They come in their order.
            return Some(receipt);
        }
        let slot = routes.convo_slot(receipt.convo)?;
        routes.told.raise(slot, &mut receipt).then_some(receipt)
    }

    /// Makes of watermarks that a reader has read what he is to be told, and keeps what the others are.
    pub(super) fn as_read(
        &self,
        routes: &mut Routes,
        receipts: &mut [Receipt],
        hiding: &HashSet<UserId>,
        ahead: &mut Ahead,
    ) {
        if !self.settings.others_append {
            return;
        }
        for receipt in receipts {
            if let Some(slot) = routes.convo_slot(receipt.convo)
                && routes.told.raise(slot, receipt)
            {
                ahead.0.push((*receipt, !hiding.contains(&receipt.user)));
            }
        }
    }

    /// Tells everybody but the one who has read it.
    pub(super) fn tell_ahead(&self, routes: &Routes, reader: &Arc<Connection>, ahead: &Ahead) {
        if ahead.0.is_empty() {
            return;
        }
        let mut delivery = Delivery::new(self, self.position(), "");
        for (receipt, shows_read) in &ahead.0 {
            delivery.tell_receipt(routes, *receipt, *shows_read, Some(reader));
        }
        delivery.wake();
    }
}
