//! Dead letters: rows of the task table in a state of their own.

use std::{collections::BTreeMap, time::Duration};

use rusqlite::{Connection, params, types::Value};
use uuid::Uuid;

use crate::{
    clock::{Clock, Timestamp, in_words},
    jobs::entry::Entry,
    task::Ending,
    transport::{
        DeadLetter, DeadQueue, Visit, Visitor, Walked, job_entries,
        row_text::{history_text, read_failure},
        sqlite::{
            file::{
                columns::{bytes, moment, number, parsed, text},
                database::{Database, Synchronous},
                lock_wait::LockTimeout,
                schema::{known_queue, queue_name},
            },
            jobs::{entries, hindrance::hindrance, members},
            peers::wake::{self, Waker},
        },
    },
};

/// Dead letters read at once.
const PAGE: usize = 500;
/// Bytes of bodies read at once.
const PAGE_BYTES: usize = 4 << 20;
/// Verdicts are stored at the latest after this time, however slow the visitor is.
const STORE_AFTER: Duration = Duration::from_millis(50);

/// How a walk waits for its visitor: no longer than until the transport is closing.
pub(crate) struct VisitorWait<'a> {
    pub(crate) clock: Clock,
    pub(crate) waker: &'a Waker,
    pub(crate) lock_timeout: &'a LockTimeout,
}

impl VisitorWait<'_> {
    /// Waits. Gives whether the transport is not closing.
    fn wait(&self, time: Duration) -> bool {
        let until = self.clock.now().at + time;
        loop {
            let now = self.clock.now().at;
            if self.lock_timeout.is_closing() || now >= until {
                return !self.lock_timeout.is_closing();
            }
            wake::wait(self.waker, None, until.since(now));
        }
    }
}

/// Visits the dead letters that are there now, oldest first; what was done stands in `walked`, also after an error. Gives
/// whether it came to its end: it does not if the transport is closed while it waits for the visitor.
pub(crate) fn walk(
    database: &mut Database,
    wait: &VisitorWait<'_>,
    queue: &DeadQueue,
    mut visit: Visitor,
    walked: &mut Walked,
) -> rusqlite::Result<bool> {
    let clock = wait.clock;
    let Some(id) = known_queue(database.read(), &queue.queue)? else { return Ok(true) };
    // What dies again while we walk comes after the last one that is there now, and is not met twice.
    let until = last(database.read(), id)?;
    if until == Value::Null {
        return Ok(true);
    }
    let mut after = (Value::Integer(i64::MIN), i64::MIN);
    'pages: loop {
        let page = page(database.read(), &queue.queue, id, &after, &until)?;
        let Some(last) = page.last() else { break };
        after = (last.due.clone(), last.row);
        let mut verdicts = Vec::new();
        let mut stored_at = clock.now().at;
        for found in page {
            walked.seen += 1;
            let mut verdict = visit(&found.letter);
            while let Visit::Wait(after) = verdict {
                apply_verdicts(database, &mut verdicts, walked)?;
                if !wait.wait(after) {
                    return Ok(false);
                }
                stored_at = clock.now().at;
                verdict = visit(&found.letter);
            }
            match verdict {
                Visit::Keep | Visit::Wait(_) => {}
                Visit::Stop => {
                    apply_verdicts(database, &mut verdicts, walked)?;
                    break 'pages;
                }
                Visit::Retry { .. } | Visit::Remove => verdicts.push((found, verdict)),
            }
            let now = clock.now().at;
            if now.since(stored_at) >= STORE_AFTER {
                apply_verdicts(database, &mut verdicts, walked)?;
                stored_at = now;
            }
        }
        apply_verdicts(database, &mut verdicts, walked)?;
    }
    Ok(true)
}

/// When the last dead letter of a queue died, as it stands in the file; null where there is none.
fn last(connection: &Connection, queue: i64) -> rusqlite::Result<Value> {
    connection
        .prepare_cached("SELECT max(due) FROM task WHERE queue = ?1 AND state = 2")?
        .query_row([queue], |row| row.get(0))
}

struct Found {
    row: i64,
    claim: Value,
    due: Value,
    letter: DeadLetter,
}

