//! One dead letter: what ended it, in a sentence and in full, and what it was to do.

use std::sync::Arc;

use askama::Template;
use axum::{
    Extension,
    extract::{Path, Query, State},
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Frame,
    command::typed,
    dead_letters::{ago, read_place},
    encoded,
};
use crate::{
    clock::{Clock, Timestamp},
    dashboard::{
        access::visitor::Visitor,
        answer,
        dead_letters::{
            Trouble,
            payload::{self, Payload},
        },
        mask::Mask,
        page::Page,
        shown, words,
    },
    json_text::pretty,
    text,
    transport::{DeadLetter, dead_page::DeadKey},
    units::rfc3339,
};

/// Bytes of a payload that are shown.
const PAYLOAD: usize = 64 * 1024;
/// … as the page has them: together with all else it stays below 300 KiB.
const PAYLOAD_SHOWN: usize = 128 * 1024;
/// Bytes of a detail or an output.
pub(crate) const TEXT: usize = 36 * 1024;
/// Bytes of all headers, of an error, of a name.
const HEADERS: usize = 16 * 1024;
const ERROR: usize = 8 * 1024;
const NAME: usize = 1024;
/// Bytes of an error of a former end.
const FORMER: usize = 1500;

#[derive(Template)]
#[template(path = "letter.html", config = "src/dashboard/askama.toml")]
struct LetterPage {
    frame: Frame,
    sentence: String,
    error: String,
    detail: String,
    tail: String,
    facts: Vec<(String, String)>,
    history: Vec<FormerEnd>,
    headers: String,
    payload: Shown,
    back: String,
    group: String,
}

struct FormerEnd {
    at: String,
    reason: String,
    attempts: u32,
    error: String,
}

/// A payload in the page.
struct Shown {
    text: String,
    /// What it is, and how much of it there is.
    what: String,
    is_raw: bool,
    /// JSON, laid out.
    pretty: String,
    raw: String,
    download: Option<String>,
}

/// Which letter, and how it is shown.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Wanted {
    /// Its place in the list.
    #[serde(default)]
    at: String,
    /// `place`: the id in the path is none.
    #[serde(default)]
    by: String,
    /// `raw`: its bytes; else laid out.
    #[serde(default)]
    view: String,
}

impl Wanted {
    fn key(&self, id: &str) -> DeadKey {
        DeadKey { id: (self.by != "place").then(|| id.to_owned()), place: read_place(&self.at) }
    }

    fn query(&self, view: &str) -> String {
        let parts = [("at", self.at.as_str()), ("by", &self.by), ("view", view)];
        let parts = parts.iter().filter(|(_, value)| !value.is_empty());
        parts.map(|(name, value)| format!("{name}={}", encoded(value))).collect::<Vec<_>>().join("&")
    }
}

/// A letter, and the turn to show it.
type Found = (Arc<DeadLetter>, OwnedSemaphorePermit);

/// The letter that is asked for.
async fn find(page: &Page, queue: &str, id: &str, view: &Wanted) -> Result<Found, Response> {
    let refused = |trouble: Trouble| answer::problem(trouble.status(), &trouble.to_string());
    let turn = page.dead_letters.turn().await.map_err(refused)?;
    let queue = page.dead_letters.queue(queue).await.map_err(refused)?;
    let letter = page.dead_letters.letter(&queue, &view.key(id)).await.map_err(refused)?;
    letter.map(|letter| (letter, turn)).ok_or_else(|| {
        answer::problem(
            StatusCode::NOT_FOUND,
            "there is no such dead letter: it may have gone back to work, or was deleted, or its time was over",
        )
    })
}

/// Makes something of a letter beside the requests of others: there may be 16 MiB of it.
async fn made<T: Send + 'static>(
    (letter, turn): Found,
    mask: Mask,
    make: impl FnOnce(&DeadLetter, &Mask) -> T + Send + 'static,
) -> Result<T, Response> {
    let result = tokio::task::spawn_blocking(move || {
        let _its_turn = turn;
        make(&letter, &mask)
    })
    .await;
    result.map_err(|_| answer::problem(StatusCode::INTERNAL_SERVER_ERROR, "this dead letter cannot be shown"))
}

