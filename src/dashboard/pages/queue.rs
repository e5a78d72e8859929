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

use super::{Cell, Frame, NAME, NOT_KNOWN, SENTENCE, chart, encoded, frame_numbers};
use crate::dashboard::{
    access::visitor::Visitor,
    answer,
    numbers::Numbers,
    office::Snapshot,
    page::Page,
    series::{COARSE, FINE},
    shown, words,
};
use crate::json_text::pretty;

/// Points of a chart.
const POINTS: usize = 180;
/// Bytes of the settings of a queue.
const SETTINGS: usize = 16 * 1024;

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
    /// The settings in force, and what they were read from.
    settings: String,
    sources: String,
}

struct Chart {
    line: String,
    /// What it shows, for who does not see it.
    text: String,
}

struct Slot {
    name: String,
    cells: Vec<Cell>,
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
    let command = shown::line(&format!("asynctask status # queue {name}"), NAME);
    let view = QueuePage {
        frame: Frame::new(&format!("Queue {name}"), "/", &visitor, &snapshot, &command),
        facts: facts(queue, &snapshot, &name),
        done: chart(&page, &name, is_day, "done", |step| step.done),
        failed: chart(&page, &name, is_day, "failed", |step| step.failed),
        slots: queue["slots"].as_array().into_iter().flatten().map(|told| slot(told, snapshot.is_of_now())).collect(),
        settings: settings(&snapshot, &name),
        sources: sources(&snapshot),
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
    let ((length, whole), unit) = if is_day { (COARSE, "a minute") } else { (FINE, "ten seconds") };
    let mut text = format!("{} {what}, at most {} in {unit}", words::number(all), words::number(most));
    if values.len() < whole {
        // What was before nobody has counted.
        text.extend([", counted for ", &words::seconds(values.len() as f64 * length as f64 / 1000.0)]);
    }
    Chart { line: chart::line(&chart::grouped(values, whole, POINTS), 600.0, 80.0), text }
}

fn settings(snapshot: &Snapshot, name: &str) -> String {
    match &snapshot.settings["settings"]["workers"][name] {
        Value::Null => String::new(),
        settings => shown::lines(&pretty(&settings.to_string(), SETTINGS), SETTINGS),
    }
}

/// Where settings come from: of two that say different things the later one holds.
fn sources(snapshot: &Snapshot) -> String {
    let named = |key: &str| snapshot.settings[key].as_array().into_iter().flatten().filter_map(Value::as_str);
    let all = named("files").map(str::to_owned).chain(named("options").map(|option| format!("--set {option}")));
    shown::line(&all.collect::<Vec<_>>().join(", "), SENTENCE)
}

fn facts(queue: &Value, snapshot: &Snapshot, name: &str) -> Vec<(&'static str, String)> {
    let counted = &snapshot.counters["queues"][name];
    let parked = queue["parked"]["cause"].as_str().map(|cause| shown::line(cause, SENTENCE));
    let now = |text: String, otherwise: &str| if snapshot.is_of_now() { text } else { otherwise.to_owned() };
    let sum =
        |counts: &Value| words::number(counts.as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum());
    let all = [
        ("State", queue["state"].as_str().map(|state| now(state.to_owned(), NOT_KNOWN))),
        // Always there, so that a page that is open has a place for them.
        ("Paused", Some(paused(queue).unwrap_or_else(|| "-".to_owned()))),
        ("Parked", Some(parked.unwrap_or_else(|| "-".to_owned()))),
        ("Kind", queue["kind"].as_str().map(str::to_owned)),
        ("Ready", Some(words::count(&queue["ready"]))),
        ("Delayed", Some(words::count(&queue["delayed"]))),
        ("In hand", Some(now(words::count(&queue["in_hand"]), "-"))),
        ("Dead letters", Some(words::count(&queue["failed"]))),
        ("Done", Some(words::count(&counted["done"]))),
        ("Retried", Some(sum(&counted["retried"]))),
        ("Dead-lettered", Some(sum(&counted["dead"]))),
        ("Restarts", Some(sum(&counted["restarts"]))),
    ];
    all.into_iter().filter_map(|(name, text)| Some((name, text?))).collect()
}

/// By whom a queue is paused, and until when.
pub(super) fn paused(queue: &Value) -> Option<String> {
    let pause = &queue["paused"];
    let by = shown::line(pause.get("by").and_then(Value::as_str)?, NAME);
    let since = pause["since"].as_str().unwrap_or_default();
    Some(match pause["until"].as_str() {
        Some(until) => format!("by {by}, since {since}, until {until}"),
        None => format!("by {by}, since {since}, until it is resumed"),
    })
}

/// A slot; of one whose master does not answer what it does is not known.
fn slot(slot: &Value, is_of_now: bool) -> Slot {
    let name = text(&slot["slot"]);
    let cell = |what: &str, class, text: String| Cell { key: format!("{name}/{what}"), class, text };
    let now = |text: String, otherwise: &str| if is_of_now { text } else { otherwise.to_owned() };
    let tasks: Vec<String> = slot["tasks"].as_array().into_iter().flatten().map(task).collect();
    let memory = slot["rss_bytes"].as_f64().map_or_else(|| "-".to_owned(), words::bytes);
    let cells = vec![
        cell("state", "state", now(text(&slot["state"]), NOT_KNOWN)),
        cell("pid", "number", now(text(&slot["pid"]), "-")),
        cell("memory", "number", now(memory, "-")),
        cell("tasks", "lines", now(tasks.join("\n"), NOT_KNOWN)),
        cell("done", "number", words::count(&slot["done"])),
        cell("failed", "number", words::count(&slot["failed"])),
        cell("restarts", "number", words::count(&slot["restarts"])),
        cell("last_exit", "", text(&slot["last_exit"])),
    ];
    Slot { name, cells }
}

fn task(task: &Value) -> String {
    let age = task["age_seconds"].as_f64().unwrap_or(f64::NAN);
    let percent = task["progress"]["percent"].as_f64().map(|percent| format!(", {percent} %"));
    let note = task["progress"]["note"].as_str().filter(|note| !note.is_empty());
    let note = note.map(|note| format!(", {}", shown::line(note, NAME)));
    let progress = [percent, note].into_iter().flatten().collect::<String>();
    format!("{} attempt {} for {}{progress}", text(&task["id"]), text(&task["attempt"]), words::seconds(age))
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => shown::line(text, NAME),
        other => shown::line(&other.to_string(), NAME),
    }
}

/// What changes on this page.
pub(crate) fn numbers(_: &Page, snapshot: &Snapshot, name: &str) -> Numbers {
    let mut numbers = frame_numbers(snapshot);
    let queue = &snapshot.status["queues"][name];
    numbers.extend(facts(queue, snapshot, name).into_iter().map(|(key, text)| (key.to_owned(), text)));
    for told in queue["slots"].as_array().into_iter().flatten() {
        numbers.extend(slot(told, snapshot.is_of_now()).cells.into_iter().map(|cell| (cell.key, cell.text)));
    }
    numbers
}
