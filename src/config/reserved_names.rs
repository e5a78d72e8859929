//! The names of the queues that a queue uses beside itself: its dead-letter queue and its delay queues. No other queue may have
//! such a name, and no task is submitted to it.

use std::collections::{HashMap, HashSet};

use super::types::{Config, Queue};
use crate::{task::is_delay_queue_name, transport::DeadQueue};

/// The reserved names of a set of queues. Made once for the settings, at the start and at each reload; a question takes no
/// time that depends on the number of queues.
#[derive(Clone, Debug, Default)]
pub struct ReservedNames {
    queues: HashSet<String>,
    /// The name of a dead-letter queue to the queue that uses it.
    dead_letter_queues: HashMap<String, String>,
}

impl ReservedNames {
    /// The names that these queues use, and queues of the names `disabled`, whose settings are not known.
    #[must_use]
    pub fn new<'a>(queues: impl IntoIterator<Item = &'a Queue>, disabled: &[String]) -> Self {
        let (mut names, mut configured) = (HashSet::new(), Vec::new());
        // On a broker `_failed` is used even where dead letters go elsewhere: whoever declares a queue without these
        // settings, a submitter say, names it in the queue's arguments.
        let mut dead_letter_queues = HashMap::new();
        let mut add = |name: &str| {
            names.insert(name.to_owned());
            dead_letter_queues.insert(DeadQueue::of(name).name, name.to_owned());
        };
        for queue in queues {
            add(&queue.name);
            configured.push((queue.dead_letter.name.clone(), queue.name.clone()));
        }
        for name in disabled {
            add(name);
        }
        dead_letter_queues.extend(configured);
        Self { queues: names, dead_letter_queues }
    }

    /// The queue that uses a queue of this name beside itself, and what for.
    #[must_use]
    pub fn owner(&self, name: &str) -> Option<(&str, &'static str)> {
        if let Some(owner) = self.dead_letter_owner(name) {
            return Some((owner, "the dead-letter queue"));
        }
        let owner = self.queues.get(self.delay_owner(name)?)?;
        Some((owner, "a delay queue"))
    }

    /// The queue whose dead-letter queue has this name.
    #[must_use]
    pub fn dead_letter_owner(&self, name: &str) -> Option<&str> {
        self.dead_letter_queues.get(name).map(String::as_str)
    }

    /// The queue whose delay queue has this name.
    #[must_use]
    pub fn delay_owner<'a>(&self, name: &'a str) -> Option<&'a str> {
        let owner = name.rsplit_once(".retry.").map(|(owner, _)| owner).filter(|_| is_delay_queue_name(name))?;
        self.queues.contains(owner).then_some(owner)
    }
}

impl Config {
    /// The names that no task is submitted to.
    #[must_use]
    pub fn reserved_names(&self) -> ReservedNames {
        ReservedNames::new(&self.queues, &self.disabled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_reserved_by_the_queue_that_uses_it() {
        let elsewhere = Queue { dead_letter: DeadQueue::of("x"), ..Queue::new("a", "kind") };
        let names = ReservedNames::new([&elsewhere, &Queue::new("b", "kind")], &["off".to_owned()]);
        for (name, owner) in [
            ("a_failed", Some(("a", "the dead-letter queue"))),
            ("x_failed", Some(("a", "the dead-letter queue"))),
            ("off_failed", Some(("off", "the dead-letter queue"))),
            ("b.retry.1000", Some(("b", "a delay queue"))),
            ("c.retry.1000", None),
            ("c_failed", None),
            ("a", None),
        ] {
            assert_eq!(names.owner(name), owner, "{name}");
        }
    }
}
