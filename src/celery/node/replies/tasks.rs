//! Tasks that are here, and tasks that the workers know.

use serde_json::{Map, Value, json};

use super::super::view::{Held, Registered, View};

/// Most tasks in one reply. More are nothing that a person reads, and the reply is bounded.
const MOST: usize = 2_000;
/// What Celery shows of a task unless it is asked for something else.
const SHOWN: [&str; 3] = ["exchange", "routing_key", "rate_limit"];

/// These tasks, as `request.info()` tells them.
pub(super) fn held(tasks: &[Held], safe: bool, node: &str) -> Value {
    tasks.iter().take(MOST).map(|task| info(task, safe, node)).collect()
}

/// With the arguments themselves, where they are known; else, and if that is `safe`, with their text.
fn info(task: &Held, safe: bool, node: &str) -> Value {
    let payload = if safe { "" } else { task.payload.as_str() };
    let mut arguments = serde_json::from_str::<Value>(payload).unwrap_or_default();
    let mut shown = |name: &str, text: &str| match arguments.get_mut(name) {
        Some(value) => value.take(),
        None => text.into(),
    };
    json!({
        "id": task.id,
        "name": task.name,
        "args": shown("args", &task.args),
        "kwargs": shown("kwargs", &task.kwargs),
        "type": task.name,
        "hostname": node,
        "time_start": task.time_start,
        "acknowledged": task.acknowledged,
        "delivery_info": {
            "exchange": "",
            "routing_key": task.queue,
            "priority": task.priority,
            "redelivered": task.redelivered,
        },
        "worker_pid": task.worker_pid,
    })
}

/// Of these ids, those that are here, each with its state.
pub(super) fn found(view: &View, ids: &[String], node: &str) -> Value {
    let with = |state: &'static str| move |task| (state, task);
    let here = view.active.iter().map(with("active")).chain(view.reserved.iter().map(with("reserved")));
    let wanted = here.filter(|(_, task): &(_, &Held)| ids.contains(&task.id));
    let entry = |(state, task): (&str, &Held)| (task.id.clone(), json!([state, info(task, false, node)]));
    Value::Object(wanted.take(MOST).map(entry).collect::<Map<_, _>>())
}

/// The tasks that the workers know, by name, with these attributes behind each.
pub(super) fn registered(view: &View, items: &[String], builtins: bool) -> Value {
    let names: Vec<&str> = if items.is_empty() { SHOWN.to_vec() } else { items.iter().map(String::as_str).collect() };
    let line = |(name, task): (&String, &Registered)| {
        let value = |item| if item == "name" { Some(name.clone()) } else { attribute(view, task, item) };
        let shown: Vec<String> = names.iter().filter_map(|item| Some(format!("{item}={}", value(item)?))).collect();
        if shown.is_empty() { name.clone() } else { format!("{name} [{}]", shown.join(" ")) }
    };
    view.tasks.iter().filter(|(name, _)| builtins || !name.starts_with("celery.")).map(line).collect()
}

/// What the master knows itself counts: a person may have set it.
fn attribute(view: &View, task: &Registered, name: &str) -> Option<String> {
    let seconds = |limit: Option<f64>| limit.map(|limit| limit.to_string());
    match name {
        "rate_limit" => match &task.rate_limit {
            Value::Null => None,
            Value::String(rate) => Some(rate.clone()),
            rate => Some(rate.to_string()),
        },
        "time_limit" => seconds(task.time_limit),
        "soft_time_limit" => seconds(task.soft_time_limit),
        _ => {
            let of_all = || view.applications.get(task.application)?.get(name);
            task.attributes.get(name).or_else(of_all).filter(|value| !value.is_empty()).cloned()
        }
    }
}
