//! The core's chapter on reloads: what is done about the difference between new settings and those in force, queue by queue.
//!
//! What a reload can change is [`Settings`], in `plan`. What needs a restart is refused before, in `cli::workers`; schedules are
//! replaced in `shell::reload_settings`.
//!
//! ```text
//!           ┌── not in the settings ───────────────────────────┐
//!           │                                                  v
//! Joining ──┴─ added ─> Attached ── not in the settings ─> Draining ── nothing in hand ─> Leaving ── removed ─> Vacant
//!    ^                      ^  in the settings again │                                       │
//!    └──────────────────────┴────────────────────────┴─────── wanted again meanwhile ────────┘
//! ```
//!
//! A queue that is the same is not touched. A changed one takes its new settings at once; its workers are renewed, each
//! replaced before it goes, if they are started in another way. A name has one pool at any time, and a pool keeps its index
//! until the transport has said that nothing of it is left: so no delivery is ever taken for another queue's.

pub(crate) mod progress;
#[cfg(test)]
mod tests;

use super::{
    Core,
    event::{Action, QueuePlan, Settings},
    state::{
        pool::{self, Pool, Request, Standing},
        slot::State,
        window::Window,
    },
};
use crate::{
    config::ReservedNames,
    control::types::Answer,
    frames::HaltReason,
    logging::Level,
    task::QueueIndex,
    transport::{self, DeadQueue},
};

/// Commands that wait for the end of a reload; beyond that the oldest is told so.
const WAITING: usize = 32;

impl Core {
    /// The settings were read again, and are right. A reload that is under way goes on towards these.
    pub(super) fn settings_read(&mut self, number: Option<u64>, wait: bool, by: &str, settings: Settings) {
        self.log(Level::Info, || format!("{by} asks: reload"));
        if self.stop.is_stopping() {
            self.answer(number, Answer::refused("the master is stopping"));
            return;
        }
        self.serial += 1;
        let other_ping = settings.supervisor.ping != self.plan.supervisor.ping;
        self.plan.supervisor = settings.supervisor;
        if other_ping {
            self.begin_pings();
        }
        self.plan.scheduler = settings.scheduler;
        self.plan.names = settings.names;
        self.plan.pipelines = settings.pipelines;
        self.submitted_to.clear();
        let reload = self.reload.get_or_insert_default();
        (reload.is_ready, reload.has_moved) = (false, true);
        let mut changes = Changes::default();
        for index in 0..self.pools.len() {
            let pool = &mut self.pools[index];
            if settings.queues.iter().any(|plan| plan.settings.name == pool.name()) {
                continue;
            }
            match &mut pool.standing {
                Standing::Joining | Standing::Attached => {
                    changes.removed.push(pool.name().to_owned());
                    self.remove_queue(index, None);
                }
                Standing::Draining { again } | Standing::Leaving { again } => {
                    if let Some(plan) = again.take() {
                        changes.removed.push(plan.settings.name);
                    }
                }
                Standing::Vacant => {}
            }
        }
        for plan in settings.queues {
            self.take_plan(plan, &mut changes);
        }
        self.renew_reserved_names();
        self.update_ready();
        self.warn_of_files();
        let text = changes.in_words();
        self.log(Level::Info, || format!("Settings taken: {text}"));
        match (number, &mut self.reload) {
            (Some(number), Some(reload)) if wait => {
                reload.waiting.push(number);
                let oldest = (reload.waiting.len() > WAITING).then(|| reload.waiting.remove(0));
                self.answer(oldest, Answer::refused("too many wait for the end of the reload; it goes on"));
            }
            _ => self.answer(number, Answer::said(text)),
        }
    }

