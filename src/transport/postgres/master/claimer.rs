//! What only an attached transport has: its queues, the deliveries in hand, the settlements to be stored, and when the next task is due.
//! It outlives sessions.

use std::{collections::HashMap, sync::Arc, time::Duration};

use crate::{
    clock::Instant,
    task::{Delivery, Handle, QueueIndex, Settlement, Task},
    transport::{
        QueueSetup,
        attached::{AttachedQueues, Begun},
        delivery_key::DeliveryKey,
        identity::{identity, next_handle},
        postgres::tasks::{
            claim::{Claimed, Fate, TakenOut},
            pending::{PendingSettlement, RowClaim},
        },
    },
};

/// A claim begins so many milliseconds before the last task that was claimed: a transaction that began earlier may commit later.
const SLACK: i64 = 200;

/// An attached queue.
pub(super) struct Queue {
    pub(super) setup: QueueSetup,
    /// Of its row.
    pub(super) id: i32,
    pub(super) next: NextDue,
    /// Behind which (due, id) tasks are looked for.
    pub(super) floor: (i64, i64),
    /// Tasks of it may be in our hands since an earlier session.
    pub(super) reclaims: bool,
}

/// No bound: all that waits is looked at.
pub(super) const NO_FLOOR: (i64, i64) = (i64::MIN, i64::MIN);

/// When the next task of a queue is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextDue {
    /// The server has to be asked.
    Unknown,
    /// All that was due was claimed; when the next one is due has to be asked.
    Emptied,
    /// Not before this.
    At(Instant),
    /// Not before a task is stored.
    Never,
}

impl NextDue {
    pub(super) fn is_due(self, now: Instant) -> bool {
        match self {
            Self::Unknown => true,
            Self::At(at) => at <= now,
            Self::Emptied | Self::Never => false,
        }
    }
}

/// A delivery that is open.
pub(super) struct Held {
    index: QueueIndex,
    row: RowClaim,
    pub(super) task: Arc<Task>,
    came_again: bool,
    pub(super) key: DeliveryKey,
}

/// A delivery of a session that is gone, whose owner may not have heard of that yet; accepted, it outlives the session.
struct Void {
    queue: i32,
    keep: Option<Duration>,
    task: Arc<Task>,
    is_accepted: bool,
}

/// The queues and deliveries.
#[derive(Default)]
pub(super) struct Claimer {
    pub(super) owner: i64,
    pub(super) attached: AttachedQueues<Queue, Held>,
    pub(super) pending: Vec<PendingSettlement>,
    /// Deliveries whose keys were asked for.
    pub(super) asked: Vec<Handle>,
    /// Rows that were claimed and may not be delivered.
    pub(super) taken_out: Vec<TakenOut>,
    /// Nothing is claimed before those that have died are seen: what they had in hand is older.
    pub(super) holds_back: bool,
    /// Tasks of queues that are attached no more may be in our hands since an earlier session.
    pub(super) may_hold_others: bool,
    void: HashMap<Handle, Void>,
}

impl Claimer {
    /// Attaches one more queue, or changes the setup of one that is attached.
    pub(super) fn add(&mut self, queue: QueueIndex, setup: QueueSetup, id: i32) {
        let reclaims = self.attached.queue_mut(queue).is_some_and(|known| known.content.reclaims);
        self.attached.add(queue, Queue { setup, id, next: NextDue::Unknown, floor: NO_FLOOR, reclaims });
    }

    /// Settlements to be stored by the next step. Those of handles that are not open are ignored.
    pub(super) fn add_settlements(&mut self, settlements: Vec<(Handle, Settlement)>) {
        for (handle, settlement) in settlements {
            let is_acceptance = settlement == Settlement::Accept;
            let begun = if is_acceptance { self.attached.accept(handle) } else { self.attached.settle(handle) };
            let Some(Begun { queue, delivery, was_accepted }) = begun else {
                self.settle_void(handle, settlement);
                continue;
            };
            // The key ends with the settlement, not with an acceptance.
            let key = if is_acceptance { None } else { delivery.key.end(handle, &mut self.asked) };
            self.pending.push(PendingSettlement {
                handle,
                row: (!was_accepted).then_some(delivery.row),
                queue: queue.id,
                keep: queue.setup.dead.keep,
                task: Arc::clone(&delivery.task),
                key,
                came_again: delivery.came_again,
                settlement,
            });
        }
    }

    /// A settlement of a handle that is void counts only if it was accepted, be it after the loss.
    fn settle_void(&mut self, handle: Handle, settlement: Settlement) {
        let Some(void) = self.void.get_mut(&handle) else { return };
        if settlement == Settlement::Accept {
            void.is_accepted = true;
            return;
        }
        if !void.is_accepted {
            return;
        }
        if let Some(Void { queue, keep, task, .. }) = self.void.remove(&handle) {
            let (row, key, came_again) = (None, None, false);
            self.pending.push(PendingSettlement { handle, row, queue, keep, task, key, came_again, settlement });
        }
    }

    /// The queue and the task of a delivery that has no settlement.
    pub(super) fn unsettled(&self, handle: Handle) -> Option<(QueueIndex, Arc<Task>)> {
        let held = self.attached.delivery(handle)?;
        Some((held.index, Arc::clone(&held.task)))
    }

