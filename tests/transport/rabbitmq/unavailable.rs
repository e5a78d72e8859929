//! Queues that the broker does not let us work: each is its own trouble, and the others notice nothing.

use std::time::Duration;

use asynctask::{
    clock::{Clock, Timestamp},
    task::{Delivery, Failure, Handle, QueueIndex, Reason, Settlement},
    transport::{Error, Event, Request},
};

use super::At;
use crate::contract::party::{Party, done, setup, task, tasks};
use crate::support::{broker, foreign::Foreign};

fn vhost(at: &At) -> &str {
    at.0.rsplit('/').next().expect("an address names a virtual host")
}

/// The queue is unavailable: why, and which of its handles are void.
fn unavailable(party: &mut Party<'_, At>, of: usize) -> (Error, Vec<Handle>) {
    party.wait("QueueUnavailable", |event| match event {
        Event::QueueUnavailable { queue, error, void, .. } if queue.0 == of => Some((error.clone(), void.clone())),
        Event::Lost { error, .. } => panic!("{error}"),
        _ => None,
    })
}

fn available(party: &mut Party<'_, At>, of: usize) {
    party.wait("QueueAdded", |event| match event {
        Event::QueueAdded { queue } if queue.0 == of => Some(()),
        Event::Lost { error, .. } => panic!("{error}"),
        _ => None,
    });
}

/// The queue of this index is worked in the session that stands.
fn works(party: &mut Party<'_, At>, index: usize, queue: &str) {
    for id in ["x", "y", "z"] {
        party.submit(vec![task(queue, id)]);
        let delivery = party.delivery();
        assert_eq!((delivery.queue, delivery.task.id.as_str()), (QueueIndex(index), id));
        party.settle_now(delivery.handle, done());
    }
}

#[test]
fn a_queue_with_an_exclusive_consumer_waits_for_its_end() {
    let Some(at) = At::fresh() else { return };
    let queues = [setup("good", &[]), setup("bad", &[])];
    let foreign = Foreign::connect(&at.0);
    // A quorum queue knows no exclusive consumers.
    foreign.declare_classic("bad");
    foreign.consume_exclusively("bad");
    let mut party = Party::attached(&at, &queues, 1);
    // Told at each try, and no try gives back a task with a delivery counted.
    for _ in 0..3 {
        let (error, void) = unavailable(&mut party, 1);
        assert!(error.to_string().contains("\"bad\"") && error.to_string().contains("exclusive"), "{error}");
        assert_eq!(void, []);
        works(&mut party, 0, "good");
    }
    foreign.stop_consuming();
    available(&mut party, 1);
    works(&mut party, 1, "bad");
    works(&mut party, 0, "good");
}

#[test]
fn a_deleted_queue_is_made_again_and_the_others_are_worked() {
    let Some(at) = At::fresh() else { return };
    let mut party = Party::attached(&at, &[setup("foo", &[]), setup("bar", &[])], 2);
    party.submit(tasks("foo", 3));
    let held = party.deliveries(2);
    party.submit(tasks("bar", 1));
    let other = party.delivery();
    Foreign::connect(&at.0).delete("foo");
    let (error, mut void) = unavailable(&mut party, 0);
    assert!(error.to_string().contains("foo"), "{error}");
    void.sort_unstable_by_key(|handle| handle.0);
    assert_eq!(void, [held[0].handle, held[1].handle]);
    available(&mut party, 0);
    party.settle_now(other.handle, done());
    // Settlements of what is void are ignored.
    party.settle(held[0].handle, done());
    works(&mut party, 0, "foo");
    works(&mut party, 1, "bar");
}

