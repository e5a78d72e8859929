//! The command line: one file a verb. This file turns arguments into the call of a verb, and its result into an exit code.
//!
//! No verb imports another one, or this file: what several of them need is in `settings`, `connection`, `control_client`,
//! `waiting`, `plan` and `output`.
#![doc = include_str!("JSON.md")]

mod args;
mod celery;
mod check_worker;
mod config;
mod confirm;
mod connection;
mod control;
mod control_args;
mod control_client;
mod dashboard;
mod dashboard_args;
mod failed;
mod failed_args;
mod generated_docs;
mod job_names;
mod jobs;
mod jobs_args;
mod output;
mod plan;
mod process_queue;
mod queues;
mod run_payload;
mod run_report;
mod schedules;
mod schema;
pub(crate) mod settings;
mod spelling;
mod submit;
mod visits;
mod waiting;
mod workers;

use std::{
    ffi::{OsStr, OsString},
    path::Path,
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches};

use self::{
    args::{Cli, Verb},
    output::{LAST_LINES, print_error},
    spelling::normalized,
};
use crate::{exit_code::Code, text, worker::registry::Registry};

/// The program that is `asynctask workers`.
const WORKERS: &str = "asynctask-workers";

/// Does what the arguments say; the program's name first.
#[must_use]
pub(crate) fn run(registry: &Registry, arguments: &[OsString]) -> ExitCode {
    let cli = match parse(registry, arguments) {
        Ok(cli) => cli,
        Err(error) => return refused(&error),
    };
    // Before the first thread: what a broker delivers is not ours to choose.
    let _ = crate::process::stacks::enlarge();
    crate::process::descriptor_limit::ignore_file_size_signal();
    let is_master = matches!(cli.verb, Verb::Workers(_) | Verb::Run(_));
    let done = match cli.verb {
        Verb::Workers(verb) => workers::run(registry, &cli.global, &verb),
        Verb::Submit(verb) => submit::run(registry, &cli.global, &verb),
        Verb::Run(verb) => run_payload::run(registry, &cli.global, &verb),
        Verb::Process(verb) => process_queue::run(registry, &cli.global, &verb),
        Verb::CheckWorker(verb) => check_worker::run(registry, &cli.global, &verb),
        Verb::Queues(verb) => queues::run(registry, &cli.global, &verb),
        Verb::Schedules(verb) => schedules::run(registry, &cli.global, &verb),
        Verb::Schema(verb) => schema::run(registry, &cli.global, &verb),
        Verb::Failed { verb } => failed::run(registry, &cli.global, &verb),
        Verb::Jobs { verb } => jobs::run(registry, &cli.global, &verb),
        Verb::Status(verb) => control::status(registry, &cli.global, &verb),
        Verb::Health(verb) => control::health(registry, &cli.global, &verb),
        Verb::Dashboard(verb) => dashboard::run(registry, &cli.global, &verb),
        Verb::Control(verb) => control::control(registry, &cli.global, &verb),
        Verb::Config { verb } => config::run(registry, &cli.global, &verb),
        Verb::Celery { verb } => celery::run(&verb),
        Verb::Completions(verb) => generated_docs::completions(command(registry, arguments), &verb),
        Verb::Man => generated_docs::man(command(registry, arguments)),
    };
    match done {
        Ok(code) => code.into(),
        Err(mut error) => {
            // The problems of a configuration are blocks of lines; all else is one, whatever it quotes.
            if error.code != Code::Config {
                error.message = text::escape_line(&error.message).into_owned();
            }
            print_error(&format!("{error}\n"), is_master.then_some(LAST_LINES));
            error.code.into()
        }
    }
}

fn parse(registry: &Registry, arguments: &[OsString]) -> Result<Cli, clap::Error> {
    let matches = command(registry, arguments).try_get_matches_from(normalized(arguments))?;
    Cli::from_arg_matches(&matches)
}

fn command(registry: &Registry, arguments: &[OsString]) -> clap::Command {
    let name = program_name(registry, arguments);
    let command = Cli::command().version(env!("CARGO_PKG_VERSION"));
    let workers = |verb: clap::Command| verb.override_usage(format!("{WORKERS} [OPTIONS]"));
    // Under that name the verb is not typed.
    let command = if name == WORKERS { command.mut_subcommand("workers", workers) } else { command };
    command.bin_name(name)
}

fn program_name(registry: &Registry, arguments: &[OsString]) -> String {
    let file = arguments.first().map(Path::new).and_then(Path::file_name).and_then(OsStr::to_str);
    file.unwrap_or(registry.name()).to_owned()
}

/// Help goes to stdout and is no error; a mistake is one `error:` line, and a `hint:` line.
fn refused(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return Code::Ok.into();
    }
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return Code::Usage.into();
    }
    let text = error.to_string();
    let mut paragraphs = text.split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    let what = paragraphs.next().unwrap_or_default();
    let hints: Vec<String> = paragraphs.filter(|paragraph| !paragraph.is_empty()).collect();
    let hint = hints.first().map_or("try --help", |hint| hint.strip_prefix("tip: ").unwrap_or(hint));
    print_error(&format!("{what}\nhint: {hint}\n"), None);
    Code::Usage.into()
}
