//! Messages that a queue has to publish and their target does not take: a dead letter, a retry, a copy for the tail.
//!
//! Its task stays with us and is offered again and again, and others are worked meanwhile. The owner is told by which queue
//! it is held up, why, and of how many tasks; at each change, so that a person can be told once.

use std::collections::BTreeMap;

/// How the publish of a message that is kept until it is stored goes.
#[derive(Debug)]
pub(crate) enum PublishReport {
    Refused {
        cause: String,
        /// It was not refused before.
        is_first: bool,
    },
    /// After it was refused.
    Stored,
}

/// By the index of the queue that owes and the name of the one that takes nothing: how many, and the last cause.
#[derive(Debug, Default)]
pub(crate) struct RefusedMessages(BTreeMap<usize, BTreeMap<String, (u32, String)>>);

impl RefusedMessages {
    /// How many messages this queue owes.
    pub(crate) fn of(&self, queue: usize) -> u32 {
        self.0.get(&queue).into_iter().flatten().map(|(_, (tasks, _))| tasks).sum()
    }

    /// The queue is no more.
    pub(crate) fn forget(&mut self, queue: usize) {
        self.0.remove(&queue);
    }

    /// Notes it; what is known now, if that is something else than before.
    pub(crate) fn note(&mut self, queue: usize, to: &str, report: PublishReport) -> Option<(u32, String)> {
        let all = self.0.entry(queue).or_default();
        let known = all.get(to).cloned().unwrap_or_default();
        let now = match report {
            PublishReport::Refused { cause, is_first } => (known.0 + u32::from(is_first), cause),
            PublishReport::Stored => (known.0.saturating_sub(1), known.1.clone()),
        };
        if now.0 == 0 {
            all.remove(to);
        } else {
            all.insert(to.to_owned(), now.clone());
        }
        (now != known).then_some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(cause: &str, is_first: bool) -> PublishReport {
        PublishReport::Refused { cause: cause.to_owned(), is_first }
    }

    #[test]
    fn only_what_changes_is_told() {
        let mut refused_messages = RefusedMessages::default();
        let full = |tasks| Some((tasks, "full".to_owned()));
        assert_eq!(refused_messages.note(1, "a", refused("full", true)), full(1));
        assert_eq!(refused_messages.note(1, "a", refused("full", false)), None);
        assert_eq!(refused_messages.note(1, "a", refused("full", true)), full(2));
        assert_eq!(refused_messages.note(1, "b", refused("full", true)), full(1));
        assert_eq!((refused_messages.of(1), refused_messages.of(2)), (3, 0));
        assert_eq!(refused_messages.note(1, "a", refused("gone", false)), Some((2, "gone".to_owned())));
        assert_eq!(refused_messages.note(1, "a", PublishReport::Stored).map(|(tasks, _)| tasks), Some(1));
        assert_eq!(refused_messages.note(1, "a", PublishReport::Stored).map(|(tasks, _)| tasks), Some(0));
        assert_eq!(refused_messages.note(1, "a", PublishReport::Stored), None);
        assert_eq!(refused_messages.of(1), 1);
        refused_messages.forget(1);
        assert_eq!(refused_messages.of(1), 0);
    }
}
