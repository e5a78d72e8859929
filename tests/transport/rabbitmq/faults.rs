//! What goes wrong between us and a broker.

use std::{io::Read as _, net::TcpListener, time::Duration};

use asynctask::{
    clock::Clock,
    task::{Failure, Reason, Settlement},
    transport::{Error, Event, Request},
};

use super::At;
use crate::contract::party::{Party, done, ids, setup, task, tasks};
use crate::support::broker;

fn attach(party: &Party<'_, At>, queue: &str, passive: bool) {
    party.ask(Request::Attach { queues: vec![setup(queue, &[])], passive });
}

fn lost(party: &mut Party<'_, At>) -> Error {
    party.wait("Lost", |event| match event {
        Event::Lost { error, .. } => Some(error.clone()),
        _ => None,
    })
}

fn attached(party: &mut Party<'_, At>) -> u32 {
    party.wait("Attached", |event| match event {
        Event::Attached { session } => Some(*session),
        _ => None,
    })
}

#[test]
fn a_wrong_password_or_virtual_host_is_refused_at_once() {
    let Some(At(address)) = At::fresh() else { return };
    let wrong = [address.replace("guest:guest", "guest:wrong"), format!("{address}-no-such")];
    for address in wrong {
        let at = At(address);
        let client = Party::client(&at);
        let error = client.call(|reply| Request::Submit { tasks: vec![task("foo", "a")], reply }).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error:?}");
        assert!(!error.to_string().contains("wrong@"), "{error}");
        let mut party = Party::client(&at);
        attach(&party, "foo", false);
        party.wait("Refused", |event| matches!(event, Event::Refused(Error::Refused { .. })).then_some(()));
        let error = party.call(|reply| Request::Submit { tasks: vec![task("foo", "a")], reply }).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error:?}");
    }
}

#[test]
fn a_loss_is_noticed_within_two_heartbeats_as_agreed_with_the_broker() {
    let Some(At(address)) = At::fresh() else { return };
    // The broker's own wish is 60 s: the smaller one counts, and the only one where the other is 0.
    for (query, seconds) in [("", 40), ("?heartbeat=7", 14), ("?heartbeat=600", 120), ("?heartbeat=0", 120)] {
        let at = At(format!("{address}{query}"));
        let mut party = Party::client(&at);
        attach(&party, "foo", false);
        let within = party.wait("Noticed", |event| match event {
            Event::Noticed { within } => Some(*within),
            _ => None,
        });
        assert_eq!(within, Some(Duration::from_secs(seconds)), "{query}");
        attached(&mut party);
    }
}

#[test]
fn nobody_listens() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let at = At(format!("amqp://127.0.0.1:{port}"));
    let client = Party::client(&at);
    let error = client.call(|reply| Request::Submit { tasks: vec![task("foo", "a")], reply }).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    let mut party = Party::client(&at);
    attach(&party, "foo", false);
    let pauses: Vec<f64> = (0..2)
        .map(|_| {
            party.wait("Lost", |event| match event {
                Event::Lost { error: Error::Unreachable { .. }, again_in } => Some(again_in.as_secs_f64()),
                _ => None,
            })
        })
        .collect();
    assert!((1.0..1.21).contains(&pauses[0]) && (2.0..2.41).contains(&pauses[1]), "{pauses:?}");
    party.close();
}

#[test]
fn a_tls_address_is_spoken_to_in_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = At(format!("amqps://127.0.0.1:{}", listener.local_addr().unwrap().port()));
    let party = Party::client(&at);
    attach(&party, "foo", false);
    let mut first = [0];
    listener.accept().unwrap().0.read_exact(&mut first).unwrap();
    assert_eq!(first[0], 0x16, "the first byte is that of a TLS handshake record");
    party.close();
}

#[test]
fn a_server_that_says_nothing_does_not_hold_us() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = At(format!("amqp://127.0.0.1:{}", listener.local_addr().unwrap().port()));
    let mut party = Party::client(&at);
    attach(&party, "foo", false);
    let error = lost(&mut party);
    assert!(error.to_string().contains("does not answer"), "{error}");
    party.close();
}

#[test]
fn closed_connections_cost_nothing_but_a_redelivery() {
    let Some(at) = At::fresh() else { return };
    let broker = broker::shared().unwrap();
    let mut party = Party::attached(&at, &[setup("foo", &[])], 2);
    party.submit(tasks("foo", 3));
    let first = party.deliveries(2);
    let vhost = at.0.rsplit('/').next().unwrap();
    broker.control(&["close_all_connections", "--vhost", vhost, "test"]);
    lost(&mut party);
    assert_eq!(attached(&mut party), 2);
    let again = party.deliveries(2);
    assert_eq!(ids(&first), ids(&again));
    for (old, new) in first.iter().zip(&again) {
        assert!(new.redelivered && new.identity == old.identity && new.task.deliveries == 1);
        party.settle_now(new.handle, done());
    }
    let last = party.delivery();
    party.settle_now(last.handle, done());
    // A client whose connection ended while it was idle connects again.
    let client = Party::client(&at);
    client.submit(vec![task("foo", "x")]);
    broker.control(&["close_all_connections", "--vhost", vhost, "test"]);
    lost(&mut party);
    client.until_depth("foo", |depth| depth.ready <= 1);
    assert_eq!(attached(&mut party), 3);
    assert_eq!(party.delivery().task.id, "x");
}

