//! What is committed and is no entry: watermarks, and settings, one's own and those that all share.

use std::cell::LazyCell;
use std::sync::Arc;

use tertulia_protocol::event::{ConversationNews, SharedSettings};
use tertulia_protocol::rest::MemberSettings;
use tertulia_protocol::{ConvoId, Seq, UserId};
use tertulia_websocket::Frame;

use super::connection::{Lag, Lagging};
use super::delivery::Delivery;
use super::frames::{self, ReceiptFrames};
use super::receipts::NewWatermarks;
use super::routes::Routes;
use super::{CHATTER_MEMBERS_MAX, Connection, Mode};
use crate::log::Receipt;

impl Delivery<'_> {
    pub(super) fn receipt(&mut self, receipt: Receipt, owner_shows_read: bool) {
        let mut routes = self.hub.routes();
        if let Some(news) = self.hub.as_told(&mut routes, receipt) {
            self.tell_receipt(&routes, news, owner_shows_read, None);
        }
    }

    pub(super) fn tell_receipt(
        &mut self,
        routes: &Routes,
        NewWatermarks { receipt, to_all_who_see_all }: NewWatermarks,
        owner_shows_read: bool,
        but: Option<&Arc<Connection>>,
    ) {
        let mut frames = ReceiptFrames::new(receipt);
        let Some(convo) = routes.convo(receipt.convo) else { return };
        let to_all = convo.member_count <= CHATTER_MEMBERS_MAX;
        for (reader, connection) in routes.readers(convo) {
            let is_own = reader.id == receipt.user;
            if (is_own || to_all) && !but.is_some_and(|but| Arc::ptr_eq(but, connection)) {
                let shows_read = is_own || (owner_shows_read && reader.shows_read());
                if shows_read && !to_all_who_see_all {
                    continue;
                }
                let Some(frame) = frames.get(shows_read) else { continue };
                if !self.push_watermark(connection, convo.id, frame) {
                    self.push_news(connection, convo.id, convo.next, frame);
                }
            }
        }
    }

    /// Pushes a watermark to a reader who lags here, if he may be told now: it stands by itself, and where others append
    /// none below it is told later, whoever has read it and whenever. If he read the store for each, those who come back in
    /// a storm would do so again and again: whoever does is ahead of the hub, and tells the others.
    fn push_watermark(&mut self, connection: &Connection, convo: ConvoId, frame: &Frame) -> bool {
        let mut state = connection.state();
        let may_be_told = |lag: &Lag| {
            let knows = |lagging: &Lagging| !lagging.whole && !lagging.is_barred();
            !lag.resuming && lag.convos.get(&convo).is_none_or(knows)
        };
        let is_told = self.hub.settings.others_append
            && connection.mode != Mode::Poll
            && state.lag.as_deref().is_some_and(may_be_told)
            && state.has_room(&self.hub.settings.outbox, frame.len());
        if is_told {
            self.wakers.extend(state.push(frame));
        }
        is_told
    }

    pub(super) fn own(&mut self, convo: ConvoId, user: UserId, settings: MemberSettings) {
        let routes = self.hub.routes();
        let (Some(node), Some(route)) = (routes.user(user), routes.convo(convo)) else { return };
        let frame = frames::news(ConversationNews::Own { id: convo, settings });
        for connection in &node.connections {
            self.push_news(connection, convo, route.next, &frame);
        }
    }

    pub(super) fn shared(&mut self, routes: &Routes, convo: ConvoId, shared: &Arc<SharedSettings>) {
        let Some(route) = routes.convo(convo) else { return };
        let frame = LazyCell::new(|| frames::shared(shared));
        for (_, connection) in routes.readers(route) {
            self.push_news(connection, convo, route.next, &frame);
        }
    }

    /// Pushes what is no entry but must arrive: where the reader lags, or has no room, he reads it later.
    fn push_news(&mut self, connection: &Connection, convo: ConvoId, next: Seq, frame: &Frame) {
        let mut state = connection.state();
        if connection.mode == Mode::Poll {
            self.wakers.extend(state.hint());
            return;
        }
        let lags_here = state.lag.as_ref().is_some_and(|lag| lag.resuming || lag.convos.contains_key(&convo));
        if !lags_here && state.has_room(&self.hub.settings.outbox, frame.len()) {
            self.wakers.extend(state.push(frame));
            return;
        }
        let since = self.hub.position_in(&self.reached, convo);
        state.lag_at((self.reached, &self.hub.lagging), convo, next).lack_news(since);
        self.wakers.extend(state.wake_to_catch_up());
    }
}
