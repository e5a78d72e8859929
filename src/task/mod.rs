//! The task: as it lies in a queue, as a delivery, and its settlements.
//!
//! These types are the vocabulary that transports, the core and the command line share. They hold data and
//! pure rules about it (what is a payload, what is a queue name); they know no transport and read no clock.

mod failure;

use std::{borrow::Cow, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    clock::Timestamp, json_text::JsonText, membership::Membership, properties::Properties, protocol::Protocol,
};

pub use failure::{Exit, Failure, Reason};

/// Headers of a task, as JSON. Names that start with `asynctask-` are ours and not part of this map.
pub type Headers = serde_json::Map<String, serde_json::Value>;

/// Names one delivery for the life of this process; never used again after its settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub u64);

/// The number of a queue between the transport and its owner: its position in the list that was attached, or the
/// index that it was added at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueIndex(pub usize);

/// A message in a queue, read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Task {
    /// The message's id; one made for the time in our hands where the message has none.
    pub id: String,
    /// Body bytes, exactly as they came.
    pub body: Vec<u8>,
    /// Attempts used before this delivery.
    pub attempts: u32,
    /// Earlier deliveries that ended without any outcome (killed master, lost host).
    pub deliveries: u32,
    /// Headers that are not ours.
    pub headers: Headers,
    /// What the message says of itself; most tasks have none of it.
    pub properties: Option<Box<Properties>>,
    /// After this moment the task is dead-lettered as `expired`, not run.
    pub expires_at: Option<Timestamp>,
    /// When the first failure of this task was, if there was one.
    pub first_failed_at: Option<Timestamp>,
    /// How it ended before it was put back to work, oldest first.
    pub history: Vec<Ending>,
    /// Since when a worker could have had it, as far as the transport knows.
    pub due_at: Option<Timestamp>,
    /// What the message calls it: the name of a task of Celery's; `None` elsewhere.
    pub name: Option<Box<str>>,
    /// This task's own hard limit, which the message names; the queue's holds where it is shorter.
    pub time_limit: Option<Duration>,
    /// What of the message cannot be read, if its body can: it is dead-lettered as `malformed`, not run.
    pub unreadable: Option<String>,
    /// Its place in a job, if it is of one.
    pub membership: Option<Box<Membership>>,
    /// What its last attempt left for the next one.
    pub memo: Option<JsonText>,
}

/// An earlier end of a task: what stays of a dead letter that was put back to work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// The reason's word.
    pub reason: String,
    /// The error, cut to 300 bytes.
    pub error: String,
    /// Times the task was run.
    pub attempts: u32,
    /// When it ended.
    pub failed_at: Timestamp,
}

impl Ending {
    /// Endings that a task remembers; the oldest are forgotten.
    pub const REMEMBERED: usize = 5;

    /// The end that a failure was.
    #[must_use]
    pub fn of(reason: &str, failure: &Failure) -> Self {
        Self {
            reason: reason.to_owned(),
            error: failure.error[..failure.error.floor_char_boundary(300)].to_owned(),
            attempts: failure.attempts,
            failed_at: failure.failed_at,
        }
    }

    /// Appends an end to a history.
    pub fn remember(self, history: &mut Vec<Self>) {
        history.push(self);
        history.drain(..history.len().saturating_sub(Self::REMEMBERED));
    }
}

/// A task in our hands, owed exactly one settlement.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Names this delivery in its settlement.
    pub handle: Handle,
    /// The queue it came from.
    pub queue: QueueIndex,
    /// The task. Shared with the transport, which needs it again for a move.
    pub task: std::sync::Arc<Task>,
    /// The transport says this task may have been delivered before.
    pub redelivered: bool,
    /// A hash of queue, message id, attempts and body by which this node knows the task again after a lost
    /// session; `None` for a message without an id.
    pub identity: Option<u64>,
}

/// A task to be put into a queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewTask {
    /// Target queue.
    pub queue: String,
    /// Message id.
    pub id: String,
    /// Body bytes.
    pub body: Vec<u8>,
    /// Not due before this much time has passed.
    pub delay: Duration,
    /// The delay ends at a moment of the wall clock that was named: it is due then, also if the wall clock is set meanwhile. The
    /// store in memory ignores this: all its delays are of elapsed time.
    pub at_moment: bool,
    /// After this moment it is dead-lettered, not run.
    pub expires_at: Option<Timestamp>,
    /// Extra headers.
    pub headers: Headers,
    /// The higher, the earlier, in a queue that has priorities. A transport without any refuses the task.
    pub priority: Option<u8>,
    /// The form of the queue's messages, as far as its producer knows. For one of Celery's the body is `{"task", "args", "kwargs"}`,
    /// from which a transport that has such queues makes the message.
    pub protocol: Protocol,
    /// Its place in a job, if it is of one.
    pub membership: Option<Box<Membership>>,
}

