//! Writes the file, on a thread of its own: what a round of the office heard goes into one transaction.
//!
//! A transaction that fails is given up, and what was in it is counted as missing: its counts come again with the next round, as
//! they are differences to what is in the file. When nothing is new, nothing is written. Nothing goes for its age until the wall clock
//! has [held](crate::clock::jumps): one that was set wrong would remove all.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use serde_json::Value;

use super::{
    file::{self, Fault, Number, Opened},
    limits::Limits,
    record::{Counts, End, Outcome, since, step, tallies},
};
use crate::clock::{Reading, Timestamp, jumps::Jumps};

/// Between two looks for what is too old, in milliseconds.
const TIDY: i64 = 60_000;
/// After the file could not be opened, in milliseconds.
const AGAIN: i64 = 5000;
/// Runs that are remembered.
const RUNS: i64 = 64;
/// Rows of counts, at most.
const COUNTS: i64 = 100_000;
/// Free pages that stay for what comes.
const FREE: i64 = 64;

/// What a round heard.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) now: Timestamp,
    /// What the clocks showed then.
    pub(super) reading: Reading,
    pub(super) run: String,
    pub(super) began: Timestamp,
    pub(super) host: String,
    pub(super) ends: Vec<End>,
    pub(super) counters: Value,
}

#[derive(Debug)]
pub(super) struct Writer {
    path: std::path::PathBuf,
    limits: Limits,
    open: Option<Open>,
    /// Not before this moment it is opened again.
    again_at: Option<Timestamp>,
    jumps: Option<Jumps>,
}

#[derive(Debug)]
struct Open {
    file: Opened,
    run: Option<Run>,
    tidied_at: Timestamp,
    /// Rows of other ends and of failures.
    rows: [u64; 2],
}

/// The run of a master that is told of.
#[derive(Clone, Debug)]
struct Run {
    id: i64,
    host: String,
    name: String,
    /// The number of the last end that was taken.
    last: u64,
    seen: BTreeMap<String, Counts>,
}

impl Run {
    fn is_of(&self, batch: &Batch) -> bool {
        self.host == batch.host && self.name == batch.run
    }
}

impl Writer {
    pub(super) const fn new(path: std::path::PathBuf, limits: Limits) -> Self {
        Self { path, limits, open: None, again_at: None, jumps: None }
    }

    /// Stores what a round heard. `Ok(false)`: it is not the moment to try.
    pub(super) fn take(&mut self, batch: &Batch) -> Result<bool, Fault> {
        let jumps = self.jumps.get_or_insert_with(|| Jumps::begin(batch.reading, None));
        jumps.look(batch.reading);
        // A clock that was set back waits no longer for it.
        let is_early = |at: Timestamp| (1..=AGAIN).contains(&at.0.saturating_sub(batch.now.0));
        if self.open.is_none() && self.again_at.is_some_and(is_early) {
            return Ok(false);
        }
        let stored = self.store(batch);
        if let Err(fault) = &stored
            && fault.is_of_connection()
        {
            self.open = None;
            self.again_at = Some(Timestamp(batch.now.0.saturating_add(AGAIN)));
        }
        stored.map(|()| true)
    }

    fn store(&mut self, batch: &Batch) -> Result<(), Fault> {
        if let Some(open) = &self.open
            && Number::of(&self.path).ok() != Some(open.file.number)
        {
            // Somebody removed it, or put another one there.
            self.open = None;
        }
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(Open::new(&self.path, self.limits.bytes)?),
        };
        let is_trusted = self.jumps.is_some_and(|jumps| jumps.is_trusted(batch.reading));
        open.store(batch, &self.limits, is_trusted)
    }
}

impl Open {
    fn new(path: &std::path::Path, bytes: u64) -> Result<Self, Fault> {
        let file = file::open_writing(path, bytes)?;
        let rows = |which: &str| -> rusqlite::Result<u64> {
            let count =
                file::number_of(&file.connection, &format!("SELECT count(*) FROM ended WHERE outcome {which} 3"))?;
            Ok(count.unsigned_abs())
        };
        let rows = [rows("<")?, rows(">=")?];
        Ok(Self { file, run: None, tidied_at: Timestamp(0), rows })
    }

