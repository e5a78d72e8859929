//! Tasks sent ahead to real processes: whom a death is blamed on, who waits behind whom, and a worker that does not answer.

use std::{
    collections::BTreeMap,
    process::{Command, Stdio},
};

use nix::sys::signal::Signal;

use super::languages::repository;
use crate::support::{Demo, Place, log::until};

/// What the workers noted.
struct Seen {
    /// Most tasks that one of them had not begun.
    most: usize,
    /// Tasks that were returned.
    returned: usize,
    /// How often each task was ended, and when the last time, in seconds of one clock.
    ended: BTreeMap<u64, (u32, f64)>,
}

fn seen(demo: &Demo) -> Seen {
    let text = std::fs::read_to_string(demo.folder.path().join("seen")).expect("a worker has begun");
    let mut seen = Seen { most: 0, returned: 0, ended: BTreeMap::new() };
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["most", count] => seen.most = seen.most.max(count.parse().expect("a number")),
            ["returned", count] => seen.returned += count.parse::<usize>().expect("a number"),
            ["ended", n, at] => {
                let entry = seen.ended.entry(n.parse().expect("a number")).or_insert((0, 0.0));
                *entry = (entry.0 + 1, at.parse().expect("a moment"));
            }
            _ => panic!("{line}"),
        }
    }
    seen
}

/// A kind that takes so many tasks ahead, and `answers` recalls or is `deaf` to them.
fn settings(demo: &Demo, processes: u32, ahead: u32, mood: &str) {
    let program = repository("tests/kinds/ahead.py");
    demo.write(
        "asynctask.yaml",
        &format!(
            "workers:\n  foo: {{ worker: ahead, processes: {processes}, retry: {{ max_attempts: 1 }} }}\n\
             kinds: {{ ahead: {{ command: [python3, {}, '{ahead}', {mood}] }} }}\n",
            program.display()
        ),
    );
}

fn short(range: std::ops::Range<u64>) -> impl Iterator<Item = String> {
    range.map(|n| format!(r#"{{"n":{n}}}"#))
}

fn command(demo: &Demo, options: &[&str]) -> Command {
    let mut command = demo.command(&["workers"]);
    command.args(options).env("LOG_LEVEL", "INFO").stdout(Stdio::piped());
    command
}

/// Runs until nothing is left; the log.
fn halt_when_empty(demo: &Demo) -> String {
    let (code, log) = demo.follow(command(demo, &["--halt-when-empty"])).wait();
    assert_eq!(code, 0, "{log}");
    log
}

/// Tasks are sent ahead while they take under 2 ms. On a busy machine they may take longer at the moment that is
/// looked at: then what is to be seen is tried again. What must never be is judged each time.
fn until_seen(what: &str, round: impl Fn(&Demo) -> bool) {
    for place in Place::all() {
        let again = || match &place {
            Place::Sqlite => Some(Place::sqlite()),
            Place::Amqp(_) => Place::amqp(),
            Place::Postgres(_) => Place::postgres(),
        };
        let seen = (0..20).any(|_| round(&Demo::new(&again().expect("it was there"))));
        assert!(seen, "{what}: not once in 20 runs on {place:?}");
    }
}

#[test]
fn a_death_takes_the_task_in_hand_and_no_other() {
    until_seen("tasks behind one that kills its worker", |demo| {
        settings(demo, 2, 64, "answers");
        // Several that die, one soon after the other.
        let dies = |n: u64| format!(r#"{{"n":{n},"die":true}}"#);
        let payloads = short(0..400).chain((400..404).map(dies)).chain(short(404..800));
        let ids = demo.submit_ids("foo", payloads);
        let log = halt_when_empty(demo);
        let seen = seen(demo);
        // One more than are sent ahead: the one in hand may have come with them, and not be begun yet.
        assert!(seen.most <= 65, "{} not begun at once", seen.most);
        let mut dead: Vec<String> =
            demo.dead_letters("foo").iter().map(|letter| letter["id"].as_str().expect("text").to_owned()).collect();
        dead.sort();
        let mut expected = ids[400..404].to_vec();
        expected.sort();
        assert_eq!(dead, expected);
        for letter in demo.dead_letters("foo") {
            assert_eq!((&letter["reason"], &letter["attempts"]), (&"crash".into(), &1.into()), "{letter}");
        }
        let others: Vec<u64> = (0..400).chain(404..800).collect();
        assert!(others.iter().all(|n| seen.ended.get(n).is_some_and(|(times, _)| *times == 1)), "{:?}", seen.ended);
        log.contains("not begun, and used no attempt")
    });
}

#[test]
fn no_short_task_waits_behind_a_long_one() {
    until_seen("tasks behind a long one", |demo| {
        settings(demo, 2, 64, "answers");
        let long = r#"{"n":400,"sleep_ms":2000}"#.to_owned();
        demo.submit_all("foo", short(0..400).chain([long]).chain(short(401..800)));
        halt_when_empty(demo);
        let seen = seen(demo);
        assert_eq!(seen.ended.len(), 800);
        assert!(seen.ended.values().all(|(times, _)| *times == 1));
        let (_, long_ended) = seen.ended[&400];
        let late: Vec<&u64> =
            seen.ended.iter().filter(|(n, (_, at))| **n != 400 && *at > long_ended).map(|(n, _)| n).collect();
        assert!(late.is_empty(), "{late:?} ended after the long one");
        seen.returned > 0
    });
}

#[test]
fn a_stop_gives_back_what_was_not_begun() {
    until_seen("tasks that a stop takes back", |demo| {
        settings(demo, 1, 64, "answers");
        let slow = r#"{"n":400,"sleep_ms":2000}"#.to_owned();
        demo.submit_all("foo", short(0..400).chain([slow]).chain(short(401..800)));
        let master = demo.follow(command(demo, &[]));
        until("the long task is in hand", || {
            let status = demo.run(&["status", "--json"]);
            status.code == 0 && {
                let status: serde_json::Value = serde_json::from_str(&status.stdout).expect("JSON");
                status["queues"]["foo"]["slots"][0]["task"]["age_seconds"].as_f64().is_some_and(|age| age > 0.3)
            }
        });
        master.signal(Signal::SIGTERM);
        let (code, log) = master.wait();
        assert_eq!(code, 0, "{log}");
        let first = seen(demo);
        assert!(first.ended.contains_key(&400), "the task in hand was finished");
        assert_eq!(demo.depth("foo")["ready"], 800 - first.ended.len(), "and nothing is lost or kept");
        halt_when_empty(demo);
        assert!(demo.dead_letters("foo").is_empty());
        let all = seen(demo).ended;
        assert!(all.len() == 800 && all.values().all(|(times, _)| *times == 1));
        first.returned > 0
    });
}

#[test]
fn a_worker_that_answers_no_recall_gets_nothing_ahead_any_more() {
    until_seen("a recall that is not answered", |demo| {
        settings(demo, 2, 8, "deaf");
        let slow = r#"{"n":400,"sleep_ms":2000}"#.to_owned();
        demo.submit_all("foo", short(0..400).chain([slow]).chain(short(401..800)));
        let log = halt_when_empty(demo);
        let seen = seen(demo);
        assert_eq!(seen.ended.len(), 800);
        assert!(seen.ended.values().all(|(times, _)| *times == 1), "none is handed out twice");
        log.contains("did not answer a recall within 1 s")
    });
}
