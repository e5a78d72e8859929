use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::celery::node::{facts::Broker, rusage};

/// What a worker of Celery 5.7 answered: `celery worker -c 2`, four tasks that sleep, two that are not due, two ids revoked.
const GOLDEN: &str = include_str!("golden.json");

fn facts() -> Facts {
    Facts {
        node: "asynctask@host".to_owned(),
        clock: 7,
        uptime: 5,
        pid: 1,
        broker: Broker { shown: "amqp://guest:***@h".to_owned(), heartbeat: 20, ..Broker::default() },
        rusage: rusage::read(),
    }
}

fn view() -> View {
    let task = |id: &str, pid: Value| {
        json!({
            "id": id, "name": "shop.nap", "queue": "celery", "args": "(40,)", "kwargs": "{}", "time_start": 1.5,
            "payload": "{\"task\":\"shop.nap\",\"args\":[40],\"kwargs\":{}}",
            "acknowledged": false, "worker_pid": pid, "priority": 0, "redelivered": false, "reply_to": "x",
            "correlation_id": id,
        })
    };
    let pool = |queue: &str, paused: bool| {
        json!({
            "queue": queue, "kind": "shop", "processes": 2, "pids": [4, 5], "concurrency": 1, "credit": 8,
            "paused": paused, "timeout": 60.0, "max_tasks": null, "exchange": queue, "declare_as": "classic",
            "max_priority": null,
        })
    };
    View::read(json!({
        "active": [task("a", json!(4))], "reserved": [task("b", Value::Null)], "revoked": [],
        "tasks": {
            "shop.add": {"time_limit": 60.0, "soft_time_limit": null, "rate_limit": "100/s", "application": 0,
                "attributes": {"max_retries": "5", "serializer": ""}},
            "shop.fail": {"time_limit": null, "soft_time_limit": null, "rate_limit": null},
            "celery.chord": {"time_limit": null, "soft_time_limit": null, "rate_limit": null},
        },
        "conf": null, "applications": [{"max_retries": "3", "serializer": "json"}], "total": {"shop.nap": 2}, "pools": [pool("celery", false), pool("other", true)],
    }))
    .unwrap()
}

/// The paths of all keys; of a list, those of its first element.
fn keys(value: &Value) -> BTreeSet<String> {
    let below = |prefix: String, value: &Value| {
        keys(value).into_iter().map(move |key| format!("{prefix}.{key}")).collect::<Vec<_>>()
    };
    match value {
        Value::Object(entries) => entries
            .iter()
            .flat_map(|(key, value)| std::iter::once(key.clone()).chain(below(key.clone(), value)))
            .collect(),
        Value::Array(values) => values.first().into_iter().flat_map(|value| below("[]".to_owned(), value)).collect(),
        _ => BTreeSet::new(),
    }
}

#[test]
fn the_keys_are_those_of_a_worker_of_celery() {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    for (method, asked) in [
        ("stats", Look::Stats),
        ("active", Look::Active { safe: false }),
        ("reserved", Look::Reserved),
        ("active_queues", Look::ActiveQueues),
    ] {
        let (mut reply, mut golden) = (look(&asked, &view(), &facts()), golden[method].clone());
        if method == "stats" {
            // Names of tasks.
            assert_eq!(reply["total"].take(), json!({"shop.nap": 2}));
            golden["total"].take();
        }
        assert_eq!(keys(&reply), keys(&golden), "{method}");
        assert!(!keys(&reply).is_empty(), "{method}");
    }
    let found = look(&Look::QueryTask { ids: vec!["a".to_owned(), "none".to_owned()] }, &view(), &facts());
    let theirs = golden["query_task"].as_object().unwrap().values().next().unwrap();
    assert_eq!((&found["a"][0], keys(&found["a"][1])), (&theirs[0], keys(&theirs[1])));
    assert_eq!(found.as_object().unwrap().len(), 1);
}

#[test]
fn tasks_are_shown_with_the_attributes_that_were_asked_for() {
    let registered = |items: &[&str], builtins| {
        let items = items.iter().map(|item| (*item).to_owned()).collect();
        look(&Look::Registered { items, builtins }, &view(), &facts())
    };
    assert_eq!(registered(&[], false), json!(["shop.add [rate_limit=100/s]", "shop.fail"]));
    assert_eq!(
        registered(&["time_limit", "rate_limit", "__class__"], true),
        json!(["celery.chord", "shop.add [time_limit=60 rate_limit=100/s]", "shop.fail"])
    );
    assert_eq!(
        registered(&["name", "max_retries", "serializer"], false),
        json!(["shop.add [name=shop.add max_retries=5]", "shop.fail [name=shop.fail max_retries=3 serializer=json]"])
    );
}

#[test]
fn arguments_are_told_as_they_are_or_as_their_text() {
    let shown = |asked: &Look| look(asked, &view(), &facts())[0].clone();
    let task = shown(&Look::Active { safe: false });
    assert_eq!((&task["args"], &task["kwargs"]), (&json!([40]), &json!({})));
    let task = shown(&Look::Active { safe: true });
    assert_eq!((&task["args"], &task["kwargs"]), (&json!("(40,)"), &json!("{}")));
    let mut view = view();
    view.reserved[0].payload.clear();
    assert_eq!(look(&Look::Reserved, &view, &facts())[0]["args"], "(40,)", "its body is long, or no JSON");
}

#[test]
fn a_paused_queue_is_not_worked_and_arguments_are_those_that_it_is_declared_with() {
    let mut view = view();
    assert_eq!(look(&Look::ActiveQueues, &view, &facts()).as_array().unwrap().len(), 1);
    view.pools[0].declare_as = "quorum".to_owned();
    view.pools[0].max_priority = Some(9);
    let queue = &look(&Look::ActiveQueues, &view, &facts())[0];
    assert_eq!(queue["queue_arguments"], json!({"x-queue-type": "quorum", "x-max-priority": 9}));
}

#[test]
fn settings_are_those_of_the_application_or_say_where_the_broker_is() {
    let mut view = view();
    assert_eq!(look(&Look::Conf, &view, &facts())["broker_url"], "amqp://guest:***@h");
    view.conf = json!({"result_backend": "rpc://", "task_routes": {"a": null}});
    assert_eq!(look(&Look::Conf, &view, &facts()), view.conf);
    let report = look(&Look::Report, &view, &facts());
    let report = report["ok"].as_str().unwrap();
    assert!(report.contains("software -> asynctask:") && report.contains("results:rpc://"), "{report}");
    assert!(report.contains("task_routes: {'a': None}"), "{report}");
    view.report = "\nsoftware -> celery:5.7.0\n".to_owned();
    let report = look(&Look::Report, &view, &facts());
    let report = report["ok"].as_str().unwrap();
    assert!(
        report.starts_with("\nworker -> asynctask:") && report.ends_with("\nsoftware -> celery:5.7.0\n"),
        "{report}"
    );
}

#[test]
fn a_view_that_says_nothing_is_shown_as_nothing() {
    let view = View::read(json!({})).unwrap();
    assert_eq!(look(&Look::Stats, &view, &facts())["pool"]["max-concurrency"], 0);
    assert_eq!(look(&Look::Active { safe: false }, &view, &facts()), json!([]));
    assert!(View::read(json!({"active": 5})).is_err());
    // A producer in another language says nothing of its arguments.
    let view = View::read(json!({"active": [{"id": "a", "name": null, "args": null, "kwargs": null}]})).unwrap();
    assert_eq!(look(&Look::Active { safe: false }, &view, &facts())[0]["args"], "");
}
