//! What all parts of the node share, on its thread alone: its settings, its clocks, and what it remembers.

use std::{
    cell::{Cell, RefCell},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

use super::{
    budget::Seldom,
    facts::{Broker, Facts},
    lamport::Lamport,
    revoked::Revoked,
    rusage,
};
use crate::{
    clock::{Clock, Instant},
    control::{server::Asked, types::Command},
    logging::{Level, Logger, MASTER},
    plural,
};

/// Events of tasks are told for this long after somebody asked for them. Flower asks every 5 s; Celery's own workers never stop.
const WANTED_FOR: Duration = Duration::from_mins(1);
/// At most one line about requests that were ignored, and one about events that were dropped, in so long.
const BETWEEN_LINES: Duration = Duration::from_mins(1);

/// The node's part of the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its name, `asynctask@host`. No two nodes of a virtual host have the same.
    pub name: String,
    /// When events of tasks are told.
    pub events: EventsWanted,
    /// Remote control may change something (`control: work`).
    pub works: bool,
    /// Never create queues (`declare: passive`): what is revoked is forgotten with the master, unless the queue for it exists.
    pub passive: bool,
}

/// When events of tasks are told; those of the node are told always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventsWanted {
    /// While somebody has asked for them within a minute.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// Numbers that the node reads from another thread.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Tasks in hand.
    pub(super) active: AtomicU64,
    /// Tasks that workers were given since the start.
    pub(super) processed: AtomicU64,
    /// Events that had no room.
    pub(super) dropped: AtomicU64,
}

/// The shared state.
pub(super) struct State {
    pub(super) settings: Settings,
    pub(super) logger: Logger,
    pub(super) commands: mpsc::UnboundedSender<Asked>,
    pub(super) counts: Arc<Counts>,
    pub(super) clock: Clock,
    pub(super) lamport: Cell<Lamport>,
    pub(super) revoked: RefCell<Revoked>,
    /// Where it is connected to.
    pub(super) broker: RefCell<Broker>,
    /// When somebody asked for events of tasks.
    asked_for_events: Cell<Option<Instant>>,
    /// Whether a session stands.
    pub(super) up: Cell<bool>,
    /// What the core was told last about events.
    told: Cell<bool>,
    ignored: Cell<Seldom>,
    dropped: Cell<Seldom>,
    denied: Cell<Seldom>,
    remembered: Cell<Option<oneshot::Sender<()>>>,
}

impl State {
    pub(super) fn new(
        settings: Settings,
        logger: Logger,
        commands: mpsc::UnboundedSender<Asked>,
        counts: Arc<Counts>,
        remembered: oneshot::Sender<()>,
    ) -> Self {
        Self {
            settings,
            logger,
            commands,
            counts,
            clock: Clock::start(),
            lamport: Cell::default(),
            revoked: RefCell::default(),
            broker: RefCell::default(),
            asked_for_events: Cell::new(None),
            up: Cell::new(false),
            told: Cell::new(false),
            ignored: Cell::new(Seldom::every(BETWEEN_LINES)),
            dropped: Cell::new(Seldom::every(BETWEEN_LINES)),
            denied: Cell::new(Seldom::every(BETWEEN_LINES)),
            remembered: Cell::new(Some(remembered)),
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now().at
    }

    /// Something is sent: what the clock shows for it.
    pub(super) fn forward(&self) -> u64 {
        let mut lamport = self.lamport.get();
        let value = lamport.forward();
        self.lamport.set(lamport);
        value
    }

    /// Something came whose sender's clock showed this.
    pub(super) fn adjust(&self, other: u64) {
        let mut lamport = self.lamport.get();
        lamport.adjust(other);
        self.lamport.set(lamport);
    }

    pub(super) fn facts(&self) -> Facts {
        Facts {
            node: self.settings.name.clone(),
            clock: self.lamport.get().value(),
            uptime: self.now().since_start().as_secs(),
            pid: std::process::id(),
            broker: self.broker.borrow().clone(),
            rusage: rusage::read(),
        }
    }

    pub(super) fn log(&self, level: Level, text: &str) {
        self.logger.line(level, MASTER, text);
    }

    /// The core was told what an earlier life has stored, or will not be.
    pub(super) fn remembered(&self) {
        if let Some(remembered) = self.remembered.take() {
            // Whoever waited may have given up.
            let _ = remembered.send(());
        }
    }

    /// Somebody asks for events of tasks. Whether they were told before.
    pub(super) fn ask_for_events(&self) -> bool {
        let before = self.events_wanted();
        self.asked_for_events.set(Some(self.now()));
        self.tell_wanted();
        before
    }

    /// Somebody wants no more of them. Whether they were told before.
    pub(super) fn end_events(&self) -> bool {
        let before = self.events_wanted();
        self.asked_for_events.set(None);
        self.tell_wanted();
        before
    }

    fn events_wanted(&self) -> bool {
        match self.settings.events {
            EventsWanted::On => true,
            EventsWanted::Off => false,
            EventsWanted::Auto => self.asked_for_events.get().is_some_and(|asked| asked + WANTED_FOR > self.now()),
        }
    }

    /// Tells the core whether to tell of tasks, if that has changed. Without a session nobody hears.
    pub(super) fn tell_wanted(&self) {
        let wanted = self.up.get() && self.events_wanted();
        if self.told.replace(wanted) != wanted {
            // Nobody waits for this answer.
            let (reply, _) = oneshot::channel();
            let asked = Asked { command: Command::CeleryEvents { wanted }, by: self.by(), reply };
            let _ = self.commands.send(asked);
        }
    }

    /// Who asks for what is done.
    pub(super) fn by(&self) -> String {
        format!("Celery's remote control ({})", self.settings.name)
    }

    /// Requests that were not read, or not answered.
    pub(super) fn ignore(&self, requests: u64) {
        let mut ignored = self.ignored.get();
        if let Some(count) = ignored.count(self.now(), requests) {
            self.log(
                Level::Warning,
                &format!(
                    "Celery node {}: {} ignored: unreadable, too long or too many",
                    self.settings.name,
                    plural::were(count, "request")
                ),
            );
        }
        self.ignored.set(ignored);
    }

    /// A request that would change something, where nothing may be changed. Often nobody waits for its reply.
    pub(super) fn deny(&self, method: &str) {
        let mut denied = self.denied.get();
        if let Some(count) = denied.count(self.now(), 1) {
            let more = if count > 1 { format!(" ({} more before it)", count - 1) } else { String::new() };
            self.log(
                Level::Warning,
                &format!(
                    "Celery node {}: refused a request for {method}{more}, as the settings say `celery: {{ control: look }}`",
                    self.settings.name
                ),
            );
        }
        self.denied.set(denied);
    }

    /// Events that nobody will hear.
    pub(super) fn drop_events(&self, events: u64) {
        let mut dropped = self.dropped.get();
        if let Some(count) = dropped.count(self.now(), events) {
            self.log(
                Level::Warning,
                &format!(
                    "Celery node {}: {} dropped, which monitors will not see",
                    self.settings.name,
                    plural::were(count, "event")
                ),
            );
        }
        self.dropped.set(dropped);
    }
}
