//! Attached queues: which there are, how many deliveries each may have, and which of them are open.
//!
//! ```text
//! queue      add ──> attached ── remove ──> leaving ── nothing open ──> drained ── take ──> gone, its index is free
//!
//! delivery   deliver ──> open ── settle ──> settling ── answered ──> gone
//!                         │ accept              ^
//!                         v                     │ settle
//!                     accepted ─────────────────┘
//! ```
//!
//! A transport tells this state what was asked of it and what its store has confirmed, and reads from it how many tasks it may
//! deliver, which deliveries it has to give back, and which queues it has to announce as removed. What a queue is to a
//! transport (a row, a channel) is `Q`, what a delivery is (a row and its claim, a tag) is `D`; neither is looked at.
//!
//! It holds clauses 3 and 9 of the [contract](super::contract): of each queue at most `credit` deliveries are open or settling, an
//! acceptance frees no credit, a lower credit takes nothing back, and an index names the same queue until
//! [`take`](AttachedQueues::take). A queue that is added again while it leaves is changed and leaves all the same.
//!
//! SQLite and the memory keep all of it here. RabbitMQ shares the rules for one delivery, [`DeliveryState`], and keeps its queues
//! itself (`amqp::consume::consumers`). What they count belongs to a channel, which is shorter-lived than the queue's place: the
//! counts decide about its prefetch, its consumers and its polls, each change marks the queue for the actor, handles can be
//! void and yet be accepted late, and a queue is drained only once its consumers, its acknowledgements and the copies that the
//! owner never saw have ended as well. Carried here, that made this state half as long again for RabbitMQ alone, and left a
//! method of the same name for each of its steps there.
//!
//! It never reads a clock, opens a file or sends an event, and never goes through all queues or all deliveries for one of
//! them.

mod delivery_state;

use std::collections::{BTreeMap, BTreeSet, HashMap};

pub(crate) use self::delivery_state::DeliveryState;
use crate::task::{Handle, QueueIndex};

/// The attached queues of a transport with their open deliveries.
#[derive(Debug)]
pub(crate) struct AttachedQueues<Q, D> {
    queues: BTreeMap<usize, AttachedQueue<Q>>,
    deliveries: HashMap<Handle, OpenDelivery<D>>,
    /// Queues that leave and of which nothing is open.
    drained: BTreeSet<usize>,
}

/// One attached queue.
#[derive(Debug)]
pub(crate) struct AttachedQueue<Q> {
    /// What the transport knows of it.
    pub(crate) content: Q,
    credit: u32,
    /// Deliveries that are not settled, those that are settling included.
    unsettled: u32,
    /// How many of these have a settlement that the store has not confirmed.
    settling: u32,
    leaving: bool,
}

impl<Q> AttachedQueue<Q> {
    const fn new(content: Q) -> Self {
        Self { content, credit: 0, unsettled: 0, settling: 0, leaving: false }
    }

    /// How many tasks may be delivered now.
    pub(crate) const fn free(&self) -> u32 {
        self.credit.saturating_sub(self.unsettled)
    }

    /// How many tasks may be delivered in the step that stores the settlements that were asked for.
    pub(crate) const fn free_once_settled(&self) -> u32 {
        self.credit.saturating_sub(self.unsettled - self.settling)
    }
}

/// A delivery that is not settled.
#[derive(Debug)]
struct OpenDelivery<D> {
    queue: usize,
    content: D,
    state: DeliveryState,
}

/// An acceptance or a settlement that begins.
#[derive(Debug)]
pub(crate) struct Begun<'a, Q, D> {
    /// The queue of the delivery.
    pub(crate) queue: &'a Q,
    /// The delivery.
    pub(crate) delivery: &'a mut D,
    /// It was accepted before: its task is no longer in the queue.
    pub(crate) was_accepted: bool,
}

impl<Q, D> Default for AttachedQueues<Q, D> {
    fn default() -> Self {
        Self { queues: BTreeMap::new(), deliveries: HashMap::new(), drained: BTreeSet::new() }
    }
}

