//! What the page asks the master, once a second however many look on, and what it was told last.
//!
//! The page is a client of the control socket like any other. When nobody looks it asks for what its history needs, and no more. A
//! master that does not answer is shown as that, with the last that is known of it.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tokio::sync::watch;

use super::series::Series;
use crate::{
    clock::{Clock, Timestamp},
    control::{
        client,
        types::{Answer, Command},
    },
};

/// Between two rounds of questions.
pub(crate) const PACE: Duration = Duration::from_secs(1);
/// How long the master may take to answer one.
const PATIENCE: Duration = Duration::from_secs(5);
/// After the last look the questions about slots and health are left out.
const LOOKED_AT: i64 = 15_000;
/// Settings are asked for again after this, in milliseconds: they change with a reload alone.
const SETTLED: i64 = 10_000;
/// A status that is older than this is not shown as the present one, in milliseconds.
const STALE: i64 = 3000;
/// Records that are asked for at once; more of them are asked for in the same round.
const RECORDS: usize = 256;
/// … but only so often: what the master keeps is bounded.
const ROUNDS: usize = 16;

/// What is known of a master.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// When the last round of questions ended; 0: none has.
    pub(crate) at: Timestamp,
    /// Why it does not answer, if it does not.
    pub(crate) unreachable: Option<String>,
    /// When status, health and schedules were asked for last.
    pub(crate) status_at: Timestamp,
    /// As `status --json`; null until it was told.
    pub(crate) status: Value,
    /// As `health --json`.
    pub(crate) health: Value,
    /// The answer to `counters`.
    pub(crate) counters: Value,
    /// The answer to `schedules`.
    pub(crate) schedules: Value,
    /// The answer to `settings`, and when it was told.
    pub(crate) settings: Value,
    pub(crate) settings_at: Timestamp,
}

impl Snapshot {
    /// Whether the master answers: what it did last is else not what it does now.
    pub(crate) fn is_of_now(&self) -> bool {
        self.unreachable.is_none()
    }
}

/// What was heard because somebody looks.
struct Seen {
    /// When it was asked for.
    at: Timestamp,
    status: Result<Value, String>,
    health: Option<Value>,
    settings: Option<Value>,
    schedules: Option<Value>,
    counters: Option<Value>,
}

impl Snapshot {
    /// Takes what was heard, if nothing is known that was asked for later.
    fn take(&mut self, seen: Seen) {
        if seen.at < self.status_at {
            return;
        }
        match seen.status {
            Ok(status) => (self.status, self.status_at, self.unreachable) = (status, seen.at, None),
            Err(error) => {
                self.unreachable = Some(error);
                return;
            }
        }
        // Of a sentence that belongs to another moment nobody knows whether it is true.
        self.health = seen.health.unwrap_or_default();
        if let Some(settings) = seen.settings {
            (self.settings, self.settings_at) = (settings, seen.at);
        }
        for (known, told) in [(&mut self.schedules, seen.schedules), (&mut self.counters, seen.counters)] {
            if let Some(told) = told {
                *known = told;
            }
        }
    }
}

/// Takes the records of what ended, in the order of their numbers.
pub(crate) type Recorder = Box<dyn FnMut(&Heard<'_>) + Send>;

/// What a round heard of ends.
pub(crate) struct Heard<'a> {
    pub(crate) now: Timestamp,
    /// The run of the master, as it names it.
    pub(crate) run: &'a str,
    /// When it began, as far as the wall clock tells.
    pub(crate) began: Timestamp,
    pub(crate) host: &'a str,
    pub(crate) records: &'a [Value],
    /// Records that were gone before they were asked for.
    pub(crate) lost: u64,
    /// The answer to `counters`.
    pub(crate) counters: &'a Value,
}

/// What all parts of the page see.
#[derive(Debug)]
pub(crate) struct Office {
    socket: PathBuf,
    snapshot: watch::Sender<Arc<Snapshot>>,
    /// When somebody looked last, in milliseconds of the wall clock.
    looked_at: AtomicU64,
    /// One asks out of turn at a time.
    refreshing: Mutex<()>,
    pub(crate) series: Mutex<Series>,
}

impl Office {
    pub(crate) fn new(socket: &Path) -> Arc<Self> {
        Arc::new(Self {
            socket: socket.to_owned(),
            snapshot: watch::Sender::new(Arc::default()),
            looked_at: AtomicU64::new(0),
            refreshing: Mutex::default(),
            series: Mutex::default(),
        })
    }

    /// What is known now. Somebody looks.
    pub(crate) fn look(&self) -> Arc<Snapshot> {
        self.looked_at.store(Clock::wall().0.unsigned_abs(), Ordering::Relaxed);
        self.snapshot.borrow().clone()
    }

    /// Asks out of turn if the status is of a time when somebody looked last: nobody sees the past as the present.
    pub(crate) async fn refresh(self: &Arc<Self>) {
        if !self.is_stale() {
            return;
        }
        let office = Arc::clone(self);
        let refresh = move || {
            let _one = office.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
            if office.is_stale() {
                let seen = office.look_closely();
                office.change(|known| known.take(seen));
            }
        };
        // What could not be asked is shown as it was.
        drop(tokio::task::spawn_blocking(refresh).await);
    }

    fn is_stale(&self) -> bool {
        let known = self.snapshot.borrow();
        known.unreachable.is_none() && Clock::wall().0.abs_diff(known.status_at.0) > STALE.unsigned_abs()
    }

