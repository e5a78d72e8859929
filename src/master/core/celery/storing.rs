//! Results of revoked tasks that are not here: they wait at the broker, perhaps for hours, or another node has them, and whoever waits
//! for such a task is to hear of it at once, as with Celery's workers.
//!
//! One worker of each kind of application is asked, since each kind may have a result backend of its own. It looks first whether
//! another node has begun the task, and does it beside its tasks: it may be busy, or its backend away. So whoever asks waits for a
//! time of its own choice; the result is stored in any case when the task comes and is dropped.

use serde_json::json;

use super::super::{
    Core,
    event::{Action, WorkerId},
    state::{celery::Storing, slot::Phase},
};
use crate::{control::types::Answer, frames};

/// Orders whose answers wait for workers. The oldest of more is answered: its worker may be of a version that answers nothing.
const STORING: usize = 256;

impl Core {
    /// Asks workers to store that these are revoked. `None`: the answer comes when they have.
    pub(in crate::master::core) fn store_revoked(&mut self, number: u64, ids: &[String]) -> Option<Answer> {
        let workers = self.workers_that_store();
        if workers.is_empty() || ids.is_empty() {
            return Some(Answer::said("no result is stored: no worker has a result backend"));
        }
        let frame = frames::celery::control("revoke", &json!({ "task_id": ids }), Some(number));
        for worker in &workers {
            if let Some(life) = self.slots[worker.slot].life_of(*worker) {
                life.last_sent = None;
            }
            self.actions.push(Action::Send { worker: *worker, frame: frame.clone() });
        }
        self.celery.storing.push(Storing { number, workers });
        if self.celery.storing.len() > STORING {
            let oldest = self.celery.storing.remove(0);
            self.stored(oldest.number);
        }
        None
    }

    /// One worker of each kind that runs an application: one that holds nothing, if there is any.
    fn workers_that_store(&self) -> Vec<WorkerId> {
        let mut chosen = Vec::<(&str, usize, WorkerId)>::new();
        for slot in &self.slots {
            let pool = &self.pools[slot.queue];
            let lives = slot.process().filter(|life| {
                pool.celery.is_some()
                    && life.wants_celery
                    && life.end_due.is_none()
                    && matches!(life.phase, Phase::Working { .. })
            });
            let Some(life) = lives else { continue };
            let (kind, held) = (pool.plan.settings.kind.as_str(), life.in_flight.len());
            match chosen.iter_mut().find(|(of, ..)| *of == kind) {
                None => chosen.push((kind, held, life.id)),
                Some(other) if held < other.1 => *other = (kind, held, life.id),
                Some(_) => {}
            }
        }
        chosen.into_iter().map(|(_, _, worker)| worker).collect()
    }

    /// A worker has done what a `control` frame asked for.
    pub(in crate::master::core) fn controlled(&mut self, worker: WorkerId, ticket: u64) {
        self.no_longer_stores(worker, |number| number == ticket);
    }

    /// A process has ended that may have had results to store.
    pub(in crate::master::core) fn storing_ended(&mut self, worker: WorkerId) {
        self.no_longer_stores(worker, |_| true);
    }

    fn no_longer_stores(&mut self, worker: WorkerId, is_it: impl Fn(u64) -> bool) {
        for storing in self.celery.storing.iter_mut().filter(|storing| is_it(storing.number)) {
            storing.workers.retain(|other| *other != worker);
        }
        let is_stored = |storing: &mut Storing| storing.workers.is_empty();
        let stored: Vec<Storing> = self.celery.storing.extract_if(.., is_stored).collect();
        for Storing { number, .. } in stored {
            self.stored(number);
        }
    }

    fn stored(&mut self, number: u64) {
        self.actions.push(Action::Answer { number, answer: Answer::said("stored") });
    }
}
