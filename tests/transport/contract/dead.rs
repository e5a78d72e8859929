//! Dead letters: what they say, and walking among them.

use std::{sync::mpsc, time::Duration};

use asynctask::{
    celery::Protocol,
    clock::{Clock, Timestamp},
    task::{Exit, Failure, NewTask, Reason, Settlement},
    transport::{DeadQueue, QueueSetup, Request, Visit, Walked},
};
use serde_json::json;
use tokio::sync::oneshot;

use super::{
    Tenant,
    party::{Party, ids, setup, task, tasks},
};

/// A party whose `queue` has `count` dead letters `0`, `1`, …, dead in this order.
fn with_dead<'a, T: Tenant>(tenant: &'a T, queue: &str, count: usize) -> Party<'a, T> {
    let mut party = Party::attached(tenant, &[setup(queue, &[])], count as u32);
    party.submit(tasks(queue, count));
    for (number, delivery) in party.deliveries(count).iter().enumerate() {
        let failure = Failure::new(Reason::Error, format!("error {number}"), Timestamp(1_700_000_000_000));
        party.settle_now(delivery.handle, Settlement::Dead(Box::new(failure)));
    }
    party.until_depth(queue, |depth| depth.failed == count as u64);
    party
}

fn letters<T: Tenant>(party: &Party<'_, T>, queue: &str) -> Vec<String> {
    let mut letters: Vec<_> = party.dead_letters(queue).into_iter().map(|letter| letter.id).collect();
    if !T::WALK_KEEPS_ORDER {
        letters.sort();
    }
    letters
}

pub fn a_dead_letter_says_all<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let mut party = Party::attached(tenant, &[setup(&queue, &[])], 10);
    let exits =
        [None, Some(Exit::Code { code: 3 }), Some(Exit::Signal { signal: "SIGSEGV".into(), core_dumped: true })];
    let reasons = [
        Reason::Error,
        Reason::Failed,
        Reason::Crash,
        Reason::Timeout,
        Reason::Malformed,
        Reason::Expired,
        Reason::Deliveries,
        Reason::Cancelled,
    ];
    let headers = json!({"tenant": "ACME", "n": 7}).as_object().expect("an object").clone();
    let mut expected = Vec::new();
    for (number, reason) in reasons.into_iter().enumerate() {
        let id = format!("dead-{number}");
        let body = vec![0, 159, 146, number as u8];
        party.submit(vec![NewTask { body: body.clone(), headers: headers.clone(), ..task(&queue, &id) }]);
        let full = number % 2 == 0;
        let failure = Failure {
            memo: None,
            reason,
            error: "Überlauf: no \"luck\" at 3\u{a0}%".into(),
            detail: "caused by\n  a 🦀\n\ttraceback".into(),
            attempts: 5,
            failed_at: Timestamp(1_700_000_000_123 + number as i64),
            kind: "foo-kind".into(),
            host: "host.example".into(),
            pid: full.then_some(4_194_303),
            exit: exits[number % exits.len()].clone(),
            oom: [None, Some(true), Some(false)][number % 3],
            max_rss_bytes: full.then_some(5_000_000_000),
            cpu_seconds: full.then_some(1.25),
            in_hand_seconds: full.then_some(0.1),
            output_tail: "last\nwords \u{1b}[31mred\u{1b}[0m".into(),
        };
        let delivery = party.delivery();
        party.settle_now(delivery.handle, Settlement::Dead(Box::new(failure.clone())));
        expected.push((id, body, failure));
    }
    party.until_depth(&queue, |depth| depth.failed == 8);
    party.close();
    let client = Party::client(tenant);
    let letters = client.dead_letters(&queue);
    assert_eq!(letters.len(), expected.len());
    for (letter, (id, body, failure)) in letters.iter().zip(&expected) {
        assert_eq!((&letter.id, &letter.queue, &letter.body), (id, &queue, body));
        assert_eq!(letter.headers, headers);
        assert_eq!(letter.reason, failure.reason.as_str());
        assert_eq!(&letter.failure, failure);
        assert_eq!(letter.first_failed_at, Some(failure.failed_at));
    }
}

pub fn dead_letters_are_walked_oldest_first_and_kept<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let party = with_dead(tenant, &queue, 5);
    for _ in 0..3 {
        assert_eq!(letters(&party, &queue), ["0", "1", "2", "3", "4"]);
    }
    assert_eq!(party.walk(&queue, |_| Visit::Keep), Walked { seen: 5, retried: 0, removed: 0, left: 0 });
    assert_eq!(party.depth(&queue).failed, 5);
    assert_eq!(party.walk(&tenant.queue("other"), |_| Visit::Remove), Walked::default());
}

