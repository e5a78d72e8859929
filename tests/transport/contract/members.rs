//! Queues that come and go while the attachment lives.

use std::time::Duration;

use asynctask::{
    clock::Timestamp,
    task::{Failure, QueueIndex, Reason, Settlement},
    transport::{DeadQueue, Error, Event, QueueSetup, Request},
};

use super::{
    Tenant,
    party::{Party, done, ids, setup, task, tasks},
};

/// Long enough for what should not come to come.
const QUIET: Duration = Duration::from_millis(300);

fn add<T: Tenant>(party: &mut Party<'_, T>, queue: usize, setup: QueueSetup) {
    party.ask(Request::AddQueue { queue: QueueIndex(queue), setup });
    party.wait("QueueAdded", |event| match event {
        Event::QueueAdded { queue: added } if added.0 == queue => Some(()),
        Event::QueueRefused { error, .. } | Event::QueueUnavailable { error, .. } => panic!("{error}"),
        _ => None,
    });
}

fn removed<T: Tenant>(party: &mut Party<'_, T>, queue: usize) {
    party.wait("QueueRemoved", |event| {
        matches!(event, Event::QueueRemoved { queue: gone } if gone.0 == queue).then_some(())
    });
}

pub fn a_queue_is_added_beside_others<T: Tenant>(tenant: &T) {
    let (one, two) = (tenant.queue("foo"), tenant.queue("bar"));
    let mut party = Party::attached(tenant, &[setup(&one, &[])], 1);
    party.submit(tasks(&one, 2));
    let held = party.delivery();
    add(&mut party, 4, setup(&two, &[Duration::from_secs(1)]));
    party.submit(tasks(&two, 1));
    // Without credit it gives nothing.
    party.hears_nothing_for(QUIET);
    party.credit(4, 2);
    let other = party.delivery();
    assert_eq!((other.queue, other.task.id.as_str()), (QueueIndex(4), "0"));
    party.settle_now(other.handle, done());
    party.settle_now(held.handle, done());
    let next = party.delivery();
    assert_eq!((next.queue, next.task.id.as_str()), (QueueIndex(0), "1"));
    party.settle_now(next.handle, done());
    assert!(party.is_drained(&two) && party.is_drained(&one));
}

pub fn credit_given_before_a_queue_is_added_counts<T: Tenant>(tenant: &T) {
    let (one, two) = (tenant.queue("foo"), tenant.queue("bar"));
    let mut party = Party::client(tenant);
    party.ask(Request::Attach { queues: vec![setup(&one, &[])], passive: false });
    party.ask(Request::AddQueue { queue: QueueIndex(1), setup: setup(&two, &[]) });
    party.credit(1, 1);
    party.wait("QueueAdded", |event| matches!(event, Event::QueueAdded { .. }).then_some(()));
    party.submit(tasks(&two, 1));
    let delivery = party.delivery();
    assert_eq!(delivery.queue, QueueIndex(1));
    party.settle_now(delivery.handle, done());
}

pub fn a_removed_queue_goes_with_its_last_delivery<T: Tenant>(tenant: &T) {
    let (one, two) = (tenant.queue("foo"), tenant.queue("bar"));
    let mut party = Party::attached(tenant, &[setup(&one, &[]), setup(&two, &[])], 2);
    party.submit(tasks(&two, 4));
    let held = party.deliveries(2);
    party.ask(Request::RemoveQueue { queue: QueueIndex(1) });
    party.credit(1, 3);
    party.settle_now(held[0].handle, done());
    party.hears_nothing_for(QUIET);
    party.settle(held[1].handle, Settlement::Release);
    party.settled(&[held[1].handle]);
    removed(&mut party, 1);
    assert_eq!(party.delivered_so_far().len(), 0);
    party.until_depth(&two, |depth| depth.ready == 3);
    party.submit(tasks(&one, 1));
    let delivery = party.delivery();
    party.settle_now(delivery.handle, done());
    party.close();
    let mut other = Party::attached(tenant, &[setup(&two, &[])], 3);
    let left = other.deliveries(3);
    assert!(left.iter().all(|delivery| delivery.task.deliveries <= 1), "{left:?}");
}

pub fn a_queue_that_is_not_there_can_be_removed<T: Tenant>(tenant: &T) {
    let mut party = Party::attached(tenant, &[setup(&tenant.queue("foo"), &[])], 1);
    party.ask(Request::RemoveQueue { queue: QueueIndex(7) });
    removed(&mut party, 7);
}

pub fn an_index_is_used_again<T: Tenant>(tenant: &T) {
    let (one, two, three) = (tenant.queue("foo"), tenant.queue("bar"), tenant.queue("baz"));
    let mut party = Party::attached(tenant, &[setup(&one, &[])], 1);
    for round in 0..10 {
        let queue = if round % 2 == 0 { &two } else { &three };
        add(&mut party, 1, setup(queue, &[]));
        party.credit(1, 5);
        party.submit(vec![task(queue, &round.to_string())]);
        let delivery = party.delivery();
        assert_eq!((delivery.queue, delivery.task.id.clone()), (QueueIndex(1), round.to_string()));
        party.settle(delivery.handle, done());
        party.ask(Request::RemoveQueue { queue: QueueIndex(1) });
        party.settled(&[delivery.handle]);
        removed(&mut party, 1);
    }
    party.submit(tasks(&one, 1));
    assert_eq!(ids(&party.deliveries(1)), ["0"]);
    assert!(party.is_drained(&two) && party.is_drained(&three));
}

