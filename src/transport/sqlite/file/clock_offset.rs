//! A wall clock that is set: no delay becomes longer by it, and no dead letter is deleted too early.
//!
//! In a row, `due` is a moment of the wall clock. After the clock was set back by two days, a delay of ten seconds would take two
//! days. So the file keeps the difference between the wall clock and the time since the boot, which cannot be set. The first
//! master that sees another difference moves every `due` that was computed with the old one by as much as the clock went back, in
//! the transaction that stores the new difference: of several masters, one does it. A clock that goes ahead moves nothing: tasks
//! come earlier, as they must after a machine was suspended for hours. A `due` that was computed before it went ahead is right
//! again when it comes back.
//!
//! The difference of another boot means nothing. Then, once the clock can be trusted, a delay that begins in the future begins now.
//!
//! A row without `set_at` is never moved: its moment was named, or an older version wrote it.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    columns::{number, text},
    database::{Database, Synchronous},
};
use crate::clock::{
    Clock, Reading, Timestamp, boot_id, in_words,
    jumps::{HOLD, Jumps, Offset, TOLERANCE},
};

/// The difference that was seen last is stored again when it has changed by small steps to more than this, in milliseconds.
const DRIFT: u64 = TOLERANCE as u64 / 2;

/// A smaller jump, in milliseconds, is not warned of.
const NEWS_FROM: u64 = 60_000;

/// What waits, or will again once it is given back, and was put off on this wall clock or later.
const PUT_OFF: &str = "
SELECT task.id FROM queue CROSS JOIN task ON task.queue = queue.id
WHERE state = 0 AND due > ?1 AND set_at > ?2 AND typeof(set_at) = 'integer' AND typeof(due) = 'integer'
UNION ALL
SELECT id FROM task
WHERE state = 1 AND due > ?1 AND set_at > ?2 AND typeof(set_at) = 'integer' AND typeof(due) = 'integer'
UNION ALL
SELECT id FROM task
WHERE state = 3 AND due > ?1 AND set_at > ?2 AND typeof(set_at) = 'integer' AND typeof(due) = 'integer'";

/// What a master knows of the clocks.
#[derive(Debug)]
pub(crate) struct Clocks {
    boot: String,
    jumps: Jumps,
    /// The difference in the file, as far as this master knows.
    stored: Option<i64>,
    /// Tasks that were moved by checks that failed afterwards: no master was woken for them yet.
    moved: usize,
    /// The warning that nothing is deleted was given.
    warned: bool,
    /// Delays that begin in the future were searched for since the clock can be trusted.
    searched: bool,
}

/// What the file remembers of a boot.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Memory {
    offset: Offset,
    /// Of delays that began since then, in milliseconds since the boot, the moments are reckoned with this difference.
    from: i64,
    /// The same of the difference before the clock went ahead, should it come back.
    before: Option<(i64, i64)>,
}

/// The result of a check.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct ClockCheck {
    /// A line for the log: a warning.
    pub(crate) warning: Option<String>,
    /// A line that all is well again.
    pub(crate) notice: Option<String>,
    /// Tasks are due at other times.
    pub(crate) moved: usize,
}

impl Clocks {
    /// What the file says when a master attaches. A check follows.
    pub(crate) fn begin(database: &Database) -> rusqlite::Result<Self> {
        // Where nothing names the boot, that is remembered as none.
        Self::begin_at(database, &boot_id().unwrap_or_default(), Clock::reading())
    }

    fn begin_at(database: &Database, boot: &str, reading: Reading) -> rusqlite::Result<Self> {
        let memory = remembered(database.read(), boot)?;
        let jumps = Jumps::begin(reading, memory.map(|memory| memory.offset));
        let stored = memory.map(|memory| memory.offset.by);
        Ok(Self { boot: boot.to_owned(), jumps, stored, moved: 0, warned: false, searched: false })
    }

