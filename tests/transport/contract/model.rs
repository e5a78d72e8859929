//! The simulation's model of a transport as a tenant: what the core is proved against keeps the contract of the transports.
//!
//! The model (`tests/simulation/broker.rs`) is synchronous and has one master. Here a thread owns it, takes requests,
//! lets them take effect at once, in order, and waits for delays in real time. What the model does not have is counted and kept
//! here: depths, and dead letters to be read. Clauses that would test nothing but that are left out, each with its reason.

#[allow(dead_code, reason = "written for the simulation; this program uses a part of it")]
#[path = "../../simulation/broker.rs"]
mod broker;
#[allow(dead_code, reason = "written for the simulation; this program uses a part of it")]
#[path = "../../simulation/celery_queues.rs"]
mod celery_queues;
#[allow(dead_code, reason = "written for the simulation; this program uses a part of it")]
#[path = "../../simulation/parked_before.rs"]
mod parked_before;
#[allow(dead_code, reason = "written for the simulation; this program uses a part of it")]
#[path = "../../simulation/rng.rs"]
mod rng;
#[allow(dead_code, reason = "written for the simulation; this program uses a part of it")]
#[path = "../../simulation/settings.rs"]
mod settings;

use std::{
    collections::BTreeMap,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use asynctask::{
    clock::{Clock, Timestamp},
    task::{Delivery, Failure, Handle, NewTask, QueueIndex, Settlement},
    transport::{DeadLetter, Depth, Event, Events, Request, Transport, Visit, Walked},
};
use broker::{Broker, Effect, Joining, Message, Next, Place};
use rng::Rng;

use super::Tenant;

/// From a loss to the next session.
const OUTAGE: Duration = Duration::from_millis(50);

const ONE_MASTER: &str = "the model has one master";
const COMMANDS: &str = "asked for by commands alone, never by the core";
const DEAD_LETTERS: &str = "the core stores dead letters and never reads them";
const SCHEDULER: &str = "the lease and its memory are the scheduler's, which is no part of the simulation";
const JOBS: &str = "ledgers and jobs are the coordinator's, which is no part of the simulation's broker";
const MEMOS: &str = "the core hands memos on and never reads them";

/// What is not held against the model, and why.
const LEFT_OUT: &[(&str, &[&str])] = &[
    (ONE_MASTER, &["two_consumers_share_a_queue", "survey_sees_what_others_hold"]),
    (
        COMMANDS,
        &[
            "depths_of_nothing",
            "known_queues_are_sorted",
            "a_purge_deletes_what_waits_and_nothing_else",
            "a_deleted_queue_is_gone_and_can_be_made_again",
            "a_queue_with_tasks_in_hand_is_not_deleted",
            "a_cancelled_task_is_removed_where_it_waits",
            "what_does_not_wait_is_not_cancelled",
        ],
    ),
    (
        DEAD_LETTERS,
        &[
            "bytes_survive_every_move",
            "a_dead_letter_says_all",
            "dead_letters_are_walked_oldest_first_and_kept",
            "a_walk_can_stop",
            "a_walk_removes",
            "a_walk_retries",
            "a_walk_retries_with_another_body",
            "a_retried_dead_letter_may_be_expired",
            "a_walk_of_many",
            "a_retried_dead_letter_remembers_its_ends",
            "a_walk_waits_when_it_is_told_to",
            "dead_letters_are_purged_after_their_time",
            "dead_letters_are_grouped_by_their_mistake",
            "dead_letters_are_paged_the_newest_first",
            "a_dead_letter_is_found_by_its_id_and_by_its_place",
            "a_memo_is_in_the_dead_letter_and_comes_back_from_it",
        ],
    ),
    (MEMOS, &["a_memo_comes_back_with_its_task", "a_memo_of_an_accepted_task_is_kept"]),
    (
        SCHEDULER,
        &[
            "the_lease_has_one_holder",
            "the_lease_is_taken_over_from_a_closed_holder",
            "the_lease_is_taken_over_from_a_killed_holder",
            "a_lease_given_back_can_be_asked_for_again",
            "the_memory_of_schedules_is_seen_without_the_lease",
            "a_moment_fires_once",
            "a_skipped_moment_is_remembered",
            "firing_needs_the_lease",
        ],
    ),
];

/// What does not hold for classic queues, on a broker as in the model: what comes again is passed to the tail and counted, an
/// orderly return like any other.
const NOT_CLASSIC: &[&str] = &[
    "release_puts_back_without_an_attempt",
    "snooze_waits_and_counts_nothing",
    "orderly_returns_add_up_to_no_limit",
    "killed_deliveries_come_back_counted",
    "closed_deliveries_come_back_uncounted",
];

/// The model, on a thread of its own that ends with the last sender. A classic queue counts no deliveries: what comes again is
/// told apart, and passed on.
pub struct Model<const CLASSIC: bool> {
    store: mpsc::Sender<Input>,
    clients: AtomicU64,
}

/// What the model's thread is told.
enum Input {
    Opened {
        client: u64,
        events: Events,
    },
    Asked {
        client: u64,
        request: Request,
    },
    /// A client's transport is dropped, as if its process had been killed if it was not closed before.
    Dropped {
        client: u64,
    },
    Lose,
}

impl<const CLASSIC: bool> Tenant for Model<CLASSIC> {
    const FINDS_BY_ID: bool = false;
    const LISTS_QUEUES: bool = false;
    const LOSES_SESSIONS: bool = true;
    const SHOWS_SCHEDULES: bool = false;

    fn fresh() -> Option<Self> {
        let (store, inbox) = mpsc::channel();
        std::thread::spawn(move || Store::new(CLASSIC).run(&inbox));
        Some(Self { store, clients: AtomicU64::new(0) })
    }

    fn left_out(clause: &str) -> Option<&'static str> {
        if CLASSIC && NOT_CLASSIC.contains(&clause) {
            return Some("a classic queue counts all that comes again, and moves it to its tail");
        }
        if super::jobs::CLAUSES.contains(&clause) {
            return Some(JOBS);
        }
        LEFT_OUT.iter().find(|(_, clauses)| clauses.contains(&clause)).map(|(why, _)| *why)
    }

    fn open(&self, events: Events) -> Box<dyn Transport> {
        let client = self.clients.fetch_add(1, Ordering::Relaxed);
        self.store.send(Input::Opened { client, events }).expect("the model's thread lives");
        Box::new(Client { client, store: self.store.clone() })
    }

    fn lose(&self) {
        self.store.send(Input::Lose).expect("the model's thread lives");
    }
}

