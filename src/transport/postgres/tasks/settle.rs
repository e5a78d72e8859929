//! Storing what became of tasks, many in a statement.
//!
//! Each statement names rows with the numbers of their claims. Where another master took a task back meanwhile, the number is another
//! one, and nothing is changed: that delivery is no longer ours. What a settlement tells a ledger, and what it submits, is stored by
//! the statement that changes the row, and only if it does.

use std::collections::{BTreeSet, HashMap, HashSet};

use tokio_postgres::types::ToSql;

use super::{
    copies::Copy,
    pending::{PendingSettlement, RowClaim, Statement, failure_text},
    settle_sql::{DEAD, FINISH, PUT_BACK, RELEASE, REMOVE, REMOVE_VOID},
    submit::{NewRows, millis},
    unique_keys,
};
use crate::{
    clock::Timestamp,
    json_text::JsonText,
    membership::ledger_of,
    task::{Failure, Handle, Settlement},
    transport::{job_entries, row_text::cause},
};

/// Rows with the numbers of their claims.
#[derive(Default)]
struct Rows {
    ids: Vec<i64>,
    claims: Vec<i32>,
}

impl Rows {
    fn push(&mut self, row: RowClaim) {
        self.ids.push(row.id);
        self.claims.push(row.claim);
    }
}

/// Rows that change, with what their ledgers are told.
#[derive(Default)]
struct Moved<'a> {
    rows: Rows,
    memos: Vec<Option<&'a str>>,
    failed_at: Vec<Option<i64>>,
    applications: Vec<Option<&'a str>>,
    entries: Vec<Option<Vec<u8>>>,
}

impl<'a> Moved<'a> {
    fn push(&mut self, row: RowClaim, pending: &'a PendingSettlement, failure: Option<&Failure>, now: Timestamp) {
        let task = &pending.task;
        self.rows.push(row);
        self.memos.push(job_entries::memo_after(task, &pending.settlement).map(JsonText::as_str));
        self.failed_at.push(failure.map(|failure| failure.failed_at.0));
        self.applications.push(task.membership.as_deref().map(|membership| membership.application.as_str()));
        self.entries.push(job_entries::of_settlement(task, &pending.settlement, now).map(|entry| entry.to_bytes()));
    }
}

/// Settlements as the columns of a few statements.
#[derive(Default)]
pub(crate) struct Batch<'a> {
    owner: i64,
    void: Rows,
    removed: Rows,
    finished: Rows,
    follow: NewRows<'a>,
    follow_after: Vec<Option<i64>>,
    told_after: Vec<Option<i64>>,
    told_applications: Vec<&'a str>,
    told: Vec<&'a [u8]>,
    back: Moved<'a>,
    after: Vec<i64>,
    used: Vec<i32>,
    released: Rows,
    dead: Moved<'a>,
    failures: Vec<String>,
    reasons: Vec<&'static str>,
    fingerprints: Vec<String>,
    keep: Vec<Option<i64>>,
    copies: Vec<Copy<'a>>,
    keys: Vec<String>,
    key_rows: Vec<i64>,
}

impl<'a> Batch<'a> {
    /// The columns of these settlements of an owner. `ids` has the queues of what they submit.
    pub(crate) fn new(
        owner: i64,
        pending: impl IntoIterator<Item = &'a PendingSettlement>,
        ids: &HashMap<&str, i32>,
        now: Timestamp,
    ) -> Self {
        let mut batch = Self { owner, ..Self::default() };
        for one in pending {
            batch.push(one, ids, now);
        }
        batch
    }

