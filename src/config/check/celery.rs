//! Reads and checks what concerns Celery: the protocol of a queue, the section of the node, the tasks of schedules.

use crate::{
    celery::{CeleryQueue, DeclareAs, Protocol, message},
    config::{
        json,
        reader::{Item, Section},
        reserved_names::ReservedNames,
        types::{Celery, CeleryControl, CeleryEvents, CeleryFailures, Queue},
    },
    schedule::{CeleryTask, Payload},
    task::{is_delay_queue_name, is_foreign_queue_name, is_queue_name},
    transport::Uri,
};

/// Keys of a queue that are for Celery's alone.
pub(super) const OF_QUEUE: &[&str] = &["declare_as", "exchange", "max_priority"];
/// Keys of the section.
pub(super) const SECTION: &[&str] = &["node", "events", "control", "failures"];
/// Keys of a schedule, beside `queue`.
pub(super) const OF_SCHEDULE: &[&str] = &["celery", "args", "kwargs"];

/// Where Celery's producers send what nobody routes elsewhere.
const DEFAULT_QUEUE: &str = "celery";
/// Longest name of a node, in bytes: those of its own queues have more behind it.
const LONGEST_NODE: usize = 200;

/// The form of a queue's messages.
pub(super) fn protocol(section: &Section<'_>, queue: &str, transport: &Uri) -> Protocol {
    let item = section.get("protocol");
    let is_celery = item.as_ref().and_then(|item| item.choice(&[("asynctask", false), ("celery", true)]));
    let Some((item, true)) = item.zip(is_celery) else {
        for item in OF_QUEUE.iter().filter_map(|key| section.get(key)) {
            item.key_problem("is for queues with protocol: celery", None);
        }
        return Protocol::default();
    };
    if !matches!(transport, Uri::Amqp(_)) {
        item.problem("Celery's messages come by RabbitMQ alone", Some("transport: amqp://…".to_owned()));
    }
    let default = CeleryQueue::of(queue);
    let types = [("classic", DeclareAs::Classic), ("quorum", DeclareAs::Quorum)];
    let declare_as = section.get("declare_as").and_then(|item| item.choice(&types)).unwrap_or_default();
    let priorities = section.get("max_priority");
    let max_priority = priorities.as_ref().and_then(|item| item.integer(1, 255)).and_then(|max| u8::try_from(max).ok());
    if declare_as == DeclareAs::Quorum
        && let Some(item) = priorities
    {
        item.key_problem("quorum queues are not declared with priorities", None);
    }
    let exchange = section.get("exchange").and_then(|item| {
        let name = item.text()?;
        if (1..=255).contains(&name.len()) && !name.contains(char::is_control) {
            Some(name.to_owned())
        } else {
            item.expected("the name of an exchange, of 1 to 255 bytes")
        }
    });
    Protocol::Celery(Box::new(CeleryQueue { exchange: exchange.unwrap_or(default.exchange), declare_as, max_priority }))
}

/// The section, where it is needed: a queue's messages are Celery's, or it is there.
pub(super) fn node(top: &Section<'_>, queues: &[Queue]) -> Option<Celery> {
    let is_needed = top.get("celery").is_some() || queues.iter().any(|queue| queue.protocol.is_celery());
    let section = top.section("celery", SECTION);
    let default = Celery::default();
    let celery = Celery {
        node: section.get("node").and_then(|item| node_name(&item)).unwrap_or(default.node),
        events: choice(
            &section,
            "events",
            [CeleryEvents::Auto, CeleryEvents::On, CeleryEvents::Off],
            CeleryEvents::as_str,
        ),
        control: choice(&section, "control", [CeleryControl::Look, CeleryControl::Work], CeleryControl::as_str),
        failures: choice(&section, "failures", [CeleryFailures::Keep, CeleryFailures::Drop], CeleryFailures::as_str),
    };
    is_needed.then_some(celery)
}

fn choice<T: Copy + Default, const N: usize>(
    section: &Section<'_>,
    key: &str,
    choices: [T; N],
    word: fn(T) -> &'static str,
) -> T {
    section.get(key).and_then(|item| item.choice(&choices.map(|choice| (word(choice), choice)))).unwrap_or_default()
}

fn node_name(item: &Item<'_>) -> Option<String> {
    let name = item.text()?;
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.:+%".contains(&byte))
    };
    let is_name =
        name.len() <= LONGEST_NODE && name.split_once('@').is_some_and(|(name, host)| is_part(name) && is_part(host));
    if is_name {
        Some(name.to_owned())
    } else {
        item.expected(
            "NAME@HOST, such as asynctask@%h, of letters, digits and _ - . : +; %h, %n and %d are of the host's name",
        )
    }
}

/// The task of a schedule, and the queue that it is sent to.
pub(super) fn scheduled(
    section: &Section<'_>,
    queues: &[Queue],
    reserved: &ReservedNames,
    transport: &Uri,
) -> Option<(CeleryTask, String)> {
    let item = section.get("celery")?;
    for (key, queue) in ["worker", "ctl", "pipeline", "payload"].iter().filter_map(|key| Some((key, section.get(key)?)))
    {
        let hint = "a task of Celery's has args and kwargs, and goes to the queue that 'queue' names".to_owned();
        queue.key_problem(format!("'celery' and '{key}' exclude each other"), Some(hint));
    }
    if !matches!(transport, Uri::Amqp(_)) {
        item.problem("Celery's messages go by RabbitMQ alone", Some("transport: amqp://…".to_owned()));
    }
    let arguments = |key: &str, none: &str| match section.get(key) {
        Some(item) => json::payload(&item),
        None => Some(Payload::of(none)),
    };
    let (args, kwargs) = (arguments("args", "[]"), arguments("kwargs", "{}"));
    let queue = section.get("queue");
    let name = match &queue {
        Some(queue) => queue.text()?.to_owned(),
        None => DEFAULT_QUEUE.to_owned(),
    };
    if let Some(queue) = &queue {
        if !is_queue_name(&name) && !is_foreign_queue_name(&name) {
            queue.problem(format!("{} is no name of a queue", queue.shown()), None);
        } else if let Some((owner, what)) = reserved.owner(&name) {
            queue.problem(format!("is {what} of \"{owner}\""), None);
        } else if is_delay_queue_name(&name) {
            queue.problem("has the form of a delay queue's name", None);
        }
    }
    let configured = queues.iter().find(|queue| queue.name == name);
    if configured.is_some_and(|queue| !queue.protocol.is_celery()) {
        let hint = format!("workers.{name}.protocol: celery");
        item.problem(format!("the messages of queue \"{name}\" are not Celery's"), Some(hint));
    }
    let protocol =
        configured.map_or_else(|| Protocol::Celery(Box::new(CeleryQueue::of(&name))), |queue| queue.protocol.clone());
    let task = CeleryTask { name: item.text()?.to_owned(), args: args?, kwargs: kwargs?, protocol };
    if let Err(error) = message::from_payload(task.payload().as_bytes(), "", None, None, "") {
        item.problem(error, None);
        return None;
    }
    Some((task, name))
}

/// What stands there without a task of Celery's.
pub(super) fn check_alone(section: &Section<'_>) {
    for item in ["args", "kwargs"].iter().filter_map(|key| section.get(key)) {
        item.key_problem("is for a task of Celery's, with 'celery'", None);
    }
}
