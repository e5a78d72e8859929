//! Tasks sent ahead: which worker gets them and how many, which of them a death takes, and where those go that come back.

use std::time::Duration;

use super::{ANSWER_LIMIT, LONG};
use crate::{
    config::{Acks, Queue, Rate},
    control::types::{Answer, Command},
    frames::{FromWorker, PROTOCOL, Ready, Wants},
    logging::Level,
    master::core::{
        Core,
        event::{Action, Ended, Event, Plan, QueuePlan, Signal, WorkerId},
        fixture::{attached, delivery, tell_at},
        state::task_durations::{LULL, MOST_AHEAD},
    },
    outcome::Report,
    task::{Delivery, Exit, Handle, Reason, Settlement},
    transport,
    unique::{Template, Unique},
};

const ONE: WorkerId = WorkerId { slot: 0, life: 1 };
const TWO: WorkerId = WorkerId { slot: 1, life: 1 };

/// A core with one queue whose tasks are known to be short, and what it wanted done.
struct World {
    core: Core,
    at: Duration,
    last: u64,
    actions: Vec<Action>,
}

impl World {
    fn new(settings: Queue) -> Self {
        Self::with(settings, |plan| plan)
    }

    fn with(settings: Queue, change: impl FnOnce(Plan) -> Plan) -> Self {
        let processes = settings.processes;
        let plan = change(Plan { log_level: Level::Warning, ..Plan::of(vec![QueuePlan::of(settings)]) });
        let mut world = Self { core: Core::new(plan), at: Duration::ZERO, last: 0, actions: Vec::new() };
        world.tell(Event::Begun);
        world.tell(attached(1));
        for slot in 0..processes as usize {
            world.ready(WorkerId { slot, life: 1 });
        }
        for _ in 0..20 {
            let number = world.deliver(1);
            let worker = world.sent().pop().expect("a worker is free").0;
            world.ends(worker, number);
        }
        world.actions.clear();
        world
    }

    /// With so many workers.
    fn of(processes: u32) -> Self {
        Self::new(Queue { processes, ..Queue::new("foo", "kind") })
    }

    fn tell(&mut self, event: Event) {
        let actions = tell_at(&mut self.core, self.at, event);
        for action in &actions {
            if let Action::Settle { handle, .. } = action {
                let settled = Event::Transport(transport::Event::Settled(vec![*handle]));
                let more = tell_at(&mut self.core, self.at, settled);
                assert!(more.is_empty(), "{more:?}");
            }
        }
        self.actions.extend(actions);
        self.core.invariants().unwrap();
    }

    fn ready(&mut self, worker: WorkerId) {
        let ready = Ready {
            protocol: PROTOCOL,
            name: None,
            concurrency: 1,
            ahead: 1000,
            wants: Wants::default(),
            celery: None,
        };
        self.tell(Event::Said { worker, frame: FromWorker::Ready(ready) });
    }

    /// So many tasks come at once; the number of the last one.
    fn deliver(&mut self, count: u64) -> u64 {
        let deliveries = (1..=count).map(|number| delivery(self.last + number, None)).collect();
        self.last += count;
        self.tell(Event::Transport(transport::Event::Delivered(deliveries)));
        self.last
    }

    fn ends(&mut self, worker: WorkerId, number: u64) {
        let outcome = Report::DONE;
        self.tell(Event::Said { worker, frame: FromWorker::Outcome { id: number.to_string(), outcome } });
    }

    fn returns(&mut self, worker: WorkerId, numbers: impl IntoIterator<Item = u64>) {
        let ids = numbers.into_iter().map(|number| number.to_string()).collect();
        self.tell(Event::Said { worker, frame: FromWorker::Returned { ids } });
    }

    fn dies(&mut self, worker: WorkerId) {
        let exit = Exit::Signal { signal: "SIGSEGV".to_owned(), core_dumped: false };
        self.tell(Event::Exited { worker, ended: Ended::of(exit) });
    }

    fn passes(&mut self, time: Duration) {
        self.at += time;
        self.tell(Event::DeadlinePassed);
    }

    fn commands(&mut self, command: Command) -> Answer {
        self.tell(Event::Commanded { number: 1, command, by: "somebody".to_owned() });
        let answer = self.actions.iter().rev().find_map(|action| match action {
            Action::Answer { answer, .. } => Some(answer.clone()),
            _ => None,
        });
        answer.expect("an answer")
    }

