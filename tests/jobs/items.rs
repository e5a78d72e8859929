//! Steps of many tasks: none, all, some that fail, one that is retried, and as many as `ASYNCTASK_JOBS_ITEMS` says.

use std::collections::BTreeSet;

use serde_json::json;

use super::{
    steps::{began, configure, counts, done, drained, master, on_each, places, shown, started, states, tasks, touch},
    support::{
        Demo,
        log::{Stopwatch, until},
    },
};

/// Bytes that the state of a job may take, however many items it has.
const STATE: i64 = 64 << 10;

#[test]
fn a_step_without_items_is_done_at_once() {
    on_each(|demo| {
        let pipeline = "
empty:
  steps:
    - { name: none, queue: a, for_each: [] }
    - { name: split, queue: a, each: items }
    - { name: years, queue: items, for_each: '{inputs.split.years}' }
    - { name: last, queue: a }
";
        configure(demo, pipeline, &["a", "items"], "");
        let id = started(demo, &["empty", r#"{"split": {"items": 0, "result": {"years": []}}}"#]);
        let run = drained(demo);
        assert_eq!(run.code, 0, "{run:?}");
        let job = shown(demo, &id);
        assert_eq!(states(&job), "done none:done split:done years:done last:done");
        assert_eq!(counts(&done(demo)), [("split", 1), ("last", 1)].into());
    });
}

#[test]
fn a_step_begins_with_a_task_for_each_element_of_a_result() {
    on_each(|demo| {
        let pipeline = "
years:
  steps:
    - { name: list, queue: a }
    - { name: years, queue: items, for_each: '{inputs.list.years}' }
    - { name: fixed, queue: items, for_each: [{ n: one }, { n: two }] }
";
        configure(demo, pipeline, &["a", "items"], "");
        started(demo, &["years", r#"{"list": {"result": {"years": [{"n": 2024}, {"n": 2025}]}}}"#]);
        let run = drained(demo);
        assert_eq!(run.code, 0, "{run:?}");
        let did = done(demo).into_iter().map(|did| format!("{} {}", did.step, did.number));
        let did: BTreeSet<String> = did.collect();
        assert_eq!(
            did.into_iter().collect::<Vec<_>>(),
            ["fixed one", "fixed two", "list -", "years 2024", "years 2025"]
        );
    });
}

#[test]
fn a_step_bears_as_many_dead_letters_as_it_says() {
    on_each(|demo| {
        let pipeline = "
some: { steps: [ { name: a, queue: a, each: items, allow_failed: 5% }, { name: b, queue: a } ] }
few: { steps: [ { name: a, queue: a, each: items, allow_failed: 2% }, { name: b, queue: a } ] }
";
        configure(demo, pipeline, &["a", "items"], "");
        let payload = r#"{"a": {"items": 99, "bad": [3, 50, 98]}}"#;
        let (some, few) = (started(demo, &["some", payload]), started(demo, &["few", payload]));
        let run = demo.run(&["workers", "--halt-when-empty", "--fail-on-dead-letter"]);
        assert_eq!(run.code, 80, "{run:?}");
        let job = shown(demo, &some);
        assert_eq!((states(&job).as_str(), tasks(&job, "a")), ("done a:done b:done", [97, 3, 100]));
        assert!(demo.run(&["jobs", "list", "--state", "done"]).stdout.contains("98/101, 3 failed"));
        let job = shown(demo, &few);
        assert_eq!((states(&job).as_str(), tasks(&job, "a")), ("failed a:failed b:skipped", [97, 3, 100]));
        let shown = job["steps"]["a"]["dead_letters"].as_array().expect("a list");
        let errors: BTreeSet<&str> = shown.iter().filter_map(|dead| dead["error"].as_str()).collect();
        assert_eq!(errors, ["item 3 is bad", "item 50 is bad", "item 98 is bad"].into());
    });
}

#[test]
fn of_many_items_the_one_that_is_retried_is_the_one_that_is_worked() {
    on_each(|demo| {
        let pipeline = "one: { steps: [ { name: a, queue: a, each: items }, { name: b, queue: a } ] }";
        configure(demo, pipeline, &["a", "items"], "");
        let id = started(demo, &["one", r#"{"a": {"items": 1000, "bad": [700]}}"#]);
        let run = drained(demo);
        assert_eq!(run.code, 0, "{run:?}");
        assert_eq!(tasks(&shown(demo, &id), "a"), [1000, 1, 1001]);
        let before = began(demo).len();
        touch(demo, "good");
        let letters = demo.dead_letters("items");
        assert_eq!((letters.len(), &letters[0]["index"], &letters[0]["step"]), (1, &json!(700), &json!("a")));
        let letter = letters[0]["id"].as_str().expect("an id");
        assert_eq!(demo.run(&["failed", "retry", "items", letter]).code, 0);
        let run = drained(demo);
        assert_eq!(run.code, 0, "{run:?}");
        let job = shown(demo, &id);
        assert_eq!((states(&job).as_str(), tasks(&job, "a")), ("done a:done b:done", [1001, 0, 1001]));
        let after: Vec<String> =
            began(demo)[before..].iter().map(|did| format!("{} {}", did.step, did.number)).collect();
        assert_eq!(after, ["a 700", "b -"]);
    });
}

/// Peak memory of a process in bytes.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells it");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// Bytes of the longest state of a job, where it can be looked at.
fn state_size(demo: &Demo) -> i64 {
    let Some(path) = demo.uri.strip_prefix("sqlite:") else { return 0 };
    let file = rusqlite::Connection::open(path).expect("the file of tasks");
    file.busy_timeout(std::time::Duration::from_secs(10)).expect("it can be set");
    file.query_row("SELECT max(length(CAST(content AS BLOB))) FROM job", [], |row| row.get(0)).expect("there is a job")
}

#[test]
fn many_items_in_pages_are_all_counted_once_and_the_state_stays_small() {
    let items = std::env::var("ASYNCTASK_JOBS_ITEMS").ok().filter(|text| !text.is_empty());
    let items: u64 = items.map_or(3000, |text| text.parse().expect("ASYNCTASK_JOBS_ITEMS is a number"));
    for place in places() {
        let demo = &Demo::new(&place);
        let pipeline = "one: { steps: [ { name: a, queue: a, each: items }, { name: b, queue: a } ] }";
        configure(demo, pipeline, &["a"], "  items: { worker: steps, processes: 2 }");
        let watch = Stopwatch::start();
        // Two masters; which of them coordinates is chance.
        let masters = [master(demo, &[]), master(demo, &[])];
        for master in &masters {
            until("its workers are there", || master.workers().len() == 3);
        }
        // What is used for the first time is brought into memory now.
        let first = started(demo, &["one", r#"{"a": {"items": 100}}"#]);
        until("a small job is done", || shown(demo, &first)["state"] == "done");
        let small = done(demo).len();
        let before = masters.each_ref().map(|master| peak(master.pid()));
        let id = started(demo, &["one", &format!(r#"{{"a": {{"items": {items}}}}}"#)]);
        let mut largest = 0;
        // Longer than others wait, if there are more items than by default.
        let job = loop {
            largest = largest.max(state_size(demo));
            let job = shown(demo, &id);
            if job["state"] == "done" {
                break job;
            }
            assert!(watch.elapsed().as_secs() < 60 + items / 100, "{job}");
        };
        let pages = items.div_ceil(1000);
        assert_eq!(tasks(&job, "a"), [items + pages, 0, items + pages]);
        let did = done(demo).split_off(small);
        let numbers: BTreeSet<&str> = did.iter().filter(|did| did.step == "a").map(|did| did.number.as_str()).collect();
        assert_eq!((numbers.len() as u64, counts(&did)["b"]), (items + pages, 1));
        assert_eq!(did.len() as u64, items + pages + 1, "each was done once");
        assert!(largest <= STATE, "the state of the job took {largest} bytes");
        let grown = [0, 1].map(|of| peak(masters[of].pid()) - before[of]);
        println!(
            "{items} items: {:.1} s, the state at most {largest} bytes, the masters grew by {} and {} KiB",
            watch.elapsed().as_secs_f64(),
            grown[0] >> 10,
            grown[1] >> 10
        );
        // Over a connection more is on its way at once.
        let limit = if demo.uri.starts_with("sqlite:") { 8 << 20 } else { 32 << 20 };
        assert!(grown.iter().all(|grown| *grown <= limit), "the masters grew by {grown:?} bytes");
    }
}
