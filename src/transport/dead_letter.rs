//! A dead letter: the task as it came, and exactly what ended it.

use std::time::Duration;

use crate::{
    clock::Timestamp,
    json_text::JsonText,
    membership::Membership,
    payload::Body,
    properties::Properties,
    task::{Ending, Failure, Headers},
};

/// A queue's dead letters: where they lie and how long they are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadQueue {
    /// The work queue.
    pub queue: String,
    /// Name of its dead-letter queue.
    pub name: String,
    /// How long a dead letter is kept; `None`: for ever.
    pub keep: Option<Duration>,
}

impl DeadQueue {
    /// The dead letters of `queue` under the default name and retention (96 h).
    #[must_use]
    pub fn of(queue: &str) -> Self {
        Self { queue: queue.to_owned(), name: format!("{queue}_failed"), keep: Some(Duration::from_hours(96)) }
    }
}

/// One dead letter, read.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// The task's id.
    pub id: String,
    /// The queue it was taken from.
    pub queue: String,
    /// Body bytes as they came.
    pub body: Vec<u8>,
    /// Headers that are not ours.
    pub headers: Headers,
    /// What the message says of itself, as of the task.
    pub properties: Option<Box<Properties>>,
    /// The reason's word; `broker:<reason>` for what the broker dead-lettered for reasons of its own.
    pub reason: String,
    /// The cause. Its `reason` is the nearest of ours where the broker or others dead-lettered it.
    pub failure: Failure,
    /// When the first failure was.
    pub first_failed_at: Option<Timestamp>,
    /// How it ended before, if it was put back to work, oldest first.
    pub history: Vec<Ending>,
    /// Its place in a job, if it is of one.
    pub membership: Option<Box<Membership>>,
    /// What it has with it when it is put back to work.
    pub memo: Option<JsonText>,
}

impl<'a> From<&'a DeadLetter> for Body<'a> {
    fn from(letter: &'a DeadLetter) -> Self {
        Self { bytes: &letter.body, properties: letter.properties.as_deref(), headers: &letter.headers }
    }
}

impl DeadLetter {
    /// The error text with numbers, ids and paths folded, hashed to 8 hex digits: the same for the same mistake.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.reason, &self.failure.error)
    }

    /// The history of the task once this dead letter is put back to work.
    #[must_use]
    pub fn history_with_this(&self) -> Vec<Ending> {
        let mut history = self.history.clone();
        Ending::of(&self.reason, &self.failure).remember(&mut history);
        history
    }
}

/// What to do with a dead letter that was visited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visit {
    /// Leave it where it is.
    Keep,
    /// Put it back into its work queue, attempts from the start, with this body if given; removed after the confirm.
    /// Its end is added to the task's history. See [`Walked::left`].
    Retry {
        /// Replaces the body.
        body: Option<Vec<u8>>,
    },
    /// Delete it.
    Remove,
    /// Leave it and end the walk.
    Stop,
    /// Store what was decided so far, and ask again about this one after this long. (A visitor must not wait itself:
    /// it is called on the thread that keeps the connection alive.)
    Wait(Duration),
}

/// Decides about each dead letter of a walk.
pub type Visitor = Box<dyn FnMut(&DeadLetter) -> Visit + Send>;

/// What a walk did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// Dead letters visited; one that was waited with counts once.
    pub seen: u64,
    /// Put back into the work queue.
    pub retried: u64,
    /// Deleted.
    pub removed: u64,
    /// Left where they are although they were to be put back: of jobs that are wiped or forgotten, of steps that were ended or begun
    /// again, or of a job whose key another one has. Not every transport looks at that.
    pub left: u64,
}

impl Walked {
    /// Of two walks, one after the other.
    #[must_use]
    pub const fn and(self, more: Self) -> Self {
        Self {
            seen: self.seen + more.seen,
            retried: self.retried + more.retried,
            removed: self.removed + more.removed,
            left: self.left + more.left,
        }
    }
}

/// Folds what differs between two instances of the same mistake and hashes the rest (FNV-1a, 32 bits).
#[must_use]
pub fn fingerprint(reason: &str, error: &str) -> String {
    let mut hash = 0x811c_9dc5_u32;
    let mut feed = |byte: u8| hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    reason.bytes().chain([b':']).for_each(&mut feed);
    for word in error.split_whitespace() {
        let varies = word.contains('/') || word.bytes().any(|byte| byte.is_ascii_digit());
        if varies {
            feed(b'#');
        } else {
            word.bytes().for_each(&mut feed);
        }
        feed(b' ');
    }
    format!("{hash:08x}")
}

#[cfg(test)]
mod tests {
    use super::fingerprint;

    #[test]
    fn instances_of_one_mistake_share_a_fingerprint() {
        let one = fingerprint("error", "row 17 of /tmp/a.csv is missing 5f2c-11");
        assert_eq!(one, fingerprint("error", "row 99 of /var/b.csv is missing 0a-9"));
        assert_ne!(one, fingerprint("crash", "row 17 of /tmp/a.csv is missing 5f2c-11"));
        assert_ne!(one, fingerprint("error", "column 17 of /tmp/a.csv is missing 5f2c-11"));
        assert_eq!(one.len(), 8);
    }
}
