//! The part of the page that is about jobs.
//!
//! | name | labels | what it is | who has it |
//! |---|---|---|---|
//! | `asynctask_coordinator` | | 1 where the jobs are coordinated, else 0 | masters with pipelines |
//! | `asynctask_jobs` | `pipeline`, `state` | open jobs: those that are live, failed and not wiped, or being wiped | the coordinator |
//! | `asynctask_ledger_entries` | | entries that were told and are not folded | the coordinator |
//! | `asynctask_oldest_job_age_seconds` | | age of the oldest live job; absent without one | the coordinator |
//! | `asynctask_job_run_seconds` | `pipeline`, `state` | from when a job began, or went on, to its end; a job that is healed or restarted ends again | each, of jobs that ended under it |
//! | `asynctask_step_run_seconds` | `pipeline`, `step` | from the begin of a step to its end, each time that it was done | each, of steps that were done under it |
//!
//! Nothing of it is told twice: over several masters each is a sum.

use std::fmt;

use prometheus_client::{encoding::DescriptorEncoder, metrics::MetricType, registry::Unit};

use super::{
    counts::JOB_BOUNDS,
    family::family,
    reading::{JobsReading, LedgerReading},
};
use crate::jobs::record::JobState;

/// Writes what is known of jobs.
pub(super) fn write(jobs: &JobsReading, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "Whether the jobs are coordinated by this master";
    let is_here = u64::from(jobs.ledger.is_some());
    encoder.encode_descriptor("asynctask_coordinator", help, None, MetricType::Gauge)?.encode_gauge(&is_here)?;
    if let Some(ledger) = &jobs.ledger {
        of_the_ledger(ledger, encoder)?;
    }
    let help = "Time from the begin of a job to its end";
    let mut times = family(encoder, "asynctask_job_run", help, Some(&Unit::Seconds), MetricType::Histogram)?;
    for (pipeline, state, took) in &jobs.job_times {
        times.times_among(&JOB_BOUNDS, &[("pipeline", pipeline.as_str()), ("state", state.as_str())], took)?;
    }
    let help = "Time from the begin of a step to its end, of steps that were done in jobs that ended";
    let mut times = family(encoder, "asynctask_step_run", help, Some(&Unit::Seconds), MetricType::Histogram)?;
    for (pipeline, step, took) in &jobs.step_times {
        times.times_among(&JOB_BOUNDS, &[("pipeline", pipeline.as_str()), ("step", step.as_str())], took)?;
    }
    Ok(())
}

fn of_the_ledger(ledger: &LedgerReading, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "Open jobs: live, failed and not wiped, or being wiped";
    let mut open = family(encoder, "asynctask_jobs", help, None, MetricType::Gauge)?;
    for (pipeline, counts) in &ledger.open {
        for (state, count) in JobState::ALL.into_iter().zip(counts) {
            open.gauge(&[("pipeline", pipeline.as_str()), ("state", state.as_str())], *count)?;
        }
    }
    let help = "Entries of the ledger that are not folded";
    let mut entries = encoder.encode_descriptor("asynctask_ledger_entries", help, None, MetricType::Gauge)?;
    entries.encode_gauge(&ledger.entries)?;
    if let Some(age) = ledger.oldest {
        let help = "Age of the oldest live job";
        let unit = Some(&Unit::Seconds);
        let mut oldest = encoder.encode_descriptor("asynctask_oldest_job_age", help, unit, MetricType::Gauge)?;
        oldest.encode_gauge(&age.as_secs_f64())?;
    }
    Ok(())
}
