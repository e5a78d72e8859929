//! What a queue owes and the queue that it belongs to does not take: a dead letter, a retry, a copy for the tail.
//!
//! Its task stays with us and is offered again and again, and others are worked meanwhile. The owner is told by which queue
//! it is held up, why, and of how many tasks; at each change, so that a person can be told once.

use std::collections::BTreeMap;

use crate::{
    task::QueueIndex,
    transport::{Error, Event, amqp::session::actor::Engine},
};

/// What became of an offer.
#[derive(Debug)]
pub(crate) enum Offered {
    Refused {
        cause: String,
        /// It was not refused before.
        is_first: bool,
    },
    /// After it was refused.
    Taken,
}

/// By the index of the queue that owes and the name of the one that takes nothing: how many, and the last cause.
#[derive(Debug, Default)]
pub(crate) struct Untaken(BTreeMap<usize, BTreeMap<String, (u32, String)>>);

impl Untaken {
    /// How many messages this queue owes.
    pub(crate) fn of(&self, queue: usize) -> u32 {
        self.0.get(&queue).into_iter().flatten().map(|(_, (tasks, _))| tasks).sum()
    }

    /// The queue is no more.
    pub(crate) fn forget(&mut self, queue: usize) {
        self.0.remove(&queue);
    }

    /// Notes it; what is known now, if that is something else than before.
    fn note(&mut self, queue: usize, to: &str, offered: Offered) -> Option<(u32, String)> {
        let all = self.0.entry(queue).or_default();
        let known = all.get(to).cloned().unwrap_or_default();
        let now = match offered {
            Offered::Refused { cause, is_first } => (known.0 + u32::from(is_first), cause),
            Offered::Taken => (known.0.saturating_sub(1), known.1.clone()),
        };
        if now.0 == 0 {
            all.remove(to);
        } else {
            all.insert(to.to_owned(), now.clone());
        }
        (now != known).then_some(now)
    }
}

impl Engine {
    pub(crate) fn offered(&mut self, queue: usize, to: String, offered: Offered) {
        if !self.credits.contains_key(&queue) {
            return;
        }
        if let Some((tasks, cause)) = self.untaken.note(queue, &to, offered) {
            let error = Error::NotStored { queue: to.clone(), cause };
            self.tell(Event::Stuck { queue: QueueIndex(queue), by: to, error, tasks });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(cause: &str, is_first: bool) -> Offered {
        Offered::Refused { cause: cause.to_owned(), is_first }
    }

    #[test]
    fn only_what_changes_is_told() {
        let mut untaken = Untaken::default();
        let full = |tasks| Some((tasks, "full".to_owned()));
        assert_eq!(untaken.note(1, "a", refused("full", true)), full(1));
        assert_eq!(untaken.note(1, "a", refused("full", false)), None);
        assert_eq!(untaken.note(1, "a", refused("full", true)), full(2));
        assert_eq!(untaken.note(1, "b", refused("full", true)), full(1));
        assert_eq!((untaken.of(1), untaken.of(2)), (3, 0));
        assert_eq!(untaken.note(1, "a", refused("gone", false)), Some((2, "gone".to_owned())));
        assert_eq!(untaken.note(1, "a", Offered::Taken).map(|(tasks, _)| tasks), Some(1));
        assert_eq!(untaken.note(1, "a", Offered::Taken).map(|(tasks, _)| tasks), Some(0));
        assert_eq!(untaken.note(1, "a", Offered::Taken), None);
        assert_eq!(untaken.of(1), 1);
        untaken.forget(1);
        assert_eq!(untaken.of(1), 0);
    }
}
