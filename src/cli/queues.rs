//! `asynctask queues`: what lies where.

use serde_json::{Map, json};

use super::{
    args::{Global, QueueEnd, Queues, QueuesVerb},
    confirm,
    connection::{from_transport_error, open},
    output::{print, table},
    settings::{dead_queue, load_shared},
    waiting::{CallFailed, WaitingClient, longest_wait, say},
};
use crate::{
    config::Config,
    exit_code::{Code, Error},
    jobs::{
        ledger::{place, queues_of},
        record::{JobFilter, Record},
    },
    plural::{self, counted},
    transport::{self, DeadQueue, Depth, Request},
    worker::registry::Registry,
};

/// Jobs that a question names.
const NAMED: usize = 5;

pub(super) fn run(registry: &Registry, global: &Global, verb: &Queues) -> Result<Code, Error> {
    let config = load_shared(registry, global)?;
    match &verb.verb {
        None => list(&config, verb.json),
        Some(QueuesVerb::Purge(end)) => purge(&config, end),
        Some(QueuesVerb::Delete(end)) => delete(&config, end),
    }
}

fn purge(config: &Config, end: &QueueEnd) -> Result<Code, Error> {
    let (mut client, queue) = consent(config, end, "purging a queue", "Delete all that is ready and delayed in")?;
    let name = queue.queue;
    let purged = match client.call(|reply| Request::Purge { queue: name, reply }) {
        Ok(purged) | Err(CallFailed { done: Some(purged), .. }) => purged,
        Err(broken) => return Err(purge_broke_off(&broken)),
    };
    tell(end, "purged", purged, None)
}

fn delete(config: &Config, end: &QueueEnd) -> Result<Code, Error> {
    let (mut client, queue) =
        consent(config, end, "deleting a queue", "Delete, with all that is ready and delayed in it,")?;
    let asked = queue.clone();
    let deleted = match client.call(|reply| Request::Delete { queue: asked, reply }) {
        Ok(deleted) | Err(CallFailed { done: Some(deleted), .. }) => deleted,
        Err(broken) => {
            let in_use = matches!(broken.last(), Some(transport::Error::InUse { .. }));
            let error = broken.error();
            return Err(if in_use { error.hint("stop the masters that work it") } else { error });
        }
    };
    // One that was stopped meanwhile is asked nothing more.
    let dead = client.depth(&queue).map_or(0, |depth| depth.failed);
    tell(end, "deleted", deleted, Some((dead, queue)))
}

/// A purge deletes what is delayed first, step by step.
fn purge_broke_off(broken: &CallFailed<u64>) -> Error {
    match broken.last() {
        Some(transport::Error::Unfinished { walked, .. }) => {
            broken.error().hint(format!("{} deleted before; run it again", plural::were(walked.removed, "task")))
        }
        _ => broken.error(),
    }
}

/// Asks, unless `--yes` was said.
fn consent(config: &Config, end: &QueueEnd, doing: &str, question: &str) -> Result<(WaitingClient, DeadQueue), Error> {
    if !end.yes {
        confirm::needs_terminal(doing)?;
    }
    let name = &end.queue;
    let queue = dead_queue(config, name);
    let mut client = WaitingClient::open(config, longest_wait(end.wait.as_deref())?)?;
    let users = jobs_with(&mut client, config, name);
    if end.yes {
        for job in users {
            let text = format!("warning: job {job} uses queue {name}: its tasks that wait there end as cancelled");
            say(&client.bar, &text);
        }
    } else {
        let depth = client.depth(&queue)?;
        let (ready, delayed) = (depth.ready, depth.delayed);
        let jobs = match users.len() {
            0 => String::new(),
            _ => format!("; tasks of jobs end as cancelled, and these use it: {}", listed(&users)),
        };
        if !confirm::yes(&format!("{question} queue {name} ({ready} ready, {delayed} delayed{jobs})?"))? {
            return Err(Error::new(Code::Refused, "nothing was deleted"));
        }
    }
    client.listen()?;
    Ok((client, queue))
}

