//! What becomes of the tasks that are here when it is heard that rounds are void or jobs frozen.

use std::{
    collections::{HashSet, VecDeque},
    rc::Rc,
};

use uuid::Uuid;

use super::{fetch::fetch, known::Fate, subscription::Subscription};
use crate::{
    jobs::record::FrozenJob,
    membership::Membership,
    transport::{
        Event,
        amqp::{
            consume::consumer::{HeldDelivery, Unjudged},
            ledger::names::{Announcement, HandsAsked, HandsOfJob},
            message::{place, properties::Transition},
            publish::replies::Answer,
            queues::{foreign_queues::QueueTraits, own_queue::OwnQueue},
            session::{state::Actor, up::Up},
        },
    },
};

impl Actor {
    /// Listens to the ledger of this application, in all sessions of a master.
    pub(crate) fn listen(&mut self, application: &str) {
        if self.attachment.is_some() && self.shared.stopped.borrow_mut().listen(application) {
            self.state.up().into_iter().for_each(|up| up.subscribe(application));
        }
    }

    /// A session stands: listens as in the one before.
    pub(crate) fn listen_again(&mut self) {
        self.shared.stopped.borrow_mut().session_began();
        let applications = self.shared.stopped.borrow().applications();
        for application in applications {
            self.state.up().into_iter().for_each(|up| up.subscribe(&application));
        }
    }
}

impl Up {
    /// Listens to the ledger of an application for the rest of the session.
    fn subscribe(&mut self, application: &str) {
        if !self.subscribed.insert(application.to_owned()) {
            return;
        }
        let subscription = Subscription {
            session: Rc::clone(&self.session),
            notes: self.shared.notes.clone(),
            application: application.to_owned(),
            is_passive: self.session.topology.is_passive(),
        };
        self.tasks.spawn_local(subscription.listen());
    }

    /// What becomes of a task that comes, by its place in a job. Its ledger is listened to from now on.
    pub(crate) fn fate(&mut self, place: &Membership) -> Fate {
        let fate = self.shared.stopped.borrow().fate(place);
        if fate != Fate::Unknown {
            return fate;
        }
        if !self.shared.stopped.borrow_mut().listen(&place.application) {
            return Fate::Worked;
        }
        self.subscribe(&place.application);
        Fate::Unknown
    }

    /// A coordinator has said what is stopped, or nobody answers.
    pub(crate) fn heard_stopped(&mut self, application: &str, said: Option<Box<Announcement>>) {
        let Some(said) = said else {
            self.shared.stopped.borrow_mut().unanswered(application);
            return self.judge_all();
        };
        if let Some(asked) = said.hands {
            return self.tell_hands(asked, &self.rounds_here());
        }
        if let Some(HandsOfJob { job, asked }) = said.hands_of {
            let is_of = |place: &&Membership| place.application == application && place.job == job && !place.wipe;
            let places = self.open.values().filter_map(|open| open.task.membership.as_deref());
            return self.tell_hands(asked, &places.filter(is_of).map(|place| place.round).collect());
        }
        let is_complete = said.complete;
        let mut news = self.shared.stopped.borrow_mut().hear(application, *said);
        if is_complete {
            // What was said before somebody listened is told only of what is in hand.
            let places = || self.open.values().filter_map(|open| open.task.membership.as_deref());
            let rounds: HashSet<_> = places().map(|place| place.round).collect();
            let ours = |place: &&Membership| place.application == application;
            let jobs: HashSet<_> = places().filter(ours).map(|place| place.job.as_str()).collect();
            news.void.retain(|round| rounds.contains(round));
            news.frozen.retain(|job| jobs.contains(job.as_str()));
        }
        self.stop_held();
        self.judge_all();
        self.fetching.wanted |= news.thawed;
        if !news.void.is_empty() || !news.frozen.is_empty() {
            let frozen = |id| FrozenJob { application: application.to_owned(), id };
            let frozen = news.frozen.into_iter().map(frozen).collect();
            self.shared.emit(Event::JobsStopped { void: news.void, frozen });
        }
    }

    /// Tells whoever asks of these rounds, if there are any.
    fn tell_hands(&self, asked: HandsAsked, rounds: &HashSet<Uuid>) {
        if !rounds.is_empty() {
            // Ids: writing them cannot fail.
            let body = serde_json::to_vec(rounds).unwrap_or_default();
            self.replies.take(Answer { queue: asked.reply_to, correlation_id: asked.correlation_id, body });
        }
    }

