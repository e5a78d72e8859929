//! Dead letters in groups of one mistake, and page by page. Both go by an index and read no bodies.
//!
//! The cause stands in the failure's text, and for the index in two columns of its own. Rows that have none there (older files, rows
//! of other programs) get it before anything is asked of them.

use rusqlite::{Connection, OptionalExtension, params};

use super::dead_letters;
use crate::{
    clock::Timestamp,
    task::Failure,
    transport::{
        DeadLetter,
        dead_page::{DeadFilter, DeadGroup, DeadKey, DeadPage, DeadPlace, DeadRow, MOST_GROUPS, MOST_ROWS},
        row_text::{cause, read_failure},
        sqlite::{
            file::{
                columns::{moment, text},
                database::{Database, Synchronous},
                schema::known_queue,
            },
            jobs::members,
        },
    },
};

/// Rows that get their cause in one transaction.
const AT_ONCE: usize = 500;
const HOUR: i64 = 3_600_000;

/// Gives the dead letters of a queue that have no cause in their columns one.
pub(crate) fn fill_causes(database: &mut Database, queue: &str) -> rusqlite::Result<()> {
    let Some(id) = known_queue(database.read(), queue)? else { return Ok(()) };
    loop {
        let found = without_cause(database.read(), id)?;
        if found.is_empty() {
            return Ok(());
        }
        let is_last = found.len() < AT_ONCE;
        database.write(Synchronous::Normal, |transaction, _| {
            let mut statement = transaction.prepare_cached(
                "UPDATE task SET reason = ?2, fingerprint = ?3 WHERE id = ?1 AND state = 2 AND reason IS NULL",
            )?;
            for (row, failure) in &found {
                let (reason, fingerprint) = cause(failure);
                statement.execute(params![row, reason, fingerprint])?;
            }
            Ok(())
        })?;
        if is_last {
            return Ok(());
        }
    }
}

fn without_cause(connection: &Connection, queue: i64) -> rusqlite::Result<Vec<(i64, Failure)>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, due, failure FROM task INDEXED BY task_cause \
         WHERE queue = ?1 AND state = 2 AND reason IS NULL LIMIT ?2",
    )?;
    let rows = statement.query_map(params![queue, AT_ONCE as i64], |row| {
        Ok((row.get(0)?, read_failure(&text(row, 2)?, moment(row, 1)?.unwrap_or(Timestamp(0)))))
    })?;
    rows.collect()
}

/// The groups of a queue's dead letters, the largest first.
pub(crate) fn groups(connection: &Connection, now: Timestamp, queue: &str) -> rusqlite::Result<Vec<DeadGroup>> {
    let Some(id) = known_queue(connection, queue)? else { return Ok(Vec::new()) };
    let mut statement = connection.prepare_cached(
        "SELECT reason, fingerprint, count(*), total(due > ?2), total(due > ?3), min(due), max(due) \
         FROM task INDEXED BY task_cause WHERE queue = ?1 AND state = 2 AND reason IS NOT NULL \
         GROUP BY reason, fingerprint ORDER BY count(*) DESC, max(due) DESC LIMIT ?4",
    )?;
    let (hour, day) = (now.0.saturating_sub(HOUR), now.0.saturating_sub(24 * HOUR));
    let mut rows = statement.query(params![id, hour, day, MOST_GROUPS as i64])?;
    let mut groups = Vec::new();
    while let Some(row) = rows.next()? {
        let (reason, fingerprint) = (text(row, 0)?, text(row, 1)?);
        let count = |column| row.get::<_, f64>(column).map(|count| count as u64);
        groups.push(DeadGroup {
            error: latest_error(connection, id, &reason, &fingerprint)?,
            count: row.get::<_, i64>(2)?.unsigned_abs(),
            last_hour: count(3)?,
            last_day: count(4)?,
            first: moment(row, 5)?.unwrap_or(Timestamp(0)),
            last: moment(row, 6)?.unwrap_or(Timestamp(0)),
            reason,
            fingerprint,
        });
    }
    Ok(groups)
}

fn latest_error(connection: &Connection, queue: i64, reason: &str, fingerprint: &str) -> rusqlite::Result<String> {
    let failure = connection
        .prepare_cached(
            "SELECT failure FROM task INDEXED BY task_cause \
             WHERE queue = ?1 AND state = 2 AND reason = ?2 AND fingerprint = ?3 ORDER BY due DESC LIMIT 1",
        )?
        .query_row(params![queue, reason, fingerprint], |row| text(row, 0))
        .optional()?;
    Ok(failure.map(|failure| read_failure(&failure, Timestamp(0)).error).unwrap_or_default())
}

