//! The file: locked, read-only, damaged, without room, and worked by masters that are killed.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nix::sys::signal::Signal;
use rusqlite::Connection;

use super::{Dice, once_each, pass, stopped, times_done, told};
use crate::support::{Demo, Place, log::until};

fn path(demo: &Demo) -> PathBuf {
    PathBuf::from(demo.uri.strip_prefix("sqlite:").expect("these tests have a file"))
}

/// Another program: its locks are those of this process.
fn other_program(demo: &Demo) -> Connection {
    Connection::open(path(demo)).expect("the file is there")
}

/// A small disk of memory, with the demo's file on it. Only root can have one.
struct Disk(PathBuf);

impl Disk {
    fn under(demo: &mut Demo, size: &str) -> Option<Self> {
        let place = demo.folder.path().join("disk");
        fs::create_dir(&place).expect("a folder of ours");
        let size = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&place).status();
        if !mounted.is_ok_and(|status| status.success()) {
            crate::support::left_out("only root can mount a small disk");
            return None;
        }
        demo.uri = format!("sqlite:{}", place.join("tasks.db").display());
        Some(Self(place))
    }

    fn remount(&self, options: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0).status();
        assert!(status.is_ok_and(|status| status.success()), "remount,{options}");
    }

    /// Takes all the room that is left, also in the log of a database: what was written there before is room for what comes.
    fn fill(&self) -> PathBuf {
        let ballast = self.0.join("ballast");
        let (database, log) = (self.0.join("tasks.db"), self.0.join("tasks.db-wal"));
        for _ in 0..1000 {
            let mut file = fs::File::create(&ballast).expect("a file can be made");
            if log.exists() {
                let connection = Connection::open(&database).expect("it is there");
                let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            }
            while file.write_all(&[1; 4096]).is_ok() {}
            // A master may have written in between: then there is room once more.
            if fs::metadata(&log).map_or(0, |log| log.len()) == 0 {
                return ballast;
            }
        }
        panic!("there is room in {} again and again", log.display());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A master whose stderr goes to a file.
fn not_stored(demo: &Demo, workers: &str, options: &[&str]) -> (PathBuf, crate::support::log::Master) {
    let path = demo.folder.path().join("stderr");
    let mut command = demo.master(workers, options);
    command.stdout(std::process::Stdio::piped()).stderr(fs::File::create(&path).expect("a file in a folder of ours"));
    let master = crate::support::log::Master::follow(command.spawn().expect("the demo starts"));
    (path, master)
}

/// The log and stderr have the same line, once.
fn says_what_is_lost(log: &str, stderr: &Path, line: &str) {
    let lines = |text: &str, line: &str| text.lines().filter(|one| *one == line).count();
    assert_eq!(lines(log, &format!("ERROR:AsyncTaskWorkerTask:{line}")), 1, "{log}");
    let stderr = fs::read_to_string(stderr).expect("it was made");
    assert_eq!(lines(&stderr, &format!("error: {line}")), 1, "{stderr}");
}

const SLEEPER: &str = r#"{"foo": {"worker": "demo_sleep_worker", "processes": 2}}"#;

fn sleepers(demo: &Demo, count: u64, milliseconds: u64) {
    demo.submit_all("foo", (0..count).map(|n| format!(r#"{{"n":{n},"sleep_ms":{milliseconds}}}"#)));
}

/// Three masters that wait, at the same time.
#[test]
fn a_lock_of_another_program_is_waited_for_and_told_when_it_is_long_and_holds_up_no_stop() {
    std::thread::scope(|scope| {
        scope.spawn(locked_for_five_seconds);
        scope.spawn(locked_for_longer);
        scope.spawn(stopped_while_locked);
    });
}

fn locked_for_five_seconds() {
    let demo = Demo::new(&Place::sqlite());
    sleepers(&demo, 4, 5_000);
    let mut master = demo.start(SLEEPER, &["--halt-when-empty"]);
    master.expect("Got payload");
    master.expect("Got payload");
    let other = other_program(&demo);
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock is free in between");
    // Five seconds: the time that the two tasks take.
    master.expect("Processing complete");
    master.expect("Processing complete");
    other.execute_batch("ROLLBACK").expect("it is ours");
    let (code, log) = master.wait();
    assert_eq!(code, 0, "{log}");
    assert!(!log.contains("WARNING") && !log.contains("ERROR"), "{log}");
    once_each(&demo, 0..4);
}

fn locked_for_longer() {
    let demo = Demo::new(&Place::sqlite());
    sleepers(&demo, 6, 1_000);
    let mut master = demo.start(SLEEPER, &["--halt-when-empty"]);
    master.expect("Processing complete");
    let other = other_program(&demo);
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock is free in between");
    master.expect("another program keeps it locked");
    // Whoever submits must know, and is told.
    let ran = demo.run(&["submit", "foo", "{}", "--wait", "3s"]);
    assert!(ran.code == 69 && ran.stderr.contains("another program keeps it locked"), "{}{}", ran.code, ran.stderr);
    other.execute_batch("ROLLBACK").expect("it is ours");
    master.expect("works again");
    let (code, log) = master.wait();
    assert_eq!(code, 0, "{log}");
    once_each(&demo, 0..6);
}

fn stopped_while_locked() {
    let demo = Demo::new(&Place::sqlite());
    sleepers(&demo, 2, 1_000);
    let (stderr, master) = not_stored(&demo, SLEEPER, &["--set", "supervisor.grace=3s"]);
    told(&master.log(), "Got payload", 2);
    let other = other_program(&demo);
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock is free in between");
    told(&master.log(), "Processing complete", 2);
    let log = master.log();
    // The grace, the last try, and the time that a busy machine takes.
    assert_eq!(stopped(master, Duration::from_secs(3 + 5 + 4)), 82);
    says_what_is_lost(&log.text(), &stderr, "2 outcomes could not be stored; their tasks will be done again");
    other.execute_batch("ROLLBACK").expect("it is ours");
    drop(other);
    // What could not be stored is done again: at least once.
    let run = demo.workers(SLEEPER, &["--halt-when-empty"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!((0..2).all(|n| times_done(&demo).contains_key(&n)));
    assert!(demo.is_empty("foo"));
}

#[test]
fn a_folder_that_can_only_be_read_is_refused_with_its_reason() {
    let mut demo = Demo::new(&Place::sqlite());
    let Some(disk) = Disk::under(&mut demo, "8m") else { return };
    sleepers(&demo, 1, 0);
    disk.remount("ro");
    for arguments in [&["workers", "--set", "workers={foo: demo_sleep_worker}"][..], &["submit", "foo", "{}"]] {
        let ran = demo.run(arguments);
        assert_eq!(ran.code, 69, "{arguments:?}: {}{}", ran.stdout, ran.stderr);
        // SQLite's own words depend on whether the files beside it are there.
        let reasons = ["can only be read", "Read-only", "no file can be made beside it"];
        assert!(reasons.iter().any(|reason| ran.stderr.contains(reason)), "{}", ran.stderr);
    }
    disk.remount("rw");
    let run = demo.workers(SLEEPER, &["--halt-when-empty"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    once_each(&demo, 0..1);
}

#[test]
fn a_full_disk_holds_up_what_must_be_stored_and_loses_nothing() {
    let mut demo = Demo::new(&Place::sqlite());
    let Some(disk) = Disk::under(&mut demo, "8m") else { return };
    sleepers(&demo, 40, 100);
    let mut master = demo.start(SLEEPER, &["--halt-when-empty"]);
    for _ in 0..4 {
        master.expect("Processing complete");
    }
    let ballast = disk.fill();
    master.expect("the disk is full");
    // What the master could not write to its end has left some pages behind it: a small task may have room there.
    let payload = format!("{{\"large\":\"{}\"}}", "x".repeat(512 * 1024));
    let ran = demo.feed(&["submit", "foo", "-"], &payload);
    assert!(ran.code != 0 && ran.stderr.contains("full"), "{} {}", ran.code, ran.stderr);
    fs::remove_file(ballast).expect("it is ours");
    master.expect("works again");
    let (code, log) = master.wait();
    assert_eq!(code, 0, "{log}");
    once_each(&demo, 0..40);
    assert!(demo.is_empty("foo"));
}

#[test]
fn nothing_is_said_to_be_a_dead_letter_that_is_not_stored() {
    let demo = Demo::new(&Place::sqlite());
    demo.submit_all("foo", [r#"{"n":0,"sleep_ms":1000}"#.to_owned(), r#"{"sleep_ms":1000,"then":"error"}"#.to_owned()]);
    let options = ["--set", "supervisor.grace=1s", "--set", "control.socket=s.sock", "--report", "report.xml"];
    let (stderr, mut master) = not_stored(&demo, SLEEPER, &options);
    let log = master.log();
    told(&log, "Got payload", 2);
    let other = other_program(&demo);
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock is free in between");
    told(&log, "Processing complete", 1);
    told(&log, "An unhandled exception occurred", 1);
    let ran = demo.run(&["control", "stop", "--socket", "s.sock"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    master.expect("2 outcomes could not be stored");
    let (code, text) = master.wait();
    assert_eq!(code, 82, "{text}");
    says_what_is_lost(&log.text(), &stderr, "2 outcomes could not be stored; their tasks will be done again");
    assert!(!text.contains("dead-lettered"), "{text}");
    let report = fs::read_to_string(demo.folder.path().join("report.xml")).expect("there is a report");
    assert!(!report.contains("<failure"), "{report}");
    assert!(report.contains("could not be stored"), "{report}");
    other.execute_batch("ROLLBACK").expect("it is ours");
    drop(other);
    // Now it is so, and is said once.
    let run = demo.workers(SLEEPER, &["--halt-when-empty"]);
    let lines = run.stdout.lines().filter(|line| line.contains("dead-lettered to foo_failed")).count();
    assert_eq!((run.code, lines), (0, 1), "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("1 processed, 1 failed, 0 retried, 1 dead-lettered"), "{}", run.stdout);
}

/// What is to end by itself does so after half a minute: a run in halt mode, and a drain. Four that wait, at the same time.
#[test]
fn a_run_that_is_to_halt_ends_when_nothing_can_be_stored() {
    std::thread::scope(|scope| {
        scope.spawn(without_room_in_the_middle);
        scope.spawn(without_room_at_the_start);
        scope.spawn(locked_for_good);
        scope.spawn(drained_without_room);
    });
}

/// It ended with 69, in time, and its report, its last words and its error say why.
fn gave_up(demo: &Demo, run: &crate::support::demo::Ran, cause: &str) {
    assert_eq!(run.code, 69, "{}{}", run.stdout, run.stderr);
    assert!(run.stderr.contains(" for 30 s: ") && run.stderr.contains(cause), "{}", run.stderr);
    assert!(run.stdout.contains(" processed, "), "{}", run.stdout);
    let report = fs::read_to_string(demo.folder.path().join("report.xml")).expect("there is a report");
    let error = report.lines().find(|line| line.contains("<error ")).expect("an error");
    assert!(error.contains("name=\"run\"") && error.contains(cause), "{error}");
    assert!(report.contains("left waiting in ") || report.contains("left in the queues is unknown"), "{report}");
    demo.nobody_is_left();
}

const GIVING_UP: [&str; 5] = ["--halt-when-empty", "--report", "report.xml", "--set", "supervisor={grace: 1s}"];

fn without_room_in_the_middle() {
    let mut demo = Demo::new(&Place::sqlite());
    let Some(disk) = Disk::under(&mut demo, "8m") else { return };
    sleepers(&demo, 40, 100);
    let mut master = demo.start(SLEEPER, &GIVING_UP);
    master.expect("Processing complete");
    let ballast = disk.fill();
    let (code, stdout) = master.wait();
    let stderr = stdout.clone();
    gave_up(&demo, &crate::support::demo::Ran { stdout, stderr, code }, "the disk is full");
    // Nothing is lost by giving up.
    fs::remove_file(ballast).expect("it is ours");
    let run = demo.workers(SLEEPER, &["--halt-when-empty"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!((0..40).all(|n| times_done(&demo).contains_key(&n)));
}

fn without_room_at_the_start() {
    let mut demo = Demo::new(&Place::sqlite());
    let Some(disk) = Disk::under(&mut demo, "1m") else { return };
    disk.fill();
    gave_up(&demo, &demo.workers(SLEEPER, &GIVING_UP), "full");
}

fn locked_for_good() {
    let demo = Demo::new(&Place::sqlite());
    sleepers(&demo, 4, 500);
    let mut master = demo.start(SLEEPER, &GIVING_UP);
    master.expect("Processing complete");
    let other = other_program(&demo);
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock is free in between");
    let (code, stdout) = master.wait();
    let stderr = stdout.clone();
    gave_up(&demo, &crate::support::demo::Ran { stdout, stderr, code }, "another program keeps it locked");
    other.execute_batch("ROLLBACK").expect("it is ours");
}

fn drained_without_room() {
    let mut demo = Demo::new(&Place::sqlite());
    let Some(disk) = Disk::under(&mut demo, "8m") else { return };
    sleepers(&demo, 2, 0);
    disk.fill();
    let run = demo.run(&["process", "foo", "--worker", "demo_sleep_worker"]);
    assert!(run.code == 69 && run.stderr.contains("the disk is full"), "{}{}{}", run.code, run.stdout, run.stderr);
}

#[test]
fn a_submission_into_a_full_disk_says_what_is_stored() {
    let mut demo = Demo::new(&Place::sqlite());
    let Some(_disk) = Disk::under(&mut demo, "1m") else { return };
    let payload = format!("{{\"i\":\"{}\"}}\n", "x".repeat(48));
    let ran = demo.feed(&["submit", "foo", "-"], &payload.repeat(20_000));
    assert!(ran.code == 69 && ran.stderr.contains("the disk is full"), "{ran:?}");
    let number = |before: &str| -> u64 {
        let (_, rest) = ran.stderr.split_once(before).unwrap_or_else(|| panic!("no {before} in {ran:?}"));
        rest.split(|sign: char| !sign.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).expect("a number")
    };
    let (line, stored) = (number("standard input, line "), number("hint: "));
    assert!(stored > 0 && line == stored + 1, "{ran:?}");
    assert!(ran.stderr.contains(&format!("{stored} tasks before it were submitted; nothing from line {line} on is")));
    assert_eq!(demo.depth("foo")["ready"], stored);
}

fn noise(path: &Path, from: u64, length: usize) {
    let file = fs::File::options().write(true).open(path).expect("it is there");
    file.write_all_at(&vec![0xA5; length], from).expect("it can be written");
}

#[test]
fn a_damaged_file_is_refused_and_left_as_it_is() {
    for (from, length) in [(0, 100), (2 * 4096, 8 * 4096)] {
        let demo = Demo::new(&Place::sqlite());
        sleepers(&demo, 400, 60_000);
        let mut master = demo.start(SLEEPER, &[]);
        master.expect("Got payload");
        master.signal(Signal::SIGKILL);
        master.wait();
        demo.nobody_is_left();
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        other_program(&demo).query_row(checkpoint, [], |_| Ok(())).expect("nobody is in the way");
        noise(&path(&demo), from, length);
        let before = fs::read(path(&demo)).expect("it is there");
        let ran = demo.workers(SLEEPER, &[]);
        assert_eq!(ran.code, 69, "{}{}", ran.stdout, ran.stderr);
        assert!(ran.stderr.contains("damaged"), "{}", ran.stderr);
        assert!(!ran.stdout.contains("Got payload"), "{}", ran.stdout);
        let after = fs::read(path(&demo)).expect("it is there");
        assert_eq!(after.len(), before.len());
        demo.nobody_is_left();
    }
}

#[test]
fn a_file_that_is_removed_under_a_master_ends_it() {
    let demo = Demo::new(&Place::sqlite());
    sleepers(&demo, 1, 0);
    let mut master = demo.start(SLEEPER, &[]);
    master.expect("Processing complete");
    fs::remove_file(path(&demo)).expect("it is there");
    assert_eq!(master.wait().0, 69);
    demo.nobody_is_left();
}

#[test]
fn masters_killed_at_random_beside_another_on_the_same_file_lose_nothing() {
    const TASKS: u64 = 600;
    const KILLS: u32 = 50;
    let demo = Demo::new(&Place::sqlite());
    let mut dice = Dice::new(8);
    let long = (0..4).map(|n| format!(r#"{{"n":{n},"sleep_ms":3000}}"#));
    let bad = (0..10).map(|n| format!(r#"{{"bad":{n},"sleep_ms":{},"then":"error"}}"#, 200 * (n % 3)));
    let short: Vec<String> = (4..TASKS).map(|n| format!(r#"{{"n":{n},"sleep_ms":{}}}"#, 10 + dice.below(50))).collect();
    let ids = demo.submit_ids("foo", long.chain(bad).chain(short));
    let workers = |processes: u32| {
        format!(
            r#"{{"foo": {{"worker": "demo_sleep_worker", "processes": {processes}, "max_deliveries": 1000,
                "retry": {{"max_attempts": 3, "first": "100ms"}}}}}}"#
        )
    };
    let mut steady = demo.start(&workers(2), &[]);
    let mut logs = vec![steady.log()];
    steady.expect("Got payload");
    for _ in 0..KILLS {
        let master = demo.start(&workers(3), &[]);
        logs.push(master.log());
        pass(Duration::from_millis(dice.below(400)));
        master.signal(Signal::SIGKILL);
        assert_eq!(master.wait().0, -9);
    }
    assert_eq!(stopped(steady, Duration::from_secs(15)), 0);
    let run = demo.workers(&workers(8), &["--halt-when-empty"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let times = times_done(&demo);
    let lost: Vec<u64> = (0..TASKS).filter(|n| !times.contains_key(n)).collect();
    let again: u32 = times.values().map(|times| times - 1).sum();
    let told = |text: &str| logs.iter().map(|log| log.text().matches(text).count()).sum::<usize>();
    let (returned, begun) = (told("of its tasks go back to their queues"), told("Got payload"));
    println!(
        "{KILLS} masters killed: {} lost of {TASKS}, {begun} begun, {again} done again; {returned} times tasks went back",
        lost.len()
    );
    assert!(returned > 5, "they were killed with tasks in hand");
    assert!(lost.is_empty(), "lost: {lost:?}");
    // The one that lives has each of its tasks once; of the others, what was in hand at a kill.
    assert!(again <= KILLS * 6, "{again} done again");
    let letters = demo.dead_letters("foo");
    assert_eq!(letters.len(), 10, "{letters:?}");
    for letter in &letters {
        // What was interrupted used no attempt, and what failed used one each time.
        assert_eq!((&letter["reason"], &letter["attempts"]), (&"error".into(), &3.into()), "{letter}");
        assert!(ids[4..14].iter().any(|id| letter["id"] == id.as_str()), "{letter}");
    }
    until("something is left", || demo.is_empty("foo"));
    demo.nobody_is_left();
    let checked: String =
        other_program(&demo).query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it can be read");
    assert_eq!(checked, "ok");
}