    /// Asks for a key. Ignored for a handle that is not open, or has a key.
    pub(super) fn lock(&mut self, handle: Handle, key: String) {
        if self.attached.delivery_mut(handle).is_some_and(|held| held.key.ask(key)) {
            self.asked.push(handle);
        }
    }

    /// Something may have come that nobody has told of: all that waits is looked at.
    pub(super) fn recheck_all(&mut self) {
        for queue in self.attached.queues_mut() {
            (queue.content.next, queue.content.floor) = (NextDue::Unknown, NO_FLOOR);
        }
    }

    /// A task of a queue is stored, or may be: with a time that it is due at, if that may be below the bound.
    pub(super) fn recheck(&mut self, id: i32, due: Option<i64>) {
        for queue in self.attached.queues_mut().filter(|queue| queue.content.id == id) {
            queue.content.next = NextDue::Unknown;
            if due.is_some_and(|due| due < queue.content.floor.0) {
                queue.content.floor = NO_FLOOR;
            }
        }
    }

    /// When something can be claimed; `None`: not before something is heard.
    pub(super) fn next_due(&self) -> Option<Instant> {
        if self.holds_back {
            return None;
        }
        let waiting = self.attached.queues().filter(|(_, queue)| queue.free_once_settled() > 0);
        let at = |next: NextDue| match next {
            NextDue::At(at) => Some(at),
            NextDue::Never => None,
            NextDue::Unknown | NextDue::Emptied => Some(Instant::default()),
        };
        waiting.filter_map(|(_, queue)| at(queue.content.next)).min()
    }

    /// Whether a queue has credit left.
    pub(super) fn has_room(&self) -> bool {
        self.attached.queues().any(|(_, queue)| queue.free_once_settled() > 0)
    }

    /// Whether a delivery or a settlement is open here, whatever the tables say.
    pub(super) fn holds_any(&self) -> bool {
        self.attached.has_open() || !self.pending.is_empty()
    }

    /// The queues' rows.
    pub(super) fn queue_ids(&self) -> Vec<i32> {
        self.attached.queues().map(|(_, queue)| queue.content.id).collect()
    }

    /// Rows of open deliveries of a queue.
    pub(super) fn open_rows(&self) -> Vec<i64> {
        self.attached.unaccepted().map(|held| held.row.id).collect()
    }

    /// The row of an open delivery.
    pub(super) fn row(&self, handle: Handle) -> Option<i64> {
        self.attached.delivery(handle).map(|held| held.row.id)
    }

    /// Opens deliveries of what was claimed from a queue, but for what may not be delivered.
    pub(super) fn deliver(&mut self, queue: QueueIndex, claimed: Vec<Claimed>, comes_again: bool) -> Vec<Delivery> {
        let Some(attached) = self.attached.queue_mut(queue) else { return Vec::new() };
        let name = attached.content.setup.name.clone();
        if let Some(last) = claimed.last().filter(|_| !comes_again) {
            attached.content.floor = attached.content.floor.max((last.due.saturating_sub(SLACK), i64::MIN));
        }
        let mut deliveries = Vec::with_capacity(claimed.len());
        for one in claimed {
            if one.fate == Fate::TooEarly && !comes_again {
                continue;
            }
            if let Some(taken_out) = one.taken_out() {
                self.taken_out.push(taken_out);
                continue;
            }
            let Claimed { row, claim, redelivered, task, .. } = one;
            let handle = next_handle();
            let held = Held {
                index: queue,
                row: RowClaim { id: row, claim },
                task: Arc::clone(&task),
                came_again: comes_again,
                key: DeliveryKey::None,
            };
            self.attached.deliver(queue, handle, held);
            let identity = Some(identity(&name, &task.id, task.attempts, &task.body));
            deliveries.push(Delivery { handle, queue, task, redelivered, identity });
        }
        deliveries
    }

    /// The session is gone: handles are void but for those of accepted tasks.
    pub(super) fn lose_session(&mut self) {
        self.void.retain(|_, void| void.is_accepted);
        let queues: HashMap<usize, (i32, Option<Duration>)> = self
            .attached
            .queues()
            .map(|(index, queue)| (index.0, (queue.content.id, queue.content.setup.dead.keep)))
            .collect();
        for (queue, handle, held) in self.attached.give_back(|_| true) {
            let (queue, keep) = queues.get(&queue.0).copied().unwrap_or_default();
            self.void.insert(handle, Void { queue, keep, task: held.task, is_accepted: false });
        }
        // What was accepted and is not confirmed is confirmed by the next session: the row is ours until that delivers it again.
        self.pending.retain(|one| one.row.is_none() || one.settlement == Settlement::Accept);
        let attached = &self.attached;
        self.asked.retain(|handle| attached.delivery(*handle).is_some());
        self.taken_out.clear();
        self.recheck_all();
    }

    /// A new session: of the same owner, whose tasks in hand are delivered again, or of another one.
    pub(super) fn begin_session(&mut self, owner: i64, is_same: bool) {
        self.owner = owner;
        for queue in self.attached.queues_mut() {
            queue.content.reclaims = is_same;
        }
        self.may_hold_others = is_same;
        self.recheck_all();
    }
}