struct Client {
    client: u64,
    store: mpsc::Sender<Input>,
}

impl Transport for Client {
    fn ask(&self, request: Request) {
        let _ = self.store.send(Input::Asked { client: self.client, request });
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.store.send(Input::Dropped { client: self.client });
    }
}

/// What happens at its time.
#[derive(Clone, Copy)]
enum Due {
    /// A message's delay is over.
    Message(u64),
    Restore,
}

struct Store {
    broker: Broker,
    is_classic: bool,
    rng: Rng,
    clients: BTreeMap<u64, Events>,
    /// The client that is attached.
    master: Option<u64>,
    agenda: BTreeMap<(Timestamp, u64), Due>,
    serial: u64,
    /// What was settled by `Dead` and is not told to be stored.
    dying: BTreeMap<Handle, (Message, Box<Failure>)>,
    dead: Vec<(usize, DeadLetter)>,
}

impl Store {
    fn new(is_classic: bool) -> Self {
        let mut broker = Broker::default();
        broker.answers_accept_at_once = true;
        Self {
            broker,
            is_classic,
            rng: Rng::new(4711),
            clients: BTreeMap::new(),
            master: None,
            agenda: BTreeMap::new(),
            serial: 0,
            dying: BTreeMap::new(),
            dead: Vec::new(),
        }
    }

    fn run(mut self, inbox: &mpsc::Receiver<Input>) {
        loop {
            let received = match self.agenda.first_key_value() {
                None => inbox.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
                Some(((at, _), _)) => inbox.recv_timeout(until(*at)),
            };
            match received {
                Ok(input) => self.take(input),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
            let now = Clock::wall();
            while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= now) {
                match entry.remove() {
                    Due::Message(number) => self.is_due(number),
                    Due::Restore => self.restore(),
                }
            }
            self.deliver();
        }
    }