pub fn walks_at_once_each_see_all<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let party = with_dead(tenant, &queue, 5);
    let client = Party::client(tenant);
    let walk = |of: &Party<'_, T>| {
        let (reply, answer) = oneshot::channel();
        of.ask(Request::WalkDead { queue: DeadQueue::of(&queue), visit: Box::new(|_| Visit::Keep), reply });
        answer
    };
    let begun = [&client, &client, &party, &client].map(walk);
    for answer in begun {
        let walked = answer.blocking_recv().expect("answered").expect("walked");
        assert_eq!(walked, Walked { seen: 5, retried: 0, removed: 0, left: 0 });
    }
}

pub fn a_walk_can_stop<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let party = with_dead(tenant, &queue, 5);
    let mut seen = 0;
    let walked = party.walk(&queue, move |_| {
        seen += 1;
        match seen {
            1 => Visit::Keep,
            2 => Visit::Remove,
            3 => Visit::Stop,
            _ => panic!("the walk went on after it was stopped"),
        }
    });
    assert_eq!(walked, Walked { seen: 3, retried: 0, removed: 1, left: 0 });
    party.until_depth(&queue, |depth| depth.failed == 4);
    assert_eq!(letters(&party, &queue), ["0", "2", "3", "4"]);
}

pub fn a_walk_removes<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let party = with_dead(tenant, &queue, 6);
    let walked = party.walk(&queue, |letter| match letter.id.as_str() {
        "1" | "3" | "5" => Visit::Remove,
        _ => Visit::Keep,
    });
    assert_eq!(walked, Walked { seen: 6, retried: 0, removed: 3, left: 0 });
    party.until_depth(&queue, |depth| depth.failed == 3 && depth.ready == 0);
    assert_eq!(letters(&party, &queue), ["0", "2", "4"]);
}

pub fn a_walk_retries<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let mut party = with_dead(tenant, &queue, 5);
    let walked = party.walk(&queue, |letter| match letter.id.as_str() {
        "0" | "3" => Visit::Retry { body: None },
        "1" => Visit::Remove,
        _ => Visit::Keep,
    });
    assert_eq!(walked, Walked { seen: 5, retried: 2, removed: 1, left: 0 });
    let mut again = party.deliveries(2);
    again.sort_by(|one, two| one.task.id.cmp(&two.task.id));
    assert_eq!(ids(&again), ["0", "3"]);
    for delivery in &again {
        assert_eq!((delivery.task.attempts, delivery.task.deliveries), (0, 0));
        assert_eq!(delivery.task.body, format!("\"{}\"", delivery.task.id).as_bytes());
    }
    assert_eq!(letters(&party, &queue), ["2", "4"]);
}

pub fn a_walk_retries_with_another_body<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let mut party = with_dead(tenant, &queue, 1);
    let new = vec![7, 0, 255];
    let body = Some(new.clone());
    assert_eq!(party.walk(&queue, move |_| Visit::Retry { body: body.clone() }).retried, 1);
    let again = party.delivery();
    assert_eq!((again.task.id.as_str(), &again.task.body), ("0", &new));
    assert!(letters(&party, &queue).is_empty());
}

pub fn a_retried_dead_letter_may_be_expired<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let mut party = Party::attached(tenant, &[setup(&queue, &[])], 1);
    party.submit(vec![NewTask { expires_at: Some(Timestamp(1_000)), ..task(&queue, "late") }]);
    let delivery = party.delivery();
    let failure = Failure::new(Reason::Expired, "too late", Clock::wall());
    party.settle_now(delivery.handle, Settlement::Dead(Box::new(failure)));
    party.until_depth(&queue, |depth| depth.failed == 1);
    assert_eq!(party.walk(&queue, |_| Visit::Retry { body: None }).retried, 1);
    // A person wants it run: with the old expiry it would die again at once.
    assert_eq!(party.delivery().task.expires_at, None);
}

