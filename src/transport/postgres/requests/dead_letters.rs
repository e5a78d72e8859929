//! Dead letters: rows of the table of tasks in a state of their own.

use std::collections::BTreeMap;

use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    clock::{Clock, Timestamp, in_words},
    task::Ending,
    transport::{
        DeadLetter, job_entries,
        postgres::{
            connect::{fault::Fault, session::Session},
            tasks::members::{self, membership, memo, moment, parsed},
        },
        row_text::{history_text, read_failure},
    },
};

/// What is read of a dead letter.
macro_rules! letter_columns {
    () => {
        "id, claim, due, message_id, headers, failure, first_failed_at, body, history, member, memo"
    };
}
pub(super) use letter_columns;

/// A row of [`letter_columns`].
pub(super) fn letter(row: &Row, queue: &str) -> DeadLetter {
    let died_at = Timestamp(row.get(2));
    let failure = read_failure(row.get::<_, Option<&str>>(5).unwrap_or_default(), died_at);
    DeadLetter {
        id: row.get(3),
        queue: queue.to_owned(),
        body: row.get(7),
        headers: parsed(row, 4),
        properties: None,
        reason: failure.reason.as_str().to_owned(),
        failure,
        first_failed_at: moment(row, 6),
        history: parsed(row, 8),
        // One that cannot be read is told when the task is put back to work.
        membership: membership(row, 9).unwrap_or(None),
        memo: memo(row, 10),
    }
}

/// Puts a dead letter back to work, unless another process moved it meanwhile: `row, claim, body, history`.
pub(super) const PUT_BACK: &str = "
UPDATE @.task SET state = 0, due = @.now_ms(), attempts = 0, deliveries = 0, redelivered = false,
    expires_at = CASE WHEN expires_at > @.now_ms() THEN expires_at END, first_failed_at = NULL, failure = NULL, reason = NULL,
    fingerprint = NULL, purge_at = NULL, claim = claim % 1000000000 + 1, body = coalesce($3, body), history = $4
WHERE id = $1 AND claim = $2 AND state = 2 RETURNING queue";
/// Removes one, unless another process moved it meanwhile: `row, claim`.
pub(super) const REMOVE: &str = "DELETE FROM @.task WHERE id = $1 AND claim = $2 AND state = 2";

/// Dead letters of a round that died until then.
const OF_ROUND: &str = "
SELECT id, claim, due, failure, history FROM @.task
WHERE round = $1 AND state = 2 AND due <= $2 AND (purge_at IS NULL OR purge_at > @.now_ms()) LIMIT $3 FOR UPDATE";

/// Puts dead letters of a round that died until then back to work, at most so many. Gives their number.
pub(crate) async fn revive(session: &Session, round: Uuid, until: i64, limit: i64) -> Result<u64, Fault> {
    let mut revived = 0;
    for row in session.rows(OF_ROUND, &[&round, &until, &limit]).await? {
        let failure = read_failure(row.get::<_, Option<&str>>(3).unwrap_or_default(), Timestamp(row.get(2)));
        let mut history: Vec<Ending> = parsed(&row, 4);
        Ending::of(failure.reason.as_str(), &failure).remember(&mut history);
        let (id, claim): (i64, i32) = (row.get(0), row.get(1));
        let put = session.run(PUT_BACK, &[&id, &claim, &None::<&[u8]>, &history_text(&history)]).await?;
        revived += put;
    }
    Ok(revived)
}

/// Deletes dead letters of a round, but for what is beyond a number. Its ledger knows of it.
pub(crate) async fn delete(session: &Session, round: Uuid, limit: i64) -> Result<(), Fault> {
    let statement =
        "DELETE FROM @.task WHERE id = ANY (ARRAY(SELECT id FROM @.task WHERE round = $1 AND state = 2 LIMIT $2))";
    session.run(statement, &[&round, &limit]).await.map(drop)
}

/// Deletes what was kept long enough, at most `limit` of them. Gives a line for each queue, and time that they were kept; and the
/// ledgers that were told.
pub(crate) async fn purge(session: &Session, limit: i64) -> Result<(Vec<String>, Vec<String>), Fault> {
    let now = Clock::wall();
    let (rows, told) = session
        .transaction(async |session| {
            let statement = "DELETE FROM @.task WHERE id = ANY (ARRAY(SELECT id FROM @.task WHERE state = 2 \
                             AND purge_at IS NOT NULL AND purge_at <= @.now_ms() ORDER BY purge_at LIMIT $1 \
                             FOR UPDATE SKIP LOCKED)) RETURNING queue, purge_at, due, member, memo";
            let rows = session.rows(statement, &[&limit]).await?;
            let told = members::tell_removed(session, &rows, (3, 4), job_entries::EXPIRED, now).await?;
            Ok((rows, told))
        })
        .await?;
    if rows.is_empty() {
        return Ok((Vec::new(), told));
    }
    let mut deleted: BTreeMap<(i32, u64), u64> = BTreeMap::new();
    for row in &rows {
        let kept = row.get::<_, i64>(1).saturating_sub(row.get(2));
        *deleted.entry((row.get(0), u64::try_from(kept).unwrap_or(0))).or_default() += 1;
    }
    let mut lines = Vec::new();
    for ((queue, kept), count) in deleted {
        let name = session.first("SELECT name FROM @.queue WHERE id = $1", &[&queue]).await?;
        let name = name.map_or_else(|| queue.to_string(), |row| row.get(0));
        let (what, were) = if count == 1 { ("dead letter", "was") } else { ("dead letters", "were") };
        lines.push(format!("{count} {what} of queue {name} {were} older than {}: deleted", in_words(kept)));
    }
    Ok((lines, told))
}
