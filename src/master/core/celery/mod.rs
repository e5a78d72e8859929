//! The core's chapter on Celery's queues: what is different about tasks whose messages are Celery's.
//!
//! | where | what |
//! | --- | --- |
//! | here | limits, rates and payloads of tasks; what is done when one ends |
//! | `lost` | results of tasks that no worker could report on |
//! | `events` | what monitors hear of tasks |
//! | `revoked` | tasks that are not to be run any more |
//! | `storing` | results of such tasks that are not here |
//! | `commands` | what the node of this master asks for |
//!
//! A worker that wants `celery` runs a Celery application: it gets bodies as they came, and stores results by itself. Every other
//! kind gets the name and the arguments of a task, and the master sends its result to the queue where the producer waits.
//!
//! A queue without `protocol: celery` has nothing of this: it costs one look at an empty place.

mod commands;
mod events;
mod lost;
mod revoked;
mod storing;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, sync::Arc, time::Duration};

use serde_json::json;

use super::{
    Core,
    event::{Action, WorkerId},
    state::{
        celery::{CeleryPool, WorkedBy},
        in_flight::InFlight,
        replies::Reply,
        slot::Slot,
        task_rates::Admission,
        timers::Owner,
    },
};
use crate::{
    celery::{message, payload, result},
    frames::{self, Ready, celery::Application},
    logging::Level,
    outcome::Report,
    payload::Body,
    task::{Delivery, Handle, Settlement, Task},
};

impl Core {
    /// The limit of one run of a task: the queue's, or its own if that is shorter.
    pub(super) fn time_limit_of(&self, index: usize, task: &Task) -> Option<Duration> {
        let pool = &self.pools[index];
        let of_queue = pool.plan.settings.timeout;
        let Some(celery) = &pool.celery else { return of_queue };
        let name = task.name.as_deref().unwrap_or_default();
        // One that a person takes away leaves that of the application's settings.
        let set = || self.celery.limits.get(name).map(|limits| limits.hard.or(celery.of_conf));
        let registered = || celery.application()?.tasks.get(name)?.time_limit;
        let own = task.time_limit.or_else(|| set().unwrap_or_else(registered));
        of_queue.into_iter().chain(own).min()
    }

    /// A worker is ready: what it told of its application counts from now on.
    pub(super) fn celery_ready(&mut self, worker: WorkerId, ready: &Ready) {
        let index = self.slots[worker.slot].queue;
        let Some(celery) = &mut self.pools[index].celery else { return };
        if !ready.wants.celery {
            celery.worked_by = WorkedBy::Plain;
            self.take_rates_of(index, &Application::default());
            while let Some(lost) = self.pools[index].celery.as_mut().and_then(|celery| celery.next_lost()) {
                self.reply_lost(&lost);
            }
            return;
        }
        let application = ready.celery.as_deref().cloned().unwrap_or_default();
        self.take_rates_of(index, &application);
        if let Some(celery) = &mut self.pools[index].celery {
            celery.of_conf = application.time_limit;
            celery.worked_by = WorkedBy::Application(Arc::new(application));
        }
        for (name, limits) in &self.celery.limits {
            self.actions.push(Action::Send { worker, frame: commands::time_limit_frame(name, *limits) });
        }
        if self.celery.tells_events {
            self.actions
                .push(Action::Send { worker, frame: frames::celery::control("enable_events", &json!({}), None) });
        }
    }

    fn take_rates_of(&mut self, index: usize, application: &Application) {
        let free = self.pools[index].waiting.rates.registered(application);
        self.pools[index].waiting.put_back_all(free);
        self.look_at_rates(index);
    }

    /// A queue has other settings: perhaps its messages are Celery's now, or are not any more. Workers of another kind find what
    /// belongs to it as it is.
    pub(super) fn look_at_protocol(&mut self, index: usize) {
        if self.pools[index].celery.is_some() == self.pools[index].plan.settings.protocol.is_celery() {
            return;
        }
        self.drop_lost_of_gone(index);
        let pool = &mut self.pools[index];
        pool.celery = CeleryPool::of(&pool.plan);
        let lives = self.slots.iter().filter(|slot| slot.queue == index).filter_map(Slot::process);
        let mut ready = lives.filter(|life| life.was_ready).peekable();
        if let Some(celery) = &mut pool.celery
            && ready.peek().is_some()
            && ready.all(|life| !life.wants_celery)
        {
            celery.worked_by = WorkedBy::Plain;
        }
        let held = pool.waiting.rates.forget();
        pool.waiting.put_back_all(held);
    }

