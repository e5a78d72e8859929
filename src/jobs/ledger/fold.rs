//! The ledger, and its fold: entries, orders, time and admission, in this order.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    sync::Arc,
};

use uuid::Uuid;

use super::{
    bounds,
    census::Census,
    out::{Ids, Out, Step},
    state::Job,
    view::View,
    waiting::Waiting,
};
use crate::{
    Level,
    clock::Timestamp,
    jobs::{
        definition::Pipeline,
        entry::{End, Entry, LONGEST_ORDER_ID, News, Retried},
        entry_list,
        order::Answer,
        record::{EntryId, Frozen, Record, StoredEntry},
    },
};

/// The open jobs of one application.
#[derive(Debug)]
pub struct Ledger {
    application: Arc<str>,
    epoch: u64,
    pub(super) pipelines: Vec<Pipeline>,
    /// Pipelines and keys of which no job begins.
    pub(super) frozen: BTreeSet<Frozen>,
    pub(super) jobs: BTreeMap<String, Job>,
    census: Census,
    /// Open jobs that cannot be read: they stay as they are.
    pub(super) aside: Vec<Record>,
    /// Jobs that were closed or forgotten in a fold of this number, or later: a lookup that was under way may know them as
    /// they were.
    pub(super) closed: BTreeMap<String, (u64, Option<Job>)>,
    /// Orders that are not carried out.
    pub(super) waiting: VecDeque<Waiting>,
    /// The last answers, by the orders' ids.
    pub(super) answered: VecDeque<(String, String)>,
    /// Of the next job.
    pub(super) next_number: u64,
    pub(super) folds: u64,
    /// Rounds that failed and of which dead letters are missing: their steps can only be done again as a whole.
    pub(super) missing: HashSet<Uuid>,
    ids: Ids,
    /// Jobs whose time the wall clock has changed: to be stored by the next fold.
    moved: BTreeSet<String>,
    deadline: Option<Timestamp>,
    /// To be said by the next fold.
    lines: Vec<(Level, String)>,
}

/// Before all others: the next fold is due.
const AT_ONCE: Timestamp = Timestamp(0);

impl Ledger {
    /// The ledger of an application, as it is stored. Ids are drawn from the seed: it is another one each time.
    #[must_use]
    pub fn new(
        application: &str,
        epoch: u64,
        pipelines: Vec<Pipeline>,
        open: Vec<Record>,
        frozen: Vec<Frozen>,
        seed: u64,
    ) -> Self {
        let mut ledger = Self {
            application: application.into(),
            epoch,
            pipelines,
            frozen: frozen.into_iter().collect(),
            jobs: BTreeMap::new(),
            census: Census::default(),
            aside: Vec::new(),
            closed: BTreeMap::new(),
            waiting: VecDeque::new(),
            answered: VecDeque::new(),
            next_number: 1,
            folds: 0,
            missing: HashSet::new(),
            ids: Ids::new(application, epoch, seed),
            moved: BTreeSet::new(),
            deadline: Some(AT_ONCE),
            lines: Vec::new(),
        };
        for record in open {
            match Job::read(&record) {
                Ok(job) => {
                    ledger.next_number = ledger.next_number.max(job.number.saturating_add(1));
                    ledger.census.count(&job);
                    ledger.jobs.insert(job.id.clone(), job);
                }
                Err(error) => {
                    ledger.lines.push((Level::Warning, format!("Job {} is left as it is: {error}", record.id)));
                    ledger.aside.push(record);
                }
            }
        }
        ledger
    }

    /// The pipelines of the settings have changed. Jobs go on with the definitions that they began with.
    pub fn reload(&mut self, pipelines: Vec<Pipeline>) {
        self.pipelines = pipelines;
        // More may be admitted.
        self.deadline = Some(AT_ONCE);
    }

    /// Of these rounds dead letters are missing, although nobody has told of it.
    pub fn set_missing(&mut self, rounds: impl IntoIterator<Item = Uuid>) {
        self.missing.extend(rounds);
    }

    /// The wall clock was set, by so many milliseconds ahead or (below 0) back: the time that jobs have left is what it was.
    pub fn clock_jumped(&mut self, by: i64) {
        let moved = self.jobs.values_mut().filter_map(|job| job.clock_jumped(by).then(|| job.id.clone()));
        self.moved.extend(moved);
        if !self.moved.is_empty() {
            self.deadline = Some(AT_ONCE);
        }
    }

