//! The members of a round, as a set of identities: each is counted once, whatever comes twice, late or out of order.
//!
//! A member is (feeder, number). A feeder is *open* from when it is known how many members it has until all of them are done; then
//! it is two numbers. Ends of members whose feeder is not known yet wait: items can overtake the entry of who submitted them, and
//! that of an execution which does not count is never known. The first `done` of a member decides which of its executions counts.
//!
//! Memory is a bit or two for each member of an open feeder, and the same for a number of feeders that are not known.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::jobs::{bits::Bits, definition::MOST_TASKS, member_set::MemberSet};

/// Tasks of a step.
pub(super) const MOST: u64 = MOST_TASKS as u64;
/// Feeders of which only ends of members are known. Of more, the one that was heard of first is forgotten: each execution whose own end
/// was never stored leaves one, and so does what comes twice after very many others; of those whose end is on its way there are as many
/// as workers at most.
const MOST_EARLY: usize = 256;
/// Feeders that are remembered after all their members were done, or that never counted: what comes twice of them is known.
const REMEMBERED: usize = 64;
/// Failed tasks that are shown.
pub(super) const SHOWN: usize = 20;

/// The members of a round.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Members {
    pub(super) known: u64,
    pub(super) done: u64,
    pub(super) failed: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    open: BTreeMap<Uuid, Feeder>,
    /// In the order in which they were heard of.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    early: VecDeque<(Uuid, Early)>,
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    over: VecDeque<Uuid>,
    /// The first that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) shown: Vec<FailedMember>,
}

/// One whose members are known, and not all done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Feeder {
    count: u32,
    ends: Ends,
}

/// One of which only ends of members are known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Early {
    ends: Ends,
    /// Of members that submitted members: their number, execution, and how many those are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    fed: BTreeMap<u32, (Uuid, u32)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shown: Vec<FailedMember>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Ends {
    #[serde(default, skip_serializing_if = "Bits::is_empty")]
    done: Bits,
    #[serde(default, skip_serializing_if = "Bits::is_empty")]
    failed: Bits,
    /// Those of the failed of which there is no dead letter.
    #[serde(default, skip_serializing_if = "Bits::is_empty")]
    gone: Bits,
}

/// A member that failed, to be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FailedMember {
    pub(super) feeder: Uuid,
    pub(super) index: u32,
    pub(super) reason: String,
    pub(super) error: String,
    /// Id of the dead letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) dead_letter: Option<String>,
}

/// How a member ended.
#[derive(Clone, Debug)]
pub(super) enum Ending {
    /// By this execution, which submitted so many.
    Done { execution: Uuid, items: u32 },
    Failed {
        /// There is no dead letter.
        is_gone: bool,
        /// To be shown, if it is among the first.
        shown: Option<FailedMember>,
    },
}

/// What an end was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// The member's first one, or its `done` after it had failed.
    Yes,
    /// It waits until its feeder is known.
    Early,
    /// The member had failed before; there is no dead letter of it any more.
    Gone,
    /// It was counted before, or belongs to what does not count.
    No,
    /// The step has more members than it may.
    TooMany,
}

impl Members {
    /// The members that the coordinator itself submits: their feeder is the round.
    pub(super) fn of(round: Uuid, count: u32) -> Self {
        let mut members = Self::default();
        members.feed(round, count);
        members
    }

    /// Whether none is left that could end.
    pub(super) const fn all_ended(&self) -> bool {
        self.done + self.failed == self.known
    }

    /// Whether a member has ended, or is of no open feeder.
    pub(super) fn has_ended(&self, feeder: Uuid, index: u32) -> bool {
        let open = self.open.get(&feeder);
        open.is_none_or(|open| open.ends.done.has(index) || open.ends.failed.has(index))
    }

    /// Whether some failed of which there is no dead letter.
    pub(super) fn has_gone(&self) -> bool {
        self.open.values().any(|feeder| !feeder.ends.gone.is_empty())
    }

    /// Those that failed have not ended, because they run again: these. Of a feeder that is not known that cannot be said: some of its
    /// members may have no dead letter. They stay as they are until they are done.
    pub(super) fn take_failed(&mut self) -> MemberSet {
        let mut taken = MemberSet::default();
        for (feeder, Feeder { ends, .. }) in &mut self.open {
            taken.add_all(*feeder, std::mem::take(&mut ends.failed));
            ends.gone = Bits::default();
        }
        self.failed = 0;
        self.shown.clear();
        taken
    }

