//! What a tenant is, and the list of clauses.

pub mod amqp_tenant;
mod dead;
mod dead_page;
mod delivery;
mod endings;
mod ends;
pub mod faulty;
pub mod jobs;
mod keys;
mod lease;
mod members;
mod memos;
pub mod model;
mod outlive;
pub mod party;
pub mod postgres_tenant;
mod reexec;
mod settlement;
pub mod sqlite;
mod views;

pub use self::{
    dead::*, dead_page::*, delivery::*, endings::*, ends::*, jobs::*, keys::*, lease::*, members::*, memos::*,
    outlive::*, settlement::*, views::*,
};
use asynctask::transport::{Events, Transport};

/// A transport under test.
pub trait Tenant: Sized {
    /// [`asynctask::transport::Depth::in_hand`] is counted.
    const SEES_IN_HAND: bool = true;
    /// `KnownQueues` is answered.
    const LISTS_QUEUES: bool = true;
    /// `ScheduleMemory` is answered to a transport that is not the scheduler.
    const SHOWS_SCHEDULES: bool = true;
    /// A task that waits is found by its id, or by its round.
    const FINDS_BY_ID: bool = true;
    /// A dead letter that is kept in a walk keeps its place among the others.
    const WALK_KEEPS_ORDER: bool = true;

    /// Dead letters can be looked through by their causes, beside a walk.
    const PAGES_DEAD_LETTERS: bool = true;

    /// An orderly return is no delivery.
    const RETURNS_UNCOUNTED: bool = true;

    /// It can lose its session and build another one.
    const LOSES_SESSIONS: bool = false;

    /// The ledger is told of each dead letter of a job that goes, or goes back to work. Else a step that is to put one back that is gone is
    /// refused.
    const TELLS_OF_GONE: bool = true;

    /// The longest body that it surely takes, in bytes: more than any task of ours has.
    const LONGEST_BODY: usize = 17 << 20;

    /// It sees the keys of all owners.
    const SHARES_KEYS: bool = false;

    /// Why a clause is not held against it, if it is not.
    fn left_out(_clause: &str) -> Option<&'static str> {
        None
    }

    /// An empty store that no other test uses; `None`: this transport cannot be tested here.
    fn fresh() -> Option<Self>;

    /// One more transport on the store.
    fn open(&self, events: Events) -> Box<dyn Transport>;

    /// Ends a transport as the death of its process would: nothing is settled, nothing is said.
    fn kill(&self, transport: Box<dyn Transport>) {
        drop(transport);
    }

    /// Has every transport on this store lose its session.
    fn lose(&self) {
        unreachable!("its sessions are not lost");
    }

    /// The name of a queue, where the store is shared with other tests.
    fn queue(&self, stem: &str) -> String {
        stem.to_owned()
    }
}

