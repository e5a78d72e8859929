//! Tasks that workers have: of one process in the order in which it got them, and found by id without a search.
//!
//! Those that a process can work on at once are begun. Those behind them were sent ahead: each of them is begun when one before
//! it has ended, or is returned.
//!
//! Nothing here costs more with more tasks in flight than a step in a tree: this is on the path of every task.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use foldhash::fast::RandomState;

use crate::{
    clock::Instant,
    membership::Membership,
    task::{Delivery, Task},
};

/// A task that a worker has.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is true or not whatever the others are: no states hide in them"
)]
pub(in crate::master::core) struct InFlight {
    /// Position of its worker's slot.
    pub(in crate::master::core) slot: usize,
    /// Its number among all that this core has begun.
    pub(in crate::master::core) number: u64,
    pub(in crate::master::core) delivery: Delivery,
    /// The session it was delivered in.
    pub(in crate::master::core) session: u32,
    /// Whether its handle still stands: false after its session was lost.
    pub(in crate::master::core) held: bool,
    /// Acknowledged before its end.
    pub(in crate::master::core) accepted: bool,
    /// It ends so, whatever its worker says or dies of.
    pub(in crate::master::core) withdrawn: Option<Withdrawn>,
    /// If its worker has not begun it, it goes back to its queue: its job is frozen, or it has come again and that is still to be
    /// counted there.
    pub(in crate::master::core) goes_back: bool,
    /// False: it was sent ahead.
    pub(in crate::master::core) begun: bool,
    /// When it was begun; of one that was not, when it was sent.
    pub(in crate::master::core) begun_at: Instant,
    /// Its time limit, from when it is begun.
    pub(in crate::master::core) due_at: Option<Instant>,
    /// Bytes of its frame.
    pub(in crate::master::core) size: usize,
    /// How far it is, as the worker told last: percent and note.
    pub(in crate::master::core) progress: Option<(Option<f64>, String)>,
}

impl InFlight {
    /// Id of the task.
    pub(in crate::master::core) fn id(&self) -> &str {
        &self.delivery.task.id
    }

    /// Its place in a job, if it is of one.
    pub(in crate::master::core) fn place(&self) -> Option<&Membership> {
        self.delivery.task.membership.as_deref()
    }

    /// How long it may be in hand, if that is limited.
    pub(in crate::master::core) fn limit(&self) -> Duration {
        self.due_at.map(|at| at.since(self.begun_at)).unwrap_or_default()
    }
}

/// How a task ends that is taken from its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::master::core) enum Withdrawn {
    /// As a dead letter: a person cancelled it.
    Cancelled,
    /// Removed: it is of a round of which nothing counts any more.
    Void,
}

/// A task as a key: its id, which is not copied for that.
#[derive(Debug)]
struct ById(Arc<Task>);

impl Borrow<str> for ById {
    fn borrow(&self) -> &str {
        &self.0.id
    }
}

// As `str` does, which `Borrow` asks for.
impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.as_str().hash(state);
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}

/// The tasks of one process. No two have the same id.
#[derive(Debug, Default)]
pub(in crate::master::core) struct InFlightTasks {
    by_number: BTreeMap<u64, InFlight>,
    numbers: HashMap<ById, u64, RandomState>,
    /// Time limits with the numbers of their tasks.
    due: BTreeSet<(Instant, u64)>,
    /// Of their frames together.
    bytes: usize,
    /// Tasks that are not begun: the last ones.
    ahead: usize,
}

impl InFlightTasks {
    /// One more, which has a higher number than all others.
    pub(in crate::master::core) fn push(&mut self, task: InFlight) {
        self.bytes += task.size;
        self.ahead += usize::from(!task.begun);
        self.due.extend(task.due_at.map(|at| (at, task.number)));
        let doubled = self.numbers.insert(ById(Arc::clone(&task.delivery.task)), task.number);
        debug_assert!(doubled.is_none(), "a process has no two tasks with one id");
        self.by_number.insert(task.number, task);
    }

    /// Takes out the task with this id.
    pub(in crate::master::core) fn take(&mut self, id: &str) -> Option<InFlight> {
        let number = self.numbers.remove(id)?;
        let task = self.by_number.remove(&number)?;
        self.left(&task);
        Some(task)
    }

    /// Takes out the task of this number.
    pub(in crate::master::core) fn take_numbered(&mut self, number: u64) -> Option<InFlight> {
        let task = self.by_number.remove(&number)?;
        self.numbers.remove(task.id());
        self.left(&task);
        Some(task)
    }

