//! Messages: reading a task from one that came, and writing the properties of its copy.
//!
//! The table of our headers stands in the [module's page](super).

use std::{collections::BTreeMap, time::Duration};

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};

use super::{
    headers, memo,
    moments::{made, made_at, moment},
    place, sending,
};
use crate::{
    clock::Timestamp,
    json_text::JsonText,
    limits,
    properties::Properties,
    task::{Ending, Failure, NewTask, Task},
    transport::amqp::queues::delay_queues,
};

pub(crate) const ATTEMPT: &str = "asynctask-attempt";
pub(crate) const ATTEMPTS: &str = "asynctask-attempts";
pub(crate) const FIRST_FAILED_AT: &str = "asynctask-first-failed-at";
pub(crate) const FAILED_AT: &str = "asynctask-failed-at";
pub(crate) const REASON: &str = "asynctask-reason";
pub(crate) const ERROR: &str = "asynctask-error";
pub(crate) const DETAIL: &str = "asynctask-detail";
pub(crate) const QUEUE: &str = "asynctask-queue";
pub(crate) const KIND: &str = "asynctask-kind";
pub(crate) const HOST: &str = "asynctask-host";
pub(crate) const PID: &str = "asynctask-pid";
pub(crate) const EXIT: &str = "asynctask-exit";
pub(crate) const RESOURCES: &str = "asynctask-resources";
pub(crate) const OUTPUT_TAIL: &str = "asynctask-output-tail";
pub(crate) const EXPIRES_AT: &str = "asynctask-expires-at";
pub(crate) const NOT_BEFORE: &str = "asynctask-not-before";
pub(crate) const ID: &str = "asynctask-id";
pub(crate) const DELAY: &str = "asynctask-delay";
pub(crate) const DELIVERIES: &str = "asynctask-deliveries";
pub(crate) const HISTORY: &str = "asynctask-history";
pub(crate) const USER_ID: &str = "asynctask-user-id";
pub(crate) const EXPIRATION: &str = "asynctask-expiration";

/// What tells how a task ended; not on a copy that is to be worked again.
pub(crate) const ENDING: [&str; 12] =
    [ATTEMPTS, FAILED_AT, REASON, ERROR, DETAIL, QUEUE, KIND, HOST, PID, EXIT, RESOURCES, OUTPUT_TAIL];

/// Headers by name.
pub(crate) type Table = BTreeMap<ShortString, AMQPValue>;

/// A message, read.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) task: Task,
    /// Whether the message has an id of its own.
    pub(crate) named: bool,
    /// A delayed task is not due before this.
    pub(crate) not_before: Option<Timestamp>,
    /// Its producer says so in a way of its own: it has not been delayed yet.
    pub(crate) is_new_delay: bool,
    /// … and waits no longer than this, whatever the wall clock shows; `None`: the sender named the moment, or nothing is known.
    pub(crate) left: Option<Duration>,
    /// The broker counts deliveries itself: a quorum queue, and not the first delivery.
    pub(crate) counted: bool,
    /// Deliveries that the message itself carries the count of.
    pub(crate) carried: u32,
}

/// Reads a message as a task.
pub(crate) fn read(properties: &BasicProperties, body: Vec<u8>) -> Read {
    read_unnamed(properties, body).named()
}

/// The same, where the message may have its id elsewhere: without one that is made for it.
pub(super) fn read_unnamed(properties: &BasicProperties, body: Vec<u8>) -> Read {
    let empty = FieldTable::default();
    let table = properties.headers().as_ref().unwrap_or(&empty).inner();
    let count =
        |name: &str| table.get(name).and_then(headers::number).map(|n| u32::try_from(n.max(0)).unwrap_or(u32::MAX));
    let by_broker = count("x-delivery-count");
    let id = properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default();
    let carried = count(DELIVERIES).unwrap_or(0);
    let task = Task {
        attempts: count(ATTEMPT).unwrap_or(0),
        deliveries: by_broker.unwrap_or(0).saturating_add(carried),
        headers: properties.headers().as_ref().map(headers::to_json).unwrap_or_default(),
        properties: told(properties),
        expires_at: table.get(EXPIRES_AT).and_then(moment),
        first_failed_at: table.get(FIRST_FAILED_AT).and_then(moment),
        history: history(table),
        body,
        id,
        membership: place::read(table),
        memo: memo::read(table),
        ..Task::default()
    };
    let not_before = table.get(NOT_BEFORE).and_then(moment);
    let delay = table.get(DELAY).and_then(headers::number).and_then(|delay| u64::try_from(delay).ok());
    let left = delay.map(|delay| Duration::from_millis(delay).saturating_sub(waited(table)));
    let counted = by_broker.is_some();
    let named = !task.id.is_empty();
    Read { task, named, not_before, is_new_delay: false, left, counted, carried }
}

