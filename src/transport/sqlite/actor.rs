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
    claimer::{Master, Stepped},
    file::{
        clock_offset::Clocks,
        database::{Fault, Store, cause, file_error, may_pass},
        housekeeping::Housekeeping,
        lock_wait::Patience,
    },
    peers::{
        owner::Masters,
        wake::{self, Bell, Caller},
    },
    queries::{
        depth,
        reader::{Question, Reader},
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
    pub(super) bell: Arc<Bell>,
    pub(super) patience: Arc<Patience>,
    pub(super) clock: Clock,
    pub(super) caller: Caller,
    pub(super) store: Option<Store>,
    /// Of a master, once somebody wanted something counted.
    pub(super) reader: Option<Reader>,
    /// Kept to the end of the thread: with it end our locks.
    pub(super) masters: Option<Masters>,
    /// Asked for and not done yet.
    pub(super) attach: Option<Vec<QueueSetup>>,
    /// Queues to come and to go, in the order asked for.
    pub(super) changes: VecDeque<Change>,
    /// Given before the attach was done, or before their queues were added.
    pub(super) credits: Vec<(QueueIndex, u32)>,
    pub(super) master: Option<Master>,
    pub(super) submits: Vec<(Vec<NewTask>, Reply<()>)>,
    pub(super) searches: Searches,
    pub(super) survey: Option<u64>,
    pub(super) lease: Option<Lease>,
    /// Why nothing can be done any more.
    pub(super) refused: Option<Error>,
    pub(super) trouble: Option<Trouble>,
    pub(super) keeping: Housekeeping,
    /// Of a master.
    pub(super) clocks: Option<Clocks>,
    pub(super) look_at: Instant,
    pub(super) data_version: i64,
    /// Some master had ended without leaving.
    pub(super) unclean: bool,
    /// Something was written since the last look.
    pub(super) active: bool,
    /// Events could not be waited for the last time.
    pub(super) blind: bool,
    /// The last to go: who sees it closed knows that our locks are free.
    pub(super) events: Events,
}

/// The wish to be the scheduler.
pub(super) struct Lease {
    pub(super) application: String,
    pub(super) held: bool,
}

