//! `asynctask schedules`: the moments of each schedule, and the scheduler.
//!
//! The next moments follow from the settings alone. The last ones and the scheduler are asked of the transport where it
//! shows them, and of the master at the control socket; without either they are unknown, which is no error.

use serde_json::Value;

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
    config::{Config, Schedule},
    control::types::Command,
    exit_code::{Code, Error},
    schedule::shown::{Known, SHOWN, in_json, target, upcoming},
    transport::{self, Request, ScheduleMemory, Uri},
    worker::registry::Registry,
};

pub(super) fn run(registry: &Registry, global: &Global, verb: &Schedules) -> Result<Code, Error> {
    let config = load_to_fire(registry, global)?;
    let known = known(&config, verb)?;
    let now = Clock::wall();
    let text = if verb.json {
        format!("{}\n", in_json(&config.application, &config.schedules, &known, now))
    } else {
        in_words(&config, &known, now)
    };
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
    let Known { last, is_led, leader } = master.as_ref().map(Known::told).unwrap_or_default();
    if let Some(memory) = remembered(config)? {
        // Of several masters any may be the one; of one, it is that one.
        let only = (memory.is_led && memory.masters.len() == 1).then(|| (u64::from(memory.masters[0]), None));
        let is_led = Some(memory.is_led);
        return Ok(Known { last: Some(memory.moments.into_iter().collect()), is_led, leader: leader.or(only) });
    }
    Ok(Known { last, is_led, leader })
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
