//! The coordinator of an application's jobs: a pure machine like the core and the timer of schedules. It is told what the
//! transport says of the ledger and what the time is, and says what is to be asked.
//!
//! ```text
//!   LedgerHeld ──> Ledger in memory                     (open jobs)
//!   Entries ─────> fold ──> Advance ──> Advanced        (one step under way; what comes meanwhile gathers)
//!   deadline ────┘     └──> LookUp ──> found            (orders that name a job)
//! ```
//!
//! One of all masters with pipelines holds the ledger, and for a moment a command, if no master does. What it says of a step, lines
//! and ended jobs, it says once the step is stored. A step that is refused, or a ledger that is lost, costs what was
//! folded in memory and nothing else: the ledger is read anew.

mod counted;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

pub use self::counted::Counted;
use crate::{
    backoff::Backoff,
    clock::{Instant, Now, jumps::TOLERANCE},
    jobs::{
        definition::Pipeline,
        entry_list,
        ledger::{Counts, Ended, Ledger, Lookup, StepDone},
        record::{Advance, EntryId, Frozen, JobFilter, Record, StoredEntry},
    },
    level::Level,
    transport::{Error, Event},
};
use uuid::Uuid;

/// Dead letters of a round that were missing so often are gone: the end of one that was put back to work by hand is folded by then.
const MISSING: u32 = 2;
/// Rounds of which that is remembered.
const MISSING_ROUNDS: usize = 256;
/// Entries of one step.
const STEP: usize = 256;
/// How long after a step was refused the ledger is asked for again.
const REST: Backoff = Backoff { first: Duration::from_secs(1), factor: 2.0, longest: Duration::from_secs(30) };
/// How long after the jobs that an order names could not be read they are asked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The wall clock is looked at this often while a moment is waited for: it may be set.
const LONGEST_SLEEP: Duration = Duration::from_hours(1);
/// What is due and changes nothing is not tried again sooner.
const SHORTEST_SLEEP: Duration = Duration::from_secs(1);

/// What the coordinator wants done.
#[derive(Debug)]
pub enum Act {
    /// Ask for the ledger.
    Ask,
    /// Give it back.
    GiveBack,
    /// Store this step.
    Advance(Box<Advance>),
    /// Read the jobs of each of these filters, and say [`Coordinator::found`].
    LookUp {
        /// Of the ledger that asks.
        epoch: u64,
        /// Names the order.
        entry: EntryId,
        /// Which jobs.
        filters: Vec<JobFilter>,
    },
    /// Write a line.
    Log(Level, String),
    /// A job has ended; it may begin again.
    Ended(Ended),
}

/// The machine.
pub struct Coordinator {
    pipelines: Vec<Pipeline>,
    application: String,
    seed: u64,
    phase: Phase,
    /// Steps that were refused in a row.
    refused: u32,
    /// Rounds of which dead letters were missing when they were to go back to their queues, and how often. It outlives the ledger, which
    /// is read anew then.
    missing: BTreeMap<Uuid, u32>,
    /// Steps that were asked to be stored.
    serial: u64,
    counted: Counted,
}

enum Phase {
    /// It does not want the ledger.
    Away,
    /// It was asked for.
    Asked {
        /// Another one holds it, and that was said.
        told: bool,
    },
    /// It is asked for again then.
    Resting {
        until: Instant,
    },
    Holding(Box<Holding>),
}

struct Holding {
    epoch: u64,
    ledger: Ledger,
    /// Told, and not folded yet.
    entries: Vec<StoredEntry>,
    under_way: Option<UnderWay>,
    /// Orders whose jobs are looked up; an instant: that failed, and is tried again then.
    lookups: BTreeMap<EntryId, (Vec<JobFilter>, Option<Instant>)>,
    /// Something came that is no entry.
    is_told: bool,
    /// What time brings is not looked at before.
    rests_until: Instant,
    /// When the clocks were looked at last.
    seen: Now,
}

