//! HUP, and the terminal that sends it when it closes.

use std::{
    cell::RefCell,
    fs::File,
    io::{BufRead, BufReader},
    os::{
        fd::{AsRawFd, FromRawFd},
        unix::process::CommandExt,
    },
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, setsid},
};

use crate::support::{
    Demo, Place,
    http::Site,
    log::{Master, until},
};

const SLOW: &str = r#"{"sleep_ms":1500}"#;
const QUICK: &str = r#"{"sleep_ms":1}"#;
const WORKERS: &str = r#"{"foo": "demo_sleep_worker"}"#;

/// A new terminal: the side of the window, and the name of the other one.
fn terminal() -> (File, String) {
    let mut name = [0; 64];
    // SAFETY: no memory is passed but for the name, with its size.
    let window = unsafe {
        let window = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
        assert!(window >= 0 && libc::grantpt(window) == 0 && libc::unlockpt(window) == 0, "a terminal");
        assert_eq!(libc::ptsname_r(window, name.as_mut_ptr(), name.len()), 0, "the name of a terminal");
        File::from_raw_fd(window)
    };
    let name: Vec<u8> = name.iter().map(|byte| byte.cast_unsigned()).take_while(|byte| *byte != 0).collect();
    (window, String::from_utf8(name).expect("an ASCII name"))
}

/// Starts a master in a terminal of its own and waits until its log there has `text`. What closes it is the drop.
fn in_terminal(mut command: Command, text: &str) -> (Child, BufReader<File>, String) {
    let (window, name) = terminal();
    let open = || File::options().read(true).write(true).open(&name).expect("a terminal");
    let (stdin, stdout, stderr) = (open(), open(), open());
    let number = stdin.as_raw_fd();
    // SAFETY: two system calls between fork and exec.
    unsafe {
        command.pre_exec(move || {
            setsid()?;
            if libc::ioctl(number, libc::TIOCSCTTY, 0) == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
    }
    let child = command.stdin(stdin).stdout(stdout).stderr(stderr).spawn().expect("the demo starts");
    drop(command);
    let mut window = BufReader::new(window);
    let mut seen = String::new();
    while !seen.contains(text) {
        assert!(window.read_line(&mut seen).is_ok_and(|length| length > 0), "\"{text}\" never came: {seen}");
    }
    (child, window, seen)
}

fn ends_with(child: Child, code: i32) {
    let child = RefCell::new(child);
    let status = || child.borrow_mut().try_wait().expect("it is ours");
    until("it did not end", || status().is_some());
    assert_eq!(status().and_then(|status| status.code()), Some(code));
}

#[test]
fn a_hup_without_a_file_to_read_stops_as_one_term_does() {
    for place in Place::all() {
        let demo = Demo::new(&place);
        demo.submit("foo", SLOW);
        let mut master = demo.start(WORKERS, &[]);
        master.expect("Got payload");
        // A terminal that closes sends it twice: the shell does, and the kernel.
        master.signal(Signal::SIGHUP);
        master.expect("HUP asks: stop, because there is no configuration file to be read again");
        master.signal(Signal::SIGHUP);
        let (code, log) = master.wait();
        assert_eq!((code, log.matches("HUP").count()), (0, 1), "{log}");
        assert_eq!(demo.done(), [SLOW]);
        demo.nobody_is_left();
    }
}

#[test]
fn a_terminal_that_closes_stops_a_master_without_a_file() {
    let demo = Demo::new(&Place::sqlite());
    demo.submit("foo", SLOW);
    let (master, window, _) = in_terminal(demo.master(WORKERS, &[]), "Got payload");
    drop(window);
    ends_with(master, 0);
    assert_eq!(demo.done(), [SLOW]);
    demo.nobody_is_left();
}

#[test]
fn a_terminal_that_closes_ends_the_log_of_a_master_with_a_file_and_not_its_work() {
    let demo = Demo::new(&Place::sqlite());
    demo.write("asynctask.yaml", "workers: { foo: demo_sleep_worker }\n");
    let command = demo.command(&["workers", "--set", "metrics.listen=127.0.0.1:0"]);
    let (master, window, seen) = in_terminal(command, "Starting; queue=foo");
    let site = Site::told(seen.lines().find(|line| line.contains("Metrics at")).expect("its address"));
    drop(window);
    demo.submit("foo", QUICK);
    until("the task is not done", || demo.done() == [QUICK] && demo.is_empty("foo"));
    // A log that went on would count them.
    assert_eq!(site.numbers().get("asynctask_log_lines_dropped_total"), Some(&0.0));
    kill(Pid::from_raw(i32::try_from(master.id()).expect("a pid")), Signal::SIGTERM).expect("it lives");
    ends_with(master, 0);
    demo.nobody_is_left();
}

#[test]
fn nohup_keeps_a_hup_from_a_master_and_its_workers() {
    let demo = Demo::new(&Place::sqlite());
    let inner = demo.master(WORKERS, &[]);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(inner.get_program()).args(inner.get_args());
    command.current_dir(demo.folder.path()).stdin(Stdio::null());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let mut master: Master = demo.follow(command);
    master.expect("HUP is ignored, as it was at the start (nohup)");
    master.expect("Starting; queue=foo");
    master.signal(Signal::SIGHUP);
    demo.submit("foo", QUICK);
    master.expect("Processing complete");
    master.signal(Signal::SIGTERM);
    let (code, log) = master.wait();
    assert_eq!((code, log.matches("HUP").count()), (0, 1), "{log}");
    demo.nobody_is_left();
}
