//! What the core owes: each delivery with what became of its run, and the settlement that the promises demand for that.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use asynctask::{
    clock::Instant,
    config::{Acks, Queue},
    outcome::{FollowUp, Report},
    retry::Policy,
    task::{Delivery, Handle, Reason, Settlement, Task},
};

use super::{broker::Message, child::Hand};

/// A verdict on a worker that died of TERM or INT waits that long for a stop.
pub(crate) const PENDING_VERDICT: Duration = Duration::from_millis(500);

/// How a run ended, seen from outside.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    Done,
    /// An attempt was used, for one of these reasons; with the delay that the worker asked for.
    Used(Vec<Reason>, Option<Duration>),
    Failed,
    Malformed,
    /// Not run: it could not or must not be.
    Refused(Reason),
    Snooze(Duration),
    /// Ended by hand: an attempt was used, and there is no other.
    Cancelled,
    /// Removed: it is of a void round.
    Discarded,
    /// Taken back: no attempt used.
    Released,
    /// Killed by TERM or INT with no stop in sight, or dead in the middle of one: either is right.
    CrashOrReleased {
        since: Instant,
    },
}

impl Verdict {
    /// What follows from a worker's words.
    pub(crate) fn of(outcome: &Report) -> Self {
        match outcome {
            Report::Done { submit, .. }
                if submit.iter().filter_map(FollowUp::queue).any(|queue| queue.contains(' ')) =>
            {
                Self::Used(vec![Reason::Error], None)
            }
            Report::Done { .. } => Self::Done,
            Report::Error { .. } => Self::Used(vec![Reason::Error], None),
            Report::Retry { delay, .. } => Self::Used(vec![Reason::Error], *delay),
            Report::Snooze { delay, .. } => Self::Snooze(*delay),
            Report::DeadLetter { .. } => Self::Failed,
            Report::Malformed { .. } => Self::Malformed,
        }
    }
}

/// One delivery.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "a record of what was seen, not a state machine")]
pub(crate) struct Entry {
    pub(crate) message: u64,
    /// The task that it is a copy of.
    pub(crate) origin: u64,
    pub(crate) queue: usize,
    pub(crate) task: Arc<Task>,
    pub(crate) identity: Option<u64>,
    pub(crate) redelivered: bool,
    /// It must not be begun: it came again, which the transport has not counted.
    pub(crate) uncounted: bool,
    /// The core knows of it.
    pub(crate) told: bool,
    /// The core knows that its session is lost.
    pub(crate) void: bool,
    /// Its run, if it was begun or took over a run of an earlier session.
    pub(crate) run: Option<u64>,
    pub(crate) accepted: bool,
    /// It was sent to a worker.
    pub(crate) sent: bool,
    /// It is of a void round, as the core knows.
    pub(crate) dropped: bool,
    /// Its job was frozen before it was begun, as the core knows.
    pub(crate) frozen: bool,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) settled: bool,
}

/// All deliveries of a history.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) entries: BTreeMap<Handle, Entry>,
    /// Handles that are owed something now.
    pub(crate) open: BTreeSet<Handle>,
    /// Ends of runs, by message: what is to be repeated when it comes again.
    pub(crate) ended: BTreeMap<u64, (Verdict, Instant)>,
    /// Identities that more than one message had: copies cannot be told apart.
    pub(crate) doubled: BTreeSet<u64>,
    /// Tasks that were done or dead-lettered.
    pub(crate) finals: BTreeSet<u64>,
    pub(crate) identities: BTreeMap<u64, u64>,
    /// Messages that were accepted: one that comes again is only to be removed.
    pub(crate) accepted: BTreeSet<u64>,
    /// The task that somebody cancels at this moment.
    pub(crate) cancelling: Option<String>,
    /// The delivery that is settled at this moment is not begun, and another task has its key.
    pub(crate) gives_way: bool,
    /// What queues had as `retry` before, by their names.
    pub(crate) earlier: Vec<(String, Policy)>,
    /// The plan remembers no settlements.
    pub(crate) is_forgetful: bool,
}

