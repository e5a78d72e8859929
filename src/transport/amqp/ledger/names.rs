//! The names of what a ledger is made of on a broker, and what its coordinator and the masters say to each other. Of an application A:
//!
//! | name | what it is |
//! | --- | --- |
//! | `asynctask.ledger.A` | quorum queue with the arguments of a work queue: entries ([`ledger_queue`](crate::membership::ledger_queue)); those that cannot be read become its dead letters |
//! | `asynctask.coordinator.A` | durable classic queue, since a quorum queue ignores what makes a consumer exclusive: who consumes it is the coordinator. Its messages are questions, transient and with an expiration |
//! | `asynctask.jobs.A` | quorum queue: a message an open job, and one for the epoch and what is frozen beside jobs; in the coordinator's hands |
//! | `asynctask.jobs.A.ended` | quorum queue: ended jobs, with their time to live |
//! | `asynctask.void.A` | durable fanout exchange: announcements to all masters, each with a queue of its own bound to it |

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{clock::Timestamp, jobs::record::JobFilter};

/// The queue whose exclusive consumer is the coordinator, where it is asked [questions](Question).
pub(crate) fn coordinator_queue(application: &str) -> String {
    format!("asynctask.coordinator.{application}")
}

/// The queue of open jobs.
pub(crate) fn jobs_queue(application: &str) -> String {
    format!("asynctask.jobs.{application}")
}

/// The queue of ended jobs.
pub(crate) fn ended_queue(application: &str) -> String {
    format!("asynctask.jobs.{application}.ended")
}

/// The exchange of [announcements](Announcement).
pub(crate) fn void_exchange(application: &str) -> String {
    format!("asynctask.void.{application}")
}

/// What is asked at the coordinator's queue, as JSON; the answer goes to `reply_to` with the `correlation_id` of the question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Question {
    /// The void rounds and frozen jobs that there are: the answer is an [`Announcement`] that is complete.
    Stopped,
    /// The open jobs that this filter holds, whatever its limit is, and what is frozen beside them: the answer comes in parts. Of many
    /// or large ones it has the first, and those after the last of them are asked for then.
    Jobs {
        filter: JobFilter,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<Place>,
    },
}

/// The place of a job among all: when it was made, and its id.
pub(crate) type Place = (Timestamp, String);

/// What masters are told, as JSON: by the exchange, without a property that matters, or as the answer to [`Question::Stopped`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Announcement {
    /// Of the coordinator that says so. One of a lower epoch than another that was heard says nothing of frozen jobs any more; a void
    /// round is void whoever says so.
    pub(crate) epoch: u64,
    /// `frozen` is all that there are: every other job is not frozen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) complete: bool,
    /// Rounds that are void.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) void: Vec<Uuid>,
    /// Jobs that are frozen from now on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) frozen: Vec<String>,
    /// Jobs that are frozen no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) thawed: Vec<String>,
    /// Somebody wants to know which rounds have tasks in hand: nothing else is said then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hands: Option<HandsAsked>,
    /// Somebody wants to know whether a task of this job is in a hand, but for one that wipes: nothing else is said then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hands_of: Option<HandsOfJob>,
}

/// Where each master answers that has tasks of a job in hand, with a JSON list of the ids of their rounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HandsOfJob {
    /// The job.
    pub(crate) job: String,
    /// Where, and what the answers are told apart by.
    #[serde(flatten)]
    pub(crate) asked: HandsAsked,
}

/// Where each master that has tasks of jobs in hand sends the ids of their rounds, as a JSON list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HandsAsked {
    /// The queue.
    pub(crate) reply_to: String,
    /// What the answers are told apart by.
    pub(crate) correlation_id: String,
}

impl Announcement {
    /// Whether it says nothing.
    pub(crate) const fn is_empty(&self) -> bool {
        !self.complete && self.void.is_empty() && self.frozen.is_empty() && self.thawed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_read_as_it_was_written() {
        let said = Announcement { epoch: 3, void: vec![Uuid::from_u128(1)], ..Announcement::default() };
        let text = serde_json::to_string(&said).unwrap();
        assert_eq!(text, format!("{{\"epoch\":3,\"void\":[\"{}\"]}}", Uuid::from_u128(1)));
        assert_eq!(serde_json::from_str::<Announcement>(&text).unwrap(), said);
        assert_eq!(serde_json::to_string(&Question::Stopped).unwrap(), "\"stopped\"");
    }
}
