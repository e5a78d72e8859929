//! Rates of single tasks of a Celery application, by their names: `10/m` lets one begin every six seconds on this node.
//!
//! Of the tasks of a name that has a rate, one at a time has its turn: it is in the line of its queue, or a worker has it and has not
//! begun it. The others are held here, in their order, until that one has begun and the interval after its start is over. So a
//! task is looked at twice at most, however many of its name wait, and no start is closer to the one before than the interval,
//! however late either of them is.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use foldhash::fast::RandomState;

use crate::{
    clock::Instant,
    frames::celery::Application,
    task::{Delivery, Handle, Task},
};

/// The longest wait for which a task is held. A broker takes back what is not acknowledged for long, and what is here takes the place
/// of others.
const HELD_FOR: Duration = Duration::from_mins(1);

/// What is to be done with a task that could begin now.
#[derive(Debug)]
pub(in crate::master::core) enum Admission {
    /// It has no rate, or it is its turn.
    Begins(Delivery),
    /// It is held.
    Held,
    /// It would be held for too long.
    TooLong(Delivery, Duration),
}

/// The rates of a queue's tasks, and those that wait for theirs. Without any, a task costs one look at an empty table.
#[derive(Debug, Default)]
pub(in crate::master::core) struct TaskRates {
    names: HashMap<Box<str>, TaskRate, RandomState>,
    /// What a person has set, whatever the application says.
    set: HashMap<Box<str>, Option<Duration>, RandomState>,
    /// Names of which tasks are held while it is nobody's turn, by the moment of the next one.
    due: BTreeSet<(Instant, Box<str>)>,
    /// Tasks that are held.
    held: usize,
}

/// The rate of the tasks of one name.
#[derive(Debug, Default)]
struct TaskRate {
    /// Time between two starts.
    interval: Duration,
    /// The last start.
    begun_at: Option<Instant>,
    /// The task whose turn it is.
    turn: Option<Handle>,
    /// Those behind it.
    held: VecDeque<Delivery>,
}

impl TaskRate {
    /// When one may begin.
    fn opens_at(&self) -> Instant {
        self.begun_at.map_or(Instant::default(), |at| at + self.interval)
    }

    /// When the next one of those that are held has its turn, if that is known.
    fn due_at(&self) -> Option<Instant> {
        (self.turn.is_none() && !self.held.is_empty()).then(|| self.opens_at())
    }
}

fn name_of(task: &Task) -> &str {
    task.name.as_deref().unwrap_or_default()
}

impl TaskRates {
    /// What an application says of its tasks, where no person has said otherwise. Those that were held and have no rate any more.
    pub(in crate::master::core) fn registered(&mut self, application: &Application) -> Vec<Delivery> {
        let told = application.tasks.iter().filter_map(|(name, options)| {
            let interval = options.rate_limit.as_deref().and_then(|rate| interval(rate).ok().flatten());
            Some((Box::from(name.as_str()), interval?))
        });
        let mut intervals: HashMap<Box<str>, Duration> = told.collect();
        for (name, interval) in &self.set {
            match interval {
                Some(interval) => intervals.insert(name.clone(), *interval),
                None => intervals.remove(name),
            };
        }
        let mut before = std::mem::take(&mut self.names);
        self.names.extend(intervals.into_iter().map(|(name, interval)| {
            let known = before.remove(&name).unwrap_or_default();
            (name, TaskRate { interval, ..known })
        }));
        let free: Vec<Delivery> = before.into_values().flat_map(|rate| rate.held).collect();
        self.changed(free)
    }

    /// A person sets the rate of a task; `None`: it has none. Those that were held and have no rate any more.
    pub(in crate::master::core) fn set(&mut self, name: &str, interval: Option<Duration>) -> Vec<Delivery> {
        self.set.insert(name.into(), interval);
        let known = self.names.remove(name).unwrap_or_default();
        let free = match interval {
            Some(interval) => {
                self.names.insert(name.into(), TaskRate { interval, ..known });
                Vec::new()
            }
            None => known.held.into(),
        };
        self.changed(free)
    }

