//! One queue by hand, then many by chance: seeded histories of requests, deliveries and answers of the store, held against a
//! second, simpler book-keeping.

use std::collections::BTreeMap;

use super::*;

const QUEUE: QueueIndex = QueueIndex(3);

type Attached = AttachedQueues<&'static str, u64>;

fn attached(credit: u32) -> Attached {
    let mut attached = Attached::default();
    attached.add(QUEUE, "foo");
    attached.set_credit(QUEUE, credit);
    attached
}

fn free(attached: &Attached) -> u32 {
    attached.queues().map(|(_, queue)| queue.free()).sum()
}

#[test]
fn credit_bounds_what_is_open_until_the_store_has_answered() {
    let mut attached = attached(2);
    (1..=2).for_each(|handle| attached.deliver(QUEUE, Handle(handle), handle));
    assert_eq!(free(&attached), 0);
    assert!(!attached.settle(Handle(1)).unwrap().was_accepted);
    let once_settled: u32 = attached.queues().map(|(_, queue)| queue.free_once_settled()).sum();
    assert_eq!((free(&attached), once_settled), (0, 1));
    assert!(attached.settle(Handle(1)).is_none() && attached.accept(Handle(1)).is_none(), "it has a settlement");
    assert!(attached.delivery(Handle(1)).is_none() && attached.delivery(Handle(2)).is_some());
    assert_eq!(attached.answered(Handle(1)), Some(1));
    assert_eq!((free(&attached), attached.answered(Handle(1))), (1, None));
    // A lower credit takes nothing back.
    attached.set_credit(QUEUE, 0);
    assert!(attached.delivery(Handle(2)).is_some());
    attached.set_credit(QUEUE, 1);
    assert_eq!(free(&attached), 0);
}

#[test]
fn an_acceptance_frees_no_credit_and_is_answered_before_the_settlement() {
    let mut attached = attached(1);
    attached.deliver(QUEUE, Handle(1), 1);
    assert!(!attached.accept(Handle(1)).unwrap().was_accepted);
    assert!(attached.accept(Handle(1)).unwrap().was_accepted);
    assert!(attached.settle(Handle(1)).unwrap().was_accepted);
    assert_eq!((attached.answered(Handle(1)), attached.answered(Handle(1)), free(&attached)), (None, None, 0));
    assert_eq!((attached.answered(Handle(1)), free(&attached)), (Some(1), 1));
    assert!(!attached.has_open());
}

#[test]
fn what_was_accepted_is_not_given_back() {
    let mut attached = attached(4);
    attached.add(QueueIndex(4), "bar");
    attached.set_credit(QueueIndex(4), 1);
    (1..=4).for_each(|handle| attached.deliver(QUEUE, Handle(handle), handle));
    attached.deliver(QueueIndex(4), Handle(5), 5);
    attached.accept(Handle(1));
    attached.settle(Handle(2));
    attached.remove(QUEUE);
    let mut back = attached.give_back(|queue| queue == QUEUE);
    back.sort_by_key(|(_, handle, _)| handle.0);
    assert_eq!(back, [2, 3, 4].map(|handle| (QUEUE, Handle(handle), handle)));
    assert!(attached.accept(Handle(3)).is_none(), "its handle is void");
    assert_eq!(attached.take_drained(), []);
    attached.settle(Handle(1));
    assert_eq!((attached.answered(Handle(1)), attached.answered(Handle(1))), (None, Some(1)));
    assert_eq!(attached.take_drained(), [QUEUE]);
    assert_eq!(attached.unaccepted().copied().collect::<Vec<_>>(), [5]);
}

#[test]
fn a_queue_that_is_added_again_while_it_leaves_is_changed_and_leaves() {
    let mut attached = attached(1);
    attached.deliver(QUEUE, Handle(1), 1);
    assert!(attached.remove(QUEUE));
    attached.add(QUEUE, "foo, changed");
    attached.set_credit(QUEUE, 5);
    assert_eq!((free(&attached), attached.take(QUEUE)), (0, None));
    assert_eq!(*attached.settle(Handle(1)).unwrap().queue, "foo, changed");
    attached.answered(Handle(1));
    // Drained, and not announced yet: the index still names it.
    attached.add(QUEUE, "foo, changed again");
    assert_eq!((free(&attached), attached.take(QUEUE)), (0, Some("foo, changed again")));
    assert!(!attached.remove(QUEUE), "the index is free");
    attached.add(QUEUE, "bar");
    assert_eq!(attached.take_drained(), []);
    attached.set_credit(QUEUE, 1);
    assert_eq!(free(&attached), 1);
}

/// Repeatable random numbers (splitmix64).
struct Rng(u64);

impl Rng {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (value ^ (value >> 31)) % limit
    }
}

#[derive(Clone, Debug)]
struct ExpectedQueue {
    content: u64,
    credit: u32,
    leaving: bool,
}

#[derive(Clone, Debug)]
struct ExpectedDelivery {
    queue: usize,
    accepted: bool,
    /// What the store has still to confirm, in its order; `true`: the settlement that ends the delivery.
    unconfirmed: Vec<bool>,
}

/// What should be, kept in the plainest way.
#[derive(Default)]
struct Expected {
    queues: BTreeMap<usize, ExpectedQueue>,
    deliveries: BTreeMap<u64, ExpectedDelivery>,
    handles: u64,
}

impl Expected {
    fn unsettled(&self, queue: usize) -> u32 {
        self.deliveries.values().filter(|delivery| delivery.queue == queue).count() as u32
    }

    fn settling(&self, queue: usize) -> u32 {
        let settling = |delivery: &&ExpectedDelivery| delivery.queue == queue && delivery.unconfirmed.contains(&true);
        self.deliveries.values().filter(settling).count() as u32
    }

