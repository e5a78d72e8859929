//! Starting a worker.
//!
//! Only the master's main thread may call this: `PR_SET_PDEATHSIG` follows the *thread* that spawned, so a child of a
//! thread that ends is killed at once (measured). Nothing here forks and goes on running Rust code: a worker of a
//! Rust kind is this binary started again.
//!
//! ```text
//!   worker      0 ← /dev/null, or the payload (mode: once)
//!               1, 2 → one pipe → `Spawned::output`          nothing else is open in it
//!               3 ↔ one Unix socket ↔ `Spawned::frames`
//! ```

use std::{
    ffi::{OsStr, OsString, c_int},
    fs::File,
    io::{self, Seek, Write},
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::{fs::fchown, net::UnixStream, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::{
        memfd::{MFdFlags, memfd_create},
        prctl::set_pdeathsig,
        resource::{UsageWho, getrusage},
        signal::{SigHandler, SigSet, Signal, signal},
    },
    unistd::{Pid, getpid, getppid, setsid},
};

use super::{
    descriptor_limit,
    exec::{self, Exec, Variables},
    exec_options::{self, Prepared},
    frame_fd::{FRAME_FD, place_frames, reserve_frame_fd},
    mark::{MARK, Mark},
    payload_file::PayloadFile,
    start_error,
};
use crate::exec_options::ExecOptions;

/// What belongs to the master alone: a worker that said `READY=1` or took a listening socket would speak for it.
const NOT_INHERITED: [&str; 19] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    // Of a task: where this process is itself one of another master.
    "ASYNCTASK_CONTENT_ENCODING",
    "ASYNCTASK_JOB",
    "ASYNCTASK_PIPELINE",
    "ASYNCTASK_JOB_KEY",
    "ASYNCTASK_STEP",
    "ASYNCTASK_INDEX",
    "ASYNCTASK_WIPE",
    "ASYNCTASK_INPUTS",
    "ASYNCTASK_MEMO",
    "ASYNCTASK_RESULT",
    "ASYNCTASK_SNOOZE",
    "ASYNCTASK_SUBMIT",
    // Our own need, not a worker's.
    "RUST_MIN_STACK",
];

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// This same binary (`/proc/self/exe`, which keeps the old one after an upgrade), for a Rust kind.
    Own {
        /// Its arguments.
        args: Vec<OsString>,
    },
    /// A program of its own.
    Command {
        /// Program and arguments. A program with a slash is relative to `folder`, one without is found in PATH.
        argv: Vec<OsString>,
        /// The folder it runs in.
        folder: PathBuf,
        /// As whom and with which limits it runs.
        options: Box<ExecOptions>,
    },
}

/// What a worker is told by its environment, beyond what it inherits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `ASYNCTASK_QUEUE`.
    pub queue: String,
    /// `ASYNCTASK_SLOT`, as in `foo[1]`.
    pub slot: String,
    /// `ASYNCTASK_LOG_LEVEL`.
    pub log_level: String,
    /// `ASYNCTASK_LOG_FORMAT`.
    pub log_format: String,
    /// What it does not inherit: of that the master made the address of its transport, password and all.
    pub withheld: Vec<OsString>,
    /// Further variables; they win over everything else but `ASYNCTASK_FD` and `ASYNCTASK_WORKER`.
    pub pairs: Vec<(OsString, OsString)>,
    /// `ASYNCTASK_WORKER`, by which its processes are known.
    pub mark: Option<Mark>,
}

/// A worker that was started: its program runs. All descriptors are the master's ends.
#[derive(Debug)]
pub struct Spawned {
    /// Its process, which is also its process group.
    pub pid: u32,
    /// The frame socket, non-blocking.
    pub frames: UnixStream,
    /// The read end of its stdout and stderr, non-blocking.
    pub output: OwnedFd,
    /// The master's own peak memory at this moment, in bytes: what [`Ended::own_peak`](super::Ended::own_peak) needs.
    pub master_peak_bytes: u64,
}

/// A process for one task (`mode: once`) that was started.
#[derive(Debug)]
pub struct SpawnedOnce {
    /// Its process, which is also its process group.
    pub pid: u32,
    /// The read end of its stdout and stderr, non-blocking.
    pub output: OwnedFd,
    /// As in [`Spawned`].
    pub master_peak_bytes: u64,
    /// Its payload, if that lies in a file; to be kept until the process has ended.
    pub payload: Option<PayloadFile>,
}

