//! Tasks of jobs in the core: what their ledger is told, and what becomes of those that count for nothing any more.

use std::{sync::Arc, time::Duration};

use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    config::{Acks, Queue},
    exit_code::Code,
    frames::{FromWorker, PROTOCOL, Ready, Wants},
    jobs::{
        entry::{Entry, How, What},
        ledger,
        order::Wanted,
        record::{JobState, Record},
    },
    json_text::JsonText,
    logging::Level,
    master::core::{
        Core,
        event::{Action, Ended, Event, Plan, QueuePlan, Signal},
        fixture::{WORKER, attached, delivered, delivery, ready, tell_at},
    },
    membership::Membership,
    outcome::{FollowUp, Given, Report, Target},
    task::{Delivery, Exit, Handle, NewTask, Reason, Settlement, Task},
    transport,
    unique::{Conflict, Template, Unique},
};

const ROUND: Uuid = Uuid::from_u128(7);

fn tell(core: &mut Core, event: Event) -> Vec<Action> {
    let actions = tell_at(core, Duration::ZERO, event);
    core.invariants().unwrap();
    actions
}

fn told(core: &mut Core, event: transport::Event) -> Vec<Action> {
    tell(core, Event::Transport(event))
}

fn core_with(settings: Queue, seats: u32) -> Core {
    let settings = Queue { concurrency: seats, ..settings };
    let plan = Plan {
        application: "app".to_owned(),
        remember: Some(Duration::from_secs(40)),
        ..Plan::of(vec![QueuePlan::of(settings)])
    };
    let mut core = Core::new(plan);
    tell(&mut core, Event::Begun);
    tell(&mut core, attached(1));
    tell(&mut core, ready(WORKER, seats));
    core
}

fn core(seats: u32) -> Core {
    core_with(Queue::new("foo", "kind"), seats)
}

/// The first task of a step.
fn first(round: Uuid) -> Membership {
    Membership {
        application: "theirs".to_owned(),
        job: format!("job-{}", round.as_u128()),
        pipeline: "p".to_owned(),
        key: None,
        step: "s".to_owned(),
        queue: "foo".to_owned(),
        each: "bar".to_owned(),
        round,
        feeder: round,
        index: 0,
        wipe: false,
        inputs: JsonText::parse("{}").ok(),
    }
}

fn of_job(number: u64, place: Membership) -> Delivery {
    let task = Task {
        membership: Some(Box::new(place)),
        memo: JsonText::parse("\"left\"").ok(),
        ..Task::clone(&delivery(number, None).task)
    };
    Delivery { task: Arc::new(task), ..delivery(number, Some(number)) }
}

fn outcome(number: u64, outcome: Report) -> Event {
    Event::Said { worker: WORKER, frame: FromWorker::Outcome { id: number.to_string(), outcome } }
}

fn follow_up(target: Target) -> FollowUp {
    FollowUp { target, payload: RawValue::from_string("[1]".to_owned()).unwrap(), delay: Duration::ZERO }
}

fn settled(actions: &[Action]) -> Vec<(u64, Settlement)> {
    let settled = |action: &Action| match action {
        Action::Settle { handle, settlement } => Some((handle.0, settlement.clone())),
        _ => None,
    };
    actions.iter().filter_map(settled).collect()
}

/// What the only settlement among these stores.
fn stored(actions: &[Action]) -> Vec<NewTask> {
    let settled = settled(actions);
    let [(_, Settlement::Done { submit })] = &settled[..] else { panic!("{settled:?}") };
    submit.clone()
}

fn entry(task: &NewTask) -> (&str, Entry) {
    (task.queue.as_str(), Entry::parse(&task.body).unwrap())
}

fn news(actions: &[Action]) -> usize {
    let is_news = |action: &&Action| match action {
        Action::TellLedger(task) => {
            let (queue, entry) = entry(task);
            assert!(
                queue == "asynctask.ledger.theirs" && matches!(&entry, Entry::News(news) if news.what == What::Began)
            );
            true
        }
        _ => false,
    };
    actions.iter().filter(is_news).count()
}

fn is_killed(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Signal { signal: Signal::Kill, .. }))
}

fn killed() -> Ended {
    Ended::of(Exit::Signal { signal: "SIGKILL".to_owned(), core_dumped: false })
}

