//! The history as a whole: what is taken is listed or left out, and no file ends anything.

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt};

use serde_json::{Value, json};

use super::{record::Counts, *};
use crate::clock::{Reading, Timestamp};

/// Not at the beginning of a step.
const NOW: Timestamp = Timestamp(1_796_122_900_000);
const HOUR: i64 = 3_600_000;
/// When the machine was booted.
const BOOT: i64 = NOW.0 - HOUR;

/// A master that ends tasks, as its socket tells them.
struct Told {
    number: u64,
    counts: Counts,
    run: &'static str,
    began: Timestamp,
    waiting: Vec<Value>,
}

impl Told {
    fn new() -> Self {
        Self { number: 0, counts: Counts::default(), run: "first", began: Timestamp(NOW.0 - 1000), waiting: Vec::new() }
    }

    fn end(&mut self, id: &str, outcome: Outcome) {
        self.number += 1;
        self.counts[outcome as usize] += 1;
        let mut record = json!({
            "number": self.number, "at": "2026-12-01T11:00:00Z", "queue": "q", "kind": "k", "id": id, "attempt": 1,
            "outcome": outcome.as_str(), "ran_seconds": 0.5,
        });
        if outcome.is_failure() {
            record["error"] = format!("no room for {id}").into();
            record["reason"] = "error".into();
        }
        self.waiting.push(record);
    }

    /// Ends of which there is no record.
    fn leaves_out(&mut self, outcome: Outcome, count: u64) {
        self.counts[outcome as usize] += count;
    }

    fn batch(&mut self, now: Timestamp) -> Batch {
        let records = std::mem::take(&mut self.waiting);
        let [done, snoozed, released, retried, dead] = self.counts;
        Batch {
            now,
            reading: Reading { wall: now, since_boot: now.0 - BOOT },
            run: self.run.to_owned(),
            began: self.began,
            host: "a".to_owned(),
            ends: records.iter().filter_map(End::of).collect(),
            counters: json!({ "queues": { "q": {
                "kind": "k", "done": done, "snoozed": snoozed, "released": released, "retried": { "error": retried }, "dead": { "error": dead },
            } } }),
        }
    }
}

/// A history in a folder, with the writer in the test's own hands.
struct Kept {
    folder: tempfile::TempDir,
    history: History,
    writer: Writer,
}

impl Kept {
    fn new(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("h.db");
        Self { history: History::at(&path), writer: Writer::new(file::resolved(&path), limits), folder }
    }

    fn take(&mut self, batch: &Batch) {
        let stored = self.writer.take(batch);
        self.history.stored(batch, stored);
    }

    fn list(&self, wanted: &Wanted) -> Listing {
        self.history.list(wanted, None, 1000).unwrap()
    }

    /// Ids of all parts of a list, each part of three.
    fn all(&self, wanted: &Wanted) -> Vec<String> {
        let (mut ids, mut before) = (Vec::new(), None);
        loop {
            let part = self.history.list(wanted, before, 3).unwrap();
            ids.extend(part.rows.into_iter().map(|row| row.end.id));
            before = part.next;
            if before.is_none() {
                return ids;
            }
        }
    }
}

