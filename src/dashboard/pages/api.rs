//! The same for programs: the shapes of `--json`.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde_json::Value;

use crate::dashboard::page::Page;

pub(crate) async fn status(State(page): State<Arc<Page>>) -> Json<Value> {
    Json(page.office.look().status.clone())
}

pub(crate) async fn health(State(page): State<Arc<Page>>) -> Json<Value> {
    Json(page.office.look().health.clone())
}

pub(crate) async fn counters(State(page): State<Arc<Page>>) -> Json<Value> {
    Json(page.office.look().counters.clone())
}
