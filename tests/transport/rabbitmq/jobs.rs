//! Tasks of jobs on a broker: the order in which their ends are stored, and what masters are told by a coordinator, for which a plain
//! client stands here.

use std::time::Duration;

use asynctask::{
    clock::Timestamp,
    jobs::entry::{Entry, How, What},
    membership::ledger_queue,
    task::{Failure, NewTask, Reason, Settlement},
    transport::{DeadQueue, Event, Request},
};
use lapin::BasicProperties;

use super::At;
use crate::{
    contract::{
        jobs::{APP, first, item, round},
        party::{Party, done, ids, setup, task},
    },
    support::{
        foreign::Foreign,
        log::{Stopwatch, until},
    },
};

const SOON: Duration = Duration::from_millis(100);

fn failure(error: &str) -> Box<Failure> {
    Box::new(Failure::new(Reason::Crash, error, Timestamp(1_700_000_000_000)))
}

fn ledger() -> String {
    ledger_queue(APP)
}

fn end(text: &str) -> NewTask {
    NewTask { queue: ledger(), id: text.to_owned(), body: text.as_bytes().to_vec(), ..NewTask::default() }
}

/// What the ledger was told, oldest first.
fn told(foreign: &Foreign) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| foreign.take(&ledger())).map(|message| message.data).collect()
}

fn empty(foreign: &Foreign) {
    while foreign.take(&ledger()).is_some() {}
}

/// The coordinator's part, played by a plain client.
struct Coordinator<'a> {
    foreign: &'a Foreign,
}

impl<'a> Coordinator<'a> {
    fn new(foreign: &'a Foreign) -> Self {
        foreign.declare_exchange(&format!("asynctask.void.{APP}"), lapin::ExchangeKind::Fanout);
        foreign.declare(&format!("asynctask.coordinator.{APP}"), &[]);
        Self { foreign }
    }

    /// Answers the next question.
    fn answer(&self, stopped: &str) {
        let queue = format!("asynctask.coordinator.{APP}");
        until("a master asks what is stopped", || self.foreign.ready(&queue) > 0);
        let question = self.foreign.take(&queue).expect("it was there");
        assert_eq!(question.data, b"\"stopped\"");
        let reply_to = question.properties.reply_to().clone().expect("somebody waits");
        let text = format!("{{\"epoch\":1,\"complete\":true{stopped}}}");
        self.foreign.publish(reply_to.as_str(), BasicProperties::default(), text.as_bytes());
    }

    fn announce(&self, stopped: &str) {
        let text = format!("{{\"epoch\":1{stopped}}}");
        self.foreign.publish_to(&format!("asynctask.void.{APP}"), BasicProperties::default(), text.as_bytes());
    }
}

fn void(rounds: &[u128]) -> String {
    let rounds: Vec<String> = rounds.iter().map(|number| format!("\"{}\"", round(*number))).collect();
    format!(",\"void\":[{}]", rounds.join(","))
}

fn stopped(party: &mut Party<'_, At>) -> (Vec<u128>, Vec<String>) {
    party.wait("JobsStopped", |event| match event {
        Event::JobsStopped { void, frozen } => {
            let frozen = frozen.iter().inspect(|job| assert_eq!(job.application, APP)).map(|job| job.id.clone());
            Some((void.iter().map(uuid::Uuid::as_u128).collect(), frozen.collect()))
        }
        _ => None,
    })
}