    fn left(&mut self, task: &InFlight) {
        self.bytes -= task.size;
        self.ahead -= usize::from(!task.begun);
        if let Some(at) = task.due_at {
            self.due.remove(&(at, task.number));
        }
    }

    /// Takes out the tasks that are not begun, in their order.
    pub(in crate::master::core) fn take_ahead(&mut self) -> Vec<InFlight> {
        let numbers: Vec<u64> = self.iter().filter(|task| !task.begun).map(|task| task.number).collect();
        numbers.into_iter().filter_map(|number| self.take_numbered(number)).collect()
    }

    /// The first task is begun now, if it was not: it.
    pub(in crate::master::core) fn begin_first(&mut self, now: Instant, limit: Option<Duration>) -> Option<&InFlight> {
        let task = self.by_number.values_mut().next().filter(|task| !task.begun)?;
        (task.begun, task.begun_at, task.due_at) = (true, now, limit.map(|limit| now + limit));
        self.ahead -= 1;
        self.due.extend(task.due_at.map(|at| (at, task.number)));
        Some(task)
    }

    pub(in crate::master::core) fn contains(&self, id: &str) -> bool {
        self.numbers.contains_key(id)
    }

    pub(in crate::master::core) fn get_mut(&mut self, id: &str) -> Option<&mut InFlight> {
        self.by_number.get_mut(self.numbers.get(id)?)
    }

    pub(in crate::master::core) fn numbered_mut(&mut self, number: u64) -> Option<&mut InFlight> {
        self.by_number.get_mut(&number)
    }

    pub(in crate::master::core) fn numbered(&self, number: u64) -> Option<&InFlight> {
        self.by_number.get(&number)
    }

    /// The one that the process has had longest.
    pub(in crate::master::core) fn first(&self) -> Option<&InFlight> {
        self.by_number.values().next()
    }

    /// All, the oldest first.
    pub(in crate::master::core) fn iter(&self) -> impl Iterator<Item = &InFlight> {
        self.by_number.values()
    }

    pub(in crate::master::core) fn iter_mut(&mut self) -> impl Iterator<Item = &mut InFlight> {
        self.by_number.values_mut()
    }

    pub(in crate::master::core) fn into_vec(self) -> Vec<InFlight> {
        self.by_number.into_values().collect()
    }

    pub(in crate::master::core) fn len(&self) -> usize {
        self.by_number.len()
    }

    pub(in crate::master::core) fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    /// How many of them are not begun.
    pub(in crate::master::core) const fn ahead(&self) -> usize {
        self.ahead
    }

    /// Bytes of their frames together.
    pub(in crate::master::core) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The earliest time limit.
    pub(in crate::master::core) fn due_at(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The oldest of those whose time limit has passed.
    pub(in crate::master::core) fn overdue(&self, now: Instant) -> Option<&InFlight> {
        let (_, number) = self.due.range(..=(now, u64::MAX)).min_by_key(|(_, number)| *number)?;
        self.numbered(*number)
    }

    /// What is found wrong with the numbers that are kept beside the tasks.
    pub(in crate::master::core) fn check(&self) -> Result<(), String> {
        let bytes: usize = self.iter().map(|task| task.size).sum();
        let due = self.iter().filter(|task| task.due_at.is_some()).count();
        let ahead = self.iter().filter(|task| !task.begun).count();
        let begun_first = self.iter().skip_while(|task| task.begun).all(|task| !task.begun && task.due_at.is_none());
        if ahead != self.ahead || !begun_first {
            return Err(format!("{ahead} tasks are not begun, {} are counted; begun first: {begun_first}", self.ahead));
        }
        let known = self.iter().all(|task| self.numbers.get(task.id()) == Some(&task.number));
        if bytes != self.bytes || due != self.due.len() || self.numbers.len() != self.len() || !known {
            return Err(format!(
                "{} tasks of {bytes} bytes, {due} with a limit; kept are {} ids, {} bytes and {} limits",
                self.len(),
                self.numbers.len(),
                self.bytes,
                self.due.len()
            ));
        }
        Ok(())
    }
}

/// Where tasks in flight are for which a redelivery may stand, by the identity of their deliveries: those whose handles are void,
/// and those that were accepted. Of others there is nothing to keep.
#[derive(Debug, Default)]
pub(in crate::master::core) struct InFlightIndex {
    /// Identity, slot and number of each. Two copies of one task may be in flight at once.
    places: BTreeSet<(u64, usize, u64)>,
    /// The number of the last one that a worker got.
    last: u64,
}

impl InFlightIndex {
    /// The number of a task that a worker gets.
    pub(in crate::master::core) fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// A task is accepted, or its handle is void.
    pub(in crate::master::core) fn add(&mut self, task: &InFlight) {
        self.places.extend(task.delivery.identity.map(|identity| (identity, task.slot, task.number)));
    }

