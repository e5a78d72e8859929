//! Frames between master and worker, protocol 1: newline-delimited JSON over a Unix stream socket.
//!
//! A frame is one line that holds an object; its key names the frame: `{"done":{"id":"…"}}`. Unknown keys
//! and unknown frames are ignored by both sides, so that either may be newer; anything else that is not as
//! said here is a [`Fault`], and whoever sent it is not to be trusted any further.
//!
//! The two directions are two files, each with the writing and the reading of the same frames:
//! [`to_worker`] and [`from_worker`]. What the master uses is named here as well.

pub mod from_worker;
mod lines;
pub mod to_worker;
mod wants;

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, de};

pub use self::{
    from_worker::parse,
    lines::LineBuffer,
    to_worker::{halt, log_level, ping, recall, task},
    wants::Wants,
};
pub(crate) use self::{
    lines::newline,
    to_worker::{base64, is_task},
};
use crate::{
    level::Level,
    limits::FAULT,
    outcome::Report,
    properties::Properties,
    task::Headers,
    text::{cut, shorten},
    unicode::read_text,
};

/// The protocol number a worker says in its ready frame.
pub const PROTOCOL: u32 = 1;

/// Longest frame in bytes, its newline included.
pub const LIMIT: usize = 16 * 1024 * 1024;

/// What a worker says.
#[derive(Debug)]
pub enum FromWorker {
    /// It can take tasks.
    Ready(Ready),
    /// A task ended.
    Outcome {
        /// The task's id.
        id: String,
        /// How.
        outcome: Report,
    },
    /// Acknowledge this task now, from the middle of it.
    Accept {
        /// The task's id.
        id: String,
    },
    /// How far it is.
    Progress {
        /// The task's id.
        id: String,
        /// 0 to 100.
        percent: Option<f64>,
        /// Free text.
        note: String,
    },
    /// A line for the log.
    Log {
        /// Its level.
        level: Level,
        /// Its text.
        message: String,
    },
    /// It has finished and goes.
    Bye,
    /// Answer to a ping.
    Pong {
        /// Of the ping.
        n: u64,
    },
    /// Answer to a recall: tasks not begun, and that will not be.
    Returned {
        /// Their ids.
        ids: Vec<String>,
    },
    /// A frame of a later protocol; ignored.
    Unknown(String),
}

/// The ready frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Ready {
    /// Must be [`PROTOCOL`].
    pub protocol: u32,
    /// The kind's own name for the log.
    pub name: Option<String>,
    /// Tasks at once.
    pub concurrency: u32,
    /// Tasks accepted beyond those worked on.
    pub ahead: u32,
    /// What its task frames are to hold beyond what each has.
    pub wants: Wants,
}

/// A task as it is put into a frame.
#[derive(Clone, Copy, Debug)]
pub struct TaskFrame<'a> {
    /// The task's id.
    pub id: &'a str,
    /// Its queue.
    pub queue: &'a str,
    /// Attempts used + 1.
    pub attempt: u32,
    /// Attempts in all.
    pub max_attempts: u32,
    /// The payload.
    pub payload: Payload<'a>,
    /// Headers that are not ours.
    pub headers: &'a Headers,
    /// What the message says of itself, for a worker that wants it.
    pub properties: Option<&'a Properties>,
    /// Time left when it begins; `None` without a limit.
    pub deadline: Option<Duration>,
}

/// A payload as the kind accepts it.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    /// JSON on one line, passed on as its own text.
    Json(&'a str),
    /// Bytes, sent as `payload_base64`.
    Bytes(&'a [u8]),
}

/// Why a worker is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HaltReason {
    /// Nothing is left to do.
    Empty,
    /// The master stops.
    Stop,
    /// This process is to be renewed.
    Recycle,
}

/// What one side may not send.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The line is longer than [`LIMIT`], or has not ended within it.
    #[error("a frame is longer than {} MiB", LIMIT >> 20)]
    TooLong,
    /// The line is not a frame, or lacks what its frame requires.
    #[error("a frame does not parse: {cause}")]
    Unreadable {
        /// What is wrong, and in which column.
        cause: String,
    },
}

impl Fault {
    fn unreadable(cause: &dyn fmt::Display) -> Self {
        // A type error quotes what it found, which may be megabytes.
        let cause = shorten(cause.to_string(), FAULT);
        Self::Unreadable { cause: cause.replace(" at line 1 column ", " at column ") }
    }
}

/// The word for a level in a frame and in a worker's environment.
#[must_use]
pub const fn level_word(level: Level) -> &'static str {
    match level {
        Level::Error => "ERROR",
        Level::Warning => "WARNING",
        Level::Info => "INFO",
        Level::Debug => "DEBUG",
    }
}

/// The level of a word, in any case; `WARN`, `CRITICAL` and the like are known too.
#[must_use]
pub fn level_of(word: &str) -> Option<Level> {
    word.parse().ok()
}

/// A key of a frame, without a copy where it has no escapes.
struct Name<'a>(std::borrow::Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_text(deserializer).map(Self)
    }
}

impl Name<'_> {
    /// As it may stand in a log line.
    fn shown(&self) -> String {
        cut(&self.0, 64).to_owned()
    }
}

/// A duration in milliseconds; a fraction counts as a whole one.
struct Millis(Duration);

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl de::Visitor<'_> for Number {
            type Value = Millis;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of milliseconds, 0 or more")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Millis, E> {
                Ok(Millis(Duration::from_millis(number)))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Millis, E> {
                if number < 0.0 {
                    return Err(E::invalid_value(de::Unexpected::Float(number), &self));
                }
                Ok(Millis(Duration::from_millis(number.ceil() as u64)))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

/// Milliseconds for a frame; rounded up, so that a wait is never cut to nothing.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Appends a value as JSON.
fn push_json<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("strings and maps with string keys are written to memory without fail");
}

/// Appends a number.
fn push_number(out: &mut Vec<u8>, number: u64) {
    push_json(out, &number);
}