#[test]
fn a_list_and_what_it_leaves_out_is_all() {
    let mut kept = Kept::new(Limits::DEFAULT);
    let mut told = Told::new();
    for number in 0..10 {
        told.end(&format!("d{number}"), Outcome::Done);
    }
    told.end("x", Outcome::Retried);
    told.end("x", Outcome::Dead);
    told.leaves_out(Outcome::Done, 90);
    kept.take(&told.batch(NOW));
    let list = kept.list(&Wanted::default());
    assert_eq!((list.listed, list.total), ([10, 0, 0, 1, 1], [100, 0, 0, 1, 1]));
    // The same again, nothing new, and then more.
    kept.take(&told.batch(Timestamp(NOW.0 + 1000)));
    told.end("y", Outcome::Released);
    kept.take(&told.batch(Timestamp(NOW.0 + 2000)));
    let list = kept.list(&Wanted::default());
    assert_eq!((list.listed, list.total), ([10, 0, 1, 1, 1], [100, 0, 1, 1, 1]));
    let part = kept.history.list(&Wanted::default(), None, 3).unwrap();
    assert_eq!((part.listed, part.total), (list.listed, list.total), "a part says what the whole has");
    let ids = kept.all(&Wanted::default());
    assert_eq!(ids.len(), 13);
    assert_eq!(ids[..3], ["y", "x", "x"]);

    let failures = Wanted { outcomes: vec![Outcome::Retried, Outcome::Dead], ..Wanted::default() };
    assert_eq!(kept.all(&failures), ["x", "x"]);
    assert_eq!(kept.list(&failures).total, [0, 0, 0, 1, 1]);
    assert_eq!(kept.history.attempts("x").unwrap().len(), 2);
    assert_eq!(kept.history.attempts("nobody").unwrap(), []);
    assert_eq!(kept.history.nodes().unwrap(), ["a"]);
    let text = |text: &str| kept.all(&Wanted { text: Some(text.to_owned()), ..Wanted::default() });
    assert_eq!(
        (text("D3"), text("room for x").len(), text("%").len(), text("'; --").len()),
        (vec!["d3".to_owned()], 2, 0, 0)
    );
    for other in [
        Wanted { queue: Some("other".to_owned()), ..Wanted::default() },
        Wanted { kind: Some("other".to_owned()), ..Wanted::default() },
        Wanted { node: Some("other".to_owned()), ..Wanted::default() },
        Wanted { from: Some(step(NOW) + 1), ..Wanted::default() },
        Wanted { to: Some(step(NOW) - 1), ..Wanted::default() },
    ] {
        let list = kept.list(&other);
        assert_eq!((list.rows.len(), list.listed, list.total), (0, Counts::default(), Counts::default()), "{other:?}");
    }
    assert_eq!(kept.history.notes(), Vec::<String>::new());
}

#[test]
fn another_page_goes_on_where_the_last_one_was() {
    let mut kept = Kept::new(Limits::DEFAULT);
    let mut told = Told::new();
    told.end("a", Outcome::Done);
    let first = told.batch(NOW);
    kept.take(&first);
    // It hears again what the master still has. The machine slept, or its clock was set: the same run seems to have begun at another time.
    let path = kept.history.path.clone();
    kept.writer = Writer::new(path, Limits::DEFAULT);
    told.began = Timestamp(NOW.0 + 10 * HOUR);
    told.end("b", Outcome::Done);
    let mut second = told.batch(Timestamp(NOW.0 + 5000));
    second.ends.splice(0..0, first.ends);
    kept.take(&second);
    assert_eq!(kept.all(&Wanted::default()), ["b", "a"]);
    assert_eq!(kept.list(&Wanted::default()).total[0], 2);
    // A master that is started again counts from nothing.
    let mut told = Told { run: "second", ..Told::new() };
    told.end("c", Outcome::Done);
    kept.take(&told.batch(Timestamp(NOW.0 + 5001)));
    assert_eq!(kept.all(&Wanted::default()), ["c", "b", "a"]);
    assert_eq!(kept.list(&Wanted::default()).total[0], 3);
}

#[test]
fn failures_are_kept_longer_and_counts_go_with_their_rows() {
    let mut kept = Kept::new(Limits::DEFAULT);
    let mut told = Told::new();
    told.end("a", Outcome::Done);
    told.end("b", Outcome::Dead);
    kept.take(&told.batch(NOW));
    let mut after = |hours: i64| {
        told.end(&format!("after {hours}"), Outcome::Released);
        kept.take(&told.batch(Timestamp(NOW.0 + hours * HOUR)));
        let list = kept.list(&Wanted::default());
        assert_eq!(list.listed, list.total, "after {hours} hours");
        (list.listed[Outcome::Done as usize], list.listed[Outcome::Dead as usize])
    };
    assert_eq!(after(23), (1, 1));
    assert_eq!(after(25), (0, 1));
    assert_eq!(after(7 * 24 - 1), (0, 1));
    assert_eq!(after(7 * 24 + 1), (0, 0));
}

