//! Messages of Celery's: what of them a task is made of, and what stays of them in a copy.
//!
//! What such a message says of its task is in headers of its producer, or in its body, and stays there: nothing of it is ever
//! rewritten, and no property is added. What has to be remembered beside it stands in headers of ours, which Celery's workers
//! leave alone, and says more than theirs where both are there.
//!
//! | header | on | says |
//! | --- | --- | --- |
//! | `asynctask-id` | copies of a message whose header `id` is absent, or where `message_id` is another one | the task's id |
//! | `asynctask-not-before` | delayed tasks | when it is due; else the header `eta` counts |
//! | `asynctask-expires-at` | dead letters put back to work | until when it is run, though it expired before |
//! | `asynctask-sending` | all copies | which sending of the task the others are of; of another one they are void |

use super::{
    headers,
    properties::{self, Due, EXPIRES_AT, ID, Read, Table},
    sending,
};
use crate::{celery::message, clock::Timestamp, task::NewTask, transport::DeadLetter};
use lapin::{
    BasicProperties,
    types::{FieldTable, ShortString},
};

/// The end of the year 9999: what is due to expire then does not expire.
const NEVER: Timestamp = Timestamp(253_402_300_799_000);

/// Reads a message of a queue of Celery's as a task.
pub(crate) fn read(properties: &BasicProperties, body: Vec<u8>, redelivered: bool) -> Read {
    let mut read = properties::read_unnamed(properties, body);
    let table = properties.headers().as_ref().map(FieldTable::inner);
    if table.is_some_and(|table| sending::is_another(table, &read.task.headers, &read.task.body)) {
        forget_ours(&mut read);
    }
    let task = &mut read.task;
    // A task of a job is in no such queue; what says so was copied from another message.
    task.membership = None;
    let said = message::read(&task.headers, task.properties.as_deref(), &task.body);
    let id = said.id.map(std::borrow::Cow::into_owned);
    let name = said.name.map(|name| name.into_owned().into_boxed_str());
    let (eta, expires, time_limit, unreadable) = (said.eta, said.expires, said.hard_limit, said.unreadable);
    let id = id.or_else(|| read.named.then(|| task.id.clone())).or_else(|| own_id(table?));
    read.named = id.is_some();
    if let Some(id) = id {
        task.id = id;
    }
    (task.name, task.time_limit, task.unreadable) = (name, time_limit, unreadable);
    task.expires_at = task.expires_at.or(expires);
    // Its queue may say so, or what we wrote on it when it was put back: but for a delay of its producer's.
    let came_before =
        redelivered || read.carried > 0 || task.attempts > 0 || read.not_before.is_some_and(|at| Some(at) != eta);
    task.properties.get_or_insert_default().redelivered = Some(came_before);
    if read.not_before.is_none() {
        read.not_before = eta;
        read.is_new_delay = eta.is_some();
    }
    read.named()
}

/// Takes what we wrote as not written.
fn forget_ours(read: &mut Read) {
    let task = &mut read.task;
    task.deliveries = task.deliveries.saturating_sub(read.carried);
    (task.attempts, task.expires_at, task.first_failed_at) = (0, None, None);
    task.history.clear();
    task.memo = None;
    (read.carried, read.not_before, read.left) = (0, None, None);
}

/// The id that we gave a message.
pub(crate) fn own_id(table: &Table) -> Option<String> {
    table.get(ID).and_then(headers::text).filter(|id| !id.is_empty())
}

/// The id of a message of Celery's second protocol.
pub(crate) fn their_id(table: &Table) -> Option<String> {
    let said = |name| table.get(name).and_then(headers::text).filter(|text| !text.is_empty());
    said("task").and_then(|_| said("id"))
}

/// Whether a message is one of Celery's, wherever it lies: it says so, or we gave it an id in our way.
pub(crate) fn is_celery(table: &Table) -> bool {
    own_id(table).is_some() || their_id(table).is_some()
}

/// A dead letter that expired is not to expire again at once.
pub(super) fn revive(table: &mut Table, letter: &DeadLetter, now: Timestamp) {
    let expires = message::read(&letter.headers, letter.properties.as_deref(), &letter.body).expires;
    if expires.is_some_and(|expires| expires <= now) {
        properties::put(table, EXPIRES_AT, NEVER.0);
    }
}

