//! The folder that a command is started in: kept by the name it was started through, and no condition where nothing is
//! relative to it.

use std::{
    os::unix::fs::{PermissionsExt, symlink},
    process::{Command, Stdio},
};

use nix::sys::signal::Signal;

use super::{Demo, Place, Ran, refused, until};
use crate::support::demo::demo_program;

#[test]
fn a_link_that_a_master_was_started_through_is_followed() {
    let demo = Demo::new(&Place::sqlite());
    let path = |name: &str| demo.folder.path().join(name);
    for (release, workers) in [("r1", "{ a: k }"), ("r2", "{ a: k, b: k }")] {
        std::fs::create_dir(path(release)).expect("a folder of ours");
        let settings = format!("kinds: {{ k: {{ command: [./work], mode: once }} }}\nworkers: {workers}\n");
        demo.write(&format!("{release}/asynctask.yaml"), &settings);
        let work = demo.write(&format!("{release}/work"), &format!("#!/bin/sh\necho {release} >> \"$DEMO_FILE\"\n"));
        std::fs::set_permissions(work, std::fs::Permissions::from_mode(0o755)).expect("a file of ours");
    }
    let current = path("current");
    symlink("r1", &current).expect("a link of ours");
    let mut command = demo.command(&["workers", "-c", "asynctask.yaml", "--socket", "none"]);
    command.current_dir(&current).env("PWD", &current);
    let mut master = demo.follow(command);
    demo.submit("a", "1");
    until("the first task is not done", || demo.done() == ["r1"]);
    // A deploy.
    symlink("r2", path("next")).expect("a link of ours");
    std::fs::rename(path("next"), &current).expect("a link of ours");
    std::fs::remove_dir_all(path("r1")).expect("a folder of ours");
    demo.submit("a", "2");
    until("the second task is not done", || demo.done() == ["r1", "r2"]);
    master.signal(Signal::SIGHUP);
    master.expect("to work on queue b");
    master.signal(Signal::SIGTERM);
    assert_eq!(master.wait().0, 0);
}

/// Runs a command in a folder that was removed.
fn in_no_folder(demo: &Demo, arguments: &[&str]) -> Ran {
    let folder = demo.folder.path().join("away");
    std::fs::create_dir(&folder).expect("a folder of ours");
    let mut command = Command::new("sh");
    command.args(["-c", "rmdir \"$0\" && exec \"$@\""]).arg(&folder).arg(demo_program()).args(arguments);
    command.current_dir(&folder).env_remove("ASYNCTASK_CONFIG").stdin(Stdio::null());
    let output = command.output().expect("a shell");
    Ran {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    }
}

#[test]
fn a_folder_that_was_removed_is_missed_only_by_what_is_relative_to_it() {
    let demo = Demo::new(&Place::sqlite());
    let settings = "kinds: { k: { command: [cat], mode: once } }\nworkers: { a: k }\n";
    let file = demo.write("asynctask.yaml", settings);
    let file = file.to_str().expect("text");
    let commands: &[&[&str]] = &[
        &["submit", "a", "1"],
        &["queues"],
        &["failed", "list", "a"],
        &["schedules"],
        &["config", "check"],
        &["config", "show"],
        &["run", "demo_quiet_worker", "{}"],
        &["process", "a", "--worker", "demo_quiet_worker"],
        &["workers", "--halt-when-empty"],
        // Of a folder that is still there there is nothing left to be found in.
        &["workers", "--halt-when-empty", "--socket", "none"],
    ];
    for arguments in commands {
        let ran = in_no_folder(&demo, &[arguments, &["-c", file][..]].concat());
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{arguments:?}");
    }
    refused(&in_no_folder(&demo, &["status", "-c", file]), 3, "no master answers", Some("asynctask workers"));
    let uri = format!("transport={}", demo.uri);
    let ran = in_no_folder(&demo, &["queues", "--set", &uri]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));

    let removed = "is relative to the current folder, which was removed";
    let cases: &[(&[&str], &str)] = &[
        (&["queues", "-c", "asynctask.yaml"], "asynctask.yaml: "),
        (&["queues"], "sqlite:asynctask.db"),
        (&["queues", "--set", "transport=sqlite:tasks.db"], "--set transport"),
        (&["queues", "-c", file, "--set", "control.socket=here"], "--set control.socket"),
        (&["queues", "-c", file, "--set", "kinds.k.cwd=here"], "--set kinds.k.cwd"),
    ];
    for (arguments, what) in cases {
        let ran = in_no_folder(&demo, arguments);
        assert_eq!(ran.code, 78, "{arguments:?}: {ran:?}");
        let first = ran.stderr.lines().next().unwrap_or_default();
        assert!(first.starts_with("error: ") && first.contains(what) && first.contains(removed), "{ran:?}");
    }
    let ran = in_no_folder(&demo, &["queues", "--set", &uri, "--set", "kinds={k: {command: [./a]}}"]);
    assert!(ran.code == 78 && ran.stderr.contains("would run in the current folder, which was removed"), "{ran:?}");
}