pub(crate) async fn letter(
    State(page): State<Arc<Page>>,
    Extension(visitor): Extension<Visitor>,
    Path((queue, id)): Path<(String, String)>,
    Query(view): Query<Wanted>,
) -> Response {
    let snapshot = page.office.look();
    let letter = match find(&page, &queue, &id, &view).await {
        Ok(letter) => letter,
        Err(refusal) => return refusal,
    };
    let path = format!("/failed/{}/{}", encoded(&queue), encoded(&id));
    let command = typed("asynctask failed show", &[], &[&queue, &letter.0.id]);
    let title = format!("Dead letter {}", shown::line(&letter.0.id, NAME));
    let frame = Frame::new(&title, "/failed", &visitor, &snapshot, &command);
    let template =
        made(letter, page.hide.clone(), move |letter, mask| template(frame, letter, mask, &view, &path)).await;
    template.map_or_else(|refusal| refusal, |template| answer::page(StatusCode::OK, &template))
}

fn template(frame: Frame, letter: &DeadLetter, mask: &Mask, view: &Wanted, path: &str) -> LetterPage {
    let now = Clock::wall();
    let failure = &letter.failure;
    let record = payload::facts(letter, mask);
    let headers = match record["headers"].as_object() {
        Some(headers) if !headers.is_empty() => pretty(&record["headers"].to_string(), HEADERS),
        _ => String::new(),
    };
    let former = |ending: &crate::task::Ending| FormerEnd {
        at: moment(now, ending.failed_at),
        reason: shown::line(&ending.reason, NAME),
        attempts: ending.attempts,
        error: shown::line(&ending.error, FORMER),
    };
    LetterPage {
        frame,
        sentence: sentence(&record, &failure.output_tail),
        error: shown::lines(&failure.error, ERROR),
        detail: shown::lines(&failure.detail, TEXT),
        tail: shown::lines(&failure.output_tail, TEXT),
        facts: facts(now, letter, &record),
        history: letter.history.iter().rev().map(former).collect(),
        headers: shown::lines(&headers, HEADERS),
        payload: payload(letter, mask, view, path),
        back: format!("/failed/{}", encoded(&letter.queue)),
        group: format!("reason={}&fingerprint={}", encoded(&letter.reason), letter.fingerprint()),
    }
}

/// What ended it, and what it said last.
fn sentence(record: &Value, tail: &str) -> String {
    words::cause(record) + &last_words(tail)
}

/// The last line of an output, to be put behind a cause.
pub(crate) fn last_words(tail: &str) -> String {
    let last = tail.lines().rev().find(|line| !line.trim().is_empty());
    last.map(|last| format!("; last words: {}", shown::line(last.trim(), NAME))).unwrap_or_default()
}

fn moment(now: Timestamp, at: Timestamp) -> String {
    format!("{} ({})", rfc3339(at.0), ago(now, at))
}

fn facts(now: Timestamp, letter: &DeadLetter, record: &Value) -> Vec<(String, String)> {
    let failure = &letter.failure;
    let said = |name: &str| match &record[name] {
        Value::Null => None,
        Value::String(text) => (!text.trim().is_empty()).then(|| shown::line(text, NAME)),
        value => Some(shown::line(&value.to_string(), NAME)),
    };
    let all = [
        ("Id", said("id")),
        ("Queue", said("queue")),
        ("Kind", said("kind")),
        ("Reason", said("reason")),
        ("Fingerprint", said("fingerprint")),
        ("Attempts", said("attempts")),
        ("Died", Some(moment(now, failure.failed_at))),
        ("First failed", letter.first_failed_at.map(|at| moment(now, at))),
        ("Ran", failure.in_hand_seconds.map(words::seconds)),
        ("Computed", failure.cpu_seconds.map(words::seconds)),
        ("Memory at most", failure.max_rss_bytes.map(|size| words::bytes(size as f64))),
        ("Exit", said("exit")),
        ("Host", said("host")),
        ("Process", said("pid")),
        ("Job", said("job")),
        ("Step", said("step")),
        ("Number in the step", said("index")),
    ];
    all.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?))).collect()
}

