//! Kinds with a process for each task: what is started, and what its exit status says.

use std::time::Duration;

use asynctask::{
    master::event::{Event, Once, WorkerId},
    task::{Exit, Reason},
};

use super::{
    actions::pid_of,
    child::{self, Act, Child},
    ledger::Verdict,
    world::World,
};

impl World {
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
        let hand = self.begin(queue, &once.id, once.attempt, &once.payload)?;
        if self.spawn_fails(worker, queue) {
            return Ok(());
        }
        if !self.watch.told_by_exit[queue] {
            self.watch.starts_in_a_row[queue] = 0;
        }
        let (token, deaf) = (hand.token, self.settings.temper.deaf);
        let child = Child::new(queue, name, self.at());
        self.children.insert(worker, Child { is_once: true, ready: true, hands: vec![hand], deaf, ..child });
        let acts = self.errand(queue);
        self.acts(worker, acts);
        self.feed_later(Event::Spawned { worker, pid: pid_of(worker) });
        debug_assert_eq!(token, self.tokens, "the hand is the last one");
        self.not_too_many()
    }

    fn errand(&mut self, queue: usize) -> Vec<(Duration, Act)> {
        let (temper, limit) = (&self.settings.temper, self.settings.queue(queue).timeout);
        let after = self.dice.micros(temper.work);
        if self.is_calm() {
            let after = limit.map_or(after, |limit| after.min(limit / 2));
            return vec![(after, Act::Exit(Exit::Code { code: 0 }))];
        }
        if limit.is_some() && self.dice.chance(temper.hang) {
            return Vec::new();
        }
        let exit = if self.dice.chance(temper.crash) {
            child::signal(self.dice.pick(&["SIGSEGV", "SIGKILL", "SIGTERM"]))
        } else if self.dice.chance(temper.error + temper.retry + temper.failed) {
            Exit::Code { code: self.dice.pick(&[3, 75, 65, 1, 126, 127]) }
        } else {
            Exit::Code { code: 0 }
        };
        vec![(after, Act::Exit(exit))]
    }
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
