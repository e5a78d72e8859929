//! The loop of a drain: tasks are taken and done, one after the other, until the transport says that nothing is left.

use std::time::Duration;

use tokio::{sync::oneshot, time::timeout};

use super::{
    error::Error,
    settle::{GotPayload, KeyAnswer, drawn},
    state::Drain,
};
use crate::{
    clock::Clock,
    config::Acks,
    frames::{
        self, Payload, TaskFrame,
        to_worker::{self, ToWorker},
    },
    level::Level,
    outcome::Report,
    properties::Properties,
    task::{Delivery, QueueIndex, Reason, Settlement},
    transport::{Event, Request},
};

/// How long the transport may take to close.
const CLOSE_LIMIT: Duration = Duration::from_secs(6);

impl Drain {
    /// Drains the queue to its end.
    pub(super) fn run(mut self) -> Result<u64, Error> {
        let queue = self.queue.settings();
        self.worker.log(Level::Info, &format_args!("Starting; queue={}", queue.name));
        self.transport.ask(Request::Attach { queues: vec![queue.setup()], passive: self.passive });
        let drained = self.work();
        // What is not settled goes back to its queue.
        let (reply, closed) = oneshot::channel();
        self.transport.ask(Request::Close { reply });
        let _ = self.runtime.block_on(async { timeout(CLOSE_LIMIT, closed).await });
        drained?;
        self.worker.log(Level::Info, &"No tasks found in queue");
        self.worker.log(Level::Info, &"Terminating");
        Ok(self.done)
    }

    /// Takes tasks until the transport says that nothing is left. One survey at a time: a reading of a broker takes
    /// its time, and a task that came meanwhile makes its answer worth nothing.
    fn work(&mut self) -> Result<(), Error> {
        let (mut serial, mut is_stale) = (0, false);
        let mut ask_again = None;
        loop {
            match self.next(ask_again)? {
                None => (serial, is_stale, ask_again) = (self.survey(serial), false, None),
                Some(Event::Attached { .. }) => {
                    self.transport.ask(Request::Credit { queue: QueueIndex(0), credit: 1 });
                    serial = self.survey(serial);
                }
                Some(Event::Delivered(deliveries)) => {
                    is_stale = true;
                    self.early.extend(deliveries);
                    while let Some(delivery) = self.early.pop() {
                        self.begin(&delivery)?;
                    }
                    if std::mem::take(&mut self.surveyed) {
                        ask_again = Some(Duration::ZERO);
                    }
                }
                Some(Event::CameAgain(deliveries)) => {
                    is_stale = true;
                    self.pass(deliveries);
                }
                Some(Event::Surveyed { serial: of, empty, again_in, .. }) if of == serial => {
                    if empty && !is_stale {
                        return Ok(());
                    }
                    ask_again = Some(if is_stale { Duration::ZERO } else { again_in });
                }
                Some(Event::Warning(text)) => self.worker.log(Level::Warning, &text),
                Some(Event::Notice(text)) => self.worker.log(Level::Info, &text),
                Some(_) => {}
            }
        }
    }

    fn survey(&self, last: u64) -> u64 {
        self.transport.ask(Request::Survey { serial: last + 1, jobs: None });
        last + 1
    }

    /// Does one task, or refuses it, and waits until that is settled.
    fn begin(&mut self, delivery: &Delivery) -> Result<(), Error> {
        let payload = match self.queue.payload(&delivery.task, Clock::wall()) {
            Ok(payload) => payload,
            Err(settlement) => return self.settle(delivery, settlement),
        };
        match self.take_key(delivery)? {
            KeyAnswer::Free => {}
            KeyAnswer::Held => return Ok(()),
        }
        let settings = self.queue.settings();
        let mut frame = Vec::new();
        let made = frames::task(
            &TaskFrame {
                id: &delivery.task.id,
                queue: &settings.name,
                attempt: delivery.task.attempts.saturating_add(1),
                max_attempts: settings.retry.max_attempts,
                payload: Payload::Json(&payload),
                headers: &delivery.task.headers,
                properties: self
                    .wants_properties
                    .then(|| delivery.task.properties.as_deref().unwrap_or(Properties::NONE)),
                deadline: None,
                job: delivery.task.membership.as_deref(),
                memo: delivery.task.memo.as_ref(),
            },
            &mut frame,
        );
        if let Err(fault) = made {
            let error = format!("it cannot be put into a frame: {fault}");
            let settlement = self.queue.refused(&delivery.task, Reason::Malformed, error, Clock::wall());
            return self.settle(delivery, settlement);
        }
        self.process(delivery, &payload, &frame)
    }

    fn process(&mut self, delivery: &Delivery, payload: &str, frame: &[u8]) -> Result<(), Error> {
        self.keep_rate();
        if self.queue.settings().acks == Acks::Early {
            self.ask_settle(delivery.handle, Settlement::Accept);
        }
        let line = frame.strip_suffix(b"\n").unwrap_or(frame);
        let Ok(ToWorker::Task(assignment)) = to_worker::parse(line) else {
            unreachable!("a task frame that was just written can be read");
        };
        self.worker.log(Level::Debug, &GotPayload(payload));
        let begun_at = self.clock.now().at;
        let outcome = self.worker.run(&assignment)?;
        let took = self.clock.now().at.since(begun_at);
        let failed = match &outcome {
            Report::Done { .. } => {
                self.worker.log(Level::Debug, &"Processing complete");
                None
            }
            Report::Error { error, detail, .. } => Some((error.clone(), detail.clone())),
            Report::Retry { .. } | Report::Snooze { .. } | Report::DeadLetter { .. } | Report::Malformed { .. } => None,
        };
        let is_done = matches!(outcome, Report::Done { .. });
        let settlement = self.queue.settlement(&delivery.task, outcome, took, Clock::wall(), drawn());
        self.settle(delivery, settlement)?;
        self.done += u64::from(is_done);
        match failed {
            Some((error, detail)) => Err(Error::Task { id: delivery.task.id.clone(), error, detail, done: self.done }),
            None => Ok(()),
        }
    }

    /// Waits until the queue's rate allows one more start.
    fn keep_rate(&mut self) {
        while let Some(opens_at) = self.queue.opens_at(self.clock.now().at) {
            let wait = opens_at.since(self.clock.now().at);
            self.runtime.block_on(async { tokio::time::sleep(wait).await });
        }
        self.queue.started(self.clock.now().at);
    }
}
