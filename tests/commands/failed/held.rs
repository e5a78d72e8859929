//! Walks that take longer than the broker lets anyone hold a message: 5 s here, 30 minutes by default.

use asynctask::{
    clock::Clock,
    task::{Failure, Reason},
};

use super::{ids, store};
use crate::support::{Demo, Place, broker, log::Stopwatch};

const LONG: std::time::Duration = std::time::Duration::from_secs(6);

/// Twenty dead letters, every third of which crashed.
fn twenty() -> Option<Demo> {
    let demo = Demo::new(&Place::Amqp(broker::impatient()?.fresh_vhost()));
    store::bury(&demo, "foo", 20, |number| match number % 3 {
        0 => Failure::new(Reason::Crash, "the worker died", Clock::wall()),
        _ => Failure::new(Reason::Error, "no", Clock::wall()),
    });
    Some(demo)
}

fn numbers(wanted: impl Fn(usize) -> bool) -> Vec<String> {
    (0..20).filter(|number| wanted(*number)).map(|number| number.to_string()).collect()
}

#[test]
fn a_slow_retry_outlives_the_brokers_patience_and_keeps_the_order_of_what_stays() {
    let Some(demo) = twenty() else { return };
    let watch = Stopwatch::start();
    let ran = demo.run(&["failed", "retry", "foo", "--reason", "error", "--rate", "2/s"]);
    assert!(watch.elapsed() > LONG, "too fast to show anything");
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "13 dead letters of queue foo retried\n"), "{}", ran.stderr);
    assert_eq!(ids(&demo.run(&["failed", "list", "foo", "--json"])), numbers(|number| number % 3 == 0));
    assert_eq!(store::waiting(&demo, "foo"), numbers(|number| number % 3 != 0));
}

#[test]
fn a_retry_slower_than_the_brokers_patience_holds_nothing_meanwhile() {
    let Some(demo) = twenty() else { return };
    let ran = demo.run(&["failed", "retry", "foo", "--rate", "10/m", "0", "2"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "2 dead letters of queue foo retried\n"), "{}", ran.stderr);
    assert_eq!(ids(&demo.run(&["failed", "list", "foo", "--json"])), numbers(|number| number > 2 || number == 1));
}
