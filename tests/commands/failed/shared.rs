//! Several queues with one dead-letter queue: each has its own letters.

use lapin::{BasicProperties, types::AMQPValue};
use serde_json::Value;

use super::{ids, on_each};
use crate::support::{Demo, Place, foreign::Foreign, log::until};

const WORKERS: &str = r#"{"sa": {"worker": "demo_sleep_worker", "dead_letter": {"queue": "all_dead"}},
    "sb": {"worker": "demo_error_worker", "dead_letter": {"queue": "all_dead"}},
    "sc": {"worker": "demo_sleep_worker", "dead_letter": {"queue": "all_dead"}}}"#;

fn run(demo: &Demo, arguments: &[&str]) -> crate::support::demo::Ran {
    let ran = demo.run(&[arguments, &["--set", &format!("workers={WORKERS}")]].concat());
    assert_eq!(ran.code, 0, "{arguments:?}: {ran:?}");
    ran
}

fn list(demo: &Demo, queue: &str) -> Vec<String> {
    ids(&run(demo, &["failed", "list", queue, "--json"]))
}

fn submit(demo: &Demo, queue: &str, payload: &str, id: &str) {
    run(demo, &["submit", queue, payload, "--id", id]);
}

#[test]
fn each_queue_has_its_own_letters_in_one_dead_letter_queue() {
    on_each(|demo| {
        for n in 0..3 {
            submit(demo, "sa", &format!(r#"{{"then":"dead","n":{n}}}"#), &format!("a{n}"));
            submit(demo, "sb", &format!(r#"{{"error":1,"n":{n}}}"#), &format!("b{n}"));
        }
        let ran = demo.workers(WORKERS, &["--halt-when-empty"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_eq!(
            (list(demo, "sa"), list(demo, "sb")),
            (vec!["a0".into(), "a1".into(), "a2".into()], vec!["b0".to_owned(), "b1".into(), "b2".into()])
        );
        assert_eq!(list(demo, "sc"), [""; 0]);
        let queues: Value = serde_json::from_str(&run(demo, &["queues", "--json"]).stdout).unwrap();
        let counts =
            ["sa", "sb", "sc"].map(|queue| (queues[queue]["failed"].as_u64(), &queues[queue]["failed_shared"]));
        if demo.uri.starts_with("amqp") {
            // Which came from where is not known without looking at each.
            assert_eq!(counts, [(Some(6), &Value::Bool(true)); 3]);
            assert!(run(demo, &["queues"]).stdout.contains("6 in all_dead"));
        } else {
            assert_eq!(counts, [(Some(3), &Value::Null), (Some(3), &Value::Null), (Some(0), &Value::Null)]);
        }
        let told = run(demo, &["failed", "purge", "sb", "b1", "--yes"]);
        assert_eq!(told.stdout, "1 dead letter of queue sb deleted\n");
        let ran = demo.run(&["failed", "show", "sa", "b0", "--set", &format!("workers={WORKERS}")]);
        super::refused(&ran, 1, "b0");
        let exported = run(demo, &["failed", "export", "sb"]).stdout;
        assert_eq!(exported.lines().count(), 2, "{exported}");
        let told = run(demo, &["failed", "retry", "sa", "--all", "--dry-run"]);
        assert_eq!(told.stdout, "3 dead letters of queue sa would be retried\n");
        assert_eq!(run(demo, &["failed", "retry", "sa", "--all"]).stdout, "3 dead letters of queue sa retried\n");
        let queues: Value = serde_json::from_str(&run(demo, &["queues", "--json"]).stdout).unwrap();
        assert_eq!((&queues["sa"]["ready"], &queues["sb"]["ready"]), (&3.into(), &0.into()));
        assert_eq!((list(demo, "sa").len(), list(demo, "sb")), (0, vec!["b0".to_owned(), "b2".into()]));
        // The end of a queue is not the end of the letters of others.
        run(demo, &["queues", "purge", "sa", "--yes"]);
        run(demo, &["queues", "delete", "sa", "--yes"]);
        assert_eq!(
            run(demo, &["failed", "purge", "sa", "--all", "--yes"]).stdout,
            "0 dead letters of queue sa deleted\n"
        );
        assert_eq!(list(demo, "sb"), ["b0", "b2"]);
    });
}

/// A queue of others that shares it is in no configuration of ours.
#[test]
fn what_the_broker_dead_lettered_is_of_the_queue_that_it_died_in() {
    let Some(place) = Place::amqp() else { return };
    let demo = Demo::new(&place);
    let foreign = Foreign::connect(&demo.uri);
    let text = |text: &str| AMQPValue::LongString(text.into());
    for queue in ["sa", "sb"] {
        let to = [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text("all_dead"))];
        foreign.declare(queue, &to);
    }
    foreign.declare("all_dead", &[]);
    // It waits for its time in a delay queue of somebody else before it dies.
    let to = [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text("sb"))];
    foreign.declare("theirs", &to);
    let named = |id: &str| BasicProperties::default().with_message_id(id.into());
    foreign.publish("sa", named("a"), br#"{"n":0}"#);
    foreign.publish("sb", named("b"), br#"{"n":1}"#);
    foreign.publish("theirs", named("c").with_expiration("1".into()), br#"{"n":2}"#);
    until("it does not come", || demo.depth("sb")["ready"] == 2);
    foreign.reject("sa");
    foreign.reject("sb");
    foreign.reject("sb");
    until("they are not dead", || demo.depth("all_dead")["ready"] == 3);
    assert_eq!((list(&demo, "sa"), list(&demo, "sb")), (vec!["a".to_owned()], vec!["b".to_owned(), "c".into()]));
    assert_eq!(list(&demo, "sc"), [""; 0]);
    assert_eq!(run(&demo, &["failed", "retry", "sa", "--all"]).stdout, "1 dead letter of queue sa retried\n");
    assert_eq!((demo.depth("sa")["ready"].as_u64(), list(&demo, "sb").len()), (Some(1), 2));
}
