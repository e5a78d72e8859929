//! What a walk saw of a queue, kept for views: a broker has no index, and each walk takes all that lies there into hand.
//!
//! A queue is walked when somebody looks, once a minute at most, and only if the number of its dead letters, or of those that the
//! master made, is not what it was at the last walk.

use std::{sync::Arc, time::Duration};

use super::trouble::Trouble;
use crate::{
    clock::{Instant, Timestamp},
    text,
    transport::{
        DeadLetter,
        dead_page::{DeadKey, DeadPlace, DeadRow},
    },
};

/// Dead letters that a walk looks at.
pub(crate) const MOST_INDEXED: usize = 20_000;
/// Between the beginnings of two walks of one queue.
const BETWEEN: Duration = Duration::from_mins(1);
/// Bytes of an error that are kept.
const ERROR: usize = 300;

/// What tells whether something has changed in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Dead letters that lie there.
    pub(crate) failed: u64,
    /// Those that the master has made; `None`: it does not answer.
    pub(crate) deaths: Option<u64>,
}

impl Mark {
    fn is_other(self, now: Self) -> bool {
        let has_died = matches!((self.deaths, now.deaths), (Some(before), Some(now)) if before != now);
        self.failed != now.failed || has_died
    }
}

/// What a walk saw.
#[derive(Debug)]
pub(crate) struct Index {
    /// Oldest first.
    pub(crate) rows: Vec<DeadRow>,
    /// There are more.
    pub(crate) is_cut: bool,
    /// Before the walk.
    pub(crate) mark: Mark,
    pub(crate) read_at: Timestamp,
}

/// A queue's place for its index.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    pub(crate) index: Option<Arc<Index>>,
    /// Why the last walk gave none.
    pub(crate) trouble: Option<String>,
    pub(crate) is_walked: bool,
    pub(crate) looked_at: Instant,
    began_at: Option<Instant>,
}

impl Shelf {
    /// Whether a walk is to begin.
    pub(crate) fn is_due(&self, now: Instant, mark: Mark) -> bool {
        !self.is_walked
            && self.began_at.is_none_or(|began_at| now.since(began_at) >= BETWEEN)
            && self.index.as_ref().is_none_or(|index| index.mark.is_other(mark))
    }

    /// A walk begins.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.is_walked = true;
        self.began_at = Some(now);
    }

    /// It has ended.
    pub(crate) fn end(&mut self, walked: Result<Index, Trouble>) {
        self.is_walked = false;
        self.trouble = walked.as_ref().err().map(ToString::to_string);
        if let Ok(index) = walked {
            self.index = Some(Arc::new(index));
        }
    }
}

/// The row of a dead letter: its place is the number that it had in the walk.
pub(crate) fn row(number: usize, letter: &DeadLetter) -> DeadRow {
    let mut row = DeadRow::of(place(number, letter), letter);
    text::bound(&mut row.failure.error, ERROR);
    row
}

fn place(number: usize, letter: &DeadLetter) -> DeadPlace {
    DeadPlace { died_at: letter.failure.failed_at, number: number as i64 }
}

/// Whether this one is asked for. The number in a walk changes with what goes before it: the id says more.
pub(crate) fn is_meant(key: &DeadKey, number: usize, letter: &DeadLetter) -> bool {
    match (&key.id, key.place) {
        (Some(id), _) => *id == letter.id,
        (None, wanted) => wanted == Some(place(number, letter)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(mark: Mark) -> Index {
        Index { rows: Vec::new(), is_cut: false, mark, read_at: Timestamp(0) }
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_start(Duration::from_secs(seconds))
    }

    #[test]
    fn a_queue_is_walked_when_something_has_changed_and_once_a_minute_at_most() {
        let (mark, mut shelf) = (Mark { failed: 3, deaths: Some(3) }, Shelf::default());
        assert!(shelf.is_due(at(1), mark));
        shelf.begin(at(1));
        assert!(!shelf.is_due(at(100), mark), "a walk is under way");
        shelf.end(Ok(index(mark)));
        assert!(!shelf.is_due(at(1000), mark), "nothing has changed");
        let more = Mark { failed: 4, ..mark };
        assert!(!shelf.is_due(at(60), more) && shelf.is_due(at(61), more));
        // One went and another came.
        assert!(shelf.is_due(at(61), Mark { deaths: Some(4), ..mark }));
        // That a master does not answer changes nothing in the queue.
        assert!(!shelf.is_due(at(1000), Mark { deaths: None, ..mark }));
    }

    #[test]
    fn after_a_walk_that_failed_the_old_index_stays_and_it_is_tried_again() {
        let (mark, mut shelf) = (Mark::default(), Shelf::default());
        shelf.begin(at(0));
        shelf.end(Err(Trouble::Slow));
        assert!(shelf.trouble.is_some() && !shelf.is_due(at(59), mark) && shelf.is_due(at(60), mark));
        shelf.begin(at(60));
        shelf.end(Ok(index(mark)));
        assert_eq!(shelf.trouble, None);
        shelf.begin(at(120));
        shelf.end(Err(Trouble::Slow));
        assert!(shelf.index.is_some() && shelf.trouble.is_some());
    }
}
