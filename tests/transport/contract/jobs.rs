//! Jobs: what their tasks carry, what the ledger is told, what the coordinator stores.

use std::time::Duration;

use asynctask::{
    clock::{Clock, Timestamp},
    jobs::{
        entry::{Entry, How, What},
        entry_list,
        member_set::MemberSet,
        order::{Order, Wanted},
        record::{Advance, EntryId, Frozen, FrozenJob, JobFilter, JobState, Record, Revived, StoredEntry},
    },
    json_text::JsonText,
    membership::{Membership, ledger_queue},
    task::{Failure, NewTask, Reason, Settlement},
    transport::{Cancelled, DeadLetter, DeadQueue, Error, Event, Request, Visit},
};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{
    Tenant,
    memos::memo,
    party::{Party, done, ids, setup, task},
};

const SOON: Duration = Duration::from_millis(20);
pub const APP: &str = "an-application";

/// The clauses that are about ledgers and jobs, which not every transport has.
pub const CLAUSES: &[&str] = &[
    "what_a_task_of_a_job_carries_is_kept",
    "what_becomes_of_a_task_of_a_job_is_told",
    "a_removed_task_of_a_job_is_told",
    "entries_come_in_their_order_and_no_more_than_are_folded",
    "forged_entries_are_handed_on",
    "an_entry_of_another_wakes_the_coordinator",
    "the_ledger_has_one_holder",
    "the_ledger_is_taken_over_from_a_closed_holder",
    "the_ledger_is_taken_over_from_a_killed_holder",
    "a_ledger_given_back_can_be_asked_for_again",
    "a_client_can_hold_the_ledger",
    "an_advance_is_stored_whole",
    "an_advance_that_cannot_be_stored_changes_nothing",
    "an_advance_needs_the_ledger",
    "a_key_passes_from_job_to_job_in_one_step",
    "an_order_is_answered",
    "an_answer_outlives_whoever_gave_it",
    "an_order_that_nobody_carries_out_is_stored",
    "all_who_ask_at_once_are_told_of_all_jobs",
    "jobs_are_listed_newest_first",
    "ended_jobs_are_forgotten_after_their_time",
    "tasks_of_a_void_round_are_never_delivered",
    "what_a_job_left_is_wiped_when_nothing_of_it_is_in_a_hand",
    "a_dead_letter_goes_back_where_it_can_change_its_job",
    "masters_hear_of_what_is_stopped",
    "tasks_of_a_frozen_job_wait_until_it_is_thawed",
    "dead_letters_of_a_round_are_revived",
    "a_dead_letter_that_is_removed_is_told_or_missed",
    "a_forgotten_job_is_frozen_no_more",
    "a_survey_waits_for_entries_and_for_jobs_that_can_go_on",
    "a_survey_does_not_wait_for_frozen_jobs",
];

pub fn round(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

pub fn membership(job: &str, number: u128) -> Membership {
    Membership {
        application: APP.to_owned(),
        job: job.to_owned(),
        pipeline: "p".to_owned(),
        key: Some("k".to_owned()),
        step: "s".to_owned(),
        queue: "foo".to_owned(),
        each: "foo".to_owned(),
        round: round(number),
        feeder: round(number),
        index: 0,
        wipe: false,
        inputs: JsonText::parse("{\"before\": {\"result\": 1e400}}").ok(),
    }
}

/// The first task of a round of a job.
pub fn first(queue: &str, id: &str, job: &str, number: u128) -> NewTask {
    NewTask { membership: Some(Box::new(membership(job, number))), ..task(queue, id) }
}

/// A task that another one has submitted.
pub fn item(queue: &str, id: &str, job: &str, number: u128, index: u32) -> NewTask {
    let member = membership(job, number).member(round(number + 1_000_000), index);
    NewTask { membership: Some(Box::new(member)), ..task(queue, id) }
}

pub fn record(id: &str, version: u64, rounds: &[u128]) -> Record {
    Record {
        id: id.to_owned(),
        pipeline: "p".to_owned(),
        key: None,
        holds_key: false,
        state: JobState::Running,
        frozen: false,
        open: true,
        priority: 0,
        made_at: Timestamp(version as i64),
        purge_at: None,
        version,
        rounds: rounds.iter().map(|number| round(*number)).collect(),
        content: format!("{{\"of\":\"{id}\"}}"),
    }
}

fn failure(error: &str) -> Box<Failure> {
    Box::new(Failure::new(Reason::Crash, error, Timestamp(1_000)))
}

fn entry(body: &str) -> NewTask {
    NewTask { queue: ledger_queue(APP), body: body.as_bytes().to_vec(), ..NewTask::default() }
}

fn parsed(entries: &[StoredEntry]) -> Vec<Entry> {
    entries.iter().map(|entry| Entry::parse(&entry.body).expect("an entry")).collect()
}

/// Cancels a task that waits, where it is found by its id.
fn cancel<T: Tenant>(party: &Party<'_, T>, id: &str, queue: &str) -> bool {
    let cancelled = party.call(|reply| Request::Cancel { id: id.to_owned(), reply }).expect("an answer");
    let removed = Cancelled::Removed { queue: queue.to_owned() };
    assert_eq!(cancelled, if T::FINDS_BY_ID { removed } else { Cancelled::Impossible });
    T::FINDS_BY_ID
}

/// What waits, by its job: attached to two queues, with the ledger.
pub fn coordinator<T: Tenant>(tenant: &T, credit: u32) -> Party<'_, T> {
    coordinator_told(tenant, credit).0
}

/// The same, with the open jobs that it was told.
pub fn coordinator_told<T: Tenant>(tenant: &T, credit: u32) -> (Party<'_, T>, Vec<Record>) {
    let queues = [setup(&tenant.queue("foo"), &[SOON]), setup(&tenant.queue("bar"), &[SOON])];
    let mut party = Party::attached(tenant, &queues, credit);
    ask(&party);
    let (_, open, _) = party.ledger_held();
    (party, open)
}

fn ask<T: Tenant>(party: &Party<'_, T>) {
    party.ask(Request::Ledger { application: APP.to_owned() });
}

fn refused<T: Tenant>(party: &mut Party<'_, T>) {
    party.wait("LedgerRefused", |event| matches!(event, Event::LedgerRefused).then_some(()));
}