/// What we tell the transport about a delivery.
#[derive(Clone, Debug, PartialEq)]
pub enum Settlement {
    /// The worker reported success. Follow-up tasks are stored together with it.
    Done {
        /// Tasks to store; atomically with the removal where the transport can, confirmed before it elsewhere.
        submit: Vec<NewTask>,
    },
    /// Remove it from the queue now, but keep the delivery: it is still being worked (early acknowledgement).
    /// A later `Retry`, `Snooze`, `Dead` or `Release` of the same handle stores a copy, `Done` ends it.
    Accept,
    /// An attempt was used; due again after a delay.
    Retry {
        /// Time until it is due.
        after: Duration,
        /// Why the attempt failed.
        failure: Box<Failure>,
    },
    /// No attempt used; due again after a delay.
    Snooze {
        /// Time until it is due.
        after: Duration,
        /// What it is to have when it comes again; `None`: what it had.
        memo: Option<JsonText>,
    },
    /// Moved to the dead-letter queue.
    Dead(Box<Failure>),
    /// Back to its queue at once, no attempt used.
    Release,
    /// Removed, as a task of a round that is void: nothing of it counts.
    Discard,
    /// Of one that came as [`Event::CameAgain`](crate::transport::Event::CameAgain): it is not known here. The transport
    /// counts that it came again, or delays it further, before it comes to anyone.
    Pass,
}

impl Settlement {
    /// Whether it stores a copy of the task, which is told once it is stored.
    pub(crate) const fn is_copy(&self) -> bool {
        matches!(self, Self::Retry { .. } | Self::Snooze { .. } | Self::Dead(_))
    }

    /// Whether it puts the task back into its queue, now or later.
    pub(crate) const fn puts_back(&self) -> bool {
        matches!(self, Self::Retry { .. } | Self::Snooze { .. } | Self::Release | Self::Pass)
    }
}

/// What a kind of worker wants as payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accepts {
    /// JSON text, passed on as it is.
    #[default]
    Json,
    /// Any bytes.
    Bytes,
}

/// Reads a body as a JSON payload: its own text, raw line ends replaced by spaces (valid JSON has them only
/// between tokens). With `unwrap`, a string that holds an object or array as text is unwrapped once, for
/// producers that encode twice; every other string stays a string.
///
/// # Errors
/// What is wrong with the text, and where.
pub fn json_payload(body: &[u8], unwrap: bool) -> Result<Cow<'_, str>, String> {
    let text = std::str::from_utf8(body).map_err(|error| format!("the body is not UTF-8: {error}"))?;
    check_json(text).map_err(|error| format!("the body is not JSON: {error}"))?;
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    if unwrap && text.starts_with('"') {
        // A string with half of a surrogate pair is JSON all the same, but its text cannot be unwrapped without changing it.
        let inner: String = serde_json::from_str(text).unwrap_or_default();
        let nested = inner.trim_start();
        if (nested.starts_with('{') || nested.starts_with('[')) && check_json(&inner).is_ok() {
            return Ok(Cow::Owned(one_line(inner.trim()).into_owned()));
        }
    }
    Ok(one_line(text))
}

/// Text without the byte order mark at its beginning, which some tools put before JSON.
///
/// # Errors
/// If it is in another encoding than UTF-8, as far as its beginning tells.
pub fn without_mark(text: &[u8]) -> Result<&[u8], String> {
    // No JSON begins with a NUL, or has one behind its first character.
    if text.starts_with(&[0xff, 0xfe]) || text.starts_with(&[0xfe, 0xff]) || text.iter().take(2).any(|byte| *byte == 0)
    {
        return Err("it is UTF-16, not UTF-8".to_owned());
    }
    Ok(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text))
}

fn check_json(text: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<&RawValue>(text).map(drop)
}

fn one_line(text: &str) -> Cow<'_, str> {
    if memchr::memchr2(b'\n', b'\r', text.as_bytes()).is_some() {
        Cow::Owned(text.replace(['\n', '\r'], " "))
    } else {
        Cow::Borrowed(text)
    }
}

/// Whether `name` can be a queue: 1–200 bytes of ASCII letters, digits and `_ - . :`, starting with a letter or digit.
#[must_use]
pub fn is_queue_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    (1..=200).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_-.:".contains(byte))
}

