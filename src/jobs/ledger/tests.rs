//! What the tests of the ledger have in common: a ledger that stores what it says, and tasks that end as a test wants.

use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

use super::{Ended, Ledger, Step, StepDone, View};
use crate::{
    Level,
    clock::Timestamp,
    jobs::{
        definition::Pipeline,
        entry::{End, Entry, How, News, What},
        order::{Answer, Order, Wanted},
        record::{Advance, EntryId, Frozen, JobFilter, Record, StoredEntry},
    },
    json_text::JsonText,
    membership::Membership,
    task::NewTask,
};

/// A ledger, and what is stored of it.
pub(super) struct Bench {
    pub(super) ledger: Ledger,
    pub(super) now: Timestamp,
    pub(super) stored: BTreeMap<String, Record>,
    pub(super) frozen: Vec<Frozen>,
    /// Tasks that were begun and not taken.
    pub(super) tasks: Vec<NewTask>,
    pub(super) answers: Vec<(String, Answer)>,
    pub(super) lines: Vec<(Level, String)>,
    pub(super) ended: Vec<Ended>,
    pub(super) steps_done: Vec<StepDone>,
    /// The last step, all of its advances taken together.
    pub(super) last: Advance,
    pipelines: Vec<Pipeline>,
    epoch: u64,
    next: u64,
}

impl Bench {
    pub(super) fn new(pipelines: Vec<Pipeline>) -> Self {
        Self {
            ledger: Ledger::new("app", 1, pipelines.clone(), Vec::new(), Vec::new(), 7),
            now: Timestamp(1_700_000_000_000),
            stored: BTreeMap::new(),
            frozen: Vec::new(),
            tasks: Vec::new(),
            answers: Vec::new(),
            lines: Vec::new(),
            ended: Vec::new(),
            steps_done: Vec::new(),
            last: Advance::default(),
            pipelines,
            epoch: 1,
            next: 0,
        }
    }

    /// Another coordinator takes over.
    pub(super) fn take_over(&mut self) {
        self.epoch += 1;
        let open = self.stored.values().filter(|record| record.open).cloned().collect();
        self.ledger = Ledger::new("app", self.epoch, self.pipelines.clone(), open, self.frozen.clone(), 7);
    }

    pub(super) fn reload(&mut self, pipelines: Vec<Pipeline>) {
        self.pipelines.clone_from(&pipelines);
        self.ledger.reload(pipelines);
        self.fold(Vec::new());
    }

    pub(super) fn pass(&mut self, millis: i64) {
        self.now.0 += millis;
        self.fold(Vec::new());
    }

    pub(super) fn stored_entry(&mut self, entry: &Entry) -> StoredEntry {
        self.next += 1;
        StoredEntry { id: EntryId(self.next), body: entry.to_bytes() }
    }

    /// Folds entries, looks up what is asked for, stores what is to be stored.
    // Tests make entries where they are folded.
    #[allow(clippy::needless_pass_by_value)]
    pub(super) fn fold(&mut self, entries: Vec<Entry>) {
        let entries = entries.iter().map(|entry| self.stored_entry(entry)).collect();
        self.last = Advance::default();
        let mut step = self.ledger.fold(self.now, entries);
        loop {
            let lookups = std::mem::take(&mut step.lookups);
            self.store(step);
            if lookups.is_empty() {
                return;
            }
            for lookup in lookups {
                let wanted = |record: &&Record| lookup.filters.iter().any(|filter| filter.holds(record));
                let found = self.stored.values().filter(wanted).cloned().collect();
                self.ledger.found(lookup.entry, found);
            }
            assert!(self.ledger.next_deadline().is_some_and(|at| at <= self.now), "the order is due");
            step = self.ledger.fold(self.now, Vec::new());
        }
    }

    fn store(&mut self, step: Step) {
        let Step { advance, lines, ended, steps_done, .. } = step;
        for record in &advance.records {
            let old = self.stored.insert(record.id.clone(), record.clone());
            assert!(old.is_none_or(|old| old.version < record.version), "a newer version");
            assert_eq!(record.open, record.purge_at.is_none());
            let same = |other: &&Record| {
                other.holds_key && other.pipeline == record.pipeline && other.key == record.key && other.id != record.id
            };
            assert!(!record.holds_key || !self.stored.values().any(|other| same(&other)), "one job holds a key");
        }
        for id in &advance.forgotten {
            assert!(self.stored.remove(id).is_some(), "{id} is forgotten and was never there");
        }
        self.tasks.extend(advance.tasks.iter().cloned());
        self.tasks.retain(|task| task.membership.as_ref().is_none_or(|of| !advance.void.contains(&of.round)));
        if let Some(frozen) = &advance.frozen_pipelines {
            self.frozen.clone_from(frozen);
        }
        for (id, answer) in &advance.answers {
            self.answers.push((id.clone(), serde_json::from_str(answer).unwrap()));
        }
        self.lines.extend(lines);
        self.ended.extend(ended);
        self.steps_done.extend(steps_done);
        let last = &mut self.last;
        last.entries.extend(advance.entries);
        last.tasks.extend(advance.tasks);
        last.void.extend(advance.void);
        last.superseded.extend(advance.superseded);
        last.superseded_from.extend(advance.superseded_from);
        last.revived.extend(advance.revived);
        last.frozen.extend(advance.frozen);
        last.thawed.extend(advance.thawed);
        last.forgotten.extend(advance.forgotten);
    }

