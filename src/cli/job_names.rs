//! The job that a person names: its id, a beginning of it that no other has, or `PIPELINE/KEY`.

use super::waiting::WaitingClient;
use crate::{
    config::Config,
    exit_code::{Code, Error},
    jobs::record::{JobFilter, Record},
    suggest::nearest,
    transport::Request,
};

/// Candidates of a beginning that are named.
const NAMED: usize = 5;

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
    let refused = |text: String| Error::new(Code::Refused, text);
    let mut found = jobs(client, config, JobFilter { id: Some(name.to_owned()), ..JobFilter::default() })?;
    if let Some(place) = found.iter().position(|record| record.id == name) {
        return Ok(found.swap_remove(place));
    }
    if found.len() > 1 {
        let ids: Vec<&str> = found.iter().take(NAMED).map(|record| record.id.as_str()).collect();
        let more = if found.len() > NAMED { ", …" } else { "" };
        return Err(refused(format!("{} jobs have ids that begin with \"{name}\"", found.len()))
            .hint(format!("they are {}{more}", ids.join(", "))));
    }
    if let Some(record) = found.pop() {
        return Ok(record);
    }
    let none = refused(format!("no such job: \"{name}\""));
    let Some((pipeline, key)) = name.split_once('/') else {
        return Err(
            none.hint("a job is named by its id, the beginning of it, or PIPELINE/KEY; see asynctask jobs list")
        );
    };
    let filter = JobFilter { pipeline: Some(pipeline.to_owned()), key: Some(key.to_owned()), ..JobFilter::default() };
    let mut found = jobs(client, config, filter)?;
    // A planned one may be newer than the one that holds the key.
    if let Some(place) = found.iter().position(|record| record.state.is_live() && record.holds_key) {
        return Ok(found.swap_remove(place));
    }
    let live = found.iter().position(|record| record.state.is_live()).unwrap_or(0);
    if live < found.len() {
        return Ok(found.swap_remove(live));
    }
    let filter = JobFilter { pipeline: Some(pipeline.to_owned()), ..JobFilter::default() };
    let others = jobs(client, config, filter)?;
    let near = if others.is_empty() {
        let known = config.pipelines.iter().map(|pipeline| pipeline.name.as_str());
        nearest(pipeline, known).map(|near| format!("did you mean {near}/{key}?"))
    } else {
        let keys = others.iter().filter_map(|record| record.key.as_deref());
        nearest(key, keys).map(|near| format!("did you mean {pipeline}/{near}?"))
    };
    Err(none.hint(near.unwrap_or_else(|| "see asynctask jobs list".to_owned())))
}
