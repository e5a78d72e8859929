//! Jobs in the shell: what the coordinator hears and wants, and what status and metrics say of it.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::{
    jobs::{Found, Read, is_of_the_ledger},
    state::Shell,
};
use crate::{
    clock::{Clock, Timestamp},
    jobs::{
        definition::Pipeline,
        ledger::{Census, View, place, queues_of},
        record::{JobFilter, JobState},
    },
    logging::{Level, MASTER},
    master::{coordinator::Act, core::event::Event},
    metrics::{JobsReading, LedgerReading},
    plural::counted,
    transport::{self, Request, look_up},
};

/// The name of the lines about jobs.
const JOBS: &str = "jobs";
/// Jobs that are named where many are waited for.
const NAMED: usize = 5;
/// How long the end of a run waits for entries of its last tasks to be folded; what is not, the next coordinator folds.
const LAST_STEPS: Duration = Duration::from_secs(2);

impl Shell {
    /// Asks for the ledger, where there are pipelines.
    pub(super) fn begin_coordinating(&mut self) {
        if !self.jobs.coordinator.pipelines().is_empty() {
            let acts = self.jobs.coordinator.begin();
            self.perform_for_jobs(acts);
        }
    }

    pub(super) fn ledger_event(&mut self, event: transport::Event) {
        let now = self.now();
        let acts = self.jobs.coordinator.event(event, now);
        self.perform_for_jobs(acts);
    }

    pub(super) fn jobs_found(&mut self, Found { epoch, entry, records }: Found) {
        let now = self.now();
        let acts = self.jobs.coordinator.found(epoch, entry, records, now);
        self.perform_for_jobs(acts);
    }

    pub(super) fn keep_time_of_jobs(&mut self) {
        let now = self.clock.now();
        if self.jobs.coordinator.wait(now).is_some_and(|wait| wait.is_zero()) {
            let acts = self.jobs.coordinator.due(now);
            self.perform_for_jobs(acts);
        }
    }

    /// Other settings: `worked` are the queues of this master from now on, `elsewhere` says of others whether they are named.
    pub(super) fn reload_jobs(
        &mut self,
        pipelines: Vec<Pipeline>,
        worked: &BTreeSet<String>,
        elsewhere: impl Fn(&str) -> bool,
    ) {
        let now = self.now();
        let gone = self.core.queues().into_iter().map(|dead| dead.queue);
        let gone: Vec<String> = gone.filter(|queue| !worked.contains(queue) && !elsewhere(queue)).collect();
        if !gone.is_empty() && !self.jobs.coordinator.pipelines().is_empty() {
            self.tell_users(gone);
        }
        let acts = self.jobs.coordinator.reload(pipelines, now);
        self.perform_for_jobs(acts);
        self.begin_coordinating();
    }

    /// Warns of live jobs that have one of these queues, whoever coordinates them.
    fn tell_users(&self, queues: Vec<String>) {
        let open = self.read_open_jobs();
        let logger = self.logger.clone();
        tokio::task::spawn_local(async move {
            let Ok(Ok((records, _))) = open.await else { return };
            let live: Vec<(String, Vec<String>)> = records
                .iter()
                .filter(|record| record.state.is_live())
                .map(|job| (format!("{} of {}", job.id, place(&job.pipeline, job.key.as_deref())), queues_of(job)))
                .collect();
            for queue in queues {
                let users = live.iter().filter(|(_, used)| used.contains(&queue)).map(|(job, _)| job.as_str());
                let users = users.collect::<Vec<_>>().join(", ");
                if !users.is_empty() {
                    let text = format!("Queue {queue} is not worked here any more; jobs need it: {users}");
                    logger.line(Level::Warning, MASTER, &text);
                }
            }
        });
    }

    /// Says which jobs are waited for although nothing of them can be done here: their tasks are in queues that others work.
    pub(super) fn tell_waited_for(&self) {
        let open = self.read_open_jobs();
        let logger = self.logger.clone();
        let worked: BTreeSet<String> = self.core.queues().into_iter().map(|dead| dead.queue).collect();
        tokio::task::spawn_local(async move {
            let Ok(Ok((records, _))) = open.await else { return };
            let waiting = records.iter().filter(|record| record.state == JobState::Running && !record.frozen);
            let views = waiting.filter_map(|record| View::of(record).ok());
            let texts: Vec<String> = views.filter_map(|view| view.waits_for_others(&worked)).collect();
            for text in texts.iter().take(NAMED) {
                logger.line(Level::Info, MASTER, text);
            }
            if let more @ 1.. = texts.len().saturating_sub(NAMED) {
                logger.line(Level::Info, MASTER, &format!("And {} more", counted(more, "job")));
            }
        });
    }

