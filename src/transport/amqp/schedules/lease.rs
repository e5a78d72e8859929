//! The lease of the one scheduler of an application: asking for it, keeping it, and firing while it is held.
//!
//! It has a connection of its own, so that whatever the broker does to it costs no session. What it means to hold it is
//! in `held_lease`.

use std::rc::Rc;

use tokio::sync::mpsc;

use super::lease_holder::{FireRequest, Lease, LeaseHolder};
use crate::{
    clock::Timestamp,
    task::NewTask,
    transport::amqp::{publish::submit::new_messages, session::state::Actor},
};

impl Actor {
    /// Begins to ask for the lease, if it is wanted and not asked for already.
    pub(crate) fn lease(&mut self) {
        let (flag, events) = (Rc::clone(&self.lease_held), self.shared.events.clone());
        let (address, clock) = (Rc::clone(&self.shared.address), self.shared.clock);
        let Some(up) = self.state.up() else { return };
        let Some(application) = self.application.clone().filter(|_| up.lease.is_none()) else { return };
        let (requests, taken) = mpsc::unbounded_channel();
        up.lease = Some(Lease { requests });
        let queue = format!("asynctask.schedules.{application}");
        let holder = LeaseHolder { outbox: up.outbox.clone(), address, clock, queue, events, flag };
        up.tasks.spawn_local(holder.keep(taken));
    }

    /// Fires a moment, if we hold the lease.
    pub(crate) fn fire(&mut self, schedule: String, moment: Timestamp, task: Option<NewTask>) {
        let task = task.map(|task| new_messages(&self.shared, &[task])).transpose();
        let task = task.map(|messages| messages.and_then(|messages| messages.into_iter().next()));
        let lost = Some(self.shared.address.lost("this is not the scheduler"));
        let request = FireRequest { schedule, moment, task, events: self.shared.events.clone(), lost };
        // Without a lease, or when its task is gone, the request is dropped, and that answers it.
        if let Some(lease) = self.state.up().and_then(|up| up.lease.as_ref()) {
            let _ = lease.requests.send(request);
        }
    }

    /// Gives the lease back.
    pub(crate) fn release_lease(&mut self) {
        self.application = None;
        self.lease_held.set(false);
        if let Some(up) = self.state.up() {
            up.lease = None;
        }
    }
}
