use std::time::Duration;

use serde_json::value::RawValue;

use super::*;
use crate::outcome::Report as Told;

fn run(kind: &Kind, payload: &str) -> Told {
    let payload = RawValue::from_string(payload.to_owned()).unwrap();
    let mut worker = Foreground::start("kind", kind, Level::Error).unwrap();
    worker.run(&Assignment::new("id-1", "foo", &payload)).unwrap()
}

#[derive(Debug, thiserror::Error)]
#[error("the {0} failed\nin two lines")]
struct Deep(&'static str, #[source] Option<Box<Deep>>);

/// Ends as its payload says, whether alone or beside others.
fn end(how: &str, context: &Context) -> super::super::TaskResult {
    context.submit("bar", &1)?;
    match how {
        "retry" => Ok(Outcome::Retry { after: Duration::from_secs(3) }),
        "snooze" => Ok(Outcome::Snooze { after: Duration::from_secs(4) }),
        "dead" => Ok(Outcome::Dead("no\nmore".to_owned())),
        "error" => Err(Box::new(Deep("first", Some(Box::new(Deep("second", None)))))),
        "panic" => panic!("so {}", "it is"),
        _ => Ok(Outcome::Done),
    }
}

#[test]
fn each_end_has_its_words() {
    let kinds = [
        Kind::worker_fn(|how: String, context: &Context| end(&how, context)),
        Kind::async_worker_fn(|how: String, context: Context| async move {
            tokio::task::yield_now().await;
            end(&how, &context)
        }),
    ];
    for kind in &kinds {
        let Told::Done { submit, .. } = run(kind, r#""done""#) else { panic!() };
        assert_eq!((submit[0].queue().unwrap(), submit[0].payload.get()), ("bar", "1"));
        let Told::Retry { error, delay, .. } = run(kind, r#""retry""#) else { panic!() };
        assert_eq!((error.as_str(), delay), ("", Some(Duration::from_secs(3))));
        let Told::Snooze { delay, .. } = run(kind, r#""snooze""#) else { panic!() };
        assert_eq!(delay, Duration::from_secs(4));
        let Told::DeadLetter { error, detail, .. } = run(kind, r#""dead""#) else { panic!() };
        assert_eq!((error.as_str(), detail.as_str()), ("no", "more"));
        let Told::Error { error, detail, .. } = run(kind, r#""error""#) else { panic!() };
        assert_eq!(error, "the first failed");
        assert_eq!(detail, "in two lines\nthe second failed\nin two lines");
        let Told::Error { error, detail, .. } = run(kind, r#""panic""#) else { panic!() };
        assert_eq!(error, "so it is");
        assert!(detail.starts_with("panicked at src/worker/kind/tests.rs:"), "{detail}");
        let Told::Malformed { error } = run(kind, "{}") else { panic!() };
        assert!(error.contains("expected a string"), "{error}");
    }
}

#[test]
fn an_ended_task_submits_nothing() {
    let kind = Kind::worker_fn(|(): (), context: &Context| {
        let late = context.clone();
        assert!(context.submit("not\na queue", &1).is_err());
        std::thread::spawn(move || drop(late)).join().map_err(|_| "panicked")?;
        Ok(Outcome::Done)
    });
    assert!(matches!(run(&kind, "null"), Told::Done { submit, .. } if submit.is_empty()));

    let payload = RawValue::from_string("null".to_owned()).unwrap();
    let task = Assignment::new("id-1", "foo", &payload);
    let lines = Lines::new("kind", Level::Error);
    let context = Context::new(&task, &Surroundings::new(&lines, &Arc::new(FrameWriter::nowhere())));
    context.requeue(&2).unwrap();
    assert_eq!(context.end().len(), 1);
    assert!(matches!(context.requeue(&3), Err(crate::worker::SubmitError::Ended { .. })));
    assert!(context.end().is_empty());
}

#[test]
fn what_is_submitted_fits_into_a_frame() {
    let kind = Kind::worker_fn(|(): (), context: &Context| {
        let long = "x".repeat(1 << 20);
        let kept = (0..20).take_while(|_| context.submit("bar", &long).is_ok()).count();
        assert_eq!(kept, 15);
        Ok(Outcome::Done)
    });
    let outcome = run(&kind, "null");
    let mut frame = Vec::new();
    crate::frames::from_worker::outcome("id-1", &outcome, &mut frame);
    assert!(frame.len() < crate::frames::LIMIT);
    assert!(matches!(outcome, Told::Done { submit, .. } if submit.len() == 15));
}

#[test]
fn a_type_is_shown_by_its_short_name() {
    assert_eq!(short_name("a::b::Foo<c::D<e::F>>"), "Foo");
    assert_eq!(short_name("Foo"), "Foo");
}
