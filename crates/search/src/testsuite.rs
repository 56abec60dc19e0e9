//! The conformance suite of the port [`SearchIndex`]: what every adapter must do, and all in the same way.
//!
//! An adapter implements [`IndexUnderTest`] in its tests and says [`search_suite!`](crate::search_suite) with that type.
//! Each statement is a function whose name is the rule.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests, whose names say what they test")]

mod finding;
mod model;
mod taking;
mod world;

pub use self::finding::*;
pub use self::model::*;
pub use self::taking::*;
#[cfg(test)]
pub(crate) use self::world::in_convos;
use crate::SearchIndex;

/// An adapter as the suite needs it.
#[expect(async_fn_in_trait, reason = "called in tests alone, where the type is known")]
pub trait IndexUnderTest: Sized {
    /// A new one, empty, that shares nothing with others.
    async fn open() -> Self;
    /// Closes it in order, and opens it again on the same data.
    async fn reopen(self) -> Self;
    /// The port.
    fn index(&self) -> &dyn SearchIndex;
}

/// A `#[tokio::test]` for each statement.
#[macro_export]
macro_rules! search_suite {
    ($adapter:ty) => {
        $crate::search_suite! { @ $adapter:
            a_new_index_has_no_cursor_and_finds_nothing
            the_cursor_is_that_of_the_last_batch_also_after_a_restart
            the_cursor_stays_where_a_batch_brings_none
            the_cursor_is_moved_by_who_knows_where_it_is
            what_several_bring_at_one_time_is_all_found
            a_batch_that_comes_again_is_found_once
            what_was_said_last_is_what_is_found
            what_was_removed_is_not_found
            a_cleared_index_is_as_new
            nothing_is_done_after_close
            all_words_must_be_there
            case_and_accents_are_one
            a_phrase_is_words_beside_each_other
            scripts_without_spaces_are_found_inside_a_sentence
            only_what_may_be_seen_is_found
            filters_narrow_it
            the_newest_comes_first
            of_one_moment_the_later_entry_comes_first
            pages_make_up_the_whole_while_more_is_written
            short_and_new_ranks_before_long_and_old
            ranked_pages_make_up_the_whole_while_more_is_written
            who_is_in_a_thousand_conversations_finds_the_same
            messages_that_may_not_be_seen_do_not_end_the_search
            a_place_tells_nothing_of_what_may_not_be_seen
            random_corpora_agree_with_the_model
        }
    };
    (@ $adapter:ty: $($rule:ident)*) => {
        $(
            #[tokio::test]
            async fn $rule() {
                $crate::testsuite::$rule::<$adapter>().await;
            }
        )*
    };
}
