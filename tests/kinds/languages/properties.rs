//! What messages say of themselves, as workers in other languages get it that ask for it.

use lapin::BasicProperties;
use serde_json::{Value, json};

use super::{has, repository};
use crate::support::{Demo, Place, foreign::Foreign};

const PYTHON: &str = r#"
import json, sys
from asynctask_worker import run, worker

@worker("curious", properties=True)
def curious(payload, task):
    print("TOLD", json.dumps([payload, task.properties]))

@worker("plain")
def plain(payload, task):
    print("TOLD", json.dumps([payload, task.properties]))

run()
"#;

const NODE: &str = r#"
const { serve } = await import(process.env.WORKER_MODULE);
const tell = (payload, task) => console.log("TOLD", JSON.stringify([payload, task.properties ?? {}]));
serve("node", tell, { properties: process.argv[2] === "curious" });
"#;

/// Only the frames. What it wants beyond properties is of a later master.
const RAW: &str = r#"
import json, os, socket, sys

master = socket.socket(fileno=int(os.environ["ASYNCTASK_FD"]))
wants = b"" if sys.argv[1] == "plain" else b',"wants":["later",{"x":1},"properties"]'
master.sendall(b'{"ready":{"protocol":1' + wants + b'}}\n')
for line in master.makefile("rb"):
    frame = json.loads(line)
    if "task" in frame:
        task = frame["task"]
        assert ("properties" in task) == (sys.argv[1] == "curious"), line
        print("TOLD", json.dumps([task["payload"], task.get("properties", {})]), flush=True)
        master.sendall(json.dumps({"done": {"id": task["id"]}}).encode() + b"\n")
    elif "ping" in frame:
        master.sendall(json.dumps({"pong": frame["ping"]}).encode() + b"\n")
    elif "halt" in frame:
        master.sendall(b'{"bye":{}}\n')
        break
"#;

fn demo(place: &Place, mood: &str) -> (Demo, Vec<&'static str>) {
    let demo = Demo::new(place);
    demo.write("python.py", PYTHON);
    demo.write("node.mjs", NODE);
    demo.write("raw.py", RAW);
    let (modules, module) = (repository("examples/python"), repository("examples/node/worker.mjs"));
    let yaml = format!(
        "workers: {{ python: python, node: node, raw: raw }}\nkinds:\n  \
         python: {{ command: [python3, python.py, {mood}], env: {{ PYTHONPATH: \"{}\" }} }}\n  \
         node: {{ command: [node, node.mjs, {mood}], env: {{ WORKER_MODULE: \"{}\" }} }}\n  \
         raw: {{ command: [python3, raw.py, {mood}] }}\n",
        modules.display(),
        module.display()
    );
    demo.write("asynctask.yaml", &yaml);
    (demo, if has("node") { vec!["python", "node", "raw"] } else { vec!["python", "raw"] })
}

/// What a queue's worker was told, and the log.
fn told(demo: &Demo, queue: &str) -> (Vec<Value>, String) {
    let run = demo.run(&["workers", "--halt-when-empty", "--queue", queue]);
    assert_eq!(run.code, 0, "{queue}: {run:?}");
    let lines = run.stdout.lines().filter_map(|line| line.strip_prefix("TOLD "));
    (lines.map(|line| serde_json::from_str(line).expect("JSON")).collect(), run.stdout)
}

#[test]
fn who_asks_gets_properties_and_who_does_not_gets_none() {
    let Some(place) = Place::amqp() else { return };
    let all = json!({ "content_type": "application/json", "content_encoding": "utf-8", "correlation_id": "42",
        "reply_to": "answers", "type": "resize", "priority": 0, "app_id": "shop", "timestamp": "2026-01-02T03:04:05Z" });
    for (mood, expected) in [("curious", all), ("plain", json!({}))] {
        let (demo, queues) = demo(&place, mood);
        for queue in queues {
            // The queue is there once something was submitted.
            demo.submit(queue, "1");
            let properties = BasicProperties::default()
                .with_content_type("application/json".into())
                .with_content_encoding("utf-8".into())
                .with_correlation_id("42".into())
                .with_reply_to("answers".into())
                .with_type("resize".into())
                .with_priority(0)
                .with_app_id("shop".into())
                .with_timestamp(1_767_323_045);
            Foreign::connect(&demo.uri).publish(queue, properties, b"2");
            let (told, log) = told(&demo, queue);
            assert_eq!(told, [json!([1, {}]), json!([2, expected])], "{queue}");
            let unknown = log.matches(r#"It wants what this master does not know: "later", {"x":1}"#).count();
            assert_eq!(unknown, usize::from(queue == "raw" && mood == "curious"), "{log}");
        }
    }
}

#[test]
fn a_file_has_no_properties_to_tell() {
    let (demo, queues) = demo(&Place::sqlite(), "curious");
    for queue in queues {
        demo.submit(queue, "1");
        assert_eq!(told(&demo, queue).0, [json!([1, {}])], "{queue}");
    }
}

#[test]
fn check_worker_shows_what_is_wanted_and_gives_it() {
    let (demo, _) = demo(&Place::sqlite(), "curious");
    let run = demo.run(&["check-worker", "--", "python3", "raw.py", "curious"]);
    assert_eq!(run.code, 0, "{run:?}");
    let wants = r#"0 ahead, wants properties, wants "later", {"x":1}, which this master does not know and ignores"#;
    assert!(run.stdout.lines().next().is_some_and(|line| line.ends_with(wants)), "{}", run.stdout);
    assert!(run.stderr.contains(r#""correlation_id": "check""#), "{}", run.stderr);
    let run = demo.run(&["check-worker", "--", "python3", "raw.py", "plain"]);
    assert!(run.code == 0 && !run.stdout.contains("wants"), "{run:?}");
}
