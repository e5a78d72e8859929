//! The methods of Celery's remote control: what a request asks for, with its arguments checked. Pure.
//!
//! Names, arguments and errors are those of Celery's own nodes, so that its tools show them as ever.

use serde_json::{Map, Value};

use super::{
    revoked::ID_LIMIT,
    wording::{error, key_error},
};

/// Most processes that one request adds or takes away.
const PROCESSES: u64 = 10_000;
/// Longest name of a task, a queue, or a node.
const NAME_LIMIT: usize = 1024;
/// Longest text of a rate.
const RATE_LIMIT: usize = 40;

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Method {
    Ping,
    Clock,
    /// A node that starts, and what it knows as revoked.
    Hello {
        from: String,
        revoked: Vec<String>,
    },
    /// Tell that this node is there, now.
    Heartbeat,
    EnableEvents,
    DisableEvents,
    /// The ids known as revoked.
    Revoked,
    /// How much memory this process has.
    Memory,
    /// What can be answered without knowing anything.
    Known(Value),
    Look(Look),
    Work(Work),
}

/// What is answered from a view of the master.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Look {
    Stats,
    Active {
        /// Arguments as text, as Python shows them.
        safe: bool,
    },
    Reserved,
    Registered {
        /// Attributes of tasks; none: those that Celery shows by itself.
        items: Vec<String>,
        /// Celery's own tasks as well.
        builtins: bool,
    },
    ActiveQueues,
    Conf,
    QueryTask {
        ids: Vec<String>,
    },
    Report,
}

/// What changes something. Only with `control: work`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Work {
    Revoke {
        ids: Vec<String>,
        /// Those that run are ended.
        terminate: bool,
    },
    RevokeStamped {
        /// Values by the header that they stand in, as they were given: one, or several.
        headers: Map<String, Value>,
        /// Those that run are ended.
        terminate: bool,
    },
    RateLimit {
        task: String,
        /// `10/m`; `0`: none.
        rate: String,
    },
    /// In seconds; `None`: none.
    TimeLimit {
        task: String,
        soft: Option<f64>,
        hard: Option<f64>,
    },
    Grow(u32),
    Shrink(u32),
    Restart,
    AddConsumer {
        queue: String,
    },
    CancelConsumer {
        queue: String,
    },
    Shutdown,
    /// What is not done here, and what is said of it.
    Never(Value),
}

/// Reads what is asked for. The error is the reply.
pub(super) fn read(method: &str, arguments: &Map<String, Value>) -> Result<Method, Value> {
    let arguments = Arguments { method, of: arguments };
    let look = |look| Ok(Method::Look(look));
    let work = |work| Ok(Method::Work(work));
    match method {
        "ping" => Ok(Method::Ping),
        "clock" => Ok(Method::Clock),
        "hello" => Ok(Method::Hello { from: arguments.text("from_node")?, revoked: arguments.ids_of_node() }),
        "heartbeat" => Ok(Method::Heartbeat),
        "enable_events" => Ok(Method::EnableEvents),
        "disable_events" => Ok(Method::DisableEvents),
        "revoked" | "dump_revoked" => Ok(Method::Revoked),
        // Tasks that are not due wait at the broker, and in nobody's memory.
        "scheduled" | "dump_schedule" => Ok(Method::Known(Value::Array(Vec::new()))),
        // Asked for by nobody but workers that hold elections, in which no task of ours is at stake.
        "election" => Ok(Method::Known(Value::Null)),
        "memsample" => Ok(Method::Memory),
        "stats" => look(Look::Stats),
        "active" | "dump_active" => look(Look::Active { safe: arguments.truth("safe") }),
        "reserved" | "dump_reserved" => look(Look::Reserved),
        "registered" | "dump_tasks" => {
            look(Look::Registered { items: arguments.texts("taskinfoitems"), builtins: arguments.flag("builtins") })
        }
        "active_queues" => look(Look::ActiveQueues),
        "conf" | "dump_conf" => look(Look::Conf),
        "query_task" => {
            arguments.required("ids")?;
            look(Look::QueryTask { ids: arguments.texts("ids") })
        }
        "report" => look(Look::Report),
        "revoke" | "terminate" => {
            arguments.required("task_id")?;
            let mut ids = arguments.texts("task_id");
            ids.retain(|id| !id.is_empty() && id.len() <= ID_LIMIT);
            ids.sort_unstable();
            ids.dedup();
            work(Work::Revoke { ids, terminate: method == "terminate" || arguments.flag("terminate") })
        }
        "revoke_by_stamped_headers" => {
            work(Work::RevokeStamped { headers: arguments.stamps("headers")?, terminate: arguments.flag("terminate") })
        }
        "rate_limit" => {
            let task = arguments.text("task_name")?;
            arguments.required("rate_limit")?;
            work(Work::RateLimit { task, rate: arguments.rate("rate_limit")? })
        }
        "time_limit" => {
            let (soft, hard) = (arguments.seconds("soft")?, arguments.seconds("hard")?);
            work(Work::TimeLimit { task: arguments.text("task_name").unwrap_or_default(), soft, hard })
        }
        "pool_grow" => work(Work::Grow(arguments.processes()?)),
        "pool_shrink" => work(Work::Shrink(arguments.processes()?)),
        "pool_restart" => work(Work::Restart),
        "autoscale" => work(Work::Never(error("ValueError('Autoscale not enabled')"))),
        "add_consumer" => work(Work::AddConsumer { queue: arguments.text("queue")? }),
        "cancel_consumer" => work(Work::CancelConsumer { queue: arguments.text("queue")? }),
        "shutdown" => work(Work::Shutdown),
        "objgraph" => Err(error("ImportError('Requires the objgraph library')")),
        _ => Err(key_error(method)),
    }
}

