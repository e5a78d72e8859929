//! Reads the file: lists, newest first, by the ids of their rows, and how many ends they are of how many.

use rusqlite::{Connection, Row as SqlRow, params_from_iter, types::Value as SqlValue};

use super::{
    History,
    record::{Counts, End, ID, Outcome},
};
use crate::{clock::Timestamp, text};

/// Attempts at one task that are read, at most: the latest.
const ATTEMPTS: usize = 100;
/// Bytes of a text that is looked for.
const TEXT: usize = 200;

const COLUMNS: &str =
    "id, host, at, queue, kind, slot, pid, task, attempt, outcome, waited, ran, error, cause FROM ended";

/// Which ends are asked for; all conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Any of them; none: all.
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) queue: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) node: Option<String>,
    /// The first [step](super::step) and the last one.
    pub(crate) from: Option<i64>,
    pub(crate) to: Option<i64>,
    /// It stands in the task's id or in the error.
    pub(crate) text: Option<String>,
}

/// An end, and where it stands in the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) host: String,
    pub(crate) end: End,
}

/// A part of a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Listing {
    pub(crate) rows: Vec<Row>,
    /// There are older ones: those before this row.
    pub(crate) next: Option<i64>,
    /// How many ends the whole list has.
    pub(crate) listed: Counts,
    /// How many there were; without the condition about a text, of which nobody knows for those that are not listed.
    pub(crate) total: Counts,
}

impl History {
    /// The newest ends that are asked for, before the row `before`.
    ///
    /// # Errors
    /// The file cannot be read: a sentence.
    pub(crate) fn list(&self, wanted: &Wanted, before: Option<i64>, most: usize) -> Result<Listing, String> {
        self.read(|connection| {
            // What is counted is what is listed.
            let whole = connection.unchecked_transaction()?;
            let mut conditions = Conditions::of(wanted);
            if let Some(before) = before {
                conditions.add("id < ?", [before.into()]);
            }
            let order = "ORDER BY id DESC LIMIT ?";
            conditions.values.push((most as i64 + 1).into());
            let mut rows = rows(&whole, &format!("{} {order}", conditions.text()), &conditions.values)?;
            let next = (rows.len() > most).then(|| rows[most - 1].id);
            let listed = if before.is_none() && next.is_none() {
                // These are all.
                let mut counts = Counts::default();
                for row in &rows {
                    counts[row.end.outcome as usize] += 1;
                }
                counts
            } else {
                counted(&whole, "1", "ended", &Conditions::of(wanted))?
            };
            rows.truncate(most);
            let everything = Wanted { text: None, ..wanted.clone() };
            let total = counted(&whole, "count", "counts", &Conditions::of(&everything))?;
            // An end may be heard of a moment before it is counted.
            let total = std::array::from_fn(|place| total[place].max(listed[place]));
            Ok(Listing { rows, next, listed, total })
        })
    }

    /// The attempts at a task, the latest first.
    ///
    /// # Errors
    /// The file cannot be read: a sentence.
    pub(crate) fn attempts(&self, id: &str) -> Result<Vec<Row>, String> {
        let id = text::cut(id, ID);
        self.read(|connection| {
            let values = [SqlValue::from(id.to_owned()), (ATTEMPTS as i64).into()];
            rows(connection, "WHERE task = ? ORDER BY id DESC LIMIT ?", &values)
        })
    }

    /// The masters' hosts.
    ///
    /// # Errors
    /// The file cannot be read: a sentence.
    pub(crate) fn nodes(&self) -> Result<Vec<String>, String> {
        self.read(|connection| {
            let mut statement = connection.prepare("SELECT DISTINCT host FROM runs ORDER BY host")?;
            statement.query_map([], |row| row.get(0))?.collect()
        })
    }
}

/// What stands behind WHERE.
#[derive(Debug, Default)]
struct Conditions {
    texts: Vec<String>,
    values: Vec<SqlValue>,
}