#[test]
fn the_end_of_a_member_is_stored_behind_the_items_that_it_submits() {
    let mut core = core(1);
    let actions = tell(&mut core, delivered(of_job(1, first(ROUND))));
    assert_eq!(news(&actions), 1);
    let result = RawValue::from_string("{\"n\": 1e400}".to_owned()).unwrap();
    let submit = [Target::Item, Target::Queue("baz".to_owned()), Target::More].map(follow_up).to_vec();
    let given = Given::of(Some(result), None, None);
    let stored = stored(&tell(&mut core, outcome(1, Report::Done { submit, given })));
    assert_eq!(
        stored.iter().map(|task| task.queue.as_str()).collect::<Vec<_>>(),
        ["bar", "baz", "foo", "asynctask.ledger.theirs"]
    );
    let (_, Entry::End(end)) = entry(&stored[3]) else { panic!("{:?}", stored[3]) };
    let How::Done { execution, items: 2, result: Some(result) } = &end.how else { panic!("{end:?}") };
    assert_eq!((result.as_str(), end.memo.as_ref().map(JsonText::as_str)), ("{\"n\": 1e400}", Some("\"left\"")));
    assert_eq!((end.member.round, end.member.feeder, end.member.index), (ROUND, ROUND, 0));
    for (task, index) in [(&stored[0], 0), (&stored[2], 1)] {
        let place = task.membership.as_deref().unwrap();
        assert_eq!((place.round, place.feeder, place.index), (ROUND, *execution, index));
        assert_eq!(task.id, Uuid::new_v5(execution, index.to_string().as_bytes()).to_string());
        assert!(place.inputs.is_none() && task.body == b"[1]");
    }
    assert!(stored[1].membership.is_none());
    // Without items and result there is an end all the same, of another execution, and an item is no news.
    let item = stored[0].membership.as_deref().unwrap().clone();
    assert_eq!(news(&tell(&mut core, delivered(of_job(2, item)))), 0);
    let [end] = &self::stored(&tell(&mut core, outcome(2, Report::DONE)))[..] else { panic!() };
    let (_, Entry::End(end)) = entry(end) else { panic!() };
    let How::Done { execution: other, items: 0, result: None } = &end.how else { panic!("{end:?}") };
    assert_ne!(execution, other);
}

#[test]
fn the_begin_of_a_step_is_told_by_one_of_its_first_tasks() {
    let mut core = core(4);
    let places = [
        Membership { index: 1, ..first(ROUND) },
        Membership { wipe: true, ..first(ROUND) },
        first(ROUND).member(Uuid::from_u128(9), 0),
        first(ROUND),
    ];
    let told: Vec<usize> = places
        .into_iter()
        .zip(1..)
        .map(|(place, number)| news(&tell(&mut core, delivered(of_job(number, place)))))
        .collect();
    assert_eq!(told, [0, 0, 0, 1]);
}

#[test]
fn a_task_of_a_job_is_accepted_with_its_end_alone() {
    let accepted = |early: bool, place: Option<Membership>| {
        let mut queue = Queue::new("foo", "kind");
        queue.acks = if early { Acks::Early } else { Acks::Late };
        let mut core = core_with(queue, 1);
        let task = place.map_or_else(|| delivery(1, None), |place| of_job(1, place));
        let mut actions = tell(&mut core, delivered(task));
        let frame = FromWorker::Accept { id: "1".to_owned() };
        actions.extend(tell(&mut core, Event::Said { worker: WORKER, frame }));
        settled(&actions).iter().filter(|(_, settlement)| *settlement == Settlement::Accept).count()
    };
    for early in [true, false] {
        assert_eq!((accepted(early, None), accepted(early, Some(first(ROUND)))), (1, 0), "early: {early}");
    }
}

