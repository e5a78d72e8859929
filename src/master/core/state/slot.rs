//! A slot: the place a worker process fills, `foo[1]`, and the states it goes through.
//! `core/LIFECYCLE.md` draws the states and their moves. A process leaves its slot only by its exit; what it held is settled
//! then. The states carry their own deadlines; a slot is looked at no earlier than [`Slot::deadline`].

use std::{sync::Arc, time::Duration};

use super::{
    celery::Lost,
    in_flight::{InFlightTasks, Withdrawn},
};
use crate::{clock::Instant, frames, logging::Level, master::core::event::WorkerId};

/// A process whose memory is limited is measured after a task, no more often than this.
pub(in crate::master::core) const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// Bytes of frames that a worker has, above which none is sent ahead. They fit into its socket, but for the last one.
const BYTES_AHEAD: usize = 128 * 1024;

/// One slot.
#[derive(Debug)]
pub(in crate::master::core) struct Slot {
    /// Position of its queue.
    pub(in crate::master::core) queue: usize,
    /// `foo[1]`.
    pub(in crate::master::core) name: String,
    /// Whose name stands before its log lines: the kind's until the worker told its own.
    pub(in crate::master::core) log_name: Arc<str>,
    /// Processes started here so far.
    pub(in crate::master::core) life: u64,
    /// Idle deaths and failed starts in a row, for the delay before the next start.
    pub(in crate::master::core) failures: u32,
    /// Of these, starts that failed since the last one that did not.
    pub(in crate::master::core) failed_starts: u32,
    /// Whether it stands in its pool's list of slots with a free seat.
    pub(in crate::master::core) listed: bool,
    /// Whether it stands in its pool's list of slots that can be sent tasks ahead.
    pub(in crate::master::core) listed_ahead: bool,
    /// Whether it is to be filled: false once its process is to end without a successor here.
    pub(in crate::master::core) wanted: bool,
    /// The slot whose process goes when the one here is ready.
    pub(in crate::master::core) replaces: Option<usize>,
    /// Tasks done here, tasks that failed here, and deaths.
    pub(in crate::master::core) done: u64,
    pub(in crate::master::core) failed: u64,
    pub(in crate::master::core) restarts: u64,
    /// Deaths that its log lines `Launching` and `Starting` came after, if it is a place for one process a task.
    pub(in crate::master::core) announced_after: Option<u64>,
    /// How the last process here ended.
    pub(in crate::master::core) last_exit: Option<String>,
    /// What is there now.
    pub(in crate::master::core) state: State,
}

/// What is in a slot.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all slots hold a process nearly all the time")]
pub(in crate::master::core) enum State {
    /// Nothing, and nothing is wanted.
    Empty,
    /// Nothing until then.
    Waiting { until: Instant },
    /// Nothing until its turn to be started comes.
    InLine,
    /// A process.
    Alive(Life),
}

/// One life of a worker process.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact that was seen, whatever the others are: the states are in the phase"
)]
pub(in crate::master::core) struct Life {
    pub(in crate::master::core) id: WorkerId,
    pub(in crate::master::core) pid: Option<u32>,
    pub(in crate::master::core) spawned_at: Instant,
    /// How much it logs, as far as it was told.
    pub(in crate::master::core) log_level: Level,
    /// The number of the task that was in the last frame sent to it, if that was one.
    pub(in crate::master::core) last_sent: Option<u64>,
    /// It said ready once.
    pub(in crate::master::core) was_ready: bool,
    /// It asked for the properties of messages.
    pub(in crate::master::core) wants_properties: bool,
    /// It runs a Celery application: it gets bodies as they came, and stores results.
    pub(in crate::master::core) wants_celery: bool,
    /// The lost task whose result it is storing: until then it gets no other.
    pub(in crate::master::core) telling: Option<Telling>,
    /// It has stored a result since its last task.
    pub(in crate::master::core) told_last: bool,
    /// Tasks that it takes beyond the one in hand.
    pub(in crate::master::core) ahead: usize,
    /// It was asked for those that it has not begun.
    pub(in crate::master::core) recall: Recall,
    /// Outcomes it gave.
    pub(in crate::master::core) tasks: u64,
    /// Drawn once, in 0.9..1: its limits before it is renewed are that share of the settings', so that processes
    /// that began together do not end together.
    pub(in crate::master::core) recycle_jitter: f64,
    /// Its renewal was asked for.
    pub(in crate::master::core) recycling: bool,
    /// When its memory was last looked at.
    pub(in crate::master::core) measured_at: Instant,
    /// The ping that it has not answered. Forgotten when it gets a task: who is busy owes no answer.
    pub(in crate::master::core) pinged: Option<u64>,
    /// Tasks it holds, oldest first.
    pub(in crate::master::core) in_flight: InFlightTasks,
    /// It said bye: nothing that it started is a task's any more.
    pub(in crate::master::core) said_bye: bool,
    /// Its socket is closed or it said bye: if it has not ended by then, it is killed.
    pub(in crate::master::core) end_due: Option<Instant>,
    pub(in crate::master::core) phase: Phase,
}

