//! Counts over time, for charts: what the master counts, each ten seconds for an hour and each minute for a day. Pure.
//!
//! A chart is made of differences of counts, so it is whole even where a list is not. A master that is started again counts from 0:
//! what it says then is what happened since. Steps go by a clock that nobody sets.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

use crate::clock::Timestamp;

/// A fine step, in milliseconds, and how many are kept: an hour.
pub(crate) const FINE: (i64, usize) = (10_000, 360);
/// A coarse step, in milliseconds, and how many are kept: a day.
pub(crate) const COARSE: (i64, usize) = (60_000, 1440);
/// The times of tasks are kept by fine steps, for five minutes: they take the most room.
const TIMES: (i64, usize) = (FINE.0, 30);
/// Queues that are kept, at most.
const QUEUES: usize = 1000;

/// What happened in a queue in some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) done: u64,
    /// Attempts that failed, and dead letters.
    pub(crate) failed: u64,
}

/// How many tasks took how long in some time, by bucket; empty: none did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) waited: Vec<u64>,
    pub(crate) ran: Vec<u64>,
}

impl Times {
    fn add(&mut self, other: &Self) {
        add(&mut self.waited, &other.waited);
        add(&mut self.ran, &other.ran);
    }
}

fn add(buckets: &mut Vec<u64>, more: &[u64]) {
    if more.iter().all(|count| *count == 0) {
        return;
    }
    if buckets.len() < more.len() {
        buckets.resize(more.len(), 0);
    }
    for (bucket, more) in buckets.iter_mut().zip(more) {
        *bucket += more;
    }
}

/// Steps of one length, the last one under way.
#[derive(Clone, Debug, Default)]
struct Line<T> {
    /// The number of the last step.
    at: i64,
    steps: VecDeque<T>,
}

impl<T: Default> Line<T> {
    /// The step of this moment.
    fn at(&mut self, now: Timestamp, (length, most): (i64, usize)) -> Option<&mut T> {
        let at = now.0.div_euclid(length);
        if self.steps.is_empty() {
            self.at = at;
            self.steps.push_back(T::default());
        }
        let gap = usize::try_from(at.saturating_sub(self.at)).unwrap_or(0);
        if gap > most {
            self.steps.clear();
        }
        for _ in 0..gap.min(most) {
            self.steps.push_back(T::default());
        }
        while self.steps.len() > most {
            self.steps.pop_front();
        }
        self.at = self.at.max(at);
        self.steps.back_mut()
    }
}

/// A queue's counts at some moment.
#[derive(Clone, Debug, Default)]
struct Counted {
    done: u64,
    failed: u64,
    waited: Vec<u64>,
    ran: Vec<u64>,
}

impl Counted {
    fn of(queue: &Value) -> Self {
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        let sum =
            |counts: &Value| counts.as_object().into_iter().flatten().map(|(_, count)| number(count)).sum::<u64>();
        let buckets = |times: &Value| times["buckets"].as_array().into_iter().flatten().map(number).take(64).collect();
        Self {
            done: number(&queue["done"]),
            failed: sum(&queue["retried"]) + sum(&queue["dead"]),
            waited: buckets(&queue["waited"]),
            ran: buckets(&queue["ran"]),
        }
    }

    /// What happened since; from 0 if the counts went down.
    fn since(&self, before: &Self) -> (Step, Times) {
        let is_new = self.done < before.done || self.failed < before.failed;
        let before = if is_new { &Self::default() } else { before };
        let difference = |now: &[u64], before: &[u64]| {
            let before = before.iter().copied().chain(std::iter::repeat(0));
            now.iter().zip(before).map(|(now, before)| now.saturating_sub(before)).collect()
        };
        let step = Step { done: self.done - before.done, failed: self.failed - before.failed };
        (step, Times { waited: difference(&self.waited, &before.waited), ran: difference(&self.ran, &before.ran) })
    }
}

#[derive(Clone, Debug, Default)]
struct Queue {
    last: Option<Counted>,
    fine: Line<Step>,
    coarse: Line<Step>,
    times: Line<Times>,
}

impl Queue {
    fn add(&mut self, now: Timestamp, (step, times): (Step, &Times)) {
        for (line, of) in [(&mut self.fine, FINE), (&mut self.coarse, COARSE)] {
            if let Some(last) = line.at(now, of) {
                *last = Step { done: last.done + step.done, failed: last.failed + step.failed };
            }
        }
        if let Some(last) = self.times.at(now, TIMES) {
            last.add(times);
        }
    }
}

/// All queues over time.
#[derive(Debug, Default)]
pub(crate) struct Series {
    queues: BTreeMap<String, Queue>,
    /// The ends of the buckets, in seconds.
    bounds: Vec<f64>,
}