    /// One that failed runs again; whether it had failed.
    pub(super) fn retry(&mut self, feeder: Uuid, index: u32) -> bool {
        let is_it = |shown: &FailedMember| (shown.feeder, shown.index) == (feeder, index);
        if let Some(open) = self.open.get_mut(&feeder) {
            let had_failed = open.ends.failed.remove(index);
            open.ends.gone.remove(index);
            self.failed -= u64::from(had_failed);
            self.shown.retain(|shown| !is_it(shown));
            return had_failed;
        }
        let Some((_, early)) = self.early.iter_mut().find(|(of, _)| *of == feeder) else { return false };
        early.ends.gone.remove(index);
        early.shown.retain(|shown| !is_it(shown));
        early.ends.failed.remove(index)
    }

    /// Counts the end of a member, and of those that waited for it.
    pub(super) fn end(&mut self, feeder: Uuid, index: u32, ending: Ending) -> Counted {
        let mut waited = Vec::new();
        let counted = self.count(feeder, index, ending, &mut waited);
        while let Some((feeder, index, ending)) = waited.pop() {
            if self.count(feeder, index, ending, &mut waited) == Counted::TooMany {
                return Counted::TooMany;
            }
        }
        counted
    }

    fn count(&mut self, feeder: Uuid, index: u32, ending: Ending, waited: &mut Vec<(Uuid, u32, Ending)>) -> Counted {
        let Some(open) = self.open.get_mut(&feeder) else {
            return if self.over.contains(&feeder) { Counted::No } else { self.wait(feeder, index, ending) };
        };
        if index >= open.count {
            return Counted::No;
        }
        match ending {
            Ending::Done { execution, items } => {
                if !open.ends.done.add(index) {
                    self.does_not_count(execution, items);
                    return Counted::No;
                }
                let is_last = open.ends.done.count() == open.count;
                if open.ends.failed.remove(index) {
                    open.ends.gone.remove(index);
                    self.failed -= 1;
                    self.shown.retain(|shown| (shown.feeder, shown.index) != (feeder, index));
                }
                self.done += 1;
                if is_last {
                    self.open.remove(&feeder);
                    self.remember(feeder);
                }
                if self.known + u64::from(items) > MOST {
                    return Counted::TooMany;
                }
                waited.extend(self.feed(execution, items));
            }
            Ending::Failed { is_gone, shown } => {
                if open.ends.done.has(index) {
                    return Counted::No;
                }
                let is_new = open.ends.failed.add(index);
                let is_newly_gone = is_gone && open.ends.gone.add(index);
                if is_newly_gone {
                    let is_it = |shown: &&mut FailedMember| (shown.feeder, shown.index) == (feeder, index);
                    self.shown.iter_mut().filter(is_it).for_each(|shown| shown.dead_letter = None);
                }
                if !is_new {
                    return if is_newly_gone { Counted::Gone } else { Counted::No };
                }
                self.failed += 1;
                if self.shown.len() < SHOWN {
                    self.shown.extend(shown);
                }
            }
        }
        Counted::Yes
    }

    /// An execution that counts has submitted so many. Those that ended before it was known are to be counted now.
    fn feed(&mut self, feeder: Uuid, count: u32) -> Vec<(Uuid, u32, Ending)> {
        // An id is drawn once; one that comes again was forged.
        if count == 0 || self.open.contains_key(&feeder) || self.over.contains(&feeder) {
            return Vec::new();
        }
        self.known += u64::from(count);
        self.open.insert(feeder, Feeder { count, ends: Ends::default() });
        let Some(mut early) = self.no_longer_early(feeder) else { return Vec::new() };
        let done = early.ends.done.iter().map(|index| {
            let (execution, items) = early.fed.remove(&index).unwrap_or_default();
            (feeder, index, Ending::Done { execution, items })
        });
        let mut ended: Vec<_> = done.collect();
        ended.extend(early.ends.failed.iter().map(|index| {
            let shown = early.shown.iter().find(|shown| shown.index == index).cloned();
            (feeder, index, Ending::Failed { is_gone: early.ends.gone.has(index), shown })
        }));
        ended
    }

