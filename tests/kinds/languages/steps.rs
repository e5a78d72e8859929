//! Steps of a pipeline in other languages: a shell script that splits, one that tries again with a memo, a worker that knows nothing
//! of jobs, and one in Python that reads what the others gave.

use serde_json::json;

use super::repository;
use crate::support::{Demo, Place};

const SPLIT: &str = r#"
set -eu
for n in 1 2 3; do echo "{\"item\":{\"n\":$n}}"; done >"$ASYNCTASK_SUBMIT"
echo '{"files": 3}' >"$ASYNCTASK_RESULT"
"#;

/// It is put off with a memo, which uses no attempt; the first attempt leaves another one, the second finds it.
const ITEM: &str = r#"
set -eu
if [ ! -s "$ASYNCTASK_MEMO" ]; then
    echo 0 >"$ASYNCTASK_MEMO"
    echo 100ms >"$ASYNCTASK_SNOOZE"
    exit 75
fi
if [ "$(cat "$ASYNCTASK_MEMO")" = 0 ]; then
    [ "$ASYNCTASK_ATTEMPT" = 1 ]
    echo "\"item $ASYNCTASK_INDEX\"" >"$ASYNCTASK_MEMO"
    exit 75
fi
[ -z "$(cat "$ASYNCTASK_INPUTS")" ]
echo "$(cat) of $ASYNCTASK_PIPELINE/$ASYNCTASK_JOB_KEY, $ASYNCTASK_STEP: $(cat "$ASYNCTASK_MEMO")" >>items
"#;

const LAST: &str = r#"
from asynctask_worker import run, worker


@worker("last")
def last(payload, task):
    job = task.job
    print("last of", job.pipeline, job.key, job.step, job.index, job.inputs, payload, flush=True)
    return "x" * payload["length"]


run()
"#;

fn demo() -> Demo {
    let demo = Demo::new(&Place::sqlite());
    let page = std::fs::read_to_string(repository("examples/README.md")).expect("the page");
    let (_, code) = page.split_once("```python\n").expect("a worker in Python");
    demo.write("small.py", code.split_once("```").expect("its end").0);
    demo.write("split.sh", SPLIT);
    demo.write("item.sh", ITEM);
    demo.write("last.py", LAST);
    let module = repository("examples/python");
    demo.write(
        "asynctask.yaml",
        &format!(
            "pipelines:
  tour:
    key: '{{payload.name}}'
    steps:
      - {{ name: split, queue: split, each: each }}
      - {{ name: old, queue: old }}
      - {{ name: last, queue: last, needs: [split, old] }}
workers:
  split: splitter
  each: {{ worker: item, retry: {{ max_attempts: 2, first: 100ms }} }}
  old: small
  last: last
kinds:
  splitter: {{ command: [sh, split.sh], mode: once }}
  item: {{ command: [sh, item.sh], mode: once }}
  small: {{ command: [python3, small.py] }}
  last: {{ command: [python3, last.py], env: {{ PYTHONPATH: '{}' }} }}
",
            module.display()
        ),
    );
    demo
}

#[test]
fn each_language_can_be_a_step() {
    let demo = demo();
    let started = demo.run(&["jobs", "start", "tour", r#"{"name":"you","length":7}"#]);
    assert_eq!(started.code, 0, "{started:?}");
    let run = demo.run(&["workers", "--halt-when-empty"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let job = demo.json(&["jobs", "show", "tour/you", "--json"]);
    assert_eq!(job["state"], "done", "{job}");
    assert_eq!(job["steps"]["split"]["tasks"], json!({ "done": 4, "failed": 0, "known": 4 }));
    assert_eq!(job["steps"]["split"]["result"], json!({ "files": 3 }));
    assert_eq!(job["steps"]["old"]["result"], json!(null));
    assert_eq!(job["steps"]["last"]["result"], "xxxxxxx");
    let items = std::fs::read_to_string(demo.folder.path().join("items")).expect("items were done");
    let mut items: Vec<&str> = items.lines().collect();
    items.sort_unstable();
    let item = |n: u32| format!("{{\"n\":{n}}} of tour/you, split: \"item {}\"", n - 1);
    assert_eq!(items, [item(1), item(2), item(3)]);
    assert!(run.stdout.contains("hello you\n"), "{}", run.stdout);
    let inputs = "{'split': {'state': 'done', 'result': {'files': 3}, 'memo': None}, \
                  'old': {'state': 'done', 'result': None, 'memo': None}}";
    let reversed = "{'old': {'state': 'done', 'result': None, 'memo': None}, \
                    'split': {'state': 'done', 'result': {'files': 3}, 'memo': None}}";
    let said =
        |inputs: &str| run.stdout.contains(&format!("last of tour you last 0 {inputs} {{'name': 'you', 'length': 7}}"));
    assert!(said(inputs) || said(reversed), "{}", run.stdout);
}

#[test]
fn a_result_that_is_too_long_is_an_error_of_its_task() {
    let demo = demo();
    let started = demo.run(&["jobs", "start", "tour", r#"{"name":"me","length":40000}"#]);
    assert_eq!(started.code, 0, "{started:?}");
    let run = demo.run(&["workers", "--halt-when-empty"]);
    assert!(!run.stdout.contains("died"), "{}{}", run.stdout, run.stderr);
    let job = demo.json(&["jobs", "show", "tour/me", "--json"]);
    assert_eq!(job["state"], "failed", "{job}");
    let error = "its result has 40002 bytes, more than 32768: put it into a file and give its name";
    assert_eq!((&job["steps"]["last"]["error"], &job["steps"]["last"]["reason"]), (&json!(error), &json!("error")));
    assert_eq!(demo.dead_letters("last")[0]["error"], error);
}
