//! The thread: takes requests, keeps what cannot be stored yet, and sleeps in one place.
//!
//! A settlement is never dropped. Where the file cannot be written for the moment (no room on the disk,
//! another program holds the lock for more than 10 s) it waits here, and is tried again with growing pauses.
//! A submit in the same place is answered with an error: whoever submits must know.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::Duration,
};

use super::{
    attach::Change,
    claimer::{Claimer, StepResult},
    file::{
        clock_offset::Clocks,
        database::{Database, Fault, cause, file_error, may_pass},
        housekeeping::Housekeeping,
        lock_wait::LockTimeout,
    },
    peers::{
        owner::OwnerLocks,
        wake::{self, PeerWaker, Waker},
    },
    queries::{
        depth,
        reader::{CountQuery, Reader},
    },
    tasks::cancel::{Search, Searches},
};
use crate::{
    clock::{Clock, Instant},
    plural::counted,
    task::{NewTask, QueueIndex},
    transport::{Error, Event, Events, QueueSetup, Reply, Request, with_own_names, without_priorities},
};

/// When to ask again while others hold tasks.
const SURVEY_AGAIN: Duration = Duration::from_millis(500);
/// Pauses after a failed write: from the first, doubled up to the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Requests taken before the next transaction.
const AT_ONCE: usize = 4096;

/// The state of the thread.
pub(super) struct Actor {
    pub(super) path: PathBuf,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) waker: Arc<Waker>,
    pub(super) lock_timeout: Arc<LockTimeout>,
    pub(super) clock: Clock,
    pub(super) peers: PeerWaker,
    pub(super) database: Option<Database>,
    /// Of a master, once somebody wanted something counted.
    pub(super) reader: Option<Reader>,
    /// Kept to the end of the thread: with it end our locks.
    pub(super) owner_locks: Option<OwnerLocks>,
    /// Asked for and not done yet.
    pub(super) attach: Option<Vec<QueueSetup>>,
    /// Queues to come and to go, in the order asked for.
    pub(super) changes: VecDeque<Change>,
    /// Given before the attach was done, or before their queues were added.
    pub(super) credits: Vec<(QueueIndex, u32)>,
    pub(super) claimer: Option<Claimer>,
    pub(super) submits: Vec<(Vec<NewTask>, Reply<()>)>,
    pub(super) searches: Searches,
    pub(super) survey: Option<u64>,
    pub(super) lease: Option<Lease>,
    /// Why nothing can be done any more.
    pub(super) refused: Option<Error>,
    pub(super) retry: Option<RetryState>,
    pub(super) housekeeping: Housekeeping,
    /// Of a master.
    pub(super) clocks: Option<Clocks>,
    pub(super) poll_at: Instant,
    pub(super) data_version: i64,
    /// Some master had ended without leaving.
    pub(super) found_dead_master: bool,
    /// Something was written since the last look.
    pub(super) wrote_something: bool,
    /// Events could not be waited for the last time.
    pub(super) poll_failed: bool,
    /// The last to go: who sees it closed knows that our locks are free.
    pub(super) events: Events,
}

/// The wish to be the scheduler.
pub(super) struct Lease {
    pub(super) application: String,
    pub(super) held: bool,
}

/// A write failed in a way that may pass.
pub(super) struct RetryState {
    again_at: Instant,
    pause: Duration,
}

/// Why the thread ends.
enum End {
    /// The transport was dropped: as a death.
    Dropped,
    /// In order.
    Closed(Reply<()>),
}

impl Actor {
    pub(super) fn new(
        path: &Path,
        events: Events,
        requests: mpsc::Receiver<Request>,
        waker: Arc<Waker>,
        lock_timeout: Arc<LockTimeout>,
    ) -> Self {
        Self {
            path: path.to_owned(),
            requests,
            waker,
            lock_timeout,
            clock: Clock::start(),
            peers: PeerWaker::new(),
            database: None,
            reader: None,
            owner_locks: None,
            attach: None,
            changes: VecDeque::new(),
            credits: Vec::new(),
            claimer: None,
            submits: Vec::new(),
            searches: Searches::new(),
            survey: None,
            lease: None,
            refused: None,
            retry: None,
            housekeeping: Housekeeping::default(),
            clocks: None,
            poll_at: Instant::default(),
            data_version: 0,
            found_dead_master: false,
            wrote_something: false,
            poll_failed: false,
            events,
        }
    }

