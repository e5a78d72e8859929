//! The first page: is all well, and if not, why; each queue in a line.

use std::sync::{Arc, PoisonError};

use askama::Template;
use axum::{Extension, extract::State, http::StatusCode, response::Response};
use serde_json::Value;

use super::{Cell, Frame, NAME, NOT_KNOWN, SENTENCE, chart, encoded, ended::Line, frame_numbers, queue::paused, tasks};
use crate::dashboard::{
    access::visitor::Visitor,
    answer,
    numbers::Numbers,
    office::Snapshot,
    page::Page,
    series::{FINE, Series},
    shown, words,
};

/// Fine steps that a rate is made of: half a minute.
const RATE: usize = 3;
/// Failures that are shown.
const FAILURES: usize = 5;
/// Points of a small chart.
const POINTS: usize = 60;

#[derive(Template)]
#[template(path = "overview.html", config = "src/dashboard/askama.toml")]
struct Overview {
    frame: Frame,
    master: String,
    queues: Vec<Row>,
    lines: Vec<Line>,
    failures: String,
    notes: Vec<String>,
}

/// A queue in a line: texts by the keys under which they change.
struct Row {
    name: String,
    path: String,
    kind: String,
    cells: Vec<Cell>,
    line: String,
}

pub(crate) async fn overview(State(page): State<Arc<Page>>, Extension(visitor): Extension<Visitor>) -> Response {
    let (lines, failures, notes) = tasks::last_failures(&page, FAILURES).await;
    let snapshot = page.office.look();
    let series = page.office.series.lock().unwrap_or_else(PoisonError::into_inner);
    let queues = snapshot.status["queues"].as_object().into_iter().flatten();
    let row = |(name, queue): (&String, &Value)| {
        let steps = series.steps(name, false).map(|step| step.done + step.failed);
        Row {
            name: shown::line(name, NAME),
            path: format!("/queues/{}", encoded(name)),
            kind: queue["kind"].as_str().unwrap_or_default().to_owned(),
            line: chart::line(&chart::grouped(steps, FINE.1, POINTS), 120.0, 24.0),
            cells: cells(name, queue, &snapshot, &series),
        }
    };
    let view = Overview {
        frame: Frame::new("Overview", "/", &visitor, &snapshot, "asynctask status"),
        master: master(&snapshot),
        queues: queues.map(row).collect(),
        lines,
        failures,
        notes,
    };
    answer::page(StatusCode::OK, &view)
}

fn master(snapshot: &Snapshot) -> String {
    if snapshot.status.is_null() {
        return "Nothing is known of the master yet.".to_owned();
    }
    let status = &snapshot.status;
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let up = status["uptime_seconds"].as_f64().unwrap_or(f64::NAN);
    let state = if snapshot.is_of_now() { text(&status["state"]) } else { NOT_KNOWN.to_owned() };
    let said = format!(
        "{}, process {} on {}, version {}, up {}, {}",
        state,
        status["pid"],
        text(&snapshot.counters["host"]),
        text(&status["version"]),
        words::seconds(up),
        text(&status["transport"]["uri"]),
    );
    shown::line(&said, SENTENCE)
}

fn cells(name: &str, queue: &Value, snapshot: &Snapshot, series: &Series) -> Vec<Cell> {
    let cell = |what: &str, class, text: String| Cell { key: format!("{name}/{what}"), class, text };
    let rate = series.done(name, RATE) as f64 / (RATE as f64 * FINE.0 as f64 / 1000.0);
    let times = series.times(name);
    let both = |buckets: &[u64]| {
        // Times are counted in buckets: what is known is that they were not longer.
        let within = |time| format!("≤ {}", words::seconds(time));
        let of = |share| series.quantile(buckets, share).map_or_else(|| "-".to_owned(), within);
        if buckets.iter().all(|count| *count == 0) { "-".to_owned() } else { format!("{} / {}", of(0.5), of(0.95)) }
    };
    let slots = &snapshot.counters["queues"][name]["slots"];
    let slots = slots.as_object().into_iter().flatten().filter(|(_, count)| count.as_u64() > Some(0));
    let slots: Vec<String> = slots.map(|(state, count)| format!("{count} {state}")).collect();
    let now = |text: String, otherwise: &str| if snapshot.is_of_now() { text } else { otherwise.to_owned() };
    let state = queue["state"].as_str().unwrap_or_default();
    let state = paused(queue).map_or_else(|| state.to_owned(), |paused| format!("{state} {paused}"));
    vec![
        cell("state", "state", now(state, NOT_KNOWN)),
        cell("rate", "number", now(words::rate(rate), "-")),
        cell("waited", "number", both(&times.waited)),
        cell("ran", "number", both(&times.ran)),
        cell("ready", "number", words::count(&queue["ready"])),
        cell("delayed", "number", words::count(&queue["delayed"])),
        cell("in_hand", "number", now(words::count(&queue["in_hand"]), "-")),
        cell("failed", "number", words::count(&queue["failed"])),
        cell("slots", "", now(slots.join(", "), NOT_KNOWN)),
    ]
}

/// What changes on this page.
pub(crate) fn numbers(page: &Page, snapshot: &Snapshot) -> Numbers {
    let series = page.office.series.lock().unwrap_or_else(PoisonError::into_inner);
    let mut numbers = frame_numbers(snapshot);
    numbers.insert("master".to_owned(), master(snapshot));
    for (name, queue) in snapshot.status["queues"].as_object().into_iter().flatten() {
        numbers.extend(cells(name, queue, snapshot, &series).into_iter().map(|cell| (cell.key, cell.text)));
    }
    numbers
}
