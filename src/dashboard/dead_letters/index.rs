//! What a walk saw of a queue, kept for views: a broker has no index, and each walk takes all that lies there into hand.
//!
//! A queue is walked when somebody looks, once a minute at most, and only if the number of its dead letters, or of those that the
//! master made, is not what it was at the last walk. What all indexes take is bounded: those go whose queues nobody looks at.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use super::trouble::Trouble;
use crate::{
    clock::{Instant, Timestamp},
    redact::redact,
    text,
    transport::{
        DeadLetter,
        dead_page::{DeadKey, DeadPlace, DeadRow},
    },
};

/// Dead letters that a walk looks at.
pub(crate) const MOST_INDEXED: usize = 20_000;
/// Bytes of the rows of one index.
const BYTES: usize = 24 << 20;
/// Bytes of the rows of all indexes.
const BYTES_OF_ALL: usize = 64 << 20;
/// Queues of which it is known when they were walked.
const QUEUES: usize = 1000;
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

/// The rows of a walk.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// Oldest first.
    pub(crate) all: Vec<DeadRow>,
    bytes: usize,
    /// There are more.
    pub(crate) is_cut: bool,
}

impl Rows {
    /// Takes the next one, if there is room.
    pub(crate) fn push(&mut self, letter: &DeadLetter) {
        self.is_cut = self.all.len() >= MOST_INDEXED || self.bytes >= BYTES;
        if !self.is_cut {
            let row = row(self.all.len(), letter);
            self.bytes += bytes(&row);
            self.all.push(row);
        }
    }
}

/// What a walk saw.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) rows: Rows,
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

/// Drops what was looked at longest ago, until the others have room. `used` stays.
pub(crate) fn evict(shelves: &mut BTreeMap<String, Shelf>, used: &str) {
    let bytes = |shelf: &Shelf| shelf.index.as_ref().map_or(0, |index| index.rows.bytes);
    while shelves.values().map(bytes).sum::<usize>() > BYTES_OF_ALL {
        let others = shelves.iter_mut().filter(|(name, shelf)| *name != used && shelf.index.is_some());
        let Some((_, oldest)) = others.min_by_key(|(_, shelf)| shelf.looked_at) else { break };
        // When it was walked stays: it is not walked again at once.
        oldest.index = None;
    }
    while shelves.len() > QUEUES {
        let idle = shelves.iter().filter(|(name, shelf)| *name != used && !shelf.is_walked);
        let Some(oldest) = idle.min_by_key(|(_, shelf)| shelf.looked_at).map(|(name, _)| name.clone()) else { break };
        shelves.remove(&oldest);
    }
}

/// The row of a dead letter: its place is the number that it had in the walk.
fn row(number: usize, letter: &DeadLetter) -> DeadRow {
    let mut row = DeadRow::of(place(number, letter), letter);
    // First redacted, then cut: half an address may show a password as its end.
    without_passwords(&mut row.failure.error);
    text::bound(&mut row.failure.error, ERROR);
    row
}

/// Redacts the passwords of addresses.
pub(crate) fn without_passwords(text: &mut String) {
    if let Cow::Owned(redacted) = redact(text) {
        *text = redacted;
    }
}

fn bytes(row: &DeadRow) -> usize {
    let texts = [&row.id, &row.reason, &row.fingerprint, &row.failure.error, &row.failure.kind, &row.failure.host];
    let named = [&row.job, &row.step];
    let lengths = texts.into_iter().chain(named.into_iter().flatten()).map(String::len);
    size_of::<DeadRow>() + lengths.sum::<usize>()
}

fn place(number: usize, letter: &DeadLetter) -> DeadPlace {
    DeadPlace { died_at: letter.failure.failed_at, number: number as i64 }
}

/// Whether a dead letter is the one that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meant {
    Yes,
    /// It has the id, and died at another moment: a crash of a master may leave two of one id.
    IdAlone,
    No,
}

/// Whether this one is asked for. The number in a walk changes with what goes before it: id and moment say more.
pub(crate) fn meant(key: &DeadKey, number: usize, letter: &DeadLetter) -> Meant {
    match (&key.id, key.place) {
        (Some(id), _) if *id != letter.id => Meant::No,
        (Some(_), Some(wanted)) if wanted.died_at != letter.failure.failed_at => Meant::IdAlone,
        (None, wanted) if wanted != Some(place(number, letter)) => Meant::No,
        (Some(_) | None, _) => Meant::Yes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Failure, Reason};

    fn index(mark: Mark) -> Index {
        Index { rows: Rows::default(), mark, read_at: Timestamp(0) }
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

    fn letter(id: &str, died_at: i64) -> DeadLetter {
        let failure =
            Failure::new(Reason::Error, format!("{}amqp://u:s3cret@h", "x".repeat(ERROR - 10)), Timestamp(died_at));
        DeadLetter {
            id: id.to_owned(),
            queue: "foo".to_owned(),
            body: Vec::new(),
            headers: serde_json::Map::new(),
            properties: None,
            reason: "error".to_owned(),
            failure,
            first_failed_at: None,
            history: Vec::new(),
            membership: None,
            memo: None,
        }
    }

    #[test]
    fn of_two_with_one_id_that_is_meant_which_died_at_the_moment() {
        let at = |died_at| Some(DeadPlace { died_at: Timestamp(died_at), number: 7 });
        let key = |id: Option<&str>, place| DeadKey { id: id.map(str::to_owned), place };
        let letter = letter("a", 5);
        assert_eq!(meant(&key(Some("a"), at(5)), 3, &letter), Meant::Yes);
        assert_eq!(meant(&key(Some("a"), None), 3, &letter), Meant::Yes);
        assert_eq!(meant(&key(Some("a"), at(6)), 3, &letter), Meant::IdAlone);
        assert_eq!(meant(&key(Some("b"), at(5)), 3, &letter), Meant::No);
        assert_eq!([3, 7].map(|number| meant(&key(None, at(5)), number, &letter)), [Meant::No, Meant::Yes]);
        assert_eq!(meant(&DeadKey::default(), 0, &letter), Meant::No);
    }

    #[test]
    fn what_is_kept_is_bounded_and_has_no_passwords() {
        let mut rows = Rows::default();
        let long = letter(&"i".repeat(BYTES / 4), 0);
        while !rows.is_cut {
            rows.push(&long);
        }
        assert_eq!(rows.all.len(), 4);
        let error = &rows.all[0].failure.error;
        assert!(error.len() <= ERROR && !error.contains("s3"), "{error}");
        // A queue that nobody looks at gives way, and is still not walked twice in a minute.
        let mut shelves = BTreeMap::new();
        for number in 0..5_u64 {
            let mut shelf = Shelf { looked_at: at(number), ..Shelf::default() };
            shelf.begin(at(number));
            let rows = Rows { bytes: BYTES_OF_ALL / 3, ..Rows::default() };
            shelf.end(Ok(Index { rows, ..index(Mark::default()) }));
            shelves.insert(number.to_string(), shelf);
            evict(&mut shelves, "0");
        }
        let kept: Vec<&str> =
            shelves.iter().filter(|(_, shelf)| shelf.index.is_some()).map(|(name, _)| name.as_str()).collect();
        assert_eq!(kept, ["0", "3", "4"]);
        assert!(!shelves["1"].is_due(at(59), Mark::default()) && shelves["1"].is_due(at(61), Mark::default()));
        for number in 0..2 * QUEUES {
            shelves.insert(format!("q{number}"), Shelf::default());
        }
        evict(&mut shelves, "0");
        assert!(shelves.len() <= QUEUES && shelves.contains_key("0"));
    }
}
