//! What each settlement does, with and without `Accept` before it.

use std::time::Duration;

use asynctask::{
    clock::{Clock, Timestamp},
    task::{Failure, Handle, NewTask, Reason, Settlement},
    transport::{Request, Visit},
};
use serde_json::json;

use super::{
    Tenant,
    party::{Party, done, ids, setup, task, tasks},
};

const DELAY: Duration = Duration::from_millis(300);

fn failure(text: &str) -> Box<Failure> {
    Box::new(Failure::new(Reason::Error, text, Timestamp(1_700_000_000_123)))
}

pub fn done_removes<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let mut party = Party::attached(tenant, &[setup(&queue, &[])], 1);
    party.submit(tasks(&queue, 2));
    let first = party.delivery();
    party.settle_now(first.handle, done());
    let second = party.delivery();
    assert_eq!(second.task.id, "1");
    party.settle_now(second.handle, done());
    party.kill();
    let client = Party::client(tenant);
    assert_eq!(client.depth(&queue), asynctask::transport::Depth::default());
}

/// Every second of many, at once, and nothing after that.
pub fn ends_out_of_order_outlive_an_orderly_end<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let mut party = Party::attached(tenant, &[setup(&queue, &[])], 200);
    party.submit(tasks(&queue, 200));
    let deliveries = party.deliveries(200);
    let ended: Vec<Handle> = deliveries.iter().skip(1).step_by(2).map(|delivery| delivery.handle).collect();
    party.ask(Request::Settle(ended.iter().map(|handle| (*handle, done())).collect()));
    party.settled(&ended);
    party.close();
    let mut party = Party::attached(tenant, &[setup(&queue, &[])], 200);
    let left = party.deliveries(100);
    let expected: Vec<String> = (0..200).step_by(2).map(|number| number.to_string()).collect();
    let mut left = ids(&left);
    left.sort_by_key(|id| id.parse::<u32>().expect("a number"));
    assert_eq!(left, expected);
    assert_eq!(party.depth(&queue).ready, 0);
}

pub fn release_puts_back_without_an_attempt<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let mut party = Party::attached(tenant, &[setup(&queue, &[])], 1);
    party.submit(vec![task(&queue, "a")]);
    for _ in 0..9 {
        let delivery = party.delivery();
        assert_eq!((delivery.task.id.as_str(), delivery.task.attempts), ("a", 0));
        assert!(delivery.task.deliveries == 0 || !T::RETURNS_UNCOUNTED && delivery.task.deliveries < 3);
        assert_eq!(delivery.task.first_failed_at, None);
        party.settle_now(delivery.handle, Settlement::Release);
    }
}

pub fn retry_counts_an_attempt_and_waits<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let mut party = Party::attached(tenant, &[setup(&queue, &[DELAY])], 1);
    let expires_at = Some(Clock::wall().plus(Duration::from_hours(1)));
    party.submit(vec![NewTask { expires_at, ..task(&queue, "a") }]);
    for attempts in 0..3 {
        let delivery = party.delivery();
        assert_eq!((delivery.task.id.as_str(), delivery.task.attempts, delivery.task.deliveries), ("a", attempts, 0));
        assert_eq!(delivery.task.body, b"\"a\"");
        assert_eq!(delivery.task.expires_at, expires_at);
        // The first failure is remembered, later ones do not change it.
        assert_eq!(delivery.task.first_failed_at, (attempts > 0).then_some(Timestamp(1_700_000_000_123)));
        assert!(!delivery.redelivered, "a stored copy was never delivered before");
        let mut failure = failure("no luck");
        failure.failed_at = Timestamp(failure.failed_at.0 + i64::from(attempts));
        let start = Clock::wall();
        party.settle_now(delivery.handle, Settlement::Retry { after: DELAY, failure });
        if attempts == 2 {
            let again = party.delivery();
            assert!(Clock::wall() >= start.plus(DELAY), "the retry came before its time");
            assert_eq!(again.task.attempts, 3);
        }
    }
}

pub fn snooze_waits_and_counts_nothing<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let mut party = Party::attached(tenant, &[setup(&queue, &[DELAY])], 1);
    party.submit(vec![task(&queue, "a")]);
    for _ in 0..2 {
        let delivery = party.delivery();
        assert_eq!((delivery.task.id.as_str(), delivery.task.attempts), ("a", 0));
        assert!(delivery.task.deliveries == 0 || !T::RETURNS_UNCOUNTED);
        assert_eq!(delivery.task.first_failed_at, None);
        let start = Clock::wall();
        party.settle_now(delivery.handle, Settlement::Snooze { after: DELAY, memo: None });
        let again = party.delivery();
        assert!(!again.redelivered, "a stored copy was never delivered before");
        assert!(Clock::wall() >= start.plus(DELAY), "the task came before its time");
        party.settle_now(again.handle, Settlement::Release);
    }
}