    /// The tasks sent since this was asked last.
    fn sent(&mut self) -> Vec<(WorkerId, u64)> {
        let (sent, others) = std::mem::take(&mut self.actions)
            .into_iter()
            .partition(|action| matches!(action, Action::Send { frame, .. } if crate::frames::is_task(frame)));
        self.actions = others;
        let number = |frame: &[u8]| {
            let frame: serde_json::Value = serde_json::from_slice(frame).unwrap();
            frame["task"]["id"].as_str().unwrap().parse().unwrap()
        };
        let sent: Vec<Action> = sent;
        sent.into_iter()
            .filter_map(|action| match action {
                Action::Send { worker, frame } => Some((worker, number(&frame))),
                _ => None,
            })
            .collect()
    }

    /// Workers recalled since this was asked last.
    fn recalled(&mut self) -> Vec<WorkerId> {
        let is_recall = |action: &Action| match action {
            Action::Send { worker, frame } if frame.starts_with(b"{\"recall\"") => Some(*worker),
            _ => None,
        };
        let recalled = self.actions.iter().filter_map(is_recall).collect();
        self.actions.retain(|action| is_recall(action).is_none());
        recalled
    }

    /// Settlements since this was asked last.
    fn settled(&mut self) -> Vec<(u64, Settlement)> {
        let settled = self.actions.iter().filter_map(|action| match action {
            Action::Settle { handle: Handle(number), settlement } => Some((*number, settlement.clone())),
            _ => None,
        });
        let settled = settled.collect();
        self.actions.retain(|action| !matches!(action, Action::Settle { .. }));
        settled
    }

    fn is_killed(&self, worker: WorkerId) -> bool {
        let kill = |action: &Action| matches!(action, Action::Signal { worker: other, signal: Signal::Kill } if *other == worker);
        self.actions.iter().any(kill)
    }

    fn ahead(&self, worker: WorkerId) -> usize {
        self.core.slots[worker.slot].process().unwrap().in_flight.ahead()
    }
}

/// The tasks among these that this worker was sent.
fn tasks_of(sent: &[(WorkerId, u64)], worker: WorkerId) -> Vec<u64> {
    sent.iter().filter(|(other, _)| *other == worker).map(|(_, number)| *number).collect()
}

#[test]
fn free_workers_come_first_and_the_others_are_filled_in_turn_up_to_the_limit() {
    let mut world = World::of(2);
    world.deliver(6);
    let mut sent: Vec<usize> = world.sent().into_iter().map(|(worker, _)| worker.slot).collect();
    sent[..2].sort_unstable();
    assert_eq!(sent[..2], [0, 1], "each has one in hand before anybody has one ahead");
    assert_eq!((world.ahead(ONE), world.ahead(TWO)), (2, 2));
    world.deliver(400);
    assert_eq!((world.ahead(ONE), world.ahead(TWO)), (MOST_AHEAD, MOST_AHEAD));
    assert_eq!(world.core.pools[0].waiting.len(), 406 - 2 * (MOST_AHEAD + 1));
}

#[test]
fn a_worker_is_filled_again_when_half_of_its_room_is_free_and_with_all_of_it() {
    let mut world = World::of(1);
    world.deliver(400);
    let first = world.sent()[0].1;
    for number in first..first + 31 {
        world.ends(ONE, number);
        assert!(world.sent().is_empty(), "{number}");
    }
    world.ends(ONE, first + 31);
    assert_eq!((world.sent().len(), world.ahead(ONE)), (32, MOST_AHEAD));
}

#[test]
fn nothing_is_sent_ahead_where_a_promise_could_be_broken() {
    let foo = || Queue::new("foo", "kind");
    let unique = Unique::new(Template::parse("{payload}").unwrap());
    let plans = [
        ("concurrency", Queue { concurrency: 2, ..foo() }),
        ("acks", Queue { acks: Acks::Early, ..foo() }),
        ("rate", Queue { rate: Some(Rate { calls: 1000, period: Duration::from_secs(1) }), ..foo() }),
        ("unique", Queue { unique: Some(unique), ..foo() }),
    ];
    for (what, settings) in plans {
        let mut core = World::of(1).core;
        core.pools[0].rate = settings.rate.map(crate::master::core::state::window::Window::new);
        core.pools[0].plan.settings = settings;
        assert_eq!(core.pools[0].most_ahead(), 0, "{what}");
    }
    let mut world = World::with(foo(), |plan| Plan { max_in_hand: Some(5), ..plan });
    world.deliver(5);
    assert_eq!(world.sent().len(), 1, "with a limit over all queues");
}

