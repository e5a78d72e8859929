//! Rates of single tasks of a Celery application, by their names: `10/m` lets one begin every six seconds on this node.
//!
//! Each task that has to wait is given its moment when it comes, the next one that is free. So a task is looked at twice at most,
//! however many of its name wait.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use foldhash::fast::RandomState;

use crate::{clock::Instant, frames::celery::Application, task::Handle};

/// The rates of a queue's tasks. Without any, a task costs one look at an empty table.
#[derive(Debug, Default)]
pub(in crate::master::core) struct TaskRates {
    /// Time between two starts, and when the next one may be.
    names: HashMap<Box<str>, (Duration, Instant), RandomState>,
    /// What a person has set, whatever the application says.
    set: HashMap<Box<str>, Option<Duration>, RandomState>,
    /// Those whose moment was given to them.
    admitted: HashSet<Handle, RandomState>,
}

impl TaskRates {
    /// What an application says of its tasks, where no person has said otherwise.
    pub(in crate::master::core) fn registered(&mut self, application: &Application) {
        let before = std::mem::take(&mut self.names);
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
        self.names.extend(intervals.into_iter().map(|(name, interval)| {
            let next = before.get(&name).map_or(Instant::default(), |(_, next)| *next);
            (name, (interval, next))
        }));
    }

    /// A person sets the rate of a task; `None`: it has none.
    pub(in crate::master::core) fn set(&mut self, name: &str, interval: Option<Duration>) {
        self.set.insert(name.into(), interval);
        self.admitted.clear();
        match interval {
            Some(interval) => self.names.insert(name.into(), (interval, Instant::default())),
            None => self.names.remove(name),
        };
    }

    /// Until when a task has to wait that could begin now. The moment is its own: asked again then, it may begin.
    pub(in crate::master::core) fn wait_until(&mut self, now: Instant, name: &str, handle: Handle) -> Option<Instant> {
        let (interval, next) = self.names.get_mut(name)?;
        if self.admitted.contains(&handle) {
            return None;
        }
        let at = (*next).max(now);
        *next = at + *interval;
        self.admitted.insert(handle);
        (at > now).then_some(at)
    }

    /// No task waits here any more.
    pub(in crate::master::core) fn forget_waiting(&mut self) {
        self.admitted.clear();
    }

    /// A task is begun, or is not here any more.
    pub(in crate::master::core) fn left(&mut self, handle: Handle) {
        if !self.admitted.is_empty() {
            self.admitted.remove(&handle);
        }
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
    use super::*;
    use crate::frames::celery::TaskOptions;

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

    #[test]
    fn each_task_is_given_its_own_moment() {
        let at = |ms| Instant::from_start(Duration::from_millis(ms));
        let options = TaskOptions { rate_limit: Some("10".to_owned()), ..TaskOptions::default() };
        let application = Application { tasks: [("a".to_owned(), options)].into(), conf: None };
        let mut rates = TaskRates::default();
        rates.registered(&application);
        assert_eq!(rates.wait_until(at(1000), "b", Handle(0)), None);
        assert_eq!(rates.wait_until(at(1000), "a", Handle(1)), None);
        assert_eq!(rates.wait_until(at(1000), "a", Handle(2)), Some(at(1100)));
        assert_eq!(rates.wait_until(at(1000), "a", Handle(3)), Some(at(1200)));
        assert_eq!(rates.wait_until(at(1100), "a", Handle(2)), None, "it has its moment");
        rates.left(Handle(2));
        rates.registered(&application);
        assert_eq!(rates.wait_until(at(1250), "a", Handle(4)), Some(at(1300)), "a worker that starts changes nothing");
        rates.set("a", None);
        assert_eq!(rates.wait_until(at(1250), "a", Handle(5)), None);
        rates.registered(&application);
        assert_eq!(rates.wait_until(at(1250), "a", Handle(6)), None, "a person said so");
    }
}
