//! What only a file has: permissions, damage, locks, the files beside it, and its speed.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use asynctask::{
    clock::Clock,
    task::NewTask,
    transport::{Error, Event, Events, Request, Transport, Uri, open},
};

use super::{
    Tenant,
    party::{Party, done, setup, task, tasks},
};

/// A file in a folder of its own.
pub struct Sqlite {
    pub folder: tempfile::TempDir,
}

impl Sqlite {
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("tasks.db")
    }

    /// The names in the folder, sorted.
    fn files(&self) -> Vec<String> {
        let names = fs::read_dir(self.folder.path()).expect("a folder");
        let mut names: Vec<_> =
            names.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
        names.sort();
        names
    }

    fn raw(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path()).expect("a database")
    }
}

impl Tenant for Sqlite {
    const SHARES_KEYS: bool = true;

    fn fresh() -> Option<Self> {
        Some(Self { folder: tempfile::tempdir().expect("a folder for the test") })
    }

    fn open(&self, events: Events) -> Box<dyn Transport> {
        open_at(&self.path(), events)
    }
}

fn open_at(path: &Path, events: Events) -> Box<dyn Transport> {
    open(&Uri::Sqlite(path.to_owned()), events).expect("a thread for the transport")
}

fn fresh() -> Sqlite {
    Sqlite::fresh().expect("always possible")
}

/// Waits until the transport says that it cannot be used.
fn refused(party: &mut Party<'_, Sqlite>) -> String {
    party.wait("Refused", |event| match event {
        Event::Refused(error) => Some(error.to_string()),
        _ => None,
    })
}

#[test]
fn asking_makes_no_file() {
    let tenant = fresh();
    let client = Party::client(&tenant);
    assert_eq!(client.depth("foo"), asynctask::transport::Depth::default());
    assert!(client.dead_letters("foo").is_empty());
    client.close();
    assert!(tenant.files().is_empty());
}

#[test]
fn many_may_come_first_at_once() {
    for _ in 0..10 {
        let tenant = fresh();
        let parties: Vec<_> = (0..8).map(|_| Party::client(&tenant)).collect();
        // All are asked before any is waited for, so all find no file, and one makes it.
        let (replies, answers): (Vec<_>, Vec<_>) = (0..8).map(|_| tokio::sync::oneshot::channel()).unzip();
        for (party, reply) in parties.iter().zip(replies) {
            party.ask(Request::Submit { tasks: tasks("foo", 3), reply });
        }
        for answer in answers {
            answer.blocking_recv().expect("answered").expect("stored");
        }
        assert_eq!(parties[0].depth("foo").ready, 24);
    }
}

#[test]
fn files_are_private_and_few() {
    let tenant = fresh();
    let party = Party::attached(&tenant, &[setup("foo", &[])], 1);
    for name in tenant.files() {
        let mode = fs::metadata(tenant.folder.path().join(&name)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name} can be opened by others");
    }
    assert!(tenant.files().contains(&"tasks.db.1.wake".to_owned()));
    party.close();
    assert_eq!(tenant.files(), ["tasks.db", "tasks.db.masters"]);
}

#[test]
fn what_a_dead_master_leaves_is_cleared_away() {
    let tenant = fresh();
    let mut party = Party::attached(&tenant, &[setup("foo", &[])], 1);
    party.submit(tasks("foo", 1));
    party.delivery();
    party.kill();
    // A real death leaves the socket too.
    let stale = std::os::unix::net::UnixDatagram::bind(tenant.folder.path().join("tasks.db.1.wake"));
    drop(stale.expect("bound"));
    let mut next = Party::attached(&tenant, &[setup("foo", &[])], 1);
    assert_eq!(next.delivery().task.deliveries, 1);
    assert!(!tenant.files().contains(&"tasks.db.1.wake".to_owned()));
    assert!(tenant.files().contains(&"tasks.db.2.wake".to_owned()));
}

