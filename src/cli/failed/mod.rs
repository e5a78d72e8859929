//! `asynctask failed`: dead letters.

mod collect;
mod export;
mod left;
mod list;
mod purge;
mod retry;
mod selection;
mod show;

use super::{args::Global, failed_args::Failed, settings::load_shared};
use crate::{
    exit_code::{Code, Error},
    worker::registry::Registry,
};

pub(super) fn run(registry: &Registry, global: &Global, verb: &Failed) -> Result<Code, Error> {
    let config = load_shared(registry, global)?;
    match verb {
        Failed::List(verb) => list::run(&config, verb),
        Failed::Show(verb) => show::run(&config, verb),
        Failed::Retry(verb) => retry::run(&config, verb),
        Failed::Purge(verb) => purge::run(&config, verb),
        Failed::Export(verb) => export::run(&config, verb),
    }
}
