//! The states of jobs, a row each, and what is frozen beside them.

use tokio_postgres::{Row, types::ToSql};

use super::{entries, hindrance::holder, stopped};
use crate::{
    clock::Timestamp,
    jobs::record::{Frozen, JobFilter, JobState, Record},
    transport::postgres::connect::{
        fault::{Fault, Kind},
        session::Session,
    },
};

macro_rules! columns {
    () => {
        "id, pipeline, key, holds_key, state, frozen, open, priority, made_at, purge_at, version, rounds, content"
    };
}

const OPEN: &str =
    concat!("SELECT ", columns!(), " FROM @.job WHERE application = $1 AND open ORDER BY made_at, number");
const TO_BE_WORKED: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM @.job WHERE application = $1 AND open AND NOT frozen \
     AND (state IN ('planned', 'running') OR holds_key) ORDER BY made_at, number"
);
const STORE: &str = "
INSERT INTO @.job AS j (application, id, pipeline, key, holds_key, state, frozen, open, priority, made_at, purge_at, epoch,
                        version, rounds, content)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT (application, id) DO UPDATE SET pipeline = $3, key = $4, holds_key = $5, state = $6, frozen = $7, open = $8,
    priority = $9, made_at = $10, purge_at = $11, epoch = $12, version = $13, rounds = $14, content = $15
WHERE j.version < $13 OR j.purge_at <= @.now_ms()";

/// The open jobs of an application, oldest first.
pub(crate) async fn open(session: &Session, application: &str) -> Result<Vec<Record>, Fault> {
    Ok(session.rows(OPEN, &[&application]).await?.iter().map(read).collect())
}

/// The jobs of an application that are live, or are being wiped and have their key, and are not frozen.
pub(crate) async fn to_be_worked(session: &Session, application: &str) -> Result<Vec<Record>, Fault> {
    Ok(session.rows(TO_BE_WORKED, &[&application]).await?.iter().map(read).collect())
}

/// The jobs that a filter holds and whose time is not over, newest first.
pub(crate) async fn find(session: &Session, application: &str, filter: &JobFilter) -> Result<Vec<Record>, Fault> {
    if filter.stranded && entries::any(session, application).await? {
        return Ok(Vec::new());
    }
    let limit = if filter.limit == 0 { usize::MAX } else { filter.limit };
    let mut of: Vec<Box<dyn ToSql + Sync>> = vec![Box::new(application.to_owned())];
    let mut wanted = "application = $1 AND (purge_at IS NULL OR purge_at > @.now_ms())".to_owned();
    let mut and = |condition: &str, value: &str| {
        of.push(Box::new(value.to_owned()));
        wanted.extend([" AND ", &condition.replace('?', &format!("${}", of.len()))]);
    };
    match &filter.id {
        Some(id) if filter.whole_id => and("id = ?", id),
        Some(id) => and("id >= ? AND starts_with(id, ?)", id),
        None => {}
    }
    if !filter.ids.is_empty() {
        // Ids are of letters that no list of SQL's takes for its own.
        let ids: Vec<&str> = filter.ids.iter().map(String::as_str).collect();
        and("id = ANY (string_to_array(?, ','))", &ids.join(","));
    }
    if let Some(pipeline) = &filter.pipeline {
        and("pipeline = ?", pipeline);
    }
    if let Some(key) = &filter.key {
        and("key = ?", key);
    }
    if let Some(state) = filter.state {
        and("state = ?", state.as_str());
    }
    if filter.open {
        wanted.push_str(" AND open");
    }
    let mut statement =
        format!(concat!("SELECT ", columns!(), " FROM @.job WHERE {} ORDER BY made_at DESC, number DESC"), wanted);
    if !filter.stranded && filter.limit > 0 {
        statement.extend([" LIMIT ", &filter.limit.to_string()]);
    }
    let params: Vec<&(dyn ToSql + Sync)> = of.iter().map(AsRef::as_ref).collect();
    let found = session.rows_of(&statement, &params).await?;
    if !filter.stranded {
        return Ok(found.iter().map(read).collect());
    }
    let mut stranded = Vec::new();
    for record in found.iter().map(read) {
        let is_running = record.state == JobState::Running && !record.frozen;
        if stranded.len() < limit && is_running && !stopped::any_alive(session, &record.rounds).await? {
            stranded.push(record);
        }
    }
    Ok(stranded)
}

/// A row as a record; what another program wrote is read as nearly as it can be.
fn read(row: &Row) -> Record {
    Record {
        id: row.get(0),
        pipeline: row.get(1),
        key: row.get(2),
        holds_key: row.get(3),
        state: JobState::named(row.get(4)).unwrap_or(JobState::Failed),
        frozen: row.get(5),
        open: row.get(6),
        priority: row.get(7),
        made_at: Timestamp(row.get(8)),
        purge_at: row.get::<_, Option<i64>>(9).map(Timestamp),
        version: u64::try_from(row.get::<_, i64>(10)).unwrap_or(0),
        rounds: row.get(11),
        content: row.get(12),
    }
}

/// Stores the state of a job. What cannot be stored, now or later, is a fault of the datum.
pub(crate) async fn store(session: &Session, (application, epoch): (&str, i64), record: &Record) -> Result<(), Fault> {
    if record.holds_key
        && let Some(key) = &record.key
        && let Some(id) = holder(session, application, (&record.pipeline, key), &record.id).await?
    {
        let pipeline = &record.pipeline;
        return Err(Fault::new(Kind::Datum, format!("job {id} holds the key {pipeline}/{key}")));
    }
    let stored = session
        .run(
            STORE,
            &[
                &application,
                &record.id,
                &record.pipeline,
                &record.key,
                &record.holds_key,
                &record.state.as_str(),
                &record.frozen,
                &record.open,
                &record.priority,
                &record.made_at.0,
                &record.purge_at.map(|at| at.0),
                &epoch,
                &(record.version as i64),
                &record.rounds,
                &record.content,
            ],
        )
        .await?;
    if stored == 0 {
        let (id, version) = (&record.id, record.version);
        return Err(Fault::new(Kind::Datum, format!("job {id} is stored already in version {version} or a later one")));
    }
    Ok(())
}

/// Forgets a job.
pub(crate) async fn forget(session: &Session, application: &str, id: &str) -> Result<(), Fault> {
    session.run("DELETE FROM @.job WHERE application = $1 AND id = $2", &[&application, &id]).await.map(drop)
}

/// The pipelines and keys that are frozen, sorted.
pub(crate) async fn frozen(session: &Session, application: &str) -> Result<Vec<Frozen>, Fault> {
    let rows =
        session.rows("SELECT pipeline, key FROM @.frozen_pipeline WHERE application = $1", &[&application]).await?;
    let mut frozen: Vec<Frozen> = rows.iter().map(|row| Frozen { pipeline: row.get(0), key: row.get(1) }).collect();
    frozen.sort();
    Ok(frozen)
}

/// Replaces the pipelines and keys that are frozen.
pub(crate) async fn set_frozen(session: &Session, application: &str, frozen: &[Frozen]) -> Result<(), Fault> {
    session.run("DELETE FROM @.frozen_pipeline WHERE application = $1", &[&application]).await?;
    let insert = "INSERT INTO @.frozen_pipeline (application, pipeline, key) VALUES ($1, $2, $3)";
    for one in frozen {
        session.run(insert, &[&application, &one.pipeline, &one.key]).await?;
    }
    Ok(())
}
