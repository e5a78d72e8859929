//! What would be wrong if the ledger, or who stores for it, were built otherwise: each is seen red. The ledger itself is never
//! changed: the model gives it entries as a ledger of that sort would have understood them.

use std::collections::{HashMap, HashSet};

use asynctask::jobs::{
    entry::{End, Entry, How},
    ledger::{Ledger, View},
    order::Order,
    record::StoredEntry,
};
use uuid::Uuid;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    /// Ends of tasks are a number, not a set.
    Counter,
    /// A member is known by its number and its submitter's, not by the execution that submitted it.
    IndexIsIdentity,
    /// A step's begin is known by what it is given, not by an id that is new each time.
    DerivedRound,
    /// The end of a task is stored before what the task submitted.
    EntryBeforeItems,
    /// Entries are acknowledged before the states that they led to are stored.
    AckBeforeState,
    /// An end whose submitter is not known is dropped.
    EarlyDropped,
    /// A state that a dead coordinator published counts even if it comes after its successor has read the states.
    LateStates,
    /// What follows is published although what it follows on was not confirmed.
    AfterUnconfirmed,
    /// A state that waits for dead letters is stored before these are put back to work.
    StateBeforeRevival,
    /// Dead letters that go back to work are numbers: one more of a member stands for that of another one that is gone.
    RevivalByNumber,
    /// Ends of another begin of a step count for the present one.
    OtherRounds,
    /// What a second execution of a member submitted counts as well.
    SecondItems,
    /// Changes of a job are not numbered.
    SameVersion,
    /// A job that was closed while a lookup was under way is taken as that has found it.
    ClosedForgotten,
    /// An order that comes again is carried out again.
    OrderTwice,
}

impl Mutant {
    pub(super) const ALL: [Self; 15] = [
        Self::Counter,
        Self::IndexIsIdentity,
        Self::DerivedRound,
        Self::EntryBeforeItems,
        Self::AckBeforeState,
        Self::EarlyDropped,
        Self::LateStates,
        Self::AfterUnconfirmed,
        Self::StateBeforeRevival,
        Self::RevivalByNumber,
        Self::OtherRounds,
        Self::SecondItems,
        Self::SameVersion,
        Self::ClosedForgotten,
        Self::OrderTwice,
    ];
}

/// What mutants remember. Stored and lost with the coordinator's states.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// The members of a round in the order in which they came to be known, and how many ends there were.
    counted: HashMap<Uuid, (Vec<(Uuid, u32)>, usize)>,
    fed: HashSet<Uuid>,
    fresh: u128,
    /// Members of which two executions are told, by the first of these; and where the second is put among what the first submitted.
    second: HashMap<Uuid, (Uuid, u32)>,
    ordered: HashSet<String>,
}

impl Memory {
    /// The end as the mutant's ledger takes it; `None`: it drops it.
    pub(super) fn twist(
        &mut self,
        mutant: Mutant,
        mut end: End,
        (ledger, waiting): (&Ledger, &[StoredEntry]),
        labels: &HashMap<Uuid, String>,
    ) -> Option<End> {
        if end.member.wipe {
            return Some(end);
        }
        match mutant {
            Mutant::Counter => self.count(&mut end),
            Mutant::EarlyDropped => {
                if end.member.feeder != end.member.round && !self.fed.contains(&end.member.feeder) {
                    return None;
                }
                if let How::Done { execution, .. } = end.how {
                    self.fed.insert(execution);
                }
            }
            Mutant::DerivedRound => {
                let view = ledger.jobs().find(|view| view.id == end.member.job);
                if let Some(now) = view.and_then(|view| round_of(&view, &end.member.step))
                    && labels.get(&now).is_some_and(|label| labels.get(&end.member.round) == Some(label))
                {
                    if end.member.feeder == end.member.round {
                        end.member.feeder = now;
                    }
                    end.member.round = now;
                }
            }
            Mutant::OtherRounds => {
                let view = ledger.jobs().find(|view| view.id == end.member.job);
                if let Some(now) = view.and_then(|view| round_of(&view, &end.member.step)) {
                    if end.member.feeder == end.member.round {
                        end.member.feeder = now;
                    }
                    end.member.round = now;
                }
            }
            Mutant::SecondItems => self.count_second(&mut end, waiting),
            Mutant::IndexIsIdentity
            | Mutant::EntryBeforeItems
            | Mutant::AckBeforeState
            | Mutant::LateStates
            | Mutant::AfterUnconfirmed
            | Mutant::StateBeforeRevival
            | Mutant::RevivalByNumber
            | Mutant::SameVersion
            | Mutant::ClosedForgotten
            | Mutant::OrderTwice => {}
        }
        Some(end)
    }

    /// Whatever ended, it is the next one of those that are known.
    fn count(&mut self, end: &mut End) {
        let round = end.member.round;
        let (members, ends) = self.counted.entry(round).or_insert_with(|| (vec![(round, 0)], 0));
        if let Some((feeder, index)) = members.get(*ends) {
            (end.member.feeder, end.member.index) = (*feeder, *index);
        }
        *ends += 1;
        if let How::Done { execution, items, .. } = &mut end.how {
            self.fresh += 1;
            *execution = Uuid::from_u128(self.fresh);
            members.extend((0..*items).map(|index| (*execution, index)));
        }
    }

    /// If another execution of the same member is told, too, it is one more of what the first has submitted.
    fn count_second(&mut self, end: &mut End, waiting: &[StoredEntry]) {
        let How::Done { execution, items, .. } = &mut end.how else { return };
        if let Some((feeder, index)) = self.second.get(execution) {
            (end.member.feeder, end.member.index) = (*feeder, *index);
            return;
        }
        let second = waiting.iter().find_map(|entry| match Entry::parse(&entry.body) {
            Ok(Entry::End(other)) if other.member == end.member => match other.how {
                How::Done { execution: second, items: 1.., .. } if second != *execution => Some(second),
                _ => None,
            },
            _ => None,
        });
        if let Some(second) = second.filter(|_| !self.second.values().any(|(first, _)| first == execution)) {
            self.second.insert(second, (*execution, *items));
            *items += 1;
        }
    }

    /// An order that came before is another one.
    pub(super) fn as_new(&mut self, mut order: Order) -> Order {
        if !self.ordered.insert(order.id.clone()) {
            self.fresh += 1;
            order.id.extend([" again ", &self.fresh.to_string()]);
        }
        order
    }
}

fn round_of(view: &View, step: &str) -> Option<Uuid> {
    view.steps.iter().find(|known| known.name == step)?.round
}