#[test]
fn the_lease_comes_back_with_its_memory() {
    let Some(at) = At::fresh() else { return };
    let mut party = Party::attached(&at, &[setup("foo", &[])], 1);
    party.ask(Request::Lease { application: "app".to_owned() });
    assert!(party.lease_held().is_empty());
    let moment = asynctask::clock::Timestamp(1_000);
    assert!(party.fire("nightly", moment, Some(task("foo", "a"))).unwrap());
    assert_eq!(party.delivery().task.id, "a");
    let vhost = at.0.rsplit('/').next().unwrap();
    broker::shared().unwrap().control(&["close_all_connections", "--vhost", vhost, "test"]);
    party.wait("LeaseLost", |event| matches!(event, Event::LeaseLost).then_some(()));
    assert_eq!(party.lease_held(), [("nightly".to_owned(), moment)]);
    assert!(!party.fire("nightly", moment, None).unwrap());
}

#[test]
fn a_killed_broker_loses_nothing() {
    let Some(broker) = broker::own() else { return };
    let at = At(broker.fresh_vhost());
    let delay = Duration::from_millis(500);
    let mut party = Party::attached(&at, &[setup("foo", &[delay])], 64);
    // A quorum queue younger than a second does not survive the kill of RabbitMQ 3.10; what is delivered after a
    // second says that the queues are older.
    party.submit(vec![asynctask::task::NewTask { delay: Duration::from_secs(1), ..task("foo", "old enough") }]);
    let first = party.delivery();
    party.settle_now(first.handle, done());
    let count = 400;
    party.submit(tasks("foo", count));
    let mut done_ids = std::collections::HashSet::new();
    let failure = || Box::new(Failure::new(Reason::Error, "first", Clock::wall()));
    // A quarter is retried, a quarter stays in hand, the broker dies in the middle of it.
    let mut finished = Vec::new();
    while finished.len() < 100 {
        for delivery in party.batch() {
            match delivery.task.id.parse::<usize>().unwrap() % 4 {
                0 if delivery.task.attempts == 0 => {
                    party.settle(delivery.handle, Settlement::Retry { after: delay, failure: failure() });
                }
                1 => {}
                _ => {
                    party.settle(delivery.handle, done());
                    finished.push(delivery.task.id.clone());
                }
            }
        }
    }
    // Done is done, whether or not the broker heard of it: those that it did not hear of come again.
    done_ids.extend(finished);
    broker.kill();
    lost(&mut party);
    let error = party.call(|reply| Request::Submit { tasks: vec![task("foo", "x")], reply }).unwrap_err();
    assert!(matches!(error, Error::Lost { .. } | Error::Unreachable { .. }), "{error:?}");
    broker.restart();
    while done_ids.len() < count {
        for delivery in party.batch() {
            if delivery.task.attempts == 0 && delivery.task.id.parse::<usize>().unwrap() % 4 == 0 {
                party.settle(delivery.handle, Settlement::Retry { after: delay, failure: failure() });
            } else {
                done_ids.insert(delivery.task.id.clone());
                party.settle(delivery.handle, done());
            }
        }
    }
    party.until_depth("foo", |depth| depth.ready + depth.delayed == 0);
}

#[test]
fn passive_creates_nothing_and_names_what_is_absent() {
    let Some(at) = At::fresh() else { return };
    let mut party = Party::client(&at);
    attach(&party, "foo", true);
    let absent = party.wait("Refused", |event| match event {
        Event::Refused(Error::NoSuchQueue { queue }) => Some(queue.clone()),
        _ => None,
    });
    assert_eq!(absent, "foo_failed");
    Party::client(&at).submit(vec![task("foo", "a")]);
    let mut party = Party::client(&at);
    attach(&party, "foo", true);
    attached(&mut party);
    party.credit(0, 1);
    assert_eq!(party.delivery().task.id, "a");
    let error = party.call(|reply| Request::Submit { tasks: vec![task("bar", "a")], reply }).unwrap_err();
    assert!(matches!(&error, Error::NoSuchQueue { queue } if queue == "bar"), "{error:?}");
}

#[test]
fn an_alarm_stops_publishing_but_neither_acknowledging_nor_closing() {
    let Some(broker) = broker::own() else { return };
    let at = At(broker.fresh_vhost());
    let mut party = Party::attached(&at, &[setup("foo", &[])], 4);
    party.submit(tasks("foo", 8));
    let held = party.deliveries(4);
    broker.control(&["set_vm_memory_high_watermark", "0.000001"]);
    let failure = Box::new(Failure::new(Reason::Failed, "no", Clock::wall()));
    party.settle(held[0].handle, Settlement::Dead(failure));
    party.settle_now(held[1].handle, done());
    party.settle_now(held[2].handle, done());
    let clock = Clock::start();
    party.close();
    let took = clock.now().at.since_start();
    assert!(took < Duration::from_millis(5_500), "closing took {took:?}");
    broker.control(&["set_vm_memory_high_watermark", "0.4"]);
    // Nothing is lost: the move that could not be stored left its original where it was.
    let client = Party::client(&at);
    client.until_depth("foo", |depth| depth.ready + depth.failed >= 6);
}
