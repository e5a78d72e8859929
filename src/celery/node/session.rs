//! One session: the life of one connection, from its mailbox on to its loss.
//!
//! ```text
//! connect ─▶ mailbox opened ─▶ up: requests, heartticks, events ─▶ stopped: worker-offline, closed
//!      └──── failed, locked ─────────────────┴──▶ failed
//! ```

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use lapin::{
    BasicProperties, Connection,
    types::{AMQPValue, FieldTable},
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::JoinSet,
    time::{MissedTickBehavior, timeout},
};

use super::{
    answering::Answering,
    asking::Views,
    budget::Budget,
    entities,
    events::{self, ASKED_HEARTBEAT_SECONDS, HEARTBEAT_SECONDS, Heartbeat, Life, Origin},
    facts::Broker,
    mailbox::{self, Incoming, Mailbox, NotOpen},
    mingle,
    outlet::{Outlet, transient},
    request,
    state::State,
    stored_ids::StoredIds,
};
use crate::{
    celery::event::TaskEvent,
    transport::{Error, amqp::Address},
};

/// Requests in a second that are read, and at once after a pause. Flower asks a node eight things for one page.
const REQUESTS_PER_SECOND: u32 = 50;
const REQUESTS_AT_ONCE: u32 = 200;
/// Requests whose replies are under way.
const UNDER_WAY: usize = 16;
/// Events in one message.
const EVENTS_TOGETHER: usize = 64;
/// What the last event and the close of a connection may take.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(800);

/// Where events of tasks go at the moment, if anywhere.
pub(super) type EventsOutlet = Rc<RefCell<Option<Rc<Outlet>>>>;

/// How a session ended.
pub(super) enum End {
    /// As was wanted.
    Stopped,
    /// Another connection has the mailbox.
    Locked,
    /// There was none, or it was lost.
    Failed(Error),
}

/// Runs a session to its end.
pub(super) async fn run(
    state: &Rc<State>,
    address: &Address,
    outlet: &EventsOutlet,
    stopped: &mut oneshot::Receiver<()>,
    on_up: &mut impl FnMut(),
) -> End {
    let connecting = async {
        let connection = address.connect("celery node").await.map_err(End::Failed)?;
        let mailbox = Mailbox::open(&connection, &state.settings.name).await;
        Ok((connection, mailbox))
    };
    let (connection, mailbox) = tokio::select! {
        _ = &mut *stopped => return End::Stopped,
        connected = connecting => match connected {
            Ok((connection, Ok(mailbox))) => (Rc::new(connection), mailbox),
            Ok((connection, Err(not_open))) => {
                let _ = timeout(CLOSE_TIMEOUT, connection.close(200, "done".into())).await;
                return match not_open {
                    NotOpen::Locked => End::Locked,
                    NotOpen::Failed(cause) => End::Failed(address.lost(cause)),
                };
            }
            Err(end) => return end,
        },
    };
    address.succeeded();
    state.broker.replace(Broker { heartbeat: connection.configuration().heartbeat(), ..place(address) });
    let mut session = Session::new(Rc::clone(state), Rc::clone(&connection), mailbox);
    outlet.replace(Some(Rc::clone(&session.events)));
    state.up.set(true);
    state.tell_wanted();
    on_up();
    let ended = session.serve(stopped).await;
    session.tasks.abort_all();
    let end = match ended {
        None => {
            let _ = timeout(CLOSE_TIMEOUT, tell_life(state, &session.events, Life::Offline, HEARTBEAT_SECONDS)).await;
            End::Stopped
        }
        Some(cause) => End::Failed(address.lost(cause)),
    };
    let _ = timeout(CLOSE_TIMEOUT, connection.close(200, "done".into())).await;
    end
}

/// Where the address of the moment leads.
fn place(address: &Address) -> Broker {
    let place = address.place();
    Broker {
        shown: address.shown().to_owned(),
        host: place.host.to_owned(),
        port: place.port,
        user: place.user.to_owned(),
        virtual_host: place.virtual_host.to_owned(),
        tls: place.is_tls,
        heartbeat: 0,
    }
}

struct Session {
    state: Rc<State>,
    mailbox: Mailbox,
    events: Rc<Outlet>,
    answering: Rc<Answering>,
    budget: Budget,
    /// Everything that runs beside it, and ends with it.
    tasks: JoinSet<()>,
    under_way: Arc<Semaphore>,
    /// A heartbeat that is not sent yet is not followed by another.
    telling: Rc<Semaphore>,
}

