//! `asynctask jobs`: passages of pipelines.
//!
//! `list` and `show` read what is stored, whoever coordinates it. All else is an order to the coordinator, whose answer is waited
//! for; where no master coordinates, the command does so itself until its order is carried out.

mod client;
mod follow;
mod list;
mod order;
mod picture;
mod show;
mod start;

use self::client::open;
use super::{
    args::Global,
    jobs_args::{Given, Jobs, Scoped},
    output::{print, print_error},
    settings::load_shared,
};
use crate::{
    config::Config,
    exit_code::{Code, Error},
    jobs::order::{Scope, Wanted},
    worker::registry::Registry,
};

pub(super) fn run(registry: &Registry, global: &Global, verb: &Jobs) -> Result<Code, Error> {
    let config = load_shared(registry, global)?;
    let config = &config;
    match verb {
        Jobs::Start(verb) => start::run(config, verb),
        Jobs::List(verb) => list::run(config, verb),
        Jobs::Show(verb) => show::run(config, verb),
        Jobs::Restart(verb) => {
            let what = Wanted::Restart {
                job: verb.job.clone(),
                steps: verb.steps.clone(),
                only: verb.only,
                failed: verb.failed,
                redefine: verb.redefine,
                even_if_wiped: verb.even_if_wiped,
            };
            one(config, what, &verb.given)
        }
        Jobs::Cancel(verb) => cancel(config, &verb.jobs, verb.json),
        Jobs::Freeze(verb) => {
            check_key(config, verb)?;
            one(config, Wanted::Freeze(scope(verb)), &verb.given)
        }
        Jobs::Resume(verb) => one(config, Wanted::Resume(scope(verb)), &verb.given),
        Jobs::Priority(verb) => {
            one(config, Wanted::Priority { job: verb.job.clone(), priority: verb.number }, &verb.given)
        }
        Jobs::Keep(verb) => one(config, Wanted::Keep { job: verb.job.clone() }, &verb.given),
        Jobs::Wipe(verb) => one(config, Wanted::Wipe { job: verb.job.clone(), all: verb.all }, &verb.given),
    }
}

/// Refuses a key of a pipeline whose jobs have none, as far as the settings say that: nothing would ever be held back.
fn check_key(config: &Config, verb: &Scoped) -> Result<(), Error> {
    let Some(name) = verb.pipeline.as_ref().filter(|_| verb.key.is_some()) else { return Ok(()) };
    match config.pipelines.iter().find(|pipeline| pipeline.name == *name) {
        Some(pipeline) if pipeline.key.is_none() => {
            Err(Error::new(Code::Refused, format!("pipeline {name} has no key"))
                .hint(format!("asynctask jobs freeze --pipeline {name} keeps all jobs of it from beginning")))
        }
        _ => Ok(()),
    }
}

/// The arguments have one or the other.
fn scope(verb: &Scoped) -> Scope {
    match &verb.job {
        Some(job) => Scope::Job(job.clone()),
        None => Scope::Pipeline { name: verb.pipeline.clone().unwrap_or_default(), key: verb.key.clone() },
    }
}

/// Gives one order, and prints its answer.
fn one(config: &Config, what: Wanted, given: &Given) -> Result<Code, Error> {
    let done = order::give(&mut open(config)?, config, what)?;
    print(&done.line(given.json))?;
    Ok(Code::Ok)
}

/// Gives an order for each; those that are refused stop no other.
fn cancel(config: &Config, jobs: &[String], json: bool) -> Result<Code, Error> {
    let mut client = open(config)?;
    let mut failures = Vec::new();
    for job in jobs {
        match order::give(&mut client, config, Wanted::Cancel { job: job.clone() }) {
            Ok(done) => print(&done.line(json))?,
            Err(error) if matches!(error.code, Code::Refused | Code::NoMaster) => failures.push(error),
            // Nothing else would be answered, either.
            Err(error) => return Err(error),
        }
    }
    // What was refused is the worst; each is said, the last one as the error of the command.
    failures.sort_by_key(|error| error.code == Code::Refused);
    let last = failures.pop();
    for error in failures {
        print_error(&format!("{error}\n"), None);
    }
    last.map_or(Ok(Code::Ok), Err)
}
