//! What Celery's queues are drawn from: their messages, and the applications that work them.

use std::{collections::BTreeMap, time::Duration};

use asynctask::{
    Properties,
    celery::{CeleryQueue, Protocol},
    frames::celery::{Application, TaskOptions},
    task::{Headers, Task},
};
use data_encoding::BASE64;
use serde_json::value::RawValue;

use super::{rng::Rng, settings::Settings};

/// Names of tasks: the first two have neither limit nor rate.
pub(crate) const NAMES: [&str; 5] = ["plain", "other", "limited", "rated", "both"];
/// Rates as an application says them, with the time between two starts.
pub(crate) const RATES: [(&str, u64); 5] = [("20", 50), ("2/s", 500), ("60/m", 1_000), ("30/m", 2_000), ("0", 0)];
/// How Celery's queues are in a history; probabilities are per thousand.
#[derive(Debug)]
pub(crate) struct CeleryFaults {
    /// The limit and the rate that the application says, the latter as an index of `RATES`.
    limit: Duration,
    rate: usize,
    /// One kind works all queues of applications.
    shares_kind: bool,
    ignore_result: u32,
    own_limit: u32,
    /// What a worker does that is told of a lost task: nothing; something wrong; dies of it, or right after it.
    pub(crate) silent: u32,
    pub(crate) wrong_answer: u32,
    pub(crate) deadly: u32,
    /// Microseconds until it has stored the result.
    pub(crate) answer: (u64, u64),
    /// Reloads that change what a queue is.
    pub(crate) changes: u32,
    /// Of an operator's orders, those of Celery's node.
    pub(crate) orders: u32,
}

impl CeleryFaults {
    /// The application of all its workers.
    fn application(&self) -> Application {
        let options = |has_limit: bool, has_rate: bool| TaskOptions {
            time_limit: has_limit.then_some(self.limit),
            rate_limit: has_rate.then(|| RATES[self.rate].0.to_owned()),
            ..TaskOptions::default()
        };
        let tasks = NAMES.map(|name| {
            let both = name == "both";
            (name.to_owned(), options(both || name == "limited", both || name == "rated"))
        });
        Application { tasks: tasks.into(), ..Application::default() }
    }

    pub(crate) fn rate_of(&self, name: &str) -> Option<Duration> {
        let interval = Duration::from_millis(RATES[self.rate].1);
        (matches!(name, "rated" | "both") && !interval.is_zero()).then_some(interval)
    }

    pub(crate) fn limit_of(&self, name: &str) -> Option<Duration> {
        matches!(name, "limited" | "both").then_some(self.limit)
    }

    pub(crate) fn kind_of(&self, queue: &str, is_application: bool) -> String {
        match (is_application, self.shares_kind) {
            (true, true) => "shared_app".to_owned(),
            (true, false) => format!("{queue}_app"),
            (false, _) => format!("{queue}_kind"),
        }
    }
}

pub(crate) fn is_application(kind: &str) -> bool {
    kind.ends_with("_app")
}

impl Settings {
    /// Some queues are Celery's.
    pub(crate) fn draw_celery(&mut self, rng: &mut Rng) {
        if !rng.chance(400) {
            return;
        }
        let faults = CeleryFaults {
            limit: Duration::from_millis(rng.pick(&[200, 1_000, 5_000])),
            rate: rng.between(0, RATES.len() as u64 - 1) as usize,
            shares_kind: rng.chance(500),
            ignore_result: rng.probability(500),
            own_limit: rng.probability(300),
            silent: rng.probability(150),
            wrong_answer: rng.probability(300),
            deadly: rng.probability(400),
            answer: (100, rng.pick(&[2_000, 200_000, 4_000_000])),
            changes: rng.pick(&[0, 200, 500]),
            orders: rng.pick(&[0, 300, 600]),
        };
        for queue in 0..self.queues.len() {
            if !rng.chance(750) {
                continue;
            }
            let plan = &mut self.queues[queue];
            plan.settings.protocol = Protocol::Celery(Box::new(CeleryQueue::of(&plan.settings.name)));
            plan.settings.kind = faults.kind_of(&plan.settings.name, !plan.is_once && rng.chance(700));
            if rng.chance(500) {
                // More of them become dead letters.
                plan.settings.retry.max_attempts = 1;
            }
            if let Some(planned) = self.plan.queues.get_mut(queue) {
                *planned = plan.clone();
            }
        }
        self.celery = Some(faults);
    }

