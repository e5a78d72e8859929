//! What this node did with tasks lately, so that a task that comes again after a lost session is not run twice.
//!
//! A settlement may be under way when the session ends: the broker then delivers the task again although its
//! outcome is known here. [`SettlementMemory`] keeps, for a while and bounded, the settlement of each task that has an
//! identity; a redelivery in a *later* session finds it and the settlement is performed on the new delivery.
//! Within one session nothing is adopted: there an equal task is another copy, to be done on its own.
//!
//! # How long
//!
//! A settlement that the transport has not answered is kept whatever its age. One that was answered is kept for as long as
//! a loss can go unnoticed: what was written to a dead connection looks answered. Of both together no more than
//! [`LIMIT`] are kept: the oldest of those that were answered go first, then the oldest of the others. The tasks of
//! these would be run again if they came again, so [`SettlementMemory::forgot_unanswered`] tells.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use foldhash::fast::RandomState;

use crate::{
    clock::Instant,
    task::{Handle, Settlement},
};

/// No more settlements than this are remembered.
pub(in crate::master::core) const LIMIT: usize = 65_536;

#[derive(Debug)]
struct Entry {
    /// `None`: it is done and submits nothing, so that all it needs is removal. Nearly all are: they take no more room.
    settlement: Option<Box<Settlement>>,
    session: u32,
    handle: Option<Handle>,
    /// Its place in one of the two orders: a later settlement of the same identity has another.
    number: u64,
    /// Its copy will have the same identity.
    is_snooze: bool,
}

/// Remembered settlements by the identity of their tasks.
#[derive(Debug)]
pub(in crate::master::core) struct SettlementMemory {
    /// For how long an answered one is kept; `None`: age does not count.
    keep: Option<Duration>,
    entries: HashMap<u64, Entry, RandomState>,
    /// Identities of those without an answer, by their numbers: the oldest first.
    unanswered: BTreeMap<u64, u64>,
    /// When they were answered, with number and identity: the oldest first. What was replaced or forgotten stays here until
    /// its time.
    answered: VecDeque<(Instant, u64, u64)>,
    number: u64,
    /// Nothing is too old before then: what was settled around an outage is answered only after it.
    hold: Hold,
    forgot_unanswered: bool,
}

/// Whether age counts.
#[derive(Clone, Copy, Debug)]
enum Hold {
    /// No session stands, so nothing can be answered.
    Lost,
    /// One stands since then.
    Since(Instant),
}

impl SettlementMemory {
    pub(in crate::master::core) fn new(keep: Duration) -> Self {
        Self {
            keep: Some(keep),
            entries: HashMap::default(),
            unanswered: BTreeMap::new(),
            answered: VecDeque::new(),
            number: 0,
            hold: Hold::Lost,
            forgot_unanswered: false,
        }
    }

    /// From now on a loss is noticed within this time, or who knows when.
    pub(in crate::master::core) fn keep(&mut self, within: Option<Duration>) {
        self.keep = within;
    }

    /// The session is gone.
    pub(in crate::master::core) fn lost(&mut self) {
        self.hold = Hold::Lost;
    }

    /// A session stands again.
    pub(in crate::master::core) fn attached(&mut self, now: Instant) {
        self.hold = Hold::Since(now);
    }

    /// Whether what was answered is forgotten in time.
    #[cfg(test)]
    pub(in crate::master::core) fn ages(&self) -> bool {
        matches!(self.hold, Hold::Since(_))
    }

    /// Whether the limit cost a settlement that was not answered, since this was asked last.
    pub(in crate::master::core) fn forgot_unanswered(&mut self) -> bool {
        std::mem::take(&mut self.forgot_unanswered)
    }

    /// Remembers what was decided about a task in the epoch `session`. `handle` is `None` where the session
    /// was already lost. What is released or passed on is not remembered: it is to be run when it comes again.
    pub(in crate::master::core) fn remember(
        &mut self,
        now: Instant,
        identity: u64,
        session: u32,
        handle: Option<Handle>,
        settlement: &Settlement,
    ) {
        self.forget_old(now);
        if matches!(settlement, Settlement::Release | Settlement::Pass | Settlement::Accept) {
            return;
        }
        let is_snooze = matches!(settlement, Settlement::Snooze { .. });
        self.number += 1;
        let needs_more = !matches!(settlement, Settlement::Done { submit } if submit.is_empty());
        let settlement = needs_more.then(|| Box::new(settlement.clone()));
        let entry = Entry { settlement, session, handle, number: self.number, is_snooze };
        self.forget(identity);
        self.unanswered.insert(self.number, identity);
        self.entries.insert(identity, entry);
    }