#[test]
fn what_becomes_of_a_task_is_told_by_whoever_settles_it() {
    let Some(at) = At::fresh() else { return };
    let foreign = Foreign::connect(&at.0);
    let mut party = Party::attached(&at, &[setup("foo", &[SOON])], 1);
    party.submit(vec![first("foo", "a", "j", 1)]);
    let delivery = party.delivery();
    party.settle_now(delivery.handle, Settlement::Retry { after: SOON, failure: failure("broken") });
    let delivery = party.delivery();
    party.settle_now(delivery.handle, Settlement::Accept);
    party.settle_now(delivery.handle, Settlement::Snooze { after: SOON, memo: None });
    let delivery = party.delivery();
    party.settle_now(delivery.handle, Settlement::Dead(failure("over")));
    let entries: Vec<Entry> = told(&foreign).iter().map(|body| Entry::parse(body).expect("an entry")).collect();
    let [Entry::News(retried), Entry::News(snoozed), Entry::End(end)] = &entries[..] else { panic!("{entries:?}") };
    assert!(matches!(&retried.what, What::Retrying { error, .. } if error == "broken"));
    assert!(matches!(&snoozed.what, What::Snoozed { .. }));
    assert!(matches!(&end.how, How::Failed { dead_letter: Some(id), .. } if id == "a"));
    // Many at once go together.
    party.credit(0, 100);
    party.submit((0..100).map(|index| item("foo", &index.to_string(), "j", 1, index)).collect());
    let held = party.deliveries(100);
    let all = held.iter().map(|delivery| (delivery.handle, Settlement::Dead(failure("no")))).collect();
    party.ask(Request::Settle(all));
    party.settled(&held.iter().map(|delivery| delivery.handle).collect::<Vec<_>>());
    assert_eq!((told(&foreign).len(), party.dead_letters("foo").len()), (100, 101));
}

#[test]
fn no_dead_letter_is_stored_whose_end_was_not_told() {
    let Some(at) = At::fresh() else { return };
    let foreign = Foreign::connect(&at.0);
    foreign.declare_full(&ledger());
    let mut party = Party::attached(&at, &[setup("foo", &[])], 2);
    party.submit(vec![item("foo", "a", "j", 1, 0), item("foo", "b", "j", 1, 1)]);
    for delivery in party.deliveries(2) {
        party.settle(delivery.handle, Settlement::Dead(failure("over")));
    }
    party.wait("Stuck", |event| matches!(event, Event::Stuck { by, tasks: 2, .. } if *by == ledger()).then_some(()));
    assert_eq!(party.depth("foo").failed, 0);
    // As if the master died now: nothing was lost.
    party.kill();
    let mut party = Party::attached(&at, &[setup("foo", &[])], 2);
    let held = party.deliveries(2);
    foreign.delete(&ledger());
    for delivery in &held {
        party.settle(delivery.handle, Settlement::Dead(failure("over")));
    }
    party.settled(&[held[0].handle, held[1].handle]);
    assert_eq!((told(&foreign).len(), party.depth("foo").failed), (2, 2));
}

#[test]
fn news_that_the_ledger_does_not_take_hold_nothing_up() {
    let Some(at) = At::fresh() else { return };
    let foreign = Foreign::connect(&at.0);
    foreign.declare_full(&ledger());
    let mut party = Party::attached(&at, &[setup("foo", &[SOON])], 1);
    party.submit(vec![first("foo", "a", "j", 1)]);
    let delivery = party.delivery();
    let watch = Stopwatch::start();
    party.settle_now(delivery.handle, Settlement::Snooze { after: SOON, memo: None });
    assert_eq!(party.delivery().task.id, "a");
    assert!(watch.elapsed() < Duration::from_secs(5), "{:?}", watch.elapsed());
}

#[test]
fn an_end_is_told_after_all_items_are_stored_and_so_a_second_execution_counts_alone() {
    let Some(at) = At::fresh() else { return };
    let foreign = Foreign::connect(&at.0);
    foreign.declare_full(&ledger());
    let mut party = Party::attached(&at, &[setup("foo", &[]), setup("items", &[])], 1);
    party.submit(vec![first("foo", "splits", "j", 1)]);
    let delivery = party.delivery();
    let of_first = vec![item("items", "1a", "j", 1, 0), item("items", "1b", "j", 1, 1), end("first")];
    party.settle(delivery.handle, Settlement::Done { submit: of_first });
    let mut items = party.deliveries(1);
    assert_eq!(ids(&items), ["1a"]);
    // The master dies after its items are stored and before their end is.
    party.kill();
    empty(&foreign);
    foreign.delete(&ledger());
    let mut party = Party::attached(&at, &[setup("foo", &[]), setup("items", &[])], 0);
    party.credit(0, 1);
    let again = party.delivery();
    assert!(again.redelivered && again.task.id == "splits");
    party.settle_now(again.handle, Settlement::Done { submit: vec![item("items", "2a", "j", 1, 0), end("second")] });
    assert_eq!(told(&foreign), [b"second"], "the first execution was never told");
    party.credit(1, 3);
    items = party.deliveries(3);
    let mut all = ids(&items);
    all.sort_unstable();
    assert_eq!(all, ["1a", "1b", "2a"], "strays are worked in vain");
}