pub fn done_stores_what_follows<T: Tenant>(tenant: &T) {
    let (work, next) = (tenant.queue("foo"), tenant.queue("bar"));
    let mut party = Party::attached(tenant, &[setup(&work, &[]), setup(&next, &[DELAY])], 5);
    party.submit(vec![task(&work, "a")]);
    let delivery = party.delivery();
    let headers = json!({"from": "a"}).as_object().expect("an object").clone();
    let start = Clock::wall();
    let submit = vec![
        NewTask { delay: DELAY, ..task(&next, "late") },
        NewTask { headers: headers.clone(), body: vec![0, 255], ..task(&next, "soon") },
    ];
    party.settle_now(delivery.handle, Settlement::Done { submit });
    let soon = party.delivery();
    assert_eq!((soon.queue.0, soon.task.id.as_str()), (1, "soon"));
    assert_eq!((&soon.task.headers, soon.task.body.as_slice()), (&headers, &[0, 255][..]));
    let late = party.delivery();
    assert_eq!(late.task.id, "late");
    assert!(Clock::wall() >= start.plus(DELAY), "the task came before its time");
    party.settle(soon.handle, done());
    party.settle(late.handle, done());
    party.settled(&[soon.handle, late.handle]);
    assert_eq!(party.depth(&work).ready, 0);
}

pub fn done_creates_the_queues_of_what_follows<T: Tenant>(tenant: &T) {
    let (work, new) = (tenant.queue("foo"), tenant.queue("never-seen"));
    let mut party = Party::attached(tenant, &[setup(&work, &[])], 1);
    party.submit(vec![task(&work, "a")]);
    let delivery = party.delivery();
    party.settle_now(delivery.handle, Settlement::Done { submit: vec![task(&new, "b")] });
    party.until_depth(&new, |depth| depth.ready == 1);
    party.close();
    let mut other = Party::attached(tenant, &[setup(&new, &[])], 1);
    assert_eq!(other.delivery().task.id, "b");
}

/// A party with one task that was accepted, and its handle.
fn accepted<'a, T: Tenant>(tenant: &'a T, queue: &str) -> (Party<'a, T>, Handle) {
    let mut party = Party::attached(tenant, &[setup(queue, &[DELAY])], 1);
    let headers = json!({"kept": "yes"}).as_object().expect("an object").clone();
    party.submit(vec![NewTask { headers, ..task(queue, "a") }, task(queue, "b")]);
    let delivery = party.delivery();
    party.settle_now(delivery.handle, Settlement::Accept);
    party.until_depth(queue, |depth| depth.ready == 1);
    assert!(party.delivered_so_far().is_empty(), "accepting gives no credit back");
    (party, delivery.handle)
}

/// The second task comes, and the first one again after it or before.
fn both_come<T: Tenant>(party: &mut Party<'_, T>, attempts: u32) {
    party.credit(0, 2);
    let mut both = party.deliveries(2);
    both.sort_by(|one, two| one.task.id.cmp(&two.task.id));
    assert_eq!(ids(&both), ["a", "b"]);
    assert_eq!((both[0].task.attempts, both[0].task.deliveries), (attempts, 0));
    assert_eq!(both[0].task.body, b"\"a\"");
    assert_eq!(both[0].task.headers["kept"], "yes");
}

pub fn accept_then_done<T: Tenant>(tenant: &T) {
    let (queue, next) = (tenant.queue("foo"), tenant.queue("next"));
    let (mut party, handle) = accepted(tenant, &queue);
    party.settle_now(handle, Settlement::Done { submit: vec![task(&next, "c")] });
    assert_eq!(party.delivery().task.id, "b");
    party.until_depth(&next, |depth| depth.ready == 1);
    party.until_depth(&queue, |depth| depth.ready == 0 && depth.delayed == 0);
}

pub fn accept_then_retry<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let (mut party, handle) = accepted(tenant, &queue);
    let start = Clock::wall();
    party.settle_now(handle, Settlement::Retry { after: DELAY, failure: failure("no luck") });
    both_come(&mut party, 1);
    assert!(Clock::wall() >= start.plus(DELAY), "the retry came before its time");
}

pub fn accept_then_snooze<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let (mut party, handle) = accepted(tenant, &queue);
    let start = Clock::wall();
    party.settle_now(handle, Settlement::Snooze { after: DELAY, memo: None });
    both_come(&mut party, 0);
    assert!(Clock::wall() >= start.plus(DELAY), "the task came before its time");
}

pub fn accept_then_dead<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let (mut party, handle) = accepted(tenant, &queue);
    party.settle_now(handle, Settlement::Dead(failure("no luck")));
    party.until_depth(&queue, |depth| depth.failed == 1);
    let letters = party.dead_letters(&queue);
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].id.as_str(), letters[0].body.as_slice()), ("a", &b"\"a\""[..]));
    assert_eq!(letters[0].headers["kept"], "yes");
    assert_eq!(letters[0].failure.error, "no luck");
}

pub fn accept_then_release<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let (mut party, handle) = accepted(tenant, &queue);
    party.settle_now(handle, Settlement::Release);
    both_come(&mut party, 0);
}