pub fn jobs<T: Tenant>(party: &Party<'_, T>, filter: JobFilter) -> Vec<Record> {
    let application = APP.to_owned();
    party.call(|reply| Request::Jobs { application, filter, reply }).expect("listed").0
}

impl<T: Tenant> Party<'_, T> {
    /// Waits until the ledger is held; gives its epoch and the open jobs.
    fn ledger_held(&mut self) -> (u64, Vec<Record>, Vec<Frozen>) {
        self.wait("LedgerHeld", |event| match event {
            Event::LedgerHeld { epoch, jobs, frozen } => Some((*epoch, jobs.clone(), frozen.clone())),
            _ => None,
        })
    }

    /// Waits for this many entries, those of a list one by one; more is a failure.
    fn entries(&mut self, count: usize) -> Vec<StoredEntry> {
        let mut all = Vec::new();
        while all.len() < count {
            let told = self.wait(&format!("{} of {count} entries", all.len()), |event| match event {
                Event::Entries(entries) => Some(entries.clone()),
                _ => None,
            });
            let each = |entry: &StoredEntry| {
                let bodies = entry_list::entries_of(&entry.body).map(<[u8]>::to_vec);
                bodies.map(|body| StoredEntry { id: entry.id, body }).collect::<Vec<_>>()
            };
            all.extend(told.iter().flat_map(each));
        }
        assert_eq!(all.len(), count, "more entries came than were expected");
        all
    }

    fn advance(&mut self, advance: Advance) -> (u64, Result<(), Error>) {
        let wanted = advance.serial;
        self.ask(Request::Advance(Box::new(advance)));
        self.wait("Advanced", |event| match event {
            Event::Advanced { serial, revived, result } if *serial == wanted => Some((*revived, result.clone())),
            _ => None,
        })
    }

    /// A step that must succeed.
    pub fn advanced(&mut self, advance: Advance) -> u64 {
        let (revived, result) = self.advance(advance);
        result.expect("stored");
        revived
    }

    fn stopped(&mut self) -> (Vec<Uuid>, Vec<FrozenJob>) {
        self.wait("JobsStopped", |event| match event {
            Event::JobsStopped { void, frozen } => Some((void.clone(), frozen.clone())),
            _ => None,
        })
    }

    fn survey_jobs(&mut self, serial: u64) -> (bool, Vec<String>) {
        self.ask(Request::Survey { serial, jobs: Some(APP.to_owned()) });
        self.wait("Surveyed", |event| match event {
            Event::Surveyed { serial: of, empty, stranded, .. } if *of == serial => {
                Some((*empty, stranded.iter().map(|record| record.id.clone()).collect()))
            }
            _ => None,
        })
    }
}

pub fn what_a_task_of_a_job_carries_is_kept<T: Tenant>(tenant: &T) {
    let work = tenant.queue("foo");
    let mut party = coordinator(tenant, 0);
    party.advanced(Advance { records: vec![record("j", 1, &[1])], ..Advance::default() });
    party.credit(0, 1);
    let carried = Some(Box::new(membership("j", 1)));
    party.submit(vec![first(&work, "a", "j", 1)]);
    let moves = [
        Settlement::Release,
        Settlement::Snooze { after: SOON, memo: memo("1") },
        Settlement::Retry { after: SOON, failure: failure("no") },
        Settlement::Dead(failure("no")),
    ];
    for accepted in [false, true] {
        for settlement in moves.clone() {
            let delivery = party.delivery();
            assert_eq!(delivery.task.membership, carried, "{settlement:?}");
            if accepted {
                party.settle_now(delivery.handle, Settlement::Accept);
            }
            let is_dead = matches!(settlement, Settlement::Dead(_));
            party.settle_now(delivery.handle, settlement);
            if is_dead {
                assert_eq!(party.dead_letters(&work)[0].membership, carried);
                assert_eq!(party.walk(&work, |_| Visit::Retry { body: None }).retried, 1);
            }
        }
    }
    let delivery = party.delivery();
    assert_eq!((&delivery.task.membership, &delivery.task.memo), (&carried, &memo("1")));
    // What follows a task has a place of its own.
    let follows = item(&work, "b", "j", 1, 3);
    party.settle_now(delivery.handle, Settlement::Done { submit: vec![follows.clone(), task(&work, "c")] });
    let next = party.delivery();
    assert_eq!((&next.task.membership, &next.task.id[..]), (&follows.membership, "b"));
    party.settle_now(next.handle, done());
    assert_eq!(party.delivery().task.membership, None);
}

pub fn what_becomes_of_a_task_of_a_job_is_told<T: Tenant>(tenant: &T) {
    let work = tenant.queue("foo");
    let mut party = coordinator(tenant, 1);
    let before = Clock::wall();
    party.submit(vec![first(&work, "a", "j", 1)]);
    let after = Duration::from_millis(700);
    let delivery = party.delivery();
    party.settle_now(delivery.handle, Settlement::Retry { after: SOON, failure: failure("broken") });
    let delivery = party.delivery();
    party.settle_now(delivery.handle, Settlement::Snooze { after: SOON, memo: memo("[7]") });
    let delivery = party.delivery();
    party.settle_now(delivery.handle, Settlement::Release);
    let delivery = party.delivery();
    party.settle_now(delivery.handle, Settlement::Dead(failure("over")));
    let entries = parsed(&party.entries(3));
    let [Entry::News(retried), Entry::News(snoozed), Entry::End(end)] = &entries[..] else { panic!("{entries:?}") };
    let member = (&membership("j", 1)).into();
    assert!(retried.member == member && snoozed.member == member && end.member == member);
    let What::Retrying { error, again_at } = &retried.what else { panic!("{retried:?}") };
    assert_eq!(error, "broken");
    assert!(*again_at >= before.plus(SOON) && *again_at <= Clock::wall().plus(after), "{again_at:?}");
    assert!(matches!(&snoozed.what, What::Snoozed { again_at } if *again_at >= before), "{snoozed:?}");
    assert_eq!((&snoozed.memo, &end.memo), (&memo("[7]"), &memo("[7]")));
    let how = How::Failed { reason: "crash".to_owned(), error: "over".to_owned(), dead_letter: Some("a".to_owned()) };
    assert_eq!(end.how, how);

    // An item tells its end alone; what is done tells what it submits; what is in no job tells nothing.
    party.submit(vec![item(&work, "b", "j", 1, 3)]);
    let delivery = party.delivery();
    party.settle_now(delivery.handle, Settlement::Snooze { after: SOON, memo: None });
    let delivery = party.delivery();
    let said = entry("the end of b");
    party.settle_now(delivery.handle, Settlement::Done { submit: vec![task(&work, "c"), said] });
    let delivery = party.delivery();
    party.settle_now(delivery.handle, Settlement::Dead(failure("no")));
    assert_eq!(party.entries(1)[0].body, b"the end of b");
}