fn page(
    connection: &Connection,
    name: &str,
    queue: i64,
    after: &(Value, i64),
    until: &Value,
) -> rusqlite::Result<Vec<Found>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, claim, due, message_id, headers, failure, first_failed_at, body, history, member, memo, job, round FROM task \
         WHERE queue = ?1 AND state = 2 AND (due, id) > (?2, ?3) AND due <= ?4 \
         AND (purge_at IS NULL OR purge_at > ?5) ORDER BY due, id LIMIT ?6",
    )?;
    let mut rows = statement.query(params![queue, after.0, after.1, until, Clock::wall().0, PAGE as i64])?;
    let mut page = Vec::new();
    let mut size = 0;
    while let Some(row) = rows.next()? {
        let letter = letter(row, name)?;
        size += letter.body.len();
        page.push(Found { row: row.get(0)?, claim: row.get(1)?, due: row.get(2)?, letter });
        if size > PAGE_BYTES {
            break;
        }
    }
    Ok(page)
}

/// A dead letter of these columns: `id, claim, due, message_id, headers, failure, first_failed_at, body, history, member, memo, job, round`.
pub(super) fn letter(row: &rusqlite::Row<'_>, queue: &str) -> rusqlite::Result<DeadLetter> {
    let failure = read_failure(&text(row, 5)?, moment(row, 2)?.unwrap_or(Timestamp(0)));
    Ok(DeadLetter {
        id: text(row, 3)?,
        queue: queue.to_owned(),
        body: bytes(row, 7)?,
        headers: parsed(row, 4)?,
        properties: None,
        reason: failure.reason.as_str().to_owned(),
        failure,
        first_failed_at: moment(row, 6)?,
        history: parsed(row, 8)?,
        // One that cannot be read is told when the task is put back to work.
        membership: members::membership(row, 9)?.unwrap_or(None),
        memo: members::memo(row, 10)?,
    })
}

/// Stores the verdicts. A dead letter that another process moved meanwhile is left alone and not counted.
fn apply_verdicts(
    database: &mut Database,
    verdicts: &mut Vec<(Found, Visit)>,
    walked: &mut Walked,
) -> rusqlite::Result<()> {
    if verdicts.is_empty() {
        return Ok(());
    }
    let (retried, removed, left) = database.write(Synchronous::Full, |transaction, _| {
        let (mut retried, mut removed, mut left) = (0, 0, 0);
        let now = Clock::wall();
        for (found, verdict) in verdicts.iter() {
            if let Visit::Retry { body } = verdict {
                let membership = found.letter.membership.as_deref();
                if let Some(membership) = membership
                    && hindrance(transaction, now, membership)?.is_some()
                {
                    left += 1;
                    continue;
                }
                let history = history_text(&found.letter.history_with_this());
                let put = put_back(transaction, now, found.row, &found.claim, body.as_deref(), history.as_deref())?;
                if let Some(membership) = membership.filter(|_| put > 0) {
                    entries::tell(transaction, &membership.application, &Entry::retried(membership, now))?;
                }
                retried += put;
            } else {
                let deleted = transaction
                    .prepare_cached("DELETE FROM task WHERE id = ?1 AND claim IS ?2 AND state = 2")?
                    .execute(params![found.row, found.claim])?;
                if let Some(membership) = found.letter.membership.as_ref().filter(|_| deleted > 0) {
                    let memo = found.letter.memo.as_ref();
                    let entry = job_entries::of_removal(membership, memo, now, job_entries::PURGED);
                    entries::tell(transaction, &membership.application, &entry)?;
                }
                removed += deleted as u64;
            }
        }
        Ok((retried, removed, left))
    })?;
    walked.retried += retried;
    walked.removed += removed;
    walked.left += left;
    verdicts.clear();
    Ok(())
}

/// Puts a dead letter back to work. Gives 0 if another process moved it meanwhile.
fn put_back(
    transaction: &Connection,
    now: Timestamp,
    row: i64,
    claim: &Value,
    body: Option<&[u8]>,
    history: Option<&str>,
) -> rusqlite::Result<u64> {
    let changed = transaction
        .prepare_cached(
            "UPDATE task SET state = 0, due = ?3, set_at = ?3, attempts = 0, deliveries = 0, redelivered = 0, \
             expires_at = CASE WHEN expires_at > ?3 THEN expires_at END, first_failed_at = NULL, \
             failure = NULL, reason = NULL, fingerprint = NULL, purge_at = NULL, history = ?5, claim = (CAST(claim AS INTEGER) & 281474976710655) + 1, \
             body = coalesce(?4, body) WHERE id = ?1 AND claim IS ?2 AND state = 2",
        )?
        .execute(params![row, claim, now.0, body, history])?;
    Ok(changed as u64)
}

