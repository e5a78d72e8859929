//! Time in the shell: until when to sleep, and what is read before a limit counts as passed.
//!
//! A limit passes if something has not come until then. So the sources are read first: exits of processes, the workers' sockets,
//! the transport's events. They go to the core with the moment at which the clock was read, and the limit is judged by the same
//! moment: an event before it is not late, however late the loop is. Only sources of passed limits are read: a task that ends
//! in time costs nothing here.
//!
//! Time in which this process did not run counts against no limit ([`RunningClock`](crate::clock::RunningClock)): not against
//! tasks, starts, pings or the grace of a stop, and no pause of a breaker is over sooner for it. Two limits go by real
//! time, since others measure them too: that of a run, and the watchdog.

use std::{rc::Rc, time::Duration};

use tokio::sync::mpsc;

use super::{
    state::{GROUP_LIMIT, Shell},
    workers::Worker,
};
use crate::{
    clock::Now,
    logging::{Level, MASTER},
    master::core::event::Event,
    process::Signals,
    schedule::Timer,
    systemd::Notifier,
    transport,
};

/// The timer looks at the wall clock at least this often, which may be set or stand still while we wait.
const WALL_LOOK: Duration = Duration::from_secs(30);
/// While a limit runs, the loop sleeps for this part of what is left of it, so that a pause is known that well …
const SHARE: u32 = 4;
/// … but not for less than this.
const SHORTEST_LOOK: Duration = Duration::from_secs(1);

impl Shell {
    /// The time that events are told with.
    pub(super) fn now(&self) -> Now {
        self.judged_at.unwrap_or_else(|| self.clock.now())
    }

    /// Time until something is due although nothing happens.
    pub(super) fn wait(&mut self) -> Duration {
        let (now, real) = (self.clock.now(), self.clock.real());
        let core = self.core.next_deadline().map(|at| at.since(now.at));
        let look = self.core.next_limit().map(|at| (at.since(now.at) / SHARE).max(SHORTEST_LOOK));
        let moment = self.timer.as_ref().and_then(Timer::next_moment);
        let moment = moment.map(|moment| moment.remaining(now.wall).min(WALL_LOOK));
        let halt = self.halt_at.map(|at| at.saturating_sub(real.since_start()));
        let notice = self.notifier.as_ref().and_then(Notifier::next_at).map(|at| at.since(real));
        let group = (!self.settlements.is_empty()).then_some(GROUP_LIMIT);
        let jobs = self.jobs.coordinator.wait(now);
        [core, look, moment, halt, notice, group, jobs].into_iter().flatten().min().unwrap_or(Duration::MAX)
    }

    /// However much happens, clock and calendar are looked at once a turn.
    pub(super) fn keep_time(&mut self, signals: &Signals, events: &mut mpsc::UnboundedReceiver<transport::Event>) {
        let now = self.clock.now();
        if let Some(paused) = self.clock.paused() {
            let seconds = paused.as_secs_f64();
            let text = format!(
                "The master did not run for up to {seconds:.1} s (stopped, frozen, or without a processor): time limits, \
                 start limits and pauses are longer by that"
            );
            self.logger.line(Level::Warning, MASTER, &text);
        }
        if let Some(timer) = self.timer.as_mut().filter(|timer| timer.is_due(now.wall)) {
            let acts = timer.due(now.wall);
            self.fire(acts);
        }
        self.keep_time_of_jobs();
        if self.halt_at.is_some_and(|at| at <= self.clock.real().since_start()) {
            self.halt_at = None;
            self.judged_at = Some(now);
            self.catch_up(None, signals, events);
            self.handle(Event::HaltTimedOut);
        }
        if self.core.next_deadline().is_some_and(|at| at <= now.at) {
            self.judged_at = Some(now);
            let passed = self.core.limits_passed(now.at);
            if !passed.is_empty() {
                self.catch_up((!passed.others).then_some(&passed.slots), signals, events);
            }
            self.handle(Event::DeadlinePassed);
        }
        self.judged_at = None;
    }

    /// Takes everything that came until now: from the workers in these slots, or from all.
    fn catch_up(
        &mut self,
        slots: Option<&Vec<usize>>,
        signals: &Signals,
        events: &mut mpsc::UnboundedReceiver<transport::Event>,
    ) {
        self.handle_signals(&signals.drain());
        self.reap();
        let read = |worker: &Option<Rc<Worker>>| worker.iter().for_each(|worker| worker.catch_up());
        match slots {
            Some(slots) => slots.iter().filter_map(|slot| self.workers.get(*slot)).for_each(read),
            None => self.workers.iter().for_each(read),
        }
        self.take_inbox();
        for _ in 0..events.len() {
            let Ok(event) = events.try_recv() else { break };
            self.transport_event(event);
        }
        self.take_inbox();
    }
}
