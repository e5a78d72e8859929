//! What is known of each message of a bulk, while it is under way: kept outside of the work that sends them, so that it
//! can be told when that work is dropped with its session.

use std::{cell::RefCell, ops::Range};

use crate::transport::{Error, Extent};

/// What is known of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Not sent, or refused.
    Absent,
    /// Sent, and not answered.
    Sent,
    /// Confirmed.
    Stored,
}

/// What is known of each, in order.
#[derive(Debug)]
pub(crate) struct Fates(RefCell<Vec<Fate>>);

impl Fates {
    pub(crate) fn new(count: usize) -> Self {
        Self(RefCell::new(vec![Fate::Absent; count]))
    }

    pub(crate) fn set(&self, position: usize, fate: Fate) {
        self.0.borrow_mut()[position] = fate;
    }

    pub(crate) fn set_all(&self, positions: Range<usize>, fate: Fate) {
        self.0.borrow_mut()[positions].fill(fate);
    }

    pub(crate) fn is_stored(&self, position: usize) -> bool {
        self.0.borrow()[position] == Fate::Stored
    }

    /// How many may be stored, those included that are.
    pub(crate) fn possible(&self) -> u64 {
        self.0.borrow().iter().filter(|fate| **fate != Fate::Absent).count() as u64
    }

    pub(crate) fn extent(&self) -> Extent {
        let fates = self.0.borrow();
        let stored = fates.iter().take_while(|fate| **fate == Fate::Stored).count();
        let mut extent = Extent { stored, ..Extent::default() };
        let mut from = stored;
        for run in fates[stored..].chunk_by(|one, next| one == next) {
            let range = from..from + run.len();
            from = range.end;
            match run[0] {
                Fate::Absent => {}
                Fate::Sent => extent.unknown.push(range),
                Fate::Stored => extent.beyond.push(range),
            }
        }
        extent
    }

    /// The error for whoever wanted all of them stored.
    pub(crate) fn error(&self, cause: Error) -> Error {
        match self.extent() {
            extent if extent == Extent::default() => cause,
            extent => Error::Unsubmitted { extent, cause: Box::new(cause) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extent_says_what_is_stored_and_what_may_be() {
        let fates = Fates::new(8);
        assert!(matches!(fates.error(Error::Closed), Error::Closed));
        fates.set_all(0..6, Fate::Sent);
        for position in [0, 1, 4] {
            fates.set(position, Fate::Stored);
        }
        fates.set(2, Fate::Absent);
        let Extent { stored, beyond, unknown } = fates.extent();
        assert_eq!((stored, beyond.len(), beyond[0].clone()), (2, 1, 4..5));
        assert_eq!(unknown, [3..4, 5..6]);
        assert_eq!(fates.possible(), 5);
        assert!(matches!(fates.error(Error::Closed), Error::Unsubmitted { .. }));
    }
}
