//! One task becomes many: all of them are stored with its end, whoever is killed in between, and those of a repeated run
//! are known by their ids.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use crate::support::{
    Demo, Place,
    log::{Master, until},
};
use nix::sys::signal::Signal;

const MANY: usize = 10_000;

fn demo(place: &Place) -> Demo {
    let demo = Demo::new(place);
    demo.write("split.py", include_str!("../support/split.py"));
    demo.write(
        "asynctask.yaml",
        "workers: { foo: split, bar: { worker: split, processes: 2 } }\nkinds: { split: { command: [python3, split.py] } }\n",
    );
    demo
}

/// Ten thousand lines of DEBUG about tasks tell nothing.
fn start(demo: &Demo) -> Master {
    let mut command: Command = demo.command(&["workers", "--halt-when-empty"]);
    command.env("LOG_LEVEL", "INFO");
    demo.follow(command)
}

/// The ids under which each of the many was done.
fn done(demo: &Demo) -> BTreeMap<usize, Vec<String>> {
    let mut done: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for line in demo.done() {
        let (n, id) = line.split_once(' ').expect("a number and an id");
        done.entry(n.parse().expect("a number")).or_default().push(id.to_owned());
    }
    done
}

/// Holds if each of `count` was done, and those of one number, however many times, under one id.
fn all_there(demo: &Demo, count: usize) -> usize {
    let done = done(demo);
    assert_eq!(done.keys().copied().collect::<Vec<_>>(), (0..count).collect::<Vec<_>>());
    let ids: BTreeSet<&String> = done.values().flatten().collect();
    assert_eq!(ids.len(), count, "the same follow-up has the same id each time, and no other has it");
    for id in ids {
        assert_eq!(uuid::Uuid::parse_str(id).expect("an id of ours").get_version_num(), 5, "{id}");
    }
    assert!(demo.is_empty("foo") && demo.is_empty("bar"));
    assert!(demo.dead_letters("foo").is_empty() && demo.dead_letters("bar").is_empty());
    done.values().map(|ids| ids.len() - 1).sum()
}

#[test]
fn one_task_becomes_ten_thousand() {
    for place in Place::all() {
        let demo = demo(&place);
        demo.submit("foo", &format!(r#"{{"split":{MANY}}}"#));
        let (code, log) = start(&demo).wait();
        assert_eq!(code, 0, "{log}");
        assert!(log.contains("10001 processed, 0 failed, 0 retried, 0 dead-lettered"), "{log}");
        assert_eq!(all_there(&demo, MANY), 0);
    }
}

#[test]
fn none_of_ten_thousand_is_lost_with_the_master() {
    for place in Place::all() {
        let demo = demo(&place);
        demo.submit("foo", &format!(r#"{{"split":{MANY}}}"#));
        // On a broker the first are done before the last are stored: this is in the middle.
        for some in [1, 2_000, 5_000] {
            let mut master = start(&demo);
            master.expect("Starting; queue=bar");
            until("none is done", || demo.done().len() >= some);
            master.signal(Signal::SIGKILL);
            assert_eq!(master.wait().0, -9);
        }
        let (code, log) = start(&demo).wait();
        assert_eq!(code, 0, "{log}");
        let repeated = all_there(&demo, MANY);
        println!("{}: {repeated} were done again", demo.uri);
    }
}

#[test]
fn as_much_as_a_frame_holds_goes_through() {
    for place in Place::all() {
        let demo = demo(&place);
        demo.submit("foo", r#"{"split":1000,"pad":16500}"#);
        let (code, log) = start(&demo).wait();
        assert_eq!(code, 0, "{log}");
        assert_eq!(all_there(&demo, 1000), 0);
    }
}

#[test]
fn more_than_a_frame_holds_is_a_dead_letter_that_says_so() {
    let demo = demo(&Place::sqlite());
    demo.submit("foo", r#"{"split":1000,"pad":17000}"#);
    let (code, log) = start(&demo).wait();
    assert_eq!(code, 0, "{log}");
    let letters = demo.dead_letters("foo");
    assert_eq!((letters.len(), &letters[0]["reason"]), (1, &"crash".into()), "{letters:?}");
    let error = letters[0]["error"].as_str().expect("a text");
    assert!(error.contains("16 MiB") || error.contains("16777216"), "{error}");
    assert!(demo.done().is_empty() && demo.is_empty("bar"));
}

/// On a broker a work queue under such a name would keep the retries of its owner, or be a dead letter of nobody.
#[test]
fn nothing_is_submitted_to_a_queue_behind_another_one() {
    for place in Place::all() {
        let demo = demo(&place);
        for to in ["bar_failed", "bar.retry.500", "elsewhere.retry.1000"] {
            demo.submit("foo", &format!(r#"{{"split":1,"to":"{to}"}}"#));
        }
        let (code, log) = start(&demo).wait();
        assert_eq!(code, 0, "{log}");
        let mut errors: Vec<_> = demo.dead_letters("foo").into_iter().map(|letter| letter["error"].clone()).collect();
        errors.sort_by_key(ToString::to_string);
        assert_eq!(
            errors,
            [
                r#""bar.retry.500" is the name of a delay queue"#,
                r#""bar_failed" is the dead-letter queue of queue "bar""#,
                r#""elsewhere.retry.1000" is the name of a delay queue"#,
            ]
        );
        assert!(demo.done().is_empty());
    }
}