/// How long a message lay in the delay queue from which it came. By the clock of the broker: the header in
/// which it says where a message comes from has one entry, as copies do not carry it on.
fn waited(table: &Table) -> Duration {
    let AMQPValue::FieldArray(deaths) = table.get("x-death").unwrap_or(&AMQPValue::Void) else { return Duration::ZERO };
    let Some(AMQPValue::FieldTable(last)) = deaths.as_slice().first() else { return Duration::ZERO };
    let queue = last.inner().get("queue").and_then(headers::text).unwrap_or_default();
    Duration::from_millis(delay_queues::step(&queue).unwrap_or(0))
}

/// What a message says of itself. Ours say nothing, and cost nothing.
pub(crate) fn told(properties: &BasicProperties) -> Option<Box<Properties>> {
    let text = |text: &Option<ShortString>| text.as_ref().map(ToString::to_string);
    let told = Properties {
        content_type: text(properties.content_type()),
        content_encoding: text(properties.content_encoding()),
        correlation_id: text(properties.correlation_id()),
        reply_to: text(properties.reply_to()),
        kind: text(properties.kind()),
        priority: *properties.priority(),
        app_id: text(properties.app_id()),
        timestamp: properties.timestamp().and_then(made),
        redelivered: None,
    };
    (told != *Properties::NONE).then(|| Box::new(told))
}

impl Read {
    /// With an id of its own for the time in our hands, if the message has none.
    pub(super) fn named(mut self) -> Self {
        if !self.named {
            self.task.id = uuid::Uuid::now_v7().to_string();
        }
        self
    }

    /// Time until a delayed task is due.
    pub(crate) fn remaining(&self, now: Timestamp) -> Option<Duration> {
        let by_wall = self.not_before?.remaining(now);
        Some(self.left.map_or(by_wall, |left| left.min(by_wall)))
    }

    /// Since when the task could have been begun: from the end of its delay, or since it was submitted, which ids of
    /// ours tell (uuid v7) where it is its first time in a queue. Of others nothing is known before they came.
    pub(crate) fn due_at(&self, came_at: Timestamp) -> Timestamp {
        let is_new = self.task.attempts == 0 && self.task.history.is_empty();
        self.not_before.or_else(|| made_at(&self.task.id).filter(|_| is_new)).unwrap_or(came_at)
    }
}

/// How a task ended before it was put back to work; a text that is no history counts as none.
pub(crate) fn history(table: &Table) -> Vec<Ending> {
    let text = table.get(HISTORY).and_then(headers::text);
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// When a task is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) not_before: Timestamp,
    /// The delay from which that was reckoned; `None`: the sender named the moment.
    pub(crate) delay: Option<Duration>,
}

impl Due {
    /// After a delay.
    pub(crate) fn after(delay: Duration, now: Timestamp) -> Self {
        Self { not_before: now.plus(delay), delay: Some(delay) }
    }

    pub(super) fn put(self, table: &mut Table) {
        put(table, NOT_BEFORE, self.not_before.0);
        put_delay(table, self.delay);
    }
}

fn put_delay(table: &mut Table, delay: Option<Duration>) {
    match delay {
        Some(delay) => put(table, DELAY, i64::try_from(delay.as_millis()).unwrap_or(i64::MAX)),
        None => abandon(table, &[DELAY]),
    }
}

