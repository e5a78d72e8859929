//! The stream of numbers that change, one for each tab that is seen.
//!
//! A browser has six connections to one address, so a tab that is hidden closes its stream. What is told is made when the office knows
//! more, and only what is different: a slow reader is skipped, and holds up nobody. A stream ends with the session that it was asked in,
//! and after [`LONGEST`]: the browser asks again, and is admitted again or not.

use std::{
    convert::Infallible,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use axum::{
    Extension,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use tokio::sync::watch;

use super::{
    access::{secret::Hashed, visitor::Visitor},
    answer,
    live::{self, View},
    numbers::Numbers,
    office::Snapshot,
    page::Page,
};
use crate::clock::Instant;

/// How long a stream lasts.
const LONGEST: Duration = Duration::from_mins(10);
/// Streams at once; more are told to ask now and then.
const MOST: usize = 32;

struct Following {
    page: Arc<Page>,
    view: String,
    news: watch::Receiver<Arc<Snapshot>>,
    told: Numbers,
    /// Of who asked; `None`: they were let in without one.
    session: Option<Hashed>,
    until: Instant,
}

impl Following {
    /// Whether who asked may still look.
    fn is_let(&self) -> bool {
        let now = self.page.clock.now().at;
        let access = self.page.access.lock().unwrap_or_else(PoisonError::into_inner);
        now < self.until && self.session.as_ref().is_none_or(|session| access.sessions.is_open(now, session))
    }

    /// What is different, once something is.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            self.news.changed().await.ok()?;
            if !self.is_let() {
                return None;
            }
            let now = live::numbers(&self.page, &self.view);
            let news = difference(&self.told, &now);
            self.told = now;
            if let Ok(event) = Event::default().json_data(&news)
                && !news.is_empty()
            {
                return Some((Ok(event), self));
            }
        }
    }
}

/// What is to be told to who knows the numbers before; of what is not there any more nothing is left.
fn difference(before: &Numbers, now: &Numbers) -> Numbers {
    let gone = before.keys().filter(|key| !now.contains_key(*key)).map(|key| (key.clone(), String::new()));
    let other = now.iter().filter(|(key, text)| before.get(*key) != Some(text));
    other.map(|(key, text)| (key.clone(), text.clone())).chain(gone).collect()
}

impl Drop for Following {
    fn drop(&mut self) {
        self.page.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) async fn stream(
    State(page): State<Arc<Page>>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    Query(View { view }): Query<View>,
) -> Response {
    let now = page.clock.now().at;
    let session = headers.get(header::COOKIE).filter(|_| visitor.has_session).and_then(|cookies| {
        page.access.lock().unwrap_or_else(PoisonError::into_inner).session(now, cookies.to_str().ok()?)
    });
    let until = now + LONGEST;
    let is_room = page.streams.fetch_add(1, Ordering::Relaxed) < MOST;
    let news = page.office.watch();
    let following = Following { page, view, news, told: Numbers::new(), session, until };
    if !is_room {
        return answer::problem(StatusCode::SERVICE_UNAVAILABLE, "too many look on: ask /api/live instead");
    }
    let events = futures_util::stream::unfold(following, Following::next);
    Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_told_and_what_went_is_empty() {
        let numbers = |all: &[(&str, &str)]| {
            all.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect::<Numbers>()
        };
        let (before, now) =
            (numbers(&[("a", "1"), ("b", "2"), ("c", "3")]), numbers(&[("a", "1"), ("b", "4"), ("d", "5")]));
        assert_eq!(difference(&before, &now), numbers(&[("b", "4"), ("c", ""), ("d", "5")]));
        assert_eq!(difference(&now, &now), Numbers::new());
    }
}