#[test]
fn a_clock_that_is_set_wrong_removes_nothing() {
    let mut kept = Kept::new(Limits::DEFAULT);
    let mut told = Told::new();
    told.end("a", Outcome::Done);
    kept.take(&told.batch(NOW));
    let mut later = |minutes: i64, wrong: i64| {
        told.end("more", Outcome::Dead);
        let mut batch = told.batch(Timestamp(NOW.0 + minutes * 60_000 + wrong));
        batch.reading.since_boot = NOW.0 + minutes * 60_000 - BOOT;
        kept.take(&batch);
        kept.list(&Wanted::default()).listed[Outcome::Done as usize]
    };
    assert_eq!([later(11, 0), later(12, 24 * 8 * HOUR), later(21, 24 * 8 * HOUR)], [1; 3]);
    assert_eq!(later(13, 0), 1, "it was set right again");
    assert_eq!([later(30, 24 * 8 * HOUR), later(41, 24 * 8 * HOUR)], [1, 0], "it holds");
}

#[test]
fn no_flood_pushes_failures_out_and_rows_are_bounded() {
    let mut kept = Kept::new(Limits { rows: 100, ..Limits::DEFAULT });
    let mut told = Told::new();
    for number in 0..30 {
        told.end(&format!("f{number}"), Outcome::Dead);
    }
    for round in 0..20 {
        for number in 0..50 {
            told.end(&format!("d{round}/{number}"), Outcome::Done);
        }
        kept.take(&told.batch(Timestamp(NOW.0 + round * 1000)));
    }
    let list = kept.list(&Wanted::default());
    assert_eq!((list.listed, list.total), ([70, 0, 0, 0, 30], [1000, 0, 0, 0, 30]));
    assert_eq!(list.rows[0].end.id, "d19/49");
    // Failures, too, have their half at most.
    for number in 0..500 {
        told.end(&format!("g{number}"), Outcome::Dead);
    }
    kept.take(&told.batch(Timestamp(NOW.0 + 30_000)));
    let list = kept.list(&Wanted::default());
    assert_eq!((list.listed.iter().sum::<u64>(), list.total), (100, [1000, 0, 0, 0, 530]));
    assert_eq!(list.rows[0].end.id, "g499");
}

#[test]
fn the_file_stays_within_its_bytes() {
    let limits = Limits { bytes: 1 << 20, ..Limits::DEFAULT };
    let mut kept = Kept::new(limits);
    let mut told = Told::new();
    let mut longest = 0;
    for round in 0..200 {
        for number in 0..20 {
            told.end(&format!("{round}/{number}/{}", "x".repeat(300)), Outcome::Dead);
        }
        kept.take(&told.batch(Timestamp(NOW.0 + round * 1000)));
        longest = longest.max(std::fs::metadata(&kept.history.path).unwrap().len());
    }
    let list = kept.list(&Wanted::default());
    assert!(longest <= limits.bytes && longest > limits.bytes / 2, "{longest} bytes");
    assert!((200..4000).contains(&list.listed[4]) && list.total[4] == 4000, "{list:?}");
    assert_eq!(kept.history.notes(), Vec::<String>::new());
    // What was long and is gone gives its room back.
    kept.take(&told.batch(Timestamp(NOW.0 + 8 * 24 * HOUR)));
    told.end("z", Outcome::Dead);
    kept.take(&told.batch(Timestamp(NOW.0 + 8 * 24 * HOUR + 1000)));
    let length = std::fs::metadata(&kept.history.path).unwrap().len();
    assert!(length < longest / 2, "{length} bytes");
    assert_eq!(kept.all(&Wanted::default()), ["z"]);
}

#[test]
fn where_there_is_no_room_it_is_said_and_goes_on_when_there_is() {
    // Too short for even the tables: as a disk that is full.
    let mut kept = Kept::new(Limits { bytes: 8 * 4096, ..Limits::DEFAULT });
    let mut told = Told::new();
    told.end("a", Outcome::Done);
    kept.take(&told.batch(NOW));
    let notes = kept.history.notes();
    assert!(notes[0].contains("there is no room for more in the file"), "{notes:?}");
    assert_eq!(notes[1], "Ends that were told and are not listed since this page began: 1.");
    assert!(kept.history.list(&Wanted::default(), None, 3).is_err());
    let path = kept.history.path.clone();
    kept.writer = Writer::new(path, Limits::DEFAULT);
    told.end("b", Outcome::Done);
    kept.take(&told.batch(Timestamp(NOW.0 + 60_000)));
    assert_eq!(kept.list(&Wanted::default()).total[0], 2);
    assert_eq!(kept.all(&Wanted::default()), ["b"]);
    assert_eq!(kept.history.notes(), ["Ends that were told and are not listed since this page began: 1."]);
}

