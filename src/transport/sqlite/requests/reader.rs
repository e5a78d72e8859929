//! Counts on a thread and a connection of their own, beside the thread that claims.
//!
//! To count a backlog goes through all of it. With the WAL a reader holds up no writer, so that a master that is watched
//! claims as fast as one that is not. A count may never outlive the transport: at its end it is broken off, whatever waits to
//! be counted, and no lock that is needed to open the file is waited for.

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use rusqlite::InterruptHandle;

use super::{dead_page, depth};
use crate::{
    clock::Clock,
    transport::{
        DeadQueue, Depth, Error, Reply,
        dead_page::{DeadFilter, DeadFound, DeadGroup, DeadKey, DeadPage, DeadPlace},
        sqlite::file::{
            database::Database,
            error::{Fault, cause, file_error},
            lock_wait::LockTimeout,
        },
    },
};

/// Between two interrupts of a count: it may have begun just after the first.
const AGAIN: Duration = Duration::from_millis(5);

/// What is to be counted.
pub(crate) enum CountQuery {
    /// All there is to know of queues.
    Depths(Vec<DeadQueue>, Reply<Vec<Depth>>),
    /// What is due and unclaimed in them.
    Ready(Vec<String>, Reply<Vec<u64>>),
    /// The groups of a queue's dead letters.
    DeadGroups(String, Reply<Option<Vec<DeadGroup>>>),
    /// A page of them.
    DeadPage(DeadQuery, Reply<Option<DeadPage>>),
    /// One of them.
    DeadLetter(String, DeadKey, Reply<DeadFound>),
}

/// Which dead letters a page is to have.
pub(crate) struct DeadQuery {
    pub(crate) queue: String,
    pub(crate) filter: DeadFilter,
    pub(crate) after: Option<DeadPlace>,
    pub(crate) limit: usize,
}

impl CountQuery {
    /// Whether the receiver of the answer still waits.
    fn is_awaited(&self) -> bool {
        match self {
            Self::Depths(_, reply) => !reply.is_closed(),
            Self::Ready(_, reply) => !reply.is_closed(),
            Self::DeadGroups(_, reply) => !reply.is_closed(),
            Self::DeadPage(_, reply) => !reply.is_closed(),
            Self::DeadLetter(_, _, reply) => !reply.is_closed(),
        }
    }

    /// Answers it in one snapshot; zeros without a database.
    pub(crate) fn answer(self, database: Result<Option<&Database>, Error>) {
        // The receiver may be gone.
        match self {
            Self::Depths(queues, reply) => drop(reply.send(database.and_then(|database| match database {
                None => Ok(vec![Depth::default(); queues.len()]),
                Some(database) => {
                    depth::depths(database.read(), Clock::wall(), &queues).map_err(|error| database.error(&error))
                }
            }))),
            Self::Ready(queues, reply) => drop(reply.send(database.and_then(|database| match database {
                None => Ok(vec![0; queues.len()]),
                Some(database) => {
                    depth::ready(database.read(), Clock::wall(), &queues).map_err(|error| database.error(&error))
                }
            }))),
            Self::DeadGroups(queue, reply) => drop(reply.send(database.and_then(|database| {
                match database {
                    None => Ok(Some(Vec::new())),
                    Some(database) => dead_page::groups(database.read(), Clock::wall(), &queue)
                        .map(Some)
                        .map_err(|error| database.error(&error)),
                }
            }))),
            Self::DeadLetter(queue, key, reply) => drop(reply.send(database.and_then(|database| {
                let Some(database) = database else { return Ok(DeadFound::Absent) };
                dead_page::letter(database.read(), Clock::wall(), &queue, &key)
                    .map(|letter| letter.map_or(DeadFound::Absent, |letter| DeadFound::Letter(Box::new(letter))))
                    .map_err(|error| database.error(&error))
            }))),
            Self::DeadPage(DeadQuery { queue, filter, after, limit }, reply) => {
                drop(reply.send(database.and_then(|database| {
                    match database {
                        None => Ok(Some(DeadPage::default())),
                        Some(database) => dead_page::page(database.read(), &queue, &filter, after, limit)
                            .map(Some)
                            .map_err(|error| database.error(&error)),
                    }
                })));
            }
        }
    }
}

