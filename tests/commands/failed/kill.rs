//! `failed retry --all`, killed.

use std::{
    collections::BTreeMap,
    process::{Child, Stdio},
    time::Duration,
};

use super::store;
use crate::support::{Demo, Place};

/// Dead letters that are put back together.
const WINDOW: usize = 256;
const COUNT: usize = 10_000;
/// Windows that are in both queues at most after a kill: the one that was on its way, and those whose removal the broker has
/// answered and its queue has not come to. A quorum queue on a busy machine lags by one or two (625 letters, measured on 3.10.8).
const LAG: usize = 6;

/// A step of a bounded wait for a moment that the seed chose.
fn pause(time: Duration) {
    let (_sender, receiver) = std::sync::mpsc::channel::<()>();
    let _ = receiver.recv_timeout(time);
}

fn retry(demo: &Demo, which: &[&str]) -> Child {
    let mut command = demo.command(&[&["failed", "retry", "foo"], which].concat());
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the demo starts")
}

/// How often each id is in the two queues together.
fn count(demo: &Demo) -> BTreeMap<String, usize> {
    let mut counts: BTreeMap<String, usize> = (0..COUNT).map(|number| (number.to_string(), 0)).collect();
    let dead = super::ids(&demo.run(&["failed", "export", "foo"]));
    for id in dead.into_iter().chain(store::waiting(demo, "foo")) {
        *counts.get_mut(&id).unwrap_or_else(|| panic!("\"{id}\" was made up")) += 1;
    }
    counts
}

/// The same, once the broker has noticed the death of who held some: what it gives back comes a while later, so that fewer
/// are seen than before, or others at the next look. Holds if none is lost.
fn counted(demo: &Demo, twice: usize) -> BTreeMap<String, usize> {
    let mut counts = count(demo);
    for _ in 0..40 {
        pause(Duration::from_millis(500));
        let again = count(demo);
        let is_whole = again.values().all(|count| *count > 0) && again.values().sum::<usize>() >= COUNT + twice;
        if is_whole && again == counts {
            return counts;
        }
        counts = again;
    }
    let lost: Vec<_> = counts.iter().filter(|(_, count)| **count == 0).map(|(id, _)| id).collect();
    panic!("lost: {lost:?}, {twice} were in both before: {} in all ({})", counts.values().sum::<usize>(), demo.uri);
}

fn killed_at_seeded_moments(place: &Place, window: usize, which: &[&str]) {
    let seed = std::env::var("ASYNCTASK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(4_711_u64);
    let mut dice = seed | 1;
    // A file is ten times as fast.
    let longest = if matches!(place, Place::Sqlite) { 150 } else { 500 };
    let demo = Demo::new(place);
    store::bury_many(&demo, "foo", COUNT);
    let (mut twice, mut interrupted) = (0, 0);
    for round in 0..8 {
        // xorshift: the same moments for the same seed, as far as a machine keeps time.
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        let before = demo.depth("foo")["failed"].clone();
        let mut child = retry(&demo, which);
        pause(Duration::from_millis(dice % longest));
        child.kill().expect("it is our child");
        child.wait().expect("it is our child");
        let counts = counted(&demo, twice);
        let more = counts.values().map(|count| count - 1).sum::<usize>();
        let left = demo.depth("foo")["failed"].clone();
        eprintln!("seed {seed}, round {round}: {before} → {left} dead, {} in both ({})", more - twice, demo.uri);
        assert!(more - twice <= window, "{} in both after one kill ({})", more - twice, demo.uri);
        interrupted += usize::from(left != 0 && left != COUNT);
        twice = more;
        if left == 0 {
            break;
        }
    }
    assert!(interrupted > 0, "no kill fell into the work: seed {seed}");
    let mut last = retry(&demo, &["--all"]);
    assert!(last.wait().expect("it is our child").success());
    assert_eq!(demo.depth("foo")["failed"], 0);
    assert_eq!(store::waiting(&demo, "foo").len(), COUNT + twice);
}

#[test]
fn a_killed_retry_on_rabbitmq_repeats_a_few_windows_at_most() {
    if let Some(place) = Place::amqp() {
        killed_at_seeded_moments(&place, LAG * WINDOW, &["--all"]);
    }
}

#[test]
fn a_killed_retry_in_a_file_repeats_nothing() {
    killed_at_seeded_moments(&Place::sqlite(), 0, &["--all"]);
}

/// Those that stay lie between: none of the acknowledgements can be for many at once.
#[test]
fn a_killed_retry_of_every_other_repeats_a_few_windows_at_most() {
    let Some(place) = Place::amqp() else { return };
    let ids: Vec<String> = (0..COUNT).step_by(2).map(|number| number.to_string()).collect();
    // With one that is not there, the walk goes on to the end.
    let which: Vec<&str> = ids.iter().map(String::as_str).chain(["absent"]).collect();
    killed_at_seeded_moments(&place, LAG * WINDOW, &which);
}
