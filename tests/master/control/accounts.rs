//! A directory server that is slow or down: users and groups are asked for while settings are read, and the master works on
//! meanwhile.

use std::{
    fs::{File, OpenOptions},
    process::{Command, Stdio},
};

use nix::unistd::{Uid, User};

use super::{Demo, Place, told};
use crate::support::{demo::demo_program, log::until};

/// Builds the library that stands between the master and the databases of users.
fn library(demo: &Demo) -> std::path::PathBuf {
    let source = demo.write("accounts.c", include_str!("../../support/accounts.c"));
    let library = demo.folder.path().join("accounts.so");
    let mut build = Command::new("cc");
    build.args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"]).arg(&library).arg(source).arg("-ldl");
    // Whoever built this program has a compiler for C: SQLite is built from its source.
    assert!(build.status().expect("there is a compiler for C").success());
    library
}

#[test]
fn a_directory_server_that_is_slow_or_down_holds_up_no_task() {
    let demo = Demo::new(&Place::sqlite());
    let library = library(&demo);
    let own = User::from_uid(Uid::effective()).expect("users").expect("this user has a name").name;
    let settings = |user: &str, n: u8| {
        let kind = format!("command: [sh, -c, 'echo did $0 $(cat)', '{n}'], mode: once, user: {user}");
        demo.write("asynctask.yaml", &format!("workers: {{ foo: kind }}\nkinds:\n  kind: {{ {kind} }}\n"));
    };
    settings(&own, 1);
    let place = |name: &str| demo.folder.path().join(name);
    let asked = || std::fs::read_to_string(place("asked")).unwrap_or_default().lines().count();
    let mut command = demo.command(&["workers"]);
    command.env("LD_PRELOAD", library).env("ACCOUNTS_ASKED", place("asked"));
    command.env("ACCOUNTS_PIPE", place("pipe")).env("ACCOUNTS_DOWN", place("down"));
    let mut master = demo.follow(command);
    master.expect("Launching kind");
    until("the control socket is not there", || place("asynctask.sock").exists());
    // At the start: the user and its groups. Tasks that are begun ask nothing.
    assert_eq!(asked(), 2);
    let mut work = |n: u8, payload: &str| {
        demo.submit("foo", payload);
        master.expect(&format!("did {n} {payload}"));
    };
    work(1, "11");
    work(1, "12");
    assert_eq!(asked(), 2);

    // It does not answer, and a reload waits for it.
    nix::unistd::mkfifo(&place("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let reload = || {
        let mut command = demo.command_of(demo_program(), &["control", "reload", "--socket", "asynctask.sock"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
    };
    settings(&own, 2);
    let first = reload();
    until("nobody is asked", || asked() == 3);
    work(1, "13");
    told(&demo, &["pause", "foo"]);
    told(&demo, &["resume", "foo"]);
    // Who asks meanwhile gets what the files say by then.
    settings(&own, 3);
    let socket = place("asynctask.sock").display().to_string();
    let connected = || {
        let sockets = std::fs::read_to_string("/proc/net/unix").expect("the list of sockets");
        // 03: a connection, also one that is not accepted yet.
        sockets.lines().filter(|line| line.contains(" 03 ") && line.ends_with(&socket)).count()
    };
    let second = reload();
    until("the second is not there", || connected() == 2);
    let third = reload();
    until("the third is not there", || connected() == 3);
    work(1, "14");
    std::fs::rename(place("pipe"), place("answer")).expect("it is there");
    drop(OpenOptions::new().write(true).open(place("answer")).expect("it waits for this"));
    for reload in [first, second, third] {
        let output = reload.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    work(3, "31");
    assert_eq!(asked(), 6, "the second and the third have one reading together");

    // It is down: nobody is taken for somebody without an entry.
    File::create(place("down")).expect("a folder of ours");
    for user in [own, Uid::effective().to_string()] {
        settings(&user, 4);
        let output = reload().wait_with_output().expect("it ends");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(78) && text.contains("cannot look up the user "), "{text}");
        assert!(text.contains("I/O error") && text.contains("kinds.kind.user"), "{text}");
    }
    work(3, "32");
}
