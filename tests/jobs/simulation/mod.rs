//! The ledger of jobs in thousands of random histories.
//!
//! A history is drawn from a seed: a pipeline of two to five steps, up to three jobs, masters that die between any two stores of
//! a settlement, a coordinator that dies between any two stores of a step and some of whose messages arrive after its successor
//! has taken over. Tasks come twice and in any order, submit others each time that they are run, fail and are put back to work.
//! People restart, cancel, freeze, wipe. Half of it is stored as SQLite does, a step at once; half as a broker does, message by
//! message, with several states of a job of which the one of the later coordinator counts.
//!
//! The ledger is the real one; the rest is a model. `truth.rs` knows what really happened, and holds each state that is stored against it:
//!
//! | what must hold | fault |
//! |---|---|
//! | After the faults every job ends, and every order is answered | stuck |
//! | A step is done only when all that its tasks submitted is done, but for as many as failed and may | early |
//! | A step that has begun needs only what is done, and was given what that gave | stale |
//! | No more ends than tasks, and no more tasks than were submitted; what says that it is wiped is | wrong |
//! | A step begins once, and once more each time that somebody wants that; it runs when a task of it has begun | wrong |
//! | No two states of a job have one version | wrong |
//!
//! ```text
//! cargo test --test jobs simulation                           400 histories, and each mutant until it is seen
//! ASYNCTASK_JOBS_HISTORIES=20000 cargo test --release --test jobs every_job_ends
//!                                                             a sweep: half a minute once built; without --release some minutes,
//!                                                             and the ledger's own assertions are on
//! ASYNCTASK_JOBS_SEED=4711 cargo test --test jobs every_job_ends
//!                                                             one history, again, and what it was drawn from; with HISTORIES so
//!                                                             many from it on
//! ASYNCTASK_JOBS_MUTANT_COUNT=1000 cargo test --test jobs each_mutant -- --nocapture
//!                                                             how often mutants are seen
//! ```
//!
//! Where messages are stored one by one, three rules are part of the model, without which it is red: nothing is sent that follows
//! on what was not confirmed (the mutant `AfterUnconfirmed` does); dead letters go back to work before the state that waits for
//! them is stored (`StateBeforeRevival`); and a coordinator that takes over sets a mark behind which states of earlier ones do not
//! count (`LateStates` has none).
//!
//! # What makes it red
//!
//! `mutants.rs` has other ways to build a ledger, or to store for it. Of 1,000 histories of each:
//!
//! | mutant | stuck | early | others |
//! |---|---|---|---|
//! | `Counter` | 156 | 551 | 99 |
//! | `IndexIsIdentity` | 0 | 89 | 61 |
//! | `DerivedRound` | 10 | 0 | 0 |
//! | `EntryBeforeItems` | 306 | 0 | 0 |
//! | `AckBeforeState` | 568 | 0 | 0 |
//! | `EarlyDropped` | 732 | 0 | 0 |
//! | `LateStates` | 35 | 0 | 1 |
//! | `AfterUnconfirmed` | 485 | 0 | 0 |
//! | `StateBeforeRevival` | 9 | 0 | 0 |
//! | `RevivalByNumber` | 96 | 0 | 0 |
//! | `OtherRounds` | 3 | 50 | 315 |
//! | `SecondItems` | 11 | 0 | 190 |
//! | `SameVersion` | 981 | 0 | 6 |
//! | `ClosedForgotten` | 0 | 0 | 569 |
//! | `OrderTwice` | 0 | 0 | 35 |
//!
//! The ledger itself was broken by hand, in one way at a time. Of 300 histories of each, whatever was drawn for them:
//!
//! | a ledger in which | red |
//! |---|---|
//! | a task that is done after it had failed stays failed | 23 stuck |
//! | a failure counts that is told after its task was done | 7 wrong |
//! | a restart leaves the steps as they are that need the one that is done again | 33 stale |
//! | a step begins as soon as one of those that it needs is done | 98 stale |
//! | dead letters that are gone, of which was told, are waited for | 9 stuck |
//! | dead letters that are gone, of which nobody told, are waited for | 2 stuck |
//! | a round has the same id each time | 83 stuck |
//! | a step is done when the first of its tasks is | 209 early |
//! | a step that is done takes another result | 6 stale |
//! | ends of another begin of a step are taken | 14 wrong |
//! | changes of a job are not numbered | 300 wrong |
//! | a job that was closed is not remembered | 4 wrong |
//!
//! What only costs work was not seen in these 300, but where it happens more often (`OrderTwice`, `SecondItems`): an order that is
//! carried out twice, items of a second execution that count as well.
//!
//! It has been red, too, for an order that dropped a job which the same fold had closed, a heal that waited for a key which the job
//! did not need any more, and a task that was removed after its retry and was waited for.

mod coordinator;
mod masters;
mod mutants;
#[path = "../../simulation/rng.rs"]
#[allow(dead_code)]
mod rng;
mod settings;
mod truth;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use mutants::Mutant;
use truth::Fault;
use world::World;

/// Histories in a plain `cargo test`.
const COUNT: u64 = 400;
/// How a fault begins that the ledger itself has noticed.
const PANIC: &str = "panic: ";
/// Histories in which each mutant is to be seen once.
const MUTANT_COUNT: u64 = 1000;

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

fn history(seed: u64, mutant: Option<Mutant>) -> Result<(), Fault> {
    let mut world = World::new(seed, mutant);
    let result = catch_unwind(AssertUnwindSafe(|| world.go())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Fault::Wrong(format!("{PANIC}{}", text.unwrap_or("without words"))))
    });
    if result.is_err() && number_from("ASYNCTASK_JOBS_SEED").is_some() {
        eprintln!("{:?}", world.settings);
    }
    result
}

#[test]
fn every_job_ends_and_no_step_ends_early() {
    let (first, count) = (number_from("ASYNCTASK_JOBS_SEED"), number_from("ASYNCTASK_JOBS_HISTORIES"));
    let count = count.unwrap_or(if first.is_some() { 1 } else { COUNT });
    let seeds = first.unwrap_or(0)..first.unwrap_or(0) + count;
    let faults: Vec<_> = seeds.filter_map(|seed| history(seed, None).err().map(|fault| (seed, fault))).collect();
    let told: Vec<_> = faults.iter().take(20).map(|(seed, fault)| format!("seed {seed}: {fault:?}")).collect();
    assert!(faults.is_empty(), "{} of {count} histories failed:\n{}", faults.len(), told.join("\n"));
}

#[test]
fn each_mutant_is_seen() {
    let counted = number_from("ASYNCTASK_JOBS_MUTANT_COUNT");
    for mutant in Mutant::ALL {
        let (mut stuck, mut early, mut others, mut panics) = (0, 0, 0, 0);
        for seed in 0..counted.unwrap_or(MUTANT_COUNT) {
            match history(seed, Some(mutant)) {
                Ok(()) => continue,
                Err(Fault::Stuck(_)) => stuck += 1,
                Err(Fault::Early(_)) => early += 1,
                Err(Fault::Wrong(why)) if why.starts_with(PANIC) => panics += 1,
                Err(Fault::Stale(_) | Fault::Wrong(_)) => others += 1,
            }
            if counted.is_none() {
                break;
            }
        }
        eprintln!("{mutant:?}: {stuck} stuck, {early} early, {others} others, {panics} panics");
        assert!(stuck + early + others > 0, "{mutant:?} is not seen");
    }
}
