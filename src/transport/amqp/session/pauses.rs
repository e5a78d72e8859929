//! Pauses between tries to build a session, or to open a queue. Pure: durations in, durations out.

use std::{
    hash::{BuildHasher as _, Hasher as _},
    time::Duration,
};

use crate::backoff::Backoff;

/// Between two tries, by the failures in a row.
pub(crate) const REBUILD_BACKOFF: Backoff =
    Backoff { first: Duration::from_secs(1), factor: 2.0, longest: Duration::from_secs(30) };
/// The pause after so many failures in a row.
pub(crate) fn pause(failures: u32) -> Duration {
    if failures <= 1 { Duration::ZERO } else { REBUILD_BACKOFF.delay(failures - 1) }
}

/// Failures in a row, of a queue that was had again after so many for this long and is lost now. They begin anew where it was
/// had for longer than the pause before (and a moment, as the first pause is none); what was settled of it ends them, too.
pub(crate) fn failures_after(failures: u32, attached: Duration) -> u32 {
    if attached > pause(failures).max(REBUILD_BACKOFF.first) { 1 } else { failures + 1 }
}

/// A pause made up to a fifth longer, so that the masters of a fleet do not come all at once.
pub(crate) fn with_jitter(pause: Duration) -> Duration {
    let random = std::hash::RandomState::new().build_hasher().finish() % 1024;
    pause + pause.mul_f64(random as f64 / 5120.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_grows_while_a_queue_is_lost_as_soon_as_it_is_had() {
        let moment = Duration::from_millis(200);
        let failures: Vec<u32> =
            std::iter::successors(Some(0), |before| Some(failures_after(*before, moment))).take(6).collect();
        assert_eq!(failures, [0, 1, 2, 3, 4, 5]);
        assert_eq!(
            failures[1..].iter().map(|failures| pause(*failures).as_secs()).collect::<Vec<_>>(),
            [0, 1, 2, 4, 8]
        );
    }

    #[test]
    fn the_backoff_begins_anew_where_a_queue_was_had_for_longer_than_the_pause_before() {
        let second = Duration::from_secs(1);
        for (failures, attached, then) in [(1, 5, 1), (2, 5, 1), (4, 5, 1), (4, 4, 5), (5, 5, 6), (5, 9, 1), (9, 31, 1)]
        {
            assert_eq!(failures_after(failures, attached * second), then, "{failures} failures, then {attached} s");
        }
    }
}
