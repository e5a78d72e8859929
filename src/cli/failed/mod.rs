//! `asynctask failed`: dead letters.

mod chosen;
mod export;
mod letter;
mod payload;
mod purge;
mod retry;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Value, json};

use self::{
    chosen::Condition,
    letter::{in_order, row, whole},
};
use super::{
    args::{Failed, FailedList, FailedShow, Global},
    dead_queue, load_shared, open, print, rfc3339, table, told,
    workers::duration,
};
use crate::{
    app::App,
    config::Config,
    error::{Code, Error},
    foreign,
    payload::Body,
    plural::counted,
    redact::redact,
    transport::{self, DeadLetter, DeadQueue, Request, Transport, Visit, Visitor, Walked},
};

pub(super) fn run(app: &App, global: &Global, verb: &Failed) -> Result<Code, Error> {
    let config = load_shared(app, global)?;
    match verb {
        Failed::List(verb) => list(&config, verb),
        Failed::Show(verb) => show(&config, verb),
        Failed::Retry(verb) => retry::run(&config, verb),
        Failed::Purge(verb) => purge::run(&config, verb),
        Failed::Export(verb) => export::run(&config, verb),
    }
}

/// Visits dead letters.
fn walk(transport: &dyn Transport, queue: &DeadQueue, visit: Visitor) -> Result<Walked, Error> {
    let queue = queue.clone();
    transport::call(transport, |reply| Request::WalkDead { queue, visit, reply }).map_err(|error| told(&error))
}

/// Visits dead letters and keeps what `pick` makes of them.
fn collect<T: Send + 'static>(
    config: &Config,
    queue: &str,
    mut pick: impl FnMut(&DeadLetter, &mut Vec<T>) -> Visit + Send + 'static,
) -> Result<Vec<T>, Error> {
    let picked: Arc<Mutex<Vec<T>>> = Arc::default();
    let picking = Arc::clone(&picked);
    let visit =
        Box::new(move |letter: &DeadLetter| pick(letter, &mut picking.lock().unwrap_or_else(PoisonError::into_inner)));
    walk(&*open(config)?, &dead_queue(config, queue), visit)?;
    let mut picked = picked.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(std::mem::take(&mut *picked))
}

fn list(config: &Config, verb: &FailedList) -> Result<Code, Error> {
    let limit = verb.limit;
    let condition = Condition::of(&verb.filter)?;
    let rows = collect(config, &verb.queue, move |letter, rows: &mut Vec<Value>| {
        if rows.len() >= limit {
            return Visit::Stop;
        }
        if condition.holds(letter) {
            rows.push(row(letter));
        }
        Visit::Keep
    })?;
    let counts = counts(&rows);
    match (verb.summary, verb.json) {
        (true, true) => print(&lines(counts.iter().map(Count::json)))?,
        (false, true) => print(&lines(&rows))?,
        (_, false) if rows.is_empty() => print(&format!("no dead letters of queue {}\n", redact(&verb.queue)))?,
        (summary, false) => {
            print(&table(&["COUNT", "REASON", "FINGERPRINT", "ERROR"], counts.iter().map(Count::cells).collect()))?;
            if !summary {
                let columns = ["id", "reason", "attempts", "failed_at", "error"];
                let in_line = |column, text: &str| if column == "id" { text.to_owned() } else { one_line(text) };
                let cells = |row: &Value| columns.map(|column| in_line(column, &cell(&row[column]))).to_vec();
                print("\n")?;
                let header = ["ID", "REASON", "ATTEMPTS", "FAILED AT", "ERROR"];
                print(&table(&header, rows.iter().map(cells).collect()))?;
            }
        }
    }
    Ok(Code::Ok)
}

fn show(config: &Config, verb: &FailedShow) -> Result<Code, Error> {
    let id = verb.id.clone();
    let found = collect(config, &verb.queue, move |letter, found: &mut Vec<DeadLetter>| {
        if letter.id == id || foreign::line(&letter.id) == id {
            found.push(letter.clone());
            return Visit::Stop;
        }
        Visit::Keep
    })?;
    let Some(letter) = found.first() else {
        let (queue, id) = (&verb.queue, &verb.id);
        return Err(Error::new(Code::Refused, format!("queue {queue} has no dead letter with id \"{id}\"")));
    };
    if verb.json {
        print(&format!("{}\n", whole(letter)))?;
        return Ok(Code::Ok);
    }
    let payload = match Body::from(letter).json(false) {
        Ok(payload) => format!("payload: {}", foreign::line(&payload)),
        Err(_) => {
            format!(
                "payload ({}): {}",
                counted(letter.body.len(), "byte"),
                String::from_utf8_lossy(&letter.body).escape_debug()
            )
        }
    };
    print(&format!("{payload}\n"))?;
    let facts = in_order(letter);
    let facts = facts.iter().map(|(name, value)| {
        let value = super::harmless(&cell(value));
        if !value.contains('\n') {
            return format!("{name}: {value}");
        }
        let indented = value.trim_end().replace('\n', "\n    ");
        format!("{name}:\n    {indented}")
    });
    print(&lines(facts))?;
    Ok(Code::Ok)
}

/// A reason and an error, and how often.
struct Count {
    reason: String,
    fingerprint: String,
    error: String,
    times: u64,
}

impl Count {
    fn cells(&self) -> Vec<String> {
        vec![self.times.to_string(), self.reason.clone(), self.fingerprint.clone(), one_line(&self.error)]
    }

    fn json(&self) -> Value {
        let Self { reason, fingerprint, error, times } = self;
        json!({ "reason": reason, "fingerprint": fingerprint, "error": error, "count": times })
    }
}

/// Most frequent first.
fn counts(rows: &[Value]) -> Vec<Count> {
    let mut counts: BTreeMap<(String, String), Count> = BTreeMap::new();
    for row in rows {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let (reason, fingerprint) = (text("reason"), text("fingerprint"));
        let key = (reason.clone(), fingerprint.clone());
        let fresh = || Count { reason, fingerprint, error: text("error"), times: 0 };
        counts.entry(key).or_insert_with(fresh).times += 1;
    }
    let mut counts: Vec<Count> = counts.into_values().collect();
    counts.sort_by_key(|count| std::cmp::Reverse(count.times));
    counts
}

/// Each on a line of its own.
fn lines<T: std::fmt::Display>(values: impl IntoIterator<Item = T>) -> String {
    values.into_iter().map(|value| value.to_string() + "\n").collect()
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn one_line(text: &str) -> String {
    let text = redact(text);
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() > 80 { line.chars().take(79).chain(['…']).collect() } else { line.to_owned() }
}