impl Conditions {
    fn of(wanted: &Wanted) -> Self {
        let mut conditions = Self::default();
        if !wanted.outcomes.is_empty() {
            let marks = vec!["?"; wanted.outcomes.len()].join(", ");
            let numbers = wanted.outcomes.iter().map(|outcome| SqlValue::from(*outcome as i64));
            conditions.add(&format!("outcome IN ({marks})"), numbers);
        }
        for (column, value) in [("queue", &wanted.queue), ("kind", &wanted.kind), ("host", &wanted.node)] {
            if let Some(value) = value {
                conditions.add(&format!("{column} = ?"), [value.clone().into()]);
            }
        }
        for (comparison, step) in [(">=", wanted.from), ("<=", wanted.to)] {
            if let Some(step) = step {
                conditions.add(&format!("step {comparison} ?"), [step.into()]);
            }
        }
        if let Some(text) = &wanted.text {
            let pattern = SqlValue::from(pattern(text));
            conditions.add(r"(task LIKE ? ESCAPE '\' OR error LIKE ? ESCAPE '\')", [pattern.clone(), pattern]);
        }
        conditions
    }

    fn add(&mut self, text: &str, values: impl IntoIterator<Item = SqlValue>) {
        self.texts.push(text.to_owned());
        self.values.extend(values);
    }

    fn text(&self) -> String {
        if self.texts.is_empty() { String::new() } else { format!("WHERE {}", self.texts.join(" AND ")) }
    }
}

/// Finds a text anywhere, with none of LIKE's own signs in it.
fn pattern(text: &str) -> String {
    let mut pattern = "%".to_owned();
    for letter in text::cut(text, TEXT).chars() {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern + "%"
}

/// The sums of something, for each outcome: in one pass, without a table in between.
fn counted(connection: &Connection, what: &str, table: &str, conditions: &Conditions) -> rusqlite::Result<Counts> {
    let sum = |outcome: Outcome| format!("sum(iif(outcome = {}, {what}, 0))", outcome as i64);
    let question = format!("SELECT {} FROM {table} {}", Outcome::ALL.map(sum).join(", "), conditions.text());
    connection.prepare_cached(&question)?.query_row(params_from_iter(&conditions.values), |row| {
        let mut counts = Counts::default();
        for (place, count) in counts.iter_mut().enumerate() {
            // The sum of no rows is null.
            *count = row.get::<_, Option<i64>>(place)?.unwrap_or_default().unsigned_abs();
        }
        Ok(counts)
    })
}

fn rows(connection: &Connection, rest: &str, values: &[SqlValue]) -> rusqlite::Result<Vec<Row>> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} {rest}"))?;
    statement.query_map(params_from_iter(values), row)?.collect()
}

fn row(row: &SqlRow<'_>) -> rusqlite::Result<Row> {
    let outcome = row.get("outcome")?;
    let cause = row.get::<_, Option<String>>("cause")?;
    let end = End {
        number: 0,
        at: Timestamp(row.get("at")?),
        queue: row.get("queue")?,
        kind: row.get("kind")?,
        slot: row.get("slot")?,
        pid: row.get("pid")?,
        id: row.get("task")?,
        attempt: row.get("attempt")?,
        outcome: Outcome::of_number(outcome).ok_or(rusqlite::Error::IntegralValueOutOfRange(9, outcome))?,
        waited: row.get("waited")?,
        ran: row.get("ran")?,
        error: row.get("error")?,
        cause: cause.and_then(|cause| serde_json::from_str(&cause).ok()).unwrap_or_default(),
    };
    Ok(Row { id: row.get("id")?, host: row.get("host")?, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_patterns_are_letters() {
        assert_eq!(pattern(r"100%_\"), r"%100\%\_\\%");
        assert!(pattern(&"ü".repeat(1000)).len() <= TEXT + 2);
    }
}
