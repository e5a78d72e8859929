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