pub fn a_retried_dead_letter_remembers_its_ends<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let mut party = Party::attached(tenant, &[setup(&queue, &[])], 1);
    party.submit(vec![task(&queue, "a")]);
    for round in 0..7 {
        let delivery = party.delivery();
        assert_eq!(delivery.task.history.len(), round.min(5));
        assert_eq!((delivery.task.attempts, delivery.task.first_failed_at), (0, None));
        let mut failure = Failure::new(Reason::Crash, format!("end {round} {}", "é".repeat(400)), Timestamp(1_000));
        failure.attempts = 3;
        // Accepted or not: the memory is not lost on the way.
        if round % 2 == 1 {
            party.settle(delivery.handle, Settlement::Accept);
        }
        party.settle(delivery.handle, Settlement::Dead(Box::new(failure)));
        party.until_depth(&queue, |depth| depth.failed == 1);
        let letter = party.dead_letters(&queue).remove(0);
        assert_eq!(letter.history.len(), round.min(5));
        assert_eq!(party.walk(&queue, |_| Visit::Retry { body: None }).retried, 1);
    }
    let history = party.delivery().task.history.clone();
    let ends: Vec<_> = history.iter().map(|ending| &ending.error[..5]).collect();
    assert_eq!(ends, ["end 2", "end 3", "end 4", "end 5", "end 6"]);
    assert!(history.iter().all(|ending| ending.error.len() <= 300 && ending.error.len() > 290));
    assert!(history.iter().all(|ending| ending.reason == "crash" && ending.attempts == 3));
    assert!(history.iter().all(|ending| ending.failed_at == Timestamp(1_000)));
}

pub fn a_walk_waits_when_it_is_told_to<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let mut party = with_dead(tenant, &queue, 3);
    let (clock, mut asked) = (Clock::start(), 0);
    let walked = party.walk(&queue, move |_| {
        asked += 1;
        if asked % 2 == 1 { Visit::Wait(Duration::from_millis(30)) } else { Visit::Retry { body: None } }
    });
    assert!(clock.now().at.since_start() >= Duration::from_millis(90));
    assert_eq!(walked, Walked { seen: 3, retried: 3, removed: 0, left: 0 });
    let mut again = party.deliveries(3);
    again.sort_by(|one, two| one.task.id.cmp(&two.task.id));
    assert_eq!(ids(&again), ["0", "1", "2"]);
}

pub fn a_walk_of_many<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let count = 350;
    let mut party = Party::attached(tenant, &[setup(&queue, &[])], count as u32);
    party.submit(tasks(&queue, count));
    let deliveries = party.deliveries(count);
    let handles: Vec<_> = deliveries.iter().map(|delivery| delivery.handle).collect();
    let failure = Box::new(Failure::new(Reason::Failed, "all of them", Clock::wall()));
    let dead = handles.iter().map(|handle| (*handle, Settlement::Dead(failure.clone()))).collect();
    party.ask(asynctask::transport::Request::Settle(dead));
    party.settled(&handles);
    party.until_depth(&queue, |depth| depth.failed == count as u64);
    party.credit(0, 0);
    let (sender, visited) = mpsc::channel();
    let walked = party.walk(&queue, move |letter| {
        sender.send(letter.id.parse::<usize>().expect("a number")).expect("the test listens");
        if letter.id.ends_with('0') { Visit::Retry { body: None } } else { Visit::Keep }
    });
    assert_eq!(walked, Walked { seen: 350, retried: 35, removed: 0, left: 0 });
    assert_eq!(visited.iter().collect::<Vec<_>>(), (0..count).collect::<Vec<_>>());
    party.until_depth(&queue, |depth| depth.failed == 315 && depth.ready == 35);
}

pub fn dead_letters_are_purged_after_their_time<T: Tenant>(tenant: &T) {
    let (short, long) = (tenant.queue("short"), tenant.queue("long"));
    let dead = |queue: &str, keep| DeadQueue { keep, ..DeadQueue::of(queue) };
    let queues = [
        QueueSetup {
            name: short.clone(),
            dead: dead(&short, Some(Duration::from_millis(700))),
            delays: vec![],
            protocol: Protocol::default(),
        },
        QueueSetup { name: long.clone(), dead: dead(&long, None), delays: vec![], protocol: Protocol::default() },
    ];
    let mut party = Party::attached(tenant, &queues, 1);
    party.submit(vec![task(&short, "a"), task(&long, "b")]);
    let start = Clock::wall();
    for delivery in party.deliveries(2) {
        let failure = Box::new(Failure::new(Reason::Failed, "no", Clock::wall()));
        party.settle_now(delivery.handle, Settlement::Dead(failure));
    }
    // A busy wait on answers, not on time: each reading is a question and its reply.
    let depth = |name: &str, keep| {
        let queues = vec![dead(name, keep)];
        party.call(|reply| asynctask::transport::Request::Depths { queues, reply }).expect("counted")[0].failed
    };
    while depth(&short, Some(Duration::from_millis(700))) > 0 || Clock::wall() < start.plus(Duration::from_millis(600))
    {
        assert!(Clock::wall() < start.plus(Duration::from_secs(20)), "the dead letter is still there");
    }
    assert!(Clock::wall() >= start.plus(Duration::from_millis(700)), "purged before its time");
    assert_eq!(depth(&long, None), 1);
}