    /// The thread's life.
    pub(super) fn run(mut self) {
        loop {
            let end = self.take_requests();
            self.store_submits();
            match end {
                Some(End::Dropped) => return,
                Some(End::Closed(reply)) => return self.close(reply),
                None => {}
            }
            self.advance();
            self.search();
            let socket = self.claimer.as_ref().and_then(|claimer| claimer.socket.as_ref());
            let wakeup = wake::wait(&self.waker, socket, self.timeout());
            if let Some(error) = wakeup.new_failure(&mut self.poll_failed) {
                let path = self.path.display();
                self.tell(Event::Warning(format!(
                    "{path}: cannot wait for events ({error}); looking ten times a second"
                )));
            }
            if wakeup.by_datagram {
                self.on_peer_wakeup();
            }
            if self.clock.now().at >= self.poll_at {
                self.poll_tick();
            }
        }
    }

    fn take_requests(&mut self) -> Option<End> {
        for _ in 0..AT_ONCE {
            match self.requests.try_recv() {
                Ok(Request::Close { reply }) => return Some(End::Closed(reply)),
                Ok(request) => self.serve(request),
                Err(mpsc::TryRecvError::Empty) => return None,
                Err(mpsc::TryRecvError::Disconnected) => return Some(End::Dropped),
            }
        }
        // More is waiting: the next wait ends at once.
        self.waker.wake();
        None
    }