/// A write failed in a way that may pass.
pub(super) struct Trouble {
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
        bell: Arc<Bell>,
        patience: Arc<Patience>,
    ) -> Self {
        Self {
            path: path.to_owned(),
            requests,
            bell,
            patience,
            clock: Clock::start(),
            caller: Caller::new(),
            store: None,
            reader: None,
            masters: None,
            attach: None,
            changes: VecDeque::new(),
            credits: Vec::new(),
            master: None,
            submits: Vec::new(),
            searches: Searches::new(),
            survey: None,
            lease: None,
            refused: None,
            trouble: None,
            keeping: Housekeeping::default(),
            clocks: None,
            look_at: Instant::default(),
            data_version: 0,
            unclean: false,
            active: false,
            blind: false,
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
            let socket = self.master.as_ref().and_then(|master| master.socket.as_ref());
            let woken = wake::wait(&self.bell, socket, self.timeout());
            if let Some(error) = woken.new_failure(&mut self.blind) {
                let path = self.path.display();
                self.tell(Event::Warning(format!(
                    "{path}: cannot wait for events ({error}); looking ten times a second"
                )));
            }
            if woken.by_datagram {
                self.look_for_news();
            }
            if self.clock.now().at >= self.look_at {
                self.look_around();
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
        self.bell.ring();
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
            Request::Credit { queue, credit } => match &mut self.master {
                Some(master) if self.changes.is_empty() => master.credit(queue, credit),
                _ => {
                    // While they cannot be given they change often; the last one counts.
                    self.credits.retain(|(other, _)| *other != queue);
                    self.credits.push((queue, credit));
                }
            },
            Request::Settle(settlements) => {
                if let Some(master) = &mut self.master {
                    master.owe(settlements);
                }
            }
            Request::Lock { handle, key } => {
                if let Some(master) = &mut self.master {
                    master.lock(handle, key);
                }
            }
            Request::Attach { queues, .. } => {
                self.attach = Some(queues);
                self.catch_up();
            }
            Request::AddQueue { queue, setup } => self.change(Change::Add(queue, setup)),
            Request::RemoveQueue { queue } => self.change(Change::Remove(queue)),
            Request::Survey { serial } => {
                self.survey = Some(serial);
                self.catch_up();
            }
            Request::Depths { queues, reply } => {
                self.catch_up();
                self.count(Question::Depths(queues, reply));
            }
            Request::Ready { queues, reply } => {
                self.catch_up();
                self.count(Question::Ready(queues, reply));
            }
            Request::KnownQueues { reply } => {
                self.catch_up();
                drop(reply.send(self.known_queues()));
            }
            Request::Purge { queue, reply } => {
                self.catch_up();
                drop(reply.send(self.purge(&queue)));
            }
            Request::Cancel { id, reply } => {
                self.catch_up();
                self.searches.push_back(Search::new(id, reply));
            }
            Request::Delete { queue, reply } => {
                self.catch_up();
                drop(reply.send(self.delete(&queue.queue)));
            }
            Request::WalkDead { queue, visit, reply } => {
                self.catch_up();
                drop(reply.send(self.walk(&queue, visit)));
            }
            Request::Lease { application } => self.ask_lease(application),
            Request::ScheduleMemory { application, reply } => {
                self.catch_up();
                drop(reply.send(self.schedule_memory(&application).map(Some)));
            }
            Request::Fire { schedule, moment, task } => {
                self.catch_up();
                let stored = self.fire(&schedule, moment, task.as_ref());
                self.tell(Event::Fired { schedule, moment, stored });
            }
            Request::ReleaseLease => self.release_lease(),
            // The caller takes it, to end the loop.
            Request::Close { reply } => drop(reply),
        }
    }

    /// What was asked before is stored before the next question is answered.
    pub(super) fn catch_up(&mut self) {
        self.store_submits();
        self.advance();
    }

    /// Does what is waiting to be done, unless it failed a moment ago.
    fn advance(&mut self) {
        let now = self.clock.now().at;
        if self.refused.is_some() || self.trouble.as_ref().is_some_and(|trouble| trouble.again_at > now) {
            return;
        }
        match self.try_advance() {
            Ok(did) => {
                if self.trouble.take().is_some() {
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
        if let (Some(master), Some(store)) = (&mut self.master, &mut self.store) {
            let stepped = master.step(store)?;
            did |= !stepped.settled.is_empty() || !stepped.delivered.is_empty();
            self.tell_step(stepped);
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
        let (Some(master), Some(store)) = (&self.master, &self.store) else { return Ok(true) };
        if master.holds_any() {
            return Ok(false);
        }
        let snapshot = store.read().unchecked_transaction()?;
        depth::are_empty(&snapshot, master.queue_ids())
    }

    /// Settlements first: the credit for the deliveries came from them.
    pub(super) fn tell_step(&mut self, stepped: Stepped) {
        self.active |= !stepped.settled.is_empty() || !stepped.delivered.is_empty();
        stepped.stored.into_iter().for_each(|handle| self.tell(Event::Stored(handle)));
        if !stepped.settled.is_empty() {
            self.tell(Event::Settled(stepped.settled));
        }
        for (handle, held_by) in stepped.locked {
            self.tell(Event::Locked { handle, held_by });
        }
        for deliveries in stepped.delivered {
            self.tell(Event::Delivered(deliveries));
        }
        for queue in stepped.removed {
            self.tell(Event::QueueRemoved { queue });
        }
        if stepped.stale > 0 {
            let count = stepped.stale;
            self.tell(Event::Warning(format!(
                "{} came too late: the tasks had been taken back",
                counted(count, "settlement")
            )));
        }
        self.caller.wake(&self.path, stepped.wake);
    }

    /// A write failed; what may pass is tried again after a pause.
    pub(super) fn failed(&mut self, error: &rusqlite::Error) {
        if !may_pass(error) {
            return self.refuse(file_error(&self.path, cause(&self.path, error)));
        }
        self.give_back_wal(error);
        let now = self.clock.now().at;
        let pause = if let Some(trouble) = &self.trouble {
            (trouble.pause * 2).min(PAUSES.1)
        } else {
            let stalled = file_error(&self.path, cause(&self.path, error));
            self.tell(Event::Warning(format!("{stalled}; what must be stored is kept and tried again")));
            self.tell(Event::Stalled(stalled));
            PAUSES.0
        };
        self.trouble = Some(Trouble { again_at: now + pause, pause });
    }

    /// How long nothing has to be done.
    fn timeout(&self) -> Duration {
        let now = self.clock.now();
        let until = |at: Instant| at.since(now.at);
        if self.refused.is_some() {
            return Duration::MAX;
        }
        let mut timeout = if self.looks_around() { until(self.look_at) } else { Duration::MAX };
        match (&self.trouble, &self.master) {
            (Some(trouble), _) => timeout = timeout.min(until(trouble.again_at)),
            (None, Some(master)) => {
                if let Some(due) = master.next_due() {
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
