//! Emptying and deleting queues.

use std::time::Duration;

use asynctask::{
    clock::Clock,
    task::{Failure, NewTask, Reason, Settlement},
    transport::{Cancelled, DeadQueue, Depth, Error, Request},
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
    party.until_depth(&queue, |depth| depth == Depth { in_hand, failed: 1, ..Depth::default() });
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

fn cancel<T: Tenant>(party: &Party<'_, T>, id: &str) -> Cancelled {
    party.call(|reply| Request::Cancel { id: id.to_owned(), reply }).expect("answered")
}

pub fn a_cancelled_task_is_removed_where_it_waits<T: Tenant>(tenant: &T) {
    let (queue, other) = (tenant.queue("foo"), tenant.queue("bar"));
    let mut party = Party::attached(tenant, &[setup(&queue, &[HOUR])], 0);
    party.submit(tasks(&queue, 3));
    party.submit(vec![NewTask { delay: HOUR, ..task(&queue, "late") }, task(&other, "x")]);
    let client = Party::client(tenant);
    if !T::FINDS_BY_ID {
        assert_eq!(cancel(&client, "1"), Cancelled::Impossible);
        assert_eq!(cancel(&party, "late"), Cancelled::Impossible);
        party.until_depth(&queue, |depth| (depth.ready, depth.delayed) == (3, 1));
        return;
    }
    // Ready, delayed, and in a queue that nobody here is attached to; by a master and by a client.
    for (asking, id, of) in [(&client, "1", &queue), (&party, "late", &queue), (&party, "x", &other)] {
        assert_eq!(cancel(asking, id), Cancelled::Removed { queue: of.clone() }, "{id}");
        assert_eq!(cancel(asking, id), Cancelled::Absent, "{id}");
    }
    party.until_depth(&queue, |depth| depth == Depth { ready: 2, ..Depth::default() });
    assert_eq!(party.depth(&other), Depth::default());
    party.credit(0, 2);
    let left: Vec<String> = party.deliveries(2).into_iter().map(|delivery| delivery.task.id.clone()).collect();
    assert_eq!(left, ["0", "2"]);
}

pub fn what_does_not_wait_is_not_cancelled<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let (mut party, held) = filled(tenant, &queue);
    let client = Party::client(tenant);
    if !T::FINDS_BY_ID {
        assert_eq!(cancel(&client, "0"), Cancelled::Impossible);
        return;
    }
    let before = party.depth(&queue);
    assert_eq!(cancel(&party, "0"), Cancelled::Dead { queue: queue.clone() });
    assert_eq!(cancel(&party, "1"), Cancelled::Held { pid: None });
    assert_eq!(cancel(&client, "1"), Cancelled::Held { pid: Some(std::process::id()) });
    assert_eq!(cancel(&client, "nobody's"), Cancelled::Absent);
    assert_eq!(party.depth(&queue), before);
    party.settle_now(held, done());
    assert_eq!(cancel(&client, "1"), Cancelled::Absent);
}
