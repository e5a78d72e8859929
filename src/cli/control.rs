//! `asynctask status`, `health` and `control`: asking a running master.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use serde_json::Value;

use super::{
    args::Global,
    control_args::{Control, Health, Status},
    control_client::{ask, ask_within, socket},
    output::{escape_control, print, print_while_read, table},
    settings::{duration, load},
};
use crate::{
    clock::Clock,
    control::{client, types::Command},
    exit_code::{Code, Error},
    worker::registry::Registry,
};

/// Between two looks of `--watch` and `--wait`.
const LOOK: Duration = Duration::from_secs(1);

pub(super) fn status(registry: &Registry, global: &Global, verb: &Status) -> Result<Code, Error> {
    let config = load(registry, global)?;
    let path = socket(&config, verb.socket.as_ref())?;
    loop {
        let status = ask(&path, &Command::Status {})?;
        if verb.watch && std::io::stdout().is_terminal() {
            print_while_read("\x1b[2J\x1b[H")?;
        }
        let is_read = print_while_read(&if verb.json { format!("{status}\n") } else { overview(&status) })?;
        // The reader may be gone (`| head`).
        if !verb.watch || !is_read {
            return Ok(Code::Ok);
        }
        pause();
    }
}

pub(super) fn health(registry: &Registry, global: &Global, verb: &Health) -> Result<Code, Error> {
    let config = load(registry, global)?;
    let path = socket(&config, verb.socket.as_ref())?;
    let patience = verb.wait.as_deref().map(|text| duration("--wait", text)).transpose()?.unwrap_or_default();
    let clock = Clock::start();
    loop {
        let passed = clock.now().at.since_start();
        let is_last = passed + LOOK > patience;
        // A master that does not answer takes no more time than there is.
        let limit = verb
            .wait
            .as_ref()
            .map_or(client::PATIENCE, |_| patience.saturating_sub(passed).clamp(LOOK, client::PATIENCE));
        match ask_within(&path, &Command::Health {}, limit) {
            Ok(health) => {
                let healthy = health["healthy"] == true;
                if healthy || is_last {
                    print(&if verb.json { format!("{health}\n") } else { findings(&health) })?;
                    return Ok(if healthy { Code::Ok } else { Code::Refused });
                }
            }
            Err(error) if is_last => return Err(error),
            Err(_) => {}
        }
        pause();
    }
}

pub(super) fn control(registry: &Registry, global: &Global, verb: &Control) -> Result<Code, Error> {
    // By name it is found whatever the settings say by now.
    let path = match &verb.socket {
        Some(path) => path.clone(),
        None => socket(&load(registry, global)?, None)?,
    };
    let said = ask(&path, &verb.verb)?;
    print(&format!("{}\n", said.as_str().map_or_else(|| said.to_string(), escape_control)))?;
    Ok(Code::Ok)
}

#[expect(clippy::disallowed_methods, reason = "a look each second is what --watch and --wait are for")]
fn pause() {
    // A full pipe or a closed one shows at the next print.
    let _ = std::io::stdout().flush();
    std::thread::sleep(LOOK);
}

