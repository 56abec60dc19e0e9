//! A node's ways to the others, as it was told.

use std::sync::Arc;

use tertulia_fabric::NodeId;
use tertulia_fabric::live::local::Bus;
use tertulia_fabric::live::redis::{Options as LiveOptions, RedisLive};
use tertulia_fabric::live::{Ear, Limits, Live};
use tertulia_fabric::nodes::Description;
use tertulia_fabric::presence::local::Board;
use tertulia_fabric::presence::redis::{Options as PresenceOptions, RedisPresence};
use tertulia_fabric::redis::InvalidTarget;

use super::Links;
use super::presence::lease;
use crate::config::{Config, LiveAt, PresenceAt};

/// Begins to make them, for a node of this name; to be called within a runtime.
///
/// # Errors
/// If an address is none.
pub fn join(config: &Config, node: NodeId) -> Result<(Links, Ear), InvalidTarget> {
    let (live, ear): (Arc<dyn Live>, _) = match &config.live {
        LiveAt::Process => {
            let (live, ear) = Bus::new().join(Limits::default());
            (Arc::new(live), ear)
        }
        LiveAt::Redis(url) => {
            let (live, ear) = RedisLive::start(LiveOptions::new(url.parse()?));
            (Arc::new(live), ear)
        }
    };
    let url = match (&config.presence, &config.live) {
        (PresenceAt::Redis(url), _) | (PresenceAt::Live, LiveAt::Redis(url)) => Some(url),
        (PresenceAt::Live, LiveAt::Process) => None,
    };
    let description =
        Description { url: config.public_url.clone().unwrap_or_default(), ..Description::default() };
    let links = match url {
        None => {
            let board = Arc::new(Board::new().join(node, description));
            Links { live, presence: Arc::clone(&board) as _, nodes: board }
        }
        Some(url) => {
            let options =
                PresenceOptions { lease: lease(config.presence_ttl), ..PresenceOptions::new(url.parse()?) };
            let presence = Arc::new(RedisPresence::start(node, description, options));
            Links { live, presence: Arc::clone(&presence) as _, nodes: presence }
        }
    };
    Ok((links, ear))
}
