//! From submit to delivery: bytes, order, credit, time.

use std::{collections::HashSet, time::Duration};

use asynctask::{clock::Clock, task::NewTask};
use serde_json::json;

use super::{
    Tenant,
    party::{Party, done, ids, setup, task, tasks},
};

pub fn a_task_arrives_as_it_was_submitted<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let mut party = Party::attached(tenant, &[setup(&queue, &[])], 1);
    party.submit(vec![task(&queue, "one")]);
    let delivery = party.delivery();
    assert_eq!(delivery.queue.0, 0);
    assert_eq!(delivery.task.id, "one");
    assert_eq!(delivery.task.body, b"\"one\"");
    assert_eq!((delivery.task.attempts, delivery.task.deliveries), (0, 0));
    assert_eq!((delivery.task.expires_at, delivery.task.first_failed_at), (None, None));
    assert!(delivery.task.headers.is_empty());
    assert!(!delivery.redelivered);
}

pub fn bodies_ids_and_headers_are_untouched<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let every_byte: Vec<u8> = (0..=255).collect();
    let headers = json!({
        "text": "grüße 🦀 \"quoted\"\n", "empty": "", "number": 9_007_199_254_740_993_i64, "less": -1, "half": 0.5,
        "flag": true, "nothing": null, "list": [1, "two", [3]], "map": {"a": {"b": 1}}, "x-mine": "kept",
    });
    let headers = headers.as_object().expect("an object").clone();
    let bodies = [every_byte, Vec::new(), "日本語".as_bytes().to_vec(), b"{\"n\": 1e400}\r\n".to_vec(), vec![0; 3]];
    let sent: Vec<NewTask> = bodies
        .into_iter()
        .enumerate()
        .map(|(number, body)| NewTask {
            queue: queue.clone(),
            id: format!("ü/{number} '\"; --"),
            body,
            headers: if number == 1 { serde_json::Map::new() } else { headers.clone() },
            ..NewTask::default()
        })
        .collect();
    let mut party = Party::attached(tenant, &[setup(&queue, &[])], 10);
    party.submit(sent.clone());
    for (delivery, sent) in party.deliveries(sent.len()).iter().zip(&sent) {
        assert_eq!(delivery.task.id, sent.id);
        assert_eq!(delivery.task.body, sent.body);
        assert_eq!(delivery.task.headers, sent.headers);
    }
}

pub fn a_body_of_a_mebibyte<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let body: Vec<u8> = (0..1_u32 << 20).map(|position| (position.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut party = Party::attached(tenant, &[setup(&queue, &[])], 1);
    party.submit(vec![NewTask { body: body.clone(), ..task(&queue, "large") }]);
    let delivery = party.delivery();
    assert!(delivery.task.body == body, "the body changed");
    party.settle_now(delivery.handle, done());
}

pub fn tasks_come_oldest_first<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let mut party = Party::attached(tenant, &[setup(&queue, &[])], 7);
    let sent = tasks(&queue, 100);
    for batch in sent.chunks(9) {
        party.submit(batch.to_vec());
    }
    let mut came = Vec::new();
    while came.len() < sent.len() {
        for delivery in party.batch() {
            party.settle(delivery.handle, done());
            came.push(delivery.task.id.clone());
        }
    }
    assert_eq!(came, sent.iter().map(|task| task.id.clone()).collect::<Vec<_>>());
}

pub fn credit_is_never_exceeded<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let mut party = Party::attached(tenant, &[setup(&queue, &[])], 0);
    party.submit(tasks(&queue, 10));
    party.until_depth(&queue, |depth| depth.ready == 10);
    assert!(party.delivered_so_far().is_empty(), "a delivery without credit");
    party.credit(0, 3);
    let mut held = party.deliveries(3);
    let mut left = 7;
    while left > 0 {
        party.until_depth(&queue, |depth| depth.ready == left && (!T::SEES_IN_HAND || depth.in_hand == 3));
        assert!(party.delivered_so_far().is_empty(), "a fourth delivery with credit 3");
        let first = held.remove(0);
        party.settle_now(first.handle, done());
        held.push(party.delivery());
        left -= 1;
    }
}

pub fn credit_can_be_lowered_and_raised<T: Tenant>(tenant: &T) {
    let (work, next) = (tenant.queue("foo"), tenant.queue("bar"));
    let mut party = Party::attached(tenant, &[setup(&work, &[]), setup(&next, &[])], 0);
    party.submit(tasks(&work, 10));
    party.submit(tasks(&next, 1));
    party.credit(0, 4);
    let held = party.deliveries(4);
    party.credit(0, 2);
    party.settle_now(held[0].handle, done());
    party.settle_now(held[1].handle, done());
    party.until_depth(&work, |depth| depth.ready == 6);
    assert!(party.delivered_so_far().is_empty(), "two are held with credit 2");
    party.settle_now(held[2].handle, done());
    assert_eq!(ids(&party.deliveries(1)), ["4"]);
    party.credit(0, 5);
    assert_eq!(ids(&party.deliveries(3)), ["5", "6", "7"]);
    party.credit(0, 0);
    party.credit(1, 1);
    let other = party.delivery();
    assert_eq!((other.queue.0, other.task.id.as_str()), (1, "0"));
}