    /// Folds entries, and what time brings: timers, admission. The step is to be stored before the next fold.
    pub fn fold(&mut self, now: Timestamp, entries: Vec<StoredEntry>) -> Step {
        self.folds += 1;
        self.forget_closed();
        let mut out = Out::new(now, Arc::clone(&self.application), std::mem::take(&mut self.ids));
        out.step.lines.append(&mut self.lines);
        out.changed.append(&mut self.moved);
        for entry in entries {
            self.take(&entry, &mut out);
        }
        self.fold_orders(&mut out);
        self.keep_time(&mut out);
        self.admit(&mut out);
        self.write(&mut out);
        self.ids = out.ids;
        out.step
    }

    /// The answer to a [`Lookup`](super::Lookup); the next fold folds the order.
    pub fn found(&mut self, entry: EntryId, records: Vec<Record>) {
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.entry == entry) {
            waiting.found = Some(records);
            self.deadline = Some(AT_ONCE);
        }
    }

    /// When time brings something, if it will. Past for a fold that is due now.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Timestamp> {
        self.deadline
    }

    /// How many open jobs there are.
    #[must_use]
    pub const fn census(&self) -> &Census {
        &self.census
    }

    /// The open jobs.
    pub fn jobs(&self) -> impl Iterator<Item = View> {
        self.jobs.values().map(View::of_job)
    }

    /// The job with a key of a pipeline, other than one, that is live and does not wait for the key itself, or is being wiped.
    pub(super) fn holder(&self, pipeline: &str, key: &str, other_than: &str) -> Option<&str> {
        let holds = |job: &&Job| {
            job.holds_key()
                && job.id != other_than
                && job.definition.name == pipeline
                && job.key.as_deref() == Some(key)
        };
        let unread =
            |record: &&Record| record.holds_key && record.pipeline == pipeline && record.key.as_deref() == Some(key);
        let read = self.jobs.values().find(holds).map(|job| job.id.as_str());
        read.or_else(|| self.aside.iter().find(unread).map(|record| record.id.as_str()))
    }

    /// Another job that has the key of this one.
    pub(super) fn holder_beside(&self, job: &Job) -> Option<String> {
        self.holder(&job.definition.name, job.key.as_deref()?, &job.id).map(str::to_owned)
    }

    fn take(&mut self, stored: &StoredEntry, out: &mut Out) {
        if entry_list::is_list(&stored.body) {
            let mut is_said = false;
            for body in entry_list::entries_of(&stored.body) {
                match Entry::parse(body) {
                    Ok(entry) => self.take_one(entry, out),
                    // Of what another program wrote one line is enough.
                    Err(error) if !std::mem::replace(&mut is_said, true) => pass_over(body, &error, out),
                    Err(_) => {}
                }
            }
        } else {
            match Entry::parse(&stored.body) {
                Ok(Entry::Order(order)) if order.id.len() <= LONGEST_ORDER_ID => {
                    return self.waiting.push_back(Waiting::new(stored.id, *order));
                }
                Ok(entry) => self.take_one(entry, out),
                Err(error) => pass_over(&stored.body, &error, out),
            }
        }
        out.step.advance.entries.push(stored.id);
    }

    fn take_one(&mut self, entry: Entry, out: &mut Out) {
        match entry {
            // One that waits would keep its list, which is folded: it is stored alone.
            Entry::Order(_) => {
                out.warning(
                    "The ledger of jobs passes over an order with a long id, or in a list of entries".to_owned(),
                );
            }
            Entry::End(mut end) => {
                bounds::end(&mut end, out);
                // A coordinator that was away hears late of it.
                out.happened_at = end.at.min(out.now);
                self.end(*end, out);
                out.happened_at = out.now;
            }
            Entry::News(mut news) => {
                bounds::news(&mut news, out);
                self.news(*news, out);
            }
            Entry::Retried(retried) => self.retried(&retried, out),
        }
    }

    fn end(&mut self, end: End, out: &mut Out) {
        let ended = self.jobs.get(&end.member.job).filter(|job| !job.holds_key());
        let holder = ended.and_then(|job| self.holder_beside(job));
        let member = end.member.clone();
        if let Some(job) = self.jobs.get_mut(&member.job)
            && job.ended(end, holder.as_deref(), out)
        {
            job.heard_at = out.now;
            out.changed.insert(member.job);
            return;
        }
        out.debug(format!(
            "Job {}: the end of task {} of {} in step {} counts for nothing",
            member.job, member.index, member.feeder, member.step
        ));
    }

    fn retried(&mut self, retried: &Retried, out: &mut Out) {
        let id = &retried.member.job;
        let holder = self.jobs.get(id).and_then(|job| self.holder_beside(job));
        if let Some(job) = self.jobs.get_mut(id)
            && job.retried(&retried.member, holder.as_deref(), out)
        {
            job.heard_at = out.now;
            out.changed.insert(id.clone());
        }
    }

    fn news(&mut self, news: News, out: &mut Out) {
        let id = news.member.job.clone();
        if let Some(job) = self.jobs.get_mut(&id)
            && job.told(news)
        {
            job.heard_at = out.now;
            out.changed.insert(id);
        }
    }

    /// What is due.
    fn keep_time(&mut self, out: &mut Out) {
        let overdue = self.jobs.values().filter(|job| job.is_overdue(out.now) && !self.is_put_off(job));
        for id in overdue.map(|job| job.id.clone()).collect::<Vec<_>>() {
            if let Some(job) = self.jobs.get_mut(&id) {
                job.time_is_over(out);
                out.changed.insert(id);
            }
        }
    }

    /// Whether what time brings for a job waits for its key: the wipe of one that failed, while another one has that.
    fn is_put_off(&self, job: &Job) -> bool {
        job.is_wiped_later() && self.holder_beside(job).is_some()
    }

    /// What has changed is to be stored; jobs that are closed are not held in memory any more.
    fn write(&mut self, out: &mut Out) {
        let advance = &mut out.step.advance;
        for id in std::mem::take(&mut out.changed) {
            if out.forgotten.contains(&id) {
                self.jobs.remove(&id);
                self.census.forget(&id);
                self.closed.insert(id.clone(), (self.folds, None));
                advance.forgotten.push(id);
                continue;
            }
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            // Nothing of it is begun any more, and a later job may have its id.
            let is_thawed = job.closed && std::mem::take(&mut job.frozen);
            if is_thawed || out.refrozen.contains(&id) {
                if job.frozen { &mut advance.frozen } else { &mut advance.thawed }.push(id.clone());
            }
            job.version += 1;
            job.epoch = self.epoch;
            advance.records.push(job.record());
            self.census.count(job);
            if job.closed
                && let Some(job) = self.jobs.remove(&id)
            {
                self.census.forget(&id);
                self.closed.insert(id, (self.folds, Some(job)));
            }
        }
        // Who gives a key back comes before who takes it.
        advance.records.sort_by_key(|record| record.holds_key);
        // The one that has the key gives it back in a fold, which looks again.
        let deadline = |job: &Job| job.deadline().filter(|deadline| *deadline > out.now || !self.is_put_off(job));
        self.deadline = self.jobs.values().filter_map(deadline).min();
        if out.is_due_again {
            self.deadline = Some(AT_ONCE);
        }
        debug_assert_eq!(self.census, Census::of(self.jobs.values()), "what changes is written, and counted then");
    }

    /// What was closed before the lookups that are under way is stored by now.
    fn forget_closed(&mut self) {
        let oldest = self.waiting.iter().filter_map(|waiting| waiting.asked_in).min().unwrap_or(self.folds);
        self.closed.retain(|_, (fold, _)| *fold >= oldest);
    }
}