/// What becomes of a task, as its copy must say it.
#[derive(Clone, Debug)]
pub(crate) enum Transition {
    /// An attempt was used.
    Retried { due: Due, failure: Box<Failure> },
    /// Put off, no attempt used.
    Snoozed { due: Due, memo: Option<JsonText> },
    /// One step further on the ladder, for at most so long where that is known; the first one where the moment stands in no
    /// header of ours yet.
    Further { left: Option<Duration>, not_before: Option<Timestamp> },
    /// Back in its queue: everything as it was.
    Unchanged,
    /// Behind the others, one delivery counted.
    Counted { deliveries: u32 },
    /// Over.
    Dead { failure: Box<Failure>, keep: Option<Duration> },
}

/// The properties of a copy of a task of `queue`, and the names of headers that found no room. Of a message of Celery's no
/// property changes.
pub(crate) fn copy(
    original: &BasicProperties,
    task: &Task,
    queue: &str,
    is_celery: bool,
    transition: &Transition,
) -> (BasicProperties, Vec<String>) {
    let mut table = carried(original);
    if is_celery {
        sending::mark(&mut table, &task.headers, &task.body);
    }
    let mut expiration = None;
    match transition {
        Transition::Unchanged => {}
        Transition::Counted { deliveries } => put(&mut table, DELIVERIES, i64::from(*deliveries)),
        Transition::Further { left, not_before } => {
            if let Some(not_before) = not_before {
                put(&mut table, NOT_BEFORE, not_before.0);
            }
            put_delay(&mut table, *left);
        }
        Transition::Snoozed { due, memo } => {
            abandon(&mut table, &[DELIVERIES]);
            memo::put(&mut table, memo.as_ref());
            due.put(&mut table);
        }
        Transition::Retried { due, failure } => {
            abandon(&mut table, &ENDING);
            abandon(&mut table, &[DELIVERIES]);
            memo::put(&mut table, failure.memo.as_ref());
            due.put(&mut table);
            put(&mut table, ATTEMPT, i64::from(task.attempts.saturating_add(1)));
            put(&mut table, FIRST_FAILED_AT, task.first_failed_at.unwrap_or(failure.failed_at).0);
            put(&mut table, FAILED_AT, failure.failed_at.0);
            put_text(&mut table, ERROR, &failure.error, limits::ERROR);
        }
        Transition::Dead { failure, keep } => {
            abandon(&mut table, &ENDING);
            abandon(&mut table, &[DELIVERIES, NOT_BEFORE, DELAY]);
            memo::put(&mut table, failure.memo.as_ref());
            put_ending(&mut table, task, queue, failure);
            expiration = keep.map(|keep| ShortString::from(keep.as_millis().min(315_360_000_000).to_string()));
        }
    }
    let given_id = original.message_id().as_ref().map(ShortString::as_str).filter(|id| !id.is_empty());
    if is_celery {
        // Where it is found if it is a dead letter.
        let found = given_id.map(str::to_owned).or_else(|| table.get("id").and_then(headers::text));
        if found.is_none_or(|id| id != task.id) {
            put_text(&mut table, ID, &task.id, 255);
        }
    }
    let dropped = make_room(&mut table);
    let mut properties = rest(original).with_delivery_mode(2).with_headers(table.into());
    if !is_celery && given_id.is_none() {
        properties = properties.with_message_id(task.id.as_str().into());
    }
    if let Some(expiration) = expiration {
        properties = properties.with_expiration(expiration);
    }
    (properties, dropped)
}

/// The headers that a copy keeps, with what its lost properties said.
pub(crate) fn carried(original: &BasicProperties) -> Table {
    let mut table = original.headers().as_ref().map(|table| table.inner().clone()).unwrap_or_default();
    table.retain(|name, _| !headers::is_stripped(name.as_str()));
    for (name, value) in [(USER_ID, original.user_id()), (EXPIRATION, original.expiration())] {
        // What it came with is what informs, not the retention that we give to dead letters.
        if let Some(value) = value
            && !table.contains_key(name)
            && !table.contains_key(REASON)
        {
            table.insert(name.into(), AMQPValue::LongString(value.as_str().into()));
        }
    }
    table
}

/// All properties but headers, user, expiration and delivery mode. (The user of another connection is refused with
/// 406, and an expiration would go on counting.)
pub(crate) fn rest(original: &BasicProperties) -> BasicProperties {
    let mut copy = BasicProperties::default();
    macro_rules! carry {
        ($($get:ident $with:ident),*) => { $(if let Some(value) = original.$get() { copy = copy.$with(value.clone()); })* };
    }
    carry!(
        content_type with_content_type, content_encoding with_content_encoding, priority with_priority,
        correlation_id with_correlation_id, reply_to with_reply_to, message_id with_message_id,
        timestamp with_timestamp, kind with_type, app_id with_app_id, cluster_id with_cluster_id
    );
    copy
}

