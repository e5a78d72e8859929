//! Tasks: what runs now and what ended, in one list. What runs is what the master says at this moment; what ended is read from the
//! history, of which the list says how much it leaves out.

use std::sync::Arc;

use askama::Template;
use axum::{
    Extension, Json,
    extract::{Query, State as Shared},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

use super::{
    Frame, NAME,
    command::typed,
    ended::{self, Line, Share},
    filter::{self, Filter, SPANS, State},
};
use crate::{
    clock::Clock,
    dashboard::{
        access::visitor::Visitor,
        answer,
        history::{Limits, Listing, Outcome},
        office::Snapshot,
        page::Page,
        shown, words,
    },
};

/// Ends on a page.
const ROWS: usize = 50;
/// Ends in an answer to a program.
const API_ROWS: usize = 200;
/// Names to choose from.
const NAMES: usize = 200;

#[derive(Template)]
#[template(path = "tasks.html", config = "src/dashboard/askama.toml")]
struct Tasks {
    frame: Frame,
    states: Vec<Choice>,
    queues: Vec<Choice>,
    kinds: Vec<Choice>,
    nodes: Vec<Choice>,
    spans: Vec<Choice>,
    from: String,
    to: String,
    text: String,
    /// What is wrong, or must be known.
    notes: Vec<String>,
    /// What is listed, and of how much.
    summary: Vec<String>,
    left_out: Option<String>,
    lines: Vec<Line>,
    older: Option<String>,
    newest: Option<String>,
}

/// Something to choose in a form.
struct Choice {
    value: String,
    label: String,
    is_chosen: bool,
}

/// What a list is made of.
struct Found {
    listing: Option<Listing>,
    nodes: Vec<String>,
    notes: Vec<String>,
}

pub(crate) async fn tasks(
    Shared(page): Shared<Arc<Page>>,
    Extension(visitor): Extension<Visitor>,
    Query(query): Query<filter::Query>,
) -> Response {
    let filter = match Filter::read(&query) {
        Ok(filter) => filter,
        Err(problem) => return answer::problem(StatusCode::BAD_REQUEST, &problem),
    };
    let found = found(&page, &filter, ROWS).await;
    let snapshot = page.office.look();
    let running = ended::running(&snapshot);
    let (mut notes, mut summary, mut lines) = (found.notes, Vec::new(), Vec::new());
    if filter.has_running() {
        match &running {
            Some(all) => {
                let (count, shown) = ended::wanted(all, &filter, &snapshot);
                lines.extend(shown.iter().map(|task| task.line(&snapshot)));
                summary.push(match shown.len() {
                    shown if shown < count => format!("{shown} of {count} running now"),
                    _ => format!("{} running now", words::number(count as u64)),
                });
            }
            None => notes.push("What runs now is not known: the master does not answer.".to_owned()),
        }
    }
    let (mut left_out, mut older) = (None, None);
    if let Some(listing) = &found.listing {
        let shares = ended::shares(listing, &filter);
        summary.extend(shares.iter().map(|share| share.in_words()));
        left_out = words_left_out(&shares, &filter);
        lines.extend(listing.rows.iter().map(Line::of));
        older = listing.next.map(|next| Filter { before: Some(next), ..filter.clone() }.address());
    }
    let [from, to] = filter.times();
    let view = Tasks {
        frame: Frame::new("Tasks", "/tasks", &visitor, &snapshot, &command(&filter)),
        states: choices(State::ALL.map(|state| (state.as_str(), state.label())), filter.state.map(State::as_str)),
        queues: names(queues(&snapshot), filter.queue.as_deref()),
        kinds: names(kinds(&snapshot), filter.kind.as_deref()),
        nodes: names(found.nodes, filter.node.as_deref()),
        spans: choices(SPANS.map(|(word, label, _)| (word, label)), filter.last.map(|last| SPANS[last].0)),
        from,
        to,
        text: filter.text.clone().unwrap_or_default(),
        notes,
        summary,
        left_out,
        lines,
        older,
        newest: filter.before.is_some().then(|| Filter { before: None, ..filter.clone() }.address()),
    };
    answer::page(StatusCode::OK, &view)
}

/// The same for programs.
pub(crate) async fn api(Shared(page): Shared<Arc<Page>>, Query(query): Query<filter::Query>) -> Response {
    let filter = match Filter::read(&query) {
        Ok(filter) => filter,
        Err(problem) => return answer::problem(StatusCode::BAD_REQUEST, &problem),
    };
    let found = found(&page, &filter, API_ROWS).await;
    let snapshot = page.office.look();
    let all = ended::running(&snapshot);
    let running = all.as_ref().filter(|_| filter.has_running()).map(|all| {
        let shown = |task: &&ended::Running<'_>| {
            let mut shown = task.task.clone();
            shown["queue"] = task.queue.into();
            shown["kind"] = task.kind.into();
            shown["slot"] = task.slot.into();
            shown["pid"] = task.pid.into();
            shown
        };
        let (count, tasks) = ended::wanted(all, &filter, &snapshot);
        json!({ "count": count, "tasks": tasks.iter().map(shown).collect::<Vec<Value>>() })
    });
    let listing = found.listing.as_ref();
    let records = listing.map(|listing| {
        let record = |row: &crate::dashboard::history::Row| {
            let mut record = row.end.record();
            record["row"] = row.id.into();
            record["host"] = row.host.as_str().into();
            record
        };
        listing.rows.iter().map(record).collect::<Vec<Value>>()
    });
    let counts = listing.map(|listing| {
        let counts = Outcome::ALL.into_iter().map(|outcome| {
            let (listed, total) = (listing.listed[outcome as usize], listing.total[outcome as usize]);
            (outcome.as_str().to_owned(), json!({ "listed": listed, "left_out": total - listed, "total": total }))
        });
        counts.collect::<Map<String, Value>>()
    });
    Json(json!({
        "running": running,
        "records": records,
        "next": listing.and_then(|listing| listing.next),
        "counts": counts,
        "notes": found.notes,
    }))
    .into_response()
}

