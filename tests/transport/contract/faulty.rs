//! A transport that fails on command, before any other.
//!
//! It breaks what a broker breaks and a memory does not: the session is lost with every handle, submits are
//! refused, settlements are never answered.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use asynctask::{
    task::QueueIndex,
    transport::{Error, Event, Events, QueueSetup, Request, Transport, Uri, open},
};
use tokio::sync::mpsc;

use super::{
    Tenant,
    party::{Party, done, ids, setup, tasks},
};

/// What is commanded.
#[derive(Default)]
pub struct Commands {
    /// Submits are answered with an error, and not stored.
    pub refuse_submits: AtomicBool,
    /// Settlements are lost on the way.
    pub swallow_settlements: AtomicBool,
    sessions: AtomicU32,
    /// Queues that are to come or go, and are not told of yet.
    unanswered: AtomicU32,
}

impl Commands {
    /// Whether an answer is owed; it is given then.
    fn answers(&self) -> bool {
        let one_less = |count: u32| count.checked_sub(1);
        self.unanswered.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok()
    }
}

/// The decorator.
pub struct Faulty {
    address: Uri,
    events: Events,
    commands: Arc<Commands>,
    session: Mutex<Session>,
}

/// What a new session needs of the one before.
#[derive(Default)]
struct Session {
    inner: Option<(Box<dyn Transport>, JoinHandle<()>)>,
    queues: Option<Vec<QueueSetup>>,
    /// What was asked for since, in order: credits, queues that come and go.
    later: Vec<Later>,
}

#[derive(Clone)]
enum Later {
    Credit(QueueIndex, u32),
    Add(QueueIndex, QueueSetup),
    Remove(QueueIndex),
}

impl Later {
    fn again(self) -> Request {
        match self {
            Self::Credit(queue, credit) => Request::Credit { queue, credit },
            Self::Add(queue, setup) => Request::AddQueue { queue, setup },
            Self::Remove(queue) => Request::RemoveQueue { queue },
        }
    }
}

impl Faulty {
    pub fn new(address: Uri, events: Events, commands: Arc<Commands>) -> Self {
        let faulty = Self { address, events, commands, session: Mutex::default() };
        faulty.session.lock().expect("no panic").inner = Some(faulty.start());
        faulty
    }

    fn start(&self) -> (Box<dyn Transport>, JoinHandle<()>) {
        let (sender, mut inner) = mpsc::unbounded_channel();
        let transport = open(&self.address, sender).expect("a thread for the transport");
        let (outer, commands) = (self.events.clone(), Arc::clone(&self.commands));
        let relay = std::thread::spawn(move || {
            while let Some(event) = inner.blocking_recv() {
                let event = match event {
                    Event::Attached { .. } => {
                        Event::Attached { session: commands.sessions.fetch_add(1, Ordering::SeqCst) + 1 }
                    }
                    // Asked again after a loss; the first answer was enough.
                    Event::QueueAdded { .. } | Event::QueueRemoved { .. } if !commands.answers() => continue,
                    event => event,
                };
                drop(outer.send(event));
            }
        });
        (transport, relay)
    }

    /// The session is lost, and rebuilt at once.
    pub fn lose(&self) {
        let mut session = self.session.lock().expect("no panic");
        if let Some((transport, relay)) = session.inner.take() {
            drop(transport);
            relay.join().expect("it only passes on");
        }
        let error = Error::Lost { uri: self.address.to_string(), cause: "on command".to_owned() };
        drop(self.events.send(Event::Lost { error, again_in: Duration::ZERO }));
        let (transport, relay) = self.start();
        if let Some(queues) = session.queues.clone() {
            transport.ask(Request::Attach { queues, passive: false });
        }
        session.later.iter().cloned().for_each(|later| transport.ask(later.again()));
        session.inner = Some((transport, relay));
    }
}

impl Transport for Faulty {
    fn ask(&self, request: Request) {
        let mut session = self.session.lock().expect("no panic");
        match &request {
            Request::Attach { queues, .. } => session.queues = Some(queues.clone()),
            Request::Credit { queue, credit } => session.later.push(Later::Credit(*queue, *credit)),
            Request::AddQueue { queue, setup } => {
                self.commands.unanswered.fetch_add(1, Ordering::SeqCst);
                session.later.push(Later::Add(*queue, setup.clone()));
            }
            Request::RemoveQueue { queue } => {
                self.commands.unanswered.fetch_add(1, Ordering::SeqCst);
                session.later.push(Later::Remove(*queue));
            }
            Request::Settle(_) if self.commands.swallow_settlements.load(Ordering::SeqCst) => return,
            _ => {}
        }
        match request {
            Request::Submit { tasks, reply } if self.commands.refuse_submits.load(Ordering::SeqCst) => {
                let queue = tasks.first().map(|task| task.queue.clone()).unwrap_or_default();
                drop(reply.send(Err(Error::NotStored { queue, cause: "on command".to_owned() })));
            }
            request => session.inner.as_ref().expect("there is always a session").0.ask(request),
        }
    }
}

