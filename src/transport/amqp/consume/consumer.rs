//! Consuming one queue: its channel, the consumers that take turns on it, and the deliveries that wait for credit.
//!
//! `basic.qos` changes nothing for a consumer that runs: the broker holds it to the prefetch that stood when it began. A new
//! credit is therefore a second consumer with the new prefetch on the same channel, and then a cancel of the first. For a moment
//! both have their window, and what comes beyond the credit waits here. No credit means no consumer, because a prefetch of 0
//! is no limit at all.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::Stream as _;
use lapin::{Acker, BasicProperties, Channel, Consumer, message::Delivery as Message};

use super::{ack_batch::AckBatch, acks::Acks, consumer_switch::ConsumerSwitch, void_window::VoidWindow};
use crate::{
    clock::{Instant, Timestamp},
    task::{Handle, Task},
    transport::{
        QueueSetup,
        amqp::{
            broker_error::Fault,
            connect::channel::short,
            queues::foreign_queues::{ForeignQueues, QueueTraits},
            stopped::known::Hands,
        },
    },
};

/// Most messages that are taken from one queue at a time, so that settlements get their turn.
const MESSAGES_PER_POLL: usize = 1024;

/// The count of deliveries from which on a return must not add to it.
pub(crate) const COPY_FROM_DELIVERIES: u32 = 2;

/// Between two polls of a queue of which the master holds at least half of its credit. Messages come a few at a time, and to take
/// each few at once would cost a change of threads on both sides of us.
const POLL_PAUSE: Duration = Duration::from_millis(1);
/// Below this credit no poll is deferred.
const PAUSE_FROM_CREDIT: u32 = 32;

/// A message that is held without credit goes back to the tail of its queue after this: the broker closes a channel on which a
/// message stays unacknowledged for its `consumer_timeout`, and does not tell how long that is.
const KEEP_WITHOUT_CREDIT: Duration = Duration::from_secs(2);

/// A message that came and is not judged yet: its ledger has not been heard.
pub(crate) struct Unjudged {
    pub(crate) tag: u64,
    pub(crate) redelivered: bool,
    pub(crate) properties: Box<BasicProperties>,
    pub(crate) body: Vec<u8>,
    pub(crate) hands: Hands,
}

/// A delivery that waits for credit.
pub(crate) struct HeldDelivery {
    /// When it arrived.
    pub(crate) since: Instant,
    pub(crate) tag: u64,
    pub(crate) properties: Box<BasicProperties>,
    pub(crate) task: Task,
    pub(crate) named: bool,
    pub(crate) redelivered: bool,
    /// What is still to be done with it unless the master knows it.
    pub(crate) on_pass: Option<PassAction>,
}

/// What a task that came again waits for before it may be begun.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PassAction {
    /// A classic queue does not count deliveries, so the message itself does, from the tail of the queue.
    Count,
    /// It is not due; the next step of its delay, what is left of that where it is known, and the moment where none of our
    /// headers says it yet.
    Delay { step: u64, left: Option<Duration>, not_before: Option<Timestamp> },
    /// Its job is frozen.
    Freeze,
}

