//! An attempt at a task in a line: one that has ended, or one that runs. Pure.

use serde_json::Value;

use super::{
    NAME, encoded,
    filter::{Filter, State},
};
use crate::{
    clock::Timestamp,
    dashboard::{
        history::{End, Listing, Outcome, Row},
        office::Snapshot,
        shown, words,
    },
    text,
};

/// Bytes of an error in a line.
const ERROR: usize = 200;
/// Bytes of an id in a line.
const ID: usize = 80;
/// Tasks that run which are shown, at most.
const RUNNING: usize = 50;

/// A line.
pub(crate) struct Line {
    /// A moment, or for how long.
    pub(crate) when: String,
    /// For programs, if it is a moment.
    pub(crate) moment: Option<String>,
    /// Also a class of the style.
    pub(crate) state: &'static str,
    pub(crate) label: &'static str,
    pub(crate) id: String,
    pub(crate) path: String,
    pub(crate) queue: String,
    pub(crate) queue_path: String,
    pub(crate) kind: String,
    pub(crate) node: String,
    pub(crate) attempt: String,
    pub(crate) waited: String,
    pub(crate) ran: String,
    pub(crate) what: String,
}

impl Line {
    pub(crate) fn of(row: &Row) -> Self {
        let end = &row.end;
        let state = State::of(end.outcome);
        Self {
            when: moment(end.at),
            moment: Some(end.at).map(|at| jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().to_string()),
            state: state.as_str(),
            label: state.label(),
            id: shown(&end.id),
            path: path(&end.id),
            queue: shown::line(&end.queue, NAME),
            queue_path: format!("/queues/{}", encoded(&end.queue)),
            kind: end.kind.clone(),
            node: row.host.clone(),
            attempt: if end.attempt == 0 { "-".to_owned() } else { end.attempt.to_string() },
            waited: end.waited.map_or_else(|| "-".to_owned(), words::seconds),
            ran: words::seconds(end.ran),
            what: what(end),
        }
    }
}

/// What became of it, in a sentence.
pub(crate) fn what(end: &End) -> String {
    match end.outcome {
        Outcome::Done => String::new(),
        Outcome::Snoozed => "put off by its worker".to_owned(),
        Outcome::Released => "given back before it came to an end".to_owned(),
        Outcome::Retried | Outcome::Dead => {
            let cause = words::cause(&end.record());
            let error = text::one_line(text::first_line(end.error.as_deref().unwrap_or_default()), ERROR);
            words::with_error(&cause, &error)
        }
    }
}

/// A moment for people: to the second, in UTC.
pub(crate) fn moment(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// An id in a line.
pub(crate) fn shown(id: &str) -> String {
    text::shorten(text::one_line(id, ID), ID)
}

/// The address of a task. A browser takes `.` and `..` out of a path.
pub(crate) fn path(id: &str) -> String {
    match id {
        "" | "." | ".." => format!("/tasks/_?id={}", encoded(id)),
        id => format!("/tasks/{}", encoded(id)),
    }
}

/// A task in a worker's hands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Running<'a> {
    pub(crate) queue: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) slot: &'a str,
    pub(crate) pid: Option<u64>,
    pub(crate) id: &'a str,
    pub(crate) attempt: Option<u64>,
    /// In seconds.
    pub(crate) age: f64,
    pub(crate) task: &'a Value,
}

impl Running<'_> {
    pub(crate) fn line(&self, snapshot: &Snapshot) -> Line {
        Line {
            when: format!("for {}", words::seconds(self.age)),
            moment: None,
            state: State::Running.as_str(),
            label: State::Running.label(),
            id: shown(self.id),
            path: path(self.id),
            queue: shown::line(self.queue, NAME),
            queue_path: format!("/queues/{}", encoded(self.queue)),
            kind: self.kind.to_owned(),
            node: node(snapshot).to_owned(),
            attempt: self.attempt.map_or_else(|| "-".to_owned(), |attempt| attempt.to_string()),
            waited: "-".to_owned(),
            ran: words::seconds(self.age),
            what: [format!("in the hands of {}", shown::line(self.slot, NAME)), self.progress()]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join(", "),
        }
    }

    /// How far it says it is.
    pub(crate) fn progress(&self) -> String {
        let progress = &self.task["progress"];
        let percent = progress["percent"].as_f64().map(|percent| format!("{percent} %"));
        let note = progress["note"].as_str().map(|note| text::one_line(note, ERROR));
        [percent, note].into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

/// The host of the master.
pub(crate) fn node(snapshot: &Snapshot) -> &str {
    snapshot.counters["host"].as_str().unwrap_or_default()
}

/// What runs now, as the master says: nothing is known of it while that does not answer, and no file is asked.
pub(crate) fn running(snapshot: &Snapshot) -> Option<Vec<Running<'_>>> {
    if snapshot.unreachable.is_some() || snapshot.status.is_null() {
        return None;
    }
    let mut all = Vec::new();
    for (queue, told) in snapshot.status["queues"].as_object().into_iter().flatten() {
        for slot in told["slots"].as_array().into_iter().flatten() {
            all.extend(slot["tasks"].as_array().into_iter().flatten().map(|task| Running {
                queue,
                kind: told["kind"].as_str().unwrap_or_default(),
                slot: slot["slot"].as_str().unwrap_or_default(),
                pid: slot["pid"].as_u64(),
                id: task["id"].as_str().unwrap_or_default(),
                attempt: task["attempt"].as_u64(),
                age: task["age_seconds"].as_f64().unwrap_or(f64::NAN),
                task,
            }));
        }
    }
    Some(all)
}