pub fn a_removed_task_of_a_job_is_told<T: Tenant>(tenant: &T) {
    let (work, spare) = (tenant.queue("foo"), tenant.queue("bar"));
    let mut party = coordinator(tenant, 0);
    let late = |task: NewTask| NewTask { delay: Duration::from_hours(1), ..task };
    party.submit(vec![
        first(&work, "a", "j", 1),
        item(&work, "b", "j", 1, 3),
        task(&work, "c"),
        first(&spare, "d", "j", 2),
    ]);
    party.submit(vec![late(item(&work, "e", "j", 1, 4))]);
    let waits = if cancel(&party, "b", &work) { 3 } else { 4 };
    assert_eq!(party.call(|reply| Request::Purge { queue: work.clone(), reply }).expect("purged"), waits);
    assert_eq!(party.call(|reply| Request::Delete { queue: DeadQueue::of(&spare), reply }).expect("deleted"), 1);
    let mut told: Vec<(u128, u32, String)> = parsed(&party.entries(4))
        .into_iter()
        .map(|entry| match entry {
            Entry::End(end) => match end.how {
                How::Failed { reason, error, dead_letter: None } if reason == "cancelled" => {
                    (end.member.round.as_u128(), end.member.index, error)
                }
                how => panic!("{how:?}"),
            },
            entry => panic!("{entry:?}"),
        })
        .collect();
    let cancelled =
        if T::FINDS_BY_ID { "it was cancelled where it waited".to_owned() } else { format!("queue {work} was purged") };
    let by = [
        (1, 0, format!("queue {work} was purged")),
        (1, 3, cancelled),
        (1, 4, format!("queue {work} was purged")),
        (2, 0, format!("queue {spare} was deleted")),
    ];
    told.sort();
    assert_eq!(told, by);
}

pub fn entries_come_in_their_order_and_no_more_than_are_folded<T: Tenant>(tenant: &T) {
    let mut party = coordinator(tenant, 0);
    let count = 2_500;
    let mut next = 1024;
    party.submit((0..count).map(|number| entry(&number.to_string())).collect());
    let mut told = party.entries(1024);
    for serial in 0.. {
        // Room for one is filled with one.
        let folded = if serial == 0 { 1 } else { told.len() };
        let entries = told.drain(..folded).map(|entry| entry.id).collect();
        party.advanced(Advance { serial, entries, ..Advance::default() });
        let more = folded.min(count - next);
        if more == 0 {
            break;
        }
        let new = party.entries(more);
        for entry in &new {
            assert_eq!(entry.body, next.to_string().as_bytes());
            next += 1;
        }
        told.extend(new);
    }
    party.submit(vec![entry("not folded")]);
    party.entries(1);
    party.close();
    let mut next = coordinator(tenant, 0);
    assert_eq!(next.entries(1)[0].body, b"not folded");
}

pub fn forged_entries_are_handed_on<T: Tenant>(tenant: &T) {
    let mut party = coordinator(tenant, 0);
    let long = NewTask { body: vec![0xff; T::LONGEST_BODY], ..entry("") };
    party.submit(vec![entry("{"), entry(""), long, entry("\u{0}")]);
    let mut entries = Vec::new();
    while entries.len() < 4 {
        entries.extend(party.wait("Entries", |event| match event {
            Event::Entries(entries) => Some(entries.clone()),
            _ => None,
        }));
    }
    assert_eq!(entries.iter().map(|entry| entry.body.len()).collect::<Vec<_>>(), [1, 0, T::LONGEST_BODY, 1]);
    assert!(entries.iter().all(|entry| Entry::parse(&entry.body).is_err()));
    let entries = entries.iter().map(|entry| entry.id).collect();
    party.advanced(Advance { entries, ..Advance::default() });
    party.close();
    let mut next = coordinator(tenant, 0);
    next.submit(vec![entry("last")]);
    assert_eq!(next.entries(1)[0].body, b"last", "what is folded is gone");
}

pub fn an_entry_of_another_wakes_the_coordinator<T: Tenant>(tenant: &T) {
    let work = tenant.queue("foo");
    let mut party = coordinator(tenant, 0);
    let mut other = Party::attached(tenant, &[setup(&work, &[])], 1);
    other.submit(vec![first(&work, "a", "j", 1)]);
    let delivery = other.delivery();
    other.settle_now(delivery.handle, Settlement::Dead(failure("over")));
    assert!(matches!(parsed(&party.entries(1))[..], [Entry::End(_)]));
    Party::client(tenant).submit(vec![entry("theirs")]);
    assert_eq!(party.entries(1)[0].body, b"theirs");
    // An application hears of its own ledger alone.
    Party::client(tenant).submit(vec![NewTask { queue: ledger_queue("another"), ..entry("another") }, entry("mine")]);
    assert_eq!(party.entries(1)[0].body, b"mine");
}

pub fn the_ledger_has_one_holder<T: Tenant>(tenant: &T) {
    let (mut first, mut second) = (Party::attached(tenant, &[], 0), Party::attached(tenant, &[], 0));
    ask(&first);
    assert_eq!(first.ledger_held().1, []);
    ask(&second);
    refused(&mut second);
    let mut third = Party::attached(tenant, &[], 0);
    third.ask(Request::Ledger { application: "another".to_owned() });
    third.ledger_held();
    // The schedules' lease is another thing.
    second.ask(Request::Lease { application: APP.to_owned() });
    second.lease_held();
}