impl<Q, D> AttachedQueues<Q, D> {
    /// Attaches a queue, with no credit, or changes the one that is attached at this index.
    pub(crate) fn add(&mut self, queue: QueueIndex, content: Q) {
        match self.queues.get_mut(&queue.0) {
            Some(attached) => attached.content = content,
            None => drop(self.queues.insert(queue.0, AttachedQueue::new(content))),
        }
    }

    /// Begins to remove a queue: it gets no more credit, and is [drained](Self::drained) when nothing of it is open. `false` if
    /// the index is free.
    pub(crate) fn remove(&mut self, queue: QueueIndex) -> bool {
        let Some(attached) = self.queues.get_mut(&queue.0) else { return false };
        (attached.credit, attached.leaving) = (0, true);
        if attached.unsettled == 0 {
            self.drained.insert(queue.0);
        }
        true
    }

    /// The queues that leave and of which nothing is open. Each stays until it is [taken](Self::take).
    pub(crate) fn drained(&self) -> impl Iterator<Item = QueueIndex> + '_ {
        self.drained.iter().copied().map(QueueIndex)
    }

    /// Takes out a queue that is drained: from now on its index is free. `None` for every other one.
    pub(crate) fn take(&mut self, queue: QueueIndex) -> Option<Q> {
        if !self.drained.remove(&queue.0) {
            return None;
        }
        self.queues.remove(&queue.0).map(|attached| attached.content)
    }

    /// Takes out all queues that are drained.
    pub(crate) fn take_drained(&mut self) -> Vec<QueueIndex> {
        let drained: Vec<QueueIndex> = self.drained().collect();
        for queue in &drained {
            self.take(*queue);
        }
        drained
    }

    /// Changes a queue's credit. One that leaves, or is not attached, has none.
    pub(crate) fn set_credit(&mut self, queue: QueueIndex, credit: u32) {
        if let Some(attached) = self.queues.get_mut(&queue.0).filter(|attached| !attached.leaving) {
            attached.credit = credit;
        }
    }

    /// An attached queue, also while it leaves.
    pub(crate) fn queue_mut(&mut self, queue: QueueIndex) -> Option<&mut AttachedQueue<Q>> {
        self.queues.get_mut(&queue.0)
    }

    /// All attached queues, by their index. Not for what happens for each task.
    pub(crate) fn queues(&self) -> impl Iterator<Item = (QueueIndex, &AttachedQueue<Q>)> {
        self.queues.iter().map(|(index, queue)| (QueueIndex(*index), queue))
    }

    /// All attached queues, to be changed. Not for what happens for each task.
    pub(crate) fn queues_mut(&mut self) -> impl Iterator<Item = &mut AttachedQueue<Q>> {
        self.queues.values_mut()
    }

    /// Opens a delivery of an attached queue that has [room](AttachedQueue::free) for it. The handle is new.
    pub(crate) fn deliver(&mut self, queue: QueueIndex, handle: Handle, content: D) {
        let attached = self.queues.get_mut(&queue.0).expect("a task is delivered of an attached queue");
        debug_assert!(attached.free() > 0, "more is delivered than the credit allows");
        attached.unsettled += 1;
        let delivery = OpenDelivery { queue: queue.0, content, state: DeliveryState::default() };
        let known = self.deliveries.insert(handle, delivery);
        debug_assert!(known.is_none(), "a handle names two deliveries");
    }

    /// Begins an acceptance: the task is to leave its queue, the delivery stays open. `None` for a handle that is not open. The
    /// store's confirmation is passed to [`answered`](Self::answered).
    pub(crate) fn accept(&mut self, handle: Handle) -> Option<Begun<'_, Q, D>> {
        let delivery = self.deliveries.get_mut(&handle)?;
        let was_accepted = delivery.state.accept()?;
        let queue = &self.queues.get(&delivery.queue).expect("a queue stays while a delivery of it is open").content;
        Some(Begun { queue, delivery: &mut delivery.content, was_accepted })
    }

    /// Begins the settlement that ends a delivery. `None` for a handle that is not open, or has a settlement already. The
    /// store's confirmation is passed to [`answered`](Self::answered).
    pub(crate) fn settle(&mut self, handle: Handle) -> Option<Begun<'_, Q, D>> {
        let delivery = self.deliveries.get_mut(&handle)?;
        let was_accepted = delivery.state.settle()?;
        let queue = self.queues.get_mut(&delivery.queue).expect("a queue stays while a delivery of it is open");
        queue.settling += 1;
        Some(Begun { queue: &queue.content, delivery: &mut delivery.content, was_accepted })
    }

    /// The store has confirmed what was begun first for this handle and is not confirmed yet: its acceptance, else its
    /// settlement. Gives the delivery that this ends.
    pub(crate) fn answered(&mut self, handle: Handle) -> Option<D> {
        if !self.deliveries.get_mut(&handle)?.state.answered() {
            return None;
        }
        let delivery = self.deliveries.remove(&handle)?;
        self.closed(delivery.queue, true);
        Some(delivery.content)
    }

    /// The settlement that was begun for this handle is not stored and will not be: another one is owed. Gives its queue.
    #[cfg(feature = "postgres")]
    pub(crate) fn reopen(&mut self, handle: Handle) -> Option<QueueIndex> {
        let delivery = self.deliveries.get_mut(&handle).filter(|delivery| delivery.state.is_settling())?;
        delivery.state.reopen();
        let queue = self.queues.get_mut(&delivery.queue).expect("a queue stays while a delivery of it is open");
        queue.settling -= 1;
        Some(QueueIndex(delivery.queue))
    }

    /// A delivery that is open and has no settlement.
    pub(crate) fn delivery(&self, handle: Handle) -> Option<&D> {
        self.deliveries.get(&handle).filter(|delivery| !delivery.state.is_settling()).map(|delivery| &delivery.content)
    }

    /// The same, to be changed.
    pub(crate) fn delivery_mut(&mut self, handle: Handle) -> Option<&mut D> {
        self.deliveries
            .get_mut(&handle)
            .filter(|delivery| !delivery.state.is_settling())
            .map(|delivery| &mut delivery.content)
    }

    /// All deliveries whose tasks are in their queues still: neither accepted nor settled. Not for what happens for each task.
    pub(crate) fn unaccepted(&self) -> impl Iterator<Item = &D> {
        self.deliveries.values().filter(|delivery| !delivery.state.is_accepted()).map(|delivery| &delivery.content)
    }

    /// Whether a delivery is open, or its settlement is not confirmed.
    pub(crate) fn has_open(&self) -> bool {
        !self.deliveries.is_empty()
    }

    /// Ends the deliveries of these queues that were not accepted: their handles are void from now on, and their tasks are to be
    /// given back. For the end of a session, or of all that a queue has in one; what was accepted outlives it. Gives the
    /// deliveries, with their queues and handles.
    pub(crate) fn give_back(&mut self, of: impl Fn(QueueIndex) -> bool) -> Vec<(QueueIndex, Handle, D)> {
        let is_void = |delivery: &OpenDelivery<D>| !delivery.state.is_accepted() && of(QueueIndex(delivery.queue));
        let void: Vec<_> = self.deliveries.extract_if(|_, delivery| is_void(delivery)).collect();
        let given_back = |(handle, delivery): (Handle, OpenDelivery<D>)| {
            self.closed(delivery.queue, delivery.state.is_settling());
            (QueueIndex(delivery.queue), handle, delivery.content)
        };
        void.into_iter().map(given_back).collect()
    }

    fn closed(&mut self, queue: usize, was_settling: bool) {
        let attached = self.queues.get_mut(&queue).expect("a queue stays while a delivery of it is open");
        attached.unsettled -= 1;
        attached.settling -= u32::from(was_settling);
        if attached.leaving && attached.unsettled == 0 {
            self.drained.insert(queue);
        }
    }
}

#[cfg(test)]
mod tests;
