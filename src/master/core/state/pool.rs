//! A pool: the slots of one queue, the deliveries that wait for them, and the rules of that queue: credit,
//! rate, breaker, failed starts.
//!
//! Nothing here is looked at per task but the ends of two lists.

use std::{collections::VecDeque, time::Duration};

use super::{
    celery::CeleryPool, pause::Pause, start_failures::StartFailures, stuck::Stuck, task_durations::TaskDurations,
    unexecuted::Unexecuted, waiting::Waiting, window::Window,
};
use crate::{
    clock::Instant,
    config::{Acks, Breaker, Queue},
    master::core::plan::QueuePlan,
    metrics::counts::Counts,
    task::Delivery,
    transport::QueueSetup,
};

/// Bodies in our hands, waiting included, are together at most this large on the average.
const MOST_HELD_BYTES: u64 = 8 * 1024 * 1024;
/// Most credit of a queue whose tasks are short. A quorum queue frees credit only after its log is on the disk, some milliseconds
/// later: until then there must be enough to go on with.
const SHORT_CREDIT: u32 = 512;

/// The pool of one queue.
#[derive(Debug)]
pub(in crate::master::core) struct Pool {
    pub(in crate::master::core) plan: QueuePlan,
    /// Its slots.
    pub(in crate::master::core) slots: Vec<usize>,
    /// Delivered, not begun.
    pub(in crate::master::core) waiting: Waiting,
    /// Whether it stands in line for a place among all queues.
    pub(in crate::master::core) in_line: bool,
    /// Slots with a free seat, the one used last at the end.
    pub(in crate::master::core) free: Vec<usize>,
    /// Slots that can be sent tasks ahead, for all that was known when they were listed: the one that got one longest ago first.
    pub(in crate::master::core) takes_ahead: VecDeque<usize>,
    /// Tasks that workers have, those sent ahead included.
    pub(in crate::master::core) in_hand: usize,
    pub(in crate::master::core) state: State,
    /// Where it stands between the settings and the transport.
    pub(in crate::master::core) standing: Standing,
    /// What the transport knows of it.
    pub(in crate::master::core) registration: Registration,
    /// A reload came to it, and not all of its workers are as that wants them.
    pub(in crate::master::core) is_fresh: bool,
    /// Processes as a person wants them, whatever the settings say.
    pub(in crate::master::core) scaled: Option<u32>,
    /// A person wants no tasks of it taken.
    pub(in crate::master::core) pause: Option<Pause>,
    /// Tasks that were counted as done and were not, after all.
    pub(in crate::master::core) revoked: u64,
    /// What happened here, for metrics.
    pub(in crate::master::core) counts: Counts,
    /// When a task last came.
    pub(in crate::master::core) delivered_at: Instant,
    /// Slots that are no more, whose processes have not ended. What they hold takes credit, but no seat.
    pub(in crate::master::core) leaving: Vec<usize>,
    /// Slots whose processes are to be renewed.
    pub(in crate::master::core) renewals: VecDeque<usize>,
    /// What was asked of the transport.
    pub(in crate::master::core) credit: u32,
    /// The task that came first in this session decides whether more may come.
    pub(in crate::master::core) first: FirstDelivery,
    /// What was decided before this epoch was so in an earlier session of this queue.
    pub(in crate::master::core) since: u32,
    /// The transport cannot work it for now.
    pub(in crate::master::core) trouble: Option<Trouble>,
    /// What keeps tasks that have ended from being settled.
    pub(in crate::master::core) stuck: Stuck,
    /// A worker of this queue was ready once: tasks can be done here.
    pub(in crate::master::core) proven: bool,
    pub(in crate::master::core) starts: StartFailures,
    /// Slots that take no task because they cannot be started.
    pub(in crate::master::core) shut: u32,
    /// Of a kind with `mode: once`.
    pub(in crate::master::core) unexecuted: Unexecuted,
    pub(in crate::master::core) failure_streak: FailureStreak,
    pub(in crate::master::core) rate: Option<Window>,
    pub(in crate::master::core) durations: TaskDurations,
    /// What belongs to it if its messages are Celery's.
    pub(in crate::master::core) celery: Option<Box<CeleryPool>>,
}

/// What the transport knows of a queue.
#[derive(Debug)]
pub(in crate::master::core) struct Registration {
    /// It is there.
    pub(in crate::master::core) is_registered: bool,
    pub(in crate::master::core) request: Request,
    /// As what it was asked for last.
    pub(in crate::master::core) requested_as: QueueSetup,
    /// As what it has it, if it has it: where dead letters go, and which delays there are.
    pub(in crate::master::core) registered_as: QueueSetup,
}

