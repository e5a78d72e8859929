//! Storing what became of a task.
//!
//! Each statement names the row and the number of the claim. Where another master took the task back
//! meanwhile, the number is another one, and nothing is changed: that delivery is no longer ours.

use std::{sync::Arc, time::Duration};

use rusqlite::{Connection, params};

use super::{submit::insert, unique_keys};
use crate::{
    clock::Timestamp,
    json_text::JsonText,
    membership::ledger_of,
    task::{Failure, Handle, Settlement, Task},
    transport::{
        job_entries,
        row_text::{cause, headers_text, history_text},
        sqlite::{
            file::schema::QueueIds,
            jobs::{entries::Gathered, members, stopped},
        },
    },
};

/// A settlement that was asked for and is not stored, with all that is needed to store it.
pub(crate) struct PendingSettlement {
    pub(crate) handle: Handle,
    /// The row; `None` if the task was accepted before, which removed it.
    pub(crate) row: Option<Row>,
    /// Id of the task's queue.
    pub(crate) queue: i64,
    /// How long a dead letter of this queue is kept.
    pub(crate) keep: Option<Duration>,
    pub(crate) task: Arc<Task>,
    /// The key that is given back with it.
    pub(crate) key: Option<String>,
    pub(crate) settlement: Settlement,
}

/// The row of a delivery, with the number of its claim.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) claim: i64,
}

/// What a settlement did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The task is removed, or a dead letter.
    Ended,
    /// There is a task to claim, now or later.
    Claimable,
    /// The claim was no longer ours; nothing was changed.
    Stale,
}

impl PendingSettlement {
    /// Stores it, for this owner; what it tells ledgers is gathered.
    pub(crate) fn store(
        &self,
        transaction: &Connection,
        ids: &mut QueueIds,
        now: Timestamp,
        owner: i64,
        entries: &mut Gathered,
    ) -> rusqlite::Result<Effect> {
        if let Some(key) = &self.key {
            unique_keys::give_back(transaction, owner, key)?;
        }
        let settlement = if self.is_void(transaction)? { &Settlement::Discard } else { &self.settlement };
        let effect = match settlement {
            Settlement::Accept | Settlement::Discard => self.remove(transaction),
            Settlement::Done { submit } => {
                let effect = self.remove(transaction)?;
                if effect == Effect::Stale {
                    return Ok(effect);
                }
                let mut is_claimable = false;
                for task in submit {
                    if let Some(application) = ledger_of(&task.queue) {
                        entries.add(transaction, application, &task.body)?;
                    } else {
                        insert(transaction, ids, now, task)?;
                        is_claimable = true;
                    }
                }
                Ok(if is_claimable { Effect::Claimable } else { effect })
            }
            Settlement::Retry { after, failure } => self.put_back(transaction, now, *after, 1, Some(failure.failed_at)),
            Settlement::Snooze { after, .. } => self.put_back(transaction, now, *after, 0, None),
            Settlement::Release | Settlement::Pass => self.release(transaction, now),
            Settlement::Dead(failure) => self.dead_letter(transaction, now, failure),
        }?;
        if effect != Effect::Stale
            && let Some(membership) = &self.task.membership
            && let Some(entry) = job_entries::of_settlement(&self.task, settlement, now)
        {
            entries.tell(transaction, &membership.application, &entry)?;
        }
        Ok(effect)
    }

    /// Whether it would put a task back whose round is void.
    fn is_void(&self, transaction: &Connection) -> rusqlite::Result<bool> {
        match self.task.membership.as_deref().filter(|_| self.settlement.puts_back()) {
            Some(membership) => stopped::is_void(transaction, membership.round),
            None => Ok(false),
        }
    }

    /// The applications whose ledgers it tells something, or may.
    pub(crate) fn ledgers(&self) -> impl Iterator<Item = &str> {
        let submitted = match &self.settlement {
            Settlement::Done { submit } => submit.as_slice(),
            _ => &[],
        };
        let of_job = self.task.membership.as_deref().map(|membership| membership.application.as_str());
        submitted.iter().filter_map(|task| ledger_of(&task.queue)).chain(of_job)
    }

    /// What the settlement gives the task to have when it comes again; `None`: what it had.
    fn new_memo(&self) -> Option<&str> {
        job_entries::memo_after(&self.task, &self.settlement).map(JsonText::as_str)
    }