#[test]
fn a_worker_has_no_more_tasks_than_are_left_to_it() {
    let mut settings = Queue::new("foo", "kind");
    settings.recycle.max_tasks = Some(1000);
    let mut world = World::new(settings);
    let life = world.core.slots[0].process_mut().unwrap();
    let most = (1000.0 * life.recycle_jitter).ceil() as u64;
    life.tasks = most - 10;
    world.deliver(50);
    assert_eq!(world.sent().len(), 10);
}

#[test]
fn a_death_is_blamed_on_the_task_in_hand_and_the_others_are_next() {
    let mut world = World::of(1);
    let last = world.deliver(4);
    let first = last - 3;
    world.ends(ONE, first);
    world.sent();
    world.settled();
    world.dies(ONE);
    let settled = world.settled();
    assert!(
        matches!(&settled[..], [(number, Settlement::Dead(failure))]
        if *number == first + 1 && failure.attempts == 1 && failure.reason == Reason::Crash && !failure.error.contains("one of")),
        "{settled:?}"
    );
    let again = WorkerId { slot: 0, life: 2 };
    world.ready(again);
    assert_eq!(world.sent(), [(again, first + 2), (again, last)], "in their order");
}

#[test]
fn what_is_behind_a_long_task_is_recalled_and_done_by_another() {
    let mut world = World::of(2);
    let last = world.deliver(6);
    let sent = world.sent();
    let of = |worker| tasks_of(&sent, worker);
    let (mine, others) = (of(ONE), of(TWO));
    assert_eq!(mine.len() + others.len(), 6);
    for number in &others {
        world.ends(TWO, *number);
    }
    world.passes(LONG.saturating_sub(Duration::from_micros(1)));
    assert!(world.recalled().is_empty());
    world.passes(Duration::from_micros(1));
    assert_eq!(world.recalled(), [ONE]);
    world.passes(Duration::from_millis(20));
    assert!(world.recalled().is_empty(), "one recall at a time");
    world.returns(ONE, mine[1..].iter().copied());
    let tasks: Vec<u64> =
        world.sent().into_iter().map(|(worker, number)| (assert_eq!(worker, TWO), number).1).collect();
    assert_eq!(tasks, mine[1..], "in their order, the last of all among them: {last}");
    assert!(world.settled().iter().all(|(_, settlement)| matches!(settlement, Settlement::Done { .. })));
}

#[test]
fn nothing_is_sent_behind_a_long_task_where_it_would_be_recalled_again() {
    let mut world = World::of(2);
    world.deliver(4);
    let sent = world.sent();
    world.passes(LONG);
    assert_eq!(world.recalled(), [ONE, TWO]);
    for worker in [ONE, TWO] {
        let (_, last) = sent.iter().rev().find(|(other, _)| *other == worker).unwrap();
        world.returns(worker, [*last]);
    }
    assert_eq!((world.sent(), world.recalled()), (Vec::new(), Vec::new()), "both wait here for whoever is free first");
    let first = sent.iter().find(|(worker, _)| *worker == ONE).unwrap().1;
    world.ends(ONE, first);
    assert_eq!(world.sent().len(), 2);
}

#[test]
fn a_worker_that_is_added_is_one_more_for_what_is_behind_a_long_task() {
    let mut world = World::of(1);
    let last = world.deliver(2);
    world.passes(LONG * 3);
    assert!(world.recalled().is_empty());
    world.tell(Event::DescriptorsCounted(u64::MAX));
    world.commands(Command::Scale { queue: "foo".to_owned(), processes: 2 });
    assert!(world.recalled().is_empty(), "it is not ready");
    world.sent();
    world.ready(TWO);
    assert_eq!(world.recalled(), [ONE]);
    world.returns(ONE, [last]);
    assert_eq!(world.sent(), [(TWO, last)]);
}

#[test]
fn a_worker_that_does_several_at_once_gets_nothing_ahead_whatever_it_says() {
    let mut world = World::of(1);
    world.dies(ONE);
    let (worker, wants) = (WorkerId { slot: 0, life: 2 }, Wants::default());
    let ready = Ready { protocol: PROTOCOL, name: None, concurrency: 2, ahead: 64, wants, celery: None };
    world.passes(Duration::from_secs(1));
    world.tell(Event::Said { worker, frame: FromWorker::Ready(ready) });
    world.deliver(3);
    assert_eq!(world.sent().len(), 1);
}

