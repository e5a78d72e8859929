//! Which tasks a list shows: read from the query of an address, and written into one. Pure.

use serde::Deserialize;

use super::encoded;
use crate::{
    clock::Timestamp,
    dashboard::history::{Outcome, STEP, Wanted, step},
};

/// Bytes of a value, at most.
const LONGEST: usize = 256;

/// What a task has come to, as people call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    Finished,
    Error,
    Retried,
    Interrupted,
}

impl State {
    pub(crate) const ALL: [Self; 5] = [Self::Running, Self::Finished, Self::Error, Self::Retried, Self::Interrupted];

    /// In addresses.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Error => "error",
            Self::Retried => "retried",
            Self::Interrupted => "interrupted",
        }
    }

    /// For people.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Error => "in error",
            other => other.as_str(),
        }
    }

    /// The ends that it is made of.
    pub(crate) const fn outcomes(self) -> &'static [Outcome] {
        match self {
            Self::Running => &[],
            Self::Finished => &[Outcome::Done],
            Self::Error => &[Outcome::Dead],
            Self::Retried => &[Outcome::Retried],
            Self::Interrupted => &[Outcome::Snoozed, Outcome::Released],
        }
    }

    pub(crate) const fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::Finished,
            Outcome::Dead => Self::Error,
            Outcome::Retried => Self::Retried,
            Outcome::Snoozed | Outcome::Released => Self::Interrupted,
        }
    }
}

/// How far back a list goes: its word in addresses, for people, and in milliseconds.
pub(crate) const SPANS: [(&str, &str, i64); 4] = [
    ("15m", "15 minutes", 900_000),
    ("1h", "hour", 3_600_000),
    ("6h", "6 hours", 21_600_000),
    ("24h", "day", 86_400_000),
];

/// The query of an address, as it was typed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Query {
    state: String,
    queue: String,
    kind: String,
    node: String,
    last: String,
    from: String,
    to: String,
    text: String,
    before: String,
}

/// What it means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) state: Option<State>,
    pub(crate) queue: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) node: Option<String>,
    /// One of [`SPANS`], by its place.
    pub(crate) last: Option<usize>,
    pub(crate) from: Option<Timestamp>,
    pub(crate) to: Option<Timestamp>,
    pub(crate) text: Option<String>,
    /// The part of the list that begins behind this row.
    pub(crate) before: Option<i64>,
}

impl Filter {
    /// Reads a query.
    ///
    /// # Errors
    /// A value means nothing: a sentence that names it.
    pub(crate) fn read(query: &Query) -> Result<Self, String> {
        let all = [
            ("state", &query.state),
            ("queue", &query.queue),
            ("kind", &query.kind),
            ("node", &query.node),
            ("last", &query.last),
            ("from", &query.from),
            ("to", &query.to),
            ("text", &query.text),
            ("before", &query.before),
        ];
        if let Some((name, _)) = all.iter().find(|(_, value)| value.len() > LONGEST) {
            return Err(format!("{name}: it is longer than {LONGEST} bytes"));
        }
        let given = |value: &str| (!value.trim().is_empty()).then(|| value.trim().to_owned());
        let moment = |name: &str, value: &str| match given(value) {
            None => Ok(None),
            Some(value) => value
                .parse::<jiff::Timestamp>()
                .map(|at| Some(Timestamp(at.as_millisecond())))
                .map_err(|_| format!("{name}: no moment; as 2026-12-01T11:00:00Z")),
        };
        let state = given(&query.state).map(|word| {
            let state = State::ALL.into_iter().find(|state| state.as_str() == word);
            state.ok_or_else(|| format!("state: one of {}", State::ALL.map(State::as_str).join(", ")))
        });
        let last = given(&query.last).map(|word| {
            let span = SPANS.iter().position(|(name, ..)| *name == word);
            span.ok_or_else(|| format!("last: one of {}", SPANS.map(|(name, ..)| name).join(", ")))
        });
        let before =
            given(&query.before).map(|number| number.parse().map_err(|_| "before: the number of a row".to_owned()));
        Ok(Self {
            state: state.transpose()?,
            queue: given(&query.queue),
            kind: given(&query.kind),
            node: given(&query.node),
            last: last.transpose()?,
            from: moment("from", &query.from)?,
            to: moment("to", &query.to)?,
            text: given(&query.text),
            before: before.transpose()?,
        })
    }

    /// What is asked of the history at this moment; `None`: only what runs now.
    pub(crate) fn wanted(&self, now: Timestamp) -> Option<Wanted> {
        if self.state == Some(State::Running) {
            return None;
        }
        let since = self.last.map(|last| Timestamp(now.0.saturating_sub(SPANS[last].2)));
        Some(Wanted {
            outcomes: self.state.map(State::outcomes).unwrap_or_default().to_vec(),
            queue: self.queue.clone(),
            kind: self.kind.clone(),
            node: self.node.clone(),
            from: self.from.max(since).map(step),
            to: self.to.map(step),
            text: self.text.clone(),
        })
    }