    fn read_open_jobs(&self) -> Read {
        let (reply, open) = oneshot::channel();
        let filter = JobFilter { open: true, ..JobFilter::default() };
        self.transport.ask(Request::Jobs { application: self.application.clone(), filter, reply });
        open
    }

    fn perform_for_jobs(&mut self, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::Ask => self.transport.ask(Request::Ledger { application: self.application.clone() }),
                Act::GiveBack => self.transport.ask(Request::ReleaseLedger),
                Act::Advance(advance) => self.transport.ask(Request::Advance(advance)),
                Act::LookUp { epoch, entry, filters } => {
                    let found = look_up(&*self.transport, &self.application, filters);
                    let sender = self.jobs.sender.clone();
                    tokio::task::spawn_local(async move {
                        // The loop may have ended.
                        let _ = sender.send(Found { epoch, entry, records: found.await });
                    });
                }
                Act::Log(level, text) => self.logger.line(level, JOBS, &text),
                Act::Ended(job) => {
                    self.jobs.worked.add(&job.id);
                    self.handle(Event::JobEnded { id: job.id, state: job.state });
                }
            }
        }
    }

    /// Folds what the last tasks of the run told the ledger, as far as that is possible soon, and gives the ledger back. What else
    /// the transport says meanwhile is left for later.
    pub(super) async fn end_coordinating(
        &mut self,
        events: &mut mpsc::UnboundedReceiver<transport::Event>,
    ) -> Vec<transport::Event> {
        let mut others = Vec::new();
        if self.jobs.coordinator.is_holding() {
            // Its answer comes after what the settlements stored.
            let (reply, mut read) = oneshot::channel();
            let filter = JobFilter { limit: 1, ..JobFilter::default() };
            self.transport.ask(Request::Jobs { application: self.application.clone(), filter, reply });
            let mut is_read = false;
            let limit = tokio::time::sleep(LAST_STEPS);
            tokio::pin!(limit);
            while self.jobs.coordinator.is_holding() && (!is_read || self.jobs.coordinator.is_busy()) {
                tokio::select! {
                    biased;
                    Some(event) = events.recv() => {
                        if is_of_the_ledger(&event) { self.ledger_event(event) } else { others.push(event) }
                    }
                    Some(found) = self.jobs.found.recv() => self.jobs_found(found),
                    _ = &mut read, if !is_read => is_read = true,
                    () = &mut limit => break,
                }
            }
        }
        let acts = self.jobs.coordinator.end();
        self.perform_for_jobs(acts);
        others
    }

    /// How the ledger stands, for a status: what must be asked for comes with it.
    pub(super) fn add_jobs(&self, status: &mut Value) -> Option<Read> {
        let coordinator = &self.jobs.coordinator;
        if coordinator.pipelines().is_empty() && !coordinator.is_holding() {
            return None;
        }
        status["coordinator"] = json!({
            "held": coordinator.is_holding(), "epoch": coordinator.epoch(), "entries": coordinator.entries(),
        });
        status["jobs"] = Value::Null;
        if let Some(counts) = coordinator.counts() {
            status["jobs"] = json!({
                "running": counts.running, "planned": counts.planned, "failed": counts.failed, "frozen": counts.frozen,
            });
            return None;
        }
        Some(self.read_open_jobs())
    }

    pub(super) fn jobs_reading(&self) -> Option<JobsReading> {
        let coordinator = &self.jobs.coordinator;
        let pipelines: BTreeSet<&str> = coordinator.pipelines().iter().map(|pipeline| pipeline.name.as_str()).collect();
        if pipelines.is_empty() {
            return None;
        }
        let wall = Clock::wall();
        let counted = coordinator.counted();
        // No name becomes a label that is not in the settings.
        let jobs = counted.jobs().filter(|(pipeline, ..)| pipelines.contains(pipeline));
        let steps = counted.steps().filter(|(pipeline, ..)| pipelines.contains(pipeline));
        Some(JobsReading {
            ledger: coordinator.ledger().map(|ledger| {
                reading(&pipelines, ledger.census(), coordinator.entries().unwrap_or_default() as u64, wall)
            }),
            job_times: jobs.map(|(pipeline, state, times)| (pipeline.to_owned(), state, times.clone())).collect(),
            step_times: steps
                .map(|(pipeline, step, times)| (pipeline.to_owned(), step.to_owned(), times.clone()))
                .collect(),
        })
    }
}

fn reading(pipelines: &BTreeSet<&str>, census: &Census, entries: u64, wall: Timestamp) -> LedgerReading {
    let open = pipelines.iter().map(|name| ((*name).to_owned(), census.open(name))).collect();
    LedgerReading { open, entries, oldest: census.oldest().map(|made_at| wall.remaining(made_at)) }
}