pub fn a_task_tells_since_when_it_is_due<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let delay = Duration::from_millis(300);
    let mut party = Party::attached(tenant, &[setup(&queue, &[delay])], 10);
    let before = Clock::wall();
    party.submit(vec![task(&queue, "now"), NewTask { delay, ..task(&queue, "later") }]);
    for (name, earliest) in [("now", before), ("later", before.plus(delay))] {
        let delivery = party.delivery();
        let due_at = delivery.task.due_at.expect("it is known");
        assert_eq!(delivery.task.id, name);
        assert!(earliest <= due_at && due_at <= Clock::wall(), "{name}: {before:?}, {due_at:?}");
    }
}

pub fn delayed_tasks_wait_for_their_time<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let (short, long) = (Duration::from_millis(300), Duration::from_millis(900));
    let mut party = Party::attached(tenant, &[setup(&queue, &[short, long])], 10);
    let start = Clock::wall();
    party.submit(vec![
        NewTask { delay: long, ..task(&queue, "long") },
        NewTask { delay: short, ..task(&queue, "short") },
        task(&queue, "now"),
    ]);
    for (id, earliest) in [("now", Duration::ZERO), ("short", short), ("long", long)] {
        let delivery = party.delivery();
        assert_eq!(delivery.task.id, id);
        assert!(Clock::wall() >= start.plus(earliest), "{id} came before its time");
        assert_eq!((delivery.task.attempts, delivery.task.deliveries), (0, 0));
    }
}

pub fn expired_tasks_are_delivered_with_their_expiry<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let mut party = Party::attached(tenant, &[setup(&queue, &[])], 2);
    let (past, future) = (asynctask::clock::Timestamp(1_000), Clock::wall().plus(Duration::from_hours(1)));
    party.submit(vec![
        NewTask { expires_at: Some(past), ..task(&queue, "past") },
        NewTask { expires_at: Some(future), ..task(&queue, "future") },
    ]);
    let deliveries = party.deliveries(2);
    assert_eq!(ids(&deliveries), ["past", "future"]);
    assert_eq!(deliveries[0].task.expires_at, Some(past));
    assert_eq!(deliveries[1].task.expires_at, Some(future));
}

pub fn two_consumers_share_a_queue<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let mut parties =
        [Party::attached(tenant, &[setup(&queue, &[])], 5), Party::attached(tenant, &[setup(&queue, &[])], 5)];
    let count = 300;
    for batch in tasks(&queue, count).chunks(25) {
        parties[0].submit(batch.to_vec());
    }
    // Both have credit and there is work, so both get some before either settles.
    let mut held = [parties[0].deliveries(5), parties[1].deliveries(5)];
    let mut seen = HashSet::new();
    let mut settled = 0;
    while settled < count {
        for (party, held) in parties.iter_mut().zip(&mut held) {
            held.extend(party.delivered_so_far());
            for delivery in held.drain(..) {
                assert!(seen.insert(delivery.task.id.clone()), "{} came twice", delivery.task.id);
                party.settle_now(delivery.handle, done());
                settled += 1;
            }
        }
    }
    let [one, two] = parties;
    one.close();
    assert!(two.is_drained(&queue), "something is left");
}

pub fn identity_knows_a_task_again<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let mut party = Party::attached(tenant, &[setup(&queue, &[])], 2);
    party.submit(vec![task(&queue, "a"), task(&queue, "b")]);
    let first = party.deliveries(2);
    assert!(first[0].identity.is_some());
    assert_ne!(first[0].identity, first[1].identity);
    assert_ne!(first[0].handle, first[1].handle);
    party.kill();
    let mut again = Party::attached(tenant, &[setup(&queue, &[])], 2);
    let second = again.deliveries(2);
    for (one, two) in first.iter().zip(&second) {
        assert_eq!(one.identity, two.identity);
        assert_ne!(one.handle, two.handle, "a handle was used twice");
        assert!(two.redelivered);
    }
}

pub fn a_late_submit_wakes_a_waiting_master<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let mut waiting = Party::attached(tenant, &[setup(&queue, &[])], 1);
    let client = Party::client(tenant);
    for number in 0..20 {
        client.submit(vec![task(&queue, &number.to_string())]);
        let delivery = waiting.delivery();
        assert_eq!(delivery.task.id, number.to_string());
        waiting.settle_now(delivery.handle, done());
    }
}
