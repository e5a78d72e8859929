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
    assert_eq!(context.end().follow_ups.len(), 1);
    assert!(matches!(context.requeue(&3), Err(crate::worker::SubmitError::Ended { .. })));
    assert!(context.end().follow_ups.is_empty());
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

const IN_A_JOB: &str = concat!(
    r#"{"task":{"id":"id-1","queue":"foo","payload":"HOW","memo":{"page": 7},"job":{"id":"j","pipeline":"p","key":"k","#,
    r#""step":"s","index":3,"inputs":{"a":{"state":"done","result":[1e2,"\ud800"],"memo":null},"b":{"state":"failed"}}}}}"#
);

/// Does the task of [`IN_A_JOB`], and gives its outcome as a frame.
fn in_a_job(how: &str, kind: &Kind) -> String {
    let line = IN_A_JOB.replace("HOW", how);
    let Ok(crate::frames::to_worker::ToWorker::Task(task)) = crate::frames::to_worker::parse(line.as_bytes()) else {
        panic!()
    };
    let outcome = Foreground::start("kind", kind, Level::Error).unwrap().run(&task).unwrap();
    let mut frame = Vec::new();
    crate::frames::from_worker::outcome("id-1", &outcome, &mut frame);
    String::from_utf8(frame).unwrap()
}

#[test]
fn a_task_knows_its_place_in_a_job_and_submits_items() {
    let kind = Kind::worker_fn(|_: String, context: &Context| {
        let job = context.job().unwrap();
        assert_eq!((job.id(), job.pipeline(), job.key()), ("j", "p", Some("k")));
        assert_eq!((job.step(), job.index(), job.wipes(), job.inputs().count()), ("s", 3, false, 2));
        let input = job.input("a").unwrap();
        assert_eq!(input.state(), "done");
        assert_eq!(input.result::<(f64, String)>()?, Some((100.0, "\u{fffd}".to_owned())));
        assert!(input.result::<u8>().is_err() && input.memo::<u8>()?.is_none() && job.input("c").is_none());
        context.item(&1)?;
        context.item_after(Duration::from_millis(5), &())?;
        context.more(&[2])?;
        context.start_pipeline("nightly", &"x", None)?;
        context.start_pipeline("nightly", &"y", Some("id"))?;
        context.set_memo(&"is not sent with done")?;
        context.set_result(&"first")?;
        let long = context.set_result(&"x".repeat(32 * 1024)).unwrap_err();
        assert_eq!(
            long.to_string(),
            "the result has 32770 bytes, more than 32768: put it into a file and give its name"
        );
        context.set_result(&serde_json::json!({"n": 2}))?;
        Ok(Outcome::Done)
    });
    let submit = concat!(
        r#"[{"item":1},{"item":null,"delay_ms":5},{"more":[2]},{"pipeline":"nightly","payload":"x"},"#,
        r#"{"pipeline":"nightly","id":"id","payload":"y"}]"#
    );
    assert_eq!(
        in_a_job("", &kind),
        format!("{{\"done\":{{\"id\":\"id-1\",\"result\":{{\"n\":2}},\"submit\":{submit}}}}}\n")
    );
}

#[test]
fn a_memo_is_read_and_left_with_any_end_but_done() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Memo {
        page: u32,
    }
    let kind = Kind::worker_fn(|how: String, context: &Context| {
        let memo: Memo = context.memo()?.ok_or("there is a memo")?;
        assert!(context.memo::<String>().is_err());
        context.set_memo(&Memo { page: memo.page + 1 })?;
        let long = context.set_memo(&"x".repeat(16 * 1024)).unwrap_err();
        assert_eq!(long.to_string(), "the memo has 16386 bytes, more than 16384: put it into a file and give its name");
        context.set_result(&1)?;
        end(&how, context)
    });
    for how in ["retry", "snooze", "dead", "error", "panic"] {
        let frame = in_a_job(how, &kind);
        assert!(frame.ends_with(",\"memo\":{\"page\":8}}}\n") && !frame.contains("result"), "{frame}");
    }
    let kind = Kind::worker_fn(|how: String, context: &Context| end(&how, context));
    assert!(!in_a_job("snooze", &kind).contains("memo"));
}

#[test]
fn a_task_of_no_job_has_no_items() {
    let kind = Kind::worker_fn(|(): (), context: &Context| {
        assert!(context.job().is_none() && context.memo::<u8>()?.is_none());
        context.set_result(&"x".repeat(1 << 19))?;
        assert!(context.set_result(&"x".repeat(1 << 20)).is_err());
        context.more(&1)?;
        Ok(Outcome::Done)
    });
    let Told::Error { error, .. } = run(&kind, "null") else { panic!() };
    assert_eq!(error, "the task \"id-1\" is of no job: it has no items");
}

#[test]
fn a_type_is_shown_by_its_short_name() {
    assert_eq!(short_name("a::b::Foo<c::D<e::F>>"), "Foo");
    assert_eq!(short_name("Foo"), "Foo");
}
