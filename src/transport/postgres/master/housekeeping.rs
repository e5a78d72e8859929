//! Upkeep, by the one master that holds its lock, beside everything else: old dead letters and jobs are deleted, and dead rows are
//! vacuumed every few seconds. The server's own vacuum comes once a minute, when the table has grown many times over.

use std::{cell::Cell, rc::Rc, time::Duration};

use super::{
    actor::{Actor, Pause},
    notes::{Kept, Note},
};
use crate::{
    clock::{Clock, Instant},
    transport::{
        Event,
        postgres::{
            connect::{fault::Fault, lane::Lane, session::Session},
            jobs::upkeep,
            keys,
            requests::dead_letters,
        },
    },
};

/// The lock is asked for with each of so many looks.
const ASK_EACH: u64 = 5;
/// Dead letters, or jobs, deleted in one transaction.
const PURGED: i64 = 500;
/// Between two vacuums, and where a run freed nothing.
const VACUUM_EVERY: Duration = Duration::from_secs(5);
const VACUUM_IN_VAIN: Duration = Duration::from_secs(60);
const A_MOMENT: Duration = Duration::from_millis(200);

const TRY_LOCK: &str = "SELECT pg_try_advisory_lock($1)";
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

impl Actor {
    /// Does the upkeep, if it is ours.
    pub(super) async fn keep_house(&mut self, session: &Rc<Session>) {
        if !self.is_keeper {
            if !self.looks.is_multiple_of(ASK_EACH) && self.looks > 1 {
                return;
            }
            let lock = keys::lock_key(&self.address.schema, "upkeep", "");
            let taken = async { Ok(session.first(TRY_LOCK, &[&lock]).await?.is_some_and(|row| row.get(0))) };
            self.is_keeper = matches!(self.over_work(session, taken).await, Some(Ok(true)));
        }
        if !self.is_keeper || std::mem::replace(&mut self.keeps, true) {
            return;
        }
        let (lane, notes, vacuum) = (Rc::clone(&self.keeper), self.notes.clone(), Rc::clone(&self.vacuum));
        tokio::task::spawn_local(async move {
            // What fails is done with the next look.
            let kept = keep(&lane, &vacuum).await.unwrap_or_default();
            drop(notes.send(Note::Kept(kept)));
        });
    }

    /// The upkeep is done.
    pub(super) fn kept(&mut self, kept: Kept) {
        self.keeps = false;
        if kept.thawed {
            self.claimer.recheck_all();
            self.wake.members();
        }
        self.ledgers_were_told(kept.told.iter().map(String::as_str));
        kept.lines.into_iter().for_each(|line| self.tell(Event::Notice(line)));
        if let Some(warning) = kept.warning {
            self.tell(Event::Warning(warning));
        }
    }

    /// The next step waits a moment.
    pub(super) fn pause_a_moment(&mut self) {
        self.pause = Some(Pause { again_at: self.clock.now().at + A_MOMENT, failures: 1 });
    }
}

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

async fn keep(lane: &Lane, vacuum: &Vacuum) -> Result<Kept, crate::transport::Error> {
    let kept = lane
        .ask(async |session| {
            let mut kept = Kept::default();
            loop {
                let (lines, told) = dead_letters::purge(session, PURGED).await?;
                let is_all = lines.is_empty();
                kept.lines.extend(lines);
                kept.told.extend(told);
                if is_all {
                    break;
                }
            }
            let thawed = upkeep::purge(session, PURGED).await? + upkeep::sweep(session).await?;
            kept.thawed = thawed > 0;
            kept.warning = vacuum.run(session).await?;
            Ok(kept)
        })
        .await?;
    Ok(kept.unwrap_or_default())
}

impl Vacuum {
    /// Vacuums, if that is due and worth it. Gives a warning if nothing can be removed.
    async fn run(&self, session: &Session) -> Result<Option<String>, Fault> {
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
