//! Retries at a rate: the pauses are no waiting for an answer, and end with the command.

use std::process::Stdio;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{on_each, six};

#[test]
fn what_a_rate_asks_for_is_not_waited_for_in_vain() {
    on_each(|demo| {
        six(demo);
        // The transport's pause is longer than what it may take for an answer, and that much more.
        let run = demo.run(&["failed", "retry", "foo", "2", "3", "--rate", "12/m", "--wait", "1s"]);
        assert_eq!((run.code, run.stdout.as_str()), (0, "2 dead letters of queue foo retried\n"), "{run:?}");
    });
}

#[test]
fn an_interrupted_pause_tells_what_was_done() {
    on_each(|demo| {
        six(demo);
        let mut command = demo.command(&["failed", "retry", "foo", "2", "3", "--rate", "1/m"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the demo starts");
        crate::support::log::until("the first does not go", || demo.depth("foo")["ready"] == 1);
        kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), Signal::SIGINT).expect("it is our child");
        let output = child.wait_with_output().expect("it is our child");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{told}");
        assert!(told.contains("hint: 1 dead letter was put back to work before"), "{} ({told})", demo.uri);
        assert_eq!((&demo.depth("foo")["ready"], &demo.depth("foo")["failed"]), (&1.into(), &5.into()));
    });
}