/// One attached queue in one session.
pub(crate) struct ConsumedQueue {
    pub(crate) setup: QueueSetup,
    /// Names its channel among all that it had: what comes of an earlier one means nothing.
    pub(crate) number: u64,
    /// `None`: the queue is unavailable. What was accepted of it is settled all the same.
    pub(crate) channel: Option<Channel>,
    /// When its channel was opened.
    pub(crate) since: Instant,
    /// How often in a row it lost its channel soon after the open.
    pub(crate) failures: u32,
    current: Option<Consumer>,
    /// Cancelled; the deliveries that they got before are still to be read.
    ending: Vec<Consumer>,
    /// The prefetch of the current consumer; 0: none.
    prefetch: u16,
    /// A change of consumers is under way.
    pub(crate) switching: bool,
    /// How many deliveries the master may hold.
    pub(crate) credit: u32,
    /// How many deliveries the master holds.
    pub(crate) in_hand: u32,
    /// How many of these are accepted. They are acknowledged, so the broker counts them as free prefetch.
    pub(crate) accepted: u32,
    pub(crate) held: VecDeque<HeldDelivery>,
    pub(crate) unjudged: Vec<Unjudged>,
    /// Tasks that wipe, while masters are asked what they have in hand.
    pub(crate) wipes: Vec<Unjudged>,
    /// Tags of what is on its way aside, because its job is frozen.
    pub(crate) freezing: BTreeSet<u64>,
    /// The last part of a delay, too short for the ladder, is waited out here.
    pub(crate) nearly_due: Vec<(Instant, HeldDelivery)>,
    /// Accepted, to be acknowledged once the prefetch is smaller by as many.
    pub(crate) accepting: Vec<(u64, Handle)>,
    pub(crate) acks: Acks,
    /// When its consumers are polled again while polls are deferred.
    poll_again_at: Instant,
    /// Tags whose acknowledgement waits, with the handle that is settled by it; `None`: the master never saw the delivery.
    pub(crate) settled_tags: BTreeMap<u64, Option<Handle>>,
    /// The acker of each tag that the broker holds as unacknowledged.
    pub(crate) ackers: BTreeMap<u64, Acker>,
    /// Tags to be returned to the queue.
    pub(crate) to_requeue: Vec<(u64, Option<Handle>)>,
    /// Acknowledgements are being written; one batch at a time, so that their order is the order they take effect in.
    pub(crate) sending: bool,
    /// How many copies of its tasks are under way that the master does not know of.
    pub(crate) republishing: u32,
    /// It is removed when nothing of it is open any more.
    pub(crate) leaving: bool,
    pub(crate) window: VoidWindow,
}

/// What a poll of the consumers gave.
pub(crate) enum Polled {
    Messages(Vec<Message>),
    /// Nothing more comes on this channel, or on any.
    Ended(Fault),
}

impl ConsumedQueue {
    pub(crate) fn new(setup: QueueSetup, channel: Option<Channel>, credit: u32) -> Self {
        Self {
            setup,
            number: 0,
            channel,
            since: Instant::default(),
            failures: 0,
            current: None,
            ending: Vec::new(),
            prefetch: 0,
            switching: false,
            credit,
            in_hand: 0,
            accepted: 0,
            held: VecDeque::new(),
            unjudged: Vec::new(),
            wipes: Vec::new(),
            freezing: BTreeSet::new(),
            nearly_due: Vec::new(),
            accepting: Vec::new(),
            acks: Acks::new(),
            poll_again_at: Instant::default(),
            settled_tags: BTreeMap::new(),
            ackers: BTreeMap::new(),
            to_requeue: Vec::new(),
            sending: false,
            republishing: 0,
            leaving: false,
            window: VoidWindow::default(),
        }
    }

    /// Until when its poll is deferred; `None`: it is polled at once.
    pub(crate) fn poll_deferred_until(&self, now: Instant) -> Option<Instant> {
        let has_much = self.credit >= PAUSE_FROM_CREDIT && self.in_hand >= self.credit / 2;
        (has_much && self.poll_again_at > now).then_some(self.poll_again_at)
    }

    /// Messages came just now: the next poll may be deferred.
    pub(crate) fn defer_poll(&mut self, now: Instant) {
        self.poll_again_at = now + POLL_PAUSE;
    }