    /// Rates are others.
    fn changed(&mut self, mut free: Vec<Delivery>) -> Vec<Delivery> {
        self.held -= free.len();
        // In an order that a run can be repeated in.
        free.sort_by_key(|delivery| delivery.handle);
        let due = self.names.iter().filter_map(|(name, rate)| Some((rate.due_at()?, name.clone())));
        self.due = due.collect();
        free
    }

    /// A task could begin now.
    pub(in crate::master::core) fn admit(&mut self, now: Instant, delivery: Delivery) -> Admission {
        if self.names.is_empty() {
            return Admission::Begins(delivery);
        }
        let task = std::sync::Arc::clone(&delivery.task);
        let Some(rate) = self.names.get_mut(name_of(&task)) else { return Admission::Begins(delivery) };
        let is_its_turn = rate.turn == Some(delivery.handle);
        if rate.opens_at() <= now && (is_its_turn || (rate.turn.is_none() && rate.held.is_empty())) {
            rate.turn = Some(delivery.handle);
            return Admission::Begins(delivery);
        }
        let before = u32::try_from(rate.held.len()).unwrap_or(u32::MAX);
        let wait = rate.opens_at().since(now).saturating_add(rate.interval.saturating_mul(before));
        if wait > HELD_FOR {
            rate.turn.take_if(|_| is_its_turn);
            self.plan(name_of(&task));
            return Admission::TooLong(delivery, wait);
        }
        if is_its_turn {
            // The rate is another one by now, or one was begun that a worker had before there was any.
            rate.turn = None;
            rate.held.push_front(delivery);
        } else {
            rate.held.push_back(delivery);
        }
        self.held += 1;
        self.plan(name_of(&task));
        Admission::Held
    }

    /// A task is begun.
    pub(in crate::master::core) fn begun(&mut self, now: Instant, delivery: &Delivery) {
        let name = name_of(&delivery.task);
        if let Some(rate) = self.names.get_mut(name) {
            rate.begun_at = Some(now);
            rate.turn.take_if(|turn| *turn == delivery.handle);
            self.plan(name);
        }
    }

    /// A task that is not held has been begun, or is not here any more.
    pub(in crate::master::core) fn left(&mut self, delivery: &Delivery) {
        let name = name_of(&delivery.task);
        if let Some(rate) = self.names.get_mut(name)
            && rate.turn.take_if(|turn| *turn == delivery.handle).is_some()
        {
            self.plan(name);
        }
    }

    /// A task that a worker has not begun has another handle.
    pub(in crate::master::core) fn adopted(&mut self, delivery: &Delivery, handle: Handle) {
        let rate = self.names.get_mut(name_of(&delivery.task));
        if let Some(turn) = rate.and_then(|rate| rate.turn.as_mut()).filter(|turn| **turn == delivery.handle) {
            *turn = handle;
        }
    }

    fn plan(&mut self, name: &str) {
        if let Some(at) = self.names.get(name).and_then(TaskRate::due_at) {
            self.due.insert((at, name.into()));
        }
    }

    /// When the next one of those that are held has its turn.
    pub(in crate::master::core) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Those that are held no longer.
    pub(in crate::master::core) fn take_due(&mut self, now: Instant) -> Vec<Delivery> {
        let mut due = Vec::new();
        while self.next_due().is_some_and(|at| at <= now) {
            let Some((_, name)) = self.due.pop_first() else { break };
            // Planned before another start was known.
            let Some(rate) = self.names.get_mut(&name).filter(|rate| rate.due_at().is_some_and(|at| at <= now)) else {
                continue;
            };
            let next = rate.held.pop_front();
            rate.turn = next.as_ref().map(|delivery| delivery.handle);
            self.held -= usize::from(next.is_some());
            due.extend(next);
        }
        due
    }

