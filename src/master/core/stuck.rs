//! The core's chapter on queues whose tasks have ended and cannot be settled, because the queue that their dead letters, retries
//! or copies belong to takes none: it is full, or forbidden.
//!
//! The transport keeps them and offers them again and again; the queue is worked on meanwhile, and so are the others. What is
//! left to do here is to say so: once when it begins, once when it is over.

use std::collections::BTreeSet;

use super::{
    Core,
    state::{pool::Pool, stall::UNREACHABLE_LIMIT, stuck::Untaken},
};
use crate::{clock::Instant, exit_code::Code, logging::Level, transport};

impl Core {
    /// So many tasks of a queue are held up by another; 0: none any more.
    pub(super) fn queue_stuck(&mut self, index: usize, by: &str, error: &transport::Error, tasks: u32) {
        let now = self.now.at;
        let pool = &mut self.pools[index];
        let name = pool.name().to_owned();
        if tasks == 0 {
            let Some(over) = pool.stuck.0.remove(by) else { return };
            let seconds = now.since(over.since).as_secs_f64();
            self.log(Level::Info, || format!("Queue {by} takes tasks of queue {name} again, after {seconds:.1} s"));
            return;
        }
        let error = error.to_string();
        let new = || Untaken { since: now, error: String::new(), said: BTreeSet::new(), tasks };
        let untaken = pool.stuck.0.entry(by.to_owned()).or_insert_with(new);
        (untaken.tasks, untaken.error) = (tasks, error.clone());
        if untaken.said.insert(error.clone()) {
            self.log(Level::Warning, || {
                format!("Tasks of queue {name} that have ended are stuck: {error}; they are kept, and offered again and again")
            });
        }
    }

    /// Nothing is offered any more: the tasks come again.
    pub(super) fn nothing_stuck(&mut self) {
        for pool in &mut self.pools {
            pool.stuck.0.clear();
        }
    }

    /// The queue that is stuck for longest.
    fn most_stuck(&self) -> Option<(&Pool, &Untaken)> {
        let stuck = self.members().filter_map(|pool| Some((pool, pool.stuck.oldest()?)));
        stuck.min_by_key(|(_, untaken)| untaken.since)
    }

    /// In halt mode, with nothing left but what is stuck: until when that is waited for. `None`: nothing is.
    pub(super) fn waits_for_stuck(&self) -> Option<Instant> {
        self.most_stuck().map(|(_, untaken)| untaken.since + UNREACHABLE_LIMIT)
    }

    /// What is stuck, to be named at the end of a run.
    pub(super) fn stuck_cause(&self) -> Option<String> {
        self.most_stuck().map(|(pool, untaken)| format!("tasks of queue {} are stuck: {}", pool.name(), untaken.error))
    }

    /// Ends a run that has done all but that.
    pub(super) fn end_stuck(&mut self) {
        let Some(cause) = self.stuck_cause() else { return };
        let seconds = UNREACHABLE_LIMIT.as_secs();
        self.end_badly(Code::Unavailable, format!("for {seconds} s nothing else was left to do: {cause}"));
    }
}