    fn take_plan(&mut self, plan: QueuePlan, changes: &mut Changes) {
        let name = plan.settings.name.clone();
        let known = self.pools.iter().position(|pool| pool.standing != Standing::Vacant && pool.name() == name);
        let Some(index) = known else {
            changes.added.push(name);
            let free = self.pools.iter().position(|pool| pool.standing == Standing::Vacant);
            self.add_queue(free.unwrap_or(self.pools.len()), plan);
            return;
        };
        let is_other_mode = plan.is_once != self.pools[index].plan.is_once;
        match &mut self.pools[index].standing {
            Standing::Joining | Standing::Attached => {
                if self.pools[index].is_planned(&plan) {
                    // What an earlier reload wanted and did not get is still waited for.
                    self.pools[index].is_fresh |= self.is_behind(index);
                } else {
                    changes.changed.push(name);
                    self.change_queue(index, plan);
                }
            }
            // Its change of mode is under way.
            Standing::Leaving { again: Some(known) } | Standing::Draining { again: Some(known) } if **known == plan => {
            }
            Standing::Leaving { again } => {
                if again.is_some() { &mut changes.changed } else { &mut changes.added }.push(name);
                *again = Some(Box::new(plan));
            }
            Standing::Draining { again } => {
                if again.is_some() { &mut changes.changed } else { &mut changes.added }.push(name);
                // Tasks of it are in hand, and it is worked beside them; but not in another mode.
                if is_other_mode {
                    *again = Some(Box::new(plan));
                } else {
                    self.return_queue(index, plan);
                }
            }
            Standing::Vacant => {}
        }
    }

    /// Works one more queue, at an index that is free.
    fn add_queue(&mut self, index: usize, plan: QueuePlan) {
        let processes = plan.settings.processes;
        let left = self.left_rates.remove(&plan.settings.name);
        let rate = plan.settings.rate.map(|rate| Window::after(left, rate));
        // What was decided before it was let go counts if it comes again.
        let since = self.epoch;
        let pool = Pool { standing: Standing::Joining, is_fresh: true, rate, since, ..Pool::new(plan, Vec::new()) };
        if index == self.pools.len() {
            self.pools.push(pool);
        } else {
            self.pools[index] = pool;
        }
        let pool = &mut self.pools[index];
        pool.registration.is_registered = false;
        pool.delivered_at = self.now.at;
        self.ask_for_queue(index);
        self.scale_to(index, processes);
    }

    /// Works a queue again whose last tasks are still in hand.
    fn return_queue(&mut self, index: usize, plan: QueuePlan) {
        let pool = &mut self.pools[index];
        pool.standing = if pool.registration.is_registered { Standing::Attached } else { Standing::Joining };
        let must_ask = !pool.registration.is_registered && pool.registration.request == Request::None;
        self.change_queue(index, plan);
        if must_ask && self.pools[index].registration.request == Request::None {
            self.ask_for_queue(index);
        }
        self.pools[index].is_fresh = true;
    }

    /// Gives a queue other settings.
    fn change_queue(&mut self, index: usize, plan: QueuePlan) {
        let pool = &mut self.pools[index];
        if plan.is_once != pool.plan.is_once {
            self.remove_queue(index, Some(Box::new(plan)));
            return;
        }
        let processes = plan.settings.processes;
        // What an earlier reload wanted and did not get is still waited for.
        let is_behind = self.is_behind(index);
        let pool = &mut self.pools[index];
        // Not as it was, but as the transport was told: it may have changed while it was not wanted.
        let other_setup = plan.setup() != pool.registration.requested_as;
        let other_start = plan.launch != pool.plan.launch
            || plan.settings.kind != pool.plan.settings.kind
            || plan.settings.protocol.is_celery() != pool.plan.settings.protocol.is_celery()
            || plan.settings.concurrency != pool.plan.settings.concurrency
            || plan.accepts != pool.plan.accepts
            || plan.is_program != pool.plan.is_program;
        if plan.settings.rate != pool.plan.settings.rate {
            pool.rate = plan.settings.rate.map(|rate| Window::after(pool.rate.take(), rate));
        }
        pool.is_fresh |= is_behind || other_start || processes as usize > pool.slots.len();
        pool.scaled = None;
        // Under other settings they are other frames, or are not sent ahead at all.
        let is_other = pool.plan != plan;
        pool.plan = plan;
        self.look_at_protocol(index);
        if is_other {
            self.recall_queue(index);
        }
        let pool = &self.pools[index];
        let before = pool.slots.clone();
        if other_setup {
            self.ask_for_queue(index);
        }
        if other_start && self.pools[index].state != pool::State::Running {
            // What it was parked for is perhaps mended.
            self.work_again(index);
            self.pools[index].failure_streak.reset();
            self.pools[index].starts.succeeded();
        }
        self.scale_to(index, processes);
        for slot in before.into_iter().filter(|slot| self.slots[*slot].wanted).collect::<Vec<_>>() {
            if other_start && !matches!(self.slots[slot].state, State::Alive(_)) {
                (self.slots[slot].failures, self.slots[slot].failed_starts) = (0, 0);
                self.spawn(slot);
            } else if other_start && !self.is_once(slot) && !self.pools[index].renewals.contains(&slot) {
                self.pools[index].renewals.push_back(slot);
            }
            self.arm_slot(slot);
        }
        if other_start {
            self.hurry_successors(index);
        }
        self.renew_next(index);
        self.count_shut(index);
        self.dispatch(index);
    }