/// Makes a module of tests, one a clause, for one tenant.
macro_rules! every_clause {
    ($name:ident, $tenant:ty) => {
        mod $name {
            $crate::contract::clauses! { $tenant:
                a_task_arrives_as_it_was_submitted
                bodies_ids_and_headers_are_untouched
                a_body_of_a_mebibyte
                tasks_come_oldest_first
                credit_is_never_exceeded
                credit_can_be_lowered_and_raised
                a_task_tells_since_when_it_is_due
                delayed_tasks_wait_for_their_time
                expired_tasks_are_delivered_with_their_expiry
                two_consumers_share_a_queue
                identity_knows_a_task_again
                a_late_submit_wakes_a_waiting_master
                done_removes
                ends_out_of_order_outlive_an_orderly_end
                release_puts_back_without_an_attempt
                orderly_returns_add_up_to_no_limit
                retry_counts_an_attempt_and_waits
                snooze_waits_and_counts_nothing
                done_stores_what_follows
                done_creates_the_queues_of_what_follows
                accept_then_done
                accept_then_retry
                accept_then_snooze
                accept_then_dead
                accept_then_release
                settlements_of_unknown_handles_are_ignored
                a_second_settlement_is_ignored
                a_second_acceptance_is_answered_too
                many_settlements_in_one_request
                a_memo_comes_back_with_its_task
                a_memo_of_an_accepted_task_is_kept
                a_memo_is_in_the_dead_letter_and_comes_back_from_it
                bytes_survive_every_move
                a_dead_letter_says_all
                dead_letters_are_walked_oldest_first_and_kept
                walks_at_once_each_see_all
                a_walk_can_stop
                a_walk_removes
                a_walk_retries
                a_walk_retries_with_another_body
                a_retried_dead_letter_may_be_expired
                a_walk_of_many
                a_retried_dead_letter_remembers_its_ends
                a_walk_waits_when_it_is_told_to
                dead_letters_are_purged_after_their_time
                dead_letters_are_grouped_by_their_mistake
                dead_letters_are_paged_the_newest_first
                a_dead_letter_is_found_by_its_id_and_by_its_place
                killed_deliveries_come_back_counted
                closed_deliveries_come_back_uncounted
                what_was_settled_before_a_kill_stays_settled
                accepted_tasks_die_with_their_master
                accepted_tasks_outlive_a_lost_session
                accepted_tasks_are_settled_between_sessions
                settlements_under_way_at_a_loss_are_made_good
                an_acceptance_counts_until_the_loss_is_heard
                a_key_is_granted_and_kept_to_the_end_of_its_delivery
                a_key_is_not_granted_to_a_handle_that_is_not_open
                a_key_excludes_other_masters_until_its_delivery_is_settled
                a_key_ends_with_its_owner
                a_key_that_was_not_answered_before_its_delivery_was_settled_is_free
                a_queue_is_added_beside_others
                credit_given_before_a_queue_is_added_counts
                a_removed_queue_goes_with_its_last_delivery
                a_queue_that_is_not_there_can_be_removed
                an_index_is_used_again
                a_queue_changes_where_its_dead_letters_go
                a_queue_that_cannot_be_had_is_unavailable_alone
                an_unavailable_queue_can_be_removed_and_asked_for_in_another_way
                added_and_removed_queues_stay_so_after_a_lost_session
                close_is_answered
                handles_of_a_killed_master_are_void
                depths_count_each_state
                depths_of_nothing
                a_purge_deletes_what_waits_and_nothing_else
                a_deleted_queue_is_gone_and_can_be_made_again
                a_queue_with_tasks_in_hand_is_not_deleted
                a_cancelled_task_is_removed_where_it_waits
                what_does_not_wait_is_not_cancelled
                known_queues_are_sorted
                survey_sees_what_is_ready
                survey_sees_what_is_delayed
                survey_sees_what_others_hold
                the_lease_has_one_holder
                the_lease_is_taken_over_from_a_closed_holder
                the_lease_is_taken_over_from_a_killed_holder
                a_lease_given_back_can_be_asked_for_again
                the_memory_of_schedules_is_seen_without_the_lease
                a_moment_fires_once
                a_skipped_moment_is_remembered
                firing_needs_the_lease
                what_a_task_of_a_job_carries_is_kept
                what_becomes_of_a_task_of_a_job_is_told
                a_removed_task_of_a_job_is_told
                entries_come_in_their_order_and_no_more_than_are_folded
                forged_entries_are_handed_on
                an_entry_of_another_wakes_the_coordinator
                the_ledger_has_one_holder
                the_ledger_is_taken_over_from_a_closed_holder
                the_ledger_is_taken_over_from_a_killed_holder
                a_ledger_given_back_can_be_asked_for_again
                a_client_can_hold_the_ledger
                an_advance_is_stored_whole
                an_advance_that_cannot_be_stored_changes_nothing
                an_advance_needs_the_ledger
                a_key_passes_from_job_to_job_in_one_step
                an_order_is_answered
                an_answer_outlives_whoever_gave_it
                an_order_that_nobody_carries_out_is_stored
                jobs_are_listed_newest_first
                all_who_ask_at_once_are_told_of_all_jobs
                ended_jobs_are_forgotten_after_their_time
                tasks_of_a_void_round_are_never_delivered
                what_a_job_left_is_wiped_when_nothing_of_it_is_in_a_hand
                a_dead_letter_goes_back_where_it_can_change_its_job
                masters_hear_of_what_is_stopped
                tasks_of_a_frozen_job_wait_until_it_is_thawed
                dead_letters_of_a_round_are_revived
                a_dead_letter_that_is_removed_is_told_or_missed
                a_forgotten_job_is_frozen_no_more
                a_survey_waits_for_entries_and_for_jobs_that_can_go_on
                a_survey_does_not_wait_for_frozen_jobs
            }
        }
    };
}

/// One test function a clause.
macro_rules! clauses {
    ($tenant:ty: $($clause:ident)*) => {
        $(
            #[test]
            fn $clause() {
                if let Some(why) = <$tenant as $crate::contract::Tenant>::left_out(stringify!($clause)) {
                    return eprintln!("left out: {why}");
                }
                match <$tenant as $crate::contract::Tenant>::fresh() {
                    Some(tenant) => $crate::contract::$clause(&tenant),
                    None => eprintln!("skipped: this transport cannot be tested here"),
                }
            }
        )*
    };
}

pub(crate) use clauses;
pub(crate) use every_clause;
