//! What a task leaves for when it comes again: the same on each transport, through snoozes, errors, dead letters and deaths.

use super::repository;
use crate::support::{Demo, Place};

const WORKER: &str = r#"
import os
from asynctask_worker import Dead, Snooze, run, worker


@worker("counts")
def counts(payload, task):
    print("attempt", task.attempt, "memo", task.memo, flush=True)
    n = task.memo["n"] if task.memo else 0
    if n < 2:
        return Snooze(0.1, memo={"n": n + 1})
    if n == 2:
        task.memo = {"n": 3}
        raise ValueError("again")
    if n == 3:
        return Dead("enough", memo={"n": 4})
    if task.attempt == 1:
        os._exit(1)


run()
"#;

#[test]
fn a_memo_comes_back_however_the_task_ended() {
    for place in Place::all() {
        let demo = Demo::new(&place);
        demo.write("counts.py", WORKER);
        let module = repository("examples/python");
        demo.write(
            "asynctask.yaml",
            &format!(
                "workers: {{ foo: {{ worker: counts, retry: {{ max_attempts: 2, first: 100ms }} }} }}\nkinds: {{ counts: \
                 {{ command: [python3, counts.py], env: {{ PYTHONPATH: '{}' }} }} }}\n",
                module.display()
            ),
        );
        demo.submit("foo", "{}");
        let seen = |options: &[&str]| {
            let run = demo.run(options);
            assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
            let lines = run.stdout.lines().filter(|line| line.starts_with("attempt"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            seen(&["workers", "--halt-when-empty"]),
            ["attempt 1 memo None", "attempt 1 memo {'n': 1}", "attempt 1 memo {'n': 2}", "attempt 2 memo {'n': 3}"],
            "{place:?}"
        );
        assert_eq!(demo.dead_letters("foo")[0]["error"], "enough");
        assert_eq!(demo.run(&["failed", "retry", "foo", "--all"]).code, 0);
        // A death leaves nothing: the memo is the one before.
        assert_eq!(
            seen(&["workers", "--halt-when-empty"]),
            ["attempt 1 memo {'n': 4}", "attempt 2 memo {'n': 4}"],
            "{place:?}"
        );
        assert!(demo.is_empty("foo"));
    }
}
