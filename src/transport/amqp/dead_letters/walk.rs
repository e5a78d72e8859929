//! Visiting dead letters, and putting some of them back to work. Of a queue that several work queues dead-letter to, only those
//! that came from the one in question; of those of jobs, only those of which something would come (`hindrances`).
//!
//! They are taken in steps, each by a consumer on a channel of its own. Those that stay are held, as delivery tags
//! alone, until the end of the walk, and given back by closing the channels one after the other: that is the one way
//! back in which a quorum queue keeps their order. (Refusing more than 32, one by one or together, leaves them in any
//! order; so does `basic.get`. Measured on 3.10.8.) All consumers are cancelled by then, so nothing comes again.
//!
//! Those that are put back to work are published in windows; each window is removed after all of it was confirmed.
//! Whoever is killed in between leaves that window in both queues, with the same ids, and on a busy machine those before it of
//! whose removal the queue has not heard.
//!
//! What is held counts as unacknowledged, which the broker bears for its `consumer_timeout`, and it does not tell how long
//! that is. So a walk that takes longer than a moment, because there is much or because the visitor makes it wait, gives
//! all back in between and takes it again; what it has seen it knows. While it waits for long it holds nothing.
//!
//! # Limits
//!
//! About 700,000 can be held. If the connection is lost, all come back, but those of different steps in any order.