impl Session {
    fn new(state: Rc<State>, connection: Rc<Connection>, mailbox: Mailbox) -> Self {
        let clock = state.clock;
        let events = Rc::new(Outlet::new(&connection, Some(entities::EVENTS), clock));
        let stored_ids = StoredIds::new(Rc::clone(&state), &connection);
        let answering = Rc::new(Answering {
            replies: Outlet::new(&connection, Some(entities::REPLIES), clock),
            views: Rc::new(Views::new(Rc::clone(&state))),
            stored_ids: Rc::new(stored_ids),
            state: Rc::clone(&state),
        });
        let mut tasks = JoinSet::new();
        let (beside, others) = (Rc::clone(&answering), connection);
        tasks.spawn_local(async move {
            // What an earlier life knew comes first, so that the others hear of it.
            beside.stored_ids.read().await;
            beside.state.remembered();
            mingle::mingle(&beside.state, &others).await;
            beside.stored_ids.store().await;
        });
        Self {
            state,
            mailbox,
            events,
            answering,
            budget: Budget::full(REQUESTS_AT_ONCE, REQUESTS_PER_SECOND),
            tasks,
            under_way: Arc::new(Semaphore::new(UNDER_WAY)),
            telling: Rc::new(Semaphore::new(1)),
        }
    }

    /// Until the end. `None`: it was stopped.
    async fn serve(&mut self, stopped: &mut oneshot::Receiver<()>) -> Option<String> {
        self.tell(Life::Online, HEARTBEAT_SECONDS);
        let mut ticks = tokio::time::interval(Duration::from_secs_f64(HEARTBEAT_SECONDS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            tokio::select! {
                _ = &mut *stopped => return None,
                _ = ticks.tick() => {
                    self.tell(Life::Heartbeat, HEARTBEAT_SECONDS);
                    self.state.tell_wanted();
                    self.state.ignore(0);
                    self.state.drop_events(self.state.counts.dropped.swap(0, Ordering::Relaxed));
                }
                Some(_) = self.tasks.join_next() => {}
                message = self.mailbox.next() => match mailbox::taken(message).await {
                    Ok(incoming) => self.came(&incoming),
                    Err(cause) => return Some(cause),
                },
            }
        }
    }

    fn came(&mut self, incoming: &Incoming) {
        if !incoming.is_json || !self.budget.take(self.state.now(), request::cost(incoming.body.len())) {
            return self.state.ignore(1);
        }
        let Ok(request) = request::read(&incoming.body, &self.state.settings.name) else { return self.state.ignore(1) };
        self.state.adjust(incoming.clock);
        let Some(request) = request else { return };
        if request.method == "heartbeat" {
            self.tell(Life::Heartbeat, ASKED_HEARTBEAT_SECONDS);
        }
        let Ok(permit) = Arc::clone(&self.under_way).try_acquire_owned() else { return self.state.ignore(1) };
        let answering = Rc::clone(&self.answering);
        self.tasks.spawn_local(async move {
            let _permit = permit;
            answering.answer(request).await;
        });
    }

    fn tell(&mut self, life: Life, every: f64) {
        let (state, events, telling) = (Rc::clone(&self.state), Rc::clone(&self.events), Rc::clone(&self.telling));
        self.tasks.spawn_local(async move {
            let Ok(_one) = telling.try_acquire() else { return };
            tell_life(&state, &events, life, every).await;
        });
    }
}

/// Tells that the node is there, or goes. One that cannot be told is followed by the next.
async fn tell_life(state: &State, events: &Outlet, life: Life, every: f64) {
    let heartbeat = Heartbeat {
        every,
        active: state.counts.active.load(Ordering::Relaxed),
        processed: state.counts.processed.load(Ordering::Relaxed),
        load: load_average(),
    };
    let event = events::of_worker(life, origin(state), heartbeat);
    let _ = events.publish(life.routing_key(), of_node(state), event.to_string().as_bytes()).await;
}

fn origin(state: &State) -> Origin<'_> {
    Origin { node: &state.settings.name, pid: std::process::id(), clock: state.forward(), at: state.clock.now().wall }
}

fn of_node(state: &State) -> BasicProperties {
    let name = AMQPValue::LongString(state.settings.name.as_str().into());
    let headers: FieldTable = entities::table(&[("hostname", name)]);
    transient().with_headers(headers)
}

/// Of this machine; 0 where the kernel does not tell.
fn load_average() -> [f64; 3] {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut loads = text.split_ascii_whitespace().map_while(|load| load.parse().ok());
    std::array::from_fn(|_| loads.next().unwrap_or_default())
}

/// Publishes events of tasks, several in one message, as long as the node lives. Those that come while there is no session are
/// dropped.
pub(super) async fn publish_events(state: Rc<State>, outlet: EventsOutlet, mut events: mpsc::Receiver<Box<TaskEvent>>) {
    let mut together = Vec::with_capacity(EVENTS_TOGETHER);
    while events.recv_many(&mut together, EVENTS_TOGETHER).await > 0 {
        let count = together.len() as u64;
        let outlet = outlet.borrow().clone();
        let Some(outlet) = outlet else {
            together.clear();
            state.drop_events(count);
            continue;
        };
        let told: Vec<_> = together.drain(..).map(|event| events::of_task(&event, origin(&state))).collect();
        let body = serde_json::Value::Array(told).to_string();
        if outlet.publish("task.multi", of_node(&state), body.as_bytes()).await.is_err() {
            state.drop_events(count);
        }
    }
}
