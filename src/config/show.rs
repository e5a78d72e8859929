//! The settings as one object, for `config show`: what they mean after merging, without secrets.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Acks, Backoff, Command, Config, Misfire, Mode, Queue, Schedule, Target};
use crate::{
    secrets::masked,
    transport::{Uri, amqp},
};

impl Config {
    /// The merged settings: keys as in the files, durations in seconds, sizes in bytes, the transport without its
    /// password, passwords of addresses in command lines and the values of kinds' environments masked. `delays` of a queue
    /// are those that its settings can ask for, in seconds, jitter aside; `names` are what it uses on the transport: with
    /// RabbitMQ the delay queues that these delays pass through (`delays`), and the pattern of all, of which others are made
    /// at first use (`retry`).
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut workers: Map<String, Value> =
            self.queues.iter().map(|queue| (queue.name.clone(), self.queue(queue))).collect();
        workers.extend(self.disabled.iter().map(|name| (name.clone(), Value::Null)));
        let kinds: Map<String, Value> = self.kinds.iter().map(|(name, kind)| (name.clone(), command(kind))).collect();
        json!({
            "application": self.application,
            "transport": self.transport.to_string(),
            "declare": if self.declare_passive { "passive" } else { "create" },
            "workers": workers,
            "kinds": kinds,
            "scheduled_workers": self.schedules.iter().map(schedule).collect::<Vec<_>>(),
            "supervisor": {
                "grace": seconds(self.supervisor.grace),
                "start_timeout": seconds(self.supervisor.start_timeout),
                "ping": seconds(self.supervisor.ping),
                "restart": backoff(&self.supervisor.restart),
            },
            "control": { "socket": self.control_socket },
            "metrics": { "listen": self.metrics_listen },
            "folder": self.folder,
            "files": self.files,
        })
    }

    fn queue(&self, queue: &Queue) -> Value {
        let mut retry = backoff(&queue.retry.backoff);
        retry["max_attempts"] = queue.retry.max_attempts.into();
        retry["jitter"] = queue.retry.jitter.into();
        json!({
            "worker": queue.kind,
            "processes": queue.processes,
            "concurrency": queue.concurrency,
            "rate_max_calls": queue.rate.map(|rate| rate.calls),
            "rate_period": queue.rate.map(|rate| seconds(rate.period)),
            "acks": match queue.acks { Acks::Late => "late", Acks::Early => "early" },
            "timeout": queue.timeout.map(seconds),
            "retry": retry,
            "dead_letter": {
                "queue": queue.dead_letter.name,
                "keep": queue.dead_letter.keep.map_or_else(|| "forever".into(), seconds),
            },
            "max_deliveries": queue.max_deliveries,
            "breaker": {
                "failures": queue.breaker.failures,
                "pause": seconds(queue.breaker.pause),
                "longest": seconds(queue.breaker.longest),
                "errors": queue.breaker.errors,
            },
            "recycle": {
                "max_tasks": queue.recycle.max_tasks,
                "max_memory": queue.recycle.max_memory,
                "max_age": queue.recycle.max_age.map(seconds),
            },
            "unwrap": queue.unwrap,
            "unique": queue.unique.as_ref().map(|unique| json!({
                "key": unique.key.to_string(),
                "conflict": unique.conflict.as_str(),
                "after": seconds(unique.after),
            })),
            "delays": queue.delays().into_iter().map(seconds).collect::<Vec<_>>(),
            "names": self.names(queue),
        })
    }
}

impl Config {
    /// What a queue is called on the transport.
    fn names(&self, queue: &Queue) -> Value {
        // Elsewhere a delayed task stays in its own queue.
        let (retry, delays) = match self.transport {
            Uri::Amqp(_) => {
                let delays = amqp::delay_queues(&queue.name, &queue.delays());
                (Value::from(format!("{}.retry.<ms>", queue.name)), Value::from(delays))
            }
            Uri::Sqlite(_) | Uri::Localmem(_) => (Value::Null, Value::Null),
        };
        json!({ "queue": queue.name, "retry": retry, "delays": delays, "dead_letter": queue.dead_letter.name })
    }
}

fn command(command: &Command) -> Value {
    let terms = &command.terms;
    json!({
        "command": command.argv.iter().map(|word| masked(word)).collect::<Vec<_>>(),
        "mode": match command.mode { Mode::Frames => "frames", Mode::Once => "once" },
        "accepts": command.accepts,
        "cwd": command.folder,
        "input": match (command.mode, terms.payload_in_file) {
            (Mode::Frames, _) => Value::Null,
            (Mode::Once, false) => "stdin".into(),
            (Mode::Once, true) => "file".into(),
        },
        "clear_env": terms.pass_env.is_some(),
        "pass_env": terms.pass_env,
        "user": terms.user.as_ref().map(|user| &user.name),
        "group": terms.group.as_ref().map(|(name, _)| name),
        "umask": terms.umask.map(|umask| format!("{umask:03o}")),
        "nice": terms.nice,
        "limits": {
            "memory": terms.limits.memory,
            "cpu": terms.limits.cpu.map(seconds),
            "files": terms.limits.files,
        },
        "env": command.env.keys().map(|name| (name.clone(), "***".into())).collect::<Map<String, Value>>(),
    })
}

fn schedule(schedule: &Schedule) -> Value {
    // The fields are an object that this module's neighbour wrote.
    let mut object: Value = serde_json::from_str(&schedule.fields).unwrap_or_default();
    match &schedule.target {
        Target::Worker(kind) => object["worker"] = kind.as_str().into(),
        Target::Queue(_) => {}
        Target::Ctl(line) => object["ctl"] = masked(line).into(),
    }
    object["id"] = schedule.id.as_str().into();
    object["queue"] = schedule.queue.as_str().into();
    object["misfire"] = match schedule.misfire {
        Misfire::Skip => "skip".into(),
        Misfire::RunOnce => "run_once".into(),
    };
    object
}

fn backoff(backoff: &Backoff) -> Value {
    json!({
        "first": seconds(backoff.first),
        "factor": backoff.factor,
        "longest": seconds(backoff.longest),
    })
}

/// Whole seconds as a whole number.
fn seconds(duration: Duration) -> Value {
    if duration.subsec_nanos() == 0 { duration.as_secs().into() } else { duration.as_secs_f64().into() }
}
