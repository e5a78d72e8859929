//! Reads and checks pipelines, and the rules between them and the queues.

use std::{collections::BTreeSet, time::Duration};

use super::queues::{known_queue, template};
use crate::{
    config::{
        json,
        node::Value,
        reader::{Item, Section},
        types::{Acks, Queue},
    },
    jobs::definition::{Conflict, ForEach, MOST_TASKS, Pipeline, Step, Tolerance},
    json_text::JsonText,
    suggest::nearest,
    task::is_queue_name,
    unique,
};

pub(super) const PIPELINE: &[&str] =
    &["key", "conflict", "max_running", "timeout", "on_failure", "wipe_failed_after", "remember", "steps"];
pub(super) const STEP: &[&str] = &["name", "queue", "each", "wipe", "keep", "needs", "for_each", "allow_failed"];

/// The queues that a pipeline may name.
struct Configured<'a> {
    queues: &'a [Queue],
    /// Their names, and those of disabled ones: they are worked elsewhere.
    names: BTreeSet<&'a str>,
}

/// Reads `pipelines`.
pub(super) fn read(top: &Section<'_>, queues: &[Queue], disabled: &[String]) -> Vec<Pipeline> {
    let mut pipelines = Vec::new();
    let Some(all) = top.get("pipelines") else { return pipelines };
    let Some(section) = all.section() else { return pipelines };
    let names = queues.iter().map(|queue| queue.name.as_str()).chain(disabled.iter().map(String::as_str)).collect();
    let configured = Configured { queues, names };
    // One that is null was taken back by a later file.
    for (entry, item) in section.items().filter(|(entry, _)| !matches!(entry.node.value, Value::Null)) {
        if !is_queue_name(&entry.key) {
            let hint = "1 to 200 letters, digits and _ - . :, beginning with a letter or digit".to_owned();
            item.key_problem(format!("{:?} is no name of a pipeline", entry.key), Some(hint));
        }
        // A wrong one is known nevertheless: its schedules are not wrong for that.
        pipelines.push(pipeline(&item, &entry.key, &configured));
    }
    pipelines
}

fn pipeline(item: &Item<'_>, name: &str, configured: &Configured<'_>) -> Pipeline {
    let default = Pipeline::new(name, Vec::new());
    let Some(section) = item.section().map(|section| section.only(PIPELINE)) else { return default };
    let conflict = section.get("conflict");
    if let Some(item) = conflict.as_ref().filter(|_| section.get("key").is_none()) {
        item.key_problem("is given without key", None);
    }
    let words = [Conflict::Refuse, Conflict::Wait].map(|conflict| (conflict.as_str(), conflict));
    let wipe_failed_after = section.get("wipe_failed_after").map(|item| {
        if matches!(&item.node.value, Value::Text(text) if text == "forever") { None } else { item.duration_or_zero() }
    });
    Pipeline {
        key: section.get("key").and_then(|item| key(&item)),
        conflict: conflict.and_then(|item| item.choice(&words)).unwrap_or_default(),
        max_running: section.get("max_running").and_then(|item| item.integer(1, u32::MAX)),
        timeout: section.get("timeout").and_then(|item| duration(&item)),
        on_failure: section.get("on_failure").and_then(|item| configured.queue(&item)),
        wipe_failed_after: wipe_failed_after.unwrap_or(default.wipe_failed_after),
        remember: section.get("remember").and_then(|item| duration(&item)).unwrap_or(default.remember),
        steps: steps(item, &section, configured),
        ..default
    }
}

/// A template over the payload alone: a job has no queue.
fn key(item: &Item<'_>) -> Option<String> {
    let template = template(item)?;
    if template.reads_queue() {
        let hint = "a job is in no queue; its key is made of {payload.FIELD} or {payload}".to_owned();
        item.problem("there is no {queue} in the key of a pipeline", Some(hint));
        return None;
    }
    Some(template.to_string())
}

/// A job's times are kept in milliseconds.
fn duration(item: &Item<'_>) -> Option<Duration> {
    let duration = item.duration()?;
    if duration < Duration::from_millis(1) { item.expected("a duration of at least 1ms") } else { Some(duration) }
}

