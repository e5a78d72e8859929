//! The page's history: what it lists and what it leaves out is all that there was, and nothing runs in it for ever.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::Page;
use crate::support::{Demo, Place, log::until};

const SETTINGS: &str =
    "workers: { foo: { worker: demo_sleep_worker, processes: 2, retry: { max_attempts: 2, first: 0s } } }\n";
/// It is in hand until its worker is killed.
const LONG: &str = r#"{"sleep_ms":600000}"#;

impl Page {
    fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.html(path)).expect("JSON")
    }

    /// The rows of all parts of a list, and how many it says that it has.
    fn walked(&self, query: &str) -> (BTreeSet<u64>, Value) {
        let (mut rows, mut before) = (BTreeSet::new(), String::new());
        loop {
            let part = self.json(&format!("/api/tasks?{query}{before}"));
            for record in part["records"].as_array().expect("a list") {
                assert!(rows.insert(record["row"].as_u64().expect("a number")), "a row stands in two parts: {record}");
            }
            match part["next"].as_u64() {
                Some(next) => before = format!("&before={next}"),
                None => return (rows, part["counts"].clone()),
            }
        }
    }
}

fn sum(counts: &Value, of: &str) -> u64 {
    counts.as_object().expect("an object").values().filter_map(|outcome| outcome[of].as_u64()).sum()
}

