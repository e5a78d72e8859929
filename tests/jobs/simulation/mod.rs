//! The ledger of jobs in a model of what can happen around it, by seeds.
//!
//! The ledger is the real one (`jobs::ledger`). Around it is a model of masters, of queues, and of a store in two forms: a *file*,
//! where a step of the coordinator is one transaction, and a *broker*, where its tasks, the jobs' states, the removal of entries and
//! the announcement of void rounds are stored one after the other, and what a dead coordinator has sent may arrive after its
//! successor has taken over.
//!
//! ```text
//!  orders ─> entries ─> coordinator (dies between any two stores) ─> tasks, states, removals, void rounds
//!               ^                                                       │
//!               └── items, entry, removal <── masters (die likewise) <──┘   doubled, reordered, run again
//! ```
//!
//! Splitters list other items each time they are run. What the model itself knows is its [`truth`]: which execution of which task
//! was done with how many items. A history is red if a job is *stuck* (nothing is left to do, and it has not ended), if a step was
//! done *early* (not all members of any choice of executions were done), if a step began on *stale* inputs (a result of another
//! begin of the step that it needs), or if a finished step does not count what it knows.
//!
//! The mutants are faults of the model's own sides, which are those that a design could have chosen: each must be seen within the
//! histories of its test. `ASYNCTASK_JOBS_HISTORIES=20000` makes it more of them, `ASYNCTASK_JOBS_SEED=N` runs one.

mod chance;
mod coordinator;
mod master;
mod truth;
mod world;

use world::{Fault, Mutant, Storage, World};

/// Histories in plain `cargo test`, of each storage.
const HISTORIES: u64 = 300;
/// Within so many a mutant has to be seen.
const UNTIL_SEEN: u64 = 3_000;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn run(seed: u64, storage: Storage, mutant: Option<Mutant>) -> Result<(), Fault> {
    World::new(seed, storage, mutant).run()
}

fn all_are_well(storage: Storage) {
    let seeds = setting("ASYNCTASK_JOBS_SEED")
        .map_or_else(|| 0..setting("ASYNCTASK_JOBS_HISTORIES").unwrap_or(HISTORIES), |seed| seed..seed + 1);
    let mut red = Vec::new();
    for seed in seeds {
        if let Err(fault) = run(seed, storage, None) {
            red.push(format!("seed {seed}: {fault}"));
        }
    }
    assert!(red.is_empty(), "{} of {storage:?} are red:\n{}", red.len(), red[..red.len().min(20)].join("\n"));
}

#[test]
fn on_a_file_no_job_is_stuck_early_or_stale() {
    all_are_well(Storage::File);
}

#[test]
fn on_a_broker_no_job_is_stuck_early_or_stale() {
    all_are_well(Storage::Broker);
}

#[test]
fn each_mutant_is_seen() {
    let mut unseen = Vec::new();
    for mutant in Mutant::ALL {
        let told = (0..UNTIL_SEEN).find_map(|seed| Some((seed, run(seed, Storage::Broker, Some(mutant)).err()?)));
        match told {
            Some((seed, fault)) => println!("{mutant:?} is seen at seed {seed}: {fault}"),
            None => unseen.push(mutant),
        }
    }
    assert!(unseen.is_empty(), "not seen in {UNTIL_SEEN} histories: {unseen:?}");
}
