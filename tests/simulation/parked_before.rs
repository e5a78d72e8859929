//! What the run before has left parked, as a history begins with it.

use std::time::Duration;

use asynctask::{clock::Timestamp, master::core::event::ParkedQueue};

use super::{rng::Rng, settings::Settings};

/// What the wall clock shows at the beginning of a history.
pub(crate) const BEGINNING: Timestamp = Timestamp(1_700_000_000_000);

impl Settings {
    /// Queues that the run before has left parked: with pauses that are over, that last, or that a clock which was set back has made
    /// longer than any; of another kind; of a name that is not known.
    pub(crate) fn draw_parked_before(&mut self, rng: &mut Rng) {
        if self.plan.halt_when_empty || !rng.chance(300) {
            return;
        }
        for queue in &self.plan.queues {
            if rng.chance(600) {
                let kind = if rng.chance(100) { "another".to_owned() } else { queue.settings.kind.clone() };
                let left = Duration::from_millis(rng.pick(&[0, 1, 3_000, 30_000, 90_000_000]));
                let pause = Duration::from_millis(rng.pick(&[100, 5_000, 40_000, 600_000]));
                let queue = queue.settings.name.clone();
                self.parked_before.push(ParkedQueue { queue, kind, pause, until: BEGINNING.plus(left) });
            }
        }
        let (queue, kind) = ("gone".to_owned(), "k".to_owned());
        let pause = Duration::from_secs(1);
        self.parked_before.push(ParkedQueue { queue, kind, pause, until: BEGINNING.plus(pause) });
    }
}
