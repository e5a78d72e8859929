//! Void rounds and frozen jobs: what of them waits, and how masters hear of them.
//!
//! A task of a void round is deleted: at once where it waits, else when it is claimed. A task of a frozen job is set aside when it is
//! claimed (state 3) and comes back when its job is thawed. Rows of both tables are numbered, so that each master tells the ones that
//! are new to it.
//!
//! A task that wipes is put off while a task of its job is in a hand: what was cancelled may write until its worker has ended.

use std::{collections::HashMap, time::Duration};

use rusqlite::{Connection, params};
use uuid::Uuid;

use super::{
    coming_back::{self, AT_ONCE},
    members,
};
use crate::{
    clock::Timestamp,
    jobs::record::FrozenJob,
    membership::Membership,
    transport::sqlite::file::columns::{bytes, text},
};

/// When a task that wipes is looked at again that came while others of its job were in hands.
const WIPE_AGAIN_IN: Duration = Duration::from_millis(100);

/// What becomes of the tasks of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Worked,
    Void,
    Frozen,
    /// It wipes, and what it wipes may still be written.
    TooEarly,
}

/// What becomes of the tasks of rounds, as far as it was asked for.
#[derive(Default)]
pub(crate) struct Fates(HashMap<Uuid, Fate>);

impl Fates {
    /// Takes a task that was claimed out again if it must not be delivered: of a void round, it is deleted, of a frozen job, set aside.
    /// What waits of the same round goes with it. Gives whether it was taken out.
    pub(crate) fn take_out(
        &mut self,
        transaction: &Connection,
        row: i64,
        membership: &Membership,
        now: Timestamp,
    ) -> rusqlite::Result<bool> {
        let fate = if let Some(fate) = self.0.get(&membership.round) {
            *fate
        } else {
            let fate = fate(transaction, membership)?;
            match fate {
                Fate::Worked | Fate::TooEarly => 0,
                Fate::Void => delete_waiting(transaction, membership.round)?,
                Fate::Frozen => set_aside(transaction, membership.round)?,
            };
            self.0.insert(membership.round, fate);
            fate
        };
        let statement = match fate {
            Fate::Worked => return Ok(false),
            Fate::Void => "DELETE FROM task WHERE id = ?1",
            Fate::Frozen => "UPDATE task SET state = 3, owner = 0 WHERE id = ?1",
            Fate::TooEarly => {
                let statement = "UPDATE task SET state = 0, owner = 0, due = ?2 WHERE id = ?1";
                transaction.prepare_cached(statement)?.execute([row, now.plus(WIPE_AGAIN_IN).0])?;
                return Ok(true);
            }
        };
        transaction.prepare_cached(statement)?.execute([row])?;
        Ok(true)
    }
}

/// Whether a round is void.
pub(crate) fn is_void(connection: &Connection, round: Uuid) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM void WHERE round = ?1")?.exists([round.as_bytes().as_slice()])
}

fn fate(connection: &Connection, membership: &Membership) -> rusqlite::Result<Fate> {
    if is_void(connection, membership.round)? {
        return Ok(Fate::Void);
    }
    let mut frozen = connection.prepare_cached("SELECT 1 FROM frozen_job WHERE application = ?1 AND job = ?2")?;
    let is_frozen = frozen.exists([&membership.application, &membership.job])?;
    Ok(match membership.wipe {
        _ if is_frozen => Fate::Frozen,
        true if is_in_hand(connection, membership)? => Fate::TooEarly,
        _ => Fate::Worked,
    })
}

