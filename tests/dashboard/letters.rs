//! Dead letters on the page: the same as the command line says, whatever stands in them, and nothing that is hidden.

#[path = "../commands/failed/store.rs"]
#[expect(dead_code, reason = "what the commands need beside it")]
mod store;

use std::{
    collections::BTreeSet,
    io::{Read, Write},
};

use asynctask::{
    clock::Clock,
    task::{Failure, Reason},
};
use serde_json::{Value, json};

use super::{Page, header};
use crate::support::{Demo, Place, log::until};

const SETTINGS: &str = "workers: { foo: demo_sleep_worker }\n";
/// What a page has at most.
const LONGEST: usize = 300 * 1024;

fn demo(place: &Place, more: &str) -> Demo {
    let demo = Demo::new(place);
    demo.write("asynctask.yaml", &format!("{SETTINGS}{more}"));
    demo
}

/// Dead letters `0`, `1`, … of two mistakes, the even ones of the one, the odd ones of the other.
fn bury(demo: &Demo, count: usize) {
    store::bury(demo, "foo", count, |number| match number % 2 {
        0 => Failure::new(Reason::Error, format!("row {number} is missing"), Clock::wall()),
        _ => Failure { output_tail: "last line\n".to_owned(), ..Failure::new(Reason::Crash, "it died", Clock::wall()) },
    });
}

fn api(page: &Page, path: &str) -> Value {
    serde_json::from_str(&page.html(path)).expect("JSON")
}