    /// Remembers that a task which was accepted in `session`, and has ended, is to be removed should it come again. The
    /// acceptance was answered long ago, or the session has ended since.
    pub(in crate::master::core) fn remember_removal(&mut self, now: Instant, identity: u64, session: u32) {
        self.remember(now, identity, session, None, &Settlement::Done { submit: Vec::new() });
        self.age(now, identity);
    }

    /// The copy of this task's retry or dead letter is confirmed: what a redelivery needs now is removal alone.
    pub(in crate::master::core) fn stored(&mut self, identity: u64, handle: Handle) {
        if let Some(entry) = self.entries.get_mut(&identity)
            && entry.handle == Some(handle)
        {
            entry.settlement = None;
        }
    }

    /// A fresh copy of this task is here: from now on its identity means that one. A snoozed task and a retried
    /// dead letter come back with the identity they had, and must be run.
    pub(in crate::master::core) fn forget(&mut self, identity: u64) {
        if let Some(entry) = self.entries.remove(&identity) {
            self.unanswered.remove(&entry.number);
        }
    }

    /// The transport answered a settlement. A snoozed task may come back, and even come twice, before it is seen
    /// here for the first time; then an old entry would end it without a run.
    pub(in crate::master::core) fn answered(&mut self, now: Instant, identity: u64, handle: Handle) {
        let Some(entry) = self.entries.get_mut(&identity).filter(|entry| entry.handle == Some(handle)) else { return };
        if entry.is_snooze {
            return self.forget(identity);
        }
        // The follow-ups are stored: what a redelivery needs is removal alone, and their bodies are let go.
        entry.settlement.take_if(|settlement| matches!(**settlement, Settlement::Done { .. }));
        self.age(now, identity);
    }

    /// The settlement of a task that comes again in a session of its queue that began with the epoch `session`, if it was
    /// decided in an earlier one.
    pub(in crate::master::core) fn settlement_of(&mut self, identity: u64, session: u32) -> Option<Settlement> {
        let entry = self.entries.get(&identity)?;
        let removal = Settlement::Done { submit: Vec::new() };
        (entry.session < session).then(|| entry.settlement.as_deref().cloned().unwrap_or(removal))
    }

    /// From now on its age counts.
    fn age(&mut self, now: Instant, identity: u64) {
        if let Some(entry) = self.entries.get(&identity)
            && self.unanswered.remove(&entry.number).is_some()
        {
            self.answered.push_back((now, entry.number, identity));
        }
    }

