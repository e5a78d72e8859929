//! What was counted queue by queue, for metrics, is what was counted for the summary.
//!
//! A queue that is gone takes its counts along, and those never go down: a task whose follow-ups could not be stored
//! after all is counted twice there, as done and as what became of it.

use asynctask::{
    master::{Core, Tally, core::event::Event},
    transport,
};

use super::simulation::Simulation;

/// What the readings no longer say, or say too much.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    /// Counts of queues that are gone.
    gone: Sums,
    /// Done at first.
    undone: u64,
}

/// Sums over all queues.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    done: u64,
    retried: u64,
    dead: u64,
    ran: u64,
}

impl Sums {
    fn of(core: &Core) -> Self {
        core.readings().iter().fold(Self::default(), |sums, queue| Self {
            done: sums.done + queue.counts.done,
            retried: sums.retried + queue.counts.retried.iter().sum::<u64>(),
            dead: sums.dead + queue.counts.dead.iter().sum::<u64>(),
            ran: sums.ran + queue.counts.ran.count() - queue.counts.snoozed,
        })
    }

    fn plus(self, other: Self, less: Self) -> Self {
        Self {
            done: self.done + other.done - less.done,
            retried: self.retried + other.retried - less.retried,
            dead: self.dead + other.dead - less.dead,
            ran: self.ran + other.ran - less.ran,
        }
    }
}

impl Simulation {
    /// Before an event by which the readings may lose counts: what they say.
    pub(crate) fn counts_before(&mut self, event: &Event) -> Option<Sums> {
        match event {
            Event::Transport(transport::Event::QueueRemoved { .. }) => Some(Sums::of(&self.core)),
            Event::Transport(transport::Event::Unstorable { .. }) => {
                self.observer.counted.undone += 1;
                None
            }
            _ => None,
        }
    }

    pub(crate) fn counts_after(&mut self, before: Option<Sums>) {
        if let Some(before) = before {
            self.observer.counted.gone = self.observer.counted.gone.plus(before, Sums::of(&self.core));
        }
    }

    pub(crate) fn check_counts(&self) -> Result<(), String> {
        let Counted { gone, undone } = self.observer.counted;
        let tally = self.core.tally();
        let sums = Sums::of(&self.core).plus(gone, Sums::default());
        let counted = Tally {
            processed: sums.done - undone,
            failed: sums.ran + undone - sums.done,
            retried: sums.retried,
            dead_lettered: sums.dead,
            ..tally
        };
        if counted == tally { Ok(()) } else { Err(format!("counted {counted:?}, of {tally:?}")) }
    }
}
