//! Real children, started and buried as the master does it.
//!
//! A process has one set of children and one set of signals, so these tests take turns. Nothing here sleeps: what is
//! waited for is an event of a descriptor, and 30 s without one is a failure.

mod stuck;
#[path = "../support/mod.rs"]
mod support;

use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Read, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use asynctask::{
    process::{
        Ended, Environment, FrameChannel, Output, Program, ReadState, Signal, Signals, Spawned, kill_group,
        memory::resident_bytes,
        next_exit,
        output::{CUT_MARK, LINE_LIMIT, TAIL},
        reap::GroupSignal,
        reserve_frame_fd, spawn,
        spawn::payload_stdin,
        spawn_once,
    },
    task::Exit,
};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, poll},
    sys::signal::{SigSet, raise},
};

/// Which part a second process of this test binary plays.
const ROLE: &str = "TEST_ROLE";

/// One test's turn, with the signals that the master would hear.
struct Turn {
    signals: Signals,
    _guard: MutexGuard<'static, ()>,
}

fn turn() -> Turn {
    static TURN: Mutex<()> = Mutex::new(());
    static HANG_UP: std::sync::Once = std::sync::Once::new();
    // Once, before anybody listens: as it is where the tests were not started with nohup.
    HANG_UP.call_once(|| {
        use nix::sys::signal::{SigHandler, Signal, signal};
        // SAFETY: the default action runs no code of ours.
        unsafe { signal(Signal::SIGHUP, SigHandler::SigDfl) }.unwrap();
    });
    let guard = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    reserve_frame_fd().unwrap();
    Turn { signals: Signals::listen().unwrap(), _guard: guard }
}

impl Turn {
    fn end_of(&self, pid: u32) -> Ended {
        loop {
            if let Some(ended) = next_exit(|other| other == pid).unwrap() {
                assert_eq!(ended.pid, pid);
                return ended;
            }
            wait(&self.signals, PollFlags::POLLIN);
            assert!(!self.signals.drain().is_empty());
        }
    }
}

fn wait(descriptor: impl AsFd, events: PollFlags) {
    let mut descriptors = [PollFd::new(descriptor.as_fd(), events)];
    loop {
        match poll(&mut descriptors, 30_000_u16) {
            Err(Errno::EINTR) => {}
            result => return assert_eq!(result, Ok(1), "nothing happened for 30 s"),
        }
    }
}

fn program(argv: &[&str]) -> Program {
    Program::Command {
        argv: argv.iter().map(OsString::from).collect(),
        folder: PathBuf::from("/"),
        options: Box::default(),
    }
}

fn sh(script: &str) -> Program {
    program(&["sh", "-c", script])
}

fn environment() -> Environment {
    Environment {
        queue: "foo".to_owned(),
        slot: "foo[1]".to_owned(),
        log_level: "INFO".to_owned(),
        log_format: "plain".to_owned(),
        withheld: Vec::new(),
        pairs: vec![("EXTRA".into(), "more".into())],
        mark: None,
    }
}

/// All output until nobody holds the pipe any more.
fn output_of(output: std::os::fd::OwnedFd) -> String {
    let mut output = Output::new(output);
    let mut text = String::new();
    let mut add = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    loop {
        wait(&output, PollFlags::POLLIN);
        if output.read_available(&mut add).unwrap() == ReadState::Closed {
            break;
        }
    }
    output.finish(add);
    text
}