fn findings(health: &Value) -> String {
    let problems = health["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
    if problems.is_empty() {
        return "healthy\n".to_owned();
    }
    problems.iter().map(|problem| escape_control(problem.as_str().unwrap_or_default()) + "\n").collect()
}

/// The line about schedules, of a master that is to be their scheduler.
fn scheduler(scheduler: &Value) -> Option<String> {
    let next = &scheduler["next"];
    let text = |value: &Value| escape_control(value.as_str().unwrap_or_default());
    Some(match (scheduler["enabled"] == true, scheduler["leading"] == true, next.is_object()) {
        (false, ..) => return None,
        (_, false, _) => "schedules: not held by this master\n".to_owned(),
        (_, _, false) => "schedules: no moment to come\n".to_owned(),
        (_, _, true) => {
            let (schedule, at, zone) = (text(&next["schedule"]), text(&next["at"]), text(&next["zone"]));
            format!("schedules: next {schedule} at {at} ({zone})\n")
        }
    })
}

/// The line about jobs, of a master with pipelines.
fn jobs(status: &Value) -> Option<String> {
    let coordinator = status.get("coordinator")?;
    let place = if coordinator["held"] == true { "coordinated here" } else { "coordinated elsewhere" };
    let Value::Object(counts) = &status["jobs"] else { return Some(format!("jobs: {place}, not counted\n")) };
    let counts: Vec<String> =
        ["running", "planned", "failed", "frozen"].map(|name| format!("{} {name}", counts[name])).to_vec();
    let waiting = match coordinator["entries"].as_u64() {
        None | Some(0) => String::new(),
        Some(1) => "; 1 entry is not folded".to_owned(),
        Some(waiting) => format!("; {waiting} entries are not folded"),
    };
    Some(format!("jobs: {}; {place}{waiting}\n", counts.join(", ")))
}

fn overview(status: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let connected = if status["transport"]["connected"] == true { "connected" } else { "not connected" };
    let mut out = format!(
        "{} (pid {}, version {}), up {:.0} s, {} {}\n\n",
        text(&status["state"]),
        status["pid"],
        text(&status["version"]),
        status["uptime_seconds"].as_f64().unwrap_or_default(),
        escape_control(&text(&status["transport"]["uri"])),
        connected,
    );
    if let Some(line) = scheduler(&status["scheduler"]) {
        out.insert_str(out.len() - 1, &line);
    }
    if let Some(line) = jobs(status) {
        out.insert_str(out.len() - 1, &line);
    }
    let queues: Vec<(&String, &Value)> = status["queues"].as_object().into_iter().flatten().collect();
    // What the transport does not tell is no number.
    let dash = |value: &Value| if value.is_null() { "-".to_owned() } else { text(value) };
    let columns = ["kind", "state", "ready", "delayed", "in_hand", "failed", "done"];
    let row = |(name, queue): &(&String, &Value)| {
        [vec![(*name).clone()], columns.map(|column| dash(&queue[column])).to_vec()].concat()
    };
    let header = ["QUEUE", "KIND", "STATE", "READY", "DELAYED", "IN HAND", "FAILED", "DONE"];
    out.push_str(&table(&header, queues.iter().map(row).collect()));
    out.push('\n');
    for (name, queue) in &queues {
        if let Some(task) = queue["worked_alone"].as_str() {
            let (name, task) = (escape_control(name), escape_control(task));
            out.extend([
                "queue ",
                &name,
                ": task ",
                &task,
                " was delivered often and never ended; until it has, no other is taken\n\n",
            ]);
        }
    }
    let slots = queues.iter().flat_map(|(_, queue)| queue["slots"].as_array().into_iter().flatten());
    let cells = |slot: &Value| {
        let task = match &slot["task"] {
            Value::Null => "-".to_owned(),
            task => format!("{} ({:.1} s)", text(&task["id"]), task["age_seconds"].as_f64().unwrap_or_default()),
        };
        let mut names = ["slot", "pid", "state"].map(|name| dash(&slot[name]));
        if slot["stopped"] == true {
            names[2].push_str(", stopped");
        }
        let counts = ["done", "failed", "restarts", "last_exit"].map(|name| dash(&slot[name]));
        [names.to_vec(), vec![task], counts.to_vec()].concat()
    };
    let header = ["SLOT", "PID", "STATE", "TASK", "DONE", "FAILED", "RESTARTS", "LAST EXIT"];
    out.push_str(&table(&header, slots.map(cells).collect()));
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn jobs_are_counted_where_there_are_pipelines() {
        let status = |coordinator: Value, jobs: Value| json!({ "coordinator": coordinator, "jobs": jobs });
        let counts = json!({ "running": 3, "planned": 1, "failed": 0, "frozen": 2 });
        let here = json!({ "held": true, "epoch": 4, "entries": 1 });
        assert_eq!(
            jobs(&status(here, counts.clone())).unwrap(),
            "jobs: 3 running, 1 planned, 0 failed, 2 frozen; coordinated here; 1 entry is not folded\n"
        );
        let elsewhere = json!({ "held": false, "epoch": null, "entries": null });
        assert!(jobs(&status(elsewhere.clone(), counts)).unwrap().ends_with("2 frozen; coordinated elsewhere\n"));
        assert_eq!(jobs(&status(elsewhere, Value::Null)).unwrap(), "jobs: coordinated elsewhere, not counted\n");
        assert_eq!(jobs(&json!({})), None);
    }

    #[test]
    fn what_the_transport_does_not_tell_is_a_dash() {
        let queue = json!({ "kind": "w", "state": "running", "ready": null, "delayed": null, "in_hand": 1, "failed": null, "done": 2,
            "slots": [] });
        let shown = overview(&json!({ "state": "running", "queues": { "foo": queue } }));
        let row = shown.lines().find(|line| line.contains("foo")).expect("a row");
        assert!(!shown.contains("delivered often"), "{shown}");
        assert_eq!(
            row.split_whitespace().collect::<Vec<_>>(),
            ["foo", "w", "running", "-", "-", "1", "-", "2"],
            "{shown}"
        );
    }
}
