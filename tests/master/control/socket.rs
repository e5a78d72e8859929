//! Where the socket is, who may open it, and what becomes of what another master left.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use nix::sys::signal::Signal;

use super::{Demo, Place, ends_with, failed_with, started, status, told, until};

const SETTINGS: &str = "workers: { foo: demo_quiet_worker }\n";

#[test]
fn the_socket_is_its_owners_alone_and_goes_with_the_master() {
    let demo = Demo::new(&Place::sqlite());
    let master = started(&demo, SETTINGS);
    let socket = demo.folder.path().join("asynctask.sock");
    let mode = std::fs::metadata(&socket).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600, "{mode:o}");
    told(&demo, &["stop"]);
    ends_with(master, 0);
    assert!(!socket.exists());
}

#[test]
fn a_live_master_keeps_its_socket() {
    let demo = Demo::new(&Place::sqlite());
    let master = started(&demo, SETTINGS);
    let ran = demo.run(&["workers"]);
    assert_eq!(ran.code, 73, "{}", ran.stderr);
    failed_with(&ran, "another master holds the control socket");
    assert!(ran.stderr.contains("hint: ") && ran.stderr.contains("--socket"), "{}", ran.stderr);
    // The first one is as well as before.
    assert_eq!(status(&demo)["pid"], master.pid());
    told(&demo, &["stop"]);
    ends_with(master, 0);
}

#[test]
fn what_a_killed_master_left_is_replaced() {
    let demo = Demo::new(&Place::sqlite());
    let first = started(&demo, SETTINGS);
    first.signal(Signal::SIGKILL);
    ends_with(first, -9);
    assert!(demo.folder.path().join("asynctask.sock").exists(), "a killed master cleans nothing up");
    assert_eq!(demo.run(&["status"]).code, 3);
    let second = started(&demo, SETTINGS);
    assert_eq!(status(&demo)["pid"], second.pid());
    told(&demo, &["stop"]);
    ends_with(second, 0);
}

/// The socket of the demo's master, and its lock.
fn paths(demo: &Demo) -> [PathBuf; 2] {
    ["asynctask.sock", "asynctask.sock.lock"].map(|name| demo.folder.path().join(name))
}

/// As something that cleans folders does.
fn remove(path: &Path) {
    std::fs::remove_file(path).expect("it is there");
}

#[test]
fn a_socket_that_was_removed_is_made_again_and_said() {
    let demo = Demo::new(&Place::sqlite());
    let mut master = started(&demo, SETTINGS);
    let [socket, lock] = paths(&demo);
    remove(&socket);
    let line = master.expect("is made again");
    assert!(line.starts_with("WARNING:AsyncTaskWorkerTask:The control socket ") && line.contains("asynctask.sock"));
    assert_eq!(demo.run(&["health", "--wait", "50s"]).code, 0);
    let mode = std::fs::metadata(&socket).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600, "{mode:o}");
    // Replaced, by a file that somebody moves there.
    std::fs::rename(&socket, socket.with_extension("old")).expect("a file of ours");
    master.expect("is made again");
    std::fs::rename(socket.with_extension("old"), &socket).expect("a file of ours");
    master.expect("is made again");
    assert_eq!(status(&demo)["pid"], master.pid());
    remove(&lock);
    let line = master.expect("is made again");
    assert!(line.contains("asynctask.sock.lock"), "{line}");
    failed_with(&demo.run(&["workers"]), "another master holds the control socket");
    told(&demo, &["stop"]);
    ends_with(master, 0);
    assert!(!socket.exists() && !lock.exists());
}

