//! The loop: waits for the next event or deadline, tells the core, and has its actions performed.

use std::time::Duration;

use futures_util::future::join;
use tokio::sync::{mpsc, oneshot};

use super::{
    commands::counts,
    orphans::OrphansEnded,
    state::{GROUP, GROUP_LIMIT, Shell},
};
use crate::{
    clock::Now,
    control::server::Asked,
    exit_code::{Code, Error},
    logging::{Level, MASTER},
    master::{core::event::Event, finished::Finished},
    metrics::{self, Question},
    process::{Signal, Signals, Watch},
    systemd::Phase,
    transport::{self, Depth, Request},
};

/// How long the transport may take to close.
const CLOSE_LIMIT: Duration = Duration::from_secs(6);
/// While every worker that ended a task has at least 16 more, the loop sleeps for this long between two turns, so that one turn
/// takes many outcomes, and a worker's write does not wake the loop on that worker's processor.
const GATHER_FOR: Duration = Duration::from_micros(150);
/// Transport events taken in one turn.
const TURN: usize = 256;

/// Leaves what comes until more has come.
#[expect(clippy::disallowed_methods, reason = "the pause is the purpose: many events in one turn")]
fn gather_events() {
    std::thread::sleep(GATHER_FOR);
}

/// What comes from other threads and tasks, as the loop receives it.
pub(in crate::master) struct EventReceivers {
    pub(in crate::master) transport: mpsc::UnboundedReceiver<transport::Event>,
    pub(in crate::master) commands: mpsc::UnboundedReceiver<Asked>,
    pub(in crate::master) questions: mpsc::UnboundedReceiver<Question>,
    pub(in crate::master) orphans_ended: mpsc::UnboundedReceiver<OrphansEnded>,
    /// Senders of the channels, which without a control socket and metrics have no other one and must not end.
    pub(in crate::master) _senders: metrics::Master,
}

impl Shell {
    /// Waits for events and handles them until the run has ended.
    pub(in crate::master) async fn run(
        mut self,
        signals: &Signals,
        arrivals: &Watch,
        mut receivers: EventReceivers,
    ) -> Result<Finished, Error> {
        self.handle(Event::Begun);
        self.begin_coordinating();
        let mut batch = Vec::with_capacity(TURN);
        while self.finished.is_none() && !self.closing {
            self.flush_frames();
            if self.core.take_has_backlog() {
                gather_events();
            }
            self.notify();
            let tally = self.core.tally();
            self.celery.count(self.core.in_hand() as u64, tally.processed + tally.failed);
            let wait = self.wait();
            self.clock.sleeps(wait);
            self.freed_places = 0;
            tokio::select! {
                biased;
                ready = arrivals.readable() => {
                    ready.map_err(|error| Error::new(Code::Internal, format!("cannot wait for signals: {error}")))?;
                    self.handle_signals(&signals.drain());
                }
                read = self.reading.done() => self.settings_read(read),
                // Before the flood of tasks: whether the loop turns is asked while much is done, too.
                Some(question) = receivers.questions.recv() => self.answer_question(question),
                () = self.inbox.filled() => self.take_inbox(),
                count = receivers.transport.recv_many(&mut batch, TURN) => {
                    if count == 0 {
                        return Err(Error::new(Code::Internal, "the transport's thread has ended"));
                    }
                    for event in batch.drain(..) {
                        self.transport_event(event);
                    }
                }
                Some(found) = self.jobs.found.recv() => self.jobs_found(found),
                Some(command) = receivers.commands.recv() => self.command(command),
                Some(orphans_ended) = receivers.orphans_ended.recv() => self.orphans_ended(orphans_ended),
                () = tokio::time::sleep(wait) => {}
            }
            self.take_inbox();
            self.keep_time(signals, &mut receivers.transport);
            if self.core.phase() == Phase::Stopping {
                self.logger.hurry();
            }
            let seat_waits = self.core.take_seat_waits();
            if !self.settlements.is_empty()
                && ((self.freed_places > 0 && seat_waits)
                    || self.settlements.len() >= GROUP
                    || self.clock.now().at.since(self.settlements_since) >= GROUP_LIMIT)
            {
                self.flush_settlements();
            }
        }
        // A stop that ended at once was not told yet.
        self.notify();
        self.flush_settlements();
        let left = self.end_coordinating(&mut receivers.transport).await;
        let depths = self.count_what_is_left().await;
        self.find_worked_jobs().await;
        let (reply, closed) = oneshot::channel();
        self.transport.ask(Request::Close { reply });
        // Whatever is not settled by now comes again: closing late or not at all loses nothing.
        let _ = join(tokio::time::timeout(CLOSE_LIMIT, closed), self.celery.close()).await;
        if self.closing {
            for event in left {
                self.transport_event(event);
            }
            while let Ok(event) = receivers.transport.try_recv() {
                self.transport_event(event);
            }
            self.handle(Event::Closed);
        }
        if let (Some(finished), Some(depths)) = (&mut self.finished, depths) {
            finished.report_left(&depths);
        }
        self.finished.ok_or_else(|| Error::new(Code::Internal, "the event loop ended without a decision"))
    }

