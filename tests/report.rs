//! `workers --report`: what a continuous integration server reads, read by another parser than ours.

#[path = "support/mod.rs"]
mod support;

use std::{path::Path, process::Command};

use serde_json::{Value, json};
use support::{Demo, Place};

const READ: &str = "
import json, sys, xml.etree.ElementTree as tree
root = tree.parse(sys.argv[1]).getroot()
assert root.tag == 'testsuites', root.tag
[suite] = root
print(json.dumps({
    'suite': suite.attrib,
    'properties': {one.attrib['name']: one.attrib['value'] for one in suite.iter('property')},
    'cases': [{**case.attrib, 'failure': [{**one.attrib, 'text': one.text} for one in case]} for case in suite.iter('testcase')],
}))
";

fn read(path: &Path) -> Value {
    let output = Command::new("python3").args(["-c", READ]).arg(path).output().expect("python3 starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

fn on_each(session: impl Fn(&Demo) + Sync) {
    let session = &session;
    std::thread::scope(|scope| {
        for place in Place::all() {
            scope.spawn(move || session(&Demo::new(&place)));
        }
    });
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
        assert_eq!((&case(&ids[0])["failure"], &case(&ids[4])["failure"]), (&json!([]), &json!([])));
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

#[test]
fn a_run_that_ends_badly_is_reported_too() {
    let demo = Demo::new(&Place::sqlite());
    demo.submit("foo", "{}");
    demo.submit("foo", r#"{"then":"hang"}"#);
    demo.write("report.xml", "of an earlier run");
    let options =
        ["--halt-when-empty", "--halt-timeout", "1s", "--report", "report.xml", "--set", "supervisor={grace: 100ms}"];
    let run = demo.workers(r#"{"foo": "demo_sleep_worker"}"#, &options);
    assert_eq!(run.code, 81, "{run:?}");
    let report = read(&demo.folder.path().join("report.xml"));
    assert_eq!((&report["suite"]["tests"], &report["properties"]["exit_code"]), (&json!("1"), &json!("81")));
    assert!(demo.files().iter().all(|name| !name.starts_with('.')), "{:?}", demo.files());
    // Without any queue there is nothing to do, and that is what is reported.
    let run = demo.workers("{}", &["--report", "report.xml"]);
    assert_eq!((run.code, &read(&demo.folder.path().join("report.xml"))["cases"]), (0, &json!([])));
}

#[test]
fn a_report_that_cannot_be_written_stops_the_run_before_it_begins() {
    let demo = Demo::new(&Place::sqlite());
    for path in ["absent/report.xml", "/proc/report.xml", "."] {
        let run = demo.workers(r#"{"foo": "demo_sleep_worker"}"#, &["--halt-when-empty", "--report", path]);
        assert_eq!((run.code, run.stdout.as_str()), (64, ""), "{run:?}");
        assert!(run.stderr.starts_with("error: --report: "), "{run:?}");
    }
    assert!(demo.files().is_empty(), "{:?}", demo.files());
}