fn steps(pipeline: &Item<'_>, section: &Section<'_>, configured: &Configured<'_>) -> Vec<Step> {
    let hint = || Some("steps: [{ name: NAME, queue: QUEUE }]".to_owned());
    let Some(list) = section.get("steps") else {
        pipeline.key_problem("has no steps", hint());
        return Vec::new();
    };
    let Some(items) = list.list() else { return Vec::new() };
    if items.is_empty() {
        list.problem("has no steps", hint());
    }
    let names: Vec<Option<&str>> = items.iter().map(written_name).collect();
    let lists: Vec<bool> = items.iter().map(begins_with_a_list).collect();
    let step = |(position, item): (usize, &Item<'_>)| {
        if let Some(name) = names[position]
            && let Some(first) = names[..position].iter().position(|above| *above == Some(name))
        {
            let line = items[first].node.place.position.map_or(String::new(), |at| format!(", as in line {}", at.line));
            item.problem(format!("a second step with the name \"{name}\"{line}"), None);
        }
        step(item, &Names { all: &names, lists: &lists, position }, configured)
    };
    items.iter().enumerate().map(step).collect()
}

/// The name of a step, be it right or wrong.
fn written_name<'a>(step: &Item<'a>) -> Option<&'a str> {
    match &step.section_quietly()?.get("name")?.node.value {
        Value::Text(name) if !name.is_empty() => Some(name),
        _ => None,
    }
}

/// Whether a step begins with a list, be that right or wrong.
fn begins_with_a_list(step: &Item<'_>) -> bool {
    step.section_quietly().is_some_and(|step| step.get("for_each").is_some())
}

/// The names of a pipeline's steps, as seen from one of them.
struct Names<'a> {
    all: &'a [Option<&'a str>],
    /// Which of them begin with a list.
    lists: &'a [bool],
    position: usize,
}

impl<'a> Names<'a> {
    fn above(&self, name: &str) -> Option<usize> {
        self.all[..self.position].iter().position(|above| *above == Some(name))
    }

    /// What is said of a name that is not among these.
    fn unknown(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
        match nearest(name, known.clone()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None if known.clone().next().is_none() => "no step is above this one".to_owned(),
            None => format!("known here: {}", known.take(20).collect::<Vec<_>>().join(", ")),
        }
    }
}

fn step(item: &Item<'_>, names: &Names<'_>, configured: &Configured<'_>) -> Step {
    let mut step = Step::new("", "", Vec::new());
    let Some(section) = item.section().map(|section| section.only(STEP)) else { return step };
    match section.get("name") {
        Some(name) => step.name = step_name(&name).unwrap_or_default(),
        None => item.problem("has no name", Some("name: NAME".to_owned())),
    }
    let queue = |key| section.get(key).map(|item| configured.of_step(&item));
    match queue("queue") {
        Some(queue) => step.queue = queue.unwrap_or_default(),
        None => item.problem("has no queue", Some("queue: NAME, one of those under workers".to_owned())),
    }
    step.each = queue("each").flatten().unwrap_or_else(|| step.queue.clone());
    step.wipe = queue("wipe").flatten();
    if let Some(keep) = section.get("keep") {
        step.keep = keep.boolean().unwrap_or_default();
        if step.keep && section.get("wipe").is_none() {
            keep.key_problem("is given without wipe", None);
        }
    }
    step.needs = match section.get("needs") {
        Some(needs) => self::needs(&needs, names),
        None => names.position.checked_sub(1).into_iter().collect(),
    };
    step.for_each = section.get("for_each").and_then(|item| for_each(&item, &step.needs, names));
    step.allow_failed = section.get("allow_failed").and_then(|item| tolerance(&item)).unwrap_or_default();
    step
}

/// No dot is in it, which parts the names in `{inputs.STEP.FIELD}`.
fn step_name(item: &Item<'_>) -> Option<String> {
    let name = item.text()?;
    if is_queue_name(name) && !name.contains(['.', ':']) {
        return Some(name.to_owned());
    }
    item.expected("a name of 1 to 200 letters, digits and _ -, beginning with a letter or digit")
}

/// The positions of the steps that one needs.
fn needs(item: &Item<'_>, names: &Names<'_>) -> Vec<usize> {
    let needed = match &item.node.value {
        Value::List(_) => item.list().unwrap_or_default(),
        Value::Text(_) => vec![Item { path: item.path.clone(), ..*item }],
        _ => return item.expected("a step above, or a list of some").unwrap_or_default(),
    };
    let mut positions = BTreeSet::new();
    for item in needed {
        let Some(name) = item.text() else { continue };
        let Some(position) = names.above(name) else {
            if names.all[names.position] == Some(name) {
                item.problem("a step cannot need itself", None);
            } else if names.all[names.position..].contains(&Some(name)) {
                let hint = "a step needs steps above it in the list".to_owned();
                item.problem(format!("step {} is not above this one", item.shown()), Some(hint));
            } else {
                let above = names.all[..names.position].iter().flatten().copied();
                item.problem(format!("unknown step {}", item.shown()), Some(Names::unknown(name, above)));
            }
            continue;
        };
        if !positions.insert(position) {
            item.problem(format!("step {} is needed already", item.shown()), None);
        }
    }
    positions.into_iter().collect()
}

