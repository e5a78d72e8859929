//! Entries: what the ledger is told. Each is a message of its own, JSON, stored with the settlement of the task that it is about.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::order::Order;
use crate::{
    clock::Timestamp,
    json_text::JsonText,
    membership::{Membership, ledger_queue},
    task::{NewTask, Task},
    text,
};

/// A longer entry is refused unread. An order holds a payload and an end a result, both of which are bounded far below this where they
/// come from (`JOB_PAYLOAD`, `JOB_RESULT` and `MEMO` in `limits.rs`).
pub const LONGEST: usize = 16 * 1024 * 1024;

/// What the ledger is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Entry {
    /// A task of a job ended.
    End(Box<End>),
    /// Something about a task that has not ended. Decides nothing, and may be lost.
    News(Box<News>),
    /// A dead letter of a task is back at work.
    Retried(Box<Retried>),
    /// Somebody wants something.
    Order(Box<Order>),
}

/// Which member an entry is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberId {
    /// The job.
    pub job: String,
    /// The step.
    pub step: String,
    /// The begin of that step.
    pub round: Uuid,
    /// Who submitted it.
    pub feeder: Uuid,
    /// Its number among the tasks of its feeder.
    pub index: u32,
    /// It wipes what the step left.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wipe: bool,
}

impl MemberId {
    /// That of a task, if it is of a job.
    #[must_use]
    pub fn of(task: &Task) -> Option<Box<Self>> {
        task.membership.as_deref().map(|place| Box::new(place.into()))
    }
}

impl From<&Membership> for MemberId {
    fn from(membership: &Membership) -> Self {
        Self {
            job: membership.job.clone(),
            step: membership.step.clone(),
            round: membership.round,
            feeder: membership.feeder,
            index: membership.index,
            wipe: membership.wipe,
        }
    }
}

/// The end of a task of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// Which.
    #[serde(flatten)]
    pub member: MemberId,
    /// When, by the clock of the master that settled it.
    pub at: Timestamp,
    /// How.
    pub how: How,
    /// What the task wanted to know when it came again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memo: Option<JsonText>,
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// It is done.
    Done {
        /// The handing to a worker that did it; what it submitted has this as its feeder.
        execution: Uuid,
        /// How many members of its step it submitted.
        items: u32,
        /// What it gives.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        result: Option<JsonText>,
    },
    /// It is a dead letter, or was removed.
    Failed {
        /// The reason's word.
        reason: String,
        /// One line.
        error: String,
        /// Id of the dead letter; `None`: there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dead_letter: Option<String>,
    },
}

/// A task that failed is back at work, because a person wants it. Stored in one step with that and once: told twice, it would undo
/// a later failure. A transport that cannot do so tells nothing: then the end of the task heals its job, and no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retried {
    /// Which.
    #[serde(flatten)]
    pub member: MemberId,
    /// When.
    pub at: Timestamp,
}

/// News of a task that has not ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct News {
    /// Which.
    #[serde(flatten)]
    pub member: MemberId,
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: What,
    /// What the task wants to know when it comes again, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memo: Option<JsonText>,
}

/// What there is to tell of a task that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// A worker has begun it.
    Began,
    /// An attempt failed, and another one is left.
    Retrying {
        /// One line.
        error: String,
        /// When it is due again.
        again_at: Timestamp,
    },
    /// It is put off, with no attempt used.
    Snoozed {
        /// When it is due again.
        again_at: Timestamp,
    },
}

impl Entry {
    /// Reads an entry.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        if body.len() > LONGEST {
            return Err(format!("an entry of {} bytes is longer than {LONGEST}", body.len()));
        }
        serde_json::from_slice(body).map_err(|error| format!("an entry that cannot be read: {error}"))
    }

    /// The id of the order in an entry that [`parse`](Self::parse) cannot read, as far as there is one: whoever gave it waits for an
    /// answer.
    #[must_use]
    pub fn id_of_order(body: &[u8]) -> Option<String> {
        #[derive(Deserialize)]
        struct Outer {
            order: Inner,
        }
        #[derive(Deserialize)]
        struct Inner {
            id: String,
        }
        let read: Outer = serde_json::from_slice(body).ok()?;
        (read.order.id.len() <= LONGEST_ORDER_ID).then_some(read.order.id)
    }

    /// The entry as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Maps with text keys and texts that were JSON before: writing them cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The entry as a message for the ledger of an application.
    #[must_use]
    pub fn message(&self, application: &str, id: String) -> NewTask {
        NewTask { queue: ledger_queue(application), id, body: self.to_bytes(), ..NewTask::default() }
    }

    /// The end of a task that was removed from where it waited, or is a dead letter.
    #[must_use]
    pub fn failed(
        membership: &Membership,
        at: Timestamp,
        reason: &str,
        error: &str,
        dead_letter: Option<&str>,
        memo: Option<&JsonText>,
    ) -> Self {
        let error = text::one_line(error, LONGEST_ERROR);
        let how = How::Failed { reason: reason.to_owned(), error, dead_letter: dead_letter.map(str::to_owned) };
        Self::End(Box::new(End { member: membership.into(), at, how, memo: memo.cloned() }))
    }

    /// A dead letter is back at work.
    #[must_use]
    pub fn retried(membership: &Membership, at: Timestamp) -> Self {
        Self::Retried(Box::new(Retried { member: membership.into(), at }))
    }

    /// News of a task.
    #[must_use]
    pub fn news(membership: &Membership, at: Timestamp, what: What, memo: Option<&JsonText>) -> Self {
        Self::News(Box::new(News { member: membership.into(), at, what, memo: memo.cloned() }))
    }
}

/// Bytes of the id of an order: that of a start is a few more than the job's.
pub(crate) const LONGEST_ORDER_ID: usize = 256;
/// Bytes of the word of a reason.
pub(crate) const LONGEST_REASON: usize = 64;
/// Bytes of an error that an entry tells: the dead letter has all of it.
pub(crate) const LONGEST_ERROR: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let member = MemberId {
            job: "j".to_owned(),
            step: "s".to_owned(),
            round: Uuid::from_u128(1),
            feeder: Uuid::from_u128(2),
            index: 3,
            wipe: false,
        };
        let result = JsonText::parse("{\"n\": 1e400}").ok();
        let how = How::Done { execution: Uuid::from_u128(4), items: 5, result };
        let memo = JsonText::parse("7").ok();
        let end = Entry::End(Box::new(End { member: member.clone(), at: Timestamp(9), how, memo }));
        let retried = Entry::Retried(Box::new(Retried { member: member.clone(), at: Timestamp(9) }));
        let what = What::Retrying { error: "x".to_owned(), again_at: Timestamp(1) };
        let news = Entry::News(Box::new(News { member, at: Timestamp(9), what, memo: None }));
        for entry in [end, news, retried] {
            assert_eq!(Entry::parse(&entry.to_bytes()), Ok(entry));
        }
        assert!(Entry::parse(b"{\"end\":{}}").is_err());
        assert!(Entry::parse(b"\xff").is_err());
    }
}
