//! The ladder of delay queues: fixed steps, the same in every program, so that each declares the same queues.
//!
//! A delayed task takes the largest step that fits into what remains of its delay, and moves on from there, without an attempt or a
//! worker. What remains below the shortest step is waited out here, except that a first delay always takes a step. One queue
//! for each delay, since a queue lets messages expire at its head alone: behind one that waits longer they would stay.
//!
//! Made at the start of a session are the steps that the configured retry policies reach, all others when they are first used.
//! Pure: durations in, names out.

use std::time::Duration;

/// The steps, in milliseconds.
pub(crate) const STEPS: [u64; 17] = [
    100, 250, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_800_000, 3_600_000,
    10_800_000, 43_200_000, 86_400_000,
];

/// The step for a task whose delay begins now: at least the shortest one, whatever the delay.
pub(crate) fn first_step(delay: Duration) -> u64 {
    next_step(delay).unwrap_or(STEPS[0])
}

/// The step for a task of which `remaining` is left to wait; `None`: it is due.
pub(crate) fn next_step(remaining: Duration) -> Option<u64> {
    let remaining = u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX);
    STEPS.iter().rev().copied().find(|step| *step <= remaining)
}

/// The next smaller step.
pub(crate) fn smaller(step: u64) -> Option<u64> {
    STEPS.iter().rev().copied().find(|other| *other < step)
}

/// This step, the smaller ones from the largest on, then the larger ones.
pub(crate) fn from(step: u64) -> impl Iterator<Item = u64> {
    let smaller = STEPS.iter().rev().copied().filter(move |other| *other <= step);
    smaller.chain(STEPS.iter().copied().filter(move |other| *other > step))
}

/// All steps that tasks with these delays pass through, shortest first.
pub(crate) fn reached(delays: &[Duration]) -> Vec<u64> {
    let mut reached = std::collections::BTreeSet::new();
    for delay in delays {
        let mut step = first_step(*delay);
        let mut remaining = *delay;
        loop {
            reached.insert(step);
            remaining = remaining.saturating_sub(Duration::from_millis(step));
            let Some(next) = next_step(remaining) else { break };
            step = next;
        }
    }
    reached.into_iter().collect()
}

/// The queue that a delay queue belongs to; any other name is its own.
pub(crate) fn owner(name: &str) -> &str {
    parts(name).map_or(name, |(queue, _)| queue)
}

/// The step of a delay queue.
pub(crate) fn step(name: &str) -> Option<u64> {
    parts(name).map(|(_, step)| step)
}

fn parts(name: &str) -> Option<(&str, u64)> {
    let (queue, step) = name.rsplit_once(".retry.")?;
    let step = STEPS.iter().copied().find(|known| known.to_string() == step)?;
    Some((queue, step))
}

/// The name of the delay queue of `queue` for one step.
pub(crate) fn name(queue: &str, step: u64) -> String {
    format!("{queue}.retry.{step}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_first_delay_always_takes_a_step_and_a_short_remainder_is_due() {
        assert_eq!(first_step(ms(0)), 100);
        assert_eq!(first_step(ms(99)), 100);
        assert_eq!(first_step(ms(1_700)), 1_000);
        assert_eq!(next_step(ms(99)), None);
        assert_eq!(next_step(ms(100)), Some(100));
        assert_eq!(next_step(Duration::MAX), Some(86_400_000));
    }

    #[test]
    fn every_delay_ends_and_never_later_than_asked() {
        for delay in (0..200_000).step_by(37).map(ms) {
            let mut waited = ms(first_step(delay));
            let mut moves = 1;
            while let Some(step) = next_step(delay.saturating_sub(waited)) {
                waited += ms(step);
                moves += 1;
            }
            assert!(waited <= delay.max(ms(100)) && delay.saturating_sub(waited) < ms(100), "{delay:?} {waited:?}");
            assert!(moves < 12, "{delay:?} takes {moves} moves");
        }
    }

    #[test]
    fn what_policies_reach() {
        assert_eq!(reached(&[ms(1_700), ms(5_000)]), [100, 500, 1_000, 5_000]);
        assert_eq!(reached(&[]), [] as [u64; 0]);
        assert_eq!(smaller(250), Some(100));
        assert_eq!(smaller(100), None);
        assert_eq!(from(250).take(4).collect::<Vec<_>>(), [250, 100, 500, 1_000]);
        assert_eq!(from(100).count(), STEPS.len());
    }

    #[test]
    fn a_delay_queue_has_an_owner() {
        assert_eq!(
            (owner("a.retry.1000"), owner("a.retry.999"), owner("a"), owner("a.b.retry.100")),
            ("a", "a.retry.999", "a", "a.b")
        );
        assert_eq!((step("a.b.retry.100"), step("a.retry.999"), step("a")), (Some(100), None, None));
    }
}
