//! A task: its attempts over time, and what each came to.

use std::sync::Arc;

use askama::Template;
use axum::{
    Extension,
    extract::{Path, Query, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;

use super::{
    Frame, NAME,
    command::typed,
    dead_letter::{TEXT, last_words},
    encoded,
    ended::{self, Line, Running},
};
use crate::{
    clock::{Clock, Timestamp},
    dashboard::{
        access::visitor::Visitor,
        answer,
        history::{Outcome, Row},
        page::Page,
        shown, words,
    },
    text,
};

/// Bytes of an error that are shown.
const ERROR: usize = 512;
/// Bytes of an id in a title.
const TITLE: usize = 120;
/// The field of the drawing, and the height of an attempt in it.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 14.0;

#[derive(Template)]
#[template(path = "task.html", config = "src/dashboard/askama.toml")]
struct TaskPage {
    frame: Frame,
    id: String,
    notes: Vec<String>,
    /// How it stands, in a sentence.
    sentence: String,
    error: Option<String>,
    /// What the worker of the last attempt said last.
    tail: String,
    facts: Vec<(&'static str, String)>,
    links: Vec<(String, String)>,
    lines: Vec<Line>,
    missing: Option<String>,
    bars: Vec<Bar>,
    height: f64,
    drawing: String,
}

/// A part of the drawing.
#[derive(Debug, PartialEq)]
struct Bar {
    /// Of the style.
    class: &'static str,
    x: String,
    y: f64,
    width: String,
}

/// The id that the path cannot hold.
#[derive(Deserialize)]
pub(crate) struct Named {
    id: Option<String>,
}

pub(crate) async fn task(
    State(page): State<Arc<Page>>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    Query(named): Query<Named>,
) -> Response {
    let id = named.id.unwrap_or(id);
    let history = Arc::clone(&page.history);
    let asked = {
        let id = id.clone();
        tokio::task::spawn_blocking(move || (history.attempts(&id), history.notes()))
    };
    let (rows, mut notes) =
        asked.await.unwrap_or_else(|_| (Err("The history could not be read.".to_owned()), Vec::new()));
    let mut rows = rows.unwrap_or_else(|problem| {
        notes.insert(0, problem);
        Vec::new()
    });
    rows.reverse();
    let snapshot = page.office.look();
    let all = ended::running(&snapshot);
    if all.is_none() {
        notes.push("Whether it runs now is not known: the master does not answer.".to_owned());
    }
    let running = all.as_ref().and_then(|all| all.iter().find(|task| task.id == id));
    let last = rows.last();
    let queue = running.map(|task| task.queue).or(last.map(|row| row.end.queue.as_str()));
    let is_dead = running.is_none() && last.is_some_and(|row| row.end.outcome == Outcome::Dead);
    let tail = match queue.filter(|_| is_dead) {
        Some(queue) => page.dead_letters.last_output(queue, &id).await.unwrap_or_default(),
        None => String::new(),
    };
    let (bars, drawing) = drawing(&rows, running, Clock::wall());
    let lines: Vec<Line> = rows.iter().map(Line::of).chain(running.map(|task| task.line(&snapshot))).collect();
    let view = TaskPage {
        frame: Frame::new(
            &format!("Task {}", text::shorten(text::one_line(&id, TITLE), TITLE)),
            "/tasks",
            &visitor,
            &snapshot,
            &match queue.filter(|_| is_dead) {
                Some(queue) => typed("asynctask failed show", &[], &[queue, &id]),
                None => "asynctask status".to_owned(),
            },
        ),
        sentence: sentence(&rows, running, &tail),
        error: last
            .and_then(|row| row.end.error.as_deref())
            .map(|error| text::escape_lines(text::cut(error, ERROR)).into_owned()),
        facts: facts(&rows, running, ended::node(&snapshot)),
        tail: shown::lines(&tail, TEXT),
        links: links(queue, is_dead.then_some(&id)),
        missing: missing(&rows, running),
        height: HEIGHT * lines.len() as f64,
        lines,
        bars,
        drawing,
        notes,
        id: text::one_line(&id, ERROR),
    };
    let is_known = !view.lines.is_empty();
    answer::page(if is_known { StatusCode::OK } else { StatusCode::NOT_FOUND }, &view)
}

/// How it stands.
fn sentence(rows: &[Row], running: Option<&Running<'_>>, tail: &str) -> String {
    if let Some(task) = running {
        let progress = task.progress();
        let progress = if progress.is_empty() { progress } else { format!(": {progress}") };
        return format!("It runs for {} in {}{progress}.", words::seconds(task.age), shown::line(task.slot, NAME));
    }
    let Some(Row { end, .. }) = rows.last() else {
        return "Nothing is known of it here: it may wait for a worker, it ended before this page heard of it, or its end was left out."
            .to_owned();
    };
    let at = ended::moment(end.at);
    match end.outcome {
        Outcome::Done => format!("It was done at {at}, after {}.", words::seconds(end.ran)),
        Outcome::Snoozed => format!("Its worker put it off at {at}: it is due again later."),
        Outcome::Released => format!("It was given back at {at} before it came to an end: it is done again."),
        Outcome::Retried => format!("Its attempt failed at {at}, and it is tried again: {}.", cause(end)),
        Outcome::Dead => format!("It died at {at}: {}{}.", cause(end), last_words(tail)),
    }
}

fn cause(end: &crate::dashboard::history::End) -> String {
    let cause = words::cause(&end.record());
    if cause.is_empty() { "nothing is known of why".to_owned() } else { cause }
}

fn facts(rows: &[Row], running: Option<&Running<'_>>, node: &str) -> Vec<(&'static str, String)> {
    let last = rows.last();
    let end = last.map(|row| &row.end);
    let text = |value: Option<&str>| value.map(|value| text::one_line(value, ERROR));
    let own = |value: &str| (!value.is_empty()).then(|| shown::line(value, NAME));
    let all = [
        ("Queue", running.map(|task| task.queue).or(end.map(|end| end.queue.as_str())).and_then(own)),
        ("Kind", running.map(|task| task.kind).or(end.map(|end| end.kind.as_str())).and_then(own)),
        ("Worker", text(running.map(|task| task.slot).or(end.and_then(|end| end.slot.as_deref())))),
        (
            "Process",
            running.map_or(end.and_then(|end| end.pid.map(u64::from)), |task| task.pid).map(|pid| pid.to_string()),
        ),
        ("Node", running.map(|_| node).or(last.map(|row| row.host.as_str())).and_then(own)),
        ("Waited", end.filter(|_| running.is_none()).and_then(|end| end.waited).map(words::seconds)),
        ("Ran", Some(running.map(|task| task.age).or(end.map(|end| end.ran))).flatten().map(words::seconds)),
        ("Reason", text(end.and_then(|end| end.cause["reason"].as_str()))),
        ("Fingerprint", text(end.and_then(|end| end.cause["fingerprint"].as_str()))),
    ];
    all.into_iter().filter_map(|(name, text)| Some((name, text?))).collect()
}

fn links(queue: Option<&str>, dead: Option<&String>) -> Vec<(String, String)> {
    let Some(queue) = queue else { return Vec::new() };
    let letter = dead.map(|id| {
        let path = format!("/failed/{}/{}", encoded(queue), encoded(id));
        ("Its dead letter: payload, output, history".to_owned(), path)
    });
    let own = [
        (format!("Queue {}", shown::line(queue, NAME)), format!("/queues/{}", encoded(queue))),
        ("Other tasks of the queue".to_owned(), format!("/tasks?queue={}", encoded(queue))),
    ];
    letter.into_iter().chain(own).collect()
}

/// Attempts that must have been, and are not listed.
fn missing(rows: &[Row], running: Option<&Running<'_>>) -> Option<String> {
    let attempts =
        rows.iter().filter(|row| row.end.outcome != Outcome::Snoozed && row.end.outcome != Outcome::Released);
    let listed: Vec<u64> = attempts.map(|row| row.end.attempt.into()).collect();
    let now = running.and_then(|task| task.attempt);
    let last = listed.iter().copied().max().into_iter().chain(now).max()?;
    let known = |attempt: &u64| listed.contains(attempt) || now == Some(*attempt);
    // A task that is put back to work counts from 1 again: then this says less than there was.
    let missing: Vec<u64> = (1..=last.min(1000)).filter(|attempt| !known(attempt)).collect();
    let (first, others) = missing.split_first()?;
    Some(match others.last() {
        None => format!("Attempt {first} is not listed: this page did not hear of it, or it is too long ago."),
        Some(last) => format!(
            "{} attempts between {first} and {last} are not listed: this page did not hear of them, or it is too long ago.",
            missing.len()
        ),
    })
}

/// Attempts over time, one below the other: how long each waited, and how long it ran.
fn drawing(rows: &[Row], running: Option<&Running<'_>>, now: Timestamp) -> (Vec<Bar>, String) {
    let span = |at: Timestamp, waited: f64, ran: f64| {
        let bounded = |time: f64| if time.is_finite() { time.clamp(0.0, 1e9) } else { 0.0 };
        let (end, ran) = (at.0 as f64 / 1000.0, bounded(ran));
        (end - ran - bounded(waited), end - ran, end)
    };
    let mut spans: Vec<_> = rows
        .iter()
        .map(|row| {
            let class = super::filter::State::of(row.end.outcome).as_str();
            (span(row.end.at, row.end.waited.unwrap_or_default(), row.end.ran), class)
        })
        .collect();
    spans.extend(running.map(|task| (span(now, 0.0, task.age), "running")));
    let first = spans.iter().map(|((due, ..), _)| *due).fold(f64::INFINITY, f64::min);
    let last = spans.iter().map(|((.., end), _)| *end).fold(f64::NEG_INFINITY, f64::max);
    let whole = (last - first).max(0.001);
    let mut bars = Vec::new();
    for (place, ((due, begun, end), class)) in spans.iter().enumerate() {
        let y = place as f64 * HEIGHT + 2.0;
        let scaled = |from: f64, to: f64| {
            let (x, width) = ((from - first) / whole * WIDTH, ((to - from) / whole * WIDTH).max(1.0));
            (format!("{:.1}", x.min(WIDTH - width)), format!("{width:.1}"))
        };
        if begun > due {
            let (x, width) = scaled(*due, *begun);
            bars.push(Bar { class: "waited", x, y, width });
        }
        let (x, width) = scaled(*begun, *end);
        bars.push(Bar { class, x, y, width });
    }
    let text = if spans.is_empty() {
        String::new()
    } else {
        format!("{} within {}", crate::plural::counted(spans.len() as u64, "attempt"), words::seconds(whole))
    };
    (bars, text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dashboard::history::End;

    fn row(number: u32, outcome: Outcome, at: i64) -> Row {
        let end = End {
            number: 0,
            at: Timestamp(at),
            queue: "q".to_owned(),
            kind: "k".to_owned(),
            slot: Some("q[1]".to_owned()),
            pid: Some(7),
            id: "a".to_owned(),
            attempt: number,
            outcome,
            waited: Some(1.0),
            ran: 2.0,
            error: outcome.is_failure().then(|| "bad".to_owned()),
            cause: if outcome.is_failure() {
                json!({ "reason": "crash", "exit": { "signal": "SIGSEGV" } })
            } else {
                json!(null)
            },
        };
        Row { id: at, host: "a".to_owned(), end }
    }

    #[test]
    fn how_it_stands_is_a_sentence() {
        assert_eq!(
            sentence(&[row(1, Outcome::Retried, 0), row(2, Outcome::Dead, 10_000)], None, "x\n\nlast \n\n"),
            "It died at 1970-01-01 00:00:10Z: killed by SIGSEGV after 2.0 s, attempt 2; last words: last."
        );
        assert!(sentence(&[row(1, Outcome::Done, 0)], None, "").starts_with("It was done at"));
        assert!(sentence(&[], None, "").starts_with("Nothing is known of it here"));
        let task = json!({ "progress": { "percent": 40, "note": "half" } });
        let running = Running {
            queue: "q",
            kind: "k",
            slot: "q[1]",
            pid: None,
            id: "a",
            attempt: Some(3),
            age: 5.0,
            task: &task,
        };
        assert_eq!(sentence(&[row(1, Outcome::Dead, 0)], Some(&running), ""), "It runs for 5.0 s in q[1]: 40 % half.");
        assert_eq!(
            missing(&[row(1, Outcome::Retried, 0)], Some(&running)).map(|text| text[..23].to_owned()).as_deref(),
            Some("Attempt 2 is not listed")
        );
    }

    #[test]
    fn attempts_that_are_not_listed_are_said() {
        assert_eq!(missing(&[row(1, Outcome::Retried, 0), row(2, Outcome::Done, 1)], None), None);
        assert!(missing(&[row(5, Outcome::Done, 1)], None).unwrap().starts_with("4 attempts between 1 and 4 are not"));
        assert_eq!(missing(&[row(4, Outcome::Released, 1)], None), None);
        assert!(missing(&[row(u32::MAX, Outcome::Done, 1)], None).unwrap().starts_with("1000 attempts"));
    }

    #[test]
    fn attempts_are_drawn_within_their_field() {
        let rows = [row(1, Outcome::Retried, 3000), row(2, Outcome::Dead, 9000)];
        let (bars, text) = drawing(&rows, None, Timestamp(0));
        let shown: Vec<_> = bars.iter().map(|bar| (bar.class, bar.x.as_str(), bar.width.as_str())).collect();
        assert_eq!(
            shown,
            [
                ("waited", "0.0", "66.7"),
                ("retried", "66.7", "133.3"),
                ("waited", "400.0", "66.7"),
                ("error", "466.7", "133.3")
            ]
        );
        assert_eq!(text, "2 attempts within 9.0 s");
        let mut odd = row(1, Outcome::Done, i64::MAX);
        (odd.end.waited, odd.end.ran) = (Some(f64::NAN), f64::INFINITY);
        let (bars, _) = drawing(&[odd, row(2, Outcome::Done, i64::MIN)], None, Timestamp(0));
        for bar in bars {
            let (x, width): (f64, f64) = (bar.x.parse().unwrap(), bar.width.parse().unwrap());
            assert!(x >= 0.0 && x + width <= WIDTH + 0.1, "{bar:?}");
        }
        assert_eq!(drawing(&[], None, Timestamp(0)), (Vec::new(), String::new()));
    }
}
