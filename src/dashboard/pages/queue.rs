//! A queue: its charts, its slots with all of their tasks, its settings.

use std::sync::{Arc, PoisonError};

use askama::Template;
use axum::{
    Extension,
    extract::{Path, Query, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
use serde_json::Value;

use super::{Frame, chart, encoded, frame_numbers};
use crate::dashboard::{
    access::visitor::Visitor,
    answer,
    numbers::Numbers,
    office::Snapshot,
    page::Page,
    series::{COARSE, FINE},
    words,
};

/// Points of a chart.
const POINTS: usize = 180;

#[derive(Template)]
#[template(path = "queue.html", config = "src/dashboard/askama.toml")]
struct QueuePage {
    frame: Frame,
    /// The queue in an address.
    path: String,
    is_day: bool,
    facts: Vec<(&'static str, String)>,
    done: Chart,
    failed: Chart,
    slots: Vec<Slot>,
}

struct Chart {
    line: String,
    /// What it shows, for who does not see it.
    text: String,
}

struct Slot {
    name: String,
    state: String,
    pid: String,
    memory: String,
    done: String,
    failed: String,
    restarts: String,
    last_exit: String,
    tasks: Vec<String>,
}

#[derive(Deserialize)]
pub(crate) struct Span {
    /// `day`; else an hour.
    #[serde(default)]
    span: String,
}

pub(crate) async fn queue(
    State(page): State<Arc<Page>>,
    Extension(visitor): Extension<Visitor>,
    Path(name): Path<String>,
    Query(Span { span }): Query<Span>,
) -> Response {
    let snapshot = page.office.look();
    let queue = &snapshot.status["queues"][&name];
    if queue.is_null() {
        return answer::problem(StatusCode::NOT_FOUND, "the master works no queue of this name");
    }
    let is_day = span == "day";
    let command = format!("asynctask status # queue {name}");
    let view = QueuePage {
        frame: Frame::new(&format!("Queue {name}"), "/", &visitor, &snapshot, &command),
        facts: facts(queue, &snapshot, &name),
        done: chart(&page, &name, is_day, "done", |step| step.done),
        failed: chart(&page, &name, is_day, "failed", |step| step.failed),
        slots: queue["slots"].as_array().into_iter().flatten().map(slot).collect(),
        is_day,
        path: encoded(&name),
    };
    answer::page(StatusCode::OK, &view)
}

fn chart(
    page: &Page,
    name: &str,
    is_day: bool,
    what: &str,
    of: impl Fn(&crate::dashboard::series::Step) -> u64,
) -> Chart {
    let series = page.office.series.lock().unwrap_or_else(PoisonError::into_inner);
    let values: Vec<u64> = series.steps(name, is_day).map(of).collect();
    let (all, most) = (values.iter().sum::<u64>(), values.iter().max().copied().unwrap_or_default());
    let ((_, whole), unit) = if is_day { (COARSE, "a minute") } else { (FINE, "ten seconds") };
    let text = format!("{} {what}, at most {} in {unit}", words::number(all), words::number(most));
    Chart { line: chart::line(&chart::grouped(values, whole, POINTS), 600.0, 80.0), text }
}

fn facts(queue: &Value, snapshot: &Snapshot, name: &str) -> Vec<(&'static str, String)> {
    let counted = &snapshot.counters["queues"][name];
    let pause = &queue["paused"];
    let paused = (!pause.is_null()).then(|| {
        let by = pause["by"].as_str().unwrap_or_default();
        let since = pause["since"].as_str().unwrap_or_default();
        match pause["until"].as_str() {
            Some(until) => format!("by {by}, since {since}, until {until}"),
            None => format!("by {by}, since {since}, until it is resumed"),
        }
    });
    let parked = queue["parked"]["cause"].as_str().map(str::to_owned);
    let sum =
        |counts: &Value| words::number(counts.as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum());
    let all = [
        ("State", queue["state"].as_str().map(str::to_owned)),
        ("Paused", paused),
        ("Parked", parked),
        ("Kind", queue["kind"].as_str().map(str::to_owned)),
        ("Ready", Some(words::count(&queue["ready"]))),
        ("Delayed", Some(words::count(&queue["delayed"]))),
        ("In hand", Some(words::count(&queue["in_hand"]))),
        ("Dead letters", Some(words::count(&queue["failed"]))),
        ("Done", Some(words::count(&counted["done"]))),
        ("Retried", Some(sum(&counted["retried"]))),
        ("Dead-lettered", Some(sum(&counted["dead"]))),
        ("Restarts", Some(sum(&counted["restarts"]))),
    ];
    all.into_iter().filter_map(|(name, text)| Some((name, text?))).collect()
}

fn slot(slot: &Value) -> Slot {
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let task = |task: &Value| {
        let age = task["age_seconds"].as_f64().unwrap_or(f64::NAN);
        let progress = match (&task["progress"]["percent"], task["progress"]["note"].as_str()) {
            (Value::Null, None) => String::new(),
            (percent, note) => format!(", {percent} % {}", note.unwrap_or_default()),
        };
        format!("{} attempt {} for {}{progress}", text(&task["id"]), text(&task["attempt"]), words::seconds(age))
    };
    Slot {
        name: text(&slot["slot"]),
        state: text(&slot["state"]),
        pid: text(&slot["pid"]),
        memory: slot["rss_bytes"].as_f64().map_or_else(|| "-".to_owned(), words::bytes),
        done: words::count(&slot["done"]),
        failed: words::count(&slot["failed"]),
        restarts: words::count(&slot["restarts"]),
        last_exit: text(&slot["last_exit"]),
        tasks: slot["tasks"].as_array().into_iter().flatten().map(task).collect(),
    }
}

/// What changes on this page.
pub(crate) fn numbers(_: &Page, snapshot: &Snapshot, name: &str) -> Numbers {
    let mut numbers = frame_numbers(snapshot);
    let queue = &snapshot.status["queues"][name];
    numbers.extend(facts(queue, snapshot, name).into_iter().map(|(key, text)| (key.to_owned(), text)));
    numbers
}