/// Starts a worker that speaks frames. Main thread only; call [`reserve_frame_fd`](super::reserve_frame_fd) at the start of the process.
///
/// The worker leads its own session and process group, dies with this process, and has nothing open but 0 to 3. When this
/// returns, its program has been executed.
///
/// # Errors
/// What the operating system said, with the name of the program, or of the folder if that is missing; of the kind
/// [`PermissionDenied`](io::ErrorKind::PermissionDenied) if one of the options takes a master that is root. No process is left then.
pub fn spawn(program: &Program, environment: &Environment) -> io::Result<Spawned> {
    let (frames, theirs) = UnixStream::pair()?;
    frames.set_nonblocking(true)?;
    let (pid, output, master_peak_bytes) = start(program, environment, Stdio::null(), Some(&theirs))?;
    Ok(Spawned { pid, frames, output, master_peak_bytes })
}

/// Starts a process for one task: like [`spawn`], with `stdin` given and without a frame socket. Main thread only.
///
/// # Errors
/// Those of [`spawn`].
pub fn spawn_once(program: &Program, environment: &Environment, stdin: OwnedFd) -> io::Result<SpawnedOnce> {
    let (pid, output, master_peak_bytes) = start(program, environment, Stdio::from(stdin), None)?;
    Ok(SpawnedOnce { pid, output, master_peak_bytes, payload: None })
}

/// Starts a process for one task with its payload, on stdin or in a file as its options say. Main thread only.
///
/// # Errors
/// Those of [`spawn`]; those of writing the payload, into memory or into its file. No file is left then.
pub fn spawn_task(program: &Program, environment: &Environment, payload: &[u8]) -> io::Result<SpawnedOnce> {
    let Program::Command { argv, folder, options } = program else {
        return spawn_once(program, environment, payload_stdin(payload)?);
    };
    if !options.payload_in_file {
        return spawn_once(program, environment, payload_stdin(payload)?);
    }
    let file = PayloadFile::write(payload, options)?;
    let argv = argv.iter().cloned().chain([file.path().into()]).collect();
    let program = Program::Command { argv, folder: folder.clone(), options: options.clone() };
    let spawned = spawn_once(&program, environment, File::open("/dev/null")?.into())?;
    Ok(SpawnedOnce { payload: Some(file), ..spawned })
}

