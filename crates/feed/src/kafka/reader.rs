//! One who follows, as those see it who are told.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tertulia_domain::backoff::Backoff;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::consumer::{Member, Shared};
use super::topic;
use crate::chance::roll;
use crate::port::{FeedError, Lag, News, Place, Reader};
use crate::target::KafkaTarget;

/// How long whoever leaves waits until the group knows.
const LEAVE_MAX: Duration = Duration::from_secs(10);
/// When Kafka is asked again for the topic.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// Follows for a consumer.
pub(super) struct KafkaReader {
    shared: Arc<Shared>,
    /// Once the topic is there. Its thread alone lets go of it, which may take a while.
    member: Arc<OnceLock<Weak<Member>>>,
    stop: CancellationToken,
    /// Answered when it is no member any more.
    ended: Option<oneshot::Receiver<()>>,
}

impl KafkaReader {
    /// Begins to become a member of the consumer's group, beside whoever calls: Kafka may be away.
    pub(super) fn start(target: &KafkaTarget, node: &str, consumer: &'static str) -> Self {
        let (shared, member) = (Arc::<Shared>::default(), Arc::<OnceLock<_>>::default());
        let stop = CancellationToken::new();
        let (end, ended) = oneshot::channel();
        let joining = Joining {
            target: target.clone(),
            name: format!("tertulia-{consumer}-{node}"),
            group: format!("{}-{consumer}", target.topic),
            shared: Arc::clone(&shared),
            member: Arc::clone(&member),
        };
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                member = joining.join() => poll(member, end),
                () = stopped.cancelled() => {}
            }
        });
        Self { shared, member, stop, ended: Some(ended) }
    }
}

/// One who is about to be a member.
struct Joining {
    target: KafkaTarget,
    name: String,
    group: String,
    shared: Arc<Shared>,
    member: Arc<OnceLock<Weak<Member>>>,
}

impl Joining {
    /// Sees that the topic is there, however long that takes, and becomes a member.
    async fn join(&self) -> Arc<Member> {
        let mut failures = 0_u32;
        loop {
            let joined = async {
                topic::ensure(&self.target, &self.name).await?;
                Member::join(&self.target, &self.name, &self.group, Arc::clone(&self.shared))
            };
            match joined.await {
                Ok(member) => {
                    self.shared.state().failed = None;
                    let member = Arc::new(member);
                    // It is the only one.
                    let _ = self.member.set(Arc::downgrade(&member));
                    return member;
                }
                Err(error) => self.shared.state().failed = Some(error),
            }
            failures = failures.saturating_add(1);
            tokio::time::sleep(BACKOFF.wait(failures, roll())).await;
        }
    }
}

/// Polls on a thread of its own, and says when it is no member any more.
fn poll(member: Arc<Member>, end: oneshot::Sender<()>) {
    std::thread::spawn(move || {
        member.poll();
        drop(member);
        // Who does not wait for it has gone.
        let _ = end.send(());
    });
}

#[async_trait]
impl Reader for KafkaReader {
    async fn next(&mut self) -> Result<News, FeedError> {
        let mut state = self.shared.state();
        let news = state.shelf.next();
        match state.failed.take() {
            // What has come has come.
            Some(error) if news.came.is_empty() && !news.missed => Err(error),
            _ => Ok(news),
        }
    }

    async fn taken(&mut self, place: &Place) -> Result<(), FeedError> {
        // Under the lock: none of them can become another's between the two.
        let mut state = self.shared.state();
        let taken = state.shelf.taken(place);
        if let Some(member) = self.member.get().and_then(Weak::upgrade) {
            member.note(&taken);
        }
        drop(state);
        self.shared.tell();
        Ok(())
    }

    async fn let_go(&mut self, _place: &Place) -> Result<(), FeedError> {
        // Kafka forgets by itself.
        Ok(())
    }

    fn lag(&self) -> Vec<Lag> {
        self.shared.state().shelf.lag()
    }

    async fn leave(mut self: Box<Self>) {
        let ended = self.ended.take();
        drop(self);
        if let Some(ended) = ended
            && tokio::time::timeout(LEAVE_MAX, ended).await.is_err()
        {
            tracing::warn!("Kafka does not hear that this node leaves; it will find out by itself");
        }
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        self.shared.state().left = true;
        self.shared.tell();
        self.stop.cancel();
    }
}