/// Why the transport cannot work a queue for now.
#[derive(Clone, Debug)]
pub(in crate::master::core) struct Trouble {
    pub(in crate::master::core) since: Instant,
    pub(in crate::master::core) error: String,
    /// When it is tried again.
    pub(in crate::master::core) again_at: Instant,
}

/// Whether the transport is to add or change a queue, and has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::master::core) enum Request {
    /// It is not.
    None,
    /// It is.
    Pending,
    /// And the queue has changed since: the answer will be of what it was.
    Outdated,
}

/// Where a queue stands between the settings and the transport; see the chapter on reloads.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::master::core) enum Standing {
    /// The transport is to add it.
    Joining,
    /// It is worked.
    Attached,
    /// The settings do not name it: what is in hand is finished. Then it may be wanted again, in another mode.
    Draining { again: Option<Box<QueuePlan>> },
    /// The transport is to let go of it.
    Leaving { again: Option<Box<QueuePlan>> },
    /// There is no queue; its index is free.
    Vacant,
}

/// Whether a queue is worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::master::core) enum State {
    /// It is.
    Running,
    /// Not before then; the next pause is longer.
    Parked { until: Instant, pause: Duration, cause: Cause },
    /// After a pause: one task, one worker, to see whether it is well.
    Trial { pause: Duration, cause: Cause },
}

/// What must be seen to work before a queue is well again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::master::core) enum Cause {
    /// Its workers could not be started: one that is ready proves the contrary.
    Starts,
    /// Its tasks crashed or timed out: one that is done proves the contrary.
    Tasks,
}

impl Cause {
    pub(in crate::master::core) const fn words(self) -> &'static str {
        match self {
            Self::Starts => "its workers cannot be started",
            Self::Tasks => "too many of its tasks crashed or timed out in a row",
        }
    }
}

/// The first delivery of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::master::core) enum FirstDelivery {
    /// It has not come.
    Awaited,
    /// It was delivered so often that nothing else is taken until it has ended.
    Suspect(String),
    /// It came and is harmless, or has ended.
    Passed,
}

impl Pool {
    pub(in crate::master::core) fn new(plan: QueuePlan, slots: Vec<usize>) -> Self {
        let rate = plan.settings.rate.map(Window::new);
        let celery = CeleryPool::of(&plan);
        let requested_as = plan.setup();
        let registered_as = requested_as.clone();
        let registration = Registration { is_registered: true, request: Request::None, requested_as, registered_as };
        Self {
            plan,
            slots,
            waiting: Waiting::default(),
            in_line: false,
            free: Vec::new(),
            takes_ahead: VecDeque::new(),
            in_hand: 0,
            state: State::Running,
            standing: Standing::Attached,
            registration,
            is_fresh: false,
            scaled: None,
            pause: None,
            revoked: 0,
            counts: Counts::default(),
            delivered_at: Instant::default(),
            leaving: Vec::new(),
            renewals: VecDeque::new(),
            credit: 0,
            first: FirstDelivery::Awaited,
            since: 0,
            trouble: None,
            stuck: Stuck::default(),
            proven: false,
            starts: StartFailures::default(),
            shut: 0,
            unexecuted: Unexecuted::default(),
            failure_streak: FailureStreak::default(),
            rate,
            durations: TaskDurations::default(),
            celery,
        }
    }

    /// Takes all deliveries that wait.
    pub(in crate::master::core) fn take_waiting(&mut self) -> Vec<Delivery> {
        self.waiting.take_all()
    }

    /// Name of the queue.
    pub(in crate::master::core) fn name(&self) -> &str {
        &self.plan.settings.name
    }

    /// Tasks done.
    pub(in crate::master::core) const fn done(&self) -> u64 {
        self.counts.done.saturating_sub(self.revoked)
    }

    /// Processes that it is to have.
    pub(in crate::master::core) const fn processes(&self) -> u32 {
        match self.scaled {
            Some(processes) => processes,
            None => self.plan.settings.processes,
        }
    }

    /// Whether the settings name it.
    pub(in crate::master::core) fn is_member(&self) -> bool {
        matches!(self.standing, Standing::Joining | Standing::Attached)
    }

    /// Whether an answer of the transport is to be waited for.
    pub(in crate::master::core) fn is_requested(&self) -> bool {
        self.registration.request != Request::None && self.trouble.is_none()
    }

    /// Whether it is what the settings say. A number of processes that a person asked for is none of their business.
    pub(in crate::master::core) fn is_planned(&self, plan: &QueuePlan) -> bool {
        // What the transport did not take is asked for again.
        self.plan == *plan
            && (self.registration.request != Request::None || plan.setup() == self.registration.requested_as)
    }

    /// Tasks that its processes can do at once.
    pub(in crate::master::core) fn seats(&self) -> u32 {
        self.able().saturating_mul(self.plan.settings.concurrency).max(1)
    }

