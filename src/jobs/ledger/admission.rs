//! Which of the jobs that are planned begin: by priority, then by age, while their pipeline has room and their key is free.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

use super::{fold::Ledger, out::Out, state::Job};
use crate::jobs::record::{Frozen, JobState};

impl Ledger {
    /// Begins what can begin.
    pub(super) fn admit(&mut self, out: &mut Out) {
        let mut running: HashMap<String, usize> = HashMap::new();
        for job in self.jobs.values().filter(|job| job.state == JobState::Running) {
            match running.get_mut(&job.definition.name) {
                Some(count) => *count += 1,
                None => drop(running.insert(job.definition.name.clone(), 1)),
            }
        }
        let candidates: Vec<String> = self.candidates_to_begin().map(|job| job.id.clone()).collect();
        out.running = Some(running);
        for id in candidates {
            self.admit_one(&id, out);
        }
    }

    /// Begins a job that was made just now, and what can begin beside it, as much as others have changed.
    pub(super) fn admit_new(&mut self, id: &str, out: &mut Out) {
        if out.running.is_none() {
            self.admit(out);
        } else {
            self.admit_one(id, out);
        }
    }

    /// Jobs that are planned and wait for nobody's key, in the order in which they are to begin.
    fn candidates_to_begin(&self) -> impl Iterator<Item = &Job> {
        let holders: HashSet<(&str, &str)> = self.holders().collect();
        let is_free = |job: &&Job| {
            let key = job.key.as_deref().filter(|_| job.waits_for_key);
            key.is_none_or(|key| !holders.contains(&(job.definition.name.as_str(), key)))
        };
        let planned = self.jobs.values().filter(|job| job.state == JobState::Planned && !job.frozen);
        let mut planned: Vec<&Job> = planned.filter(is_free).collect();
        planned.sort_unstable_by_key(|job| (Reverse(job.priority), job.number));
        planned.into_iter()
    }

    /// Begins a job, if its pipeline has room and its key is free.
    fn admit_one(&mut self, id: &str, out: &mut Out) {
        let Some(job) = self.jobs.get(id) else { return };
        // The one before may have taken the key.
        if self.is_frozen(&job.definition.name, job.key.as_deref())
            || job.waits_for_key && self.holder_beside(job).is_some()
        {
            return;
        }
        let most = self.most_running(job);
        let Some(job) = self.jobs.get_mut(id) else { return };
        if std::mem::take(&mut job.waits_for_key) {
            out.changed.insert(id.to_owned());
        }
        let running = out.running.get_or_insert_default();
        let running = running.entry(job.definition.name.clone()).or_default();
        if *running < most {
            *running += 1;
            job.begin(out);
            if job.state != JobState::Running
                && let Some(running) = out.running.as_mut().and_then(|running| running.get_mut(&job.definition.name))
            {
                // It had nothing to do. Who waited for its key is seen by the next fold.
                *running -= 1;
                out.is_due_again = true;
            }
            out.changed.insert(id.to_owned());
        }
    }

    /// Which keys are held.
    fn holders(&self) -> impl Iterator<Item = (&str, &str)> {
        let read = self.jobs.values().filter(|job| job.holds_key());
        let read = read.filter_map(|job| Some((job.definition.name.as_str(), job.key.as_deref()?)));
        let unread = self.aside.iter().filter(|record| record.holds_key);
        read.chain(unread.filter_map(|record| Some((record.pipeline.as_str(), record.key.as_deref()?))))
    }

    /// Whether jobs of a pipeline, or with a key of it, do not begin.
    pub(super) fn is_frozen(&self, pipeline: &str, key: Option<&str>) -> bool {
        self.frozen
            .iter()
            .any(|frozen| frozen.pipeline == pipeline && (frozen.key.is_none() || frozen.key.as_deref() == key))
    }

    /// Whether a pipeline, or a key of it, is frozen by just that name.
    pub(super) fn has_frozen(&self, pipeline: &str, key: Option<&str>) -> bool {
        self.frozen.contains(&Frozen { pipeline: pipeline.to_owned(), key: key.map(str::to_owned) })
    }