pub fn a_queue_changes_where_its_dead_letters_go<T: Tenant>(tenant: &T) {
    let one = tenant.queue("foo");
    let mut party = Party::attached(tenant, &[setup(&one, &[])], 1);
    party.submit(tasks(&one, 1));
    let held = party.delivery();
    let dead = DeadQueue { name: format!("{one}.buried"), ..DeadQueue::of(&one) };
    add(&mut party, 0, QueueSetup { dead: dead.clone(), ..setup(&one, &[Duration::from_millis(100)]) });
    let failure = Box::new(Failure::new(Reason::Failed, "no", Timestamp(1_700_000_000_000)));
    party.settle_now(held.handle, Settlement::Dead(failure));
    let depth = party.call(|reply| Request::Depths { queues: vec![dead], reply }).expect("counted")[0];
    assert_eq!((depth.failed, depth.ready), (1, 0));
}

pub fn a_queue_that_cannot_be_had_is_unavailable_alone<T: Tenant>(tenant: &T) {
    let (one, two) = (tenant.queue("foo"), tenant.queue("bar"));
    Party::attached(tenant, &[setup(&one, &[])], 0).close();
    let mut party = Party::client(tenant);
    party.ask(Request::Attach { queues: vec![setup(&one, &[])], passive: true });
    party.ask(Request::AddQueue { queue: QueueIndex(1), setup: setup(&two, &[]) });
    party.credit(0, 1);
    party.credit(1, 1);
    let refused = party.wait("QueueAdded or QueueUnavailable", |event| match event {
        Event::QueueAdded { .. } => Some(None),
        Event::QueueUnavailable { queue, error, .. } => Some(Some((*queue, error.clone()))),
        _ => None,
    });
    // Where queues are no objects of their own, `passive` means nothing.
    let is_refused = refused.is_some();
    if let Some((queue, error)) = refused {
        assert_eq!(queue, QueueIndex(1));
        assert!(matches!(error, Error::NoSuchQueue { .. }), "{error}");
    }
    party.submit(tasks(&one, 1));
    let delivery = party.delivery();
    party.settle_now(delivery.handle, done());
    // Somebody makes it: then it is worked, without being asked for again.
    Party::client(tenant).submit(tasks(&two, 1));
    if is_refused {
        party.wait("QueueAdded", |event| matches!(event, Event::QueueAdded { queue } if queue.0 == 1).then_some(()));
    }
    let delivery = party.delivery();
    assert_eq!(delivery.queue, QueueIndex(1));
    party.settle_now(delivery.handle, done());
}

pub fn an_unavailable_queue_can_be_removed_and_asked_for_in_another_way<T: Tenant>(tenant: &T) {
    let (one, two) = (tenant.queue("foo"), tenant.queue("bar"));
    Party::attached(tenant, &[setup(&one, &[])], 0).close();
    let mut party = Party::client(tenant);
    party.ask(Request::Attach { queues: vec![setup(&one, &[])], passive: true });
    for dead in [DeadQueue::of(&two), DeadQueue { name: format!("{two}.buried"), ..DeadQueue::of(&two) }] {
        party.ask(Request::AddQueue { queue: QueueIndex(1), setup: QueueSetup { dead, ..setup(&two, &[]) } });
        party.wait("an answer", |event| {
            matches!(event, Event::QueueAdded { .. } | Event::QueueUnavailable { .. }).then_some(())
        });
    }
    // What it holds counts for no survey if it is unavailable, and it holds nothing if it is not.
    assert!(party.survey().0);
    party.ask(Request::RemoveQueue { queue: QueueIndex(1) });
    removed(&mut party, 1);
    Party::client(tenant).submit(tasks(&two, 1));
    party.hears_nothing_for(QUIET);
}

pub fn added_and_removed_queues_stay_so_after_a_lost_session<T: Tenant>(tenant: &T) {
    if !T::LOSES_SESSIONS {
        return;
    }
    let (one, two, three) = (tenant.queue("foo"), tenant.queue("bar"), tenant.queue("baz"));
    let mut party = Party::attached(tenant, &[setup(&one, &[]), setup(&two, &[])], 1);
    add(&mut party, 2, setup(&three, &[]));
    party.credit(2, 1);
    party.submit(tasks(&two, 2));
    let held = party.delivery();
    party.ask(Request::RemoveQueue { queue: QueueIndex(1) });
    tenant.lose();
    party.wait("Lost", |event| matches!(event, Event::Lost { .. }).then_some(()));
    // Asked for while there is no session.
    party.ask(Request::AddQueue { queue: QueueIndex(3), setup: setup(&tenant.queue("fourth"), &[]) });
    party.credit(3, 1);
    removed(&mut party, 1);
    party.wait("Attached", |event| matches!(event, Event::Attached { session: 2 }).then_some(()));
    party.wait("QueueAdded", |event| matches!(event, Event::QueueAdded { queue } if queue.0 == 3).then_some(()));
    party.settle(held.handle, done());
    let client = Party::client(tenant);
    for (index, queue) in [(0, &one), (2, &three), (3, &tenant.queue("fourth"))] {
        client.submit(tasks(queue, 1));
        let delivery = party.delivery();
        assert_eq!(delivery.queue, QueueIndex(index));
        party.settle_now(delivery.handle, done());
    }
    client.until_depth(&two, |depth| depth.ready == 2);
}