#[test]
fn a_worker_has_its_socket_on_three_and_nothing_else() {
    let turn = turn();
    // Somebody in this process forgot CLOEXEC, and somebody blocks a signal.
    let forgotten = nix::unistd::dup(std::io::stdout()).unwrap();
    let mut blocked = SigSet::empty();
    blocked.add(nix::sys::signal::Signal::SIGUSR2);
    blocked.thread_block().unwrap();

    let script = r"
import os, socket, signal
frames = socket.socket(fileno=int(os.environ['ASYNCTASK_FD']))
def is_open(fd):
    try: return bool(os.fstat(fd))
    except OSError: return False
names = ['PYTHONUNBUFFERED', 'ASYNCTASK_FD', 'ASYNCTASK_QUEUE', 'ASYNCTASK_SLOT', 'ASYNCTASK_LOG_LEVEL',
    'ASYNCTASK_LOG_FORMAT', 'EXTRA']
listed = [fd for fd in sorted(map(int, os.listdir('/proc/self/fd'))) if is_open(fd)]
frames.sendall((repr([
    listed, os.readlink('/proc/self/fd/0'), os.fstat(1).st_ino == os.fstat(2).st_ino, os.getpgrp() == os.getpid() == os.getsid(0),
    [os.environ[name] for name in names], len(signal.pthread_sigmask(signal.SIG_BLOCK, [])), os.getcwd(),
]) + '\n').encode())
print('got', frames.recv(100))
";
    let Spawned { pid, frames, output, .. } = spawn(&program(&["python3", "-c", script]), &environment()).unwrap();
    let mut channel = FrameChannel::new(frames);
    wait(&channel, PollFlags::POLLIN);
    let mut told = Vec::new();
    channel.read_frames(|frame| told.push(String::from_utf8(frame.to_vec()).unwrap())).unwrap();
    assert_eq!(
        told,
        ["[[0, 1, 2, 3], '/dev/null', True, True, ['1', '3', 'foo', 'foo[1]', 'INFO', 'plain', 'more'], 0, '/']"]
    );
    channel.send(b"hello\n").unwrap();
    assert_eq!(output_of(output), "got b'hello\\n'\n");
    assert_eq!(turn.end_of(pid).exit, Exit::Code { code: 0 });
    assert_eq!(channel.read_frames(|_| panic!("no more")).unwrap(), ReadState::Closed);
    drop(forgotten);
    blocked.thread_unblock().unwrap();
}

#[test]
fn sigpipe_has_its_default_action() {
    let turn = turn();
    let spawned = spawn(&sh("grep SigIgn /proc/self/status"), &environment()).unwrap();
    let text = output_of(spawned.output);
    let ignored = u64::from_str_radix(text.trim().strip_prefix("SigIgn:").unwrap().trim(), 16).unwrap();
    assert_eq!(ignored & (1 << (libc::SIGPIPE - 1)), 0, "{text}");
    turn.end_of(spawned.pid);
}

#[test]
fn a_rust_kind_is_this_binary_under_its_own_title() {
    let turn = turn();
    let args = ["--exact", "a_part_for_another_process", "--nocapture"];
    let program = Program::Own { args: args.iter().map(OsString::from).collect() };
    let mut environment = environment();
    environment.pairs.push((ROLE.into(), "worker".into()));
    let spawned = spawn(&program, &environment).unwrap();
    let text = output_of(spawned.output);
    assert!(text.contains("asynctask: worker foo[1]\0--exact\0"), "{text}");
    turn.end_of(spawned.pid);
}

#[test]
fn what_systemd_says_to_the_master_is_not_for_workers() {
    let _turn = turn();
    let said: Vec<_> = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"]
        .into_iter()
        .map(|name| (name, "9"))
        .collect();
    let mut master = other_process("environment");
    let master = master.envs(said.clone()).env("KEPT", "yes").output().unwrap();
    let text = String::from_utf8(master.stdout).unwrap();
    assert!(text.contains("KEPT=yes\n"), "{text}");
    for (name, _) in said {
        assert!(!text.contains(&format!("{name}=")), "{text}");
    }
}

#[test]
fn a_start_that_fails_names_the_program() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let in_folder = |name: &str, folder: &Path| {
        let program = Program::Command { argv: vec![name.into()], folder: folder.to_owned(), options: Box::default() };
        spawn(&program, &environment()).unwrap_err().to_string()
    };
    assert!(in_folder("no-such-program", folder.path()).contains("cannot start no-such-program: No such file"));
    let text = in_folder("bin/tool", folder.path());
    assert!(text.contains(folder.path().join("bin/tool").to_str().unwrap()), "{text}");
    assert!(in_folder("./script", folder.path()).contains("interpreter"));
    assert!(in_folder("sh", Path::new("/no/such/folder")).contains("its folder /no/such/folder does not exist"));
    assert!(in_folder("/", folder.path()).contains("it is a directory (Permission denied"));
    assert!(spawn(&program(&[]), &environment()).is_err());
}