/// A lost task whose result a worker is storing.
#[derive(Debug)]
pub(in crate::master::core) struct Telling {
    pub(in crate::master::core) lost: Lost,
    /// Of the queue whose task it was.
    pub(in crate::master::core) queue: usize,
    /// It is to say by then that it is done.
    pub(in crate::master::core) until: Instant,
}

/// The state of the recall of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::master::core) enum Recall {
    /// They are not.
    None,
    /// They are, and the answer is to come by then.
    Pending { until: Instant },
    /// It has not come in time, and may come yet.
    Late,
}

/// Where a process is in its life.
#[derive(Debug)]
pub(in crate::master::core) enum Phase {
    /// Not ready yet.
    Starting { give_up_at: Instant },
    /// Takes tasks, as many at once as it has seats.
    Working { seats: usize },
    /// Was told to halt: finishes what it holds.
    Leaving,
    /// Was told to give up what it holds.
    Interrupted { kill_at: Instant },
    /// Was killed by us and is not reaped yet.
    Killed(KillReason),
    /// Is dead, and what it left is being ended: nothing changes what it was then.
    LeftProcesses { was: Box<Phase> },
}

/// Why we killed a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::master::core) enum KillReason {
    /// It was not ready in time.
    StartLimit,
    /// The task with this id ran into its time limit.
    TimeLimit { id: String, limit: Duration },
    /// It broke the protocol.
    Fault(String),
    /// A person cancelled a task in its hands.
    Cancelled,
    /// A task in its hands is of a round of which nothing counts any more.
    Void,
    /// It was idle and did not answer a ping.
    Silent,
    /// The stop did not wait any longer. What it held is released.
    Stop,
}

impl KillReason {
    /// Why a process ends one of whose tasks is withdrawn.
    pub(in crate::master::core) const fn of(withdrawn: Withdrawn) -> Self {
        match withdrawn {
            Withdrawn::Cancelled => Self::Cancelled,
            Withdrawn::Void => Self::Void,
        }
    }

    /// Whether it was ended for one task's sake, and did nothing wrong with the others.
    pub(in crate::master::core) const fn is_withdrawal(&self) -> bool {
        matches!(self, Self::Cancelled | Self::Void)
    }
}

impl Slot {
    pub(in crate::master::core) fn new(queue: usize, name: String, kind: &str) -> Self {
        Self {
            queue,
            name,
            log_name: Arc::from(kind),
            life: 0,
            failures: 0,
            failed_starts: 0,
            listed: false,
            listed_ahead: false,
            wanted: true,
            replaces: None,
            done: 0,
            failed: 0,
            restarts: 0,
            announced_after: None,
            last_exit: None,
            state: State::Empty,
        }
    }

    /// The process of this id, if it is still the one here.
    pub(in crate::master::core) fn life_of(&mut self, id: WorkerId) -> Option<&mut Life> {
        match &mut self.state {
            State::Alive(life) if life.id == id => Some(life),
            _ => None,
        }
    }

    /// The process here.
    pub(in crate::master::core) fn process_mut(&mut self) -> Option<&mut Life> {
        match &mut self.state {
            State::Alive(life) => Some(life),
            State::Empty | State::Waiting { .. } | State::InLine => None,
        }
    }

    /// The process here, to read.
    pub(in crate::master::core) fn process(&self) -> Option<&Life> {
        match &self.state {
            State::Alive(life) => Some(life),
            State::Empty | State::Waiting { .. } | State::InLine => None,
        }
    }

    /// Whether a person is shown it: not what is left of a slot that is no more.
    pub(in crate::master::core) fn is_shown(&self) -> bool {
        self.wanted || self.process().is_some()
    }

    /// Whether a halt need not wait for this slot: its worker is ready and holds no task. A slot that replaces another one, or
    /// whose process was told to go, need only hold no task.
    pub(in crate::master::core) fn is_at_rest(&self) -> bool {
        let takes_part = self.wanted && self.replaces.is_none();
        if takes_part { self.is_idle() } else { self.process().is_none_or(Life::holds_nothing) }
    }

