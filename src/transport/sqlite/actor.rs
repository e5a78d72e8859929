//! The thread of the transport: takes requests, runs the transactions, and sleeps in one place.
//!
//! A settlement is never dropped. While the file cannot be written (the disk is full, another program holds the lock for more
//! than 10 s) settlements stay pending, and the transaction is tried again after growing pauses. A submit that fails in the same
//! way is answered with the error, because its caller has to know.
//!
//! The thread sleeps in [`wake::wait`] alone, until the next deadline that [`Actor::timeout`] computes.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::Duration,
};

use super::{
    claimer::{Claimer, StepResult},
    file::{
        clock_offset::Clocks,
        database::Database,
        error::{Fault, cause, file_error, may_pass},
        housekeeping::{Housekeeping, give_back_wal},
        lock_wait::LockTimeout,
    },
    jobs::{
        asked::{Ledger, WaitingOrder},
        stopped::Seen,
    },
    peers::{
        owner::OwnerLocks,
        wake::{self, PeerWaker, Waker},
    },
    requests::reader::Reader,
    tasks::cancel::Searches,
};
use crate::{
    clock::{Clock, Instant},
    plural::counted,
    task::{NewTask, QueueIndex},
    transport::{Error, Event, Events, QueueSetup, Reply, Request},
};

/// How long a survey's answer holds while other masters hold tasks.
const SURVEY_AGAIN: Duration = Duration::from_millis(500);
/// Pauses after a failed write: the first one, and the longest, up to which it doubles.
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
    /// Of an attached transport, from the first count on.
    pub(super) reader: Option<Reader>,
    /// Kept to the end of the thread, because our locks end with it.
    pub(super) owner_locks: Option<OwnerLocks>,
    /// The queues to attach to, until that is done.
    pub(super) attach: Option<Vec<QueueSetup>>,
    /// Queues to be added and removed, in the order of the requests.
    pub(super) changes: VecDeque<Change>,
    /// Credit that came before the attach was done, or before its queue was added.
    pub(super) credits: Vec<(QueueIndex, u32)>,
    /// Of an attached transport.
    pub(super) claimer: Option<Claimer>,
    pub(super) submits: Vec<(Vec<NewTask>, Reply<()>)>,
    pub(super) searches: Searches,
    pub(super) survey: Option<(u64, Option<String>)>,
    pub(super) lease: Option<Lease>,
    pub(super) ledger: Option<Ledger>,
    /// Orders whose answers are waited for.
    pub(super) orders: Vec<WaitingOrder>,
    /// Of an attached transport.
    pub(super) stopped_seen: Seen,
    /// Why every request fails from now on.
    pub(super) refused: Option<Error>,
    pub(super) retry: Option<RetryState>,
    pub(super) housekeeping: Housekeeping,
    /// Of an attached transport.
    pub(super) clocks: Option<Clocks>,
    pub(super) poll_at: Instant,
    pub(super) data_version: i64,
    /// A master had ended without leaving.
    pub(super) found_dead_master: bool,
    /// Something was written since the last poll.
    pub(super) wrote_something: bool,
    /// The last `poll(2)` failed.
    pub(super) poll_failed: bool,
    /// Dropped last: a receiver that sees it closed knows that our locks are free.
    pub(super) events: Events,
}

/// The scheduler's lease that was asked for.
pub(super) struct Lease {
    pub(super) application: String,
    pub(super) held: bool,
}

/// A change of the attached queues that was asked for.
pub(super) enum Change {
    Add(QueueIndex, QueueSetup),
    Remove(QueueIndex),
}

/// When the next try is due after a write that failed and may succeed later.
pub(super) struct RetryState {
    again_at: Instant,
    pause: Duration,
}

/// Why the thread ends.
enum End {
    /// The transport was dropped, which counts as a death.
    Dropped,
    /// By [`Request::Close`].
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
            ledger: None,
            orders: Vec::new(),
            stopped_seen: Seen::default(),
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

    /// Runs until the transport is closed or dropped.
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
            self.answer_orders();
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
        // There may be more requests: the next wait ends at once.
        self.waker.wake();
        None
    }

    /// Stores what was asked for before, so that the next answer takes it into account.
    pub(super) fn flush(&mut self) {
        self.store_submits();
        self.advance();
    }

    /// Runs the transactions that are to be run, unless the pause after a failure is not over.
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
        // Before the next claim, which may take what it stores.
        did |= self.store_advance()?;
        if let (Some(claimer), Some(database)) = (&mut self.claimer, &mut self.database) {
            let result = claimer.step(database)?;
            did |= !result.settled.is_empty() || !result.delivered.is_empty();
            self.tell_step(result);
        }
        self.tell_entries()?;
        if let Some((serial, jobs)) = self.survey.take() {
            match self.survey(jobs.as_deref()) {
                Ok(left) => {
                    let (empty, stranded) = (!left.any, left.stranded);
                    self.tell(Event::Surveyed { serial, empty, stranded, again_in: SURVEY_AGAIN });
                }
                Err(error) => {
                    self.survey = Some((serial, jobs));
                    return Err(error.into());
                }
            }
        }
        Ok(did)
    }

    /// Sends the events of a step: settlements first, because the credit of the deliveries comes from them.
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

    /// After a write that failed: plans the next try, or refuses everything if no try can succeed.
    pub(super) fn failed(&mut self, error: &rusqlite::Error) {
        if !may_pass(error) {
            return self.refuse(file_error(&self.path, cause(&self.path, error)));
        }
        if let Some(database) = &self.database {
            give_back_wal(database, &self.lock_timeout, error);
        }
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

    /// Time until the next deadline.
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
        if let (None, Some(entries)) = (&self.retry, self.next_entries()) {
            timeout = timeout.min(until(entries));
        }
        self.next_look(now.at).map_or(timeout, |look| timeout.min(look))
    }

    /// Sends an event. The receiver may be gone; the thread ends when its transport is dropped.
    pub(super) fn tell(&self, event: Event) {
        drop(self.events.send(event));
    }
}