    fn queue_named(&mut self, name: &str) -> usize {
        let queue = self.broker.queue_named(name);
        self.broker.classic[queue] = self.is_classic;
        queue
    }

    fn after(&mut self, delay: Duration, due: Due) {
        self.serial += 1;
        self.agenda.insert((Clock::wall().plus(delay), self.serial), due);
    }

    fn is_due(&mut self, number: u64) {
        if let Some(message) = self.broker.messages.get_mut(&number).filter(|message| message.place == Place::Delayed) {
            message.place = Place::Ready;
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Opened { client, events } => drop(self.clients.insert(client, events)),
            Input::Asked { client, request } => self.asked(client, request),
            Input::Dropped { client } => {
                if self.master == Some(client) {
                    self.detach();
                }
                self.clients.remove(&client);
            }
            Input::Lose => {
                let (event, back) = self.broker.lose(OUTAGE);
                self.tell(event);
                for number in back {
                    self.after(Duration::ZERO, Due::Message(number));
                }
                self.after(OUTAGE, Due::Restore);
            }
        }
    }

    fn asked(&mut self, client: u64, request: Request) {
        match request {
            Request::Attach { queues, .. } => {
                assert_eq!(self.master.replace(client), None, "{ONE_MASTER}");
                // Those that are attached at first are not told to be added.
                for (index, setup) in queues.into_iter().enumerate() {
                    let queue = self.queue_named(&setup.name);
                    let joining = Joining { index, queue, keep: setup.dead.keep, refuse: false };
                    self.broker.is_up = true;
                    drop(self.broker.effect(Effect::Add(joining), Duration::ZERO, &mut self.rng));
                }
                self.restore();
            }
            Request::AddQueue { queue, setup } => {
                let joining = Joining {
                    index: queue.0,
                    queue: self.queue_named(&setup.name),
                    keep: setup.dead.keep,
                    refuse: false,
                };
                self.perform(Effect::Add(joining));
            }
            Request::RemoveQueue { queue } => self.perform(Effect::RemoveQueue(queue.0)),
            Request::Credit { queue: QueueIndex(index), credit } => self.perform(Effect::Credit(index, credit)),
            Request::Settle(settlements) => settlements.into_iter().for_each(|(of, how)| self.settle(of, how)),
            Request::Lock { handle, .. } => self.perform(Effect::Lock(handle)),
            Request::Survey { serial, .. } => {
                let effect = self.broker.ask_survey(serial);
                self.perform(effect);
            }
            Request::Submit { tasks, reply } => {
                for task in tasks {
                    self.submit(task);
                }
                drop(reply.send(Ok(())));
            }
            Request::Depths { queues, reply } => {
                drop(reply.send(Ok(queues.iter().map(|queue| self.depth(&queue.queue)).collect())));
            }
            Request::WalkDead { queue, mut visit, reply } => {
                let queue = self.queue_named(&queue.queue);
                let letters = self.dead.iter().filter(|(of, _)| *of == queue);
                let seen = letters.filter(|(_, letter)| visit(letter) == Visit::Keep).count() as u64;
                drop(reply.send(Ok(Walked { seen, ..Walked::default() })));
            }
            Request::Close { reply } => {
                if self.master == Some(client) {
                    for handle in self.broker.handles.keys().copied().collect::<Vec<_>>() {
                        self.perform(Effect::Store(handle, Settlement::Release));
                    }
                    self.detach();
                }
                drop(reply.send(Ok(())));
            }
            // The reply is dropped, which says that the transport is closed.
            _ => {}
        }
    }

    fn submit(&mut self, task: NewTask) {
        let (due_at, delay) = (Clock::wall().plus(task.delay), task.delay);
        let queue = self.queue_named(&task.queue);
        let message = Message {
            place: if delay.is_zero() { Place::Ready } else { Place::Delayed },
            came_at: Some(Duration::from_millis(due_at.0.unsigned_abs())),
            ..Message::of(0, queue, task)
        };
        let number = self.broker.put(message);
        if !delay.is_zero() {
            self.after(delay, Due::Message(number));
        }
    }

