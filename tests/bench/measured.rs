//! Kinds that tell when they worked, on the clock that all processes of a machine share.
//!
//! A worker process leaves one file in the folder [`FOLDER`] when it ends: when its first task began, when its last one ended and how
//! many there were, three numbers of 64 bits. `comparison/programs/meter.py` writes the same for workers in Python, so all
//! contestants of the comparison are measured in the same way: inside of the tasks, from the first begun to the last
//! ended of all processes. What starts slowly is not charged for its start.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use asynctask::{App, Context, Outcome, TaskResult, Worker};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize, de::IgnoredAny};

/// Names the folder of the records. Without it nothing is written.
pub(crate) const FOLDER: &str = "ASYNCTASK_BENCH_RECORDS";

/// Processor time of a busy task.
pub(crate) const BUSY: Duration = Duration::from_millis(1);

pub(crate) fn register(app: App) -> App {
    app.worker("noop", || Ok(Noop(Record::default())))
        .worker("busy", || Ok(Busy(Record::default())))
        .worker("mixed", || Ok(Mixed(None)))
}

/// The machine's monotonic clock, the same for all processes.
pub(crate) fn nanoseconds() -> u64 {
    read_clock(ClockId::CLOCK_MONOTONIC)
}

fn read_clock(clock: ClockId) -> u64 {
    let time = clock_gettime(clock).expect("Linux has this clock");
    u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0)
}

/// Uses the processor for that long. Wall time would pass for two tasks at once where they share a core.
fn use_processor(duration: Duration) {
    let end = read_clock(ClockId::CLOCK_THREAD_CPUTIME_ID) + duration.as_nanos() as u64;
    while read_clock(ClockId::CLOCK_THREAD_CPUTIME_ID) < end {}
}

fn folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// What one worker process, or all of a run, have done.
#[derive(Default)]
pub(crate) struct Record {
    /// When the first task began, in nanoseconds.
    pub(crate) began: u64,
    /// When the last one ended.
    pub(crate) ended: u64,
    pub(crate) count: u64,
}

impl Record {
    fn begin(&mut self) {
        if self.count == 0 {
            self.began = nanoseconds();
        }
    }

    fn end(&mut self) {
        self.ended = nanoseconds();
        self.count += 1;
    }
}

/// A record is written once, at the end of its process: a system call for each task would be measured, too.
impl Drop for Record {
    fn drop(&mut self) {
        let Some(folder) = folder().filter(|_| self.count > 0) else { return };
        let bytes: Vec<u8> = [self.began, self.ended, self.count].into_iter().flat_map(u64::to_ne_bytes).collect();
        fs::write(folder.join(format!("{}.record", std::process::id())), bytes).expect("the record is written");
    }
}

/// The records of a folder as one.
pub(crate) fn read(folder: &Path) -> Record {
    let mut total = Record { began: u64::MAX, ..Record::default() };
    for file in fs::read_dir(folder).expect("the folder of the records").flatten() {
        let bytes = fs::read(file.path()).expect("a record");
        let number = |at: usize| u64::from_ne_bytes(bytes[8 * at..8 * at + 8].try_into().expect("eight bytes"));
        total.began = total.began.min(number(0));
        total.ended = total.ended.max(number(1));
        total.count += number(2);
    }
    total
}

struct Noop(Record);

impl Worker for Noop {
    type Payload = IgnoredAny;

    fn process(&mut self, _: IgnoredAny, _: &Context) -> TaskResult {
        self.0.begin();
        self.0.end();
        Ok(Outcome::Done)
    }
}

struct Busy(Record);

impl Worker for Busy {
    type Payload = IgnoredAny;

    fn process(&mut self, _: IgnoredAny, _: &Context) -> TaskResult {
        self.0.begin();
        use_processor(BUSY);
        self.0.end();
        Ok(Outcome::Done)
    }
}

/// A task of the mix: a short one uses the processor, a long one sleeps, so that a small machine has cores left for the
/// short ones.
#[derive(Serialize, Deserialize)]
pub(crate) struct Mixing {
    /// Just before it was submitted.
    pub(crate) sent: u64,
    pub(crate) milliseconds: u64,
    pub(crate) is_long: bool,
}

/// Writes a line for each of its tasks: when it was sent, when it began and when it ended, and whether it is a long one.
struct Mixed(Option<File>);

impl Worker for Mixed {
    type Payload = Mixing;

    fn process(&mut self, mixing: Mixing, _: &Context) -> TaskResult {
        let began = nanoseconds();
        let duration = Duration::from_millis(mixing.milliseconds);
        if mixing.is_long {
            std::thread::sleep(duration);
        } else {
            use_processor(duration);
        }
        let ended = nanoseconds();
        if self.0.is_none() {
            let folder = folder().ok_or("the mix needs a folder for its lines")?;
            self.0 = Some(File::create(folder.join(format!("{}.mix", std::process::id())))?);
        }
        let line = format!("{} {began} {ended} {}\n", mixing.sent, u8::from(mixing.is_long));
        self.0.as_mut().expect("it was made just now").write_all(line.as_bytes())?;
        Ok(Outcome::Done)
    }
}
