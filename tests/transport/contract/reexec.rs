//! Masters in processes of their own: killed by SIGKILL at any moment, or out of room on the disk.
//!
//! The test binary starts itself again for one test that is ignored otherwise; what it is to work on is in
//! its environment. It says on its standard output what happens to it, and that is what the parent waits for.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Lines, Write},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use asynctask::{
    clock::Clock,
    jobs::record::Advance,
    membership::ledger_queue,
    task::{Delivery, Failure, NewTask, Reason, Settlement},
    transport::{Event, Events, Request, Transport, Uri, open},
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{
    Tenant,
    party::{Party, done, setup, task, tasks},
    sqlite::Sqlite,
};

const FILE: &str = "ASYNCTASK_TEST_FILE";

/// The file that the parent works on.
struct Inherited {
    path: std::path::PathBuf,
}

impl Tenant for Inherited {
    fn fresh() -> Option<Self> {
        std::env::var_os(FILE).map(|path| Self { path: path.into() })
    }

    fn open(&self, events: Events) -> Box<dyn Transport> {
        open(&Uri::Sqlite(self.path.clone()), events).expect("a thread for the transport")
    }
}

/// The lines that a child says to us; the test harness says others.
struct Said(Lines<BufReader<ChildStdout>>);

impl Iterator for Said {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        loop {
            let line = self.0.next()?.ok()?;
            // The harness does not end its own line before a test's output.
            if let Some((_, said)) = line.split_once("> ") {
                return Some(said.to_owned());
            }
        }
    }
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // The parent may have what it wanted and be gone.
    drop(out.write_all(format!("> {text}\n").as_bytes()).and_then(|()| out.flush()));
}