/// The arguments of a request, which may be of any type.
struct Arguments<'a> {
    method: &'a str,
    of: &'a Map<String, Value>,
}

impl Arguments<'_> {
    fn required(&self, name: &str) -> Result<&Value, Value> {
        let missing = || {
            let text = format!("{}() missing 1 required positional argument: '{name}'", self.method);
            error(&format!("TypeError(\"{text}\")"))
        };
        self.of.get(name).ok_or_else(missing)
    }

    fn text(&self, name: &str) -> Result<String, Value> {
        match self.required(name)? {
            Value::String(text) if text.len() <= NAME_LIMIT => Ok(text.clone()),
            _ => Err(self.refused(&format!("'{name}' is no name"))),
        }
    }

    /// A text, or a list of which the texts count; anything else is none.
    fn texts(&self, name: &str) -> Vec<String> {
        match self.of.get(name) {
            Some(Value::String(text)) => vec![text.clone()],
            Some(Value::Array(texts)) => texts.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    }

    /// A list of ids, or, of older nodes, a table from ids to times.
    fn ids_of_node(&self) -> Vec<String> {
        match self.of.get("revoked") {
            Some(revoked) => ids(revoked),
            None => Vec::new(),
        }
    }

    /// Stamps by their headers: an object, or, of the command line, a list of `header=value`.
    fn stamps(&self, name: &str) -> Result<Map<String, Value>, Value> {
        let pair = |text: &str| Some((text.split('=').next()?.to_owned(), text.split('=').nth(1)?.into()));
        let stamps = match self.required(name)? {
            Value::Object(stamps) => Some(stamps.clone()),
            Value::Array(pairs) => pairs.iter().map(|text| text.as_str().and_then(pair)).collect(),
            _ => None,
        };
        stamps.ok_or_else(|| self.refused(&format!("'{name}' are no stamps: {{header: values}} or header=value")))
    }

    fn flag(&self, name: &str) -> bool {
        matches!(self.of.get(name), Some(Value::Bool(true)))
    }

    /// As Python reads a value as true or false.
    fn truth(&self, name: &str) -> bool {
        match self.of.get(name) {
            None | Some(Value::Null) => false,
            Some(Value::Bool(flag)) => *flag,
            Some(Value::Number(number)) => number.as_f64() != Some(0.0),
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Array(values)) => !values.is_empty(),
            Some(Value::Object(values)) => !values.is_empty(),
        }
    }

    fn seconds(&self, name: &str) -> Result<Option<f64>, Value> {
        let Some(value) = self.of.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
        let seconds = value.as_f64().or_else(|| value.as_str()?.parse().ok());
        match seconds {
            // As in Celery.
            Some(0.0) => Ok(None),
            Some(seconds) if (0.0..=1e9).contains(&seconds) => Ok(Some(seconds)),
            _ => Err(self.refused(&format!("'{name}' is no number of seconds"))),
        }
    }

    fn processes(&self) -> Result<u32, Value> {
        let count = match self.of.get("n") {
            None => Some(1),
            Some(Value::String(text)) => text.parse().ok(),
            Some(value) => value.as_u64(),
        };
        let count = count.filter(|count| (1..=PROCESSES).contains(count)).and_then(|count| u32::try_from(count).ok());
        count.ok_or_else(|| self.refused("'n' is no number of processes"))
    }

    /// A rate as the core reads it, which says what is wrong with it; nothing is 0, which is none.
    fn rate(&self, name: &str) -> Result<String, Value> {
        match self.of.get(name) {
            None | Some(Value::Null) => Ok("0".to_owned()),
            Some(Value::String(text)) if text.is_empty() => Ok("0".to_owned()),
            Some(Value::String(text)) if text.len() <= RATE_LIMIT => Ok(text.clone()),
            Some(Value::Number(number)) => Ok(number.to_string()),
            Some(_) => Err(self.refused(&format!("'{name}' is no rate"))),
        }
    }

    fn refused(&self, why: &str) -> Value {
        error(&format!("TypeError(\"{}(): {why}\")", self.method))
    }
}

