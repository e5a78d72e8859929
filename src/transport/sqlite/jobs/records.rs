//! The states of jobs, a row each, and what is frozen beside them.
//!
//! A list needs few of the rows and a row may be long, so which rows are wanted is found by an index first, and only those are read.

use rusqlite::{Connection, Row, ToSql, params};

use super::{
    entries,
    hindrance::{holder, rounds},
    stopped,
    undone::Undone,
};
use crate::{
    clock::Timestamp,
    jobs::record::{Frozen, JobFilter, JobState, Record},
    transport::sqlite::file::columns::{moment, number, text},
};

const COLUMNS: &str =
    "id, pipeline, key, holds_key, state, frozen, open, priority, made_at, purge_at, version, rounds, content";

/// The open jobs of an application, oldest first.
pub(crate) fn open(connection: &Connection, application: &str) -> rusqlite::Result<Vec<Record>> {
    let statement = format!("SELECT {COLUMNS} FROM job WHERE application = ?1 AND open = 1 ORDER BY made_at, number");
    connection.prepare_cached(&statement)?.query_map([application], read)?.collect()
}

/// The jobs of an application that are live, or are being wiped and have their key, and are not frozen.
pub(crate) fn to_be_worked(connection: &Connection, application: &str) -> rusqlite::Result<Vec<Record>> {
    let statement = format!(
        "SELECT {COLUMNS} FROM job WHERE application = ?1 AND open = 1 AND frozen = 0 \
         AND (state IN ('planned', 'running') OR holds_key = 1) ORDER BY made_at, number"
    );
    connection.prepare_cached(&statement)?.query_map([application], read)?.collect()
}

/// The jobs that a filter holds and whose time is not over, newest first.
pub(crate) fn find(
    connection: &Connection,
    application: &str,
    now: Timestamp,
    filter: &JobFilter,
) -> rusqlite::Result<Vec<Record>> {
    if filter.stranded && entries::any(connection, application)? {
        return Ok(Vec::new());
    }
    let limit = if filter.limit == 0 { usize::MAX } else { filter.limit };
    let every = if filter.stranded { &JobFilter { limit: 0, ..filter.clone() } } else { filter };
    let (statement, of) = statement(application, now, every);
    let of: Vec<&dyn ToSql> = of.iter().map(AsRef::as_ref).collect();
    let mut statement = connection.prepare_cached(&statement)?;
    let found = statement.query_map(of.as_slice(), read)?;
    if !filter.stranded {
        return found.collect();
    }
    let mut stranded = Vec::new();
    for record in found {
        let record = record?;
        let is_running = record.state == JobState::Running && !record.frozen;
        if stranded.len() < limit && is_running && !stopped::any_alive(connection, &record.rounds)? {
            stranded.push(record);
        }
    }
    Ok(stranded)
}

/// A filter as a statement, and its parameters.
fn statement(application: &str, now: Timestamp, filter: &JobFilter) -> (String, Vec<Box<dyn ToSql>>) {
    let mut of: Vec<Box<dyn ToSql>> = vec![Box::new(application.to_owned()), Box::new(now.0)];
    let mut wanted = "application = ?1 AND (purge_at IS NULL OR purge_at > ?2)".to_owned();
    let mut and = |condition: &str, value: Box<dyn ToSql>| {
        of.push(value);
        wanted.extend([" AND ", &condition.replace('?', &format!("?{}", of.len()))]);
    };
    if let Some(id) = filter.id.as_ref().filter(|_| filter.whole_id) {
        and("id = ?", Box::new(id.clone()));
    } else if let Some(id) = &filter.id {
        // The last character that there is: what begins with the id sorts before that.
        and("id BETWEEN ? AND ? || char(1114111)", Box::new(id.clone()));
    }
    if !filter.ids.is_empty() {
        and("id IN (SELECT value FROM json_each(?))", Box::new(serde_json::json!(filter.ids).to_string()));
    }
    if let Some(pipeline) = &filter.pipeline {
        and("pipeline = ?", Box::new(pipeline.clone()));
    }
    if let Some(key) = &filter.key {
        and("key = ?", Box::new(key.clone()));
    }
    if let Some(state) = filter.state {
        and("state = ?", Box::new(state.as_str()));
    }
    if filter.open {
        wanted.push_str(" AND open = 1");
    }
    let index = match filter {
        JobFilter { id: Some(_), .. } => "job_id",
        JobFilter { ids, .. } if !ids.is_empty() => "job_id",
        JobFilter { pipeline: Some(_), .. } => "job_pipeline",
        JobFilter { open: true, .. } => "job_open",
        _ => "job_made",
    };
    let limit = if filter.limit == 0 { -1 } else { i64::try_from(filter.limit).unwrap_or(i64::MAX) };
    let statement = format!(
        "SELECT {COLUMNS} FROM job WHERE number IN (SELECT number FROM job INDEXED BY {index} WHERE {wanted} \
         ORDER BY made_at DESC, number DESC LIMIT {limit}) ORDER BY made_at DESC, number DESC"
    );
    (statement, of)
}