impl Series {
    /// Takes an answer to `counters`, at this moment of a clock that nobody sets. A queue that is not told of any more is forgotten.
    pub(crate) fn push(&mut self, now: Timestamp, counters: &Value) {
        let Some(told) = counters["queues"].as_object() else { return };
        self.bounds = counters["bounds_seconds"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
        self.queues.retain(|name, _| told.contains_key(name));
        for (name, queue) in told {
            if self.queues.len() >= QUEUES && !self.queues.contains_key(name) {
                continue;
            }
            let counted = Counted::of(queue);
            let known = self.queues.entry(name.clone()).or_default();
            // Of what was counted before the first look nobody knows when it was.
            let (step, times) = known.last.as_ref().map(|before| counted.since(before)).unwrap_or_default();
            known.last = Some(counted);
            known.add(now, (step, &times));
        }
    }

    /// The steps of the last hour of a queue, or of a day, oldest first; those that are missing were before the first look.
    pub(crate) fn steps(&self, queue: &str, is_day: bool) -> impl Iterator<Item = &Step> {
        let line = self.queues.get(queue).map(|queue| if is_day { &queue.coarse } else { &queue.fine });
        line.into_iter().flat_map(|line| &line.steps)
    }

    /// How many tasks of a queue were done within its last `count` fine steps, the one under way included.
    pub(crate) fn done(&self, queue: &str, count: usize) -> u64 {
        let steps = self.queues.get(queue).map(|queue| &queue.fine.steps);
        steps.into_iter().flat_map(|steps| steps.iter().rev().take(count)).map(|step| step.done).sum()
    }

    /// How long the tasks of a queue took in the last five minutes.
    pub(crate) fn times(&self, queue: &str) -> Times {
        let mut sum = Times::default();
        for times in self.queues.get(queue).into_iter().flat_map(|queue| &queue.times.steps) {
            sum.add(times);
        }
        sum
    }

    /// The time, in seconds, below which this share of the times lies: the end of its bucket. `None`: there are none, or it is beyond
    /// all bounds.
    pub(crate) fn quantile(&self, buckets: &[u64], share: f64) -> Option<f64> {
        let all: u64 = buckets.iter().sum();
        let wanted = (all as f64 * share).ceil().max(1.0) as u64;
        let mut below = 0;
        let bucket = buckets.iter().position(|count| {
            below += count;
            below >= wanted
        })?;
        self.bounds.get(bucket).copied()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn counters(done: u64, failed: u64, buckets: &[u64]) -> Value {
        json!({ "bounds_seconds": [0.1, 1.0], "queues": { "foo": {
            "done": done, "retried": { "error": failed }, "dead": {}, "waited": { "buckets": [] }, "ran": { "buckets": buckets },
        } } })
    }

    fn done(series: &Series, is_day: bool) -> Vec<u64> {
        series.steps("foo", is_day).map(|step| step.done).collect()
    }

    #[test]
    fn steps_are_differences_and_a_new_master_begins_at_nothing() {
        let mut series = Series::default();
        for (second, count) in [(0, 1000), (1, 1003), (9, 1004), (10, 1010), (31, 1011), (32, 4), (33, 5)] {
            series.push(Timestamp(second * 1000), &counters(count, 0, &[]));
        }
        assert_eq!(done(&series, false), [4, 6, 0, 1 + 4 + 1]);
        assert_eq!(done(&series, true), [16]);
        assert_eq!(series.done("foo", 2), 6);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut series = Series::default();
        for second in 0..10_000 {
            series.push(Timestamp(second * 1000), &counters(second as u64, 0, &[second as u64]));
        }
        assert_eq!((done(&series, false).len(), done(&series, true).len()), (FINE.1, 10_000 / 60 + 1));
        assert_eq!(series.queues["foo"].times.steps.len(), TIMES.1);
        series.push(Timestamp(i64::MAX), &counters(20_000, 0, &[]));
        assert!(done(&series, false).len() <= FINE.1);
        let many: Value =
            (0..5000).map(|number| (number.to_string(), json!({}))).collect::<serde_json::Map<_, _>>().into();
        series.push(Timestamp(i64::MAX), &json!({ "queues": many }));
        assert_eq!(series.queues.len(), QUEUES);
        series.push(Timestamp(0), &json!("nonsense"));
        assert_eq!(series.queues.len(), QUEUES, "it tells of no queue, nor that there is none");
        series.push(Timestamp(i64::MAX), &counters(1, 0, &[]));
        assert_eq!(series.queues.keys().collect::<Vec<_>>(), ["foo"], "others are not told of any more");
    }

    #[test]
    fn a_step_in_which_nothing_happened_takes_no_room() {
        let mut series = Series::default();
        for second in 0..1000 {
            series.push(Timestamp(second * 1000), &counters(5, 0, &[5, 0, 0]));
        }
        let kept = &series.queues["foo"];
        assert!(kept.times.steps.iter().all(|times| times.ran.capacity() + times.waited.capacity() == 0));
        assert_eq!(size_of::<Step>(), 16);
    }

    #[test]
    fn quantiles_are_ends_of_buckets() {
        let mut series = Series::default();
        series.push(Timestamp(0), &counters(0, 0, &[0, 0, 0]));
        series.push(Timestamp(1), &counters(10, 0, &[6, 3, 1]));
        let ran = series.times("foo").ran;
        assert_eq!(series.quantile(&ran, 0.5), Some(0.1));
        assert_eq!(series.quantile(&ran, 0.9), Some(1.0));
        assert_eq!(series.quantile(&ran, 0.99), None, "it is beyond all bounds");
        assert_eq!(series.quantile(&[], 0.5), None);
        // Five minutes later it is no more.
        series.push(Timestamp(310_000), &counters(10, 0, &[6, 3, 1]));
        assert_eq!(series.times("foo"), Times::default());
    }
}