    fn drained(&self) -> Vec<QueueIndex> {
        let drained = self.queues.iter().filter(|(index, queue)| queue.leaving && self.unsettled(**index) == 0);
        drained.map(|(index, _)| QueueIndex(*index)).collect()
    }

    /// One that is open, has no settlement, and is found by chance.
    fn any(&self, rng: &mut Rng) -> u64 {
        1 + rng.below(self.handles + 2)
    }

    fn may_begin(&self, handle: u64) -> bool {
        self.deliveries.get(&handle).is_some_and(|delivery| !delivery.unconfirmed.contains(&true))
    }

    fn check(&self, attached: &AttachedQueues<u64, u64>) {
        let seen: Vec<_> = attached
            .queues()
            .map(|(index, queue)| (index.0, queue.content, queue.free(), queue.free_once_settled()))
            .collect();
        let expected: Vec<_> = self
            .queues
            .iter()
            .map(|(index, queue)| {
                let (unsettled, settling) = (self.unsettled(*index), self.settling(*index));
                let (free, then) = (queue.credit.saturating_sub(unsettled), unsettled - settling);
                (*index, queue.content, free, queue.credit.saturating_sub(then))
            })
            .collect();
        assert_eq!(seen, expected);
        assert_eq!(attached.drained().collect::<Vec<_>>(), self.drained());
        assert_eq!(attached.has_open(), !self.deliveries.is_empty());
        let unaccepted = self.deliveries.values().filter(|delivery| !delivery.accepted).count();
        assert_eq!(attached.unaccepted().count(), unaccepted);
    }
}

fn history(seed: u64) {
    const QUEUES: u64 = 4;
    let (mut rng, mut attached, mut expected) = (Rng(seed), AttachedQueues::default(), Expected::default());
    for step in 0..400 {
        let queue = rng.below(QUEUES) as usize;
        let index = QueueIndex(queue);
        match rng.below(13) {
            0 => {
                attached.add(index, step);
                let fresh = ExpectedQueue { content: step, credit: 0, leaving: false };
                expected.queues.entry(queue).or_insert(fresh).content = step;
            }
            1 => {
                let known = expected.queues.get_mut(&queue);
                assert_eq!(attached.remove(index), known.is_some());
                if let Some(queue) = known {
                    (queue.credit, queue.leaving) = (0, true);
                }
            }
            2 => {
                // Clause 9: of all indexes only that of a drained queue becomes free.
                let gone = attached.take(index).is_some();
                assert_eq!(gone, expected.drained().contains(&index));
                if gone {
                    expected.queues.remove(&queue);
                }
            }
            3 | 4 => {
                let credit = rng.below(6) as u32;
                attached.set_credit(index, credit);
                expected.queues.entry(queue).and_modify(|queue| {
                    queue.credit = if queue.leaving { 0 } else { credit };
                });
            }
            5..=7 => {
                let free = attached.queue_mut(index).map_or(0, |queue| queue.free());
                for _ in 0..free {
                    expected.handles += 1;
                    let handle = expected.handles;
                    attached.deliver(index, Handle(handle), handle);
                    let delivery = ExpectedDelivery { queue, accepted: false, unconfirmed: Vec::new() };
                    expected.deliveries.insert(handle, delivery);
                    // Clause 3.
                    assert!(expected.unsettled(queue) <= expected.queues[&queue].credit);
                }
            }
            8 => {
                let handle = expected.any(&mut rng);
                let begun = attached.accept(Handle(handle)).map(|begun| begun.was_accepted);
                let delivery = expected.may_begin(handle).then(|| expected.deliveries.get_mut(&handle).unwrap());
                assert_eq!(begun, delivery.as_ref().map(|delivery| delivery.accepted));
                if let Some(delivery) = delivery {
                    delivery.accepted = true;
                    delivery.unconfirmed.push(false);
                }
            }
            9 | 10 => {
                let handle = expected.any(&mut rng);
                let begun = attached.settle(Handle(handle)).map(|begun| (*begun.queue, begun.was_accepted));
                let content = |delivery: &ExpectedDelivery| expected.queues[&delivery.queue].content;
                let open = expected.may_begin(handle).then(|| &expected.deliveries[&handle]);
                assert_eq!(begun, open.map(|delivery| (content(delivery), delivery.accepted)));
                if begun.is_some() {
                    expected.deliveries.get_mut(&handle).unwrap().unconfirmed.push(true);
                }
            }
            11 => {
                let handles: Vec<u64> = expected.deliveries.keys().copied().collect();
                for handle in handles {
                    let unconfirmed = &mut expected.deliveries.get_mut(&handle).unwrap().unconfirmed;
                    let ends = !unconfirmed.is_empty() && unconfirmed.remove(0);
                    assert_eq!(attached.answered(Handle(handle)), ends.then_some(handle));
                    if ends {
                        expected.deliveries.remove(&handle);
                    }
                }
            }
            _ => {
                let is_void = |delivery: &ExpectedDelivery| delivery.queue == queue && !delivery.accepted;
                let mut back: Vec<u64> =
                    attached.give_back(|of| of == index).into_iter().map(|(_, _, handle)| handle).collect();
                back.sort_unstable();
                let void =
                    expected.deliveries.extract_if(.., |_, delivery| is_void(delivery)).map(|(handle, _)| handle);
                assert_eq!(back, void.collect::<Vec<_>>());
            }
        }
        expected.check(&attached);
    }
}

#[test]
fn whatever_happens_credit_is_kept_and_an_index_names_one_queue() {
    (0..200).for_each(history);
}
