//! What is kept of Celery's queues: what their workers told of the application, which lost tasks wait for a worker that stores their
//! results, and which tasks were revoked.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use foldhash::fast::RandomState;

use super::replies::Replies;
use crate::{
    celery::{
        revoked::{ID_LIMIT, KEPT_FOR, MOST},
        stamps,
    },
    clock::Instant,
    frames::celery::Application,
    master::core::{event::WorkerId, plan::QueuePlan},
    task::{Reason, Task},
};

/// Lost tasks of a queue that wait for a worker: not more than this, nor bodies of more bytes together.
const LOST: usize = 1000;
const LOST_BYTES: usize = 64 * 1024 * 1024;

/// Names of tasks that are counted; what is begun under others counts as one.
const NAMES: usize = 10_000;
/// Longest name that is counted by itself, in bytes.
const NAME_LENGTH: usize = 255;

/// What is kept beside the queues.
#[derive(Debug, Default)]
pub(in crate::master::core) struct Celery {
    /// Somebody listens to what happens to tasks.
    pub(in crate::master::core) tells_events: bool,
    pub(in crate::master::core) revoked: Revoked,
    pub(in crate::master::core) revoked_stamps: stamps::Revoked,
    /// Orders to store results of revoked tasks, the oldest first.
    pub(in crate::master::core) storing: Vec<Storing>,
    pub(in crate::master::core) replies: Replies,
    /// Limits that a person has set, by the name of the task: they hold until the master ends.
    pub(in crate::master::core) limits: BTreeMap<String, SetLimits>,
}

/// An order to store results of revoked tasks.
#[derive(Debug)]
pub(in crate::master::core) struct Storing {
    /// Of the command that is answered then.
    pub(in crate::master::core) number: u64,
    /// Those that have not done it yet.
    pub(in crate::master::core) workers: Vec<WorkerId>,
}

/// Time limits that a person has set for a task.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::master::core) struct SetLimits {
    /// The task is told.
    pub(in crate::master::core) soft: Option<Duration>,
    /// Its worker is killed.
    pub(in crate::master::core) hard: Option<Duration>,
}

/// What is kept of one of Celery's queues.
#[derive(Debug, Default)]
pub(in crate::master::core) struct CeleryPool {
    /// What works it.
    pub(in crate::master::core) worked_by: WorkedBy,
    /// Lost tasks whose results are to be stored, the oldest first.
    lost: VecDeque<Lost>,
    lost_bytes: usize,
    /// Storing a result failed: until then none is told.
    pub(in crate::master::core) tells_again_at: Option<Instant>,
    /// How often in a row it failed.
    pub(in crate::master::core) failures: u32,
    /// Tasks begun, by name.
    begun: BTreeMap<Box<str>, u64>,
    /// The limit of each task that has none of its own, as the application's settings say it.
    pub(in crate::master::core) of_conf: Option<Duration>,
}

/// What works a queue of Celery's.
#[derive(Debug, Default)]
pub(in crate::master::core) enum WorkedBy {
    /// No worker was ready yet.
    #[default]
    Unknown,
    /// A Celery application, which stores results by itself.
    Application(Arc<Application>),
    /// Anything else: the master sends results to whoever waits for them.
    Plain,
}

/// A task that ended without any worker that could report on it.
#[derive(Clone, Debug)]
pub(in crate::master::core) struct Lost {
    pub(in crate::master::core) task: Arc<Task>,
    pub(in crate::master::core) reason: Reason,
    /// One line.
    pub(in crate::master::core) error: String,
    pub(in crate::master::core) detail: String,
    /// Its worker reported this end itself.
    pub(in crate::master::core) reported: bool,
    /// It was in hand, and was ended.
    pub(in crate::master::core) was_run: bool,
    /// The limit that it ran into.
    pub(in crate::master::core) time_limit: Option<Duration>,
    /// Times that a worker could not store its result.
    pub(in crate::master::core) tries: u32,
}

/// Ids of tasks that are not to be run any more.
#[derive(Debug, Default)]
pub(in crate::master::core) struct Revoked {
    /// Each with the moment at which it is forgotten.
    ids: HashMap<Arc<str>, Instant, RandomState>,
    /// In the order of these moments; one that was revoked again stands here with its earlier moment, too, which is void.
    order: VecDeque<(Instant, Arc<str>)>,
}

impl CeleryPool {
    /// What belongs to a queue, if its messages are Celery's.
    pub(in crate::master::core) fn of(plan: &QueuePlan) -> Option<Box<Self>> {
        plan.settings.protocol.is_celery().then(|| {
            // A process for one task says nothing of itself.
            let worked_by = if plan.is_once { WorkedBy::Plain } else { WorkedBy::Unknown };
            Box::new(Self { worked_by, ..Self::default() })
        })
    }

    /// What its application told, if it is one.
    pub(in crate::master::core) fn application(&self) -> Option<&Application> {
        match &self.worked_by {
            WorkedBy::Application(application) => Some(application),
            WorkedBy::Unknown | WorkedBy::Plain => None,
        }
    }

    /// Keeps a lost task until a worker can be told of it. How many others had to be dropped for that.
    pub(in crate::master::core) fn push_lost(&mut self, lost: Lost) -> usize {
        self.lost_bytes += lost.task.body.len();
        self.lost.push_back(lost);
        let mut dropped = 0;
        while self.lost.len() > LOST || (self.lost_bytes > LOST_BYTES && self.lost.len() > 1) {
            self.next_lost();
            dropped += 1;
        }
        dropped
    }

    /// Takes out the lost task that has waited longest.
    pub(in crate::master::core) fn next_lost(&mut self) -> Option<Lost> {
        let lost = self.lost.pop_front()?;
        self.lost_bytes -= lost.task.body.len();
        Some(lost)
    }

