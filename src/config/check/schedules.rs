//! Reads and checks schedules, and makes the queues that their tasks go to.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use super::{
    celery,
    kinds::{CTL_EXECUTOR, Known},
    queues::known_queue,
};
use crate::{
    config::{
        json,
        node::Value,
        reader::{Item, Section},
        reserved_names::ReservedNames,
        types::Queue,
        zone,
    },
    jobs::definition::Pipeline,
    membership::ledger_queue,
    schedule::{Misfire, Payload, Schedule, Target, cron::Fields, when::When},
    shell_words,
    suggest::nearest,
    task::is_queue_name,
    transport::Uri,
    unique::Template,
};

pub(super) const OWN: &[&str] = &["worker", "ctl", "queue", "pipeline", "payload", "every", "cron", "id", "misfire"];

/// What a derived name of a queue for command lines begins with; eight hexadecimal digits follow.
const CTL_QUEUE: &str = "scheduled_0_ctl_";

/// What a schedule may refer to.
struct Configured<'a> {
    queues: Vec<Queue>,
    disabled: &'a [String],
    reserved: ReservedNames,
    around: &'a Around<'a>,
}

/// What of the other settings schedules depend on.
pub(super) struct Around<'a> {
    pub(super) application: &'a str,
    pub(super) transport: &'a Uri,
    pub(super) kinds: &'a Known,
    pub(super) pipelines: &'a [Pipeline],
}

impl Configured<'_> {
    /// Names of configured queues, disabled ones included.
    fn names(&self) -> BTreeSet<&str> {
        self.queues.iter().map(|queue| queue.name.as_str()).chain(self.disabled.iter().map(String::as_str)).collect()
    }
}

/// Reads `scheduled_workers`; adds their queues to `queues`.
pub(super) fn read(
    top: &Section<'_>,
    around: &Around<'_>,
    queues: &mut Vec<Queue>,
    disabled: &[String],
) -> Vec<Schedule> {
    let mut schedules: Vec<Schedule> = Vec::new();
    let mut lines: HashMap<String, Option<usize>> = HashMap::new();
    let reserved = ReservedNames::new(queues.iter(), disabled);
    let configured = Configured { queues: queues.clone(), disabled, reserved, around };
    for item in top.get("scheduled_workers").and_then(|item| item.list()).unwrap_or_default() {
        let Some((mut schedule, named)) = schedule(&item, &configured) else { continue };
        if !named && lines.contains_key(&schedule.id) {
            // The first one of a target keeps the plain name, whatever is added after it.
            schedule.id = format!("{}-{}", schedule.id, short_hash(&schedule.fields));
        }
        if let Some(line) = lines.get(&schedule.id) {
            let line = line.map_or(String::new(), |line| format!(", as in line {line}"));
            let hint = "id: NAME gives a schedule a name of its own".to_owned();
            item.problem(format!("a second schedule with the id \"{}\"{line}", schedule.id), Some(hint));
        }
        lines.insert(schedule.id.clone(), item.node.place.position.map(|at| at.line));
        add_queue(&item, &schedule, queues, disabled);
        schedules.push(schedule);
    }
    schedules
}

/// The system's zone is known, or no schedule depends on it.
pub(super) fn check_zone(top: &Section<'_>, schedules: &[Schedule]) {
    let Some(lacking) = schedules.iter().find(|schedule| schedule.when.lacks_zone()) else { return };
    if let Some((origin, what)) = zone::unknown() {
        let mut hint = format!("schedule \"{}\" goes by it, as it has no 'timezone' of its own", lacking.id);
        hint.extend(zone::hint().map(|more| format!("; {more}")));
        top.report.add_outside(origin, what, Some(hint));
    }
}