/// A task that is submitted to a queue of Celery's, as a message of its second protocol: properties and body.
///
/// # Errors
/// What is wrong with the task.
pub(crate) fn submitted(task: &NewTask, due: Option<Due>, host: &str) -> Result<(BasicProperties, Vec<u8>), String> {
    let id = ShortString::try_new(task.id.as_str()).map_err(|_| "its id has over 255 bytes".to_owned())?;
    let origin = format!("asynctask@{host}");
    let message = message::from_payload(&task.body, &task.id, due.map(|due| due.not_before), task.expires_at, &origin)?;
    let mut headers = task.headers.clone();
    headers.extend(message.headers);
    let mut table = headers::from_json(&headers)?;
    if let Some(due) = due {
        due.put(&mut table);
        sending::mark(&mut table, &headers, &message.body);
    }
    if headers::table_len(&table) > headers::ROOM {
        return Err("its headers take over 120 KiB".to_owned());
    }
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type(message::CONTENT_TYPE.into())
        .with_content_encoding(message::CONTENT_ENCODING.into())
        .with_correlation_id(id)
        // As Celery's producers say it.
        .with_priority(task.priority.unwrap_or(0))
        .with_headers(table.into());
    Ok((properties, message.body))
}

#[cfg(test)]
mod tests {
    use lapin::types::AMQPValue;

    use super::*;
    use crate::{
        celery::message::CONTENT_TYPE,
        task::{Failure, Reason},
        transport::{
            DeadQueue,
            amqp::message::{
                dead_letter,
                properties::{Transition, copy},
            },
        },
    };