fn payload(letter: &DeadLetter, mask: &Mask, view: &Wanted, path: &str) -> Shown {
    let known = payload::payload(letter, mask);
    let is_json = matches!(known, Payload::Json(_));
    let is_raw = view.view == "raw" || !is_json;
    let saved = payload::bytes(letter, mask);
    let size = words::bytes(letter.body.len() as f64);
    let (shown, is_part) = match (&known, is_raw) {
        (Payload::Json(json), false) => {
            let laid_out = pretty(json, PAYLOAD);
            let (shown, is_part) = shown::bytes(laid_out.as_bytes(), PAYLOAD, PAYLOAD_SHOWN);
            (shown, is_part)
        }
        _ => shown::bytes(saved.as_deref().unwrap_or_default(), PAYLOAD, PAYLOAD_SHOWN),
    };
    let part = if is_part { ", of which this is the beginning" } else { "" };
    let what = match (&known, mask.is_empty()) {
        (Payload::Hidden, _) => format!("{size}, not shown: it is no JSON in which keys could be hidden"),
        (Payload::Json(_), true) => format!("JSON, {size}{part}"),
        (Payload::Json(_), false) => format!("JSON, {size} with what is hidden{part}"),
        (Payload::Bytes(_), _) => format!("no JSON, {size}{part}; what is no text stands as \\xNN"),
    };
    Shown {
        text: shown,
        what,
        is_raw,
        pretty: if is_json { format!("{path}?{}", view.query("")) } else { String::new() },
        raw: format!("{path}?{}", view.query("raw")),
        download: saved.is_some().then(|| format!("{path}/payload?{}", view.query(""))),
    }
}

/// The payload as a file.
pub(crate) async fn download(
    State(page): State<Arc<Page>>,
    Path((queue, id)): Path<(String, String)>,
    Query(view): Query<Wanted>,
) -> Response {
    let letter = match find(&page, &queue, &id, &view).await {
        Ok(letter) => letter,
        Err(refusal) => return refusal,
    };
    let name = format!("attachment; filename=\"{}\"", file_name(&letter.0.id));
    let bytes =
        made(letter, page.hide.clone(), |letter, mask| payload::bytes(letter, mask).map(std::borrow::Cow::into_owned));
    match bytes.await {
        Ok(Some(bytes)) => {
            let headers =
                [(header::CONTENT_TYPE, "application/octet-stream".to_owned()), (header::CONTENT_DISPOSITION, name)];
            sent(&page, headers, bytes)
        }
        Ok(None) => answer::problem(StatusCode::FORBIDDEN, "it is no JSON in which keys could be hidden"),
        Err(refusal) => refusal,
    }
}

/// An answer of which there may be many megabytes, if not too many are under way.
fn sent<const N: usize>(page: &Page, headers: [(HeaderName, String); N], bytes: Vec<u8>) -> Response {
    match page.large_answers.body(bytes) {
        Some((length, body)) => (headers, [(header::CONTENT_LENGTH, length)], body).into_response(),
        None => answer::problem(StatusCode::SERVICE_UNAVAILABLE, "too much is being sent: try again in a moment"),
    }
}

/// A name that every system takes for a file.
fn file_name(id: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || "-_".contains(letter) { letter } else { '_' };
    let name: String = text::cut(id, 64).chars().map(plain).collect();
    format!("{}.payload", if name.is_empty() { "letter" } else { &name })
}

/// All of a letter, as `asynctask failed show --json`.
pub(crate) async fn json(
    State(page): State<Arc<Page>>,
    Path((queue, id)): Path<(String, String)>,
    Query(view): Query<Wanted>,
) -> Response {
    let letter = match find(&page, &queue, &id, &view).await {
        Ok(letter) => letter,
        Err(refusal) => return refusal,
    };
    let text = made(letter, page.hide.clone(), |letter, mask| payload::whole(letter, mask) + "\n").await;
    let headers = [(header::CONTENT_TYPE, "application/json".to_owned())];
    text.map_or_else(|refusal| refusal, |text| sent(&page, headers, text.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_leads_nowhere() {
        assert_eq!(file_name("../a\"b\n<é>"), "___a_b____.payload");
        assert_eq!(file_name(""), "letter.payload");
        assert_eq!(file_name(&"x".repeat(1000)).len(), 64 + ".payload".len());
    }
}