#[test]
fn a_job_that_a_task_starts_is_the_same_each_time_that_the_task_is_done() {
    let start = |number: u64, id: Option<&str>, place: Option<Membership>| {
        let mut core = core(1);
        let of = place.map_or_else(|| delivery(number, None), |place| of_job(number, place));
        tell(&mut core, delivered(of));
        let target = Target::Pipeline { name: "nightly".to_owned(), id: id.map(str::to_owned) };
        let submit = vec![follow_up(target)];
        let stored = stored(&tell(&mut core, outcome(number, Report::Done { submit, given: None })));
        let (queue, Entry::Order(order)) = entry(&stored[0]) else { panic!("{stored:?}") };
        let Wanted::Start { pipeline, id, payload, priority: 0, scheduled: false } = order.what else { panic!() };
        assert_eq!((pipeline.as_str(), payload.as_str(), &stored[0].id), ("nightly", "[1]", &order.id));
        (queue.to_owned(), order.id, id)
    };
    let (queue, order, job) = start(1, None, None);
    assert_eq!(queue, "asynctask.ledger.app");
    assert_eq!(start(1, None, None), (queue.clone(), order.clone(), job.clone()));
    assert_ne!(start(2, None, None).2, job);
    assert_eq!(start(1, Some("mine"), None).2, "mine");
    assert_eq!(start(1, None, Some(first(ROUND))).0, "asynctask.ledger.theirs", "that of its own job");
}

#[test]
fn a_job_of_a_pipeline_that_is_not_in_the_settings_is_a_mistake_of_the_worker() {
    let start = |place: Option<Membership>| {
        let mut core = core(1);
        core.plan.pipelines = vec!["nightly".to_owned()];
        let of = place.map_or_else(|| delivery(1, None), |place| of_job(1, place));
        tell(&mut core, delivered(of));
        let submit = vec![follow_up(Target::Pipeline { name: "nihgtly".to_owned(), id: None })];
        settled(&tell(&mut core, outcome(1, Report::Done { submit, given: None })))
    };
    let [(1, Settlement::Dead(failure))] = &start(None)[..] else { panic!() };
    assert_eq!(failure.error, "there is no pipeline \"nihgtly\"; there are: nightly");
    assert!(matches!(start(Some(first(ROUND)))[..], [(1, Settlement::Done { .. })]), "another application's");
}

#[test]
fn a_settlement_that_is_repeated_has_the_same_execution() {
    let mut core = core(1);
    tell(&mut core, delivered(of_job(1, first(ROUND))));
    let before = stored(&tell(&mut core, outcome(1, Report::DONE)));
    let error = transport::Error::Closed;
    told(&mut core, transport::Event::Lost { error, again_in: Duration::ZERO });
    tell(&mut core, attached(2));
    let again = Delivery { handle: Handle(11), redelivered: true, ..of_job(1, first(ROUND)) };
    assert_eq!(stored(&tell(&mut core, delivered(again))), before);
}

#[test]
fn a_member_whose_items_cannot_be_stored_has_failed_and_no_end_counts() {
    let mut core = core(1);
    let of = of_job(1, first(ROUND));
    tell(&mut core, delivered(of.clone()));
    let submit = vec![follow_up(Target::Item)];
    tell(&mut core, outcome(1, Report::Done { submit, given: None }));
    let (error, queue, task) = (transport::Error::Closed, of.queue, of.task);
    let actions = told(&mut core, transport::Event::Unstorable { handle: of.handle, queue, task, error });
    assert!(matches!(&settled(&actions)[..], [(1, Settlement::Dead(_))]), "the transport tells the ledger");
}

#[test]
fn of_a_void_round_what_waits_is_discarded_and_what_is_in_hand_with_its_worker() {
    let mut core = core(2);
    core.plan.log_level = Level::Info;
    let other = Uuid::from_u128(8);
    for (number, round) in [(1, ROUND), (2, other), (3, ROUND), (4, other)] {
        tell(&mut core, delivered(of_job(number, first(round))));
    }
    let actions = told(&mut core, transport::Event::JobsStopped { void: vec![ROUND], frozen: Vec::new() });
    assert_eq!(settled(&actions), [(3, Settlement::Discard)]);
    assert!(is_killed(&actions));
    assert_eq!(settled(&tell(&mut core, outcome(1, Report::DONE))), [], "what it says now counts for nothing");
    let actions = tell(&mut core, Event::Exited { worker: WORKER, ended: killed() });
    assert_eq!(settled(&actions), [(1, Settlement::Discard), (2, Settlement::Release)], "its neighbour lost nothing");
    let loud = |action: &Action| matches!(action, Action::Log { level: Level::Error | Level::Warning, .. });
    assert!(!actions.iter().any(loud), "it was ended on purpose: {actions:?}");
    let said = "Worker for queue foo was ended with a task that counts for nothing any more; restarting...";
    assert!(actions.iter().any(|action| matches!(action, Action::Log { message, .. } if message == said)));
    assert_eq!(core.slots[0].failed, 0);
    // What was on its way.
    assert_eq!(settled(&tell(&mut core, delivered(of_job(5, first(ROUND))))), [(5, Settlement::Discard)]);
    let again = vec![of_job(6, first(ROUND)), of_job(7, first(other))];
    let actions = told(&mut core, transport::Event::CameAgain(again));
    assert_eq!(settled(&actions), [(6, Settlement::Discard), (7, Settlement::Pass)]);
}

