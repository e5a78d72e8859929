//! Schedules, and the queues that their tasks go to.

use std::collections::HashMap;

use super::{
    super::{
        Misfire, Queue, Schedule, Target,
        node::Value,
        reader::{Item, Section},
    },
    kinds::{CTL_EXECUTOR, Known},
};
use crate::{
    schedule::cron::{Cron, Fields},
    task::is_queue_name,
    words,
};

pub(super) const OWN: &[&str] = &["worker", "ctl", "id", "misfire"];

/// Reads `scheduled_workers`; adds their queues to `queues`.
pub(super) fn read(top: &Section<'_>, known: &Known, queues: &mut Vec<Queue>, disabled: &[String]) -> Vec<Schedule> {
    let mut schedules: Vec<Schedule> = Vec::new();
    let mut lines: HashMap<String, Option<usize>> = HashMap::new();
    for item in top.get("scheduled_workers").and_then(|item| item.list()).unwrap_or_default() {
        let Some((mut schedule, named)) = schedule(&item, known) else { continue };
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

/// A schedule, and whether its id was set by hand.
fn schedule(item: &Item<'_>, known: &Known) -> Option<(Schedule, bool)> {
    let all: Vec<&str> = [OWN, &Fields::CALENDAR, &Fields::BOUNDS].concat();
    let section = item.section()?.only(&all);
    let target = target(item, &section, known);
    let id = section.get("id").and_then(|item| {
        let id = item.word().unwrap_or_default();
        if is_queue_name(&id) && id.len() <= 150 {
            Some(id)
        } else {
            item.expected("an id of at most 150 letters, digits and _ - . :")
        }
    });
    let misfire = section.get("misfire");
    let misfire = misfire.and_then(|item| item.choice(&[("skip", Misfire::Skip), ("run_once", Misfire::RunOnce)]));
    let (when, fields) = times(item, &section)?;
    let target = target?;
    let queue = match (&target, &id) {
        (Target::Worker(kind), _) => format!("scheduled_0_{kind}"),
        (Target::Ctl(_), Some(id)) => format!("scheduled_0_ctl_{id}"),
        (Target::Ctl(line), None) => format!("scheduled_0_ctl_{}", short_hash(line)),
    };
    let named = id.is_some();
    let id = id.unwrap_or_else(|| queue.clone());
    Some((Schedule { id, queue, target, when, misfire: misfire.unwrap_or_default(), fields }, named))
}

fn target(item: &Item<'_>, section: &Section<'_>, known: &Known) -> Option<Target> {
    match (section.get("worker"), section.get("ctl")) {
        (Some(worker), None) => known.kind(&worker).map(Target::Worker),
        (None, Some(ctl)) => {
            let line = ctl.text()?;
            match words::split(line) {
                Ok(_) => Some(Target::Ctl(line.to_owned())),
                Err(what) => {
                    ctl.problem(format!("is not a command line: {what}"), None);
                    None
                }
            }
        }
        _ => {
            item.problem("Must specify one of 'worker' or 'ctl'", None);
            None
        }
    }
}

/// The calendar, and its fields as they were written.
fn times(item: &Item<'_>, section: &Section<'_>) -> Option<(Cron, String)> {
    let mut fields = Fields::default();
    let mut written = Vec::new();
    let mut complete = true;
    for (entry, item) in section.items().filter(|(entry, _)| !matches!(entry.node.value, Value::Null)) {
        let Some(field) = fields.by_name(&entry.key) else { continue };
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
    let given = Fields::CALENDAR.iter().any(|name| fields.by_name(name).is_some_and(|field| field.is_some()));
    if !given && complete {
        item.problem(
            "Must specify some property of the schedule",
            Some(format!("one of {}", Fields::CALENDAR.join(", "))),
        );
        complete = false;
    }
    match Cron::new(&fields) {
        Ok(cron) => complete.then(|| (cron, format!("{{{}}}", written.join(",")))),
        Err(errors) => {
            for error in errors {
                if let Some(item) = section.get(error.field) {
                    // What came from the environment is not shown.
                    let shown = match (&item.node.value, &item.node.written) {
                        (Value::Text(text), Some(written)) => error.message.replace(text.trim(), written),
                        _ => error.message,
                    };
                    item.problem(shown, None);
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