    fn settle(&mut self, handle: Handle, settlement: Settlement) {
        if let Settlement::Dead(failure) = &settlement {
            let number = self.broker.handles.get(&handle);
            let held = number.and_then(|number| self.broker.messages.get(number));
            let message = held.or_else(|| self.broker.accepted.get(&handle).map(|accepted| &accepted.message));
            if let Some(message) = message {
                self.dying.insert(handle, (message.clone(), failure.clone()));
            }
        }
        self.perform(Effect::Store(handle, settlement));
    }

    fn perform(&mut self, effect: Effect) {
        let now = Duration::from_millis(Clock::wall().0.unsigned_abs());
        for next in self.broker.effect(effect, now, &mut self.rng) {
            match next {
                Next::Tell(event) => self.tell(event),
                Next::Due(number, delay) => self.after(delay, Due::Message(number)),
                Next::Then(effect) => self.perform(effect),
            }
        }
    }

    fn restore(&mut self) {
        if self.master.is_none() {
            return;
        }
        let (event, decided) = self.broker.restore();
        self.tell(event);
        for event in self.broker.join_waiting() {
            self.tell(event);
        }
        for effect in decided {
            self.perform(effect);
        }
    }

    fn deliver(&mut self) {
        for event in self.broker.remove_idle_queues() {
            self.tell(event);
        }
        let is_uncounted =
            |broker: &Broker, delivery: &Delivery| broker.messages[&broker.handles[&delivery.handle]].uncounted;
        let deliveries = self.broker.pump(&mut self.rng);
        let (again, fresh): (Vec<_>, Vec<_>) =
            deliveries.into_iter().partition(|delivery| is_uncounted(&self.broker, delivery));
        if !again.is_empty() {
            self.tell(Event::CameAgain(again));
        }
        if !fresh.is_empty() {
            self.tell(Event::Delivered(fresh));
        }
    }

    fn tell(&mut self, event: Event) {
        if let Event::Stored(handle) = &event
            && let Some((message, failure)) = self.dying.remove(handle)
        {
            let letter = DeadLetter {
                id: message.id.unwrap_or_default(),
                queue: self.broker.names[message.queue].clone(),
                body: message.body,
                headers: message.headers,
                properties: None,
                reason: failure.reason.as_str().to_owned(),
                first_failed_at: message.first_failed_at.or(Some(failure.failed_at)),
                failure: *failure,
                history: Vec::new(),
                membership: None,
                memo: None,
            };
            self.dead.push((message.queue, letter));
        }
        if let Some(events) = self.master.and_then(|client| self.clients.get(&client)) {
            let _ = events.send(event);
        }
    }

    /// The master is gone, and with it all that it had accepted. What it held is ready again, in its place.
    fn detach(&mut self) {
        self.master = None;
        let broker = &mut self.broker;
        let (_, back) = broker.lose(Duration::ZERO);
        broker.accepted.clear();
        broker.in_hand_at_loss.clear();
        broker.members.clear();
        broker.down.clear();
        broker.joining.clear();
        broker.early_credit.clear();
        broker.leaving.clear();
        broker.credit.fill(0);
        broker.session = 0;
        for number in back {
            self.is_due(number);
        }
    }

    fn depth(&self, queue: &str) -> Depth {
        let Some(queue) = self.broker.names.iter().position(|name| name == queue) else { return Depth::default() };
        let count = |is: fn(&Place) -> bool| {
            let here = self.broker.messages.values().filter(|message| message.queue == queue);
            here.filter(|message| is(&message.place)).count() as u64
        };
        let accepted = self.broker.accepted.values().filter(|accepted| accepted.message.queue == queue).count() as u64;
        Depth {
            ready: count(|place| *place == Place::Ready),
            delayed: count(|place| *place == Place::Delayed),
            in_hand: count(|place| matches!(place, Place::InHand(_))) + accepted,
            failed: self.dead.iter().filter(|(of, _)| *of == queue).count() as u64,
            ..Depth::default()
        }
    }
}

fn until(at: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(at.0.saturating_sub(Clock::wall().0)).unwrap_or(0))
}
