//! Reads and checks queues, and the rules between them.

use std::collections::BTreeSet;

use super::{backoff::backoff, celery, kinds::Known};
use crate::{
    config::{
        node::Value,
        reader::{Item, Section, check_longest},
        reserved_names::ReservedNames,
        types::{Acks, Breaker, MANY, Queue, Rate, Recycle},
    },
    retry,
    suggest::nearest,
    task::{LONGEST_QUEUE_NAME, is_own_queue_name, is_queue_name},
    transport::{DeadQueue, Uri},
    unique::{Conflict, Template, Unique},
};

const QUEUE: &[&str] = &[
    "worker",
    "processes",
    "concurrency",
    "rate_max_calls",
    "rate_period",
    "acks",
    "timeout",
    "retry",
    "dead_letter",
    "max_deliveries",
    "breaker",
    "recycle",
    "unwrap",
    "unique",
    "protocol",
    "declare_as",
    "exchange",
    "max_priority",
];
const RETRY: &[&str] = &["max_attempts", "first", "factor", "longest", "jitter"];
const DEAD_LETTER: &[&str] = &["queue", "keep"];
const BREAKER: &[&str] = &["failures", "pause", "longest", "errors"];
const RECYCLE: &[&str] = &["max_tasks", "max_memory", "max_age"];
const UNIQUE: &[&str] = &["key", "conflict", "after"];

/// All of them, for the test of the reference.
#[cfg(test)]
pub(super) const LISTS: [&[&str]; 6] = [QUEUE, RETRY, DEAD_LETTER, BREAKER, RECYCLE, UNIQUE];

/// Reads `workers`: queues, and the names of those that are disabled.
pub(super) fn read(top: &Section<'_>, known: &Known, transport: &Uri) -> (Vec<Queue>, Vec<String>) {
    let (mut queues, mut disabled) = (Vec::new(), Vec::new());
    let Some(section) = top.get("workers").and_then(|item| item.section()) else { return (queues, disabled) };
    for (entry, item) in section.items() {
        if !is_long(&item, &entry.key) {
            check_name(&item, &entry.key, &format!("{:?}", entry.key), transport.may_have(&entry.key));
        }
        match &entry.node.value {
            Value::Null => disabled.push(entry.key.clone()),
            Value::Map(_) => queues.push(queue(&item, &entry.key, known, transport)),
            _ => item.expected("a worker kind, or a map with one").unwrap_or_default(),
        }
    }
    (queues, disabled)
}

/// `foreign`: it may be the name of a queue that others made.
fn check_name(item: &Item<'_>, name: &str, shown: &str, foreign: bool) {
    if !is_queue_name(name) && !foreign {
        let shown: String = shown.chars().take(220).collect();
        let hint = "1 to 200 letters, digits and _ - . :, beginning with a letter or digit".to_owned();
        item.key_problem(format!("{shown} is not a properly-formatted queue name"), Some(hint));
    }
    if is_own_queue_name(name) {
        let hint = "give it another name".to_owned();
        item.key_problem("the names of this program's own queues begin with asynctask.".to_owned(), Some(hint));
    }
}

/// Reads the name of a queue that is one of these.
pub(super) fn known_queue(item: &Item<'_>, configured: &BTreeSet<&str>) -> Option<String> {
    let name = item.text()?;
    if configured.contains(name) {
        return Some(name.to_owned());
    }
    let names = configured.iter().copied();
    let mut hint = match configured.len() {
        0 => "no queue is configured under workers".to_owned(),
        _ => format!("configured are: {}", names.clone().take(20).collect::<Vec<_>>().join(", ")),
    };
    if let Some(near) = nearest(name, names) {
        hint = format!("did you mean \"{near}\"? {hint}");
    }
    item.problem(format!("unknown queue {}", item.shown()), Some(hint));
    None
}

/// Whether a name is too long only for the queues that belong to it, which then is told.
fn is_long(item: &Item<'_>, name: &str) -> bool {
    let is_long = (LONGEST_QUEUE_NAME + 1..=255).contains(&name.len());
    if is_long {
        let hint = "its delay queues have its name with .retry. and up to eight digits".to_owned();
        item.key_problem(format!("the name is longer than {LONGEST_QUEUE_NAME} bytes"), Some(hint));
    }
    is_long
}

