//! The settings as one object, for `config show`: what they mean after merging, without secrets.

use std::{path::Path, time::Duration};

use serde_json::{Map, Value, json};

use super::{
    check::is_schedule_id,
    dashboard::{Dashboard, User},
    json as json_value,
    substitute::escaped,
    types::{Acks, Command, Config, Mode, Queue},
};
use crate::{
    backoff::Backoff,
    jobs::definition::{ForEach, Pipeline, Step, Tolerance},
    redact::redact,
    schedule::{Misfire, Schedule, Target},
    transport::{Uri, amqp},
    unique::Conflict,
};

impl Config {
    /// The merged settings: keys as in the files, durations in seconds, sizes in bytes, the transport without its
    /// password, passwords of addresses in command lines and payloads and the values of kinds' environments masked. It can
    /// be read as a configuration again, which means the same but for what is masked.
    ///
    /// What follows from the settings stands under `x-derived`, which is left alone then. Of each queue: `delays`, those
    /// that its settings can ask for, in seconds, jitter aside; and `names`, what it uses on the transport: with RabbitMQ the
    /// delay queues that these delays pass through (`delays`), and the pattern of all, of which others are made at first
    /// use (`retry`). Of each schedule by its id: the queue of its tasks.
    #[must_use]
    pub fn to_json(&self) -> Value {
        self.shown(|payload| serde_json::from_str(payload).unwrap_or_else(|_| payload.into()))
    }

    /// The same as YAML.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub fn to_yaml(&self) -> Result<String, String> {
        let render = |settings: &Value| serde_yaml::to_string(settings).map_err(|error| error.to_string());
        self.with_payloads(render, str::to_owned)
    }

    /// The same as one line of JSON.
    ///
    /// # Errors
    /// None yet; see [`Config::to_yaml`].
    pub fn to_json_text(&self) -> Result<String, String> {
        self.with_payloads(|settings| Ok(settings.to_string()), |mark| format!("\"{mark}\""))
    }

    /// Puts the payloads in as they are: neither form has numbers of any size. JSON text is YAML, too.
    fn with_payloads(
        &self,
        render: impl Fn(&Value) -> Result<String, String>,
        marked: impl Fn(&str) -> String,
    ) -> Result<String, String> {
        let without = render(&self.shown(|_| Value::Null))?;
        let mut mark = "payload".to_owned();
        while without.contains(&mark) {
            mark.push('-');
        }
        let count = std::cell::Cell::new(0);
        let mut text = render(&self.shown(|_| {
            count.set(count.get() + 1);
            format!("{mark}{}.", count.get()).into()
        }))?;
        for (number, given) in self.given().enumerate() {
            text = text.replacen(&marked(&format!("{mark}{}.", number + 1)), &given, 1);
        }
        Ok(text)
    }

    /// What is put in as it is, in the order in which [`Self::shown`] asks for it.
    fn given(&self) -> impl Iterator<Item = String> {
        let of_schedules = self.schedules.iter().flat_map(Schedule::given).map(|(_, given)| given.shown.clone());
        let lists = self.pipelines.iter().flat_map(|pipeline| pipeline.steps.iter().filter_map(list));
        of_schedules.chain(lists)
    }

    fn shown(&self, payload: impl Fn(&str) -> Value) -> Value {
        let mut workers: Map<String, Value> =
            self.queues.iter().map(|queue| (queue.name.clone(), shown_queue(queue))).collect();
        workers.extend(self.disabled.iter().map(|name| (name.clone(), Value::Null)));
        let kinds: Map<String, Value> = self.kinds.iter().map(|(name, kind)| (name.clone(), command(kind))).collect();
        let mut settings = json!({
            "application": self.application,
            "transport": self.transport.to_string(),
            "declare": if self.declare_passive { "passive" } else { "create" },
            "workers": workers,
            "kinds": kinds,
            "pipelines": self.pipelines.iter().map(shown_pipeline).collect::<Map<_, _>>(),
            "scheduled_workers": self.schedules.iter().map(schedule).collect::<Vec<_>>(),
            "supervisor": {
                "grace": seconds(self.supervisor.grace),
                "start_timeout": seconds(self.supervisor.start_timeout),
                "ping": seconds(self.supervisor.ping),
                "restart": backoff(&self.supervisor.restart),
            },
            "control": { "socket": self.control_socket.as_deref().map(path) },
            "metrics": { "listen": self.metrics_listen },
            "dashboard": self.dashboard.as_ref().map(dashboard),
            "celery": self.celery.as_ref().map(|celery| json!({
                "node": celery.node,
                "events": celery.events.as_str(),
                "control": celery.control.as_str(),
                "failures": celery.failures.as_str(),
            })),
            "x-derived": self.derived(),
        });
        escape(&mut settings);
        for (number, schedule) in self.schedules.iter().enumerate() {
            for (key, given) in schedule.given() {
                settings["scheduled_workers"][number][key] = payload(&given.shown);
            }
        }
        for pipeline in &self.pipelines {
            for (number, step) in pipeline.steps.iter().enumerate() {
                if let Some(list) = list(step) {
                    settings["pipelines"][&pipeline.name]["steps"][number]["for_each"] = payload(&list);
                }
            }
        }
        settings
    }

    /// What follows from the settings and cannot be set.
    fn derived(&self) -> Value {
        let queue = |queue: &Queue| {
            let delays: Vec<Value> = queue.delays().into_iter().map(seconds).collect();
            (queue.name.clone(), json!({ "delays": delays, "names": self.names(queue) }))
        };
        let schedule = |schedule: &Schedule| (schedule.id.clone(), json!({ "queue": schedule.queue }));
        json!({
            "queues": self.queues.iter().map(queue).collect::<Map<_, _>>(),
            "schedules": self.schedules.iter().map(schedule).collect::<Map<_, _>>(),
        })
    }

    /// What a queue is called on the transport.
    fn names(&self, queue: &Queue) -> Value {
        // Elsewhere a delayed task stays in its own queue.
        let (retry, delays) = match self.transport {
            Uri::Amqp(_) => {
                let delays = amqp::delay_queues(&queue.name, &queue.delays());
                (Value::from(format!("{}.retry.<ms>", queue.name)), Value::from(delays))
            }
            Uri::Sqlite(_) | Uri::Postgres(_) | Uri::Localmem(_) => (Value::Null, Value::Null),
        };
        json!({ "queue": queue.name, "retry": retry, "delays": delays, "dead_letter": queue.dead_letter.name })
    }
}