impl Holding {
    /// By how many milliseconds the wall clock was set since the last look, ahead or (below 0) back. A machine that was suspended, or a
    /// master that was stopped, looks like one that was set ahead.
    fn jump(&mut self, now: Now) -> Option<i64> {
        let expected = self.seen.wall.plus(now.at.since(self.seen.at));
        self.seen = now;
        Some(now.wall.0.saturating_sub(expected.0)).filter(|by| by.unsigned_abs() > TOLERANCE.unsigned_abs())
    }
}

/// A step that is being stored, with what is to be said of it then.
struct UnderWay {
    serial: u64,
    entries: usize,
    lines: Vec<(Level, String)>,
    ended: Vec<Ended>,
    steps_done: Vec<StepDone>,
}

impl Coordinator {
    /// One that does not want the ledger yet. `seed` is random: what the ledger makes ids from.
    #[must_use]
    pub fn new(application: &str, pipelines: Vec<Pipeline>, seed: u64) -> Self {
        Self {
            pipelines,
            application: application.to_owned(),
            seed,
            phase: Phase::Away,
            refused: 0,
            missing: BTreeMap::new(),
            serial: 0,
            counted: Counted::default(),
        }
    }

    /// It wants the ledger from now on.
    pub fn begin(&mut self) -> Vec<Act> {
        match self.phase {
            Phase::Away => {
                self.phase = Phase::Asked { told: false };
                vec![Act::Ask]
            }
            _ => Vec::new(),
        }
    }

    /// It wants the ledger no more. A step that is under way may still be stored.
    pub fn end(&mut self) -> Vec<Act> {
        match std::mem::replace(&mut self.phase, Phase::Away) {
            Phase::Away | Phase::Resting { .. } => Vec::new(),
            Phase::Asked { .. } | Phase::Holding(_) => vec![Act::GiveBack],
        }
    }

    /// Other pipelines in the place of these. Jobs go on with the definition that they began with.
    pub fn reload(&mut self, pipelines: Vec<Pipeline>, now: Now) -> Vec<Act> {
        self.pipelines.clone_from(&pipelines);
        let Phase::Holding(holding) = &mut self.phase else { return Vec::new() };
        holding.ledger.reload(pipelines);
        // More may run at once.
        holding.is_told = true;
        self.advance(now)
    }

    /// The transport said something about the ledger; all else that it says is ignored.
    pub fn event(&mut self, event: Event, now: Now) -> Vec<Act> {
        match event {
            Event::LedgerHeld { epoch, jobs, frozen } => self.held(epoch, jobs, frozen, now),
            Event::LedgerRefused => match &mut self.phase {
                Phase::Asked { told } if !*told => {
                    *told = true;
                    let text = "Another process coordinates the jobs; waiting for it to go";
                    vec![Act::Log(Level::Info, text.to_owned())]
                }
                _ => Vec::new(),
            },
            Event::LedgerLost => match self.phase {
                Phase::Holding(_) => {
                    self.phase = Phase::Asked { told: false };
                    let text = "The jobs are not coordinated here any more; waiting to do so again";
                    vec![Act::Log(Level::Warning, text.to_owned())]
                }
                _ => Vec::new(),
            },
            Event::Entries(entries) => {
                let Phase::Holding(holding) = &mut self.phase else { return Vec::new() };
                holding.entries.extend(entries);
                self.advance(now)
            }
            Event::Advanced { serial, revived: _, result } => self.advanced(serial, result, now),
            _ => Vec::new(),
        }
    }

    fn held(&mut self, epoch: u64, jobs: Vec<Record>, frozen: Vec<Frozen>, now: Now) -> Vec<Act> {
        if let Phase::Away = self.phase {
            // It came too late.
            return vec![Act::GiveBack];
        }
        let text = format!("Coordinates the jobs of {} ({} open)", self.application, jobs.len());
        self.seed = self.seed.wrapping_add(1);
        let mut ledger = Ledger::new(&self.application, epoch, self.pipelines.clone(), jobs, frozen, self.seed);
        let missing = self.missing.iter().filter(|(_, times)| **times >= MISSING);
        ledger.set_missing(missing.map(|(round, _)| *round));
        self.phase = Phase::Holding(Box::new(Holding {
            epoch,
            ledger,
            entries: Vec::new(),
            under_way: None,
            lookups: BTreeMap::new(),
            is_told: true,
            rests_until: now.at,
            seen: now,
        }));
        let mut acts = vec![Act::Log(Level::Info, text)];
        acts.append(&mut self.advance(now));
        acts
    }

