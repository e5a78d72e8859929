//! The job that a person names: its id, a beginning of it that no other has, or `PIPELINE/KEY`.

use super::waiting::WaitingClient;
use crate::{
    config::Config,
    exit_code::{Code, Error},
    jobs::{
        naming::{self, Meaning},
        record::{JobFilter, Record},
    },
    suggest::nearest,
    transport::Request,
};

/// The newest jobs of a pipeline whose keys may have been meant.
const LOOKED_AT: usize = 100;

/// The jobs of a filter, the newest first.
pub(in crate::cli) fn jobs(
    client: &mut WaitingClient,
    config: &Config,
    filter: JobFilter,
) -> Result<Vec<Record>, Error> {
    let application = config.application.clone();
    let found = client.call(|reply| Request::Jobs { application, filter, reply });
    found.map(|(records, _)| records).map_err(|broken| broken.error())
}

/// The job of this id, if there is one.
pub(in crate::cli) fn by_id(client: &mut WaitingClient, config: &Config, id: &str) -> Result<Option<Record>, Error> {
    let filter = JobFilter { id: Some(id.to_owned()), whole_id: true, ..JobFilter::default() };
    Ok(jobs(client, config, filter)?.into_iter().next())
}

/// The job of this name.
pub(in crate::cli) fn named(client: &mut WaitingClient, config: &Config, name: &str) -> Result<Record, Error> {
    let mut found = Vec::new();
    for filter in naming::filters(name) {
        found.append(&mut jobs(client, config, filter)?);
    }
    let meaning = naming::meaning(name, found.iter().map(Into::into));
    if let Meaning::One(id) = &meaning
        && let Some(place) = found.iter().position(|record| record.id == *id)
    {
        return Ok(found.swap_remove(place));
    }
    let (error, mut hint) = meaning.refusal(name).unwrap_or_default();
    if meaning == Meaning::Nothing {
        hint = match name.split_once('/') {
            Some((pipeline, key)) => near(client, config, pipeline, key)?.unwrap_or(hint),
            None => format!("a job is named by its id, the beginning of it, or PIPELINE/KEY; {hint}"),
        };
    }
    Err(Error::new(Code::Refused, error).hint(hint))
}

/// What may be meant by a place where no job is.
fn near(client: &mut WaitingClient, config: &Config, pipeline: &str, key: &str) -> Result<Option<String>, Error> {
    let filter = JobFilter { pipeline: Some(pipeline.to_owned()), limit: LOOKED_AT, ..JobFilter::default() };
    let others = jobs(client, config, filter)?;
    Ok(if others.is_empty() {
        let known = config.pipelines.iter().map(|pipeline| pipeline.name.as_str());
        nearest(pipeline, known).map(|near| format!("did you mean {near}/{key}?"))
    } else {
        let keys = others.iter().filter_map(|record| record.key.as_deref());
        nearest(key, keys).map(|near| format!("did you mean {pipeline}/{near}?"))
    })
}
