//! Dead letters as messages: what ours say, what the broker's say, and how one begins again.

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};

use super::{
    celery,
    headers::{self, number, text},
    memo, moments, place,
    properties::{
        self, ATTEMPT, ATTEMPTS, DELIVERIES, DETAIL, ENDING, ERROR, EXIT, EXPIRES_AT, FAILED_AT, FIRST_FAILED_AT,
        HISTORY, HOST, KIND, NOT_BEFORE, OUTPUT_TAIL, PID, QUEUE, REASON, RESOURCES, Table,
    },
};
use crate::{
    clock::Timestamp,
    task::{Failure, Reason},
    transport::{
        DeadLetter, DeadQueue,
        amqp::{connect::channel::short, queues::delay_queues},
    },
};

/// Reads a dead letter, ours or the broker's.
pub(crate) fn read(properties: &BasicProperties, body: &[u8], queue: &DeadQueue) -> DeadLetter {
    let empty = FieldTable::default();
    let table = properties.headers().as_ref().unwrap_or(&empty).inner();
    let words = |name: &str| table.get(name).and_then(text).unwrap_or_default();
    let count = |name: &str| table.get(name).and_then(number).and_then(|n| u32::try_from(n).ok());
    let at = |name: &str| table.get(name).and_then(moments::moment);
    let origin = origin(table, queue);
    let death = death(table, &origin);
    let ours = if death.is_none() { words(REASON) } else { String::new() };
    let (reason, nearest, failed_at) = match (&death, ours.as_str()) {
        (Some(death), _) => {
            let (reason, nearest) = broker_reason(&death.reason);
            (reason, nearest, death.at.or_else(|| at(FAILED_AT)))
        }
        (None, "") => {
            let (reason, nearest) = broker_reason(&words("x-first-death-reason"));
            (reason, nearest, at(FAILED_AT))
        }
        (None, word) => (word.to_owned(), named(word), at(FAILED_AT)),
    };
    let resources: Value = serde_json::from_str(&words(RESOURCES)).unwrap_or_default();
    let failure = Failure {
        memo: None,
        reason: nearest,
        error: if ours.is_empty() && words(ERROR).is_empty() {
            format!("dead-lettered by the broker: {reason}")
        } else {
            words(ERROR)
        },
        detail: words(DETAIL),
        attempts: count(ATTEMPTS).or_else(|| count(ATTEMPT)).unwrap_or(0),
        failed_at: failed_at.unwrap_or_default(),
        kind: words(KIND),
        host: words(HOST),
        pid: count(PID),
        exit: serde_json::from_str(&words(EXIT)).ok(),
        oom: resources["oom"].as_bool(),
        max_rss_bytes: resources["max_rss"].as_u64(),
        cpu_seconds: resources["cpu"].as_f64(),
        in_hand_seconds: resources["in_hand"].as_f64(),
        output_tail: words(OUTPUT_TAIL),
    };
    DeadLetter {
        id: id(properties, body, failed_at),
        queue: origin,
        body: body.to_vec(),
        headers: properties.headers().as_ref().map(headers::to_json).unwrap_or_default(),
        properties: properties::told(properties),
        reason,
        failure,
        first_failed_at: at(FIRST_FAILED_AT),
        history: properties::history(table),
        membership: place::read(table),
        memo: memo::read(table),
    }
}

/// The id of a dead letter. One without any, as foreign producers send them, is known by its content and time, so that
/// it has the same name in every listing.
fn id(properties: &BasicProperties, body: &[u8], failed_at: Option<Timestamp>) -> String {
    let table = properties.headers().as_ref().map(FieldTable::inner);
    if let Some(id) = table.and_then(celery::own_id) {
        return id;
    }
    if let Some(id) = properties.message_id().as_ref().filter(|id| !id.as_str().is_empty()) {
        return id.to_string();
    }
    if let Some(id) = table.and_then(celery::their_id) {
        return id;
    }
    let at = failed_at.unwrap_or_default().0.to_be_bytes();
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, &[body, &at].concat()).to_string()
}

/// The queue that a dead letter came from, of all that share a dead-letter queue: where the broker says that it died last, if
/// that is the queue which is asked about (ours carry no record of the broker's from before); what we wrote on it; where
/// the broker says that it died first. One about which nothing is known is of whoever asks.
fn origin(table: &Table, asked: &DeadQueue) -> String {
    let last = deaths(table).next().and_then(|entry| entry.get("queue").and_then(text));
    if last.is_some_and(|last| last == asked.queue) {
        return asked.queue.clone();
    }
    let stated = |name: &str| table.get(name).and_then(text).filter(|queue| !queue.is_empty());
    let first = || deaths(table).last().and_then(|entry| entry.get("queue").and_then(text));
    let died = || stated("x-first-death-queue").or_else(first).map(|name| delay_queues::owner(&name).to_owned());
    stated(QUEUE).or_else(died).filter(|queue| *queue != asked.name).unwrap_or_else(|| asked.queue.clone())
}

/// What the broker has noted, the last death first.
fn deaths(table: &Table) -> impl Iterator<Item = &Table> {
    let deaths = match table.get("x-death") {
        Some(AMQPValue::FieldArray(deaths)) => deaths.as_slice(),
        _ => &[],
    };
    deaths.iter().filter_map(|entry| match entry {
        AMQPValue::FieldTable(entry) => Some(entry.inner()),
        _ => None,
    })
}