    // Those that are held.

    /// How many there are.
    pub(in crate::master::core) fn len(&self) -> usize {
        self.held
    }

    /// All of them.
    pub(in crate::master::core) fn iter(&self) -> impl Iterator<Item = &Delivery> {
        self.names.values().flat_map(|rate| &rate.held)
    }

    /// Takes out those that are wanted.
    pub(in crate::master::core) fn take_where(&mut self, mut wanted: impl FnMut(&Delivery) -> bool) -> Vec<Delivery> {
        if self.held == 0 {
            return Vec::new();
        }
        let mut taken = Vec::new();
        for rate in self.names.values_mut() {
            let (out, held): (Vec<_>, Vec<_>) = std::mem::take(&mut rate.held).into_iter().partition(&mut wanted);
            rate.held = held.into();
            taken.extend(out);
        }
        self.changed(taken)
    }

    /// The queue's messages are not Celery's any more: no task of it has a rate.
    pub(in crate::master::core) fn forget(&mut self) -> Vec<Delivery> {
        let held = self.take_where(|_| true);
        *self = Self::default();
        held
    }

    /// What is wrong with what is kept beside the rates. `is_here`: whether a task with this handle waits, or is with a worker that has
    /// not begun it.
    pub(in crate::master::core) fn check(&self, is_here: impl Fn(Handle) -> bool) -> Result<(), String> {
        let held: usize = self.names.values().map(|rate| rate.held.len()).sum();
        if held != self.held {
            return Err(format!("{held} tasks wait for their rates, {} are counted", self.held));
        }
        for (name, rate) in &self.names {
            if let Some(turn) = rate.turn.filter(|turn| !is_here(*turn)) {
                return Err(format!("it is the turn of {turn:?} at the rate of {name}, and it is not there"));
            }
            if rate.due_at().is_some_and(|at| !self.due.contains(&(at, name.clone()))) {
                return Err(format!("nobody looks when the next {name} has its turn"));
            }
        }
        Ok(())
    }
}

