//! Tasks that are here, and tasks that the workers know.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::view::{Held, Registered, View};

/// Most tasks in one reply. More are nothing that a person reads, and the reply is bounded.
const MOST: usize = 2_000;
/// What Celery shows of a task unless it is asked for something else.
const SHOWN: [&str; 3] = ["exchange", "routing_key", "rate_limit"];

/// These tasks, as `request.info()` tells them.
pub(super) fn held(tasks: &[Held], node: &str) -> Value {
    tasks.iter().take(MOST).map(|task| info(task, node)).collect()
}

fn info(task: &Held, node: &str) -> Value {
    json!({
        "id": task.id,
        "name": task.name,
        "args": task.args,
        "kwargs": task.kwargs,
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
    let entry = |(state, task): (&str, &Held)| (task.id.clone(), json!([state, info(task, node)]));
    Value::Object(wanted.take(MOST).map(entry).collect::<Map<_, _>>())
}

/// The tasks that the workers know, by name, with these attributes behind each.
pub(super) fn registered(tasks: &BTreeMap<String, Registered>, items: &[String], builtins: bool) -> Value {
    let names: Vec<&str> = if items.is_empty() { SHOWN.to_vec() } else { items.iter().map(String::as_str).collect() };
    let line = |(name, task): (&String, &Registered)| {
        let shown: Vec<String> =
            names.iter().filter_map(|item| Some(format!("{item}={}", attribute(task, item)?))).collect();
        if shown.is_empty() { name.clone() } else { format!("{name} [{}]", shown.join(" ")) }
    };
    tasks.iter().filter(|(name, _)| builtins || !name.starts_with("celery.")).map(line).collect()
}

fn attribute(task: &Registered, name: &str) -> Option<String> {
    let seconds = |limit: Option<f64>| limit.map(|limit| limit.to_string());
    match name {
        "rate_limit" => match &task.rate_limit {
            Value::Null => None,
            Value::String(rate) => Some(rate.clone()),
            rate => Some(rate.to_string()),
        },
        "time_limit" => seconds(task.time_limit),
        "soft_time_limit" => seconds(task.soft_time_limit),
        _ => None,
    }
}
