//! What the actor holds: the session of the moment, the queues that come and go, and what is kept between sessions.
//!
//! All of it belongs to one task and is changed by it alone; work that waits for the broker runs beside it, holds nothing
//! of this, and reports by [`Note`]. So no state is ever seen half changed across an await, and nothing here needs a lock.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use tokio::sync::mpsc;

use super::{
    connections::Attachment,
    note::Note,
    shared::Shared,
    up::{OpenDeliveries, Up},
};
use crate::{
    clock::{Instant, Now},
    transport::{
        Error, Event, QueueSetup, Reply, Request,
        amqp::{dead_letters::sweep_schedule::SweepSchedule, publish::outbox::UnansweredQueues},
    },
};

/// Where the connections stand.
pub(crate) enum State {
    /// A client without work.
    Idle,
    /// Being built.
    Connecting {
        number: u64,
    },
    Up(Box<Up>),
    /// Until the next try.
    Waiting {
        until: Instant,
        error: Error,
    },
    /// For good.
    Refused(Error),
}

impl State {
    /// The session that stands, if one does.
    pub(crate) fn up(&mut self) -> Option<&mut Up> {
        match self {
            Self::Up(up) => Some(up),
            Self::Idle | Self::Connecting { .. } | Self::Waiting { .. } | Self::Refused(_) => None,
        }
    }
}

/// A close that is under way.
pub(crate) struct Closing {
    pub(crate) by: Instant,
    pub(crate) reply: Option<Reply<()>>,
}

/// A queue that is to be added or changed.
pub(crate) struct QueueChange {
    pub(crate) setup: QueueSetup,
    /// Names the try under way; the answer to an earlier one means nothing.
    pub(crate) number: u64,
    /// Tries that failed.
    pub(crate) failures: u32,
    /// When it is tried; `None`: a try is under way.
    pub(crate) until: Option<Instant>,
    /// It is not worked; else it is, and is to be changed.
    pub(crate) is_new: bool,
}

/// A survey that was asked for and is not answered.
pub(crate) struct PendingSurvey {
    pub(crate) serial: u64,
    /// The application whose jobs count, too.
    pub(crate) jobs: Option<String>,
    /// When it is answered with what is known then.
    pub(crate) by: Instant,
    /// Readings are being taken.
    pub(crate) reading: Option<tokio::task::AbortHandle>,
}

impl PendingSurvey {
    /// Whether it still waits for a quiet moment to begin.
    pub(crate) fn waits(&self) -> bool {
        self.reading.is_none()
    }
}

/// The actor.
pub(crate) struct Actor {
    pub(crate) shared: Rc<Shared>,
    pub(crate) state: State,
    pub(crate) attachment: Option<Attachment>,
    /// What was open at the end of a session, or of a queue in one. What was accepted of it goes on in the next session; the rest
    /// is void, unless the master accepts it before it hears of the end.
    pub(crate) earlier_deliveries: OpenDeliveries,
    /// Of the queues that are attached or to be added, by their index.
    pub(crate) credits: BTreeMap<usize, u32>,
    /// Queues to be added or changed.
    pub(crate) queue_changes: BTreeMap<usize, QueueChange>,
    /// Counts the tries to add a queue.
    pub(crate) channel_numbers: u64,
    /// Queues that are to go.
    pub(crate) leaving: BTreeSet<usize>,
    pub(crate) application: Option<String>,
    pub(crate) surveying: Option<PendingSurvey>,
    /// Clients' requests that wait for the first session.
    pub(crate) waiting_requests: Vec<Request>,
    pub(crate) incoming_notes: mpsc::UnboundedReceiver<Note>,
    pub(crate) requests: mpsc::UnboundedReceiver<Request>,
    pub(crate) unanswered_queues: UnansweredQueues,
    /// Counts the tries to build a session.
    pub(crate) builds: u64,
    pub(crate) sessions: u32,
    pub(crate) failures: u32,
    pub(crate) closing: Option<Closing>,
    pub(crate) lease_held: Rc<Cell<bool>>,
    pub(crate) sweeps: SweepSchedule,
    /// The application whose ledger is wanted.
    pub(crate) ledger: Option<String>,
    pub(crate) ledger_held: Rc<Cell<bool>>,
    /// How long the broker bears what is unacknowledged, if it has said so.
    pub(crate) ledger_patience: Rc<Cell<Option<Duration>>>,
}

impl Actor {
    pub(crate) fn emit(&self, event: Event) {
        self.shared.emit(event);
    }

    pub(crate) fn now(&self) -> Now {
        self.shared.now()
    }
}
