//! Visiting dead letters, and putting some of them back to work. Of a queue that several work queues dead-letter to, only those
//! that came from the one in question.
//!
//! They are taken in steps, each by a consumer on a channel of its own. Those that stay are held, as delivery tags
//! alone, until the end of the walk, and given back by closing the channels one after the other: that is the one way
//! back in which a quorum queue keeps their order. (Refusing more than 32, one by one or together, leaves them in any
//! order; so does `basic.get`. Measured on 3.10.8.) All consumers are cancelled by then, so nothing comes again.
//!
//! Those that are put back to work are published in windows; each window is removed after all of it was confirmed.
//! Whoever is killed in between leaves at most one window in both queues, with the same ids.
//!
//! # Limits
//!
//! What is held counts as unacknowledged, which the broker bears for its `consumer_timeout` (30 minutes): a walk that
//! holds any must end before. It can hold about 700,000. If the connection is lost, all come back, but those of
//! different steps in any order.

use futures_util::StreamExt as _;
use lapin::{
    Acker, Channel, Connection,
    message::Delivery,
    options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use std::time::Duration;
use tokio::time::timeout;

use super::{
    dead,
    moves::{Parcel, Store, Tried},
    publish::{Outgoing, WINDOW},
    topology::{Counter, Fault, Place, answer, open_channel, short},
};
use crate::{
    clock::Timestamp,
    transport::{DeadQueue, Visit, Visitor, Walked},
};

/// Dead letters on their way to us in the first step, while their size is not known, and in all of a slow walk.
const FIRST: u16 = 50;
/// The same in a later step …
const MOST: u16 = 1_000;
/// … in which there are at most about this many bytes.
const BYTES: u64 = 32 << 20;
/// Channels that may be held: a connection has 2,047.
const HELD: usize = 1_000;
/// Bytes of bodies in a window.
const WINDOW_BYTES: usize = 4 << 20;
/// Dead letters that were counted and do not come in this time were taken by someone else.
const IDLE: Duration = Duration::from_millis(500);
/// Looks at whether those given back are there again, and between two of them.
const LOOKS: u32 = 200;
const BETWEEN: Duration = Duration::from_millis(5);

const TAG: &str = "dead-letters";

/// Walks through the dead letters that a queue has now.
pub(super) async fn walk(store: &Store, queue: &DeadQueue, visit: Visitor, now: Timestamp) -> Result<Walked, Fault> {
    let connection = store.session.reader();
    let ready = Counter::new(&connection).ready(&queue.name).await?.unwrap_or(0);
    let place = Place::Dead(queue.name.clone());
    if ready > 0 && store.session.topology.look(&connection, &place).await.auto_delete {
        let name = &queue.name;
        let cause = format!(
            "dead-letter queue \"{name}\" is deleted with its last consumer (auto-delete): a look would end it"
        );
        return Err(Fault::Refused(cause));
    }
    let mut walk = Walk {
        store,
        queue,
        visit,
        now,
        ready,
        walked: Walked::default(),
        others: 0,
        bytes: 0,
        slow: false,
        window: Vec::new(),
        window_bytes: 0,
        held: Vec::new(),
    };
    let result = walk.steps(&connection).await;
    let given_back = walk.give_back(&connection).await;
    let (walked, others) = (walk.walked, walk.others);
    result.and(given_back).map(|()| Walked { seen: walked.seen - others, ..walked })
}

/// Why a step ended.
enum End {
    /// It holds as much as it should; there may be more.
    Step,
    /// All were seen, or the visitor wants no more.
    Walk,
}

struct Walk<'a> {
    store: &'a Store,
    queue: &'a DeadQueue,
    visit: Visitor,
    now: Timestamp,
    /// Dead letters at the beginning. What dies while we walk is behind them, and not visited.
    ready: u64,
    walked: Walked,
    /// Those among the seen that came from other queues: they stay, and nobody is asked about them.
    others: u64,
    /// Sum of the bodies seen.
    bytes: u64,
    /// The visitor makes us wait.
    slow: bool,
    /// To be put back to work.
    window: Vec<(Parcel, Acker)>,
    window_bytes: usize,
    /// Channels with what was kept on them, oldest first.
    held: Vec<(Channel, u64)>,
}