#[test]
fn a_second_master_is_refused_while_the_socket_is_away() {
    let demo = Demo::new(&Place::sqlite());
    let mut master = started(&demo, SETTINGS);
    let [socket, _] = paths(&demo);
    // One that cannot make it again at this moment.
    master.signal(Signal::SIGSTOP);
    remove(&socket);
    let ran = demo.run(&["workers"]);
    assert_eq!(ran.code, 73, "{}", ran.stderr);
    failed_with(&ran, "another master holds the control socket");
    assert!(ran.stderr.contains(&format!("(pid {})", master.pid())), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: ") && ran.stderr.contains("--socket"), "{}", ran.stderr);
    assert!(!socket.exists());
    master.signal(Signal::SIGCONT);
    master.expect("is made again");
    assert_eq!(status(&demo)["pid"], master.pid());
    told(&demo, &["stop"]);
    ends_with(master, 0);
}

#[test]
fn the_socket_of_another_master_stays() {
    let demo = Demo::new(&Place::sqlite());
    let mut first = started(&demo, SETTINGS);
    first.signal(Signal::SIGSTOP);
    for path in paths(&demo) {
        remove(&path);
    }
    let second = started(&demo, SETTINGS);
    first.signal(Signal::SIGCONT);
    let line = first.expect("another master holds the control socket");
    assert!(line.starts_with("ERROR:") && line.contains(&format!("(pid {})", second.pid())), "{line}");
    first.signal(Signal::SIGTERM);
    ends_with(first, 0);
    assert_eq!(status(&demo)["pid"], second.pid());
    told(&demo, &["stop"]);
    ends_with(second, 0);
    assert_eq!(paths(&demo).map(|path| path.exists()), [false, false]);
}

#[test]
fn what_another_program_put_in_its_place_is_not_touched() {
    let demo = Demo::new(&Place::sqlite());
    let mut master = started(&demo, SETTINGS);
    let [socket, _] = paths(&demo);
    let other = demo.write("precious", "text");
    std::fs::rename(other, &socket).expect("a file of ours");
    let line = master.expect("cannot make the control socket");
    assert!(line.starts_with("WARNING:") && line.contains("no socket"), "{line}");
    assert_eq!(std::fs::read_to_string(&socket).expect("still there"), "text");
    // Work goes on without it.
    demo.submit("foo", "{}");
    until("the task is not done", || demo.is_empty("foo"));
    remove(&socket);
    master.expect("is made again");
    assert_eq!(demo.run(&["health", "--wait", "50s"]).code, 0);
    told(&demo, &["stop"]);
    let log = ends_with(master, 0);
    assert_eq!(log.matches("cannot make the control socket").count(), 1, "{log}");
}

#[test]
fn a_folder_that_was_removed_and_comes_back_gets_its_socket() {
    let demo = Demo::new(&Place::sqlite());
    demo.write("asynctask.yaml", SETTINGS);
    let folder = demo.folder.path().join("run");
    std::fs::create_dir(&folder).expect("a folder of ours");
    let mut master = demo.start_configured(&["--socket", "run/control.sock"]);
    master.expect("Starting; queue=foo");
    std::fs::remove_dir_all(&folder).expect("a folder of ours");
    let line = master.expect("cannot make the control socket");
    assert!(line.starts_with("WARNING:") && line.contains("its folder"), "{line}");
    std::fs::create_dir(&folder).expect("a folder of ours");
    master.expect("is made again");
    assert_eq!(demo.run(&["control", "--socket", "run/control.sock", "stop"]).code, 0);
    ends_with(master, 0);
}

#[test]
fn what_is_not_a_socket_is_not_touched() {
    let demo = Demo::new(&Place::sqlite());
    demo.write("asynctask.yaml", SETTINGS);
    let file = demo.write("precious", "text");
    let ran = demo.run(&["workers", "--socket", "precious"]);
    assert_ne!(ran.code, 0);
    failed_with(&ran, "cannot make the control socket");
    assert!(!demo.files().iter().any(|name| name.contains(".lock")), "{:?}", demo.files());
    assert_eq!(std::fs::read_to_string(file).expect("still there"), "text");
}

#[test]
fn none_is_none() {
    let demo = Demo::new(&Place::sqlite());
    demo.write("asynctask.yaml", SETTINGS);
    let mut master = demo.start_configured(&["--socket", "none"]);
    master.expect("Starting; queue=foo");
    assert!(!demo.files().iter().any(|name| name.contains(".sock")), "{:?}", demo.files());
    assert_eq!(demo.run(&["status"]).code, 3);
    assert_eq!(demo.run(&["status", "--socket", "none"]).code, 3);
    master.signal(Signal::SIGTERM);
    ends_with(master, 0);
}

#[test]
fn a_path_may_be_longer_than_a_socket_address() {
    let demo = Demo::new(&Place::sqlite());
    demo.write("asynctask.yaml", SETTINGS);
    let folder = demo.folder.path().join("long".repeat(30));
    std::fs::create_dir(&folder).expect("a folder of ours");
    let path = folder.join("control.sock");
    let path = path.to_str().expect("text");
    assert!(path.len() > 108);
    let mut master = demo.start_configured(&["--socket", path]);
    master.expect("Starting; queue=foo");
    assert_eq!(demo.json(&["status", "--json", "--socket", path])["pid"], master.pid());
    assert_eq!(demo.run(&["control", "--socket", path, "stop"]).code, 0);
    ends_with(master, 0);
}