/// Puts dead letters of a round that died until then back to work, at most so many. Gives their number.
pub(crate) fn revive(
    transaction: &Connection,
    now: Timestamp,
    round: Uuid,
    until: Timestamp,
    limit: usize,
) -> rusqlite::Result<u64> {
    let mut statement = transaction.prepare_cached(
        "SELECT id, claim, due, failure, history FROM task INDEXED BY task_round \
         WHERE round = ?1 AND state = 2 AND due <= ?3 AND (purge_at IS NULL OR purge_at > ?2) LIMIT ?4",
    )?;
    let letters = statement.query_map(params![round.as_bytes(), now.0, until.0, limit as i64], |row| {
        let failure = read_failure(&text(row, 3)?, moment(row, 2)?.unwrap_or(Timestamp(0)));
        let mut history: Vec<Ending> = parsed(row, 4)?;
        Ending::of(failure.reason.as_str(), &failure).remember(&mut history);
        Ok((row.get(0)?, row.get(1)?, history))
    })?;
    // All of them before any is changed: the index is read meanwhile.
    let letters: Vec<(i64, Value, Vec<Ending>)> = letters.collect::<rusqlite::Result<_>>()?;
    let put_back = |(row, claim, history): &(i64, Value, Vec<Ending>)| {
        put_back(transaction, now, *row, claim, None, history_text(history).as_deref())
    };
    letters.iter().map(put_back).sum()
}

/// Deletes dead letters of a round, but for what is beyond a number. Its ledger knows of it.
pub(crate) fn delete(transaction: &Connection, round: Uuid, limit: usize) -> rusqlite::Result<()> {
    let statement = "DELETE FROM task WHERE id IN (SELECT id FROM task INDEXED BY task_round \
                     WHERE round = ?1 AND state = 2 LIMIT ?2)";
    transaction.prepare_cached(statement)?.execute(params![round.as_bytes(), limit as i64]).map(drop)
}

/// Deletes what was kept long enough, at most `limit` of them. Gives a line for each queue, and time that they were kept.
pub(crate) fn purge(database: &mut Database, now: Timestamp, limit: u32) -> rusqlite::Result<Vec<String>> {
    let any: bool = database
        .read()
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM task WHERE state = 2 AND purge_at IS NOT NULL AND purge_at <= ?1)",
        )?
        .query_row([now.0], |row| row.get(0))?;
    if !any {
        return Ok(Vec::new());
    }
    let deleted = database.write(Synchronous::Normal, |transaction, _| {
        let mut deleted: BTreeMap<(i64, u64), u64> = BTreeMap::new();
        let mut statement = transaction.prepare_cached(
            "DELETE FROM task WHERE id IN (SELECT id FROM task WHERE state = 2 AND purge_at IS NOT NULL \
             AND purge_at <= ?1 LIMIT ?2) RETURNING queue, purge_at, due, member, memo, job, round",
        )?;
        let mut rows = statement.query(params![now.0, limit])?;
        let mut members = Vec::new();
        while let Some(row) = rows.next()? {
            // One that cannot be read tells nothing: nobody knows of which job it was.
            if let Ok(Some(membership)) = members::membership(row, 3)? {
                members.push((membership, members::memo(row, 4)?));
            }
            let [queue, purge_at, died_at] = [0, 1, 2].map(|column| row.get_ref(column).ok().and_then(number));
            let kept = purge_at.unwrap_or(0).saturating_sub(died_at.unwrap_or(0));
            *deleted.entry((queue.unwrap_or(0), u64::try_from(kept).unwrap_or(0))).or_default() += 1;
        }
        entries::gather(transaction, |entries| {
            members.iter().try_for_each(|(membership, memo)| {
                let entry = job_entries::of_removal(membership, memo.as_ref(), now, job_entries::EXPIRED);
                entries.tell(transaction, &membership.application, &entry)
            })
        })?;
        Ok(deleted)
    })?;
    let line = |((queue, kept), count): ((i64, u64), u64)| {
        let name = queue_name(database.read(), queue)?;
        let what = if count == 1 { "dead letter" } else { "dead letters" };
        let were = if count == 1 { "was" } else { "were" };
        Ok(format!("{count} {what} of queue {name} {were} older than {}: deleted", in_words(kept)))
    };
    deleted.into_iter().map(line).collect()
}