    /// Whether what runs now is listed, too: it does on the first part of a list that ends now.
    pub(crate) fn has_running(&self) -> bool {
        matches!(self.state, None | Some(State::Running)) && self.before.is_none() && self.to.is_none()
    }

    /// Whether it is about a time.
    pub(crate) const fn is_timed(&self) -> bool {
        self.last.is_some() || self.from.is_some() || self.to.is_some()
    }

    /// The address of the list.
    pub(crate) fn address(&self) -> String {
        let moment = |at: Timestamp| jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().to_string();
        let pairs = [
            ("state", self.state.map(|state| state.as_str().to_owned())),
            ("queue", self.queue.clone()),
            ("kind", self.kind.clone()),
            ("node", self.node.clone()),
            ("last", self.last.map(|last| SPANS[last].0.to_owned())),
            ("from", self.from.map(moment)),
            ("to", self.to.map(moment)),
            ("text", self.text.clone()),
            ("before", self.before.map(|before| before.to_string())),
        ];
        let pairs: Vec<String> =
            pairs.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded(&value?)))).collect();
        if pairs.is_empty() { "/tasks".to_owned() } else { format!("/tasks?{}", pairs.join("&")) }
    }

    /// The values of the form's fields of times.
    pub(crate) fn times(&self) -> [String; 2] {
        let text = |at: Option<Timestamp>| {
            at.map(|at| jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().to_string()).unwrap_or_default()
        };
        [text(self.from), text(self.to)]
    }
}

/// A step in words.
pub(crate) fn step_in_words() -> String {
    format!("{} minutes", STEP / 60_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(pairs: &str) -> Query {
        serde_json::from_str(pairs).unwrap()
    }

    #[test]
    fn an_address_is_read_as_it_is_written() {
        let all = query(
            r#"{ "state": "error", "queue": "a/b?", "kind": "k", "node": "ü", "last": "6h", "from": "2026-12-01T10:00:00Z",
                 "to": "2026-12-01T11:00:00Z", "text": "50% &c", "before": "17" }"#,
        );
        let filter = Filter::read(&all).unwrap();
        assert_eq!(
            filter.address(),
            "/tasks?state=error&queue=a%2Fb%3F&kind=k&node=%C3%BC&last=6h&from=2026-12-01T10%3A00%3A00Z\
             &to=2026-12-01T11%3A00%3A00Z&text=50%25%20%26c&before=17"
        );
        let wanted = filter.wanted(Timestamp(1_796_122_800_000)).unwrap();
        assert_eq!((wanted.outcomes, wanted.from), (vec![Outcome::Dead], filter.from.map(step)));
        let last = Filter::read(&query(r#"{ "last": "1h", "from": "2026-11-01T10:00:00Z", "queue": " " }"#)).unwrap();
        let wanted = last.wanted(Timestamp(1_796_122_800_000)).unwrap();
        assert_eq!((wanted.from, wanted.queue), (Some(step(Timestamp(1_796_119_200_000))), None));
        assert_eq!(Filter::read(&Query::default()).unwrap().address(), "/tasks");
    }

    #[test]
    fn what_means_nothing_is_named() {
        for (pairs, problem) in [
            (r#"{ "state": "dead" }"#, "state: one of running, finished, error, retried, interrupted"),
            (r#"{ "last": "1y" }"#, "last: one of 15m, 1h, 6h, 24h"),
            (r#"{ "from": "yesterday" }"#, "from: no moment; as 2026-12-01T11:00:00Z"),
            (r#"{ "before": "99999999999999999999" }"#, "before: the number of a row"),
        ] {
            assert_eq!(Filter::read(&query(pairs)), Err(problem.to_owned()));
        }
        let long = Query { text: "x".repeat(10_000), ..Query::default() };
        assert_eq!(Filter::read(&long), Err("text: it is longer than 256 bytes".to_owned()));
    }

    #[test]
    fn every_end_has_a_state() {
        for outcome in Outcome::ALL {
            assert!(State::of(outcome).outcomes().contains(&outcome), "{outcome:?}");
        }
        assert_eq!(State::ALL.iter().map(|state| state.outcomes().len()).sum::<usize>(), Outcome::ALL.len());
        let filter = |state| Filter { state: Some(state), ..Filter::default() };
        assert!(filter(State::Running).has_running() && filter(State::Running).wanted(Timestamp(0)).is_none());
        assert!(!filter(State::Error).has_running());
    }
}
