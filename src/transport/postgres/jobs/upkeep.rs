//! What is forgotten of jobs: ended ones after their time, answers after an hour, void rounds after a week; and what is done in parts.

use super::{coming_back, stopped};
use crate::transport::postgres::connect::{fault::Fault, session::Session};

/// Answers are kept so long, in milliseconds.
const ANSWERS: i64 = 3_600_000;
/// Void rounds are kept so long, in milliseconds: their tasks may be in hands, or among dead letters that are put back to work.
const VOID: i64 = 7 * 24 * 3_600_000;

/// Rows are there to be deleted: ended jobs, answers, void rounds.
const OLD: &str = "
SELECT EXISTS (SELECT 1 FROM @.job WHERE purge_at IS NOT NULL AND purge_at <= @.now_ms())
    OR EXISTS (SELECT 1 FROM @.answer WHERE at <= @.now_ms() - $1)
    OR EXISTS (SELECT 1 FROM @.void WHERE at <= @.now_ms() - $2 AND swept)";
const FORGET: &str = "DELETE FROM @.job WHERE number = ANY (ARRAY(SELECT number FROM @.job WHERE purge_at IS NOT NULL \
                      AND purge_at <= @.now_ms() LIMIT $1 FOR UPDATE SKIP LOCKED)) RETURNING application, id";

/// Deletes what was kept long enough, at most `limit` jobs. Gives how many tasks that were set aside came back.
pub(crate) async fn purge(session: &Session, limit: i64) -> Result<u64, Fault> {
    if !session.first(OLD, &[&ANSWERS, &VOID]).await?.is_some_and(|row| row.get(0)) {
        return Ok(0);
    }
    session
        .transaction(async |session| {
            let mut thawed = 0;
            // A later job may have the id of one.
            for row in session.rows(FORGET, &[&limit]).await? {
                thawed += coming_back::thaw(session, row.get(0), row.get(1)).await?;
            }
            session.run("DELETE FROM @.answer WHERE at <= @.now_ms() - $1", &[&ANSWERS]).await?;
            session.run("DELETE FROM @.void WHERE at <= @.now_ms() - $1 AND swept", &[&VOID]).await?;
            Ok(thawed)
        })
        .await
}

/// Goes on deleting what waits of void rounds that had very many tasks, and bringing back what is to come back. Gives how many tasks
/// came.
pub(crate) async fn sweep(session: &Session) -> Result<u64, Fault> {
    session.transaction(async |session| stopped::sweep(session).await).await?;
    session.transaction(async |session| coming_back::go_on(session).await).await
}