/// Starts this program for one of its tests.
fn start(test: &str, tenant: &Sqlite, through: &[&str]) -> (Child, Said) {
    let own = std::env::current_exe().expect("a path");
    let mut words: Vec<_> = through.iter().map(std::ffi::OsString::from).collect();
    words.push(own.into());
    let mut child = Command::new(&words[0])
        .args(&words[1..])
        .args(["--exact", &format!("contract::reexec::{test}"), "--ignored", "--nocapture"])
        .env(FILE, tenant.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let said = Said(BufReader::new(child.stdout.take().expect("a pipe")).lines());
    (child, said)
}

/// A small generator: the same moments every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// What becomes of a task, by its id: most are done, every tenth brings a follower, every tenth fails twice and dies.
fn verdict(delivery: &Delivery) -> Settlement {
    let id = delivery.task.id.as_str();
    match id.as_bytes().last() {
        Some(b'3') if !id.starts_with('f') => Settlement::Done { submit: vec![task("foo", &format!("f{id}"))] },
        Some(b'7') => {
            let failure = Box::new(Failure::new(Reason::Error, "no luck", Clock::wall()));
            if delivery.task.attempts < 2 {
                Settlement::Retry { after: Duration::from_millis(1), failure }
            } else {
                Settlement::Dead(failure)
            }
        }
        _ => done(),
    }
}

/// A master that works until it is killed, and says what it got and what was confirmed.
#[test]
#[ignore = "the child of sigkill_loses_nothing"]
fn working_child() {
    let Some(tenant) = Inherited::fresh() else { return };
    let mut party = Party::attached(&tenant, &[setup("foo", &[])], 10);
    say("attached");
    loop {
        let Some(deliveries) = party.batch_within(Duration::from_millis(50)) else {
            say("idle");
            continue;
        };
        let settlements: Vec<_> = deliveries.iter().map(|delivery| (delivery.handle, verdict(delivery))).collect();
        for delivery in &deliveries {
            say(&format!("got {} {}", delivery.task.id, delivery.task.attempts));
        }
        let handles: Vec<_> = settlements.iter().map(|(handle, _)| *handle).collect();
        let ended: Vec<_> = deliveries
            .iter()
            .zip(&settlements)
            .filter(|(_, (_, settlement))| !matches!(settlement, Settlement::Retry { .. }))
            .map(|(delivery, _)| delivery.task.id.clone())
            .collect();
        party.ask(Request::Settle(settlements));
        party.settled(&handles);
        for id in ended {
            say(&format!("ended {id}"));
        }
    }
}

#[test]
fn sigkill_loses_nothing() {
    const KILLS: usize = 120;
    const TASKS_EACH: usize = 100;
    const TASKS: usize = KILLS * TASKS_EACH;
    let tenant = Sqlite::fresh().expect("always possible");
    let client = Party::client(&tenant);
    let mut supply = tasks("foo", TASKS);
    let mut dice = Dice(20_261_121);
    let mut got: BTreeMap<String, u32> = BTreeMap::new();
    let mut ended: BTreeSet<String> = BTreeSet::new();
    let mut hear = |line: &str| {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["got", id, _] => {
                // Masters are heard one after the other, so of a task that moved between two of them by a retry
                // the end may be heard first.
                assert!(id.ends_with('7') || !ended.contains(id), "{id} came again after its end was confirmed");
                *got.entry(id.to_owned()).or_default() += 1;
            }
            ["ended", id] => drop(ended.insert(id.to_owned())),
            _ => {}
        }
    };
    // Three at a time: while one is killed the others work, and are killed in turn.
    let mut running = std::collections::VecDeque::new();
    for _ in 0..KILLS {
        client.submit(supply.split_off(supply.len() - TASKS_EACH));
        running.push_back(start("working_child", &tenant, &[]));
        if running.len() == 3 {
            let (mut child, mut said) = running.pop_front().expect("three");
            let lines = dice.below(150) as usize;
            said.by_ref().take(lines).for_each(|line| hear(&line));
            child.kill().expect("a process");
            child.wait().expect("a process");
            said.for_each(|line| hear(&line));
        }
    }
    for (mut child, said) in running {
        child.kill().expect("a process");
        child.wait().expect("a process");
        said.for_each(|line| hear(&line));
    }
    let mut last = Party::attached(&tenant, &[setup("foo", &[])], 100);
    while !last.survey().0 {
        let deliveries = last.batch();
        let settlements = deliveries.iter().map(|delivery| (delivery.handle, verdict(delivery))).collect();
        for delivery in &deliveries {
            hear(&format!("got {} 0", delivery.task.id));
        }
        last.ask(Request::Settle(settlements));
    }
    let expected = (0..TASKS).map(|number| number.to_string());
    let followers = (3..TASKS).step_by(10).map(|number| format!("f{number}"));
    let expected: BTreeSet<_> = expected.chain(followers).collect();
    assert_eq!(got.keys().cloned().collect::<BTreeSet<_>>(), expected, "tasks were lost, or came from nowhere");
    let twice = got.iter().filter(|(id, times)| !id.ends_with('7') && **times > 1).count();
    assert!(twice > 0, "no master was killed with tasks in hand: this test tests nothing");
    let dead: Vec<_> = last.dead_letters("foo").into_iter().map(|letter| letter.id).collect();
    let dead_once: BTreeSet<_> = dead.iter().cloned().collect();
    assert_eq!(dead.len(), dead_once.len(), "a task died twice");
    assert_eq!(dead_once, expected.iter().filter(|id| id.ends_with('7')).cloned().collect());
    last.close();
    let connection = rusqlite::Connection::open(tenant.path()).expect("a database");
    let whole: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("checked");
    assert_eq!(whole, "ok");
}

/// Runs out of room, and gets it back.
#[test]
#[ignore = "the child of a_full_disk_loses_no_settlement"]
fn full_child() {
    let Some(tenant) = Inherited::fresh() else { return };
    let mut party = Party::attached(&tenant, &[setup("foo", &[])], 2);
    party.submit(tasks("foo", 3));
    let held = party.deliveries(2);
    let (soft, hard) = getrlimit(Resource::RLIMIT_FSIZE).expect("a limit");
    // Our own standard output is a pipe, which has no size.
    setrlimit(Resource::RLIMIT_FSIZE, 4096, hard).expect("lowered");
    let large = NewTask { body: vec![0; 100_000], ..task("foo", "large") };
    let refused = party.call(|reply| Request::Submit { tasks: vec![large], reply });
    assert!(refused.is_err(), "stored where there is no room");
    party.settle(held[0].handle, done());
    party.settle(held[1].handle, Settlement::Release);
    party.wait("a warning", |event| matches!(event, Event::Warning(_)).then_some(()));
    assert!(party.delivered_so_far().is_empty(), "claimed without storing it");
    setrlimit(Resource::RLIMIT_FSIZE, soft, hard).expect("raised");
    party.settled(&[held[0].handle, held[1].handle]);
    let again = party.deliveries(2);
    assert_eq!(super::party::ids(&again), ["1", "2"]);
    party.close();
    say("all is well");
}

