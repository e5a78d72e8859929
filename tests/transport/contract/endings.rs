//! What a killed and what a closed transport leave behind.

use std::time::Duration;

use asynctask::{
    clock::{Clock, Timestamp},
    task::{Failure, NewTask, Reason, Settlement},
};

use super::{
    Tenant,
    party::{Party, done, ids, setup, task, tasks},
};

pub fn killed_deliveries_come_back_counted<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let client = Party::client(tenant);
    client.submit(tasks(&queue, 3));
    for deliveries in 0..3 {
        let mut party = Party::attached(tenant, &[setup(&queue, &[])], 2);
        let held = party.deliveries(2);
        assert_eq!(ids(&held), ["0", "1"]);
        for delivery in &held {
            assert_eq!((delivery.task.deliveries, delivery.task.attempts), (deliveries, 0));
            assert_eq!(delivery.redelivered, deliveries > 0);
        }
        party.kill();
    }
    let mut party = Party::attached(tenant, &[setup(&queue, &[])], 3);
    let counts: Vec<_> = party.deliveries(3).iter().map(|delivery| delivery.task.deliveries).collect();
    assert_eq!(counts, [3, 3, 0]);
}

pub fn closed_deliveries_come_back_uncounted<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let client = Party::client(tenant);
    client.submit(tasks(&queue, 3));
    for _ in 0..3 {
        let mut party = Party::attached(tenant, &[setup(&queue, &[])], 2);
        let held = party.deliveries(2);
        assert_eq!(ids(&held), ["0", "1"]);
        let uncounted = |count| count == 0 || !T::RETURNS_UNCOUNTED;
        assert!(held.iter().all(|delivery| uncounted(delivery.task.deliveries) && delivery.task.attempts == 0));
        party.close();
    }
    client.until_depth(&queue, |depth| depth.ready == 3);
}

pub fn what_was_settled_before_a_kill_stays_settled<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let delay = Duration::from_millis(200);
    let mut party = Party::attached(tenant, &[setup(&queue, &[delay])], 5);
    let expires_at = Some(Clock::wall().plus(Duration::from_hours(2)));
    let sent = tasks(&queue, 5).into_iter().map(|task| NewTask { expires_at, ..task });
    party.submit(sent.collect());
    let held = party.deliveries(5);
    let failure = Box::new(Failure::new(Reason::Error, "no", Timestamp(1_700_000_000_777)));
    party.settle_now(held[0].handle, done());
    party.settle_now(held[1].handle, Settlement::Retry { after: delay, failure: failure.clone() });
    party.settle_now(held[2].handle, Settlement::Dead(failure));
    party.settle_now(held[3].handle, Settlement::Snooze { after: delay, memo: None });
    party.kill();
    let mut party = Party::attached(tenant, &[setup(&queue, &[delay])], 5);
    let mut came = party.deliveries(3);
    came.sort_by(|one, two| one.task.id.cmp(&two.task.id));
    let told: Vec<_> = came
        .iter()
        .map(|delivery| {
            let task = &delivery.task;
            (task.id.as_str(), task.attempts, task.deliveries, task.first_failed_at)
        })
        .collect();
    assert_eq!(told, [("1", 1, 0, Some(Timestamp(1_700_000_000_777))), ("3", 0, 0, None), ("4", 0, 1, None)]);
    assert!(came.iter().all(|delivery| delivery.task.expires_at == expires_at));
    assert_eq!(party.depth(&queue).failed, 1);
}

pub fn accepted_tasks_die_with_their_master<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let mut party = Party::attached(tenant, &[setup(&queue, &[])], 1);
    party.submit(tasks(&queue, 2));
    let delivery = party.delivery();
    party.settle_now(delivery.handle, Settlement::Accept);
    party.kill();
    let mut party = Party::attached(tenant, &[setup(&queue, &[])], 1);
    assert_eq!(party.delivery().task.id, "1");
}

pub fn close_is_answered<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    Party::client(tenant).close();
    let mut party = Party::attached(tenant, &[setup(&queue, &[])], 2);
    party.submit(tasks(&queue, 3));
    let held = party.deliveries(2);
    // What was asked before the close is settled by it.
    party.settle(held[0].handle, done());
    party.close();
    let client = Party::client(tenant);
    client.until_depth(&queue, |depth| depth.ready == 2 && depth.in_hand == 0);
}

pub fn handles_of_a_killed_master_are_void<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let mut first = Party::attached(tenant, &[setup(&queue, &[])], 1);
    first.submit(vec![task(&queue, "a")]);
    let old = first.delivery();
    first.kill();
    let mut second = Party::attached(tenant, &[setup(&queue, &[])], 1);
    let new = second.delivery();
    second.settle(old.handle, done());
    second.settle_now(new.handle, Settlement::Release);
    assert_eq!(second.delivery().task.id, "a");
}