#[test]
fn nothing_is_sent_behind_a_task_that_takes_long_already() {
    let mut world = World::of(1);
    world.deliver(1);
    world.sent();
    world.passes(LONG);
    world.deliver(5);
    assert_eq!(world.sent(), []);
}

#[test]
fn where_no_other_worker_is_here_those_of_other_masters_get_what_is_behind_a_long_task_after_a_lull() {
    let mut world = World::of(1);
    let last = world.deliver(3);
    world.passes(LONG * 3);
    assert!(world.recalled().is_empty(), "not at once: nobody here could do it");
    world.passes(LULL);
    assert_eq!(world.recalled(), [ONE]);
    world.settled();
    world.returns(ONE, [last - 1, last]);
    assert_eq!(world.settled(), [(last - 1, Settlement::Release), (last, Settlement::Release)]);
}

#[test]
fn what_comes_back_late_is_for_others_if_nobody_here_can_begin_it() {
    let mut world = World::of(2);
    world.deliver(4);
    let sent = world.sent();
    let of = |worker| tasks_of(&sent, worker);
    world.passes(LONG);
    world.passes(LULL);
    for worker in [ONE, TWO] {
        world.returns(worker, of(worker)[1..].iter().copied());
    }
    world.passes(Duration::from_secs(1));
    let released = world.settled().iter().filter(|(_, settlement)| *settlement == Settlement::Release).count();
    assert_eq!((released, world.core.pools[0].waiting.len()), (2, 0));
}

#[test]
fn an_outcome_out_of_turn_is_a_fault() {
    let mut world = World::of(1);
    let last = world.deliver(3);
    world.ends(ONE, last);
    assert!(world.is_killed(ONE));
    world.settled();
    world.dies(ONE);
    let settled = world.settled();
    assert!(matches!(&settled[..], [(number, Settlement::Dead(_))] if *number == last - 2), "{settled:?}");
}

#[test]
fn what_a_process_leaves_running_does_not_keep_others_waiting() {
    let mut world = World::of(2);
    world.deliver(6);
    let sent = world.sent();
    let of = |worker| tasks_of(&sent, worker);
    for number in of(TWO) {
        world.ends(TWO, number);
    }
    world.tell(Event::LeftProcesses(ONE));
    let tasks: Vec<u64> = world.sent().into_iter().map(|(_, number)| number).collect();
    assert_eq!(tasks, of(ONE)[1..]);
}

#[test]
fn the_task_that_the_master_takes_to_be_in_hand_may_be_returned_too() {
    let mut world = World::of(2);
    let last = world.deliver(4);
    let mine: Vec<u64> =
        world.sent().into_iter().filter(|(worker, _)| *worker == ONE).map(|(_, number)| number).collect();
    assert_eq!(mine.len(), 2, "of {last}");
    world.passes(LONG);
    world.recalled();
    world.returns(ONE, mine.clone());
    // Both have a worker again: one is free.
    assert_eq!(world.sent(), [(ONE, mine[0]), (ONE, mine[1])]);
}

#[test]
fn a_time_limit_counts_from_the_outcome_before() {
    let limit = Duration::from_secs(2);
    let mut world = World::new(Queue { timeout: Some(limit), ..Queue::new("foo", "kind") });
    let last = world.deliver(2);
    world.at += Duration::from_millis(1900);
    world.ends(ONE, last - 1);
    world.passes(limit.saturating_sub(Duration::from_millis(1)));
    assert!(!world.is_killed(ONE));
    world.passes(Duration::from_millis(1));
    assert!(world.is_killed(ONE));
}

#[test]
fn each_end_of_the_work_on_a_queue_recalls_and_what_comes_back_goes_to_the_transport() {
    for what in ["pause", "stop", "loss"] {
        let mut world = World::of(1);
        let last = world.deliver(3);
        match what {
            "pause" => drop(world.commands(Command::Pause { queue: "foo".to_owned(), limit_ms: None, unkept: false })),
            "stop" => world.tell(Event::StopAsked),
            _ => {
                let (error, again_in) = (transport::Error::Closed, Duration::from_secs(1));
                world.tell(Event::Transport(transport::Event::Lost { error, again_in }));
            }
        }
        assert_eq!(world.recalled(), [ONE], "{what}");
        world.settled();
        world.returns(ONE, [last - 1, last]);
        let settled = world.settled();
        if what == "loss" {
            assert_eq!(settled, [], "their handles are void: they come again");
        } else {
            assert_eq!(settled, [(last, Settlement::Release), (last - 1, Settlement::Release)], "{what}");
        }
        assert_eq!(world.core.pools[0].in_hand, 1, "{what}");
    }
}

