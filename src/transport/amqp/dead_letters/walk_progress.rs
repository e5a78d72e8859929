//! How far a walk among dead letters came, for the answer to a request that broke off.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use crate::transport::{
    Error, Walked,
    amqp::{broker_error::Fault, connect::address::Address, publish::bulk_results::BulkResults},
};

/// How far a walk has come; what is known when it is dropped with its session.
#[derive(Default)]
pub(crate) struct Progress {
    walked: Cell<Walked>,
    /// Of the queues that it is done with.
    before: Cell<Walked>,
    /// On its way back to work, and not yet removed.
    pub(crate) window: RefCell<Option<Rc<BulkResults>>>,
}

impl Progress {
    /// So far it came in the queue of the moment.
    pub(crate) fn set(&self, walked: Walked) {
        self.walked.set(self.before.get().and(walked));
    }

    /// It goes on in another queue.
    pub(crate) fn next(&self) {
        self.before.set(self.walked.get());
    }

    /// The error of a walk that broke off.
    pub(crate) fn error(&self, cause: Error) -> Error {
        let unknown = self.window.borrow().as_ref().map_or(0, |results| results.possible());
        Error::unfinished(self.walked.get(), unknown, cause)
    }
}

/// Why a walk went no further.
pub(crate) enum WalkError {
    Fault(Fault),
    /// The work queue did not take a task.
    Unstored(Error),
}

impl From<Fault> for WalkError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl WalkError {
    pub(crate) fn error(self, address: &Address, queue: &str) -> Error {
        match self {
            Self::Fault(fault) => address.fault(queue, fault),
            Self::Unstored(error) => error,
        }
    }
}