    /// A task has left its worker, or has a new handle.
    pub(in crate::master::core) fn remove(&mut self, task: &InFlight) {
        if let (Some(identity), false) = (task.delivery.identity, self.places.is_empty()) {
            self.places.remove(&(identity, task.slot, task.number));
        }
    }

    /// Slots and numbers of the tasks with this identity, in the order of the slots.
    pub(in crate::master::core) fn places(&self, identity: u64) -> impl Iterator<Item = (usize, u64)> {
        self.places.range((identity, 0, 0)..=(identity, usize::MAX, u64::MAX)).map(|(_, slot, number)| (*slot, *number))
    }

    /// How many tasks it knows.
    pub(in crate::master::core) fn len(&self) -> usize {
        self.places.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Handle, QueueIndex};

    fn task(number: u64, due_at: Option<u64>) -> InFlight {
        let task = Task { id: number.to_string(), ..Task::default() };
        let (handle, queue, task) = (Handle(number), QueueIndex(0), Arc::new(task));
        InFlight {
            slot: 3,
            number,
            delivery: Delivery { handle, queue, task, redelivered: false, identity: Some(7) },
            session: 1,
            held: true,
            accepted: false,
            withdrawn: None,
            goes_back: false,
            begun: true,
            begun_at: Instant::default(),
            due_at: due_at.map(|seconds| Instant::from_start(Duration::from_secs(seconds))),
            size: 10,
            progress: None,
        }
    }

    #[test]
    fn what_is_taken_is_forgotten_with_its_bytes_and_its_limit() {
        let at = |seconds| Instant::from_start(Duration::from_secs(seconds));
        let mut tasks = InFlightTasks::default();
        for task in [task(1, Some(9)), task(2, None), task(3, Some(5))] {
            tasks.push(task);
        }
        assert_eq!((tasks.bytes(), tasks.due_at(), tasks.len()), (30, Some(at(5)), 3));
        assert!(tasks.overdue(at(4)).is_none());
        assert_eq!(tasks.overdue(at(5)).map(InFlight::id), Some("3"));
        assert_eq!(tasks.overdue(at(9)).map(InFlight::id), Some("1"), "the oldest");
        assert_eq!(tasks.take("3").map(|task| task.number), Some(3));
        assert!(tasks.take("3").is_none() && !tasks.contains("3"));
        assert_eq!((tasks.bytes(), tasks.due_at(), tasks.check()), (20, Some(at(9)), Ok(())));
    }

    #[test]
    fn a_task_that_was_sent_ahead_has_no_limit_until_it_is_begun() {
        let at = |seconds| Instant::from_start(Duration::from_secs(seconds));
        let mut tasks = InFlightTasks::default();
        tasks.push(task(1, Some(9)));
        for number in 2..5 {
            tasks.push(InFlight { begun: false, ..task(number, None) });
        }
        assert_eq!((tasks.ahead(), tasks.begin_first(at(3), None).is_none()), (3, true), "the first is begun");
        tasks.take("1");
        let begun = tasks.begin_first(at(3), Some(Duration::from_secs(2))).map(|task| (task.number, task.begun_at));
        assert_eq!((begun, tasks.due_at(), tasks.ahead()), (Some((2, at(3))), Some(at(5)), 2));
        assert_eq!(tasks.take_ahead().iter().map(|task| task.number).collect::<Vec<_>>(), [3, 4]);
        assert_eq!((tasks.len(), tasks.ahead(), tasks.bytes(), tasks.check()), (1, 0, 10, Ok(())));
    }

    #[test]
    fn copies_of_one_task_are_found_in_the_order_of_their_slots() {
        let mut index = InFlightIndex::default();
        let (first, second) = (index.next_number(), index.next_number());
        let second_task = task(second, None);
        index.add(&InFlight { slot: 4, ..task(first, None) });
        index.add(&second_task);
        assert_eq!(index.places(7).collect::<Vec<_>>(), [(3, second), (4, first)]);
        index.remove(&second_task);
        assert_eq!((index.places(7).collect::<Vec<_>>(), index.len()), (vec![(4, first)], 1));
    }
}
