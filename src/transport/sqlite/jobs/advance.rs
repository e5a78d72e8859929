//! One step of a coordinator, in one transaction.

use rusqlite::{Connection, OptionalExtension, params};

use super::{answers, coming_back, entries, records, stopped, undone::Undone};
use crate::{
    clock::Timestamp,
    jobs::record::Advance,
    membership::ledger_of,
    transport::sqlite::{file::schema::QueueIds, requests::dead_letters, tasks::submit},
};

/// What a step did.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// Dead letters that went back to their queues.
    pub(crate) revived: u64,
    /// There are tasks to claim.
    pub(crate) claimable: bool,
    /// Masters have something new to see: tasks, void rounds, frozen jobs.
    pub(crate) is_news: bool,
}

/// Stores a step of the coordinator that holds the ledger of an application in this epoch.
pub(crate) fn store(
    transaction: &Connection,
    ids: &mut QueueIds,
    (application, epoch): (&str, u64),
    now: Timestamp,
    advance: &Advance,
) -> rusqlite::Result<Stored> {
    let mut current = transaction.prepare_cached("SELECT epoch FROM ledger WHERE application = ?1")?;
    if current.query_row([application], |row| row.get::<_, i64>(0)).optional()? != Some(epoch as i64) {
        return Err(Undone::NotOurs.into());
    }
    entries::delete(transaction, &advance.entries)?;
    // A job that is new may have the id of one that was frozen when its time was over.
    let made = advance.records.iter().filter(|record| record.version <= 1).map(|record| &record.id);
    let thawed = advance.thawed.iter().chain(&advance.forgotten).chain(made);
    let thawed = thawed.map(|job| coming_back::thaw(transaction, application, job)).sum::<rusqlite::Result<usize>>()?;
    for job in &advance.forgotten {
        records::forget(transaction, application, job)?;
    }
    // A key may pass from one to another of them.
    let (holders, others): (Vec<_>, Vec<_>) = advance.records.iter().partition(|record| record.holds_key);
    for record in others.into_iter().chain(holders) {
        records::store(transaction, (application, epoch), now, record)?;
    }
    if let Some(frozen) = &advance.frozen_pipelines {
        records::set_frozen(transaction, application, frozen)?;
    }
    for job in &advance.frozen {
        stopped::freeze(transaction, application, job)?;
    }
    for round in &advance.void {
        stopped::make_void(transaction, now, *round)?;
    }
    for round in &advance.superseded {
        dead_letters::delete(transaction, *round, coming_back::AT_ONCE)?;
    }
    for task in &advance.tasks {
        submit::insert(transaction, ids, now, task)?;
    }
    let mut revived = 0;
    for back in &advance.revived {
        revived += coming_back::revive(transaction, now, back.round)?;
    }
    for (order, text) in &advance.answers {
        answers::store(transaction, application, order, text, now)?;
    }
    let tasks = advance.tasks.iter().any(|task| ledger_of(&task.queue).is_none());
    let claimable = tasks || revived > 0 || thawed > 0;
    let is_news = claimable || !advance.void.is_empty() || !advance.frozen.is_empty();
    Ok(Stored { revived, claimable, is_news })
}

/// Begins an epoch of an application's ledger, whose coordinator has this owner number, or 0. Gives the epoch.
pub(crate) fn begin_epoch(transaction: &Connection, application: &str, owner: i64) -> rusqlite::Result<u64> {
    transaction
        .prepare_cached(
            "INSERT INTO ledger (application, epoch, owner) VALUES (?1, 1, ?2) \
             ON CONFLICT (application) DO UPDATE SET epoch = epoch + 1, owner = ?2 RETURNING epoch",
        )?
        .query_row(params![application, owner], |row| row.get::<_, i64>(0))
        .map(|epoch| epoch as u64)
}