/// The broker's record that a message died in the work queue itself. (Each step of the ladder leaves one too.)
struct Death {
    reason: String,
    at: Option<Timestamp>,
}

fn death(table: &Table, queue: &str) -> Option<Death> {
    deaths(table).find_map(|entry| {
        let here = entry.get("queue").and_then(text).is_some_and(|name| name == queue);
        here.then(|| Death {
            reason: entry.get("reason").and_then(text).unwrap_or_default(),
            at: entry.get("time").and_then(moments::moment),
        })
    })
}

fn broker_reason(word: &str) -> (String, Reason) {
    match word {
        "delivery_limit" => ("deliveries".to_owned(), Reason::Deliveries),
        "expired" => ("expired".to_owned(), Reason::Expired),
        "" => ("broker:unknown".to_owned(), Reason::Failed),
        other => (format!("broker:{other}"), Reason::Failed),
    }
}

fn named(word: &str) -> Reason {
    serde_json::from_value(Value::from(word)).unwrap_or(Reason::Failed)
}

/// The properties of a dead letter that goes back to work: attempts from the start, the history kept.
pub(crate) fn again(original: &BasicProperties, letter: &DeadLetter, now: Timestamp) -> BasicProperties {
    let mut table = properties::carried(original);
    let over = table.get(EXPIRES_AT).and_then(moments::moment).is_some_and(|at| at <= now);
    properties::abandon(&mut table, &ENDING);
    properties::abandon(&mut table, &[ATTEMPT, FIRST_FAILED_AT, NOT_BEFORE, DELIVERIES]);
    if over {
        // It would expire again at once.
        properties::abandon(&mut table, &[EXPIRES_AT]);
    }
    let is_celery = celery::is_celery(&table);
    if is_celery {
        celery::revive(&mut table, letter, now);
    }
    properties::put_text(&mut table, HISTORY, &json!(letter.history_with_this()).to_string(), 16 * 1024);
    properties::make_room(&mut table);
    let again = properties::rest(original).with_delivery_mode(2).with_headers(table.into());
    // Celery's have their id elsewhere, and stay as they are.
    if is_celery { again } else { again.with_message_id(short(&letter.id)) }
}

#[cfg(test)]
mod tests {
    use super::{
        super::properties::{Transition, copy},
        *,
    };
    use crate::task::{Exit, Task};

    fn failure() -> Failure {
        let mut failure = Failure::new(Reason::Crash, "killed by SIGSEGV", Timestamp(5_000));
        failure.detail = "a\nb".to_owned();
        failure.attempts = 3;
        failure.kind = "thumbnail".to_owned();
        failure.host = "h1".to_owned();
        failure.pid = Some(17);
        failure.exit = Some(Exit::Signal { signal: "SIGSEGV".to_owned(), core_dumped: true });
        failure.max_rss_bytes = Some(1 << 30);
        failure.cpu_seconds = Some(0.5);
        failure.oom = Some(false);
        failure.in_hand_seconds = Some(1.25);
        failure.output_tail = "ä\n".to_owned();
        failure
    }

    fn dead(original: &BasicProperties, failure: Failure) -> BasicProperties {
        let task =
            Task { id: "id".to_owned(), attempts: 2, first_failed_at: Some(Timestamp(1_000)), ..Task::default() };
        copy(original, &task, "foo", false, &Transition::Dead { failure: Box::new(failure), keep: None }).0
    }

    #[test]
    fn what_is_written_is_read() {
        let properties = dead(&BasicProperties::default(), failure());
        let letter = read(&properties, b"body", &DeadQueue::of("foo"));
        assert_eq!(letter.failure, failure());
        assert_eq!((letter.id.as_str(), letter.queue.as_str(), letter.reason.as_str()), ("id", "foo", "crash"));
        assert_eq!((letter.first_failed_at, letter.body.as_slice()), (Some(Timestamp(1_000)), &b"body"[..]));
    }

    #[test]
    fn the_history_is_kept_and_bounded() {
        let mut properties = BasicProperties::default();
        for _ in 0..9 {
            properties = dead(&properties, failure());
            let letter = read(&properties, b"", &DeadQueue::of("foo"));
            properties = again(&properties, &letter, Timestamp(0));
        }
        let table = properties.headers().clone().unwrap();
        let history: Vec<Value> = serde_json::from_str(&text(&table.inner()[HISTORY]).unwrap()).unwrap();
        assert!((1..=16).contains(&history.len()));
        assert_eq!(history[0], json!({"reason":"crash","error":"killed by SIGSEGV","attempts":3,"failed_at":5000}));
        assert_eq!(table.inner().len(), 1);
    }

    #[test]
    fn headers_never_outgrow_a_frame_and_the_error_goes_first() {
        let mut theirs = FieldTable::default();
        theirs.insert("x-big".into(), AMQPValue::LongString("x".repeat(110 * 1024).into()));
        let mut long = failure();
        long.detail = "d".repeat(100_000);
        long.error = "e".repeat(100_000);
        let properties = dead(&BasicProperties::default().with_headers(theirs), long);
        let table = properties.headers().clone().unwrap();
        assert!(headers::table_len(table.inner()) <= headers::ROOM);
        assert!(table.contains_key("x-big") && table.contains_key(REASON) && table.contains_key(OUTPUT_TAIL));
        assert_eq!(text(&table.inner()[ERROR]).unwrap().len(), 2_048);
        assert!(text(&table.inner()[DETAIL]).unwrap().len() < 10_000);
    }
}