fn holder_and_waiting<T: Tenant>(tenant: &T) -> (Party<'_, T>, u64, Party<'_, T>) {
    let (mut first, mut second) = (Party::attached(tenant, &[], 0), Party::attached(tenant, &[], 0));
    ask(&first);
    let (epoch, _, _) = first.ledger_held();
    ask(&second);
    refused(&mut second);
    let ended = Record { state: JobState::Done, open: false, ..record("b", 1, &[]) };
    let frozen = vec![Frozen { pipeline: "p".to_owned(), key: None }];
    first.advanced(Advance {
        records: vec![record("a", 2, &[1, 2]), ended],
        frozen_pipelines: Some(frozen),
        ..Advance::default()
    });
    first.submit(vec![entry("not folded")]);
    first.entries(1);
    (first, epoch, second)
}

/// The next holder has all that the one before had.
fn takes_over<T: Tenant>(party: &mut Party<'_, T>, former: u64) {
    let (epoch, jobs, frozen) = party.ledger_held();
    assert!(epoch > former, "{epoch} after {former}");
    assert_eq!(jobs, [record("a", 2, &[1, 2])]);
    assert_eq!(frozen, [Frozen { pipeline: "p".to_owned(), key: None }]);
    assert_eq!(party.entries(1)[0].body, b"not folded");
}

pub fn the_ledger_is_taken_over_from_a_closed_holder<T: Tenant>(tenant: &T) {
    let (first, epoch, mut second) = holder_and_waiting(tenant);
    first.close();
    takes_over(&mut second, epoch);
}

pub fn the_ledger_is_taken_over_from_a_killed_holder<T: Tenant>(tenant: &T) {
    let (first, epoch, mut second) = holder_and_waiting(tenant);
    first.kill();
    takes_over(&mut second, epoch);
}

pub fn a_ledger_given_back_can_be_asked_for_again<T: Tenant>(tenant: &T) {
    let (mut first, epoch, mut second) = holder_and_waiting(tenant);
    first.ask(Request::ReleaseLedger);
    takes_over(&mut second, epoch);
    ask(&first);
    refused(&mut first);
    second.ask(Request::ReleaseLedger);
    takes_over(&mut first, epoch + 1);
}

pub fn a_client_can_hold_the_ledger<T: Tenant>(tenant: &T) {
    let work = tenant.queue("foo");
    let mut master = Party::attached(tenant, &[setup(&work, &[])], 1);
    let mut client = Party::client(tenant);
    ask(&client);
    client.ledger_held();
    master.submit(vec![entry("from a master")]);
    let entries = client.entries(1).iter().map(|entry| entry.id).collect();
    client.advanced(Advance { entries, tasks: vec![first(&work, "a", "j", 1)], ..Advance::default() });
    assert_eq!(master.delivery().task.id, "a");
    client.close();
    ask(&master);
    assert!(master.ledger_held().0 > 1);
}

pub fn an_advance_is_stored_whole<T: Tenant>(tenant: &T) {
    let (work, spare) = (tenant.queue("foo"), tenant.queue("bar"));
    let mut party = coordinator(tenant, 5);
    party.submit(vec![entry("1"), entry("2")]);
    let entries: Vec<EntryId> = party.entries(2).iter().map(|entry| entry.id).collect();
    let submitted = vec![first(&work, "a", "j", 1), task(&spare, "failed"), entry("of the ledger itself")];
    party.advanced(Advance {
        serial: 7,
        entries,
        records: vec![record("j", 1, &[1])],
        tasks: submitted,
        answers: vec![("o".to_owned(), "\"yes\"".to_owned())],
        ..Advance::default()
    });
    let mut delivered = party.deliveries(2);
    delivered.sort_by(|a, b| a.task.id.cmp(&b.task.id));
    assert_eq!(ids(&delivered), ["a", "failed"]);
    assert_eq!(party.entries(1)[0].body, b"of the ledger itself");
    assert_eq!(jobs(&party, JobFilter::default()), [record("j", 1, &[1])]);
    // A later state replaces it; a forgotten job is gone.
    party.advanced(Advance { records: vec![record("j", 2, &[2])], ..Advance::default() });
    assert_eq!(jobs(&party, JobFilter::default()), [record("j", 2, &[2])]);
    party.advanced(Advance { forgotten: vec!["j".to_owned(), "never".to_owned()], ..Advance::default() });
    assert_eq!(jobs(&party, JobFilter::default()), []);
}

pub fn an_advance_that_cannot_be_stored_changes_nothing<T: Tenant>(tenant: &T) {
    let work = tenant.queue("foo");
    let mut party = coordinator(tenant, 5);
    let holder = |id: &str, version| Record { key: Some("k".to_owned()), holds_key: true, ..record(id, version, &[]) };
    party.advanced(Advance { records: vec![holder("j", 5)], ..Advance::default() });
    party.submit(vec![entry("1")]);
    let entries: Vec<EntryId> = party.entries(1).iter().map(|entry| entry.id).collect();
    for (serial, bad, why) in [(1, holder("i", 1), "holds the key p/k"), (2, holder("j", 5), "stored already")] {
        let advance = Advance {
            serial,
            entries: entries.clone(),
            records: vec![record("new", 1, &[]), bad],
            tasks: vec![task(&work, "a")],
            void: vec![round(9)],
            frozen: vec!["j".to_owned()],
            answers: vec![("o".to_owned(), "1".to_owned())],
            ..Advance::default()
        };
        let (_, result) = party.advance(advance);
        assert!(result.is_err_and(|error| error.to_string().contains(why)), "{why}");
    }
    assert_eq!(jobs(&party, JobFilter::default()), [holder("j", 5)]);
    party.submit(vec![task(&work, "b")]);
    assert_eq!(party.delivery().task.id, "b", "nothing was submitted");
    party.close();
    let mut next = coordinator(tenant, 0);
    assert_eq!(next.entries(1)[0].body, b"1", "no entry has gone");
}

pub fn an_advance_needs_the_ledger<T: Tenant>(tenant: &T) {
    let work = tenant.queue("foo");
    let (mut first, _, mut second) = holder_and_waiting(tenant);
    let advance = |serial| Advance { serial, tasks: vec![task(&work, "a")], ..Advance::default() };
    assert!(second.advance(advance(1)).1.is_err());
    first.ask(Request::ReleaseLedger);
    second.ledger_held();
    assert!(first.advance(advance(2)).1.is_err());
    assert_eq!(first.depth(&work).ready, 0);
    second.advanced(advance(3));
    assert_eq!(first.depth(&work).ready, 1);
}