impl Ledger {
    /// A delivery leaves the transport.
    pub(crate) fn delivered(&mut self, message: u64, of: &Message, delivery: &Delivery) {
        if let Some(identity) = delivery.identity
            && *self.identities.entry(identity).or_insert(message) != message
        {
            self.doubled.insert(identity);
        }
        let entry = Entry {
            message,
            origin: of.origin,
            queue: of.queue,
            task: Arc::clone(&delivery.task),
            identity: delivery.identity,
            redelivered: delivery.redelivered,
            uncounted: of.uncounted,
            told: false,
            void: false,
            run: None,
            accepted: false,
            sent: false,
            dropped: false,
            frozen: false,
            verdict: None,
            settled: false,
        };
        self.entries.insert(delivery.handle, entry);
    }

    /// The core hears that the session is lost.
    pub(crate) fn lost(&mut self) {
        let entries = &mut self.entries;
        self.open.retain(|handle| {
            let entry = entries.get_mut(handle).expect("an open handle has an entry");
            entry.void = !entry.accepted;
            entry.accepted
        });
    }

    /// The core hears that these handles are void.
    pub(crate) fn void(&mut self, handles: &[Handle]) {
        for handle in handles {
            let Some(entry) = self.entries.get_mut(handle) else { continue };
            entry.void = !entry.accepted;
            if entry.void {
                self.open.remove(handle);
            }
        }
    }

    /// A run has ended.
    pub(crate) fn ended(&mut self, hand: &Hand, verdict: Verdict, now: Instant) {
        let entry = self.entries.get_mut(&hand.handle).expect("a hand has an entry");
        if verdict == Verdict::Done {
            self.finals.insert(entry.origin);
        }
        if hand.held {
            entry.verdict = Some(verdict.clone());
        }
        // Nobody can tell the original, should it come again, from the copy that is to be run.
        let comes_again = entry.accepted && matches!(verdict, Verdict::Snooze(_) | Verdict::CrashOrReleased { .. });
        if verdict == Verdict::Released || comes_again {
            self.ended.remove(&hand.message);
        } else {
            self.ended.insert(hand.message, (verdict, now));
        }
    }

    /// A task that was sent ahead is in no worker's hands any more, and was not begun: as if it had never been there, but for
    /// a person who cancelled it.
    pub(crate) fn given_back(&mut self, hand: &Hand, now: Instant) {
        let entry = self.entries.get_mut(&hand.handle).expect("a hand has an entry");
        let cancelled = hand.cancelled.then_some(Verdict::Refused(Reason::Cancelled));
        let verdict = if hand.dropped { Some(Verdict::Discarded) } else { cancelled };
        if hand.held {
            (entry.run, entry.verdict) = (None, verdict.clone());
        }
        if let Some(verdict) = verdict {
            self.ended.insert(hand.message, (verdict, now));
        }
    }

    /// A task is cancelled whose worker has just died in a way that a stop may explain.
    pub(crate) fn cancelled_with_pending_verdict(&mut self, id: &str, now: Instant) {
        // What is not settled waits for its verdict, however late a master that did not run is with it.
        let since = |verdict: &Verdict, is_owed: bool| match verdict {
            Verdict::CrashOrReleased { since } if is_owed || now < *since + PENDING_VERDICT => Some(*since),
            _ => None,
        };
        let ended = &self.ended;
        let is_pending = |(handle, entry): (&Handle, &Entry)| {
            let is_it = entry.task.id == id && !entry.settled && entry.run.is_some();
            let remembered = || ended.get(&entry.message).map(|(verdict, _)| verdict);
            let verdict = entry.verdict.as_ref().or_else(remembered).filter(|_| is_it)?;
            Some((since(verdict, entry.verdict.is_some())?, *handle))
        };
        let Some((_, handle)) = self.entries.iter().filter_map(is_pending).min() else { return };
        let message = self.entries[&handle].message;
        for entry in self.entries.values_mut().filter(|entry| entry.message == message && !entry.void) {
            entry.verdict = entry.verdict.take().map(|_| Verdict::Cancelled);
        }
        self.ended.insert(message, (Verdict::Cancelled, now));
    }

