//! `workers --report`: what a continuous integration server reads, read by another parser than ours.

use crate::support::{Demo, Place, junit::read, on_each};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

fn report(demo: &Demo) -> Value {
    read(&demo.folder.path().join("report.xml"))
}

/// The case for the run itself: whether it is one of failure, and what it says.
fn of_run(report: &Value) -> Option<(bool, String)> {
    let cases = report["cases"].as_array().unwrap();
    let case = cases.iter().find(|case| case["classname"] == "asynctask" && case["name"] == "run")?;
    let is_error = case.get("error").is_some();
    let said = if is_error { &case["error"][0] } else { &case["skipped"][0] };
    Some((is_error, format!("{} {}", said["message"].as_str().unwrap(), said["text"].as_str().unwrap_or_default())))
}

#[test]
fn each_task_that_came_to_an_end_is_a_case() {
    on_each(|demo| {
        let mut ids = Vec::new();
        for payload in [r#"{"sleep_ms":30}"#, r#"{"then":"dead"}"#, r#"{"then":"error"}"#, r#"{"then":"abort"}"#, "{}"]
        {
            ids.push(demo.submit("foo", payload));
        }
        let expired = demo.run(&["submit", "foo", "1", "--expires", "1ms", "--id", "a<&\">"]);
        assert_eq!(expired.code, 0, "{expired:?}");
        let workers = r#"{"foo": {worker: demo_sleep_worker, retry: {max_attempts: 2, first: 100ms}}}"#;
        let run = demo.workers(workers, &["--halt-when-empty", "--report", "report.xml", "--fail-on-dead-letter"]);
        assert_eq!(run.code, 80, "{run:?}");
        let report = read(&demo.folder.path().join("report.xml"));
        let suite = &report["suite"];
        assert_eq!((&suite["tests"], &suite["failures"], &suite["errors"]), (&json!("6"), &json!("4"), &json!("0")));
        assert_eq!(report["properties"], json!({"retried_attempts": "2", "exit_code": "80", "left_out": "0"}));
        let cases = report["cases"].as_array().unwrap();
        let case =
            |id: &str| cases.iter().find(|case| case["name"] == id).unwrap_or_else(|| panic!("no {id}: {report}"));
        assert!(cases.iter().all(|case| case["classname"] == "foo"));
        assert!(case(&ids[0]).get("failure").is_none() && case(&ids[4]).get("failure").is_none());
        // The dead letters say why the exit code is 80.
        assert_eq!(of_run(&report), None);
        let time: f64 = case(&ids[0])["time"].as_str().unwrap().parse().unwrap();
        assert!((0.03..20.0).contains(&time), "{time}");
        for (id, reason, message) in [
            (&ids[1], "failed", "asked to"),
            (&ids[2], "error", "Oops!"),
            (&ids[3], "crash", "the worker died: killed by SIGABRT"),
        ] {
            let failure = &case(id)["failure"][0];
            assert_eq!(
                (&failure["type"], failure["message"].as_str().unwrap().starts_with(message)),
                (&json!(reason), true),
                "{failure}"
            );
        }
        assert_eq!(case("a<&\">")["failure"][0]["type"], "expired");
    });
}

/// The report of a run that ended with `code` has one error, the run's own, which holds `text`.
fn fails(demo: &Demo, run: &crate::support::demo::Ran, code: i32, text: &str) {
    assert_eq!(run.code, code, "{run:?}");
    let report = report(demo);
    let (is_error, said) = of_run(&report).unwrap_or_else(|| panic!("no case for the run: {report}"));
    assert!(is_error && said.contains(text), "{said}");
    assert_eq!(
        (&report["suite"]["errors"], &report["properties"]["exit_code"]),
        (&json!("1"), &json!(code.to_string()))
    );
    assert!(demo.files().iter().all(|name| !name.starts_with('.')), "{:?}", demo.files());
}

#[test]
fn a_run_that_passes_its_time_limit_says_what_is_left() {
    on_each(|demo| {
        demo.submit("foo", "{}");
        demo.submit("foo", r#"{"then":"hang"}"#);
        for _ in 0..3 {
            demo.submit("foo", "{}");
        }
        assert_eq!(demo.run(&["submit", "bar", "{}", "--delay", "1h"]).code, 0);
        demo.write("report.xml", "of an earlier run");
        let options = [
            "--halt-when-empty",
            "--halt-timeout",
            "1s",
            "--report",
            "report.xml",
            "--set",
            "supervisor={grace: 100ms}",
        ];
        let workers = r#"{"foo": "demo_sleep_worker", "bar": "demo_sleep_worker"}"#;
        let run = demo.workers(workers, &options);
        fails(demo, &run, 81, "the time limit of the run passed");
        let (_, said) = of_run(&report(demo)).expect("it was there");
        // The one that hung counts only where what is given back is seen at once.
        assert!(
            ["3", "4"].iter().any(|ready| said.contains(&format!("queue foo: {ready} ready, 0 delayed"))),
            "{said}"
        );
        assert!(said.contains("queue bar: 0 ready, 1 delayed"), "{said}");
        assert!(run.stderr.contains("queue bar: 0 ready, 1 delayed"), "{run:?}");
        assert!(run.stdout.contains(" processed, "), "{run:?}");
    });
}

#[test]
fn whatever_ends_a_run_is_told() {
    let demo = Demo::new(&Place::sqlite());
    let with_report = |workers: &str, more: &[&str]| {
        let options = [&["--halt-when-empty", "--report", "report.xml"], more].concat();
        demo.workers(workers, &options)
    };
    let sleep = r#"{"foo": "demo_sleep_worker"}"#;
    fails(&demo, &with_report(r#"{"foo": "demo_slep_worker"}"#, &[]), 78, "demo_slep_worker");
    fails(&demo, &with_report(sleep, &["--queue", "fo"]), 64, "\"fo\" is not a configured queue");
    fails(&demo, &with_report(sleep, &["--halt-timeout", "soon"]), 64, "\"soon\" is not a duration");
    let broken = r#"{"foo": "broken"}"#;
    fails(&demo, &with_report(broken, &["--set", "kinds={broken: {command: [/bin/false]}}"]), 1, "foo");
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = format!("metrics.listen={}", port.local_addr().expect("its number"));
    fails(&demo, &with_report(sleep, &["--set", &taken]), 69, "cannot listen");
    fails(&demo, &with_report(sleep, &["--set", &taken]), 69, "what is left in the queues is unknown");
    let damaged = Demo::new(&Place::sqlite());
    damaged.write("tasks.db", &"no database".repeat(100));
    let run = damaged.workers(sleep, &["--halt-when-empty", "--report", "report.xml"]);
    fails(&damaged, &run, 69, "tasks.db: it is not a database");
    let said = report(&damaged)["cases"][0]["error"][0]["text"].to_string();
    assert!(said.contains("it is not a database") && said.contains("is left in the queues is unknown"), "{said}");
    // A good run after it leaves nothing of all that.
    assert_eq!(with_report(sleep, &[]).code, 0);
    assert_eq!((of_run(&report(&demo)), &report(&demo)["suite"]["tests"]), (None, &json!("0")));
}

#[test]
fn a_run_that_is_stopped_or_killed_reads_as_what_it_is() {
    let sleep = r#"{"foo": "demo_sleep_worker"}"#;
    let options = ["--halt-when-empty", "--report", "report.xml", "--set", "supervisor={grace: 20s}"];
    let started = |demo: &Demo, payload: &str| {
        demo.submit("foo", payload);
        demo.submit("foo", "{}");
        let mut master = demo.start(sleep, &options);
        master.expect("Got payload");
        master
    };
    for (signals, code) in [
        (&[Signal::SIGTERM][..], 0),
        (&[Signal::SIGINT], 0),
        (&[Signal::SIGINT, Signal::SIGINT], 82),
        (&[Signal::SIGKILL], -9),
    ] {
        let demo = Demo::new(&Place::sqlite());
        let ms = if code == 0 { 300 } else { 60_000 };
        let mut master = started(&demo, &format!(r#"{{"sleep_ms":{ms}}}"#));
        for (number, signal) in signals.iter().enumerate() {
            if number > 0 {
                master.expect("Termination received");
            }
            master.signal(*signal);
        }
        let (ended, log) = master.wait();
        assert_eq!(ended, code, "{log}");
        demo.nobody_is_left();
        let report = report(&demo);
        let (is_error, said) = of_run(&report).expect("a case for the run");
        match code {
            0 => assert!(!is_error && said.contains("stopped before"), "{said}"),
            82 => assert!(is_error && said.contains("interrupted") && said.contains("foo: 2 ready"), "{said}"),
            _ => assert!(is_error && said.contains("has not ended, or was killed"), "{said}"),
        }
        let summary = if code == 0 { "1 processed, 0 failed" } else { "0 processed, 0 failed" };
        assert!(code < 0 || log.contains(summary), "{log}");
        let exit_code = report["properties"].get("exit_code").cloned();
        assert_eq!(exit_code, (code >= 0).then(|| json!(code.to_string())), "{report}");
    }
}

#[test]
fn a_run_without_a_configuration_is_a_mistake_and_one_with_none_to_work_is_not() {
    let demo = Demo::new(&Place::sqlite());
    let run =
        |options: &[&str]| demo.run(&[&["workers", "--halt-when-empty", "--report", "report.xml"], options].concat());
    let absent = run(&[]);
    fails(&demo, &absent, 78, "no workers are configured");
    assert!(absent.stderr.contains("asynctask.yaml") && absent.stderr.contains("\nhint: "), "{absent:?}");
    // A service is no different.
    assert_eq!(demo.run(&["workers"]).code, 78);
    demo.write("other.yaml", "supervisor: { grace: 1s }\n");
    fails(&demo, &run(&["-c", "other.yaml"]), 78, "no workers are configured in ");
    demo.write("asynctask.yaml", "workers:\n");
    fails(&demo, &run(&[]), 78, "no workers are configured in ");
    for workers in ["workers: {}\n", "workers: { foo: null }\n"] {
        demo.write("asynctask.yaml", workers);
        let ended = run(&[]);
        assert_eq!((ended.code, of_run(&report(&demo)), &report(&demo)["cases"]), (0, None, &json!([])), "{ended:?}");
        assert!(ended.stdout.contains("No workers configured; terminating."), "{ended:?}");
        fails(&demo, &run(&["--queue", "foo"]), 64, "\"foo\" is not a configured queue");
    }
}

#[test]
fn tasks_of_one_id_are_told_apart() {
    on_each(|demo| {
        for id in ["same", "same", "same (2)"] {
            let ran = demo.run(&["submit", "foo", "{}", "--id", id]);
            assert_eq!(ran.code, 0, "{ran:?}");
        }
        demo.run(&["submit", "foo", r#"{"then":"dead"}"#, "--id", "same"]);
        let workers = r#"{"foo": "demo_sleep_worker"}"#;
        let run = demo.workers(workers, &["--halt-when-empty", "--report", "report.xml"]);
        assert_eq!(run.code, 0, "{run:?}");
        // That no two are equal is what `read` holds.
        let report = report(demo);
        let mut names: Vec<&str> =
            report["cases"].as_array().unwrap().iter().map(|case| case["name"].as_str().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, ["same", "same (2)", "same (2) (2)", "same (3)"]);
    });
}

#[test]
fn a_report_that_cannot_be_written_stops_the_run_before_it_begins() {
    let demo = Demo::new(&Place::sqlite());
    for path in ["absent/report.xml", "/proc/report.xml", ".", "/dev/null"] {
        let run = demo.workers(r#"{"foo": "demo_sleep_worker"}"#, &["--halt-when-empty", "--report", path]);
        assert_eq!((run.code, run.stdout.as_str()), (64, ""), "{run:?}");
        assert!(run.stderr.starts_with("error: --report: "), "{run:?}");
    }
    assert!(demo.files().is_empty(), "{:?}", demo.files());
}