    fn advanced(&mut self, serial: u64, result: Result<(), Error>, now: Now) -> Vec<Act> {
        let Phase::Holding(holding) = &mut self.phase else { return Vec::new() };
        let Some(stored) = holding.under_way.take_if(|step| step.serial == serial) else { return Vec::new() };
        if let Err(error) = result {
            self.refused += 1;
            if let Error::NotRevived { round, .. } = error {
                if self.missing.len() >= MISSING_ROUNDS {
                    self.missing.clear();
                }
                *self.missing.entry(round).or_default() += 1;
            }
            self.phase = Phase::Resting { until: now.at + REST.delay(self.refused) };
            let text = format!("a step of the jobs cannot be stored: {error}; they are read anew");
            return vec![Act::Log(Level::Warning, text), Act::GiveBack];
        }
        self.refused = 0;
        let mut acts = self.tell(stored.lines, stored.ended, &stored.steps_done);
        acts.append(&mut self.advance(now));
        acts
    }

    /// The jobs that an order names, or why they cannot be read.
    pub fn found(&mut self, epoch: u64, entry: EntryId, found: Result<Vec<Record>, Error>, now: Now) -> Vec<Act> {
        let Phase::Holding(holding) = &mut self.phase else { return Vec::new() };
        if holding.epoch != epoch {
            return Vec::new();
        }
        match found {
            Ok(records) => {
                if holding.lookups.remove(&entry).is_none() {
                    return Vec::new();
                }
                holding.ledger.found(entry, records);
                holding.is_told = true;
                self.advance(now)
            }
            Err(error) => {
                let Some((_, again_at)) = holding.lookups.get_mut(&entry) else { return Vec::new() };
                *again_at = Some(now.at + LOOK_AGAIN);
                vec![Act::Log(Level::Warning, format!("an order waits, because jobs cannot be read: {error}"))]
            }
        }
    }

    /// Time until [`Coordinator::due`] is to be called although nothing happens.
    #[must_use]
    pub fn wait(&self, now: Now) -> Option<Duration> {
        match &self.phase {
            Phase::Away | Phase::Asked { .. } => None,
            Phase::Resting { until } => Some(until.since(now.at)),
            Phase::Holding(holding) => {
                let again = holding.lookups.values().filter_map(|(_, again_at)| *again_at).min();
                let again = again.map(|at| at.since(now.at));
                let moment = holding.ledger.next_deadline().filter(|_| holding.under_way.is_none());
                let moment = moment
                    .map(|moment| moment.remaining(now.wall).min(LONGEST_SLEEP).max(holding.rests_until.since(now.at)));
                [again, moment].into_iter().flatten().min()
            }
        }
    }

    /// Does what time brings.
    pub fn due(&mut self, now: Now) -> Vec<Act> {
        match &mut self.phase {
            Phase::Away | Phase::Asked { .. } => Vec::new(),
            Phase::Resting { until } if *until > now.at => Vec::new(),
            Phase::Resting { .. } => {
                self.phase = Phase::Asked { told: false };
                vec![Act::Ask]
            }
            Phase::Holding(holding) => {
                let mut acts = Vec::new();
                for (entry, (filters, again_at)) in &mut holding.lookups {
                    if again_at.is_some_and(|at| at <= now.at) {
                        *again_at = None;
                        acts.push(Act::LookUp { epoch: holding.epoch, entry: *entry, filters: filters.clone() });
                    }
                }
                acts.append(&mut self.advance(now));
                acts
            }
        }
    }