/// Time between two starts at a rate as Celery writes it: a number for each second, or with `/s`, `/m`, `/h` behind it. `None`: without
/// a limit, which 0 means, too.
///
/// # Errors
/// If it is no rate.
pub(in crate::master::core) fn interval(rate: &str) -> Result<Option<Duration>, String> {
    let wrong = || format!("{rate:?} is not a rate, such as 10, 10/s, 100/m or 5/h");
    let (number, unit) = rate.trim().split_once('/').unwrap_or((rate.trim(), "s"));
    let seconds = match unit {
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.trim().parse().map_err(|_| wrong())?;
    if !number.is_finite() || number < 0.0 {
        return Err(wrong());
    }
    if number == 0.0 {
        return Ok(None);
    }
    Duration::try_from_secs_f64(seconds / number).map(Some).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{frames::celery::TaskOptions, task::QueueIndex};

    #[test]
    fn rates_are_read_as_celery_writes_them() {
        for (text, expected) in [("10/m", Some(6000)), ("2", Some(500)), ("0.5/s", Some(2000)), ("5/h", Some(720_000))]
        {
            assert_eq!(interval(text).unwrap(), expected.map(Duration::from_millis), "{text}");
        }
        assert_eq!(interval("0"), Ok(None));
        for bad in ["x", "1/d", "-1", "NaN", "inf/m", "1e-300/h", ""] {
            assert!(interval(bad).is_err(), "{bad}");
        }
    }

    fn delivery(number: u64, name: &str) -> Delivery {
        let task = Task { id: number.to_string(), name: Some(name.into()), ..Task::default() };
        let (handle, queue, task) = (Handle(number), QueueIndex(0), Arc::new(task));
        Delivery { handle, queue, task, redelivered: false, identity: None }
    }

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    /// Tasks of the name `a` may begin ten times a second.
    fn rates() -> TaskRates {
        let mut rates = TaskRates::default();
        rates.registered(&application());
        rates
    }

    fn application() -> Application {
        let options = TaskOptions { rate_limit: Some("10".to_owned()), ..TaskOptions::default() };
        Application { tasks: [("a".to_owned(), options)].into(), ..Application::default() }
    }

    /// A task that may begin.
    fn admit(rates: &mut TaskRates, now: Instant, delivery: Delivery) -> Option<Delivery> {
        match rates.admit(now, delivery) {
            Admission::Begins(delivery) => Some(delivery),
            Admission::Held => None,
            Admission::TooLong(_, wait) => panic!("{wait:?}"),
        }
    }

    fn numbers(deliveries: &[Delivery]) -> Vec<u64> {
        deliveries.iter().map(|delivery| delivery.handle.0).collect()
    }

    #[test]
    fn one_of_a_name_has_its_turn_until_it_is_begun() {
        let (mut rates, mut now) = (rates(), at(1000));
        assert!(admit(&mut rates, now, delivery(9, "b")).is_some());
        let first = admit(&mut rates, now, delivery(1, "a")).expect("nothing was begun");
        assert!(
            admit(&mut rates, now, delivery(2, "a")).is_none() && admit(&mut rates, now, delivery(3, "a")).is_none()
        );
        assert_eq!((rates.next_due(), rates.len()), (None, 2), "nobody knows when the first is begun");
        assert!(admit(&mut rates, now, first.clone()).is_some(), "it is its turn still");
        now = at(5000);
        rates.begun(now, &first);
        assert_eq!(rates.next_due(), Some(at(5100)));
        rates.registered(&application());
        assert_eq!(rates.next_due(), Some(at(5100)), "a worker that starts changes nothing");
        assert!(rates.take_due(at(5099)).is_empty());
        let second = rates.take_due(at(5100));
        assert_eq!((numbers(&second), rates.next_due()), (vec![2], None));
        rates.adopted(&second[0], Handle(7));
        rates.left(&delivery(7, "a"));
        assert_eq!(rates.next_due(), Some(at(5100)), "it was not begun");
        assert_eq!(numbers(&rates.take_due(at(5200))), [3]);
        rates.check(|handle| handle == Handle(3)).unwrap();
        assert!(rates.check(|_| false).is_err());
    }

    #[test]
    fn what_a_person_sets_counts_at_once_and_stays() {
        let mut rates = rates();
        rates.begun(at(1000), &delivery(1, "a"));
        assert!(admit(&mut rates, at(1000), delivery(2, "a")).is_none());
        let second = rates.take_due(at(1100)).pop().unwrap();
        assert!(rates.set("a", Some(Duration::from_secs(1))).is_empty());
        assert!(admit(&mut rates, at(1100), second).is_none(), "its turn was that of another rate");
        assert_eq!(rates.next_due(), Some(at(2000)));
        assert_eq!((numbers(&rates.set("a", None)), rates.len()), (vec![2], 0));
        rates.registered(&application());
        assert!(admit(&mut rates, at(1000), delivery(3, "a")).is_some(), "a person said so");
    }
    #[test]
    fn what_would_wait_for_more_than_a_minute_is_not_held() {
        let mut rates = rates();
        rates.set("a", Some(Duration::from_secs(6)));
        rates.begun(at(0), &delivery(1, "a"));
        for number in 2..12 {
            assert!(admit(&mut rates, at(0), delivery(number, "a")).is_none());
        }
        let last = rates.admit(at(0), delivery(12, "a"));
        assert!(matches!(last, Admission::TooLong(_, wait) if wait == Duration::from_secs(66)), "{last:?}");
        assert_eq!(rates.take_where(|_| true).len(), 10);
        assert!(admit(&mut rates, at(6000), delivery(2, "a")).is_some(), "those that went took no moment with them");
    }
}