fn queue(item: &Item<'_>, name: &str, known: &Known, transport: &Uri) -> Queue {
    let none = || Section { report: item.report, path: item.path.clone(), entries: &[] };
    let section = item.section().unwrap_or_else(none).only(QUEUE);
    let worker = section.get("worker");
    if worker.is_none() {
        item.key_problem("has no worker", Some("worker: KIND says what works the queue".to_owned()));
    }
    let kind = worker.and_then(|worker| known.kind(&worker)).unwrap_or_default();
    let default = Queue::new(name, &kind);
    let number = |key, max, default| section.get(key).and_then(|item| item.integer(1, max)).unwrap_or(default);
    let concurrency = number("concurrency", MANY, default.concurrency);
    if concurrency > 1
        && known.is_once(&kind)
        && let Some(item) = section.get("concurrency")
    {
        let hint = "processes: N runs N of them at once".to_owned();
        item.problem(format!("a process of \"{kind}\" does one task (mode: once)"), Some(hint));
    }
    Queue {
        processes: number("processes", MANY, default.processes),
        concurrency,
        rate: rate(&section),
        acks: section
            .get("acks")
            .and_then(|item| item.choice(&[("late", Acks::Late), ("early", Acks::Early)]))
            .unwrap_or_default(),
        timeout: section.get("timeout").and_then(|item| item.duration()),
        retry: retry(&section),
        dead_letter: dead_letter(&section, default.dead_letter),
        max_deliveries: number("max_deliveries", 1_000_000, default.max_deliveries),
        breaker: breaker(&section),
        recycle: recycle(&section),
        unwrap: section.get("unwrap").and_then(|item| item.boolean()).unwrap_or(default.unwrap),
        unique: section.get("unique").and_then(|item| unique(&item)),
        protocol: celery::protocol(&section, name, transport),
        name: default.name,
        kind,
    }
}

fn rate(section: &Section<'_>) -> Option<Rate> {
    let (calls, period) = (section.get("rate_max_calls"), section.get("rate_period"));
    match (&calls, &period) {
        (Some(item), None) => item.key_problem("is given without rate_period", None),
        (None, Some(item)) => item.key_problem("is given without rate_max_calls", None),
        _ => {}
    }
    let calls = calls.and_then(|item| item.integer(1, u32::MAX));
    let period = period.and_then(|item| item.duration());
    Some(Rate { calls: calls?, period: period? })
}

fn retry(section: &Section<'_>) -> retry::Policy {
    let default = retry::Policy::default();
    let section = section.section("retry", RETRY);
    retry::Policy {
        max_attempts: section
            .get("max_attempts")
            .and_then(|item| item.integer(1, 1_000_000))
            .unwrap_or(default.max_attempts),
        backoff: backoff(&section, default.backoff),
        jitter: section.get("jitter").and_then(|item| item.fraction()).unwrap_or(default.jitter),
    }
}

fn dead_letter(section: &Section<'_>, default: DeadQueue) -> DeadQueue {
    let section = section.section("dead_letter", DEAD_LETTER);
    let mut dead = default;
    if let Some(item) = section.get("queue")
        && let Some(name) = item.text()
    {
        let shown = item.shown();
        // That of a queue of others is made from its name, however that reads.
        check_name(&Item { entry: None, ..item }, name, &shown, *name == dead.name);
        name.clone_into(&mut dead.name);
    }
    if let Some(item) = section.get("keep") {
        dead.keep = if matches!(&item.node.value, Value::Text(text) if text == "forever") {
            None
        } else {
            item.duration().or(dead.keep)
        };
    }
    dead
}

