//! Dead letters in groups of one mistake, and page by page. Both go by an index and read no bodies.

use tokio_postgres::Row;

use super::dead_letters::{self, letter_columns};
use crate::{
    clock::Timestamp,
    task::Failure,
    transport::{
        DeadLetter,
        dead_page::{DeadFilter, DeadGroup, DeadKey, DeadPage, DeadPlace, DeadRow, MOST_GROUPS, MOST_ROWS},
        postgres::{
            connect::{fault::Fault, session::Session},
            schema::queue_ids::known_queue,
            tasks::members::{membership, moment},
        },
        row_text::{cause, read_failure},
    },
};

const GROUPS: &str = "
SELECT g.reason, g.fingerprint, g.found, g.hour, g.day, g.first, g.last,
    (SELECT t.failure FROM @.task AS t WHERE t.queue = $1 AND t.state = 2 AND t.reason = g.reason
     AND t.fingerprint = g.fingerprint ORDER BY t.due DESC LIMIT 1)
FROM (
    SELECT reason, fingerprint, count(*) AS found, count(*) FILTER (WHERE due > @.now_ms() - 3600000) AS hour,
        count(*) FILTER (WHERE due > @.now_ms() - 86400000) AS day, min(due) AS first, max(due) AS last
    FROM @.task WHERE queue = $1 AND state = 2 AND reason IS NOT NULL
    GROUP BY reason, fingerprint ORDER BY count(*) DESC, max(due) DESC LIMIT $2
) AS g ORDER BY g.found DESC, g.last DESC";
const PAGE: &str = "
SELECT due, id, message_id, failure, first_failed_at, member FROM @.task
WHERE queue = $1 AND state = 2 AND (due, id) < ($2, $3) AND reason = coalesce($5, reason)
    AND fingerprint = coalesce($6, fingerprint)
ORDER BY due DESC, id DESC LIMIT $4";
const AT: &str = concat!(
    "SELECT ",
    letter_columns!(),
    " FROM @.task WHERE id = $1 AND queue = $2 AND state = 2 AND (purge_at IS NULL OR purge_at > @.now_ms())"
);
const BY_ID: &str = concat!(
    "SELECT ",
    letter_columns!(),
    " FROM @.task WHERE queue = $1 AND state = 2 AND message_id = $2 AND (purge_at IS NULL OR purge_at > @.now_ms()) \
     ORDER BY due, id LIMIT 1"
);

/// The groups of a queue's dead letters, the largest first.
pub(crate) async fn groups(session: &Session, queue: &str) -> Result<Vec<DeadGroup>, Fault> {
    let Some(id) = known_queue(session, queue).await? else { return Ok(Vec::new()) };
    let rows = session.rows(GROUPS, &[&id, &(MOST_GROUPS as i64)]).await?;
    let group = |row: &Row| {
        let count = |column| row.get::<_, i64>(column).unsigned_abs();
        let failure: Option<&str> = row.get(7);
        DeadGroup {
            reason: row.get(0),
            fingerprint: row.get(1),
            error: failure.map(|failure| read_failure(failure, Timestamp(0)).error).unwrap_or_default(),
            count: count(2),
            last_hour: count(3),
            last_day: count(4),
            first: Timestamp(row.get(5)),
            last: Timestamp(row.get(6)),
        }
    };
    Ok(rows.iter().map(group).collect())
}

/// At most `limit` dead letters of a queue, the newest first, beginning behind the place `after`.
pub(crate) async fn page(
    session: &Session,
    queue: &str,
    filter: &DeadFilter,
    after: Option<DeadPlace>,
    limit: usize,
) -> Result<DeadPage, Fault> {
    let Some(id) = known_queue(session, queue).await? else { return Ok(DeadPage::default()) };
    let limit = limit.clamp(1, MOST_ROWS);
    let (due, number) = after.map_or((i64::MAX, i64::MAX), |place| (place.died_at.0, place.number));
    // One more, which says whether there are others.
    let wanted = limit as i64 + 1;
    let rows = session.rows(PAGE, &[&id, &due, &number, &wanted, &filter.reason, &filter.fingerprint]).await?;
    let shown: Vec<DeadRow> = rows.iter().take(limit).map(shown).collect();
    let next = shown.last().map(|row| row.place).filter(|_| rows.len() > limit);
    Ok(DeadPage { rows: shown, next })
}

fn shown(row: &Row) -> DeadRow {
    let place = DeadPlace { died_at: Timestamp(row.get(0)), number: row.get(1) };
    let failure = read_failure(row.get::<_, Option<&str>>(3).unwrap_or_default(), place.died_at);
    let (reason, fingerprint) = cause(&failure);
    let member = membership(row, 5).unwrap_or(None);
    DeadRow {
        place,
        id: row.get(2),
        reason: reason.to_owned(),
        fingerprint,
        first_failed_at: moment(row, 4),
        failure: Failure { detail: String::new(), output_tail: String::new(), ..failure },
        job: member.as_ref().map(|member| member.job.clone()),
        index: member.as_ref().map(|member| member.index),
        step: member.map(|member| member.step),
    }
}

/// One dead letter of a queue.
pub(crate) async fn letter(session: &Session, queue: &str, key: &DeadKey) -> Result<Option<DeadLetter>, Fault> {
    let Some(id) = known_queue(session, queue).await? else { return Ok(None) };
    if let Some(place) = key.place
        && let Some(row) = session.first(AT, &[&place.number, &id]).await?
        && row.get::<_, i64>(2) == place.died_at.0
    {
        let letter = dead_letters::letter(&row, queue);
        if key.id.as_ref().is_none_or(|wanted| *wanted == letter.id) {
            return Ok(Some(letter));
        }
    }
    let Some(wanted) = key.id.as_ref().filter(|wanted| !wanted.contains('\0')) else { return Ok(None) };
    let row = session.first(BY_ID, &[&id, wanted]).await?;
    Ok(row.map(|row| dead_letters::letter(&row, queue)))
}
