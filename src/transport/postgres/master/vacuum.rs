//! Vacuum of the tables that tasks go through: dead rows are removed every few seconds where they are many. Who keeps them from being
//! removed is told once.

use std::{cell::Cell, time::Duration};

use crate::{
    clock::{Clock, Instant},
    transport::postgres::connect::{fault::Fault, session::Session},
};

/// Between two vacuums, and where a run freed nothing.
const VACUUM_EVERY: Duration = Duration::from_secs(5);
const VACUUM_IN_VAIN: Duration = Duration::from_mins(1);
/// Dead rows are worth a run: more than 20,000, and more than a fifth of the live ones.
const DEAD_ROWS: &str = "SELECT coalesce(sum(n_dead_tup), 0)::bigint, coalesce(sum(n_live_tup), 0)::bigint FROM pg_stat_user_tables \
                         WHERE relid IN ('@.task'::regclass, '@.held_key'::regclass)";
const WORTH: i64 = 20_000;
const VACUUM: &str = "VACUUM (TRUNCATE false, SKIP_LOCKED) @.task, @.held_key, @.entry";
/// Who keeps dead rows from being removed.
const PINNED_BY: &str = "
SELECT text FROM (
    SELECT age(backend_xmin) AS age, 'session ' || pid || ' of ' || coalesce(nullif(application_name, ''), usename, 'a stranger')
        || ', in a transaction since ' || coalesce(xact_start::text, 'a while') AS text
    FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()
    UNION ALL SELECT age(transaction), 'the prepared transaction ' || gid FROM pg_prepared_xacts
    UNION ALL SELECT age(coalesce(xmin, catalog_xmin)), 'the replication slot ' || slot_name FROM pg_replication_slots
) AS holders WHERE age IS NOT NULL ORDER BY age DESC LIMIT 1";

/// When the next vacuum may be, and what was warned of.
pub(super) struct Vacuum {
    clock: Clock,
    not_before: Cell<Instant>,
    warned: Cell<bool>,
}

impl Vacuum {
    pub(super) fn new() -> Self {
        Self { clock: Clock::start(), not_before: Cell::default(), warned: Cell::default() }
    }
}

impl Vacuum {
    /// Vacuums, if that is due and worth it. Gives a warning if nothing can be removed.
    pub(super) async fn run(&self, session: &Session) -> Result<Option<String>, Fault> {
        let now = self.clock.now().at;
        if now < self.not_before.get() {
            return Ok(None);
        }
        let counted = async || -> Result<(i64, i64), Fault> {
            let rows = session.rows_of(DEAD_ROWS, &[]).await?;
            Ok(rows.first().map_or((0, 0), |row| (row.get(0), row.get(1))))
        };
        let is_worth = |(dead, live): (i64, i64)| dead > WORTH.max(live / 5);
        let before = counted().await?;
        if !is_worth(before) {
            return Ok(None);
        }
        session.batch(VACUUM).await?;
        self.not_before.set(self.clock.now().at + VACUUM_EVERY);
        let after = counted().await?;
        if !is_worth(after) || after.0 < before.0 / 2 {
            self.warned.set(false);
            return Ok(None);
        }
        self.not_before.set(self.clock.now().at + VACUUM_IN_VAIN);
        if self.warned.replace(true) {
            return Ok(None);
        }
        let by = session.rows_of(PINNED_BY, &[]).await?;
        let by = by
            .first()
            .and_then(|row| row.get::<_, Option<String>>(0))
            .unwrap_or_else(|| "nobody that is seen".to_owned());
        let dead = after.0;
        Ok(Some(format!(
            "{dead} dead rows cannot be removed from the tables, which grow; an old snapshot is held by {by}"
        )))
    }
}