/// Longest name of a queue, in bytes: that of its longest delay queue has 255, the most that a broker takes.
pub(crate) const LONGEST_QUEUE_NAME: usize = 255 - ".retry.86400000".len();

/// Whether a queue that others made may have this name, which [`is_queue_name`] need not hold for: on a broker any text of
/// 1–240 bytes (its delay queues have up to 15 more, and a name on a broker 255), but for control characters and what the broker keeps to itself (`amq.`). A queue whose name is no name for
/// one of ours is worked where it exists, and never created.
#[must_use]
pub fn is_foreign_queue_name(name: &str) -> bool {
    (1..=LONGEST_QUEUE_NAME).contains(&name.len()) && !name.contains(char::is_control) && !name.starts_with("amq.")
}

/// Whether `name` has the form of a delay queue, `foo.retry.500`. On a broker such a queue gives its tasks back after their
/// time; one that was made as a work queue under that name would keep those of `foo` for ever.
#[must_use]
pub fn is_delay_queue_name(name: &str) -> bool {
    let delay = name.rsplit_once(".retry.").map(|(_, delay)| delay);
    delay.is_some_and(|delay| !delay.is_empty() && delay.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether a queue is one that this program makes for itself, `asynctask.ledger.…`: nobody submits to it, or works it, by hand.
#[must_use]
pub fn is_own_queue_name(name: &str) -> bool {
    name.starts_with("asynctask.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_text_is_never_changed_but_for_line_ends_between_tokens() {
        assert_eq!(json_payload(b"{\"a\": 1e400,\r\n \"b\":\"x\"}", true).unwrap(), "{\"a\": 1e400,   \"b\":\"x\"}");
        let long = "1234567890123456789012345678901234567890";
        assert_eq!(json_payload(long.as_bytes(), true).unwrap(), long);
    }

    #[test]
    fn only_a_string_that_holds_an_object_or_array_is_unwrapped() {
        assert_eq!(json_payload(br#""{\"foo\":1}""#, true).unwrap(), r#"{"foo":1}"#);
        assert_eq!(json_payload(br#""[1,2]""#, true).unwrap(), "[1,2]");
        assert_eq!(json_payload(br#""42""#, true).unwrap(), r#""42""#);
        for half in [r#""\ud800""#, r#"["\ud800"]"#, r#""{\"a\":\"\ud800\"}""#] {
            assert_eq!(json_payload(half.as_bytes(), true).unwrap(), half, "the same text is JSON everywhere");
        }
        assert_eq!(json_payload(br#""{not json}""#, true).unwrap(), r#""{not json}""#);
        assert_eq!(json_payload(br#""{\"foo\":1}""#, false).unwrap(), r#""{\"foo\":1}""#);
    }

    #[test]
    fn nonsense_is_refused_with_the_place() {
        assert!(json_payload(b"{\"a\":", true).unwrap_err().contains("line 1 column"));
        assert!(json_payload(&[0xff, 0xfe], true).unwrap_err().contains("UTF-8"));
        assert!(json_payload(b"", true).is_err());
        assert!(json_payload("[".repeat(200_000).as_bytes(), true).is_err());
    }

    #[test]
    fn a_mark_is_no_part_of_a_payload_and_other_encodings_are_named() {
        assert_eq!(without_mark(b"\xef\xbb\xbf{}"), Ok(&b"{}"[..]));
        assert_eq!(without_mark(b"7"), Ok(&b"7"[..]));
        for text in [&b"\xff\xfe{\0"[..], b"\xfe\xff\0{", b"{\0}\0", b"\0{\0}"] {
            assert!(without_mark(text).is_err_and(|error| error.contains("UTF-16")), "{text:?}");
        }
    }

    #[test]
    fn queue_names() {
        for good in ["f", "foo", "a.b:c-d_e", "9lives", &"x".repeat(200)] {
            assert!(is_queue_name(good), "{good}");
        }
        for bad in ["", "_a", ".a", "a b", "a\n", "ä", &"x".repeat(201)] {
            assert!(!is_queue_name(bad), "{bad}");
        }
        for good in ["a", "_a", " ", "a/b", "ä@#+*", "-x", &"x".repeat(240)] {
            assert!(is_foreign_queue_name(good), "{good}");
        }
        for bad in ["", "a\n", "\u{85}", "amq.gen-x", &"x".repeat(241)] {
            assert!(!is_foreign_queue_name(bad), "{bad}");
        }
    }
}