/// A schedule, and whether its id was set by hand.
fn schedule(item: &Item<'_>, configured: &Configured<'_>) -> Option<(Schedule, bool)> {
    let all: Vec<&str> = [OWN, celery::OF_SCHEDULE, &Fields::CALENDAR, &Fields::BOUNDS].concat();
    let section = item.section()?.only(&all);
    // A task of Celery's has a queue of its own choice, be it worked here or not.
    let (target, sent_to) = if section.get("celery").is_some() {
        celery::scheduled(&section, &configured.queues, &configured.reserved, configured.around.transport)
            .map(|(task, queue)| (Target::Celery(Box::new(task)), queue))
            .unzip()
    } else {
        celery::check_alone(&section);
        (target(item, &section, configured), None)
    };
    let payload = section.given("payload").and_then(|payload| {
        if section.get("ctl").is_some() {
            payload.key_problem("a command line has no payload", None);
        }
        json::payload(&payload)
    });
    if let Some(Target::Pipeline(name)) = &target {
        check_key(&section, name, configured.around.pipelines, payload.as_ref());
    }
    let id = section.get("id").and_then(|item| {
        let id = item.word().unwrap_or_default();
        if is_id(&id) { Some(id) } else { item.expected("an id of at most 150 letters, digits and _ - . :") }
    });
    let misfire = section.get("misfire");
    let misfire = misfire.and_then(|item| item.choice(&[("skip", Misfire::Skip), ("run_once", Misfire::RunOnce)]));
    let (when, fields) = times(item, &section)?;
    let target = target?;
    let queue = match &target {
        Target::Worker(kind) => format!("scheduled_0_{kind}"),
        Target::Queue(name) => name.clone(),
        Target::Ctl(line) => ctl_queue(line, id.as_deref()),
        Target::Celery(_) => sent_to.unwrap_or_default(),
        Target::Pipeline(_) => ledger_queue(configured.around.application),
    };
    let named = id.is_some();
    let id = id.unwrap_or_else(|| {
        let plain = match &target {
            Target::Celery(task) => plain_id("celery", &task.name),
            Target::Pipeline(name) => plain_id("pipeline", name),
            Target::Queue(_) if !is_id(&queue) => format!("queue_{}", short_hash(&queue)),
            Target::Queue(_) | Target::Worker(_) | Target::Ctl(_) => queue.clone(),
        };
        // So that schedules with different payloads keep their names, whichever comes first.
        match (&payload, &target) {
            (Some(payload), _) => format!("{plain}-{}", short_hash(&payload.text)),
            (None, Target::Celery(task)) if task.has_arguments() => format!("{plain}-{}", short_hash(&task.payload())),
            (None, _) => plain,
        }
    });
    let misfire = misfire.unwrap_or_default();
    Some((Schedule { id, queue, target, when, payload, misfire, fields }, named))
}

/// Names of tasks have letters that no id has, or are too long for one, as those of pipelines can be.
fn plain_id(what: &str, name: &str) -> String {
    let plain = format!("{what}_{name}");
    if is_id(&plain) { plain } else { format!("{what}_{}", short_hash(name)) }
}

/// Whether a schedule may have this id.
pub(in crate::config) fn is_id(id: &str) -> bool {
    is_queue_name(id) && id.len() <= 150
}

/// The queue of a command line. An id that was derived from a queue's name, as `config show` prints it, names that
/// queue.
fn ctl_queue(line: &str, id: Option<&str>) -> String {
    let Some(id) = id else { return format!("{CTL_QUEUE}{}", short_hash(line)) };
    let is_hash = |text: &str| text.len() == 8 && text.bytes().all(|byte| b"0123456789abcdef".contains(&byte));
    let derived = id.strip_prefix(CTL_QUEUE).and_then(|rest| rest.split('-').next()).filter(|hash| is_hash(hash));
    format!("{CTL_QUEUE}{}", derived.unwrap_or(id))
}

fn target(item: &Item<'_>, section: &Section<'_>, configured: &Configured<'_>) -> Option<Target> {
    if let Some(pipeline) = section.get("pipeline") {
        if let Some(other) = ["worker", "ctl", "queue"].iter().find(|key| section.get(key).is_some()) {
            pipeline.key_problem(format!("'pipeline' and '{other}' exclude each other"), None);
            return None;
        }
        return known_pipeline(&pipeline, configured.around.pipelines).map(Target::Pipeline);
    }
    match (section.get("worker"), section.get("ctl"), section.get("queue")) {
        (Some(worker), None, None) => configured.around.kinds.kind(&worker).map(Target::Worker),
        (None, Some(ctl), None) => {
            let line = ctl.text()?;
            match shell_words::split(line) {
                Ok(_) => Some(Target::Ctl(line.to_owned())),
                Err(what) => {
                    ctl.problem(format!("is not a command line: {what}"), None);
                    None
                }
            }
        }
        (None, None, Some(queue)) => known_queue(&queue, &configured.names()).map(Target::Queue),
        (worker, ctl, Some(queue)) if worker.is_none() || ctl.is_none() => {
            let hint = "the queue's own worker does its tasks".to_owned();
            queue.key_problem("'queue' stands alone, without 'worker' and 'ctl'", Some(hint));
            None
        }
        _ => {
            let hint = "or 'queue', which names one of those under workers, or 'pipeline'".to_owned();
            item.problem("Must specify one of 'worker' or 'ctl'", Some(hint));
            None
        }
    }
}

fn known_pipeline(item: &Item<'_>, pipelines: &[Pipeline]) -> Option<String> {
    let name = item.text()?;
    let names = pipelines.iter().map(|pipeline| pipeline.name.as_str());
    if names.clone().any(|known| known == name) {
        return Some(name.to_owned());
    }
    let hint = match nearest(name, names.clone()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if pipelines.is_empty() => "no pipeline is configured under pipelines".to_owned(),
        None => format!("configured are: {}", names.take(20).collect::<Vec<_>>().join(", ")),
    };
    item.problem(format!("unknown pipeline {}", item.shown()), Some(hint));
    None
}