#[test]
fn a_damaged_file_is_refused() {
    let tenant = fresh();
    fs::write(tenant.path(), vec![b'x'; 8192]).expect("written");
    let mut party = Party::client(&tenant);
    let answer = party.call(|reply| Request::Submit { tasks: tasks("foo", 1), reply });
    assert!(matches!(answer, Err(Error::File { .. })), "{answer:?}");
    party.ask(Request::Attach { queues: vec![setup("foo", &[])], passive: false });
    assert!(refused(&mut party).contains("not a database"));
    let answer = party.call(|reply| Request::Submit { tasks: tasks("foo", 1), reply });
    assert!(matches!(answer, Err(Error::File { .. })), "{answer:?}");
    party.close();
}

#[test]
fn damage_after_an_unclean_stop_is_found() {
    let tenant = fresh();
    let party = Party::attached(&tenant, &[setup("foo", &[])], 0);
    party.submit(tasks("foo", 2000));
    party.kill();
    let connection = tenant.raw();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("checkpointed");
    drop(connection);
    let mut bytes = fs::read(tenant.path()).expect("a file");
    for page in bytes.chunks_mut(4096).skip(20).step_by(3) {
        page[..64].fill(0xa5);
    }
    fs::write(tenant.path(), bytes).expect("written");
    let mut next = Party::client(&tenant);
    next.ask(Request::Attach { queues: vec![setup("foo", &[])], passive: false });
    assert!(refused(&mut next).contains("damaged"));
}

#[test]
fn a_newer_schema_and_a_foreign_database_are_refused() {
    let tenant = fresh();
    Party::client(&tenant).submit(tasks("foo", 1));
    tenant.raw().execute_batch("PRAGMA user_version = 77").expect("set");
    let mut party = Party::client(&tenant);
    party.ask(Request::Attach { queues: vec![], passive: false });
    assert!(refused(&mut party).contains("version 77"));

    let foreign = fresh();
    foreign.raw().execute_batch("CREATE TABLE theirs (x)").expect("made");
    let client = Party::client(&foreign);
    let answer = client.call(|reply| Request::Submit { tasks: tasks("foo", 1), reply });
    assert!(answer.expect_err("refused").to_string().contains("another program"));
}

#[test]
fn a_folder_that_is_not_there_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let (events, _keep) = tokio::sync::mpsc::unbounded_channel();
    let transport = open_at(&folder.path().join("no/such/tasks.db"), events);
    let answer = asynctask::transport::call(&*transport, |reply| Request::Submit { tasks: tasks("foo", 1), reply });
    assert!(matches!(answer, Err(Error::File { .. })), "{answer:?}");
}

#[test]
fn a_file_that_is_taken_away_is_noticed() {
    let tenant = fresh();
    let mut party = Party::attached(&tenant, &[setup("foo", &[])], 1);
    fs::rename(tenant.path(), tenant.folder.path().join("elsewhere.db")).expect("renamed");
    assert!(refused(&mut party).contains("removed or replaced"));
}

#[test]
fn links_lead_to_the_same_masters() {
    let tenant = fresh();
    let mut party = Party::attached(&tenant, &[setup("foo", &[])], 1);
    party.submit(tasks("foo", 1));
    let held = party.delivery();
    let other = tempfile::tempdir().expect("a folder");
    let link = other.path().join("link.db");
    std::os::unix::fs::symlink(tenant.path(), &link).expect("linked");
    let (events, mut told) = tokio::sync::mpsc::unbounded_channel();
    let transport = open_at(&link, events);
    transport.ask(Request::Attach { queues: vec![setup("foo", &[])], passive: false });
    assert!(matches!(told.blocking_recv(), Some(Event::Attached { .. })), "the first master was taken for dead");
    party.settle_now(held.handle, done());
}

#[test]
fn a_lock_of_another_program_is_waited_for() {
    let tenant = fresh();
    let mut party = Party::attached(&tenant, &[setup("foo", &[])], 1);
    party.submit(tasks("foo", 2));
    let delivery = party.delivery();
    let other = tenant.raw();
    other.execute_batch("BEGIN IMMEDIATE; DELETE FROM master WHERE owner = 99").expect("locked");
    party.settle(delivery.handle, done());
    assert_eq!(Party::client(&tenant).depth("foo").in_hand, 1, "readers are not kept waiting");
    other.execute_batch("COMMIT").expect("unlocked");
    party.settled(&[delivery.handle]);
    assert_eq!(party.delivery().task.id, "1");
}

