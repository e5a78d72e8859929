//! What the page shows is what the master says.

use nix::sys::signal::Signal;
use serde_json::Value;

use super::Page;
use crate::support::{Demo, Place, log::until};

const SETTINGS: &str = "workers: { foo: demo_sleep_worker, bar: { worker: demo_sleep_worker, processes: 2 } }\n";

#[test]
fn the_overview_has_a_line_for_each_queue_and_says_how_it_is() {
    let demo = Demo::new(&Place::sqlite());
    demo.write("asynctask.yaml", SETTINGS);
    let master = demo.start_configured(&[]);
    let page = Page::open(&demo);
    until("not all is well", || page.html("/").contains("All is well"));
    demo.submit("foo", r#"{"n":1}"#);
    until("it is not done", || demo.done().len() == 1);
    let api = |path: &str| serde_json::from_str::<Value>(&page.html(path)).expect("JSON");
    until("it is not shown", || api("/api/counters")["queues"]["foo"]["done"] == 1);
    let html = page.html("/");
    assert!(html.contains("href=\"/queues/foo\"") && html.contains("href=\"/queues/bar\""), "{html}");
    let status = api("/api/status");
    assert_eq!(status["queues"]["bar"]["slots"].as_array().map(Vec::len), Some(2));
    let html = page.html("/queues/bar");
    assert!(html.contains("bar[1]") && html.contains("bar[2]") && html.contains("Last day"), "{html}");
    assert_eq!(page.get("/queues/elsewhere").status, 404);
    // A pause is told where the queue is shown, by whom.
    assert_eq!(demo.run(&["control", "pause", "bar", "--for", "1h"]).code, 0);
    until("the pause is not shown", || page.html("/queues/bar").contains("until 2"));
    let html = page.html("/");
    assert!(html.contains("paused by ") && html.contains("But bar is paused."), "{html}");
    // A page that is open has a place for what comes, and is told what went.
    assert!(page.html("/queues/foo").contains("data-live=\"Paused\">-<"));
    assert_eq!(demo.run(&["control", "resume", "bar"]).code, 0);
    until("the resume is not told", || api("/api/live?view=/queues/bar")["Paused"] == "-");
    master.signal(Signal::SIGKILL);
    master.wait();
    until("a dead master is shown as if it lived", || page.html("/").contains("does not answer"));
    let html = page.html("/") + &page.html("/queues/foo");
    assert!(!html.contains("idle") && !html.contains("All is well") && html.contains("not known"), "{html}");
    let answer = page.get("/api/health");
    let health = serde_json::from_str::<Value>(&answer.body).expect("JSON");
    assert_eq!((answer.status, &health["healthy"]), (503, &Value::Bool(false)), "{health}");
    assert!(health["problems"][0].as_str().is_some_and(|problem| problem.contains("does not answer")), "{health}");
    assert_eq!(["/api/status", "/api/counters"].map(|path| page.get(path).status), [503, 503]);
    assert_eq!(api("/api/schedules")["leader"], Value::Null);
    page.end();
    // Nor does a page that was never told of it say anything else.
    let page = Page::open(&demo);
    assert_eq!(["/api/status", "/api/health", "/api/counters"].map(|path| page.get(path).status), [503; 3]);
    page.end();
}