    /// Counts the tasks that wait, of a run that was to halt when empty and could not.
    async fn count_what_is_left(&self) -> Option<Vec<(String, Option<Depth>)>> {
        let ended_well = self.finished.as_ref().is_some_and(|finished| finished.code == Code::Ok);
        if !self.core.halts_when_empty() || ended_well {
            return None;
        }
        let queues = self.core.queues();
        let names: Vec<String> = queues.iter().map(|dead| dead.queue.clone()).collect();
        let (reply, counted) = oneshot::channel();
        self.transport.ask(Request::Depths { queues, reply });
        let depths = counts(counted).await;
        let depths = depths.into_iter().map(Some).chain(std::iter::repeat(None));
        Some(names.into_iter().zip(depths).collect())
    }

    fn notify(&mut self) {
        if let Some(notifier) = &mut self.notifier {
            let core = &self.core;
            let phase = match core.phase() {
                Phase::Running if self.reading.is_under_way() => Phase::Reloading,
                phase => phase,
            };
            notifier.tell(self.clock.real(), phase, || core.headline());
        }
    }

    pub(super) fn take_inbox(&mut self) {
        loop {
            let events = self.inbox.take();
            if events.is_empty() {
                return;
            }
            // What workers say together is told with one look at the clock. Other events may take their time, as a start does.
            let mut now = self.now();
            for event in events {
                if !matches!(event, Event::Said { .. }) {
                    now = self.now();
                }
                self.handle_at(now, event);
            }
        }
    }

    /// Signals to stop count before deaths: a TERM to everybody is a stop, not a crash of the workers.
    pub(super) fn handle_signals(&mut self, arrived: &[Signal]) {
        for signal in arrived {
            match signal {
                Signal::Terminate | Signal::Interrupt => self.handle(Event::StopAsked),
                Signal::Quit => self.handle(Event::InterruptAsked),
                Signal::User1 => self.log_status(),
                Signal::HangUp => self.hang_up(),
                Signal::Child => {}
            }
        }
        if arrived.contains(&Signal::Child) {
            self.reap();
            self.log_stopped();
        }
    }

    pub(super) fn log_status(&self) {
        let now = self.clock.now().at;
        for line in self.core.status_lines(now) {
            self.logger.line(Level::Info, MASTER, &line);
        }
    }

    pub(super) fn handle(&mut self, event: Event) {
        let now = self.now();
        self.handle_at(now, event);
    }

    fn handle_at(&mut self, now: Now, event: Event) {
        let mut actions = std::mem::take(&mut self.actions);
        self.core.handle(now, event, &mut actions);
        for action in actions.drain(..) {
            self.perform(action, now);
        }
        // One event may have had very many.
        actions.shrink_to(TURN);
        self.actions = actions;
    }
}