/// A memory behind the decorator.
pub struct FaultyMemory {
    address: Uri,
    commands: Arc<Commands>,
}

impl Tenant for FaultyMemory {
    fn fresh() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let address = Uri::Localmem(format!("faulty-{}", NEXT.fetch_add(1, Ordering::SeqCst)));
        Some(Self { address, commands: Arc::default() })
    }

    fn open(&self, events: Events) -> Box<dyn Transport> {
        Box::new(Faulty::new(self.address.clone(), events, Arc::clone(&self.commands)))
    }
}

#[test]
fn a_lost_session_voids_its_handles() {
    let tenant = FaultyMemory::fresh().expect("always possible");
    let (events, mut told) = mpsc::unbounded_channel();
    let faulty = Faulty::new(tenant.address.clone(), events, Arc::default());
    faulty.ask(Request::Attach { queues: vec![setup("foo", &[])], passive: false });
    faulty.ask(Request::Credit { queue: QueueIndex(0), credit: 2 });
    asynctask::transport::call(&faulty, |reply| Request::Submit { tasks: tasks("foo", 2), reply }).expect("stored");
    assert!(matches!(told.blocking_recv(), Some(Event::Attached { session: 1 })));
    let Some(Event::Delivered(first)) = told.blocking_recv() else { panic!("no delivery") };
    faulty.lose();
    assert!(matches!(told.blocking_recv(), Some(Event::Lost { .. })));
    assert!(matches!(told.blocking_recv(), Some(Event::Attached { session: 2 })));
    let Some(Event::Delivered(second)) = told.blocking_recv() else { panic!("no delivery") };
    assert_eq!(ids(&first), ids(&second));
    assert_eq!(first[0].identity, second[0].identity);
    faulty.ask(Request::Settle(vec![(first[0].handle, done()), (second[1].handle, done())]));
    assert!(matches!(told.blocking_recv(), Some(Event::Settled(handles)) if handles == [second[1].handle]));
}

#[test]
fn queues_come_and_go_for_all_sessions() {
    let tenant = FaultyMemory::fresh().expect("always possible");
    let (events, mut told) = mpsc::unbounded_channel();
    let faulty = Faulty::new(tenant.address.clone(), events, Arc::default());
    faulty.ask(Request::Attach { queues: vec![setup("foo", &[])], passive: false });
    assert!(matches!(told.blocking_recv(), Some(Event::Attached { session: 1 })));
    faulty.ask(Request::AddQueue { queue: QueueIndex(1), setup: setup("bar", &[]) });
    assert!(matches!(told.blocking_recv(), Some(Event::QueueAdded { queue: QueueIndex(1) })));
    faulty.ask(Request::RemoveQueue { queue: QueueIndex(0) });
    assert!(matches!(told.blocking_recv(), Some(Event::QueueRemoved { queue: QueueIndex(0) })));
    faulty.ask(Request::Credit { queue: QueueIndex(1), credit: 1 });
    faulty.lose();
    assert!(matches!(told.blocking_recv(), Some(Event::Lost { .. })));
    assert!(matches!(told.blocking_recv(), Some(Event::Attached { session: 2 })));
    for queue in ["foo", "bar"] {
        asynctask::transport::call(&faulty, |reply| Request::Submit { tasks: tasks(queue, 1), reply }).expect("stored");
    }
    let Some(Event::Delivered(deliveries)) = told.blocking_recv() else { panic!("no delivery") };
    assert_eq!((deliveries.len(), deliveries[0].queue), (1, QueueIndex(1)));
}

#[test]
fn a_refused_submit_is_answered() {
    let tenant = FaultyMemory::fresh().expect("always possible");
    tenant.commands.refuse_submits.store(true, Ordering::SeqCst);
    let client = Party::client(&tenant);
    let answer = client.call(|reply| Request::Submit { tasks: tasks("foo", 1), reply });
    assert!(matches!(answer, Err(Error::NotStored { .. })), "{answer:?}");
    assert_eq!(client.depth("foo").ready, 0);
}

#[test]
fn swallowed_settlements_come_again() {
    let tenant = FaultyMemory::fresh().expect("always possible");
    let mut party = Party::attached(&tenant, &[setup("foo", &[])], 1);
    party.submit(tasks("foo", 1));
    let delivery = party.delivery();
    tenant.commands.swallow_settlements.store(true, Ordering::SeqCst);
    party.settle(delivery.handle, done());
    party.kill();
    assert_eq!(Party::attached(&tenant, &[setup("foo", &[])], 1).delivery().task.deliveries, 1);
}
