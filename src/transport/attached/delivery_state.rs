//! What was begun with one delivery, and whether the store has confirmed it.
//!
//! ```text
//! open ────────── settle ──> settling ── the last answer ──> ended
//!  │ accept                   ^    │
//!  v                          │    └─ reopen ──> as before
//! accepted ────────── settle ─┘
//! ```
//!
//! An acceptance and a settlement may be under way at once, and the store may confirm the later one first. Each is answered once,
//! and the delivery ends with the last of its answers.

/// The state of a delivery that has not ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DeliveryState {
    accepted: bool,
    settling: bool,
    /// Acceptances that the store has not confirmed.
    unconfirmed: u32,
}

impl DeliveryState {
    /// Whether it was accepted: its task has left its queue, or is about to.
    pub(crate) const fn is_accepted(self) -> bool {
        self.accepted
    }

    /// Whether it has a settlement.
    pub(crate) const fn is_settling(self) -> bool {
        self.settling
    }

    /// Begins an acceptance, which is [answered](Self::answered) once. Gives whether it was accepted before; `None`: it has a
    /// settlement, and the acceptance is void.
    pub(crate) fn accept(&mut self) -> Option<bool> {
        if self.settling {
            return None;
        }
        self.unconfirmed += 1;
        Some(std::mem::replace(&mut self.accepted, true))
    }

    /// Begins the settlement, which is [answered](Self::answered) once. Gives whether it was accepted before; `None`: it has a
    /// settlement already, and this one is void.
    pub(crate) fn settle(&mut self) -> Option<bool> {
        (!std::mem::replace(&mut self.settling, true)).then_some(self.accepted)
    }

    /// An answer of the store. Gives whether this was the last one that was awaited, so that the delivery has ended.
    pub(crate) const fn answered(&mut self) -> bool {
        if self.unconfirmed > 0 {
            self.unconfirmed -= 1;
            return false;
        }
        self.settling
    }

    /// The settlement that was begun is not stored and will not be: another one is owed.
    pub(crate) const fn reopen(&mut self) {
        self.settling = false;
    }

    /// The session or channel that would have confirmed an acceptance is gone: the delivery is accepted, and no answer to that is
    /// awaited any more.
    pub(crate) const fn keep_accepted(&mut self) {
        (self.accepted, self.unconfirmed) = (true, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_with_the_last_of_its_answers() {
        let mut state = DeliveryState::default();
        assert!(!state.answered(), "nothing was begun");
        assert_eq!([state.accept(), state.accept(), state.settle()], [Some(false), Some(true), Some(true)]);
        assert_eq!((state.accept(), state.settle()), (None, None), "it has a settlement");
        assert_eq!([state.answered(), state.answered(), state.answered()], [false, false, true]);
    }

    #[test]
    fn a_settlement_that_cannot_be_stored_leaves_it_as_it_was() {
        for accepted in [false, true] {
            let mut state = DeliveryState::default();
            if accepted {
                state.accept();
            }
            state.settle();
            state.reopen();
            assert_eq!((state.is_accepted(), state.is_settling()), (accepted, false));
            assert_eq!(state.settle(), Some(accepted));
            assert_eq!((accepted && state.answered(), state.answered()), (false, true));
        }
    }

    #[test]
    fn what_is_kept_waits_for_no_answer_to_an_acceptance() {
        let mut state = DeliveryState::default();
        assert_eq!((state.accept(), state.settle()), (Some(false), Some(true)));
        state.keep_accepted();
        assert!(state.is_settling() && state.answered());
        let mut late = DeliveryState::default();
        late.keep_accepted();
        assert_eq!((late.settle(), late.answered()), (Some(true), true));
    }
}
