//! Schedules: when each fires next, when it fired last, and who fires them.

use std::sync::Arc;

use askama::Template;
use axum::{Extension, extract::State, http::StatusCode, response::Response};
use serde_json::Value;

use super::Frame;
use crate::dashboard::{access::visitor::Visitor, answer, page::Page};

#[derive(Template)]
#[template(path = "schedules.html", config = "src/dashboard/askama.toml")]
struct Schedules {
    frame: Frame,
    leader: &'static str,
    rows: Vec<Row>,
}

struct Row {
    id: String,
    target: String,
    queue: String,
    zone: String,
    next: Vec<String>,
    last: String,
}

pub(crate) async fn schedules(State(page): State<Arc<Page>>, Extension(visitor): Extension<Visitor>) -> Response {
    let snapshot = page.office.look();
    let told = &snapshot.schedules;
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let row = |schedule: &Value| Row {
        id: text(&schedule["id"]),
        target: text(&schedule["target"]),
        queue: text(&schedule["queue"]),
        zone: text(&schedule["zone"]),
        next: schedule["next"].as_array().into_iter().flatten().map(text).collect(),
        last: text(&schedule["last_at"]),
    };
    let view = Schedules {
        frame: Frame::new("Schedules", "/schedules", &visitor, &snapshot, "asynctask schedules"),
        leader: match told["leading"].as_bool() {
            Some(true) => "This master fires them.",
            Some(false) => "Another master fires them, or none does.",
            None => "Not known yet.",
        },
        rows: told["schedules"].as_array().into_iter().flatten().map(row).collect(),
    };
    answer::page(StatusCode::OK, &view)
}