#[test]
fn what_is_no_program_is_told_by_its_path_and_never_given_to_a_shell() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let own = std::fs::read("/proc/self/exe").unwrap();
    let mut other = own[..4096].to_vec();
    // e_machine and the number of program headers: nothing to load, for a machine that nobody has.
    other[18..20].copy_from_slice(&[0xff, 0xfe]);
    other[56..58].copy_from_slice(&[0, 0]);
    let files: &[(&str, &[u8], u32, &str)] = &[
        ("empty", b"", 0o755, "it is empty"),
        ("cut", &own[..65536], 0o755, "it is cut off"),
        ("start", &own[..10], 0o755, "it is cut off"),
        ("other", &other, 0o755, "it is a program for another machine"),
        ("text", b"touch ran\n", 0o755, "it is a text whose first line is no #!"),
        ("bytes", b"\x00\x01\x02", 0o755, "it is no program"),
        ("crlf", b"#!/bin/sh\r\ntouch ran\r\n", 0o755, "its first line ends with CR LF"),
        (
            "none",
            b"#!/no/such/one -x\n",
            0o755,
            "the interpreter named in its first line, /no/such/one, does not exist",
        ),
        ("nameless", b"#! \ntouch ran\n", 0o755, "its first line names no interpreter"),
        ("plain", b"#!/bin/sh\ntouch ran\n", 0o644, "nobody may execute it"),
    ];
    for (name, bytes, mode, why) in files {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(*mode)).unwrap();
        let mut environment = environment();
        environment.pairs.push(("PATH".into(), folder.path().into()));
        // By its path, and as it is found in the PATH of its own environment.
        for argv in [path.as_os_str(), path.file_name().unwrap()] {
            let argv = vec![argv.to_owned()];
            let program = Program::Command { argv, folder: folder.path().to_owned(), options: Box::default() };
            for text in [
                spawn(&program, &environment).unwrap_err().to_string(),
                spawn_once(&program, &environment, payload_stdin(b"").unwrap()).unwrap_err().to_string(),
            ] {
                assert!(text.contains(why) && text.contains(path.to_str().unwrap()), "{name}: {text}");
            }
        }
        assert!(!folder.path().join("ran").exists(), "{name} was run by a shell");
    }
}

#[test]
fn a_program_is_found_in_the_path_of_its_own_environment() {
    let turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let denied = folder.path().join("denied");
    std::fs::create_dir(&denied).unwrap();
    std::fs::create_dir(denied.join("tool")).unwrap();
    std::os::unix::fs::symlink("/bin/echo", folder.path().join("tool")).unwrap();
    let mut environment = environment();
    let path = [denied.as_os_str(), folder.path().as_os_str()].join(std::ffi::OsStr::new(":"));
    environment.pairs.push(("PATH".into(), path));
    let spawned = spawn(&program(&["tool", "found"]), &environment).unwrap();
    assert_eq!(output_of(spawned.output), "found\n");
    turn.end_of(spawned.pid);
}

#[test]
fn variables_and_arguments_are_handed_on_byte_for_byte() {
    use std::os::unix::ffi::OsStringExt;

    let turn = turn();
    let mut environment = environment();
    let bytes = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    environment.pairs.push((bytes(b"L\xe4"), bytes(b"Gr\xfc\xdfe")));
    let script = "import os, sys; print(os.environb[b'L\\xe4'], os.fsencode(sys.argv[1]))";
    let argv = vec!["python3".into(), "-c".into(), script.into(), bytes(b"a\xff")];
    let program = Program::Command { argv, folder: PathBuf::from("/"), options: Box::default() };
    let spawned = spawn(&program, &environment).unwrap();
    assert_eq!(output_of(spawned.output), "b'Gr\\xfc\\xdfe' b'a\\xff'\n");
    turn.end_of(spawned.pid);
}

#[test]
fn a_command_with_a_slash_is_relative_to_its_folder() {
    let turn = turn();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("bin")).unwrap();
    std::os::unix::fs::symlink("/bin/pwd", folder.path().join("bin/tool")).unwrap();
    let program =
        Program::Command { argv: vec!["bin/tool".into()], folder: folder.path().to_owned(), options: Box::default() };
    let spawned = spawn(&program, &environment()).unwrap();
    assert_eq!(output_of(spawned.output).trim(), folder.path().canonicalize().unwrap().to_str().unwrap());
    turn.end_of(spawned.pid);
}

