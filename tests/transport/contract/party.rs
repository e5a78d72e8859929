//! One user of a store, and everything it has been told.

use std::time::Duration;

use asynctask::{
    celery::Protocol,
    clock::{Clock, Timestamp},
    task::{Delivery, Handle, NewTask, QueueIndex, Settlement},
    transport::{
        DeadLetter, DeadQueue, Depth, Error, Event, QueueSetup, Reply, Request, Transport, Visit, Visitor, Walked,
    },
};
use tokio::sync::{mpsc, oneshot};

use super::Tenant;

/// No single thing that a test waits for takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A transport with the receiving end of its events.
pub struct Party<'a, T: Tenant> {
    tenant: &'a T,
    transport: Option<Box<dyn Transport>>,
    events: mpsc::UnboundedReceiver<Event>,
    /// Received and not yet asked for.
    waiting: Vec<Event>,
    runtime: tokio::runtime::Runtime,
    serial: u64,
    /// Of deliveries that came again, about which this party knows nothing.
    passed: Vec<Handle>,
}

impl<'a, T: Tenant> Party<'a, T> {
    /// A transport that is attached to nothing.
    pub fn client(tenant: &'a T) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        Self {
            tenant,
            transport: Some(tenant.open(sender)),
            events,
            waiting: Vec::new(),
            runtime,
            serial: 0,
            passed: Vec::new(),
        }
    }

    /// A transport that is attached to these queues, with this credit for each.
    pub fn attached(tenant: &'a T, queues: &[QueueSetup], credit: u32) -> Self {
        let mut party = Self::client(tenant);
        party.ask(Request::Attach { queues: queues.to_vec(), passive: false });
        party.wait("Attached", |event| matches!(event, Event::Attached { .. }).then_some(()));
        if credit > 0 {
            (0..queues.len()).for_each(|queue| party.credit(queue, credit));
        }
        party
    }

    pub fn ask(&self, request: Request) {
        self.transport.as_ref().expect("open until killed or closed").ask(request);
    }

    pub fn credit(&self, queue: usize, credit: u32) {
        self.ask(Request::Credit { queue: QueueIndex(queue), credit });
    }

    pub fn settle(&self, handle: Handle, settlement: Settlement) {
        self.ask(Request::Settle(vec![(handle, settlement)]));
    }

    /// Settles and waits for the answer.
    pub fn settle_now(&mut self, handle: Handle, settlement: Settlement) {
        self.settle(handle, settlement);
        self.settled(&[handle]);
    }

    /// Asks for the key of a delivery.
    pub fn ask_key(&self, handle: Handle, key: &str) {
        self.ask(Request::Lock { handle, key: key.to_owned() });
    }

    /// Asks for the key of a delivery; the task that has it, if another one does.
    pub fn lock(&mut self, handle: Handle, key: &str) -> Option<String> {
        self.ask_key(handle, key);
        self.wait("Locked", |event| match event {
            Event::Locked { handle: of, held_by } => {
                assert_eq!(*of, handle, "an answer that nobody waits for");
                Some(held_by.clone())
            }
            _ => None,
        })
    }

    /// Waits until each of these handles was answered.
    pub fn settled(&mut self, handles: &[Handle]) {
        let mut open = handles.to_vec();
        while !open.is_empty() {
            let answered = self.wait("Settled", |event| match event {
                Event::Settled(handles) => Some(handles.clone()),
                _ => None,
            });
            for handle in answered {
                let place = open.iter().position(|one| *one == handle);
                open.swap_remove(place.unwrap_or_else(|| panic!("{handle:?} was answered, which nobody asked for")));
            }
        }
    }

    /// Waits for this many deliveries, in the order they came; more is a failure.
    pub fn deliveries(&mut self, count: usize) -> Vec<Delivery> {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(self.wait(&format!("{} of {count} deliveries", all.len()), |event| match event {
                Event::Delivered(deliveries) => Some(deliveries.clone()),
                _ => None,
            }));
        }
        assert_eq!(all.len(), count, "more came than were expected: {:?}", ids(&all));
        all
    }

    /// The next delivery, which comes alone.
    pub fn delivery(&mut self) -> Delivery {
        self.deliveries(1).remove(0)
    }

    /// The next deliveries, however many come at once.
    pub fn batch(&mut self) -> Vec<Delivery> {
        self.wait("a delivery", |event| match event {
            Event::Delivered(deliveries) => Some(deliveries.clone()),
            _ => None,
        })
    }

    /// The next deliveries, if they come in this time.
    pub fn batch_within(&mut self, time: Duration) -> Option<Vec<Delivery>> {
        let mut waiting = self.delivered_so_far();
        let delivered = |event| match event {
            Some(Event::Delivered(deliveries)) => Some(deliveries),
            _ => None,
        };
        if waiting.is_empty() {
            let next = self.runtime.block_on(async { tokio::time::timeout(time, self.events.recv()).await });
            let next = next.ok().flatten().and_then(|event| self.heard(event));
            waiting = delivered(next).unwrap_or_default();
        }
        (!waiting.is_empty()).then_some(waiting)
    }

    /// Whatever was delivered by now.
    pub fn delivered_so_far(&mut self) -> Vec<Delivery> {
        while let Ok(event) = self.events.try_recv() {
            let heard = self.heard(event);
            self.waiting.extend(heard);
        }
        let mut all = Vec::new();
        self.waiting.retain(|event| match event {
            Event::Delivered(deliveries) => {
                all.extend(deliveries.iter().cloned());
                false
            }
            _ => true,
        });
        all
    }

    /// What is told, but for what came again: that is passed on, and the answer to it is nobody else's.
    fn heard(&mut self, event: Event) -> Option<Event> {
        match event {
            Event::CameAgain(deliveries) => {
                for Delivery { handle, .. } in deliveries {
                    self.passed.push(handle);
                    self.settle(handle, Settlement::Pass);
                }
                None
            }
            Event::Settled(mut handles) => {
                handles.retain(|handle| !self.passed.contains(handle));
                (!handles.is_empty()).then_some(Event::Settled(handles))
            }
            Event::Stored(handle) if self.passed.contains(&handle) => None,
            event => Some(event),
        }
    }

    /// Waits for an event that `pick` wants and removes it; others stay for later.
    pub fn wait<R>(&mut self, what: &str, mut pick: impl FnMut(&Event) -> Option<R>) -> R {
        for position in 0..self.waiting.len() {
            if let Some(picked) = pick(&self.waiting[position]) {
                self.waiting.remove(position);
                return picked;
            }
        }
        loop {
            match self.runtime.block_on(async { tokio::time::timeout(PATIENCE, self.events.recv()).await }) {
                Ok(Some(event)) => {
                    let Some(event) = self.heard(event) else { continue };
                    match pick(&event) {
                        Some(picked) => return picked,
                        None => self.waiting.push(event),
                    }
                }
                Ok(None) => panic!("waited for {what}, but the transport ended; it said {:#?}", self.waiting),
                Err(elapsed) => panic!("waited for {what}: {elapsed}; the transport said {:#?}", self.waiting),
            }
        }
    }

    /// Waits for an event that should not come.
    pub fn hears_nothing_for(&mut self, time: Duration) {
        let heard = self.runtime.block_on(async { tokio::time::timeout(time, self.events.recv()).await });
        assert!(heard.is_err(), "the transport said {heard:?}");
    }

    /// Asks and waits for the reply.
    pub fn call<R>(&self, request: impl FnOnce(Reply<R>) -> Request) -> Result<R, Error> {
        let (reply, answer) = oneshot::channel();
        self.ask(request(reply));
        let answer = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, answer).await });
        answer.expect("an answer in time").unwrap_or(Err(Error::Closed))
    }

    pub fn submit(&self, tasks: Vec<NewTask>) {
        self.call(|reply| Request::Submit { tasks, reply }).expect("stored");
    }

    /// Whether a queue has nothing left but what this party settled, in the end.
    pub fn is_drained(&self, queue: &str) -> bool {
        let depth = self.depth(queue);
        depth.ready + depth.delayed + depth.in_hand == 0
    }

    pub fn depth(&self, queue: &str) -> Depth {
        let queues = vec![DeadQueue::of(queue)];
        self.call(|reply| Request::Depths { queues, reply }).expect("counted")[0]
    }

    /// Reads a queue's depth until it is as wanted.
    pub fn until_depth(&self, queue: &str, wanted: impl Fn(Depth) -> bool) {
        let clock = Clock::start();
        loop {
            let depth = self.depth(queue);
            if wanted(depth) {
                return;
            }
            assert!(clock.now().at.since_start() < PATIENCE, "the depth of {queue} stays {depth:?}");
        }
    }

    pub fn walk(&self, queue: &str, visit: impl FnMut(&DeadLetter) -> Visit + Send + 'static) -> Walked {
        let visit: Visitor = Box::new(visit);
        self.call(|reply| Request::WalkDead { queue: DeadQueue::of(queue), visit, reply }).expect("walked")
    }

    /// All dead letters of a queue, which stay there.
    pub fn dead_letters(&self, queue: &str) -> Vec<DeadLetter> {
        let (sender, receiver) = std::sync::mpsc::channel();
        self.walk(queue, move |letter| {
            sender.send(letter.clone()).expect("the test listens");
            Visit::Keep
        });
        receiver.iter().collect()
    }

    pub fn survey(&mut self) -> (bool, Duration) {
        self.serial += 1;
        let expected = self.serial;
        self.ask(Request::Survey { serial: expected, jobs: None });
        self.wait("Surveyed", |event| match event {
            Event::Surveyed { serial, empty, again_in, .. } if *serial == expected => Some((*empty, *again_in)),
            _ => None,
        })
    }

    /// Waits until the lease is held; gives the memory, sorted.
    pub fn lease_held(&mut self) -> Vec<(String, Timestamp)> {
        let mut memory = self.wait("LeaseHeld", |event| match event {
            Event::LeaseHeld { memory } => Some(memory.clone()),
            _ => None,
        });
        memory.sort();
        memory
    }

    pub fn fire(&mut self, schedule: &str, moment: Timestamp, task: Option<NewTask>) -> Result<bool, Error> {
        self.ask(Request::Fire { schedule: schedule.to_owned(), moment, task });
        self.wait("Fired", |event| match event {
            Event::Fired { schedule: fired, moment: at, stored } if fired == schedule && *at == moment => {
                Some(stored.clone())
            }
            _ => None,
        })
    }

    /// As the death of the process would end it. Returns when nothing of it is left.
    pub fn kill(mut self) {
        self.tenant.kill(self.transport.take().expect("open until killed or closed"));
        self.gone();
    }

    /// An orderly end.
    pub fn close(mut self) {
        self.call(|reply| Request::Close { reply }).expect("closed");
        drop(self.transport.take());
        self.gone();
    }

    fn gone(&mut self) {
        let end = async { while self.events.recv().await.is_some() {} };
        let ended = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, end).await });
        ended.expect("the thread ends when its transport is dropped");
    }
}

/// A queue that knows the delays of this test.
pub fn setup(name: &str, delays: &[Duration]) -> QueueSetup {
    QueueSetup {
        name: name.to_owned(),
        dead: DeadQueue::of(name),
        delays: delays.to_vec(),
        protocol: Protocol::default(),
    }
}

/// A task with a small body.
pub fn task(queue: &str, id: &str) -> NewTask {
    NewTask { queue: queue.to_owned(), id: id.to_owned(), body: format!("\"{id}\"").into_bytes(), ..NewTask::default() }
}

/// Tasks `0`, `1`, …
pub fn tasks(queue: &str, count: usize) -> Vec<NewTask> {
    (0..count).map(|number| task(queue, &number.to_string())).collect()
}

/// The ids of deliveries.
pub fn ids(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.task.id.as_str()).collect()
}

/// A success without more tasks.
pub fn done() -> Settlement {
    Settlement::Done { submit: Vec::new() }
}
