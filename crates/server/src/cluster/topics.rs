//! What a node hears of: the conversations and users that somebody here has to do with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tertulia_domain::hub::Hub;
use tertulia_fabric::live::{Live, Topic};
use tokio::sync::{Notify, oneshot};

/// How often what nobody needs any more is looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// For so many sweeps a topic stays after somebody asked for it: he may still be on his way in.
const SWEEPS: u8 = 3;

/// Subscriptions, asked for by many and made together.
#[derive(Clone)]
pub struct Topics(Arc<Shared>);

struct Shared {
    live: Arc<dyn Live>,
    hub: Arc<Hub>,
    asked: Mutex<Vec<(Vec<Topic>, oneshot::Sender<()>)>>,
    work: Notify,
}

impl Topics {
    pub(super) fn new(live: Arc<dyn Live>, hub: Arc<Hub>) -> Self {
        Self(Arc::new(Shared { live, hub, asked: Mutex::default(), work: Notify::new() }))
    }

    /// Returns once nothing that is told of these from now on is missed, or is made good when the link stands again.
    pub async fn hear(&self, topics: Vec<Topic>) {
        let (done, heard) = oneshot::channel();
        self.0.asked.lock().unwrap_or_else(PoisonError::into_inner).push((topics, done));
        self.0.work.notify_one();
        // Without an answer the node is going down.
        let _ = heard.await;
    }

    /// Subscribes to what is asked for, and ends what nobody needs.
    pub(super) async fn run(self) {
        let Shared { live, hub, asked, work } = &*self.0;
        // As if somebody had asked for what every node hears.
        let (done, _) = oneshot::channel();
        asked.lock().unwrap_or_else(PoisonError::into_inner).push((vec![Topic::Everyone], done));
        work.notify_one();
        // Of each topic for how many sweeps it stays whoever is here.
        let mut heard: HashMap<Topic, u8> = HashMap::new();
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        loop {
            tokio::select! {
                () = work.notified() => {}
                _ = sweep.tick() => {
                    let mut gone = Vec::new();
                    heard.retain(|topic, sweeps| {
                        *sweeps = sweeps.saturating_sub(1);
                        let stays = *sweeps > 0 || match topic {
                            Topic::Conversation(convo) => hub.is_here(*convo),
                            Topic::User(user) => hub.is_user_here(*user),
                            _ => true,
                        };
                        if !stays {
                            gone.push(*topic);
                        }
                        stays
                    });
                    live.unsubscribe(&gone);
                }
            }
            let asked = std::mem::take(&mut *asked.lock().unwrap_or_else(PoisonError::into_inner));
            let mut new = Vec::new();
            for topic in asked.iter().flat_map(|(topics, _)| topics) {
                if heard.insert(*topic, SWEEPS).is_none() {
                    new.push(*topic);
                }
            }
            if !new.is_empty()
                && let Err(error) = live.subscribe(new).await
            {
                // They are remembered, and what is missed until then is made good.
                tracing::debug!(%error, "subscribed when the link stands again");
            }
            for (_, done) in asked {
                // Whoever asked may have gone.
                let _ = done.send(());
            }
        }
    }
}
