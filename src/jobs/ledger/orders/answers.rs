//! What is answered to orders.

use crate::jobs::{ledger::state::Job, naming::Meaning, order::Answer};

/// The answer about a job to whom started it again. One of another pipeline is not what was asked for.
pub(super) fn is_there(job: &Job, pipeline: &str) -> Answer {
    if job.definition.name == pipeline {
        done(job, "is there already")
    } else {
        let what = format!("is there already, and is none of {pipeline}");
        refused_of(job, &what, Some("give another --id, or none".to_owned()))
    }
}

pub(super) fn there_is_none(name: &str) -> Answer {
    not_one(&Meaning::Nothing, name)
}

/// A name that means not one job.
pub(super) fn not_one(meaning: &Meaning, name: &str) -> Answer {
    let (error, hint) = meaning.refusal(name).unwrap_or_default();
    refused(error, Some(hint))
}

/// `job ID of PIPELINE/KEY WHAT`.
pub(super) fn done(job: &Job, what: &str) -> Answer {
    Answer::Done { text: format!("job {} of {} {what}", job.id, job.place()), job: Some(job.id.clone()) }
}

pub(super) fn refused(error: String, hint: Option<String>) -> Answer {
    Answer::Refused { error, hint }
}

/// `job ID of PIPELINE/KEY WHAT`, as a refusal.
pub(super) fn refused_of(job: &Job, what: &str, hint: Option<String>) -> Answer {
    refused(format!("job {} of {} {what}", job.id, job.place()), hint)
}
