//! What goes wrong, done to the real program on a real RabbitMQ and a real file, and what may come of it: nothing is
//! lost, and what is done twice is done twice because of a kill that left no choice.
//!
//! | Fault | What happens | Shown by |
//! | --- | --- | --- |
//! | workers, masters and the broker are killed while thousands of tasks are done | 0 lost; done twice only what was in the hands of whoever was killed | `storm` |
//! | a task kills its worker (abort, segmentation fault) | three tries, then a dead letter with signal and last output; the others once each, as fast as without it | `crash::a_task_that_…` |
//! | a kind kills its worker with everything | the queue is parked after ten, its tasks stay; another queue goes on; a halt-mode run ends with 1 | `crash::a_kind_that_aborts_…` |
//! | all kinds kill their workers with everything, for a night | the master stays: longer and longer pauses, one dead letter each, told and shown; well again by itself | `parked` |
//! | … and whoever started it starts it again, or kills it | the next one begins with the pauses of the one before | `parked` |
//! | a master does not run for a while (SIGSTOP, a frozen container, a moved machine) | what ended meanwhile is done; nobody is late for it | `paused`, `simulation` |
//! | no worker of any queue can be started | 69, no dead letter | `parked` |
//! | the broker closes all connections | rebuilt in about a second; tasks in hand go on, once, with the attempts that they used; acknowledged early or late | `cut::a_connection_lost_…` |
//! | the line is cut until everything in hand has ended | what ended is remembered and settled afterwards; nothing is run again | `cut::a_connection_lost_…` |
//! | the same on queues of every kind: quorum, classic, with priorities, with a single active consumer | nothing is run again, nothing is counted | `again::no_kind_of_queue_…` |
//! | the broker takes a task back that takes longer than its `consumer_timeout` | it is done once, however often that happens | `again::a_task_longer_than_…` |
//! | the line is cut at random moments | successes once; a copy whose confirm was cut off may be there twice, by one id | `cut::cuts_at_random_…` |
//! | the line stalls | noticed within two heartbeats, rebuilt | `cut::a_line_that_stalls_…` |
//! | a master is frozen beyond its heartbeats | what its workers did meanwhile is settled when it comes to itself | `cut::a_master_that_is_frozen_…` |
//! | a server accepts and says nothing | halt mode: 69 after 30 s; else tried again; a stop ends at once | `cut::a_server_that_says_nothing_…` |
//! | wrong password or virtual host | 69 at once, with a hint | `commands` |
//! | a work queue is deleted | made again while the others are worked; the task in hand is done, those that lay in it are gone with it | `cut::a_queue_deleted_…` |
//! | a delay queue is one of somebody else, which does not bring tasks back | said once, another step is taken | `unfit::a_delay_queue_…` |
//! | a queue goes with its last consumer, and is paused | it keeps a consumer | `unfit::a_queue_that_goes_…` |
//! | a queue loses tasks by the way it was declared | a warning at the start with its name and the reason; a stream is refused | `unfit::queues_that_…`, `unfit::a_stream_…` |
//! | a queue cannot be worked (exclusive consumer, no permission, absent and `declare: passive`, its channel closed) | it is unavailable, shown and tried again; the others are worked; halt mode: 69 after 30 s | `unavailable`, `control/unavailable.rs`, `amqp/unavailable.rs`, `simulation` |
//! | a delay queue or `_failed` is deleted | made again when it is missed | `cut::a_delay_queue_deleted_…` |
//! | `_failed` is full or forbidden | dead letters are kept in their queue and offered again, the others are worked; said once, shown, a stop ends; halt mode: 69 after 30 s | `cut::dead_letters_that_are_not_taken_…`, `unavailable::a_run_that_halts_ends_without_…`, `control/unavailable.rs`, `transport/rabbitmq/stuck.rs` |
//! | the queue of a follow-up is full | after some seconds its task has failed, and is retried or dead-lettered | `transport/rabbitmq/stuck.rs` |
//! | memory alarm | acknowledgements go on, retries wait, a stop ends; what was sent into the alarm may be there twice, by one id | `alarm` |
//! | two tasks have one id | both are done, also across a lost connection | `cut::two_tasks_…`, `cut::a_connection_lost_…` |
//! | a foreign message with every property there is, headers up to the brim | retried and dead-lettered, body untouched, routed nowhere else | `hostile` |
//! | a task runs into its time limit | worker killed, attempt used, reason `timeout` | `limits::a_task_over_…` |
//! | an idle worker is stopped (`SIGSTOP`) | it does not answer a ping, and is killed and replaced | `master/control/pinged.rs` |
//! | a master is killed while it holds keys | they are free, and their tasks go to others | `master/unique.rs` |
//! | what a task submits can never be stored | it has failed: retried, at last dead-lettered with the reason | `transport/rabbitmq/unstorable.rs`, `simulation` |
//! | the settings change while the broker is away | they are in force when it is back | `master/control/reload.rs` |
//! | masters are killed with the same task in hand | dead-lettered as `deliveries` at the limit, not before; classic queues too | `limits::a_task_whose_…`, `limits::nor_is_it_…` |
//! | the broker takes back what is held for 5 s | schedules fire each moment once, slow walks and paused queues go on, no session is lost | `held` |
//! | the scheduler is killed, or is frozen until another one has taken over | each moment is fired, once | `held::each_moment_…`, `held::a_scheduler_that_was_frozen_…` |
//! | the file is locked by another program | waited for 10 s, then told, kept and tried again; submitters get an error; a stop ends | `file::a_lock_…` |
//! | the disk is full | what must be stored is kept and tried again; submitters get an error | `file::a_full_disk_…` |
//! | a limit of file size is reached (`ulimit -f`) | the same, and named; a WAL below it begins anew in time | `growth` |
//! | the folder can only be read | 69 with the reason | `file::a_folder_…` |
//! | the file is damaged | 69 with the reason; left as it is | `file::a_damaged_file_…` |
//! | another program writes rows that nobody can read | each is a dead letter; no master ends | `rows` |
//! | the file is removed under a master | 69 | `file::a_file_that_is_removed_…` |
//! | the wall clock is days ahead for seconds, or set back by days | no dead letter is deleted, no delay gets longer, schedules go on | `clocks` |
//! | masters are killed at random beside another on the same file | their tasks go to the others, no attempt used | `file::masters_killed_…` |
//!
//! `ASYNCTASK_FAULT_SEED=1,2,3` and `ASYNCTASK_FAULT_TASKS=5000` make it other storms, and longer ones.