    /// Gives an order; its answer.
    pub(super) fn order(&mut self, what: Wanted) -> Answer {
        self.next += 1;
        let order = Order { id: format!("o{}", self.next), at: self.now, what };
        self.order_again(order)
    }

    pub(super) fn order_again(&mut self, order: Order) -> Answer {
        let id = order.id.clone();
        self.fold(vec![Entry::Order(Box::new(order))]);
        let answer = self.answers.iter().rfind(|(of, _)| *of == id);
        answer.map(|(_, answer)| answer.clone()).expect("each order is answered")
    }

    pub(super) fn start(&mut self, pipeline: &str, id: &str, payload: &str) -> Answer {
        self.order(start(pipeline, id, payload))
    }

    /// The first task that waits in a queue.
    pub(super) fn take(&mut self, queue: &str) -> NewTask {
        let place = self.tasks.iter().position(|task| task.queue == queue);
        let place = place.unwrap_or_else(|| panic!("no task in {queue}: {:?}", self.tasks));
        self.tasks.remove(place)
    }

    /// The first task of a queue is done, and gives something.
    pub(super) fn done(&mut self, queue: &str, result: &str) {
        let task = self.take(queue);
        let entry = self.done_with(&task, 0, result).0;
        self.fold(vec![entry]);
    }

    /// A task is done: its end, and the members of what it submitted.
    pub(super) fn done_with(&mut self, task: &NewTask, items: u32, result: &str) -> (Entry, Vec<NewTask>) {
        self.next += 1;
        let execution = Uuid::from_u128(u128::from(self.next) << 64);
        let of = of(task);
        let item = |index| NewTask {
            queue: of.each.clone(),
            id: format!("{execution}-{index}"),
            membership: Some(Box::new(of.member(execution, index))),
            ..NewTask::default()
        };
        let how = How::Done { execution, items, result: JsonText::parse(result).ok() };
        (self.end(task, how, None), (0..items).map(item).collect())
    }

    pub(super) fn end(&self, task: &NewTask, how: How, memo: Option<&str>) -> Entry {
        let memo = memo.map(|memo| JsonText::parse(memo).unwrap());
        Entry::End(Box::new(End { member: of(task).into(), at: self.now, how, memo }))
    }

    pub(super) fn failed(&mut self, task: &NewTask) {
        let entry = self.dead(task);
        self.fold(vec![entry]);
    }

    pub(super) fn dead(&self, task: &NewTask) -> Entry {
        Entry::failed(of(task), self.now, "crash", "killed by SIGSEGV", Some(&task.id), None)
    }

    pub(super) fn news(&mut self, task: &NewTask, what: What, memo: Option<&str>) {
        let memo = memo.map(|memo| JsonText::parse(memo).unwrap());
        let news = News { member: of(task).into(), at: self.now, what, memo };
        self.fold(vec![Entry::News(Box::new(news))]);
    }

    pub(super) fn view(&self, job: &str) -> View {
        View::of(self.stored.get(job).unwrap_or_else(|| panic!("there is no job {job}"))).unwrap()
    }

    /// `STATE step:STATE …`.
    pub(super) fn states(&self, job: &str) -> String {
        let view = self.view(job);
        let steps = view.steps.iter().map(|step| format!(" {}:{}", step.name, step.state.as_str()));
        view.state.as_str().to_owned() + &steps.collect::<String>()
    }

    pub(super) fn said(&self, part: &str) -> usize {
        self.lines.iter().filter(|(_, line)| line.contains(part)).count()
    }

    pub(super) fn find(&self, filter: &JobFilter) -> Vec<&Record> {
        self.stored.values().filter(|record| filter.holds(record)).collect()
    }
}

pub(super) fn of(task: &NewTask) -> &Membership {
    task.membership.as_ref().expect("a task of a job")
}

pub(super) fn start(pipeline: &str, id: &str, payload: &str) -> Wanted {
    Wanted::Start {
        pipeline: pipeline.to_owned(),
        id: id.to_owned(),
        payload: JsonText::parse(payload).unwrap(),
        priority: 0,
        scheduled: false,
    }
}

/// A pipeline whose steps follow each other, each in a queue of its name and with one for its items, as `items-a`.
pub(super) fn chain(name: &str, steps: &[&str]) -> Pipeline {
    use crate::jobs::definition::Step;
    let step = |(place, name): (usize, &&str)| Step {
        each: format!("items-{name}"),
        ..Step::new(name, name, place.checked_sub(1).into_iter().collect())
    };
    Pipeline::new(name, steps.iter().enumerate().map(step).collect())
}

pub(super) fn text(answer: &Answer) -> String {
    match answer {
        Answer::Done { text, .. } => text.clone(),
        Answer::Refused { error, hint } => format!("refused: {error}; {}", hint.as_deref().unwrap_or_default()),
    }
}

pub(super) fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap()
}
