//! Accepted tasks that are stored anew from memory, because their rows are gone.

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{
    members::member_text,
    pending::{PendingSettlement, Statement, failure_text},
    settle_sql::COPY,
    submit::millis,
};
use crate::{
    clock::Timestamp,
    json_text::JsonText,
    task::{Settlement, Task},
    transport::{
        job_entries,
        row_text::{cause, headers_text, history_text},
    },
};

/// The parameters of [`COPY`].
pub(crate) struct Copy<'a> {
    queue: i32,
    state: i16,
    after: i64,
    attempts: i32,
    expires_at: Option<i64>,
    first_failed_at: Option<i64>,
    task: &'a Task,
    headers: Option<String>,
    history: Option<String>,
    failure: Option<String>,
    reason: Option<&'static str>,
    fingerprint: Option<String>,
    keep: Option<i64>,
    application: Option<&'a str>,
    job: Option<&'a str>,
    round: Option<Uuid>,
    member: Option<String>,
    wipes: bool,
    memo: Option<&'a str>,
    entry: Option<Vec<u8>>,
}

impl<'a> Copy<'a> {
    pub(crate) fn of(one: &'a PendingSettlement, now: Timestamp) -> Self {
        let task = &*one.task;
        let (state, after, used, failure) = match &one.settlement {
            Settlement::Retry { after, failure } => (0, millis(*after), 1, Some(failure)),
            Settlement::Snooze { after, .. } => (0, millis(*after), 0, None),
            Settlement::Dead(failure) => (2, 0, 0, Some(failure)),
            _ => (0, 0, 0, None),
        };
        let dead = failure.filter(|_| state == 2);
        let cause = dead.map(|failure| cause(failure));
        let membership = task.membership.as_deref();
        let failed_at = failure.map(|failure| failure.failed_at);
        Self {
            queue: one.queue,
            state,
            after,
            attempts: i32::try_from(task.attempts.saturating_add(used)).unwrap_or(i32::MAX),
            expires_at: task.expires_at.map(|at| at.0),
            first_failed_at: task.first_failed_at.or(failed_at).map(|at| at.0),
            task,
            headers: headers_text(&task.headers),
            history: history_text(&task.history),
            failure: dead.map(|failure| failure_text(failure)),
            reason: cause.as_ref().map(|cause| cause.0),
            fingerprint: cause.map(|cause| cause.1),
            keep: one.keep.filter(|_| state == 2).map(millis),
            application: membership.map(|membership| membership.application.as_str()),
            job: membership.map(|membership| membership.job.as_str()),
            round: membership.map(|membership| membership.round),
            member: membership.map(member_text),
            wipes: membership.is_some_and(|membership| membership.wipe),
            memo: job_entries::memo_after(task, &one.settlement).map(JsonText::as_str),
            entry: job_entries::of_settlement(task, &one.settlement, now).map(|entry| entry.to_bytes()),
        }
    }

    pub(crate) fn statement(&self) -> Statement<'_> {
        let params: Vec<&(dyn ToSql + Sync)> = vec![
            &self.queue,
            &self.state,
            &self.after,
            &self.attempts,
            &self.expires_at,
            &self.first_failed_at,
            &self.task.id,
            &self.headers,
            &self.task.body,
            &self.history,
            &self.failure,
            &self.reason,
            &self.fingerprint,
            &self.keep,
            &self.application,
            &self.job,
            &self.round,
            &self.member,
            &self.wipes,
            &self.memo,
            &self.entry,
        ];
        (COPY, params)
    }
}