    /// A replacement that could not be started is tried again at once: it is something else now.
    fn hurry_successors(&mut self, index: usize) {
        for slot in 0..self.slots.len() {
            let here = &mut self.slots[slot];
            if here.queue == index && here.replaces.is_some() {
                (here.failures, here.failed_starts) = (0, 0);
                if !matches!(here.state, State::Alive(_)) {
                    self.spawn(slot);
                }
            }
        }
    }

    /// Takes no more tasks of a queue, finishes those in hand, and lets its workers go.
    fn remove_queue(&mut self, index: usize, again: Option<Box<QueuePlan>>) {
        let pool = &mut self.pools[index];
        let is_over = again.is_none() && pool.pause.take().is_some();
        pool.standing = Standing::Draining { again };
        pool.is_fresh = false;
        let slots = std::mem::take(&mut pool.slots);
        self.work_again(index);
        if is_over {
            self.keep_paused();
        }
        self.drop_lost_of_gone(index);
        self.give_back(index);
        for slot in slots {
            self.retire(slot, HaltReason::Stop);
        }
        self.pools[index].renewals.clear();
    }

    fn ask_for_queue(&mut self, index: usize) {
        let pool = &mut self.pools[index];
        // Of an unavailable queue no answer may come for long; the transport takes the last word.
        if pool.registration.request != Request::None && pool.trouble.is_none() {
            pool.registration.request = Request::Outdated;
            return;
        }
        let setup = pool.plan.setup();
        pool.registration.request = Request::Pending;
        pool.registration.requested_as = setup.clone();
        self.actions.push(Action::AddQueue { queue: QueueIndex(index), setup });
    }

    /// The transport has added a queue, or changed one.
    pub(super) fn queue_added(&mut self, index: usize) {
        let pool = &mut self.pools[index];
        pool.registration.is_registered = true;
        pool.registration.registered_as = pool.registration.requested_as.clone();
        if pool.standing == Standing::Joining {
            pool.standing = Standing::Attached;
            pool.first = pool::FirstDelivery::Awaited;
            self.serial += 1;
            self.renew_credit(index);
        }
        self.available_again(index);
        self.ask_again(index);
    }

    /// Asks for what the queue has become since it was asked for.
    fn ask_again(&mut self, index: usize) -> bool {
        let pool = &mut self.pools[index];
        let asked = std::mem::replace(&mut pool.registration.request, Request::None);
        let again = asked == Request::Outdated && pool.is_member() && !self.stop.is_stopping();
        if again {
            self.ask_for_queue(index);
        }
        again
    }