    /// Whether it can take one more task.
    pub(in crate::master::core) fn has_seat(&self) -> bool {
        self.process().is_some_and(Life::has_seat)
    }

    /// Whether a worker is ready here and holds nothing.
    pub(in crate::master::core) fn is_idle(&self) -> bool {
        self.process().is_some_and(|life| matches!(life.phase, Phase::Working { .. }) && life.holds_nothing())
    }

    /// Its state in one word, as people are shown it.
    pub(in crate::master::core) fn state_word(&self) -> &'static str {
        match (&self.state, self.process().map(|life| (&life.phase, life.holds_nothing()))) {
            (State::Waiting { .. } | State::InLine, _) => "waiting",
            (_, None) => "empty",
            (_, Some((Phase::Starting { .. }, _))) => "starting",
            (_, Some((Phase::Working { .. }, true))) => "idle",
            (_, Some((Phase::Working { .. }, false))) => "busy",
            (
                _,
                Some((Phase::Leaving | Phase::Interrupted { .. } | Phase::Killed(_) | Phase::LeftProcesses { .. }, _)),
            ) => "stopping",
        }
    }

    /// The next limit of what is here.
    pub(in crate::master::core) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Alive(life) => life.deadline(),
            State::Empty | State::Waiting { .. } | State::InLine => None,
        }
    }
}

impl Life {
    /// One that begins in this phase, holds nothing and was not ready.
    pub(in crate::master::core) fn new(id: WorkerId, now: Instant, log_level: Level, phase: Phase) -> Self {
        Self {
            id,
            pid: None,
            spawned_at: now,
            log_level,
            last_sent: None,
            was_ready: false,
            wants_properties: false,
            wants_celery: false,
            telling: None,
            told_last: false,
            ahead: 0,
            recall: Recall::None,
            tasks: 0,
            recycle_jitter: 1.0,
            recycling: false,
            measured_at: now,
            pinged: None,
            in_flight: InFlightTasks::default(),
            said_bye: false,
            end_due: None,
            phase,
        }
    }

    /// Whether it has neither a task nor the result of a lost one.
    pub(in crate::master::core) fn holds_nothing(&self) -> bool {
        self.in_flight.is_empty() && self.telling.is_none()
    }

    /// Whether it reads what is sent to it.
    pub(in crate::master::core) const fn takes_frames(&self) -> bool {
        matches!(self.phase, Phase::Working { .. } | Phase::Leaving)
    }

    pub(in crate::master::core) fn has_seat(&self) -> bool {
        match self.phase {
            Phase::Working { seats } => {
                // What was sent and may not be read yet is bounded: one frame of the largest size, and one more.
                self.in_flight.len() < seats
                    && self.in_flight.bytes() <= frames::LIMIT
                    && self.end_due.is_none()
                    && self.telling.is_none()
            }
            Phase::Starting { .. }
            | Phase::Leaving
            | Phase::Interrupted { .. }
            | Phase::Killed(_)
            | Phase::LeftProcesses { .. } => false,
        }
    }

    /// Whether one more task can be sent ahead, of `most` that it may have beyond the one in hand and `left` that it may do at all.
    pub(in crate::master::core) fn has_room_ahead(&self, most: usize, left: u64) -> bool {
        matches!(self.phase, Phase::Working { seats: 1 })
            && self.recall == Recall::None
            && self.end_due.is_none()
            && !self.in_flight.is_empty()
            && self.in_flight.ahead() < self.ahead.min(most)
            && self.in_flight.bytes() <= BYTES_AHEAD
            && (self.in_flight.len() as u64) < left
    }

    /// Tasks that it can take beside those in its hands, if their frames are small.
    pub(in crate::master::core) fn free_seats(&self) -> usize {
        match self.phase {
            Phase::Working { seats } if self.has_seat() => seats.saturating_sub(self.in_flight.len()),
            _ => 0,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let recalled = match self.recall {
            Recall::Pending { until } => Some(until),
            Recall::None | Recall::Late => None,
        };
        let phase = match self.phase {
            Phase::Starting { give_up_at } => Some(give_up_at),
            Phase::Interrupted { kill_at } => Some(kill_at),
            Phase::Working { .. } | Phase::Leaving => self.in_flight.due_at(),
            Phase::Killed(_) | Phase::LeftProcesses { .. } => return None,
        };
        let told = self.telling.as_ref().map(|telling| telling.until);
        [phase, self.end_due, recalled, told].into_iter().flatten().min()
    }
}