    fn remove(&self, transaction: &Connection) -> rusqlite::Result<Effect> {
        let Some(row) = self.row else { return Ok(Effect::Ended) };
        let changed = transaction
            .prepare_cached("DELETE FROM task WHERE id = ?1 AND claim = ?2")?
            .execute([row.id, row.claim])?;
        Ok(if changed == 0 { Effect::Stale } else { Effect::Ended })
    }

    fn put_back(
        &self,
        transaction: &Connection,
        now: Timestamp,
        after: Duration,
        attempts_used: u32,
        failed_at: Option<Timestamp>,
    ) -> rusqlite::Result<Effect> {
        let Some(row) = self.row else {
            self.insert_copy(transaction, now, after, attempts_used, failed_at)?;
            return Ok(Effect::Claimable);
        };
        let changed = transaction
            .prepare_cached(
                "UPDATE task SET state = 0, owner = 0, due = ?3, set_at = ?6, attempts = attempts + ?4, deliveries = 0, \
                 redelivered = 0, first_failed_at = coalesce(first_failed_at, ?5), memo = coalesce(?7, memo) \
                 WHERE id = ?1 AND claim = ?2",
            )?
            .execute(params![
                row.id,
                row.claim,
                now.plus(after).0,
                attempts_used,
                failed_at.map(|at| at.0),
                now.0,
                self.new_memo()
            ])?;
        Ok(if changed == 0 { Effect::Stale } else { Effect::Claimable })
    }

    fn release(&self, transaction: &Connection, now: Timestamp) -> rusqlite::Result<Effect> {
        let Some(row) = self.row else {
            self.insert_copy(transaction, now, Duration::ZERO, 0, None)?;
            return Ok(Effect::Claimable);
        };
        let changed = transaction
            .prepare_cached("UPDATE task SET state = 0, owner = 0, redelivered = 1 WHERE id = ?1 AND claim = ?2")?
            .execute([row.id, row.claim])?;
        Ok(if changed == 0 { Effect::Stale } else { Effect::Claimable })
    }

    fn dead_letter(&self, transaction: &Connection, now: Timestamp, failure: &Failure) -> rusqlite::Result<Effect> {
        let row = match self.row {
            Some(row) => row,
            None => Row { id: self.insert_copy(transaction, now, Duration::ZERO, 0, None)?, claim: 0 },
        };
        let text =
            serde_json::to_string(failure).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        let purge_at = self.keep.map(|keep| now.plus(keep).0);
        let (reason, fingerprint) = cause(failure);
        let changed = transaction
            .prepare_cached(
                "UPDATE task SET state = 2, owner = 0, due = ?3, failure = ?4, purge_at = ?5, \
                 first_failed_at = coalesce(first_failed_at, ?6), memo = coalesce(?7, memo), \
                 reason = ?8, fingerprint = ?9 WHERE id = ?1 AND claim = ?2",
            )?
            .execute(params![
                row.id,
                row.claim,
                now.0,
                text,
                purge_at,
                failure.failed_at.0,
                self.new_memo(),
                reason,
                fingerprint
            ])?;
        Ok(if changed == 0 { Effect::Stale } else { Effect::Ended })
    }

    /// Of an accepted task nothing is left in the file: it is stored anew from memory.
    fn insert_copy(
        &self,
        transaction: &Connection,
        now: Timestamp,
        after: Duration,
        attempts_used: u32,
        failed_at: Option<Timestamp>,
    ) -> rusqlite::Result<i64> {
        let task = &self.task;
        let (job, round, member) = members::columns(task.membership.as_deref())?;
        transaction
            .prepare_cached(
                "INSERT INTO task (queue, due, attempts, expires_at, first_failed_at, message_id, headers, body, \
                 history, set_at, job, round, member, memo) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            )?
            .insert(params![
                self.queue,
                now.plus(after).0,
                task.attempts + attempts_used,
                task.expires_at.map(|at| at.0),
                task.first_failed_at.or(failed_at).map(|at| at.0),
                task.id,
                headers_text(&task.headers),
                task.body,
                history_text(&task.history),
                now.0,
                job,
                round,
                member,
                self.new_memo()
            ])
    }
}