fn put_ending(table: &mut Table, task: &Task, queue: &str, failure: &Failure) {
    put(table, ATTEMPT, i64::from(task.attempts.max(failure.attempts)));
    put(table, ATTEMPTS, i64::from(failure.attempts));
    put(table, FIRST_FAILED_AT, task.first_failed_at.unwrap_or(failure.failed_at).0);
    put(table, FAILED_AT, failure.failed_at.0);
    put_text(table, REASON, failure.reason.as_str(), 64);
    put_text(table, QUEUE, queue, 255);
    put_text(table, KIND, &failure.kind, 255);
    put_text(table, HOST, &failure.host, 255);
    if let Some(pid) = failure.pid {
        put(table, PID, i64::from(pid));
    }
    if let Some(exit) = &failure.exit {
        put_text(table, EXIT, &serde_json::to_string(exit).unwrap_or_default(), 255);
    }
    let resources = serde_json::json!({
        "oom": failure.oom, "max_rss": failure.max_rss_bytes, "cpu": failure.cpu_seconds, "in_hand": failure.in_hand_seconds,
    });
    put_text(table, RESOURCES, &resources.to_string(), 1024);
    put_text(table, ERROR, &failure.error, limits::ERROR);
    put_text(table, DETAIL, &failure.detail, limits::DETAIL);
    put_text(table, OUTPUT_TAIL, &failure.output_tail, limits::DETAIL);
}

/// Cuts until the table fits: the error's text first, then what else is ours and can be missed, last what is
/// largest of the sender's (a message that cannot be moved would be worse).
pub(crate) fn make_room(table: &mut Table) -> Vec<String> {
    let mut dropped = Vec::new();
    for name in [DETAIL, ERROR, OUTPUT_TAIL] {
        let excess = headers::table_len(table).saturating_sub(headers::ROOM);
        if excess > 0
            && let Some(text) = table.get(name).and_then(headers::text)
        {
            put_text(table, name, &text, text.len().saturating_sub(excess));
            dropped.push(format!("{name} (cut)"));
        }
    }
    while headers::table_len(table) > headers::ROOM {
        let expendable = [HISTORY, RESOURCES, EXIT, USER_ID, EXPIRATION];
        let largest = expendable.iter().find(|name| table.contains_key(**name)).map(|name| (*name).to_owned());
        let largest = largest.or_else(|| {
            let foreign = table.iter().filter(|(name, _)| !name.as_str().starts_with(headers::OURS));
            foreign
                .max_by_key(|(name, value)| headers::encoded_len(name.as_str(), value))
                .map(|(name, _)| name.to_string())
        });
        let Some(name) = largest else { break };
        table.remove(name.as_str());
        dropped.push(name);
    }
    dropped
}

/// The properties of a task that is submitted.
///
/// # Errors
/// What of it does not fit into a message.
pub(crate) fn submitted(task: &NewTask, due: Option<Due>) -> Result<BasicProperties, String> {
    let id = ShortString::try_new(task.id.as_str()).map_err(|_| "its id has over 255 bytes".to_owned())?;
    let mut table = headers::from_json(&task.headers)?;
    if let Some(due) = due {
        due.put(&mut table);
    }
    if let Some(expires_at) = task.expires_at {
        put(&mut table, EXPIRES_AT, expires_at.0);
    }
    place::put(&mut table, task.membership.as_deref());
    if headers::table_len(&table) > headers::ROOM {
        return Err("its headers take over 120 KiB".to_owned());
    }
    let mut properties = BasicProperties::default().with_delivery_mode(2).with_message_id(id);
    if let Some(priority) = task.priority {
        properties = properties.with_priority(priority);
    }
    Ok(if table.is_empty() { properties } else { properties.with_headers(table.into()) })
}

pub(crate) fn put(table: &mut Table, name: &'static str, value: i64) {
    table.insert(name.into(), AMQPValue::LongLongInt(value));
}

