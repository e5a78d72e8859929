//! The attached queues of one session, and which of them need the actor now.
//!
//! A task costs the same however many queues there are: nothing here goes through all of them for one. A queue that
//! is lent out to be changed is *dirty*: the actor sees to it next. A queue whose consumers may have something is *ready*: each
//! has a waker of its own that says so. A queue is neither any more when it waits for no moment and for no poll.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::{Index, IndexMut},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;

use super::consumer::{ConsumedQueue, Polled};
use crate::clock::Instant;

/// The attached queues by their index. A queue stays here while anything of it is open or under way, so what was begun
/// for it finds it.
#[derive(Default)]
pub(crate) struct ConsumedQueues {
    all: BTreeMap<usize, Attached>,
    /// Changed, or waiting for a moment: the actor sees to them next.
    dirty: BTreeSet<usize>,
    /// Queues whose consumers may have something.
    ready: BTreeSet<usize>,
    wake_list: Arc<WakeList>,
    /// The queue that is polled first.
    turn: usize,
}

struct Attached {
    consumed: ConsumedQueue,
    waker: Waker,
}

/// The indexes of the queues whose consumers have called their wakers, and the waker of the actor.
#[derive(Default)]
struct WakeList {
    woken: Mutex<Vec<usize>>,
    actor: AtomicWaker,
}

/// The waker of one queue's consumers: puts the queue on the list and wakes the actor.
struct QueueWaker {
    queue: usize,
    wake_list: Arc<WakeList>,
}

impl Wake for QueueWaker {
    fn wake(self: Arc<Self>) {
        // At most once for each consumer between two looks.
        self.wake_list.woken.lock().unwrap_or_else(PoisonError::into_inner).push(self.queue);
        self.wake_list.actor.wake();
    }
}

impl Index<usize> for ConsumedQueues {
    type Output = ConsumedQueue;

    fn index(&self, queue: usize) -> &ConsumedQueue {
        &self.all[&queue].consumed
    }
}

impl IndexMut<usize> for ConsumedQueues {
    fn index_mut(&mut self, queue: usize) -> &mut ConsumedQueue {
        self.get_mut(queue).expect("a queue stays while anything of it is under way")
    }
}

impl ConsumedQueues {
    pub(crate) fn insert(&mut self, queue: usize, consumed: ConsumedQueue) {
        let waker = Waker::from(Arc::new(QueueWaker { queue, wake_list: Arc::clone(&self.wake_list) }));
        self.all.insert(queue, Attached { consumed, waker });
        self.mark_dirty(queue);
    }

    pub(crate) fn remove(&mut self, queue: usize) -> Option<ConsumedQueue> {
        self.dirty.remove(&queue);
        self.ready.remove(&queue);
        self.all.remove(&queue).map(|attached| attached.consumed)
    }

    pub(crate) fn get(&self, queue: usize) -> Option<&ConsumedQueue> {
        self.all.get(&queue).map(|attached| &attached.consumed)
    }

    /// A queue to be changed; it is dirty from now on.
    pub(crate) fn get_mut(&mut self, queue: usize) -> Option<&mut ConsumedQueue> {
        self.mark_dirty(queue);
        self.all.get_mut(&queue).map(|attached| &mut attached.consumed)
    }

    /// All of them: not for what happens for each task.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &ConsumedQueue> {
        self.all.values().map(|attached| &attached.consumed)
    }

    /// All, with their indexes.
    pub(crate) fn each(&self) -> impl Iterator<Item = (usize, &ConsumedQueue)> {
        self.all.iter().map(|(queue, attached)| (*queue, &attached.consumed))
    }

    /// Those that have a channel, with their indexes.
    pub(crate) fn available(&self) -> impl Iterator<Item = (usize, &ConsumedQueue)> {
        self.each().filter(|(_, consumed)| consumed.channel.is_some())
    }

    /// The dirty ones.
    pub(crate) fn dirty(&self) -> impl Iterator<Item = &ConsumedQueue> {
        self.dirty.iter().filter_map(|queue| self.get(*queue))
    }

    pub(crate) fn each_dirty(&mut self, mut see_to: impl FnMut(usize, &mut ConsumedQueue)) {
        for queue in &self.dirty {
            if let Some(attached) = self.all.get_mut(queue) {
                see_to(*queue, &mut attached.consumed);
            }
        }
    }

    /// They were seen to: only those that wait for a moment stay dirty.
    pub(crate) fn clear_dirty(&mut self) {
        let all = &self.all;
        self.dirty.retain(|queue| all.get(queue).is_some_and(|attached| attached.consumed.needs_time()));
    }

    /// When a queue is to be polled whose poll was deferred.
    pub(crate) fn poll_deferred_until(&self, now: Instant) -> Option<Instant> {
        self.ready.iter().filter_map(|queue| self.get(*queue)?.poll_deferred_until(now)).min()
    }

    /// Polls the consumers that may have something; each time from the queue after the last one, so that a busy queue
    /// keeps none waiting.
    pub(crate) fn poll(&mut self, now: Instant, context: &Context<'_>) -> Poll<(usize, Polled)> {
        self.wake_list.actor.register(context.waker());
        self.ready.extend(self.wake_list.woken.lock().unwrap_or_else(PoisonError::into_inner).drain(..));
        for range in [self.turn..usize::MAX, 0..self.turn] {
            let mut from = range.start;
            while let Some(queue) = self.ready.range(from..range.end).next().copied() {
                from = queue + 1;
                let Some(Attached { consumed, waker }) = self.all.get_mut(&queue) else {
                    self.ready.remove(&queue);
                    continue;
                };
                if consumed.poll_deferred_until(now).is_some() {
                    continue;
                }
                self.ready.remove(&queue);
                if let Poll::Ready(polled) = consumed.poll(&mut Context::from_waker(waker)) {
                    self.turn = queue + 1;
                    return Poll::Ready((queue, polled));
                }
            }
        }
        Poll::Pending
    }

    fn mark_dirty(&mut self, queue: usize) {
        self.dirty.insert(queue);
        self.ready.insert(queue);
    }
}
