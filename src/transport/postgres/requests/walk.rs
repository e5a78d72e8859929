//! A walk among the dead letters of a queue: in pages by their places, each batch of verdicts in a transaction of its own. No cursor is
//! held open, which would keep the server from cleaning up behind it.

use std::{collections::BTreeSet, time::Duration};

use tokio_postgres::Row;

use super::dead_letters::{self, PUT_BACK, REMOVE, letter_columns};
use crate::{
    clock::Clock,
    jobs::entry::Entry,
    transport::{
        DeadLetter, DeadQueue, Visit, Visitor, Walked, job_entries,
        postgres::{
            connect::{fault::Fault, session::Session},
            jobs::{entries, hindrance::hindrance},
            schema::queue_ids::known_queue,
        },
        row_text::history_text,
    },
};

/// Dead letters read at once.
const PAGE: i64 = 500;
/// Bytes of bodies read at once, but for the first.
const PAGE_BYTES: i64 = 4 << 20;
/// Verdicts are stored at the latest after this time, however slow the visitor is.
const STORE_AFTER: Duration = Duration::from_millis(50);

const LAST: &str = "SELECT max(due) FROM @.task WHERE queue = $1 AND state = 2";
const NEXT: &str = concat!(
    "SELECT ",
    letter_columns!(),
    " FROM ( SELECT *, sum(octet_length(body)) OVER (ORDER BY due, id) - octet_length(body) AS before FROM ( SELECT ",
    letter_columns!(),
    " FROM @.task WHERE queue = $1 AND state = 2 AND (due, id) > ($2, $3) AND due <= $4 \
     AND (purge_at IS NULL OR purge_at > @.now_ms()) ORDER BY due, id LIMIT $5) AS found) AS measured \
     WHERE before <= $6 ORDER BY due, id"
);

struct Found {
    row: i64,
    claim: i32,
    letter: DeadLetter,
}

/// What a walk did, also after an error, and who is to hear of it.
#[derive(Debug, Default)]
pub(crate) struct Walking {
    pub(crate) walked: Walked,
    /// The queues to which tasks went back, by their ids.
    pub(crate) queues: BTreeSet<i32>,
    /// The ledgers that were told.
    pub(crate) told: Vec<String>,
}

/// Visits the dead letters that are there now, oldest first.
pub(crate) async fn walk(
    session: &Session,
    queue: &DeadQueue,
    visit: &mut Visitor,
    walking: &mut Walking,
) -> Result<(), Fault> {
    let clock = Clock::start();
    let Some(id) = known_queue(session, &queue.queue).await? else { return Ok(()) };
    // What dies again while we walk comes after the last one that is there now, and is not met twice.
    let last: Option<i64> = session.first(LAST, &[&id]).await?.and_then(|row| row.get(0));
    let Some(until) = last else { return Ok(()) };
    let mut after = (i64::MIN, i64::MIN);
    'pages: loop {
        let rows = session.rows(NEXT, &[&id, &after.0, &after.1, &until, &PAGE, &PAGE_BYTES]).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = (last.get(2), last.get(0));
        let mut verdicts = Vec::new();
        let mut stored_at = clock.now().at;
        for row in &rows {
            let found = found(row, &queue.queue);
            walking.walked.seen += 1;
            let mut verdict = visit(&found.letter);
            while let Visit::Wait(time) = verdict {
                apply(session, &mut verdicts, walking).await?;
                tokio::time::sleep(time).await;
                stored_at = clock.now().at;
                verdict = visit(&found.letter);
            }
            match verdict {
                Visit::Keep | Visit::Wait(_) => {}
                Visit::Stop => {
                    apply(session, &mut verdicts, walking).await?;
                    break 'pages Ok(());
                }
                Visit::Retry { .. } | Visit::Remove => verdicts.push((found, verdict)),
            }
            let now = clock.now().at;
            if now.since(stored_at) >= STORE_AFTER {
                apply(session, &mut verdicts, walking).await?;
                stored_at = now;
            }
        }
        apply(session, &mut verdicts, walking).await?;
    }
}

fn found(row: &Row, queue: &str) -> Found {
    Found { row: row.get(0), claim: row.get(1), letter: dead_letters::letter(row, queue) }
}

/// Stores the verdicts. A dead letter that another process moved meanwhile is left alone and not counted.
async fn apply(session: &Session, verdicts: &mut Vec<(Found, Visit)>, walking: &mut Walking) -> Result<(), Fault> {
    if verdicts.is_empty() {
        return Ok(());
    }
    let mut did = Walking::default();
    session
        .transaction(async |session| {
            let now = Clock::wall();
            let mut told = entries::Batch::default();
            for (found, verdict) in verdicts.iter() {
                let membership = found.letter.membership.as_deref();
                if let Visit::Retry { body } = verdict {
                    if let Some(membership) = membership
                        && hindrance(session, membership).await?.is_some()
                    {
                        did.walked.left += 1;
                        continue;
                    }
                    let history = history_text(&found.letter.history_with_this());
                    let back = session.first(PUT_BACK, &[&found.row, &found.claim, body, &history]).await?;
                    let Some(back) = back else { continue };
                    did.walked.retried += 1;
                    did.queues.insert(back.get(0));
                    if let Some(membership) = membership {
                        told.push(&membership.application, Entry::retried(membership, now).to_bytes());
                    }
                } else if session.run(REMOVE, &[&found.row, &found.claim]).await? > 0 {
                    did.walked.removed += 1;
                    if let Some(membership) = membership {
                        let memo = found.letter.memo.as_ref();
                        let entry = job_entries::of_removal(membership, memo, now, job_entries::PURGED);
                        told.push(&membership.application, entry.to_bytes());
                    }
                }
            }
            told.store(session).await?;
            did.told = told.applications();
            Ok(())
        })
        .await?;
    walking.walked = walking.walked.and(did.walked);
    walking.queues.extend(did.queues);
    walking.told.extend(did.told);
    verdicts.clear();
    Ok(())
}
