//! The built-in kind `ctl_executor`: does a schedule's `ctl` command, as a program.
//!
//! A queue may be written to by many, the configuration by few. So a command runs only if it stands, to the
//! letter, in a schedule of this configuration; the master tells them in `ASYNCTASK_CTL_COMMANDS`, and the
//! configuration's folder in `ASYNCTASK_FOLDER`.

use std::{
    env,
    ffi::OsStr,
    io::{self, BufRead, BufReader, Read},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde::Deserialize;

use super::{
    context::Context,
    outcome::{Outcome, TaskError, TaskResult},
    traits::Worker,
};
use crate::{
    level::Level,
    process::exec,
    redact::redact,
    shell_words::{SplitError, split},
};

/// The name under which it is registered in every program.
pub(crate) const KIND: &str = "ctl_executor";

/// Longest line of output; a longer one is cut into several.
const LINE_LIMIT: u64 = 64 * 1024;

/// How long output is waited for when the program has ended and something that it started holds its end.
const LAST_OUTPUT: Duration = Duration::from_millis(500);

/// Runs commands of the configuration's schedules.
#[derive(Debug)]
pub(crate) struct CtlExecutorWorker {
    allowed: Vec<String>,
    folder: PathBuf,
}

/// What a schedule puts into its queue.
#[derive(Debug, Deserialize)]
pub(crate) struct CtlPayload {
    command: String,
}

/// How a command failed.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("not a command line: {0}")]
    Split(#[from] SplitError),
    #[error("cannot run \"{program}\": it was not found: {source}")]
    NotFound { program: String, source: io::Error },
    #[error("cannot run \"{program}\": it could not be executed: {source}")]
    NotStarted { program: String, source: io::Error },
    #[error("Received unexpected exit code: expected 0; got {code}: \"{program}\", or a program that it runs, {what}")]
    NotExecuted { program: String, code: i32, what: &'static str },
    #[error("Received unexpected exit code: expected 0; got {0}")]
    Code(i32),
    #[error("The command was killed by {0}")]
    Signal(String),
}

impl CtlExecutorWorker {
    /// With what the master told in the environment.
    ///
    /// # Errors
    /// If the list of commands is not a JSON array of strings.
    pub(crate) fn from_environment() -> Result<Self, TaskError> {
        let allowed = match env::var("ASYNCTASK_CTL_COMMANDS") {
            Ok(text) => serde_json::from_str(&text).map_err(|error| format!("ASYNCTASK_CTL_COMMANDS: {error}"))?,
            Err(_) => Vec::new(),
        };
        Ok(Self { allowed, folder: env::var_os("ASYNCTASK_FOLDER").map_or_else(|| ".".into(), PathBuf::from) })
    }

    fn run(&self, command: &str, context: &Context) -> Result<(), Failed> {
        let words = split(command)?;
        let (program, arguments) = words.split_first().ok_or(SplitError::Empty)?;
        let path: PathBuf = if program.contains('/') { self.folder.join(program) } else { program.into() };
        let not_started = |source: io::Error| {
            let program = program.clone();
            // Of a script that is there, its interpreter is not.
            let is_there = program.contains('/') && path.exists();
            if source.kind() == io::ErrorKind::NotFound && !is_there {
                Failed::NotFound { program, source }
            } else {
                Failed::NotStarted { program, source }
            }
        };
        let (output, input) = io::pipe().map_err(not_started)?;
        let variables = env::vars_os().filter(|(name, _)| name != "ASYNCTASK_FD").collect();
        let argv: Vec<&OsStr> = [path.as_os_str()].into_iter().chain(arguments.iter().map(OsStr::new)).collect();
        let mut command = Command::new(&path);
        command
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(input.try_clone().map_err(not_started)?)
            .stderr(input);
        exec::without_shell(&mut command, &argv, &variables).map_err(not_started)?;
        let mut child = command.spawn().map_err(not_started)?;
        // The command holds the writing end of the output, which is read to its end.
        drop(command);
        let (sender, all_read) = mpsc::channel();
        let reading = context.clone();
        std::thread::spawn(move || {
            pass_on(output, &reading);
            let _ = sender.send(());
        });
        let status = child.wait().map_err(not_started)?;
        let _ = all_read.recv_timeout(LAST_OUTPUT);
        judge(program, status)
    }
}

/// That of a program that is not there is no failed start, as it is where a program is the worker: this worker was started.
fn judge(program: &str, status: ExitStatus) -> Result<(), Failed> {
    let not_executed = |code, what| Err(Failed::NotExecuted { program: program.to_owned(), code, what });
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code @ 126), _) => not_executed(code, "could not be executed"),
        (Some(code @ 127), _) => not_executed(code, "was not found"),
        (Some(code), _) => Err(Failed::Code(code)),
        (None, signal) => {
            let number = signal.unwrap_or_default();
            let name = nix::sys::signal::Signal::try_from(number);
            Err(Failed::Signal(name.map_or_else(|_| format!("signal {number}"), |signal| signal.to_string())))
        }
    }
}

/// Writes each line to the log.
fn pass_on(output: impl Read, context: &Context) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while matches!(output.by_ref().take(LINE_LIMIT).read_until(b'\n', &mut line), Ok(1..)) {
        let text = String::from_utf8_lossy(line.trim_ascii_end());
        context.log(Level::Info, &*text);
        line.clear();
    }
}

impl Worker for CtlExecutorWorker {
    type Payload = CtlPayload;

    fn process(&mut self, CtlPayload { command }: CtlPayload, context: &Context) -> TaskResult {
        if !self.allowed.contains(&command) {
            let reason = format!("\"{}\" is the command of no schedule in this configuration", redact(&command));
            return Ok(Outcome::Dead(reason));
        }
        context.log(Level::Info, &format_args!("Executing Task: {}", redact(&command)));
        match self.run(&command, context) {
            Ok(()) => Ok(Outcome::Done),
            Err(failed) => {
                context.log(Level::Error, "Failed execution");
                Err(failed.into())
            }
        }
    }
}
