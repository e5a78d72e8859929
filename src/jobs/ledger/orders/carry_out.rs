//! Orders are carried out, each once and in their order. One that names a job which is not in memory waits until it was looked up.

use super::{
    answers::{done, is_there, not_one, refused, there_is_none},
    names::Named,
    restart, start,
};
use crate::{
    jobs::{
        ledger::{
            fold::Ledger,
            out::{Lookup, Out},
            state::Job,
            view::place,
        },
        order::{Answer, Order, Scope, Wanted},
        record::Frozen,
    },
    suggest::nearest,
};

/// Answers that are remembered: an order that comes again gets the same one.
const ANSWERS: usize = 256;

impl Ledger {
    /// Carries out what can be carried out, and asks for what has to be known for the rest.
    pub(in crate::jobs::ledger) fn fold_orders(&mut self, out: &mut Out) {
        for place in 0..self.waiting.len() {
            self.ask(place, out);
        }
        while let Some(first) = self.waiting.front() {
            let Ok(named) = self.look(&first.order, first.found.as_deref()) else {
                // It could do without a lookup before, and cannot any more.
                return self.ask(0, out);
            };
            let Some(first) = self.waiting.pop_front() else { return };
            out.step.advance.entries.push(first.entry);
            let answer = self.answer(&first.order, named, out);
            out.step.advance.answers.push((first.order.id, answer));
        }
    }

    /// Asks for what an order has to know, once.
    fn ask(&mut self, place: usize, out: &mut Out) {
        let waiting = &self.waiting[place];
        if waiting.asked_in.is_some() {
            return;
        }
        if let Err(filters) = self.look(&waiting.order, None) {
            out.step.lookups.push(Lookup { entry: waiting.entry, filters });
            self.waiting[place].asked_in = Some(self.folds);
        }
    }

    /// Carries an order out; its answer, as JSON.
    fn answer(&mut self, order: &Order, named: Named, out: &mut Out) -> String {
        // A start is known by its job; one that was refused may succeed later.
        let is_start = matches!(order.what, Wanted::Start { .. });
        let known = self.answered.iter().find(|(id, _)| *id == order.id && !is_start);
        if let Some((_, answer)) = known {
            return answer.clone();
        }
        if !is_start {
            // Room, or a key, may be free then.
            out.running = None;
        }
        let answer = self.carry_out(order, named, out);
        // Texts alone: writing them cannot fail.
        let text = serde_json::to_string(&answer).unwrap_or_default();
        if matches!(answer, Answer::Done { .. }) && !is_start {
            self.answered.push_back((order.id.clone(), text.clone()));
            self.answered.drain(..self.answered.len().saturating_sub(ANSWERS));
        }
        text
    }

    fn carry_out(&mut self, order: &Order, named: Named, out: &mut Out) -> Answer {
        match &order.what {
            Wanted::Start { pipeline, id, payload, priority, scheduled } => {
                let answer = match named {
                    Named::Open(id) => {
                        self.jobs.get(&id).map_or_else(|| there_is_none(&id), |job| is_there(job, pipeline))
                    }
                    Named::Stored(job) => is_there(&job, pipeline),
                    Named::Unread(error) => refused(error, None),
                    Named::Nothing | Named::Many(_) => {
                        let job =
                            start::NewJob { pipeline, id, payload, priority: *priority, is_scheduled: *scheduled };
                        self.start(&job, order, out)
                    }
                };
                if let Answer::Refused { error, .. } = &answer {
                    out.warning(format!("Job {id} of {pipeline} is not made: {error}"));
                }
                answer
            }
            Wanted::Freeze(Scope::Pipeline { name, key }) => self.freeze_pipeline(name, key.as_deref(), out),
            Wanted::Resume(Scope::Pipeline { name, key }) => self.resume_pipeline(name, key.as_deref(), out),
            Wanted::Restart { job: name, .. }
            | Wanted::Cancel { job: name }
            | Wanted::Freeze(Scope::Job(name))
            | Wanted::Resume(Scope::Job(name))
            | Wanted::Priority { job: name, .. }
            | Wanted::Keep { job: name }
            | Wanted::Wipe { job: name, .. } => match named {
                Named::Nothing => there_is_none(name),
                Named::Unread(error) => refused(error, None),
                Named::Many(meaning) => not_one(&meaning, name),
                Named::Open(id) => match self.jobs.remove(&id) {
                    Some(job) => self.change(job, true, order, out),
                    None => there_is_none(name),
                },
                Named::Stored(job) => self.change(*job, false, order, out),
            },
        }
    }