#[path = "../support/mod.rs"]
mod support;

mod again;
mod alarm;
mod clocks;
mod crash;
mod cut;
mod file;
mod growth;
mod held;
mod hostile;
mod limits;
mod parked;
mod paused;
mod rows;
mod storm;
mod unavailable;
mod unfit;

use std::{collections::BTreeMap, time::Duration};

use support::{
    Demo,
    log::{Log, Master, Stopwatch, until},
    on_each,
    storm::{Dice, pass},
};

/// How often each payload `{"n":…}` was done.
fn times_done(demo: &Demo) -> BTreeMap<u64, u32> {
    let mut times = BTreeMap::new();
    for number in numbers_done(demo) {
        *times.entry(number).or_default() += 1;
    }
    times
}

/// The numbers of the payloads that were done, in order.
fn numbers_done(demo: &Demo) -> Vec<u64> {
    let number = |line: String| {
        let payload: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not ours: {line}"));
        payload["n"].as_u64().unwrap_or_else(|| panic!("without a number: {line}"))
    };
    demo.done().into_iter().map(number).collect()
}

/// Holds if these numbers were done, each once.
fn once_each(demo: &Demo, numbers: impl IntoIterator<Item = u64>) {
    let wanted: BTreeMap<u64, u32> = numbers.into_iter().map(|number| (number, 1)).collect();
    let done = times_done(demo);
    let wrong: Vec<_> = wanted.keys().chain(done.keys()).filter(|n| done.get(n) != wanted.get(n)).take(10).collect();
    assert!(wrong.is_empty(), "not done once each, or not to be done: {wrong:?} of {} done", done.len());
}

/// Waits until the log has this text at least so often, in whatever order its lines come.
fn told(log: &Log, text: &str, times: usize) {
    until(&format!("\"{text}\" was not told {times} times"), || log.text().matches(text).count() >= times);
}

/// An orderly end within `limit`; its exit code.
fn stopped(master: Master, limit: Duration) -> i32 {
    let watch = Stopwatch::start();
    master.signal(nix::sys::signal::Signal::SIGTERM);
    let (code, _) = master.wait();
    let took = watch.elapsed();
    assert!(took <= limit, "the end took {took:?}, at most {limit:?} were allowed");
    code
}

/// The virtual host of an address.
fn vhost(demo: &Demo) -> &str {
    demo.uri.rsplit('/').next().expect("an address has one")
}