/// A row as a record; what another program wrote is read as nearly as it can be.
fn read(row: &Row<'_>) -> rusqlite::Result<Record> {
    let whole = |column| Ok::<_, rusqlite::Error>(number(row.get_ref(column)?).unwrap_or(0));
    let key = match row.get_ref(2)? {
        rusqlite::types::ValueRef::Null => None,
        _ => Some(text(row, 2)?),
    };
    Ok(Record {
        id: text(row, 0)?,
        pipeline: text(row, 1)?,
        key,
        holds_key: whole(3)? != 0,
        state: JobState::named(&text(row, 4)?).unwrap_or(JobState::Failed),
        frozen: whole(5)? != 0,
        open: whole(6)? != 0,
        priority: i32::try_from(whole(7)?).unwrap_or(0),
        made_at: moment(row, 8)?.unwrap_or(Timestamp(0)),
        purge_at: moment(row, 9)?,
        version: u64::try_from(whole(10)?).unwrap_or(0),
        rounds: rounds(row, 11)?,
        content: text(row, 12)?,
    })
}

/// Stores the state of a job.
pub(crate) fn store(
    transaction: &Connection,
    (application, epoch): (&str, u64),
    now: Timestamp,
    record: &Record,
) -> rusqlite::Result<()> {
    if record.holds_key
        && let Some(key) = &record.key
        && let Some(id) = holder(transaction, application, (&record.pipeline, key), &record.id)?
    {
        let pipeline = &record.pipeline;
        return Err(Undone::Conflict(format!("job {id} holds the key {pipeline}/{key}")).into());
    }
    let rounds: Vec<u8> = record.rounds.iter().flat_map(|round| *round.as_bytes()).collect();
    // Most steps change nothing else. A column that is in an index costs the page of that, although its value stays.
    let went_on = transaction
        .prepare_cached(
            "UPDATE job SET epoch = ?11, version = ?12, rounds = ?13, content = ?14 WHERE application = ?1 AND id = ?2 \
             AND pipeline = ?3 AND key IS ?4 AND holds_key = ?5 AND state = ?6 AND frozen = ?7 AND open = ?8 \
             AND priority = ?9 AND made_at = ?10 AND purge_at IS NULL AND ?15 AND version < ?12",
        )?
        .execute(params![
            application,
            record.id,
            record.pipeline,
            record.key,
            record.holds_key,
            record.state.as_str(),
            record.frozen,
            record.open,
            record.priority,
            record.made_at.0,
            epoch as i64,
            record.version as i64,
            rounds,
            record.content,
            record.purge_at.is_none()
        ])?;
    if went_on > 0 {
        return Ok(());
    }
    let stored = transaction
        .prepare_cached(
            "INSERT INTO job (application, id, pipeline, key, holds_key, state, frozen, open, priority, made_at, \
             purge_at, epoch, version, rounds, content) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15) \
             ON CONFLICT (application, id) DO UPDATE SET pipeline = ?3, key = ?4, holds_key = ?5, state = ?6, \
             frozen = ?7, open = ?8, priority = ?9, made_at = ?10, purge_at = ?11, epoch = ?12, version = ?13, \
             rounds = ?14, content = ?15 WHERE version < ?13 OR purge_at <= ?16",
        )?
        .execute(params![
            application,
            record.id,
            record.pipeline,
            record.key,
            record.holds_key,
            record.state.as_str(),
            record.frozen,
            record.open,
            record.priority,
            record.made_at.0,
            record.purge_at.map(|at| at.0),
            epoch as i64,
            record.version as i64,
            rounds,
            record.content,
            now.0
        ])?;
    if stored == 0 {
        let (id, version) = (&record.id, record.version);
        return Err(Undone::Conflict(format!("job {id} is stored already in version {version} or a later one")).into());
    }
    Ok(())
}

/// Forgets a job.
pub(crate) fn forget(transaction: &Connection, application: &str, id: &str) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached("DELETE FROM job WHERE application = ?1 AND id = ?2")?;
    statement.execute([application, id]).map(drop)
}

/// The pipelines and keys that are frozen, sorted.
pub(crate) fn frozen(connection: &Connection, application: &str) -> rusqlite::Result<Vec<Frozen>> {
    let mut statement = connection
        .prepare_cached("SELECT pipeline, key FROM frozen_pipeline WHERE application = ?1 ORDER BY pipeline, key")?;
    statement.query_map([application], |row| Ok(Frozen { pipeline: text(row, 0)?, key: row.get(1)? }))?.collect()
}

