//! Times in which the master does not run, while its workers and the transport do.
//!
//! What happens meanwhile lies in sockets and pipes and is told when it runs again: first all of that, then whatever it
//! has to judge. A pause that it notices does not count: its own time goes on where it stood. One that is too short to be
//! noticed does.

use std::time::Duration;

use asynctask::master::core::event::WorkerId;

use super::{
    child::Child,
    simulation::{Simulation, Step},
};

/// The longest pause that is not noticed.
const LATE: Duration = Duration::from_secs(1);

impl Simulation {
    /// Whether something came in a pause that the master has not been told.
    pub(crate) fn is_behind(&self) -> bool {
        self.agenda.first_key_value().is_some_and(|((at, _), _)| *at < self.now)
    }

    /// The master does not run for a while.
    pub(crate) fn pause(&mut self) {
        if self.faults_are_over() {
            return;
        }
        if self.rng.chance(750) {
            // The worst moment: a limit passes in it, and what was in time for that lies unread.
            let left = self.core.next_limit().map_or(Duration::ZERO, |at| at.since(self.at()));
            let over = if left < LATE { left } else { Duration::ZERO };
            let unnoticed = over + self.rng.micros((0, LATE.saturating_sub(over).as_micros() as u64));
            self.now += unnoticed;
            self.observer.unnoticed += unnoticed;
            return;
        }
        let noticed = self.rng.micros((1_000_000, 90_000_000));
        self.lost += noticed;
        // On the master's clock: what comes until its end came a moment ago, frames on their way included, so that it is told before
        // anything is judged; what comes later that much sooner.
        let wire = Duration::from_micros(self.settings.worker_faults.wire.1);
        let moment_ago = self.now.saturating_sub(wire + Duration::from_nanos(1));
        let sooner = |at: Duration| at.saturating_sub(noticed).max(moment_ago);
        let agenda = std::mem::take(&mut self.agenda);
        // What others do at a time of the master's is not a matter of this pause.
        let stays = |step: &Step| {
            matches!(
                step,
                Step::Arrive
                    | Step::Burst(..)
                    | Step::Command
                    | Step::CancelBehind
                    | Step::Reload
                    | Step::ResumeAll
                    | Step::Pause
                    | Step::Stop
                    | Step::HaltLimit
            )
        };
        for ((at, sequence), step) in agenda {
            let at = if stays(&step) { at } else { sooner(at) };
            self.agenda.insert((at, sequence), step);
        }
        self.last_told = self.last_told.saturating_sub(noticed).max(self.now);
        self.last_asked = self.last_asked.saturating_sub(noticed).max(self.now);
    }

    /// Nobody is killed for being late but when limits are judged, which is after everything that came before; and whoever
    /// drives the core was told whose words to take first.
    pub(crate) fn may_be_judged(&self, worker: WorkerId, child: &Child) -> Result<(), String> {
        if self.observer.stopping_at.is_some() || child.faulted || child.hung_up || child.said_bye {
            return Ok(());
        }
        match &self.judged {
            None => Err(format!("{worker:?} is judged by its time before what has come was told")),
            Some(passed) if !passed.others && !passed.slots.contains(&worker.slot) => {
                Err(format!("{worker:?} is judged by its time and was not named: {passed:?}"))
            }
            Some(_) => Ok(()),
        }
    }
}
