//! Queues that are parked for their tasks: what the run before has left, and what is kept for the next one.

use std::time::Duration;

use asynctask::master::core::event::ParkedQueue;

use super::{parked_before::BEGINNING, settings::Settings, simulation::Simulation};

/// What a run is told of the one before, and tells of itself.
#[derive(Debug)]
pub(crate) struct Kept {
    /// By queue: what it was parked for last are its tasks.
    pub(crate) for_tasks: Vec<bool>,
    /// By queue: the pause of the run before, until it is over or the queue is parked again.
    pauses: Vec<Option<Duration>>,
    /// What was told last.
    told: Vec<ParkedQueue>,
}

impl Kept {
    pub(crate) fn new(settings: &Settings) -> Self {
        let pause = |index: usize| {
            let queue = settings.plan.queues.get(index)?;
            let is_it =
                |before: &&ParkedQueue| before.queue == queue.settings.name && before.kind == queue.settings.kind;
            let before = settings.parked_before.iter().find(is_it)?;
            let breaker = &queue.settings.breaker;
            let most = before.pause.clamp(breaker.pause, breaker.longest);
            Some(before.until.remaining(BEGINNING).min(most))
        };
        let queues = settings.queues.len();
        Self { for_tasks: vec![false; queues], pauses: (0..queues).map(pause).collect(), told: Vec::new() }
    }

    /// A queue is said to be parked.
    pub(crate) fn parked(&mut self, queue: usize, message: &str, was_parked: bool) {
        // Workers that do not start make tasks no better.
        self.for_tasks[queue] = message.contains("too many of its tasks") || (was_parked && self.for_tasks[queue]);
        if !message.contains("as the run before left it") {
            self.pauses[queue] = None;
        }
    }

    /// A queue is said to be tried again: not before the pause of the run before is over.
    pub(crate) fn tried(&mut self, queue: usize, now: Duration) -> Result<(), String> {
        match self.pauses[queue].take() {
            Some(pause) if now < pause => Err(format!("q{queue} is tried before the pause {pause:?} is over")),
            _ => Ok(()),
        }
    }
}

impl Simulation {
    /// A task is begun: not while its queue is parked.
    pub(crate) fn may_begin_in(&self, queue: usize) -> Result<(), String> {
        if self.observer.is_pausing[queue] {
            return Err(format!("begun although queue q{queue} is parked"));
        }
        Ok(())
    }

    /// What the run before has left parked is parked from the beginning.
    pub(crate) fn check_begun_parked(&self) -> Result<(), String> {
        let observer = &self.observer;
        let is_it = |index: usize| {
            let was_parked = observer.kept.pauses[index].is_some();
            was_parked == observer.parked[index] && was_parked == observer.kept.for_tasks[index]
        };
        if (0..observer.parked.len()).all(is_it) {
            return Ok(());
        }
        Err(format!("begun with {:?} parked, where {:?} was", observer.parked, observer.kept.pauses))
    }

    pub(crate) fn kept(&mut self, parked: Vec<ParkedQueue>) {
        self.observer.kept.told = parked;
    }

    /// What was told last for the next run is what is parked.
    pub(crate) fn check_kept(&self) -> Result<(), String> {
        let observer = &self.observer;
        for (index, queue) in self.settings.queues.iter().enumerate() {
            let told = observer.kept.told.iter().find(|told| told.queue == queue.settings.name);
            if told.is_some() != (observer.parked[index] && observer.kept.for_tasks[index]) {
                return Err(format!("of q{index}, which the next run is to know, {told:?} is kept"));
            }
            // Less than a millisecond is lost on the way to the wall clock.
            let left = told.map_or(Duration::ZERO, |told| told.until.remaining(self.clock().wall));
            if told.is_some_and(|told| left > told.pause + Duration::from_millis(1)) {
                return Err(format!("the pause of q{index} is longer than it may be: {told:?}, {left:?}"));
            }
        }
        Ok(())
    }
}