#[test]
fn a_purge_and_a_deletion_tell_the_ledger_of_each_task() {
    let Some(at) = At::fresh() else { return };
    let foreign = Foreign::connect(&at.0);
    let party = Party::client(&at);
    let hour = Duration::from_hours(1);
    party.submit((0..250).map(|index| item("foo", &index.to_string(), "j", 1, index)).collect());
    party.submit(vec![task("foo", "of no job"), NewTask { delay: hour, ..item("foo", "late", "j", 1, 250) }]);
    party.submit(vec![first("bar", "a", "j", 2)]);
    assert_eq!(party.call(|reply| Request::Purge { queue: "foo".to_owned(), reply }).expect("purged"), 252);
    assert!(party.is_drained("foo"));
    assert_eq!(party.call(|reply| Request::Delete { queue: DeadQueue::of("bar"), reply }).expect("deleted"), 1);
    let mut told: Vec<(u32, String)> = told(&foreign)
        .iter()
        .map(|body| match Entry::parse(body) {
            Ok(Entry::End(end)) => match end.how {
                How::Failed { reason, error, dead_letter: None } if reason == "cancelled" => (end.member.index, error),
                how => panic!("{how:?}"),
            },
            entry => panic!("{entry:?}"),
        })
        .collect();
    assert_eq!(told.pop(), Some((0, "queue bar was deleted".to_owned())));
    told.sort();
    let purged = |index| (index, "queue foo was purged".to_owned());
    assert_eq!(told, (0..=250).map(purged).collect::<Vec<_>>());
}

#[test]
fn before_the_first_task_of_a_job_is_judged_the_coordinator_is_asked() {
    let Some(at) = At::fresh() else { return };
    let foreign = Foreign::connect(&at.0);
    let coordinator = Coordinator::new(&foreign);
    let mut party = Party::attached(&at, &[setup("foo", &[])], 9);
    party.submit(vec![first("foo", "void", "j", 1), first("foo", "frozen", "f", 2), task("foo", "free")]);
    assert_eq!(party.delivery().task.id, "free", "what is of no job waits for nobody");
    party.submit(vec![first("foo", "good", "j", 3)]);
    coordinator.answer(&format!("{},\"frozen\":[\"f\"]", void(&[1])));
    assert_eq!(party.delivery().task.id, "good");
    party.until_depth("foo", |depth| (depth.ready, depth.delayed) == (0, 1));
    assert_eq!(foreign.ready("asynctask.frozen.foo"), 1);
    assert!(party.delivered_so_far().is_empty());
    party.close();
    // Nobody answers: it is not held for ever.
    let mut other = Party::attached(&at, &[setup("foo", &[])], 9);
    let watch = Stopwatch::start();
    let mut came: Vec<String> = other.deliveries(2).iter().map(|delivery| delivery.task.id.clone()).collect();
    came.sort();
    assert_eq!(came, ["free", "good"]);
    assert!(watch.elapsed() < Duration::from_secs(5), "{:?}", watch.elapsed());
}

#[test]
fn a_round_that_is_announced_as_void_is_over_wherever_its_tasks_are() {
    let Some(at) = At::fresh() else { return };
    let foreign = Foreign::connect(&at.0);
    let coordinator = Coordinator::new(&foreign);
    let mut party = Party::attached(&at, &[setup("foo", &[SOON]), setup("bar", &[SOON])], 3);
    party.submit((0..3).map(|index| item("foo", &format!("{index}"), "j", 1, index)).collect());
    coordinator.answer("");
    let held = party.deliveries(3);
    party.submit(vec![NewTask { delay: SOON, ..item("bar", "late", "j", 1, 7) }]);
    coordinator.announce(&void(&[1, 9]));
    assert_eq!(stopped(&mut party), (vec![1, 9], Vec::new()));
    coordinator.announce(&void(&[9, 4]));
    assert_eq!(stopped(&mut party), (vec![4], Vec::new()), "each is told once");
    party.settle_now(held[0].handle, Settlement::Release);
    party.settle_now(held[1].handle, Settlement::Snooze { after: Duration::from_hours(1), memo: None });
    party.settle_now(held[2].handle, Settlement::Done { submit: vec![item("bar", "an item", "j", 1, 9)] });
    party.submit(vec![first("bar", "of another round", "j", 2)]);
    assert_eq!(party.delivery().task.id, "of another round");
    party.until_depth("bar", |depth| depth.ready + depth.delayed == 0);
    party.until_depth("foo", |depth| depth.ready + depth.delayed == 0);
    assert!(party.delivered_so_far().is_empty());
    // So it stays when the session is lost.
    party.submit(vec![item("foo", "later", "j", 1, 8), task("foo", "last")]);
    assert_eq!(party.delivery().task.id, "last");
}

