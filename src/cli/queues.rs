//! `asynctask queues`: what lies where.

use serde_json::{Map, json};

use super::{
    args::{Global, Queues},
    load, open, print, table, told,
};
use crate::{
    app::App,
    error::{Code, Error},
    transport::{self, DeadQueue, Request},
};

pub(super) fn run(app: &App, global: &Global, verb: &Queues) -> Result<Code, Error> {
    let config = load(app, global)?;
    let transport = open(&config)?;
    let known = transport::call(&*transport, |reply| Request::KnownQueues { reply }).map_err(|error| told(&error))?;
    let mut queues: Vec<(Option<&str>, DeadQueue)> =
        config.queues.iter().map(|queue| (Some(queue.kind.as_str()), queue.dead_letter.clone())).collect();
    for name in known {
        if !queues.iter().any(|(_, queue)| queue.queue == name) {
            queues.push((None, DeadQueue::of(&name)));
        }
    }
    let asked: Vec<DeadQueue> = queues.iter().map(|(_, queue)| queue.clone()).collect();
    let depths =
        transport::call(&*transport, |reply| Request::Depths { queues: asked, reply }).map_err(|error| told(&error))?;
    let rows = queues.iter().zip(&depths);
    if verb.json {
        let object: Map<_, _> = rows
            .map(|((kind, queue), depth)| {
                let (ready, delayed, in_hand, failed) = (depth.ready, depth.delayed, depth.in_hand, depth.failed);
                let row =
                    json!({ "kind": kind, "ready": ready, "delayed": delayed, "in_hand": in_hand, "failed": failed });
                (queue.queue.clone(), row)
            })
            .collect();
        print(&format!("{}\n", serde_json::Value::Object(object)))?;
    } else {
        let cells = |((kind, queue), depth): (&(Option<&str>, DeadQueue), &transport::Depth)| {
            let counts = [depth.ready, depth.delayed, depth.in_hand, depth.failed].map(|count| count.to_string());
            [vec![queue.queue.clone(), kind.unwrap_or("-").to_owned()], counts.to_vec()].concat()
        };
        print(&table(&["QUEUE", "KIND", "READY", "DELAYED", "IN HAND", "FAILED"], rows.map(cells).collect()))?;
    }
    Ok(Code::Ok)
}
