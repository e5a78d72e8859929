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

/// Whether the schema is there, and whether its tables are. Read from the catalogs themselves: what functions like `to_regclass` know may
/// be older than the lock that was waited for.
const EXISTING: &str = "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1), \
                        EXISTS (SELECT 1 FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n \
                        ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = 'meta')";
const VERSION: &str = "SELECT version, oldest_program FROM @.meta";

/// Whether the schema is there and can be worked with; where `makes`, it is made or brought to the newest version.
pub(crate) async fn provide(session: &Session, schema: &str, makes: bool) -> Result<bool, Fault> {
    let refused = |cause: String| Err(Fault::new(Kind::Refused, cause));
    let known = STEPS.len() as i32;
    let rows = session.rows_of("SELECT current_setting('server_encoding')", &[]).await?;
    let encoding: String = rows.first().map_or_else(String::new, |row| row.get(0));
    if encoding != "UTF8" {
        return refused(format!("the database has the encoding {encoding}; UTF8 is needed"));
    }
    let rows = session.rows_of(EXISTING, &[&schema]).await?;
    let is_there = rows.first().is_some_and(|row| row.get(1));
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
            let rows = session.rows_of(EXISTING, &[&schema]).await?;
            let (has_schema, has_tables) = rows.first().map_or((false, false), |row| (row.get(0), row.get(1)));
            let mut version = 0;
            if has_tables {
                version = session.rows_of(VERSION, &[]).await?.first().map_or(0, |row| row.get::<_, i32>(0));
            } else if !has_schema {
                // Without the right to make one, one that somebody else made is good enough.
                session.batch(&format!("CREATE SCHEMA {schema}")).await?;
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
