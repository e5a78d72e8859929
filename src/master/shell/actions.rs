//! Performs the core's actions in their order; decides nothing, waits for nothing. Settlements are gathered, and go out before
//! any request that depends on them. So are the frames of a turn, which go out with one write for each worker.

use tokio::sync::oneshot;

use super::state::Shell;
use crate::{
    clock::Now,
    frames,
    master::{
        core::event::{Action, Event},
        finished::Finished,
    },
    process,
    task::Settlement,
    transport::Request,
};

impl Shell {
    pub(super) fn perform(&mut self, action: Action, now: Now) {
        match action {
            Action::Log { level, name, message, about } => {
                self.logger.line_in_context(level, &name, &message, about.as_deref());
            }
            Action::Send { worker, frame } => {
                self.freed_places -= isize::from(frames::is_task(&frame));
                if let Some(worker) = self.worker(worker).filter(|worker| worker.send(&frame)) {
                    let worker = std::rc::Rc::clone(worker);
                    self.to_flush.push(worker);
                }
            }
            Action::TaskEnded { queue, id, in_hand, failure, member } => {
                if let Some(member) = member.as_ref().filter(|member| !member.wipe) {
                    self.jobs.worked.add(&member.job);
                }
                if let Some(report) = &self.report {
                    report.borrow_mut().ended(&queue, id, in_hand, failure, member);
                }
            }
            Action::TaskEvent(event) => self.celery.tell(event),
            Action::TellLedger(entry) => {
                let (reply, _) = oneshot::channel();
                self.transport.ask(Request::Submit { tasks: vec![*entry], reply });
            }
            Action::TaskReopened { queue, id } => {
                if let Some(report) = &self.report {
                    report.borrow_mut().reopened(&queue, &id);
                }
            }
            Action::Settle { handle, settlement } => {
                if self.settlements.is_empty() {
                    self.settlements_since = now.at;
                }
                // Accepted early, it still has its place.
                self.freed_places += isize::from(settlement != Settlement::Accept);
                self.settlements.push((handle, settlement));
            }
            Action::AddQueue { queue, setup } => self.transport.ask(Request::AddQueue { queue, setup }),
            Action::RemoveQueue { queue } => {
                self.flush_settlements();
                self.transport.ask(Request::RemoveQueue { queue });
            }
            Action::Credit { queue, credit } => {
                self.flush_settlements();
                self.transport.ask(Request::Credit { queue, credit });
            }
            Action::Lock { handle, key } => {
                // What was settled before gives its key back first.
                self.flush_settlements();
                self.transport.ask(Request::Lock { handle, key });
            }
            Action::Reply { queue, correlation_id, body } => {
                self.transport.ask(Request::Reply { queue, correlation_id, body });
            }
            Action::TellWaitedFor => self.tell_waited_for(),
            Action::Survey { serial, jobs } => {
                self.flush_settlements();
                self.transport.ask(Request::Survey { serial, jobs });
            }
            // One event may start hundreds: that takes its time, and is no pause.
            Action::Spawn { worker, slot, launch, .. } => {
                self.spawn(worker, slot, launch);
                self.clock.looked();
            }
            Action::SpawnOnce { worker, slot, launch, once, .. } => {
                self.spawn_once(worker, slot, launch, &once);
                self.clock.looked();
            }
            Action::Answer { number, answer } => self.answer(number, answer),
            Action::CancelWaiting { number, id } => self.cancel_waiting(number, id),
            Action::LogLevel(level) => {
                self.logger.set_level(level);
                self.log_level = Some(level);
            }
            Action::Measure { worker } => {
                let bytes = self.worker(worker).and_then(|worker| process::memory::resident_bytes(worker.pid));
                if let Some(bytes) = bytes {
                    self.inbox.push(Event::Measured { worker, bytes });
                }
            }
            Action::Signal { worker, signal } => self.signal(worker, signal),
            Action::KeepParked(parked) => {
                if let Some(files) = &mut self.kept_files {
                    files.parked.write(parked);
                }
            }
            Action::KeepPaused(paused) => {
                if let Some(files) = &mut self.kept_files {
                    files.paused.write(paused);
                }
            }
            Action::StopScheduler => {
                self.timer = None;
                self.timer_stopped = true;
                self.transport.ask(Request::ReleaseLease);
            }
            Action::Close => self.closing = true,
            Action::Halt { code, error } => {
                let tally = self.core.tally();
                let hint = self.hint.filter(|_| error.is_some());
                let stopped = self.core.was_stopped();
                self.finished = Some(Finished { code, error, hint, tally, stopped, left: Vec::new() });
                debug_assert!(now.at <= self.clock.now().at, "time does not go back");
            }
        }
    }
}