pub fn a_key_passes_from_job_to_job_in_one_step<T: Tenant>(tenant: &T) {
    let mut party = coordinator(tenant, 0);
    let with =
        |id: &str, version, holds_key| Record { key: Some("k".to_owned()), holds_key, ..record(id, version, &[]) };
    party.advanced(Advance { records: vec![with("a", 1, true), with("b", 1, false)], ..Advance::default() });
    party.advanced(Advance { records: vec![with("b", 2, true), with("a", 2, false)], ..Advance::default() });
    let forgotten = vec!["b".to_owned()];
    party.advanced(Advance { records: vec![with("c", 1, true)], forgotten, ..Advance::default() });
    // Jobs without a key hold none.
    let none = |id: &str| Record { holds_key: true, ..record(id, 1, &[]) };
    party.advanced(Advance { records: vec![none("d"), none("e")], ..Advance::default() });
    assert_eq!(jobs(&party, JobFilter::default()).len(), 4);
}

fn order(id: &str) -> Order {
    Order { id: id.to_owned(), at: Timestamp(1), what: Wanted::Cancel { job: "j".to_owned() } }
}

/// Gives an order; its answer.
fn given<T: Tenant>(party: &Party<'_, T>, id: &str) -> oneshot::Receiver<Result<Option<String>, Error>> {
    let (reply, answer) = oneshot::channel();
    let within = Duration::from_secs(15);
    party.ask(Request::Order { application: APP.to_owned(), order: Box::new(order(id)), within, reply });
    answer
}

pub fn an_order_is_answered<T: Tenant>(tenant: &T) {
    let mut party = coordinator(tenant, 0);
    let client = Party::client(tenant);
    for by_client in [false, true] {
        let id = format!("order {by_client}");
        let answer = given(if by_client { &client } else { &party }, &id);
        let entries = party.entries(1);
        assert_eq!(parsed(&entries), [Entry::Order(Box::new(order(&id)))]);
        let entries = entries.iter().map(|entry| entry.id).collect();
        party.advanced(Advance { entries, answers: vec![(id.clone(), "\"done\"".to_owned())], ..Advance::default() });
        assert_eq!(answer.blocking_recv().expect("answered").expect("stored"), Some("\"done\"".to_owned()));
        // Given twice, it is done once.
        assert_eq!(given(&client, &id).blocking_recv().expect("answered").expect("known"), Some("\"done\"".to_owned()));
    }
    party.submit(vec![entry("last")]);
    assert_eq!(party.entries(1)[0].body, b"last");
}

pub fn an_answer_outlives_whoever_gave_it<T: Tenant>(tenant: &T) {
    let mut party = coordinator(tenant, 0);
    let client = Party::client(tenant);
    let answer = given(&client, "o");
    let entries = party.entries(1).iter().map(|entry| entry.id).collect();
    party.advanced(Advance { entries, answers: vec![("o".to_owned(), "\"done\"".to_owned())], ..Advance::default() });
    party.kill();
    assert_eq!(answer.blocking_recv().expect("answered").expect("stored"), Some("\"done\"".to_owned()));
}

pub fn all_who_ask_at_once_are_told_of_all_jobs<T: Tenant>(tenant: &T) {
    let mut party = coordinator(tenant, 0);
    let ended = |id: &str| Record { open: false, purge_at: Some(Timestamp(i64::MAX)), ..record(id, 1, &[]) };
    let records = vec![record("open", 1, &[]), ended("a"), ended("b"), ended("c")];
    party.advanced(Advance { records, ..Advance::default() });
    let client = Party::client(tenant);
    let ask = |of: &Party<'_, T>| {
        let (reply, answer) = oneshot::channel();
        of.ask(Request::Jobs { application: APP.to_owned(), filter: JobFilter::default(), reply });
        answer
    };
    let asked = [&client, &client, &party, &client, &party].map(ask);
    for answer in asked {
        let (found, _) = answer.blocking_recv().expect("answered").expect("listed");
        assert_eq!(found.len(), 4, "{found:?}");
    }
}

pub fn an_order_that_nobody_carries_out_is_stored<T: Tenant>(tenant: &T) {
    let client = Party::client(tenant);
    let (application, order) = (APP.to_owned(), Box::new(order("o")));
    let within = Duration::from_millis(50);
    assert_eq!(client.call(|reply| Request::Order { application, order, within, reply }).expect("stored"), None);
    client.close();
    assert_eq!(coordinator(tenant, 0).entries(1).len(), 1);
}

pub fn jobs_are_listed_newest_first<T: Tenant>(tenant: &T) {
    let client = Party::client(tenant);
    assert_eq!(jobs(&client, JobFilter::default()), []);
    let mut party = coordinator(tenant, 0);
    let all: Vec<Record> = (1..=4)
        .map(|number: i64| Record {
            pipeline: if number % 2 == 0 { "even" } else { "odd" }.to_owned(),
            key: (number > 2).then(|| "k".to_owned()),
            state: if number == 3 { JobState::Failed } else { JobState::Running },
            open: number != 1,
            priority: -7,
            made_at: Timestamp(number),
            purge_at: (number == 1).then_some(Timestamp(i64::MAX)),
            ..record(&format!("job-{number}"), 1, &[number as u128])
        })
        .collect();
    party.advanced(Advance { records: all.clone(), ..Advance::default() });
    let any = JobFilter::default();
    for filter in [
        any.clone(),
        JobFilter { id: Some("job-".to_owned()), ..any.clone() },
        JobFilter { id: Some("job-2".to_owned()), ..any.clone() },
        JobFilter { id: Some("job-2".to_owned()), whole_id: true, ..any.clone() },
        JobFilter { id: Some("job-".to_owned()), whole_id: true, ..any.clone() },
        JobFilter { ids: ["job-1", "job-4", "job-"].map(str::to_owned).into(), ..any.clone() },
        JobFilter { pipeline: Some("odd".to_owned()), ..any.clone() },
        JobFilter { pipeline: Some("odd".to_owned()), key: Some("k".to_owned()), ..any.clone() },
        JobFilter { state: Some(JobState::Failed), open: true, ..any.clone() },
        JobFilter { open: true, limit: 2, ..any.clone() },
        JobFilter { limit: 1, ..any },
    ] {
        let mut expected: Vec<Record> = all.iter().rev().filter(|record| filter.holds(record)).cloned().collect();
        expected.truncate(if filter.limit == 0 { 9 } else { filter.limit });
        assert_eq!(jobs(&client, filter.clone()), expected, "{filter:?}");
    }
    let application = "another".to_owned();
    let filter = JobFilter::default();
    let (theirs, frozen) = client.call(|reply| Request::Jobs { application, filter, reply }).expect("listed");
    assert!(theirs.is_empty() && frozen.is_empty());
}

