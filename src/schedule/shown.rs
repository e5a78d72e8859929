//! What is shown of schedules: the same for the command line and the page.
//!
//! The next moments follow from the settings alone. What happened is known to the scheduler, and to others as far as it is told.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Schedule, Target};
use crate::{clock::Timestamp, redact::redact};

/// Moments to come that are shown of each.
pub(crate) const SHOWN: usize = 3;

/// What is known of past moments, and of the scheduler.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// The last moment of each schedule that fired; `None`: unknown.
    pub(crate) last: Option<BTreeMap<String, Timestamp>>,
    /// Whether there is a scheduler; `None`: unknown.
    pub(crate) is_led: Option<bool>,
    /// Process and host of the scheduler, if they are known.
    pub(crate) leader: Option<(u64, Option<String>)>,
}

impl Known {
    /// What a master says at its control socket (`schedules`).
    pub(crate) fn told(master: &Value) -> Self {
        if master["leading"] != true {
            return Self::default();
        }
        let host = || master["host"].as_str().map(str::to_owned);
        let moments = master["last_moments"].as_object();
        let moment = |(id, at): (&String, &Value)| Some((id.clone(), Timestamp(at.as_i64()?)));
        Self {
            last: moments.map(|moments| moments.iter().filter_map(moment).collect()),
            is_led: Some(true),
            leader: master["pid"].as_u64().map(|pid| (pid, host())),
        }
    }
}

/// The next moments of a schedule, in its zone.
pub(crate) fn upcoming(schedule: &Schedule, now: Timestamp) -> Vec<String> {
    let next = |moment: &Timestamp| schedule.when.next_after(*moment);
    let moments = std::iter::successors(schedule.when.next_after(now), next);
    moments.take(SHOWN).map(|moment| schedule.when.in_its_zone(moment)).collect()
}

/// What a schedule fires: the key of its kind, and its name.
pub(crate) fn target(schedule: &Schedule) -> (&'static str, String) {
    match &schedule.target {
        Target::Worker(kind) => ("worker", kind.clone()),
        Target::Queue(name) => ("queue", name.clone()),
        Target::Celery(task) => ("celery", task.name.clone()),
        Target::Pipeline(name) => ("pipeline", name.clone()),
        Target::Ctl(line) => ("ctl", redact(line).into_owned()),
    }
}

/// The JSON of `asynctask schedules`.
pub(crate) fn in_json(application: &str, schedules: &[Schedule], known: &Known, now: Timestamp) -> Value {
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
        "application": application,
        "led": known.is_led,
        "leader": known.leader.as_ref().map(|(pid, host)| json!({ "pid": pid, "host": host })),
        "last_known": known.last.is_some(),
        "schedules": schedules.iter().map(schedule).collect::<Vec<_>>(),
    })
}
