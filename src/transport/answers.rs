//! What a transport answers to those who look, and to those who take a task back.

use crate::clock::Timestamp;

/// What lies in one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Depth {
    /// Due and unclaimed.
    pub ready: u64,
    /// Waiting for their time.
    pub delayed: u64,
    /// In the hands of masters, as far as this transport can see.
    pub in_hand: u64,
    /// Dead letters.
    pub failed: u64,
    /// They are those of all queues with this dead-letter queue: which came from where is only seen by looking at each.
    pub failed_shared: bool,
    /// The broker does not tell what lies in this queue, or behind it: the counts mean nothing.
    pub unknown: bool,
}

/// What is remembered of an application's schedules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScheduleMemory {
    /// Schedule ids with the last moment that each fired for, sorted.
    pub moments: Vec<(String, Timestamp)>,
    /// Whether somebody is the scheduler.
    pub is_led: bool,
    /// Process ids of the masters that live, one of which is the scheduler, if they can be seen.
    pub masters: Vec<u32>,
}

/// What became of a task that was to be removed where it waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// It is removed.
    Removed {
        /// From this queue.
        queue: String,
    },
    /// A master has it.
    Held {
        /// Of that master; `None`: the one on this transport, or one that has just ended.
        pid: Option<u32>,
    },
    /// It is a dead letter.
    Dead {
        /// Of this queue.
        queue: String,
    },
    /// There is none with this id.
    Absent,
    /// A task that waits cannot be found by its id on this transport.
    Impossible,
}
