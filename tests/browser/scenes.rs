//! What is on the stage: masters with queues in each state, and tasks of each end.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::{
    stage::{Stage, dead},
    support::{
        Demo, Place,
        log::{Master, until},
    },
};

/// A queue of each state, one of each kind of schedule, and one queue with a name as long as it may be.
const SETTINGS: &str = "
kinds: { shop: { command: [python3, worker.py] } }
workers:
  mail: { worker: shop, processes: 2, retry: { max_attempts: 2, first: 0s } }
  thumbnails: { worker: shop, processes: 4, retry: { max_attempts: 2, first: 0s } }
  reports: shop
  imports: { worker: shop, retry: { max_attempts: 1 }, breaker: { failures: 3, pause: 1h, longest: 1h } }
  LONG: shop
scheduled_workers:
- { queue: reports, id: nightly, cron: '0 3 * * *' }
- { ctl: backup --everything, id: backup, every: 6h }
";

/// The longest name of a queue.
pub(crate) fn long_name() -> String {
    "a_queue_with_a_name_that_is_as_long_as_a_name_can_be.".repeat(5)[..200].to_owned()
}

/// The queues that a person would have.
pub(crate) fn plain_demo() -> Demo {
    let queues = SETTINGS.lines().filter(|line| !line.contains("LONG"));
    with_settings(&Place::sqlite(), &queues.collect::<Vec<_>>().join("\n"))
}

/// The same with one whose name is as long as it may be.
pub(crate) fn demo() -> Demo {
    with_settings(&Place::sqlite(), &SETTINGS.replace("LONG", &long_name()))
}

pub(crate) fn with_settings(place: &Place, settings: &str) -> Demo {
    let demo = Demo::new(place);
    demo.write("worker.py", include_str!("worker.py"));
    demo.write("asynctask.yaml", settings);
    demo
}

/// A master in whose queues everything has happened that a page can tell of. A page has to be there to hear of it.
pub(crate) fn busy(stage: &Stage<'_>) -> Master {
    let demo = stage.demo;
    let master = demo.start_configured(&["--scheduler"]);
    until("no master", || demo.run(&["health"]).code == 0);
    stage.hears();
    assert_eq!(demo.run(&["control", "pause", "reports", "--for", "1h"]).code, 0);
    let refused = json!({ "to": "ada@example.org", "password": "hunter2", "card": { "number": "4111" }, "then": "error",
        "error": "SMTPRecipientsRefused: 550 no such user", "detail": traceback("send", 12) });
    let decoded = json!({ "file": "b.png", "say": "decoding b.png\nallocating 812 MiB", "then": "SIGKILL" });
    let faulty = json!({ "file": "c.tif", "say": "decoding c.tif", "then": "SIGSEGV" });
    let missing = json!({ "file": "gone.png", "then": "failed", "error": "FileNotFoundError: gone.png" });
    let copies = |payload: &serde_json::Value, count: usize| vec![payload.to_string(); count];
    demo.submit_all("mail", (0..120).map(|number| json!({ "n": number }).to_string()));
    demo.submit_all("mail", copies(&refused, 7));
    demo.submit_all(
        "thumbnails",
        (0..60).map(|number| json!({ "file": format!("{number}.png"), "seconds": 0.02 }).to_string()),
    );
    demo.submit_all("thumbnails", copies(&decoded, 2));
    demo.submit_all("thumbnails", copies(&faulty, 1));
    demo.submit_all("thumbnails", copies(&missing, 3));
    demo.submit_all("reports", (0..5).map(|number| json!({ "month": number }).to_string()));
    demo.submit_all("imports", copies(&json!({ "then": "SIGABRT" }), 3));
    dead(demo, "mail", 7);
    dead(demo, "thumbnails", 6);
    until("imports is not parked", || demo.json(&["status", "--json"])["queues"]["imports"]["state"] == "parked");
    demo.submit_all("imports", (0..40).map(|number| json!({ "row": number }).to_string()));
    for (percent, note) in [(35, "page 7 of 20"), (80, "uploading")] {
        demo.submit(
            "thumbnails",
            &json!({ "file": "large.tif", "percent": percent, "note": note, "seconds": 3600 }).to_string(),
        );
    }
    assert_eq!(demo.run(&["submit", "mail", "{}", "--delay", "2h"]).code, 0);
    until("nothing is in hand", || demo.json(&["status", "--json"])["queues"]["thumbnails"]["in_hand"] == 2);
    master
}

/// What an exception of Python tells.
fn traceback(function: &str, depth: usize) -> String {
    let call = |level: usize| {
        format!(
            "  File \"/srv/shop/mail.py\", line {}, in {function}_{level}\n    self.{function}_{}(message)\n",
            10 + level,
            level + 1
        )
    };
    let calls: String = (0..depth).map(call).collect();
    format!("Traceback (most recent call last):\n{calls}smtplib.SMTPRecipientsRefused: 550 no such user")
}

/// Ends a master at once.
pub(crate) fn kill(master: Master) {
    master.signal(Signal::SIGKILL);
    master.wait();
}