    /// The rounds of all tasks that the broker has given us, be they begun or not: it counts those in no queue.
    fn rounds_here(&self) -> HashSet<Uuid> {
        let in_hand = self.open.values().map(|open| &*open.task);
        let waiting = self.queues.each().flat_map(|(_, consumed)| {
            consumed.held.iter().chain(consumed.nearly_due.iter().map(|(_, held)| held)).map(|held| &held.task)
        });
        let known = in_hand.chain(waiting).filter_map(|task| Some(task.membership.as_deref()?.round));
        let unjudged = self.queues.each().flat_map(|(_, consumed)| consumed.unjudged.iter().chain(&consumed.wipes));
        known.chain(unjudged.filter_map(|unjudged| Some(place::of(&unjudged.properties)?.round))).collect()
    }

    /// Judges what was held because nothing was known of its ledger.
    fn judge_all(&mut self) {
        let waiting = self.queues.each().filter(|(_, consumed)| !consumed.unjudged.is_empty());
        for queue in waiting.map(|(queue, _)| queue).collect::<Vec<_>>() {
            let unjudged: Vec<Unjudged> = std::mem::take(&mut self.queues[queue].unjudged);
            self.judge(queue, unjudged);
        }
    }

    /// Takes out what waits here and is stopped.
    fn stop_held(&mut self) {
        let mut stopped = Vec::new();
        let known = self.shared.stopped.borrow();
        let is_stopped = |held: &HeldDelivery| {
            held.task.membership.as_deref().is_some_and(|place| known.is_void(place) || known.is_frozen(place))
        };
        let queues: Vec<usize> = self.queues.each().map(|(queue, _)| queue).collect();
        for queue in queues {
            let consumed = &mut self.queues[queue];
            let held = std::mem::take(&mut consumed.held);
            let (out, stays): (VecDeque<HeldDelivery>, _) = held.into_iter().partition(&is_stopped);
            consumed.held = stays;
            let late = std::mem::take(&mut consumed.nearly_due);
            let (late_out, stays): (Vec<_>, _) = late.into_iter().partition(|(_, held)| is_stopped(held));
            consumed.nearly_due = stays;
            stopped.extend(out.into_iter().chain(late_out.into_iter().map(|(_, held)| held)).map(|held| (queue, held)));
        }
        drop(known);
        for (queue, held) in stopped {
            let is_void =
                held.task.membership.as_deref().is_some_and(|place| self.shared.stopped.borrow().is_void(place));
            if is_void {
                self.drop_void(queue, held.tag, &held.task);
            } else {
                self.queues[queue].republishing += 1;
                self.freeze(queue, held.tag, &held.properties, &held.task);
            }
        }
    }

    /// A message of a void round goes unseen.
    pub(crate) fn drop_void(&mut self, queue: usize, tag: u64, task: &crate::task::Task) {
        let job = task.membership.as_ref().map_or("", |place| &place.job);
        tracing::debug!(target: "asynctask::amqp", "task {} of job {job} is dropped: its round is void", task.id);
        let now = self.shared.now().at;
        let consumed = &mut self.queues[queue];
        consumed.acks.ended(tag, now);
        consumed.settled_tags.insert(tag, None);
        let QueueTraits { auto_delete, single, .. } = self.shared.foreign_queues.of(&consumed.setup.name);
        // Where the window is not to be made narrow again without a loss, it is not made wide.
        if !auto_delete && !single {
            consumed.window.void_came();
        }
    }

    /// Puts a task of a frozen job aside that the master has not seen, with its deliveries as they were counted.
    pub(crate) fn freeze(
        &mut self,
        queue: usize,
        tag: u64,
        properties: &lapin::BasicProperties,
        task: &crate::task::Task,
    ) {
        let consumed = &mut self.queues[queue];
        consumed.freezing.insert(tag);
        let own_queue = OwnQueue::Frozen(consumed.setup.name.clone());
        self.pass(queue, tag, own_queue, &Transition::Counted { deliveries: task.deliveries }, properties, task);
    }

    /// Begins to fetch what was put aside, once all of it is there that was on its way when the thaw was heard.
    pub(crate) fn fetch_frozen(&mut self) {
        if !self.fetching.wanted
            || self.fetching.under_way
            || self.queues.iter().any(|queue| !queue.freezing.is_empty())
        {
            return;
        }
        self.fetching.wanted = false;
        self.fetching.under_way = true;
        let queues = self.queues.iter().map(|consumed| consumed.setup.name.clone()).collect();
        self.tasks.spawn_local(fetch(self.outbox.clone(), Rc::clone(&self.shared.address), queues));
    }
}