#[test]
fn of_many_void_tasks_no_other_one_is_held_up_or_hoarded() {
    let Some(at) = At::fresh() else { return };
    let foreign = Foreign::connect(&at.0);
    let coordinator = Coordinator::new(&foreign);
    let mut party = Party::attached(&at, &[setup("foo", &[])], 0);
    let void_ones = (0..2_000).map(|index| item("foo", &format!("void {index}"), "j", 1, index));
    let live: Vec<String> = (0..300).map(|number| format!("live {number}")).collect();
    party.submit(void_ones.chain(live.iter().map(|id| task("foo", id))).collect());
    party.credit(0, 2);
    coordinator.answer(&void(&[1]));
    let first = party.deliveries(2);
    assert_eq!(ids(&first), ["live 0", "live 1"]);
    // Whoever works two at a time has no more of them.
    until("all others wait for whoever comes", || foreign.ready("foo") == 298);
    let mut other = Party::attached(&at, &[setup("foo", &[])], 298);
    let rest = other.deliveries(298);
    for delivery in &rest {
        other.settle(delivery.handle, done());
    }
    for delivery in &first {
        party.settle(delivery.handle, done());
    }
    party.until_depth("foo", |depth| depth.ready == 0);
    let mut all: Vec<&str> = ids(&first).into_iter().chain(ids(&rest)).collect();
    all.sort_unstable_by_key(|id| id.trim_start_matches("live ").parse::<u32>().expect("a number"));
    assert_eq!(all, live, "each once");
    // The window is its own again.
    party.submit(vec![task("foo", "a"), task("foo", "b"), task("foo", "c")]);
    drop(other);
    assert_eq!(party.deliveries(2).len(), 2);
}

#[test]
fn tasks_of_a_frozen_job_are_put_aside_and_fetched_when_it_is_thawed() {
    let Some(at) = At::fresh() else { return };
    let foreign = Foreign::connect(&at.0);
    let coordinator = Coordinator::new(&foreign);
    let mut party = Party::attached(&at, &[setup("foo", &[SOON]), setup("bar", &[SOON])], 1);
    party.submit(vec![first("foo", "in hand", "j", 1), item("foo", "1", "j", 1, 1), item("foo", "2", "i", 1, 2)]);
    coordinator.answer("");
    let in_hand = party.delivery();
    coordinator.announce(",\"frozen\":[\"j\",\"i\"]");
    assert_eq!(stopped(&mut party), (Vec::new(), vec!["j".to_owned(), "i".to_owned()]));
    // What is in hand can go on, and what is given back waits.
    party.settle_now(in_hand.handle, Settlement::Release);
    party.until_depth("foo", |depth| (depth.ready, depth.delayed) == (0, 3));
    let (empty, _) = party.survey();
    assert!(empty, "it is nobody's work");
    coordinator.announce(",\"thawed\":[\"j\"]");
    party.credit(0, 2);
    let back = party.deliveries(2);
    let mut came = ids(&back);
    came.sort_unstable();
    assert_eq!(came, ["1", "in hand"]);
    assert!(back.iter().all(|delivery| delivery.task.attempts == 0 && delivery.task.deliveries == 0), "{back:?}");
    party.settle_now(back[0].handle, done());
    party.until_depth("foo", |depth| (depth.ready, depth.delayed) == (0, 1));
    // A coordinator that says all says that the other one is thawed, too.
    coordinator.announce(",\"complete\":true");
    assert_eq!(party.delivery().task.id, "2");
}
