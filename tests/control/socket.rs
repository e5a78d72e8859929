//! Where the socket is, who may open it, and what becomes of what another master left.

use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;

use crate::{Demo, Place, ends_with, failed_with, started, status, told};

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

#[test]
fn the_socket_of_another_master_stays() {
    let demo = Demo::new(&Place::sqlite());
    let first = started(&demo, SETTINGS);
    let path = demo.folder.path().join("asynctask.sock");
    // As something that cleans folders does.
    std::fs::remove_file(&path).expect("it is there");
    let second = started(&demo, SETTINGS);
    first.signal(Signal::SIGTERM);
    ends_with(first, 0);
    assert_eq!(status(&demo)["pid"], second.pid());
    told(&demo, &["stop"]);
    ends_with(second, 0);
    assert!(!path.exists());
}

#[test]
fn what_is_not_a_socket_is_not_touched() {
    let demo = Demo::new(&Place::sqlite());
    demo.write("asynctask.yaml", SETTINGS);
    let file = demo.write("precious", "text");
    let ran = demo.run(&["workers", "--socket", "precious"]);
    assert_ne!(ran.code, 0);
    failed_with(&ran, "cannot make the control socket");
    assert_eq!(std::fs::read_to_string(file).expect("still there"), "text");
}

#[test]
fn none_is_none() {
    let demo = Demo::new(&Place::sqlite());
    demo.write("asynctask.yaml", SETTINGS);
    let mut master = demo.start_configured(&["--socket", "none"]);
    master.expect("Starting; queue=foo");
    assert!(!demo.files().iter().any(|name| name == "asynctask.sock"), "{:?}", demo.files());
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
