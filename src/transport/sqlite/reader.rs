//! Counting beside the thread that claims: what lies in the queues is counted over a connection of its own, which only reads.
//!
//! To count a backlog goes through all of it. With the WAL a reader holds up no writer, so that a master that is watched
//! claims as fast as one that is not. A count may never outlive the transport: at its end it is broken off.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::JoinHandle,
};

use rusqlite::InterruptHandle;

use super::{
    busy::Patience,
    store::{Fault, Store, cause, file_error},
    views,
};
use crate::{
    clock::Clock,
    transport::{DeadQueue, Depth, Error, Reply},
};

/// What is to be counted.
pub(super) enum Question {
    /// All there is to know of queues.
    Depths(Vec<DeadQueue>, Reply<Vec<Depth>>),
    /// What is due and unclaimed in them.
    Ready(Vec<String>, Reply<Vec<u64>>),
}

impl Question {
    /// Answers it in one snapshot; zeros without a database.
    pub(super) fn answer(self, store: Result<Option<&Store>, Error>) {
        // Whoever asked may be gone.
        match self {
            Self::Depths(queues, reply) => drop(reply.send(store.and_then(|store| match store {
                None => Ok(vec![Depth::default(); queues.len()]),
                Some(store) => views::depths(store.read(), Clock::wall(), &queues).map_err(|error| store.error(&error)),
            }))),
            Self::Ready(queues, reply) => drop(reply.send(store.and_then(|store| match store {
                None => Ok(vec![0; queues.len()]),
                Some(store) => views::ready(store.read(), Clock::wall(), &queues).map_err(|error| store.error(&error)),
            }))),
        }
    }
}

/// The thread that counts; it ends with this.
pub(super) struct Reader {
    /// `None` only while it is dropped.
    questions: Option<mpsc::Sender<Question>>,
    reading: Arc<Mutex<Option<InterruptHandle>>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Starts the thread; it opens the file at its first question.
    pub(super) fn start(path: &Path, patience: &Arc<Patience>) -> io::Result<Self> {
        let (questions, asked) = mpsc::channel();
        let reading = Arc::default();
        let (path, patience, handle) = (path.to_owned(), Arc::clone(patience), Arc::clone(&reading));
        let run = move || serve(&path, &patience, &asked, &handle);
        let thread = std::thread::Builder::new().name("sqlite reader".to_owned()).spawn(run)?;
        Ok(Self { questions: Some(questions), reading, thread: Some(thread) })
    }

    /// Has a question answered. One that nobody takes is answered by its reply's end.
    pub(super) fn ask(&self, question: Question) {
        if let Some(questions) = &self.questions {
            drop(questions.send(question));
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        drop(self.questions.take());
        if let Some(reading) = &*self.reading.lock().unwrap_or_else(PoisonError::into_inner) {
            reading.interrupt();
        }
        // Its connection is closed before ours, which tidies up the files as the last one.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    path: &Path,
    patience: &Arc<Patience>,
    asked: &mpsc::Receiver<Question>,
    reading: &Mutex<Option<InterruptHandle>>,
) {
    let set = |handle| *reading.lock().unwrap_or_else(PoisonError::into_inner) = handle;
    let mut store = None;
    while let Ok(question) = asked.recv() {
        if store.is_none() {
            match Store::reader(path, patience) {
                Ok(opened) => {
                    set(Some(opened.read().get_interrupt_handle()));
                    store = Some(opened);
                }
                Err(Fault::Final(error)) => {
                    question.answer(Err(error));
                    continue;
                }
                Err(Fault::Sqlite(error)) => {
                    question.answer(Err(file_error(path, cause(&error))));
                    continue;
                }
            }
        }
        question.answer(Ok(store.as_ref()));
    }
    set(None);
}