    /// Changes a job that was taken out of memory, or was never in it. One that this fold has closed is in memory until it is
    /// written.
    fn change(&mut self, mut job: Job, was_held: bool, order: &Order, out: &mut Out) -> Answer {
        if job.has_done(&order.id) {
            let answer = done(&job, "was given this order before");
            if was_held {
                self.jobs.insert(job.id.clone(), job);
            }
            return answer;
        }
        let answer = match &order.what {
            Wanted::Restart { steps, only, failed, redefine, even_if_wiped, .. } => {
                let wish = restart::Wish {
                    steps,
                    only: *only,
                    failed: *failed,
                    redefine: *redefine,
                    even_if_wiped: *even_if_wiped,
                };
                self.restart(&mut job, &wish, out)
            }
            Wanted::Cancel { .. } => job.cancel(out),
            Wanted::Freeze(_) => job.freeze(out),
            Wanted::Resume(_) => job.resume(out),
            Wanted::Priority { priority, .. } => job.prioritize(*priority),
            Wanted::Keep { .. } => job.keep_output(),
            Wanted::Wipe { all, .. } => job.wipe_now(*all, self.holder_beside(&job).as_deref(), out),
            Wanted::Start { .. } => there_is_none(&job.id),
        };
        let is_changed = matches!(answer, Answer::Done { .. });
        if is_changed {
            job.note(&order.id, out.now);
            out.changed.insert(job.id.clone());
        }
        if was_held || is_changed {
            self.jobs.insert(job.id.clone(), job);
        }
        answer
    }

    fn freeze_pipeline(&mut self, name: &str, key: Option<&str>, out: &mut Out) -> Answer {
        let shown = place(name, key);
        if self.has_frozen(name, key) {
            return Answer::Done { text: format!("{shown} is frozen already"), job: None };
        }
        if !self.pipelines.iter().any(|pipeline| pipeline.name == name)
            && !self.jobs.values().any(|job| job.definition.name == name)
        {
            return self.no_pipeline(name);
        }
        self.frozen.insert(Frozen { pipeline: name.to_owned(), key: key.map(str::to_owned) });
        out.step.advance.frozen_pipelines = Some(self.frozen.iter().cloned().collect());
        Answer::Done { text: format!("{shown} is frozen: no job of it begins"), job: None }
    }

    fn resume_pipeline(&mut self, name: &str, key: Option<&str>, out: &mut Out) -> Answer {
        let shown = place(name, key);
        if !self.frozen.remove(&Frozen { pipeline: name.to_owned(), key: key.map(str::to_owned) }) {
            return Answer::Done { text: format!("{shown} is not frozen"), job: None };
        }
        out.step.advance.frozen_pipelines = Some(self.frozen.iter().cloned().collect());
        Answer::Done { text: format!("{shown} is not frozen any more"), job: None }
    }

    pub(super) fn no_pipeline(&self, name: &str) -> Answer {
        let names = self.pipelines.iter().map(|pipeline| pipeline.name.as_str());
        let near = nearest(name, names.clone());
        let hint = near.map_or_else(
            || format!("the pipelines are: {}", names.collect::<Vec<_>>().join(", ")),
            |near| format!("did you mean {near}?"),
        );
        refused(format!("there is no pipeline {name}"), Some(hint).filter(|_| !self.pipelines.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use crate::jobs::{
        entry::Entry,
        ledger::tests::{Bench, chain, start},
        order::{Order, Wanted},
    };

    #[test]
    fn an_order_that_is_refused_leaves_a_job_as_the_entries_before_it_made_it() {
        let mut bench = Bench::new(vec![chain("p", &["a"])]);
        bench.order(start("p", "j", "{}"));
        let task = bench.take("a");
        let (end, _) = bench.done_with(&task, 0, "");
        let what = Wanted::Wipe { job: "nosuch".to_owned(), all: false };
        let priority = Wanted::Priority { job: "j".to_owned(), priority: 1 };
        let order = |id: &str, what| Entry::Order(Box::new(Order { id: id.to_owned(), at: bench.now, what }));
        let entries = vec![end, order("x", priority), order("y", what)];
        bench.fold(entries);
        assert_eq!(bench.states("j"), "done a:done", "it is stored as done, and closed");
        assert!(!bench.stored["j"].open);
    }
}