    /// How many jobs of a pipeline may run: by the settings of now, if they know it.
    pub(super) fn most_running(&self, job: &Job) -> usize {
        let now = self.pipelines.iter().find(|pipeline| pipeline.name == job.definition.name);
        now.unwrap_or(&job.definition).max_running.map_or(usize::MAX, |most| most as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Bench, chain, start, text};
    use crate::jobs::{
        definition::{Conflict, ForEach},
        entry::Entry,
        order::{Order, Scope, Wanted},
    };

    #[test]
    fn a_job_that_is_new_does_not_go_before_older_ones_when_there_is_room() {
        let mut pipeline = chain("p", &["a"]);
        pipeline.max_running = Some(1);
        let mut bench = Bench::new(vec![pipeline]);
        bench.start("p", "1", "{}");
        bench.start("p", "2", "{}");
        let task = bench.take("a");
        let order =
            |bench: &Bench, id: &str, what| Entry::Order(Box::new(Order { id: id.to_owned(), at: bench.now, what }));
        // An end, or a cancellation, makes room in the same fold.
        let (end, _) = bench.done_with(&task, 0, "");
        let entries = vec![end, order(&bench, "x", start("p", "3", "{}"))];
        bench.fold(entries);
        assert_eq!(
            (bench.states("2").as_str(), bench.states("3").as_str()),
            ("running a:waiting", "planned a:planned")
        );
        let cancel = Wanted::Cancel { job: "2".to_owned() };
        let entries = vec![order(&bench, "y", cancel), order(&bench, "z", start("p", "4", "{}"))];
        bench.fold(entries);
        assert_eq!(
            (bench.states("3").as_str(), bench.states("4").as_str()),
            ("running a:waiting", "planned a:planned")
        );
    }

    #[test]
    fn a_job_that_has_nothing_to_do_leaves_its_room_and_key_to_the_next() {
        let mut pipeline = chain("p", &["a"]);
        pipeline.steps[0].for_each = Some(ForEach::List(Vec::new()));
        (pipeline.max_running, pipeline.conflict) = (Some(1), Conflict::Wait);
        pipeline.key = Some("{payload}".to_owned());
        let mut bench = Bench::new(vec![pipeline]);
        bench.order(Wanted::Freeze(Scope::Pipeline { name: "p".to_owned(), key: None }));
        bench.start("p", "1", "7");
        bench.start("p", "2", "7");
        bench.start("p", "3", "8");
        bench.order(Wanted::Resume(Scope::Pipeline { name: "p".to_owned(), key: None }));
        assert_eq!((bench.states("1").as_str(), bench.states("3").as_str()), ("done a:done", "done a:done"));
        assert!(bench.ledger.next_deadline().is_some_and(|at| at <= bench.now), "the key is free now");
        bench.pass(0);
        assert_eq!(bench.states("2"), "done a:done");
    }

    #[test]
    fn jobs_begin_by_priority_then_age_as_many_as_may() {
        let mut pipeline = chain("p", &["a"]);
        pipeline.max_running = Some(2);
        let mut bench = Bench::new(vec![pipeline.clone()]);
        let mut begin = |id: &str, priority| {
            let Wanted::Start { pipeline, id, payload, scheduled, .. } = start("p", id, "{}") else { unreachable!() };
            text(&bench.order(Wanted::Start { pipeline, id, payload, priority, scheduled }))
        };
        assert_eq!(begin("1", 0), "job 1 of p begins");
        assert_eq!(begin("2", 0), "job 2 of p begins");
        assert_eq!(begin("3", -1), "job 3 of p is planned: as many jobs of its pipeline run as may");
        begin("4", 0);
        begin("5", 0);
        begin("6", 7);
        let counts = bench.ledger.census().counts();
        assert_eq!((counts.running, counts.planned), (2, 4));
        let running = |bench: &Bench| {
            let views: Vec<_> = bench.ledger.jobs().filter(|view| view.state.as_str() == "running").collect();
            views.into_iter().map(|view| view.id).collect::<String>()
        };
        bench.done("a", "");
        assert_eq!(running(&bench), "26");
        bench.order(Wanted::Priority { job: "5".to_owned(), priority: 1 });
        bench.order(Wanted::Freeze(Scope::Job("4".to_owned())));
        bench.done("a", "");
        bench.done("a", "");
        assert_eq!(running(&bench), "35", "the one that is frozen is passed over");
        bench.order(Wanted::Resume(Scope::Job("4".to_owned())));
        assert_eq!(running(&bench), "35");
        pipeline.max_running = None;
        bench.reload(vec![pipeline]);
        assert_eq!(running(&bench), "345", "a reload admits more");
    }

    #[test]
    fn a_job_waits_for_its_key_one_at_most() {
        let mut pipeline = chain("p", &["a"]);
        pipeline.key = Some("{payload}".to_owned());
        pipeline.conflict = crate::jobs::definition::Conflict::Wait;
        let mut bench = Bench::new(vec![pipeline]);
        bench.start("p", "1", "7");
        assert_eq!(text(&bench.start("p", "2", "7")), "job 2 of p/7 is planned: it begins after job 1");
        let refused = text(&bench.start("p", "3", "7"));
        assert_eq!(refused, "refused: job 2 of p/7 waits already for the end of job 1; asynctask jobs show 2");
        assert_eq!(text(&bench.start("p", "4", "8")), "job 4 of p/8 begins");
        bench.done("a", "");
        assert_eq!(bench.states("2"), "running a:waiting");
        assert!(bench.stored["2"].holds_key && !bench.stored["1"].holds_key);
    }
}
