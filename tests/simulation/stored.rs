//! What is stored, and what is said of it: nothing counts as retried or dead-lettered that the transport has not confirmed, and
//! no run ends as if all was well while an outcome is lost.

use std::collections::BTreeSet;

use asynctask::{
    exit_code::Code,
    master::core::event::Event,
    task::{Handle, Settlement},
    transport,
};

use super::{
    ledger::Verdict,
    simulation::{Simulation, Step},
};

/// What was settled, from the core's side.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// Outcomes of late acknowledged deliveries that were not answered.
    owed: BTreeSet<Handle>,
    /// Outcomes that were lost with a session that has not come back.
    void: u64,
    /// Retries and dead letters that were asked for and not told to be stored.
    retries: BTreeSet<Handle>,
    dead: BTreeSet<Handle>,
    /// Those that were.
    retried: u64,
    dead_lettered: u64,
    /// A session, or the session of a queue, was lost once.
    any_lost: bool,
}

impl Simulation {
    /// The core settles.
    pub(crate) fn outcome_settled(&mut self, handle: Handle, settlement: &Settlement) {
        let stored = &mut self.observer.stored;
        match settlement {
            Settlement::Retry { .. } => drop(stored.retries.insert(handle)),
            Settlement::Dead(_) => drop(stored.dead.insert(handle)),
            // Without these the task is run again, too.
            Settlement::Snooze { .. }
            | Settlement::Release
            | Settlement::Pass
            | Settlement::Accept
            | Settlement::Discard => return,
            Settlement::Done { .. } => {}
        }
        if !self.ledger.entries[&handle].accepted {
            stored.owed.insert(handle);
        }
    }

    /// A run ended whose handle is void. Of tasks without an identity the core cannot tell those that came again from those that did
    /// not: how many outcomes of theirs are lost is its estimate, and held against nothing.
    pub(crate) fn ended_void(&mut self, handle: Handle, verdict: &Verdict) {
        if self.ledger.entries[&handle].identity.is_none() {
            return;
        }
        let is_outcome = !matches!(
            verdict,
            Verdict::Released | Verdict::Discarded | Verdict::Snooze(_) | Verdict::CrashOrReleased { .. }
        );
        self.observer.stored.void += u64::from(is_outcome && self.observer.attached_at.is_none());
    }

    pub(crate) fn heard_of_storing(&mut self, event: &transport::Event) {
        let stored = &mut self.observer.stored;
        match event {
            transport::Event::Stored(handle) => {
                stored.retried += u64::from(stored.retries.remove(handle));
                stored.dead_lettered += u64::from(stored.dead.remove(handle));
            }
            transport::Event::Settled(handles) => stored.owed.retain(|handle| !handles.contains(handle)),
            transport::Event::Unstorable { handle, .. } => stored.owed.retain(|other| other != handle),
            transport::Event::Attached { .. } => stored.void = 0,
            transport::Event::Lost { .. } => {
                stored.any_lost = true;
                stored.void += std::mem::take(&mut stored.owed).len() as u64;
                let entries = &self.ledger.entries;
                stored.retries.retain(|handle| entries[handle].accepted);
                stored.dead.retain(|handle| entries[handle].accepted);
            }
            transport::Event::QueueUnavailable { void, .. } => {
                stored.any_lost |= !void.is_empty();
                stored.owed.retain(|handle| !void.contains(handle));
            }
            _ => {}
        }
    }

    /// Whether the transport stores nothing any more, though its session stands.
    pub(crate) fn is_stuck(&self) -> bool {
        self.settings.stuck_at.is_some_and(|at| at <= self.now)
    }

    /// Nothing is counted that is not stored, and all that is.
    pub(crate) fn check_stored(&self) -> Result<(), String> {
        let (tally, stored) = (self.core.tally(), &self.observer.stored);
        if (tally.retried, tally.dead_lettered) == (stored.retried, stored.dead_lettered) {
            return Ok(());
        }
        Err(format!(
            "{tally:?}, though {} retries and {} dead letters are stored",
            stored.retried, stored.dead_lettered
        ))
    }

    /// The transport closes: what it had stored by then is told before it has closed.
    pub(crate) fn close(&mut self) {
        let told: Vec<transport::Event> = std::mem::take(&mut self.agenda)
            .into_values()
            .filter_map(|step| match step {
                Step::Tell(event @ (transport::Event::Stored(_) | transport::Event::Settled(_))) => Some(event),
                _ => None,
            })
            .collect();
        for event in told {
            self.heard(&event);
            self.feed_later(Event::Transport(event));
        }
        self.feed_later(Event::Closed);
    }

    /// The end says what is lost.
    pub(crate) fn check_loss(&self, code: Code, error: Option<&str>) -> Result<(), String> {
        let stored = &self.observer.stored;
        let lost = stored.owed.len() as u64 + stored.void;
        if lost > 0 && code == Code::Ok {
            return Err(format!("the end is well, and {lost} outcomes are not stored: {stored:?}"));
        }
        let said = error
            .and_then(|error| error.split_once(" could not be stored; "))
            .and_then(|(words, _)| words.split(' ').next().and_then(|number| number.parse::<u64>().ok()));
        match said {
            Some(said) if !stored.any_lost && said != lost => {
                Err(format!("{said} outcomes are said to be lost, and {lost} are: {stored:?}"))
            }
            None if lost > 0 && code == Code::Interrupted => Err(format!("nothing is said of {lost} lost outcomes")),
            _ => Ok(()),
        }
    }
}