pub fn ended_jobs_are_forgotten_after_their_time<T: Tenant>(tenant: &T) {
    let mut party = coordinator(tenant, 0);
    let ended = |id: &str, after: Duration| Record {
        state: JobState::Done,
        open: false,
        purge_at: Some(Clock::wall().plus(after)),
        ..record(id, 1, &[])
    };
    let records =
        vec![ended("a", Duration::from_millis(300)), ended("b", Duration::from_hours(1)), record("c", 1, &[])];
    party.advanced(Advance { records, ..Advance::default() });
    let clock = Clock::start();
    loop {
        let mut left: Vec<String> = jobs(&party, JobFilter::default()).into_iter().map(|record| record.id).collect();
        left.sort();
        if left == ["b", "c"] {
            return;
        }
        assert_eq!(left, ["a", "b", "c"]);
        assert!(clock.now().at.since_start() < Duration::from_secs(20), "it is remembered for ever");
    }
}

pub fn tasks_of_a_void_round_are_never_delivered<T: Tenant>(tenant: &T) {
    let (work, spare) = (tenant.queue("foo"), tenant.queue("bar"));
    let mut party = coordinator(tenant, 0);
    party.credit(0, 4);
    // In hand: what is released, snoozed, done with an item, dead.
    party.submit((0..4).map(|index| item(&work, &format!("in hand {index}"), "j", 1, index)).collect());
    let held = party.deliveries(4);
    // What is not found where it waits goes when it comes.
    let delay = if T::FINDS_BY_ID { Duration::from_hours(1) } else { SOON };
    party.submit(vec![
        NewTask { delay, ..item(&spare, "late", "j", 1, 7) },
        first(&spare, "waits", "j", 1),
        first(&spare, "of another round", "j", 2),
        task(&spare, "free"),
    ]);
    party.advanced(Advance { void: vec![round(1)], ..Advance::default() });
    assert_eq!(party.stopped(), (vec![round(1)], Vec::new()));
    if T::FINDS_BY_ID {
        party.until_depth(&spare, |depth| (depth.ready, depth.delayed) == (2, 0));
    }
    party.settle_now(held[0].handle, Settlement::Release);
    party.settle_now(held[1].handle, Settlement::Snooze { after: Duration::from_hours(1), memo: None });
    party.settle_now(held[2].handle, Settlement::Done { submit: vec![item(&spare, "an item", "j", 1, 9)] });
    party.settle_now(held[3].handle, Settlement::Dead(failure("no")));
    assert_eq!(party.dead_letters(&work).len(), 1, "dead letters stay");
    let walked = party.walk(&work, |_| Visit::Retry { body: None });
    assert_eq!((walked.retried, walked.left), (0, 1));
    party.submit(vec![item(&work, "later", "j", 1, 8), task(&work, "last")]);
    party.credit(1, 9);
    let mut came: Vec<String> = party.deliveries(3).iter().map(|delivery| delivery.task.id.clone()).collect();
    came.sort();
    assert_eq!(came, ["free", "last", "of another round"]);
    party.until_depth(&work, |depth| depth.ready + depth.delayed == 0);
    party.until_depth(&spare, |depth| depth.ready + depth.delayed == 0);
    assert!(party.delivered_so_far().is_empty());
}

pub fn what_a_job_left_is_wiped_when_nothing_of_it_is_in_a_hand<T: Tenant>(tenant: &T) {
    let (work, wipes) = (tenant.queue("foo"), tenant.queue("bar"));
    let mut party = coordinator(tenant, 0);
    let mut other = Party::attached(tenant, &[setup(&work, &[SOON])], 2);
    other.submit(vec![item(&work, "in hand", "j", 1, 3), item(&work, "of another", "i", 5, 3)]);
    let held = other.deliveries(2);
    let wipe = Membership { wipe: true, ..membership("j", 2) };
    let wipe = NewTask { membership: Some(Box::new(wipe)), ..task(&wipes, "wipe") };
    party.advanced(Advance { void: vec![round(1)], tasks: vec![wipe, task(&wipes, "free")], ..Advance::default() });
    party.stopped();
    party.credit(1, 2);
    assert_eq!(party.delivery().task.id, "free");
    party.hears_nothing_for(Duration::from_millis(400));
    // It is there all the while, or comes again and again.
    party.until_depth(&wipes, |depth| depth.ready + depth.delayed == 1);
    assert!(party.delivered_so_far().is_empty());
    let of_j = held.iter().find(|delivery| delivery.task.id == "in hand").expect("it was delivered");
    other.settle_now(of_j.handle, Settlement::Release);
    assert_eq!(party.delivery().task.id, "wipe");
    other.close();
}

