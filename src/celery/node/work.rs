//! What changes something, as commands to the core, and the reply when they were done. Pure.

use serde_json::Value;

use super::{
    methods::Work,
    view::{Pool, View},
    wording::{error, ok},
};
use crate::{celery::repr, control::types::Command};

/// What is to be done, and said.
#[derive(Debug, PartialEq)]
pub(super) struct Plan {
    /// One after the other; the first that is refused ends it, and its words are the reply.
    pub(super) commands: Vec<Command>,
    pub(super) reply: Reply,
}

/// What is said when all of it was done.
#[derive(Debug, PartialEq)]
pub(super) enum Reply {
    This(Value),
    /// What the core answers.
    Said,
    /// Which tasks were ended, as the answer of the core says.
    Terminated,
    /// For which stamps tasks were ended, of these that were revoked.
    StampsTerminated(Value),
    /// Nothing: the node that is to end answers nobody.
    None,
}

/// The reply to whoever may only look.
pub(super) fn denied(method: &str, node: &str) -> Value {
    error(&format!(
        "{method} is not done here: {node} may only be looked at (its settings say `celery: {{ control: look }}`, \
                    and not `celery: {{ control: work }}`)"
    ))
}

/// Whether what is to be done depends on the queues.
pub(super) const fn needs_view(work: &Work) -> bool {
    matches!(
        work,
        Work::Grow(_) | Work::Shrink(_) | Work::Restart | Work::AddConsumer { .. } | Work::CancelConsumer { .. }
    )
}

/// What to do for `work`, where the queues are as `view` says.
pub(super) fn plan(work: Work, view: &View) -> Plan {
    let done = |commands, reply| Plan { commands, reply: Reply::This(reply) };
    let pool = |queue: &str| view.pools.iter().find(|pool| pool.queue == queue);
    match work {
        Work::Revoke { ids, terminate } => {
            let reply = if terminate { Reply::Terminated } else { Reply::This(ok(flagged(&ids))) };
            Plan { commands: vec![Command::CeleryRevoke { ids, terminate }], reply }
        }
        Work::RevokeStamped { headers, terminate } => {
            let values = |value: &Value| match value {
                Value::Array(values) => values.clone(),
                value => vec![value.clone()],
            };
            let stamps = headers.iter().map(|(header, value)| (header.clone(), values(value))).collect();
            let headers = Value::Object(headers);
            let reply = if terminate {
                Reply::StampsTerminated(headers)
            } else {
                Reply::This(ok(format!("headers {} flagged as revoked, but not terminated", repr::of(&headers))))
            };
            Plan { commands: vec![Command::CeleryRevokeStamped { stamps, terminate }], reply }
        }
        Work::RateLimit { task, rate } => {
            Plan { commands: vec![Command::CeleryRateLimit { task, rate }], reply: Reply::Said }
        }
        Work::TimeLimit { task, soft, hard } => {
            let milliseconds = |limit: f64| (limit * 1000.0).ceil() as u64;
            let (soft_ms, hard_ms) = (soft.map(milliseconds), hard.map(milliseconds));
            Plan { commands: vec![Command::CeleryTimeLimit { task, soft_ms, hard_ms }], reply: Reply::Said }
        }
        Work::Grow(by) => {
            let grown = view.pools.iter().map(|pool| scale(pool, pool.processes.saturating_add(by)));
            done(grown.collect(), ok("pool will grow"))
        }
        Work::Shrink(by) => {
            let smaller = |pool: &&Pool| pool.processes > 1;
            let shrunk = view.pools.iter().filter(smaller);
            let commands: Vec<_> = shrunk.map(|pool| scale(pool, pool.processes.saturating_sub(by).max(1))).collect();
            if commands.is_empty() {
                return done(commands, error("ValueError(\"Can't shrink pool. Each queue has one process.\")"));
            }
            done(commands, ok("pool will shrink"))
        }
        Work::Restart => {
            let restart = |pool: &Pool| Command::Restart { queue: Some(pool.queue.clone()) };
            done(view.pools.iter().map(restart).collect(), ok("reload started"))
        }
        Work::AddConsumer { queue } => match pool(&queue) {
            Some(Pool { paused, .. }) => {
                let reply = ok(format!("add consumer {queue}"));
                done(paused.then_some(Command::Resume { queue }).into_iter().collect(), reply)
            }
            None => done(
                Vec::new(),
                error(&format!(
                    "queue {} is not in the settings of this master: put it there, under `workers`, with `protocol: celery`",
                    repr::of(&queue.into())
                )),
            ),
        },
        Work::CancelConsumer { queue } => {
            let reply = ok(format!("no longer consuming from {queue}"));
            let running = pool(&queue).is_some_and(|pool| !pool.paused);
            done(running.then_some(Command::Pause { queue, limit_ms: None, unkept: true }).into_iter().collect(), reply)
        }
        Work::Shutdown => Plan { commands: vec![Command::Stop { now: false }], reply: Reply::None },
        Work::Never(reply) => done(Vec::new(), reply),
    }
}

