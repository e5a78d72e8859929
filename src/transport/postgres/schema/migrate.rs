//! Brings a database to our schema, and refuses one that it cannot be.
//!
//! Each step is a transaction of its own that gives up after two seconds of waiting for a lock: whoever waits for the lock of a whole
//! table has all others wait behind it. A newer schema is worked with unless it says that this program is too old for it.

use super::steps::{OLDEST_PROGRAM, STEPS};
use crate::transport::postgres::{
    connect::{
        fault::{Fault, Kind},
        session::Session,
    },
    keys,
};

/// How far a database is.
const LOOK: &str =
    "SELECT to_regclass('@.meta') IS NOT NULL, current_setting('server_encoding'), to_regnamespace($1) IS NOT NULL";
const VERSION: &str = "SELECT version, oldest_program FROM @.meta";

/// Whether the schema is there and can be worked with; where `makes`, it is made or brought to the newest version.
pub(crate) async fn provide(session: &Session, schema: &str, makes: bool) -> Result<bool, Fault> {
    let refused = |cause: String| Err(Fault::new(Kind::Refused, cause));
    let known = STEPS.len() as i32;
    let rows = session.rows_of(LOOK, &[&schema]).await?;
    let Some(row) = rows.first() else { return Ok(false) };
    let (is_there, encoding): (bool, String) = (row.get(0), row.get(1));
    if encoding != "UTF8" {
        return refused(format!("the database has the encoding {encoding}; UTF8 is needed"));
    }
    let version = if is_there {
        let rows = session.rows_of(VERSION, &[]).await?;
        let Some(row) = rows.first() else { return refused(format!("{schema}.meta is empty")) };
        let (version, oldest): (i32, i32) = (row.get(0), row.get(1));
        if oldest > known {
            return refused(format!(
                "its schema is version {version}, this program knows {known}: use a newer asynctask"
            ));
        }
        version
    } else {
        0
    };
    if version >= known {
        return Ok(true);
    }
    if !makes {
        return if is_there { Ok(true) } else { Ok(false) };
    }
    migrate(session, schema).await?;
    Ok(true)
}

async fn migrate(session: &Session, schema: &str) -> Result<(), Fault> {
    let mut tries = 0;
    loop {
        match migrate_once(session, schema).await {
            Err(fault) if fault.kind == Kind::Again && tries < 10 => tries += 1,
            done => return done,
        }
    }
}

async fn migrate_once(session: &Session, schema: &str) -> Result<(), Fault> {
    let lock = keys::lock_key(schema, "migration", "");
    session
        .transaction(async |session| {
            session.batch(&format!("SET LOCAL lock_timeout = 2000; SELECT pg_advisory_xact_lock({lock})")).await?;
            let rows = session.rows_of("SELECT to_regclass('@.meta') IS NOT NULL", &[]).await?;
            let is_there = rows.first().is_some_and(|row| row.get(0));
            let mut version = 0;
            if is_there {
                version = session.rows_of(VERSION, &[]).await?.first().map_or(0, |row| row.get::<_, i32>(0));
            } else {
                // Without the right to make a schema one that somebody else made is good enough.
                let rows = session.rows_of("SELECT to_regnamespace($1) IS NULL", &[&schema]).await?;
                if rows.first().is_some_and(|row| row.get(0)) {
                    session.batch(&format!("CREATE SCHEMA {schema}")).await?;
                }
            }
            for step in STEPS.iter().skip(usize::try_from(version).unwrap_or(0)) {
                session.batch(step).await?;
            }
            let known = STEPS.len();
            session
                .batch(&format!(
                    "UPDATE @.meta SET version = {known}, oldest_program = {OLDEST_PROGRAM} WHERE version < {known}"
                ))
                .await
        })
        .await
}

/// How many steps the database has taken.
pub(crate) async fn version(session: &Session) -> Result<i32, Fault> {
    Ok(session.rows_of(VERSION, &[]).await?.first().map_or(0, |row| row.get(0)))
}

/// All steps as text, for those whose programs may not make tables.
pub(crate) fn as_sql(schema: &str) -> String {
    let mut sql = format!("BEGIN;\nCREATE SCHEMA IF NOT EXISTS {schema};\n");
    for step in STEPS {
        sql.push_str(step.replace("@.", &format!("{schema}.")).trim_start());
    }
    let known = STEPS.len();
    sql.extend([
        &*format!("UPDATE {schema}.meta SET version = {known}, oldest_program = {OLDEST_PROGRAM};\n"),
        "COMMIT;\n",
    ]);
    sql
}