fn shown_pipeline(pipeline: &Pipeline) -> (String, Value) {
    let steps: Vec<Value> = pipeline.steps.iter().map(|step| shown_step(step, &pipeline.steps)).collect();
    let shown = json!({
        "key": pipeline.key,
        // Without a key, it is no setting.
        "conflict": pipeline.key.as_ref().map(|_| pipeline.conflict.as_str()),
        "max_running": pipeline.max_running,
        "timeout": pipeline.timeout.map(seconds),
        "on_failure": pipeline.on_failure,
        "wipe_failed_after": pipeline.wipe_failed_after.map_or_else(|| "forever".into(), seconds),
        "remember": seconds(pipeline.remember),
        "steps": steps,
    });
    (pipeline.name.clone(), shown)
}

fn shown_step(step: &Step, all: &[Step]) -> Value {
    let name = |position: &usize| all[*position].name.as_str();
    json!({
        "name": step.name,
        "queue": step.queue,
        "each": step.each,
        "wipe": step.wipe,
        "keep": step.keep,
        "needs": step.needs.iter().map(name).collect::<Vec<_>>(),
        "for_each": match &step.for_each {
            Some(ForEach::Result { step, path }) => {
                let names: Vec<&str> = std::iter::once(name(step)).chain(path.iter().map(String::as_str)).collect();
                Some(format!("{{inputs.{}}}", names.join(".")))
            }
            // A list is put in as it is.
            Some(ForEach::List(_)) | None => None,
        },
        "allow_failed": match step.allow_failed {
            Tolerance::Tasks(tasks) => tasks.into(),
            Tolerance::Percent(percent) => format!("{percent}%").into(),
            Tolerance::All => Value::from("all"),
        },
    })
}

/// The list that a step begins with, if the settings give one.
fn list(step: &Step) -> Option<String> {
    let Some(ForEach::List(elements)) = &step.for_each else { return None };
    let elements: Vec<String> = elements.iter().map(json_value::shown).collect();
    Some(format!("[{}]", elements.join(",")))
}

