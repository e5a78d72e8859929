//! What comes back to its queue: tasks of a job that is frozen no more, dead letters of a round that is done again.
//!
//! There may be very many of them: some come back with the step of the coordinator, the rest with the upkeep. What is left to do stands
//! in two tables, `thawing` and `reviving`.

use uuid::Uuid;

use crate::transport::postgres::{
    connect::{fault::Fault, session::Session},
    requests::dead_letters,
};

/// Rows deleted, set aside or brought back at once: others want to write, too.
pub(crate) const AT_ONCE: i64 = 10_000;

const THAW: &str = "UPDATE @.task SET state = 0 WHERE id = ANY (ARRAY(SELECT id FROM @.task WHERE state = 3 AND job = $2 \
                    AND application = $1 LIMIT $3))";

/// Tasks of a job are delivered again. Gives how many that were set aside came back at once.
pub(crate) async fn thaw(session: &Session, application: &str, job: &str) -> Result<u64, Fault> {
    // Whoever sets tasks of it aside holds a lock on this row: what was set aside is seen by the statement after this.
    session.run("DELETE FROM @.frozen_job WHERE application = $1 AND job = $2", &[&application, &job]).await?;
    let thawed = session.run(THAW, &[&application, &job, &AT_ONCE]).await?;
    if thawed == AT_ONCE as u64 {
        let statement = "INSERT INTO @.thawing (application, job) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        session.run(statement, &[&application, &job]).await?;
    }
    Ok(thawed)
}

/// Dead letters of a round go back to work. Gives how many did at once.
pub(crate) async fn revive(session: &Session, round: Uuid) -> Result<u64, Fault> {
    // The last one that is there, whatever the clock said when it died.
    let last = "SELECT coalesce(max(due), @.now_ms()) FROM @.task WHERE round = $1 AND state = 2";
    let until: i64 = session.first(last, &[&round]).await?.map_or(0, |row| row.get(0));
    let revived = dead_letters::revive(session, round, until, AT_ONCE).await?;
    if revived == AT_ONCE as u64 {
        let statement = "INSERT INTO @.reviving (round, until) VALUES ($1, $2) \
                         ON CONFLICT (round) DO UPDATE SET until = excluded.until";
        session.run(statement, &[&round, &until]).await?;
    }
    Ok(revived)
}

/// Brings more back. Gives how many tasks.
pub(crate) async fn go_on(session: &Session) -> Result<u64, Fault> {
    let mut came = 0;
    if let Some(row) = session.first("SELECT application, job FROM @.thawing LIMIT 1", &[]).await? {
        let (application, job): (String, String) = (row.get(0), row.get(1));
        came = session.run(THAW, &[&application, &job, &AT_ONCE]).await?;
        if came < AT_ONCE as u64 {
            stays_frozen(session, &application, &job).await?;
        }
    }
    if let Some(row) = session.first("SELECT round, until FROM @.reviving LIMIT 1", &[]).await? {
        let round: Uuid = row.get(0);
        let revived = dead_letters::revive(session, round, row.get(1), AT_ONCE).await?;
        if revived < AT_ONCE as u64 {
            stay_dead(session, round).await?;
        }
        came += revived;
    }
    Ok(came)
}

/// Nothing more of a job comes back: it is frozen again, or all of it has.
pub(crate) async fn stays_frozen(session: &Session, application: &str, job: &str) -> Result<(), Fault> {
    session.run("DELETE FROM @.thawing WHERE application = $1 AND job = $2", &[&application, &job]).await.map(drop)
}

/// No more dead letters of a round go back to work: it is void.
pub(crate) async fn stay_dead(session: &Session, round: Uuid) -> Result<(), Fault> {
    session.run("DELETE FROM @.reviving WHERE round = $1", &[&round]).await.map(drop)
}