    /// Takes what the consumers have ready, in the order the broker sent it.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Polled> {
        let mut came: Vec<Message> = Vec::new();
        let mut broken: Option<Fault> = None;
        let current = self.current.as_mut().map(|consumer| (consumer, true));
        let consumers = self.ending.iter_mut().map(|consumer| (consumer, false)).chain(current);
        let mut ended = Vec::new();
        for (consumer, is_current) in consumers {
            loop {
                if came.len() >= MESSAGES_PER_POLL {
                    context.waker().wake_by_ref();
                    break;
                }
                match Pin::new(&mut *consumer).poll_next(context) {
                    Poll::Pending => break,
                    Poll::Ready(Some(Ok(message))) => came.push(message),
                    Poll::Ready(Some(Err(error))) => {
                        broken = Some(Fault::of(&error));
                        break;
                    }
                    Poll::Ready(None) if is_current => {
                        let cause = format!("the broker ended the consumer of queue \"{}\"", self.setup.name);
                        broken = Some(Fault::Refused(cause));
                        break;
                    }
                    Poll::Ready(None) => {
                        ended.push(consumer.tag());
                        break;
                    }
                }
            }
        }
        self.ending.retain(|consumer| !ended.contains(&consumer.tag()));
        if let Some(fault) = broken {
            return Poll::Ready(Polled::Ended(fault));
        }
        // The end of its last consumer may be all that a queue that is to go waits for.
        let may_go = self.leaving && !ended.is_empty();
        if came.is_empty() && !may_go {
            return Poll::Pending;
        }
        came.sort_unstable_by_key(|message| message.delivery_tag);
        Poll::Ready(Polled::Messages(came))
    }

    /// The wanted prefetch: the credit less the accepted deliveries. While tasks are accepted, only roughly so:
    /// each change costs two questions to the broker.
    fn wanted(&self) -> u16 {
        let credit = u16::try_from(self.credit).unwrap_or(u16::MAX);
        let free = credit.saturating_sub(u16::try_from(self.accepted).unwrap_or(u16::MAX));
        let near = self.prefetch / 2 <= free && free / 2 <= self.prefetch && (free == 0) == (self.prefetch == 0);
        self.window.of(if self.accepted > 0 && near { self.prefetch } else { free })
    }

    /// Whether its consumer with the wide window is gone: what it was sent beyond the credit is for others.
    pub(crate) const fn is_narrowed(&self) -> bool {
        self.window.is_wide() && !self.switching && self.prefetch == 0
    }

    /// The change of consumers that the credit asks for, if none is under way. Upwards, the new consumer comes
    /// before the old one goes; downwards, the next one comes when its window has room beside what is still out.
    ///
    /// A queue that goes with its last consumer keeps one, also without credit: what it is sent then waits here. Of several
    /// consumers of a queue that sends to one of them alone the new one would get nothing; classic queues (3.10.8) do not even
    /// send it anything after the end of the old one. There the old one goes first, and does not go only to get less.
    pub(crate) fn switch(&mut self, foreign_queues: &ForeignQueues) -> Option<ConsumerSwitch> {
        let channel = self.channel.clone()?;
        let mut wanted = self.wanted();
        if self.switching || wanted == self.prefetch {
            return None;
        }
        let QueueTraits { auto_delete, single, .. } = foreign_queues.of(&self.setup.name);
        let keeps = auto_delete && self.prefetch > 0 && !self.leaving;
        if keeps {
            wanted = wanted.max(1);
        }
        let less = wanted < self.prefetch;
        if wanted == self.prefetch || single && less && wanted > 0 {
            return None;
        }
        let prefetch = if less && !keeps { 0 } else { wanted };
        if self.prefetch == 0 && self.ackers.len() >= usize::from(wanted) {
            return None;
        }
        self.switching = true;
        let old = self.current.take().map(|consumer| {
            let tag = consumer.tag();
            self.ending.push(consumer);
            tag
        });
        Some(ConsumerSwitch { channel, queue: short(&self.setup.name), old, prefetch, single })
    }

    /// Accepted deliveries that may be acknowledged now.
    pub(crate) fn acceptable(&mut self) -> Vec<(u64, Handle)> {
        let settled = !self.switching && self.prefetch <= self.wanted();
        if settled { std::mem::take(&mut self.accepting) } else { Vec::new() }
    }

    /// Moves what has become due to those that wait for credit.
    pub(crate) fn release_due(&mut self, now: Instant) {
        let (due, early) = self.nearly_due.drain(..).partition(|(at, _)| *at <= now);
        self.nearly_due = early;
        let due: Vec<(Instant, HeldDelivery)> = due;
        self.held.extend(due.into_iter().map(|(_, held)| held));
    }

    /// The change of consumers is done.
    pub(crate) fn switched(&mut self, consumer: Option<Consumer>, prefetch: u16) {
        self.switching = false;
        self.prefetch = prefetch;
        self.window.switched(prefetch);
        self.current = consumer;
    }

    /// Whether its consumers will say why the channel is closed.
    pub(crate) fn has_consumers(&self) -> bool {
        self.current.is_some() || !self.ending.is_empty()
    }

    /// Whether the broker gives us what it has, as far as the credit goes.
    pub(crate) fn is_attached(&self) -> bool {
        self.current.is_some() && !self.switching
    }

    /// Whether anything of this queue is open or under way, except for so many messages that their target refuses.
    pub(crate) fn is_busy_beside(&self, refused_messages: u32) -> bool {
        let waits = |count: u32| count > refused_messages;
        self.in_hand > 0 || waits(self.republishing) || self.switching || waits(self.ackers.len() as u32)
    }

    /// Returns to the queue what the master never saw, so that other nodes get it. What would come back with one
    /// delivery too many is returned, to go there as a copy.
    pub(crate) fn give_back(&mut self) -> Vec<HeldDelivery> {
        let early = self.nearly_due.drain(..).map(|(_, held)| held);
        let (copied, back): (Vec<HeldDelivery>, Vec<HeldDelivery>) =
            self.held.drain(..).chain(early).partition(|held| held.task.deliveries >= COPY_FROM_DELIVERIES);
        let unjudged = self.unjudged.drain(..).chain(self.wipes.drain(..)).map(|message| message.tag);
        self.to_requeue.extend(back.into_iter().map(|held| held.tag).chain(unjudged).map(|tag| (tag, None)));
        self.republishing += copied.len() as u32;
        copied
    }

    /// When what is kept without credit has to be stored anew.
    pub(crate) fn stale_at(&self) -> Option<Instant> {
        if self.credit > 0 || self.leaving {
            return None;
        }
        let early = self.nearly_due.iter().map(|(_, held)| held);
        self.held.iter().chain(early).map(|held| held.since + KEEP_WITHOUT_CREDIT).min()
    }

    /// Takes out what has to be stored anew, as copies.
    pub(crate) fn stale(&mut self, now: Instant) -> Vec<HeldDelivery> {
        if self.stale_at().is_none_or(|at| at > now) {
            return Vec::new();
        }
        let stale: Vec<HeldDelivery> =
            self.held.drain(..).chain(self.nearly_due.drain(..).map(|(_, held)| held)).collect();
        self.republishing += stale.len() as u32;
        stale
    }

    /// Whether it can go: its consumers have ended, and nothing of it waits for anything.
    pub(crate) fn is_drained(&self) -> bool {
        !self.is_busy_beside(0)
            && !self.sending
            && self.prefetch == 0
            && self.ending.is_empty()
            && self.settled_tags.is_empty()
    }

    /// The next batch of acknowledgements, if one is due and none is being written.
    pub(crate) fn batch(&mut self, now: Instant, all: bool) -> Option<AckBatch> {
        if self.sending {
            return None;
        }
        let mut batch = AckBatch { steps: Vec::new(), handles: Vec::new() };
        // First what is given back: a `multiple` above it would take it along.
        for (tag, handle) in self.to_requeue.drain(..) {
            self.acks.requeued(tag);
            batch.handles.extend(handle);
            batch.steps.extend(self.ackers.remove(&tag).map(|acker| (acker, None)));
        }
        for ack in self.acks.due(now, if all { 0 } else { self.credit }) {
            if ack.multiple {
                let above = self.ackers.split_off(&(ack.tag + 1));
                let upto = std::mem::replace(&mut self.ackers, above);
                batch.steps.extend(upto.into_iter().next_back().map(|(_, acker)| (acker, Some(true))));
                let above = self.settled_tags.split_off(&(ack.tag + 1));
                let upto = std::mem::replace(&mut self.settled_tags, above);
                batch.handles.extend(upto.into_values().flatten());
            } else {
                batch.steps.extend(self.ackers.remove(&ack.tag).map(|acker| (acker, Some(false))));
                batch.handles.extend(self.settled_tags.remove(&ack.tag).flatten());
            }
        }
        if batch.steps.is_empty() {
            return None;
        }
        self.sending = true;
        Some(batch)
    }

    /// Whether it waits for a moment.
    pub(crate) fn needs_time(&self) -> bool {
        self.waits() || !self.nearly_due.is_empty() || self.stale_at().is_some()
    }

    /// Whether acknowledgements wait for a moment.
    pub(crate) fn waits(&self) -> bool {
        !self.sending && self.acks.waits()
    }
}
