//! Keeps the process of the page: starts it, and starts it again, whatever it dies of. A thread that only waits does it; the loop knows
//! nothing of it but the link, and tells how it ended: all children are reaped there.
//!
//! The page gets its key by its standard input and ends when that is closed, so it ends with the master however the master ends. It
//! is in a process group of its own: what a terminal or a service manager sends the master is the master's business.

use std::{
    ffi::OsString,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{ChildStdin, Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use crate::{
    clock::Clock,
    config::dashboard::{Dashboard, Secret},
    logging::{Level, Logger, MASTER},
    redact::redact,
    task::Exit,
    text,
};

/// Until it is started again, the first time.
const FIRST: Duration = Duration::from_secs(1);
/// The pause doubles up to this.
const LONGEST: Duration = Duration::from_secs(30);
/// A process that lived so long begins with the first pause again.
const STEADY: Duration = Duration::from_secs(10);
/// How long the end of a process may be told after the end of what it says.
const END: Duration = Duration::from_secs(2);
/// Bytes of a line that it says; what is longer is cut.
const LINE: usize = 2000;

/// How the page's process is started.
#[derive(Clone, Debug)]
pub struct PageProcess {
    /// This program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// The key that it is opened with.
    pub key: Secret,
    /// What it reads of its own settings.
    pub settings: Dashboard,
}

/// The page's process, kept until this is dropped.
#[derive(Debug)]
pub(super) struct PageKeeper {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The master ends.
    is_over: bool,
    /// It is to be started again at once.
    is_wanted_anew: bool,
    /// What it said when it began to listen; the key is in it.
    opened: Option<Secret>,
    /// Closed, it ends.
    stdin: Option<ChildStdin>,
    pid: Option<u32>,
    /// How the process ended that was started last.
    ended: Option<Exit>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while this holds, for so long at most.
    fn wait_while(&self, limit: Duration, holds: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let waited = self.changed.wait_timeout_while(self.state(), limit, |state| holds(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl PageKeeper {
    /// Starts it, on a thread.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub(super) fn start(page: PageProcess, logger: Logger) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let known = Arc::clone(&shared);
        thread::Builder::new().name("page keeper".to_owned()).spawn(move || keep(&page, &known, &logger))?;
        Ok(Self { shared })
    }

    /// The line with the link, or with the address where people log in.
    pub(super) fn opened(&self) -> Option<String> {
        self.shared.state().opened.as_ref().map(|link| link.0.clone())
    }

    /// Whether this is the page's process.
    pub(super) fn is_of(&self, pid: u32) -> bool {
        self.shared.state().pid == Some(pid)
    }

    /// Its process has ended.
    pub(super) fn ended(&self, exit: Exit) {
        let mut state = self.shared.state();
        (state.pid, state.ended) = (None, Some(exit));
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Starts it again, because the settings are other ones: it reads them once. Its key stays, so links do; sessions end with it.
    pub(super) fn restart(&self) {
        let mut state = self.shared.state();
        (state.is_wanted_anew, state.stdin) = (true, None);
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Drop for PageKeeper {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        (state.is_over, state.stdin) = (true, None);
        drop(state);
        self.shared.changed.notify_all();
    }
}

fn keep(page: &PageProcess, shared: &Shared, logger: &Logger) {
    let warn = |text: &str| logger.line(Level::Warning, MASTER, text);
    let clock = Clock::start();
    let mut pause = FIRST;
    loop {
        let began = clock.now().at;
        let end = match once(page, shared, logger) {
            Ok(()) => {
                let state = shared.wait_while(END, |state| state.ended.is_none() && !state.is_over);
                state.ended.as_ref().map_or_else(|| "it says nothing any more".to_owned(), ToString::to_string)
            }
            Err(error) => format!("it cannot be started: {error}"),
        };
        let mut state = shared.state();
        (state.opened, state.stdin) = (None, None);
        if state.is_over {
            return;
        }
        if std::mem::take(&mut state.is_wanted_anew) {
            pause = FIRST;
            continue;
        }
        drop(state);
        if clock.now().at.since(began) >= STEADY {
            pause = FIRST;
        }
        warn(&format!("The page's process has ended: {end}; it is started again in {} s", pause.as_secs()));
        let mut state = shared.wait_while(pause, |state| !state.is_over && !state.is_wanted_anew);
        if state.is_over {
            return;
        }
        state.is_wanted_anew = false;
        pause = (pause * 2).min(LONGEST);
    }
}

/// Runs it until it says nothing any more.
fn once(page: &PageProcess, shared: &Shared, logger: &Logger) -> io::Result<()> {
    let (said, says) = io::pipe()?;
    let mut command = Command::new(&page.program);
    command.args(&page.arguments).stdin(Stdio::piped()).stdout(says.try_clone()?).stderr(says).process_group(0);
    let mut child = {
        // Who reaps it asks for its pid: one that dies at once is known, too.
        let mut state = shared.state();
        let child = command.spawn()?;
        (state.pid, state.ended) = (Some(child.id()), None);
        child
    };
    // Its ends of the pipe, which would keep it open.
    drop(command);
    let mut stdin = child.stdin.take().ok_or_else(|| io::Error::other("it has no standard input"))?;
    // One that is gone already is told of by its end.
    let _ = stdin.write_all(format!("{}\n", page.key.0).as_bytes());
    {
        let mut state = shared.state();
        if !state.is_over && !state.is_wanted_anew {
            state.stdin = Some(stdin);
        }
    }
    let mut is_open = false;
    let mut lines = BufReader::new(said);
    while let Some(line) = next_line(&mut lines)? {
        let place = line.strip_prefix("open ").or_else(|| line.strip_prefix("log in at "));
        if let Some(place) = place.filter(|_| !is_open) {
            is_open = true;
            // The link is for who asks: logs have readers.
            let (link, through) = place.split_at(place.find(" through ").unwrap_or(place.len()));
            let address = link.split("/open?").next().unwrap_or_default();
            logger.line(Level::Info, MASTER, &format!("Page at {address}{through} (asynctask dashboard link)"));
            shared.state().opened = Some(Secret(place.to_owned()));
        } else {
            logger.line(Level::Warning, MASTER, &format!("Page: {}", text::escape_line(&redact(&line))));
        }
    }
    Ok(())
}

/// The beginning of the next line, at most [`LINE`] bytes; the rest is read and forgotten. `None`: there is none.
fn next_line(lines: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if lines.by_ref().take(LINE as u64).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') {
        lines.skip_until(b'\n')?;
    }
    Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_as_long_as_it_may_be_and_the_next_one_is_whole() {
        let long = format!("{}\nnext\r\n\n{}", "x".repeat(3 * LINE), "y".repeat(LINE + 1));
        let mut lines = BufReader::with_capacity(100, long.as_bytes());
        let mut next = || next_line(&mut lines).unwrap();
        assert_eq!(next(), Some("x".repeat(LINE)));
        assert_eq!([next(), next()], [Some("next".to_owned()), Some(String::new())]);
        assert_eq!([next(), next()], [Some("y".repeat(LINE)), None]);
    }

    #[test]
    fn nothing_that_is_printed_of_it_has_the_key() {
        let (key, settings) = (Secret("s3cret".to_owned()), Dashboard::default());
        let page = PageProcess { program: "a".into(), arguments: Vec::new(), key, settings };
        let state = State { opened: Some(Secret("http://h/open?key=s3cret".to_owned())), ..State::default() };
        assert!(!format!("{page:?} {state:?}").contains("s3cret"));
    }
}
