//! What the Celery node of this master asks of the core: a view of the tasks and pools, and what people change by remote control.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value, json};

use super::super::{
    Core,
    state::{celery::SetLimits, in_flight::InFlight, pool::Pool, task_rates},
};
use crate::{
    celery::{event::TEXT_LIMIT, message, payload, stamps},
    clock::{Instant, Timestamp},
    control::types::Answer,
    frames,
    payload::Body,
    task::Task,
    text::cut,
};

/// Tasks that are shown of one state.
const SHOWN: usize = 10_000;
/// Bodies whose arguments are shown as they are, in bytes: one, and all of a view. Of others the text is shown that came with them.
const BODY_SHOWN: usize = 4 * 1024;
const BODIES_SHOWN: usize = 4 * 1024 * 1024;

impl Core {
    /// Everything that monitors ask for, of Celery's queues alone.
    pub(in crate::master::core) fn celery_view(&self) -> Value {
        let members = || self.members().filter(|pool| pool.celery.is_some());
        let (mut active, mut reserved, mut room) = (Vec::new(), Vec::new(), BODIES_SHOWN);
        for slot in self.slots.iter().filter(|slot| self.pools[slot.queue].celery.is_some()) {
            let Some(life) = slot.process() else { continue };
            for task in life.in_flight.iter() {
                let shown = if task.begun { &mut active } else { &mut reserved };
                if shown.len() < SHOWN {
                    shown.push(self.in_flight_view(task, life.pid, &mut room));
                }
            }
        }
        for pool in members() {
            let waiting = pool.waiting.iter().take(SHOWN.saturating_sub(reserved.len()));
            reserved.extend(waiting.map(|delivery| {
                let standing = Standing { redelivered: delivery.redelivered, ..Standing::default() };
                request(pool.name(), &delivery.task, &standing, &mut room)
            }));
        }
        let (mut tasks, mut conf, mut total) = (Map::new(), Value::Null, BTreeMap::<&str, u64>::new());
        let (mut report, mut applications) = ("", Vec::new());
        for celery in members().filter_map(|pool| pool.celery.as_deref()) {
            for (name, count) in celery.begun() {
                *total.entry(name).or_default() += count;
            }
            let Some(application) = celery.application() else { continue };
            if let Some(text) = application.conf.as_deref().filter(|_| conf.is_null()) {
                conf = serde_json::from_str(text).unwrap_or_default();
            }
            if report.is_empty() {
                report = &application.report;
            }
            applications.push(&application.attributes);
            for (name, options) in &application.tasks {
                let set = self.celery.limits.get(name);
                let limit = |of_task: Option<Duration>| of_task.map(|limit| limit.as_secs_f64());
                let options = json!({
                    "time_limit": limit(set.map_or(options.time_limit, |set| set.hard)),
                    "soft_time_limit": limit(set.map_or(options.soft_time_limit, |set| set.soft)),
                    "rate_limit": options.rate_limit,
                    "attributes": options.attributes,
                    "application": applications.len() - 1,
                });
                tasks.insert(name.clone(), options);
            }
        }
        let pools: Vec<Value> = members().map(|pool| self.pool_view(pool)).collect();
        json!({
            "active": active, "reserved": reserved, "tasks": tasks, "conf": conf, "total": total,
            "pools": pools, "report": report, "applications": applications,
        })
    }

    fn pool_view(&self, pool: &Pool) -> Value {
        let settings = &pool.plan.settings;
        let life = |slot: &usize| self.slots[*slot].process().and_then(|life| life.pid);
        let pids: Vec<u32> = pool.slots.iter().filter_map(life).collect();
        let queue = settings.protocol.celery();
        json!({
            "queue": settings.name,
            "processes": pool.processes(),
            "pids": pids,
            "concurrency": settings.concurrency,
            "credit": pool.credit,
            "paused": pool.is_paused(),
            "timeout": settings.timeout.map(|limit| limit.as_secs_f64()),
            "max_tasks": settings.recycle.max_tasks,
            "exchange": queue.map(|queue| queue.exchange.as_str()),
            "declare_as": queue.map(|queue| queue.declare_as.as_str()),
            "max_priority": queue.and_then(|queue| queue.max_priority),
        })
    }

    fn in_flight_view(&self, task: &InFlight, pid: Option<u32>, room: &mut usize) -> Value {
        let delivery = &task.delivery;
        let standing = Standing {
            time_start: task.begun.then(|| self.wall_of(task.begun_at)),
            acknowledged: task.accepted,
            pid,
            redelivered: delivery.redelivered,
        };
        request(self.pools[delivery.queue.0].name(), &delivery.task, &standing, room)
    }

    fn wall_of(&self, at: Instant) -> Timestamp {
        let ago = i64::try_from(self.now.at.since(at).as_millis()).unwrap_or(i64::MAX);
        Timestamp(self.now.wall.0.saturating_sub(ago))
    }

    /// Whether any worker has told of a task of this name.
    fn knows_task(&self, name: &str) -> bool {
        let applications = self.members().filter_map(|pool| pool.celery.as_deref()?.application());
        applications.into_iter().any(|application| application.tasks.contains_key(name))
    }

