//! Keys of deliveries: granted by all, and exact where a transport sees other owners.

use std::time::Duration;

use asynctask::{
    clock::Timestamp,
    task::{Delivery, Failure, Handle, Reason, Settlement},
};

use super::{
    Tenant,
    party::{Party, done, setup, tasks},
};

const DELAY: Duration = Duration::from_millis(100);

pub fn a_key_is_granted_and_kept_to_the_end_of_its_delivery<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let mut party = Party::attached(tenant, &[setup(&queue, &[])], 2);
    party.submit(tasks(&queue, 2));
    let held = party.deliveries(2);
    assert_eq!(party.lock(held[0].handle, "a"), None);
    assert_eq!(party.lock(held[1].handle, "b"), None);
    party.settle_now(held[0].handle, Settlement::Accept);
    party.settle_now(held[0].handle, done());
    party.settle_now(held[1].handle, done());
    assert!(party.is_drained(&queue));
}

pub fn a_key_is_not_granted_to_a_handle_that_is_not_open<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let mut party = Party::attached(tenant, &[setup(&queue, &[])], 2);
    party.submit(tasks(&queue, 2));
    let held = party.deliveries(2);
    party.settle_now(held[0].handle, done());
    party.ask_key(held[0].handle, "a");
    party.ask_key(Handle(u64::MAX), "a");
    // The next answer is the first one.
    assert_eq!(party.lock(held[1].handle, "a"), None);
}

/// A master with a delivery, and another one with one.
fn two<'a, T: Tenant>(tenant: &'a T, queue: &str) -> [(Party<'a, T>, Delivery); 2] {
    Party::client(tenant).submit(tasks(queue, 2));
    [(); 2].map(|()| {
        let mut party = Party::attached(tenant, &[setup(queue, &[DELAY])], 1);
        let delivery = party.delivery();
        (party, delivery)
    })
}

pub fn a_key_excludes_other_masters_until_its_delivery_is_settled<T: Tenant>(tenant: &T) {
    if !T::SHARES_KEYS {
        return;
    }
    let failure = || Box::new(Failure::new(Reason::Error, "no", Timestamp(1_700_000_000_123)));
    let settlements = [
        done(),
        Settlement::Done { submit: tasks("bar", 1) },
        Settlement::Retry { after: DELAY, failure: failure() },
        Settlement::Snooze { after: DELAY, memo: None },
        Settlement::Dead(failure()),
        Settlement::Release,
    ];
    for (number, settlement) in settlements.into_iter().enumerate() {
        for accepted in [false, true] {
            let queue = tenant.queue(&format!("q{number}-{accepted}"));
            let [(mut one, first), (mut other, second)] = two(tenant, &queue);
            assert_eq!(one.lock(first.handle, "a"), None);
            assert_eq!(other.lock(second.handle, "a").as_ref(), Some(&first.task.id));
            assert_eq!(other.lock(second.handle, "another"), None);
            other.settle_now(second.handle, Settlement::Snooze { after: DELAY, memo: None });
            if accepted {
                one.settle_now(first.handle, Settlement::Accept);
            }
            one.credit(0, 0);
            let again = other.delivery();
            assert_eq!(other.lock(again.handle, "a").as_ref(), Some(&first.task.id), "accepted: {accepted}");
            one.settle_now(first.handle, settlement.clone());
            assert_eq!(other.lock(again.handle, "a"), None, "after {settlement:?}");
            other.settle_now(again.handle, done());
            one.close();
            other.close();
        }
    }
}

pub fn a_key_ends_with_its_owner<T: Tenant>(tenant: &T) {
    if !T::SHARES_KEYS {
        return;
    }
    for killed in [false, true] {
        let queue = tenant.queue(&format!("ends-{killed}"));
        let [(mut one, first), (mut other, second)] = two(tenant, &queue);
        assert_eq!(one.lock(first.handle, "a"), None);
        one.settle_now(first.handle, Settlement::Accept);
        assert!(other.lock(second.handle, "a").is_some());
        if killed {
            one.kill();
        } else {
            one.close();
        }
        // A death is noticed within a second.
        let is_free = || other.lock(second.handle, "a").is_none();
        assert!(std::iter::repeat_with(is_free).take(100_000).any(|is_free| is_free), "killed: {killed}");
        other.close();
    }
}

pub fn a_key_that_was_not_answered_before_its_delivery_was_settled_is_free<T: Tenant>(tenant: &T) {
    if !T::SHARES_KEYS {
        return;
    }
    let queue = tenant.queue("foo");
    let [(one, first), (mut other, second)] = two(tenant, &queue);
    one.credit(0, 0);
    one.ask_key(first.handle, "a");
    one.settle(first.handle, Settlement::Release);
    one.until_depth(&queue, |depth| depth.ready == 1);
    assert_eq!(other.lock(second.handle, "a"), None);
}