    fn push(&mut self, one: &'a PendingSettlement, ids: &HashMap<&str, i32>, now: Timestamp) {
        self.keys.extend(one.key.as_deref().map(unique_keys::stored));
        if one.came_again
            && one.settlement != Settlement::Accept
            && let Some(row) = one.row
        {
            self.key_rows.push(row.id);
        }
        let Some(row) = one.row else { return self.push_accepted(one, ids, now) };
        if one.settlement.puts_back() && one.task.membership.is_some() {
            self.void.push(row);
        }
        match &one.settlement {
            Settlement::Done { submit } if !submit.is_empty() => {
                self.finished.push(row);
                self.push_submitted(one, Some(row.id), ids);
            }
            Settlement::Done { .. } | Settlement::Accept | Settlement::Discard => self.removed.push(row),
            Settlement::Retry { after, failure } => {
                self.back.push(row, one, Some(failure), now);
                self.after.push(millis(*after));
                self.used.push(1);
            }
            Settlement::Snooze { after, .. } => {
                self.back.push(row, one, None, now);
                self.after.push(millis(*after));
                self.used.push(0);
            }
            Settlement::Release | Settlement::Pass => self.released.push(row),
            Settlement::Dead(failure) => {
                self.dead.push(row, one, Some(failure), now);
                let (reason, fingerprint) = cause(failure);
                self.failures.push(failure_text(failure));
                self.reasons.push(reason);
                self.fingerprints.push(fingerprint);
                self.keep.push(one.keep.map(millis));
            }
        }
    }

    /// Of an accepted task nothing is left in the table: what is to be kept of it is stored anew.
    fn push_accepted(&mut self, one: &'a PendingSettlement, ids: &HashMap<&str, i32>, now: Timestamp) {
        match &one.settlement {
            Settlement::Done { .. } => self.push_submitted(one, None, ids),
            Settlement::Accept | Settlement::Discard => {}
            _ => self.copies.push(Copy::of(one, now)),
        }
    }

    fn push_submitted(&mut self, one: &'a PendingSettlement, after: Option<i64>, ids: &HashMap<&str, i32>) {
        for task in one.submitted() {
            if let Some(application) = ledger_of(&task.queue) {
                self.told_after.push(after);
                self.told_applications.push(application);
                self.told.push(&task.body);
            } else {
                self.follow.push(task, ids.get(task.queue.as_str()).copied().unwrap_or(0));
                self.follow_after.push(after);
            }
        }
    }

    /// The statements that store them, in their order.
    pub(crate) fn statements(&self) -> Vec<Statement<'_>> {
        let mut statements: Vec<Statement<'_>> = Vec::new();
        if !self.keys.is_empty() {
            statements.push((unique_keys::GIVE_BACK, vec![&self.owner, &self.keys]));
        }
        if !self.key_rows.is_empty() {
            statements.push((unique_keys::GIVE_BACK_OF, vec![&self.owner, &self.key_rows]));
        }
        if !self.void.ids.is_empty() {
            statements.push((REMOVE_VOID, vec![&self.void.ids, &self.void.claims]));
        }
        if !self.removed.ids.is_empty() {
            statements.push((REMOVE, vec![&self.removed.ids, &self.removed.claims]));
        }
        if !self.finished.ids.is_empty() || !self.follow_after.is_empty() || !self.told.is_empty() {
            let mut params: Vec<&(dyn ToSql + Sync)> = vec![&self.finished.ids, &self.finished.claims];
            params.extend(self.follow.params());
            params.push(&self.follow_after);
            params.extend([&self.told_after as &(dyn ToSql + Sync), &self.told_applications, &self.told]);
            statements.push((FINISH, params));
        }
        if !self.back.rows.ids.is_empty() {
            let Moved { rows, memos, failed_at, applications, entries } = &self.back;
            let params: Vec<&(dyn ToSql + Sync)> =
                vec![&rows.ids, &rows.claims, &self.after, &self.used, failed_at, memos, applications, entries];
            statements.push((PUT_BACK, params));
        }
        if !self.released.ids.is_empty() {
            statements.push((RELEASE, vec![&self.released.ids, &self.released.claims]));
        }
        if !self.dead.rows.ids.is_empty() {
            let Moved { rows, memos, failed_at, applications, entries } = &self.dead;
            let params: Vec<&(dyn ToSql + Sync)> = vec![
                &rows.ids,
                &rows.claims,
                &self.failures,
                &self.keep,
                failed_at,
                memos,
                &self.reasons,
                &self.fingerprints,
                applications,
                entries,
            ];
            statements.push((DEAD, params));
        }
        statements.extend(self.copies.iter().map(Copy::statement));
        statements
    }
}

/// The settlements among these whose rows were not changed: they came too late.
pub(crate) fn stale(pending: &[PendingSettlement], changed: &HashSet<i64>) -> BTreeSet<Handle> {
    let is_stale = |one: &&PendingSettlement| one.row.is_some_and(|row| !changed.contains(&row.id));
    pending.iter().filter(is_stale).map(|one| one.handle).collect()
}
