//! The attached queues of one session, and which of them need the actor now.
//!
//! A task costs the same however many queues there are: nothing here goes through all of them for one. Whoever changes an
//! intake gets it from here, and that alone puts its queue among those to be seen to; consumers ring a bell of their own
//! queue. A queue is forgotten again when it waits neither for the time nor for a look.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::{Index, IndexMut},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;

use super::consumer::{Intake, Looked};
use crate::clock::Instant;

/// The attached queues by their index. A queue stays here while anything of it is open or under way, so what was begun
/// for it finds it.
#[derive(Default)]
pub(crate) struct Intakes {
    all: BTreeMap<usize, Attached>,
    /// Changed, or waiting for their time: to be seen to by the actor.
    stirred: BTreeSet<usize>,
    /// Whose consumers may have something.
    ringing: BTreeSet<usize>,
    bells: Arc<Bells>,
    /// The queue whose turn it is to be looked at first.
    turn: usize,
}

struct Attached {
    intake: Intake,
    bell: Waker,
}

/// What the consumers of all queues ring.
#[derive(Default)]
struct Bells {
    rung: Mutex<Vec<usize>>,
    actor: AtomicWaker,
}

/// What the consumers of one queue ring.
struct Bell {
    queue: usize,
    bells: Arc<Bells>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        // At most once for each consumer between two looks.
        self.bells.rung.lock().unwrap_or_else(PoisonError::into_inner).push(self.queue);
        self.bells.actor.wake();
    }
}

impl Index<usize> for Intakes {
    type Output = Intake;

    fn index(&self, queue: usize) -> &Intake {
        &self.all[&queue].intake
    }
}

impl IndexMut<usize> for Intakes {
    fn index_mut(&mut self, queue: usize) -> &mut Intake {
        self.get_mut(queue).expect("a queue stays while anything of it is under way")
    }
}

impl Intakes {
    pub(crate) fn insert(&mut self, queue: usize, intake: Intake) {
        let bell = Waker::from(Arc::new(Bell { queue, bells: Arc::clone(&self.bells) }));
        self.all.insert(queue, Attached { intake, bell });
        self.stir(queue);
    }

    pub(crate) fn remove(&mut self, queue: usize) -> Option<Intake> {
        self.stirred.remove(&queue);
        self.ringing.remove(&queue);
        self.all.remove(&queue).map(|attached| attached.intake)
    }

    pub(crate) fn get(&self, queue: usize) -> Option<&Intake> {
        self.all.get(&queue).map(|attached| &attached.intake)
    }

    /// To be changed: the actor sees to it next.
    pub(crate) fn get_mut(&mut self, queue: usize) -> Option<&mut Intake> {
        self.stir(queue);
        self.all.get_mut(&queue).map(|attached| &mut attached.intake)
    }

    /// All of them: not for what happens for each task.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Intake> {
        self.all.values().map(|attached| &attached.intake)
    }

    /// All, with their indexes.
    pub(crate) fn each(&self) -> impl Iterator<Item = (usize, &Intake)> {
        self.all.iter().map(|(queue, attached)| (*queue, &attached.intake))
    }

    /// Those that have a channel, with their indexes.
    pub(crate) fn available(&self) -> impl Iterator<Item = (usize, &Intake)> {
        self.each().filter(|(_, intake)| intake.channel.is_some())
    }

    /// Those to be seen to.
    pub(crate) fn stirred(&self) -> impl Iterator<Item = &Intake> {
        self.stirred.iter().filter_map(|queue| self.get(*queue))
    }

    pub(crate) fn each_stirred(&mut self, mut see_to: impl FnMut(usize, &mut Intake)) {
        for queue in &self.stirred {
            if let Some(attached) = self.all.get_mut(queue) {
                see_to(*queue, &mut attached.intake);
            }
        }
    }

    /// They were seen to: only those that wait for the time are still to be.
    pub(crate) fn settle_down(&mut self) {
        let all = &self.all;
        self.stirred.retain(|queue| all.get(queue).is_some_and(|attached| attached.intake.needs_time()));
    }

    /// When a queue that rests is to be looked at.
    pub(crate) fn rests_until(&self, now: Instant) -> Option<Instant> {
        self.ringing.iter().filter_map(|queue| self.get(*queue)?.rests_until(now)).min()
    }

    /// Looks at the consumers that may have something; each time from the queue after the last one, so that a busy queue
    /// keeps none waiting.
    pub(crate) fn poll(&mut self, now: Instant, context: &Context<'_>) -> Poll<(usize, Looked)> {
        self.bells.actor.register(context.waker());
        self.ringing.extend(self.bells.rung.lock().unwrap_or_else(PoisonError::into_inner).drain(..));
        for range in [self.turn..usize::MAX, 0..self.turn] {
            let mut from = range.start;
            while let Some(queue) = self.ringing.range(from..range.end).next().copied() {
                from = queue + 1;
                let Some(Attached { intake, bell }) = self.all.get_mut(&queue) else {
                    self.ringing.remove(&queue);
                    continue;
                };
                if intake.rests_until(now).is_some() {
                    continue;
                }
                self.ringing.remove(&queue);
                if let Poll::Ready(looked) = intake.poll(&mut Context::from_waker(bell)) {
                    self.turn = queue + 1;
                    return Poll::Ready((queue, looked));
                }
            }
        }
        Poll::Pending
    }

    fn stir(&mut self, queue: usize) {
        self.stirred.insert(queue);
        self.ringing.insert(queue);
    }
}
