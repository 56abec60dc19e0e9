//! The conformance suite of the ports [`Presence`] and [`Nodes`]: what every adapter must do.
//!
//! An adapter implements [`PresenceUnderTest`] in its tests and says [`presence_suite!`](crate::presence_suite) with that
//! type. Each statement is a function whose name is the rule.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "tests, whose names say what they test"
)]

pub mod rules;

use super::Presence;
use crate::NodeId;
use crate::nodes::{Description, Nodes};

/// An adapter as the suite needs it.
#[expect(async_fn_in_trait, reason = "called in tests alone, where the type is known")]
pub trait PresenceUnderTest: Sized {
    /// Both ports of a node.
    type Node: Presence + Nodes;
    /// A new one, without nodes, that shares nothing with others.
    async fn open() -> Self;
    /// Another node.
    async fn join(&self, id: NodeId, description: Description) -> Self::Node;
    /// A node dies without a word.
    async fn kill(&self, node: Self::Node);
    /// A node does nothing more until it goes on; returns when its lease has run out.
    async fn stop(&mut self, node: &Self::Node);
    /// It goes on as if nothing had been.
    async fn go_on(&mut self, node: &Self::Node);
}

/// A `#[tokio::test]` for each statement.
#[macro_export]
macro_rules! presence_suite {
    ($adapter:ty) => {
        $crate::presence_suite! { @ $adapter:
            who_is_announced_is_seen_by_all
            ones_own_users_are_seen_at_once
            a_user_is_what_all_nodes_together_see
            what_others_see_is_told_apart_from_what_oneself_does
            whom_nobody_sees_is_offline
            of_a_user_who_changes_often_the_last_is_seen
            ten_thousand_users_at_once_are_seen_each
            a_node_that_dies_is_seen_no_more
            a_node_that_was_away_is_seen_again_with_all_its_users
            a_node_that_leaves_is_gone_at_once
            all_nodes_see_all_nodes
            what_a_node_says_of_itself_is_heard
            whoever_has_left_is_told_so
        }
    };
    (@ $adapter:ty: $($rule:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                $crate::presence::testsuite::rules::$rule::<$adapter>().await;
            }
        )*
    };
}