    fn serve(&mut self, request: Request) {
        match request {
            Request::Submit { tasks, reply } => {
                match without_priorities(&tasks).and_then(|()| with_own_names(&tasks)) {
                    Ok(()) => self.submits.push((tasks, reply)),
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            Request::Credit { queue, credit } => match &mut self.claimer {
                Some(claimer) if self.changes.is_empty() => claimer.credit(queue, credit),
                _ => {
                    // While they cannot be given they change often; the last one counts.
                    self.credits.retain(|(other, _)| *other != queue);
                    self.credits.push((queue, credit));
                }
            },
            Request::Settle(settlements) => {
                if let Some(claimer) = &mut self.claimer {
                    claimer.add_settlements(settlements);
                }
            }
            Request::Lock { handle, key } => {
                if let Some(claimer) = &mut self.claimer {
                    claimer.lock(handle, key);
                }
            }
            Request::Attach { queues, .. } => {
                self.attach = Some(queues);
                self.flush();
            }
            Request::AddQueue { queue, setup } => self.change(Change::Add(queue, setup)),
            Request::RemoveQueue { queue } => self.change(Change::Remove(queue)),
            Request::Survey { serial } => {
                self.survey = Some(serial);
                self.flush();
            }
            Request::Depths { queues, reply } => {
                self.flush();
                self.count(CountQuery::Depths(queues, reply));
            }
            Request::Ready { queues, reply } => {
                self.flush();
                self.count(CountQuery::Ready(queues, reply));
            }
            Request::KnownQueues { reply } => {
                self.flush();
                drop(reply.send(self.known_queues()));
            }
            Request::Purge { queue, reply } => {
                self.flush();
                drop(reply.send(self.purge(&queue)));
            }
            Request::Cancel { id, reply } => {
                self.flush();
                self.searches.push_back(Search::new(id, reply));
            }
            Request::Delete { queue, reply } => {
                self.flush();
                drop(reply.send(self.delete(&queue.queue)));
            }
            Request::WalkDead { queue, visit, reply } => {
                self.flush();
                drop(reply.send(self.walk(&queue, visit)));
            }
            Request::Lease { application } => self.ask_lease(application),
            Request::ScheduleMemory { application, reply } => {
                self.flush();
                drop(reply.send(self.schedule_memory(&application).map(Some)));
            }
            Request::Fire { schedule, moment, task } => {
                self.flush();
                let stored = self.fire(&schedule, moment, task.as_ref());
                self.tell(Event::Fired { schedule, moment, stored });
            }
            Request::ReleaseLease => self.release_lease(),
            // The caller takes it, to end the loop.
            Request::Close { reply } => drop(reply),
        }
    }

    /// What was asked before is stored before the next question is answered.
    pub(super) fn flush(&mut self) {
        self.store_submits();
        self.advance();
    }

    /// Does what is waiting to be done, unless it failed a moment ago.
    fn advance(&mut self) {
        let now = self.clock.now().at;
        if self.refused.is_some() || self.retry.as_ref().is_some_and(|retry| retry.again_at > now) {
            return;
        }
        match self.try_advance() {
            Ok(did) => {
                if self.retry.take().is_some() {
                    self.tell(Event::Resumed);
                    if did {
                        self.tell(Event::Warning(format!("{}: works again", self.path.display())));
                    }
                }
            }
            Err(Fault::Sqlite(error)) => self.failed(&error),
            Err(Fault::Final(error)) => self.refuse(error),
        }
    }

    /// Whether there was anything to do.
    fn try_advance(&mut self) -> Result<bool, Fault> {
        let mut did = false;
        if self.attach.is_some() {
            self.try_attach()?;
            did = true;
        }
        did |= self.change_queues()?;
        if let (Some(claimer), Some(database)) = (&mut self.claimer, &mut self.database) {
            let result = claimer.step(database)?;
            did |= !result.settled.is_empty() || !result.delivered.is_empty();
            self.tell_step(result);
        }
        if let Some(serial) = self.survey {
            let empty = self.is_empty()?;
            self.survey = None;
            self.tell(Event::Surveyed { serial, empty, again_in: SURVEY_AGAIN });
        }
        Ok(did)
    }

    /// Nothing left in the queues we are attached to; true without any.
    fn is_empty(&mut self) -> rusqlite::Result<bool> {
        let (Some(claimer), Some(database)) = (&self.claimer, &self.database) else { return Ok(true) };
        if claimer.holds_any() {
            return Ok(false);
        }
        let snapshot = database.read().unchecked_transaction()?;
        depth::are_empty(&snapshot, claimer.queue_ids())
    }

    /// Settlements first: the credit for the deliveries came from them.
    pub(super) fn tell_step(&mut self, result: StepResult) {
        self.wrote_something |= !result.settled.is_empty() || !result.delivered.is_empty();
        result.stored.into_iter().for_each(|handle| self.tell(Event::Stored(handle)));
        if !result.settled.is_empty() {
            self.tell(Event::Settled(result.settled));
        }
        for (handle, held_by) in result.locked {
            self.tell(Event::Locked { handle, held_by });
        }
        for deliveries in result.delivered {
            self.tell(Event::Delivered(deliveries));
        }
        for queue in result.removed {
            self.tell(Event::QueueRemoved { queue });
        }
        if result.stale > 0 {
            let count = result.stale;
            self.tell(Event::Warning(format!(
                "{} came too late: the tasks had been taken back",
                counted(count, "settlement")
            )));
        }
        self.peers.wake(&self.path, result.wake);
    }

    /// A write failed; what may pass is tried again after a pause.
    pub(super) fn failed(&mut self, error: &rusqlite::Error) {
        if !may_pass(error) {
            return self.refuse(file_error(&self.path, cause(&self.path, error)));
        }
        self.give_back_wal(error);
        let now = self.clock.now().at;
        let pause = if let Some(retry) = &self.retry {
            (retry.pause * 2).min(PAUSES.1)
        } else {
            let stalled = file_error(&self.path, cause(&self.path, error));
            self.tell(Event::Warning(format!("{stalled}; what must be stored is kept and tried again")));
            self.tell(Event::Stalled(stalled));
            PAUSES.0
        };
        self.retry = Some(RetryState { again_at: now + pause, pause });
    }

    /// How long nothing has to be done.
    fn timeout(&self) -> Duration {
        let now = self.clock.now();
        let until = |at: Instant| at.since(now.at);
        if self.refused.is_some() {
            return Duration::MAX;
        }
        let mut timeout = if self.polls() { until(self.poll_at) } else { Duration::MAX };
        match (&self.retry, &self.claimer) {
            (Some(retry), _) => timeout = timeout.min(until(retry.again_at)),
            (None, Some(claimer)) => {
                if let Some(due) = claimer.next_due() {
                    timeout = timeout.min(due.remaining(now.wall));
                }
            }
            (None, None) => {}
        }
        timeout
    }

    /// Whoever listened may be gone; the thread ends when its transport is dropped.
    pub(super) fn tell(&self, event: Event) {
        drop(self.events.send(event));
    }
}