    /// The core settles.
    pub(crate) fn settle(
        &mut self,
        handle: Handle,
        settlement: &Settlement,
        now: Instant,
        queue: &Queue,
    ) -> Result<(), String> {
        let entry = self.entries.get_mut(&handle).ok_or("an unknown handle is settled")?;
        if !entry.told || entry.void {
            return Err(format!("settled although told={} void={}", entry.told, entry.void));
        }
        if entry.settled {
            return Err("a delivery is settled twice".to_owned());
        }
        if *settlement == Settlement::Accept {
            let begins = queue.acks == Acks::Early && entry.run.is_none();
            if entry.accepted || entry.verdict.is_some() || !(begins || entry.run.is_some()) {
                return Err("accepted twice, or without a run".to_owned());
            }
            entry.accepted = true;
            self.accepted.insert(entry.message);
            return Ok(());
        }
        if *settlement == Settlement::Pass && (!entry.uncounted || entry.run.is_some() || entry.verdict.is_some()) {
            return Err(format!("passed on although it may be begun, or is in hand: {entry:?}"));
        }
        entry.settled = true;
        if entry.dropped {
            let is_removal = self.accepted.contains(&entry.message) && entry.redelivered && entry.run.is_none();
            let is_right = match settlement {
                Settlement::Discard => true,
                Settlement::Release => !entry.sent,
                Settlement::Done { submit } => submit.is_empty() && is_removal,
                _ => false,
            };
            if !is_right {
                return Err(format!("settled by {settlement:?}, though it is of a void round: {entry:?}"));
            }
            self.finals.insert(entry.origin);
            self.open.remove(&handle);
            return Ok(());
        }
        if *settlement == Settlement::Discard {
            return Err(format!("discarded, though its round counts: {entry:?}"));
        }
        let is_cancelled = self.cancelling.as_ref() == Some(&entry.task.id);
        if is_cancelled
            && entry.run.is_none()
            && matches!(settlement, Settlement::Dead(failure) if failure.reason == Reason::Cancelled)
        {
            self.finals.insert(entry.origin);
            self.open.remove(&handle);
            self.ended.insert(entry.message, (Verdict::Refused(Reason::Cancelled), now));
            return Ok(());
        }
        if self.gives_way && entry.run.is_none() && entry.verdict.is_none() {
            let verdict = match settlement {
                Settlement::Snooze { after, .. } => Verdict::Snooze(*after),
                Settlement::Dead(failure) => Verdict::Refused(failure.reason),
                _ => Verdict::Done,
            };
            if !matches!(verdict, Verdict::Snooze(_)) {
                self.finals.insert(entry.origin);
            }
            self.open.remove(&handle);
            self.ended.insert(entry.message, (verdict, now));
            return Ok(());
        }
        if matches!(settlement, Settlement::Dead(_)) {
            self.finals.insert(entry.origin);
        }
        self.open.remove(&handle);
        let repeated = entry.redelivered.then(|| self.ended.get(&entry.message)).flatten().map(|(verdict, _)| verdict);
        let is_copy = entry.identity.is_some_and(|identity| self.doubled.contains(&identity));
        match (&entry.verdict, repeated, entry.run) {
            (Some(verdict), ..) => {
                let verdict = verdict.clone();
                let released = matches!(verdict, Verdict::CrashOrReleased { .. }) && *settlement == Settlement::Release;
                if released {
                    self.ended.remove(&entry.message);
                }
                follows(&verdict, settlement, entry, now, queue)
            }
            (None, _, Some(_)) => Err("settled while it is being worked".to_owned()),
            // Whether it may be is known elsewhere.
            (None, _, None) if matches!(settlement, Settlement::Release | Settlement::Pass) => Ok(()),
            (None, _, None)
                if matches!(settlement, Settlement::Done { .. })
                    && entry.redelivered
                    && self.accepted.contains(&entry.message) =>
            {
                Ok(())
            }
            // A stored copy leaves nothing but the removal.
            (None, Some(_), None) if matches!(settlement, Settlement::Done { .. }) => Ok(()),
            // The copy of a snoozed task has its identity: either may get the settlement of the other.
            (None, Some(_), None) if is_copy => Ok(()),
            // What is not known any more may be refused for reasons of its own.
            (None, Some(verdict), None) => follows(verdict, settlement, entry, now, queue).or_else(|error| {
                // It was judged when the settings were others.
                let earlier = self.earlier.iter().filter(|(known, _)| *known == queue.name);
                let mut earlier = earlier.map(|(_, retry)| Queue { retry: *retry, ..queue.clone() });
                if earlier.any(|queue| follows(verdict, settlement, entry, now, &queue).is_ok()) {
                    return Ok(());
                }
                if self.is_forgetful || entry.identity.is_none() { unrun(settlement, entry, queue) } else { Err(error) }
            }),
            (None, None, None) if is_copy && entry.redelivered => Ok(()),
            (None, None, None) => {
                if let Settlement::Dead(failure) = settlement {
                    self.ended.insert(entry.message, (Verdict::Refused(failure.reason), now));
                }
                unrun(settlement, entry, queue)
            }
        }
    }