/// What `failed list --json` says, as a set.
fn listed(demo: &Demo) -> BTreeSet<String> {
    let ran = demo.run(&["failed", "list", "foo", "--json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    ran.stdout.lines().map(str::to_owned).collect()
}

/// The addresses of letters in a page.
fn letters(html: &str) -> Vec<String> {
    let links = html.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
    links.filter(|link| link.starts_with("/failed/foo/")).map(|link| link.replace("&#38;", "&")).collect()
}

/// Puts a dead letter into the file as another program might.
fn plant(demo: &Demo, id: &str, body: &[u8], failure: &Value, headers: &Value) {
    let path = demo.uri.strip_prefix("sqlite:").expect("a file");
    let file = rusqlite::Connection::open(path).expect("the file");
    let now = Clock::wall().0;
    let statement = "INSERT INTO task (queue, state, due, message_id, failure, headers, body) \
                     SELECT id, 2, ?2, ?3, ?4, ?5, ?6 FROM queue WHERE name = ?1";
    let values = rusqlite::params!["foo", now, id, failure.to_string(), headers.to_string(), body];
    assert_eq!(file.execute(statement, values).expect("stored"), 1);
}

/// A failure as it stands in the file.
fn failure(error: &str, more: impl FnOnce(&mut Failure)) -> Value {
    let mut failure = Failure::new(Reason::Error, error, Clock::wall());
    more(&mut failure);
    serde_json::to_value(failure).expect("JSON")
}

/// The bytes of a body.
fn saved(page: &Page, path: &str) -> (String, Vec<u8>) {
    let mut stream = page.site.connect();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\n{}\r\n", page.site.0, page.head()).expect("it takes that");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n").expect("a head");
    (String::from_utf8(answer[..end].to_vec()).expect("text"), answer[end + 4..].to_vec())
}

#[test]
fn groups_come_first_and_every_letter_is_one_link_away() {
    let demo = demo(&Place::sqlite(), "");
    bury(&demo, 120);
    let page = Page::open(&demo);
    let html = page.html("/failed");
    assert!(html.contains("href=\"/failed/foo\"") && html.contains(">120<"), "{html}");
    let html = page.html("/failed/foo");
    let (groups, list) = html.split_once("the newest first").expect("groups, then the list");
    assert_eq!(groups.matches("<td class=\"number\">60</td>").count(), 6, "{groups}");
    assert!(groups.contains("row 118 is missing") && groups.contains("it died"), "{groups}");
    assert!(groups.contains("reason=crash&#38;fingerprint="), "{groups}");
    assert_eq!(letters(list).len(), 50);
    // Page by page they are all there, once.
    let (mut all, mut path) = (Vec::new(), "/failed/foo".to_owned());
    loop {
        let html = page.html(&path);
        all.extend(letters(&html));
        let Some((before, _)) = html.split_once("\" rel=\"next\"") else { break };
        path = before.rsplit('"').next().expect("an address").replace("&#38;", "&");
    }
    assert_eq!((all.len(), all.iter().collect::<BTreeSet<_>>().len()), (120, 120));
    let crashes = letters(&page.html("/failed/foo?reason=crash"));
    assert!(
        crashes.iter().all(|link| link.split('?').next().is_some_and(|path| path.ends_with(['1', '3', '5', '7', '9'])))
    );
    // Programs are told the same as by the command line.
    let rows = api(&page, "/api/failed/foo?limit=500");
    let told = rows["dead_letters"].as_array().expect("rows").iter().map(Value::to_string).collect::<BTreeSet<_>>();
    assert_eq!(told, listed(&demo));
    assert_eq!(page.html("/api/failed/foo/7"), demo.run(&["failed", "show", "foo", "7", "--json"]).stdout);
    let html = page.html("/failed/foo/7");
    assert!(html.contains("last words: last line") && html.contains("asynctask failed show foo 7"), "{html}");
    for (path, status) in [
        ("/failed/nowhere", 404),
        ("/failed/foo/nothing", 404),
        ("/api/failed/nowhere", 404),
        ("/failed/foo/7?at=1.1", 200),
        ("/failed/foo/_?at=1.1&by=place", 404),
        ("/failed/foo?after=x&reason=%00'--", 200),
        ("/failed/foo?limit=99999999999999999999", 400),
        ("/failed/foo/%ff", 400),
    ] {
        assert_eq!(page.get(path).status, status, "{path}");
    }
    page.end();
}

#[test]
fn whatever_stands_in_a_letter_stays_text_and_number() {
    const SCRIPT: &str = "<script>alert(1)</script>\u{202e}\u{0}\"onx='y'";
    let demo = demo(&Place::sqlite(), "");
    demo.submit("foo", "1");
    let hostile = failure(SCRIPT, |failure| {
        (failure.detail, failure.output_tail) = (SCRIPT.repeat(500), format!("{}\n{SCRIPT}", "<&\"'".repeat(2000)));
        (failure.kind, failure.host) = (SCRIPT.to_owned(), SCRIPT.to_owned());
    });
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let long = format!("{{\"n\":1152921504606846977,\"s\":\"{}\"}}", "<\\\"".repeat(5 << 20));
    let bodies: [&[u8]; 7] = [
        br#"{"n":1152921504606846977,"x":2.50,"big":1e400,"s":"<script>"}"#,
        deep.as_bytes(),
        long.as_bytes(),
        b"\xff\xfe<script>\x00",
        "{\"s\":\"\u{202e}\\u0000\\ud83d\"}".as_bytes(),
        b"",
        b"\"{\\\"n\\\":1152921504606846977}\"",
    ];
    let ids = [SCRIPT, "", ".", "..", "a/b?c#d%41", "é ü", &"long".repeat(1 << 20)];
    for (id, body) in ids.iter().zip(bodies) {
        plant(&demo, id, body, &hostile, &json!({ "x": SCRIPT, "n": 1_152_921_504_606_846_977_u64 }));
    }
    let page = Page::open(&demo);
    let list = page.html("/failed/foo");
    let links = letters(&list);
    assert_eq!(links.len(), ids.len(), "{links:?}");
    let mut seen = vec![list];
    // The newest first.
    for (link, body) in links.iter().zip(bodies.iter().rev()) {
        let html = page.html(link);
        assert!(html.contains("Memory") || html.contains("Kind"), "{html}");
        let raw = page.html(&format!("{link}&view=raw"));
        let path = link.replacen('?', "/payload?", 1);
        let (head, bytes) = saved(&page, &path);
        assert!(bytes == **body, "{path}: {} bytes of {}", bytes.len(), body.len());
        assert!(head.contains("application/octet-stream") && head.contains("attachment; filename=\""), "{head}");
        seen.extend([html, raw]);
    }
    for html in &seen {
        assert!(html.len() < LONGEST, "{} bytes", html.len());
        for part in ["<script>alert", "<script>\\x", "\u{202e}", "\u{0}", "\"onx="] {
            assert!(!html.contains(part), "{part:?} in {html}");
        }
    }
    let first = page.html(links.last().expect("letters"));
    assert!(first.contains("1152921504606846977") && first.contains("2.50") && first.contains("1e400"), "{first}");
    // Headers, too.
    assert_eq!(first.matches("1152921504606846977").count(), 2, "{first}");
    let rows = api(&page, "/api/failed/foo");
    assert_eq!(rows["dead_letters"].as_array().map(Vec::len), Some(ids.len()));
    page.end();
}

#[test]
fn what_is_hidden_is_in_no_view_and_in_no_file() {
    let demo = demo(&Place::sqlite(), "dashboard: { hide: [password, 'card.*'] }\n");
    demo.submit("foo", "1");
    let bodies: [&[u8]; 4] = [
        br#"{"user":[{"Password":"s3cret","n":1152921504606846977}],"card":{"x":"s3cret"}}"#,
        br#""{\"password\":\"s3cret\"}""#,
        b"password=s3cret",
        b"s3cret \xff",
    ];
    for (number, body) in bodies.iter().enumerate() {
        let headers = json!({ "password": "s3cret", "kwargsrepr": "{'password': 's3cret'}" });
        plant(&demo, &number.to_string(), body, &failure("no", |_| {}), &headers);
    }
    let page = Page::open(&demo);
    for number in 0..bodies.len() {
        for path in ["", "?view=raw", "/payload"] {
            let answer = page.get(&format!("/failed/foo/{number}{path}"));
            assert!(!answer.body.contains("s3cret"), "{number}{path}: {}", answer.body);
            let is_refused = path == "/payload" && number > 1;
            assert_eq!(answer.status, if is_refused { 403 } else { 200 }, "{number}{path}");
        }
        let whole = page.html(&format!("/api/failed/foo/{number}"));
        assert!(!whole.contains("s3cret") && serde_json::from_str::<Value>(&whole).is_ok(), "{whole}");
    }
    let (head, bytes) = saved(&page, "/failed/foo/0/payload");
    assert!(head.contains("200"), "{head}");
    assert_eq!(
        String::from_utf8(bytes).expect("JSON"),
        r#"{"user":[{"Password":"•••","n":1152921504606846977}],"card":{"x":"•••"}}"#
    );
    page.end();
}

#[test]
fn on_a_broker_what_a_walk_saw_is_shown_until_something_has_changed() {
    let Some(place) = Place::amqp() else { return };
    let demo = demo(&place, "");
    bury(&demo, 6);
    let page = Page::open(&demo);
    until("it is not counted", || page.html("/failed").contains(">6<"));
    until("it is not read", || page.html("/failed/foo").contains("As of "));
    let as_of = || {
        let html = page.html("/failed/foo");
        let rest = html.split("As of ").nth(1).expect("a moment").to_owned();
        rest.split(' ').next().expect("a moment").to_owned()
    };
    let first = as_of();
    let html = page.html("/failed/foo");
    assert_eq!(html.matches("<td class=\"number\">3</td>").count(), 6, "{html}");
    assert_eq!(letters(&html).len(), 6);
    assert_eq!(letters(&page.html("/failed/foo?reason=crash")).len(), 3);
    let told = api(&page, "/api/failed/foo");
    let told = told["dead_letters"].as_array().expect("rows").iter().map(Value::to_string).collect::<BTreeSet<_>>();
    assert_eq!(told, listed(&demo));
    let link = letters(&html).into_iter().find(|link| link.starts_with("/failed/foo/3?")).expect("a letter");
    assert!(page.html(&link).contains("last words: last line"));
    let (head, bytes) = saved(&page, &link.replacen('?', "/payload?", 1));
    assert!(head.contains("200") && bytes == br#"{"n":3}"#, "{head}");
    assert_eq!(page.get("/failed/foo/nothing").status, 404);
    assert_eq!(page.get("/failed/elsewhere").status, 404);
    // It was not walked again for any of that.
    assert_eq!(as_of(), first);
    assert_eq!(header(&page.get("/failed/foo"), "cache-control"), Some("no-store"));
    page.end();
}

#[test]
fn schedules_are_told_as_by_the_command() {
    let schedules = "scheduled_workers: [{ worker: demo_sleep_worker, id: nightly, cron: '0 3 * * *' }]\n";
    let demo = demo(&Place::sqlite(), schedules);
    let page = Page::open(&demo);
    let (told, said) = (api(&page, "/api/schedules"), demo.json(&["schedules", "--json"]));
    assert_eq!(told["schedules"], said["schedules"]);
    assert_eq!(told["application"], said["application"]);
    let keys = |value: &Value| value.as_object().map(|fields| fields.keys().cloned().collect::<Vec<_>>());
    assert_eq!(keys(&told), keys(&said));
    page.end();
}