    /// Sets the time limits of a task on this node.
    pub(in crate::master::core) fn set_time_limit(&mut self, task: &str, set: SetLimits) -> Result<String, String> {
        // No time at all is Celery's word for none.
        let some = |limit: Option<Duration>| limit.filter(|limit| !limit.is_zero());
        let set = SetLimits { soft: some(set.soft), hard: some(set.hard) };
        if !self.knows_task(task) {
            return Err("unknown task".to_owned());
        }
        self.celery.limits.insert(task.to_owned(), set);
        self.tell_applications(&time_limit_frame(task, set));
        Ok("time limits set successfully".to_owned())
    }

    /// Sets the rate of a task on this node.
    pub(in crate::master::core) fn set_rate_limit(&mut self, task: &str, rate: &str) -> Result<String, String> {
        let interval = task_rates::interval(rate)?;
        if !self.knows_task(task) {
            return Err("unknown task".to_owned());
        }
        for index in 0..self.pools.len() {
            let pool = &mut self.pools[index];
            if pool.celery.is_none() {
                continue;
            }
            let free = pool.waiting.rates.set(task, interval);
            pool.waiting.put_back_all(free);
            self.look_at_rates(index);
            self.dispatch(index);
        }
        let said =
            if interval.is_none() { "rate limit disabled successfully" } else { "new rate limit set successfully" };
        Ok(said.to_owned())
    }

    /// Tasks that are not to be run any more. The answer names those that are not here, too.
    pub(in crate::master::core) fn revoke_asked(&mut self, ids: &[String], terminate: bool) -> Answer {
        let (revoked, here) = self.revoke(ids, terminate);
        let terminated: Vec<&str> = here.terminated.iter().map(|task| task.id.as_str()).collect();
        let elsewhere: Vec<&String> = ids.iter().filter(|id| !here.ids.contains(*id)).collect();
        Answer::Done(json!({ "revoked": revoked, "terminated": terminated, "elsewhere": elsewhere }))
    }

    /// The same of tasks with one of these stamps. The answer has the stamps for which tasks are ended.
    pub(in crate::master::core) fn revoke_stamped_asked(
        &mut self,
        stamps: &BTreeMap<String, Vec<Value>>,
        terminate: bool,
    ) -> Answer {
        let here = self.revoke_stamped(stamps, terminate);
        let mut ended_for = BTreeMap::<&str, BTreeMap<String, &Value>>::new();
        for task in &here.terminated {
            for (header, value) in stamps::of(&task.headers) {
                if stamps.get(header).is_some_and(|revoked| revoked.contains(value)) {
                    ended_for.entry(header).or_default().insert(value.to_string(), value);
                }
            }
        }
        let ended_for: BTreeMap<&str, Vec<&Value>> =
            ended_for.into_iter().map(|(header, values)| (header, values.into_values().collect())).collect();
        Answer::Done(json!({ "terminated": ended_for }))
    }

    /// Whether events of tasks are wanted.
    pub(in crate::master::core) fn events_asked(&mut self, wanted: bool) -> Answer {
        self.tell_events(wanted);
        Answer::said(if wanted { "events are told" } else { "events are not told" })
    }
}

/// Name and arguments as JSON, if the body is short JSON without a compression, which may unfold to much.
fn payload_shown(task: &Task, room: &mut usize) -> Option<String> {
    let length = task.body.len();
    let encoding = task.properties.as_deref().and_then(|properties| properties.content_encoding.as_deref());
    let is_plain = encoding.is_none_or(|encoding| encoding.eq_ignore_ascii_case(message::CONTENT_ENCODING))
        && !task.headers.contains_key("compression");
    if length > BODY_SHOWN.min(*room) || !is_plain {
        return None;
    }
    *room -= length;
    payload::json(Body::from(task)).ok()
}

/// The frame that tells an application of the limits that a person has set.
pub(super) fn time_limit_frame(task: &str, set: SetLimits) -> Vec<u8> {
    let seconds = |limit: Option<Duration>| limit.map(|limit| limit.as_secs_f64());
    let arguments = json!({ "task_name": task, "soft": seconds(set.soft), "hard": seconds(set.hard) });
    frames::celery::control("time_limit", &arguments, None)
}

/// Where a task stands that is shown.
#[derive(Default)]
struct Standing {
    time_start: Option<Timestamp>,
    acknowledged: bool,
    pid: Option<u32>,
    redelivered: bool,
}

/// A task as monitors show it. Its arguments take of the room for bodies.
fn request(queue: &str, task: &Task, standing: &Standing, room: &mut usize) -> Value {
    let properties = task.properties.as_deref();
    let message = message::read(&task.headers, properties, &task.body);
    let shown = |text: Option<&str>| cut(text.unwrap_or_default(), TEXT_LIMIT).to_owned();
    json!({
        "id": task.id,
        "name": shown(message.name.as_deref()),
        "queue": queue,
        "args": shown(message.argsrepr.as_deref()),
        "kwargs": shown(message.kwargsrepr.as_deref()),
        "payload": payload_shown(task, room),
        "time_start": standing.time_start.map(|at| at.0 as f64 / 1000.0),
        "acknowledged": standing.acknowledged,
        "worker_pid": standing.pid,
        "priority": properties.and_then(|properties| properties.priority),
        "redelivered": standing.redelivered,
    })
}
