//! The part of the transport that only an attached one has: what is in hand, owed, and due.
//!
//! Group commit: whatever was settled while the last transaction ran is stored by the next one, which also
//! claims what the credit allows. One by one this costs a transaction a task; in tens, a tenth of it.

use std::collections::{BTreeMap, HashMap};

use super::{
    file::database::{Database, Synchronous},
    peers::{
        owner::{leave, owners},
        wake::Socket,
    },
    tasks::{
        claim::{Claimed, claim, next_due},
        settle::{Effect, PendingSettlement, Row},
        unique_keys,
    },
};
use crate::{
    clock::{Clock, Timestamp},
    task::{Delivery, Handle, QueueIndex, Settlement, Task},
    transport::{
        QueueSetup,
        identity::{identity, next_handle},
    },
};

/// An attached transport.
pub(super) struct Claimer {
    /// Its number; see [`super::peers::owner`].
    pub(super) owner: i64,
    /// `None` where no socket could be bound: then it looks once a second.
    pub(super) socket: Option<Socket>,
    /// The numbers of all others that were there at the last look.
    pub(super) others: Vec<i64>,
    queues: BTreeMap<usize, Queue>,
    held: HashMap<Handle, Held>,
    pending: Vec<PendingSettlement>,
    /// Deliveries whose keys were asked for.
    asked: Vec<Handle>,
}

struct Queue {
    setup: QueueSetup,
    id: i64,
    credit: u32,
    in_hand: u32,
    next: Next,
    /// It goes when nothing of it is in hand or owed.
    leaving: bool,
}

impl Queue {
    fn new(setup: QueueSetup, id: i64) -> Self {
        Self { setup, id, credit: 0, in_hand: 0, next: Next::Unknown, leaving: false }
    }
}

/// When a queue has something to claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// It must be looked for.
    Unknown,
    /// Not before this.
    At(Timestamp),
    /// Not before somebody stores something.
    Never,
}

impl Next {
    fn of(due: Option<Timestamp>) -> Self {
        due.map_or(Self::Never, Self::At)
    }

    fn is_due(self, now: Timestamp) -> bool {
        match self {
            Self::Unknown => true,
            Self::At(due) => due <= now,
            Self::Never => false,
        }
    }
}

struct Held {
    queue: usize,
    row: Row,
    task: std::sync::Arc<Task>,
    accepted: bool,
    key: Key,
}

/// The key of a delivery.
enum Key {
    None,
    Asked(String),
    Held(String),
}

/// What a transaction did.
#[derive(Default)]
pub(super) struct StepResult {
    /// Of these a retry, snooze or dead letter is stored.
    pub(super) stored: Vec<Handle>,
    /// Settled for good.
    pub(super) settled: Vec<Handle>,
    /// New deliveries, a list a queue.
    pub(super) delivered: Vec<Vec<Delivery>>,
    /// Answers about keys: the task that has one, if it is not ours.
    pub(super) locked: Vec<(Handle, Option<String>)>,
    /// Masters that have something new to look for.
    pub(super) wake: Vec<i64>,
    /// Settlements that came too late: another had taken the tasks back.
    pub(super) stale: usize,
    /// Queues that are gone with the last of their deliveries.
    pub(super) removed: Vec<QueueIndex>,
}

impl StepResult {
    /// What a settlement did; whether there is something new to claim.
    fn take(&mut self, pending: &PendingSettlement, effect: Effect) -> bool {
        match effect {
            Effect::Stale => self.stale += 1,
            Effect::Ended | Effect::Claimable if pending.settlement.is_copy() => self.stored.push(pending.handle),
            Effect::Ended | Effect::Claimable => {}
        }
        effect == Effect::Claimable
    }
}

impl Claimer {
    /// A master with nothing in hand and no credit. `ids` are the queues' rows.
    pub(super) fn new(owner: i64, socket: Option<Socket>, setups: Vec<QueueSetup>, ids: &[i64]) -> Self {
        let queue = |(setup, id): (QueueSetup, &i64)| Queue::new(setup, *id);
        let queues = setups.into_iter().zip(ids).map(queue).enumerate().collect();
        Self { owner, socket, others: Vec::new(), queues, held: HashMap::new(), pending: Vec::new(), asked: Vec::new() }
    }