/// Whether a task of the job of one that wipes is in a hand.
fn is_in_hand(connection: &Connection, wipe: &Membership) -> rusqlite::Result<bool> {
    // As many rows as there are tasks in hands, of all jobs: few, and wipes are rare.
    let mut held = connection
        .prepare_cached("SELECT member, job, round FROM task INDEXED BY task_held WHERE state = 1 AND job = ?1")?;
    let mut rows = held.query([&wipe.job])?;
    while let Some(row) = rows.next()? {
        if let Ok(Some(member)) = members::membership(row, 0)?
            && member.application == wipe.application
            && !member.wipe
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A round is void: what waits of it is deleted. The rest of very many is deleted later, by [`sweep`].
pub(crate) fn make_void(transaction: &Connection, now: Timestamp, round: Uuid) -> rusqlite::Result<()> {
    coming_back::stay_dead(transaction, round)?;
    let swept = delete_waiting(transaction, round)? < AT_ONCE;
    transaction
        .prepare_cached("INSERT OR IGNORE INTO void (round, at, swept) VALUES (?1, ?2, ?3)")?
        .execute(params![round.as_bytes(), now.0, swept])
        .map(drop)
}

/// The first void round of which tasks may wait.
pub(crate) fn unswept(connection: &Connection) -> rusqlite::Result<Option<(i64, Uuid)>> {
    let mut statement = connection.prepare_cached("SELECT id, round FROM void WHERE swept = 0 ORDER BY id LIMIT 1")?;
    let mut rows = statement.query([])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    // A round that another program wrote, and that is none, has no tasks.
    Ok(Some((row.get(0)?, Uuid::from_slice(&bytes(row, 1)?).unwrap_or_default())))
}

/// Deletes more of what waits of a void round.
pub(crate) fn sweep(transaction: &Connection, (id, round): (i64, Uuid)) -> rusqlite::Result<()> {
    if delete_waiting(transaction, round)? < AT_ONCE {
        transaction.prepare_cached("UPDATE void SET swept = 1 WHERE id = ?1")?.execute([id])?;
    }
    Ok(())
}

/// Deletes what waits of a round, but for what is beyond a number. Gives how many.
fn delete_waiting(transaction: &Connection, round: Uuid) -> rusqlite::Result<usize> {
    let statement = "DELETE FROM task WHERE id IN (SELECT id FROM task INDEXED BY task_round \
                     WHERE round = ?1 AND state IN (0, 3) LIMIT ?2)";
    transaction.prepare_cached(statement)?.execute(params![round.as_bytes(), AT_ONCE as i64])
}

/// Sets aside what waits of a round, but for what is beyond a number. Gives how many.
fn set_aside(transaction: &Connection, round: Uuid) -> rusqlite::Result<usize> {
    let statement = "UPDATE task SET state = 3 WHERE id IN (SELECT id FROM task INDEXED BY task_round \
                     WHERE round = ?1 AND state = 0 LIMIT ?2)";
    transaction.prepare_cached(statement)?.execute(params![round.as_bytes(), AT_ONCE as i64])
}

/// From now on nothing of a job is delivered.
pub(crate) fn freeze(transaction: &Connection, application: &str, job: &str) -> rusqlite::Result<()> {
    coming_back::stays_frozen(transaction, application, job)?;
    let statement = "INSERT OR IGNORE INTO frozen_job (application, job) VALUES (?1, ?2)";
    transaction.prepare_cached(statement)?.execute([application, job]).map(drop)
}

/// The rounds of the frozen jobs of an application, of which tasks wait that are not set aside.
pub(crate) fn not_set_aside(connection: &Connection, application: &str) -> rusqlite::Result<Vec<Uuid>> {
    let mut statement = connection.prepare_cached(
        "SELECT job.rounds FROM frozen_job JOIN job ON job.application = frozen_job.application \
         AND job.id = frozen_job.job WHERE frozen_job.application = ?1",
    )?;
    let mut rows = statement.query([application])?;
    let mut rounds = Vec::new();
    while let Some(row) = rows.next()? {
        rounds.extend(bytes(row, 0)?.chunks_exact(16).filter_map(|round| Uuid::from_slice(round).ok()));
    }
    let mut waits =
        connection.prepare_cached("SELECT 1 FROM task INDEXED BY task_round WHERE round = ?1 AND state = 0 LIMIT 1")?;
    let mut waiting = Vec::new();
    for round in rounds {
        if waits.exists([round.as_bytes().as_slice()])? {
            waiting.push(round);
        }
    }
    Ok(waiting)
}

/// Sets aside what waits of these rounds, up to a number. Gives whether that is all.
pub(crate) fn set_all_aside(transaction: &Connection, rounds: &[Uuid]) -> rusqlite::Result<bool> {
    let mut count = 0;
    for round in rounds {
        count += set_aside(transaction, *round)?;
        if count >= AT_ONCE {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a task of one of these rounds is in a queue or in a hand, or a dead letter that is about to go back.
pub(crate) fn any_alive(connection: &Connection, rounds: &[Uuid]) -> rusqlite::Result<bool> {
    let mut alive = connection
        .prepare_cached("SELECT 1 FROM task INDEXED BY task_round WHERE round = ?1 AND state <> 2 LIMIT 1")?;
    for round in rounds {
        if alive.exists([round.as_bytes().as_slice()])? || coming_back::is_reviving(connection, *round)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Up to which numbers a master has told void rounds and frozen jobs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    void: i64,
    frozen: i64,
}

impl Seen {
    /// All that there is now: of a master that has nothing in hand yet.
    pub(crate) fn all(connection: &Connection) -> rusqlite::Result<Self> {
        let last = |table: &str| {
            let statement = format!("SELECT coalesce(max(id), 0) FROM {table}");
            connection.prepare_cached(&statement)?.query_row([], |row| row.get(0))
        };
        Ok(Self { void: last("void")?, frozen: last("frozen_job")? })
    }

    /// What came since: void rounds, and jobs that are frozen.
    pub(crate) fn new_ones(&mut self, connection: &Connection) -> rusqlite::Result<(Vec<Uuid>, Vec<FrozenJob>)> {
        let (mut void, mut frozen) = (Vec::new(), Vec::new());
        let mut seen = *self;
        let mut statement = connection.prepare_cached("SELECT id, round FROM void WHERE id > ?1 ORDER BY id")?;
        let mut rows = statement.query([self.void])?;
        while let Some(row) = rows.next()? {
            seen.void = row.get(0)?;
            void.extend(Uuid::from_slice(&bytes(row, 1)?));
        }
        let mut statement =
            connection.prepare_cached("SELECT id, application, job FROM frozen_job WHERE id > ?1 ORDER BY id")?;
        let mut rows = statement.query([self.frozen])?;
        while let Some(row) = rows.next()? {
            seen.frozen = row.get(0)?;
            frozen.push(FrozenJob { application: text(row, 1)?, id: text(row, 2)? });
        }
        *self = seen;
        Ok((void, frozen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        task::NewTask,
        transport::sqlite::{
            file::{
                database::{Database, Synchronous},
                schema::queue_id,
            },
            tasks::{claim::claim, submit::insert},
        },
    };

    #[test]
    fn what_is_too_much_at_once_is_deleted_later_and_never_delivered_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = Database::open_or_create(&folder.path().join("a.db"), &std::sync::Arc::default()).unwrap();
        let round = Uuid::from_u128(1);
        let member = Membership {
            application: "app".to_owned(),
            job: "j".to_owned(),
            pipeline: "p".to_owned(),
            key: None,
            step: "s".to_owned(),
            queue: "foo".to_owned(),
            each: "foo".to_owned(),
            round,
            feeder: round,
            index: 0,
            wipe: false,
            inputs: None,
        };
        let waiting = |database: &Database| -> i64 {
            database.read().query_row("SELECT count(*) FROM task WHERE state IN (0, 3)", [], |row| row.get(0)).unwrap()
        };
        let claimed = database
            .write(Synchronous::Normal, |transaction, ids| {
                let mut task = NewTask { queue: "foo".to_owned(), id: "void".to_owned(), ..NewTask::default() };
                task.membership = Some(Box::new(member));
                (0..AT_ONCE + 5).try_for_each(|_| insert(transaction, ids, Timestamp(0), &task))?;
                make_void(transaction, Timestamp(0), round)?;
                // What comes after all the others.
                (task.id, task.membership) = ("free".to_owned(), None);
                insert(transaction, ids, Timestamp(1), &task)?;
                let queue = queue_id(transaction, ids, "foo")?;
                claim(transaction, 1, queue, Timestamp(2), 1)
            })
            .unwrap();
        assert_eq!(claimed.iter().map(|one| &one.task.id[..]).collect::<Vec<_>>(), ["free"]);
        assert_eq!(waiting(&database), 0);
        let swept = unswept(database.read()).unwrap().expect("not all of it was deleted at once");
        database.write(Synchronous::Normal, |transaction, _| sweep(transaction, swept)).unwrap();
        assert_eq!(unswept(database.read()).unwrap(), None);
    }
}