#[test]
fn a_void_task_that_comes_again_is_discarded_whatever_was_remembered() {
    let mut core = core(1);
    tell(&mut core, delivered(of_job(1, first(ROUND))));
    tell(&mut core, outcome(1, Report::DONE));
    told(&mut core, transport::Event::Lost { error: transport::Error::Closed, again_in: Duration::ZERO });
    tell(&mut core, attached(2));
    told(&mut core, transport::Event::JobsStopped { void: vec![ROUND], frozen: Vec::new() });
    let again = Delivery { handle: Handle(11), redelivered: true, ..of_job(1, first(ROUND)) };
    assert_eq!(settled(&tell(&mut core, delivered(again))), [(11, Settlement::Discard)]);
}

#[test]
fn a_void_task_whose_death_is_not_judged_yet_is_discarded() {
    let mut core = core(1);
    tell(&mut core, delivered(of_job(1, first(ROUND))));
    let exit = Exit::Signal { signal: "SIGTERM".to_owned(), core_dumped: false };
    let actions = tell(&mut core, Event::Exited { worker: WORKER, ended: Ended::of(exit) });
    assert_eq!(settled(&actions), [], "perhaps a stop comes");
    told(&mut core, transport::Event::JobsStopped { void: vec![ROUND], frozen: Vec::new() });
    let actions = tell_at(&mut core, Duration::from_secs(1), Event::DeadlinePassed);
    assert_eq!(settled(&actions), [(1, Settlement::Discard)]);
}

#[test]
fn a_key_goes_with_its_void_task_and_an_answer_about_it_is_for_nobody() {
    let key = Template::parse("{payload}").unwrap();
    let unique = Some(Unique { key, conflict: Conflict::Drop, after: Duration::from_secs(1) });
    let mut core = core_with(Queue { unique, ..Queue::new("foo", "kind") }, 1);
    let asked = |actions: &[Action]| actions.iter().any(|action| matches!(action, Action::Lock { .. }));
    assert!(asked(&tell(&mut core, delivered(of_job(1, first(ROUND))))));
    let actions = told(&mut core, transport::Event::JobsStopped { void: vec![ROUND], frozen: Vec::new() });
    assert_eq!((settled(&actions), core.locks.asked()), (vec![(1, Settlement::Discard)], 0));
    assert_eq!(told(&mut core, transport::Event::Locked { handle: Handle(1), held_by: None }).len(), 0);
    // The next one asks anew, and gives way to another one's key as a dead letter: nothing else would end it for its ledger.
    assert!(asked(&tell(&mut core, delivered(of_job(2, first(Uuid::from_u128(8)))))));
    let held_by = Some("x".to_owned());
    let settled = settled(&told(&mut core, transport::Event::Locked { handle: Handle(2), held_by }));
    let [(2, Settlement::Dead(failure))] = &settled[..] else { panic!("{settled:?}") };
    assert_eq!(failure.reason, Reason::Cancelled);
}

#[test]
fn of_a_frozen_job_what_is_not_begun_goes_back() {
    let mut core = core(1);
    // Another application has a job of the same id.
    for (number, application) in [(1, "theirs"), (2, "theirs"), (3, "another")] {
        let place = Membership { application: application.to_owned(), ..first(ROUND) };
        tell(&mut core, delivered(of_job(number, place)));
    }
    let frozen = vec![(&first(ROUND)).into()];
    let actions = told(&mut core, transport::Event::JobsStopped { void: Vec::new(), frozen });
    assert_eq!((settled(&actions), is_killed(&actions)), (vec![(2, Settlement::Release)], false));
    assert!(matches!(&settled(&tell(&mut core, outcome(1, Report::DONE)))[..], [(1, Settlement::Done { .. })]));
    // It comes again only when it is thawed.
    tell(&mut core, outcome(3, Report::DONE));
    let actions = tell(&mut core, delivered(of_job(4, first(ROUND))));
    assert!(actions.iter().any(|action| matches!(action, Action::Send { .. })), "{actions:?}");
}