    fn forget_old(&mut self, now: Instant) {
        let keep = self.keep.filter(|keep| matches!(self.hold, Hold::Since(since) if now.since(since) > *keep));
        while let Some((at, number, identity)) = self.answered.front().copied() {
            let is_old = keep.is_some_and(|keep| now.since(at) > keep);
            if !is_old && self.answered.len() + self.unanswered.len() <= LIMIT {
                return;
            }
            self.answered.pop_front();
            if self.entries.get(&identity).is_some_and(|entry| entry.number == number) {
                self.entries.remove(&identity);
            }
        }
        while self.unanswered.len() > LIMIT
            && let Some((_, identity)) = self.unanswered.pop_first()
        {
            self.entries.remove(&identity);
            self.forgot_unanswered = true;
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
        let mut memory = SettlementMemory::new(Duration::from_secs(40));
        memory.remember(at(0), 7, 1, None, &done());
        assert_eq!(memory.settlement_of(7, 1), None);
        assert_eq!(memory.settlement_of(7, 2), Some(done()));
        assert_eq!(memory.settlement_of(8, 2), None);
    }

    #[test]
    fn a_stored_copy_turns_into_removal() {
        let mut memory = SettlementMemory::new(Duration::from_secs(40));
        let snooze = Settlement::Snooze { after: Duration::from_secs(1), memo: None };
        memory.remember(at(0), 7, 1, Some(Handle(3)), &snooze);
        memory.stored(7, Handle(4));
        assert_eq!(memory.settlement_of(7, 2), Some(snooze));
        memory.stored(7, Handle(3));
        assert_eq!(memory.settlement_of(7, 2), Some(done()));
    }

    /// Decided and answered at this moment.
    fn settled(memory: &mut SettlementMemory, now: Instant, identity: u64, session: u32) {
        let handle = Handle(identity);
        memory.remember(now, identity, session, Some(handle), &done());
        memory.answered(now, identity, handle);
    }

    #[test]
    fn nothing_is_forgotten_in_an_outage_however_long() {
        let mut memory = SettlementMemory::new(Duration::from_secs(40));
        memory.attached(at(0));
        settled(&mut memory, at(10), 7, 1);
        memory.lost();
        memory.remember(at(600), 8, 1, None, &done());
        memory.attached(at(700));
        settled(&mut memory, at(701), 9, 2);
        assert_eq!(memory.settlement_of(7, 2), Some(done()));
        settled(&mut memory, at(741), 10, 2);
        assert_eq!(memory.settlement_of(7, 2), None);
        assert_eq!(memory.settlement_of(9, 3), Some(done()));
        assert_eq!(memory.settlement_of(8, 2), Some(done()), "it was never answered");
    }

    #[test]
    fn what_is_not_answered_has_no_age() {
        let mut memory = SettlementMemory::new(Duration::from_secs(40));
        memory.attached(at(0));
        memory.remember(at(1), 7, 1, Some(Handle(3)), &done());
        settled(&mut memory, at(2), 8, 1);
        settled(&mut memory, at(3_600), 9, 1);
        assert_eq!((memory.settlement_of(7, 2), memory.settlement_of(8, 2)), (Some(done()), None));
        // Its age begins with the answer.
        memory.answered(at(3_600), 7, Handle(3));
        memory.forget_old(at(3_640));
        assert_eq!(memory.settlement_of(7, 2), Some(done()));
        memory.forget_old(at(3_641));
        assert_eq!((memory.settlement_of(7, 2), memory.settlement_of(9, 2)), (None, None));
    }

    #[test]
    fn the_time_is_that_of_the_connection() {
        let mut memory = SettlementMemory::new(Duration::from_secs(40));
        memory.keep(Some(Duration::from_mins(2)));
        memory.attached(at(0));
        settled(&mut memory, at(200), 7, 1);
        memory.forget_old(at(320));
        assert_eq!(memory.settlement_of(7, 2), Some(done()));
        memory.keep(None);
        memory.forget_old(at(1_000_000));
        assert_eq!(memory.settlement_of(7, 2), Some(done()));
        memory.keep(Some(Duration::from_secs(4)));
        memory.forget_old(at(1_000_000));
        assert_eq!(memory.settlement_of(7, 2), None);
    }

    #[test]
    fn at_the_limit_the_answered_go_first() {
        let mut memory = SettlementMemory::new(Duration::from_secs(40));
        memory.attached(at(0));
        memory.remember(at(0), 0, 1, None, &done());
        for identity in 1..=LIMIT as u64 + 5 {
            settled(&mut memory, at(0), identity, 1);
        }
        memory.forget_old(at(0));
        assert!(!memory.forgot_unanswered());
        assert_eq!((memory.settlement_of(0, 2), memory.settlement_of(1, 2)), (Some(done()), None));
        for identity in 0..=2 * LIMIT as u64 {
            memory.remember(at(0), identity, 1, None, &done());
        }
        memory.forget_old(at(0));
        assert!(memory.forgot_unanswered());
        assert_eq!((memory.settlement_of(0, 2), memory.entries.len()), (None, LIMIT));
    }

    #[test]
    fn the_removal_of_what_was_accepted_ages() {
        let mut memory = SettlementMemory::new(Duration::from_secs(40));
        memory.attached(at(0));
        memory.remember_removal(at(50), 7, 1);
        memory.forget_old(at(90));
        assert_eq!(memory.settlement_of(7, 2), Some(done()));
        memory.forget_old(at(91));
        assert_eq!(memory.settlement_of(7, 2), None);
    }

    #[test]
    fn a_copy_with_the_same_identity_is_run() {
        let mut memory = SettlementMemory::new(Duration::from_secs(40));
        let snooze = Settlement::Snooze { after: Duration::from_secs(1), memo: None };
        memory.remember(at(0), 7, 1, Some(Handle(3)), &snooze);
        memory.stored(7, Handle(3));
        memory.answered(at(0), 7, Handle(3));
        assert_eq!(memory.settlement_of(7, 2), None);
        memory.remember(at(0), 8, 1, Some(Handle(4)), &done());
        memory.answered(at(0), 8, Handle(4));
        assert_eq!(memory.settlement_of(8, 2), Some(done()));
        memory.forget(8);
        assert_eq!(memory.settlement_of(8, 2), None);
    }

    #[test]
    fn a_release_is_never_remembered() {
        let mut memory = SettlementMemory::new(Duration::from_secs(40));
        for settlement in [Settlement::Release, Settlement::Pass, Settlement::Accept] {
            memory.remember(at(30), 8, 1, None, &settlement);
            assert_eq!(memory.settlement_of(8, 2), None);
        }
    }
}
