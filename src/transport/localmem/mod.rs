//! Tasks in the memory of this process: for `run`, and for tests that want no files.
//!
//! It keeps the same contract as the others, so that what works here works there. A store is shared by all
//! transports that were opened with the same name, and lives as long as the process; the empty name is a
//! store of its own. Each transport has a thread that waits on the store's one condition: for a request, for
//! what another transport put there, or for the time of a delayed task.
//!
//! A task is due after its delay, however the wall clock is set meanwhile, also where the delay ends at a moment that somebody
//! named: what is due was submitted by this process, and a clock that is set in its life is the rarer case for tests and `run`.
//!
//! A transport that is dropped without a [`Request::Close`] has died: its deliveries are counted.

mod actor;
mod dead_letters;
mod shared;
mod tables;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use self::{actor::Actor, shared::Shared, tables::Inbox};
use super::{Events, Request, Transport};

/// A transport on a store in memory.
pub struct Localmem {
    shared: Arc<Shared>,
    member: u64,
}

impl Localmem {
    /// Opens the store of this name.
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
        // Without a thread nobody answers; an absent inbox makes every reply say so.
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
