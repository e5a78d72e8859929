//! Sessions with the built demonstration program, line by line, as scripts know them: the same lines in the same order, on SQLite
//! and on RabbitMQ.

use crate::support::{Demo, Place, in_order, on_each_in_turn};

#[test]
fn without_workers_there_is_nothing_to_do() {
    on_each_in_turn(|demo| {
        for workers in ["{}", r#"{"foo": null}"#] {
            let run = demo.workers(workers, &[]);
            assert_eq!(run.stdout, "INFO:AsyncTaskWorkerTask:No workers configured; terminating.\n");
            assert_eq!(run.code, 0);
        }
    });
}

#[test]
fn a_task_is_done_and_the_run_halts() {
    on_each_in_turn(|demo| {
        demo.submit("foo", r#"{"foo":1}"#);
        let run = demo.workers(r#"{"foo": "demo_foo_worker"}"#, &["--halt_when_empty"]);
        in_order(
            &run,
            &[
                "INFO:AsyncTaskWorkerTask:Launching demo_foo_worker to work on queue foo",
                "INFO:FooWorker:Starting; queue=foo",
                r#"DEBUG:FooWorker:Got payload: {"foo":1}"#,
                r#"FOO processed: {"foo":1}"#,
                "DEBUG:FooWorker:Processing complete",
                "INFO:FooWorker:No tasks found in queue",
                "INFO:FooWorker:Terminating",
                "INFO:AsyncTaskWorkerTask:All workers halted; closing down...",
                "INFO:AsyncTaskWorkerTask:Complete",
            ],
        );
        assert_eq!(run.code, 0, "{}", run.stdout);
        assert!(demo.is_empty("foo"));
    });
}

#[test]
fn quiet_is_silent() {
    on_each_in_turn(|demo| {
        demo.submit("foo", r#"{"error":false}"#);
        let run = demo.workers(r#"{"foo": "demo_quiet_worker"}"#, &["--halt-when-empty", "--quiet"]);
        assert_eq!((run.stdout.as_str(), run.code), ("", 0));
        assert!(demo.is_empty("foo"));
        demo.submit("foo", r#"{"error":true}"#);
        let run = demo.workers(r#"{"foo": "demo_error_worker"}"#, &["--halt-when-empty", "--quiet"]);
        assert_eq!((run.stdout.as_str(), run.stderr.as_str(), run.code), ("", "", 0));
    });
}

#[test]
fn a_worker_puts_a_task_back_into_its_own_queue() {
    on_each_in_turn(|demo| {
        demo.submit("foo", r#"{"foo":1}"#);
        let run = demo.workers(r#"{"foo": "requeue_worker"}"#, &["--halt-when-empty"]);
        in_order(
            &run,
            &[
                "INFO:AsyncTaskWorkerTask:Launching requeue_worker to work on queue foo",
                "INFO:RequeueWorker:Starting; queue=foo",
                r#"DEBUG:RequeueWorker:Got payload: {"foo":1}"#,
                r#"REQUEUE processed: {"foo":1}"#,
                r#"DEBUG:RequeueWorker:Requeued payload: {"foo":2}"#,
                "REQUEUE requeued",
                "DEBUG:RequeueWorker:Processing complete",
                r#"DEBUG:RequeueWorker:Got payload: {"foo":2}"#,
                r#"REQUEUE processed: {"foo":2}"#,
                "DEBUG:RequeueWorker:Processing complete",
                "INFO:RequeueWorker:No tasks found in queue",
                "INFO:RequeueWorker:Terminating",
                "INFO:AsyncTaskWorkerTask:All workers halted; closing down...",
                "INFO:AsyncTaskWorkerTask:Complete",
            ],
        );
        assert!(demo.is_empty("foo"));
    });
}

#[test]
fn an_error_does_not_end_the_worker() {
    on_each_in_turn(|demo| {
        demo.submit("foo", r#"{"error":true}"#);
        demo.submit("foo", r#"{"error":false}"#);
        let run = demo.workers(r#"{"foo": "demo_error_worker"}"#, &["--halt-when-empty"]);
        in_order(
            &run,
            &[
                "INFO:AsyncTaskWorkerTask:Launching demo_error_worker to work on queue foo",
                "INFO:ErrorWorker:Starting; queue=foo",
                r#"DEBUG:ErrorWorker:Got payload: {"error":true}"#,
                "ERROR:ErrorWorker:An unhandled exception occurred while processing the payload",
                "Oops!",
                r#"DEBUG:ErrorWorker:Got payload: {"error":false}"#,
                r#"ERROR processed: {"error":false}"#,
                "DEBUG:ErrorWorker:Processing complete",
                "INFO:ErrorWorker:No tasks found in queue",
                "INFO:ErrorWorker:Terminating",
                "INFO:AsyncTaskWorkerTask:All workers halted; closing down...",
                "INFO:AsyncTaskWorkerTask:Complete",
            ],
        );
        assert!(demo.is_empty("foo"));
        let dead = demo.dead_letters("foo");
        assert_eq!(dead.len(), 1);
        assert_eq!((&dead[0]["reason"], &dead[0]["error"]), (&"error".into(), &"Oops!".into()));
        assert_eq!(dead[0]["attempts"], 1);
    });
}

#[test]
fn a_worker_that_dies_is_restarted_and_its_task_is_known_by_its_cause() {
    on_each_in_turn(|demo| {
        demo.submit("foo", r#"{"die":true}"#);
        demo.submit("foo", r#"{"die":false}"#);
        let run = demo.workers(r#"{"foo": "demo_fragile_worker"}"#, &["--halt-when-empty"]);
        in_order(
            &run,
            &[
                "INFO:AsyncTaskWorkerTask:Launching demo_fragile_worker to work on queue foo",
                "INFO:FragileWorker:Starting; queue=foo",
                r#"DEBUG:FragileWorker:Got payload: {"die":true}"#,
                "FRAGILE DYING!",
                "ERROR:AsyncTaskWorkerTask:Worker for queue foo died; restarting...",
                "INFO:AsyncTaskWorkerTask:Launching demo_fragile_worker to work on queue foo",
                "INFO:FragileWorker:Starting; queue=foo",
                r#"DEBUG:FragileWorker:Got payload: {"die":false}"#,
                r#"FRAGILE processed: {"die":false}"#,
                "DEBUG:FragileWorker:Processing complete",
                "INFO:FragileWorker:No tasks found in queue",
                "INFO:FragileWorker:Terminating",
                "INFO:AsyncTaskWorkerTask:All workers halted; closing down...",
                "INFO:AsyncTaskWorkerTask:Complete",
            ],
        );
        assert!(demo.is_empty("foo"));
        let dead = demo.dead_letters("foo");
        assert_eq!(dead.len(), 1);
        assert_eq!(dead[0]["reason"], "crash");
        let id = dead[0]["id"].as_str().unwrap();
        let letter = demo.json(&["failed", "show", "foo", id, "--json"]);
        assert_eq!(letter["payload"], serde_json::json!({ "die": true }));
        assert!(letter["exit"]["code"].is_i64(), "{letter}");
        assert!(letter["output_tail"].as_str().unwrap().contains("FRAGILE DYING!"));
        assert!(letter["pid"].as_u64().unwrap() > 0);
    });
}

#[test]
fn the_help_names_every_option_of_the_seed() {
    let demo = Demo::new(&Place::sqlite());
    let help = demo.run(&["workers", "--help"]).stdout;
    for option in ["--set", "--scheduler", "-q, --quiet", "--halt-when-empty"] {
        assert!(help.contains(option), "{option} is not in:\n{help}");
    }
}