    /// Whether the bytes are those of the lost tasks that wait.
    pub(in crate::master::core) fn check(&self) -> Result<(), String> {
        let bytes: usize = self.lost.iter().map(|lost| lost.task.body.len()).sum();
        if bytes == self.lost_bytes && self.lost.len() <= LOST {
            return Ok(());
        }
        Err(format!("{} lost tasks of {bytes} bytes wait, {} bytes are counted", self.lost.len(), self.lost_bytes))
    }

    /// How many lost tasks wait.
    pub(in crate::master::core) fn lost(&self) -> usize {
        self.lost.len()
    }

    /// Keeps one that could not be told before all others.
    pub(in crate::master::core) fn put_back_lost(&mut self, lost: Lost) {
        self.lost_bytes += lost.task.body.len();
        self.lost.push_front(lost);
    }

    /// Counts a task that is begun.
    pub(in crate::master::core) fn count_begun(&mut self, name: &str) {
        // Producers may make up names without end.
        let name = if name.len() > NAME_LENGTH { "" } else { name };
        if let Some(count) = self.begun.get_mut(name) {
            *count += 1;
        } else {
            let name = if self.begun.len() < NAMES { name } else { "" };
            *self.begun.entry(name.into()).or_default() += 1;
        }
    }

    /// Tasks begun, by name.
    pub(in crate::master::core) fn begun(&self) -> impl Iterator<Item = (&str, u64)> {
        self.begun.iter().map(|(name, count)| (&**name, *count))
    }
}

impl Revoked {
    /// Remembers an id, for as long as if it were new where it is known. Whether it is new.
    pub(in crate::master::core) fn add(&mut self, now: Instant, id: &str) -> bool {
        self.forget_old(now);
        if id.is_empty() || id.len() > ID_LIMIT {
            return false;
        }
        let (id, until): (Arc<str>, _) = (Arc::from(id), now + KEPT_FOR);
        let is_new = self.ids.insert(Arc::clone(&id), until).is_none();
        self.order.push_back((until, id));
        while self.ids.len() > MOST {
            self.forget_first();
        }
        if self.order.len() > 2 * MOST {
            self.order.retain(|(until, id)| self.ids.get(id) == Some(until));
        }
        is_new
    }

    /// Whether a task is not to be run.
    pub(in crate::master::core) fn contains(&mut self, now: Instant, id: &str) -> bool {
        if self.ids.is_empty() {
            return false;
        }
        self.forget_old(now);
        self.ids.contains_key(id)
    }

    /// All of them, the oldest first.
    #[cfg(test)]
    pub(in crate::master::core) fn iter(&self) -> impl Iterator<Item = &str> {
        let valid = self.order.iter().filter(|(until, id)| self.ids.get(id) == Some(until));
        valid.map(|(_, id)| &**id)
    }

    fn forget_old(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((until, id)) = self.order.pop_front()
            && self.ids.get(&id) == Some(&until)
        {
            self.ids.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: u64) -> Instant {
        Instant::from_start(Duration::from_hours(hours))
    }

    #[test]
    fn revoked_ids_are_forgotten_after_their_time_or_when_there_are_too_many() {
        let kept = KEPT_FOR.as_secs() / 3_600;
        let mut revoked = Revoked::default();
        assert!(revoked.add(at(0), "a") && !revoked.add(at(0), "a") && !revoked.add(at(0), ""));
        assert!(!revoked.add(at(0), &"x".repeat(256)));
        assert!(revoked.contains(at(kept - 1), "a") && !revoked.contains(at(kept), "a"));
        revoked.add(at(kept), "b");
        assert!(!revoked.add(at(kept + 1), "b"), "it is known, and remembered from now on");
        assert_eq!((revoked.contains(at(2 * kept), "b"), revoked.iter().count()), (true, 1));
        assert!(!revoked.contains(at(2 * kept + 1), "b"));
        let late = 2 * kept + 2;
        for number in 0..60_000 {
            revoked.add(at(late), &number.to_string());
        }
        assert_eq!((revoked.iter().count(), revoked.iter().next()), (50_000, Some("10000")));
        assert!(!revoked.contains(at(late), "9999") && revoked.contains(at(late), "59999"));
        assert_eq!((revoked.contains(at(late + kept), "59999"), revoked.iter().count()), (false, 0));
    }

    #[test]
    fn of_lost_tasks_that_nobody_can_report_the_oldest_are_dropped() {
        let mut pool = CeleryPool::default();
        let lost = |length| Lost {
            task: Arc::new(Task { body: vec![0; length], ..Task::default() }),
            reason: Reason::Crash,
            error: String::new(),
            detail: String::new(),
            reported: false,
            was_run: true,
            time_limit: None,
            tries: 0,
        };
        let dropped: usize = (0..1010).map(|_| pool.push_lost(lost(10))).sum();
        assert_eq!((dropped, pool.lost(), pool.lost_bytes), (10, 1000, 10_000));
        assert_eq!(pool.push_lost(lost(LOST_BYTES)), 1000, "all others");
        assert!(pool.next_lost().is_some() && pool.next_lost().is_none() && pool.lost_bytes == 0);
    }

    #[test]
    fn names_that_are_counted_are_bounded() {
        let mut pool = CeleryPool::default();
        for number in 0..NAMES + 5 {
            pool.count_begun(&number.to_string());
        }
        pool.count_begun("7");
        pool.count_begun(&"x".repeat(256));
        let begun: BTreeMap<&str, u64> = pool.begun().collect();
        assert_eq!((begun["7"], begun[""], begun.len()), (2, 6, NAMES + 1));
    }
}
