//! Dead letters: the queues that have some, and those of one queue, in groups of one mistake before the list.

use std::sync::Arc;

use askama::Template;
use axum::{
    Extension,
    extract::{Path, Query, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
use serde_json::json;

use super::{Frame, command::typed, encoded};
use crate::{
    clock::{Clock, Timestamp},
    dashboard::{
        access::visitor::Visitor,
        answer,
        dead_letters::{Looked, Trouble},
        office::Snapshot,
        page::Page,
        shown, words,
    },
    dead_letters::letter,
    transport::dead_page::{DeadFilter, DeadGroup, DeadPlace, DeadRow},
    units::rfc3339,
};

/// Letters on a page.
const ROWS: usize = 50;
/// Groups on a page; the list has the rest.
const GROUPS: usize = 50;
/// Bytes of a sentence in a table.
const SENTENCE: usize = 600;
/// Bytes of a name in a table.
const NAME: usize = 300;
/// An id that is longer stands in no address: the letter is found by its place.
const ID: usize = 300;

#[derive(Template)]
#[template(path = "failed.html", config = "src/dashboard/askama.toml")]
struct FailedPage {
    frame: Frame,
    trouble: Option<String>,
    queues: Vec<QueueRow>,
}

struct QueueRow {
    name: String,
    path: String,
    failed: String,
    /// They are counted together with those of others.
    is_shared: bool,
}

pub(crate) async fn failed(State(page): State<Arc<Page>>, Extension(visitor): Extension<Visitor>) -> Response {
    let snapshot = page.office.look();
    let frame = Frame::new("Dead letters", "/failed", &visitor, &snapshot, "asynctask queues");
    let (mut queues, trouble, status) = match page.dead_letters.counts().await {
        Ok(counts) => (counts.to_vec(), None, StatusCode::OK),
        // What was counted before is better than nothing.
        Err(trouble) => match page.dead_letters.last_counts() {
            Some((at, counts)) => {
                let as_of = ago(Clock::wall(), at);
                (counts.to_vec(), Some(format!("These are the numbers of {as_of}: {trouble}.")), StatusCode::OK)
            }
            None => (Vec::new(), Some(trouble.to_string()), trouble.status()),
        },
    };
    // Those that have some come first; else the order of the settings stays.
    queues.sort_by_key(|(_, depth)| depth.failed == 0);
    let row = |(queue, depth): &(crate::transport::DeadQueue, crate::transport::Depth)| QueueRow {
        name: shown::line(&queue.queue, NAME),
        path: format!("/failed/{}", encoded(&queue.queue)),
        failed: if depth.unknown { "-".to_owned() } else { words::number(depth.failed) },
        is_shared: depth.failed_shared,
    };
    answer::page(status, &FailedPage { frame, trouble, queues: queues.iter().map(row).collect() })
}

#[derive(Template)]
#[template(path = "failed_queue.html", config = "src/dashboard/askama.toml")]
struct FailedQueue {
    frame: Frame,
    trouble: Option<String>,
    note: Option<String>,
    as_of: Option<String>,
    reason: String,
    fingerprint: String,
    is_filtered: bool,
    groups: Vec<GroupRow>,
    more_groups: usize,
    rows: Vec<LetterRow>,
    /// The list from its beginning, if this is none.
    newest: Option<String>,
    older: Option<String>,
    path: String,
}

struct GroupRow {
    count: String,
    last_hour: String,
    last_day: String,
    first: String,
    last: String,
    sentence: String,
    path: String,
}

struct LetterRow {
    id: String,
    path: String,
    at: String,
    ago: String,
    sentence: String,
    attempts: u32,
    kind: String,
    step: String,
}

/// Which letters, and from where on.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct View {
    #[serde(default)]
    pub(crate) reason: String,
    #[serde(default)]
    pub(crate) fingerprint: String,
    #[serde(default)]
    pub(crate) after: String,
    #[serde(default)]
    pub(crate) limit: Option<u16>,
}

impl View {
    pub(crate) fn filter(&self) -> DeadFilter {
        let wanted = |text: &str| (!text.trim().is_empty()).then(|| text.trim().to_owned());
        DeadFilter {
            reason: wanted(&self.reason),
            fingerprint: wanted(&self.fingerprint).map(|hex| hex.to_ascii_lowercase()),
        }
    }

    /// The page's own state, with another place.
    fn query(&self, after: Option<DeadPlace>) -> String {
        let filter = self.filter();
        let after = after.map(place_text);
        let parts = [("reason", filter.reason), ("fingerprint", filter.fingerprint), ("after", after)];
        let parts = parts.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded(&value?))));
        parts.collect::<Vec<_>>().join("&")
    }
}

/// A place as it stands in an address.
pub(crate) fn place_text(place: DeadPlace) -> String {
    format!("{}.{}", place.died_at.0, place.number)
}

/// The place that a text of an address means; `None`: it means none.
pub(crate) fn read_place(text: &str) -> Option<DeadPlace> {
    let (died_at, number) = text.split_once('.')?;
    Some(DeadPlace { died_at: Timestamp(died_at.parse().ok()?), number: number.parse().ok()? })
}

/// How many dead letters the master says it has made for a queue.
pub(crate) fn deaths(snapshot: &Snapshot, queue: &str) -> Option<u64> {
    if snapshot.unreachable.is_some() {
        return None;
    }
    let dead = snapshot.counters["queues"][queue]["dead"].as_object()?;
    Some(dead.values().filter_map(serde_json::Value::as_u64).sum())
}