    /// Asks for what only those need who look.
    fn look_closely(&self) -> Seen {
        let at = Clock::wall();
        let is_settled = at.0.abs_diff(self.snapshot.borrow().settings_at.0) < SETTLED.unsigned_abs();
        let status = self.ask(&Command::Status {});
        let is_there = status.is_ok();
        let also = |command, is_wanted: bool| (is_there && is_wanted).then(|| self.ask(&command).ok()).flatten();
        Seen {
            at,
            status,
            settings: also(Command::Settings {}, !is_settled),
            health: also(Command::Health {}, true),
            schedules: also(Command::Schedules {}, true),
            counters: also(Command::Counters {}, true),
        }
    }

    /// Changes what is known. Two may at once: each sets what it asked for, and nothing else.
    fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        self.snapshot.send_modify(|known| {
            let known = Arc::make_mut(known);
            change(known);
            known.at = Clock::wall();
        });
    }

    /// Told each time that more is known. Somebody looks as long as it asks.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.subscribe()
    }

    /// Asks the master once, for a person.
    ///
    /// # Errors
    /// What the master says against it, or that it does not answer.
    pub(crate) fn ask(&self, command: &Command) -> Result<Value, String> {
        match client::ask_within(&self.socket, command, PATIENCE) {
            Ok(Answer::Done(answer)) => Ok(answer),
            Ok(Answer::Refused { message }) => Err(message),
            Ok(Answer::Invalid { problems }) => Err(problems),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Asks once a second, on the thread that calls it, as long as `goes_on`.
    pub(crate) fn run(&self, mut recorder: Recorder, goes_on: impl Fn() -> bool) {
        let mut known = Known::default();
        while goes_on() {
            let began = Clock::wall();
            self.round(&mut known, &mut recorder, began);
            let took = Clock::wall().0.saturating_sub(began.0).clamp(0, 60_000).unsigned_abs();
            pause(PACE.saturating_sub(Duration::from_millis(took)));
        }
    }

    fn round(&self, known: &mut Known, recorder: &mut Recorder, now: Timestamp) {
        let is_looked_at = now.0.saturating_sub(self.looked_at.load(Ordering::Relaxed) as i64) <= LOOKED_AT;
        let is_first = self.snapshot.borrow().at.0 == 0;
        let counters = match self.ask(&Command::Counters {}) {
            Ok(counters) => counters,
            Err(error) => return self.change(|known| known.unreachable = Some(error)),
        };
        self.series.lock().unwrap_or_else(PoisonError::into_inner).push(Clock::steady(), &counters);
        self.hear(known, recorder, now, &counters);
        let seen = (is_looked_at || is_first).then(|| self.look_closely());
        self.change(|known| {
            (known.unreachable, known.counters) = (None, counters);
            if let Some(seen) = seen {
                known.take(seen);
            }
        });
    }

    fn hear(&self, known: &mut Known, recorder: &mut Recorder, now: Timestamp, counters: &Value) {
        let run = counters["run"].as_str().unwrap_or_default();
        if known.run != run {
            *known = Known { run: run.to_owned(), last: None };
        }
        let (mut records, mut gone) = (Vec::new(), 0);
        for _ in 0..ROUNDS {
            let after = known.last.unwrap_or_default();
            let Ok(mut told) = self.ask(&Command::Events { after, most: Some(RECORDS) }) else { break };
            let Value::Array(more) = told["records"].take() else { break };
            // What was before the first question nobody waited for.
            gone += told["lost"].as_u64().filter(|_| known.last.is_some()).unwrap_or_default();
            let (count, last) = (more.len(), more.last().and_then(|record| record["number"].as_u64()));
            known.last = Some(last.unwrap_or(after));
            records.extend(more);
            if count < RECORDS {
                break;
            }
        }
        let host = counters["host"].as_str().unwrap_or_default();
        let up = (counters["uptime_seconds"].as_f64().unwrap_or_default() * 1000.0) as i64;
        let began = Timestamp(now.0.saturating_sub(up));
        recorder(&Heard { now, run, began, host, records: &records, lost: gone, counters });
    }
}

/// Of the master that answers.
#[derive(Debug, Default)]
struct Known {
    run: String,
    /// The number of the last record that was told; `None`: none was asked for.
    last: Option<u64>,
}

#[expect(clippy::disallowed_methods, reason = "a question each second is what this thread is for")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seen(at: i64, status: Result<Value, String>) -> Seen {
        let health = Some(json!({ "healthy": true }));
        Seen { at: Timestamp(at), status, health, settings: None, schedules: None, counters: None }
    }

    #[test]
    fn what_was_asked_for_earlier_replaces_nothing_that_is_newer() {
        let mut known = Snapshot { counters: json!(1), ..Snapshot::default() };
        known.take(seen(20, Ok(json!("new"))));
        known.take(seen(10, Ok(json!("old"))));
        assert_eq!((&known.status, known.status_at, &known.counters), (&json!("new"), Timestamp(20), &json!(1)));
        known.take(Seen { health: None, ..seen(30, Ok(json!("newer"))) });
        assert!(known.health.is_null(), "its health is not known");
        known.take(seen(40, Err("gone".to_owned())));
        assert_eq!((&known.status, known.status_at, known.is_of_now()), (&json!("newer"), Timestamp(30), false));
    }
}