    /// The end of a member waits for its feeder.
    fn wait(&mut self, feeder: Uuid, index: u32, ending: Ending) -> Counted {
        if u64::from(index) >= MOST {
            return Counted::No;
        }
        let place = self.early.iter().position(|(early, _)| *early == feeder).unwrap_or_else(|| {
            self.early.push_back((feeder, Early::default()));
            self.early.drain(..self.early.len().saturating_sub(MOST_EARLY));
            self.early.len() - 1
        });
        let early = &mut self.early[place].1;
        match ending {
            Ending::Done { execution, items } => {
                if !early.ends.done.add(index) {
                    // The same end that came twice, or that of another execution.
                    if early.fed.get(&index).is_none_or(|(first, _)| *first != execution) {
                        self.does_not_count(execution, items);
                    }
                    return Counted::No;
                }
                early.ends.failed.remove(index);
                early.ends.gone.remove(index);
                early.shown.retain(|shown| shown.index != index);
                if items > 0 {
                    early.fed.insert(index, (execution, items));
                }
            }
            Ending::Failed { is_gone, shown } => {
                if early.ends.done.has(index) {
                    return Counted::No;
                }
                let is_new = early.ends.failed.add(index);
                let is_newly_gone = is_gone && early.ends.gone.add(index);
                if !is_new {
                    return if is_newly_gone { Counted::Gone } else { Counted::No };
                }
                if early.shown.len() < SHOWN {
                    early.shown.extend(shown);
                }
            }
        }
        Counted::Early
    }

    /// Another execution of a member that is done: what it submitted is of no one.
    fn does_not_count(&mut self, execution: Uuid, items: u32) {
        if items > 0 && !self.open.contains_key(&execution) && !self.over.contains(&execution) {
            self.no_longer_early(execution);
            self.remember(execution);
        }
    }

    fn no_longer_early(&mut self, feeder: Uuid) -> Option<Early> {
        let place = self.early.iter().position(|(early, _)| *early == feeder)?;
        self.early.remove(place).map(|(_, early)| early)
    }

    /// Whether the numbers are those of the sets.
    pub(super) fn agree(&self) -> bool {
        let is_within = |feeder: &Feeder| {
            let Ends { done, failed, gone } = &feeder.ends;
            [done, failed, gone].iter().all(|ends| ends.end() <= feeder.count)
        };
        let failed: u64 = self.open.values().map(|feeder| u64::from(feeder.ends.failed.count())).sum();
        let left: u64 =
            self.open.values().map(|feeder| u64::from(feeder.count.saturating_sub(feeder.ends.done.count()))).sum();
        self.open.values().all(is_within)
            && self.failed == failed
            && self.done.checked_add(left) == Some(self.known)
            && self.known <= MOST
    }

    fn remember(&mut self, feeder: Uuid) {
        self.over.push_back(feeder);
        self.over.drain(..self.over.len().saturating_sub(REMEMBERED));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(execution: u128, items: u32) -> Ending {
        Ending::Done { execution: Uuid::from_u128(execution), items }
    }

    #[test]
    fn strays_take_bounded_room_and_keep_nothing_from_being_counted() {
        let round = Uuid::from_u128(1);
        let mut members = Members::of(round, 1);
        // Of executions whose own ends were never stored, among them of very high numbers.
        for stray in 0..5_000_u32 {
            let feeder = Uuid::from_u128(1_000 + u128::from(stray));
            assert_eq!(members.end(feeder, stray * 199, done(7, 0)), Counted::Early);
        }
        let text = serde_json::to_string(&members).unwrap();
        assert!(text.len() < 32 * 1024, "{} bytes", text.len());
        assert_eq!(serde_json::from_str::<Members>(&text).unwrap(), members);
        let splitter = Uuid::from_u128(2);
        assert_eq!(members.end(splitter, 1, done(8, 0)), Counted::Early);
        assert_eq!(members.end(round, 0, done(2, 2)), Counted::Yes);
        assert_eq!((members.done, members.known, members.agree()), (2, 3, true));
    }

    #[test]
    fn of_two_executions_that_end_before_their_feeder_is_known_the_first_counts() {
        let round = Uuid::from_u128(1);
        let mut members = Members::of(round, 1);
        let (splitter, first, second) = (Uuid::from_u128(2), 3, 4);
        assert_eq!(members.end(splitter, 0, done(first, 2)), Counted::Early);
        assert_eq!(members.end(splitter, 0, done(first, 2)), Counted::No, "the same one, twice");
        assert_eq!(members.end(splitter, 0, done(second, 1)), Counted::No);
        assert_eq!(members.end(Uuid::from_u128(second), 0, done(9, 0)), Counted::No, "what it submitted is of no one");
        assert_eq!(members.end(round, 0, done(2, 1)), Counted::Yes);
        assert_eq!((members.done, members.known), (2, 4));
        for index in 0..2 {
            assert_eq!(members.end(Uuid::from_u128(first), index, done(9, 0)), Counted::Yes);
        }
        assert!(members.all_ended() && members.agree());
    }
}
