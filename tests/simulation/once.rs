//! Kinds with a process for each task: what is started, and what its exit status says.

use std::{collections::BTreeMap, time::Duration};

use asynctask::{
    master::core::event::{Event, Once, WorkerId},
    task::{Exit, Reason},
};

use super::{
    actions::pid_of,
    celery_queues,
    child::{self, Act, Child},
    ledger::Verdict,
    observer::Observer,
    simulation::Simulation,
};

/// Put aside for so long, that others are tried.
const ASIDE: Duration = Duration::from_secs(1);

impl Simulation {
    pub(crate) fn spawn_once(
        &mut self,
        worker: WorkerId,
        queue: usize,
        name: String,
        once: &Once,
    ) -> Result<(), String> {
        self.may_spawn(worker)?;
        if !self.settings.queues[queue].is_once {
            return Err("a process for one task of a kind that speaks frames".to_owned());
        }
        let bodies = celery_queues::bodies(&String::from_utf8_lossy(&once.payload));
        let hand = self.begin(queue, &once.id, once.attempt, &bodies)?;
        let limit = self.limit_of(queue, &hand.task);
        let named = hand.task.name.as_deref().unwrap_or_default();
        self.observer.begun_at_its_rate(&self.settings, queue, (named, hand.token), self.now)?;
        if self.spawn_fails(worker, queue, &name) {
            return Ok(());
        }
        if !self.observer.told_by_exit[queue] {
            self.observer.starts_in_a_row[queue] = 0;
        }
        let (token, deaf) = (hand.token, self.settings.worker_faults.deaf);
        let child = Child::new(queue, name, self.at());
        self.children.insert(worker, Child { is_once: true, ready: true, hands: vec![hand], deaf, ..child });
        let acts = self.errand(queue, &once.id, limit);
        self.acts(worker, acts);
        self.feed_later(Event::Spawned { worker, pid: pid_of(worker) });
        debug_assert_eq!(token, self.tokens, "the hand is the last one");
        self.not_too_many()
    }

    fn errand(&mut self, queue: usize, id: &str, limit: Option<Duration>) -> Vec<(Duration, Act)> {
        let worker_faults = &self.settings.worker_faults;
        let after = self.rng.micros(worker_faults.work);
        if self.faults_are_over() {
            let after = limit.map_or(after, |limit| after.min(limit / 2));
            return vec![(after, Act::Exit(Exit::Code { code: 0 }))];
        }
        if self.settings.queue(queue).timeout.is_some() && self.rng.chance(worker_faults.hang) {
            return Vec::new();
        }
        let lot = id.bytes().fold(0_u32, |lot, byte| (lot * 31 + u32::from(byte)) % 997);
        if lot < worker_faults.unexecutable {
            return vec![(after, Act::Exit(Exit::Code { code: 127 }))];
        }
        let exit = if self.rng.chance(worker_faults.crash) {
            child::signal(self.rng.pick(&["SIGSEGV", "SIGKILL", "SIGTERM"]))
        } else if self.rng.chance(worker_faults.error + worker_faults.retry + worker_faults.failed) {
            Exit::Code { code: self.rng.pick(&[3, 75, 65, 1, 126, 127]) }
        } else {
            Exit::Code { code: 0 }
        };
        vec![(after, Act::Exit(exit))]
    }
}

impl Observer {
    /// What becomes of the task of a process whose exit status says that a program could not be executed.
    pub(crate) fn unexecuted(&mut self, child: &Child, verdict: Verdict) -> Verdict {
        let (id, seen) = (&child.hands[0].id, &mut self.executed[child.queue]);
        if verdict != Verdict::Released {
            seen.count += 1;
            seen.returned.remove(id);
            return verdict;
        }
        let count = seen.count;
        let is_other = |(other, task): (&String, &Returned)| other != id && !task.failed && task.last == count;
        let others = seen.returned.iter().any(is_other);
        let task = seen.returned.entry(id.clone()).or_default();
        task.times += 1;
        task.last = count;
        if task.times == 1 {
            task.before = count;
        }
        if (task.times >= 3 && count > task.before) || (task.failed && !others) {
            (task.failed, task.times) = (true, 0);
            return Verdict::Used(vec![Reason::Error], None);
        }
        if self.stopping_at.is_some() { Verdict::Released } else { Verdict::Snooze(ASIDE) }
    }
}

/// What was seen of the processes of a queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct Executed {
    /// Ends that say nothing of programs that could not be executed.
    count: u64,
    /// Tasks by id, whose process said that.
    returned: BTreeMap<String, Returned>,
}

#[derive(Clone, Debug, Default)]
struct Returned {
    /// How often in this attempt.
    times: u32,
    /// The count before the first time of this attempt.
    before: u64,
    /// The count at the last time.
    last: u64,
    /// An attempt has failed for that.
    failed: bool,
}

impl Child {
    /// What the exit status says of the task, if it is an answer at all.
    pub(crate) fn told_by_exit(&self, exit: &Exit) -> Option<Verdict> {
        let Exit::Code { code } = *exit else { return None };
        if !self.is_once || self.killed_at.is_some() || (self.interrupted && code != 0) {
            return None;
        }
        Some(match code {
            0 => Verdict::Done,
            65 => Verdict::Failed,
            126 | 127 => Verdict::Released,
            _ => Verdict::Used(vec![Reason::Error], None),
        })
    }
}