    /// The task beside which no other is taken: it was delivered often, and never had an end.
    pub(in crate::master::core) fn worked_alone(&self) -> Option<&str> {
        match &self.first {
            FirstDelivery::Suspect(id) => Some(id),
            FirstDelivery::Awaited | FirstDelivery::Passed => None,
        }
    }

    /// Whether a person wants no tasks of it taken.
    pub(in crate::master::core) const fn is_paused(&self) -> bool {
        self.pause.is_some()
    }

    /// When its pause ends by itself.
    pub(in crate::master::core) fn pause_ends_at(&self) -> Option<Instant> {
        self.pause.as_ref()?.until
    }

    /// Processes that can do tasks, as far as is known.
    pub(in crate::master::core) const fn able(&self) -> u32 {
        self.processes().saturating_sub(self.shut)
    }

    /// The credit that it should have now, with so many tasks in hand that take credit and no seat.
    pub(in crate::master::core) fn wanted_credit(&self, outliving: u32) -> u32 {
        if !self.proven || self.is_paused() || self.able() == 0 || self.standing != Standing::Attached {
            return 0;
        }
        match (&self.state, &self.first) {
            (State::Parked { .. }, _) => 0,
            (State::Trial { .. }, _) => 1,
            (State::Running, FirstDelivery::Awaited | FirstDelivery::Suspect(_)) => 1 + outliving,
            (State::Running, FirstDelivery::Passed) => {
                let mut credit = self.seats() + outliving;
                let per_seat = self.durations.per_seat();
                if per_seat > 1 {
                    credit = credit.max(credit.saturating_mul(per_seat).min(SHORT_CREDIT));
                    let by_bytes = MOST_HELD_BYTES / self.durations.mean_body.max(1);
                    credit = credit.min(u32::try_from(by_bytes).unwrap_or(u32::MAX)).max(self.seats() + outliving);
                }
                let by_rate = self.rate.as_ref().map_or(u32::MAX, Window::per_second);
                credit.min(by_rate)
            }
        }
    }

    /// Whether a task may be begun now as far as pauses go.
    pub(in crate::master::core) fn may_begin(&self) -> bool {
        match self.state {
            _ if self.is_paused() => false,
            State::Running => true,
            State::Trial { .. } => self.in_hand == 0,
            State::Parked { .. } => false,
        }
    }

    /// How many tasks a worker may have beyond the one in hand: none where that could break what the settings promise of the queue.
    pub(in crate::master::core) fn most_ahead(&self) -> usize {
        let Queue { concurrency, acks, unique, .. } = &self.plan.settings;
        let is_plain = *concurrency == 1 && *acks == Acks::Late && unique.is_none() && self.rate.is_none();
        let is_well = self.state == State::Running && self.first == FirstDelivery::Passed && !self.is_paused();
        if is_plain && is_well && !self.plan.is_once { self.durations.ahead() } else { 0 }
    }

    /// Whether it is parked because its workers cannot be started.
    pub(in crate::master::core) fn is_unstartable(&self) -> bool {
        matches!(self.state, State::Parked { cause: Cause::Starts, .. })
    }

    /// Parks the queue, longer than the last time if it was on trial.
    pub(in crate::master::core) fn park(&mut self, now: Instant, cause: Cause) -> Duration {
        let Breaker { pause, longest, .. } = self.plan.settings.breaker;
        let pause = match self.state {
            State::Trial { pause: last, .. } => (last * 2).min(longest).max(pause),
            State::Running | State::Parked { .. } => pause,
        };
        // A queue whose tasks crash is not well because its workers start.
        let cause = match self.state {
            State::Trial { cause: Cause::Tasks, .. } | State::Parked { cause: Cause::Tasks, .. } => Cause::Tasks,
            _ => cause,
        };
        self.state = State::Parked { until: now + pause, pause, cause };
        self.failure_streak = FailureStreak::default();
        pause
    }
}

/// Outcomes in a row that are all of the kind the breaker counts, of different tasks.
#[derive(Debug, Default)]
pub(in crate::master::core) struct FailureStreak {
    ids: Vec<String>,
}

impl FailureStreak {
    /// Counts one; true when the breaker trips.
    pub(in crate::master::core) fn count(&mut self, id: &str, limit: u32) -> bool {
        if !self.ids.iter().any(|known| known == id) {
            self.ids.push(id.to_owned());
        }
        self.ids.len() >= limit as usize
    }

    pub(in crate::master::core) fn reset(&mut self) {
        self.ids.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_breaker_counts_different_tasks() {
        let mut streak = FailureStreak::default();
        assert!(!streak.count("a", 2));
        assert!(!streak.count("a", 2));
        assert!(streak.count("b", 2));
        streak.reset();
        assert!(!streak.count("c", 2));
    }
}