#[test]
fn what_was_accepted_or_is_being_stored_outlives_its_channel() {
    let Some(at) = At::fresh() else { return };
    let delay = Duration::from_millis(100);
    let mut party = Party::attached(&at, &[setup("foo", &[delay])], 4);
    party.submit(tasks("foo", 4));
    let held = party.deliveries(4);
    party.settle_now(held[0].handle, Settlement::Accept);
    party.settle_now(held[1].handle, Settlement::Accept);
    let foreign = Foreign::connect(&at.0);
    foreign.delete("foo");
    let (_, void) = unavailable(&mut party, 0);
    assert_eq!(void.len(), 2, "{void:?}");
    available(&mut party, 0);
    let failure = Box::new(Failure::new(Reason::Error, "again", Timestamp(1_700_000_000_000)));
    party.settle_now(held[0].handle, Settlement::Retry { after: delay, failure });
    party.settle_now(held[1].handle, done());
    let again = party.delivery();
    assert_eq!((again.task.id.as_str(), again.task.attempts), ("0", 1));
    party.settle_now(again.handle, done());
    party.ask(Request::RemoveQueue { queue: QueueIndex(0) });
    party.wait("QueueRemoved", |event| matches!(event, Event::QueueRemoved { .. }).then_some(()));
}

#[test]
fn a_passive_master_waits_for_a_queue_that_was_deleted() {
    let Some(at) = At::fresh() else { return };
    let queues = [setup("good", &[]), setup("bad", &[])];
    Party::attached(&at, &queues, 0).close();
    let mut party = Party::client(&at);
    party.ask(Request::Attach { queues: queues.to_vec(), passive: true });
    party.wait("Attached", |event| matches!(event, Event::Attached { .. }).then_some(()));
    party.credit(0, 1);
    party.credit(1, 1);
    works(&mut party, 1, "bad");
    Foreign::connect(&at.0).delete("bad");
    for _ in 0..2 {
        let (error, _) = unavailable(&mut party, 1);
        assert!(error.to_string().contains("bad"), "{error}");
        works(&mut party, 0, "good");
    }
    // Not even a lost session lets one of them keep the others from being worked.
    broker::shared().expect("it was there").control(&["close_all_connections", "--vhost", vhost(&at), "test"]);
    party.wait("Lost", |event| matches!(event, Event::Lost { .. }).then_some(()));
    party.wait("Attached", |event| matches!(event, Event::Attached { session: 2 }).then_some(()));
    let (error, _) = unavailable(&mut party, 1);
    assert!(matches!(&error, Error::NoSuchQueue { queue } if queue == "bad"), "{error}");
    works(&mut party, 0, "good");
    Party::client(&at).submit(vec![task("bad", "new")]);
    available(&mut party, 1);
    let new = party.delivery();
    assert_eq!((new.queue, new.task.id.as_str()), (QueueIndex(1), "new"));
    party.settle_now(new.handle, done());
}

#[test]
fn a_missing_permission_on_one_queue_stops_that_one() {
    let Some(at) = At::fresh() else { return };
    let broker = broker::shared().expect("it was there");
    let may = |configure: &str, read: &str| {
        broker.control(&["set_permissions", "-p", vhost(&at), "guest", configure, ".*", read]);
    };
    Party::attached(&at, &[setup("worse", &[])], 0).close();
    // One may not be made, the other not be read.
    may("^(good|worse)", "^(good|bad)");
    let queues = [setup("bad", &[]), setup("good", &[]), setup("worse", &[])];
    let mut party = Party::attached(&at, &queues, 1);
    for (index, name) in [(0, "bad"), (2, "worse")] {
        let (error, void) = unavailable(&mut party, index);
        assert!(error.to_string().contains("ACCESS_REFUSED") && error.to_string().contains(name), "{error}");
        assert_eq!(void, []);
    }
    works(&mut party, 1, "good");
    may(".*", ".*");
    available(&mut party, 0);
    available(&mut party, 2);
    works(&mut party, 0, "bad");
    works(&mut party, 2, "worse");
}

