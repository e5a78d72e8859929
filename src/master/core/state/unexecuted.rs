//! Tasks of a queue with `mode: once` whose process said that a program could not be executed (126, 127).
//!
//! That is nearly always the deploy's fault and no task's, so they go back as they were. But one task can be alone with it:
//! its payload names the program. It must neither loop for ever nor stand at the head of the queue for ever, while what
//! waits behind it could be done.

use std::collections::VecDeque;

/// So often a task comes back until that is held against it, if others could be done meanwhile.
const RETURNS: u32 = 3;
/// Tasks that are remembered for a queue.
const REMEMBERED: usize = 256;

/// What was seen of a queue.
#[derive(Debug, Default)]
pub(in crate::master::core) struct Unexecuted {
    /// Processes that ended otherwise.
    executed: u64,
    tasks: VecDeque<Returned>,
}

#[derive(Debug)]
struct Returned {
    id: String,
    /// Over all its attempts.
    times: u32,
    of_attempt: u32,
    /// How many had ended otherwise when it first came back in this attempt.
    executed_before: u64,
    /// How many had ended otherwise when it last came back.
    executed_at_last: u64,
    /// An attempt of it was an error for this reason.
    has_failed: bool,
}

/// What becomes of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::master::core) enum Fate {
    /// It goes back to where it was.
    Back,
    /// It goes back in a while: what waits behind it is tried first. `again`: it came back before.
    Aside { again: bool },
    /// It is its own fault, after so many times.
    Failed { times: u32 },
}

impl Unexecuted {
    /// A process of the queue ended otherwise.
    pub(in crate::master::core) fn executed(&mut self, id: &str) {
        self.executed += 1;
        if let Some(position) = self.tasks.iter().position(|task| task.id == id) {
            self.tasks.remove(position);
        }
    }

    /// One says that a program could not be executed for this task.
    pub(in crate::master::core) fn returned(&mut self, id: &str) -> Fate {
        let executed = self.executed;
        let position = self.tasks.iter().position(|task| task.id == id).unwrap_or_else(|| {
            if self.tasks.len() >= REMEMBERED {
                self.tasks.pop_front();
            }
            self.tasks.push_back(Returned {
                id: id.to_owned(),
                times: 0,
                of_attempt: 0,
                executed_before: executed,
                executed_at_last: executed,
                has_failed: false,
            });
            self.tasks.len() - 1
        });
        // Where one that was not held to be its own fault came back since a program was executed, it may be the deploy's.
        let others =
            self.tasks.iter().any(|task| task.id != id && !task.has_failed && task.executed_at_last == executed);
        let task = &mut self.tasks[position];
        task.times += 1;
        task.of_attempt += 1;
        if task.of_attempt == 1 {
            task.executed_before = executed;
        }
        task.executed_at_last = executed;
        let is_its_own = task.of_attempt >= RETURNS && executed > task.executed_before;
        if is_its_own || (task.has_failed && !others) {
            (task.has_failed, task.of_attempt) = (true, 0);
            return Fate::Failed { times: task.times };
        }
        Fate::Aside { again: task.times > 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Fate = Fate::Aside { again: false };
    const AGAIN: Fate = Fate::Aside { again: true };

    #[test]
    fn a_task_fails_when_others_could_be_done_since_it_came_back_first() {
        let mut unexecuted = Unexecuted::default();
        unexecuted.executed("before");
        assert_eq!(unexecuted.returned("a"), FIRST);
        for _ in 0..5 {
            assert_eq!(unexecuted.returned("a"), AGAIN);
        }
        unexecuted.executed("b");
        assert_eq!(unexecuted.returned("a"), Fate::Failed { times: 7 });
        unexecuted.executed("a");
        assert_eq!(unexecuted.returned("a"), FIRST, "it could be executed since");
    }

    #[test]
    fn three_times_are_enough_and_another_attempt_fails_at_once() {
        let mut unexecuted = Unexecuted::default();
        assert_eq!(unexecuted.returned("a"), FIRST);
        unexecuted.executed("b");
        assert_eq!(unexecuted.returned("a"), AGAIN);
        assert_eq!(unexecuted.returned("a"), Fate::Failed { times: 3 });
        assert_eq!(unexecuted.returned("a"), Fate::Failed { times: 4 });
    }

    #[test]
    fn a_task_that_has_failed_so_uses_no_attempt_where_others_come_back_too() {
        let mut unexecuted = Unexecuted::default();
        unexecuted.returned("a");
        unexecuted.executed("b");
        unexecuted.returned("a");
        assert_eq!(unexecuted.returned("a"), Fate::Failed { times: 3 });
        assert_eq!(unexecuted.returned("c"), FIRST);
        for _ in 0..5 {
            assert_eq!(unexecuted.returned("a"), AGAIN);
        }
        unexecuted.executed("d");
        assert_eq!(unexecuted.returned("a"), Fate::Failed { times: 9 });
    }

    #[test]
    fn where_nothing_can_be_done_none_fails_and_none_stays_at_the_head() {
        let mut unexecuted = Unexecuted::default();
        assert_eq!(unexecuted.returned("a"), FIRST);
        for _ in 0..5 {
            assert_eq!(unexecuted.returned("a"), AGAIN);
        }
        for number in 0..2 * REMEMBERED {
            assert_eq!(unexecuted.returned(&number.to_string()), FIRST);
        }
        assert_eq!(unexecuted.tasks.len(), REMEMBERED);
    }
}
