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
    master.signal(Signal::SIGKILL);
    master.wait();
    until("a dead master is shown as if it lived", || page.html("/").contains("does not answer"));
    page.end();
}