    fn store(&mut self, batch: &Batch, limits: &Limits, is_clock_trusted: bool) -> Result<(), Fault> {
        let is_tidied = batch.now.0.saturating_sub(self.tidied_at.0).unsigned_abs() < TIDY.unsigned_abs();
        let run = match self.run.take().filter(|run| run.is_of(batch)) {
            Some(run) => Some(run),
            None => found(&self.file.connection, batch)?,
        };
        let is_known = run.is_some();
        let mut run = run.unwrap_or_else(|| Run {
            id: 0,
            host: batch.host.clone(),
            name: batch.run.clone(),
            last: 0,
            seen: BTreeMap::new(),
        });
        let ends: Vec<&End> = batch.ends.iter().filter(|end| end.number > run.last).collect();
        let news: Vec<_> = tallies(&batch.counters)
            .filter_map(|(queue, tally)| {
                let before = run.seen.get(queue).copied();
                let counts = since(tally.counts, before.unwrap_or_default());
                (counts != Counts::default()).then_some((queue, tally, counts, before.is_none()))
            })
            .collect();
        if is_known && ends.is_empty() && news.is_empty() && is_tidied {
            self.run = Some(run);
            return Ok(());
        }
        let transaction = Transaction::new_unchecked(&self.file.connection, TransactionBehavior::Immediate)?;
        if !is_known {
            run.id = insert_run(&transaction, batch)?;
        }
        let mut rows = self.rows;
        let step_now = step(batch.now);
        for end in &ends {
            insert(&transaction, step_now, &batch.host, end)?;
            rows[usize::from(end.outcome.is_failure())] += 1;
            run.last = end.number;
        }
        transaction.execute("UPDATE runs SET last = ? WHERE id = ?", params![run.last as i64, run.id])?;
        for (queue, tally, counts, is_first) in news {
            // What was counted before the first look happened at some time since the master began.
            let step = if is_first { step(batch.began).min(step_now) } else { step_now };
            for (outcome, count) in Outcome::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0) {
                let values = params![step, outcome as i64, batch.host, queue, tally.kind, count as i64];
                transaction
                    .prepare_cached(
                        "INSERT INTO counts VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
                    )?
                    .execute(values)?;
            }
            let [done, snoozed, released, retried, dead] = tally.counts.map(|count| count as i64);
            transaction
                .prepare_cached("INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?, ?, ?, ?)")?
                .execute(params![run.id, queue, done, snoozed, released, retried, dead])?;
            run.seen.insert(queue.to_owned(), tally.counts);
        }
        if !is_tidied && is_clock_trusted {
            expire(&transaction, batch.now, limits, &mut rows)?;
        }
        keep_within(&transaction, limits, &mut rows)?;
        transaction.commit()?;
        (self.rows, self.run) = (rows, Some(run));
        if !is_tidied {
            self.tidied_at = batch.now;
        }
        let free = file::number_of(&self.file.connection, "PRAGMA freelist_count")?;
        if free > 2 * FREE {
            // Each step of the statement gives one page back.
            let mut statement = self.file.connection.prepare(&format!("PRAGMA incremental_vacuum({})", free - FREE))?;
            let mut pages = statement.query([])?;
            while pages.next()?.is_some() {}
        }
        Ok(())
    }
}

/// The run that a batch is of, as the file knows it.
fn found(connection: &Connection, batch: &Batch) -> rusqlite::Result<Option<Run>> {
    let found = connection
        .query_row(
            "SELECT id, last FROM runs WHERE host = ? AND name = ? ORDER BY id DESC LIMIT 1",
            params![batch.host, batch.run],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
        )
        .optional()?;
    let Some((id, last)) = found else { return Ok(None) };
    let mut seen = BTreeMap::new();
    let mut statement =
        connection.prepare("SELECT queue, done, snoozed, released, retried, dead FROM seen WHERE run = ?")?;
    let mut rows = statement.query([id])?;
    while let Some(row) = rows.next()? {
        let mut counts = Counts::default();
        for (place, count) in counts.iter_mut().enumerate() {
            *count = row.get::<_, i64>(place + 1)?.unsigned_abs();
        }
        seen.insert(row.get(0)?, counts);
    }
    Ok(Some(Run { id, host: batch.host.clone(), name: batch.run.clone(), last: last.unsigned_abs(), seen }))
}