#[test]
fn a_process_for_one_task_gets_its_payload_and_no_socket() {
    let turn = turn();
    let payload = vec![b'x'; 3_000_000];
    let stdin = payload_stdin(&payload).unwrap();
    let script = "wc -c; echo \"${ASYNCTASK_FD-none}\"; test -e /proc/self/fd/3 && echo open; exit 75";
    let spawned = spawn_once(&sh(script), &environment(), stdin).unwrap();
    assert_eq!(output_of(spawned.output), "3000000\nnone\n");
    assert_eq!(turn.end_of(spawned.pid).exit, Exit::Code { code: 75 });
}

#[test]
fn deaths_are_told_as_they_were() {
    let turn = turn();
    let death = |script: &str| {
        let spawned = spawn(&sh(script), &environment()).unwrap();
        turn.end_of(spawned.pid).exit
    };
    assert_eq!(death("exit 3"), Exit::Code { code: 3 });
    assert_eq!(death("kill -KILL $$"), Exit::Signal { signal: "SIGKILL".to_owned(), core_dumped: false });
    assert_eq!(death("kill -TERM $$"), Exit::Signal { signal: "SIGTERM".to_owned(), core_dumped: false });
    let real_time = Exit::Signal { signal: "SIGRTMIN+3".to_owned(), core_dumped: false };
    assert_eq!(death(&format!("kill -{} $$", libc::SIGRTMIN() + 3)), real_time);

    // Where core files go to a program, the size limit of zero does not count.
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let Exit::Signal { signal, core_dumped } = death("ulimit -c 0; kill -SEGV $$") else { panic!("no signal") };
    assert_eq!(signal, "SIGSEGV");
    assert!(!core_dumped || pattern.starts_with('|'));
    if !pattern.starts_with(['|', '/']) {
        let folder = tempfile::tempdir().unwrap();
        let argv = ["sh", "-c", "ulimit -c unlimited && kill -SEGV $$"];
        let program = Program::Command {
            argv: argv.iter().map(OsString::from).collect(),
            folder: folder.path().to_owned(),
            options: Box::default(),
        };
        let Exit::Signal { core_dumped, .. } = turn.end_of(spawn(&program, &environment()).unwrap().pid).exit else {
            return; // A hard limit of zero: the shell said so and ended.
        };
        assert_eq!(core_dumped, std::fs::read_dir(folder.path()).unwrap().count() > 0);
    }
}

#[test]
fn the_peak_is_told_where_it_is_the_workers_own_and_cpu_time_always() {
    let turn = turn();
    let spawned = spawn(&program(&["python3", "-c", "x = bytes(range(256)) * 800000"]), &environment()).unwrap();
    let ended = turn.end_of(spawned.pid);
    assert!(ended.own_peak(spawned.master_peak_bytes).unwrap() > 200_000_000, "{ended:?}");
    assert!(ended.cpu_seconds > 0.0 && ended.cpu_seconds < 60.0);
    let spawned = spawn(&sh(":"), &environment()).unwrap();
    let ended = turn.end_of(spawned.pid);
    assert_eq!(ended.own_peak(spawned.master_peak_bytes), None, "{ended:?}");
}

#[test]
fn a_grandchild_that_holds_the_socket_neither_hides_the_death_nor_survives_it() {
    let turn = turn();
    let spawned = spawn(&sh("sleep 1000 & echo started; exit 7"), &environment()).unwrap();
    let mut channel = FrameChannel::new(spawned.frames);
    let mut output = Output::new(spawned.output);
    let ended = turn.end_of(spawned.pid);
    assert_eq!(ended.exit, Exit::Code { code: 7 });
    let mut lines = Vec::new();
    output.read_available(|line| lines.push(line.to_owned())).unwrap();
    assert_eq!(lines, ["started"]);
    // The group was killed, so the last holder goes now.
    wait(&channel, PollFlags::POLLIN);
    assert_eq!(channel.read_frames(|_| panic!("there is no frame")).unwrap(), ReadState::Closed);
    while output.read_available(|_| ()).unwrap() != ReadState::Closed {
        wait(&output, PollFlags::POLLIN);
    }
}

