//! `asynctask jobs list`: a line for each job, the newest first.

use std::{collections::BTreeSet, time::Duration};

use super::{client::open, picture};
use crate::{
    cli::{
        job_names::jobs,
        jobs_args::List,
        output::{print, table},
        waiting::say,
    },
    clock::{Clock, Timestamp},
    config::Config,
    exit_code::{Code, Error},
    jobs::{
        ledger::View,
        record::{JobFilter, JobState},
    },
    transport::Uri,
};

/// A running job of which nothing was heard for this long is stalled.
const STALLED: Duration = Duration::from_hours(1);

pub(super) fn run(config: &Config, verb: &List) -> Result<Code, Error> {
    let filter = JobFilter {
        pipeline: verb.pipeline.clone(),
        key: verb.key.clone(),
        state: if verb.stalled { Some(JobState::Running) } else { verb.state.as_deref().and_then(JobState::named) },
        // Which ones are stalled is seen only when they are read.
        limit: if verb.stalled { 0 } else { verb.limit as usize },
        ..JobFilter::default()
    };
    let mut client = open(config)?;
    // A database shows it; elsewhere a long silence is all there is to go by.
    let proven: BTreeSet<String> = if verb.stalled && matches!(config.transport, Uri::Sqlite(_) | Uri::Postgres(_)) {
        let filter = JobFilter { stranded: true, ..filter.clone() };
        jobs(&mut client, config, filter)?.into_iter().map(|record| record.id).collect()
    } else {
        BTreeSet::new()
    };
    let mut views = Vec::new();
    for record in jobs(&mut client, config, filter)? {
        match picture::view(&record) {
            Ok(view) => views.push(view),
            Err(error) => say(&client.bar, &format!("warning: {}", error.message)),
        }
    }
    if verb.stalled {
        let now = Clock::wall();
        views.retain(|view| proven.contains(&view.id) || is_stalled(view, now));
        views.truncate(verb.limit as usize);
    }
    if verb.json {
        let line = |view: &View| {
            serde_json::to_string(&view.line())
                .map(|line| line + "\n")
                .map_err(|error| Error::new(Code::Internal, format!("job {} cannot be written: {error}", view.id)))
        };
        print(&views.iter().map(line).collect::<Result<String, _>>()?)?;
    } else if views.is_empty() {
        print("no jobs\n")?;
    } else {
        print(&table(&picture::COLUMNS, views.iter().map(picture::row).collect()))?;
    }
    Ok(Code::Ok)
}

/// Whether nothing was heard for long of a job that is under way; one that waits for the moment of a task does not stall.
fn is_stalled(view: &View, now: Timestamp) -> bool {
    let waits_until = view.steps.iter().flat_map(|step| {
        [
            step.retrying.as_ref().map(|retrying| retrying.again_at),
            step.snoozed.as_ref().map(|snoozed| snoozed.again_at),
        ]
    });
    let heard_at = waits_until.flatten().fold(view.heard_at, Timestamp::max);
    view.state == JobState::Running && !view.frozen && heard_at.plus(STALLED) <= now
}
