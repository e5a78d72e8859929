//! A wall clock that is wrong: days ahead for seconds, and days back.
//!
//! The time of the processes is faked by libfaketime (`faketime` of Debian), the wall clock alone; without it this is left out.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use nix::sys::signal::Signal;

use crate::support::{Demo, Place, log::until};

const SETTINGS: &str = "
workers:
  foo: demo_sleep_worker
  tried: { worker: demo_sleep_worker, retry: { max_attempts: 2, first: 5s } }
  moment: demo_sleep_worker
scheduled_workers: [{ worker: demo_file_worker, every: 1s }]
";

/// The library, where it is installed.
fn library() -> Option<PathBuf> {
    let name = "faketime/libfaketimeMT.so.1";
    let triples = ["x86_64-linux-gnu", "aarch64-linux-gnu"];
    let found = triples.iter().map(|triple| Path::new("/usr/lib").join(triple).join(name)).find(|path| path.exists());
    if found.is_none() {
        crate::support::left_out("libfaketime is not installed (Debian: faketime)");
    }
    found
}

/// A command whose wall clock is as wrong as the file `clock` says.
fn with_clock(demo: &Demo, library: &Path, mut command: Command) -> Command {
    command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", demo.folder.path().join("clock"));
    command.envs([("FAKETIME_NO_CACHE", "1"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1"), ("DONT_FAKE_MONOTONIC", "1")]);
    command
}

/// Sets the wall clock; by renaming, as it is read all the time.
fn set(demo: &Demo, wrong_by: &str) {
    let new = demo.write("clock.new", wrong_by);
    fs::rename(new, demo.folder.path().join("clock")).expect("a file in a folder of ours");
}

#[test]
fn a_wrong_clock_deletes_nothing_and_keeps_no_task_and_no_schedule_waiting() {
    let Some(library) = library() else { return };
    for place in Place::all() {
        let demo = Demo::new(&place);
        demo.write("asynctask.yaml", SETTINGS);
        set(&demo, "+0");
        let is_amqp = !matches!(place, Place::Sqlite);
        let mut master = demo.follow(with_clock(&demo, &library, demo.command(&["workers", "--scheduler"])));
        master.expect("Triggering scheduled execution");
        for _ in 0..3 {
            demo.submit("foo", r#"{"then":"error"}"#);
        }
        demo.submit("foo", r#"{"then":"ok"}"#);
        until("the tasks are not done", || demo.done().iter().any(|line| line.contains("ok")));
        assert_eq!(demo.depth("foo")["failed"], 3);

        set(&demo, "+5d");
        if !is_amqp {
            master.expect("the wall clock jumped ahead by 120 h: no dead letters are deleted");
        }
        // Retried by the wrong clock, and by the right one again.
        demo.submit("tried", r#"{"then":"error","n":1}"#);
        master.expect("Oops!");
        // The moments of five days are not made up for.
        let fired = master.log().text().matches("Triggering scheduled execution").count();
        assert!(fired < 400, "{fired} moments at once");
        set(&demo, "+0");
        if !is_amqp {
            master.expect("the wall clock jumped back by 120 h");
        }
        master.expect("Triggering scheduled execution");
        until("it waits for five days", || demo.depth("tried")["failed"] == 1);
        assert_eq!(demo.depth("foo")["failed"], 3, "deleted by a clock that was wrong for seconds");

        // Two days back, with a task that waits; one for a moment that somebody named waits for that.
        demo.submit("tried", r#"{"then":"error","n":2}"#);
        until("it is not tried", || demo.depth("tried")["delayed"] == 1);
        let moment = ["submit", "moment", "{}", "--at", "2100-01-01T00:00:00Z"];
        assert_eq!(demo.run(&moment).code, 0);
        set(&demo, "-2d");
        until("it waits for two days", || demo.depth("tried")["failed"] == 2);
        assert_eq!(demo.depth("moment")["delayed"], 1);
        assert_eq!(demo.depth("foo")["failed"], 3);
        let fired = master.log().text().matches("Triggering scheduled execution").count();
        until("the schedule waits for two days", || {
            master.log().text().matches("Triggering scheduled execution").count() > fired
        });
        master.signal(Signal::SIGTERM);
        let (code, log) = master.wait();
        assert_eq!(code, 0, "{log}");
    }
}
