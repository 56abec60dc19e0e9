//! The conformance suite of the port [`Live`]: what every adapter must do.
//!
//! An adapter implements [`LiveUnderTest`] in its tests and says [`live_suite!`](crate::live_suite) with that type. Each
//! statement is a function whose name is the rule; [`world`] has the words that they are written in.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "tests, whose names say what they test"
)]

pub mod hearing;
pub mod links;
pub mod world;

use std::sync::Arc;

use super::{Ear, Limits, Live};

/// An adapter as the suite needs it.
#[expect(async_fn_in_trait, reason = "called in tests alone, where the type is known")]
pub trait LiveUnderTest: Sized {
    /// A new one, without nodes, that shares nothing with others.
    async fn open() -> Self;
    /// Another node.
    async fn join(&self, limits: Limits) -> (Arc<dyn Live>, Ear);
    /// Breaks the links of all nodes, until they are mended.
    async fn cut(&mut self);
    /// Lets links be made again.
    async fn mend(&mut self);
}

/// A `#[tokio::test]` for each statement: `live_suite!(Adapter)`, or only `hearing: Adapter` (all links stand) or
/// `links: Adapter`.
#[macro_export]
macro_rules! live_suite {
    ($adapter:ty) => {
        $crate::live_suite! { hearing: $adapter }
        $crate::live_suite! { links: $adapter }
    };
    (hearing: $adapter:ty) => {
        $crate::live_suite! { @ $adapter, hearing:
            what_is_published_is_heard_by_whoever_subscribed
            ones_own_publications_come_back
            what_one_node_publishes_to_a_topic_is_heard_in_order
            nothing_is_missed_once_subscribe_has_returned
            topics_that_were_left_fall_silent
            a_topic_left_and_subscribed_again_is_heard
            subscribing_again_changes_nothing
            topics_of_other_kinds_are_other_topics
            payloads_are_heard_byte_for_byte
            a_message_that_is_too_long_is_refused_and_none_of_its_call_is_heard
            many_topics_are_heard_each
            many_subscribers_at_once_are_all_served
            a_barrier_comes_after_all_that_was_published_before
            a_node_that_does_not_listen_holds_up_nobody
            calls_without_topics_and_messages_are_answered
        }
    };
    (links: $adapter:ty) => {
        $crate::live_suite! { @ $adapter, links:
            the_first_thing_heard_is_that_the_link_stands
            a_broken_link_is_heard_and_so_is_its_end
            over_a_broken_link_publishing_fails_soon
            topics_that_were_wanted_are_heard_again
            topics_wanted_while_it_was_broken_are_heard_afterwards
            topics_left_while_it_was_broken_are_silent_afterwards
            a_link_that_breaks_again_and_again_is_heard_to
            a_channel_that_was_closed_says_so
        }
    };
    (@ $adapter:ty, $module:ident: $($rule:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                $crate::live::testsuite::$module::$rule::<$adapter>().await;
            }
        )*
    };
}
