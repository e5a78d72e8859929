//! Tasks of a queue with `mode: once` whose process said that a program could not be executed (126, 127).
//!
//! That is nearly always the deploy's fault and no task's, so they go back as they were. But one task can be alone with it:
//! its payload names the program. It must neither loop for ever nor stand at the head of the queue for ever, while what
//! waits behind it could be done.

use std::collections::VecDeque;

/// Returns of one task before it is held against it that others could be done meanwhile.
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
    times: u32,
    /// How many had ended otherwise when it came back first.
    executed_before: u64,
}

/// What becomes of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::master::core) enum Fate {
    /// It goes back to where it was.
    Back,
    /// It goes back in a while: what waits behind it is tried first.
    Aside,
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
        let position = self.tasks.iter().position(|task| task.id == id).unwrap_or_else(|| {
            if self.tasks.len() >= REMEMBERED {
                self.tasks.pop_front();
            }
            self.tasks.push_back(Returned { id: id.to_owned(), times: 0, executed_before: self.executed });
            self.tasks.len() - 1
        });
        let task = &mut self.tasks[position];
        task.times += 1;
        let times = task.times;
        match (times > RETURNS, self.executed > task.executed_before) {
            (true, true) => {
                self.tasks.remove(position);
                Fate::Failed { times }
            }
            (true, false) => Fate::Aside,
            // Programs can be executed here: perhaps it is this task.
            (false, _) if times > 1 && self.executed > 0 => Fate::Aside,
            (false, _) => Fate::Back,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_fails_when_others_could_be_done_since_it_came_back_first() {
        let mut unexecuted = Unexecuted::default();
        unexecuted.executed("before");
        assert_eq!(unexecuted.returned("a"), Fate::Back);
        for _ in 0..5 {
            assert_eq!(unexecuted.returned("a"), Fate::Aside);
        }
        unexecuted.executed("b");
        assert_eq!(unexecuted.returned("a"), Fate::Failed { times: 7 });
        assert_eq!(unexecuted.returned("a"), Fate::Back, "another attempt begins anew");
    }

    #[test]
    fn where_nothing_can_be_done_all_go_back_and_none_stays_at_the_head() {
        let mut unexecuted = Unexecuted::default();
        let fates: Vec<Fate> = (0..5).map(|_| unexecuted.returned("a")).collect();
        assert_eq!(fates, [Fate::Back, Fate::Back, Fate::Back, Fate::Aside, Fate::Aside]);
        for number in 0..2 * REMEMBERED {
            assert_eq!(unexecuted.returned(&number.to_string()), Fate::Back);
        }
        assert_eq!(unexecuted.tasks.len(), REMEMBERED);
    }
}
