//! What the ledgers of jobs are told by this core: ends of tasks that are done, orders of workers, and that a step has begun.
//!
//! An entry is a task for the queue of its ledger. What ends a task is stored with its settlement, so that the ledger hears of
//! it exactly when it is so; a settlement that is repeated carries the same execution, and counts once.

use uuid::Uuid;

use super::super::{Core, event::Action, verdict::Attempt};
use crate::{
    jobs::{
        entry::{End, Entry, How, What},
        order::Order,
    },
    json_text::JsonText,
    membership::Membership,
    outcome::{FollowUp, Given, LONGEST_DELAY, Target},
    task::NewTask,
};

impl Attempt<'_> {
    /// What is stored with the end of this task, which is done. Ids of plain follow-ups and of jobs are those that a repeated run
    /// makes again: uuid v5 of (task id, index); those of members are of this execution alone.
    pub(in crate::master::core) fn submitted(&self, submit: Vec<FollowUp>, given: Option<Box<Given>>) -> Vec<NewTask> {
        let member_of = self.task.membership.as_deref().zip(self.execution);
        if submit.is_empty() && member_of.is_none() {
            return Vec::new();
        }
        let namespace = Uuid::new_v5(&Uuid::NAMESPACE_OID, b"asynctask.follow-up");
        let parent = Uuid::new_v5(&namespace, self.task.id.as_bytes());
        let mut tasks = Vec::with_capacity(submit.len() + 1);
        let mut items = 0;
        for (index, FollowUp { target, payload, delay }) in submit.into_iter().enumerate() {
            let own_id = || Uuid::new_v5(&parent, index.to_string().as_bytes()).to_string();
            let (queue, id, membership) = match target {
                Target::Queue(queue) => (queue, own_id(), None),
                Target::Pipeline { name, id } => {
                    let application =
                        self.task.membership.as_ref().map_or(self.application, |place| &place.application);
                    let start =
                        Order::start(self.wall, &name, id.unwrap_or_else(own_id), JsonText::of(&payload), false);
                    let id = start.id.clone();
                    tasks.push(Entry::Order(Box::new(start)).message(application, id));
                    continue;
                }
                Target::Item | Target::More => {
                    let Some((place, execution)) = member_of else {
                        debug_assert!(false, "an item of a task in no job is an error, told before");
                        continue;
                    };
                    let queue = if target == Target::Item { &place.each } else { &place.queue };
                    let id = Uuid::new_v5(&execution, items.to_string().as_bytes()).to_string();
                    let member = place.member(execution, items);
                    items += 1;
                    (queue.clone(), id, Some(Box::new(member)))
                }
            };
            let body = String::from(Box::<str>::from(payload)).into_bytes();
            tasks.push(NewTask { queue, id, body, delay: delay.min(LONGEST_DELAY), membership, ..NewTask::default() });
        }
        // The last one: where a transport stores one after the other, the ledger never hears of items that are nowhere.
        if let Some((place, execution)) = member_of {
            let result = given.and_then(|given| given.result).map(|result| JsonText::of(&result));
            let how = How::Done { execution, items, result };
            let end = End { member: place.into(), at: self.wall, how, memo: self.task.memo.clone() };
            tasks.push(Entry::End(Box::new(end)).message(&place.application, execution.to_string()));
        }
        tasks
    }
}

impl Core {
    /// A worker begins a task of a job.
    pub(in crate::master::core) fn member_begun(&mut self, place: &Membership) {
        if place.tells_news() {
            let id = self.jobs.executions.draw().to_string();
            let news = Entry::news(place, self.now.wall, What::Began, None);
            self.actions.push(Action::TellLedger(Box::new(news.message(&place.application, id))));
        }
    }
}
