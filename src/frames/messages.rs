//! What a worker says, and what both directions share, as values; what a master says is `to_worker::ToWorker`.

use std::time::Duration;

use super::{celery::Application, wants::Wants};
use crate::{
    json_text::JsonText, level::Level, membership::Membership, outcome::Report, properties::Properties, task::Headers,
};

/// The protocol number a worker says in its ready frame.
pub const PROTOCOL: u32 = 1;

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
    /// The result of a lost task is stored, or could not be.
    Reported {
        /// The task's id.
        id: String,
        /// It is stored.
        stored: bool,
    },
    /// What a `control` frame asked for is done, or was tried.
    Controlled {
        /// Of the frame.
        ticket: u64,
    },
    /// A frame of a later protocol; ignored.
    Unknown(String),
}

impl FromWorker {
    pub(super) fn reported((id, stored): (String, bool)) -> Self {
        Self::Reported { id, stored }
    }
}

/// The ready frame.
#[derive(Debug, PartialEq)]
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
    /// The Celery application that it runs.
    pub celery: Option<Box<Application>>,
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
    /// Its place in a job, if it is of one.
    pub job: Option<&'a Membership>,
    /// What its last attempt left for this one.
    pub memo: Option<&'a JsonText>,
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
