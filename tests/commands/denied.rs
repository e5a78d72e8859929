//! Files and sockets of another user: whose they are is said, and what root makes for a service is the service's.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::sys::signal::Signal;

use super::{Demo, Place, Ran, refused};
use crate::support::demo::demo_program;

/// A user without rights that every system has.
const NOBODY: u32 = 65534;

/// A demo whose folder others may enter; `None`, and said, where this user cannot become another one.
fn open_to_others() -> Option<Demo> {
    if !nix::unistd::geteuid().is_root() {
        crate::support::left_out("only root can be another user");
        return None;
    }
    let demo = Demo::new(&Place::sqlite());
    allow(demo.folder.path(), 0o755);
    Some(demo)
}

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a file of ours");
}

/// Runs a command as that user, in the folder; the transport is that of the folder's settings.
fn as_nobody(demo: &Demo, arguments: &[&str]) -> Ran {
    // The program may lie where others may not enter.
    let program = demo.folder.path().join("demo");
    if !program.exists() && fs::hard_link(demo_program(), &program).is_err() {
        fs::copy(demo_program(), &program).expect("room for the program");
    }
    let mut command = Command::new(program);
    command.args(arguments).current_dir(demo.folder.path()).stdin(Stdio::null()).uid(NOBODY).gid(NOBODY);
    command.env("DEMO_FILE", demo.done_file()).env_remove("ASYNCTASK_CONFIG");
    let output = command.output().expect("it starts");
    Ran {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    }
}

const SETTINGS: &str = "transport: sqlite:q/tasks.db\nworkers: { foo: demo_quiet_worker }\n";

/// The folder of the queue, with this mode and owner.
fn folder(demo: &Demo, mode: u32, owner: u32) -> PathBuf {
    demo.write("asynctask.yaml", SETTINGS);
    let folder = demo.folder.path().join("q");
    fs::create_dir(&folder).expect("a folder of ours");
    allow(&folder, mode);
    chown(&folder, Some(owner), Some(owner)).expect("root may");
    folder
}

#[test]
fn what_root_makes_in_the_folder_of_a_service_is_the_services() {
    let Some(demo) = open_to_others() else { return };
    let folder = folder(&demo, 0o755, NOBODY);
    assert_eq!(demo.run_configured(&["submit", "foo", "1"]).code, 0);
    // A master of root's, which makes the file of locks.
    assert_eq!(demo.run_configured(&["workers", "--halt-when-empty", "--socket", "none"]).code, 0);
    let names: Vec<_> = fs::read_dir(&folder).expect("it is there").map(|entry| entry.expect("an entry")).collect();
    assert!(names.iter().any(|entry| entry.file_name() == "tasks.db.masters"), "{names:?}");
    for entry in names {
        let metadata = entry.metadata().expect("it is there");
        assert_eq!((metadata.uid(), metadata.gid()), (NOBODY, NOBODY), "{entry:?}");
    }
    assert_eq!(demo.run_configured(&["submit", "foo", "2"]).code, 0);
    let ran = as_nobody(&demo, &["workers", "--halt-when-empty", "--socket", "none"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", ran.stdout);
    assert!(ran.stdout.contains("1 processed"), "{}", ran.stdout);
}

#[test]
fn a_file_of_another_user_is_denied_and_told_whose_it_is() {
    let Some(demo) = open_to_others() else { return };
    // Where everybody may put files they stay whose they are.
    let folder = folder(&demo, 0o777, NOBODY);
    assert_eq!(demo.run_configured(&["submit", "foo", "1"]).code, 0);
    let whose = "permission denied: it belongs to root (0), with mode 0600, and this is ";
    for arguments in [
        &["workers", "--halt-when-empty", "--socket", "none"][..],
        &["submit", "foo", "2"],
        &["queues"],
        &["failed", "list", "foo"],
    ] {
        let ran = as_nobody(&demo, arguments);
        refused(&ran, 69, whose, None);
        assert!(ran.stderr.contains("tasks.db") && ran.stderr.contains("65534"), "{ran:?}");
    }
    // One that it may open, and nothing beside it.
    allow(&folder, 0o755);
    chown(&folder, Some(0), Some(0)).expect("root may");
    allow(&folder.join("tasks.db"), 0o666);
    let ran = as_nobody(&demo, &["submit", "foo", "2"]);
    refused(&ran, 69, "permission denied: it belongs to root (0)", None);
    // One that is not there, and cannot be made.
    for entry in fs::read_dir(&folder).expect("it is there") {
        fs::remove_file(entry.expect("an entry").path()).expect("a file of ours");
    }
    let ran = as_nobody(&demo, &["submit", "foo", "2"]);
    refused(&ran, 69, "it cannot be made: its folder ", None);
    assert!(ran.stderr.contains("permission denied: it belongs to root (0), with mode 0755"), "{ran:?}");
}

#[test]
fn a_master_of_another_user_answers_and_not_to_us() {
    let Some(demo) = open_to_others() else { return };
    demo.write("asynctask.yaml", "workers: { foo: demo_quiet_worker }\n");
    let mut master = demo.start_configured(&[]);
    master.expect("Starting; queue=foo");
    for arguments in [&["status"][..], &["health"], &["control", "pause", "foo"]] {
        let ran = as_nobody(&demo, arguments);
        refused(&ran, 1, "cannot talk to the master at ", Some("sudo -u root"));
        assert!(ran.stderr.contains("permission denied: it belongs to root (0), with mode 0600"), "{ran:?}");
    }
    master.signal(Signal::SIGTERM);
    assert_eq!(master.wait().0, 0);
    let ran = as_nobody(&demo, &["status"]);
    refused(&ran, 3, "no master answers", Some("asynctask workers"));
}