#[test]
fn a_cancelled_task_that_is_not_begun_costs_no_worker() {
    let mut world = World::of(1);
    let last = world.deliver(3);
    let answer = world.commands(Command::Cancel { id: last.to_string() });
    assert_eq!(answer, Answer::said("it is taken back from its worker foo[1]; it becomes a dead letter"));
    assert_eq!(world.recalled(), [ONE]);
    world.returns(ONE, [last - 1, last]);
    assert!(!world.is_killed(ONE));
    let settled = world.settled();
    assert!(
        matches!(&settled[..], [(number, Settlement::Dead(failure))]
            if *number == last && failure.reason == Reason::Cancelled && failure.attempts == 0),
        "{settled:?}"
    );
    assert_eq!(world.core.pools[0].in_hand, 2, "the one between them is with the worker again");
}

#[test]
fn a_cancelled_task_that_was_begun_meanwhile_is_ended_with_its_worker() {
    let mut world = World::of(1);
    let last = world.deliver(3);
    world.commands(Command::Cancel { id: (last - 1).to_string() });
    world.ends(ONE, last - 2);
    assert!(!world.is_killed(ONE), "the answer tells whether it was begun");
    world.returns(ONE, [last]);
    assert!(world.is_killed(ONE));
    world.settled();
    world.dies(ONE);
    let settled = world.settled();
    assert!(
        matches!(&settled[..], [(number, Settlement::Dead(failure))]
            if *number == last - 1 && failure.reason == Reason::Cancelled),
        "{settled:?}"
    );
}

#[test]
fn a_worker_that_does_not_answer_gets_nothing_ahead_any_more() {
    let mut world = World::of(2);
    let last = world.deliver(4);
    let mine: Vec<u64> =
        world.sent().into_iter().filter(|(worker, _)| *worker == ONE).map(|(_, number)| number).collect();
    world.passes(LONG);
    assert!(world.recalled().contains(&ONE));
    world.passes(ANSWER_LIMIT);
    let told = |action: &Action| matches!(action, Action::Log { level: Level::Warning, message, .. } if message.contains("did not answer a recall"));
    assert!(world.actions.iter().any(told));
    // Late, and counts all the same.
    world.returns(ONE, [mine[1]]);
    world.ends(ONE, mine[0]);
    assert_eq!(world.core.slots[0].process().unwrap().ahead, 0, "of {last}");
}

#[test]
fn a_return_that_nobody_asked_for_is_a_fault() {
    let mut world = World::of(1);
    let last = world.deliver(3);
    world.returns(ONE, []);
    assert!(!world.is_killed(ONE), "of nothing it is none");
    world.returns(ONE, [last]);
    assert!(world.is_killed(ONE));
    let mut world = World::of(1);
    let last = world.deliver(3);
    world.commands(Command::Pause { queue: "foo".to_owned(), limit_ms: None, unkept: false });
    world.returns(ONE, [last - 2, last, 4711]);
    assert!(world.is_killed(ONE), "a task that it never had");
    world.settled();
    world.dies(ONE);
    assert_eq!(
        world.settled(),
        [(last - 1, Settlement::Release)],
        "it had returned the one in hand, and begun no other"
    );
}

#[test]
fn what_came_again_uncounted_while_it_was_ahead_is_not_begun_when_it_is_given_back() {
    let mut world = World::of(1);
    let first = world.last + 1;
    let deliveries = (first..first + 3).map(|number| delivery(number, Some(number))).collect();
    world.tell(Event::Transport(transport::Event::Delivered(deliveries)));
    assert_eq!(world.sent().len(), 3);
    world.tell(Event::Transport(transport::Event::Lost { error: transport::Error::Closed, again_in: Duration::ZERO }));
    world.tell(attached(2));
    let again = Delivery { handle: Handle(100), redelivered: true, ..delivery(first + 2, Some(first + 2)) };
    world.tell(Event::Transport(transport::Event::CameAgain(vec![again])));
    world.returns(ONE, [first + 1, first + 2]);
    assert_eq!(world.settled(), [(100, Settlement::Release)]);
    assert!(world.sent().is_empty());
}
