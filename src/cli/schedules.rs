//! `asynctask schedules`: the moments of each schedule, and the scheduler.
//!
//! The next moments follow from the settings alone. The last ones and the scheduler are asked of the transport where it
//! shows them, and of the master at the control socket; without either they are unknown, which is no error.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    args::Global,
    connection::{from_transport_error, open},
    control_args::Schedules,
    control_client::{ask, place},
    output::{print, table},
    settings::load_to_fire,
};
use crate::{
    clock::{Clock, Timestamp},
    config::{Config, Schedule, Target},
    control::types::Command,
    exit_code::{Code, Error},
    redact::redact,
    transport::{self, Request, ScheduleMemory, Uri},
    worker::registry::Registry,
};

/// Moments to come that are shown of each.
const SHOWN: usize = 3;

/// What is known of past moments, and of the scheduler.
struct Known {
    /// The last moment of each schedule that fired; `None`: unknown.
    last: Option<BTreeMap<String, Timestamp>>,
    /// Whether there is a scheduler; `None`: unknown.
    is_led: Option<bool>,
    /// Process and host of the scheduler, if they are known.
    leader: Option<(u64, Option<String>)>,
}

pub(super) fn run(registry: &Registry, global: &Global, verb: &Schedules) -> Result<Code, Error> {
    let config = load_to_fire(registry, global)?;
    let known = known(&config, verb)?;
    let now = Clock::wall();
    let text = if verb.json { format!("{}\n", in_json(&config, &known, now)) } else { in_words(&config, &known, now) };
    print(&text)?;
    Ok(Code::Ok)
}

fn known(config: &Config, verb: &Schedules) -> Result<Known, Error> {
    let answer = place(config, verb.socket.as_ref()).map(|place| ask(&place.path, &Command::Schedules {}));
    let master = match answer {
        Some(Ok(answer)) => Some(answer),
        // A socket that was named must answer.
        Some(Err(error)) if verb.socket.is_some() => return Err(error),
        Some(Err(_)) | None => None,
    };
    let is_ours = |master: &Value| {
        master["application"] == *config.application && master["transport"] == config.transport.to_string()
    };
    let master = master.filter(is_ours);
    let leading = master.as_ref().filter(|master| master["leading"] == true);
    let leader = leading.and_then(|master| Some((master["pid"].as_u64()?, master["host"].as_str().map(str::to_owned))));
    if let Some(memory) = remembered(config)? {
        // Of several masters any may be the one; of one, it is that one.
        let only = (memory.is_led && memory.masters.len() == 1).then(|| (u64::from(memory.masters[0]), None));
        let is_led = Some(memory.is_led);
        return Ok(Known { last: Some(memory.moments.into_iter().collect()), is_led, leader: leader.or(only) });
    }
    let last = leading
        .and_then(|master| master["last_moments"].as_object())
        .map(|moments| moments.iter().filter_map(|(id, at)| Some((id.clone(), Timestamp(at.as_i64()?)))).collect());
    Ok(Known { last, is_led: leading.map(|_| true), leader })
}

/// What the transport shows without a connection to a broker, which could show nothing.
fn remembered(config: &Config) -> Result<Option<ScheduleMemory>, Error> {
    if config.schedules.is_empty() || matches!(config.transport, Uri::Amqp(_)) {
        return Ok(None);
    }
    let transport = open(config)?;
    let application = config.application.clone();
    transport::call(&*transport, |reply| Request::ScheduleMemory { application, reply })
        .map_err(|error| from_transport_error(&error))
}

fn upcoming(schedule: &Schedule, now: Timestamp) -> Vec<String> {
    let next = |moment: &Timestamp| schedule.when.next_after(*moment);
    let moments = std::iter::successors(schedule.when.next_after(now), next);
    moments.take(SHOWN).map(|moment| schedule.when.in_its_zone(moment)).collect()
}

fn target(schedule: &Schedule) -> (&'static str, String) {
    match &schedule.target {
        Target::Worker(kind) => ("worker", kind.clone()),
        Target::Queue(name) => ("queue", name.clone()),
        Target::Celery(task) => ("celery", task.name.clone()),
        Target::Pipeline(name) => ("pipeline", name.clone()),
        Target::Ctl(line) => ("ctl", redact(line).into_owned()),
    }
}

fn in_json(config: &Config, known: &Known, now: Timestamp) -> Value {
    let schedule = |schedule: &Schedule| {
        let last = known.last.as_ref().and_then(|last| last.get(&schedule.id));
        let mut object = json!({
            "id": schedule.id,
            "queue": schedule.queue,
            "next": upcoming(schedule, now),
            "last_at": last.map(|last| schedule.when.in_its_zone(*last)),
        });
        let (key, name) = target(schedule);
        object[key] = name.into();
        object
    };
    json!({
        "application": config.application,
        "led": known.is_led,
        "leader": known.leader.as_ref().map(|(pid, host)| json!({ "pid": pid, "host": host })),
        "last_known": known.last.is_some(),
        "schedules": config.schedules.iter().map(schedule).collect::<Vec<_>>(),
    })
}

fn in_words(config: &Config, known: &Known, now: Timestamp) -> String {
    if config.schedules.is_empty() {
        return "no schedules are configured\n".to_owned();
    }
    let leader = match (&known.leader, known.is_led) {
        (Some((pid, Some(host))), _) => format!("pid {pid} on {host}"),
        (Some((pid, None)), _) => format!("pid {pid}"),
        (None, Some(true)) => "another master".to_owned(),
        (None, Some(false)) => "nobody".to_owned(),
        (None, None) => "unknown".to_owned(),
    };
    let row = |schedule: &Schedule| {
        let mut next = upcoming(schedule, now);
        next.resize(SHOWN, "-".to_owned());
        let last = match &known.last {
            None => "unknown".to_owned(),
            Some(last) => last.get(&schedule.id).map_or("-".to_owned(), |last| schedule.when.in_its_zone(*last)),
        };
        let (key, name) = target(schedule);
        [vec![schedule.id.clone(), format!("{key} {name}")], next, vec![last, leader.clone()]].concat()
    };
    let header = ["ID", "TARGET", "NEXT", "SECOND", "THIRD", "LAST", "FIRED BY"];
    table(&header, config.schedules.iter().map(row).collect())
}
