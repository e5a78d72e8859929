//! Queues that others have declared in a way that loses tasks, or keeps them for ever.

use std::time::Duration;

use lapin::{
    BasicProperties,
    options::QueueDeclareOptions,
    types::{AMQPValue, FieldTable},
};

use super::{once_each, stopped, told};
use crate::support::{Demo, Place, foreign::Foreign, log::until};

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// The arguments of a quorum queue with this delivery limit.
fn quorum(limit: Option<i32>) -> Vec<(&'static str, AMQPValue)> {
    let limit = limit.map(|limit| ("x-delivery-limit", AMQPValue::LongInt(limit)));
    [("x-queue-type", text("quorum"))].into_iter().chain(limit).collect()
}

/// A demo on RabbitMQ, and somebody else there.
fn beside() -> Option<(Demo, Foreign)> {
    let demo = Demo::new(&Place::amqp()?);
    let foreign = Foreign::connect(&demo.uri);
    Some((demo, foreign))
}

/// A queue by the name of a delay queue that does not bring tasks back when it should: another step is taken.
#[test]
fn a_delay_queue_that_does_not_lead_back_is_passed_by() {
    let Some((demo, foreign)) = beside() else { return };
    let to = |queue: &str| vec![("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text(queue))];
    let ttl = |ttl| vec![("x-message-ttl", AMQPValue::LongInt(ttl))];
    let cases = [
        ("plain", Vec::new(), "it has no x-message-ttl"),
        ("late", [ttl(3_600_000), to("late")].concat(), "its x-message-ttl is 3600000"),
        ("lossy", ttl(1_000), "it dead-letters nowhere"),
        ("astray", [ttl(1_000), to("elsewhere")].concat(), "routing key \"elsewhere\""),
    ];
    let mut workers = Vec::new();
    for (queue, arguments, _) in &cases {
        foreign.declare(&format!("{queue}.retry.1000"), arguments);
        workers.push(format!(
            r#""{queue}": {{"worker": "demo_sleep_worker", "retry": {{"max_attempts": 2, "first": "1s", "jitter": "0%"}}}}"#
        ));
        demo.submit(queue, r#"{"then":"error"}"#);
        // A submitter finds it out, too.
        let ran = demo.run(&["submit", queue, "--delay", "1s", r#"{"n":1}"#]);
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    let ran = demo.workers(&format!("{{{}}}", workers.join(", ")), &["--halt-when-empty"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(demo.done().len(), 4, "{ran:?}");
    for (queue, _, why) in &cases {
        let warned = ran.stdout.lines().filter(|line| line.starts_with("WARNING:") && line.contains(why));
        let warned: Vec<_> = warned.filter(|line| line.contains(&format!("\"{queue}.retry.1000\""))).collect();
        assert_eq!(warned.len(), 1, "{queue}: {}", ran.stdout);
        let letters = demo.dead_letters(queue);
        assert_eq!((letters.len(), &letters[0]["attempts"]), (1, &2.into()));
    }
    // What is somebody else's is not purged or deleted with ours.
    foreign.publish("plain.retry.1000", BasicProperties::default(), b"theirs");
    for end in ["purge", "delete"] {
        assert_eq!(demo.run(&["queues", end, "plain", "--yes"]).code, 0);
    }
    assert_eq!(foreign.take("plain.retry.1000").map(|message| message.data), Some(b"theirs".to_vec()));
}

#[test]
fn a_queue_that_goes_with_its_last_consumer_keeps_one() {
    let Some((demo, foreign)) = beside() else { return };
    let options = QueueDeclareOptions { durable: true, auto_delete: true, ..QueueDeclareOptions::default() };
    foreign.declare_as("va", options, &[]);
    demo.submit_all("va", (0..8).map(|n| format!(r#"{{"n":{n},"sleep_ms":400}}"#)));
    let workers = r#"{"va": {"worker": "demo_sleep_worker", "processes": 2}}"#;
    let mut master = demo.start(workers, &["--socket", "a.sock"]);
    master.expect("queue \"va\" is deleted with its tasks when its last consumer goes (auto-delete)");
    let log = master.log();
    let control = |order: &str| assert_eq!(demo.run(&["control", order, "va", "--socket", "a.sock"]).code, 0);
    for done in [2, 4] {
        told(&log, "Processing complete", done);
        control("pause");
        let settled = || log.text().matches("Processing complete").count() == log.text().matches("Got payload").count();
        until("a task is in hand", settled);
        assert!(foreign.exists("va"), "it is gone: {}", log.text());
        control("resume");
    }
    assert_eq!(demo.run(&["control", "scale", "va", "1", "--socket", "a.sock"]).code, 0);
    told(&log, "Processing complete", 8);
    assert_eq!(stopped(master, Duration::from_secs(10)), 0);
    once_each(&demo, 0..8);
}

/// Its consumer and what that one was sent must not keep it here when it is to go.
#[test]
fn a_queue_that_keeps_its_consumer_can_be_removed_in_a_pause() {
    let Some((demo, foreign)) = beside() else { return };
    let options = QueueDeclareOptions { durable: true, auto_delete: true, ..QueueDeclareOptions::default() };
    foreign.declare_as("va", options, &[]);
    demo.submit_all("va", (0..4).map(|n| format!(r#"{{"n":{n},"sleep_ms":300}}"#)));
    demo.write("asynctask.yaml", "workers: { va: demo_sleep_worker, foo: demo_sleep_worker }\n");
    let master = demo.start_configured(&[]);
    let log = master.log();
    told(&log, "Processing complete", 1);
    assert_eq!(demo.run(&["control", "pause", "va"]).code, 0);
    demo.write("asynctask.yaml", "workers: { foo: demo_sleep_worker }\n");
    let ran = demo.run(&["control", "reload", "--wait"]);
    assert_eq!(ran.code, 0, "{ran:?}: {}", log.text());
    demo.submit("foo", r#"{"n":9}"#);
    until("the other is not worked", || demo.done().iter().any(|line| line.contains(":9")));
    assert_eq!(stopped(master, Duration::from_secs(10)), 0);
}

/// One warning for each, with its name and what to do.
#[test]
fn queues_that_lose_tasks_are_named_at_the_start() {
    let Some((demo, foreign)) = beside() else { return };
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let number = |name: &'static str| vec![(name, AMQPValue::LongInt(3_600_000))];
    let cases = [
        ("brief", durable, number("x-message-ttl"), "loses tasks that wait longer than 3600000 ms (x-message-ttl)"),
        ("full", durable, number("x-max-length"), "drops the oldest when it is full (x-max-length 3600000"),
        ("unused", durable, number("x-expires"), "when nobody used it for 3600000 ms (x-expires)"),
        ("light", QueueDeclareOptions::default(), Vec::new(), "is not durable"),
        ("brief_failed", durable, number("x-message-ttl"), "which is shorter than `dead_letter.keep`"),
        ("strict", durable, quorum(Some(1)), "drops tasks that were given back too often (x-delivery-limit 1)"),
        ("usual", durable, quorum(None), "drops tasks that were given back too often (it has no x-delivery-limit"),
        (
            "strict_failed",
            durable,
            quorum(Some(2)),
            "drops dead letters that were given back too often (x-delivery-limit 2)",
        ),
    ];
    for (queue, options, arguments, _) in &cases {
        foreign.declare_as(queue, *options, arguments);
    }
    // Nothing to be said of these: full means refused, and what is too old is dead-lettered.
    foreign.declare("fine", &[("x-max-length", AMQPValue::LongInt(10)), ("x-overflow", text("reject-publish"))]);
    foreign.declare("patient", &quorum(Some(1_000)));
    let workers: Vec<String> = ["brief", "full", "unused", "light", "fine", "strict", "usual", "patient"]
        .iter()
        .map(|queue| format!(r#""{queue}": "demo_sleep_worker""#))
        .collect();
    demo.submit("light", r#"{"n":0}"#);
    let ran = demo.workers(&format!("{{{}}}", workers.join(", ")), &["--halt-when-empty"]);
    assert_eq!((ran.code, demo.done().len()), (0, 1), "{ran:?}");
    let warnings: Vec<&str> = ran.stdout.lines().filter(|line| line.starts_with("WARNING:")).collect();
    for (queue, .., what) in &cases {
        let named = |line: &&&str| line.contains(&format!("queue \"{queue}\" ")) && line.contains(what);
        assert_eq!(warnings.iter().filter(named).count(), 1, "{queue}: {warnings:?}");
    }
    let other = warnings.iter().filter(|line| !line.contains(" is a classic queue; ")).count();
    assert_eq!(other, cases.len(), "{warnings:?}");
}

#[test]
fn a_stream_is_no_queue_of_tasks() {
    let Some((demo, foreign)) = beside() else { return };
    foreign.declare("river", &[("x-queue-type", text("stream"))]);
    let mut master = demo.start(r#"{"river": "demo_sleep_worker"}"#, &[]);
    let line = master.expect("queue \"river\" is a stream");
    assert!(line.contains("use a quorum queue"), "{line}");
    stopped(master, Duration::from_secs(10));
}

/// A listing is a consumer, too.
#[test]
fn dead_letters_that_a_look_would_end_are_not_looked_at() {
    let Some((demo, foreign)) = beside() else { return };
    let options = QueueDeclareOptions { durable: true, auto_delete: true, ..QueueDeclareOptions::default() };
    foreign.declare_as("foo_failed", options, &[]);
    foreign.publish("foo_failed", BasicProperties::default().with_headers(FieldTable::default()), b"1");
    let ran = demo.run(&["failed", "list", "foo"]);
    assert!(ran.code != 0 && ran.stderr.contains("auto-delete"), "{ran:?}");
    assert!(foreign.take("foo_failed").is_some());
}

/// What a look gives back comes closer to the limit of its queue each time, whatever the look is for.
#[test]
fn dead_letters_that_looks_would_destroy_are_not_looked_at() {
    let Some((demo, foreign)) = beside() else { return };
    for (queue, limit, why) in [("foo", Some(2), "x-delivery-limit 2"), ("bar", None, "it has no x-delivery-limit")] {
        let dead = format!("{queue}_failed");
        foreign.declare(&dead, &quorum(limit));
        for _ in 0..3 {
            foreign.publish(&dead, BasicProperties::default().with_headers(FieldTable::default()), b"1");
        }
        for order in
            [&["list"][..], &["show"], &["export"], &["retry", "--all"], &["purge", "--older-than", "1h", "--yes"]]
        {
            let id = (order[0] == "show").then_some("00000000-0000-4000-8000-000000000000");
            let ran = demo.run(&[&["failed", order[0], queue], &order[1..], id.as_slice()].concat());
            assert_eq!(ran.code, 1, "{order:?}: {ran:?}");
            for part in [&format!("\"{dead}\""), why, "move its messages"] {
                assert!(ran.stderr.contains(part), "{order:?}: {ran:?}");
            }
        }
        for _ in 0..3 {
            let letter = foreign.take(&dead).expect("it is there");
            let headers = letter.properties.headers().clone().unwrap_or_default();
            let returned = headers.inner().get("x-delivery-count").cloned();
            assert!(matches!(returned, None | Some(AMQPValue::LongLongInt(0))), "it was given back: {returned:?}");
        }
    }
    // Ours, and one that bears some.
    foreign.declare("baz_failed", &quorum(Some(1_000)));
    foreign.publish("baz_failed", BasicProperties::default().with_headers(FieldTable::default()), b"1");
    assert_eq!(demo.dead_letters("baz").len(), 1);
}