    /// The payload of a task of a Celery queue for a kind that is no Celery application. `None`: it gets the body.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn celery_payload(&self, index: usize, slot: usize, task: &Task) -> Result<Option<String>, String> {
        let wants = self.slots[slot].process().is_some_and(|life| life.wants_celery);
        if self.pools[index].celery.is_none() || wants { Ok(None) } else { payload::json(Body::from(task)).map(Some) }
    }

    /// A task of a Celery queue as the log shows it.
    pub(super) fn celery_in_words(task: &Task) -> String {
        let message = message::read(&task.headers, task.properties.as_deref(), &task.body);
        let name = message.name.as_deref().unwrap_or("?");
        let shown = |text: Option<Cow<'_, str>>| text.unwrap_or_default().into_owned();
        format!("{name} {} {}", shown(message.argsrepr), shown(message.kwargsrepr))
    }

    /// A worker begins a task of a Celery queue: the next one of its name has its turn when its interval is over.
    pub(super) fn celery_begun(&mut self, slot: usize, delivery: &Delivery) {
        let Some(celery) = &mut self.pools[delivery.queue.0].celery else { return };
        celery.count_begun(delivery.task.name.as_deref().unwrap_or_default());
        self.tell_started(slot, delivery);
        self.pools[delivery.queue.0].waiting.rates.begun(self.now.at, delivery);
        self.look_at_rates(delivery.queue.0);
    }

    /// A worker has ended a task of a Celery queue. What it stored itself is not sent.
    pub(super) fn celery_reported(&mut self, task: &InFlight, by: usize, outcome: &Report, took: Duration) {
        let delivery = &task.delivery;
        if self.pools[delivery.queue.0].celery.is_none() {
            return;
        }
        self.tell_reported(delivery, outcome, took);
        // Another kind may work the queue by now.
        let is_plain = self.slots[by].process().is_none_or(|life| !life.wants_celery);
        if let Report::Done { given, .. } = outcome
            && is_plain
        {
            let result = given.as_ref().and_then(|given| given.result.as_deref());
            let Some(reply) = self.reply_of(&delivery.task, result::Ended::Succeeded(result)) else { return };
            match delivery.identity {
                _ if task.held || task.accepted => self.celery.replies.wait(delivery.handle, reply),
                Some(identity) => self.celery.replies.wait_void(identity, reply),
                None => {}
            }
        }
    }

    /// A task is settled: whoever waits for its result gets it.
    pub(super) fn reply_settled(&mut self, handle: Handle) {
        if let Some(reply) = self.celery.replies.take(handle) {
            self.send_reply(reply);
        }
    }

    /// The result for a task's producer, if it waits for one.
    fn reply_of(&self, task: &Task, ended: result::Ended<'_>) -> Option<Reply> {
        let (queue, correlation_id) = result::waiting_queue(task)?;
        let body = result::body(&task.id, ended, self.now.wall);
        Some(Reply { queue: queue.to_owned(), correlation_id: correlation_id.to_owned(), body })
    }

    fn send_reply(&mut self, Reply { queue, correlation_id, body }: Reply) {
        self.actions.push(Action::Reply { queue, correlation_id, body });
    }

    /// Whether somebody waits for the result of a task of a kind that is no Celery application.
    pub(super) fn is_result_wanted(&self, index: usize, task: &Task) -> bool {
        let celery = self.pools[index].celery.as_deref();
        celery.is_some_and(|celery| matches!(celery.worked_by, WorkedBy::Plain))
            && result::waiting_queue(task).is_some()
    }

    /// A task is not here any more: the next one of its name may have its turn.
    pub(super) fn left_its_rate(&mut self, delivery: &Delivery) {
        self.pools[delivery.queue.0].waiting.rates.left(delivery);
        self.look_at_rates(delivery.queue.0);
    }

    /// Tasks that wait for their rates are looked at in time.
    pub(super) fn look_at_rates(&mut self, index: usize) {
        if let Some(at) = self.pools[index].waiting.rates.next_due() {
            self.timers.arm(Owner::Queue(index), at.max(self.now.at));
        }
    }

    /// Gives a task back that may begin now. Any other one waits for its own rate, and comes back to the front of the line in its
    /// moment; if that is far, it is put off: a broker takes back what is not acknowledged for long.
    pub(super) fn admit(&mut self, index: usize, delivery: Delivery) -> Option<Delivery> {
        match self.pools[index].waiting.rates.admit(self.now.at, delivery) {
            Admission::Begins(delivery) => return Some(delivery),
            Admission::Held => self.look_at_rates(index),
            Admission::TooLong(delivery, after) => {
                let (id, seconds) = (delivery.task.id.clone(), after.as_secs());
                self.log(Level::Debug, || format!("Task {id} is put off for {seconds} s by the rate of its name"));
                self.settle_unheld(delivery.handle, delivery.identity, Settlement::Snooze { after, memo: None });
                self.no_longer_suspect(&delivery);
                self.renew_credit(index);
            }
        }
        None
    }
}