pub fn settlements_of_unknown_handles_are_ignored<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let mut party = Party::attached(tenant, &[setup(&queue, &[])], 1);
    for settlement in [done(), Settlement::Release, Settlement::Accept, Settlement::Dead(failure("never"))] {
        party.settle(Handle(u64::MAX - 7), settlement);
    }
    party.submit(vec![task(&queue, "a")]);
    let delivery = party.delivery();
    // Exactly this one is answered: `settled` refuses answers that nobody waits for.
    party.settle_now(delivery.handle, done());
    assert_eq!(party.depth(&queue), asynctask::transport::Depth::default());
}

pub fn a_second_acceptance_is_answered_too<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let mut party = Party::attached(tenant, &[setup(&queue, &[])], 1);
    party.submit(vec![task(&queue, "a"), task(&queue, "b")]);
    let handle = party.delivery().handle;
    party.settle(handle, Settlement::Accept);
    party.settle(handle, Settlement::Accept);
    party.settled(&[handle, handle]);
    assert!(party.delivered_so_far().is_empty(), "the delivery is open");
    party.settle_now(handle, Settlement::Accept);
    party.settle_now(handle, done());
    assert_eq!(party.delivery().task.id, "b");
}

pub fn a_second_settlement_is_ignored<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let mut party = Party::attached(tenant, &[setup(&queue, &[])], 1);
    party.submit(vec![task(&queue, "a")]);
    let first = party.delivery();
    party.settle_now(first.handle, Settlement::Release);
    let second = party.delivery();
    party.settle(first.handle, done());
    party.settle(first.handle, Settlement::Dead(failure("never")));
    party.settle_now(second.handle, Settlement::Release);
    assert_eq!(party.delivery().task.id, "a");
    assert_eq!(party.depth(&queue).failed, 0);
}

pub fn many_settlements_in_one_request<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let mut party = Party::attached(tenant, &[setup(&queue, &[])], 200);
    party.submit(tasks(&queue, 200));
    let deliveries = party.deliveries(200);
    let handles: Vec<_> = deliveries.iter().map(|delivery| delivery.handle).collect();
    let settlements = deliveries.iter().enumerate().map(|(number, delivery)| {
        let settlement = if number % 10 == 9 { Settlement::Dead(failure("tenth")) } else { done() };
        (delivery.handle, settlement)
    });
    party.ask(asynctask::transport::Request::Settle(settlements.collect()));
    party.settled(&handles);
    party.until_depth(&queue, |depth| depth.ready == 0 && depth.failed == 20);
}

pub fn bytes_survive_every_move<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let every_byte: Vec<u8> = (0..=255).collect();
    let headers = json!({"ключ": ["значение", 1, 0.5, null, {"deep": true}]}).as_object().expect("an object").clone();
    let short = Duration::from_millis(50);
    let mut party = Party::attached(tenant, &[setup(&queue, &[short])], 1);
    party.submit(vec![NewTask { body: every_byte.clone(), headers: headers.clone(), ..task(&queue, "ид-1") }]);
    let moves = [
        Settlement::Retry { after: short, failure: failure("once") },
        Settlement::Snooze { after: short, memo: None },
        Settlement::Release,
        Settlement::Dead(failure("dead")),
    ];
    let mut attempts = 0;
    for settlement in moves.iter().chain([&Settlement::Release]) {
        let delivery = party.delivery();
        assert_eq!(delivery.task.id, "ид-1");
        assert_eq!(delivery.task.body, every_byte);
        assert_eq!(delivery.task.headers, headers);
        assert_eq!(delivery.task.attempts, attempts);
        party.settle_now(delivery.handle, settlement.clone());
        match settlement {
            Settlement::Retry { .. } => attempts += 1,
            Settlement::Dead(_) => {
                party.until_depth(&queue, |depth| depth.failed == 1);
                assert_eq!(party.walk(&queue, |_| Visit::Retry { body: None }).retried, 1);
                attempts = 0;
            }
            _ => {}
        }
    }
}

/// What is taken and put back in order, however often, was never delivered without an outcome; whether the owner saw it or
/// the transport alone.
pub fn orderly_returns_add_up_to_no_limit<T: Tenant>(tenant: &T) {
    let mut master = Party::attached(tenant, &[setup("foo", &[])], 0);
    master.submit(tasks("foo", 30));
    for _ in 0..25 {
        master.credit(0, 20);
        let mut seen = master.batch();
        // Others are on their way, or in the transport's hands.
        master.credit(0, 0);
        let clock = Clock::start();
        while {
            for delivery in seen {
                master.settle(delivery.handle, Settlement::Release);
            }
            seen = master.delivered_so_far();
            !seen.is_empty() || master.depth("foo").ready < 30
        } {
            assert!(clock.now().at.since_start() < Duration::from_secs(20), "some did not come back");
        }
    }
    master.credit(0, 30);
    let all = master.deliveries(30);
    let most = all.iter().map(|delivery| delivery.task.deliveries).max();
    assert!(most < Some(5), "a task was delivered {most:?} times without an outcome");
}