    fn with(headers: &[(&'static str, &str)]) -> BasicProperties {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert((*name).into(), AMQPValue::LongString((*value).into()));
        }
        BasicProperties::default().with_content_type(CONTENT_TYPE.into()).with_headers(table)
    }

    fn dead(original: &BasicProperties, read: &Read) -> BasicProperties {
        let failure = Box::new(Failure::new(Reason::Failed, "no", Timestamp(7)));
        copy(original, &read.task, "shop", true, &Transition::Dead { failure, keep: None }).0
    }

    #[test]
    fn an_id_is_the_same_wherever_the_message_lies() {
        let first: &[u8] = br#"{"task": "a", "id": "of the body"}"#;
        let correlated = |properties: BasicProperties| properties.with_correlation_id("correlation".into());
        for (sent, body, id) in [
            (with(&[("task", "a"), ("id", "1")]), &b""[..], "1"),
            (correlated(with(&[("task", "a"), ("id", "1")])).with_message_id("message".into()), b"", "1"),
            (correlated(with(&[("task", "a")])), b"", "correlation"),
            (with(&[("task", "a")]).with_message_id("message".into()), b"", "message"),
            (with(&[]), first, "of the body"),
            (correlated(with(&[])), b"{}", "correlation"),
        ] {
            let read = super::read(&sent, body.to_vec(), false);
            assert_eq!((read.task.id.as_str(), read.named), (id, true));
            let dead = dead(&sent, &read);
            assert_eq!(dead.message_id(), sent.message_id());
            let letter = dead_letter::read(&dead, body, &DeadQueue::of("shop"));
            assert_eq!(letter.id, id);
            let again = dead_letter::again(&dead, &letter, Timestamp(8));
            assert_eq!(again.message_id(), sent.message_id());
            assert_eq!(super::read(&again, body.to_vec(), false).task.id, id);
        }
        // One that has none is named by the first move.
        let nameless = with(&[("task", "a")]);
        let read = super::read(&nameless, Vec::new(), false);
        assert!(!read.named && !read.task.id.is_empty());
        let again = super::read(&dead(&nameless, &read), Vec::new(), false);
        assert_eq!((again.task.id, again.named), (read.task.id, true));
    }

    #[test]
    fn a_moment_of_ours_says_more_than_one_of_theirs() {
        let eta = "2026-01-02T03:04:05Z";
        let sent = with(&[("task", "a"), ("id", "1"), ("eta", eta), ("expires", "2026-01-02T03:04:06Z")]);
        let read = super::read(&sent, Vec::new(), false);
        let moment = Timestamp(1_767_323_045_000);
        assert_eq!((read.not_before, read.is_new_delay, read.left), (Some(moment), true, None));
        let transition = Transition::Further { left: None, not_before: Some(moment) };
        let (delayed, _) = copy(&sent, &read.task, "shop", true, &transition);
        let read = super::read(&delayed, Vec::new(), false);
        assert_eq!((read.not_before, read.is_new_delay), (Some(moment), false));
        assert_eq!(read.task.properties.unwrap().redelivered, Some(false), "its producer put it off");
        assert_eq!(read.task.expires_at, Some(Timestamp(1_767_323_046_000)));
        let due = Due { not_before: Timestamp(9), delay: None };
        let failed = Box::new(Failure::new(Reason::Error, "no", Timestamp(7)));
        let task = super::read(&delayed, Vec::new(), false).task;
        let (retried, _) = copy(&delayed, &task, "shop", true, &Transition::Retried { due, failure: failed });
        let read = super::read(&retried, Vec::new(), false);
        assert_eq!((read.not_before, read.is_new_delay), (Some(Timestamp(9)), false));
        assert_eq!(read.task.properties.unwrap().redelivered, Some(true));
    }

    #[test]
    fn what_was_written_of_another_sending_is_void() {
        let sent = with(&[("task", "a"), ("id", "1"), ("eta", "2026-01-02T03:04:05Z")]);
        let read = super::read(&sent, Vec::new(), false);
        let due = Due { not_before: Timestamp(9), delay: None };
        let failure = Box::new(Failure::new(Reason::Error, "no", Timestamp(7)));
        let (copied, _) = copy(&sent, &read.task, "shop", true, &Transition::Retried { due, failure });
        let (counted, _) = copy(
            &copied,
            &super::read(&copied, Vec::new(), false).task,
            "shop",
            true,
            &Transition::Counted { deliveries: 3 },
        );
        let of_copy = super::read(&counted, Vec::new(), false);
        assert_eq!((of_copy.task.attempts, of_copy.task.deliveries, of_copy.not_before), (1, 3, Some(Timestamp(9))));
        // Celery's worker sends it again with all of these headers, and with its own ones.
        for (name, value) in [("eta", "2026-01-02T03:05:05Z"), ("retries", "1"), ("task", "b")] {
            let mut table = counted.headers().clone().unwrap_or_default();
            table.insert(name.into(), AMQPValue::LongString(value.into()));
            let sent_again = BasicProperties::default().with_headers(table);
            let again = super::read(&sent_again, Vec::new(), false);
            assert_eq!((again.task.attempts, again.task.deliveries, again.carried), (0, 0, 0), "{name}");
            assert!(again.is_new_delay && again.not_before.is_some_and(|at| at > Timestamp(9)), "{name}");
            assert_eq!(again.task.first_failed_at, None);
            // Nor does a copy of it say it.
            let (copied, _) = copy(&sent_again, &again.task, "shop", true, &Transition::Counted { deliveries: 1 });
            let of_copy = super::read(&copied, Vec::new(), false);
            assert_eq!((of_copy.task.attempts, of_copy.task.deliveries, of_copy.is_new_delay), (0, 1, true), "{name}");
        }
    }

    #[test]
    fn a_task_of_the_first_protocol_that_expired_is_run_if_a_person_wants_it() {
        let body: &[u8] = br#"{"task": "a", "id": "1", "expires": "2026-01-02T03:04:05Z"}"#;
        let sent = with(&[]);
        let read = super::read(&sent, body.to_vec(), false);
        assert_eq!(read.task.expires_at, Some(Timestamp(1_767_323_045_000)));
        let dead = dead(&sent, &read);
        let letter = dead_letter::read(&dead, body, &DeadQueue::of("shop"));
        let again = dead_letter::again(&dead, &letter, Timestamp(1_767_323_046_000));
        assert_eq!(super::read(&again, body.to_vec(), false).task.expires_at, Some(NEVER));
    }

    #[test]
    fn what_is_too_much_for_a_message_is_said() {
        let payload = br#"{"task": "a"}"#.to_vec();
        let task = NewTask { id: "1".to_owned(), body: payload, ..NewTask::default() };
        assert!(submitted(&task, None, "host").is_ok());
        let long = NewTask { id: "x".repeat(256), ..task.clone() };
        assert!(submitted(&long, None, "host").unwrap_err().contains("255"));
        let mut large = task;
        large.headers.insert("x".to_owned(), "x".repeat(headers::ROOM).into());
        assert!(submitted(&large, None, "host").unwrap_err().contains("120 KiB"));
        // What is theirs is not taken from elsewhere.
        large.headers.insert("x".to_owned(), 7.into());
        large.headers.insert("id".to_owned(), "another".into());
        let (properties, _) = submitted(&large, None, "host").unwrap();
        let table = properties.headers().clone().unwrap();
        assert_eq!(table.inner()["id"], AMQPValue::LongString("1".into()));
    }
}
