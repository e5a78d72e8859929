//! Events as Celery's monitors read them. Pure.
//!
//! None has a `utcoffset`: a monitor would move the time of the event by the difference between its own zone and that one, also
//! where the time is right. Each has a `clock`, without which a monitor fails at an event of a task.

use serde_json::{Map, Value, json};

use crate::{
    celery::event::{Received, TaskEvent, What},
    clock::Timestamp,
};

/// Seconds between two heartbeats; Celery's monitors take a node for dead that is not heard of for twice that.
pub(super) const HEARTBEAT_SECONDS: f64 = 2.0;
/// The same in the answer to whoever asks for a heartbeat.
pub(super) const ASKED_HEARTBEAT_SECONDS: f64 = 5.0;

/// Of which life of the node an event tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Online,
    Heartbeat,
    Offline,
}

/// Where an event comes from and when it is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin<'a> {
    pub(super) node: &'a str,
    pub(super) pid: u32,
    pub(super) clock: u64,
    pub(super) at: Timestamp,
}

/// What a heartbeat tells.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Heartbeat {
    pub(super) every: f64,
    /// Tasks in hand.
    pub(super) active: u64,
    /// Tasks since the start.
    pub(super) processed: u64,
    /// Of this machine, over 1, 5 and 15 minutes.
    pub(super) load: [f64; 3],
}

impl Life {
    pub(super) const fn routing_key(self) -> &'static str {
        match self {
            Self::Online => "worker.online",
            Self::Heartbeat => "worker.heartbeat",
            Self::Offline => "worker.offline",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Online => "worker-online",
            Self::Heartbeat => "worker-heartbeat",
            Self::Offline => "worker-offline",
        }
    }
}

/// That the node is there, or goes.
pub(super) fn of_worker(life: Life, origin: Origin<'_>, heartbeat: Heartbeat) -> Value {
    let mut event = begin(life.name(), origin);
    event.extend(fields(json!({
        "freq": heartbeat.every,
        "active": heartbeat.active,
        "processed": heartbeat.processed,
        "loadavg": heartbeat.load,
        "sw_ident": "asynctask",
        "sw_ver": env!("CARGO_PKG_VERSION"),
        "sw_sys": "Linux",
    })));
    Value::Object(event)
}

/// What happened to a task.
pub(super) fn of_task(event: &TaskEvent, origin: Origin<'_>) -> Value {
    let (name, more) = match &event.what {
        What::Received(received) => ("task-received", of_received(received)),
        What::Started { pid } => return with_uuid("task-started", event, Origin { pid: *pid, ..origin }, json!({})),
        What::Succeeded { result, runtime } => ("task-succeeded", json!({ "result": result, "runtime": runtime })),
        What::Failed { exception, traceback } => {
            ("task-failed", json!({ "exception": exception, "traceback": traceback }))
        }
        What::Retried { exception, traceback } => {
            ("task-retried", json!({ "exception": exception, "traceback": traceback }))
        }
        What::Rejected { requeue } => ("task-rejected", json!({ "requeue": requeue })),
        What::Revoked { terminated, signum, expired } => {
            ("task-revoked", json!({ "terminated": terminated, "signum": signum, "expired": expired }))
        }
    };
    with_uuid(name, event, origin, more)
}

fn of_received(received: &Received) -> Value {
    json!({
        "name": received.name,
        "args": received.args,
        "kwargs": received.kwargs,
        "root_id": received.root_id,
        "parent_id": received.parent_id,
        "retries": received.retries,
        "eta": received.eta,
        "expires": received.expires,
    })
}

fn with_uuid(name: &str, event: &TaskEvent, origin: Origin<'_>, more: Value) -> Value {
    let mut fields_of_event = begin(name, Origin { at: event.at, ..origin });
    fields_of_event.insert("uuid".to_owned(), event.uuid.as_str().into());
    fields_of_event.extend(fields(more));
    Value::Object(fields_of_event)
}

fn begin(name: &str, origin: Origin<'_>) -> Map<String, Value> {
    fields(json!({
        "type": name,
        "hostname": origin.node,
        "timestamp": origin.at.0 as f64 / 1000.0,
        "pid": origin.pid,
        "clock": origin.clock,
    }))
}

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: Origin<'_> = Origin { node: "asynctask@vm", pid: 3, clock: 9, at: Timestamp(1_500) };

    fn of(what: What) -> Value {
        of_task(&TaskEvent { uuid: "u".to_owned(), at: Timestamp(2_250), what }, ORIGIN)
    }

    #[test]
    fn a_heartbeat_has_the_keys_of_celerys() {
        let heartbeat = Heartbeat { every: HEARTBEAT_SECONDS, active: 1, processed: 2, load: [0.1, 0.2, 0.3] };
        let expected = json!({
            "type": "worker-heartbeat", "hostname": "asynctask@vm", "timestamp": 1.5, "pid": 3, "clock": 9, "freq": 2.0,
            "active": 1, "processed": 2, "loadavg": [0.1, 0.2, 0.3], "sw_ident": "asynctask",
            "sw_ver": env!("CARGO_PKG_VERSION"), "sw_sys": "Linux",
        });
        assert_eq!(of_worker(Life::Heartbeat, ORIGIN, heartbeat), expected);
        assert_eq!(of_worker(Life::Offline, ORIGIN, heartbeat)["type"], "worker-offline");
    }

    #[test]
    fn events_of_tasks_have_the_time_at_which_it_happened_and_the_fields_of_celerys() {
        let received =
            Received { name: "shop.add".to_owned(), args: "(1, 2)".to_owned(), retries: 1, ..Received::default() };
        let expected = json!({
            "type": "task-received", "hostname": "asynctask@vm", "timestamp": 2.25, "pid": 3, "clock": 9, "uuid": "u",
            "name": "shop.add", "args": "(1, 2)", "kwargs": "", "root_id": null, "parent_id": null, "retries": 1, "eta": null,
            "expires": null,
        });
        assert_eq!(of(What::Received(Box::new(received))), expected);
        let text = || "t".to_owned();
        for (what, name, field) in [
            (What::Succeeded { result: text(), runtime: 0.5 }, "task-succeeded", "runtime"),
            (What::Failed { exception: text(), traceback: text() }, "task-failed", "exception"),
            (What::Retried { exception: text(), traceback: text() }, "task-retried", "traceback"),
            (What::Rejected { requeue: false }, "task-rejected", "requeue"),
            (What::Revoked { terminated: true, signum: Some(9), expired: false }, "task-revoked", "signum"),
        ] {
            let event = of(what);
            assert!(event["type"] == name && !event[field].is_null() && event.get("utcoffset").is_none(), "{event}");
        }
        assert_eq!(of(What::Started { pid: 77 })["pid"], 77);
    }
}
