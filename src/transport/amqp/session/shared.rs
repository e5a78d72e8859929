//! What the actor and each of its sessions use: the address, the clock, the ways out, and what is known of queues for as long
//! as the process lives.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use tokio::sync::mpsc;

use super::note::{Note, Notes};
use crate::{
    clock::{Clock, Instant, Now},
    transport::{
        Event, Events,
        amqp::{
            connect::address::Address,
            queues::{counts::DepthCounter, foreign_queues::ForeignQueues, in_transit::InTransit},
            stopped::known::StoppedJobs,
        },
    },
};

/// What outlives a session.
pub(crate) struct Shared {
    pub(crate) address: Rc<Address>,
    pub(crate) events: Events,
    pub(crate) clock: Clock,
    /// This machine's name.
    pub(crate) host: String,
    /// Where work beside the actor reports to.
    pub(crate) notes: Notes,
    /// What is known about queues that others have declared.
    pub(crate) foreign_queues: Rc<ForeignQueues>,
    pub(crate) in_transit: Rc<RefCell<InTransit>>,
    pub(crate) depth_counter: Rc<DepthCounter>,
    /// Void rounds and frozen jobs.
    pub(crate) stopped: RefCell<StoppedJobs>,
    consumer_tags: Cell<u64>,
}

impl Shared {
    /// With the receiver of the notes.
    pub(crate) fn new(address: Address, events: Events) -> (Rc<Self>, mpsc::UnboundedReceiver<Note>) {
        let (notes, incoming_notes) = mpsc::unbounded_channel();
        let (address, clock) = (Rc::new(address), Clock::start());
        let warnings = notes.clone();
        let warn = move |text| drop(warnings.send(Note::Warning(text)));
        let shared = Self {
            depth_counter: Rc::new(DepthCounter::new(Rc::clone(&address), clock)),
            address,
            events,
            clock,
            host: nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            notes,
            foreign_queues: Rc::new(ForeignQueues::new(warn)),
            in_transit: Rc::default(),
            stopped: RefCell::default(),
            consumer_tags: Cell::default(),
        };
        (Rc::new(shared), incoming_notes)
    }

    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    /// Sends an event to the transport's owner, which may be gone.
    pub(crate) fn emit(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// Something happened to a delivery: the readings of a survey under way are worth nothing.
    pub(crate) fn moved(&self, at: Instant) {
        self.in_transit.borrow_mut().moved_at = at;
    }

    /// A consumer tag that no consumer of this process had.
    pub(crate) fn next_consumer_tag(&self) -> String {
        self.consumer_tags.set(self.consumer_tags.get() + 1);
        format!("asynctask-{}-{}", std::process::id(), self.consumer_tags.get())
    }
}