/// A job without the key of its pipeline would be refused at each moment.
fn check_key(section: &Section<'_>, name: &str, pipelines: &[Pipeline], payload: Option<&Payload>) {
    // What could not be read is told.
    let is_unread = payload.is_none() && section.given("payload").is_some();
    let key = pipelines.iter().find(|pipeline| pipeline.name == name).and_then(|pipeline| pipeline.key.as_deref());
    let Some(template) = key.filter(|_| !is_unread).and_then(|key| Template::parse(key).ok()) else { return };
    if template.render(name, payload.map_or("{}", |payload| &payload.text)).is_none()
        && let Some(item) = section.given("payload").or_else(|| section.get("pipeline"))
    {
        item.problem(format!("the payload lacks what the key of pipeline \"{name}\" is made of: {template}"), None);
    }
}

/// When, and the fields as they were written.
fn times(item: &Item<'_>, section: &Section<'_>) -> Option<(When, String)> {
    let mut fields = Fields::default();
    let mut written = Vec::new();
    let mut complete = true;
    for (entry, item) in section.items().filter(|(entry, _)| !matches!(entry.node.value, Value::Null)) {
        let mut every = None;
        let Some(field) = (if entry.key == "every" { Some(&mut every) } else { fields.by_name(&entry.key) }) else {
            continue;
        };
        let Some(text) = item.word() else {
            item.problem(format!("expected a number or an expression, not {}", item.shown()), None);
            complete = false;
            continue;
        };
        let value: serde_json::Value = match &entry.node.value {
            Value::Int(number) => i64::try_from(*number).map_or_else(|_| text.clone().into(), Into::into),
            _ => text.clone().into(),
        };
        written.push(format!("\"{}\":{value}", entry.key));
        *field = Some(if let Value::Int(number) = &entry.node.value { number.to_string() } else { text });
    }
    let every = section.get("every").map(|item| {
        let every = item.duration()?;
        // The finest that a calendar can say, too.
        if every < Duration::from_secs(1) { item.expected("a duration of at least 1s") } else { Some(every) }
    });
    let calendar = Fields::CALENDAR.iter().find(|name| fields.by_name(name).is_some_and(|field| field.is_some()));
    let ways: Vec<&str> =
        [every.is_some().then_some("every"), fields.cron.is_some().then_some("cron"), calendar.copied()]
            .into_iter()
            .flatten()
            .collect();
    if let [first, second, ..] = ways[..]
        && let Some(item) = section.get(first)
    {
        item.key_problem(format!("'{first}' and '{second}' exclude each other"), None);
        complete = false;
    }
    if ways.is_empty() && complete {
        let hint = format!("one of {}, every, cron", Fields::CALENDAR.join(", "));
        item.problem("Must specify some property of the schedule", Some(hint));
        complete = false;
    }
    match When::new(&fields, every.flatten()) {
        Ok(when) => (complete && every != Some(None)).then(|| (when, format!("{{{}}}", written.join(",")))),
        Err(errors) => {
            for error in errors {
                if let Some(item) = section.get(error.field) {
                    // What came from the environment is not shown.
                    let shown = match (&item.node.value, &item.node.written) {
                        (Value::Text(text), Some(written)) => error.message.replace(text.trim(), written),
                        _ => error.message,
                    };
                    let hint = if error.field == "timezone" { zone::hint() } else { None };
                    item.problem(shown, hint);
                }
            }
            None
        }
    }
}

fn add_queue(item: &Item<'_>, schedule: &Schedule, queues: &mut Vec<Queue>, disabled: &[String]) {
    let kind = match &schedule.target {
        Target::Worker(kind) => kind,
        Target::Ctl(_) => CTL_EXECUTOR,
        Target::Queue(_) | Target::Celery(_) | Target::Pipeline(_) => return,
    };
    if !is_queue_name(&schedule.queue) {
        item.problem(format!("\"{}\" is not a properly-formatted queue name", schedule.queue), None);
    }
    match queues.iter().find(|queue| queue.name == schedule.queue) {
        // Configured under `workers` with settings of its own.
        Some(queue) if queue.kind == kind || queue.kind.is_empty() => {}
        Some(queue) => {
            item.problem(format!("its queue \"{}\" is worked by \"{}\", not \"{kind}\"", queue.name, queue.kind), None);
        }
        None if disabled.contains(&schedule.queue) => {}
        None => queues.push(Queue::new(&schedule.queue, kind)),
    }
}

/// Eight hexadecimal digits that never change for a text: names on brokers depend on them.
fn short_hash(text: &str) -> String {
    let mut hash = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, text.as_bytes()).simple().to_string();
    hash.truncate(8);
    hash
}
