//! What can be seen from outside: depths, names, and whether anything is left.

use std::time::Duration;

use asynctask::{
    clock::Clock,
    task::{Failure, NewTask, Reason, Settlement},
    transport::{DeadQueue, Depth, Request},
};

use super::{
    Tenant,
    party::{Party, done, setup, task, tasks},
};

pub fn depths_count_each_state<T: Tenant>(tenant: &T) {
    let (work, next) = (tenant.queue("foo"), tenant.queue("bar"));
    let hour = Duration::from_hours(1);
    let mut party = Party::attached(tenant, &[setup(&work, &[hour])], 0);
    party.submit(tasks(&work, 6));
    party.submit(vec![NewTask { delay: hour, ..task(&work, "late") }, task(&next, "other")]);
    party.credit(0, 3);
    let held = party.deliveries(3);
    party.credit(0, 2);
    let failure = Box::new(Failure::new(Reason::Failed, "no", Clock::wall()));
    party.settle_now(held[0].handle, Settlement::Dead(failure));
    let in_hand = if T::SEES_IN_HAND { 2 } else { 0 };
    party.until_depth(&work, |depth| depth == Depth { ready: 3, delayed: 1, in_hand, failed: 1, ..Depth::default() });
    // Everybody sees the same, and answers come in the order of the question.
    let client = Party::client(tenant);
    let queues = vec![DeadQueue::of(&next), DeadQueue::of(&work)];
    let depths = client.call(|reply| Request::Depths { queues, reply }).expect("counted");
    assert_eq!(depths[0], Depth { ready: 1, ..Depth::default() });
    assert_eq!(depths[1], Depth { ready: 3, delayed: 1, in_hand, failed: 1, ..Depth::default() });
}

pub fn depths_of_nothing<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let client = Party::client(tenant);
    assert_eq!(client.depth(&queue), Depth::default());
    assert!(client.dead_letters(&queue).is_empty());
    if T::LISTS_QUEUES {
        let known = client.call(|reply| Request::KnownQueues { reply }).expect("listed");
        assert!(known.is_empty(), "asking made a queue");
    }
}

pub fn known_queues_are_sorted<T: Tenant>(tenant: &T) {
    let client = Party::client(tenant);
    let names = [tenant.queue("b"), tenant.queue("c"), tenant.queue("a")];
    client.submit(names.iter().map(|name| task(name, "x")).collect());
    let known = client.call(|reply| Request::KnownQueues { reply }).expect("listed");
    let expected = if T::LISTS_QUEUES { vec![names[2].clone(), names[0].clone(), names[1].clone()] } else { vec![] };
    assert_eq!(known, expected);
}

pub fn survey_sees_what_is_ready<T: Tenant>(tenant: &T) {
    let (work, next) = (tenant.queue("foo"), tenant.queue("bar"));
    let mut party = Party::attached(tenant, &[setup(&work, &[]), setup(&next, &[])], 1);
    assert!(party.survey().0, "nothing was ever there");
    party.submit(vec![task(&work, "a")]);
    let delivery = party.delivery();
    party.settle_now(delivery.handle, Settlement::Done { submit: vec![task(&next, "b")] });
    let follower = party.delivery();
    party.settle_now(follower.handle, done());
    assert!(party.survey().0, "all is done");
    party.credit(1, 0);
    party.submit(vec![task(&next, "c")]);
    assert!(!party.survey().0, "one is ready");
    // A dead letter is not work, nor is a queue that this master does not consume.
    party.credit(1, 1);
    let last = party.delivery();
    let failure = Box::new(Failure::new(Reason::Failed, "no", Clock::wall()));
    party.settle_now(last.handle, Settlement::Dead(failure));
    party.submit(vec![task(&tenant.queue("foreign"), "d")]);
    assert!(party.survey().0, "all is done");
}

pub fn survey_sees_what_is_delayed<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let delay = Duration::from_millis(700);
    let mut party = Party::attached(tenant, &[setup(&queue, &[delay])], 1);
    party.submit(vec![NewTask { delay, ..task(&queue, "a") }]);
    assert!(!party.survey().0, "one is delayed");
    let delivery = party.delivery();
    party.settle_now(delivery.handle, Settlement::Snooze { after: delay, memo: None });
    assert!(!party.survey().0, "one is delayed again");
    let delivery = party.delivery();
    party.settle_now(delivery.handle, done());
    assert!(party.survey().0, "all is done");
}

pub fn survey_sees_what_others_hold<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let mut other = Party::attached(tenant, &[setup(&queue, &[])], 1);
    other.submit(vec![task(&queue, "a")]);
    let held = other.delivery();
    let mut party = Party::attached(tenant, &[setup(&queue, &[])], 1);
    if T::SEES_IN_HAND {
        let (empty, again_in) = party.survey();
        assert!(!empty, "another master holds one");
        assert!(again_in > Duration::ZERO && again_in <= Duration::from_secs(5), "ask again in {again_in:?}");
    }
    other.settle_now(held.handle, done());
    assert!(party.survey().0, "all is done");
}