#[test]
fn a_full_disk_loses_no_settlement() {
    let tenant = Sqlite::fresh().expect("always possible");
    // With SIGXFSZ ignored, a write over the limit fails as one to a full disk does.
    let (mut child, said) = start("full_child", &tenant, &["/bin/sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""]);
    assert_eq!(said.last().as_deref(), Some("all is well"));
    assert!(child.wait().expect("a process").success());
    assert_eq!(Party::client(&tenant).depth("foo").ready, 2);
}

/// Coordinates, runs out of room, and gets it back.
#[test]
#[ignore = "the child of a_full_disk_loses_no_step_of_a_coordinator"]
fn full_coordinator() {
    let Some(tenant) = Inherited::fresh() else { return };
    let mut party = Party::attached(&tenant, &[setup("foo", &[])], 2);
    party.ask(Request::Ledger { application: "app".to_owned() });
    party.wait("LedgerHeld", |event| matches!(event, Event::LedgerHeld { .. }).then_some(()));
    party.submit(vec![task(&ledger_queue("app"), "an entry")]);
    let entries = party.wait("Entries", |event| match event {
        Event::Entries(entries) => Some(entries.iter().map(|entry| entry.id).collect()),
        _ => None,
    });
    let (soft, hard) = getrlimit(Resource::RLIMIT_FSIZE).expect("a limit");
    setrlimit(Resource::RLIMIT_FSIZE, 4096, hard).expect("lowered");
    let large = NewTask { body: vec![0; 100_000], ..task("foo", "large") };
    let advance = Advance { serial: 7, entries, tasks: vec![large], ..Advance::default() };
    party.ask(Request::Advance(Box::new(advance)));
    party.wait("Stalled", |event| match event {
        Event::Advanced { result, .. } => panic!("answered with {result:?}"),
        event => matches!(event, Event::Stalled(_)).then_some(()),
    });
    setrlimit(Resource::RLIMIT_FSIZE, soft, hard).expect("raised");
    party.wait("Advanced", |event| match event {
        Event::Advanced { serial: 7, result: Ok(()), .. } => Some(()),
        Event::Advanced { result, .. } => panic!("answered with {result:?}"),
        _ => None,
    });
    assert_eq!(party.delivery().task.id, "large");
    party.close();
    say("all is well");
}

#[test]
fn a_full_disk_loses_no_step_of_a_coordinator() {
    let tenant = Sqlite::fresh().expect("always possible");
    let (mut child, said) = start("full_coordinator", &tenant, &["/bin/sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""]);
    assert_eq!(said.last().as_deref(), Some("all is well"));
    assert!(child.wait().expect("a process").success());
    assert_eq!(Party::client(&tenant).depth("foo").ready, 1);
}

/// Says how often the transport's thread was woken in three idle seconds.
#[test]
#[ignore = "the child of an_idle_master_wakes_once_a_second"]
fn idle_child() {
    let Some(tenant) = Inherited::fresh() else { return };
    let mut party = Party::attached(&tenant, &[setup("foo", &[])], 2);
    party.submit(vec![NewTask { delay: Duration::from_hours(1), ..task("foo", "later") }]);
    party.depth("foo");
    let before = wakes_of("sqlite");
    party.hears_nothing_for(Duration::from_millis(3_200));
    say(&format!("{}", wakes_of("sqlite") - before));
}

/// How often the threads of this name went to sleep (`proc(5)`).
fn wakes_of(name: &str) -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("threads");
    let folders = tasks.map(|entry| entry.expect("a thread").path());
    let ours =
        folders.filter(|folder| std::fs::read_to_string(folder.join("comm")).is_ok_and(|comm| comm.trim() == name));
    ours.map(|folder| {
        let status = std::fs::read_to_string(folder.join("status")).expect("a status");
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).expect("a count");
        line.trim().parse::<u64>().expect("a number")
    })
    .sum()
}

#[test]
fn an_idle_master_wakes_once_a_second() {
    let tenant = Sqlite::fresh().expect("always possible");
    let (mut child, said) = start("idle_child", &tenant, &[]);
    let wakes: u64 = said.last().expect("a count").parse().expect("a number");
    assert!(child.wait().expect("a process").success());
    assert!(wakes <= 4, "woken {wakes} times in 3.2 s");
}