/// What is said of tasks that were to be ended.
pub(super) fn terminated(answer: &Value) -> Value {
    let ids: Vec<&str> = answer["terminated"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if ids.is_empty() { ok("terminate: tasks unknown") } else { ok(format!("terminate: {}", ids.join(", "))) }
}

/// What is said of tasks that were to be ended for their stamps, in the words of Celery's workers.
pub(super) fn stamps_terminated(headers: &Value, answer: &Value) -> Value {
    let ended = answer["terminated"].as_object().filter(|ended| !ended.is_empty());
    let Some(ended) = ended else { return ok(format!("headers {} were not terminated", repr::of(headers))) };
    let of_header = |(header, values): (&String, &Value)| {
        let values: Vec<String> = values.as_array().into_iter().flatten().map(repr::of).collect();
        format!("{}: {{{}}}", repr::of(&header.as_str().into()), values.join(", "))
    };
    let ended: Vec<String> = ended.iter().map(of_header).collect();
    ok(format!("headers defaultdict(<class 'set'>, {{{}}}) revoked", ended.join(", ")))
}

/// Ids of a command that no task here has, as the answer of the core says.
pub(super) fn elsewhere(answer: &Value) -> Vec<String> {
    let ids = answer["elsewhere"].as_array().into_iter().flatten();
    ids.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn scale(pool: &Pool, processes: u32) -> Command {
    Command::Scale { queue: pool.queue.clone(), processes }
}

/// As Python shows a set.
fn flagged(ids: &[String]) -> String {
    let ids: Vec<String> = ids.iter().map(|id| repr::of(&id.as_str().into())).collect();
    if ids.is_empty() {
        "tasks set() flagged as revoked".to_owned()
    } else {
        format!("tasks {{{}}} flagged as revoked", ids.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn view() -> View {
        View::read(json!({"pools": [
            {"queue": "celery", "processes": 2, "paused": false},
            {"queue": "slow", "processes": 1, "paused": true},
        ]}))
        .unwrap()
    }

    fn of(work: Work) -> (Vec<Command>, Value) {
        match plan(work, &view()) {
            Plan { commands, reply: Reply::This(reply) } => (commands, reply),
            plan => panic!("{plan:?}"),
        }
    }

    fn text(text: &str) -> String {
        text.to_owned()
    }

    #[test]
    fn ids_are_revoked_with_celerys_words() {
        let ids = vec![text("a1"), text("a2")];
        let command = Command::CeleryRevoke { ids: ids.clone(), terminate: false };
        let reply = ok("tasks {'a1', 'a2'} flagged as revoked");
        assert_eq!(of(Work::Revoke { ids: ids.clone(), terminate: false }), (vec![command], reply));
        let ended = plan(Work::Revoke { ids, terminate: true }, &view());
        assert_eq!(ended.reply, Reply::Terminated);
        assert_eq!(terminated(&json!({"revoked": 2, "terminated": ["a", "b"]})), ok("terminate: a, b"));
        assert_eq!(terminated(&json!("done")), ok("terminate: tasks unknown"));
    }

    #[test]
    fn stamps_are_revoked_with_celerys_words() {
        let headers = json!({"order": ["o1", 7], "run": "r"});
        let of_stamps =
            |terminate| plan(Work::RevokeStamped { headers: headers.as_object().unwrap().clone(), terminate }, &view());
        let revoked = of_stamps(false);
        let stamps = [(text("order"), vec![json!("o1"), json!(7)]), (text("run"), vec![json!("r")])].into();
        assert_eq!(revoked.commands, [Command::CeleryRevokeStamped { stamps, terminate: false }]);
        let flagged = "headers {'order': ['o1', 7], 'run': 'r'} flagged as revoked, but not terminated";
        assert_eq!(revoked.reply, Reply::This(ok(flagged)));
        assert_eq!(of_stamps(true).reply, Reply::StampsTerminated(headers.clone()));
        let ended = stamps_terminated(&headers, &json!({"terminated": {"order": ["o1", 7]}}));
        assert_eq!(ended, ok("headers defaultdict(<class 'set'>, {'order': {'o1', 7}}) revoked"));
        let none = stamps_terminated(&json!({"run": "r"}), &json!({"terminated": {}}));
        assert_eq!(none, ok("headers {'run': 'r'} were not terminated"));
    }

    #[test]
    fn ids_that_are_not_here_are_told() {
        assert_eq!(elsewhere(&json!({"revoked": 2, "elsewhere": ["a", 5]})), ["a"]);
        assert!(elsewhere(&Value::Null).is_empty());
    }

    #[test]
    fn each_queue_gets_processes_and_keeps_one() {
        let scale = |queue: &str, processes| Command::Scale { queue: text(queue), processes };
        assert_eq!(of(Work::Grow(3)), (vec![scale("celery", 5), scale("slow", 4)], ok("pool will grow")));
        assert_eq!(of(Work::Shrink(7)), (vec![scale("celery", 1)], ok("pool will shrink")));
        let none = plan(Work::Shrink(1), &View::default());
        assert!(none.commands.is_empty() && matches!(none.reply, Reply::This(reply) if reply["error"].is_string()));
    }

    #[test]
    fn queues_of_the_settings_are_paused_and_resumed() {
        let add = |queue: &str| of(Work::AddConsumer { queue: text(queue) });
        let cancel = |queue: &str| of(Work::CancelConsumer { queue: text(queue) });
        assert_eq!(add("slow"), (vec![Command::Resume { queue: text("slow") }], ok("add consumer slow")));
        assert_eq!(add("celery"), (Vec::new(), ok("add consumer celery")), "it is worked already");
        assert!(add("new").0.is_empty() && add("new").1["error"].as_str().unwrap().contains("put it there"));
        assert_eq!(
            cancel("celery"),
            (
                vec![Command::Pause { queue: text("celery"), limit_ms: None, unkept: true }],
                ok("no longer consuming from celery")
            )
        );
        assert_eq!(cancel("slow"), (Vec::new(), ok("no longer consuming from slow")));
        assert_eq!(cancel("new"), (Vec::new(), ok("no longer consuming from new")));
    }

    #[test]
    fn limits_are_the_cores_to_set_and_to_speak_of() {
        let limits = plan(Work::TimeLimit { task: text("t"), soft: None, hard: Some(2.0) }, &view());
        let command = Command::CeleryTimeLimit { task: text("t"), soft_ms: None, hard_ms: Some(2_000) };
        assert_eq!(limits, Plan { commands: vec![command], reply: Reply::Said });
    }

    #[test]
    fn a_shutdown_is_a_stop_and_answers_nobody() {
        let plan = plan(Work::Shutdown, &view());
        assert_eq!(plan, Plan { commands: vec![Command::Stop { now: false }], reply: Reply::None });
    }
}