/// Ids of revoked tasks as nodes tell them: a list, or, of older nodes, a table from ids to times.
pub(super) fn ids(revoked: &Value) -> Vec<String> {
    match revoked {
        Value::Array(ids) => ids.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::Object(ids) => ids.keys().cloned().collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(method: &str, arguments: &Value) -> Result<Method, Value> {
        read(method, arguments.as_object().unwrap())
    }

    fn work(method: &str, arguments: &Value) -> Work {
        match of(method, arguments) {
            Ok(Method::Work(work)) => work,
            other => panic!("{method}: {other:?}"),
        }
    }

    #[test]
    fn methods_are_found_by_both_names_and_unknown_ones_are_refused() {
        assert_eq!(of("dump_active", &json!({"safe": 5})), Ok(Method::Look(Look::Active { safe: true })));
        assert_eq!(of("active", &json!({"safe": null})), Ok(Method::Look(Look::Active { safe: false })));
        assert_eq!(of("ping", &json!({"bogus": 1})), Ok(Method::Ping));
        assert_eq!(of("x\"'", &json!({})), Err(json!({"error": "KeyError('x\"\\'')"})));
        assert_eq!(of("objgraph", &json!({})).unwrap_err()["error"], "ImportError('Requires the objgraph library')");
    }

    #[test]
    fn ids_are_one_or_many() {
        let ids = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(
            work("revoke", &json!({"task_id": ["b", "a", 5, "", "b"], "terminate": true, "signal": "SIGTERM"})),
            Work::Revoke { ids: ids.clone(), terminate: true }
        );
        assert_eq!(
            work("terminate", &json!({"task_id": "a", "signal": "KILL"})),
            Work::Revoke { ids: ids[..1].to_vec(), terminate: true }
        );
        assert_eq!(
            of("revoke", &json!({})).unwrap_err()["error"],
            "TypeError(\"revoke() missing 1 required positional argument: 'task_id'\")"
        );
        let hello = |revoked: Value| of("hello", &json!({"from_node": "w1@h", "revoked": revoked})).unwrap();
        for revoked in [json!(["a", "b", null]), json!({"a": 1.5, "b": [1.5]})] {
            assert_eq!(hello(revoked), Method::Hello { from: "w1@h".to_owned(), revoked: ids.clone() });
        }
        assert_eq!(hello(Value::Null), Method::Hello { from: "w1@h".to_owned(), revoked: Vec::new() });
    }

    #[test]
    fn stamps_are_an_object_or_pairs() {
        let of_object = json!({"headers": {"order": ["o1", 7]}, "terminate": true, "signal": "SIGTERM"});
        let headers = json!({"order": ["o1", 7]}).as_object().unwrap().clone();
        assert_eq!(work("revoke_by_stamped_headers", &of_object), Work::RevokeStamped { headers, terminate: true });
        let headers = json!({"order": "o1", "run": "a"}).as_object().unwrap().clone();
        assert_eq!(
            work("revoke_by_stamped_headers", &json!({"headers": ["order=o1", "run=a=b"]})),
            Work::RevokeStamped { headers, terminate: false }
        );
        for bad in [json!({}), json!({"headers": ["order"]}), json!({"headers": [5]}), json!({"headers": "order=1"})] {
            assert!(of("revoke_by_stamped_headers", &bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_are_bounded() {
        assert_eq!(
            (work("pool_grow", &json!({})), work("pool_shrink", &json!({"n": 2}))),
            (Work::Grow(1), Work::Shrink(2))
        );
        for bad in [json!(0), json!(-1), json!(1.5), json!(20_000), json!("x"), Value::Null] {
            assert!(of("pool_grow", &json!({ "n": bad })).is_err());
        }
        for (rate, read) in
            [(json!("10/m"), "10/m"), (json!(5), "5"), (json!(0), "0"), (Value::Null, "0"), (json!("0.5/h"), "0.5/h")]
        {
            let limit = Work::RateLimit { task: "t".to_owned(), rate: read.to_owned() };
            assert_eq!(work("rate_limit", &json!({"task_name": "t", "rate_limit": rate})), limit);
        }
        for bad in [json!({}), json!([1]), json!(true), json!("1".repeat(50))] {
            assert!(of("rate_limit", &json!({"task_name": "t", "rate_limit": bad})).is_err(), "{bad}");
        }
        assert_eq!(
            work("time_limit", &json!({"task_name": "t", "soft": 1, "hard": null})),
            Work::TimeLimit { task: "t".to_owned(), soft: Some(1.0), hard: None }
        );
        assert_eq!(
            work("time_limit", &json!({"task_name": "t", "soft": 0, "hard": "0"})),
            Work::TimeLimit { task: "t".to_owned(), soft: None, hard: None },
            "no limit, as in Celery"
        );
        assert!(of("time_limit", &json!({"task_name": "t", "soft": -1})).is_err());
        assert!(of("add_consumer", &json!({"queue": "q".repeat(2000)})).is_err());
    }
}