/// A worker that takes tasks ahead has 21 in hand, and these behind it.
fn with_ahead(places: [Membership; 3]) -> Core {
    let mut core = Core::new(Plan::of(vec![QueuePlan::of(Queue::new("foo", "kind"))]));
    tell(&mut core, Event::Begun);
    tell(&mut core, attached(1));
    let (concurrency, ahead, wants) = (1, 1000, Wants::default());
    let ready = Ready { protocol: PROTOCOL, name: None, concurrency, ahead, wants, celery: None };
    tell(&mut core, Event::Said { worker: WORKER, frame: FromWorker::Ready(ready) });
    for number in 1..=20 {
        tell(&mut core, delivered(delivery(number, None)));
        tell(&mut core, outcome(number, Report::DONE));
        told(&mut core, transport::Event::Settled(vec![Handle(number)]));
    }
    let deliveries = (21..).zip(places).map(|(number, place)| of_job(number, place)).collect();
    told(&mut core, transport::Event::Delivered(deliveries));
    assert_eq!(core.slots[0].process().unwrap().in_flight.ahead(), 2);
    core
}

fn returned(numbers: &[u64]) -> Event {
    let ids = numbers.iter().map(u64::to_string).collect();
    Event::Said { worker: WORKER, frame: FromWorker::Returned { ids } }
}

fn is_recalled(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Send { frame, .. } if frame.starts_with(b"{\"recall\"")))
}

#[test]
fn what_was_sent_ahead_is_taken_back_and_costs_no_worker() {
    let [void, frozen, other] = [1, 2, 3].map(|round| first(Uuid::from_u128(round)));
    let mut core = with_ahead([other, void.clone(), frozen.clone()]);
    let (void, frozen) = (vec![void.round], vec![(&frozen).into()]);
    let actions = told(&mut core, transport::Event::JobsStopped { void, frozen });
    assert!(is_recalled(&actions) && !is_killed(&actions));
    let actions = tell(&mut core, returned(&[22, 23]));
    let settled = settled(&actions);
    assert!(!is_killed(&actions) && settled.len() == 2, "{settled:?}");
    assert!(settled.contains(&(22, Settlement::Discard)) && settled.contains(&(23, Settlement::Release)));
    assert_eq!(core.slots[0].process().unwrap().in_flight.len(), 1);
}

#[test]
fn what_was_begun_before_it_could_be_taken_back_is_ended_if_it_is_void_and_goes_on_if_its_job_is_frozen() {
    let [one, other] = [1, 2].map(|round| first(Uuid::from_u128(round)));
    for is_void in [true, false] {
        let mut core = with_ahead([other.clone(), one.clone(), one.clone()]);
        let (void, frozen) = if is_void { (vec![one.round], Vec::new()) } else { (Vec::new(), vec![(&one).into()]) };
        told(&mut core, transport::Event::JobsStopped { void, frozen });
        tell(&mut core, outcome(21, Report::DONE));
        let actions = tell(&mut core, returned(&[23]));
        assert_eq!(is_killed(&actions), is_void);
        if is_void {
            let actions = tell(&mut core, Event::Exited { worker: WORKER, ended: killed() });
            assert_eq!(settled(&actions), [(22, Settlement::Discard)]);
        } else {
            assert_eq!(settled(&actions), [(23, Settlement::Release)]);
            let actions = tell(&mut core, outcome(22, Report::DONE));
            assert!(matches!(&settled(&actions)[..], [(22, Settlement::Done { .. })]));
        }
    }
}

#[test]
fn a_void_task_that_ended_before_it_could_be_taken_back_is_discarded() {
    let [one, other] = [1, 2].map(|round| first(Uuid::from_u128(round)));
    let mut core = with_ahead([other.clone(), one.clone(), other]);
    told(&mut core, transport::Event::JobsStopped { void: vec![one.round], frozen: Vec::new() });
    tell(&mut core, outcome(21, Report::DONE));
    let actions = tell(&mut core, outcome(22, Report::DONE));
    assert_eq!(settled(&actions), [(22, Settlement::Discard)]);
    assert!(!is_killed(&actions));
}