/// Live jobs whose definition has this queue: `ID of PIPELINE/KEY`. None where jobs cannot be read.
fn jobs_with(client: &mut WaitingClient, config: &Config, queue: &str) -> Vec<String> {
    let (application, filter) = (config.application.clone(), JobFilter { open: true, ..JobFilter::default() });
    let Ok((open, _)) = client.call(|reply| Request::Jobs { application, filter, reply }) else { return Vec::new() };
    let uses = |record: &&Record| record.state.is_live() && queues_of(record).iter().any(|used| used == queue);
    open.iter().filter(uses).map(|job| format!("{} of {}", job.id, place(&job.pipeline, job.key.as_deref()))).collect()
}

/// The first of them, and how many more there are.
fn listed(jobs: &[String]) -> String {
    let named = jobs.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match jobs.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

fn tell(end: &QueueEnd, what: &str, count: u64, dead: Option<(u64, DeadQueue)>) -> Result<Code, Error> {
    let queue = &end.queue;
    if end.json {
        print(&format!("{}\n", json!({ "queue": queue, what: count })))?;
        return Ok(Code::Ok);
    }
    print(&format!("queue {queue} {what}: {}\n", counted(count, "task")))?;
    if let Some((dead @ 1.., lie)) = dead {
        // In one with a name of its own there may be those of others.
        let whose = match lie.name {
            name if name == DeadQueue::of(queue).name => format!("its {}", counted(dead, "dead letter")),
            name => format!("the {} in {name}", counted(dead, "dead letter")),
        };
        let stay = if dead == 1 { "stays" } else { "stay" };
        print(&format!("{whose} {stay}; asynctask failed purge {queue} --all deletes its own\n"))?;
    }
    Ok(Code::Ok)
}

fn list(config: &Config, as_json: bool) -> Result<Code, Error> {
    let transport = open(config)?;
    let known = transport::call(&*transport, |reply| Request::KnownQueues { reply })
        .map_err(|error| from_transport_error(&error))?;
    let mut queues: Vec<(Option<&str>, DeadQueue)> =
        config.queues.iter().map(|queue| (Some(queue.kind.as_str()), queue.dead_letter.clone())).collect();
    for name in known {
        if !queues.iter().any(|(_, queue)| queue.queue == name) {
            queues.push((None, DeadQueue::of(&name)));
        }
    }
    let asked: Vec<DeadQueue> = queues.iter().map(|(_, queue)| queue.clone()).collect();
    let depths = transport::call(&*transport, |reply| Request::Depths { queues: asked, reply })
        .map_err(|error| from_transport_error(&error))?;
    let rows = queues.iter().zip(&depths);
    if as_json {
        let object: Map<_, _> = rows
            .map(|((kind, queue), depth)| {
                let known = |count: u64| (!depth.unknown).then_some(count);
                let [ready, delayed, in_hand, failed] =
                    [depth.ready, depth.delayed, depth.in_hand, depth.failed].map(known);
                let mut row =
                    json!({ "kind": kind, "ready": ready, "delayed": delayed, "in_hand": in_hand, "failed": failed });
                if depth.failed_shared {
                    row["failed_shared"] = true.into();
                }
                (queue.queue.clone(), row)
            })
            .collect();
        print(&format!("{}\n", serde_json::Value::Object(object)))?;
    } else {
        let cells = |((kind, queue), depth): (&(Option<&str>, DeadQueue), &Depth)| {
            let mut counts = [depth.ready, depth.delayed, depth.in_hand, depth.failed].map(|count| count.to_string());
            if depth.unknown {
                counts.fill("-".to_owned());
            } else if depth.failed_shared {
                counts[3] = format!("{} in {}", counts[3], queue.name);
            }
            [vec![queue.queue.clone(), kind.unwrap_or("-").to_owned()], counts.to_vec()].concat()
        };
        print(&table(&["QUEUE", "KIND", "READY", "DELAYED", "IN HAND", "FAILED"], rows.map(cells).collect()))?;
    }
    Ok(Code::Ok)
}
