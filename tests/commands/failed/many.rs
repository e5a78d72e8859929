//! More dead letters than anyone wants in memory.

use asynctask::{
    clock::Clock,
    task::{Failure, Reason},
};

use super::{on_each, store};
use crate::support::{Demo, Place, foreign::Foreign, log::Stopwatch};

/// Some thousands, of which every third stays: beyond what is taken at a time, held, and given back in order.
#[test]
fn a_walk_goes_on_beyond_a_thousand_and_keeps_the_order_of_what_stays() {
    on_each(|demo| {
        store::bury_many(demo, "foo", 5_000);
        let all: Vec<String> = (0..5_000).map(|number| number.to_string()).collect();
        for _ in 0..2 {
            store::same_order(&super::ids(&demo.run(&["failed", "export", "foo"])), &all, &demo.uri);
        }
        let (retried, kept): (Vec<_>, Vec<_>) = all.iter().cloned().partition(|id| id.ends_with(['1', '4', '9']));
        let mut arguments = vec!["failed", "retry", "foo", "--json"];
        arguments.extend(retried.iter().map(String::as_str));
        let watch = Stopwatch::start();
        let answer = demo.json(&arguments);
        eprintln!("1,500 of 5,000 retried by id in {:?} ({})", watch.elapsed(), demo.uri);
        assert_eq!(answer["retried"], 1_500);
        let listed = super::ids(&demo.run(&["failed", "list", "foo", "--json", "--limit", "9999"]));
        store::same_order(&listed, &kept, &demo.uri);
        assert_eq!(store::waiting(demo, "foo"), retried);
    });
}

fn hundred_thousand(place: &Place) {
    let demo = Demo::new(place);
    let watch = Stopwatch::start();
    store::bury_many(&demo, "foo", 100_000);
    eprintln!("buried in {:?} ({})", watch.elapsed(), demo.uri);
    for (verb, arguments) in [
        ("exported", &["failed", "export", "foo"][..]),
        ("searched in vain", &["failed", "retry", "foo", "absent"]),
        ("retried", &["failed", "retry", "foo", "--all"]),
    ] {
        let watch = Stopwatch::start();
        let ran = demo.run(arguments);
        eprintln!("{verb} in {:?} ({})", watch.elapsed(), demo.uri);
        match verb {
            "exported" => assert_eq!(ran.stdout.lines().count(), 100_000),
            "retried" => assert_eq!(ran.stdout, "100000 dead letters of queue foo retried\n"),
            _ => assert_eq!(ran.code, 1, "{ran:?}"),
        }
    }
    assert_eq!(demo.depth("foo")["ready"], 100_000);
    assert_eq!(demo.depth("foo")["failed"], 0);
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).expect("it is known");
    eprintln!("largest child: {} MiB", usage.max_rss() / 1024);
}

#[test]
fn a_hundred_thousand_in_a_file() {
    hundred_thousand(&Place::sqlite());
}

#[test]
#[ignore = "minutes; a measurement"]
fn a_hundred_thousand_on_rabbitmq() {
    if let Some(place) = Place::amqp() {
        hundred_thousand(&place);
    }
}

/// Two hundred, of which every second is meant, and then every second of those that are left: what was told to be gone is
/// gone.
fn every_second(demo: &Demo) {
    let crash = |number| if number % 2 == 0 { Reason::Error } else { Reason::Crash };
    let letters = |wanted: fn(usize) -> bool| -> Vec<String> {
        (0..200).filter(|number| wanted(*number)).map(|number| number.to_string()).collect()
    };
    store::bury(demo, "foo", 200, |number| Failure::new(crash(number), "no", Clock::wall()));
    let left = || {
        let mut ids = super::ids(&demo.run(&["failed", "list", "foo", "--json", "--limit", "999"]));
        ids.sort_by_key(|id| (id.len(), id.clone()));
        ids
    };
    let run = demo.run(&["failed", "retry", "foo", "--reason", "crash"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "100 dead letters of queue foo retried\n"), "{run:?}");
    assert_eq!(left(), letters(|number| number % 2 == 0), "{}", demo.uri);
    assert_eq!(store::waiting(demo, "foo"), letters(|number| number % 2 == 1), "{}", demo.uri);
    let named = letters(|number| number % 4 == 0);
    let arguments: Vec<&str> =
        ["failed", "purge", "foo", "--yes"].into_iter().chain(named.iter().map(String::as_str)).collect();
    let run = demo.run(&arguments);
    assert_eq!((run.code, run.stdout.as_str()), (0, "50 dead letters of queue foo deleted\n"), "{run:?}");
    assert_eq!(left(), letters(|number| number % 4 == 2), "{}", demo.uri);
    assert_eq!(demo.depth("foo")["failed"], 50);
    let run = demo.run(&["failed", "purge", "foo", "--reason", "error", "--yes"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "50 dead letters of queue foo deleted\n"), "{run:?}");
    assert_eq!(demo.depth("foo")["failed"], 0);
}

#[test]
fn every_second_of_two_hundred_goes_and_stays_gone() {
    on_each(every_second);
    let Some(place) = Place::amqp() else { return };
    let demo = Demo::new(&place);
    Foreign::connect(&demo.uri).declare_classic("foo_failed");
    every_second(&demo);
}