pub(crate) async fn queue(
    State(page): State<Arc<Page>>,
    Extension(visitor): Extension<Visitor>,
    Path(name): Path<String>,
    Query(view): Query<View>,
) -> Response {
    let snapshot = page.office.look();
    let filter = view.filter();
    let looked = look(&page, &snapshot, &name, &view, true).await;
    if looked.as_ref().err() == Some(&Trouble::NoQueue) {
        return answer::problem(StatusCode::NOT_FOUND, &Trouble::NoQueue.to_string());
    }
    let status = looked.as_ref().map_or_else(Trouble::status, |_| StatusCode::OK);
    let trouble = looked.as_ref().err().map(ToString::to_string);
    let Looked { groups, page: found, as_of, note } = looked.unwrap_or_default();
    let now = Clock::wall();
    let path = format!("/failed/{}", encoded(&name));
    let query = view.query(found.next);
    let template = FailedQueue {
        frame: Frame::new(&format!("Dead letters of {name}"), "/failed", &visitor, &snapshot, &command(&name, &filter)),
        trouble,
        note,
        as_of: as_of.map(|at| format!("{} ({})", rfc3339(at.0), ago(now, at))),
        is_filtered: filter != DeadFilter::default(),
        newest: (!view.after.is_empty()).then(|| format!("{path}?{}", view.query(None))),
        more_groups: groups.len().saturating_sub(GROUPS),
        groups: groups.iter().take(GROUPS).map(|group| group_row(&path, now, group)).collect(),
        rows: found.rows.iter().map(|row| letter_row(&path, now, &name, row)).collect(),
        older: found.next.map(|_| format!("{path}?{query}")),
        reason: filter.reason.unwrap_or_default(),
        fingerprint: filter.fingerprint.unwrap_or_default(),
        path,
    };
    answer::page(status, &template)
}

/// What a view of a queue is made of.
pub(crate) async fn look(
    page: &Page,
    snapshot: &Snapshot,
    name: &str,
    view: &View,
    wanted: bool,
) -> Result<Looked, Trouble> {
    let queue = page.dead_letters.queue(name).await?;
    let limit = view.limit.map_or(ROWS, usize::from);
    let part = (read_place(&view.after), if wanted { ROWS } else { limit });
    page.dead_letters.look(&queue, &view.filter(), part, wanted, deaths(snapshot, name)).await
}

fn command(queue: &str, filter: &DeadFilter) -> String {
    let options = [("reason", filter.reason.as_deref()), ("fingerprint", filter.fingerprint.as_deref())];
    typed("asynctask failed list", &options, &[queue])
}

/// How long ago a moment was.
pub(crate) fn ago(now: Timestamp, at: Timestamp) -> String {
    format!("{} ago", words::seconds(now.0.saturating_sub(at.0).max(0) as f64 / 1000.0))
}

fn group_row(path: &str, now: Timestamp, group: &DeadGroup) -> GroupRow {
    let how = words::cause(&json!({ "reason": group.reason }));
    let view = View { reason: group.reason.clone(), fingerprint: group.fingerprint.clone(), ..View::default() };
    GroupRow {
        count: words::number(group.count),
        last_hour: words::number(group.last_hour),
        last_day: words::number(group.last_day),
        first: ago(now, group.first),
        last: ago(now, group.last),
        sentence: sentence(&how, &group.error),
        path: format!("{path}?{}", view.query(None)),
    }
}

/// A cause with its error.
fn sentence(how: &str, error: &str) -> String {
    shown::line(&words::with_error(how, error), SENTENCE)
}

fn letter_row(path: &str, now: Timestamp, queue: &str, found: &DeadRow) -> LetterRow {
    let mut record = letter::row_of(queue, found);
    let failure = &found.failure;
    record["exit"] = json!(failure.exit);
    record["oom"] = json!(failure.oom);
    record["in_hand_seconds"] = json!(failure.in_hand_seconds);
    record["max_rss_bytes"] = json!(failure.max_rss_bytes);
    // It has a column of its own.
    record["attempts"] = serde_json::Value::Null;
    let died_at = found.place.died_at;
    LetterRow {
        id: shown::line(&found.id, NAME),
        path: letter_path(path, found),
        at: rfc3339(died_at.0),
        ago: ago(now, died_at),
        sentence: sentence(&words::cause(&record), &failure.error),
        attempts: failure.attempts,
        kind: shown::line(&failure.kind, NAME),
        step: match (&found.job, &found.step) {
            (Some(job), Some(step)) => shown::line(&format!("{job} / {step}"), NAME),
            _ => String::new(),
        },
    }
}

/// The address of a letter. A browser takes `.` and `..` out of a path, and a long id is too much for one.
fn letter_path(path: &str, found: &DeadRow) -> String {
    let at = place_text(found.place);
    match found.id.as_str() {
        "" | "." | ".." => format!("{path}/_?at={at}&by=place"),
        id if id.len() > ID => format!("{path}/_?at={at}&by=place"),
        id => format!("{path}/{}?at={at}", encoded(id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written_and_nothing_else_is_one() {
        for place in [(0, 0), (i64::MAX, i64::MIN), (-5, 7)] {
            let place = DeadPlace { died_at: Timestamp(place.0), number: place.1 };
            assert_eq!(read_place(&place_text(place)), Some(place));
        }
        for text in ["", ".", "1", "1.", "1.2.3", "9223372036854775808.0", "x.1"] {
            assert_eq!(read_place(text), None, "{text}");
        }
    }

    #[test]
    fn filters_stay_in_the_address() {
        let view = View { reason: " a&b ".to_owned(), fingerprint: "AB".to_owned(), ..View::default() };
        let place = DeadPlace { died_at: Timestamp(1), number: 2 };
        assert_eq!(view.query(Some(place)), "reason=a%26b&fingerprint=ab&after=1.2");
        assert_eq!(command("foo", &view.filter()), "asynctask failed list --reason 'a&b' --fingerprint ab foo");
    }
}
