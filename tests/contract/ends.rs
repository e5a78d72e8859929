//! Emptying and deleting queues.

use std::time::Duration;

use asynctask::{
    clock::Clock,
    task::{Failure, NewTask, Reason, Settlement},
    transport::{DeadQueue, Depth, Error, Request},
};

use super::{
    Tenant,
    party::{Party, done, setup, task, tasks},
};

const HOUR: Duration = Duration::from_hours(1);

/// Three ready, one delayed, one dead, and one in hand, of which the handle is given.
fn filled<'a, T: Tenant>(tenant: &'a T, queue: &str) -> (Party<'a, T>, asynctask::task::Handle) {
    let mut party = Party::attached(tenant, &[setup(queue, &[HOUR])], 0);
    party.submit(tasks(queue, 5));
    party.submit(vec![NewTask { delay: HOUR, ..task(queue, "late") }]);
    party.credit(0, 2);
    let held = party.deliveries(2);
    party.credit(0, 1);
    let failure = Box::new(Failure::new(Reason::Failed, "no", Clock::wall()));
    party.settle_now(held[0].handle, Settlement::Dead(failure));
    party.until_depth(queue, |depth| (depth.ready, depth.delayed, depth.failed) == (3, 1, 1));
    (party, held[1].handle)
}

fn purge<T: Tenant>(party: &Party<'_, T>, queue: &str) -> Result<u64, Error> {
    party.call(|reply| Request::Purge { queue: queue.to_owned(), reply })
}

fn delete<T: Tenant>(party: &Party<'_, T>, queue: &str) -> Result<u64, Error> {
    party.call(|reply| Request::Delete { queue: DeadQueue::of(queue), reply })
}

pub fn a_purge_deletes_what_waits_and_nothing_else<T: Tenant>(tenant: &T) {
    let (queue, other) = (tenant.queue("foo"), tenant.queue("bar"));
    let (mut party, held) = filled(tenant, &queue);
    let client = Party::client(tenant);
    client.submit(vec![task(&other, "x")]);
    assert_eq!(purge(&client, &queue).expect("purged"), 4);
    let in_hand = u64::from(T::SEES_IN_HAND);
    party.until_depth(&queue, |depth| depth == Depth { ready: 0, delayed: 0, in_hand, failed: 1 });
    assert_eq!(party.depth(&other).ready, 1);
    party.settle_now(held, done());
    assert_eq!(purge(&client, &queue).expect("purged"), 0);
    party.submit(vec![task(&queue, "new")]);
    assert_eq!(party.delivery().task.id, "new");
    assert!(matches!(purge(&client, &tenant.queue("absent")), Err(Error::NoSuchQueue { .. })));
}

pub fn a_queue_with_tasks_in_hand_is_not_deleted<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let (mut party, held) = filled(tenant, &queue);
    let client = Party::client(tenant);
    let error = delete(&client, &queue).expect_err("one is in hand");
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    party.until_depth(&queue, |depth| (depth.ready, depth.delayed, depth.failed) == (3, 1, 1));
    party.settle_now(held, done());
    // The next one comes.
    assert_eq!(party.delivery().task.id, "2");
}

pub fn a_deleted_queue_is_gone_and_can_be_made_again<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let (mut party, held) = filled(tenant, &queue);
    party.credit(0, 0);
    party.settle_now(held, done());
    party.close();
    let client = Party::client(tenant);
    assert_eq!(delete(&client, &queue).expect("deleted"), 4);
    // Dead letters stay, and with them their queue.
    assert_eq!(client.depth(&queue), Depth { failed: 1, ..Depth::default() });
    assert_eq!(client.walk(&queue, |_| asynctask::transport::Visit::Remove).removed, 1);
    let _ = delete(&client, &queue);
    if T::LISTS_QUEUES {
        let known = client.call(|reply| Request::KnownQueues { reply }).expect("listed");
        assert!(known.is_empty(), "{known:?}");
    }
    assert!(matches!(delete(&client, &tenant.queue("absent")), Err(Error::NoSuchQueue { .. })));
    client.submit(vec![task(&queue, "new")]);
    let mut party = Party::attached(tenant, &[setup(&queue, &[])], 1);
    assert_eq!(party.delivery().task.id, "new");
}
