//! The numbers of a page that change while somebody looks, by the keys under which they stand in it.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State},
};
use serde::Deserialize;

use super::{numbers::Numbers, page::Page, pages};

/// Of which page.
#[derive(Deserialize)]
pub(crate) struct View {
    /// Its path.
    #[serde(default)]
    pub(crate) view: String,
}

/// The numbers of the page at this path; of one without any: none.
pub(crate) fn numbers(page: &Page, view: &str) -> Numbers {
    let path = view.split('?').next().unwrap_or_default();
    let snapshot = page.office.look();
    match path.strip_prefix("/queues/") {
        Some(queue) => pages::queue::numbers(page, &snapshot, &pages::decoded(queue)),
        None if path == "/" => pages::overview::numbers(page, &snapshot),
        None => pages::frame_numbers(&snapshot),
    }
}

/// For scripts that cannot have the stream.
pub(crate) async fn live(State(page): State<Arc<Page>>, Query(View { view }): Query<View>) -> Json<Numbers> {
    Json(numbers(&page, &view))
}