impl Walk<'_> {
    async fn steps(&mut self, connection: &Connection) -> Result<(), Fault> {
        while self.walked.seen < self.ready && matches!(self.step(connection).await?, End::Step) {}
        Ok(())
    }

    /// Takes dead letters, as many as may be out at a time, and then visits each. Nothing is acknowledged before the
    /// consumer is cancelled: what the broker sends to one that is being cancelled loses its place.
    async fn step(&mut self, connection: &Connection) -> Result<End, Fault> {
        if self.held.len() >= HELD {
            let kept = self.walked.seen - self.walked.retried - self.walked.removed;
            return Err(Fault::Broken(format!("{kept} dead letters are held, which is as many as can be")));
        }
        let fault = |error: lapin::Error| Fault::of(&error);
        let most = u16::try_from(self.ready - self.walked.seen).unwrap_or(MOST).min(self.ahead());
        let channel = open_channel(connection).await.map_err(fault)?;
        self.held.push((channel.clone(), 0));
        answer(channel.basic_qos(most, BasicQosOptions::default())).await.map_err(fault)?;
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consumer = channel.basic_consume(short(&self.queue.name), short(TAG), options, arguments);
        let mut consumer = answer(consumer).await.map_err(fault)?;
        let mut messages = Vec::with_capacity(usize::from(most));
        while messages.len() < usize::from(most) {
            match timeout(IDLE, consumer.next()).await {
                Ok(Some(Ok(message))) => messages.push(message),
                Ok(Some(Err(error))) => return Err(fault(error)),
                Ok(None) => return Err(Fault::Absent(self.queue.name.clone())),
                Err(_) => break,
            }
        }
        answer(channel.basic_cancel(short(TAG), BasicCancelOptions::default())).await.map_err(fault)?;
        let all_came = messages.len() == usize::from(most);
        for message in messages {
            self.walked.seen += 1;
            self.bytes += message.data.len() as u64;
            if self.judge(message).await? == Judged::Stop {
                self.store_window().await?;
                return Ok(End::Walk);
            }
        }
        self.store_window().await?;
        if self.held.last().is_some_and(|(_, kept)| *kept == 0) {
            self.held.pop();
            answer(channel.close(200, "done".into())).await.map_err(fault)?;
        }
        Ok(if all_came { End::Step } else { End::Walk })
    }

    /// How many may be on their way to us.
    fn ahead(&self) -> u16 {
        if self.walked.seen == 0 || self.slow {
            return FIRST;
        }
        let mean = (self.bytes / self.walked.seen).max(1);
        u16::try_from(BYTES / mean).unwrap_or(MOST).clamp(10, MOST)
    }

    async fn judge(&mut self, message: Delivery) -> Result<Judged, Fault> {
        let letter = dead::read(&message.properties, &message.data, self.queue);
        if letter.queue != self.queue.queue {
            self.others += 1;
            return self.keep().await;
        }
        let verdict = loop {
            match (self.visit)(&letter) {
                Visit::Wait(after) => {
                    self.slow = true;
                    self.store_window().await?;
                    tokio::time::sleep(after).await;
                }
                verdict => break verdict,
            }
        };
        match verdict {
            Visit::Keep | Visit::Wait(_) => return self.keep().await,
            Visit::Stop => return Ok(Judged::Stop),
            Visit::Remove => {
                remove(&message.acker, false).await?;
                self.walked.removed += 1;
            }
            Visit::Retry { body } => {
                let properties = dead::again(&message.properties, &letter, self.now);
                let body = body.unwrap_or(message.data);
                self.window_bytes += body.len();
                let place = Place::Work(self.queue.queue.clone());
                let outgoing = Outgoing { queue: place.name(), properties, body: body.into() };
                self.window.push((Parcel { place, outgoing }, message.acker));
                if self.window.len() >= WINDOW || self.window_bytes >= WINDOW_BYTES {
                    self.store_window().await?;
                }
            }
        }
        Ok(Judged::Going)
    }

    async fn keep(&mut self) -> Result<Judged, Fault> {
        // What was decided before it goes first, as long as one acknowledgement does for all.
        if self.held.last().is_some_and(|(_, kept)| *kept == 0) {
            self.store_window().await?;
        }
        if let Some((_, kept)) = self.held.last_mut() {
            *kept += 1;
        }
        Ok(Judged::Going)
    }

    /// Stores a window in the work queue, and removes its dead letters after all of it is confirmed.
    async fn store_window(&mut self) -> Result<(), Fault> {
        let window = std::mem::take(&mut self.window);
        self.window_bytes = 0;
        let (mut parcels, ackers): (Vec<_>, Vec<_>) = window.into_iter().unzip();
        let (Some(last), Some((channel, kept))) = (ackers.last(), self.held.last()) else { return Ok(()) };
        let together = self.store.together(&parcels).await;
        for parcel in &mut parcels {
            if !together {
                self.store_one(parcel).await?;
            }
        }
        if *kept == 0 {
            remove(last, true).await?;
        } else {
            for acker in &ackers {
                remove(acker, false).await?;
            }
        }
        // Any question will do: once it is answered, what was said before is known to the queue, and the death of this
        // process takes nothing of it back. (Measured without: seven windows in both queues after a kill.)
        answer(channel.basic_qos(FIRST, BasicQosOptions::default())).await.map_err(|error| Fault::of(&error))?;
        self.walked.retried += ackers.len() as u64;
        Ok(())
    }

    async fn store_one(&self, parcel: &mut Parcel) -> Result<(), Fault> {
        match self.store.try_one(parcel).await {
            Ok(Tried::Stored) => Ok(()),
            Ok(Tried::Again(cause) | Tried::No(cause)) => {
                Err(Fault::Broken(format!("queue \"{}\" did not take a task: {cause}", self.queue.queue)))
            }
            Err(()) => Err(Fault::Broken("the connection was lost".to_owned())),
        }
    }

    /// Closes the channels in order, and waits until what was held is there, so that whoever looks next sees it.
    async fn give_back(&mut self, connection: &Connection) -> Result<(), Fault> {
        let fault = |error: lapin::Error| Fault::of(&error);
        let mut counter = Counter::new(connection);
        let held = std::mem::take(&mut self.held);
        let count = held.len();
        for (number, (channel, kept)) in held.into_iter().enumerate() {
            let before = counter.ready(&self.queue.name).await?.unwrap_or(0);
            answer(channel.close(200, "done".into())).await.map_err(fault)?;
            let gone = self.walked.retried + self.walked.removed;
            let expected = if number + 1 == count { self.ready.saturating_sub(gone) } else { before + kept };
            came_back(&mut counter, self.queue, expected).await?;
        }
        Ok(())
    }
}

#[derive(PartialEq)]
enum Judged {
    Going,
    Stop,
}

/// With `multiple`, all on its channel that came before it, too.
async fn remove(acker: &Acker, multiple: bool) -> Result<(), Fault> {
    if matches!(answer(acker.ack(BasicAckOptions { multiple })).await, Ok(true)) {
        return Ok(());
    }
    Err(Fault::Broken("the channel of the dead letters is closed".to_owned()))
}

/// Waits until this many are there; not for ever, since someone else may have taken some.
async fn came_back(counter: &mut Counter<'_>, queue: &DeadQueue, expected: u64) -> Result<(), Fault> {
    for _ in 0..LOOKS {
        if counter.ready(&queue.name).await?.is_none_or(|ready| ready >= expected) {
            break;
        }
        tokio::time::sleep(BETWEEN).await;
    }
    Ok(())
}