#[test]
fn a_group_can_be_asked_and_can_be_gone() {
    let turn = turn();
    let script = "import signal, sys; asked = {signal.SIGTERM}; signal.pthread_sigmask(signal.SIG_BLOCK, asked)
print('ready'); signal.sigwait(asked); print('cleaned up'); sys.exit(4)";
    let spawned = spawn(&program(&["python3", "-c", script]), &environment()).unwrap();
    let mut output = Output::new(spawned.output);
    let mut lines = Vec::new();
    while lines.is_empty() {
        wait(&output, PollFlags::POLLIN);
        output.read_available(|line| lines.push(line.to_owned())).unwrap();
    }
    assert!(kill_group(spawned.pid, GroupSignal::Terminate).unwrap());
    assert_eq!(turn.end_of(spawned.pid).exit, Exit::Code { code: 4 });
    output.read_available(|line| lines.push(line.to_owned())).unwrap();
    assert_eq!(lines.last().unwrap(), "cleaned up");
    assert!(!kill_group(spawned.pid, GroupSignal::Kill).unwrap());
}

#[test]
fn children_of_others_are_reaped_and_not_mentioned() {
    let turn = turn();
    let mut stranger = Command::new("true").spawn().unwrap();
    let spawned = spawn(&sh("exit 1"), &environment()).unwrap();
    turn.end_of(spawned.pid);
    while next_exit(|_| false).unwrap().is_some() {}
    // Either it is gone already, or it has not ended yet: wait tells which, and never a second time.
    let _ = stranger.wait();
    assert_eq!(next_exit(|_| true).unwrap(), None);
}

