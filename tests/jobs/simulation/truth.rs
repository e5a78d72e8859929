//! What was really done: by this the ledger is judged.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

/// A member: its feeder, and its number there.
pub(super) type Member = (Uuid, u32);

/// What masters have told the ledger, whether it has heard it or not.
#[derive(Debug, Default)]
pub(super) struct Truth {
    /// For each member the executions that did it, with how many items each submitted.
    done: HashMap<Member, Vec<(Uuid, u32)>>,
    /// Results of first tasks, and the round that each belongs to.
    results: HashMap<String, Uuid>,
    /// Members that are dead letters.
    pub(super) failed: HashSet<Member>,
}

impl Truth {
    pub(super) fn did(&mut self, member: Member, execution: Uuid, items: u32) {
        self.done.entry(member).or_default().push((execution, items));
    }

    pub(super) fn gave(&mut self, result: &str, round: Uuid) {
        self.results.insert(result.to_owned(), round);
    }

    /// The round in which this was given.
    pub(super) fn round_of(&self, result: &str) -> Option<Uuid> {
        self.results.get(result).copied()
    }

    /// Whether there is a choice of executions by which all members of a round were done: its first task, what that submitted,
    /// and so on.
    pub(super) fn is_complete(&self, round: Uuid) -> bool {
        self.is_done((round, 0))
    }

    fn is_done(&self, member: Member) -> bool {
        let executions = self.done.get(&member).map(Vec::as_slice).unwrap_or_default();
        executions.iter().any(|(execution, items)| (0..*items).all(|index| self.is_done((*execution, index))))
    }
}
