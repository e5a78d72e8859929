use std::{
    io::{BufRead, BufReader, Write},
    net::Shutdown,
    sync::mpsc,
    thread::JoinHandle,
};

use serde_json::{Value, json};

use super::*;
use crate::{
    clock::Clock,
    level::Level,
    logging::events::Sink,
    worker::{Context, Outcome, TaskResult, kind::Built, kind::Kind, serve::one_at_a_time},
};

/// A test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// The master's side of a worker on a thread.
struct Master {
    socket: BufReader<UnixStream>,
    worker: JoinHandle<Result<(), String>>,
    lines: Lines,
}

impl Master {
    /// Of a worker that does tasks by `body`.
    fn of(body: impl Fn(Value, &Context) -> TaskResult + Send + Sync + 'static) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        let lines = Lines::new("kind", Level::Error);
        let worker = std::thread::spawn({
            let lines = lines.clone();
            move || {
                let Built::One(mut worker) = Kind::worker_fn(body).build().unwrap() else { panic!() };
                let writer = Arc::new(FrameWriter::to(theirs.try_clone().unwrap()));
                let mut frames = FrameReader::start(theirs, &writer, &lines).unwrap();
                one_at_a_time(&mut *worker, &mut frames, &writer, &lines).map_err(|broken| broken.to_string())
            }
        });
        Self { socket: BufReader::new(ours), worker, lines }
    }

    fn say(&self, frames: &[Value]) {
        let lines: Vec<String> = frames.iter().map(|frame| frame.to_string() + "\n").collect();
        self.socket.get_ref().write_all(lines.concat().as_bytes()).unwrap();
    }