/// Asks the history, beside the thread that answers requests.
async fn found(page: &Arc<Page>, filter: &Filter, most: usize) -> Found {
    let history = Arc::clone(&page.history);
    let (wanted, before) = (filter.wanted(Clock::wall()), filter.before);
    let asked = tokio::task::spawn_blocking(move || {
        let mut notes = history.notes();
        let listing = wanted.map(|wanted| history.list(&wanted, before, most));
        let listing = match listing.transpose() {
            Ok(listing) => listing,
            Err(problem) => {
                notes.insert(0, problem);
                None
            }
        };
        Found { listing, nodes: history.nodes().unwrap_or_default(), notes }
    });
    let failed =
        || Found { listing: None, nodes: Vec::new(), notes: vec!["The history could not be read.".to_owned()] };
    asked.await.unwrap_or_else(|_| failed())
}

fn words_left_out(shares: &[Share], filter: &Filter) -> Option<String> {
    let left_out: u64 = shares.iter().map(|share| share.total - share.listed).sum();
    let rows = words::number(Limits::DEFAULT.rows);
    let timed = filter.is_timed().then(|| format!(" Times are in steps of {}.", filter::step_in_words()));
    let timed = timed.unwrap_or_default();
    if left_out == 0 {
        return filter.is_timed().then(|| timed.trim_start().to_owned());
    }
    let count = words::number(left_out);
    Some(if filter.text.is_some() {
        format!(
            "The text was looked for in what is listed: whether it stands in the others, {count}, is not known.{timed}"
        )
    } else {
        format!(
            "Left out: {count}. The master tells at most 100 ends and 500 failures of a queue in a second, {rows} of them are kept, and some may \
             not have been written: all are counted.{timed}"
        )
    })
}