    /// Compares the clocks. A check that fails reports nothing: the next one reports what it saw, and what it has moved already.
    pub(crate) fn check(&mut self, database: &mut Database, reading: Reading) -> rusqlite::Result<ClockCheck> {
        let mut seen = ClockCheck::default();
        let mut jumps = self.jumps;
        let jump = jumps.look(reading);
        let current = jumps.current();
        if self.stored.is_none_or(|stored| stored.abs_diff(current.by) > DRIFT) {
            let boot = &self.boot;
            self.moved +=
                database.write(Synchronous::Normal, |transaction, _| follow(transaction, boot, reading, current))?;
            self.stored = Some(current.by);
        }
        let is_trusted = jumps.is_trusted(reading);
        let searched = self.searched && is_trusted && jump.is_none();
        if is_trusted && !searched && are_in_the_future(database.read(), reading.wall)? {
            self.moved += database.write(Synchronous::Normal, |transaction, _| begin_now(transaction, reading.wall))?;
        }
        // All is stored: what was seen is said now, and not again.
        (self.jumps, self.searched) = (jumps, is_trusted);
        seen.moved = std::mem::take(&mut self.moved);
        if let Some(by) = jump.filter(|by| by.unsigned_abs() >= NEWS_FROM) {
            let way = if by > 0 { "ahead" } else { "back" };
            let mut text = format!("the wall clock jumped {way} by {}", in_words(by.unsigned_abs()));
            if !is_trusted {
                text.push_str(": no dead letters are deleted for their age until it has held for ");
                text.push_str(&in_words(HOLD as u64));
            }
            seen.warning = Some(text);
            if self.warned && is_trusted {
                seen.notice = Some("the wall clock is right again: dead letters are deleted for their age".to_owned());
            }
            self.warned = !is_trusted;
        } else if self.warned && is_trusted {
            self.warned = false;
            seen.notice = Some("the wall clock has held: dead letters are deleted for their age again".to_owned());
        }
        Ok(seen)
    }

    /// Whether what is kept by age may be deleted.
    pub(crate) fn may_delete(&self, reading: Reading) -> bool {
        self.jumps.is_trusted(reading)
    }
}

/// What the file remembers of this boot.
fn remembered(connection: &Connection, boot: &str) -> rusqlite::Result<Option<Memory>> {
    let statement = "SELECT boot, ahead, since, valid_from, before_ahead, before_from FROM clock WHERE id = 1";
    let row = connection
        .prepare_cached(statement)?
        .query_row([], |row| {
            let number = |column| row.get_ref(column).ok().and_then(number);
            Ok((text(row, 0)?, [1, 2, 3, 4, 5].map(number)))
        })
        .optional()?;
    Ok(match row {
        Some((of, [Some(by), Some(since), Some(from), before_by, before_from])) if !boot.is_empty() && of == boot => {
            Some(Memory { offset: Offset { by, since }, from, before: before_by.zip(before_from) })
        }
        _ => None,
    })
}

fn remember(transaction: &Connection, boot: &str, memory: Memory) -> rusqlite::Result<()> {
    let Memory { offset, from, before } = memory;
    let statement = "INSERT OR REPLACE INTO clock (id, boot, ahead, since, valid_from, before_ahead, before_from) \
                     VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6)";
    let before = (before.map(|before| before.0), before.map(|before| before.1));
    let row = params![boot, offset.by, offset.since, from, before.0, before.1];
    transaction.prepare_cached(statement)?.execute(row).map(drop)
}

/// The wall clock shows something else than what is remembered: what was reckoned with that is moved if it went back. Gives
/// the number of tasks that are due at other times.
fn follow(transaction: &Connection, boot: &str, reading: Reading, current: Offset) -> rusqlite::Result<usize> {
    // At the first check after a boot, every `due` counts as computed with the clock as it is.
    let first = Memory { offset: current, from: 0, before: None };
    let Some(former) = remembered(transaction, boot)? else {
        remember(transaction, boot, first)?;
        return Ok(0);
    };
    if former.offset.is_about(current.by) {
        // Small steps, or another master saw it first.
        let since = former.offset.since.min(current.since);
        remember(transaction, boot, Memory { offset: Offset { since, ..current }, ..former })?;
        return Ok(0);
    }
    let back = former.offset.by.saturating_sub(current.by);
    if back < 0 {
        let before = former.before.or(Some((former.offset.by, former.from)));
        remember(transaction, boot, Memory { offset: current, from: current.since, before })?;
        return Ok(0);
    }
    let returned = former.before.filter(|before| current.is_about(before.0));
    let before = former.before.filter(|before| before.0 < current.by && returned.is_none());
    let from = returned.map_or(former.from, |before| before.1);
    remember(transaction, boot, Memory { offset: current, from, before })?;
    let statement = format!("UPDATE task SET due = due - ?3, set_at = set_at - ?3 WHERE id IN ({PUT_OFF})");
    let since = former.from.saturating_add(former.offset.by).saturating_sub(TOLERANCE);
    transaction.prepare_cached(&statement)?.execute(params![reading.wall.0, since, back])
}