fn for_each(item: &Item<'_>, needs: &[usize], names: &Names<'_>) -> Option<ForEach> {
    let written = match &item.node.value {
        Value::List(_) => {
            let list = item.list()?;
            if list.len() > MOST_TASKS {
                item.problem(format!("has {} elements, more than {MOST_TASKS}", list.len()), None);
                return None;
            }
            return Some(ForEach::List(list.iter().filter_map(element).collect()));
        }
        Value::Text(written) => written.as_str(),
        Value::Map(entries) if entries.iter().all(|entry| entry.key.starts_with("inputs.")) => {
            item.problem("is a map without quotes around it", Some("\"{inputs.STEP.FIELD}\"".to_owned()));
            return None;
        }
        _ => "",
    };
    let inside = written.strip_prefix("{inputs.").and_then(|rest| rest.strip_suffix('}'));
    let parts: Vec<&str> = inside.unwrap_or_default().split('.').collect();
    if parts.iter().any(|part| part.is_empty() || part.contains(['{', '}'])) {
        return item.expected("a list, or one in a result as in \"{inputs.STEP.FIELD}\"");
    }
    let (name, path) = (parts[0], &parts[1..]);
    if let Some(step) = names.above(name).filter(|step| needs.contains(step)) {
        if names.lists[step] {
            let problem = format!("step \"{name}\" has for_each itself, and no result");
            item.problem(problem, Some("let a step between them give the list".to_owned()));
            return None;
        }
        return Some(ForEach::Result { step, path: path.iter().map(|part| (*part).to_owned()).collect() });
    }
    if names.above(name).is_some() {
        let hint = format!("needs: {name}");
        item.problem(format!("step \"{name}\" is not needed by this one"), Some(hint));
    } else {
        let needed = needs.iter().filter_map(|step| names.all[*step]);
        item.problem(format!("unknown step in {}", item.shown()), Some(Names::unknown(name, needed)));
    }
    None
}

fn element(item: &Item<'_>) -> Option<JsonText> {
    let payload = json::payload(item)?;
    JsonText::parse(&payload.text).map_err(|error| item.problem(format!("is no JSON: {error}"), None)).ok()
}

/// `5`, `5%` or `all`.
fn tolerance(item: &Item<'_>) -> Option<Tolerance> {
    let tolerance = match &item.node.value {
        Value::Int(tasks) => u64::try_from(*tasks).ok().map(Tolerance::Tasks),
        Value::Text(text) if text == "all" => Some(Tolerance::All),
        Value::Text(text) => match text.trim().strip_suffix('%') {
            Some(percent) => percent.trim().parse().ok().filter(|p| (0.0..=100.0).contains(p)).map(Tolerance::Percent),
            None => text.trim().parse().ok().map(Tolerance::Tasks),
        },
        _ => None,
    };
    tolerance.or_else(|| item.expected("a number of tasks, a percentage from 0% to 100%, or all"))
}

impl Configured<'_> {
    /// A queue whose tasks are of a job: the end of each is told to its ledger.
    fn of_step(&self, item: &Item<'_>) -> Option<String> {
        let name = self.queue(item)?;
        let queue = self.queues.iter().find(|queue| queue.name == name);
        if queue.is_some_and(|queue| queue.acks == Acks::Early) {
            let what = format!("queue \"{name}\" has acks: early, which can lose a task: its job would wait for ever");
            item.problem(what, Some(format!("workers.{name}.acks: late")));
        }
        let unique = queue.and_then(|queue| queue.unique.as_ref());
        if unique.is_some_and(|unique| unique.conflict == unique::Conflict::Drop) {
            let what = format!(
                "queue \"{name}\" has unique.conflict: drop, which removes tasks: their jobs would wait for ever"
            );
            item.problem(what, Some(format!("workers.{name}.unique.conflict: snooze, or dead-letter")));
        }
        Some(name)
    }

    /// A queue that our own tasks can be put into.
    fn queue(&self, item: &Item<'_>) -> Option<String> {
        let name = known_queue(item, &self.names)?;
        if self.queues.iter().any(|queue| queue.name == name && queue.protocol.is_celery()) {
            item.problem(format!("the messages of queue \"{name}\" are Celery's, which are of no job"), None);
        }
        Some(name)
    }
}
