//! A task as it goes to the transport, made of a queue's name, a payload and [`SubmitOptions`].
//!
//! What is wrong with it by itself is found here: a name that no queue can have, a payload that is no JSON. A moment at which it
//! is to be done becomes a delay by the wall clock of this machine. Nothing is sent.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::{
    error::Error,
    options::{Due, SubmitOptions},
};
use crate::{
    clock::{Clock, Timestamp},
    protocol::Protocol,
    task::{NewTask, is_delay_queue_name, is_foreign_queue_name, is_own_queue_name, is_queue_name},
};

/// A task that is ready to be stored, for `submit_all`. A delay or moment of its options counts from here on.
#[derive(Clone, Debug)]
pub struct Submission(NewTask);

impl Submission {
    /// A task with this payload, for this queue.
    ///
    /// # Errors
    /// [`Error::Payload`], [`Error::QueueName`], [`Error::DelayQueue`], [`Error::OwnQueue`].
    pub fn new<P: Serialize + ?Sized>(queue: &str, payload: &P, options: SubmitOptions) -> Result<Self, Error> {
        // The transport decides whether a queue of other programs may have such a name.
        if !is_queue_name(queue) && !is_foreign_queue_name(queue) {
            return Err(Error::QueueName { queue: queue.to_owned() });
        }
        if is_delay_queue_name(queue) {
            return Err(Error::DelayQueue { queue: queue.to_owned() });
        }
        if is_own_queue_name(queue) {
            return Err(Error::OwnQueue { queue: queue.to_owned() });
        }
        let (delay, at_moment) = match options.due {
            Due::AtOnce => (Duration::ZERO, false),
            Due::After(delay) => (delay, false),
            Due::At(moment) => (timestamp(moment).remaining(Clock::wall()), true),
        };
        Ok(Self(NewTask {
            queue: queue.to_owned(),
            id: options.id.unwrap_or_else(|| uuid::Uuid::now_v7().to_string()),
            body: serde_json::to_vec(payload)?,
            delay,
            at_moment,
            expires_at: options.expires_at.map(timestamp),
            headers: options.headers,
            priority: options.priority,
            protocol: Protocol::default(),
            membership: None,
        }))
    }

    /// The task's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    pub(super) fn into_task(self) -> NewTask {
        self.0
    }
}

/// In whole milliseconds, rounded down.
fn timestamp(moment: SystemTime) -> Timestamp {
    let milliseconds = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    match moment.duration_since(UNIX_EPOCH) {
        Ok(since) => Timestamp(milliseconds(since)),
        Err(before) => Timestamp(-milliseconds(before.duration())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(queue: &str, options: SubmitOptions) -> Result<NewTask, Error> {
        Submission::new(queue, &serde_json::json!({"foo": 1}), options).map(Submission::into_task)
    }

    #[test]
    fn a_task_has_an_id_of_its_own_or_the_given_one() {
        let made = new("foo", SubmitOptions::new()).unwrap();
        assert_eq!(made.body, br#"{"foo":1}"#);
        assert_ne!(made.id, new("foo", SubmitOptions::new()).unwrap().id);
        let given = new("foo", SubmitOptions::new().id("mine").delay(Duration::from_secs(2))).unwrap();
        assert_eq!((given.id.as_str(), given.delay, given.at_moment), ("mine", Duration::from_secs(2), false));
        assert!(matches!(new("foo\n", SubmitOptions::new()), Err(Error::QueueName { .. })));
        assert!(matches!(new("foo.retry.500", SubmitOptions::new()), Err(Error::DelayQueue { .. })));
        assert!(matches!(new("asynctask.ledger.app", SubmitOptions::new()), Err(Error::OwnQueue { .. })));
    }

    #[test]
    fn moments_are_milliseconds_and_one_that_has_passed_is_now() {
        let moment = UNIX_EPOCH + Duration::from_micros(1500);
        let options = SubmitOptions::new().delay(Duration::from_secs(9)).at(moment).expires_at(moment);
        let task = new("foo", options.header("a", 1).header("a", 2).priority(3)).unwrap();
        assert_eq!((task.delay, task.at_moment, task.expires_at), (Duration::ZERO, true, Some(Timestamp(1))));
        assert_eq!((serde_json::to_string(&task.headers).unwrap(), task.priority), (r#"{"a":2}"#.to_owned(), Some(3)));
        assert_eq!(timestamp(UNIX_EPOCH - Duration::from_secs(1)), Timestamp(-1000));
        let hour = Duration::from_hours(1);
        let ahead = UNIX_EPOCH + Duration::from_millis(u64::try_from(Clock::wall().0).unwrap()) + hour;
        let delay = new("foo", SubmitOptions::new().at(ahead)).unwrap().delay;
        assert!(delay <= hour && delay > hour / 2, "{delay:?}");
    }
}
