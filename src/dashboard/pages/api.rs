//! The same for programs: the shapes of `--json`.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::dead_letters::{View, look, place_text};
use crate::{
    clock::Clock,
    dashboard::{answer, office::Snapshot, page::Page},
    dead_letters::letter::row_of,
    schedule::shown::{Known, in_json},
    units::rfc3339,
};

pub(crate) async fn status(State(page): State<Arc<Page>>) -> Response {
    told(&page, |snapshot| &snapshot.status)
}

/// Of a master that does not answer, what `health` says in a shell is false, too.
pub(crate) async fn health(State(page): State<Arc<Page>>) -> Response {
    let snapshot = page.office.look();
    match untold(&snapshot, &snapshot.health) {
        Some(problem) => {
            let health = json!({ "healthy": false, "problems": [problem] });
            (StatusCode::SERVICE_UNAVAILABLE, Json(health)).into_response()
        }
        None => Json(&snapshot.health).into_response(),
    }
}

pub(crate) async fn counters(State(page): State<Arc<Page>>) -> Response {
    told(&page, |snapshot| &snapshot.counters)
}

/// What the master tells: a program does not take the last that is known of one that is gone for the present.
fn told(page: &Page, what: impl Fn(&Snapshot) -> &Value) -> Response {
    let snapshot = page.office.look();
    match untold(&snapshot, what(&snapshot)) {
        Some(problem) => answer::problem(StatusCode::SERVICE_UNAVAILABLE, &problem),
        None => Json(what(&snapshot)).into_response(),
    }
}

/// Why there is no answer.
fn untold(snapshot: &Snapshot, answer: &Value) -> Option<String> {
    let silent = snapshot.unreachable.as_ref().map(|error| format!("the master does not answer: {error}"));
    silent.or_else(|| answer.is_null().then(|| "the master has not told it yet".to_owned()))
}

/// As `asynctask schedules --json`: next moments of the page's own settings, past ones as far as this master tells them.
pub(crate) async fn schedules(State(page): State<Arc<Page>>) -> Json<Value> {
    let snapshot = page.office.look();
    let known = if snapshot.is_of_now() { Known::told(&snapshot.schedules) } else { Known::default() };
    Json(in_json(&page.application.name, &page.application.schedules, &known, Clock::wall()))
}

/// A page of a queue's dead letters, the newest first: each is an object of `asynctask failed list --json`.
pub(crate) async fn failed(
    State(page): State<Arc<Page>>,
    Path(queue): Path<String>,
    Query(view): Query<View>,
) -> Response {
    match look(&page, &page.office.look(), &queue, &view, false).await {
        Ok(looked) => {
            let rows: Vec<Value> = looked.page.rows.iter().map(|row| row_of(&queue, row)).collect();
            let next = looked.page.next.map(place_text);
            let as_of = looked.as_of.map(|at| rfc3339(at.0));
            Json(json!({ "queue": queue, "as_of": as_of, "note": looked.note, "next": next, "dead_letters": rows }))
                .into_response()
        }
        Err(trouble) => answer::problem(trouble.status(), &trouble.to_string()),
    }
}
