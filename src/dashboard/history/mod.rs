//! The history: what ended, in a file of the page's own.
//!
//! ```text
//! office ── Recorder ── bounded channel ──> writer's thread ──> FILE (one page writes, others read)
//!             └ full: dropped and counted                          └── pages read it, newest first
//! ```
//!
//! Failures are kept for a week, other ends, of which the master tells a sample, for a day; all of them are counted, so a list can say
//! how many it leaves out. The file is bounded by rows, age and bytes. When it cannot be written or read, the page goes on without
//! it, and each list says so.

mod file;
mod limits;
mod list;
mod record;
mod writer;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, TrySendError},
    },
    thread::{self, JoinHandle},
};

use rusqlite::Connection;

use self::{
    file::{Fault, Number},
    record::NAME,
    writer::{Batch, Writer},
};
pub(crate) use self::{
    limits::Limits,
    list::{Listing, Row, Wanted},
    record::{End, Outcome, STEP, step},
};
use super::office::Heard;
use crate::{clock::Clock, text};

/// Rounds that may wait for the file, each of a second: longer than a reader may keep it.
const WAITING: usize = 8;

/// The history as pages see it.
#[derive(Debug)]
pub(crate) struct History {
    path: PathBuf,
    reader: Mutex<Option<(Connection, Number)>>,
    state: Mutex<State>,
    /// Ends that came faster than they were asked for, or than the file takes them.
    dropped: AtomicU64,
}

/// What became of the writing.
#[derive(Debug, Default)]
struct State {
    /// Why nothing is written.
    trouble: Option<String>,
    /// Another page writes.
    is_held: bool,
    /// Ends that were not written since this page began.
    missing: u64,
}

/// Takes what the office hears, and hands it to the thread that writes.
#[derive(Debug)]
pub(crate) struct Record {
    history: Arc<History>,
    batches: mpsc::SyncSender<Batch>,
}

impl History {
    /// Begins to write what is heard into the file at this path. It never fails: what is wrong with the file is told by
    /// [`Self::notes`]. The thread ends with the recorder.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(crate) fn begin(path: &Path, limits: Limits) -> io::Result<(Arc<Self>, Record, JoinHandle<()>)> {
        let history = Arc::new(Self::at(path));
        let (batches, taken) = mpsc::sync_channel::<Batch>(WAITING);
        let mut writer = Writer::new(history.path.clone(), limits);
        let told = Arc::clone(&history);
        let thread = thread::Builder::new().name("history".to_owned()).spawn(move || {
            for batch in taken {
                if let Some(trouble) = told.stored(&batch, writer.take(&batch)) {
                    // The master that keeps this page puts it into its log. Who closed this end does not want it.
                    let _ = writeln!(io::stderr(), "nothing is written to the history: {trouble}");
                }
            }
        })?;
        let record = Record { history: Arc::clone(&history), batches };
        Ok((history, record, thread))
    }

    /// The history in the file at this path, which another page may write.
    pub(crate) fn at(path: &Path) -> Self {
        Self {
            path: file::resolved(path),
            reader: Mutex::default(),
            state: Mutex::default(),
            dropped: AtomicU64::new(0),
        }
    }

    /// Takes in what became of a batch. Gives what is wrong, if that is new.
    fn stored(&self, batch: &Batch, stored: Result<bool, Fault>) -> Option<String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match stored {
            Ok(true) => (state.trouble, state.is_held) = (None, false),
            // Whoever writes it has heard of these, too.
            Ok(false) if state.is_held => {}
            Err(Fault::Held) => (state.trouble, state.is_held) = (None, true),
            Ok(false) => state.missing += batch.ends.len() as u64,
            Err(fault) => {
                state.missing += batch.ends.len() as u64;
                let trouble = fault.in_words(&self.path);
                let is_new = state.trouble.as_ref() != Some(&trouble);
                (state.trouble, state.is_held) = (Some(trouble.clone()), false);
                return is_new.then_some(trouble);
            }
        }
        None
    }

    /// What people must know who read a list, a sentence each.
    pub(crate) fn notes(&self) -> Vec<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let trouble =
            state.trouble.as_ref().map(|trouble| format!("Nothing is written to the history now: {trouble}."));
        let held = state.is_held.then(|| {
            format!(
                "Another page writes the file {}; this one reads it, as far as its ends are this master's.",
                self.path.display()
            )
        });
        let missing = state.missing.saturating_add(self.dropped.load(Ordering::Relaxed));
        let missing =
            (missing > 0).then(|| format!("Ends that were told and are not listed since this page began: {missing}."));
        [trouble, held, missing].into_iter().flatten().collect()
    }

    /// Reads with a connection that is opened when it is needed, and again when another file stands there.
    fn read<T>(&self, read: impl Fn(&Connection) -> rusqlite::Result<T>) -> Result<T, String> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let result = (|| {
            let number = Number::of(&self.path)?;
            if reader.as_ref().is_none_or(|(_, known)| *known != number) {
                *reader = None;
                *reader = Some(file::open_reading(&self.path)?);
            }
            match &*reader {
                Some((connection, _)) => Ok(read(connection)?),
                None => Err(Fault::Absent),
            }
        })();
        result.map_err(|fault: Fault| {
            if fault.is_of_connection() {
                *reader = None;
            }
            format!("There is no history to be seen: {}.", fault.in_words(&self.path))
        })
    }
}

impl Record {
    /// Takes what a round heard. It waits for nothing.
    pub(crate) fn take(&mut self, heard: &Heard<'_>) {
        let ends: Vec<End> = heard.records.iter().filter_map(End::of).collect();
        let count = ends.len() as u64;
        let batch = Batch {
            now: heard.now,
            reading: Clock::reading(),
            run: text::cut(heard.run, NAME).to_owned(),
            began: heard.began,
            host: text::cut(heard.host, NAME).to_owned(),
            ends,
            counters: heard.counters.clone(),
        };
        self.history.dropped.fetch_add(heard.lost, Ordering::Relaxed);
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.batches.try_send(batch) {
            self.history.dropped.fetch_add(count, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
