//! A task with a countdown lies in a delay queue, in nobody's memory: a master that is killed has no part in it.

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{
    application::{Application, Kind, Workers},
    support::log::until,
};

const TASKS: usize = 10;
/// Long enough for two starts of a master with its Python.
const COUNTDOWN: u32 = 9;
/// Seconds that a delayed task may be late.
const LATE: f64 = 1.0;

#[test]
fn a_countdown_survives_a_master_that_is_killed() {
    if Workers::of_this_run() == Workers::Celerys {
        return;
    }
    let Some(application) = Application::new(vec![Kind::shop(1)]) else { return };
    let path = application.folder.join("delayed");
    let mut master = application.master(&[]);
    master.expect("Launching");
    let sent = format!(
        "import time\nfrom shop import tasks\nfor n in range({TASKS}):\n    \
         due = time.time() + {COUNTDOWN}\n    tasks.note.apply_async(({:?}, str(due)), countdown={COUNTDOWN})\n",
        path.display().to_string()
    );
    application.python("shop", &sent);
    until("the tasks are not delayed", || {
        let depths: Value = serde_json::from_str(&application.run(&["queues", "--json"])).expect("JSON");
        depths["celery"]["delayed"] == TASKS && depths["celery"]["in_hand"] == 0
    });
    master.signal(Signal::SIGKILL);
    master.wait();
    assert!(!path.exists(), "it was too late to kill it");

    application.start(&[]);
    let done = || std::fs::read_to_string(&path).unwrap_or_default();
    until("the tasks are not done", || done().lines().count() == TASKS);
    for line in done().lines() {
        let (began, due) = line.split_once(' ').expect("two moments");
        let (began, due): (f64, f64) = (began.parse().expect("a number"), due.parse().expect("a number"));
        assert!((0.0..=LATE).contains(&(began - due)), "it began {:.3} s after it was due", began - due);
    }
    assert_eq!(application.dead_letters("celery"), Vec::<Value>::new());
}
