//! The schema, and the steps that bring an older file to it. What each table and column means stands in
//! [`FILE_FORMAT.md`](crate::transport::sqlite).
//!
//! One table holds all tasks, whatever their `state`, so that a move is one `UPDATE` and cannot be half done. A step that was
//! released is never changed: files that took it exist.

use std::{collections::HashMap, path::Path};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::{
    columns::text,
    error::{Fault, file_error},
};
use crate::limits::KNOWN_QUEUES;

/// Ids of queues by name, as far as they were asked for.
pub(crate) type QueueIds = HashMap<String, i64>;

/// "AsyT": what `file` and others can tell the file by.
const APPLICATION_ID: i64 = 0x4173_7954;

/// The steps from an empty file to the newest schema; `user_version` counts those that were taken.
const STEPS: &[&str] = &[
    "
CREATE TABLE queue (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);
CREATE TABLE task (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    queue INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0,
    due INTEGER NOT NULL,
    owner INTEGER NOT NULL DEFAULT 0,
    claim INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    deliveries INTEGER NOT NULL DEFAULT 0,
    redelivered INTEGER NOT NULL DEFAULT 0,
    expires_at INTEGER,
    first_failed_at INTEGER,
    purge_at INTEGER,
    message_id TEXT NOT NULL,
    headers TEXT,
    failure TEXT,
    body BLOB NOT NULL
);
CREATE INDEX task_ready ON task (queue, due, id) WHERE state = 0;
CREATE INDEX task_held ON task (owner, queue) WHERE state = 1;
CREATE INDEX task_dead ON task (queue, due, id, purge_at) WHERE state = 2;
CREATE INDEX task_purge ON task (purge_at) WHERE state = 2 AND purge_at IS NOT NULL;
CREATE TABLE master (
    owner INTEGER PRIMARY KEY AUTOINCREMENT,
    pid INTEGER NOT NULL,
    attached_at INTEGER NOT NULL
);
CREATE TABLE fired (
    application TEXT NOT NULL,
    schedule TEXT NOT NULL,
    moment INTEGER NOT NULL,
    PRIMARY KEY (application, schedule, moment)
) WITHOUT ROWID;
",
    "
ALTER TABLE task ADD COLUMN history TEXT;
ALTER TABLE queue ADD COLUMN hidden INTEGER NOT NULL DEFAULT 0;
",
    "
CREATE TABLE held_key (
    key TEXT PRIMARY KEY,
    owner INTEGER NOT NULL,
    task TEXT NOT NULL
) WITHOUT ROWID;
",
    // Empty, unless another program wrote such a row: so looking for one costs nothing.
    "
CREATE INDEX task_in_no_state ON task (id) WHERE state NOT IN (0, 1, 2);
",
    // One row: by how much the wall clock was ahead of the time since which boot, and since when (`clock_offset`).
    "
ALTER TABLE task ADD COLUMN set_at INTEGER;
CREATE TABLE clock (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    boot TEXT NOT NULL,
    ahead INTEGER NOT NULL,
    since INTEGER NOT NULL,
    valid_from INTEGER NOT NULL,
    before_ahead INTEGER,
    before_from INTEGER
);
",
    // Jobs. `round` stands beside `member`, which names it too, for the index; tasks outside of jobs are in neither index.
    "
ALTER TABLE task ADD COLUMN job TEXT;
ALTER TABLE task ADD COLUMN round BLOB;
ALTER TABLE task ADD COLUMN member TEXT;
ALTER TABLE task ADD COLUMN memo TEXT;
CREATE INDEX task_round ON task (round) WHERE round IS NOT NULL;
CREATE INDEX task_set_aside ON task (job, queue) WHERE state = 3;
DROP INDEX task_in_no_state;
CREATE INDEX task_in_no_state ON task (id) WHERE state NOT IN (0, 1, 2, 3);
CREATE TABLE entry (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    application TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX entry_ledger ON entry (application, id);
CREATE TABLE ledger (
    application TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL,
    owner INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE job (
    number INTEGER PRIMARY KEY,
    application TEXT NOT NULL,
    id TEXT NOT NULL,
    pipeline TEXT NOT NULL,
    key TEXT,
    holds_key INTEGER NOT NULL,
    state TEXT NOT NULL,
    frozen INTEGER NOT NULL,
    open INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    made_at INTEGER NOT NULL,
    purge_at INTEGER,
    epoch INTEGER NOT NULL,
    version INTEGER NOT NULL,
    rounds BLOB NOT NULL,
    content TEXT NOT NULL
);
CREATE UNIQUE INDEX job_id ON job (application, id);
CREATE INDEX job_pipeline ON job (application, pipeline, key, made_at);
CREATE UNIQUE INDEX job_key ON job (application, pipeline, key) WHERE holds_key = 1;
CREATE INDEX job_open ON job (application, made_at) WHERE open = 1;
CREATE INDEX job_made ON job (application, made_at, id);
CREATE INDEX job_purge ON job (purge_at) WHERE purge_at IS NOT NULL;
CREATE TABLE void (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    round BLOB NOT NULL UNIQUE,
    at INTEGER NOT NULL,
    swept INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX void_at ON void (at);
CREATE INDEX void_unswept ON void (id) WHERE swept = 0;
CREATE TABLE frozen_job (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    application TEXT NOT NULL,
    job TEXT NOT NULL,
    UNIQUE (application, job)
);
CREATE TABLE thawing (
    application TEXT NOT NULL,
    job TEXT NOT NULL,
    PRIMARY KEY (application, job)
) WITHOUT ROWID;
CREATE TABLE reviving (
    round BLOB PRIMARY KEY,
    until INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE frozen_pipeline (
    application TEXT NOT NULL,
    pipeline TEXT NOT NULL,
    key TEXT
);
CREATE TABLE answer (
    application TEXT NOT NULL,
    id TEXT NOT NULL,
    text TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (application, id)
) WITHOUT ROWID;
CREATE INDEX answer_at ON answer (at);
",
    // The cause of a dead letter, for those who look through them (`dead_page`).
    "
ALTER TABLE task ADD COLUMN reason TEXT;
ALTER TABLE task ADD COLUMN fingerprint TEXT;
CREATE INDEX task_cause ON task (queue, reason, fingerprint, due) WHERE state = 2;
",
    // A row of `entry` may hold a list, and `member` is shorter. A program of an earlier version that has the file open would pass over
    // both: its coordinator asks for entries by the name of an index, and ends with an error instead.
    "
DROP INDEX entry_ledger;
CREATE INDEX entry_told ON entry (application, id);
",
];

/// Brings the file to the newest schema.
pub(crate) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), Fault> {
    let refused = |cause: String| Err(Fault::Final(file_error(path, cause)));
    if version(connection)? == STEPS.len() as i64 && application(connection)? == APPLICATION_ID {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables > 0 && application(&transaction)? != APPLICATION_ID {
        return refused("it is the database of another program".to_owned());
    }
    let version = version(&transaction)?;
    let Some(steps) = usize::try_from(version).ok().and_then(|taken| STEPS.get(taken..)) else {
        let known = STEPS.len();
        return refused(format!("its schema is version {version}, this program knows {known}: use a newer asynctask"));
    };
    for step in steps {
        transaction.execute_batch(step)?;
    }
    let known = STEPS.len();
    transaction.execute_batch(&format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {known}"))?;
    transaction.commit()?;
    Ok(())
}

/// A file as an older version of this program left it.
#[cfg(test)]
pub(crate) fn to_version(connection: &Connection, version: usize) -> rusqlite::Result<()> {
    STEPS[..version].iter().try_for_each(|step| connection.execute_batch(step))?;
    connection.execute_batch(&format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version}"))
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn application(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA application_id", [], |row| row.get(0))
}

/// The id of a queue, which is made if it is new. Queues are never deleted, so an id stays true.
pub(crate) fn queue_id(transaction: &Connection, ids: &mut QueueIds, name: &str) -> rusqlite::Result<i64> {
    if let Some(id) = ids.get(name) {
        return Ok(*id);
    }
    let id = match known_queue(transaction, name)? {
        Some(id) => {
            transaction.prepare_cached("UPDATE queue SET hidden = 0 WHERE id = ?1 AND hidden = 1")?.execute([id])?;
            id
        }
        None => transaction.prepare_cached("INSERT INTO queue (name) VALUES (?1)")?.insert([name])?,
    };
    if ids.len() >= KNOWN_QUEUES {
        ids.clear();
    }
    ids.insert(name.to_owned(), id);
    Ok(id)
}

/// The id of a queue that is there.
pub(crate) fn known_queue(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    connection.prepare_cached("SELECT id FROM queue WHERE name = ?1")?.query_row([name], |row| row.get(0)).optional()
}

/// The name of a queue by its id; of one whose row another program deleted, the id.
pub(crate) fn queue_name(connection: &Connection, id: i64) -> rusqlite::Result<String> {
    let statement = "SELECT name FROM queue WHERE id = ?1";
    let name = connection.prepare_cached(statement)?.query_row([id], |row| text(row, 0)).optional()?;
    Ok(name.unwrap_or_else(|| id.to_string()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{
        super::database::{Database, Synchronous},
        *,
    };
    use crate::{
        clock::Timestamp,
        task::{Failure, Reason},
        transport::dead_page::DeadFilter,
        transport::sqlite::{
            peers::owner,
            requests::dead_page,
            tasks::claim::{self, CLAIM, NEXT_DUE},
        },
    };

    #[test]
    fn a_newer_schema_is_refused_and_says_so() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, Path::new("/a.db")).unwrap();
        migrate(&mut connection, Path::new("/a.db")).unwrap();
        connection.execute_batch("PRAGMA user_version = 99").unwrap();
        let error = migrate(&mut connection, Path::new("/a.db")).unwrap_err();
        assert!(matches!(error, Fault::Final(error) if error.to_string().contains("version 99")));
    }

    #[test]
    fn the_database_of_another_program_is_left_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE theirs (x)").unwrap();
        assert!(matches!(migrate(&mut connection, Path::new("/a.db")), Err(Fault::Final(_))));
    }

    #[test]
    fn a_file_of_an_earlier_version_keeps_its_tasks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let earlier = Connection::open(&path).unwrap();
        to_version(&earlier, 5).unwrap();
        let row = "INSERT INTO queue (name) VALUES ('foo');
             INSERT INTO task (queue, due, message_id, body) VALUES (1, 0, 'a', x'37')";
        earlier.execute_batch(row).unwrap();
        drop(earlier);
        let mut database = Database::open_or_create(&path, &Arc::default()).unwrap();
        assert_eq!(version(database.read()).unwrap(), STEPS.len() as i64);
        let claimed = database
            .write(Synchronous::Normal, |transaction, _| claim::claim(transaction, 1, 1, Timestamp(1), 9))
            .unwrap();
        let task = &claimed[0].task;
        assert_eq!((claimed.len(), &task.id[..], &task.body[..]), (1, "a", &b"7"[..]));
        assert!(task.membership.is_none() && task.memo.is_none() && task.unreadable.is_none());
    }

    #[test]
    fn dead_letters_of_an_earlier_version_are_grouped_by_their_causes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let earlier = Connection::open(&path).unwrap();
        to_version(&earlier, 6).unwrap();
        let failure = serde_json::to_string(&Failure::new(Reason::Crash, "killed by 7", Timestamp(5))).unwrap();
        earlier.execute("INSERT INTO queue (name) VALUES ('foo')", []).unwrap();
        let row = "INSERT INTO task (queue, state, due, message_id, body, failure) VALUES (1, 2, ?1, ?1, x'', ?2)";
        for number in 0..1200 {
            earlier.execute(row, rusqlite::params![number, failure]).unwrap();
        }
        // As another program may have written it.
        earlier.execute(row, rusqlite::params![1200, "no JSON"]).unwrap();
        drop(earlier);
        let mut database = Database::open_or_create(&path, &Arc::default()).unwrap();
        dead_page::fill_causes(&mut database, "foo").unwrap();
        dead_page::fill_causes(&mut database, "elsewhere").unwrap();
        let groups = dead_page::groups(database.read(), Timestamp(2000), "foo").unwrap();
        let said: Vec<_> = groups.iter().map(|group| (&*group.reason, &*group.error, group.count)).collect();
        assert_eq!(said[0], ("crash", "killed by 7", 1200));
        assert_eq!((said.len(), said[1].0, said[1].2), (2, "failed", 1));
        let filter = DeadFilter { reason: Some("crash".to_owned()), fingerprint: None };
        let page = dead_page::page(database.read(), "foo", &filter, None, 10).unwrap();
        assert_eq!((page.rows.len(), &*page.rows[0].id), (10, "1199"));
    }

    #[test]
    fn claiming_and_looking_need_no_table_scan() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, Path::new("/a.db")).unwrap();
        for query in [NEXT_DUE, CLAIM] {
            let plan: Vec<String> = connection
                .prepare(&format!("EXPLAIN QUERY PLAN {query}"))
                .unwrap()
                .query_map(rusqlite::params_from_iter(vec![1; query.matches('?').count().min(4)]), |row| row.get(3))
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            assert!(plan.iter().any(|line| line.contains("task_ready")), "{plan:?}");
            assert!(!plan.iter().any(|line| line.starts_with("SCAN")), "{plan:?}");
        }
    }

    #[test]
    fn looking_for_orphans_reads_no_rows_of_tasks() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, Path::new("/a.db")).unwrap();
        for query in [owner::HELD_BY_NO_MASTER, owner::IN_NO_STATE] {
            let plan: Vec<String> = connection
                .prepare(&format!("EXPLAIN QUERY PLAN {query}"))
                .unwrap()
                .query_map([], |row| row.get(3))
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            let of_tasks: Vec<&String> = plan.iter().filter(|line| line.contains("task")).collect();
            assert!(!of_tasks.is_empty(), "{plan:?}");
            assert!(
                of_tasks
                    .iter()
                    .all(|line| line.contains("COVERING INDEX task_held") || line.contains("task_in_no_state")),
                "{plan:?}"
            );
        }
    }
}