#[test]
fn a_limit_of_the_virtual_host_holds_up_one_task_alone() {
    let Some(at) = At::fresh() else { return };
    let broker = broker::shared().expect("it was there");
    let mut party = Party::attached(&at, &[setup("foo", &[Duration::from_millis(100)]), setup("bar", &[])], 2);
    party.submit(tasks("foo", 2));
    let held = party.deliveries(2);
    broker.control(&["set_vhost_limits", "-p", vhost(&at), r#"{"max-queues":1}"#]);
    // The step of an hour cannot be made; a smaller one is there.
    party.settle_now(held[0].handle, Settlement::Snooze { after: Duration::from_hours(1), memo: None });
    works(&mut party, 1, "bar");
    // Of this queue there is none: its task waits, and others are worked.
    party.submit(tasks("bar", 1));
    let waits = party.delivery();
    party.settle(waits.handle, Settlement::Snooze { after: Duration::from_hours(1), memo: None });
    party.settle_now(held[1].handle, done());
    works(&mut party, 0, "foo");
    broker.control(&["clear_vhost_limits", "-p", vhost(&at)]);
    party.settled(&[waits.handle]);
    works(&mut party, 1, "bar");
}

#[test]
fn tasks_that_follow_into_a_queue_of_somebodys_own_are_told_at_once() {
    let Some(at) = At::fresh() else { return };
    let mut party = Party::attached(&at, &[setup("foo", &[])], 1);
    party.submit(tasks("foo", 1));
    let held = party.delivery();
    let foreign = Foreign::connect(&at.0);
    foreign.declare_exclusive("theirs");
    party.settle(held.handle, Settlement::Done { submit: vec![task("theirs", "a")] });
    let error = party.wait("Unstorable", |event| match event {
        Event::Unstorable { handle, error, .. } if *handle == held.handle => Some(error.to_string()),
        Event::Lost { error, .. } => panic!("{error}"),
        _ => None,
    });
    assert!(error.contains("\"theirs\"") && error.contains("RESOURCE_LOCKED"), "{error}");
    let failure = Box::new(Failure::new(Reason::Error, "not stored", Timestamp(1_700_000_000_000)));
    party.settle_now(held.handle, Settlement::Dead(failure));
    works(&mut party, 0, "foo");
}

#[test]
fn a_channel_that_the_broker_closes_takes_its_queue_alone() {
    let Some(broker) = broker::own() else { return };
    broker.control(&[
        "eval",
        "application:set_env(rabbit, consumer_timeout, 2000), application:set_env(rabbit, channel_tick_interval, 500).",
    ]);
    let at = At(broker.fresh_vhost());
    // Ours have a time-out of their own, which brokers from 3.12 on look at.
    let quorum = lapin::types::AMQPValue::LongString("quorum".into());
    Foreign::connect(&at.0).declare("slow", &[("x-queue-type", quorum)]);
    let mut party = Party::attached(&at, &[setup("slow", &[]), setup("busy", &[])], 1);
    party.credit(1, 8);
    party.submit(tasks("slow", 1));
    let held = party.delivery();
    // The other queue is under way all the time, so that frames are in flight when the channel is closed.
    let clock = Clock::start();
    let mut open = 0;
    loop {
        assert!(clock.now().at.since_start() < Duration::from_secs(20), "the broker closes nothing");
        if open == 0 {
            party.submit(tasks("busy", 64));
            open = 64;
        }
        let deliveries = party.wait("a delivery", |event| match event {
            Event::Delivered(deliveries) => Some(Some(deliveries.clone())),
            Event::QueueUnavailable { queue, void, .. } => {
                assert_eq!((*queue, void.as_slice()), (QueueIndex(0), &[held.handle][..]));
                Some(None)
            }
            Event::Lost { error, .. } => panic!("{error}"),
            _ => None,
        });
        let Some(deliveries) = deliveries else { break };
        for delivery in deliveries {
            assert_eq!(delivery.queue, QueueIndex(1));
            party.settle(delivery.handle, done());
            open -= 1;
        }
    }
    available(&mut party, 0);
    let is_it = |delivery: &Delivery| delivery.redelivered && delivery.identity == held.identity;
    while !party.batch().iter().any(is_it) {}
}