/// The thread that counts; it ends with this.
pub(crate) struct Reader {
    /// `None` only while it is dropped.
    questions: Option<mpsc::Sender<CountQuery>>,
    shared: Arc<Shared>,
    /// Ends with the thread.
    ended: mpsc::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

/// What both threads see.
#[derive(Default)]
struct Shared {
    is_closing: AtomicBool,
    /// For a lock that is needed to open the file. The thread's own: it is not to be waited for at the end.
    lock_timeout: Arc<LockTimeout>,
    reading: Mutex<Option<InterruptHandle>>,
}

impl Reader {
    /// Starts the thread; it opens the file at its first question.
    pub(crate) fn start(path: &Path) -> io::Result<Self> {
        let (questions, asked) = mpsc::channel();
        let (ends, ended) = mpsc::channel();
        let shared = Arc::<Shared>::default();
        let (path, known) = (path.to_owned(), Arc::clone(&shared));
        let run = move || {
            let _ends: mpsc::Sender<()> = ends;
            serve(&path, &known, &asked);
        };
        let thread = std::thread::Builder::new().name("sqlite reader".to_owned()).spawn(run)?;
        Ok(Self { questions: Some(questions), shared, ended, thread: Some(thread) })
    }

    /// Hands a query to the thread. One that the thread does not take is answered by the drop of its reply.
    pub(crate) fn ask(&self, question: CountQuery) {
        if let Some(questions) = &self.questions {
            drop(questions.send(question));
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.is_closing.store(true, Ordering::SeqCst);
        self.shared.lock_timeout.set_no_wait(true);
        drop(self.questions.take());
        loop {
            if let Some(reading) = &*self.shared.reading.lock().unwrap_or_else(PoisonError::into_inner) {
                reading.interrupt();
            }
            if !matches!(self.ended.recv_timeout(AGAIN), Err(mpsc::RecvTimeoutError::Timeout)) {
                break;
            }
        }
        // Its connection is closed before ours, which tidies up the files as the last one.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(path: &Path, shared: &Shared, asked: &mpsc::Receiver<CountQuery>) {
    let set = |handle| *shared.reading.lock().unwrap_or_else(PoisonError::into_inner) = handle;
    let mut database = None;
    while let Ok(question) = asked.recv() {
        if shared.is_closing.load(Ordering::SeqCst) {
            break;
        }
        if !question.is_awaited() {
            continue;
        }
        if database.is_none() {
            match Database::open_reader(path, &shared.lock_timeout) {
                Ok(opened) => {
                    set(Some(opened.read().get_interrupt_handle()));
                    database = Some(opened);
                }
                Err(Fault::Final(error)) => {
                    question.answer(Err(error));
                    continue;
                }
                Err(Fault::Sqlite(error)) => {
                    question.answer(Err(file_error(path, cause(path, &error))));
                    continue;
                }
            }
        }
        question.answer(Ok(database.as_ref()));
    }
    set(None);
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    /// A file that is not in WAL mode, so that its opening takes a lock, which another connection holds.
    fn locked(path: &Path) -> rusqlite::Connection {
        let holder = rusqlite::Connection::open(path).unwrap();
        holder.execute_batch("CREATE TABLE a (b); BEGIN EXCLUSIVE").unwrap();
        holder
    }

    #[test]
    fn the_end_waits_for_no_lock_and_for_no_question() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let _holder = locked(&path);
        let reader = Reader::start(&path).unwrap();
        let (given_up, _) = oneshot::channel();
        reader.ask(CountQuery::Ready(vec!["foo".to_owned()], given_up));
        let awaited: Vec<_> = (0..100)
            .map(|_| {
                let (reply, answer) = oneshot::channel();
                reader.ask(CountQuery::Ready(vec!["foo".to_owned()], reply));
                answer
            })
            .collect();
        let clock = Clock::start();
        drop(reader);
        let took = clock.now().at.since_start();
        assert!(took < Duration::from_secs(2), "{took:?}");
        for answer in awaited {
            assert!(!matches!(answer.blocking_recv(), Ok(Ok(_))));
        }
    }
}
