//! When a dead-letter queue is to be swept, so that no dead letter is kept longer than said: pure.
//!
//! The broker lets a message expire only at the head of its queue. One that lies behind others that are kept longer, or for
//! ever, stays until a consumer takes those: a [`sweep`](super::sweep) does, and gives them back. A letter needs one only if
//! others that are kept longer lie before it, and then at the moment at which its time is over. Where all are kept
//! equally long, none is done.
//!
//! A master knows when the letters that it stored itself are over. What others left is looked through once, soon after the
//! start, and again, at growing intervals, if there are more than are known: a master that ended sees to its own no more.

use std::{collections::BTreeMap, time::Duration};

use crate::clock::Instant;

/// Time after which the broker has let a letter go that is over and lies at the head.
const SLACK: Duration = Duration::from_millis(200);
/// Sweeps of a queue take at most one part in so many of the time.
const SHARE: u32 = 10;
/// Another try where another consumer held the letters …
const BUSY: Duration = Duration::from_secs(5);
/// … or the sweep failed …
const FAILED: Duration = Duration::from_mins(1);
/// … or the queue is not fit for it.
const UNFIT: Duration = Duration::from_hours(1);
/// Intervals at which it is asked whether there are letters that are not known: from this …
const ASK: Duration = Duration::from_mins(1);
/// … doubled up to this.
const ASK_AT_LAST: Duration = Duration::from_mins(15);

/// When a letter is over that is kept for ever.
pub(crate) const NEVER: Duration = Duration::MAX;

/// What came of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Swept {
    /// There were no more letters than are known.
    Unchanged { ready: u64 },
    /// All letters were taken and given back.
    Through(Through),
    /// Another consumer holds them.
    Busy,
    /// No answer, or a bad one.
    Failed,
    /// Its letters may not be taken, or are too many.
    Unfit,
}

/// What was found in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Through {
    /// Letters that stayed.
    pub(crate) left: u64,
    /// Time until the last of them is over; [`NEVER`].
    pub(crate) longest: Duration,
    /// Time until the first of those is over that lie behind others which are kept longer.
    pub(crate) behind: Option<Duration>,
    /// How often one of them was given back, by any consumer: a quorum queue counts that, and drops what comes to its limit.
    pub(crate) returned: u64,
    pub(crate) took: Duration,
}

/// The dead-letter queues of a master.
#[derive(Debug, Default)]
pub(crate) struct SweepSchedule {
    queues: BTreeMap<String, Queue>,
    /// Those that are being swept.
    under_way: Vec<String>,
}

#[derive(Debug)]
struct Queue {
    /// Letters that are known to be there, at most.
    known: u64,
    /// When the last of them is over.
    longest: Instant,
    /// When the first of those is over that lie behind others which are kept longer.
    behind_at: Option<Instant>,
    /// When the first of those is over that came during a sweep.
    meanwhile: Option<Instant>,
    /// When it is asked whether there are others.
    ask_at: Instant,
    ask_after: Duration,
    not_before: Instant,
}

impl Queue {
    fn new(ask_at: Instant) -> Self {
        Self {
            known: 0,
            longest: Instant::default(),
            behind_at: None,
            meanwhile: None,
            ask_at,
            ask_after: ASK,
            not_before: Instant::default(),
        }
    }

    fn due_at(&self) -> Instant {
        self.behind_at.map_or(self.ask_at, |at| at.min(self.ask_at)).max(self.not_before)
    }

    /// What is known is not enough: all are to be looked through, but not before then.
    fn again(&mut self, at: Instant) {
        (self.behind_at, self.not_before) = (Some(at), at);
    }
}

fn first(one: Option<Instant>, other: Instant) -> Instant {
    one.map_or(other, |one| one.min(other))
}

impl SweepSchedule {
    /// These queues are ours, and no others. Those that are new are looked through at `first_at`.
    pub(crate) fn watch(&mut self, names: &[&str], first_at: Instant) {
        self.queues.retain(|name, _| names.contains(&name.as_str()));
        for name in names {
            if !self.queues.contains_key(*name) {
                self.queues.insert((*name).to_owned(), Queue::new(first_at));
            }
        }
    }