    pub(crate) fn is_celery(&self, queue: usize) -> bool {
        self.queue_plan(queue).is_some_and(|queue| queue.protocol.is_celery())
    }

    fn queue_plan(&self, queue: usize) -> Option<&asynctask::config::Queue> {
        self.queues.get(queue).map(|plan| &plan.settings)
    }

    /// What a worker that is started now tells of its application, if it runs one.
    pub(crate) fn application_of(&self, queue: usize) -> Option<Application> {
        let faults = self.celery.as_ref()?;
        is_application(&self.queue(queue).kind).then(|| faults.application())
    }
}

/// What a message of Celery's says of its task.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    name: &'static str,
    time_limit: Option<Duration>,
    /// By which its producer knows the result, if it waits for it.
    correlation_id: Option<String>,
    ignore_result: bool,
    /// The task is named in the body, which is an object.
    is_first_protocol: bool,
}

impl Told {
    pub(crate) fn draw(settings: &Settings, queue: usize, origin: u64, rng: &mut Rng) -> Option<Box<Self>> {
        let faults = settings.celery.as_ref().filter(|_| settings.is_celery(queue))?;
        Some(Box::new(Self {
            name: rng.pick(&NAMES),
            time_limit: rng.chance(faults.own_limit).then(|| Duration::from_millis(rng.pick(&[250, 2_000, 60_000]))),
            correlation_id: rng.chance(800).then(|| format!("c{origin}")),
            ignore_result: rng.chance(faults.ignore_result),
            // Keys are read from the body.
            is_first_protocol: settings.queue(queue).unique.is_some(),
        }))
    }

    /// The body, of a task with this number and key.
    pub(crate) fn body(&self, number: u64, key: &str) -> String {
        let args = format!("[{number},{key}]");
        if self.is_first_protocol { first(self.name, &args) } else { second(&args) }
    }

    /// What the transport reads of the message.
    pub(crate) fn fill(&self, task: Task) -> Task {
        let mut headers = Headers::default();
        if !self.is_first_protocol {
            headers.insert("task".to_owned(), self.name.into());
        }
        if self.ignore_result {
            headers.insert("ignore_result".to_owned(), true.into());
        }
        let mut properties = Properties::default();
        properties.content_type = Some("application/json".to_owned());
        properties.reply_to = self.correlation_id.is_some().then(|| "answers".to_owned());
        properties.correlation_id.clone_from(&self.correlation_id);
        let (name, time_limit) = (Some(self.name.into()), self.time_limit);
        Task { headers, properties: Some(Box::new(properties)), name, time_limit, ..task }
    }
}

fn first(name: &str, args: &str) -> String {
    let key = args.trim_end_matches(']').rsplit(',').next().unwrap_or_default();
    format!(r#"{{"task":"{name}","args":{args},"kwargs":{{}},"k":{key}}}"#)
}

fn second(args: &str) -> String {
    format!("[{args},{{}},{{}}]")
}

/// The bodies of which a worker may have got this payload.
pub(crate) fn bodies(payload: &str) -> Vec<Vec<u8>> {
    let parts = serde_json::from_str::<BTreeMap<String, &RawValue>>(payload).unwrap_or_default();
    let mut bodies = vec![payload.as_bytes().to_vec()];
    if let (3, Some(name), Some(args), true) =
        (parts.len(), parts.get("task"), parts.get("args"), parts.contains_key("kwargs"))
    {
        bodies.push(second(args.get()).into_bytes());
        bodies.push(first(name.get().trim_matches('"'), args.get()).into_bytes());
    }
    bodies
}

/// The same of what it got as bytes.
pub(crate) fn bodies_of_base64(text: &str) -> Vec<Vec<u8>> {
    BASE64.decode(text.as_bytes()).into_iter().collect()
}
