//! The conformance suite of the port [`Store`]: what every adapter must do.
//!
//! An adapter implements [`StoreUnderTest`] in its tests and says [`store_suite!`](crate::store_suite) with that
//! type. Each statement is a function whose name is the rule; [`world`] has the words that they are written in.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests, whose names say what they test")]

pub mod changes;
pub mod feed;
pub mod life;
pub mod members;
pub mod model;
pub mod reading;
pub mod sending;
pub mod watermarks;
pub mod world;

use crate::Store;

/// An adapter as the suite needs it.
#[expect(async_fn_in_trait, reason = "called in tests alone, where the type is known")]
pub trait StoreUnderTest: Sized {
    /// A new one, empty, that shares nothing with others.
    async fn open() -> Self;
    /// Closes it in order, and opens it again on the same data.
    async fn reopen(self) -> Self;
    /// Lets it go without closing, as far as one process can do that to itself, and opens it again.
    async fn crash(self) -> Self;
    /// The port.
    fn store(&self) -> &dyn Store;
}

/// A `#[tokio::test]` for each statement.
#[macro_export]
macro_rules! store_suite {
    ($adapter:ty) => {
        $crate::store_suite! { @ $adapter, sending:
            the_first_message_of_a_conversation_is_entry_2
            entries_are_dense_in_the_order_of_intents
            each_intent_of_a_batch_has_its_own_outcome
            the_same_message_again_is_the_same_entry
            second_use_of_client_seq_with_other_content_is_refused
            a_retry_with_another_reply_is_other_content
            client_seq_may_come_in_any_order
            client_seq_counts_by_device_and_conversation
            a_retry_in_the_same_batch_is_one_entry
            a_retry_after_a_restart_is_the_same_entry
            each_number_of_a_device_is_its_own_message_in_whatever_order_they_came
            a_retry_is_answered_when_sending_is_no_longer_allowed
            a_retry_of_who_was_removed_is_not_found
            bodies_are_kept_byte_for_byte
            a_conversation_that_does_not_exist_is_like_one_that_one_is_not_in
            a_reply_needs_an_entry_that_the_sender_may_see
            time_never_goes_back_in_a_conversation
            where_admins_post_members_do_not
            calls_are_committed_in_the_order_in_which_they_came
            a_batch_that_changes_nothing_is_no_commit
            an_empty_batch_is_answered
        }
        $crate::store_suite! { @ $adapter, members:
            a_direct_conversation_is_created_once
            one_alone_keeps_notes
            a_direct_conversation_is_never_left_renamed_or_joined
            a_block_closes_a_direct_conversation_for_sends_alone
            a_block_without_a_conversation_does_nothing
            a_block_survives_a_restart
            the_creator_owns_a_group
            a_group_id_is_used_once
            adding_who_is_a_member_is_no_entry
            a_new_member_sees_from_his_own_entry_on
            with_history_all_a_new_member_sees_everything
            the_history_policy_when_he_was_added_counts
            a_removal_ends_all_reads
            added_again_he_starts_anew
            added_again_with_history_all_he_sees_everything
            removing_who_is_no_member_says_so
            members_may_not_do_what_admins_may
            admins_remove_members_but_nobody_of_their_rank
            owners_give_roles
            the_last_owner_cannot_step_down
            when_the_last_owner_leaves_the_longest_standing_admin_follows
            without_admins_the_longest_standing_member_follows
            the_last_member_may_leave
            a_rename_says_what_all_share
            a_change_of_settings_is_an_entry_of_what_changed
            members_are_paged_in_the_order_of_joining
        }
        $crate::store_suite! { @ $adapter, reading:
            history_begins_with_the_newest_page
            history_after_and_before_meet
            pages_are_full_while_there_is_more
            pages_begin_where_a_member_may_begin
            history_carries_commit_numbers
            entries_are_all_of_a_log_whoever_may_see_them
            the_inbox_has_the_newest_activity_first
            pages_of_the_inbox_make_up_the_whole
            an_inbox_shows_the_newest_visible_message
            the_inbox_of_nobody_is_empty
            a_garbage_cursor_is_refused
            a_conversation_is_shown_as_its_member_sees_it
            heads_are_of_all_conversations_that_one_is_in
            sharing_is_being_in_one_conversation_now
            what_was_acked_is_read_at_once
        }
        $crate::store_suite! { @ $adapter, watermarks:
            unread_counts_messages_of_others
            changes_are_not_unread
            sending_moves_ones_own_watermarks
            reading_carries_delivered_along
            a_lower_mark_changes_nothing
            a_mark_beyond_the_head_is_refused
            a_mark_far_below_the_head_counts_right
            a_mark_of_nobody_is_not_found
            receipts_tell_when_a_message_was_passed
            who_writes_has_read_what_was_before
            receipts_of_a_newcomer_date_from_his_joining
            receipts_are_for_messages_that_one_may_see
            pages_of_receipts_make_up_the_whole
            own_settings_are_ones_own
            muting_ends_when_it_is_taken_back
        }
        $crate::store_suite! { @ $adapter, changes:
            nothing_has_changed_since_the_horizon
            the_first_missed_entry_is_the_first_since_then
            a_change_carries_what_all_share
            ones_own_settings_are_replayed
            receipts_are_replayed_with_their_present_values
            a_receipt_says_when_something_was_received_beside_when_it_was_read
            in_a_large_conversation_only_ones_own_receipts_are_replayed
            who_came_is_told_that_he_joined
            who_came_late_missed_nothing_before
            who_left_is_told_so
            who_left_and_came_again_is_in
            changes_can_be_asked_of_one_conversation
            changes_are_ordered_by_id
            entries_come_along_where_few_were_missed
            what_comes_along_is_of_now_whoever_asked_before
            who_came_in_gets_no_entries_along
        }
        $crate::store_suite! { @ $adapter, feed:
            who_follows_is_told_of_every_entry
            several_ranges_are_read_as_each_of_them
            who_comes_back_goes_on_where_he_was
            what_was_not_passed_is_not_forgotten
            logs_are_all_conversations_by_id
            one_is_told_from_where_one_may_see
            who_did_not_hear_of_it_learns_who_came_in_and_who_went_out
        }
        $crate::store_suite! { @ $adapter, life:
            commits_rise_and_go_on_after_a_restart
            positions_survive_a_restart
            a_position_of_another_store_is_unknown
            a_position_from_beyond_is_unknown
            garbage_is_no_position
            everything_is_there_after_a_restart
            everything_that_was_acked_is_there_after_a_crash
            nothing_is_done_after_close
            a_hundred_conversations_at_once_stay_dense
        }
        $crate::store_suite! { @ $adapter, model:
            random_histories_agree_with_the_model
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