/// What is read again must not be taken for a variable of the environment.
fn escape(value: &mut Value) {
    match value {
        Value::String(text) => *text = escaped(text),
        Value::Array(values) => values.iter_mut().for_each(escape),
        Value::Object(map) => map.values_mut().for_each(escape),
        _ => {}
    }
}

fn shown_queue(queue: &Queue) -> Value {
    let celery = queue.protocol.celery();
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
            // Where nothing comes again, it is no setting.
            "after": (unique.conflict == Conflict::Snooze).then(|| seconds(unique.after)),
        })),
        "protocol": if celery.is_some() { "celery" } else { "asynctask" },
        "declare_as": celery.map(|celery| celery.declare_as.as_str()),
        "exchange": celery.map(|celery| &celery.exchange),
        "max_priority": celery.and_then(|celery| celery.max_priority),
    })
}

fn command(command: &Command) -> Value {
    let options = &command.options;
    json!({
        "command": command.argv.iter().map(|word| redact(&word.to_string_lossy()).into_owned()).collect::<Vec<_>>(),
        "mode": match command.mode { Mode::Frames => "frames", Mode::Once => "once" },
        "accepts": command.accepts,
        "cwd": path(&command.folder),
        "input": match (command.mode, options.payload_in_file) {
            (Mode::Frames, _) => Value::Null,
            (Mode::Once, false) => "stdin".into(),
            (Mode::Once, true) => "file".into(),
        },
        "clear_env": options.pass_env.is_some(),
        "pass_env": options.pass_env,
        "user": options.user.as_ref().map(|user| &user.name),
        "group": options.group.as_ref().map(|(name, _)| name),
        "umask": options.umask.map(|umask| format!("{umask:03o}")),
        "nice": options.nice,
        "oom_score_adj": options.oom_score_adj,
        "no_new_privs": options.no_new_privs,
        "limits": {
            "memory": options.limits.memory,
            "cpu": options.limits.cpu.map(seconds),
            "files": options.limits.files,
        },
        "env": command.env.keys().map(|name| (name.clone(), "***".into())).collect::<Map<String, Value>>(),
    })
}

/// A path as text; one that is not UTF-8 can be worked with, but not be shown.
fn path(path: &Path) -> Value {
    path.to_string_lossy().into()
}

fn schedule(schedule: &Schedule) -> Value {
    // The fields are an object that this module's neighbour wrote.
    let mut object: Value = serde_json::from_str(&schedule.fields).unwrap_or_default();
    match &schedule.target {
        Target::Worker(kind) => object["worker"] = kind.as_str().into(),
        Target::Queue(name) => object["queue"] = name.as_str().into(),
        Target::Ctl(line) => object["ctl"] = redact(line).into(),
        Target::Pipeline(name) => object["pipeline"] = name.as_str().into(),
        Target::Celery(task) => {
            object["celery"] = task.name.as_str().into();
            object["queue"] = schedule.queue.as_str().into();
        }
    }
    if is_schedule_id(&schedule.id) {
        object["id"] = schedule.id.as_str().into();
    }
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

/// What a password's hash is shown as: still the form of one, of a password that nobody knows.
const HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$hiddenhiddenhiddenhidden$hiddenhiddenhiddenhiddenhiddenhiddenhiddenhi";

fn dashboard(dashboard: &Dashboard) -> Value {
    let user = |user: &User| {
        let password = user.password.as_ref().map(|_| HASH);
        (user.name.clone(), json!({ "password": password, "role": user.role.as_str() }))
    };
    let proxy = dashboard.proxy.as_ref().map(|proxy| {
        json!({
            "from": proxy.from,
            "user_header": proxy.user_header,
            "secret_header": proxy.secret_header,
            "secret": "*".repeat(16),
            "role": proxy.role.as_str(),
        })
    });
    json!({
        "listen": dashboard.listen.to_string(),
        "url": dashboard.url,
        "hosts": dashboard.hosts,
        "users": dashboard.users.iter().map(user).collect::<Map<_, _>>(),
        "proxy": proxy,
        "hide": dashboard.hide,
        "history": dashboard.history.as_deref().map(path),
    })
}
