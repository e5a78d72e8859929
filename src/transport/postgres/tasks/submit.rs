//! Storing tasks, many in a statement. Nothing here commits, or answers a request.

use std::{collections::HashMap, time::Duration};

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::members::member_text;
use crate::{
    membership::ledger_of,
    task::NewTask,
    transport::{
        Error,
        postgres::{
            connect::{fault::Fault, session::Session},
            jobs::entries,
            schema::queue_ids::QueueIds,
        },
        row_text::headers_text,
    },
};

/// The longest body: larger ones are refused by the server, after they were sent to it.
const LONGEST_BODY: usize = 512 << 20;
/// Bytes of bodies in one statement.
const BYTES: usize = 8 << 20;
/// Tasks in one statement.
const TASKS: usize = 5_000;

/// Stores tasks in their order.
pub(crate) const INSERT: &str = "
INSERT INTO @.task (queue, due, expires_at, message_id, headers, body, application, job, round, member, wipes)
SELECT queue, @.now_ms() + delay, expires_at, message_id, headers, body, application, job, round, member, wipes
FROM unnest($1::int[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::bytea[], $7::text[], $8::text[], $9::uuid[],
            $10::text[], $11::bool[]) WITH ORDINALITY
    AS new (queue, delay, expires_at, message_id, headers, body, application, job, round, member, wipes, n)
ORDER BY n";

/// A delay in milliseconds, so that moments stay numbers.
pub(crate) fn millis(delay: Duration) -> i64 {
    i64::try_from(delay.as_millis()).unwrap_or(i64::MAX).min(i64::MAX / 4)
}

/// Columns of tasks that are to be stored.
#[derive(Default)]
pub(crate) struct NewRows<'a> {
    pub(crate) queues: Vec<i32>,
    delays: Vec<i64>,
    expires_at: Vec<Option<i64>>,
    ids: Vec<&'a str>,
    headers: Vec<Option<String>>,
    bodies: Vec<&'a [u8]>,
    applications: Vec<Option<&'a str>>,
    jobs: Vec<Option<&'a str>>,
    rounds: Vec<Option<Uuid>>,
    members: Vec<Option<String>>,
    wipes: Vec<bool>,
    bytes: usize,
}

impl<'a> NewRows<'a> {
    pub(crate) fn push(&mut self, task: &'a NewTask, queue: i32) {
        let membership = task.membership.as_deref();
        self.queues.push(queue);
        self.delays.push(millis(task.delay));
        self.expires_at.push(task.expires_at.map(|at| at.0));
        self.ids.push(&task.id);
        self.headers.push(headers_text(&task.headers));
        self.bodies.push(&task.body);
        self.applications.push(membership.map(|membership| membership.application.as_str()));
        self.jobs.push(membership.map(|membership| membership.job.as_str()));
        self.rounds.push(membership.map(|membership| membership.round));
        self.members.push(membership.map(member_text));
        self.wipes.push(membership.is_some_and(|membership| membership.wipe));
        self.bytes += task.body.len();
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    fn is_full(&self) -> bool {
        self.queues.len() >= TASKS || self.bytes >= BYTES
    }

    /// The parameters of [`INSERT`].
    pub(crate) fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        vec![
            &self.queues,
            &self.delays,
            &self.expires_at,
            &self.ids,
            &self.headers,
            &self.bodies,
            &self.applications,
            &self.jobs,
            &self.rounds,
            &self.members,
            &self.wipes,
        ]
    }
}

/// Why a task can never be stored here, if that can be seen before it is sent.
pub(crate) fn check(tasks: &[NewTask]) -> Result<(), Error> {
    for task in tasks {
        let cause = if task.id.contains('\0') {
            "its id has a NUL in it, which PostgreSQL stores in no text"
        } else if task.body.len() > LONGEST_BODY {
            "its payload is longer than 512 MiB"
        } else {
            continue;
        };
        return Err(Error::NotStored { queue: task.queue.clone(), cause: cause.to_owned() });
    }
    Ok(())
}

/// The queues of tasks, without those of ledgers.
pub(crate) fn queues<'a>(tasks: impl IntoIterator<Item = &'a NewTask>) -> impl Iterator<Item = &'a str> {
    tasks.into_iter().map(|task| task.queue.as_str()).filter(|queue| ledger_of(queue).is_none())
}

/// Stores tasks and entries of ledgers, in their order, inside of the caller's transaction.
pub(crate) async fn store<'a>(
    session: &Session,
    ids: &HashMap<&str, i32>,
    tasks: impl IntoIterator<Item = &'a NewTask>,
) -> Result<(), Fault> {
    let mut told = entries::Batch::default();
    let mut rows = NewRows::default();
    for task in tasks {
        if let Some(application) = ledger_of(&task.queue) {
            told.push(application, task.body.clone());
            continue;
        }
        rows.push(task, ids.get(task.queue.as_str()).copied().unwrap_or(0));
        if rows.is_full() {
            session.run(INSERT, &rows.params()).await?;
            rows = NewRows::default();
        }
    }
    if !rows.is_empty() {
        session.run(INSERT, &rows.params()).await?;
    }
    told.store(session).await
}

/// Makes the queues and stores the tasks, in a transaction of its own. Gives the ids of the queues.
pub(crate) async fn store_all(session: &Session, ids: &QueueIds, tasks: &[NewTask]) -> Result<Vec<i32>, Fault> {
    let known = ids.provide(session, queues(tasks)).await?;
    session.transaction(async |session| store(session, &known, tasks).await).await?;
    Ok(known.into_values().collect())
}