    /// What a task submits cannot be stored: it has failed, and another settlement is owed.
    pub(crate) fn reopen(&mut self, handle: Handle, now: Instant) {
        let entry = self.entries.get_mut(&handle).expect("a handle that was settled has an entry");
        let verdict = Verdict::Used(vec![Reason::Error], None);
        entry.settled = false;
        entry.verdict = Some(verdict.clone());
        self.finals.remove(&entry.origin);
        self.open.insert(handle);
        self.ended.insert(entry.message, (verdict, now));
    }

    /// After each event: nothing that ended may be left unsettled.
    pub(crate) fn nothing_forgotten(&self, now: Instant) -> Result<(), String> {
        for handle in &self.open {
            let entry = &self.entries[handle];
            match &entry.verdict {
                None if entry.accepted && entry.run.is_none() => {
                    return Err(format!("acknowledged early and not begun: {entry:?}"));
                }
                None => {}
                Some(Verdict::CrashOrReleased { since }) if now < *since + PENDING_VERDICT => {}
                Some(verdict) => {
                    return Err(format!("{handle:?} ended with {verdict:?} and is not settled: {entry:?}"));
                }
            }
        }
        Ok(())
    }
}

/// Whether a settlement is what a verdict demands.
fn follows(
    verdict: &Verdict,
    settlement: &Settlement,
    entry: &Entry,
    now: Instant,
    queue: &Queue,
) -> Result<(), String> {
    let used = entry.task.attempts + 1;
    let left = used < queue.retry.max_attempts;
    let right = match (verdict, settlement) {
        (Verdict::Done, Settlement::Done { .. })
        | (Verdict::Released | Verdict::CrashOrReleased { .. }, Settlement::Release) => true,
        (Verdict::Snooze(asked), Settlement::Snooze { after, .. }) => asked == after,
        (Verdict::Failed, Settlement::Dead(failure)) => failure.reason == Reason::Failed && failure.attempts == used,
        (Verdict::Refused(reason), Settlement::Dead(failure)) => {
            failure.reason == *reason && failure.attempts == entry.task.attempts
        }
        (Verdict::Cancelled, Settlement::Dead(failure)) => {
            failure.reason == Reason::Cancelled && failure.attempts == used
        }
        (Verdict::Malformed, Settlement::Dead(failure)) => failure.reason == Reason::Malformed,
        (Verdict::CrashOrReleased { since }, Settlement::Retry { failure, .. }) => {
            left && is_death(failure.reason) && failure.attempts == used && now >= *since
        }
        (Verdict::CrashOrReleased { .. }, Settlement::Dead(failure)) => {
            !left && is_death(failure.reason) && failure.attempts == used
        }
        (Verdict::Used(reasons, asked), Settlement::Retry { after, failure }) => {
            let policy = queue.retry;
            let shortest = asked.unwrap_or_else(|| policy.backoff.delay(used));
            let longest = asked.unwrap_or_else(|| shortest.mul_f64(1.0 + policy.jitter) + Duration::from_micros(1));
            left && reasons.contains(&failure.reason)
                && failure.attempts == used
                && (shortest..=longest).contains(after)
        }
        (Verdict::Used(reasons, _), Settlement::Dead(failure)) => {
            !left && reasons.contains(&failure.reason) && failure.attempts == used
        }
        _ => false,
    };
    if right { Ok(()) } else { Err(format!("{verdict:?} was settled by {settlement:?} for {entry:?}")) }
}

/// Whether a delivery may be settled so without having been run.
fn unrun(settlement: &Settlement, entry: &Entry, queue: &Queue) -> Result<(), String> {
    let task = &entry.task;
    let right = match settlement {
        Settlement::Dead(failure) if failure.attempts == task.attempts => match failure.reason {
            // A message that is not Celery's, in a queue of Celery's.
            Reason::Malformed if queue.protocol.is_celery() && task.body.starts_with(b"{\"n\"") => true,
            Reason::Malformed => task.body.starts_with(b"not"),
            Reason::Expired => task.expires_at.is_some(),
            Reason::Deliveries => task.deliveries >= queue.max_deliveries,
            _ => false,
        },
        _ => false,
    };
    if right { Ok(()) } else { Err(format!("settled by {settlement:?} without a run: {entry:?}")) }
}

fn is_death(reason: Reason) -> bool {
    matches!(reason, Reason::Crash | Reason::Timeout)
}
