//! A reading of the settings beside the loop.
//!
//! The [`Reader`] of a run reads and checks the settings as at the start. It works on a thread of its own: a check looks users up,
//! and a directory server or a file system that does not answer must not hold up the loop. A reading that gives nothing for its
//! limit is given up; its thread cannot be ended, so there are at most [`UNENDED`] of them.

use std::{future, io, pin::Pin, sync::Arc, thread, time::Duration};

use tokio::{sync::oneshot, time::Timeout};

use crate::{
    celery::{Protocol, node},
    config::{self, Schedule},
    jobs::definition::Pipeline,
    master::queue_run::QueueRun,
    process::stacks,
};

/// Readings that were given up and have not ended: where so many hang, no other is begun.
const UNENDED: usize = 8;

/// The settings as they are now, as far as a running master can take them.
#[derive(Debug)]
pub struct Fresh {
    /// As [`RunConfig::settings`](crate::master::run_config::RunConfig::settings).
    pub settings: serde_json::Value,
    /// Those of the page: in [`settings`](Self::settings) secrets are masked.
    pub dashboard: Option<config::dashboard::Dashboard>,
    /// The queues to work.
    pub queues: Vec<QueueRun>,
    /// The queues that the settings name.
    pub names: config::Names,
    /// Those of them whose messages have another form than ours, be they worked or not.
    pub protocols: Vec<(String, Protocol)>,
    /// The pipelines.
    pub pipelines: Vec<Pipeline>,
    /// Limits of the master.
    pub supervisor: config::Supervisor,
    /// The schedules; `None` where this master is not to be their scheduler.
    pub schedules: Option<Vec<Schedule>>,
    /// How Celery's tools are to see this master, on RabbitMQ.
    pub celery: Option<node::Settings>,
}

/// Why they are not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Objection {
    /// All that is wrong with them.
    Invalid(String),
    /// They are right, but not for this run.
    Refused(String),
}

/// Reads and checks the settings. It is called on a thread of its own.
#[derive(Clone)]
pub struct Reader {
    read: Arc<dyn Fn() -> Result<Fresh, Objection> + Send + Sync>,
    pub(super) has_files: bool,
}

impl Reader {
    /// A reader that does this. `has_files`: there are files that may say something else by now.
    pub fn new(has_files: bool, read: impl Fn() -> Result<Fresh, Objection> + Send + Sync + 'static) -> Self {
        Self { read: Arc::new(read), has_files }
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reader")
    }
}

/// A request to read the settings.
#[derive(Debug)]
pub(super) struct ReadRequest {
    /// The command's number; `None`: a signal.
    pub(super) number: Option<u64>,
    /// Whether the answer comes when all is in force.
    pub(super) wait: bool,
    /// Its origin, for the log.
    pub(super) by: String,
}

/// What the thread of a reading gives.
type Read = oneshot::Receiver<Result<Fresh, Objection>>;

/// Readings of the settings: the one that is under way, and the requests for the next.
#[derive(Debug, Default)]
pub(super) struct Reading {
    under_way: Option<Pin<Box<Timeout<Read>>>>,
    /// Each thread that reads has one of these.
    threads: Arc<()>,
    /// The requests that it answers.
    pub(super) requests: Vec<ReadRequest>,
    pub(super) next: Vec<ReadRequest>,
}

impl Reading {
    pub(super) const fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// What the reading that is under way gave; without one this never ends. May be dropped and called again.
    pub(super) async fn done(&mut self) -> Result<Fresh, Objection> {
        let Some(under_way) = &mut self.under_way else { return future::pending().await };
        // The thread says something unless it panics.
        let read = under_way.await;
        self.under_way = None;
        let Ok(read) = read else {
            let text = "they were not read and checked in time: a file system or a directory server does not answer";
            return Err(Objection::Refused(text.to_owned()));
        };
        read.unwrap_or_else(|_| Err(Objection::Refused("their check broke off".to_owned())))
    }

    /// Begins a reading, which may take so long.
    pub(super) fn begin(&mut self, reader: Reader, limit: Duration) -> io::Result<()> {
        let of_thread = Arc::clone(&self.threads);
        // This one and ours are not given up.
        if Arc::strong_count(&of_thread) - 2 >= UNENDED {
            return Err(io::Error::other(format!("{UNENDED} readings before this one have not ended")));
        }
        let (sender, read) = oneshot::channel();
        let run = move || {
            // The master may have ended meanwhile, or given it up.
            let _ = sender.send((reader.read)());
            drop(of_thread);
        };
        thread::Builder::new().name("settings".to_owned()).stack_size(stacks::LARGE).spawn(run)?;
        self.under_way = Some(Box::pin(tokio::time::timeout(limit, read)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    #[test]
    fn a_reading_that_never_ends_is_given_up_and_so_many_hang_at_most() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (answers, answer) = mpsc::channel();
        let answer = Mutex::new(answer);
        // Of a directory server that does not answer until it is asked to.
        let reader = Reader::new(true, move || {
            let said = answer.lock().unwrap().recv().unwrap_or("gone");
            Err(Objection::Refused(said.to_owned()))
        });
        let mut reading = Reading::default();
        runtime.block_on(async {
            for _ in 0..UNENDED {
                reading.begin(reader.clone(), Duration::ZERO).unwrap();
                let Err(Objection::Refused(text)) = reading.done().await else { panic!("it hangs") };
                assert!(text.contains("in time") && !reading.is_under_way(), "{text}");
            }
            let refused = reading.begin(reader.clone(), Duration::from_mins(1)).unwrap_err();
            assert!(refused.to_string().contains("have not ended") && !reading.is_under_way(), "{refused}");
            // They come back one after the other.
            for _ in 0..UNENDED {
                answers.send("late").unwrap();
            }
            while Arc::strong_count(&reading.threads) > 1 {
                thread::yield_now();
            }
            answers.send("again").unwrap();
            reading.begin(reader, Duration::from_mins(1)).unwrap();
            assert_eq!(reading.done().await.unwrap_err(), Objection::Refused("again".to_owned()));
        });
    }
}
