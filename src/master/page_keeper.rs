//! Keeps the process of the page: starts it, and starts it again, whatever it dies of. A thread that only waits does it; the loop knows
//! nothing of it but the link.
//!
//! The page gets its key by its standard input and ends when that is closed, so it ends with the master however the master ends. It
//! is in a process group of its own: what a terminal or a service manager sends the master is the master's business.

use std::{
    ffi::OsString,
    io::{self, BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{ChildStdin, Command, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

use crate::{
    logging::{Level, Logger, MASTER},
    redact::redact,
    text,
};

/// Until it is started again, the first time.
const FIRST: Duration = Duration::from_secs(1);
/// … doubling up to this.
const LONGEST: Duration = Duration::from_secs(30);
/// Bytes of a line that it says.
const LINE: usize = 2000;

/// How the page's process is started.
#[derive(Clone, Debug)]
pub struct PageProcess {
    /// This program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// The key that it is opened with.
    pub key: String,
}

/// The page's process, kept until this is dropped.
#[derive(Debug)]
pub(super) struct PageKeeper {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The master ends.
    is_over: bool,
    /// What it said when it began to listen.
    opened: Option<String>,
    /// Closed, it ends.
    stdin: Option<ChildStdin>,
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
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).opened.clone()
    }
}

impl Drop for PageKeeper {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_over = true;
        state.stdin = None;
        drop(state);
        self.shared.ended.notify_all();
    }
}

fn keep(page: &PageProcess, shared: &Shared, logger: &Logger) {
    let mut pause = FIRST;
    loop {
        let was_well = match once(page, shared, logger) {
            Ok(was_well) => was_well,
            Err(error) => {
                logger.line(Level::Warning, MASTER, &format!("The page's process cannot be started: {error}"));
                false
            }
        };
        let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.opened, state.stdin) = (None, None);
        if state.is_over {
            return;
        }
        pause = if was_well { FIRST } else { (pause * 2).min(LONGEST) };
        logger.line(
            Level::Warning,
            MASTER,
            &format!("The page's process has ended; it is started again in {} s", pause.as_secs()),
        );
        let waited = shared.ended.wait_timeout_while(state, pause, |state| !state.is_over);
        if waited.unwrap_or_else(PoisonError::into_inner).0.is_over {
            return;
        }
    }
}

/// Runs it to its end. Gives whether it began to listen.
fn once(page: &PageProcess, shared: &Shared, logger: &Logger) -> io::Result<bool> {
    let (said, says) = io::pipe()?;
    let mut command = Command::new(&page.program);
    command.args(&page.arguments).stdin(Stdio::piped()).stdout(says.try_clone()?).stderr(says).process_group(0);
    let mut child = command.spawn()?;
    // Its ends of the pipe, which would keep it open.
    drop(command);
    let mut stdin = child.stdin.take().ok_or_else(|| io::Error::other("it has no standard input"))?;
    stdin.write_all(format!("{}\n", page.key).as_bytes())?;
    {
        let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.is_over {
            state.stdin = Some(stdin);
        }
    }
    let mut was_well = false;
    let mut lines = BufReader::new(said);
    let mut line = Vec::new();
    // It is reaped by the loop, as every child; here its end is the end of what it says.
    while lines.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        let text = text::cut(text.trim_end(), LINE);
        let place = text.strip_prefix("open ").or_else(|| text.strip_prefix("log in at "));
        if let Some(place) = place.filter(|_| !was_well) {
            was_well = true;
            // The link is for who asks: logs have readers.
            let address = place.split("/open?").next().unwrap_or_default();
            logger.line(Level::Info, MASTER, &format!("Page at {address} (asynctask dashboard link)"));
            shared.state.lock().unwrap_or_else(PoisonError::into_inner).opened = Some(place.to_owned());
        } else {
            logger.line(Level::Warning, MASTER, &format!("Page: {}", text::escape_line(&redact(text))));
        }
        line.clear();
    }
    Ok(was_well)
}