    /// Changes a queue's credit.
    pub(super) fn credit(&mut self, queue: QueueIndex, credit: u32) {
        if let Some(queue) = self.queues.get_mut(&queue.0).filter(|queue| !queue.leaving) {
            queue.credit = credit;
        }
    }

    /// One more queue, or another setup for one that is here.
    pub(super) fn add(&mut self, queue: QueueIndex, setup: QueueSetup, id: i64) {
        match self.queues.get_mut(&queue.0) {
            Some(queue) => queue.setup = setup,
            None => drop(self.queues.insert(queue.0, Queue::new(setup, id))),
        }
    }

    /// A queue is to go when nothing of it is in hand. `false`: it is not here.
    pub(super) fn remove(&mut self, queue: QueueIndex) -> bool {
        let Some(queue) = self.queues.get_mut(&queue.0) else { return false };
        (queue.credit, queue.leaving) = (0, true);
        true
    }

    /// Takes out the queues that are to go and of which nothing is left.
    fn take_removed(&mut self) -> Vec<QueueIndex> {
        if !self.pending.is_empty() {
            return Vec::new();
        }
        self.queues
            .extract_if(.., |_, queue| queue.leaving && queue.in_hand == 0)
            .map(|(queue, _)| QueueIndex(queue))
            .collect()
    }

    /// Takes settlements in; those of handles that are not open are ignored.
    pub(super) fn add_settlements(&mut self, settlements: Vec<(Handle, Settlement)>) {
        for (handle, settlement) in settlements {
            let Some(held) = self.held.get_mut(&handle) else { continue };
            let queue = self.queues.get_mut(&held.queue).expect("a queue stays while a delivery of it is held");
            let row = (!held.accepted).then_some(held.row);
            let pending = PendingSettlement {
                handle,
                row,
                queue: queue.id,
                keep: queue.setup.dead.keep,
                task: std::sync::Arc::clone(&held.task),
                key: None,
                settlement,
            };
            if pending.settlement == Settlement::Accept {
                held.accepted = true;
                self.pending.push(pending);
                continue;
            }
            queue.in_hand -= 1;
            let key = match std::mem::replace(&mut held.key, Key::None) {
                Key::Held(key) => Some(key),
                Key::None | Key::Asked(_) => None,
            };
            self.held.remove(&handle);
            self.asked.retain(|asked| *asked != handle);
            self.pending.push(PendingSettlement { key, ..pending });
        }
    }

    /// A key is asked for; not for a handle that is not open.
    pub(super) fn lock(&mut self, handle: Handle, key: String) {
        if let Some(held) = self.held.get_mut(&handle).filter(|held| matches!(held.key, Key::None)) {
            held.key = Key::Asked(key);
            self.asked.push(handle);
        }
    }

    /// Somebody stored something: all queues are looked at again.
    pub(super) fn look(&mut self) {
        for queue in self.queues.values_mut() {
            queue.next = Next::Unknown;
        }
    }

