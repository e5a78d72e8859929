//! Taking tasks.
//!
//! One statement makes the oldest due tasks of a queue ours and raises their claim number, by which a settlement of a former owner is
//! distinguished from ours. The rows are found by the index `task_ready` alone, from a lower bound on (`due`, `id`): while anybody's
//! old snapshot lives the entries of rows that were claimed stay in the index, and each claim would walk them all again.
//!
//! It is never looked at whether a task can be run. What may not be delivered, because its round is void or its job frozen, is
//! claimed all the same, told apart by its fate, and taken out by the next transaction.

use std::sync::Arc;

use tokio_postgres::Row;
use uuid::Uuid;

use super::members::{membership, memo, moment, parsed};
use crate::{
    clock::Timestamp,
    membership::Membership,
    task::Task,
    transport::postgres::connect::{fault::Fault, session::Session},
};

/// Whether a task that wipes comes while a task of its job is in a hand.
macro_rules! too_early {
    () => {
        "t.wipes AND EXISTS (SELECT 1 FROM @.task AS h WHERE h.state = 1 AND h.job = t.job \
         AND h.application = t.application AND NOT h.wipes)"
    };
}

/// What is read of a row that is claimed.
macro_rules! claimed_columns {
    () => {
        concat!(
            "t.id, t.claim, t.due, t.attempts, t.deliveries, t.redelivered, t.expires_at, t.first_failed_at, t.message_id, \
             t.headers, t.body, t.history, t.member, t.memo, \
             CASE WHEN t.round IS NULL THEN 0 \
             WHEN EXISTS (SELECT 1 FROM @.void AS v WHERE v.round = t.round) THEN 1 \
             WHEN EXISTS (SELECT 1 FROM @.frozen_job AS f WHERE f.application = t.application AND f.job = t.job) THEN 2 \
             WHEN ",
            too_early!(),
            " THEN 3 ELSE 0 END"
        )
    };
}

/// The oldest due tasks of a queue behind a bound become the owner's: `owner, queue, room, bound's due and id, backend`. An array from a
/// sub-select is evaluated once; a join might lock more rows than its limit. Behind a pool of transactions, where the backend is
/// another one than that which holds the owner's lock, nothing is taken. What comes too early is put off at once.
pub(crate) const CLAIM: &str = concat!(
    "UPDATE @.task AS t SET claim = t.claim % 1000000000 + 1, state = CASE WHEN ",
    too_early!(),
    " THEN 0 ELSE 1 END, owner = CASE WHEN ",
    too_early!(),
    " THEN 0 ELSE $1::bigint END, due = CASE WHEN ",
    too_early!(),
    " THEN @.now_ms() + 100 ELSE t.due END WHERE t.id = ANY (ARRAY( \
     SELECT r.id FROM @.task AS r WHERE r.queue = $2 AND r.state = 0 AND r.due <= @.now_ms() AND (r.due, r.id) > ($4, $5) \
     AND pg_backend_pid() = $6 ORDER BY r.due, r.id LIMIT $3 FOR UPDATE SKIP LOCKED)) RETURNING ",
    claimed_columns!()
);

/// Tasks of a queue that the owner has in hand since an earlier session are delivered again: `owner, queue, room, rows that are open`.
pub(crate) const RECLAIM: &str = concat!(
    "UPDATE @.task AS t SET claim = t.claim % 1000000000 + 1, redelivered = true WHERE t.id = ANY (ARRAY( \
     SELECT r.id FROM @.task AS r WHERE r.owner = $1 AND r.queue = $2 AND r.state = 1 AND r.id <> ALL ($4) \
     ORDER BY r.due, r.id LIMIT $3)) RETURNING ",
    claimed_columns!()
);

/// In how many milliseconds the next task of a queue is due.
pub(crate) const NEXT_DUE: &str =
    "SELECT due - @.now_ms() FROM @.task WHERE queue = $1 AND state = 0 ORDER BY due, id LIMIT 1";

/// What becomes of a row that was claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is delivered.
    Worked,
    /// Its round is void.
    Void,
    /// Its job is frozen.
    Frozen,
    /// It wipes, and what it wipes may still be written.
    TooEarly,
}

/// A row that was claimed.
pub(crate) struct Claimed {
    pub(crate) row: i64,
    pub(crate) claim: i32,
    pub(crate) due: i64,
    pub(crate) redelivered: bool,
    pub(crate) fate: Fate,
    pub(crate) task: Arc<Task>,
}

/// A row that is to be taken out again.
#[derive(Clone, Debug)]
pub(crate) struct TakenOut {
    pub(crate) row: i64,
    pub(crate) claim: i32,
    pub(crate) application: String,
    pub(crate) job: String,
    pub(crate) round: Uuid,
    pub(crate) fate: Fate,
}

impl Claimed {
    /// What has to be known to take it out again; `None` for one that is delivered.
    pub(crate) fn taken_out(&self) -> Option<TakenOut> {
        if self.fate == Fate::Worked {
            return None;
        }
        let Membership { application, job, round, .. } = self.task.membership.as_deref()?;
        let (application, job) = (application.clone(), job.clone());
        Some(TakenOut { row: self.row, claim: self.claim, application, job, round: *round, fate: self.fate })
    }
}

/// Rows of [`CLAIM`] or [`RECLAIM`], oldest first.
pub(crate) fn claimed(rows: &[Row]) -> Vec<Claimed> {
    let mut claimed: Vec<Claimed> = rows.iter().map(read).collect();
    claimed.sort_unstable_by_key(|one| (one.due, one.row));
    claimed
}

fn read(row: &Row) -> Claimed {
    let mut unreadable = None;
    let mut count = |column: usize, name: &str| {
        let number: i32 = row.get(column);
        u32::try_from(number).unwrap_or_else(|_| {
            unreadable.get_or_insert(format!("the row cannot be read: its {name} is {number}"));
            0
        })
    };
    let (attempts, deliveries) = (count(3, "attempts"), count(4, "deliveries"));
    let membership = membership(row, 12).unwrap_or_else(|error| {
        unreadable.get_or_insert(error);
        None
    });
    let due: i64 = row.get(2);
    let task = Task {
        id: row.get(8),
        body: row.get(10),
        attempts,
        deliveries,
        headers: parsed(row, 9),
        properties: None,
        expires_at: moment(row, 6),
        first_failed_at: moment(row, 7),
        history: parsed(row, 11),
        due_at: Some(Timestamp(due)),
        name: None,
        time_limit: None,
        unreadable,
        membership,
        memo: memo(row, 13),
    };
    let fate = match row.get::<_, i32>(14) {
        1 => Fate::Void,
        2 => Fate::Frozen,
        3 => Fate::TooEarly,
        _ => Fate::Worked,
    };
    Claimed { row: row.get(0), claim: row.get(1), due, redelivered: row.get(5), fate, task: Arc::new(task) }
}

/// In how many milliseconds the next task of a queue is due, 0 or less for now; `None`: there is none.
pub(crate) async fn next_due(session: &Session, queue: i32) -> Result<Option<i64>, Fault> {
    Ok(session.first(NEXT_DUE, &[&queue]).await?.map(|row| row.get(0)))
}