    /// A letter was stored.
    pub(crate) fn stored(&mut self, name: &str, keep: Option<Duration>, now: Instant) {
        let Some(queue) = self.queues.get_mut(name) else { return };
        let over_at = now + keep.unwrap_or(NEVER);
        queue.known += 1;
        if self.under_way.iter().any(|other| other == name) {
            queue.meanwhile = Some(first(queue.meanwhile, over_at));
        }
        if over_at < queue.longest {
            queue.behind_at = Some(first(queue.behind_at, over_at + SLACK));
        } else {
            queue.longest = over_at;
        }
    }

    /// When the next one is due; not while one is under way.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        if !self.under_way.is_empty() {
            return None;
        }
        self.queues.values().map(Queue::due_at).min()
    }

    /// Those that are to be swept now, each if it has more letters than so many.
    pub(crate) fn begin(&mut self, now: Instant) -> Vec<(String, u64)> {
        let mut due = Vec::new();
        if self.under_way.is_empty() {
            for (name, queue) in self.queues.iter_mut().filter(|(_, queue)| queue.due_at() <= now) {
                let is_behind = queue.behind_at.is_some_and(|at| at <= now);
                due.push((name.clone(), if is_behind { 0 } else { queue.known }));
                if queue.ask_at <= now {
                    queue.ask_at = now + queue.ask_after;
                    queue.ask_after = (queue.ask_after * 2).min(ASK_AT_LAST);
                }
            }
            self.under_way = due.iter().map(|(name, _)| name.clone()).collect();
        }
        due
    }

    /// What came of it; a queue that is not named here was not reached.
    pub(crate) fn ended(&mut self, swept: &[(String, Swept)], now: Instant) {
        for name in std::mem::take(&mut self.under_way) {
            let Some(queue) = self.queues.get_mut(&name) else { continue };
            let meanwhile = queue.meanwhile.take();
            match swept.iter().find(|(of, _)| *of == name).map_or(Swept::Failed, |(_, swept)| *swept) {
                // None at all, so none lies behind another.
                Swept::Unchanged { ready: 0 } => (queue.known, queue.behind_at) = (0, meanwhile.map(|at| at + SLACK)),
                Swept::Unchanged { ready } => queue.known = queue.known.min(ready),
                Swept::Busy => queue.again(now + BUSY),
                Swept::Failed => queue.again(now + FAILED),
                Swept::Unfit => queue.again(now + UNFIT),
                Swept::Through(found) => {
                    let longest = now + found.longest;
                    queue.known = found.left;
                    queue.behind_at = found.behind.map(|behind| now + behind + SLACK);
                    if let Some(at) = meanwhile {
                        queue.longest = longest.max(queue.longest);
                        queue.behind_at = Some(first(queue.behind_at, at + SLACK));
                    } else {
                        queue.longest = longest;
                    }
                    // The count goes into the hundred thousands in years.
                    let apart = Duration::from_secs(1 + found.returned / 60);
                    queue.not_before = now + apart.max(found.took * SHARE);
                }
            }
        }
    }

    /// The session ended, and with it what was under way.
    pub(crate) fn interrupted(&mut self, now: Instant) {
        self.ended(&[], now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn q(swept: Swept) -> [(String, Swept); 1] {
        [("q".to_owned(), swept)]
    }

    fn through(left: u64, longest: Duration, behind: Option<Duration>) -> [(String, Swept); 1] {
        q(Swept::Through(Through { left, longest, behind, ..Through::default() }))
    }

    fn begun() -> SweepSchedule {
        let mut sweeps = SweepSchedule::default();
        sweeps.watch(&["q"], at(1_500));
        assert_eq!(sweeps.begin(at(1_499)), []);
        assert_eq!(sweeps.begin(at(1_500)), [("q".to_owned(), 0)]);
        assert_eq!((sweeps.next_at(), sweeps.begin(at(9_999))), (None, Vec::new()), "one at a time");
        sweeps
    }

    fn idle() -> SweepSchedule {
        let mut sweeps = begun();
        sweeps.ended(&q(Swept::Unchanged { ready: 0 }), at(1_600));
        sweeps
    }

    #[test]
    fn what_others_left_is_asked_for_less_and_less_and_looked_through_if_it_is_more_than_is_known() {
        let mut sweeps = begun();
        sweeps.ended(&through(3, NEVER, None), at(1_600));
        let mut asked = Vec::new();
        for _ in 0..7 {
            let next = sweeps.next_at().unwrap();
            asked.push(next.since_start().as_secs() / 60);
            assert_eq!(sweeps.begin(next), [("q".to_owned(), 3)], "three are known");
            sweeps.ended(&q(Swept::Unchanged { ready: 3 }), next);
        }
        assert_eq!(asked, [1, 3, 7, 15, 30, 45, 60]);
    }

    #[test]
    fn where_all_are_kept_equally_long_nothing_is_swept() {
        let mut sweeps = idle();
        for second in 2..50 {
            sweeps.stored("q", Some(ms(2_000)), at(second * 1_000));
        }
        assert!(sweeps.next_at() >= Some(at(60_000)));
        for second in 50..55 {
            sweeps.stored("q", None, at(second * 1_000));
        }
        assert!(sweeps.next_at() >= Some(at(60_000)));
    }

    #[test]
    fn letters_behind_others_are_swept_each_in_its_time() {
        let mut sweeps = idle();
        sweeps.stored("q", None, at(2_000));
        for stored in [3_000, 3_100] {
            sweeps.stored("q", Some(ms(2_000)), at(stored));
        }
        assert_eq!(sweeps.next_at(), Some(at(5_200)));
        assert_eq!(sweeps.begin(at(5_200)), [("q".to_owned(), 0)]);
        sweeps.stored("q", Some(ms(300)), at(5_210));
        sweeps.ended(&through(2, NEVER, Some(ms(900))), at(5_250));
        assert_eq!(sweeps.next_at(), Some(at(6_250)), "not more often than each second");
        assert_eq!(sweeps.begin(at(6_250)), [("q".to_owned(), 0)]);
        sweeps.ended(&through(1, NEVER, None), at(6_300));
        assert!(sweeps.next_at() > Some(at(60_000)));
        sweeps.stored("q", Some(ms(1_000)), at(7_000));
        assert_eq!(sweeps.next_at(), Some(at(8_200)));
    }

    #[test]
    fn a_letter_that_came_during_a_sweep_is_not_forgotten() {
        let mut sweeps = begun();
        sweeps.stored("q", Some(ms(5_000)), at(1_550));
        sweeps.ended(&through(1, NEVER, None), at(1_600));
        assert_eq!(sweeps.next_at(), Some(at(6_750)));
    }

    #[test]
    fn what_could_not_be_swept_is_not_forgotten() {
        for (swept, again_in) in [(Swept::Busy, 5), (Swept::Failed, 60)] {
            let mut sweeps = begun();
            sweeps.ended(&q(swept), at(1_600));
            let next = at(1_600) + Duration::from_secs(again_in);
            assert_eq!(sweeps.next_at(), Some(next));
            assert_eq!(sweeps.begin(next), [("q".to_owned(), 0)], "however many are known");
        }
        let mut sweeps = begun();
        sweeps.interrupted(at(1_600));
        assert_eq!(sweeps.next_at(), Some(at(61_600)));
        let mut sweeps = begun();
        sweeps.ended(&q(Swept::Unfit), at(1_600));
        sweeps.stored("q", None, at(1_700));
        sweeps.stored("q", Some(ms(1)), at(1_700));
        assert_eq!(sweeps.next_at(), Some(at(3_601_600)));
    }

    #[test]
    fn each_return_is_counted_so_they_grow_rare() {
        let mut sweeps = begun();
        let found = Through { left: 9, longest: NEVER, behind: Some(ms(1)), returned: 6_000, took: ms(20) };
        sweeps.ended(&q(Swept::Through(found)), at(2_000));
        assert_eq!(sweeps.next_at(), Some(at(103_000)));
        let mut sweeps = begun();
        sweeps.ended(&q(Swept::Through(Through { returned: 1, took: ms(900), ..found })), at(2_000));
        assert_eq!(sweeps.next_at(), Some(at(11_000)), "a tenth of the time");
    }

    #[test]
    fn queues_come_and_go() {
        let mut sweeps = begun();
        sweeps.watch(&["r"], at(5_000));
        sweeps.ended(&q(Swept::Busy), at(1_600));
        assert_eq!(sweeps.next_at(), Some(at(5_000)));
        sweeps.watch(&[], at(5_000));
        assert_eq!(sweeps.next_at(), None);
    }
}
