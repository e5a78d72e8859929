//! The stream of numbers that change, one for each tab that is seen.
//!
//! A browser has six connections to one address, so a tab that is hidden closes its stream. What is told is made when the office knows
//! more, and only what is different: a slow reader is skipped, and holds up nobody.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use tokio::sync::watch;

use super::{
    answer,
    live::{self, View},
    numbers::Numbers,
    office::Snapshot,
    page::Page,
};

/// Streams at once; more are told to ask now and then.
const MOST: usize = 32;

struct Following {
    page: Arc<Page>,
    view: String,
    news: watch::Receiver<Arc<Snapshot>>,
    told: Numbers,
}

impl Following {
    /// What is different, once something is.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            self.news.changed().await.ok()?;
            let now = live::numbers(&self.page, &self.view);
            let news: Numbers = now
                .iter()
                .filter(|(key, text)| self.told.get(*key) != Some(text))
                .map(|(key, text)| (key.clone(), text.clone()))
                .collect();
            self.told = now;
            if let Ok(event) = Event::default().json_data(&news)
                && !news.is_empty()
            {
                return Some((Ok(event), self));
            }
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.page.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) async fn stream(State(page): State<Arc<Page>>, Query(View { view }): Query<View>) -> Response {
    let is_room = page.streams.fetch_add(1, Ordering::Relaxed) < MOST;
    let news = page.office.watch();
    let following = Following { page, view, news, told: Numbers::new() };
    if !is_room {
        return answer::problem(StatusCode::SERVICE_UNAVAILABLE, "too many look on: ask /api/live instead");
    }
    let events = futures_util::stream::unfold(following, Following::next);
    Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))).into_response()
}
