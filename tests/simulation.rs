//! The core in thousands of random worlds.
//!
//! A world is drawn from a seed: a plan, children with bad manners, a transport that loses its session, people
//! who ask for a stop. Virtual time jumps from event to event, so an hour of faults takes milliseconds, and the
//! same seed gives the same history on every machine. A failure prints the seed, the world's settings and the
//! last events and actions.
//!
//! ```text
//! ASYNCTASK_SIM_SEED=4711 cargo test --test simulation              one history, again
//! ASYNCTASK_SIM_COUNT=100000 cargo test --release --test simulation a longer sweep
//! ```

#[path = "simulation/actions.rs"]
mod actions;
#[path = "simulation/broker.rs"]
mod broker;
#[path = "simulation/child.rs"]
mod child;
#[path = "simulation/dice.rs"]
mod dice;
#[path = "simulation/ledger.rs"]
mod ledger;
#[path = "simulation/settings.rs"]
mod settings;
#[path = "simulation/watch.rs"]
mod watch;
#[path = "simulation/world.rs"]
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc,
    time::Duration,
};

use world::World;

/// Histories in a plain `cargo test`.
const COUNT: u64 = 600;
/// A history that takes longer than this in real time hangs.
const PATIENCE: Duration = Duration::from_secs(30);

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

/// Runs one history; what went wrong, if anything did.
fn history(seed: u64, traced: bool) -> Result<(), String> {
    let mut world = World::new(seed, traced);
    let result = catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("panic: {}", text.unwrap_or("without words")))
    });
    result.map_err(|problem| {
        let trace = Vec::from(world.trace.take().unwrap_or_default()).join("\n");
        format!("{problem}\nat {:?}\n{:?}\n{trace}\nseed {seed}: {problem}", world.now, world.settings)
    })
}

#[test]
fn every_history_keeps_the_promises() {
    let seeds = match number_from("ASYNCTASK_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number_from("ASYNCTASK_SIM_COUNT").unwrap_or(COUNT),
    };
    let (progress, seen) = mpsc::channel();
    let sweep = std::thread::spawn(move || {
        let count = seeds.end - seeds.start;
        let mut failures = Vec::new();
        for seed in seeds {
            progress.send(seed).expect("the test waits for the sweep");
            failures.extend(history(seed, false).err().map(|report| (seed, report)));
        }
        let Some((first, _)) = failures.first() else { return Ok(()) };
        let report =
            history(*first, true).err().unwrap_or_else(|| "not seen again: the core is not deterministic".to_owned());
        let line = |(_, report): &(u64, String)| report.lines().last().unwrap_or_default().chars().take(200).collect();
        let lines: Vec<String> = failures.iter().take(20).map(line).collect();
        Err(format!("{report}\n\n{} of {count} histories failed:\n{}", failures.len(), lines.join("\n")))
    });
    let mut last = 0;
    loop {
        match seen.recv_timeout(PATIENCE) {
            Ok(seed) => last = seed,
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("seed {last}: the core does not return"),
        }
    }
    if let Err(report) = sweep.join().expect("a panic of a history is caught") {
        panic!("{report}");
    }
}