    /// Folds what there is, unless a step is under way.
    fn advance(&mut self, now: Now) -> Vec<Act> {
        let mut acts = Vec::new();
        loop {
            let Phase::Holding(holding) = &mut self.phase else { return acts };
            if let Some(by) = holding.jump(now) {
                holding.ledger.clock_jumped(by);
            }
            let is_due = holding.rests_until <= now.at
                && holding.ledger.next_deadline().is_some_and(|moment| moment <= now.wall);
            let has_work = is_due || holding.is_told || !holding.entries.is_empty();
            if holding.under_way.is_some() || !has_work {
                return acts;
            }
            holding.is_told = false;
            let count = holding.entries.len().min(STEP);
            let entries: Vec<StoredEntry> = holding.entries.drain(..count).collect();
            let in_lists: usize = entries.iter().map(|entry| entry_list::count(&entry.body) - 1).sum();
            let step = holding.ledger.fold(now.wall, entries);
            let is_empty = step.is_empty();
            for Lookup { entry, filters } in step.lookups {
                holding.lookups.insert(entry, (filters.clone(), None));
                acts.push(Act::LookUp { epoch: holding.epoch, entry, filters });
            }
            let mut advance = step.advance;
            if is_empty {
                if is_due {
                    holding.rests_until = now.at + SHORTEST_SLEEP;
                }
                acts.append(&mut self.tell(step.lines, step.ended, &step.steps_done));
                continue;
            }
            self.serial += 1;
            advance.serial = self.serial;
            holding.under_way = Some(UnderWay {
                serial: self.serial,
                entries: advance.entries.len() + in_lists,
                lines: step.lines,
                ended: step.ended,
                steps_done: step.steps_done,
            });
            acts.push(Act::Advance(Box::new(advance)));
            return acts;
        }
    }

    fn tell(&mut self, lines: Vec<(Level, String)>, ended: Vec<Ended>, steps_done: &[StepDone]) -> Vec<Act> {
        for job in &ended {
            self.counted.ended(job);
        }
        for step in steps_done {
            self.counted.step_done(step);
        }
        let lines = lines.into_iter().map(|(level, text)| Act::Log(level, text));
        lines.chain(ended.into_iter().map(Act::Ended)).collect()
    }

    /// Whether the ledger is held here.
    #[must_use]
    pub const fn is_holding(&self) -> bool {
        matches!(self.phase, Phase::Holding(_))
    }

    /// Counts the sessions with this ledger, of all processes; `None`: it is not held here.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        self.holding().map(|holding| holding.epoch)
    }

    /// Entries that were told and are not stored as folded; `None`: the ledger is not held here.
    #[must_use]
    pub fn entries(&self) -> Option<usize> {
        let holding = self.holding()?;
        let under_way = holding.under_way.as_ref().map_or(0, |step| step.entries);
        let told: usize = holding.entries.iter().map(|entry| entry_list::count(&entry.body)).sum();
        Some(told + holding.lookups.len() + under_way)
    }

    /// Whether something is folded, or looked up, or on its way to be stored.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.holding().is_some_and(|holding| {
            holding.under_way.is_some() || !holding.lookups.is_empty() || !holding.entries.is_empty()
        })
    }

    /// Open jobs; `None`: the ledger is not held here.
    #[must_use]
    pub fn counts(&self) -> Option<Counts> {
        self.holding().map(|holding| holding.ledger.census().counts())
    }

    /// The ledger, as long as it is held here.
    #[must_use]
    pub fn ledger(&self) -> Option<&Ledger> {
        self.holding().map(|holding| &holding.ledger)
    }

    /// What has ended here since the begin.
    #[must_use]
    pub const fn counted(&self) -> &Counted {
        &self.counted
    }

    /// The pipelines of the settings.
    #[must_use]
    pub fn pipelines(&self) -> &[Pipeline] {
        &self.pipelines
    }

    fn holding(&self) -> Option<&Holding> {
        match &self.phase {
            Phase::Holding(holding) => Some(holding),
            _ => None,
        }
    }
}
