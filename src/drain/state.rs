//! The state of a drain: one queue, its worker in this process, and the transport with what it said too early.

use std::{io, time::Duration};

use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
};

use crate::{
    clock::{Clock, Instant, RunningClock},
    master::core::foreground::ForegroundQueue,
    task::Delivery,
    transport::{self, Event, Transport},
    worker::Foreground,
};

/// How long the transport may store nothing before that is an error.
pub(super) const STALL_LIMIT: Duration = Duration::from_secs(30);

/// A drain of one queue.
pub(super) struct Drain {
    pub(super) queue: ForegroundQueue,
    pub(super) passive: bool,
    pub(super) wants_properties: bool,
    pub(super) worker: Foreground,
    pub(super) transport: Box<dyn Transport>,
    pub(super) events: mpsc::UnboundedReceiver<Event>,
    /// For waiting alone: user code runs outside of it.
    pub(super) runtime: Runtime,
    pub(super) clock: Clock,
    /// What waiting for the transport is measured by: user code is no part of it, nor is time in which nothing ran.
    pub(super) waiting: RunningClock,
    /// Tasks that came before the confirmation of the one before them.
    pub(super) early: Vec<Delivery>,
    /// Settlements of the task in hand that the transport has not answered. An answer does not name the settlement that it is
    /// to, and an acceptance has one of its own: the task is settled when this is 0.
    pub(super) unanswered: usize,
    /// A survey was answered before the confirmation.
    pub(super) surveyed: bool,
    /// Since when the transport can store nothing, and why.
    pub(super) stalled: Option<(Instant, transport::Error)>,
    pub(super) done: u64,
}

impl Drain {
    /// Nothing is done yet. `events` is what `transport` reports to.
    ///
    /// # Errors
    /// If no runtime can be made: the system's limits.
    pub(super) fn of(
        queue: ForegroundQueue,
        worker: Foreground,
        transport: Box<dyn Transport>,
        events: mpsc::UnboundedReceiver<Event>,
    ) -> io::Result<Self> {
        Ok(Self {
            queue,
            passive: false,
            wants_properties: false,
            worker,
            transport,
            events,
            runtime: Builder::new_current_thread().enable_time().build()?,
            clock: Clock::start(),
            waiting: RunningClock::start(),
            early: Vec::new(),
            unanswered: 0,
            surveyed: false,
            stalled: None,
            done: 0,
        })
    }
}