/// An entry cannot be read. Whoever gave an order waits for an answer.
fn pass_over(body: &[u8], error: &str, out: &mut Out) {
    out.warning(format!("The ledger of jobs passes over {error}"));
    if let Some(order) = Entry::id_of_order(body) {
        let error = format!("the order cannot be carried out by this release of asynctask: {error}");
        let answer = Answer::Refused { error, hint: None };
        // Texts alone: writing them cannot fail.
        let text = serde_json::to_string(&answer).unwrap_or_default();
        out.step.advance.answers.push((order, text));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Bench, chain, json, of};
    use crate::jobs::entry::What;
    use serde_json::json;

    #[test]
    fn a_job_goes_from_step_to_step() {
        let mut pipeline = chain("p", &["a", "b", "c"]);
        pipeline.steps[2].wipe = Some("wipe-c".to_owned());
        pipeline.steps[0].wipe = Some("wipe-a".to_owned());
        let mut bench = Bench::new(vec![pipeline]);
        bench.start("p", "j", r#"{"n": 1e400}"#);
        assert_eq!(bench.states("j"), "running a:waiting b:planned c:planned");
        let task = bench.take("a");
        assert_eq!((task.body.as_slice(), task.id.clone()), (&br#"{"n": 1e400}"#[..], of(&task).round.to_string()));
        assert!(of(&task).tells_news() && of(&task).inputs.is_none());
        bench.news(&task, What::Began, None);
        assert_eq!(bench.states("j"), "running a:running b:planned c:planned");
        let (end, _) = bench.done_with(&task, 0, "{\"x\": 7}");
        bench.fold(vec![end.clone(), end]);
        assert_eq!(bench.tasks.len(), 1, "the next step begins once");
        let task = bench.take("b");
        assert_eq!(
            of(&task).inputs.as_ref().unwrap().as_str(),
            r#"{"a":{"state":"done","result":{"x": 7},"memo":null}}"#
        );
        assert_eq!(task.body, br#"{"n": 1e400}"#);
        let (end, _) = bench.done_with(&task, 0, "");
        bench.fold(vec![end]);
        bench.pass(2_000);
        bench.done("c", "3");
        assert_eq!(bench.states("j"), "done a:done b:done c:done");
        let wipe = bench.take("wipe-c");
        assert!(of(&wipe).wipe && bench.tasks.is_empty(), "one after the other");
        assert_eq!(of(&wipe).inputs.as_ref().unwrap().as_str(), r#"{"c":{"state":"done","result":3,"memo":null}}"#);
        let (end, _) = bench.done_with(&wipe, 0, "");
        bench.fold(vec![end]);
        bench.done("wipe-a", "");
        let record = &bench.stored["j"];
        assert!(!record.open && record.purge_at.is_some(), "{record:?}");
        assert_eq!(json(&bench.view("j").line())["wiped"], "yes");
        let lines: Vec<_> = bench.lines.iter().map(|(level, line)| format!("{level} {line}")).collect();
        let expected = [
            "INFO Job j of p begins",
            "INFO Job j: step a begins",
            "INFO Job j: step a is done: 1 task, 0 failed, in 0 s",
            "INFO Job j: step b begins",
            "INFO Job j: step b is done: 1 task, 0 failed, in 0 s",
            "INFO Job j: step c begins",
            "INFO Job j: step c is done: 1 task, 0 failed, in 2 s",
            "INFO Job j of p is done in 2 s",
            "INFO Job j is wiped",
        ];
        let lines: Vec<_> = lines.into_iter().filter(|line| !line.starts_with("DEBUG")).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn the_json_of_a_job_has_its_shape() {
        let mut bench = Bench::new(vec![chain("p", &["a"])]);
        bench.start("p", "j", "7");
        let task = bench.take("a");
        let again_at = bench.now;
        bench.news(&task, What::Retrying { error: "oops".to_owned(), again_at }, Some("{\"at\":3}"));
        let view = bench.view("j");
        let at = "2023-11-14T22:13:20Z";
        assert_eq!(
            json(&view.line()),
            json!({
                "id": "j", "pipeline": "p", "key": null, "state": "running", "frozen": false, "wiped": "no", "priority": 0,
                "steps": {"a": "running"}, "tasks": {"done": 0, "failed": 0, "known": 1},
                "began_at": at, "ended_at": null, "error": null
            })
        );
        let shown = json(&view);
        assert_eq!(shown["payload"], 7);
        assert_eq!(
            shown["steps"]["a"],
            json!({
                "state": "running", "round": of(&task).round, "tasks": {"done": 0, "failed": 0, "known": 1},
                "began_at": at, "ended_at": null, "result": null, "memo": {"at": 3}, "error": null, "reason": null,
                "dead_letters": [], "retrying": {"error": "oops", "again_at": at}, "snoozed": null
            })
        );
        bench.failed(&task);
        let shown = json(&bench.view("j"));
        assert_eq!(shown["error"], "step a failed: crash: killed by SIGSEGV");
        assert_eq!(
            shown["steps"]["a"]["dead_letters"],
            json!([{"id": task.id, "index": 0, "reason": "crash", "error": "killed by SIGSEGV"}])
        );
    }
}
