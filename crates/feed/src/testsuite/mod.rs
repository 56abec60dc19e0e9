//! The conformance suite of the port [`Feed`]: what every adapter must do.
//!
//! An adapter implements [`FeedUnderTest`] in its tests and says [`feed_suite!`](crate::feed_suite) with that type. Each
//! statement is a function whose name is the rule; [`world`] has the words that they are written in.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests, whose names say what they test")]

pub mod following;
pub mod world;

use std::sync::Arc;

use tertulia_store::Store;

use crate::Feed;

/// The consumers that follow in the suite.
pub const CONSUMERS: [&str; 2] = ["one", "other"];

/// An adapter as the suite needs it.
#[expect(async_fn_in_trait, reason = "called in tests alone, where the type is known")]
pub trait FeedUnderTest: Sized {
    /// A new one, on a store of its own, that shares nothing with others; for [`CONSUMERS`].
    async fn open() -> Self;
    /// Closes feed and store in order, and opens them again on the same data. Nobody follows meanwhile.
    async fn reopen(self) -> Self;
    /// Where the logs are.
    fn store(&self) -> Arc<dyn Store>;
    /// The port.
    fn feed(&self) -> Arc<dyn Feed>;
}

/// A `#[tokio::test]` for each statement.
#[macro_export]
macro_rules! feed_suite {
    ($adapter:ty) => {
        $crate::feed_suite! { @ $adapter, following:
            who_follows_is_told_of_every_entry_in_the_order_of_each_conversation
            who_comes_back_goes_on_where_he_was
            what_was_not_called_taken_is_told_again
            consumers_do_not_know_of_each_other
            who_is_new_is_told_that_he_has_missed_what_was_before
            who_has_let_go_of_what_he_took_is_told_what_comes
            when_all_is_taken_nothing_waits
            who_is_about_to_be_told_and_goes_misses_nothing
        }
    };
    (@ $adapter:ty, $module:ident: $($rule:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                $crate::testsuite::$module::$rule::<$adapter>().await;
            }
        )*
    };
}