pub fn a_dead_letter_goes_back_where_it_can_change_its_job<T: Tenant>(tenant: &T) {
    let work = tenant.queue("foo");
    let mut party = coordinator(tenant, 0);
    let keyed =
        |id: &str, holds_key, rounds: &[u128]| Record { key: Some("k".to_owned()), holds_key, ..record(id, 1, rounds) };
    let records = vec![keyed("j", false, &[1]), keyed("void", false, &[7])];
    party.advanced(Advance { serial: 1, records, ..Advance::default() });
    party.credit(0, 9);
    let dead = |party: &mut Party<'_, T>, tasks: Vec<NewTask>| {
        let count = tasks.len();
        party.submit(tasks);
        for delivery in party.deliveries(count) {
            party.settle_now(delivery.handle, Settlement::Dead(failure("no")));
        }
        party.entries(count);
    };
    dead(
        &mut party,
        vec![item(&work, "a", "j", 1, 4), first(&work, "b", "void", 2), first(&work, "c", "forgotten", 3)],
    );
    let retry = |party: &Party<'_, T>| {
        let walked = party.walk(&work, |_| Visit::Retry { body: None });
        (walked.seen, walked.retried, walked.left)
    };
    // Another one has its key.
    let holder = keyed("holder", true, &[9]);
    party.advanced(Advance { serial: 2, records: vec![holder.clone()], ..Advance::default() });
    assert_eq!(retry(&party), (3, 0, 3));
    let records = vec![Record { version: 2, holds_key: false, ..holder }];
    party.advanced(Advance { serial: 3, records, ..Advance::default() });
    assert_eq!(retry(&party), (3, 1, 2));
    if T::TELLS_OF_GONE {
        let told = parsed(&party.entries(1));
        let [Entry::Retried(retried)] = &told[..] else { panic!("{told:?}") };
        assert_eq!((&retried.member.job[..], retried.member.index), ("j", 4));
    }
    assert_eq!(party.delivery().task.id, "a");
    assert_eq!(party.dead_letters(&work).len(), 2);
    // What is done again has none.
    let (superseded, superseded_from) = (vec![round(2)], vec![work.clone()]);
    party.advanced(Advance { serial: 4, void: vec![round(2)], superseded, superseded_from, ..Advance::default() });
    let clock = Clock::start();
    loop {
        let left: Vec<String> = party.dead_letters(&work).into_iter().map(|letter| letter.id).collect();
        if left == ["c"] {
            return;
        }
        assert!(left == ["b", "c"] && clock.now().at.since_start() < Duration::from_secs(20), "{left:?}");
    }
}

pub fn masters_hear_of_what_is_stopped<T: Tenant>(tenant: &T) {
    let work = tenant.queue("foo");
    let mut party = coordinator(tenant, 0);
    let mut other = Party::attached(tenant, &[setup(&work, &[])], 1);
    other.submit(vec![first(&work, "a", "j", 1)]);
    let delivery = other.delivery();
    party.advanced(Advance { void: vec![round(1), round(2)], frozen: vec!["f".to_owned()], ..Advance::default() });
    let expected = (vec![round(1), round(2)], vec![FrozenJob { application: APP.to_owned(), id: "f".to_owned() }]);
    assert_eq!(other.stopped(), expected);
    assert_eq!(party.stopped(), expected);
    other.settle_now(delivery.handle, Settlement::Discard);
    assert_eq!(other.depth(&work), asynctask::transport::Depth::default());
    party.advanced(Advance { void: vec![round(3)], ..Advance::default() });
    assert_eq!(other.stopped(), (vec![round(3)], Vec::new()), "each is told once");
    // A master that comes later has nothing in hand that it would have to stop, and hears more as soon as it has something.
    other.close();
    let mut late = Party::attached(tenant, &[setup(&work, &[])], 1);
    late.submit(vec![first(&work, "b", "j", 5)]);
    assert_eq!(late.delivery().task.id, "b");
    party.advanced(Advance { void: vec![round(4)], ..Advance::default() });
    assert_eq!(late.stopped(), (vec![round(4)], Vec::new()));
}

pub fn tasks_of_a_frozen_job_wait_until_it_is_thawed<T: Tenant>(tenant: &T) {
    let (work, spare) = (tenant.queue("foo"), tenant.queue("bar"));
    let mut party = coordinator(tenant, 0);
    let frozen = Record { frozen: true, ..record("j", 1, &[1]) };
    party.advanced(Advance { records: vec![frozen], frozen: vec!["j".to_owned()], ..Advance::default() });
    party.stopped();
    let theirs = Membership { application: "another".to_owned(), ..membership("j", 5) };
    party.submit(vec![
        first(&work, "a", "j", 1),
        item(&work, "b", "j", 1, 1),
        first(&work, "c", "i", 2),
        NewTask { membership: Some(Box::new(theirs)), ..task(&work, "theirs") },
        task(&work, "d"),
    ]);
    party.credit(0, 1);
    for id in ["c", "theirs", "d"] {
        let delivery = party.delivery();
        assert_eq!(delivery.task.id, id);
        party.settle_now(delivery.handle, done());
    }
    party.until_depth(&work, |depth| (depth.ready, depth.delayed) == (0, 2));
    // What waits can be removed, and is told.
    if cancel(&party, "b", &work) {
        assert_eq!(party.entries(1).len(), 1);
    }
    party.submit(vec![first(&spare, "e", "j", 1)]);
    party.credit(1, 1);
    party.until_depth(&spare, |depth| (depth.ready, depth.delayed) == (0, 1));
    assert_eq!(party.call(|reply| Request::Purge { queue: spare.clone(), reply }).expect("purged"), 1);
    assert_eq!(party.entries(1).len(), 1);
    assert!(party.delivered_so_far().is_empty());
    party.advanced(Advance { records: vec![record("j", 2, &[1])], thawed: vec!["j".to_owned()], ..Advance::default() });
    let delivery = party.delivery();
    assert_eq!((delivery.task.attempts, delivery.task.deliveries), (0, 0));
    assert!(delivery.task.id == "a" || !T::FINDS_BY_ID && delivery.task.id == "b", "{}", delivery.task.id);
}

pub fn dead_letters_of_a_round_are_revived<T: Tenant>(tenant: &T) {
    let work = tenant.queue("foo");
    let mut party = coordinator(tenant, 0);
    party.credit(0, 4);
    party.submit(vec![
        first(&work, "a", "j", 1),
        item(&work, "b", "j", 1, 1),
        first(&work, "of another", "j", 2),
        task(&work, "free"),
    ]);
    for delivery in party.deliveries(4) {
        party.settle_now(delivery.handle, Settlement::Dead(failure("no")));
    }
    let failed = [(round(1), 0), (round(1_000_001), 1)].into_iter().collect();
    let none = Revived { round: round(7), failed: MemberSet::default() };
    let revived = vec![Revived { round: round(1), failed }, none];
    assert_eq!(party.advanced(Advance { serial: 3, revived, ..Advance::default() }), 2);
    let mut back = party.deliveries(2);
    back.sort_by(|a, b| a.task.id.cmp(&b.task.id));
    assert_eq!(ids(&back), ["a", "b"]);
    for delivery in &back {
        let task = &delivery.task;
        assert_eq!((task.attempts, task.history.len(), &task.history[0].reason[..]), (0, 1, "crash"));
        assert!(task.membership.is_some() && task.first_failed_at.is_none());
    }
    assert_eq!(party.dead_letters(&work).len(), 2);
}

