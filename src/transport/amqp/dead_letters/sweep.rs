//! Looking through a dead-letter queue, so that the broker lets go of what is over behind what is kept longer.
//!
//! All its letters are taken, over a connection of its own, and given back at once by closing the channel, which keeps
//! their order. Nothing is removed here: the broker does that, as what lies before goes. Its consumer stands until then, so
//! that counts and walks wait; while a walk is on nothing is swept (`walk_lock`).
//!
//! A queue with very many letters is left alone, and so is a quorum queue that bears few returns: each of these counts, and
//! what comes to the limit is dropped (from RabbitMQ 4.0 on at 20, unless the queue says otherwise; ours do). A limit
//! that only a policy sets is not seen.

use std::{rc::Rc, time::Duration};

use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Connection,
    options::{BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::time::timeout;

use super::{
    count,
    sweep_schedule::{NEVER, Swept, Through},
    walk_lock::{self, Turn},
};
use crate::{
    clock::{Clock, Timestamp},
    transport::amqp::{
        broker_error::{ANSWER_TIMEOUT, Fault, answer},
        connect::{
            address::Address,
            channel::{open_channel, short},
        },
        message::{headers::number, moments::moment, properties::FAILED_AT},
        queues::{counter::Counter, foreign_queues::ForeignQueues, own_queue::OwnQueue},
        session::{connections::Session, note::SessionNote, pauses::with_jitter, state::Actor},
    },
};

/// The first sweep after the start, or after a queue was added.
const START: Duration = Duration::from_millis(1_500);
/// Letters that are taken.
const MOST: u64 = 50_000;
/// Time in which they have to come.
const LONGEST: Duration = Duration::from_secs(5);
/// Time without a letter after which the queue is counted.
const IDLE: Duration = Duration::from_millis(30);
/// How often it is counted.
const LOOKS: u32 = 20;
/// A letter that is over by its headers and still there is looked for again after this at least: clocks differ.
const OVERDUE: Duration = Duration::from_millis(500);

impl Actor {
    /// Schedules sweeps of the dead-letter queues of the attached queues.
    pub(crate) fn watch_dead_letters(&mut self) {
        let Some(attachment) = &self.attachment else { return };
        let names: Vec<&str> = attachment.queues.values().map(|setup| setup.dead.name.as_str()).collect();
        self.sweeps.watch(&names, self.now().at + with_jitter(START));
    }

    /// Begins the sweeps that are due.
    pub(crate) fn begin_sweep(&mut self) {
        let now = self.now().at;
        let (Some(up), None) = (self.state.up(), &self.closing) else { return };
        let due = self.sweeps.begin(now);
        if due.is_empty() {
            return;
        }
        let sweeper = Sweeper {
            session: Rc::clone(&up.session),
            address: Rc::clone(&self.shared.address),
            foreign_queues: Rc::clone(&self.shared.foreign_queues),
            is_passive: self.attachment.as_ref().is_some_and(|attachment| attachment.passive),
        };
        let (notes, session) = (self.shared.notes.clone(), up.session.number);
        up.sweep = Some(up.tasks.spawn_local(async move {
            let _ = notes.send(SessionNote::Swept { swept: sweeper.sweep(&due).await }.of(session));
        }));
    }
}

struct Sweeper {
    session: Rc<Session>,
    address: Rc<Address>,
    foreign_queues: Rc<ForeignQueues>,
    is_passive: bool,
}

impl Sweeper {
    /// Sweeps queues, each if it has more letters than so many. What is not in the answer was not reached.
    async fn sweep(&self, queues: &[(String, u64)]) -> Vec<(String, Swept)> {
        let (mut all, mut wanted) = (Vec::new(), Vec::new());
        let reader = self.session.reader();
        let mut counter = Counter::new(&reader);
        for (queue, known) in queues {
            let Ok(found) = counter.found(queue).await else { continue };
            match found.map_or(0, |found| found.ready) {
                ready if ready > *known => wanted.push(queue),
                ready => all.push((queue.clone(), Swept::Unchanged { ready })),
            }
        }
        if wanted.is_empty() {
            return all;
        }
        let Ok(connection) = self.address.connect("sweeper").await else { return all };
        for queue in wanted {
            match self.one(&connection, queue).await {
                Ok(swept) => all.push((queue.clone(), swept)),
                // What is wrong with the queue its users are told elsewhere.
                Err(fault) => {
                    tracing::debug!(target: "asynctask::amqp", "queue \"{queue}\" cannot be swept: {}", fault.cause());
                    break;
                }
            }
        }
        let _ = timeout(ANSWER_TIMEOUT, connection.close(200, "swept".into())).await;
        all
    }

    async fn one(&self, connection: &Connection, queue: &str) -> Result<Swept, Fault> {
        let own_queue = OwnQueue::Dead(queue.to_owned());
        // How long its letters are kept makes a difference for warnings alone, which were given before.
        let traits = self.foreign_queues.look(connection, &own_queue, !self.is_passive, Some(0)).await?;
        if traits.auto_delete || !traits.bears_returns {
            tracing::debug!(target: "asynctask::amqp", "queue \"{queue}\" is not swept: it bears few returns");
            return Ok(Swept::Unfit);
        }
        let turn = if self.is_passive { Turn::Unknown } else { walk_lock::take(connection, queue).await };
        let found = match turn {
            Turn::Theirs => return Ok(Swept::Busy),
            Turn::Ours(_) | Turn::Unknown => Counter::new(connection).found(queue).await?,
        };
        let swept = match found {
            Some(found) if found.consumers > 0 => Swept::Busy,
            Some(found) if found.ready > MOST => Swept::Unfit,
            Some(found) if found.ready > 0 => through(connection, queue, found.ready).await?,
            Some(_) | None => Swept::Unchanged { ready: 0 },
        };
        walk_lock::give_back(turn);
        Ok(swept)
    }
}

/// Takes all letters and gives them back.
async fn through(connection: &Connection, queue: &str, ready: u64) -> Result<Swept, Fault> {
    let fault = |error: lapin::Error| Fault::of(&error);
    let clock = Clock::start();
    let most = u16::try_from(ready).unwrap_or(u16::MAX);
    let mut counter = Counter::new(connection);
    let channel = open_channel(connection).await.map_err(fault)?;
    answer(channel.basic_qos(most, BasicQosOptions::default())).await.map_err(fault)?;
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(short(queue), short("sweep"), options, FieldTable::default());
    let mut consumer = answer(consumer).await.map_err(fault)?;
    let (mut letters, mut returned, mut looks) = (Vec::new(), 0, 0);
    let mut is_in_time = true;
    while letters.len() < usize::from(most) {
        match timeout(IDLE, consumer.next()).await {
            Ok(Some(message)) => {
                let properties = message.map_err(fault)?.properties;
                letters.push(over_at(&properties, Clock::wall()));
                returned = returned.max(returns(&properties));
            }
            Ok(None) => return Err(Fault::Absent(queue.to_owned())),
            Err(_) => {
                looks += 1;
                if looks == LOOKS || counter.ready(queue).await?.unwrap_or(0) == 0 {
                    break;
                }
            }
        }
        is_in_time = clock.now().at.since_start() < LONGEST;
        if !is_in_time {
            break;
        }
    }
    let left = letters.len() as u64;
    answer(channel.close(200, "swept".into())).await.map_err(fault)?;
    // So that the next holder of the lock sees them. Some may be over by now, and go as they come back.
    let now = Clock::wall();
    let staying = letters.iter().filter(|over_at| over_at.is_none_or(|at| at.remaining(now) > OVERDUE)).count() as u64;
    count::came_back(&mut counter, queue, staying).await?;
    if !is_in_time {
        return Ok(Swept::Unfit);
    }
    let (longest, behind) = judge(&letters, now);
    Ok(Swept::Through(Through { left, longest, behind, returned, took: clock.now().at.since_start() }))
}

/// When a letter's time is over. What the broker or others dead-lettered has no such time, and stays.
fn over_at(properties: &BasicProperties, now: Timestamp) -> Option<Timestamp> {
    let keep = properties.expiration().as_ref()?.as_str().parse().ok()?;
    let table = properties.headers().as_ref().map(FieldTable::inner);
    let since = table.and_then(|table| table.get(FAILED_AT)).and_then(moment).unwrap_or(now);
    Some(since.plus(Duration::from_millis(keep)))
}

/// How often it was given back to a quorum queue.
fn returns(properties: &BasicProperties) -> u64 {
    let Some(table) = properties.headers().as_ref().map(FieldTable::inner) else { return 0 };
    let counts = ["x-delivery-count", "x-acquired-count"].into_iter().filter_map(|name| table.get(name));
    counts.filter_map(number).filter_map(|count| u64::try_from(count).ok()).max().unwrap_or(0)
}

/// Time until the last one is over, and until the first one of those that lie behind others which are kept longer.
fn judge(letters: &[Option<Timestamp>], now: Timestamp) -> (Duration, Option<Duration>) {
    let mut longest = Duration::ZERO;
    let mut behind: Option<Duration> = None;
    for over_at in letters {
        let Some(over_at) = over_at else {
            longest = NEVER;
            continue;
        };
        let left = over_at.remaining(now);
        if left < longest {
            // Overdue for long: its clock is another one, and another look soon changes nothing.
            let wait = if left.is_zero() { now.remaining(*over_at).max(OVERDUE) } else { left };
            behind = Some(behind.map_or(wait, |behind| behind.min(wait)));
        }
        longest = longest.max(left);
    }
    (longest, behind)
}

#[cfg(test)]
mod tests {
    use lapin::types::AMQPValue;

    use super::*;

    #[test]
    fn only_what_lies_behind_others_that_are_kept_longer_needs_another_look() {
        let at = |ms: i64| Some(Timestamp(ms));
        let judged = |letters: &[Option<Timestamp>]| {
            let (longest, behind) = judge(letters, Timestamp(1_000));
            (longest.as_millis(), behind.map(|behind| behind.as_millis()))
        };
        let never = NEVER.as_millis();
        assert_eq!(judged(&[]), (0, None));
        assert_eq!(judged(&[at(2_000), at(2_000), at(3_000)]), (2_000, None));
        assert_eq!(judged(&[at(2_000), None]), (never, None));
        assert_eq!(judged(&[None, at(5_000), at(3_000), at(4_000)]), (never, Some(2_000)));
        assert_eq!(judged(&[at(9_000), at(8_000), at(10_000)]), (9_000, Some(7_000)));
        // Over by its own clock, and still there.
        assert_eq!(judged(&[None, at(900)]), (never, Some(500)));
        assert_eq!(judged(&[None, at(-9_000)]), (never, Some(10_000)));
    }

    #[test]
    fn a_letter_without_a_time_stays() {
        let now = Timestamp(70_000);
        assert_eq!(over_at(&BasicProperties::default(), now), None);
        assert_eq!(over_at(&BasicProperties::default().with_expiration("soon".into()), now), None);
        assert_eq!(over_at(&BasicProperties::default().with_expiration("2000".into()), now), Some(Timestamp(72_000)));
    }

    #[test]
    fn returns_are_read() {
        let mut table = FieldTable::default();
        table.insert("x-delivery-count".into(), AMQPValue::LongLongInt(7));
        assert_eq!(returns(&BasicProperties::default().with_headers(table)), 7);
        assert_eq!(returns(&BasicProperties::default()), 0);
    }
}