fn insert_run(transaction: &Connection, batch: &Batch) -> rusqlite::Result<i64> {
    transaction.execute("INSERT INTO runs (host, name, last) VALUES (?, ?, 0)", params![batch.host, batch.run])?;
    let id = transaction.last_insert_rowid();
    transaction.execute("DELETE FROM runs WHERE id <= ?", [id - RUNS])?;
    transaction.execute("DELETE FROM seen WHERE run <= ?", [id - RUNS])?;
    Ok(id)
}

fn insert(transaction: &Connection, step: i64, host: &str, end: &End) -> rusqlite::Result<()> {
    let cause = (!end.cause.is_null()).then(|| end.cause.to_string());
    transaction
        .prepare_cached(
            "INSERT INTO ended (step, at, host, queue, kind, slot, pid, task, attempt, outcome, waited, ran, error, cause)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            step,
            end.at.0,
            host,
            end.queue,
            end.kind,
            end.slot,
            end.pid,
            end.id,
            end.attempt,
            end.outcome as i64,
            end.waited,
            end.ran,
            end.error,
            cause,
        ])?;
    Ok(())
}

/// Removes what is too old: with a whole step its counts go, too.
fn expire(transaction: &Connection, now: Timestamp, limits: &Limits, rows: &mut [u64; 2]) -> rusqlite::Result<()> {
    for (place, (which, age)) in [("< 3", limits.others), (">= 3", limits.failures)].into_iter().enumerate() {
        let first = step(Timestamp(now.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))));
        let gone = transaction.execute(&format!("DELETE FROM ended WHERE outcome {which} AND step < ?"), [first])?;
        rows[place] = rows[place].saturating_sub(gone as u64);
        transaction.execute(&format!("DELETE FROM counts WHERE outcome {which} AND step < ?"), [first])?;
    }
    let counts = file::number_of(transaction, "SELECT count(*) FROM counts")?;
    if counts > COUNTS {
        // The oldest steps whole, so that those that stay are complete.
        transaction.execute(
            "DELETE FROM counts WHERE step <= (SELECT step FROM counts ORDER BY step LIMIT 1 OFFSET ?)",
            [counts - COUNTS * 9 / 10],
        )?;
    }
    Ok(())
}

/// Removes the oldest, as long as there are too many or they take too much. Of the two halves each may take what the other leaves
/// free, and the one that takes more than its half gives way.
fn keep_within(transaction: &Connection, limits: &Limits, rows: &mut [u64; 2]) -> rusqlite::Result<()> {
    let used = || -> rusqlite::Result<u64> {
        let pages =
            file::number_of(transaction, "PRAGMA page_count")? - file::number_of(transaction, "PRAGMA freelist_count")?;
        Ok(pages.unsigned_abs() * file::PAGE)
    };
    // A tenth is left for what one transaction brings.
    let room = limits.bytes / 10 * 9;
    let mut excess = rows.iter().sum::<u64>().saturating_sub(limits.rows);
    while excess > 0 || used()? > room {
        let place = usize::from(rows[0] <= rows[1]);
        let count = excess.max(rows[place] / 20).max(1).min(rows[place]);
        if count == 0 {
            // What takes the room is no ends.
            break;
        }
        let which = if place == 0 { "< 3" } else { ">= 3" };
        let oldest = format!(
            "DELETE FROM ended WHERE id IN (SELECT id FROM ended WHERE outcome {which} ORDER BY step, id LIMIT ?)"
        );
        let gone = transaction.execute(&oldest, [count as i64])? as u64;
        rows[place] = rows[place].saturating_sub(gone);
        excess = excess.saturating_sub(gone);
        if gone == 0 {
            break;
        }
    }
    Ok(())
}
