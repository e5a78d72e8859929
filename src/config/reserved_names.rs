//! The names that queues use behind the scenes: dead-letter queues and delay queues. Nothing else may have them, and
//! nobody submits to them.

use std::collections::HashMap;

use super::{Config, Queue};
use crate::task::is_delay_queue_name;

/// Whose each name is, and what it is to that queue.
pub(super) struct Behind<'a> {
    names: Vec<&'a str>,
    taken: HashMap<String, (&'a str, &'static str)>,
}

impl<'a> Behind<'a> {
    pub(super) fn new(queues: &'a [Queue], disabled: &'a [String]) -> Self {
        let names: Vec<&str> =
            queues.iter().map(|queue| queue.name.as_str()).chain(disabled.iter().map(String::as_str)).collect();
        // On a broker `_failed` is used even where dead letters go elsewhere: whoever declares a queue without these
        // settings, a submitter say, names it in the queue's arguments.
        let mut taken = HashMap::new();
        for name in &names {
            taken.insert(format!("{name}_failed"), (*name, "the dead-letter queue"));
        }
        for queue in queues {
            taken.insert(queue.dead_letter.name.clone(), (queue.name.as_str(), "the dead-letter queue"));
        }
        Self { names, taken }
    }

    pub(super) fn owner(&self, name: &str) -> Option<(String, &'static str)> {
        if let Some((owner, what)) = self.taken.get(name) {
            return Some(((*owner).to_owned(), what));
        }
        self.delayed(name).map(|owner| (owner.to_owned(), "a delay queue"))
    }

    /// The queue whose delay queue has this name.
    pub(super) fn delayed<'b>(&self, name: &'b str) -> Option<&'b str> {
        let owner = name.rsplit_once(".retry.").map(|(owner, _)| owner).filter(|_| is_delay_queue_name(name))?;
        self.names.contains(&owner).then_some(owner)
    }
}

impl Config {
    /// If a queue of these settings uses this name behind the scenes: that queue, and what for.
    #[must_use]
    pub fn behind(&self, name: &str) -> Option<(String, &'static str)> {
        Behind::new(&self.queues, &self.disabled).owner(name)
    }
}
