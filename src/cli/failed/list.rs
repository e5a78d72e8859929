//! `asynctask failed list`: a line for each dead letter, and counts by reason and error.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{collect::collect, selection};
use crate::{
    cli::{
        failed_args::FailedList,
        job_names::named,
        output::{LAST_LINES, print, print_error, table},
        waiting::WaitingClient,
    },
    config::Config,
    dead_letters::{
        condition::Condition,
        letter::{cell, lines, row},
    },
    exit_code::{Code, Error},
    jobs::ledger::queues_of,
    redact::redact,
    transport::{self, Visit},
};

pub(super) fn run(config: &Config, verb: &FailedList) -> Result<Code, Error> {
    let condition = selection::condition(&verb.filter)?;
    // One more than is shown, which tells whether that is all.
    let most = verb.limit.saturating_add(1);
    let (mut rows, of) = match (&verb.queue, &verb.filter.job) {
        (None, Some(job)) => {
            let mut client = WaitingClient::open(config, transport::CLIENT_PATIENCE)?;
            let record = named(&mut client, config, job)?;
            drop(client);
            let condition = condition.of_job(&record.id);
            let mut rows = Vec::new();
            for queue in queues_of(&record) {
                rows.append(&mut rows_of(config, &queue, condition.clone(), most - rows.len())?);
            }
            // Oldest first, as in each of them.
            rows.sort_by(|one, other| one["failed_at"].as_str().cmp(&other["failed_at"].as_str()));
            (rows, format!("job {}", record.id))
        }
        (queue, _) => {
            // The arguments have one or the other.
            let queue = queue.as_deref().unwrap_or_default();
            (rows_of(config, queue, condition, most)?, format!("queue {queue}"))
        }
    };
    let has_more = rows.len() > verb.limit;
    rows.truncate(verb.limit);
    let counts = counts(&rows);
    match (verb.summary, verb.json) {
        (true, true) => print(&lines(counts.iter().map(Count::json)))?,
        (false, true) => print(&lines(&rows))?,
        (_, false) if rows.is_empty() => print(&format!("no dead letters of {}\n", redact(&of)))?,
        (summary, false) => {
            print(&table(&["COUNT", "REASON", "FINGERPRINT", "ERROR"], counts.iter().map(Count::cells).collect()))?;
            if !summary {
                let is_of_jobs = rows.iter().any(|row| row.get("job").is_some());
                let columns = [
                    ("id", "ID", true),
                    ("queue", "QUEUE", verb.queue.is_none()),
                    ("job", "JOB", is_of_jobs && verb.filter.job.is_none()),
                    ("step", "STEP", is_of_jobs),
                    ("index", "INDEX", is_of_jobs),
                    ("reason", "REASON", true),
                    ("attempts", "ATTEMPTS", true),
                    ("failed_at", "FAILED AT", true),
                    ("error", "ERROR", true),
                ];
                let columns = columns.into_iter().filter(|(.., is_shown)| *is_shown).collect::<Vec<_>>();
                let in_line = |name, text: &str| if name == "id" { text.to_owned() } else { one_line(text) };
                let cells = |row: &Value| columns.iter().map(|(name, ..)| in_line(*name, &cell(&row[*name]))).collect();
                let header: Vec<&str> = columns.iter().map(|(_, header, _)| *header).collect();
                print("\n")?;
                print(&table(&header, rows.iter().map(cells).collect()))?;
            }
        }
    }
    if has_more {
        let text = format!("note: these are the first {} of them; --limit N takes more\n", verb.limit);
        print_error(&text, Some(LAST_LINES));
    }
    Ok(Code::Ok)
}

fn rows_of(config: &Config, queue: &str, condition: Condition, limit: usize) -> Result<Vec<Value>, Error> {
    collect(config, queue, move |letter, rows: &mut Vec<Value>| {
        if rows.len() >= limit {
            return Visit::Stop;
        }
        if condition.holds(letter) {
            rows.push(row(letter));
        }
        Visit::Keep
    })
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
