//! A message with everything that a foreign producer can put on it, through a retry to the dead letters.

use lapin::{
    BasicProperties,
    types::{AMQPValue, DecimalValue, FieldTable},
};

use nix::sys::signal::Signal;

use crate::support::{
    Demo, Place,
    foreign::{Foreign, publish_with_id},
};

const BODY: &[u8] = b"{ \"then\" : \"error\", \"n\":\t1e3 }";

fn hostile(bulk: usize) -> BasicProperties {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let mut inner = FieldTable::default();
    inner.insert("deep".into(), AMQPValue::FieldArray(vec![AMQPValue::Void, AMQPValue::Boolean(true)].into()));
    let mut headers = FieldTable::default();
    for (name, value) in [
        ("CC", AMQPValue::FieldArray(vec![text("trap")].into())),
        ("BCC", AMQPValue::FieldArray(vec![text("trap")].into())),
        ("x-death", text("nonsense")),
        ("x-first-death-reason", text("expired")),
        ("asynctask-attempt", text("minus one")),
        ("asynctask-not-before", AMQPValue::Void),
        ("decimal", AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 314 })),
        ("moment", AMQPValue::Timestamp(17)),
        ("double", AMQPValue::Double(0.5)),
        ("bytes", AMQPValue::ByteArray(vec![0, 255].into())),
        ("table", AMQPValue::FieldTable(inner)),
        ("bulk", text(&"x".repeat(bulk))),
    ] {
        headers.insert(name.into(), value);
    }
    BasicProperties::default()
        .with_user_id("guest".into())
        .with_expiration("3600000".into())
        .with_priority(200)
        .with_reply_to("somewhere".into())
        .with_correlation_id("c".into())
        .with_type("t".into())
        .with_timestamp(17)
        .with_message_id("m".into())
        .with_headers(headers)
}

/// Two runs that fail, with `bulk` bytes of a foreign header.
fn retried_and_dead(bulk: usize) {
    let Some(place) = Place::amqp() else { return };
    let demo = Demo::new(&place);
    // The first to come makes the queues.
    demo.submit("trap", "{}");
    demo.submit("foo", "{}");
    let foreign = Foreign::connect(&demo.uri);
    let (trapped, first) = (foreign.take("trap"), foreign.take("foo"));
    assert!(trapped.is_some() && first.is_some());
    foreign.publish("foo", hostile(bulk), BODY);
    // CC and BCC name the same queue, which gets one.
    assert!(foreign.take("trap").is_some(), "what the producer wanted");

    let workers = r#"{"foo": {"worker": "demo_sleep_worker", "retry": {"max_attempts": 2, "first": "100ms"}}}"#;
    let run = demo.workers(workers, &["--halt-when-empty"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert_eq!(run.stdout.matches("Got payload").count(), 2, "{}", run.stdout);
    let letters = demo.dead_letters("foo");
    assert_eq!(letters.len(), 1, "{letters:?}");
    let told = (&letters[0]["id"], &letters[0]["reason"], &letters[0]["attempts"]);
    assert_eq!(told, (&"m".into(), &"error".into(), &2.into()), "{}", letters[0]);
    assert!(foreign.take("trap").is_none(), "a copy went where the first did");

    let letter = foreign.take("foo_failed").expect("a dead letter");
    assert_eq!(letter.data, BODY);
    let came = &letter.properties;
    assert_eq!((came.user_id(), came.delivery_mode(), came.priority()), (&None, &Some(2), &Some(200)));
    let text = |value: &Option<lapin::types::ShortString>| value.as_ref().map(ToString::to_string).unwrap_or_default();
    // What is kept of dead letters by default: 96 hours.
    assert_eq!((text(came.expiration()), text(came.message_id())), ("345600000".to_owned(), "m".to_owned()));
    assert_eq!((text(came.reply_to()), text(came.correlation_id())), ("somewhere".to_owned(), "c".to_owned()));
    assert_eq!((text(came.kind()), came.timestamp()), ("t".to_owned(), &Some(17)));

    let (was, is) = (hostile(bulk), came.headers().clone().expect("headers"));
    let (was, is) = (was.headers().as_ref().expect("headers").inner(), is.inner());
    for gone in ["CC", "BCC", "x-death", "x-first-death-reason", "asynctask-not-before"] {
        assert!(!is.contains_key(gone), "{gone} is still there: {:?}", is[gone]);
    }
    for kept in ["decimal", "moment", "double", "bytes", "table"] {
        assert_eq!(is.get(kept), was.get(kept), "{kept}");
    }
    let header = |name: &str| match is.get(name) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        Some(AMQPValue::LongLongInt(number)) => number.to_string(),
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!((header("asynctask-attempt"), header("asynctask-attempts")), ("2".to_owned(), "2".to_owned()));
    assert_eq!((header("asynctask-reason"), header("asynctask-queue")), ("error".to_owned(), "foo".to_owned()));
    if bulk <= 100 * 1024 {
        assert_eq!(is.get("bulk"), was.get("bulk"));
        assert_eq!((header("asynctask-user-id"), header("asynctask-expiration")), ("guest".into(), "3600000".into()));
        assert!(header("asynctask-error").contains("Oops!"));
    } else {
        assert!(run.stdout.contains("its headers are too large; cut: "), "{}", run.stdout);
    }
}

#[test]
fn a_hostile_message_is_retried_and_dead_lettered() {
    retried_and_dead(100 * 1024);
}

/// What we have to say of it finds no room beside what it brought.
#[test]
fn a_message_with_headers_up_to_the_brim_is_too() {
    retried_and_dead(122 * 1024);
}

#[test]
fn a_message_that_cannot_be_read_is_said_and_loses_nothing() {
    let Some(place) = Place::amqp() else { return };
    let demo = Demo::new(&place);
    demo.submit("foo", r#"{"n":1}"#);
    publish_with_id(&demo.uri, "foo", b"caf\xe9");
    let mut master = demo.start(r#"{"foo": "demo_file_worker"}"#, &[]);
    let line = master.expect("the broker has sent what cannot be read");
    assert!(line.contains("not UTF-8") && line.contains("a purge or another client takes it away"), "{line}");
    master.signal(Signal::SIGTERM);
    let (code, log) = master.wait();
    assert_eq!(code, 0, "{log}");
    // Whoever purges reads nothing.
    assert_eq!(demo.run(&["queues", "purge", "foo", "--yes"]).code, 0);
    demo.submit("foo", r#"{"n":2}"#);
    let run = demo.workers(r#"{"foo": "demo_file_worker"}"#, &["--halt-when-empty"]);
    assert_eq!((run.code, demo.done().last().map(String::as_str)), (0, Some(r#"{"n":2}"#)), "{}", run.stdout);
}