#[test]
fn a_worker_dies_with_its_master() {
    let _turn = turn();
    // The worker holds the other end of this pipe as its stdin, and the master gives its own up.
    let (mut alive, held) = std::io::pipe().unwrap();
    let mut master = other_process("master").stdin(held).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(master.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("worker started")));
    let mut before = [PollFd::new(alive.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut before, 0_u16).unwrap(), 0, "the worker lives");
    master.kill().unwrap();
    master.wait().unwrap();
    wait(&alive, PollFlags::POLLIN);
    assert_eq!(alive.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn the_tail_of_the_output_is_kept_and_lines_come_in_order() {
    let turn = turn();
    let script =
        "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; printf 'last words' >&2; kill -ABRT $$";
    let spawned = spawn(&sh(script), &environment()).unwrap();
    let mut output = Output::new(spawned.output);
    let mut lines = Vec::new();
    let ended = turn.end_of(spawned.pid);
    assert!(matches!(ended.exit, Exit::Signal { signal, .. } if signal == "SIGABRT"));
    output.read_available(|line| lines.push(line.to_owned())).unwrap();
    assert_eq!(lines.len(), 2000);
    output.finish(|line| lines.push(line.to_owned()));
    assert_eq!(lines[1999..], ["line 1999", "last words"]);
    let tail = output.tail();
    assert!(tail.len() <= TAIL && tail.len() > TAIL - 20, "{}", tail.len());
    assert!(tail.starts_with("line ") && tail.ends_with("line 1999\nlast words"), "{tail}");
}

#[test]
fn a_hundred_megabytes_without_a_newline_are_one_cut_line() {
    let turn = turn();
    let script = "import sys\nfor _ in range(100): sys.stdout.write('x' * 1000000)\nprint('')\nprint('end')";
    let spawned = spawn(&program(&["python3", "-c", script]), &environment()).unwrap();
    let before = resident_bytes(std::process::id()).unwrap();
    let mut output = Output::new(spawned.output);
    let mut lines: Vec<String> = Vec::new();
    loop {
        wait(&output, PollFlags::POLLIN);
        if output.read_available(|line| lines.push(line.to_owned())).unwrap() == ReadState::Closed {
            break;
        }
    }
    assert_eq!(lines, ["x".repeat(LINE_LIMIT) + CUT_MARK, "end".to_owned()]);
    let after = resident_bytes(std::process::id()).unwrap();
    assert!(after < before + 10_000_000, "{before} → {after}");
    turn.end_of(spawned.pid);
}

#[test]
fn output_that_is_not_read_makes_the_worker_wait_and_not_the_master() {
    let turn = turn();
    let spawned = spawn(&program(&["sh", "-c", "head -c 1000000 /dev/zero; echo; exit 9"]), &environment()).unwrap();
    let mut output = Output::new(spawned.output);
    wait(&output, PollFlags::POLLIN);
    assert_eq!(next_exit(|_| true).unwrap(), None, "it waits for somebody to read");
    while output.read_available(|_| ()).unwrap() != ReadState::Closed {
        wait(&output, PollFlags::POLLIN);
    }
    assert_eq!(turn.end_of(spawned.pid).exit, Exit::Code { code: 9 });
}

#[test]
fn signals_are_told_apart_and_counted() {
    use nix::sys::signal::Signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
    let turn = turn();
    assert_eq!(turn.signals.drain().len(), 0);
    for signal in [SIGHUP, SIGTERM, SIGUSR1, SIGTERM, SIGINT, SIGTERM, SIGQUIT] {
        raise(signal).unwrap();
    }
    wait(&turn.signals, PollFlags::POLLIN);
    assert_eq!(
        turn.signals.drain(),
        [
            Signal::Terminate,
            Signal::Terminate,
            Signal::Terminate,
            Signal::Interrupt,
            Signal::Quit,
            Signal::HangUp,
            Signal::User1
        ]
    );
    assert!(turn.signals.drain().is_empty());
    // More than the socket holds: none is lost, and it is readable again afterwards.
    for _ in 0..2000 {
        raise(SIGTERM).unwrap();
    }
    assert_eq!(turn.signals.drain().len(), 2000);
    raise(SIGHUP).unwrap();
    wait(&turn.signals, PollFlags::POLLIN);
    assert_eq!(turn.signals.drain(), [Signal::HangUp]);
}

#[test]
fn signals_wake_a_tokio_loop() {
    let turn = turn();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let arrived = runtime.block_on(async {
        let watch = turn.signals.watch().unwrap();
        raise(nix::sys::signal::Signal::SIGTERM).unwrap();
        watch.readable().await.unwrap();
        turn.signals.drain()
    });
    assert_eq!(arrived, [Signal::Terminate]);
}

#[test]
fn a_worker_is_talked_to_in_a_tokio_loop() {
    let turn = turn();
    let script = "import socket; frames = socket.socket(fileno=3); lines = frames.makefile('rb')
print('reads', flush=True); frames.sendall(lines.readline()); print('ends', flush=True); lines.readline()";
    let spawned = spawn(&program(&["python3", "-c", script]), &environment()).unwrap();
    let (mut channel, mut output) = (FrameChannel::new(spawned.frames), Output::new(spawned.output));
    let frame = [vec![b'x'; 5_000_000], b"\n".to_vec()].concat();
    let (mut lines, mut echoed) = (Vec::new(), Vec::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let talk = async {
        let (frames, text) = (channel.watch().unwrap(), output.watch().unwrap());
        let room = channel.watch_room().unwrap();
        channel.send(&frame).unwrap();
        assert!(channel.has_unsent());
        while echoed.is_empty() || lines.len() < 2 {
            tokio::select! {
                ready = room.writable(), if channel.has_unsent() => {
                    ready.unwrap();
                    channel.flush().unwrap();
                }
                ready = frames.readable() => {
                    ready.unwrap();
                    while channel.read_frames(|frame| echoed.push(frame.len())).unwrap() == ReadState::More {}
                }
                ready = text.readable() => {
                    ready.unwrap();
                    while output.read_available(|line| lines.push(line.to_owned())).unwrap() == ReadState::More {}
                }
            }
        }
        channel.send(b"\n").unwrap();
        frames.readable().await.unwrap();
        assert_eq!(channel.read_frames(|_| panic!("no more")).unwrap(), ReadState::Closed);
    };
    runtime.block_on(async { tokio::time::timeout(std::time::Duration::from_secs(30), talk).await }).unwrap();
    assert_eq!((echoed, lines), (vec![5_000_000], vec!["reads".to_owned(), "ends".to_owned()]));
    assert_eq!(turn.end_of(spawned.pid).exit, Exit::Code { code: 0 });
}

fn other_process(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_part_for_another_process", "--nocapture", "--test-threads=1"]).env(ROLE, role);
    command
}

/// Not a test of its own: what this binary does when a test above starts it a second time.
#[test]
fn a_part_for_another_process() {
    match std::env::var(ROLE).as_deref() {
        Ok("worker") => println!("{}", std::fs::read_to_string("/proc/self/cmdline").unwrap()),
        Ok("environment") => print!("{}", output_of(spawn(&sh("env"), &environment()).unwrap().output)),
        Ok("master") => {
            let stdin = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
            spawn_once(&sh("exec sleep 1000"), &Environment::default(), stdin).unwrap();
            println!("worker started");
            std::io::stdout().flush().unwrap();
            loop {
                std::thread::park();
            }
        }
        _ => {}
    }
}