pub fn a_dead_letter_that_is_removed_is_told_or_missed<T: Tenant>(tenant: &T) {
    let work = tenant.queue("foo");
    let mut party = coordinator(tenant, 0);
    party.credit(0, 4);
    // One of them twice: so there are as many as members that failed, when that of another one is gone.
    let twice = ["a", "a again"].map(|id| first(&work, id, "j", 1));
    let others = [item(&work, "b", "j", 1, 1), task(&work, "free")];
    party.submit(twice.into_iter().chain(others).collect());
    for delivery in party.deliveries(4) {
        party.settle_now(delivery.handle, Settlement::Dead(failure("no")));
    }
    party.entries(3);
    let remove = |letter: &DeadLetter| if letter.id.starts_with('a') { Visit::Keep } else { Visit::Remove };
    assert_eq!(party.walk(&work, remove).removed, 2);
    if T::TELLS_OF_GONE {
        let told = parsed(&party.entries(1));
        let [Entry::End(end)] = &told[..] else { panic!("{told:?}") };
        let gone = How::Failed {
            reason: "cancelled".to_owned(),
            error: "its dead letter was purged".to_owned(),
            dead_letter: None,
        };
        assert_eq!((end.member.index, &end.how), (1, &gone));
        return;
    }
    let failed = [(round(1), 0), (round(1_000_001), 1)].into_iter().collect();
    let (revived, revived_from) = (vec![Revived { round: round(1), failed }], vec![work]);
    let (_, result) =
        party.advance(Advance { records: vec![record("j", 1, &[1])], revived, revived_from, ..Advance::default() });
    assert!(matches!(result, Err(Error::NotRevived { round: of, found: 1, known: 2 }) if of == round(1)), "{result:?}");
    assert!(jobs(&party, JobFilter::default()).is_empty(), "nothing of the step is stored");
}

pub fn a_forgotten_job_is_frozen_no_more<T: Tenant>(tenant: &T) {
    let work = tenant.queue("foo");
    let mut party = coordinator(tenant, 0);
    let purge_at = Some(Clock::wall().plus(Duration::from_millis(300)));
    let ended = Record { state: JobState::Done, open: false, frozen: true, purge_at, ..record("j", 1, &[]) };
    party.advanced(Advance { records: vec![ended], frozen: vec!["j".to_owned()], ..Advance::default() });
    let clock = Clock::start();
    while !jobs(&party, JobFilter::default()).is_empty() {
        assert!(clock.now().at.since_start() < Duration::from_secs(20), "it is remembered for ever");
    }
    // A later job has its id.
    let (records, tasks) = (vec![record("j", 1, &[2])], vec![first(&work, "a", "j", 2)]);
    party.advanced(Advance { records, tasks, ..Advance::default() });
    party.credit(0, 1);
    assert_eq!(party.delivery().task.id, "a");
}

pub fn a_survey_waits_for_entries_and_for_jobs_that_can_go_on<T: Tenant>(tenant: &T) {
    let (work, elsewhere) = (tenant.queue("foo"), tenant.queue("elsewhere"));
    let mut party = Party::attached(tenant, &[setup(&work, &[])], 5);
    assert_eq!(party.survey_jobs(1), (true, Vec::new()));
    ask(&party);
    party.ledger_held();
    let ended = Record { state: JobState::Failed, holds_key: false, ..record("ended", 1, &[9]) };
    let planned = Record { state: JobState::Planned, ..record("planned", 1, &[]) };
    party.submit(vec![entry("1")]);
    assert_eq!(party.survey_jobs(2), (false, Vec::new()), "an entry is there");
    let entries = party.entries(1).iter().map(|entry| entry.id).collect();
    party.advanced(Advance {
        entries,
        records: vec![record("j", 1, &[1]), ended, planned],
        tasks: vec![first(&elsewhere, "a", "j", 1)],
        ..Advance::default()
    });
    assert_eq!(party.survey_jobs(3), (false, vec!["planned".to_owned()]), "it is worked elsewhere");
    let mut other = Party::attached(tenant, &[setup(&elsewhere, &[])], 1);
    let delivery = other.delivery();
    assert!(!party.survey_jobs(4).0, "it is in a hand elsewhere");
    other.settle_now(delivery.handle, Settlement::Dead(failure("no")));
    assert_eq!(party.survey_jobs(5), (false, Vec::new()), "its end is not folded");
    let entries = party.entries(1).iter().map(|entry| entry.id).collect();
    party.advanced(Advance { entries, ..Advance::default() });
    let mut left = party.survey_jobs(6);
    left.1.sort();
    assert_eq!(left, (true, vec!["j".to_owned(), "planned".to_owned()]), "they wait in vain");
    // Whoever does not ask for jobs hears of the queues alone.
    party.submit(vec![entry("2")]);
    assert!(party.survey().0);
}

pub fn a_survey_does_not_wait_for_frozen_jobs<T: Tenant>(tenant: &T) {
    let work = tenant.queue("foo");
    let mut party = coordinator(tenant, 0);
    // One that is delayed is found where it waits, or it is work until it comes.
    let delay = if T::FINDS_BY_ID { Duration::from_hours(1) } else { Duration::ZERO };
    let late = NewTask { delay, ..first(&work, "a", "j", 1) };
    party.advanced(Advance {
        records: vec![Record { frozen: true, ..record("j", 1, &[1]) }],
        tasks: vec![late, first(&work, "b", "j", 1)],
        frozen: vec!["j".to_owned()],
        ..Advance::default()
    });
    party.stopped();
    if !T::FINDS_BY_ID {
        // Tasks are judged when they come.
        party.credit(0, 1);
        party.until_depth(&work, |depth| (depth.ready, depth.delayed) == (0, 2));
        party.credit(0, 0);
    }
    assert_eq!(party.survey_jobs(1), (true, Vec::new()));
    party.submit(vec![task(&work, "c")]);
    assert!(!party.survey_jobs(2).0);
    party.advanced(Advance { records: vec![record("j", 2, &[1])], thawed: vec!["j".to_owned()], ..Advance::default() });
    assert!(!party.survey_jobs(3).0);
    let each_is_due_when_it_was = if T::FINDS_BY_ID { (2, 1) } else { (3, 0) };
    party.until_depth(&work, |depth| (depth.ready, depth.delayed) == each_is_due_when_it_was);
}
