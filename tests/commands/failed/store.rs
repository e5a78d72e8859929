//! Dead letters made and tasks counted through the library: fast, and without the commands under test.

use std::time::Duration;

use asynctask::{
    celery::Protocol,
    clock::Clock,
    task::{Delivery, Failure, NewTask, QueueIndex, Reason, Settlement},
    transport::{DeadQueue, Event, QueueSetup, Request, Transport, Uri, call, open},
};
use tokio::sync::mpsc;

use crate::support::Demo;

const PATIENCE: Duration = Duration::from_mins(1);

/// A transport that is attached to one queue.
struct Attached {
    transport: Box<dyn Transport>,
    events: mpsc::UnboundedReceiver<Event>,
    runtime: tokio::runtime::Runtime,
}

impl Attached {
    fn new(demo: &Demo, queue: &str) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let uri = Uri::parse(&demo.uri, demo.folder.path()).expect("an address");
        let transport = open(&uri, sender).expect("a transport");
        let setup = QueueSetup {
            name: queue.to_owned(),
            dead: DeadQueue::of(queue),
            delays: Vec::new(),
            protocol: Protocol::default(),
        };
        transport.ask(Request::Attach { queues: vec![setup], passive: false });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let mut attached = Self { transport, events, runtime };
        while !matches!(attached.next(), Event::Attached { .. }) {}
        attached
    }

    fn next(&mut self) -> Event {
        let next = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, self.events.recv()).await });
        next.expect("an event in time").expect("the transport lives")
    }

    fn deliveries(&mut self, count: usize) -> Vec<Delivery> {
        self.transport.ask(Request::Credit { queue: QueueIndex(0), credit: u32::try_from(count).expect("small") });
        let mut all = Vec::new();
        while all.len() < count {
            if let Event::Delivered(deliveries) = self.next() {
                all.extend(deliveries);
            }
        }
        all
    }

    fn submit(&self, tasks: Vec<NewTask>) {
        call(&*self.transport, |reply| Request::Submit { tasks, reply }).expect("stored");
    }

    fn close(self) {
        call(&*self.transport, |reply| Request::Close { reply }).expect("closed");
    }
}

fn tasks(queue: &str, bodies: impl IntoIterator<Item = Vec<u8>>) -> Vec<NewTask> {
    let task = |(number, body): (usize, Vec<u8>)| NewTask {
        queue: queue.to_owned(),
        id: number.to_string(),
        body,
        ..NewTask::default()
    };
    bodies.into_iter().enumerate().map(task).collect()
}

/// Dead letters `0`, `1`, … with these causes.
pub(crate) fn bury(demo: &Demo, queue: &str, count: usize, cause: impl Fn(usize) -> Failure) {
    bury_tasks(demo, queue, tasks(queue, (0..count).map(|number| format!("{{\"n\":{number}}}").into_bytes())), cause);
}

/// Dead letters `0`, `1`, … with these bodies.
pub(crate) fn bury_bodies(demo: &Demo, queue: &str, bodies: &[&[u8]]) {
    let cause = |_| Failure::new(Reason::Failed, "no", Clock::wall());
    bury_tasks(demo, queue, tasks(queue, bodies.iter().map(|body| body.to_vec())), cause);
}

fn bury_tasks(demo: &Demo, queue: &str, tasks: Vec<NewTask>, cause: impl Fn(usize) -> Failure) {
    let count = tasks.len();
    let mut attached = Attached::new(demo, queue);
    attached.submit(tasks);
    let deliveries = attached.deliveries(count);
    // One after the other: their order is part of what is tested.
    for (number, delivery) in deliveries.iter().enumerate() {
        let dead = Settlement::Dead(Box::new(cause(number)));
        attached.transport.ask(Request::Settle(vec![(delivery.handle, dead)]));
        if count <= 20 {
            while !matches!(attached.next(), Event::Settled(handles) if handles == [delivery.handle]) {}
        }
    }
    crate::support::log::until("not all are dead", || demo.depth(queue)["failed"] == count);
    attached.close();
}

/// Many dead letters `0`, `1`, … that other systems could have left: on RabbitMQ put there directly, in SQLite written into
/// the file.
pub(crate) fn bury_many(demo: &Demo, queue: &str, count: usize) {
    let attached = Attached::new(demo, queue);
    if let Some(path) = demo.uri.strip_prefix("sqlite:") {
        let file = rusqlite::Connection::open(path).expect("the file");
        let statement = "WITH RECURSIVE number(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < ?2) \
             INSERT INTO task (queue, state, due, message_id, failure, body) \
             SELECT (SELECT id FROM queue WHERE name = ?1), 2, 1700000000000 + n, CAST(n AS TEXT), ?3, CAST('{\"n\":1}' AS BLOB) FROM number";
        let failure = Failure::new(Reason::Error, "no", Clock::wall());
        let failure = serde_json::to_string(&failure).expect("it is JSON");
        file.execute(statement, rusqlite::params![queue, i64::try_from(count).expect("small"), failure])
            .expect("stored");
    } else {
        let bodies = (0..count).map(|_| br#"{"n":1}"#.to_vec());
        for chunk in tasks(&format!("{queue}_failed"), bodies).chunks(5_000) {
            attached.submit(chunk.to_vec());
        }
    }
    attached.close();
}

/// The ids of all tasks that wait in a queue, sorted. They go back.
pub(crate) fn waiting(demo: &Demo, queue: &str) -> Vec<String> {
    let ready = demo.depth(queue)["ready"].as_u64().expect("a count");
    let mut attached = Attached::new(demo, queue);
    let deliveries = if ready > 0 { attached.deliveries(usize::try_from(ready).expect("small")) } else { Vec::new() };
    let mut ids: Vec<String> = deliveries.into_iter().map(|delivery| delivery.task.id.clone()).collect();
    ids.sort_by_key(|id| (id.len(), id.clone()));
    attached.close();
    ids
}

/// Holds if these ids are those, in this order; tells where they are not.
pub(crate) fn same_order(found: &[String], expected: &[String], place: &str) {
    let differs = (0..expected.len()).find(|place| found.get(*place) != expected.get(*place));
    let Some(from) = differs else { return assert_eq!(found.len(), expected.len(), "{place}") };
    let near = |ids: &[String]| ids[from.saturating_sub(3).min(ids.len())..(from + 8).min(ids.len())].join(" ");
    let jumps: Vec<String> = found
        .windows(2)
        .filter(|pair| pair[0].parse::<u64>().ok() >= pair[1].parse::<u64>().ok())
        .map(|pair| pair.join("→"))
        .collect();
    panic!("{place}: at {from}: {} instead of {}; jumps: {jumps:?}", near(found), near(expected));
}