    /// The transport cannot change a queue. It is worked as before.
    pub(super) fn queue_refused(&mut self, index: usize, error: &transport::Error) {
        if self.ask_again(index) || self.stop.is_stopping() {
            return;
        }
        let pool = &mut self.pools[index];
        let name = pool.name().to_owned();
        match pool.standing {
            Standing::Joining | Standing::Attached => {
                let registered_as = pool.registration.registered_as.clone();
                let wanted = std::mem::replace(&mut pool.registration.requested_as, registered_as.clone());
                let mut said = vec![error.to_string()];
                if wanted.dead.name != registered_as.dead.name {
                    said.push(format!("its dead letters go to {} as before", registered_as.dead.name));
                } else if wanted.dead != registered_as.dead {
                    said.push("its dead letters are kept as long as before".to_owned());
                }
                if wanted.delays != registered_as.delays {
                    said.push("its queues for delays are as before".to_owned());
                }
                pool.plan.settings.dead_letter = registered_as.dead;
                self.problem(format!("queue {name}: {}", said.join("; ")));
                self.renew_reserved_names();
            }
            Standing::Draining { .. } | Standing::Leaving { .. } | Standing::Vacant => {}
        }
    }

    /// Reserves the names that the wanted queues use: those of the settings, and what the transport kept where it refused them.
    fn renew_reserved_names(&mut self) {
        let wanted = self.pools.iter().filter_map(|pool| match &pool.standing {
            Standing::Joining | Standing::Attached => Some(&pool.plan.settings),
            Standing::Draining { again } | Standing::Leaving { again } => again.as_deref().map(|plan| &plan.settings),
            Standing::Vacant => None,
        });
        self.reserved_names = ReservedNames::new(wanted, &[]);
    }

    /// The transport has let go of a queue: its index is free.
    pub(super) fn queue_removed(&mut self, index: usize) {
        let pool = &mut self.pools[index];
        let Standing::Leaving { again } = std::mem::replace(&mut pool.standing, Standing::Vacant) else { return };
        (pool.registration.is_registered, pool.registration.request, pool.in_line) = (false, Request::None, false);
        // The next queue of this index has no place in line yet.
        self.turns.retain(|other| *other != index);
        let (pause, revoked, counts) = (pool.pause.take(), pool.revoked, std::mem::take(&mut pool.counts));
        let now = self.now.at;
        self.left_rates.retain(|_, window| !window.is_over(now));
        self.left_rates.extend(pool.rate.take().map(|window| (pool.name().to_owned(), window)));
        self.memory_ages();
        if let Some(plan) = again.filter(|_| !self.stop.is_stopping()) {
            self.add_queue(index, *plan);
            let pool = &mut self.pools[index];
            // It is the same queue, though its processes are others.
            (pool.pause, pool.revoked, pool.counts) = (pause, revoked, counts);
        }
    }

    fn problem(&mut self, text: String) {
        let line = text.clone();
        self.log(Level::Error, || format!("Reload: {line}"));
        if let Some(reload) = &mut self.reload {
            reload.problems.push(text);
        }
    }

    /// A stop overtakes a reload.
    pub(super) fn abandon_reload(&mut self) {
        for number in self.reload.take().into_iter().flat_map(|reload| reload.waiting) {
            self.answer(Some(number), Answer::refused("the master is stopping"));
        }
    }

    fn answer(&mut self, number: Option<u64>, answer: Answer) {
        self.actions.extend(number.map(|number| Action::Answer { number, answer }));
    }

    /// The queues that are worked, or were until a moment ago, with their dead letters.
    #[must_use]
    pub fn queues(&self) -> Vec<DeadQueue> {
        let pools = self.pools.iter().filter(|pool| pool.standing != Standing::Vacant);
        pools.map(|pool| pool.plan.settings.dead_letter.clone()).collect()
    }
}

#[derive(Default)]
struct Changes {
    added: Vec<String>,
    changed: Vec<String>,
    removed: Vec<String>,
}

impl Changes {
    fn in_words(&self) -> String {
        let lists = [("added", &self.added), ("changed", &self.changed), ("removed", &self.removed)];
        let lists = lists.into_iter().filter(|(_, names)| !names.is_empty());
        let words: Vec<String> = lists.map(|(what, names)| format!("{what} {}", names.join(", "))).collect();
        if words.is_empty() { "no queue is different".to_owned() } else { words.join("; ") }
    }
}