#[test]
fn a_list_and_what_it_leaves_out_is_all_that_ended() {
    let demo = Demo::new(&Place::sqlite());
    demo.write("asynctask.yaml", SETTINGS);
    let mut master = demo.start_configured(&[]);
    master.expect("Starting; queue=foo");
    let page = Page::open(&demo);
    // It is asked for from now on.
    until("the history is not begun", || page.json("/api/tasks")["counts"].is_object());
    let (done, dead, crashed) = (4000, 30, 3);
    let payload = |number: usize| match number % 100 {
        7 if number < 100 * dead => r#"{"then":"dead"}"#.to_owned(),
        8 if number < 100 * crashed => r#"{"then":"segfault"}"#.to_owned(),
        _ => format!(r#"{{"n":{number}}}"#),
    };
    let all = done + dead + crashed;
    let ids = demo.submit_ids("foo", (0..all).map(payload));
    let total = |outcome: &str| page.json("/api/tasks")["counts"][outcome]["total"].as_u64().unwrap_or_default();
    until("not all is counted", || total("done") + total("dead") >= all as u64);

    // What it says is what the master counts, and what was submitted.
    let counters = page.json("/api/counters")["queues"]["foo"].clone();
    let counted =
        |what: &str| counters[what].as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum::<u64>();
    let counts = || page.walked("").1;
    assert_eq!(
        (total("done"), total("dead"), total("retried")),
        (done as u64, (dead + crashed) as u64, crashed as u64)
    );
    assert_eq!((counters["done"].as_u64(), counted("dead")), (Some(done as u64), (dead + crashed) as u64));
    until("not all that the master has is listed", || sum(&counts(), "listed") == page.walked("").0.len() as u64);

    // Every row there is can be come to, and they are as many as is said; what is not listed is said, too.
    let (rows, counts) = page.walked("");
    assert_eq!(rows.len() as u64, sum(&counts, "listed"), "{counts}");
    assert_eq!(rows.len() as u64 + sum(&counts, "left_out"), (all + crashed) as u64, "{counts}");
    assert!(counts["done"]["left_out"].as_u64() > Some(1000), "a flood is listed in part: {counts}");
    for failure in ["dead", "retried"] {
        assert_eq!(counts[failure]["left_out"], 0, "failures are listed whole: {counts}");
    }
    let (errors, counts) = page.walked("state=error&queue=foo");
    assert_eq!((errors.len(), sum(&counts, "total")), (dead + crashed, (dead + crashed) as u64));
    let html = page.html("/tasks");
    assert!(
        html.contains(&format!("all {} in error", dead + crashed)) && html.contains("of 4\u{202f}000 finished"),
        "{html}"
    );
    assert!(html.contains("Left out: "), "{html}");
    assert!(page.walked("queue=elsewhere").0.is_empty());

    // A death is a sentence, in the list, on the first page, and with both of its attempts.
    let id = &ids[108];
    let task = page.html(&format!("/tasks/{id}"));
    assert!(task.contains("killed by SIGSEGV after") && task.contains("attempt 2"), "{task}");
    assert_eq!(
        task.matches("<rect class=\"error\"").count() + task.matches("<rect class=\"retried\"").count(),
        2,
        "{task}"
    );
    assert!(page.html(&format!("/tasks?text={id}")).contains("killed by SIGSEGV"));
    let overview = page.html("/");
    assert!(overview.contains("Last failures") && overview.matches("class=\"state error\"").count() > 0, "{overview}");
    assert_eq!(page.get("/tasks/nobody").status, 404);
    assert_eq!(page.get("/tasks?state=eaten").status, 400);

    // Another page that comes after it knows the same, and counts nothing twice.
    let before = page.walked("");
    page.end();
    let page = Page::open(&demo);
    until("it has not asked yet", || page.json("/api/counters")["queues"].is_object());
    demo.submit("foo", r#"{"n":1}"#);
    until("it does not go on", || sum(&page.walked("").1, "total") > sum(&before.1, "total"));
    until("it is not listed", || page.walked("").0.len() > before.0.len());
    let after = page.walked("");
    assert_eq!((after.0.len(), sum(&after.1, "total")), (before.0.len() + 1, sum(&before.1, "total") + 1));
    page.end();
    master.signal(Signal::SIGTERM);
    assert_eq!(master.wait().0, 0);
}

#[test]
fn nothing_stays_running_when_its_master_is_killed() {
    let demo = Demo::new(&Place::sqlite());
    demo.write("asynctask.yaml", "workers: { foo: demo_sleep_worker }\n");
    let master = demo.start_configured(&[]);
    let page = Page::open(&demo);
    let id = demo.submit("foo", LONG);
    let is_running = |page: &Page| page.html("/tasks?state=running").contains(&id);
    until("it is not shown as running", || is_running(&page));
    let task = format!("/tasks/{id}");
    assert!(page.html(&task).contains("It runs for"));
    master.signal(Signal::SIGKILL);
    master.wait();
    until("it runs without its master", || !is_running(&page));
    let html = page.html("/tasks");
    assert!(html.contains("What runs now is not known") && !html.contains("state running"), "{html}");
    let answer = page.get(&task);
    assert!(answer.status == 404 && answer.body.contains("Whether it runs now is not known"), "{}", answer.body);
    page.end();
    // Nor does it for a page that was never told of it.
    let page = Page::open(&demo);
    assert!(!is_running(&page));
    assert!(!page.html("/").contains("state running"));
    page.end();
}

#[test]
fn a_page_without_its_file_goes_on_and_says_so() {
    let demo = Demo::new(&Place::sqlite());
    demo.write("asynctask.yaml", "workers: { foo: demo_sleep_worker }\n");
    let master = demo.start_configured(&[]);
    let page = Page::open(&demo);
    let name = || demo.files().into_iter().find(|name| name.ends_with(".history.db"));
    until("there is no file", || name().is_some());
    page.end();
    let file = demo.write(&name().expect("it is there"), &"this is no database ".repeat(1000));
    let page = Page::open(&demo);
    demo.submit("foo", LONG);
    until("it is not said", || {
        let html = page.html("/tasks");
        html.contains("is damaged; remove it") && html.contains("Nothing is written to the history now")
    });
    until("what runs is not shown", || page.html("/tasks").contains("1 running now"));
    assert!(page.html("/").contains("is damaged; remove it"));
    assert_eq!(std::fs::read_to_string(&file).expect("it is ours").len(), 20_000, "it is left as it is");
    std::fs::remove_file(&file).expect("it is ours");
    demo.submit("foo", r#"{"then":"dead"}"#);
    until("it is not taken up again", || page.json("/api/tasks")["counts"].is_object());
    page.end();
    master.signal(Signal::SIGKILL);
    master.wait();
}