/// Replaces the pipelines and keys that are frozen.
pub(crate) fn set_frozen(transaction: &Connection, application: &str, frozen: &[Frozen]) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM frozen_pipeline WHERE application = ?1")?.execute([application])?;
    let mut statement =
        transaction.prepare_cached("INSERT INTO frozen_pipeline (application, pipeline, key) VALUES (?1, ?2, ?3)")?;
    frozen.iter().try_for_each(|one| statement.execute(params![application, one.pipeline, one.key]).map(drop))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use uuid::Uuid;

    use super::*;
    use crate::transport::sqlite::file::schema::migrate;

    fn record(id: &str, key: Option<&str>, made_at: i64, version: u64) -> Record {
        Record {
            id: id.to_owned(),
            pipeline: "p".to_owned(),
            key: key.map(str::to_owned),
            holds_key: key.is_some(),
            state: JobState::Running,
            frozen: false,
            open: true,
            priority: -3,
            made_at: Timestamp(made_at),
            purge_at: None,
            version,
            rounds: vec![Uuid::from_u128(1), Uuid::from_u128(u128::MAX)],
            content: "{}".to_owned(),
        }
    }

    fn database() -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, Path::new("/a.db")).unwrap();
        connection
    }

    #[test]
    fn a_record_is_read_as_it_was_stored_and_each_list_uses_its_index() {
        let connection = database();
        let first = record("a%b", Some("k"), 1, 1);
        store(&connection, ("app", 1), Timestamp(0), &first).unwrap();
        let second = Record { state: JobState::Done, open: false, holds_key: false, ..record("a%c", Some("k"), 2, 1) };
        store(&connection, ("app", 1), Timestamp(0), &second).unwrap();
        store(&connection, ("other", 1), Timestamp(0), &record("a%b", Some("k"), 3, 1)).unwrap();
        let all = JobFilter::default();
        let filters = [
            all.clone(),
            JobFilter { id: Some("a%".to_owned()), ..all.clone() },
            JobFilter { id: Some("a%b".to_owned()), ..all.clone() },
            JobFilter { id: Some("a%b".to_owned()), whole_id: true, ..all.clone() },
            JobFilter { id: Some("a%".to_owned()), whole_id: true, ..all.clone() },
            JobFilter { id: Some("b".to_owned()), ..all.clone() },
            JobFilter { ids: ["a%b", "a%"].map(str::to_owned).into(), ..all.clone() },
            JobFilter { ids: ["b".to_owned()].into(), ..all.clone() },
            JobFilter { pipeline: Some("p".to_owned()), key: Some("k".to_owned()), ..all.clone() },
            JobFilter { pipeline: Some("q".to_owned()), ..all.clone() },
            JobFilter { state: Some(JobState::Done), ..all.clone() },
            JobFilter { open: true, ..all.clone() },
            JobFilter { limit: 1, ..all },
        ];
        for filter in filters {
            let mut expected = vec![second.clone(), first.clone()];
            expected.retain(|record| filter.holds(record));
            expected.truncate(if filter.limit == 0 { usize::MAX } else { filter.limit });
            assert_eq!(find(&connection, "app", Timestamp(0), &filter).unwrap(), expected, "{filter:?}");
        }
        assert_eq!(open(&connection, "app").unwrap(), [first]);
    }

    #[test]
    fn a_key_has_one_holder_and_a_version_counts_once() {
        let connection = database();
        store(&connection, ("app", 1), Timestamp(0), &record("a", Some("k"), 1, 2)).unwrap();
        assert!(store(&connection, ("app", 1), Timestamp(0), &record("a", Some("k"), 1, 2)).is_err());
        assert!(store(&connection, ("app", 1), Timestamp(0), &record("b", Some("k"), 1, 1)).is_err());
        store(&connection, ("app", 1), Timestamp(0), &Record { holds_key: false, ..record("a", Some("k"), 1, 3) })
            .unwrap();
        store(&connection, ("app", 1), Timestamp(0), &record("b", Some("k"), 1, 1)).unwrap();
        store(&connection, ("app", 1), Timestamp(0), &record("c", None, 1, 1)).unwrap();
        store(&connection, ("app", 1), Timestamp(0), &record("d", None, 1, 1)).unwrap();
        // One whose time is over is not there any more, whether its row is or not.
        let over = Record { purge_at: Some(Timestamp(50)), ..record("e", None, 1, 7) };
        store(&connection, ("app", 1), Timestamp(0), &over).unwrap();
        let listed = |now| {
            let filter = JobFilter { id: Some("e".to_owned()), ..JobFilter::default() };
            find(&connection, "app", Timestamp(now), &filter).unwrap().len()
        };
        assert_eq!((listed(49), listed(50)), (1, 0));
        assert!(store(&connection, ("app", 1), Timestamp(49), &record("e", None, 2, 1)).is_err());
        store(&connection, ("app", 1), Timestamp(50), &record("e", None, 2, 1)).unwrap();
    }
}