#[test]
fn a_close_waits_for_a_lock_but_not_for_long() {
    let tenant = fresh();
    let mut party = Party::attached(&tenant, &[setup("foo", &[])], 1);
    party.submit(tasks("foo", 1));
    let delivery = party.delivery();
    let other = tenant.raw();
    other.execute_batch("BEGIN IMMEDIATE; DELETE FROM master WHERE owner = 99").expect("locked");
    let clock = Clock::start();
    party.settle(delivery.handle, done());
    party.close();
    assert!(clock.now().at.since_start() < Duration::from_millis(5500), "a close is answered within 5 s");
    other.execute_batch("COMMIT").expect("unlocked");
    // It could not be stored, so it comes again.
    assert_eq!(Party::attached(&tenant, &[setup("foo", &[])], 1).delivery().task.deliveries, 1);
}

#[test]
fn a_settlement_of_a_claim_that_is_no_longer_ours_changes_nothing() {
    let tenant = fresh();
    let mut party = Party::attached(&tenant, &[setup("foo", &[])], 1);
    party.submit(tasks("foo", 1));
    let delivery = party.delivery();
    // As if another had taken this master for dead.
    let changed = tenant.raw().execute("UPDATE task SET state = 0, owner = 0, claim = claim + 1", []);
    assert_eq!(changed, Ok(1));
    party.credit(0, 0);
    let submit = vec![task("bar", "follows")];
    party.settle_now(delivery.handle, asynctask::task::Settlement::Done { submit });
    party.wait("a warning", |event| matches!(event, Event::Warning(_)).then_some(()));
    assert_eq!(party.depth("foo").ready, 1);
    assert_eq!(party.depth("bar").ready, 0);
}

#[test]
fn an_idle_master_writes_nothing() {
    let tenant = fresh();
    let mut party = Party::attached(&tenant, &[setup("foo", &[])], 1);
    let watcher = tenant.raw();
    let version = || watcher.query_row("PRAGMA data_version", [], |row| row.get::<_, i64>(0)).expect("a number");
    party.submit(vec![NewTask { delay: Duration::from_hours(1), ..task("foo", "later") }]);
    let before = version();
    let start = Clock::wall();
    // It looks around twice in this time.
    while Clock::wall() < start.plus(Duration::from_millis(2300)) {
        party.depth("foo");
        assert_eq!(version(), before, "an idle master wrote");
    }
    party.submit(vec![task("foo", "now")]);
    party.delivery();
    assert_ne!(version(), before);
}

/// Run with `cargo test --release --test transport -- --ignored --nocapture throughput`.
#[test]
#[ignore = "a measurement"]
fn throughput() {
    let count = 100_000;
    for credit in [1, 10, 100, 1000] {
        let tenant = fresh();
        let mut party = Party::attached(&tenant, &[setup("foo", &[])], 0);
        let count = if credit == 1 { count / 5 } else { count };
        let clock = Clock::start();
        for start in (0..count).step_by(100) {
            let batch = (start..start + 100).map(|number| NewTask {
                queue: "foo".into(),
                id: format!("0190f0f0-0000-7000-8000-{number:012}"),
                body: vec![b'x'; 1024],
                ..NewTask::default()
            });
            party.submit(batch.collect());
        }
        let submitted = clock.now().at.since_start();
        party.credit(0, credit);
        let mut settled = 0;
        while settled < count {
            let batch = party.batch();
            settled += batch.len();
            party.ask(Request::Settle(batch.iter().map(|delivery| (delivery.handle, done())).collect()));
        }
        party.until_depth("foo", |depth| depth.in_hand == 0);
        let total = clock.now().at.since_start();
        let rate = |count: usize, time: Duration| count as f64 / time.as_secs_f64();
        eprintln!(
            "credit {credit:4}: {:7.0} tasks/s claimed and settled; submitted in hundreds {:7.0}/s",
            rate(count, total.saturating_sub(submitted)),
            rate(count, submitted)
        );
    }
}
