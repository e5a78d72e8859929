//! Many tasks, changing credit, many moves.

use std::{cell::Cell, collections::HashMap, time::Duration};

use asynctask::{
    clock::Clock,
    task::{Failure, NewTask, Reason, Settlement},
    transport::{DeadQueue, Event, Request},
};

use super::At;
use crate::contract::party::{Party, done, setup, task, tasks};
use crate::support::{
    foreign::Foreign,
    log::{Stopwatch, until},
};

/// Settles everything that comes, `settlement` deciding how, until `count` are done.
fn drain(party: &mut Party<'_, At>, count: usize, mut settlement: impl FnMut(usize) -> Settlement) {
    let (mut number, mut settled) = (0, 0);
    while settled < count {
        let (delivered, ended) = party.wait("progress", |event| match event {
            Event::Delivered(deliveries) => Some((deliveries.clone(), 0)),
            Event::Settled(handles) => Some((Vec::new(), handles.len())),
            _ => None,
        });
        settled += ended;
        let settlements = delivered.iter().map(|delivery| {
            number += 1;
            (delivery.handle, settlement(number))
        });
        party.ask(Request::Settle(settlements.collect()));
    }
}

#[test]
fn credit_may_change_at_any_time() {
    let Some(at) = At::fresh() else { return };
    let mut party = Party::attached(&at, &[setup("foo", &[])], 4);
    let count = 5_000;
    party.submit(tasks("foo", count));
    let (mut seen, mut in_hand, mut settled, mut round) = (HashMap::new(), Vec::new(), 0, 0);
    let credits = [4, 1, 64, 7, 300, 2, 16, 100];
    while settled < count {
        let credit = credits[round % credits.len()];
        // What was on its way under the credit before is not taken back.
        let bound = credit.max(credits[round.saturating_sub(1) % credits.len()]);
        for delivery in party.batch() {
            *seen.entry(delivery.task.id.clone()).or_insert(0) += 1;
            in_hand.push(delivery.handle);
        }
        assert!(in_hand.len() <= bound, "{} in hand with credit {credit}", in_hand.len());
        if in_hand.len() >= credit || seen.len() == count {
            round += 1;
            party.credit(0, credits[round % credits.len()] as u32);
            let handles = std::mem::take(&mut in_hand);
            settled += handles.len();
            party.ask(Request::Settle(handles.iter().map(|handle| (*handle, done())).collect()));
            party.settled(&handles);
        }
    }
    assert!(seen.len() == count && seen.values().all(|times| *times == 1), "some came twice");
    party.until_depth("foo", |depth| depth.ready == 0);
}

#[test]
fn a_bulk_of_many_queues_is_stored_whole() {
    let Some(at) = At::fresh() else { return };
    let client = Party::client(&at);
    let mut all: Vec<_> = (0..3).flat_map(|queue| tasks(&format!("q{queue}"), 700)).collect();
    client.submit(all.clone());
    // One of the queues vanishes behind our back: its returns spoil a window, which is stored again one by one.
    Foreign::connect(&at.0).delete("q1");
    all.truncate(1_400);
    client.submit(all);
    assert!(client.depth("q0").ready >= 1_400);
    assert!(client.depth("q1").ready >= 700);
    assert_eq!(client.depth("q2").ready, 700);
}

#[test]
fn retries_of_thousands_come_back_once() {
    let Some(at) = At::fresh() else { return };
    let delay = std::time::Duration::from_millis(250);
    let mut party = Party::attached(&at, &[setup("foo", &[delay])], 500);
    party.submit(tasks("foo", 2_000));
    let failure = Box::new(Failure::new(Reason::Error, "once", Clock::wall()));
    drain(&mut party, 4_000, |number| {
        if number <= 2_000 { Settlement::Retry { after: delay, failure: failure.clone() } } else { done() }
    });
    assert!(party.survey().0);
}

/// Not a test of anything but speed: `cargo test --release --test transport throughput -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn throughput() {
    let Some(at) = At::fresh() else { return };
    for credit in [1, 8, 64, 256, 1024] {
        let count = if credit == 1 { 3_000 } else { 40_000 };
        let (ours, raw) = (format!("foo{credit}"), format!("raw{credit}"));
        let mut rates = Vec::new();
        let mut party = Party::attached(&at, &[setup(&ours, &[])], 0);
        for queue in [&ours, &raw] {
            let mut all = tasks(queue, count);
            for task in &mut all {
                task.body = vec![b'x'; 1024];
            }
            let clock = Clock::start();
            party.submit(all);
            rates.push(count as f64 / clock.now().at.since_start().as_secs_f64());
        }
        let clock = Clock::start();
        party.credit(0, credit);
        drain(&mut party, count, |_| done());
        rates.push(count as f64 / clock.now().at.since_start().as_secs_f64());
        party.close();
        let foreign = Foreign::connect(&at.0);
        let clock = Clock::start();
        foreign.consume(&raw, credit as u16, count);
        rates.push(count as f64 / clock.now().at.since_start().as_secs_f64());
        println!(
            "credit {credit}: submit {:.0}/s, deliver and settle {:.0}/s, the bare library {:.0}/s",
            rates[1], rates[2], rates[3]
        );
    }
    let mut party = Party::attached(&at, &[setup("moves", &[])], 256);
    party.submit(tasks("moves", 20_000));
    let failure = Box::new(Failure::new(Reason::Error, "no", Clock::wall()));
    let clock = Clock::start();
    drain(&mut party, 20_000, |_| Settlement::Dead(failure.clone()));
    println!("dead-letter {:.0}/s", 20_000.0 / clock.now().at.since_start().as_secs_f64());
}

/// `status` waits three seconds for the counts, which take one or two on an idle machine. Each of these queues has a ladder of 17
/// steps, of which 16 do not exist: with a round trip and a channel for each it was a minute. The limit tells these two apart on
/// a busy machine as well.
#[test]
fn a_hundred_queues_are_counted_in_time() {
    let Some(at) = At::fresh() else { return };
    let party = Party::client(&at);
    let names: Vec<String> = (0..100).map(|number| format!("q{number}")).collect();
    for (number, name) in names.iter().enumerate().filter(|(number, _)| number % 10 == 3) {
        party.submit(tasks(name, number));
        let late = NewTask { delay: Duration::from_hours(1), ..task(name, "late") };
        party.submit(vec![late]);
    }
    let queues: Vec<DeadQueue> = names.iter().map(|name| DeadQueue::of(name)).collect();
    let expected = |number: usize| if number % 10 == 3 { (number as u64, 1) } else { (0, 0) };
    let took = Cell::new(Duration::ZERO);
    // A quorum queue whose leader does not answer in time counts 0, so the first reading may be wrong.
    until("the counts are not right", || {
        let watch = Stopwatch::start();
        let depths = party.call(|reply| Request::Depths { queues: queues.clone(), reply }).expect("counted");
        took.set(watch.elapsed());
        assert_eq!(depths.len(), 100);
        depths.iter().enumerate().all(|(number, depth)| (depth.ready, depth.delayed) == expected(number))
    });
    let took = took.get();
    println!("100 queues counted in {took:?}");
    assert!(took < Duration::from_secs(15), "{took:?}");
}
