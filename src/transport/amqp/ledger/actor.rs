//! What the actor does about ledgers: it begins and ends the work of the holder, and hands on what is asked.

use std::{rc::Rc, time::Duration};

use tokio::sync::mpsc;

use super::{
    asking::Asking,
    holder::LedgerHolder,
    pending::{PendingStep, PendingTask},
    request::LedgerRequest,
    step::Storing,
};
use crate::{
    jobs::{
        order::Order,
        record::{Advance, Frozen, JobFilter, Record},
    },
    transport::{
        DeadQueue, Reply, Request,
        amqp::{
            publish::submit::new_messages,
            session::{
                state::{Actor, State},
                up::Up,
            },
        },
    },
};

impl Actor {
    /// Begins to ask for the ledger of an application.
    pub(crate) fn ask_ledger(&mut self, application: String) {
        self.release_ledger();
        self.ledger = Some(application);
        let is_client = self.attachment.is_none();
        match &self.state {
            State::Idle if is_client => self.connect(),
            // A client's connection ended while it was unused.
            State::Up(up) if is_client && !up.session.stands() => self.connect(),
            _ => self.begin_ledger(),
        }
    }

    /// Begins the work that asks for it, if it is wanted and not asked for already.
    pub(crate) fn begin_ledger(&mut self) {
        let (flag, events) = (Rc::clone(&self.ledger_held), self.shared.events.clone());
        let (address, clock) = (Rc::clone(&self.shared.address), self.shared.clock);
        let patience = Rc::clone(&self.ledger_patience);
        let is_client = self.attachment.is_none();
        let Some(up) = self.state.up() else { return };
        let Some(application) = self.ledger.clone().filter(|_| up.ledger.is_none()) else { return };
        let (requests, taken) = mpsc::unbounded_channel();
        (up.ledger, up.ledger_of) = (Some(requests), Some(application.clone()));
        let storing = Storing { outbox: up.outbox.clone(), address, clock };
        let replies = up.replies.clone();
        let holder = LedgerHolder { storing, application, replies, events, is_client, flag, patience };
        up.tasks.spawn_local(holder.keep(taken));
    }

    /// Gives the ledger back.
    pub(crate) fn release_ledger(&mut self) {
        self.ledger = None;
        self.ledger_held.set(false);
        if let Some(up) = self.state.up() {
            up.ledger = None;
        }
    }

    /// Stores a step, if we hold the ledger.
    pub(crate) fn advance_ledger(&mut self, mut advance: Advance) {
        let tasks = std::mem::take(&mut advance.tasks).into_iter().map(|task| {
            let messages = new_messages(&self.shared, std::slice::from_ref(&task));
            PendingTask {
                membership: task.membership.map(|membership| *membership),
                queue: task.queue,
                message: messages.map(|mut messages| messages.swap_remove(0)),
            }
        });
        let tasks = tasks.collect();
        let dead = self.dead_queues(&advance.revived_from);
        let mut superseded = self.dead_queues(&advance.superseded_from);
        superseded.retain(|dead| advance.superseded_from.contains(&dead.queue));
        // Dropped, it is answered.
        let step = PendingStep::new(advance, tasks, (dead, superseded), self.shared.events.clone());
        let is_held = self.ledger_held.get();
        if let Some(ledger) = self.state.up().and_then(|up| up.ledger.as_ref()).filter(|_| is_held) {
            let _ = ledger.send(LedgerRequest::Step(Box::new(step)));
        }
    }

    /// Where the dead letters of these queues lie, and of all that are worked here.
    fn dead_queues(&self, queues: &[String]) -> Vec<DeadQueue> {
        let attached = self.attachment.iter().flat_map(|attachment| attachment.queues.values());
        let mut all: Vec<DeadQueue> = attached.map(|setup| setup.dead.clone()).collect();
        for queue in queues {
            if all.iter().all(|dead| dead.queue != *queue) {
                all.push(DeadQueue::of(queue));
            }
        }
        all
    }
}

impl Up {
    /// Serves what clients ask about jobs.
    pub(crate) fn serve_jobs(&mut self, request: Request) {
        match request {
            Request::Order { application, order, within, reply } => self.order(application, order, within, reply),
            Request::Jobs { application, filter, reply } => self.jobs(application, filter, reply),
            _ => {}
        }
    }

    fn order(&mut self, application: String, order: Box<Order>, within: Duration, reply: Reply<Option<String>>) {
        let (reply, asking) = (self.reply_guard(reply), self.asking(application));
        self.tasks.spawn_local(async move { reply.send_unless_closed(asking.order(&order, within)).await });
    }

    fn jobs(&mut self, application: String, filter: JobFilter, reply: Reply<(Vec<Record>, Vec<Frozen>)>) {
        let (reply, asking) = (self.reply_guard(reply), self.asking(application));
        self.tasks.spawn_local(async move { Box::pin(reply.send_unless_closed(asking.jobs(&filter))).await });
    }

    /// Asks about the jobs of an application.
    pub(crate) fn asking(&self, application: String) -> Asking {
        Asking {
            outbox: self.outbox.clone(),
            address: Rc::clone(&self.shared.address),
            replies: self.replies.clone(),
            clock: self.shared.clock,
            holder: self.ledger.as_ref().filter(|_| self.ledger_of.as_deref() == Some(&application)).cloned(),
            application,
        }
    }
}
