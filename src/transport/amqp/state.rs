//! What the actor holds: the session of the moment, the deliveries in the master's hands, and what work beside it
//! tells it.
//!
//! All of it belongs to one task and is changed by it alone; work that waits for the broker runs beside it, holds nothing
//! of this, and reports by [`Note`]. So no state is ever seen half changed across an await, and nothing here needs a lock.

use std::{collections::HashMap, rc::Rc, time::Duration};

use futures_util::{future::LocalBoxFuture, stream::FuturesUnordered};
use lapin::{BasicProperties, Consumer};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    batch::Unwritten,
    intake::Further,
    intakes::Intakes,
    lease::Lease,
    moves::{Parcel, Store},
    session::{Built, Opened, Session},
    sweeps::Swept,
    topology::Fault,
    untaken::Offered,
};
use crate::{
    clock::Instant,
    task::{Handle, Settlement, Task},
    transport::Error,
};

/// What work beside the actor reports to it.
pub(super) enum Note {
    /// A session was built, or could not be.
    Built { number: u64, built: Box<Result<Built, Error>> },
    /// A session cannot go on.
    Broken { session: u64, cause: String },
    /// A queue that was to be added has its channel and all that it needs, or cannot have it.
    Opened { session: u64, number: u64, queue: usize, opened: Result<Opened, Fault> },
    /// A change of consumers is done, on the channel of this number.
    Switched { session: u64, queue: usize, number: u64, consumer: Option<Consumer>, prefetch: u16 },
    /// The channel of this number is of no use any more.
    Ended { session: u64, queue: usize, number: u64, fault: Fault },
    /// The copy of a task is confirmed.
    Copied { session: u64, handle: Handle, is_dead: bool },
    /// Dead-letter queues were swept.
    Swept { session: u64, swept: Vec<(String, Swept)> },
    /// The follow-up tasks of a `Done` are confirmed.
    FollowedUp { session: u64, handle: Handle },
    /// The follow-up tasks of a `Done` can never be stored.
    Unstorable { session: u64, handle: Handle, error: Error },
    /// A message of this queue was refused by the queue that it belongs to, or is taken at last.
    Offered { session: u64, queue: usize, to: String, offered: Offered },
    /// A task that the master has not seen was moved on.
    Passed { session: u64, queue: usize, number: u64, tag: u64 },
    /// The readings of a survey agree.
    Surveyed { serial: u64, empty: bool, again_in: Duration },
    /// The readings of a survey were disturbed.
    Disturbed { serial: u64 },
    /// What clients' requests wait for.
    Waits(String),
    /// Something to be read by a person.
    Warning(String),
}

/// Where notes go.
pub(super) type Notes = mpsc::UnboundedSender<Note>;

/// A delivery in the master's hands.
#[expect(clippy::struct_excessive_bools, reason = "an acceptance and a settlement may be under way at the same time")]
pub(super) struct Open {
    pub(super) queue: usize,
    pub(super) tag: u64,
    pub(super) properties: BasicProperties,
    pub(super) task: std::sync::Arc<Task>,
    /// What is to be done with it if the master does not know it.
    pub(super) further: Option<Further>,
    /// Removed from its queue already.
    pub(super) accepted: bool,
    /// … and the acknowledgement is written.
    pub(super) acknowledged: bool,
    /// Its settlement is under way.
    pub(super) settling: bool,
    /// … and is still a copy or tasks that follow.
    pub(super) moving: bool,
    /// Its channel is closed, so that it comes again. The settlement under way is finished without an acknowledgement.
    pub(super) is_loose: bool,
    /// Of one that was accepted: that settlement, in case the session ends before it is stored.
    pub(super) last: Option<Settlement>,
}

/// A session that stands.
pub(super) struct Up {
    pub(super) session: Rc<Session>,
    pub(super) store: Store,
    pub(super) intakes: Intakes,
    pub(super) open: HashMap<Handle, Open>,
    /// Copies to be made, gathered so that those for one queue go together.
    pub(super) moving: Vec<(Handle, Parcel)>,
    pub(super) tasks: JoinSet<()>,
    /// The one of them that only ends with the connection.
    pub(super) watch: tokio::task::AbortHandle,
    /// Another, which nobody waits for at the end.
    pub(super) sweep: Option<tokio::task::AbortHandle>,
    pub(super) lease: Option<Lease>,
    pub(super) sending: FuturesUnordered<LocalBoxFuture<'static, Sent>>,
    pub(super) since: Instant,
}

/// A batch of acknowledgements was written, or not.
pub(super) struct Sent {
    pub(super) queue: usize,
    /// Of the channel.
    pub(super) number: u64,
    pub(super) handles: Vec<Handle>,
    pub(super) written: Result<(), Unwritten>,
}

/// Where the connections stand.
pub(super) enum State {
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
