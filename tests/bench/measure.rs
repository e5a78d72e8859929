//! The steps that `tests/bench/compare` is made of: each fills a queue, or measures one bare loop and prints its rate.
//!
//! ```text
//! measure fill URI QUEUE TASKS BYTES       stores no-op tasks
//! measure amqp URI QUEUE TASKS ACKS        takes them with bare lapin, ACKS acknowledgements at a time; prints tasks per second
//! measure sqlite FILE TASKS BYTES GROUP    makes a table and empties it with bare rusqlite; prints tasks per second
//! measure mix URI QUEUE BURSTS             submits short tasks in bursts beside long ones; prints how many tasks there were
//! ```
//!
//! Ours are measured through this program's command line (`workers`), with the kinds of `measured`.

use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use asynctask::client::{Submission, SubmitOptions, blocking::Client};

use super::{
    bare,
    measured::{self, Mixing, nanoseconds},
};

/// Tasks that are stored together.
const BATCH: usize = 1000;
/// From one burst of the mix to the next.
const PERIOD: Duration = Duration::from_millis(100);
/// Short tasks of a burst: 20 ms of work for two workers.
const BURST: usize = 40;
/// A long task comes with each burst of this number: of four workers two are always busy with one.
const LONG_EVERY: usize = 10;
const LONG: Duration = Duration::from_secs(2);

pub(crate) fn run(step: &[String]) -> ExitCode {
    let words: Vec<&str> = step.iter().map(String::as_str).collect();
    match words[..] {
        ["fill", uri, queue, tasks, bytes] => fill(uri, queue, number(tasks), number(bytes)),
        ["amqp", uri, queue, tasks, acks] => println!("{}", bare::amqp(uri, queue, number(tasks), number(acks) as u64)),
        ["sqlite", file, tasks, bytes, group] => {
            println!("{}", bare::sqlite(Path::new(file), number(tasks), number(bytes), number(group)));
        }
        ["mix", uri, queue, bursts] => println!("{}", mix(uri, queue, number(bursts))),
        _ => {
            eprintln!("error: measure fill|amqp|sqlite|mix …, not {words:?}; see tests/bench/measure.rs");
            return ExitCode::from(64);
        }
    }
    ExitCode::SUCCESS
}

fn number(text: &str) -> usize {
    text.parse().expect("a number")
}

/// Stores tasks whose payload is a text of `bytes` bytes of JSON.
pub(crate) fn fill(uri: &str, queue: &str, tasks: usize, bytes: usize) {
    let client = Client::open(uri).expect("the transport opens");
    let payload = "x".repeat(bytes - 2);
    let mut left = tasks;
    while left > 0 {
        let count = left.min(BATCH);
        left -= count;
        let tasks = (0..count).map(|_| Submission::new(queue, &payload, SubmitOptions::new()).expect("a task"));
        client.submit_all(tasks).expect("the tasks are stored");
    }
}

/// Submits `bursts` bursts. The long tasks come in the middle of theirs, with short ones on both sides.
fn mix(uri: &str, queue: &str, bursts: usize) -> usize {
    let client = Client::open(uri).expect("the transport opens");
    // The two that are in hand at the beginning end one period of the long ones apart.
    let mut count = submit(&client, queue, &[Some(LONG), Some(LONG / 2)]);
    let start = Instant::now();
    for number in 1..=bursts {
        std::thread::sleep((PERIOD * number as u32).saturating_sub(start.elapsed()));
        let mut burst = vec![None; BURST];
        if number % LONG_EVERY == 0 {
            burst.insert(BURST / 2, Some(LONG));
        }
        count += submit(&client, queue, &burst);
    }
    count
}

/// Submits short tasks (`None`) and long ones together. Their moments are a nanosecond apart, which keeps their order.
fn submit(client: &Client, queue: &str, tasks: &[Option<Duration>]) -> usize {
    let sent = nanoseconds();
    let submissions = (sent..).zip(tasks).map(|(sent, long)| {
        let milliseconds = long.unwrap_or(measured::BUSY).as_millis() as u64;
        let mixing = Mixing { sent, milliseconds, is_long: long.is_some() };
        Submission::new(queue, &mixing, SubmitOptions::new()).expect("a task")
    });
    client.submit_all(submissions).expect("the tasks are stored");
    tasks.len()
}