#[test]
fn a_damaged_file_is_said_and_a_new_one_is_begun_when_it_is_removed() {
    let mut kept = Kept::new(Limits::DEFAULT);
    let path = kept.history.path.clone();
    let mut told = Told::new();
    told.end("a", Outcome::Done);
    kept.take(&told.batch(NOW));
    assert_eq!(kept.all(&Wanted::default()), ["a"]);
    let length = std::fs::metadata(&path).unwrap().len() as usize;
    std::fs::write(&path, vec![b'!'; length]).unwrap();
    told.end("b", Outcome::Done);
    kept.take(&told.batch(Timestamp(NOW.0 + 1000)));
    let notes = kept.history.notes();
    assert!(notes[0].contains("is damaged; remove it, and a new one is begun"), "{notes:?}");
    let error = kept.history.list(&Wanted::default(), None, 3).unwrap_err();
    assert!(error.starts_with("There is no history to be seen: the file"), "{error}");
    std::fs::remove_file(&path).unwrap();
    assert!(kept.history.attempts("a").unwrap_err().contains("is not there"));
    told.end("c", Outcome::Done);
    kept.take(&told.batch(Timestamp(NOW.0 + 60_000)));
    assert_eq!(kept.all(&Wanted::default()), ["c"]);
    assert_eq!(kept.list(&Wanted::default()).total[0], 3, "it counts what the master counts");
}

#[test]
fn a_second_page_reads_and_takes_over() {
    let mut kept = Kept::new(Limits::DEFAULT);
    let mut told = Told::new();
    told.end("a", Outcome::Done);
    let batch = told.batch(NOW);
    kept.take(&batch);
    let mut other = Writer::new(kept.history.path.clone(), Limits::DEFAULT);
    let second = History::at(&kept.history.path);
    second.stored(&batch, other.take(&batch));
    assert!(second.notes()[0].starts_with("Another page writes the file"), "{:?}", second.notes());
    assert_eq!(second.notes().len(), 1, "what the other one writes is not missing");
    assert_eq!(second.list(&Wanted::default(), None, 3).unwrap().total[0], 1);
    kept.writer = Writer::new(std::path::PathBuf::from("/dev/null/none"), Limits::DEFAULT);
    told.end("b", Outcome::Done);
    let batch = told.batch(Timestamp(NOW.0 + 60_000));
    second.stored(&batch, other.take(&batch));
    assert_eq!((second.notes(), kept.list(&Wanted::default()).total[0]), (Vec::new(), 2));
    let modes: BTreeSet<u32> = std::fs::read_dir(kept.folder.path())
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().permissions().mode() & 0o777)
        .collect();
    assert_eq!(modes, [0o600].into(), "others see none of its files");
}

#[test]
fn what_comes_faster_than_it_is_written_is_dropped_and_counted() {
    let mut kept = Kept::new(Limits::DEFAULT);
    let path = kept.history.path.clone();
    let mut told = Told::new();
    kept.take(&told.batch(NOW));
    drop(kept.writer);
    let busy = Connection::open(&path).unwrap();
    busy.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (history, mut record, thread) = History::begin(&path, Limits::DEFAULT).unwrap();
    let all = 3 * WAITING as u64;
    for number in 0..all {
        told.end(&number.to_string(), Outcome::Done);
        let records = std::mem::take(&mut told.waiting);
        let counters = told.batch(NOW).counters;
        record.take(&Heard {
            now: NOW,
            run: told.run,
            began: told.began,
            host: "a",
            records: &records,
            lost: 0,
            counters: &counters,
        });
    }
    busy.execute_batch("ROLLBACK").unwrap();
    drop(record);
    thread.join().unwrap();
    let dropped = history.dropped.load(Ordering::Relaxed);
    // One is in the thread's hands.
    assert!((all - WAITING as u64 - 1..=all - WAITING as u64).contains(&dropped), "{dropped}");
    assert_eq!(history.notes(), [format!("Ends that were told and are not listed since this page began: {dropped}.")]);
    assert_eq!(history.list(&Wanted::default(), None, 3).unwrap().listed[0], all - dropped);
}
