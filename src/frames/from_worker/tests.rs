use std::time::Duration;

use super::*;
use crate::outcome::{FollowUp, Target};

fn shown(line: &str) -> String {
    format!("{:?}", parse(line.as_bytes()).unwrap())
}

fn refused(line: &str) -> String {
    parse(line.as_bytes()).unwrap_err().to_string()
}

#[test]
fn every_outcome_comes_out_as_it_went_in() {
    let follow_up = |queue: &str, text: &str, ms| FollowUp {
        target: Target::Queue(queue.to_owned()),
        payload: RawValue::from_string(text.to_owned()).unwrap(),
        delay: Duration::from_millis(ms),
    };
    let nasty = "a \"quoted\"\nline, \u{1}, ü".to_owned();
    for outcome in [
        Report::Done { submit: vec![], given: None },
        Report::Done {
            submit: vec![follow_up("bar", r#"{"n": 1e400}"#, 0), follow_up("b\"", "null", 1500)],
            given: None,
        },
        Report::Done {
            submit: [
                Target::Item,
                Target::More,
                Target::Pipeline { name: nasty.clone(), id: None },
                Target::Pipeline { name: String::new(), id: Some(nasty.clone()) },
            ]
            .map(|target| FollowUp { target, ..follow_up("", "null", 7) })
            .to_vec(),
            given: Given::of(RawValue::from_string("{\"n\": 1e400}".to_owned()).ok(), None, None),
        },
        Report::Error { error: nasty.clone(), detail: String::new(), memo: JsonText::parse("{\"a\": [1e400]}").ok() },
        Report::Retry { error: String::new(), delay: None, memo: JsonText::parse("0").ok() },
        Report::Snooze { delay: Duration::ZERO, memo: JsonText::parse("\"\\ud800\"").ok() },
        Report::DeadLetter { error: String::new(), detail: String::new(), memo: JsonText::parse("[]").ok() },
        Report::error(nasty.clone()),
        Report::Error { error: String::new(), detail: nasty.clone(), memo: None },
        Report::Retry { error: nasty.clone(), delay: None, memo: None },
        Report::Retry { error: String::new(), delay: Some(Duration::ZERO), memo: None },
        Report::Snooze { delay: Duration::from_hours(25000), memo: None },
        Report::DeadLetter { error: nasty.clone(), detail: nasty.clone(), memo: None },
        Report::Malformed { error: nasty.clone() },
    ] {
        for id in ["1", "", "a\"b\\", "ü\n"] {
            let mut out = Vec::new();
            super::outcome(id, &outcome, &mut out);
            let line = out.strip_suffix(b"\n").unwrap();
            assert!(!line.contains(&b'\n'));
            let FromWorker::Outcome { id: read_id, outcome: read } = parse(line).unwrap() else { panic!() };
            assert_eq!(read_id, id);
            assert_eq!(format!("{read:?}"), format!("{outcome:?}"));
        }
    }
}

#[test]
fn the_other_frames_come_out_as_they_went_in() {
    let mut out = Vec::new();
    ready("FooWorker", 1, 64, false, &mut out);
    accept("1", &mut out);
    progress("1", Some(40.0), "half \"way\"", &mut out);
    progress("1", Some(f64::NAN), "", &mut out);
    log(Level::Warning, "x", &mut out);
    pong(3, &mut out);
    returned(&["a", "b"].map(str::to_owned), &mut out);
    bye(&mut out);
    ready("FooWorker", 4, 0, true, &mut out);
    let lines: Vec<String> = std::str::from_utf8(&out).unwrap().lines().map(shown).collect();
    let name = Some("FooWorker".to_owned());
    assert_eq!(
        lines[0],
        format!(
            "Ready({:?})",
            Ready { protocol: 1, name: name.clone(), concurrency: 1, ahead: 64, wants: Wants::default(), celery: None }
        )
    );
    assert_eq!(lines[1], r#"Accept { id: "1" }"#);
    assert_eq!(lines[2], r#"Progress { id: "1", percent: Some(40.0), note: "half \"way\"" }"#);
    assert_eq!(lines[3], r#"Progress { id: "1", percent: None, note: "" }"#);
    assert_eq!(lines[4], r#"Log { level: Warning, message: "x" }"#);
    assert_eq!(lines[5], "Pong { n: 3 }");
    assert_eq!(lines[6], r#"Returned { ids: ["a", "b"] }"#);
    assert_eq!(lines[7], "Bye");
    let wants = Wants { properties: true, ..Wants::default() };
    assert_eq!(
        lines[8],
        format!("Ready({:?})", Ready { protocol: 1, name, concurrency: 4, ahead: 0, wants, celery: None })
    );
}

#[test]
fn what_is_absent_or_null_has_its_default() {
    let ready = Ready { protocol: 1, name: None, concurrency: 1, ahead: 0, wants: Wants::default(), celery: None };
    assert_eq!(shown(r#"{"ready":{"protocol":1}}"#), format!("Ready({ready:?})"));
    assert_eq!(
        shown(r#"{"ready":{"protocol":1,"name":null,"concurrency":0,"ahead":null,"wants":null}}"#),
        format!("Ready({ready:?})")
    );
    assert!(shown(r#"{"error":{"id":"1","detail":null}}"#).contains(r#"Error { error: "", detail: "", memo: None }"#));
    assert!(shown(r#"{"retry":{"id":"1","memo":null}}"#).contains("delay: None, memo: None"));
    assert!(shown(r#"{"done":{"id":"1","result":null,"memo":1}}"#).contains("given: None"));
    assert!(shown(r#"{"retry":{"id":"1","delay_ms":0}}"#).contains("delay: Some(0ns)"));
    assert!(shown(r#"{"snooze":{"id":"1"}}"#).contains("delay: 0ns"));
    assert!(shown(r#"{"snooze":{"id":"1","delay_ms":1.2}}"#).contains("delay: 2ms"));
    assert!(shown(r#"{"done":{"id":"1","submit":null}}"#).contains("submit: []"));
    assert!(shown(r#"{"progress":{"id":"1","percent":400}}"#).contains("Some(100.0)"));
}

#[test]
fn what_is_wanted_and_not_known_is_ignored() {
    let wants = |text: &str| match parse(format!(r#"{{"ready":{{"protocol":1,"wants":{text}}}}}"#).as_bytes()) {
        Ok(FromWorker::Ready(ready)) => (ready.wants.properties, ready.wants.unknown),
        other => panic!("{other:?}"),
    };
    assert_eq!(wants("[]"), (false, vec![]));
    assert_eq!(wants(r#"["properties","properties"]"#), (true, vec![]));
    assert_eq!(wants(r#"["prop\u0065rties"]"#), (true, vec![]));
    let odd = [r#""later""#, "7", "null", r#"{"a":[1]}"#, r#""\ud800""#];
    assert_eq!(wants(&format!(r#"[{},"properties"]"#, odd.join(","))), (true, odd.map(str::to_owned).to_vec()));
    let (_, unknown) = wants(&format!(r#"["{}"{}]"#, "ü".repeat(1000), ",1".repeat(100_000)));
    assert!(unknown.len() == 8 && unknown.iter().all(|entry| entry.len() <= 64), "{unknown:?}");
    assert!(refused(r#"{"ready":{"protocol":1,"wants":"properties"}}"#).contains("a list of what is wanted"));
}

#[test]
fn unknown_keys_and_frames_are_ignored() {
    assert!(shown(r#"{"v":[{}],"done":{"id":"1","took_ms":3},"w":1}"#).starts_with("Outcome"));
    assert_eq!(shown(r#"{"hello":{"id":"1"}}"#), r#"Unknown("hello")"#);
    let deep = format!(r#"{{"hello":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(shown(&deep), r#"Unknown("hello")"#);
    let FromWorker::Unknown(name) = parse(format!(r#"{{"{}":1}}"#, "ü".repeat(1000)).as_bytes()).unwrap() else {
        panic!()
    };
    assert!(name.len() <= 64);
}

#[test]
fn what_is_required_is_named_when_it_is_missing() {
    assert_eq!(refused(r#"{"done":{}}"#), "a frame does not parse: missing field `id` at column 10");
    for (line, text) in [
        (r#"{"ready":{}}"#, "missing field `protocol`"),
        (r#"{"error":{"error":"x"}}"#, "missing field `id`"),
        (r#"{"done":{"id":"1","submit":[{"queue":"q"}]}}"#, "missing field `payload`"),
        (r#"{"done":{"id":"1","submit":[{"payload":1}]}}"#, "missing field `queue`"),
        (r#"{"done":{"id":"1","submit":[{"item":1,"queue":"q","payload":1}]}}"#, "more than one of"),
        (r#"{"done":{"id":7}}"#, "expected a string"),
        (r#"{"snooze":{"id":"1","delay_ms":-1}}"#, "expected a number of milliseconds, 0 or more"),
        (r#"{"done":{"id":"1"},"bye":{}}"#, "two frames in one line"),
        (r#"{"done":{"id":"1"}} x"#, "trailing characters"),
        ("{}", "names no frame"),
        ("[]", "an object that names a frame"),
        ("", "EOF"),
        ("Traceback (most recent call last):", "expected value"),
    ] {
        assert!(refused(line).contains(text), "{line}: {}", refused(line));
    }
    assert_eq!(shown(r#"{"controlled":{"ticket":7}}"#), "Controlled { ticket: 7 }");
    assert!(refused(r#"{"controlled":{}}"#).contains("ticket"));
    assert!(refused(&format!(r#"{{"pong":{{"n":"{}"}}}}"#, "x".repeat(100_000))).len() < 400);
}

#[test]
fn text_that_is_no_unicode_is_read_and_payloads_keep_theirs() {
    let half = |line: &str| shown(line).contains('\u{fffd}');
    for line in [
        r#"{"ready":{"protocol":1,"name":"\ud83d"}}"#,
        r#"{"error":{"id":"1","error":"cannot resize \ud83d","detail":"x"}}"#,
        r#"{"error":{"id":"1","error":"x","detail":"\ude00"}}"#,
        r#"{"retry":{"id":"1","error":"\ud83d\n"}}"#,
        r#"{"failed":{"id":"1","error":"\ud83d"}}"#,
        r#"{"malformed":{"id":"1","error":"\ud83d"}}"#,
        r#"{"progress":{"id":"1","note":"\ud83d"}}"#,
        r#"{"log":{"level":"INFO","message":"\ud83d"}}"#,
        r#"{"accept":{"id":"\ud83d"}}"#,
        r#"{"returned":{"ids":["\ud83d"]}}"#,
        r#"{"\ud83d":{}}"#,
    ] {
        assert!(half(line), "{line}: {}", shown(line));
    }
    assert!(shown(r#"{"done":{"id":"1"},"\ud83d":1}"#).starts_with("Outcome"));
    let payload = r#"{"a":"\ud83d"}"#;
    let line = format!(r#"{{"done":{{"id":"\ud83d","submit":[{{"queue":"q","payload":{payload}}}]}}}}"#);
    let FromWorker::Outcome { outcome: Report::Done { submit, .. }, .. } = parse(line.as_bytes()).unwrap() else {
        panic!()
    };
    assert_eq!(submit[0].payload.get(), payload);
    // Raw bytes, as of a program that writes Latin-1.
    let FromWorker::Outcome { outcome: Report::Error { error, .. }, .. } =
        parse(b"{\"error\":{\"id\":\"1\",\"error\":\"Stra\xdfe\"}}").unwrap()
    else {
        panic!()
    };
    assert_eq!(error, "Stra\u{fffd}e");
}

#[test]
fn no_line_whatever_panics() {
    let seeds: [&[u8]; 9] = [
        br#"{"done":{"id":"1","submit":[{"queue":"bar","payload":{"a":[1,2]},"delay_ms":0}]}}"#,
        br#"{"ready":{"protocol":1,"name":"FooWorker","concurrency":1,"ahead":0}}"#,
        br#"{"retry":{"id":"\u00e9","error":"x","delay_ms":1.5e3}}"#,
        br#"{"progress":{"id":"1","percent":40,"note":"\ud83d"}}"#,
        br#"{"done":{"id":"1"}}"#,
        br#"{"done":{"id":"1","result":{"a":1e5},"submit":[{"item":null},{"more":[1]},{"pipeline":"p","payload":1,"id":"j"}]}}"#,
        br#"{"snooze":{"id":"1","delay_ms":5,"memo":{"at":[1,"\ud83d"]}}}"#,
        br#"{"task":{"id":"1","payload":1,"memo":[1],"job":{"id":"j","pipeline":"p","key":null,"step":"s","index":0,"inputs":{"a":{"state":"done","result":1,"memo":null}}}}}"#,
        br#"{"task":{"id":"1","queue":"q","payload":{},"headers":{"a":1},"deadline_ms":5}}"#,
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for round in 0..40_000 {
        let mut line = seeds[draw(seeds.len())].to_vec();
        if round % 10 == 0 {
            line = (0..draw(200)).map(|_| draw(256) as u8).collect();
        }
        for _ in 0..=draw(4) {
            let at = draw(line.len() + 1);
            match draw(4) {
                0 => line.truncate(at),
                1 => line.insert(at, draw(256) as u8),
                2 => line.insert(at, br#"{}[]",:\0-e"#[draw(11)]),
                _ if at < line.len() => line[at] = draw(256) as u8,
                _ => {}
            }
        }
        let _ = parse(&line);
        let _ = crate::frames::to_worker::parse(&line);
    }
}