/// A payload as the stdin of [`spawn_once`]: a file in memory, so that no pipe has to be fed while it is read.
///
/// # Errors
/// Those of `memfd_create(2)`, and of writing to the file: memory is short.
pub fn payload_stdin(payload: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(c"asynctask payload", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(payload)?;
    file.rewind()?;
    Ok(file.into())
}

fn start(
    program: &Program,
    environment: &Environment,
    stdin: Stdio,
    frames: Option<&UnixStream>,
) -> io::Result<(u32, OwnedFd, u64)> {
    reserve_frame_fd()?;
    let (output, theirs) = io::pipe()?;
    let output = OwnedFd::from(output);
    descriptor_limit::leaves_some(output.as_raw_fd())?;
    let flags = OFlag::from_bits_retain(fcntl(&output, FcntlArg::F_GETFL)?);
    fcntl(&output, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;

    // Who opens /dev/stdout opens the pipe anew, as its user.
    if let Program::Command { options, .. } = program
        && let Some((user, group)) = exec_options::owner(options)
    {
        fchown(&theirs, Some(user), Some(group))
            .map_err(|error| io::Error::new(error.kind(), format!("its output pipe: {error}")))?;
    }
    let variables = variables(program, environment, frames.is_some());
    let (mut command, mut exec) = command(program, environment, &variables)?;
    if environment.mark.is_some() {
        exec.number(MARK);
    }
    command.stdin(stdin).stdout(theirs.try_clone()?).stderr(theirs);

    let master = getpid();
    let frames = frames.map(AsRawFd::as_raw_fd);
    let files = descriptor_limit::given_files();
    let options = match program {
        Program::Own { .. } => Prepared::default(),
        Program::Command { options, .. } => {
            Prepared::new(options).map_err(|error| explain(program, &variables, &error))?
        }
    };
    // SAFETY: the closure runs in the forked child. It copies two integers and reads what was prepared before the
    // fork, allocates nothing, takes no lock, and all functions make only system calls that signal-safety(7) allows or
    // that glibc passes straight on. The options are applied before the rest: a change of user clears the death signal.
    unsafe {
        command.pre_exec(move || {
            // A session of its own, so that nothing in it can open the master's terminal and be stopped by it.
            setsid()?;
            options.set_oom_score_in_child()?;
            if let Some(files) = &files {
                exec_options::set_limit(libc::RLIMIT_NOFILE as c_int, files)?;
            }
            options.settle_in_child()?;
            settle_in_child(frames, master)?;
            exec.write_number();
            exec.replace_process().map(|never| match never {})
        })
    };

    let master_peak_bytes = own_peak_bytes()?;
    let child = command.spawn().map_err(|error| explain(program, &variables, &error))?;
    // `Child` only has the pid: `reap::next_exit` waits for every child of this process.
    Ok((child.id(), output, master_peak_bytes))
}

/// What is to be executed, in a command that only knows the folder: std would execute with the help of a shell.
fn command(program: &Program, environment: &Environment, variables: &Variables) -> io::Result<(Command, Exec)> {
    match program {
        Program::Own { args } => {
            let path = OsStr::new("/proc/self/exe");
            let title = OsString::from(format!("asynctask: worker {}", environment.slot));
            let argv = [title.as_os_str()].into_iter().chain(args.iter().map(OsString::as_os_str));
            Ok((Command::new(path), Exec::new(path, argv, variables)?))
        }
        Program::Command { argv, folder, .. } => {
            let name = argv.first().ok_or_else(exec::nothing_named)?;
            let path = found_from(folder, name);
            if let Some(found) = start_error::found(path.as_os_str(), folder, variables)
                && let Some(what) = start_error::is_cut_off(&found)
            {
                let text = format!("cannot start {}: {what}", found.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            let exec = Exec::new(path.as_os_str(), argv.iter().map(OsString::as_os_str), variables)?;
            let mut command = Command::new(path);
            command.current_dir(folder);
            Ok((command, exec))
        }
    }
}

/// All that the program finds in its environment.
fn variables(program: &Program, environment: &Environment, frames: bool) -> Variables {
    let mut variables = match program {
        Program::Own { .. } => std::env::vars_os().collect(),
        Program::Command { options, .. } => exec_options::variables(options),
    };
    for name in NOT_INHERITED.iter().map(OsStr::new).chain(environment.withheld.iter().map(OsString::as_os_str)) {
        variables.remove(name);
    }
    if let Program::Command { options, .. } = program {
        variables.extend(exec_options::user_variables(options));
    }
    let ours = [
        ("PYTHONUNBUFFERED", "1"),
        ("ASYNCTASK_QUEUE", &environment.queue),
        ("ASYNCTASK_SLOT", &environment.slot),
        ("ASYNCTASK_LOG_LEVEL", &environment.log_level),
        ("ASYNCTASK_LOG_FORMAT", &environment.log_format),
    ];
    variables.extend(ours.map(|(name, value)| (name.into(), value.into())));
    variables.extend(environment.pairs.iter().cloned());
    variables.remove(OsStr::new("ASYNCTASK_FD"));
    // Without one of its own it stays what the processes around it are.
    if let Some(mark) = &environment.mark {
        variables.insert(MARK.into(), mark.text().into());
    }
    if frames {
        variables.insert("ASYNCTASK_FD".into(), FRAME_FD.to_string().into());
    }
    variables
}

/// A program with a slash in it is looked up from the folder; std leaves open whose folder it would be.
fn found_from(folder: &Path, name: &OsStr) -> PathBuf {
    if name.as_encoded_bytes().contains(&b'/') { folder.join(name) } else { PathBuf::from(name) }
}

/// The last steps between fork and exec. After the change of folder, group and user, because a change of user clears
/// the death signal. Only system calls: see the caller.
fn settle_in_child(frames: Option<RawFd>, master: Pid) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != master {
        // The master died before the line above; its signal has been missed.
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    SigSet::empty().thread_set_mask()?;
    // SAFETY: the default action is no function of ours, and this child has one thread.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }?;
    // SAFETY: as above.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigDfl) }?;
    let first_closed = match frames {
        Some(socket) => {
            place_frames(socket)?;
            FRAME_FD + 1
        }
        None => FRAME_FD,
    };
    // Ours are CLOEXEC one by one. This is for what the master itself inherited, and for libraries that forget.
    // A kernel before 5.11 says no, and then these stay as they are.
    // SAFETY: `close_range` takes three integers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_close_range, first_closed, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Ok(())
}

/// This process's own peak memory: what a child starts with, since the figure survives exec.
fn own_peak_bytes() -> io::Result<u64> {
    let kibibytes = getrusage(UsageWho::RUSAGE_SELF)?.max_rss();
    Ok(u64::try_from(kibibytes).unwrap_or(0).saturating_mul(1024))
}

fn explain(program: &Program, variables: &Variables, error: &io::Error) -> io::Error {
    let text = match program {
        Program::Own { .. } => format!("cannot start this program again (/proc/self/exe): {error}"),
        Program::Command { argv, folder, options } => {
            let name = argv.first().map(OsString::as_os_str).unwrap_or_default();
            let path = found_from(folder, name);
            let found = start_error::found(path.as_os_str(), folder, variables);
            let path = found.as_ref().unwrap_or(&path);
            if let Some(refused) = exec_options::refused(error, options) {
                format!("cannot start {}: {refused}", path.display())
            } else if !folder.is_dir() {
                format!("cannot start {}: its folder {} does not exist", name.display(), folder.display())
            } else if let Some(why) = found.as_ref().and_then(|found| start_error::why(found, error)) {
                format!("cannot start {}: {why} ({error})", path.display())
            } else {
                format!("cannot start {}: {error}", path.display())
            }
        }
    };
    io::Error::new(error.kind(), text)
}