/// The command that shows what is nearest to the list.
fn command(filter: &Filter) -> String {
    match filter.state {
        Some(State::Error) => typed("asynctask failed list", &[], &[filter.queue.as_deref().unwrap_or("QUEUE")]),
        _ => "asynctask status".to_owned(),
    }
}

fn choices<const N: usize>(all: [(&str, &str); N], chosen: Option<&str>) -> Vec<Choice> {
    let choice = |(value, label): (&str, &str)| Choice {
        value: value.to_owned(),
        label: label.to_owned(),
        is_chosen: chosen == Some(value),
    };
    all.into_iter().map(choice).collect()
}

/// The names there are, with the one that is asked for.
fn names(mut names: Vec<String>, chosen: Option<&str>) -> Vec<Choice> {
    names.truncate(NAMES);
    if let Some(chosen) = chosen
        && !names.iter().any(|name| name == chosen)
    {
        names.push(chosen.to_owned());
    }
    let choice = |name: String| Choice {
        is_chosen: chosen == Some(name.as_str()),
        label: shown::line(&name, NAME),
        value: name,
    };
    names.into_iter().map(choice).collect()
}

fn queues(snapshot: &Snapshot) -> Vec<String> {
    snapshot.status["queues"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

fn kinds(snapshot: &Snapshot) -> Vec<String> {
    let queues = snapshot.status["queues"].as_object().into_iter().flatten();
    let mut kinds: Vec<String> = queues.filter_map(|(_, queue)| queue["kind"].as_str().map(str::to_owned)).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// The last failures, for the first page: lines, how many there were, and what must be known.
pub(crate) async fn last_failures(page: &Arc<Page>, most: usize) -> (Vec<Line>, String, Vec<String>) {
    let history = Arc::clone(&page.history);
    let wanted =
        crate::dashboard::history::Wanted { outcomes: vec![Outcome::Retried, Outcome::Dead], ..Default::default() };
    let asked = tokio::task::spawn_blocking(move || (history.list(&wanted, None, most), history.notes()));
    let (listing, mut notes) =
        asked.await.unwrap_or_else(|_| (Err("The history could not be read.".to_owned()), Vec::new()));
    match listing {
        Ok(listing) => {
            let shares = ended::shares(&listing, &Filter::default());
            let words: Vec<String> = shares.iter().map(|share| share.in_words()).collect();
            (listing.rows.iter().map(Line::of).collect(), words.join(", "), notes)
        }
        Err(problem) => {
            notes.insert(0, problem);
            (Vec::new(), String::new(), notes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_said() {
        let share = |listed, total| Share { state: State::Finished, listed, total };
        assert_eq!(words_left_out(&[share(5, 5)], &Filter::default()), None);
        let words = words_left_out(&[share(5, 5), share(1, 1001)], &Filter::default()).unwrap();
        assert!(words.starts_with("Left out: 1\u{202f}000. ") && words.contains("100\u{202f}000 of them"), "{words}");
        let searched = Filter { text: Some("x".to_owned()), last: Some(1), ..Filter::default() };
        let words = words_left_out(&[share(0, 3)], &searched).unwrap();
        assert!(words.contains("the others, 3, is not known. Times are in steps of 5 minutes."), "{words}");
    }

    #[test]
    fn a_name_that_is_asked_for_is_among_those_to_choose_from() {
        let names = names((0..500).map(|number| number.to_string()).collect(), Some("mine"));
        assert_eq!(names.len(), NAMES + 1);
        assert!(names.last().is_some_and(|last| last.is_chosen && last.value == "mine"));
        for (queue, shown) in [("foo", "foo"), ("$(reboot)", "'$(reboot)'")] {
            let filter = Filter { state: Some(State::Error), queue: Some(queue.to_owned()), ..Filter::default() };
            assert_eq!(command(&filter), format!("asynctask failed list {shown}"));
        }
    }
}