/// Those of what runs that a filter asks for: how many, and the first of them.
pub(crate) fn wanted<'a>(
    all: &'a [Running<'a>],
    filter: &Filter,
    snapshot: &Snapshot,
) -> (usize, Vec<&'a Running<'a>>) {
    let is_or_any = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|wanted| wanted == is);
    let holds = |task: &&Running<'_>| {
        let text = filter.text.as_ref().map(|text| text.to_ascii_lowercase());
        is_or_any(&filter.queue, task.queue)
            && is_or_any(&filter.kind, task.kind)
            && is_or_any(&filter.node, node(snapshot))
            && text.is_none_or(|text| task.id.to_ascii_lowercase().contains(&text))
    };
    let wanted: Vec<&Running<'_>> = all.iter().filter(holds).collect();
    (wanted.len(), wanted.into_iter().take(RUNNING).collect())
}

/// How much of what there is a list shows: a part for each state.
pub(crate) fn shares(listing: &Listing, filter: &Filter) -> Vec<Share> {
    let states = State::ALL.into_iter().filter(|state| !state.outcomes().is_empty());
    states
        .filter(|state| filter.state.is_none_or(|wanted| wanted == *state))
        .map(|state| {
            let sum = |counts: &[u64; 5]| state.outcomes().iter().map(|outcome| counts[*outcome as usize]).sum();
            Share { state, listed: sum(&listing.listed), total: sum(&listing.total) }
        })
        .filter(|share| share.total > 0 || filter.state.is_some())
        .collect()
}

/// How many of all ends of a state are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) state: State,
    pub(crate) listed: u64,
    pub(crate) total: u64,
}

impl Share {
    pub(crate) fn in_words(self) -> String {
        let label = self.state.label();
        match (self.listed, self.total) {
            (_, 0) => format!("none {label}"),
            (1, 1) => format!("the only one {label}"),
            (listed, total) if listed == total => format!("all {} {label}", words::number(total)),
            (listed, total) => format!("{} of {} {label}", words::number(listed), words::number(total)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn snapshot() -> Snapshot {
        Snapshot {
            counters: json!({ "host": "a" }),
            status: json!({ "queues": { "q": { "kind": "k", "slots": [
                { "slot": "q[1]", "pid": 7, "tasks": [{ "id": "one", "attempt": 2, "age_seconds": 3.0, "progress": { "percent": 5, "note": "x" } }] },
                { "slot": "q[2]", "pid": 8, "tasks": [] },
                { "slot": "q[3]", "pid": 9, "tasks": [{ "id": "two" }] },
            ] } } }),
            ..Snapshot::default()
        }
    }

    #[test]
    fn what_runs_is_what_the_master_says_while_it_answers() {
        let known = snapshot();
        let all = running(&known).unwrap();
        assert_eq!(all.iter().map(|task| task.id).collect::<Vec<_>>(), ["one", "two"]);
        let line = all[0].line(&known);
        assert_eq!(
            (line.attempt.as_str(), line.when.as_str(), line.what.as_str()),
            ("2", "for 3.0 s", "in the hands of q[1], 5 % x")
        );
        let count = |filter: Filter| wanted(&all, &filter, &known).0;
        assert_eq!(count(Filter { text: Some("ON".to_owned()), ..Filter::default() }), 1);
        assert_eq!(count(Filter { node: Some("b".to_owned()), ..Filter::default() }), 0);
        assert_eq!(count(Filter { kind: Some("k".to_owned()), ..Filter::default() }), 2);
        let silent = Snapshot { unreachable: Some("gone".to_owned()), ..snapshot() };
        assert_eq!((running(&silent), running(&Snapshot::default())), (None, None));
    }

    #[test]
    fn a_list_says_how_much_of_all_it_is() {
        let listing = Listing { listed: [4100, 0, 0, 1, 37], total: [1_207_331, 0, 0, 1, 37], ..Listing::default() };
        let words = |filter: &Filter| shares(&listing, filter).into_iter().map(Share::in_words).collect::<Vec<_>>();
        assert_eq!(
            words(&Filter::default()),
            ["4\u{202f}100 of 1\u{202f}207\u{202f}331 finished", "all 37 in error", "the only one retried"]
        );
        let interrupted = Filter { state: Some(State::Interrupted), ..Filter::default() };
        assert_eq!(words(&interrupted), ["none interrupted"]);
    }

    #[test]
    fn an_id_that_a_path_cannot_hold_stands_behind_it() {
        assert_eq!([path("a/b"), path(".."), path("")], ["/tasks/a%2Fb", "/tasks/_?id=..", "/tasks/_?id="]);
    }

    #[test]
    fn hostile_texts_are_short_lines() {
        let end = End {
            number: 1,
            at: Timestamp(0),
            queue: "q".to_owned(),
            kind: "k".to_owned(),
            slot: None,
            pid: None,
            id: "\u{202e}<script>\n".repeat(40),
            attempt: 1,
            outcome: Outcome::Dead,
            waited: None,
            ran: f64::NAN,
            error: Some("\u{0}\u{202e}bad ".repeat(1000)),
            cause: json!({ "reason": "error" }),
        };
        let line = Line::of(&Row { id: 1, host: "a".to_owned(), end });
        assert!(line.id.len() < 200 && !line.id.contains(['\n', '\u{202e}']), "{}", line.id);
        assert!(line.what.len() < 400 && !line.what.contains(['\u{0}', '\u{202e}']), "{}", line.what);
        assert_eq!((line.ran.as_str(), line.when.as_str()), ("-", "1970-01-01 00:00:00Z"));
    }
}
