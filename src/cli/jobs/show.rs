//! `asynctask jobs show`: one job, with all that is known of its steps.

use super::{
    client::open,
    follow,
    picture::{self, Worked},
};
use crate::{
    cli::{job_names::named, jobs_args::Show, output::print},
    config::Config,
    exit_code::{Code, Error},
    jobs::ledger::View,
};

pub(super) fn run(config: &Config, verb: &Show) -> Result<Code, Error> {
    let mut client = open(config)?;
    let record = named(&mut client, config, &verb.job)?;
    let (json, names, elsewhere) = (verb.json, config.known_queues(), config.disabled.clone());
    let worked = move |queue: &str| match names.unknown(queue) {
        _ if elsewhere.iter().any(|name| name == queue) => Worked::Elsewhere,
        Some(_) => Worked::Unnamed,
        None => Worked::Here,
    };
    let show = move |view: &View| if json { object(view) } else { Ok(picture::page(view, &worked)) };
    if verb.watch {
        return follow::watch(&mut client, config, record, show);
    }
    print(&show(&picture::view(&record)?)?)?;
    Ok(Code::Ok)
}

fn object(view: &View) -> Result<String, Error> {
    serde_json::to_string(view)
        .map(|object| object + "\n")
        .map_err(|error| Error::new(Code::Internal, format!("job {} cannot be written: {error}", view.id)))
}