/// Puts a text of at most `room` bytes, cut at a character; an empty one is left out.
pub(crate) fn put_text(table: &mut Table, name: &'static str, text: &str, room: usize) {
    let text = &text[..text.floor_char_boundary(room)];
    if text.is_empty() {
        table.remove(name);
    } else {
        table.insert(name.into(), AMQPValue::LongString(text.as_bytes().into()));
    }
}

pub(crate) fn abandon(table: &mut Table, names: &[&str]) {
    table.retain(|name, _| !names.contains(&name.as_str()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Reason;

    fn with(headers: &[(&'static str, AMQPValue)]) -> BasicProperties {
        let table: Table = headers.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
        BasicProperties::default().with_headers(table.into())
    }

    fn number(properties: &BasicProperties, name: &str) -> Option<i64> {
        properties.headers().as_ref()?.inner().get(name).and_then(headers::number)
    }

    #[test]
    fn a_message_of_nobody_is_a_task() {
        let read = read(&BasicProperties::default(), vec![1]);
        assert!(!read.named && !read.task.id.is_empty());
        assert_eq!((read.task.attempts, read.task.deliveries, read.not_before), (0, 0, None));
    }

    #[test]
    fn what_a_message_says_of_itself_is_read_and_what_it_does_not_say_is_absent() {
        assert_eq!(read(&BasicProperties::default().with_message_id("1".into()), vec![1]).task.properties, None);
        let properties = BasicProperties::default()
            .with_content_type("text/x".into())
            .with_priority(200)
            .with_type("t".into())
            .with_timestamp(17);
        let told = read(&properties, vec![1]).task.properties.unwrap();
        let json = serde_json::json!({"content_type": "text/x", "type": "t", "priority": 200,
            "timestamp": "1970-01-01T00:00:17Z"});
        assert_eq!(serde_json::to_value(&told).unwrap(), json);
        for (number, text) in
            [(0, Some("1970-01-01T00:00:00Z")), (1_700_000_000_123, Some("2023-11-14T22:13:20.123Z")), (u64::MAX, None)]
        {
            assert_eq!(made(number).as_deref(), text, "{number}");
        }
    }

    #[test]
    fn deliveries_are_what_the_broker_counted_and_what_the_message_carries() {
        let counted = with(&[("x-delivery-count", AMQPValue::LongLongInt(3)), (DELIVERIES, AMQPValue::LongInt(2))]);
        assert_eq!(read(&counted, Vec::new()).task.deliveries, 5);
        assert!(read(&counted, Vec::new()).counted);
        let hostile = with(&[(ATTEMPT, AMQPValue::LongLongInt(-5)), (DELIVERIES, AMQPValue::LongLongInt(1 << 40))]);
        let task = read(&hostile, Vec::new()).task;
        assert_eq!((task.attempts, task.deliveries), (0, u32::MAX));
    }

    #[test]
    fn a_retry_counts_an_attempt_and_forgets_deliveries() {
        let original = with(&[(DELIVERIES, AMQPValue::LongInt(4)), ("x-theirs", AMQPValue::Void)]);
        let task = read(&original, Vec::new()).task;
        let failure = Box::new(Failure::new(Reason::Error, "no", Timestamp(7)));
        let (first, _) = copy(
            &original,
            &task,
            "foo",
            false,
            &Transition::Retried { due: Due { not_before: Timestamp(9), delay: None }, failure },
        );
        assert_eq!((number(&first, ATTEMPT), number(&first, NOT_BEFORE)), (Some(1), Some(9)));
        assert_eq!((number(&first, FIRST_FAILED_AT), number(&first, DELIVERIES)), (Some(7), None));
        assert_eq!(first.message_id().as_ref().unwrap().as_str(), task.id);
        let task = read(&first, Vec::new()).task;
        let (second, _) = copy(
            &first,
            &task,
            "foo",
            false,
            &Transition::Snoozed { due: Due { not_before: Timestamp(20), delay: None }, memo: None },
        );
        assert_eq!((number(&second, ATTEMPT), number(&second, NOT_BEFORE)), (Some(1), Some(20)));
        assert!(second.headers().as_ref().unwrap().contains_key("x-theirs"));
    }

    /// As it comes from a delay queue.
    fn from_delay_queue(properties: &BasicProperties, step: u64) -> Read {
        let mut death = FieldTable::default();
        death.insert("queue".into(), AMQPValue::LongString(delay_queues::name("foo", step).into()));
        let mut table = properties.headers().clone().unwrap();
        table.insert("x-death".into(), AMQPValue::FieldArray(vec![AMQPValue::FieldTable(death)].into()));
        read(&properties.clone().with_headers(table), Vec::new())
    }

    #[test]
    fn a_delay_ends_by_the_steps_that_were_waited_though_the_wall_clock_was_set_back() {
        let ms = Duration::from_millis;
        let task = NewTask { id: "a".to_owned(), ..NewTask::default() };
        let now = Timestamp(1_800_000_000_000);
        let two_days_back = Timestamp(now.0 - 2 * 86_400_000);
        let submitted = submitted(&task, Some(Due::after(ms(11_700), now))).unwrap();
        let first = from_delay_queue(&submitted, 10_000);
        assert_eq!(first.remaining(now.plus(ms(10_100))), Some(ms(1_600)), "by a clock that is right");
        assert_eq!(first.remaining(two_days_back), Some(ms(1_700)));
        assert_eq!(first.remaining(now.plus(ms(86_400_000))), Some(ms(0)));
        // One step further, and what is left goes with it.
        let left = first.left.and(first.remaining(two_days_back));
        let (further, _) = copy(&submitted, &first.task, "foo", false, &Transition::Further { left, not_before: None });
        let second = from_delay_queue(&further, 1_000);
        assert_eq!((number(&further, NOT_BEFORE), number(&further, DELAY)), (Some(now.0 + 11_700), Some(1_700)));
        assert_eq!(second.remaining(two_days_back), Some(ms(700)));
        // From another step than was meant.
        assert_eq!(from_delay_queue(&further, 500).remaining(two_days_back), Some(ms(1_200)));
        assert_eq!(from_delay_queue(&further, 2_000).remaining(two_days_back), Some(ms(0)));
        // Without a bound it waits for its moment: the sender named it, or an older version wrote it.
        let named = Due { delay: None, ..Due::after(ms(11_700), now) };
        let (named, _) = copy(&further, &task_of("a"), "foo", false, &Transition::Snoozed { due: named, memo: None });
        let named = from_delay_queue(&named, 10_000);
        assert_eq!((named.left, named.remaining(two_days_back)), (None, Some(ms(2 * 86_400_000 + 11_700))));
        let hostile = with(&[(NOT_BEFORE, AMQPValue::LongLongInt(now.0)), (DELAY, AMQPValue::LongLongInt(-7))]);
        assert_eq!(read(&hostile, Vec::new()).left, None);
    }

    fn task_of(id: &str) -> Task {
        Task { id: id.to_owned(), ..Task::default() }
    }

    #[test]
    fn texts_are_cut_between_characters() {
        let mut table = Table::new();
        put_text(&mut table, ERROR, "aää", 4);
        assert_eq!(table[ERROR], AMQPValue::LongString("aä".into()));
        put_text(&mut table, ERROR, "ä", 1);
        assert!(!table.contains_key(ERROR));
    }

    #[test]
    fn an_id_of_ours_tells_when_a_new_task_was_submitted() {
        let came_at = Timestamp(2_000_000_000_000);
        let due_at = |id: &str, headers: &[(&'static str, AMQPValue)]| {
            read(&with(headers).with_message_id(id.into()), Vec::new()).due_at(came_at)
        };
        // The example of RFC 9562, 2022-02-22T19:22:22Z.
        let ours = "017F22E2-79B0-7CC3-98C4-DC0C0C07398F";
        assert_eq!(due_at(ours, &[]), Timestamp(1_645_557_742_000));
        assert_eq!(due_at("5c146b14-3c52-8afd-938a-375d0df1fbf6", &[]), came_at);
        assert_eq!(due_at("order-7", &[]), came_at);
        // What it waited for before its retry is not waiting.
        assert_eq!(due_at(ours, &[(ATTEMPT, AMQPValue::LongLongInt(1))]), came_at);
        assert_eq!(due_at(ours, &[(NOT_BEFORE, AMQPValue::LongLongInt(7_000))]), Timestamp(7_000));
    }
}
