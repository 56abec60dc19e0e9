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

/// What was told last, by the slots of conversations.
#[derive(Debug, Default)]
pub(super) struct Told(HashMap<u32, HashMap<UserId, Last>>);

/// How far a member has received and read.
#[derive(Debug, Default)]
struct Last {
    delivered: Seq,
    read: Seq,
    /// What those were told to whom it is hidden what is read. They are told no news of that alone, so what was received may
    /// have come with it and still be news to them.
    shown: Seq,
}

/// Watermarks that are news.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewWatermarks {
    /// To those to whom it is hidden what is read only with [`delivered_at`](Receipt::delivered_at).
    pub(super) receipt: Receipt,
    /// Whether they are to the others.
    pub(super) to_all_who_see_all: bool,
}

impl Told {
    /// Puts together what was told and what is to be; gives what of that is more than was told.
    fn raise(&mut self, slot: u32, receipt: &mut Receipt) -> Option<NewWatermarks> {
        let told = self.0.entry(slot).or_default().entry(receipt.user).or_default();
        let to_all_who_see_all = receipt.delivered > told.delivered || receipt.read > told.read;
        let delivered_at = receipt.delivered_at.filter(|_| receipt.delivered > told.shown);
        told.delivered = told.delivered.max(receipt.delivered);
        told.read = told.read.max(receipt.read);
        if delivered_at.is_some() {
            told.shown = told.delivered;
        }
        (receipt.delivered, receipt.read) = (told.delivered, told.read);
        let receipt = Receipt { delivered_at, ..*receipt };
        (to_all_who_see_all || delivered_at.is_some())
            .then_some(NewWatermarks { receipt, to_all_who_see_all })
    }

    /// What somebody has said he has received and read: whoever was told that was told this, too.
    pub(super) fn said(&mut self, slot: u32, user: UserId, seq: Seq) {
        let told = self.0.entry(slot).or_default().entry(user).or_default();
        let upto = |before: Seq| before.max(seq);
        *told = Last { delivered: upto(told.delivered), read: upto(told.read), shown: upto(told.shown) };
    }

    /// Nobody is here any more to whom it was told.
    pub(super) fn forget(&mut self, slot: u32) {
        self.0.remove(&slot);
    }
}

/// What somebody has read of watermarks that was not told here yet.
#[derive(Debug, Default)]
pub(super) struct Ahead(Vec<(NewWatermarks, bool)>);

impl Hub {
    /// Makes of a watermark that came what is to be told; `None` if it is no news.
    pub(super) fn as_told(&self, routes: &mut Routes, mut receipt: Receipt) -> Option<NewWatermarks> {
        if !self.settings.others_append {
            // They come in their order.
            return Some(NewWatermarks { receipt, to_all_who_see_all: true });
        }
        let slot = routes.convo_slot(receipt.convo)?;
        routes.told.raise(slot, &mut receipt)
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
                && let Some(news) = routes.told.raise(slot, receipt)
            {
                ahead.0.push((news, !hiding.contains(&receipt.user)));
            }
        }
    }

    /// Tells everybody but the one who has read it.
    pub(super) fn tell_ahead(&self, routes: &Routes, reader: &Arc<Connection>, ahead: &Ahead) {
        if ahead.0.is_empty() {
            return;
        }
        let mut delivery = Delivery::new(self, self.position(), "");
        for (news, shows_read) in &ahead.0 {
            delivery.tell_receipt(routes, *news, *shows_read, Some(reader));
        }
        delivery.wake();
    }
}
