//! Pipelines: jobs of several steps.
//!
//! | What is shown | Where |
//! | --- | --- |
//! | the ledger under dying masters and coordinators, doubles, reordering, strays; each of nine mutants is seen | `simulation` |
//! | `asynctask jobs` with real processes: no master, one, one that does not answer; refusals; keys, ids, restarts | `commands` |
//! | jobs of many items while workers and masters are killed, two masters on one file; on a broker that is killed as well | `storm` |
//! | the example project, as its page says it; the two steps of the README | `example`, `readme` |
//!
//! What can go wrong, and the test that shows what is expected then: a function of the module named, or of the ledger's unit tests
//! (`ledger`), the core's (`core`) or the transports' contract (`contract`).
//!
//! | Case | Test |
//! | --- | --- |
//! | 1–3: a worker dies with an attempt left; with none; its dead letter is retried | `deaths`: `a_job_says_what_its_worker_died_of_…`, `an_attempt_that_succeeds_…` |
//! | 4: a master dies between a worker's `done` and its settlement | `deaths`: `a_master_that_is_killed_before_it_stores_…`; `amqp_masters`: `a_master_that_is_killed_before_the_broker_hears_…` |
//! | 5, 6: a master dies between the items of a splitter and its end, or after that | `amqp_masters`: `of_a_master_that_died_before_…`, `of_a_master_that_died_after_…`; `tests/transport`: `an_end_is_told_after_all_items_…` |
//! | 7, 8: items overtake their splitter; doubles, shuffled | `simulation`; `ledger`: `an_item_that_ends_before_its_splitter_waits`, `whatever_comes_twice_or_shuffled_…`; `amqp_masters`: `items_that_end_before_…`, `whatever_a_broker_doubles_…` |
//! | 9: a coordinator dies between any two stores | `simulation`; `coordinators`: `jobs_go_on_although_whoever_coordinates_…` |
//! | 10: a coordinator is stopped for long; on RabbitMQ another one takes over | `amqp_coordinators`: `while_a_coordinator_is_stopped_…`; `coordinators`: `a_coordinator_that_was_stopped_…`; `contract`: `an_advance_needs_the_ledger` |
//! | 11: what is held outlives the broker's `consumer_timeout`; connections are cut | `amqp_coordinators`: `what_a_coordinator_holds_…`, `a_coordinator_whose_connections_…` |
//! | 12: the broker is killed, or short of memory, while jobs move | `amqp_coordinators`: `jobs_outlive_a_broker_…` |
//! | 12: the file is locked while jobs move | `coordinators`: `jobs_wait_for_a_file_…` |
//! | 13: the only master is killed anywhere, and the file agrees | `coordinators`: `the_file_of_a_master_that_was_killed_…` |
//! | 14: the disk is full while a step is stored | `coordinators`: `without_room_on_the_disk_…`; `contract`: `a_full_disk_loses_no_step_of_a_coordinator` |
//! | 15: no items, an empty list | `items`: `a_step_without_items_…`, `a_step_begins_with_a_task_for_each_…` |
//! | 16: a splitter's `done` is refused | `deaths`: `a_splitter_whose_result_is_too_long_…` |
//! | 17: very many items | `items`: `many_items_in_pages_…` |
//! | 18: some items are dead letters | `items`: `a_step_bears_as_many_…` |
//! | 19: one of many is retried by hand | `items`: `of_many_items_the_one_that_is_retried_…` |
//! | 20, 21: restart of a step while a later one runs; alone | `again`: `a_step_is_done_again_with_…`, `a_step_is_done_again_alone` |
//! | 22: restart of what failed after a crash in a fan-out | `deaths`: `what_was_done_before_a_crash_…` |
//! | 23, 24: two restarts at once; of what is wiped | `commands`: `a_restart_that_another_one_…`, `a_job_whose_outputs_were_wiped_…` |
//! | 25: cancel with thousands waiting | `ends`: `of_a_job_with_thousands_of_items_…` |
//! | 26: an order while nobody answers | `commands`: `an_order_that_nobody_carries_out_…` |
//! | 27: a job's time is over | `ends`: `a_job_whose_time_is_over_…` |
//! | 28: a person purges a queue of a live job; with another program | `commands`: `who_purges_a_queue_…`; `halting`: `the_exit_code_of_a_run_…` |
//! | 29: malformed, permanent, delivered too often; expired, unstorable follow-ups | `deaths`: `however_a_task_ends_…`; `contract`: `what_becomes_of_a_task_of_a_job_is_told`; `core`: `a_member_whose_items_cannot_be_stored_…` |
//! | 30: `unique` puts a task off | `keys`: `a_job_says_which_of_its_tasks_waits_…` |
//! | 31–33: a wipe fails; of a failed job; of a kept one | `ends`: `a_wipe_that_fails_…`, `what_a_failed_job_left_…`, `what_is_kept_…` |
//! | 34: two starts with one key | `commands`: `of_two_starts_with_one_key_…` |
//! | 35: a schedule while the key is live or frozen | `keys`: `a_schedule_begins_nothing_…` |
//! | 36: one id twice, by hand and by a task | `commands`: `one_id_is_one_job_…`; `keys`: `a_job_that_two_tasks_start_…`; `core`: `a_job_that_a_task_starts_is_the_same_…` |
//! | 37: frozen between two steps | `again`: `a_job_that_is_frozen_between_…` |
//! | 38: another definition meanwhile | `again`: `a_job_goes_on_with_the_steps_…` |
//! | 39: a reload removes a queue | `commands`: `a_queue_that_a_reload_removes_…` |
//! | 40, 41: old workers; too much of a result or memo, items outside | `tests/kinds`: `each_language_can_be_a_step`; `core`: `checked` |
//! | 42: forged and broken entries | `coordinators`: `entries_that_nobody_of_ours_wrote_…` |
//! | 43: items of a void round | `again`: `what_a_splitter_of_a_void_round_submits_…` |
//! | 44: the last end meets the survey of halt mode | `halting`: `no_run_ends_with_a_step_…` |
//! | 45: a clock that is set back | `ledger`: `a_clock_that_is_set_back_…` |
//! | Exit codes, reports | `halting`; `commands`: `a_script_waits_for_the_end_of_a_job` |

#[path = "../support/mod.rs"]
mod support;

mod again;
mod amqp_coordinators;
mod amqp_masters;
mod commands;
mod coordinators;
mod deaths;
mod ends;
mod example;
mod halting;
mod items;
mod keys;
mod readme;
mod retries;
mod simulation;
mod steps;
mod storm;