fn breaker(section: &Section<'_>) -> Breaker {
    let default = Breaker::default();
    let section = section.section("breaker", BREAKER);
    let breaker = Breaker {
        failures: section.get("failures").and_then(|item| item.integer(1, 1_000_000)).unwrap_or(default.failures),
        pause: section.get("pause").and_then(|item| item.duration()).unwrap_or(default.pause),
        longest: section.get("longest").and_then(|item| item.duration()).unwrap_or(default.longest),
        errors: section.get("errors").and_then(|item| item.boolean()).unwrap_or(default.errors),
    };
    check_longest(&section, "pause", breaker.pause, breaker.longest);
    breaker
}

fn recycle(section: &Section<'_>) -> Recycle {
    let section = section.section("recycle", RECYCLE);
    Recycle {
        max_tasks: section.get("max_tasks").and_then(|item| item.integer(1, u32::MAX)).map(u64::from),
        max_memory: section.get("max_memory").and_then(|item| item.size()),
        max_age: section.get("max_age").and_then(|item| item.duration()),
    }
}

/// The short form is the key alone.
fn unique(item: &Item<'_>) -> Option<Unique> {
    if matches!(item.node.value, Value::Text(_)) {
        return template(item).map(Unique::new);
    }
    let section = item.section()?.only(UNIQUE);
    let Some(key) = section.get("key") else {
        item.key_problem("has no key", Some("key: \"export:{payload.job}\", in quotes".to_owned()));
        return None;
    };
    let default = Unique::new(template(&key)?);
    let after = section.get("after").and_then(|item| {
        let after = item.duration()?;
        if after < Unique::SHORTEST { item.expected("a duration of at least 100ms") } else { Some(after) }
    });
    let conflict = section.get("conflict").and_then(|item| item.choice(&Conflict::WORDS)).unwrap_or(default.conflict);
    if conflict != Conflict::Snooze
        && let Some(item) = section.get("after")
    {
        item.key_problem("is for conflict: snooze; nothing comes again", None);
    }
    Some(Unique { conflict, after: after.unwrap_or(default.after), ..default })
}

/// Reads the template of a key.
pub(super) fn template(item: &Item<'_>) -> Option<Template> {
    match Template::parse(item.text()?) {
        Ok(template) => Some(template),
        Err(bad) => {
            item.problem(bad.to_string(), Some("as in export:{payload.job}".to_owned()));
            None
        }
    }
}

/// No queue may have a name that another queue uses for its dead letters or delays.
pub(super) fn check_names(top: &Section<'_>, queues: &[Queue], disabled: &[String]) {
    let reserved = ReservedNames::new(queues, disabled);
    let Some(section) = top.get("workers").and_then(|item| item.section_quietly()) else { return };
    for (entry, item) in section.items() {
        if let Some((owner, what)) = reserved.owner(&entry.key) {
            item.key_problem(format!("is {what} of \"{owner}\""), Some("give it another name".to_owned()));
        }
        let Some(dead) =
            item.section_quietly().and_then(|queue| queue.get("dead_letter")?.section_quietly()?.get("queue"))
        else {
            continue;
        };
        if let Value::Text(name) = &dead.node.value
            && let Some(owner) = reserved.delay_owner(name)
        {
            dead.problem(format!("is a delay queue of \"{owner}\""), Some("give it another name".to_owned()));
        }
    }
}

/// What the chosen transport cannot do.
pub(super) fn check_for_transport(top: &Section<'_>, queues: &[Queue], transport: &Uri) {
    // RabbitMQ refuses an expiration above 2^32 - 1 ms.
    let longest = std::time::Duration::from_millis(u64::from(u32::MAX));
    if !matches!(transport, Uri::Amqp(_)) {
        return;
    }
    let Some(section) = top.get("workers").and_then(|item| item.section_quietly()) else { return };
    for (entry, item) in section.items() {
        let queue = queues.iter().find(|queue| queue.name == entry.key);
        if queue.and_then(|queue| queue.dead_letter.keep).is_some_and(|keep| keep > longest)
            && let Some(keep) =
                item.section_quietly().and_then(|queue| queue.get("dead_letter")?.section_quietly()?.get("keep"))
        {
            keep.problem("RabbitMQ keeps a message 49 days at most", Some("or keep: forever".to_owned()));
        }
    }
}
