//! Dead letters of jobs that were left where they are: why, and what helps.

use std::collections::BTreeMap;

use crate::{
    cli::{job_names, waiting::WaitingClient},
    config::Config,
    exit_code::{Code, Error},
    jobs::{
        ledger::{View, Wiped},
        record::JobFilter,
    },
    membership::Membership,
    transport::job_letters::{Hindrance, hindrance},
};

/// Jobs that are looked at for an explanation.
const LOOKED_AT: usize = 20;

/// The error for dead letters that were to be put back to work and were left; `retried` are their places in jobs, those of others
/// among them.
pub(super) fn error(client: &mut WaitingClient, config: &Config, left: u64, retried: &[Membership]) -> Error {
    let of_rounds: BTreeMap<_, _> = retried.iter().map(|of| ((&of.job, of.round), of)).collect();
    let told = of_rounds.values().take(LOOKED_AT).find_map(|of| why(client, config, of).ok().flatten());
    let what = format!(
        "{} not put back to work",
        if left == 1 { "1 dead letter is".to_owned() } else { format!("{left} dead letters are") }
    );
    match told {
        Some((why, hint)) => Error::new(Code::Refused, format!("{what}: {why}")).hint(hint),
        // It has changed since.
        None => Error::new(Code::Refused, format!("{what}: its job does not go on with it")).hint("try again"),
    }
}

/// Why a dead letter is not put back to work, and what helps.
fn why(client: &mut WaitingClient, config: &Config, of: &Membership) -> Result<Option<(String, String)>, Error> {
    let (job, step) = (&of.job, &of.step);
    let record = job_names::by_id(client, config, job)?;
    let mut holder = None;
    if of.key.is_some() {
        let (pipeline, key) = (Some(of.pipeline.clone()), of.key.clone());
        let filter = JobFilter { pipeline, key, open: true, ..JobFilter::default() };
        let has_key = job_names::jobs(client, config, filter)?;
        holder = has_key.into_iter().find(|other| other.holds_key && other.id != *job).map(|other| other.id);
    }
    let rounds = record.as_ref().map(|record| &record.rounds[..]);
    let wiped = record.as_ref().and_then(|record| View::of(record).ok()).map_or(Wiped::No, |view| view.wiped);
    Ok(hindrance(of, rounds, holder).map(|hindrance| match hindrance {
        Hindrance::Forgotten => (
            format!("job {job} is forgotten"),
            format!("asynctask jobs start {} does it anew; asynctask failed purge deletes dead letters", of.pipeline),
        ),
        Hindrance::KeyHeld { by } => (
            format!("the key of job {job} is held by job {by}"),
            format!("when that has ended; asynctask jobs show {by}"),
        ),
        Hindrance::Void if wiped == Wiped::No => (
            format!("step {step} of job {job} was ended, or begun again"),
            format!("asynctask jobs restart {job} {step} does it with what needs it"),
        ),
        Hindrance::Void => {
            let is = if wiped == Wiped::UnderWay { "is being wiped" } else { "is wiped" };
            (format!("job {job} {is}"), format!("asynctask jobs restart {job} --even-if-wiped does its steps again"))
        }
    }))
}
