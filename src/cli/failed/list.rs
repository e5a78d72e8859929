//! `asynctask failed list`: a line for each dead letter, and counts by reason and error.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    collect::collect,
    letter::{cell, lines, row},
    selection::Condition,
};
use crate::{
    cli::{
        args::FailedList,
        output::{print, table},
    },
    config::Config,
    exit_code::{Code, Error},
    redact::redact,
    transport::Visit,
};

pub(super) fn run(config: &Config, verb: &FailedList) -> Result<Code, Error> {
    let limit = verb.limit;
    let condition = Condition::of(&verb.filter)?;
    let rows = collect(config, &verb.queue, move |letter, rows: &mut Vec<Value>| {
        if rows.len() >= limit {
            return Visit::Stop;
        }
        if condition.holds(letter) {
            rows.push(row(letter));
        }
        Visit::Keep
    })?;
    let counts = counts(&rows);
    match (verb.summary, verb.json) {
        (true, true) => print(&lines(counts.iter().map(Count::json)))?,
        (false, true) => print(&lines(&rows))?,
        (_, false) if rows.is_empty() => print(&format!("no dead letters of queue {}\n", redact(&verb.queue)))?,
        (summary, false) => {
            print(&table(&["COUNT", "REASON", "FINGERPRINT", "ERROR"], counts.iter().map(Count::cells).collect()))?;
            if !summary {
                let columns = ["id", "reason", "attempts", "failed_at", "error"];
                let in_line = |column, text: &str| if column == "id" { text.to_owned() } else { one_line(text) };
                let cells = |row: &Value| columns.map(|column| in_line(column, &cell(&row[column]))).to_vec();
                print("\n")?;
                let header = ["ID", "REASON", "ATTEMPTS", "FAILED AT", "ERROR"];
                print(&table(&header, rows.iter().map(cells).collect()))?;
            }
        }
    }
    Ok(Code::Ok)
}

/// A reason and an error, and how often.
struct Count {
    reason: String,
    fingerprint: String,
    error: String,
    times: u64,
}

impl Count {
    fn cells(&self) -> Vec<String> {
        vec![self.times.to_string(), self.reason.clone(), self.fingerprint.clone(), one_line(&self.error)]
    }

    fn json(&self) -> Value {
        let Self { reason, fingerprint, error, times } = self;
        json!({ "reason": reason, "fingerprint": fingerprint, "error": error, "count": times })
    }
}

/// Most frequent first.
fn counts(rows: &[Value]) -> Vec<Count> {
    let mut counts: BTreeMap<(String, String), Count> = BTreeMap::new();
    for row in rows {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let (reason, fingerprint) = (text("reason"), text("fingerprint"));
        let key = (reason.clone(), fingerprint.clone());
        let fresh = || Count { reason, fingerprint, error: text("error"), times: 0 };
        counts.entry(key).or_insert_with(fresh).times += 1;
    }
    let mut counts: Vec<Count> = counts.into_values().collect();
    counts.sort_by_key(|count| std::cmp::Reverse(count.times));
    counts
}

fn one_line(text: &str) -> String {
    let text = redact(text);
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() > 80 { line.chars().take(79).chain(['…']).collect() } else { line.to_owned() }
}
