//! Which of the jobs that are planned begin: by priority, then by age, while their pipeline has room and their key is free.

use std::{cmp::Reverse, collections::HashMap};

use super::{fold::Ledger, out::Out, state::Job};
use crate::jobs::record::{Frozen, JobState};

impl Ledger {
    /// Begins what can begin.
    pub(super) fn admit(&mut self, out: &mut Out) {
        let planned = self.jobs.values().filter(|job| job.state == JobState::Planned && !job.frozen);
        let mut planned: Vec<_> = planned.map(|job| (Reverse(job.priority), job.number, job.id.clone())).collect();
        if planned.is_empty() {
            return;
        }
        planned.sort_unstable();
        let mut running: HashMap<String, usize> = HashMap::new();
        for job in self.jobs.values().filter(|job| job.state == JobState::Running) {
            *running.entry(job.definition.name.clone()).or_default() += 1;
        }
        for (_, _, id) in planned {
            let Some(job) = self.jobs.get(&id) else { continue };
            if self.is_frozen(&job.definition.name, job.key.as_deref())
                || job.waits_for_key && self.holder_beside(job).is_some()
            {
                continue;
            }
            let most = self.most_running(job);
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            if std::mem::take(&mut job.waits_for_key) {
                out.changed.insert(id.clone());
            }
            let running = running.entry(job.definition.name.clone()).or_default();
            if *running < most {
                *running += 1;
                job.begin(out);
                out.changed.insert(id);
            }
        }
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
    use crate::jobs::order::{Scope, Wanted};

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