    fn frame(&mut self) -> Value {
        let mut line = String::new();
        self.socket.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    fn said(&mut self, frames: &[Value]) {
        for frame in frames {
            assert_eq!(self.frame(), *frame);
        }
    }

    fn end(self) -> Result<(), String> {
        drop(self.socket);
        self.worker.join().unwrap()
    }
}

fn task(id: &str, payload: impl Into<Value>) -> Value {
    json!({"task": {"id": id, "queue": "q", "payload": payload.into()}})
}

fn done(id: &str) -> Value {
    json!({"done": {"id": id}})
}

fn returned(ids: &[&str]) -> Value {
    json!({"returned": {"ids": ids}})
}

fn recall() -> Value {
    json!({"recall": {}})
}

/// A worker whose tasks with the payload `true` say that they have begun and wait to be released.
fn held() -> (Master, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (tell, begun) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let released = Mutex::new(released);
    let master = Master::of(move |waits, _| {
        if waits == true {
            tell.send(()).unwrap();
            released.lock().unwrap().recv_timeout(PATIENCE)?;
        }
        Ok(Outcome::Done)
    });
    (master, begun, release)
}

#[test]
fn tasks_are_given_back_while_another_one_runs_and_all_else_waits_for_its_turn() {
    let (mut master, begun, release) = held();
    master.say(&[task("a", true), task("b", false), task("c", false), json!({"ping": {"n": 1}})]);
    begun.recv_timeout(PATIENCE).unwrap();
    master.say(&[recall(), task("d", false)]);
    master.said(&[returned(&["b", "c"])]);
    master.say(&[json!({"log_level": {"level": "DEBUG"}}), recall(), recall(), task("e", false)]);
    master.said(&[returned(&["d"]), returned(&[])]);
    assert!(master.lines.shows(Level::Debug), "a level counts at once");
    release.send(()).unwrap();
    master.said(&[done("a"), json!({"pong": {"n": 1}}), done("e")]);
    master.say(&[recall(), task("f", false), recall(), task("g", false)]);
    master.said(&[returned(&[]), returned(&["f"]), done("g")]);
}

#[test]
fn a_recall_is_answered_in_time_whenever_it_comes() {
    let (mut master, begun, release) = held();
    let clock = Clock::start();
    let mut times = Vec::new();
    for _ in 0..9 {
        master.say(&[task("a", true), task("b", false)]);
        begun.recv_timeout(PATIENCE).unwrap();
        // The first is found by a look, the next wakes the thread.
        for ids in [&["b"][..], &[], &[]] {
            let sent = clock.now().at;
            master.say(&[recall()]);
            master.said(&[returned(ids)]);
            times.push(clock.now().at.since(sent));
        }
        release.send(()).unwrap();
        master.said(&[done("a")]);
    }
    // Not the longest: the machine of the test may have other work.
    times.sort();
    assert!(
        times[times.len() / 2] < Duration::from_millis(20) && times[times.len() * 3 / 4] < Duration::from_millis(50),
        "{times:?}"
    );
}

#[test]
fn a_recall_behind_long_tasks_is_answered_in_time_while_short_ones_run() {
    let clock = Clock::start();
    let mut master = Master::of(move |_, _| {
        // Shorter than a tick, so that each look finds another task.
        let until = clock.now().at + Duration::from_millis(2);
        while clock.now().at < until {}
        Ok(Outcome::Done)
    });
    let long = "x".repeat(20_000);
    let mut tasks: Vec<Value> = (0..64).map(|id| task(&id.to_string(), long.clone())).collect();
    tasks.push(recall());
    master.say(&tasks);
    let answer =
        std::iter::from_fn(|| Some(master.frame())).find_map(|frame| frame["returned"]["ids"].as_array().cloned());
    // At 8 KiB a look it would be some 150 looks, and nothing would be left.
    assert!(answer.is_some_and(|ids| ids.len() > 20), "the recall came after the tasks");
}

#[test]
fn a_halt_stands_behind_the_tasks_before_it_and_is_not_taken_back() {
    let (mut master, begun, release) = held();
    master.say(&[task("a", true), task("b", false), task("c", true), task("d", false), json!({"halt": {}})]);
    begun.recv_timeout(PATIENCE).unwrap();
    release.send(()).unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    master.say(&[recall()]);
    master.said(&[done("a"), done("b"), returned(&["d"])]);
    release.send(()).unwrap();
    master.said(&[done("c"), json!({"bye": {}})]);
    assert_eq!(master.end(), Ok(()));
}

#[test]
fn an_end_and_a_fault_that_come_while_a_task_runs_are_met_after_it() {
    let meet = |last: &[u8], shutdown| {
        let (mut master, begun, release) = held();
        master.say(&[task("a", true)]);
        begun.recv_timeout(PATIENCE).unwrap();
        // The answer says that the thread looks.
        master.say(&[recall()]);
        master.said(&[returned(&[])]);
        master.socket.get_ref().write_all(last).unwrap();
        master.socket.get_ref().shutdown(shutdown).unwrap();
        release.send(()).unwrap();
        if shutdown == Shutdown::Write {
            master.said(&[done("a")]);
        }
        master.worker.join().unwrap()
    };
    assert_eq!(meet(b"", Shutdown::Write), Ok(()));
    assert_eq!(meet(b"{\"ta", Shutdown::Write), Ok(()));
    let broken = meet(b"", Shutdown::Both).unwrap_err();
    assert!(broken.contains("Broken pipe"), "{broken}");
    let broken = meet(b"oops\n", Shutdown::Write).unwrap_err();
    assert!(broken.starts_with("from the master: a frame does not parse"), "{broken}");
}

#[test]
fn a_line_that_is_too_long_is_met_after_the_tasks_before_it() {
    let (mut master, begun, release) = held();
    master.say(&[task("a", true), task("b", false)]);
    begun.recv_timeout(PATIENCE).unwrap();
    let socket = master.socket.get_ref().try_clone().unwrap();
    // What the worker does not take is an error here.
    let writing = std::thread::spawn(move || (&socket).write_all(&vec![b'x'; crate::frames::LIMIT + 1]));
    release.send(()).unwrap();
    master.said(&[done("a"), done("b")]);
    let broken = master.worker.join().unwrap().unwrap_err();
    assert!(broken.contains("longer than"), "{broken}");
    drop(master.socket);
    let _ = writing.join().unwrap();
}

/// Numbers by chance, from a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[test]
fn with_recalls_at_any_moment_each_task_is_done_or_returned_in_order() {
    const TASKS: u64 = 2000;
    let clock = Clock::start();
    let mut master = Master::of(move |micros, _| {
        // Work, so that recalls meet all kinds of tasks: between two, short, and longer than some ticks.
        let until = clock.now().at + Duration::from_micros(micros.as_u64().unwrap_or(0));
        while clock.now().at < until {}
        Ok(Outcome::Done)
    });
    let mut chance = Chance(0x9E37_79B9_7F4A_7C15);
    let (mut sent, mut in_worker, mut recalls) = (0, 0, 0);
    // In the order in which they came back.
    let (mut done, mut given_back) = (Vec::new(), Vec::new());
    while sent < TASKS || in_worker + recalls > 0 {
        match chance.below(10) {
            0..4 if sent < TASKS && in_worker < AHEAD.into() => {
                let count = (1 + chance.below(12)).min(TASKS - sent);
                let tasks: Vec<Value> = (sent..sent + count)
                    .map(|id| {
                        let micros = [0, 0, 0, 0, 20, 100, 500][chance.below(7) as usize];
                        let micros = if chance.below(100) == 0 { 12_000 } else { micros };
                        task(&id.to_string(), micros)
                    })
                    .collect();
                master.say(&tasks);
                (sent, in_worker) = (sent + count, in_worker + count);
            }
            4 => {
                master.say(&[recall()]);
                recalls += 1;
            }
            _ if in_worker + recalls > 0 => {
                let frame = master.frame();
                let id = |id: &Value| id.as_str().unwrap().parse::<u64>().unwrap();
                if let Some(ids) = frame["returned"]["ids"].as_array() {
                    assert!(ids.first().is_none_or(|first| done.last() < Some(&id(first))), "{frame} after {done:?}");
                    given_back.extend(ids.iter().map(id));
                    in_worker -= ids.len() as u64;
                    recalls -= 1;
                } else {
                    done.push(id(&frame["done"]["id"]));
                    in_worker -= 1;
                }
            }
            _ => {}
        }
    }
    assert!(done.is_sorted() && given_back.is_sorted(), "{done:?}\n{given_back:?}");
    assert!(done.len() > 100 && given_back.len() > 100, "{} done, {} returned", done.len(), given_back.len());
    let mut all = [done, given_back].concat();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..TASKS), "each once");
    master.say(&[json!({"halt": {}})]);
    master.said(&[json!({"bye": {}})]);
    assert_eq!(master.end(), Ok(()));
}
