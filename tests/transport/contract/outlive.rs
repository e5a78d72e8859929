//! What was accepted outlives its session: nothing else holds the task any more.

use std::time::Duration;

use asynctask::{
    clock::Timestamp,
    task::{Delivery, Failure, Reason, Settlement},
    transport::{Depth, Event},
};

use super::{
    Tenant,
    party::{Party, done, ids, setup, task, tasks},
};

const DELAY: Duration = Duration::from_millis(300);

fn failure() -> Box<Failure> {
    Box::new(Failure::new(Reason::Error, "no luck", Timestamp(1_700_000_000_123)))
}

/// Takes the session away, and waits until that is told.
fn lose<T: Tenant>(tenant: &T, party: &mut Party<'_, T>) {
    tenant.lose();
    party.wait("Lost", |event| matches!(event, Event::Lost { .. }).then_some(()));
}

fn back<T: Tenant>(party: &mut Party<'_, T>) {
    party.wait("Attached", |event| matches!(event, Event::Attached { session: 2 }).then_some(()));
}

/// A party with four tasks, all accepted.
fn four_accepted<'a, T: Tenant>(tenant: &'a T, queue: &str) -> (Party<'a, T>, Vec<Delivery>) {
    let mut party = Party::attached(tenant, &[setup(queue, &[DELAY])], 4);
    party.submit(tasks(queue, 4));
    let held = party.deliveries(4);
    for delivery in &held {
        party.settle_now(delivery.handle, Settlement::Accept);
    }
    (party, held)
}

/// One of each kind.
fn decide<T: Tenant>(party: &Party<'_, T>, held: &[Delivery]) {
    party.settle(held[0].handle, Settlement::Retry { after: DELAY, failure: failure() });
    party.settle(held[1].handle, Settlement::Dead(failure()));
    party.settle(held[2].handle, Settlement::Release);
    party.settle(held[3].handle, done());
}

fn all_was_done<T: Tenant>(party: &mut Party<'_, T>, queue: &str, held: &[Delivery]) {
    party.settled(&held.iter().map(|delivery| delivery.handle).collect::<Vec<_>>());
    let mut came = party.deliveries(2);
    came.sort_by(|one, two| one.task.id.cmp(&two.task.id));
    let told: Vec<_> = came.iter().map(|delivery| (delivery.task.attempts, delivery.task.deliveries)).collect();
    assert_eq!((ids(&came), told), (vec!["0", "2"], vec![(1, 0), (0, 0)]));
    let letters = party.dead_letters(queue);
    assert_eq!((letters.len(), letters[0].id.as_str()), (1, "1"));
    // A second settlement means nothing, whatever session it is asked in.
    party.settle(held[0].handle, Settlement::Release);
    party.settle(came[0].handle, done());
    party.settle(came[1].handle, done());
    party.settled(&[came[0].handle, came[1].handle]);
    party.until_depth(queue, |depth| depth == Depth { failed: 1, ..Depth::default() });
}

pub fn accepted_tasks_outlive_a_lost_session<T: Tenant>(tenant: &T) {
    if !T::LOSES_SESSIONS {
        return;
    }
    let queue = tenant.queue("foo");
    let (mut party, held) = four_accepted(tenant, &queue);
    lose(tenant, &mut party);
    back(&mut party);
    assert_eq!(party.depth(&queue).ready, 0);
    decide(&party, &held);
    all_was_done(&mut party, &queue, &held);
}

pub fn accepted_tasks_are_settled_between_sessions<T: Tenant>(tenant: &T) {
    if !T::LOSES_SESSIONS {
        return;
    }
    let queue = tenant.queue("foo");
    let (mut party, held) = four_accepted(tenant, &queue);
    lose(tenant, &mut party);
    decide(&party, &held);
    back(&mut party);
    all_was_done(&mut party, &queue, &held);
}

pub fn settlements_under_way_at_a_loss_are_made_good<T: Tenant>(tenant: &T) {
    if !T::LOSES_SESSIONS {
        return;
    }
    let queue = tenant.queue("foo");
    let (mut party, held) = four_accepted(tenant, &queue);
    party.settle(held[3].handle, done());
    party.settle(held[1].handle, Settlement::Dead(failure()));
    lose(tenant, &mut party);
    back(&mut party);
    party.settled(&[held[3].handle, held[1].handle]);
    party.until_depth(&queue, |depth| depth.failed >= 1 && depth.ready == 0);
}

pub fn an_acceptance_counts_until_the_loss_is_heard<T: Tenant>(tenant: &T) {
    if !T::LOSES_SESSIONS {
        return;
    }
    let queue = tenant.queue("foo");
    let mut party = Party::attached(tenant, &[setup(&queue, &[DELAY])], 2);
    party.submit(vec![task(&queue, "a")]);
    let first = party.delivery();
    lose(tenant, &mut party);
    // As if the owner had not heard it yet.
    party.settle(first.handle, Settlement::Accept);
    back(&mut party);
    let again = party.delivery();
    assert_eq!((again.task.id.as_str(), again.redelivered, again.identity), ("a", true, first.identity));
    party.settle_now(again.handle, done());
    party.settle_now(first.handle, Settlement::Retry { after: DELAY, failure: failure() });
    let retried = party.delivery();
    assert_eq!((retried.task.id.as_str(), retried.task.attempts), ("a", 1));
    // What was not accepted is void, and its task comes again.
    lose(tenant, &mut party);
    party.settle(retried.handle, done());
    let again = party.delivery();
    assert_eq!((again.task.id.as_str(), again.task.attempts, again.redelivered), ("a", 1, true));
    party.settle_now(again.handle, done());
}
