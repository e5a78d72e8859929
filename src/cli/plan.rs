//! From the settings of a queue to what the master needs: the core's plan, and the program to start.

use std::{
    ffi::OsString,
    hash::{BuildHasher, Hasher},
    num::NonZero,
    time::Duration,
};

use crate::{
    config::{Config, Mode, Queue, Schedule, Target},
    logging::Level,
    master::{
        Launch, QueueRun,
        core::event::{Plan, QueuePlan},
    },
    process::{self, Environment, Program},
    task::Accepts,
    transport::Uri,
    worker::registry::WORKER,
};

/// Settlements are remembered for two heartbeats of the connection, as long as a lost one can go unnoticed: these of ours, until
/// the transport says what was agreed with the broker.
const REMEMBERED: Duration = Duration::from_secs(40);
/// A queue with what the core needs to know of its kind.
fn queue_plan(config: &Config, queue: &Queue) -> QueuePlan {
    let command = config.kinds.get(&queue.kind);
    QueuePlan {
        settings: queue.clone(),
        accepts: command.map_or(Accepts::Json, |command| command.accepts),
        is_program: command.is_some(),
        is_once: command.is_some_and(|command| command.mode == Mode::Once),
        payload_in_file: command.is_some_and(|command| command.options.payload_in_file),
        launch: 0,
    }
}

/// The plan of a run with these settings, without its queues and options.
pub(super) fn plan_of(config: &Config, level: Level) -> Plan {
    Plan {
        queues: Vec::new(),
        supervisor: config.supervisor,
        halt_when_empty: false,
        scheduler: false,
        max_in_hand: None,
        starts_at_once: starts_at_once(),
        descriptors: u64::MAX,
        host: process::host(),
        application: config.application.clone(),
        pipelines: config.pipelines.iter().map(|pipeline| pipeline.name.clone()).collect(),
        // The standard library's own source of randomness for hash maps: as good as jitter and ids need.
        seed: std::hash::RandomState::new().build_hasher().finish(),
        remember: matches!(config.transport, Uri::Amqp(_) | Uri::Postgres(_)).then_some(REMEMBERED),
        foreign_names: matches!(config.transport, Uri::Amqp(_)),
        names: config.known_queues(),
        structured: false,
        log_level: level,
    }
}

/// Workers that start at once: a few for each core that this process may use, since some wait for something else at times.
fn starts_at_once() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get).saturating_mul(2).max(4)
}

/// A queue as a run works it.
pub(super) fn queue_run(config: &Config, queue: &Queue, level: Level) -> QueueRun {
    QueueRun { plan: queue_plan(config, queue), launch: launch(config, queue, level) }
}

/// What is started for a queue.
fn launch(config: &Config, queue: &Queue, level: Level) -> Launch {
    let mut pairs: Vec<(OsString, OsString)> = Vec::new();
    let program = match config.kinds.get(&queue.kind) {
        Some(command) => {
            pairs.extend(command.env.iter().map(|(name, value)| (name.into(), value.into())));
            let argv = command.argv.clone();
            Program::Command { argv, folder: command.folder.clone(), options: Box::new(command.options.clone()) }
        }
        None => Program::Own { args: vec![WORKER.into(), (&queue.kind).into(), (&queue.name).into()] },
    };
    let command_of = |schedule: &Schedule| match &schedule.target {
        Target::Ctl(command) => Some(command.clone()),
        Target::Worker(_) | Target::Queue(_) | Target::Celery(_) | Target::Pipeline(_) => None,
    };
    if queue.kind == crate::worker::ctl::KIND {
        let commands: Vec<String> = config.schedules.iter().filter_map(command_of).collect();
        pairs.push(("ASYNCTASK_CTL_COMMANDS".into(), serde_json::json!(commands).to_string().into()));
        pairs.push(("ASYNCTASK_FOLDER".into(), config.folder.clone().into()));
    }
    if queue.protocol.is_celery()
        && let Some(celery) = &config.celery
    {
        pairs.push(("ASYNCTASK_CELERY_FAILURES".into(), celery.failures.as_str().into()));
        pairs.push(("ASYNCTASK_CELERY_NODE".into(), celery.node_name(&process::host()).into()));
    }
    let asked_for = config.kinds.get(&queue.kind).and_then(|command| command.options.pass_env.as_ref());
    let withheld = config.withheld_variables.iter().filter(|name| asked_for.is_none_or(|names| !names.contains(name)));
    let environment = Environment {
        withheld: withheld.map(OsString::from).collect(),
        queue: queue.name.clone(),
        slot: String::new(),
        log_level: level.to_string(),
        // Workers write the plain form; the master puts it into the log's.
        log_format: "plain".to_owned(),
        pairs,
        mark: None,
    };
    Launch { program, environment }
}