/// At most `limit` dead letters of a queue, the newest first, beginning behind the place `after`.
pub(crate) fn page(
    connection: &Connection,
    queue: &str,
    filter: &DeadFilter,
    after: Option<DeadPlace>,
    limit: usize,
) -> rusqlite::Result<DeadPage> {
    let Some(id) = known_queue(connection, queue)? else { return Ok(DeadPage::default()) };
    let limit = limit.clamp(1, MOST_ROWS);
    let (due, number) = after.map_or((i64::MAX, i64::MAX), |place| (place.died_at.0, place.number));
    // One more, which says whether there are others.
    let wanted = limit as i64 + 1;
    let places = if *filter == DeadFilter::default() {
        let mut statement = connection.prepare_cached(
            "SELECT due, id FROM task INDEXED BY task_dead WHERE queue = ?1 AND state = 2 AND (due, id) < (?2, ?3) \
             ORDER BY due DESC, id DESC LIMIT ?4",
        )?;
        places(statement.query(params![id, due, number, wanted])?)?
    } else {
        let mut statement = connection.prepare_cached(
            "SELECT due, id FROM task INDEXED BY task_cause WHERE queue = ?1 AND state = 2 AND (due, id) < (?2, ?3) \
             AND reason BETWEEN coalesce(?5, '') AND coalesce(?5, x'') AND fingerprint IS coalesce(?6, fingerprint) \
             ORDER BY due DESC, id DESC LIMIT ?4",
        )?;
        places(statement.query(params![id, due, number, wanted, filter.reason, filter.fingerprint])?)?
    };
    let rows = places.iter().take(limit).filter_map(|place| row(connection, *place).transpose());
    let rows: Vec<DeadRow> = rows.collect::<rusqlite::Result<_>>()?;
    let next = (places.len() > limit).then(|| places[limit - 1]);
    Ok(DeadPage { rows, next })
}

fn places(mut rows: rusqlite::Rows<'_>) -> rusqlite::Result<Vec<DeadPlace>> {
    let mut places = Vec::new();
    while let Some(row) = rows.next()? {
        // Another program's row may say anything here.
        let died_at = moment(row, 0)?.unwrap_or(Timestamp(0));
        places.push(DeadPlace { died_at, number: row.get(1)? });
    }
    Ok(places)
}

fn row(connection: &Connection, place: DeadPlace) -> rusqlite::Result<Option<DeadRow>> {
    connection
        .prepare_cached(
            "SELECT message_id, failure, first_failed_at, member, job, round FROM task WHERE id = ?1 AND state = 2",
        )?
        .query_row([place.number], |row| {
            let failure = read_failure(&text(row, 1)?, place.died_at);
            let (reason, fingerprint) = cause(&failure);
            let member = members::membership(row, 3)?.unwrap_or(None);
            Ok(DeadRow {
                place,
                id: text(row, 0)?,
                reason: reason.to_owned(),
                fingerprint,
                first_failed_at: moment(row, 2)?,
                failure: Failure { detail: String::new(), output_tail: String::new(), ..failure },
                job: member.as_ref().map(|member| member.job.clone()),
                index: member.as_ref().map(|member| member.index),
                step: member.map(|member| member.step),
            })
        })
        .optional()
}

/// One dead letter of a queue.
pub(crate) fn letter(
    connection: &Connection,
    now: Timestamp,
    queue: &str,
    key: &DeadKey,
) -> rusqlite::Result<Option<DeadLetter>> {
    let Some(id) = known_queue(connection, queue)? else { return Ok(None) };
    if let Some(place) = key.place
        && let Some((died_at, letter)) = at(connection, now, (id, queue), place.number)?
        && died_at == place.died_at
        && key.id.as_ref().is_none_or(|wanted| *wanted == letter.id)
    {
        return Ok(Some(letter));
    }
    let Some(wanted) = &key.id else { return Ok(None) };
    let row: Option<i64> = connection
        .prepare_cached(
            "SELECT id FROM task INDEXED BY task_dead WHERE queue = ?1 AND state = 2 AND message_id = ?2 \
             AND (purge_at IS NULL OR purge_at > ?3) ORDER BY due, id LIMIT 1",
        )?
        .query_row(params![id, wanted, now.0], |row| row.get(0))
        .optional()?;
    let Some(row) = row else { return Ok(None) };
    Ok(at(connection, now, (id, queue), row)?.map(|(_, letter)| letter))
}

/// The dead letter of this row of the table, with when it died by the index.
fn at(
    connection: &Connection,
    now: Timestamp,
    (queue, name): (i64, &str),
    row: i64,
) -> rusqlite::Result<Option<(Timestamp, DeadLetter)>> {
    connection
        .prepare_cached(
            "SELECT id, claim, due, message_id, headers, failure, first_failed_at, body, history, member, memo, job, round FROM task \
             WHERE id = ?1 AND queue = ?2 AND state = 2 AND (purge_at IS NULL OR purge_at > ?3)",
        )?
        .query_row(params![row, queue, now.0], |row| {
            Ok((moment(row, 2)?.unwrap_or(Timestamp(0)), dead_letters::letter(row, name)?))
        })
        .optional()
}
