//! Tasks in the memory of this process: for `run`, and for tests that want no files.
//!
//! It keeps the same contract as the others, so that what works here works there. All transports of one name share tables, which
//! live as long as the process; with the empty name each has tables of its own. Each transport has a thread that waits on the
//! tables' one condition: for a request, for what another transport stored, or for the time of a delayed task.
//!
//! A task is due after its delay, however the wall clock is set meanwhile, also where the delay ends at a moment that was named:
//! the task was submitted by this process, in whose life a clock is seldom set.
//!
//! A transport that is dropped without a [`Request::Close`] has died: its deliveries are counted.

mod actor;
mod asked;
mod dead_letters;
mod dead_page;
mod jobs;
mod ledger;
mod shared;
mod tables;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use self::{actor::Actor, shared::Shared, tables::Inbox};
use super::{Events, Request, Transport};

/// A transport on tables in memory.
pub struct Localmem {
    shared: Arc<Shared>,
    member: u64,
}

impl Localmem {
    /// Opens the tables of this name.
    #[must_use]
    pub fn open(name: &str, events: Events) -> Self {
        static NAMED: Mutex<BTreeMap<String, Arc<Shared>>> = Mutex::new(BTreeMap::new());
        let shared = if name.is_empty() {
            Arc::default()
        } else {
            Arc::clone(NAMED.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_default())
        };
        let mut tables = shared.lock();
        let member = tables.next_number();
        tables.members.insert(member, Inbox::default());
        drop(tables);
        let mut actor = Actor::new(Arc::clone(&shared), member, events);
        let name = "localmem".to_owned();
        let started = std::thread::Builder::new().name(name).spawn(move || actor.run());
        // Without a thread there is no inbox: each request is dropped with its reply, which says that the transport is closed.
        if started.is_err() {
            shared.lock().members.remove(&member);
        }
        Self { shared, member }
    }
}

impl Transport for Localmem {
    fn ask(&self, request: Request) {
        if let Some(inbox) = self.shared.lock().members.get_mut(&self.member) {
            inbox.requests.push_back(request);
        }
        self.shared.changed.notify_all();
    }
}

impl Drop for Localmem {
    fn drop(&mut self) {
        if let Some(inbox) = self.shared.lock().members.get_mut(&self.member) {
            inbox.dropped = true;
        }
        self.shared.changed.notify_all();
    }
}
