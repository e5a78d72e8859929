//! What this node did with tasks lately, so that a task that comes again after a lost session is not run twice.
//!
//! A settlement may be under way when the session ends: the broker then delivers the task again although its
//! outcome is known here. [`Memory`] keeps, for a while and bounded, the settlement of each task that has an
//! identity; a redelivery in a *later* session finds it and the settlement is performed on the new delivery.
//! Within one session nothing is adopted: there an equal task is another copy, to be done on its own.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::{
    clock::Instant,
    task::{Handle, Settlement},
};

/// No more settlements than this are remembered.
const LIMIT: usize = 65_536;

#[derive(Debug)]
struct Entry {
    settlement: Settlement,
    session: u32,
    handle: Option<Handle>,
    at: Instant,
    /// Its copy will have the same identity.
    is_snooze: bool,
}

/// Remembered settlements by the identity of their tasks.
#[derive(Debug)]
pub(super) struct Memory {
    keep: Duration,
    entries: HashMap<u64, Entry>,
    order: VecDeque<(Instant, u64)>,
    /// Nothing is too old before then: what was settled around an outage is answered only after it.
    hold: Hold,
}

/// Whether age counts.
#[derive(Clone, Copy, Debug)]
enum Hold {
    /// No session stands, so nothing can be answered.
    Lost,
    /// One stands since then.
    Since(Instant),
}

impl Memory {
    pub(super) fn new(keep: Duration) -> Self {
        Self { keep, entries: HashMap::new(), order: VecDeque::new(), hold: Hold::Lost }
    }

    /// The session is gone.
    pub(super) fn lost(&mut self) {
        self.hold = Hold::Lost;
    }

    /// A session stands again.
    pub(super) fn attached(&mut self, now: Instant) {
        self.hold = Hold::Since(now);
    }

    /// Remembers what was decided about a task delivered in `session`. `handle` is `None` where the session
    /// was already lost. A release is not remembered: the task is to be run when it comes again.
    pub(super) fn remember(
        &mut self,
        now: Instant,
        identity: u64,
        session: u32,
        handle: Option<Handle>,
        settlement: &Settlement,
    ) {
        self.forget_old(now);
        if matches!(settlement, Settlement::Release | Settlement::Accept) {
            return;
        }
        let is_snooze = matches!(settlement, Settlement::Snooze { .. });
        let entry = Entry { settlement: settlement.clone(), session, handle, at: now, is_snooze };
        self.entries.insert(identity, entry);
        self.order.push_back((now, identity));
    }

    /// The copy of this task's retry or dead letter is confirmed: what a redelivery needs now is removal alone.
    pub(super) fn stored(&mut self, identity: u64, handle: Handle) {
        if let Some(entry) = self.entries.get_mut(&identity)
            && entry.handle == Some(handle)
        {
            entry.settlement = Settlement::Done { submit: Vec::new() };
        }
    }

    /// A fresh copy of this task is here: from now on its identity means that one. A snoozed task and a retried
    /// dead letter come back with the identity they had, and must be run.
    pub(super) fn forget(&mut self, identity: u64) {
        self.entries.remove(&identity);
    }

    /// The transport answered a settlement. A snoozed task may come back, and even come twice, before it is seen
    /// here for the first time; then an old entry would end it without a run.
    pub(super) fn answered(&mut self, identity: u64, handle: Handle) {
        let Some(entry) = self.entries.get_mut(&identity).filter(|entry| entry.handle == Some(handle)) else { return };
        if entry.is_snooze {
            self.entries.remove(&identity);
        } else if let Settlement::Done { submit } = &mut entry.settlement {
            // The follow-ups are stored: what a redelivery needs is removal alone, and their bodies are let go.
            *submit = Vec::new();
        }
    }

    /// The settlement of a task that comes again in `session`, if it was decided in an earlier one.
    pub(super) fn recall(&mut self, identity: u64, session: u32) -> Option<Settlement> {
        let entry = self.entries.get(&identity)?;
        (entry.session < session).then(|| entry.settlement.clone())
    }

    fn forget_old(&mut self, now: Instant) {
        let ages = matches!(self.hold, Hold::Since(since) if now.since(since) > self.keep);
        while let Some((at, identity)) = self.order.front().copied() {
            let is_old = ages && now.since(at) > self.keep;
            if !is_old && self.order.len() <= LIMIT {
                return;
            }
            self.order.pop_front();
            // A newer settlement of the same identity has a later place in the order.
            if self.entries.get(&identity).is_some_and(|entry| entry.at == at) {
                self.entries.remove(&identity);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_start(Duration::from_secs(seconds))
    }

    fn done() -> Settlement {
        Settlement::Done { submit: Vec::new() }
    }

    #[test]
    fn a_settlement_is_recalled_in_a_later_session_only() {
        let mut memory = Memory::new(Duration::from_secs(40));
        memory.remember(at(0), 7, 1, None, &done());
        assert_eq!(memory.recall(7, 1), None);
        assert_eq!(memory.recall(7, 2), Some(done()));
        assert_eq!(memory.recall(8, 2), None);
    }

    #[test]
    fn a_stored_copy_turns_into_removal() {
        let mut memory = Memory::new(Duration::from_secs(40));
        let snooze = Settlement::Snooze { after: Duration::from_secs(1) };
        memory.remember(at(0), 7, 1, Some(Handle(3)), &snooze);
        memory.stored(7, Handle(4));
        assert_eq!(memory.recall(7, 2), Some(snooze));
        memory.stored(7, Handle(3));
        assert_eq!(memory.recall(7, 2), Some(done()));
    }

    #[test]
    fn nothing_is_forgotten_in_an_outage_however_long() {
        let mut memory = Memory::new(Duration::from_secs(40));
        memory.attached(at(0));
        memory.remember(at(10), 7, 1, None, &done());
        memory.lost();
        memory.remember(at(600), 8, 1, None, &done());
        memory.attached(at(700));
        memory.remember(at(701), 9, 2, None, &done());
        assert_eq!(memory.recall(7, 2), Some(done()));
        memory.remember(at(741), 10, 2, None, &done());
        assert_eq!(memory.recall(7, 2), None);
        assert_eq!(memory.recall(9, 3), Some(done()));
    }

    #[test]
    fn a_copy_with_the_same_identity_is_run() {
        let mut memory = Memory::new(Duration::from_secs(40));
        let snooze = Settlement::Snooze { after: Duration::from_secs(1) };
        memory.remember(at(0), 7, 1, Some(Handle(3)), &snooze);
        memory.stored(7, Handle(3));
        memory.answered(7, Handle(3));
        assert_eq!(memory.recall(7, 2), None);
        memory.remember(at(0), 8, 1, Some(Handle(4)), &done());
        memory.answered(8, Handle(4));
        assert_eq!(memory.recall(8, 2), Some(done()));
        memory.forget(8);
        assert_eq!(memory.recall(8, 2), None);
    }

    #[test]
    fn what_is_old_is_forgotten_and_a_release_never_remembered() {
        let mut memory = Memory::new(Duration::from_secs(40));
        memory.attached(at(0));
        memory.remember(at(0), 7, 1, None, &done());
        memory.remember(at(30), 8, 1, None, &Settlement::Release);
        memory.remember(at(41), 9, 1, None, &done());
        assert_eq!(memory.recall(7, 2), None);
        assert_eq!(memory.recall(8, 2), None);
        for identity in 0..100_000 {
            memory.remember(at(42), identity, 1, None, &done());
        }
        assert!(memory.entries.len() <= LIMIT + 1);
    }
}