fn halting(pipelines: &[&str]) -> (Core, Vec<Action>) {
    let mut core = Core::new(Plan {
        halt_when_empty: true,
        application: "app".to_owned(),
        pipelines: pipelines.iter().map(|name| (*name).to_owned()).collect(),
        log_level: Level::Warning,
        ..Plan::of(vec![QueuePlan::of(Queue::new("foo", "kind"))])
    });
    tell(&mut core, Event::Begun);
    tell(&mut core, attached(1));
    let actions = tell(&mut core, ready(WORKER, 1));
    (core, actions)
}

fn record(id: &str, state: JobState) -> Record {
    Record {
        id: id.to_owned(),
        pipeline: "p".to_owned(),
        key: Some("k".to_owned()),
        holds_key: true,
        state,
        frozen: false,
        open: true,
        priority: 0,
        made_at: Timestamp(0),
        purge_at: None,
        version: 1,
        rounds: Vec::new(),
        content: String::new(),
    }
}

/// The run ends for this answer of the transport: what is logged, how it ends, and what it says then.
fn ends(stranded: Vec<Record>) -> (Vec<String>, Code, Option<String>) {
    let (mut core, actions) = halting(&["p"]);
    let asked = actions.iter().find_map(|action| match action {
        Action::Survey { serial, jobs } => Some((*serial, jobs.as_deref())),
        _ => None,
    });
    let Some((serial, Some("app"))) = asked else { panic!("{actions:?}") };
    let again_in = Duration::from_secs(1);
    let surveyed = transport::Event::Surveyed { serial, empty: true, stranded, again_in };
    let mut actions = tell_at(&mut core, Duration::ZERO, Event::Transport(surveyed));
    let exited = Event::Exited { worker: WORKER, ended: Ended::of(Exit::Code { code: 0 }) };
    actions.extend(tell_at(&mut core, Duration::ZERO, exited));
    let mut said = Vec::new();
    for action in actions {
        match action {
            Action::Log { message, .. } => said.push(message),
            Action::Halt { code, error } => return (said, code, error),
            _ => {}
        }
    }
    panic!("the run goes on: {said:?}");
}

#[test]
fn a_job_that_waits_for_tasks_that_are_nowhere_ends_the_run_with_an_error() {
    assert_eq!(ends(Vec::new()), (Vec::new(), Code::Ok, None));
    let (one, other) = (record("1", JobState::Running), record("2", JobState::Running));
    let lines = [ledger::stranded(&one), ledger::stranded(&other)];
    assert_eq!(ends(vec![one.clone()]), (vec![lines[0].clone()], Code::Refused, Some(lines[0].clone())));
    let both = lines.join("; ");
    let said = vec![lines[0].clone(), lines[1].clone(), both.clone()];
    assert_eq!(ends(vec![one.clone(), other.clone()]), (said, Code::Refused, Some(both)));
    let (_, _, many) = ends(vec![one; 7]);
    assert!(many.is_some_and(|error| error.ends_with("; and 2 jobs more")));
    // Whatever would begin it is frozen.
    let left = "Job 3 of p/k is left planned: what it waits for is frozen".to_owned();
    assert_eq!(ends(vec![record("3", JobState::Planned)]), (vec![left], Code::Ok, None));
}

#[test]
fn jobs_count_as_work_only_where_there_are_pipelines() {
    let (_, actions) = halting(&[]);
    assert!(actions.iter().any(|action| matches!(action, Action::Survey { jobs: None, .. })), "{actions:?}");
}

#[test]
fn a_failed_job_is_told_and_its_dead_letters_are_not() {
    let mut core = core(1);
    core.plan.halt_when_empty = true;
    let dead = || Report::DeadLetter { error: "no".to_owned(), detail: String::new(), memo: None };
    for (number, of_job) in [(1, true), (2, false)] {
        let of = if of_job { self::of_job(number, first(ROUND)) } else { delivery(number, None) };
        tell(&mut core, delivered(of));
        tell(&mut core, outcome(number, dead()));
        told(&mut core, transport::Event::Stored(Handle(number)));
        assert_eq!((core.tally().dead_lettered, core.tally().has_dead_letters()), (number, !of_job));
    }
    core.tally.dead_of_jobs = 2;
    let ended = |core: &mut Core, state| {
        tell(core, Event::JobEnded { id: "j".to_owned(), state });
        core.tally().has_dead_letters()
    };
    assert!(ended(&mut core, JobState::Failed));
    assert!(!ended(&mut core, JobState::Done), "it was healed");
}
