//! What is known of each message of a bulk, while it is under way: kept outside of the work that sends them, so that it
//! can be told when that work is dropped with its session.

use std::{cell::RefCell, ops::Range};

use crate::transport::{Error, Extent};

/// What is known of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageState {
    /// Not sent, or refused.
    Absent,
    /// Sent, and not answered.
    Sent,
    /// Confirmed.
    Stored,
}

/// What is known of each, in order.
#[derive(Debug)]
pub(crate) struct BulkResults(RefCell<Vec<MessageState>>);

impl BulkResults {
    pub(crate) fn new(count: usize) -> Self {
        Self(RefCell::new(vec![MessageState::Absent; count]))
    }

    pub(crate) fn set(&self, position: usize, state: MessageState) {
        self.0.borrow_mut()[position] = state;
    }

    pub(crate) fn set_all(&self, positions: Range<usize>, state: MessageState) {
        self.0.borrow_mut()[positions].fill(state);
    }

    pub(crate) fn is_stored(&self, position: usize) -> bool {
        self.0.borrow()[position] == MessageState::Stored
    }

    /// How many may be stored, those included that are.
    pub(crate) fn possible(&self) -> u64 {
        self.0.borrow().iter().filter(|state| **state != MessageState::Absent).count() as u64
    }

    pub(crate) fn extent(&self) -> Extent {
        let results = self.0.borrow();
        let stored = results.iter().take_while(|state| **state == MessageState::Stored).count();
        let mut extent = Extent { stored, ..Extent::default() };
        let mut from = stored;
        for run in results[stored..].chunk_by(|one, next| one == next) {
            let range = from..from + run.len();
            from = range.end;
            match run[0] {
                MessageState::Absent => {}
                MessageState::Sent => extent.unknown.push(range),
                MessageState::Stored => extent.beyond.push(range),
            }
        }
        extent
    }

    /// The error of a request that wanted all of them stored.
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
        let results = BulkResults::new(8);
        assert!(matches!(results.error(Error::Closed), Error::Closed));
        results.set_all(0..6, MessageState::Sent);
        for position in [0, 1, 4] {
            results.set(position, MessageState::Stored);
        }
        results.set(2, MessageState::Absent);
        let Extent { stored, beyond, unknown } = results.extent();
        assert_eq!((stored, beyond.len(), beyond[0].clone()), (2, 1, 4..5));
        assert_eq!(unknown, [3..4, 5..6]);
        assert_eq!(results.possible(), 5);
        assert!(matches!(results.error(Error::Closed), Error::Unsubmitted { .. }));
    }
}
