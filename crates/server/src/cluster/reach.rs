//! Whether the store answers: who comes to a node that is cut off from it had better go to another.
//!
//! It is asked by a task, at its own pace, whoever wants to know. What counts is an answer: neither a store that refuses
//! nor one that is silent gives any. A question that hangs is not given up, since its connection would be lent to the next
//! one, but others are asked beside it: one connection that is dead does not hide that others live.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tertulia_store::StoreError;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often it is asked.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// A question that has no answer for so long is asked once more.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How many questions are asked at a time, at most.
const ASKED_MAX: usize = 3;
/// After its last answer it is taken to be there for so long.
const BELIEVED_FOR: Duration = Duration::from_secs(3);

/// When somebody answered last.
#[derive(Debug)]
pub(super) struct Reach(Mutex<Instant>);

impl Reach {
    /// Of somebody who has just answered.
    pub(super) fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// Whether he is there, as far as is known.
    pub(super) fn is_there(&self) -> bool {
        self.lock().elapsed() < BELIEVED_FOR
    }

    /// Asks for ever, and says each time that he goes or comes back.
    pub(super) async fn keep<F>(&self, mut ask: impl FnMut() -> F, mut changed: impl FnMut(bool))
    where
        F: Future<Output = Result<(), StoreError>>,
    {
        let mut tick = interval(ASK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut asked, mut newest, mut was_there) = (FuturesUnordered::new(), Instant::now(), true);
        loop {
            tokio::select! {
                Some(answer) = asked.next() => match answer {
                    Ok(()) => *self.lock() = Instant::now(),
                    Err(error) => tracing::debug!(%error, "the store was asked whether it is there"),
                },
                _ = tick.tick() => {
                    if asked.is_empty() || (newest.elapsed() >= ASK_AGAIN && asked.len() < ASKED_MAX) {
                        newest = Instant::now();
                        asked.push(ask());
                    }
                }
            }
            let is_there = self.is_there();
            if is_there != was_there {
                was_there = is_there;
                changed(is_there);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Instant> {
        // Nothing under this lock leaves it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::BoxFuture;
    use tokio::sync::mpsc;

    use super::*;

    /// When a question that hangs ends by itself.
    const GIVEN_UP: Duration = Duration::from_secs(11);

    /// What a store does with a question.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Mood {
        Answers,
        Refuses,
        IsSilent,
    }

    struct Asked {
        reach: Arc<Reach>,
        mood: Arc<Mutex<Mood>>,
        /// Questions so far, and those that wait.
        questions: Arc<AtomicUsize>,
        changes: mpsc::UnboundedReceiver<bool>,
    }

    fn asked() -> Asked {
        let (reach, mood) = (Arc::new(Reach::new()), Arc::new(Mutex::new(Mood::Answers)));
        let (questions, (told, changes)) = (Arc::<AtomicUsize>::default(), mpsc::unbounded_channel());
        let (asking, how, count) = (Arc::clone(&reach), Arc::clone(&mood), Arc::clone(&questions));
        tokio::spawn(async move {
            let ask = || -> BoxFuture<'static, _> {
                count.fetch_add(1, Ordering::SeqCst);
                let mood = *how.lock().unwrap();
                Box::pin(async move {
                    match mood {
                        Mood::Answers => Ok(()),
                        Mood::Refuses => Err(StoreError::Closed),
                        Mood::IsSilent => {
                            tokio::time::sleep(GIVEN_UP).await;
                            Err(StoreError::Closed)
                        }
                    }
                })
            };
            asking.keep(ask, |is_there| told.send(is_there).unwrap()).await;
        });
        Asked { reach, mood, questions, changes }
    }

    async fn seconds(count: u64) {
        tokio::time::sleep(Duration::from_secs(count)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_answers_is_there_and_is_asked_twice_a_second_however_many_look() {
        let asked = asked();
        for _ in 0..1_000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            assert!(asked.reach.is_there());
        }
        assert!((20..=22).contains(&asked.questions.load(Ordering::SeqCst)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_refuses_or_is_silent_is_gone_within_seconds_and_there_again_with_his_first_answer() {
        for mood in [Mood::Refuses, Mood::IsSilent] {
            let mut asked = asked();
            seconds(10).await;
            *asked.mood.lock().unwrap() = mood;
            let since = Instant::now();
            assert_eq!(asked.changes.recv().await, Some(false));
            assert!(!asked.reach.is_there() && since.elapsed() <= Duration::from_secs(4));
            seconds(60).await;
            let questions = asked.questions.load(Ordering::SeqCst);
            assert!(mood == Mood::Refuses || questions <= 22 + 6 * ASKED_MAX, "their number has a bound");
            *asked.mood.lock().unwrap() = Mood::Answers;
            let since = Instant::now();
            assert_eq!(asked.changes.recv().await, Some(true));
            let at_most = if mood == Mood::Refuses { ASK_EVERY } else { GIVEN_UP + ASK_EVERY };
            assert!(asked.reach.is_there() && since.elapsed() <= at_most);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_hangs_hides_no_answers() {
        let asked = asked();
        *asked.mood.lock().unwrap() = Mood::IsSilent;
        tokio::time::sleep(ASK_EVERY).await;
        *asked.mood.lock().unwrap() = Mood::Answers;
        for _ in 0..100 {
            tokio::time::sleep(ASK_EVERY).await;
            assert!(asked.reach.is_there());
        }
    }
}
