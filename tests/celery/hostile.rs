//! Messages that nobody can read and requests that nobody should have sent: dead letters, or ignored; the master lives, works,
//! and does not grow.

use std::{collections::BTreeMap, time::Duration};

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldArray, FieldTable},
};
use serde_json::Value;

use super::{
    application::{Application, Kind, Workers},
    support::{
        foreign::{Foreign, publish_nested},
        log::{Master, Stopwatch, until},
    },
};

/// Of lists in lists.
const DEPTH: usize = 10_000;
/// A request of remote control, in bytes.
const LARGE: usize = 16 * 1024 * 1024;
/// What a master may have grown by, in bytes, when all is over.
const GROWTH: u64 = 32 * 1024 * 1024;

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn nested(depth: usize) -> AMQPValue {
    (0..depth).fold(AMQPValue::Void, |inner, _| AMQPValue::FieldArray(FieldArray::from(vec![inner])))
}

/// A good message of protocol 2, for a task that leaves a note.
struct Message {
    headers: BTreeMap<&'static str, AMQPValue>,
    content_type: &'static str,
    content_encoding: &'static str,
    body: Vec<u8>,
}

impl Message {
    fn good(id: &'static str, path: &str) -> Self {
        let headers = BTreeMap::from([
            ("lang", text("py")),
            ("task", text("shop.tasks.note")),
            ("id", text(id)),
            ("root_id", text(id)),
            ("parent_id", AMQPValue::Void),
            ("group", AMQPValue::Void),
            ("eta", AMQPValue::Void),
            ("expires", AMQPValue::Void),
            ("retries", AMQPValue::LongInt(0)),
            ("timelimit", AMQPValue::FieldArray(vec![AMQPValue::Void, AMQPValue::Void].into())),
            ("argsrepr", text("()")),
            ("kwargsrepr", text("{}")),
            ("origin", text("nobody")),
            ("ignore_result", AMQPValue::Boolean(true)),
        ]);
        let embedded = r#"{"callbacks":null,"errbacks":null,"chain":null,"chord":null}"#;
        let body = format!(r#"[["{path}","{id}"],{{}},{embedded}]"#).into_bytes();
        Self { headers, content_type: "application/json", content_encoding: "utf-8", body }
    }

    fn with(mut self, name: &'static str, value: AMQPValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn of_type(mut self, content_type: &'static str, content_encoding: &'static str) -> Self {
        (self.content_type, self.content_encoding) = (content_type, content_encoding);
        self
    }

    fn publish(self, foreign: &Foreign, id: &str) {
        let mut headers = FieldTable::default();
        for (name, value) in self.headers {
            headers.insert(name.into(), value);
        }
        let properties = BasicProperties::default()
            .with_content_type(self.content_type.into())
            .with_content_encoding(self.content_encoding.into())
            .with_correlation_id(id.into())
            .with_delivery_mode(2)
            .with_headers(headers);
        foreign.publish("celery", properties, &self.body);
    }
}

/// What cannot be done, whatever is done with it.
fn broken(path: &str) -> Vec<(&'static str, Message)> {
    let good = |id| Message::good(id, path);
    let lists = "[".repeat(DEPTH) + &"]".repeat(DEPTH);
    // Python would run it: `os.system`.
    let pickle = format!("cos\nsystem\n(S'echo done > {path}.pickled'\ntR.");
    vec![
        ("no-json", good("no-json").body(b"\xff\xfe{{".to_vec())),
        ("empty", good("empty").body("")),
        ("null", good("null").body("null")),
        ("object", good("object").body(r#"{"a":1}"#)),
        ("short", good("short").body("[[]]")),
        ("args", good("args").body(r#"["abc",{},{}]"#)),
        ("kwargs", good("kwargs").body(r#"[[],["a"],{}]"#)),
        ("embed", good("embed").body(r"[[],{},17]")),
        ("callbacks", good("callbacks").body(r#"[[],{},{"callbacks":[7],"chain":"x","chord":[]}]"#)),
        ("lists", good("lists").body(format!("[{lists},{{}},{{}}]"))),
        ("types", good("types").body(r#"[[{"__type__":"datetime","__value__":[]}],{},{}]"#)),
        ("unknown-type", good("unknown-type").of_type("application/x-unknown", "utf-8")),
        ("pickle", good("pickle").of_type("application/x-python-serialize", "binary").body(pickle)),
        ("yaml", good("yaml").of_type("application/x-yaml", "utf-8").body("[[], {}, {}]")),
        ("no-gzip", good("no-gzip").with("compression", text("application/x-gzip"))),
        ("unknown-compression", good("unknown-compression").with("compression", text("application/x-none"))),
        ("nobody-has-it", good("nobody-has-it").with("task", text(&"x".repeat(20_000)))),
        ("expires", good("expires").with("expires", text("2000-01-01T00:00:00+00:00"))),
    ]
}

/// What is odd: done, or a dead letter.
fn odd(path: &str) -> Vec<(&'static str, Message)> {
    let good = |id| Message::good(id, path);
    let list = |values: Vec<AMQPValue>| AMQPValue::FieldArray(values.into());
    vec![
        ("name", good("name").with("task", AMQPValue::LongInt(7))),
        // For JSON the encoding is not looked at.
        ("unknown-encoding", good("unknown-encoding").of_type("application/json", "klingon")),
        ("odd-id", good("odd-id").with("id", list(vec![text("a")]))),
        ("long-id", good("long-id").with("id", text(&"i".repeat(20_000)))),
        ("no-id", good("no-id").without("id")),
        ("eta-number", good("eta-number").with("eta", AMQPValue::LongInt(5))),
        ("eta-text", good("eta-text").with("eta", text("tomorrow, or later"))),
        ("eta-far", good("eta-far").with("eta", text("9999-99-99T99:99:99"))),
        ("expires-list", good("expires-list").with("expires", list(vec![]))),
        ("limit-text", good("limit-text").with("timelimit", text("soon"))),
        ("limit-list", good("limit-list").with("timelimit", list(vec![text("a"), nested(3), text("c")]))),
        ("limit-minus", good("limit-minus").with("timelimit", list(vec![AMQPValue::LongInt(-1), AMQPValue::Void]))),
        ("retries-text", good("retries-text").with("retries", text("many"))),
        ("retries-minus", good("retries-minus").with("retries", AMQPValue::LongLongInt(i64::MIN))),
        ("root", good("root").with("root_id", AMQPValue::Boolean(true))),
        ("reprs", good("reprs").with("argsrepr", text(&"a".repeat(50_000)))),
        ("stamps", good("stamps").with("stamps", list(vec![])).with("stamped_headers", text("x"))),
        ("bytes", good("bytes").with("bytes", AMQPValue::ByteArray(vec![0, 255].into()))),
        ("moment", good("moment").with("moment", AMQPValue::Timestamp(u64::MAX))),
        (
            "first-protocol",
            Message { headers: BTreeMap::new(), ..good("first-protocol").body(r#"{"task":5,"id":[]}"#) },
        ),
        ("first-without", Message { headers: BTreeMap::new(), ..good("first-without").body("[1,2]") }),
    ]
}

fn resident(master: &Master) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", master.pid())).expect("the master lives");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux tells it");
    line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number") * 1024
}

/// The master works: a task comes back within this time.
fn works(application: &Application) {
    let watch = Stopwatch::start();
    let got = application.python("shop", "from shop import tasks\nprint(tasks.add.delay(40, 2).get(timeout=30))");
    assert_eq!(got, "42");
    println!("a task with its producer's start took {:.1} s", watch.elapsed().as_secs_f64());
}

#[test]
fn messages_that_cannot_be_read_are_dead_letters() {
    if Workers::of_this_run() == Workers::Celerys {
        return;
    }
    let Some(application) = Application::new(vec![Kind::shop(2)]) else { return };
    let mut master = application.master(&[]);
    master.expect("Launching");
    works(&application);
    let before = master.workers();
    let path = application.folder.join("notes");
    let (path, address) = (path.display().to_string(), application.address.clone());
    let notes = path.clone();
    let sent = move || {
        let foreign = Foreign::connect(&address);
        let mut wanted = Vec::new();
        for (id, message) in broken(&path) {
            message.publish(&foreign, id);
            wanted.push(id);
        }
        let odd = odd(&path);
        let count = odd.len();
        for (id, message) in odd {
            message.publish(&foreign, id);
        }
        let nested = [("task", "shop.tasks.note"), ("id", "nested")];
        publish_nested(&address, "celery", &nested, DEPTH, &Message::good("nested", &path).body);
        (wanted, count + 1)
    };
    let (wanted, other) = sent();
    let letters = || application.dead_letters("celery");
    let done = || std::fs::read_to_string(&notes).unwrap_or_default().lines().count();
    until("they are neither done nor dead letters", || letters().len() + done() >= wanted.len() + other);
    let letters = letters();
    println!("{} dead letters, {} done", letters.len(), done());
    for letter in &letters {
        println!("{} {}: {}", letter["id"], letter["reason"], letter["error"]);
    }
    for id in wanted {
        let found: Vec<&Value> = letters.iter().filter(|letter| letter["id"] == id).collect();
        assert_eq!(found.len(), 1, "{id}: {letters:?}");
        let fair = ["malformed", "failed", "expired"].iter().any(|reason| found[0]["reason"] == *reason);
        assert!(fair, "nothing of it has killed a worker: {}", found[0]);
    }
    assert!(letters.iter().all(|letter| letter["reason"] != "crash"), "{letters:?}");
    assert!(!std::path::Path::new(&format!("{notes}.pickled")).exists(), "code of a message was run");
    works(&application);
    assert_eq!(master.workers(), before, "no worker was lost");
}

#[test]
fn forged_requests_of_remote_control_are_ignored() {
    if Workers::of_this_run() == Workers::Celerys {
        return;
    }
    let Some(application) = Application::new(vec![Kind::shop(1)]) else { return };
    let mut master = application.master(&[]);
    master.expect("Launching");
    works(&application);
    let ping = application.producer("shop", &["-m", "celery", "-A", "shop", "inspect", "ping", "-t", "5"]);
    let answers = |mut ping: std::process::Command| ping.output().expect("Celery is installed").status.success();
    assert!(answers(ping), "it has a node");
    let address = application.address.clone();
    let sent = move || {
        let foreign = Foreign::connect(&address);
        let json = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_content_encoding("utf-8".into());
        let send = |body: &[u8]| foreign.publish_to("celery.pidbox", json.clone(), body);
        let lists = "[".repeat(DEPTH) + &"]".repeat(DEPTH);
        let request = |method: &str, arguments: &str, more: &str| {
            format!(
                r#"{{"method":{method},"arguments":{arguments},"destination":null,"pattern":null,"matcher":null{more}}}"#
            )
        };
        send(&vec![b'x'; LARGE]);
        send(request(r#""ping""#, &format!(r#"{{"a":"{}"}}"#, "x".repeat(LARGE)), "").as_bytes());
        send(request(r#""revoke""#, &format!(r#"{{"task_id":[{}""]}}"#, r#""","#.repeat(LARGE / 3)), "").as_bytes());
        for body in [
            "",
            "null",
            "7",
            "[]",
            "{}",
            r#"{"method":7}"#,
            r#"{"method":null,"arguments":[]}"#,
            &request(r#""ping""#, "{}", r#","reply_to":"x""#),
            &request(r#""ping""#, "{}", r#","reply_to":{"exchange":7,"routing_key":[]}"#),
            &request(r#""ping""#, "{}", r#","reply_to":{"exchange":"nowhere","routing_key":"x"},"ticket":{}"#),
            &request(r#""ping""#, "{}", r#","reply_to":{"exchange":"amq.topic","routing_key":"x"},"ticket":"t""#),
            &request(r#""ping""#, &lists, ""),
            &request(r#""no such method""#, "{}", r#","reply_to":{"exchange":"","routing_key":"celery"}"#),
            &request(r#""shutdown""#, "{}", ""),
            &request(r#""time_limit""#, r#"{"task_name":"shop.tasks.add","hard":"x"}"#, ""),
            &request(r#""rate_limit""#, r#"{"task_name":7,"rate_limit":{}}"#, ""),
            r#"{"method":"ping","arguments":{},"destination":5}"#,
            r#"{"method":"ping","arguments":{},"pattern":"((((((((a*)*)*)*)*)*)*)*)*b","matcher":"pcre"}"#,
        ] {
            send(body.as_bytes());
        }
        let large = request(r#""ping""#, &format!(r#"{{"a":"{}"}}"#, "x".repeat(LARGE)), "");
        (foreign, large)
    };
    let (foreign, large) = sent();
    works(&application);
    let before = resident(&master);
    // A thousand a second, for some seconds: answers are wanted, and go nowhere.
    let json =
        BasicProperties::default().with_content_type("application/json".into()).with_content_encoding("utf-8".into());
    let flood = r#"{"method":"stats","arguments":{},"destination":null,
        "reply_to":{"exchange":"reply.celery.pidbox","routing_key":"nobody"},"ticket":"t"}"#;
    let watch = Stopwatch::start();
    for number in 0..5_000_u32 {
        foreign.publish_to("celery.pidbox", json.clone(), flood.as_bytes());
        if number % 1_000 == 0 {
            foreign.publish_to("celery.pidbox", json.clone(), large.as_bytes());
        }
        // Not faster than that.
        while watch.elapsed() < Duration::from_millis(u64::from(number)) {
            std::thread::yield_now();
        }
    }
    works(&application);
    let after = resident(&master);
    println!("resident: {} KiB before, {} KiB after", before / 1024, after / 1024);
    assert!(after <= before + GROWTH, "it grew from {before} to {after} bytes");
    let ping = application.producer("shop", &["-m", "celery", "-A", "shop", "inspect", "ping", "-t", "10"]);
    assert!(answers(ping), "its node is there");
}