    /// When the next delayed task can be claimed.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        let waiting = self.queues.values().filter(|queue| queue.credit > queue.in_hand);
        waiting
            .filter_map(|queue| match queue.next {
                Next::At(due) => Some(due),
                Next::Never => None,
                Next::Unknown => Some(Timestamp(0)),
            })
            .min()
    }

    /// Whether a delivery or a settlement is open here, whatever the file says.
    pub(super) fn holds_any(&self) -> bool {
        !self.held.is_empty() || !self.pending.is_empty()
    }

    /// The queues' rows.
    pub(super) fn queue_ids(&self) -> impl Iterator<Item = i64> + '_ {
        self.queues.values().map(|queue| queue.id)
    }

    /// Stores what is owed and claims what is due. On an error nothing has changed, and all is still owed.
    pub(super) fn step(&mut self, database: &mut Database) -> rusqlite::Result<StepResult> {
        if self.pending.is_empty() && self.asked.is_empty() && !self.anything_due(database)? {
            return Ok(StepResult { removed: self.take_removed(), ..StepResult::default() });
        }
        let (owner, pending, queues, asked, held) = (self.owner, &self.pending, &self.queues, &self.asked, &self.held);
        let (mut result, claims) = database.write(Synchronous::Normal, |transaction, ids| {
            // Read after the lock was waited for: what others stored meanwhile is due before it.
            let now = Clock::wall();
            let mut result = StepResult::default();
            let mut news = false;
            for pending in pending {
                news |= result.take(pending, pending.store(transaction, ids, now, owner)?);
            }
            for handle in asked {
                if let Some(Held { key: Key::Asked(key), task, .. }) = held.get(handle) {
                    result.locked.push((*handle, unique_keys::take(transaction, owner, key, &task.id)?));
                }
            }
            let mut claims = Vec::with_capacity(queues.len());
            for (&position, queue) in queues {
                let next = if news { Next::Unknown } else { queue.next };
                let room = queue.credit.saturating_sub(queue.in_hand);
                if room == 0 || !next.is_due(now) {
                    claims.push((position, next, Vec::new()));
                    continue;
                }
                let claimed = claim(transaction, owner, queue.id, now, room)?;
                let next = if claimed.len() < room as usize {
                    Next::of(next_due(transaction, queue.id)?)
                } else {
                    Next::Unknown
                };
                claims.push((position, next, claimed));
            }
            if news {
                result.wake = owners(transaction)?;
                result.wake.retain(|other| *other != owner);
            }
            Ok((result, claims))
        })?;
        result.settled = self.pending.drain(..).map(|pending| pending.handle).collect();
        self.asked.clear();
        for (handle, holder) in &result.locked {
            if let Some(held) = self.held.get_mut(handle) {
                held.key = match (std::mem::replace(&mut held.key, Key::None), holder) {
                    (Key::Asked(key), None) => Key::Held(key),
                    _ => Key::None,
                };
            }
        }
        for (position, next, claimed) in claims {
            if let Some(queue) = self.queues.get_mut(&position) {
                queue.next = next;
            }
            if !claimed.is_empty() {
                result.delivered.push(self.deliver(position, claimed));
            }
        }
        result.removed = self.take_removed();
        Ok(result)
    }

    /// Looks without a lock, so that an idle master writes nothing.
    fn anything_due(&mut self, database: &Database) -> rusqlite::Result<bool> {
        let now = Clock::wall();
        let mut any = false;
        for queue in self.queues.values_mut().filter(|queue| queue.credit > queue.in_hand) {
            if queue.next == Next::Unknown {
                queue.next = Next::of(next_due(database.read(), queue.id)?);
            }
            any |= queue.next.is_due(now);
        }
        Ok(any)
    }

    fn deliver(&mut self, position: usize, claimed: Vec<Claimed>) -> Vec<Delivery> {
        let queue = self.queues.get_mut(&position).expect("what was claimed from stays until it is let go");
        queue.in_hand += claimed.len() as u32;
        debug_assert!(queue.in_hand <= queue.credit, "more was claimed than the credit allows");
        let mut deliveries = Vec::with_capacity(claimed.len());
        for Claimed { row, claim, redelivered, task, .. } in claimed {
            let handle = next_handle();
            deliveries.push(Delivery {
                handle,
                queue: QueueIndex(position),
                redelivered,
                identity: Some(identity(&queue.setup.name, &task.id, task.attempts, &task.body)),
                task: std::sync::Arc::clone(&task),
            });
            let held = Held { queue: position, row: Row { id: row, claim }, task, accepted: false, key: Key::None };
            self.held.insert(handle, held);
        }
        deliveries
    }

    /// Stores what is owed and gives everything else back, uncounted. This master is gone after it.
    pub(super) fn leave(&mut self, database: &mut Database) -> rusqlite::Result<StepResult> {
        let (owner, pending) = (self.owner, &self.pending);
        let mut result = database.write(Synchronous::Normal, |transaction, ids| {
            let now = Clock::wall();
            let mut result = StepResult::default();
            for pending in pending {
                result.take(pending, pending.store(transaction, ids, now, owner)?);
            }
            leave(transaction, owner)?;
            result.wake = owners(transaction)?;
            Ok(result)
        })?;
        result.settled = self.pending.drain(..).map(|pending| pending.handle).collect();
        Ok(result)
    }
}