use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::{
    Acker, Channel, Connection,
    message::Delivery,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::time::timeout;

use super::{
    ack_transaction, count,
    hindrances::Hindrances,
    visited::VisitedLetters,
    walk_progress::{Progress, WalkError},
};
use crate::{
    backoff::Backoff,
    clock::{Clock, Instant, Timestamp},
    transport::{
        DeadQueue, Visit, Visitor, Walked,
        amqp::{
            broker_error::{Fault, answer},
            connect::channel::{open_channel, short},
            message::dead_letter,
            publish::{
                outbox::{OutboundMessage, Outbox},
                publisher::{Publication, WINDOW},
            },
            queues::{counter::Counter, own_queue::OwnQueue},
        },
    },
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
/// Dead letters that were counted and do not come in this time were taken by another consumer.
const IDLE: Duration = Duration::from_millis(500);
/// Nothing is held longer than this …
const HOLD: Duration = Duration::from_secs(2);
/// … or than this many times what it takes to get it all again.
const WORTH: u32 = 4;
/// A visitor that makes us wait again and again is asked again after pauses that grow.
const PAUSES: Backoff = Backoff { first: Duration::from_millis(50), factor: 2.0, longest: Duration::from_secs(10) };

const TAG: &str = "dead-letters";

/// Walks through the dead letters that a queue has now. What the broker itself dead-letters lies under the default name, also
/// where ours go to another queue.
pub(crate) async fn walk(
    outbox: &Outbox,
    queue: &DeadQueue,
    (mut visit, mut jobs): (Visitor, Option<Hindrances>),
    now: Timestamp,
    progress: &Progress,
) -> Result<Walked, WalkError> {
    let mut all = Walked::default();
    for name in count::names(queue) {
        let queue = DeadQueue { name, ..queue.clone() };
        let one = Box::pin(walk_one(outbox, &queue, (&mut visit, jobs.as_mut()), now, progress));
        let (walked, wants_more) = one.await?;
        all = all.and(walked);
        if !wants_more {
            break;
        }
        progress.next();
    }
    Ok(all)
}

/// Walks through one queue. `false`: the visitor wants no more.
async fn walk_one(
    outbox: &Outbox,
    queue: &DeadQueue,
    (visit, jobs): (&mut Visitor, Option<&mut Hindrances>),
    now: Timestamp,
    progress: &Progress,
) -> Result<(Walked, bool), WalkError> {
    let connection = outbox.session.reader();
    let ready = count::ready(&mut Counter::new(&connection), &queue.name, count::WALK).await?;
    let own_queue = OwnQueue::Dead(queue.name.clone());
    if ready > 0 {
        let traits = outbox.session.topology.look(&connection, &own_queue).await?;
        if let Some(why) = count::refusal(&traits) {
            return Err(Fault::Refused(format!("dead-letter queue \"{}\" {why}", queue.name)).into());
        }
    }
    let mut walk = Walk {
        outbox,
        queue,
        visit,
        jobs,
        now,
        progress,
        ready,
        walked: Walked::default(),
        others: 0,
        bytes: 0,
        slow: false,
        window: Vec::new(),
        window_bytes: 0,
        removals: Vec::new(),
        held: Vec::new(),
        kept: VisitedLetters::default(),
        not_visited: 0,
        stopped: false,
        behind: 0,
        clock: Clock::start(),
        began_at: Instant::default(),
        hold: HOLD,
        stalls: 0,
    };
    let result = walk.steps(&connection).await;
    let left = walk.ready.saturating_sub(walk.walked.retried + walk.walked.removed);
    let given_back = walk.give_back(&connection, Some(left)).await;
    let (walked, others, stopped) = (walk.walked, walk.others, walk.stopped);
    let walked = Walked { seen: walked.seen - others, ..walked };
    result.and(given_back.map_err(WalkError::from)).map(|()| (walked, !stopped))
}

/// Why a step ended.
enum End {
    /// It holds as much as it should; there may be more.
    Step,
    /// The visitor wants to be asked again after this long, for which nothing may be held.
    Pause(Duration),
    /// All were seen, or the visitor wants no more.
    Walk,
}

pub(crate) struct Walk<'a> {
    pub(crate) outbox: &'a Outbox,
    pub(crate) queue: &'a DeadQueue,
    visit: &'a mut Visitor,
    /// Asked about dead letters of jobs that are to go back to work, if anybody is.
    pub(crate) jobs: Option<&'a mut Hindrances>,
    now: Timestamp,
    pub(crate) progress: &'a Progress,
    /// Dead letters at the beginning. What dies while we walk is behind them, and not visited.
    ready: u64,
    pub(crate) walked: Walked,
    /// Those among the seen that came from other queues, or died after the beginning: they stay, and the visitor is not asked
    /// about them.
    others: u64,
    /// Sum of the bodies seen.
    bytes: u64,
    /// The visitor makes us wait.
    slow: bool,
    /// To be put back to work.
    pub(crate) window: Vec<(OutboundMessage, Acker)>,
    pub(crate) window_bytes: usize,
    /// To be removed.
    pub(crate) removals: Vec<Acker>,
    /// Channels with the number of what is not to go on them, oldest first.
    pub(crate) held: Vec<(Channel, u64)>,
    kept: VisitedLetters,
    /// Taken, not visited, and given back. They are taken again together: a quorum queue has what came back in the order in
    /// which it came, so that what is taken and given back without the others behind it changes places with them.
    not_visited: u64,
    /// Of these, how many lie behind those that the step has taken.
    behind: u64,
    /// The visitor wants no more.
    stopped: bool,
    clock: Clock,
    /// When the first of what is held was taken.
    began_at: Instant,
    /// How long it may be held.
    hold: Duration,
    /// Pauses in a row in which nothing was visited.
    stalls: u32,
}

impl Walk<'_> {
    async fn steps(&mut self, connection: &Connection) -> Result<(), WalkError> {
        while self.walked.seen < self.ready {
            // Not before all that was held is held again, or there would be no end.
            if self.kept.left() == 0 && self.is_held_for(self.hold) {
                self.refresh(connection).await?;
            }
            match self.step(connection).await? {
                End::Step => {}
                End::Pause(pause) => {
                    self.refresh(connection).await?;
                    tokio::time::sleep(pause).await;
                }
                End::Walk => break,
            }
        }
        Ok(())
    }

    /// Whether what is held is that old.
    fn is_held_for(&self, time: Duration) -> bool {
        !self.held.is_empty() && self.clock.now().at.since(self.began_at) >= time
    }

    /// Gives all back, to begin from the front.
    async fn refresh(&mut self, connection: &Connection) -> Result<(), Fault> {
        self.give_back(connection, None).await?;
        self.kept.begin_again();
        Ok(())
    }

    /// Takes dead letters, as many as may be out at a time, and then visits each. Nothing is acknowledged before the
    /// consumer is cancelled: what the broker sends to one that is being cancelled loses its place.
    async fn step(&mut self, connection: &Connection) -> Result<End, WalkError> {
        if self.held.len() >= HELD {
            let kept = self.walked.seen - self.walked.retried - self.walked.removed;
            return Err(Fault::Broken(format!("{kept} dead letters are held, which is as many as can be")).into());
        }
        let fault = |error: lapin::Error| Fault::of(&error);
        let most = self.ahead();
        let channel = open_channel(connection).await.map_err(fault)?;
        if self.held.is_empty() {
            self.began_at = self.clock.now().at;
        }
        self.held.push((channel.clone(), 0));
        ack_transaction::prepare(&channel).await?;
        answer(channel.basic_qos(most, BasicQosOptions::default())).await.map_err(fault)?;
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consumer = channel.basic_consume(short(&self.queue.name), short(TAG), options, arguments);
        let mut consumer = answer(consumer).await.map_err(fault)?;
        let mut messages = Vec::with_capacity(usize::from(most));
        while messages.len() < usize::from(most) {
            match timeout(IDLE, consumer.next()).await {
                Ok(Some(Ok(message))) => messages.push(message),
                Ok(Some(Err(error))) => return Err(fault(error).into()),
                Ok(None) => return Err(Fault::Absent(self.queue.name.clone()).into()),
                Err(_) => break,
            }
        }
        answer(channel.basic_cancel(short(TAG), BasicCancelOptions::default())).await.map_err(fault)?;
        let all_came = messages.len() == usize::from(most);
        // Behind those that were kept lie those that are to be visited.
        self.behind = if self.kept.left() > 0 { self.not_visited } else { 0 };
        self.not_visited = self.behind + messages.len() as u64;
        for message in messages {
            match self.judge(message).await? {
                Judged::Going => self.not_visited -= 1,
                Judged::Stop => {
                    self.stopped = true;
                    self.carry_out().await?;
                    return Ok(End::Walk);
                }
                Judged::Pause(pause) => {
                    if let Some((_, unacknowledged)) = self.held.last_mut() {
                        *unacknowledged += self.not_visited - self.behind;
                    }
                    return Ok(End::Pause(pause));
                }
            }
        }
        self.carry_out().await?;
        if self.held.last().is_some_and(|(_, kept)| *kept == 0) {
            self.held.pop();
            answer(channel.close(200, "done".into())).await.map_err(fault)?;
        }
        Ok(if all_came { End::Step } else { End::Walk })
    }

    /// How many to take.
    fn ahead(&self) -> u16 {
        let mean = (self.bytes / self.walked.seen.max(1)).max(1);
        let most = u16::try_from(BYTES / mean).unwrap_or(MOST).clamp(10, MOST);
        let few = |count: u64| u16::try_from(count).unwrap_or(MOST);
        match (self.kept.left(), self.not_visited) {
            (0, 0) if self.walked.seen == 0 || self.slow => few(self.ready - self.walked.seen).min(FIRST),
            (0, 0) => few(self.ready - self.walked.seen).min(most),
            (0, not_visited) => few(not_visited),
            (known, _) => few(known).min(most),
        }
    }

    async fn judge(&mut self, message: Delivery) -> Result<Judged, WalkError> {
        let letter = dead_letter::read(&message.properties, &message.data, self.queue);
        let to_come = self.kept.left();
        let is_kept = self.kept.meet(&letter);
        if to_come > 0 && self.kept.left() == 0 {
            self.hold = HOLD.max(self.clock.now().at.since(self.began_at) * WORTH);
        }
        if is_kept {
            return Ok(self.stay());
        }
        if to_come > 0 {
            // Others came in place of those that are gone: what is left of this step was counted as behind it, too.
            let twice = self.behind.min(self.not_visited - self.behind);
            self.behind -= twice;
            self.not_visited -= twice;
        }
        if letter.queue != self.queue.queue || self.died_since(letter.failure.failed_at) {
            self.others += 1;
            self.seen(&message);
            self.kept.add(&letter);
            return Ok(self.stay());
        }
        let verdict = loop {
            match (self.visit)(&letter) {
                Visit::Wait(after) => {
                    self.slow = true;
                    self.carry_out().await?;
                    if self.is_held_for(self.hold.saturating_sub(after)) {
                        self.stalls += 1;
                        return Ok(Judged::Pause(after.max(PAUSES.delay(self.stalls))));
                    }
                    tokio::time::sleep(after).await;
                }
                verdict => break verdict,
            }
        };
        self.stalls = 0;
        self.seen(&message);
        if self.is_left(&letter, &verdict).await.map_err(WalkError::Unstored)? {
            self.walked.left += 1;
            self.kept.add(&letter);
            return Ok(self.stay());
        }
        match verdict {
            Visit::Keep | Visit::Wait(_) => {
                self.kept.add(&letter);
                return Ok(self.stay());
            }
            Visit::Stop => return Ok(Judged::Stop),
            Visit::Remove => self.removals.push(message.acker),
            Visit::Retry { body } => {
                let properties = dead_letter::again(&message.properties, &letter, self.now).into();
                let body = body.unwrap_or(message.data);
                self.window_bytes += body.len();
                let own_queue = OwnQueue::Work(self.queue.queue.clone());
                let publication = Publication { queue: own_queue.name(), properties, body: body.into() };
                self.window.push((OutboundMessage { own_queue, publication }, message.acker));
            }
        }
        if self.window.len() + self.removals.len() >= WINDOW || self.window_bytes >= WINDOW_BYTES {
            self.carry_out().await?;
        }
        Ok(Judged::Going)
    }

    fn seen(&mut self, message: &Delivery) {
        self.walked.seen += 1;
        self.bytes += message.data.len() as u64;
    }

    /// Whether a dead letter died after the walk began: it may be one that the walk itself put back to work. A clock that
    /// is ahead of ours says nothing about that.
    fn died_since(&self, at: Timestamp) -> bool {
        at > self.now && at <= self.clock.now().wall
    }

    /// One is not to go.
    fn stay(&mut self) -> Judged {
        if let Some((_, kept)) = self.held.last_mut() {
            *kept += 1;
        }
        Judged::Going
    }
}

enum Judged {
    /// It was visited, now or before, and what is to be done with it is under way.
    Going,
    Stop,
    /// It was not visited yet.
    Pause(Duration),
}
