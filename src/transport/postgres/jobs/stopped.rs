//! Void rounds and frozen jobs: what of them waits, and how masters hear of them.
//!
//! A task of a void round is deleted: at once where it waits, else after it is claimed. A task of a frozen job is set aside when it is
//! claimed (state 3) and comes back when its job is thawed. Rows of both tables are numbered, so that each master tells the ones that
//! are new to it. Whoever writes such rows takes a lock for it, so that their numbers rise in the order of the commits.

use uuid::Uuid;

use super::coming_back::{self, AT_ONCE};
use crate::{
    jobs::record::FrozenJob,
    transport::postgres::connect::{fault::Fault, session::Session},
};

/// Deletes what waits of a round, but for what is beyond a number.
pub(super) const DELETE_WAITING: &str = "DELETE FROM @.task WHERE id = ANY (ARRAY(SELECT id FROM @.task WHERE round = $1 AND state IN (0, 3) LIMIT $2 FOR UPDATE SKIP LOCKED))";
/// Sets aside what waits of a round, but for what is beyond a number.
pub(super) const SET_ASIDE: &str = "UPDATE @.task SET state = 3 WHERE id = ANY (ARRAY(SELECT id FROM @.task WHERE round = $1 AND state = 0 LIMIT $2 FOR UPDATE SKIP LOCKED))";
const MAKE_VOID: &str =
    "INSERT INTO @.void (round, at, swept) VALUES ($1, @.now_ms(), $2) ON CONFLICT (round) DO NOTHING";
const NOT_SET_ASIDE: &str = "
SELECT r.round FROM @.frozen_job AS f JOIN @.job AS j ON j.application = f.application AND j.id = f.job
    CROSS JOIN LATERAL unnest(j.rounds) AS r (round)
WHERE f.application = $1 AND EXISTS (SELECT 1 FROM @.task AS t WHERE t.round = r.round AND t.state = 0)";

/// A round is void: what waits of it is deleted. The rest of very many is deleted later, by [`sweep`].
pub(crate) async fn make_void(session: &Session, round: Uuid) -> Result<(), Fault> {
    coming_back::stay_dead(session, round).await?;
    let swept = session.run(DELETE_WAITING, &[&round, &AT_ONCE]).await? < AT_ONCE as u64;
    session.run(MAKE_VOID, &[&round, &swept]).await.map(drop)
}

/// Deletes more of what waits of the first void round of which tasks may wait.
pub(crate) async fn sweep(session: &Session) -> Result<(), Fault> {
    let statement = "SELECT id, round FROM @.void WHERE NOT swept ORDER BY id LIMIT 1";
    let Some(row) = session.first(statement, &[]).await? else { return Ok(()) };
    let (id, round): (i64, Uuid) = (row.get(0), row.get(1));
    if session.run(DELETE_WAITING, &[&round, &AT_ONCE]).await? < AT_ONCE as u64 {
        session.run("UPDATE @.void SET swept = true WHERE id = $1", &[&id]).await?;
    }
    Ok(())
}

/// From now on nothing of a job is delivered.
pub(crate) async fn freeze(session: &Session, application: &str, job: &str) -> Result<(), Fault> {
    coming_back::stays_frozen(session, application, job).await?;
    let statement = "INSERT INTO @.frozen_job (application, job) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    session.run(statement, &[&application, &job]).await.map(drop)
}

/// Sets aside what waits of the frozen jobs of an application, up to a number of each round. Gives whether that is all.
pub(crate) async fn set_all_aside(session: &Session, application: &str) -> Result<bool, Fault> {
    let rounds = session.rows(NOT_SET_ASIDE, &[&application]).await?;
    for row in rows_of_rounds(&rounds) {
        if session.run(SET_ASIDE, &[&row, &AT_ONCE]).await? == AT_ONCE as u64 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn rows_of_rounds(rows: &[tokio_postgres::Row]) -> impl Iterator<Item = Uuid> {
    rows.iter().map(|row| row.get(0))
}

/// Whether a task of one of these rounds is in a queue or in a hand, or a dead letter that is about to go back.
pub(crate) async fn any_alive(session: &Session, rounds: &[Uuid]) -> Result<bool, Fault> {
    let statement = "SELECT EXISTS (SELECT 1 FROM @.task WHERE round = ANY($1) AND state <> 2) \
                     OR EXISTS (SELECT 1 FROM @.reviving WHERE round = ANY($1))";
    Ok(session.first(statement, &[&rounds]).await?.is_some_and(|row| row.get(0)))
}

/// Up to which numbers a master has told void rounds and frozen jobs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    void: i64,
    frozen: i64,
}

impl Seen {
    /// All that there is now: of a master that has nothing in hand yet.
    pub(crate) async fn all(session: &Session) -> Result<Self, Fault> {
        let statement =
            "SELECT coalesce((SELECT max(id) FROM @.void), 0), coalesce((SELECT max(id) FROM @.frozen_job), 0)";
        let row = session.first(statement, &[]).await?;
        Ok(row.map_or_else(Self::default, |row| Self { void: row.get(0), frozen: row.get(1) }))
    }

    /// What came since: void rounds, and jobs that are frozen.
    pub(crate) async fn new_ones(&mut self, session: &Session) -> Result<(Vec<Uuid>, Vec<FrozenJob>), Fault> {
        let void = session.rows("SELECT id, round FROM @.void WHERE id > $1 ORDER BY id", &[&self.void]).await?;
        let statement = "SELECT id, application, job FROM @.frozen_job WHERE id > $1 ORDER BY id";
        let frozen = session.rows(statement, &[&self.frozen]).await?;
        self.void = void.last().map_or(self.void, |row| row.get(0));
        self.frozen = frozen.last().map_or(self.frozen, |row| row.get(0));
        let void = void.iter().map(|row| row.get(1)).collect();
        let frozen = frozen.iter().map(|row| FrozenJob { application: row.get(1), id: row.get(2) }).collect();
        Ok((void, frozen))
    }
}
