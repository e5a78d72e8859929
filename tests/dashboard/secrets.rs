//! What a worker says of an address is shown without its password, on every page and in every file.

use super::Page;
use crate::support::{Demo, Place, log::until};

const SETTINGS: &str = "workers: { foo: demo_sleep_worker }\ndashboard: { hide: [then] }\n";
/// Its worker does not know what to do then, and says so.
const PAYLOAD: &str = r#"{"then":"amqp://u:s3cret@h/"}"#;

#[test]
fn no_page_shows_the_password_of_an_address() {
    let demo = Demo::new(&Place::sqlite());
    demo.write("asynctask.yaml", SETTINGS);
    let master = demo.start_configured(&["--set", "workers.foo.retry.max_attempts=1"]);
    let page = Page::open(&demo);
    until("the history is not begun", || page.html("/api/tasks").contains("\"counts\":{"));
    let id = demo.submit("foo", PAYLOAD);
    let task = format!("/tasks/{id}");
    until("its end is not heard of", || page.get(&task).body.contains("It died at"));
    let letter = format!("/failed/foo/{id}");
    let says = [
        "/".to_owned(),
        "/tasks".to_owned(),
        "/tasks?text=unknown".to_owned(),
        task,
        "/api/tasks".to_owned(),
        "/failed/foo".to_owned(),
        letter.clone(),
        format!("{letter}?view=raw"),
        "/api/failed/foo".to_owned(),
        format!("/api{letter}"),
    ];
    for path in &says {
        let html = page.html(path);
        assert!(!html.contains("s3cret"), "{path}: {html}");
        assert!(html.contains("amqp://u:***@h/"), "{path}: {html}");
    }
    for path in ["/queues/foo", "/api/status", "/api/health", "/api/counters", "/failed", &format!("{letter}/payload")]
    {
        assert!(!page.html(path).contains("s3cret"), "{path}");
    }
    let history = demo.files().into_iter().find(|name| name.ends_with(".history.db")).expect("the history");
    let bytes = std::fs::read(demo.folder.path().join(history)).expect("it is ours");
    let has = |what: &[u8]| bytes.windows(what.len()).any(|part| part == what);
    assert!(has(b"amqp://u:***@h") && !has(b"s3cret"));
    page.end();
    master.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(master.wait().0, 0);
}