/// Whether delays begin in the future.
fn are_in_the_future(connection: &Connection, now: Timestamp) -> rusqlite::Result<bool> {
    let statement = format!("SELECT EXISTS ({PUT_OFF})");
    connection.prepare_cached(&statement)?.query_row([now.0, now.0.saturating_add(TOLERANCE)], |row| row.get(0))
}

/// Delays that would begin in the future begin now.
fn begin_now(transaction: &Connection, now: Timestamp) -> rusqlite::Result<usize> {
    let statement = format!("UPDATE task SET due = max(?1, due - (set_at - ?1)), set_at = ?1 WHERE id IN ({PUT_OFF})");
    transaction.prepare_cached(&statement)?.execute([now.0, now.0.saturating_add(TOLERANCE)])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::{
            housekeeping::{Housekeeping, Kept, Step},
            lock_wait::LockTimeout,
            schema,
        },
        *,
    };
    use crate::{
        task::NewTask,
        transport::sqlite::tasks::{claim, submit::insert},
    };

    const SECOND: i64 = 1000;
    const HOUR: i64 = 3600 * SECOND;
    const DAY: i64 = 24 * HOUR;
    /// What the wall clock of these tests shows at the boot.
    const BOOT: i64 = 1_800_000_000_000;

    struct Fixture {
        folder: tempfile::TempDir,
        database: Database,
        /// Since the boot.
        at: i64,
        /// By how much the wall clock is ahead of the right time.
        wrong_by: i64,
    }

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let database = Database::open_or_create(&folder.path().join("a.db"), &std::sync::Arc::default()).unwrap();
            Self { folder, database, at: 10 * DAY, wrong_by: 0 }
        }

        fn reading(&self) -> Reading {
            Reading { wall: Timestamp(BOOT + self.at + self.wrong_by), since_boot: self.at }
        }

        fn begin(&mut self) -> Clocks {
            self.begin_in("this boot").0
        }

        fn begin_in(&mut self, boot: &str) -> (Clocks, ClockCheck) {
            let mut clocks = Clocks::begin_at(&self.database, boot, self.reading()).unwrap();
            let seen = self.check(&mut clocks);
            (clocks, seen)
        }

        /// Time passes, and the wall clock is set to something else.
        fn pass(&mut self, time: i64, wrong_by: i64) {
            (self.at, self.wrong_by) = (self.at + time, wrong_by);
        }

        fn check(&mut self, clocks: &mut Clocks) -> ClockCheck {
            let reading = self.reading();
            clocks.check(&mut self.database, reading).unwrap()
        }

        fn submit(&mut self, id: &str, delay: i64, at_moment: bool) {
            let delay = Duration::from_millis(u64::try_from(delay).unwrap());
            let (queue, id) = ("foo".to_owned(), id.to_owned());
            let task = NewTask { queue, id, delay, at_moment, ..NewTask::default() };
            let now = self.reading().wall;
            self.database.write(Synchronous::Full, |transaction, ids| insert(transaction, ids, now, &task)).unwrap();
        }

        /// In how many milliseconds a task is due.
        fn due_in(&self, id: &str) -> i64 {
            let due: i64 = self
                .database
                .read()
                .query_row("SELECT due FROM task WHERE message_id = ?1", [id], |row| row.get(0))
                .unwrap();
            due - self.reading().wall.0
        }

        fn keep(&mut self, clocks: &Clocks) -> Kept {
            let (reading, path) = (self.reading(), self.folder.path().join("a.db"));
            let may_delete = clocks.may_delete(reading);
            let lock_timeout = LockTimeout::default();
            let mut housekeeping = Housekeeping::default();
            housekeeping
                .step(&mut self.database, &path, &lock_timeout, reading.wall, Step { may_delete, is_idle: false })
                .unwrap()
        }
    }

    #[test]
    fn a_clock_that_goes_back_makes_no_delay_longer() {
        let mut fixture = Fixture::new();
        let mut clocks = fixture.begin();
        fixture.submit("old", 3 * HOUR, false);
        fixture.submit("moment", 5 * HOUR, true);
        fixture.pass(2 * HOUR, 0);
        assert_eq!(fixture.check(&mut clocks), ClockCheck::default());
        fixture.submit("new", 10 * SECOND, false);
        fixture.submit("ready", 0, false);
        let named = fixture.due_in("moment") + fixture.reading().wall.0;
        for back in [30 * SECOND, HOUR, 2 * DAY] {
            let (old, new) = (fixture.due_in("old"), fixture.due_in("new"));
            fixture.pass(SECOND, fixture.wrong_by - back);
            let seen = fixture.check(&mut clocks);
            assert_eq!(seen.moved, 3, "{seen:?}");
            assert_eq!((fixture.due_in("old"), fixture.due_in("new")), (old - SECOND, new - SECOND), "{back}");
            assert!(fixture.due_in("ready") <= 0, "{back}");
            assert_eq!(fixture.due_in("moment") + fixture.reading().wall.0, named, "{back}");
            assert_eq!(seen.warning.is_some(), back > 60 * SECOND, "{seen:?}");
        }
        assert_eq!(fixture.check(&mut clocks), ClockCheck::default());
    }

    #[test]
    fn what_was_put_off_by_a_wrong_clock_is_due_when_it_should_be_and_what_was_before_stays() {
        let mut fixture = Fixture::new();
        let mut clocks = fixture.begin();
        fixture.submit("before", HOUR, false);
        fixture.pass(SECOND, 5 * DAY);
        assert_eq!(fixture.check(&mut clocks).moved, 0);
        fixture.submit("meanwhile", 10 * SECOND, false);
        fixture.submit("held", 0, false);
        let now = fixture.reading().wall;
        let claimed =
            fixture.database.write(Synchronous::Normal, |transaction, _| claim::claim(transaction, 7, 1, now, 9));
        let ids: Vec<String> = claimed.unwrap().into_iter().map(|claimed| claimed.task.id.clone()).collect();
        assert_eq!(ids, ["before", "held"], "a clock that is ahead makes tasks due");
        fixture.pass(4 * SECOND, 0);
        assert_eq!(fixture.check(&mut clocks).moved, 2);
        assert_eq!(fixture.due_in("before"), HOUR - 5 * SECOND);
        assert_eq!(fixture.due_in("meanwhile"), 6 * SECOND);
        // It may be given back.
        assert_eq!(fixture.due_in("held"), -4 * SECOND);
    }

    #[test]
    fn after_a_blip_the_clock_is_followed_as_before() {
        let mut fixture = Fixture::new();
        let mut clocks = fixture.begin();
        fixture.submit("before", 9 * HOUR, false);
        for (wrong_by, moved) in [(DAY, 0), (5 * DAY, 0), (DAY, 0), (0, 0)] {
            fixture.pass(SECOND, wrong_by);
            assert_eq!(fixture.check(&mut clocks).moved, moved, "{wrong_by}");
        }
        assert_eq!(fixture.due_in("before"), 9 * HOUR - 4 * SECOND);
        fixture.pass(HOUR, -2 * DAY);
        assert_eq!(fixture.check(&mut clocks).moved, 1);
        assert_eq!(fixture.due_in("before"), 8 * HOUR - 4 * SECOND);
    }

    #[test]
    fn what_a_failed_check_moved_is_reported_by_the_next() {
        let mut fixture = Fixture::new();
        let mut clocks = fixture.begin();
        fixture.pass(HOLD, 0);
        assert_eq!(fixture.check(&mut clocks), ClockCheck::default());
        fixture.pass(SECOND, 5 * DAY);
        fixture.check(&mut clocks);
        fixture.submit("meanwhile", 6 * DAY, false);
        fixture.wrong_by = 100 * DAY;
        fixture.submit("strange", HOUR, false);
        // The clock comes back to what is trusted: one row is moved, and for the other one there is no room.
        fixture.pass(SECOND, 0);
        let now = fixture.reading().wall.0;
        let no_room = format!(
            "CREATE TRIGGER full BEFORE UPDATE ON task WHEN NEW.set_at = {now} BEGIN SELECT RAISE(ABORT, 'full'); END"
        );
        let run = |fixture: &mut Fixture, statement: &str| {
            fixture.database.write(Synchronous::Full, |transaction, _| transaction.execute_batch(statement)).unwrap();
        };
        run(&mut fixture, &no_room);
        let reading = fixture.reading();
        for _ in 0..2 {
            assert!(clocks.check(&mut fixture.database, reading).is_err());
        }
        assert_eq!(fixture.due_in("meanwhile"), 6 * DAY - SECOND);
        run(&mut fixture, "DROP TRIGGER full");
        let seen = fixture.check(&mut clocks);
        assert_eq!(seen.warning.unwrap(), "the wall clock jumped back by 120 h");
        assert!(seen.notice.is_some());
        assert_eq!((seen.moved, fixture.due_in("strange")), (3, HOUR), "what the failed check moved counts");
        assert_eq!(fixture.check(&mut clocks), ClockCheck::default());
    }

    #[test]
    fn of_several_masters_one_follows_the_clock() {
        let mut fixture = Fixture::new();
        let (mut first, mut second) = (fixture.begin(), fixture.begin());
        fixture.submit("a", HOUR, false);
        fixture.pass(SECOND, -2 * DAY);
        assert_eq!(fixture.check(&mut first).moved, 1);
        assert_eq!(fixture.check(&mut second).moved, 0);
        assert_eq!(fixture.due_in("a"), HOUR - SECOND);
        // The clock was set while no master ran.
        fixture.pass(SECOND, -4 * DAY);
        let (mut third, seen) = fixture.begin_in("this boot");
        assert_eq!((seen.moved, seen.warning.is_some()), (1, true));
        assert_eq!(fixture.check(&mut first).moved + fixture.check(&mut third).moved, 0);
        assert_eq!(fixture.due_in("a"), HOUR - 2 * SECOND);
    }

    #[test]
    fn of_another_boot_nothing_is_known_but_that_no_delay_began_in_the_future() {
        let mut fixture = Fixture::new();
        fixture.wrong_by = 2 * DAY;
        drop(fixture.begin());
        fixture.submit("a", HOUR, false);
        fixture.submit("moment", HOUR, true);
        let named = fixture.due_in("moment") + fixture.reading().wall.0;
        for boot in ["another boot", "", ""] {
            fixture.pass(SECOND, fixture.wrong_by - DAY);
            let reading = fixture.reading();
            let due_in = fixture.due_in("a");
            let (mut clocks, seen) = fixture.begin_in(boot);
            // The clock may be set to the right time in a moment.
            assert_eq!((seen, fixture.due_in("a")), (ClockCheck::default(), due_in), "{boot}");
            assert!(!clocks.may_delete(reading));
            fixture.pass(HOLD, fixture.wrong_by);
            assert_eq!((fixture.check(&mut clocks).moved, fixture.due_in("a")), (1, HOUR), "{boot}");
            assert_eq!(fixture.check(&mut clocks), ClockCheck::default());
            assert_eq!(fixture.due_in("moment") + fixture.reading().wall.0, named);
        }
    }

    #[test]
    fn nothing_is_deleted_by_a_clock_that_has_not_held() {
        let mut fixture = Fixture::new();
        let mut clocks = fixture.begin();
        fixture.submit("a", 0, false);
        fixture.submit("b", 0, false);
        let now = fixture.reading().wall.0;
        fixture
            .database
            .write(Synchronous::Full, |transaction, _| {
                let kill = "UPDATE task SET state = 2, due = ?1, purge_at = ?1 + 4 * 86400000";
                transaction.execute(kill, [now])
            })
            .unwrap();
        let left = |fixture: &Fixture| -> i64 {
            fixture.database.read().query_row("SELECT count(*) FROM task", [], |row| row.get(0)).unwrap()
        };
        fixture.pass(HOLD, 0);
        assert_eq!(fixture.check(&mut clocks), ClockCheck::default());
        // For four seconds, and for some minutes after that.
        fixture.pass(SECOND, 5 * DAY);
        let seen = fixture.check(&mut clocks);
        let warning = "the wall clock jumped ahead by 120 h: no dead letters are deleted for their age until it has held for 10 min";
        assert_eq!(seen.warning.unwrap(), warning);
        for time in [0, 4 * SECOND] {
            fixture.pass(time, 5 * DAY);
            assert_eq!((fixture.keep(&clocks).deleted.len(), left(&fixture)), (0, 2));
        }
        // Also by a master that begins just then.
        let second = fixture.begin();
        assert_eq!((fixture.keep(&second).deleted.len(), left(&fixture)), (0, 2));
        fixture.pass(SECOND, 0);
        let seen = fixture.check(&mut clocks);
        assert_eq!(seen.warning.unwrap(), "the wall clock jumped back by 120 h");
        assert_eq!(seen.notice.unwrap(), "the wall clock is right again: dead letters are deleted for their age");
        assert_eq!((fixture.keep(&clocks).deleted.len(), left(&fixture)), (0, 2));
        // What has held counts.
        fixture.pass(SECOND, 5 * DAY);
        fixture.check(&mut clocks);
        fixture.pass(HOLD - 1, 5 * DAY);
        assert_eq!((fixture.check(&mut clocks), fixture.keep(&clocks).deleted.len()), (ClockCheck::default(), 0));
        fixture.pass(1, 5 * DAY);
        let notice = fixture.check(&mut clocks).notice;
        assert_eq!(notice.unwrap(), "the wall clock has held: dead letters are deleted for their age again");
        assert_eq!(fixture.keep(&clocks).deleted, ["2 dead letters of queue foo were older than 96 h: deleted"]);
        assert_eq!(left(&fixture), 0);
    }

    #[test]
    fn short_runs_of_a_boot_confirm_each_other() {
        let mut fixture = Fixture::new();
        assert!(!fixture.begin().may_delete(fixture.reading()));
        fixture.pass(HOLD, 0);
        assert!(fixture.begin().may_delete(fixture.reading()));
    }

    #[test]
    fn small_steps_are_remembered_and_move_nothing() {
        let mut fixture = Fixture::new();
        let mut clocks = fixture.begin();
        fixture.submit("a", HOUR, false);
        for step in 1..20 {
            fixture.pass(SECOND, -step * SECOND);
            assert_eq!(fixture.check(&mut clocks), ClockCheck::default());
        }
        let (_, seen) = fixture.begin_in("this boot");
        assert_eq!(seen, ClockCheck::default());
    }

    #[test]
    fn a_file_of_the_former_version_is_taken_over_and_its_delays_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let former = Connection::open(&path).unwrap();
        schema::to_version(&former, 4).unwrap();
        former
            .execute_batch(
                "INSERT INTO queue (name) VALUES ('foo');
                 INSERT INTO task (queue, due, message_id, body) VALUES (1, 9000000000000, 'a', x'');",
            )
            .unwrap();
        drop(former);
        let mut database = Database::open_or_create(&path, &std::sync::Arc::default()).unwrap();
        let seen = Clocks::begin(&database).unwrap().check(&mut database, Clock::reading()).unwrap();
        assert_eq!(seen, ClockCheck::default());
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let (due, set_at): (i64, Option<i64>) =
            database.read().query_row("SELECT due, set_at FROM task", [], row).unwrap();
        assert_eq!((due, set_at), (9_000_000_000_000, None));
    }
}
