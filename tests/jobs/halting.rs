//! Runs that end when nothing is left: what counts as left, their exit codes, and their reports.

use serde_json::{Value, json};

use super::{
    steps::{configure, master, on_each, ordered, places, refused, shown, started, states, touch},
    support::{Demo, foreign::Foreign, junit, log::until},
};

const TWO: &str = "two: { key: '{payload.k}', steps: [ { name: first, queue: a }, { name: second, queue: b } ] }";

#[test]
fn no_run_ends_with_a_step_that_has_not_begun_however_the_last_end_and_the_survey_meet() {
    let runs = std::env::var("ASYNCTASK_JOBS_HALTS").ok().filter(|text| !text.is_empty());
    let runs: u32 = runs.map_or(9, |text| text.parse().expect("ASYNCTASK_JOBS_HALTS is a number"));
    for place in places() {
        let demo = &Demo::new(&place);
        let settings =
            "workers: { a: demo_sleep_worker, b: demo_sleep_worker }\ncontrol: { socket: none }\npipelines:\n  ";
        demo.write("asynctask.yaml", &format!("{settings}{TWO}\n"));
        for run in 0..runs {
            // Either of both coordinates, and neither can do all of it; or one does all.
            let id = started(demo, &["two", &format!(r#"{{"k": {run}}}"#)]);
            let each: &[&[&str]] = if run % 3 == 0 { &[&[]] } else { &[&["--queue", "a"], &["--queue", "b"]] };
            let masters: Vec<_> =
                each.iter().map(|queues| master(demo, &[&["--halt-when-empty"], *queues].concat())).collect();
            for master in masters {
                let (code, log) = master.wait();
                assert_eq!(code, 0, "run {run}: {log}");
            }
            assert_eq!(states(&shown(demo, &id)), "done first:done second:done", "run {run}");
        }
        assert_eq!(demo.done().len(), 2 * runs as usize);
    }
}

#[test]
fn the_exit_code_of_a_run_says_what_became_of_its_jobs() {
    on_each(|demo| {
        configure(
            demo,
            &format!("{TWO}\nsome: {{ steps: [ {{ name: s, queue: a, each: b, allow_failed: 1 }} ] }}"),
            &["a", "b"],
            "",
        );
        let run = |options: &[&str]| demo.run(&[&["workers", "--halt-when-empty"], options].concat());
        let told = ["--fail-on-dead-letter"];
        started(demo, &["two", r#"{"k": "good"}"#]);
        started(demo, &["some", r#"{"s": {"items": 2, "bad": [1]}}"#]);
        let good = run(&told);
        assert_eq!(good.code, 0, "{good:?}");

        let bad = started(demo, &["two", r#"{"k": "bad", "second": {"fail": "no"}}"#]);
        let untold = run(&[]);
        assert_eq!((untold.code, shown(demo, &bad)["state"].clone()), (0, json!("failed")), "{untold:?}");
        // A job that failed before is nothing of this run.
        assert_eq!(run(&told).code, 0);
        assert_eq!(demo.run(&["failed", "retry", "b", "--all"]).code, 0);
        let again = run(&told);
        assert_eq!(again.code, 80, "{again:?}");
        touch(demo, "good");
        assert_eq!(demo.run(&["failed", "retry", "b", "--all"]).code, 0);
        let healed = run(&told);
        assert_eq!((healed.code, shown(demo, &bad)["state"].clone()), (0, json!("done")), "{healed:?}");

        started(demo, &["two", r#"{"k": "slow", "first": {"wait": "never"}}"#]);
        assert_eq!(demo.run(&["jobs", "list", "--stalled"]).stdout, "no jobs\n");
        let slow = run(&["--halt-timeout", "2s", "--set", "supervisor.grace=100ms"]);
        refused(&slow, 81, &["the time limit of the run passed"], None);
        ordered(demo, &["cancel", "two/slow"]);

        // What it waits for is nowhere.
        let lost = started(demo, &["two", r#"{"k": "lost"}"#]);
        forget_tasks(demo);
        let stalled = demo.run(&["jobs", "list", "--stalled", "--json"]).stdout;
        // A broker does not tell which tasks it has: there a job is stalled after an hour of silence.
        let is_seen = !demo.uri.starts_with("amqp");
        assert!(stalled.lines().count() == usize::from(is_seen) && (stalled.contains(&lost) == is_seen), "{stalled}");
        refused(&run(&[]), 1, &[&format!("job {lost} waits for step first: 1 task is in no queue")], None);
        ordered(demo, &["cancel", &lost]);
        // A frozen one is not waited for, and that is said.
        ordered(demo, &["freeze", "--pipeline", "two"]);
        let frozen = started(demo, &["two", r#"{"k": "frozen"}"#]);
        let run = run(&told);
        assert_eq!((run.code, shown(demo, &frozen)["state"].clone()), (0, json!("planned")), "{run:?}");
    });
}

/// Tasks vanish without a word, as from a broker whose disk is lost.
fn forget_tasks(demo: &Demo) {
    if demo.uri.starts_with("postgres") {
        let server = crate::support::postgres::shared().expect("it was there");
        return drop(
            server.sql(crate::support::postgres::database(&demo.uri), "DELETE FROM asynctask.task WHERE state <> 2"),
        );
    }
    let Some(path) = demo.uri.strip_prefix("sqlite:") else {
        return assert!(Foreign::connect(&demo.uri).purge("a") > 0);
    };
    let file = rusqlite::Connection::open(path).expect("the file of tasks");
    assert!(file.execute("DELETE FROM task WHERE state <> 2", []).expect("a table") > 0);
}

#[test]
fn a_run_that_waits_for_others_says_for_whom() {
    on_each(|demo| {
        configure(demo, TWO, &["a"], "  b: null");
        let id = started(demo, &["two", r#"{"k": "x"}"#]);
        let mut waits = master(demo, &["--halt-when-empty"]);
        waits.expect(&format!("Job {id} of two/x waits for step second, whose queue b this run does not work"));
        let other = demo.run(&[
            "workers",
            "--halt-when-empty",
            "--set",
            "workers={b: steps}",
            "--set",
            "pipelines={two: null}",
        ]);
        assert_eq!(other.code, 0, "{other:?}");
        let (code, log) = waits.wait();
        assert_eq!((code, log.matches("waits for step").count()), (0, 1), "{log}");
        assert_eq!(shown(demo, &id)["state"], "done");
    });
}

#[test]
fn a_run_that_does_not_coordinate_says_that_its_job_failed() {
    on_each(|demo| {
        configure(demo, TWO, &["a", "b"], "");
        let mut coordinator = master(demo, &["--queue", "b"]);
        coordinator.expect("Coordinates the jobs");
        started(demo, &["two", r#"{"k": "bad", "first": {"fail": "no"}}"#]);
        let run = demo.run(&[
            "workers",
            "--queue",
            "a",
            "--halt-when-empty",
            "--fail-on-dead-letter",
            "--report",
            "report.xml",
        ]);
        assert_eq!(run.code, 80, "{run:?}");
        let report = report(demo);
        assert_eq!(report["jobs"][0]["properties"]["state"], "failed", "{report}");
        assert_eq!(report["suite"]["errors"], "0", "the failed step says it: {report}");
        until("it goes on with others", || coordinator.workers().len() == 1);
    });
}

fn report(demo: &Demo) -> Value {
    junit::read(&demo.folder.path().join("report.xml"))
}

/// The cases of a suite: name, and what it says beside being good.
fn cases(suite: &Value) -> Vec<(String, String)> {
    let told = |case: &Value| {
        ["failure", "error", "skipped"].iter().find_map(|kind| {
            let said = case.get(kind)?.get(0)?;
            Some(format!("{kind} {}", said["message"].as_str().unwrap_or_default()))
        })
    };
    let cases = suite["cases"].as_array().expect("a list").iter();
    let mut cases: Vec<_> =
        cases.map(|case| (case["name"].as_str().expect("a name").to_owned(), told(case).unwrap_or_default())).collect();
    // Items end in any order.
    let steps = cases.iter().position(|(name, _)| name.contains('[')).unwrap_or(cases.len());
    cases[steps..].sort();
    cases
}

#[test]
fn each_job_is_a_suite_of_the_report_with_its_steps_and_items() {
    on_each(|demo| {
        let pipelines = "
build:
  key: '{payload.k}'
  wipe_failed_after: 0s
  steps:
    - { name: fetch, queue: a, wipe: wipes }
    - { name: test, queue: a, each: b, allow_failed: 1 }
    - { name: join, queue: b }
    - { name: publish, queue: a }
slow: { timeout: 1s, steps: [ { name: wait, queue: a }, { name: rest, queue: a } ] }
";
        configure(demo, pipelines, &["a", "b", "wipes"], "");
        let steps = r#""test": {"items": 3, "bad": [1]}"#;
        let good = started(demo, &["build", &format!(r#"{{"k": "good", {steps}}}"#)]);
        let bad = started(
            demo,
            &["build", &format!(r#"{{"k": "b<a>d", {steps}, "join": {{"kill": "SIGSEGV", "say": "last words"}}}}"#)],
        );
        let slow = started(demo, &["slow", r#"{"wait": {"wait": "never"}}"#]);
        demo.submit("wipes", "{}");
        let run = demo.run(&["workers", "--halt-when-empty", "--fail-on-dead-letter", "--report", "report.xml"]);
        assert_eq!(run.code, 80, "{run:?}");
        let report = report(demo);
        let of = |id: &str| {
            let suites = report["jobs"].as_array().expect("a list");
            suites.iter().find(|suite| suite["properties"]["job"] == id).unwrap_or_else(|| panic!("no {id}: {report}"))
        };
        let case = |name: &str, told: &str| (name.to_owned(), told.to_owned());
        let allowed = "skipped its step is done without it: failed: item 1 is bad";
        assert_eq!(of(&good)["suite"]["name"], json!(format!("build/good {good}")));
        assert_eq!(
            cases(of(&good)),
            [
                case("fetch", ""),
                case("test", ""),
                case("join", ""),
                case("publish", ""),
                case("test[0]", ""),
                case("test[1]", allowed),
                case("test[2]", ""),
                case("wipe of fetch", "")
            ]
        );
        let properties = &of(&good)["properties"];
        assert_eq!(
            (&properties["pipeline"], &properties["key"], &properties["state"]),
            (&json!("build"), &json!("good"), &json!("done"))
        );
        let seconds: f64 = properties["seconds"].as_str().expect("a text").parse().expect("a number");
        assert!((0.01..60.0).contains(&seconds), "{properties}");

        let died = "failure the worker died: killed by SIGSEGV";
        assert_eq!(
            cases(of(&bad))[..4],
            [case("fetch", ""), case("test", ""), case("join", died), case("publish", "skipped never begun")]
        );
        let death = &of(&bad)["cases"][2]["failure"][0];
        let text = death["text"].as_str().expect("a text");
        assert!(death["type"] == "crash" && text.contains("exit: ") && text.contains("last words"), "{death}");
        assert_eq!(cases(of(&slow)), [case("wait", "failure timeout"), case("rest", "skipped never begun")]);
        // The others are cases of their queues, and the run itself is none: the steps say what failed.
        assert_eq!((&report["cases"][0]["classname"], &report["suite"]["tests"]), (&json!("wipes"), &json!("1")));
    });
}

#[test]
fn a_report_tells_of_jobs_that_have_not_ended() {
    on_each(|demo| {
        configure(demo, TWO, &["a", "b"], "");
        started(demo, &["two", r#"{"k": "slow", "second": {"wait": "never"}}"#]);
        let options = ["--halt-timeout", "3s", "--set", "supervisor.grace=100ms", "--report", "report.xml"];
        let run = demo.run(&[&["workers", "--halt-when-empty"], &options[..]].concat());
        assert_eq!(run.code, 81, "{run:?}");
        let report = report(demo);
        let [first, second] = &cases(&report["jobs"][0])[..] else { panic!("{report}") };
        assert_eq!(first, &("first".to_owned(), String::new()));
        assert!(second.0 == "second" && second.1.ends_with("0 of 1 task ended"), "{second:?}");
        assert_eq!(report["suite"]["errors"], "1", "the run itself");
    });
}
