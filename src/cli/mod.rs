//! The command line: one file a verb. Reads what was typed, calls the library, prints, and chooses an exit code.

mod args;
mod check_worker;
mod config;
mod confirm;
mod control;
mod control_args;
mod failed;
mod generated_docs;
mod process;
mod queues;
mod run;
mod schedules;
mod submit;
mod waiting;
mod workers;

use std::{
    borrow::Cow,
    ffi::{OsStr, OsString},
    io::{self, Write},
    path::Path,
    process::ExitCode,
    str::FromStr,
    sync::mpsc,
    thread,
    time::Duration,
};

use clap::{CommandFactory, FromArgMatches};

use self::{
    args::{Cli, Global, Verb},
    control_args::HEALTH_WAIT,
};
use crate::{
    app::App,
    clock::Timestamp,
    config::{Config, Sources},
    error::{Code, Error},
    foreign,
    logging::{Level, journal},
    redact::redact,
    transport::{self, DeadQueue, Transport},
};

/// The program that is `asynctask workers`.
const WORKERS: &str = "asynctask-workers";

/// Does what the arguments say; the program's name first.
#[must_use]
pub(crate) fn run(app: &App, arguments: &[OsString]) -> ExitCode {
    let cli = match parse(app, arguments) {
        Ok(cli) => cli,
        Err(error) => return refused(&error),
    };
    // Before the first thread: what a broker delivers is not ours to choose.
    let _ = crate::process::stacks::enlarge();
    crate::process::descriptor_limit::ignore_file_size_signal();
    let is_master = matches!(cli.verb, Verb::Workers(_) | Verb::Run(_));
    let done = match cli.verb {
        Verb::Workers(verb) => workers::run(app, &cli.global, &verb),
        Verb::Submit(verb) => submit::run(app, &cli.global, &verb),
        Verb::Run(verb) => run::run(app, &cli.global, &verb),
        Verb::Process(verb) => process::run(app, &cli.global, &verb),
        Verb::CheckWorker(verb) => check_worker::run(app, &cli.global, &verb),
        Verb::Queues(verb) => queues::run(app, &cli.global, &verb),
        Verb::Schedules(verb) => schedules::run(app, &cli.global, &verb),
        Verb::Failed { verb } => failed::run(app, &cli.global, &verb),
        Verb::Status(verb) => control::status(app, &cli.global, &verb),
        Verb::Health(verb) => control::health(app, &cli.global, &verb),
        Verb::Control(verb) => control::control(app, &cli.global, &verb),
        Verb::Config { verb } => config::run(app, &cli.global, &verb),
        Verb::Completions(verb) => generated_docs::completions(command(app, arguments), &verb),
        Verb::Man => generated_docs::man(command(app, arguments)),
    };
    match done {
        Ok(code) => code.into(),
        Err(mut error) => {
            // The problems of a configuration are blocks of lines; all else is one, whatever it quotes.
            if error.code != Code::Config {
                error.message = foreign::line(&error.message).into_owned();
            }
            complain(&format!("{error}\n"), is_master.then_some(workers::LAST_LINES));
            error.code.into()
        }
    }
}

fn parse(app: &App, arguments: &[OsString]) -> Result<Cli, clap::Error> {
    let matches = command(app, arguments).try_get_matches_from(with_times(with_hyphens(arguments)))?;
    Cli::from_arg_matches(&matches)
}

fn command(app: &App, arguments: &[OsString]) -> clap::Command {
    let name = program_name(app, arguments);
    let command = Cli::command().version(env!("CARGO_PKG_VERSION"));
    let workers = |verb: clap::Command| verb.override_usage(format!("{WORKERS} [OPTIONS]"));
    // Under that name the verb is not typed.
    let command = if name == WORKERS { command.mut_subcommand("workers", workers) } else { command };
    command.bin_name(name)
}

fn program_name(app: &App, arguments: &[OsString]) -> String {
    let file = arguments.first().map(Path::new).and_then(Path::file_name).and_then(OsStr::to_str);
    file.unwrap_or(app.name()).to_owned()
}

/// Options spelled with `_` work as with `-`; values are left alone.
fn with_hyphens(arguments: &[OsString]) -> Vec<OsString> {
    let mut options = true;
    let respell = |argument: &OsString| {
        options &= argument != "--";
        match argument.to_str() {
            Some(text) if options && text.starts_with("--") => {
                let (name, value) = text.split_at(text.find('=').unwrap_or(text.len()));
                OsString::from(name.replace('_', "-") + value)
            }
            _ => argument.clone(),
        }
    };
    arguments.iter().map(respell).collect()
}

/// `health --wait` takes a time or none; what follows it is one unless it is an option. A time below zero is none, but meant
/// as one.
fn with_times(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let Some(verb) = verb_of(&arguments).filter(|verb| arguments[*verb] == "health") else { return arguments };
    let is_option = |argument: &OsString| {
        let rest = argument.as_encoded_bytes().strip_prefix(b"-");
        rest.and_then(|rest| rest.first()).is_some_and(|next| !next.is_ascii_digit() && *next != b'.')
    };
    let end = arguments.iter().position(|argument| argument == "--").unwrap_or(arguments.len());
    for at in verb + 1..end {
        if arguments[at] == "--wait" && arguments.get(at + 1).is_some_and(is_option) {
            arguments[at].push(format!("={HEALTH_WAIT}"));
        }
    }
    arguments
}

/// Where the verb is: the first that is neither an option nor the value of one.
fn verb_of(arguments: &[OsString]) -> Option<usize> {
    let cli = Cli::command();
    // All options before the verb take a value.
    let takes_next = |argument: &OsString| {
        cli.get_arguments().any(|option| {
            let (long, short) = (option.get_long(), option.get_short());
            long.is_some_and(|long| *argument == *format!("--{long}"))
                || short.is_some_and(|short| *argument == *format!("-{short}"))
        })
    };
    let mut at = 1;
    while arguments.get(at)?.as_encoded_bytes().starts_with(b"-") {
        at += if takes_next(&arguments[at]) { 2 } else { 1 };
    }
    Some(at)
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
    complain(&format!("{what}\nhint: {hint}\n"), None);
    Code::Usage.into()
}

/// Says on stderr why a command ended; to the journal as an error. What somebody typed in the wrong place may be an address.
/// Where nobody reads that it takes no longer than the limit.
fn complain(text: &str, limit: Option<Duration>) {
    // The lines of problems are ours; what they quote is not.
    let text = &*foreign::lines(text.trim_end());
    let text = &*format!("{}\n", redact(text));
    let mut stderr = io::stderr();
    let named = std::env::var("JOURNAL_STREAM").ok();
    let to_journal = journal::is_journal(named.as_deref(), &stderr);
    let text = if to_journal { Cow::Owned(journal::marked(Level::Error, text)) } else { Cow::Borrowed(text) };
    // Nobody to tell if stderr is closed.
    let Some(limit) = limit else { return drop(stderr.write_all(text.as_bytes())) };
    let text = text.into_owned();
    let (told, said) = mpsc::channel();
    let say = move || {
        let _ = stderr.write_all(text.as_bytes());
        // Whoever waited may have gone.
        let _ = told.send(());
    };
    // The thread ends with the process, as does what waits for a reader. Without one nothing can be said in bounded time.
    if thread::Builder::new().name("stderr".to_owned()).spawn(say).is_ok() {
        let _ = said.recv_timeout(limit);
    }
}

// What the verbs share.

/// Reads and checks the settings.
fn load(app: &App, global: &Global) -> Result<Config, Error> {
    crate::config::load(&sources(app, global)).map_err(|problems| invalid(&problems.to_string()))
}

/// [`load`] for what fires or shows schedules.
fn load_to_fire(app: &App, global: &Global) -> Result<Config, Error> {
    crate::config::load_to_fire(&sources(app, global)).map_err(|problems| invalid(&problems.to_string()))
}

/// [`load`] for what deals with tasks of other processes.
fn load_shared(app: &App, global: &Global) -> Result<Config, Error> {
    let config = load(app, global)?;
    if let transport::Uri::Localmem(_) = config.transport {
        let message = format!("{}: that transport lives in one process, and ends with it", config.transport);
        return Err(Error::new(Code::Config, message)
            .hint("it is for tests and for run; tasks that others are to see need sqlite: or amqp:"));
    }
    Ok(config)
}

/// The settings are not right.
fn invalid(problems: &str) -> Error {
    // Each problem brings its own `error:`; the first one is what every error of ours begins with.
    Error::new(Code::Config, problems.strip_prefix("error: ").unwrap_or(problems))
}

fn sources(app: &App, global: &Global) -> Sources {
    // One that was removed matters to what is relative to it, and is told there.
    let cwd = crate::config::current().unwrap_or_default();
    app.sources(global.config.clone(), global.set.clone(), cwd)
}

/// The level of the log: the option, else `$LOG_LEVEL`, else info.
fn log_level(global: &Global) -> Result<Level, Error> {
    let (text, from) = match (&global.log_level, std::env::var_os("LOG_LEVEL")) {
        (Some(text), _) => (text.clone(), "--log-level"),
        (None, Some(text)) if !text.is_empty() => (text.to_string_lossy().into_owned(), "LOG_LEVEL"),
        _ => return Ok(Level::Info),
    };
    Level::from_str(&text).map_err(|_| {
        Error::new(Code::Usage, format!("{from}: \"{text}\" is not a level")).hint("error, warning, info and debug are")
    })
}

/// Opens a transport for one command. Events are for masters; nobody listens here.
fn open(config: &Config) -> Result<Box<dyn Transport>, Error> {
    let (events, _) = tokio::sync::mpsc::unbounded_channel();
    transport::open(&config.transport, events).map_err(|error| told(&error))
}

/// Where the dead letters of a queue lie: as configured, else under the default name.
fn dead_queue(config: &Config, name: &str) -> DeadQueue {
    let configured = config.queues.iter().find(|queue| queue.name == name);
    configured.map_or_else(|| DeadQueue::of(name), |queue| queue.dead_letter.clone())
}

/// A transport's error as a command's.
fn told(error: &transport::Error) -> Error {
    use transport::Error as Told;
    let code = match error.cause() {
        Told::NoSuchQueue { .. } | Told::QueueRefused { .. } | Told::NotStored { .. } | Told::InUse { .. } => {
            Code::Refused
        }
        Told::BadUri { .. } => Code::Config,
        Told::Refused { .. }
        | Told::Unreachable { .. }
        | Told::Lost { .. }
        | Told::Unconfirmed { .. }
        | Told::File { .. }
        | Told::Closed
        // The cause of others is never one of these.
        | Told::Unsubmitted { .. }
        | Told::Unfinished { .. } => Code::Unavailable,
    };
    Error { code, message: error.to_string(), hint: error.hint().map(str::to_owned) }
}

/// Writes a result to stdout; a reader that went away (`| head`) is not an error of ours.
fn print(text: &str) -> Result<(), Error> {
    shown(text).map(drop)
}

/// [`print()`], which tells whether anybody can have read it.
fn shown(text: &str) -> Result<bool, Error> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::new(Code::Internal, format!("cannot write to standard output: {error}"))),
    }
}

/// A text of workers, producers or brokers as a person may be shown it.
fn harmless(text: &str) -> String {
    foreign::lines(&redact(text)).into_owned()
}

/// A table without lines, which `awk` can read.
fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(header.to_vec());
    for row in rows {
        table.add_row(row.iter().map(|cell| foreign::line(&redact(cell)).into_owned()));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n") + "\n"
}

/// RFC 3339 with zone.
fn rfc3339(moment: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(moment.0).map_or_else(|_| moment.0.to_string(), |moment| moment.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_alone_waits_without_a_time() {
        let spelled = |line: &str| {
            let words = with_times(line.split(' ').map(OsString::from).collect());
            words.into_iter().map(|word| word.into_string().unwrap()).collect::<Vec<_>>().join(" ")
        };
        for (typed, meant) in [
            ("asynctask health --wait --json", "asynctask health --wait=30s --json"),
            (
                "asynctask -c a.yaml --set x=1 health --wait -c b",
                "asynctask -c a.yaml --set x=1 health --wait=30s -c b",
            ),
            (
                "asynctask --set=x=1 -ca.yaml health --wait --json",
                "asynctask --set=x=1 -ca.yaml health --wait=30s --json",
            ),
        ] {
            assert_eq!(spelled(typed), meant);
        }
        for as_it_is in [
            "asynctask health --wait -5s",
            "asynctask health --wait 5s --json",
            "asynctask health -- --wait --json",
            "asynctask submit health --wait --json",
            "asynctask -c health submit foo --wait --json",
            "asynctask control reload --wait --json --socket health",
            "asynctask",
            "asynctask -c",
        ] {
            assert_eq!(spelled(as_it_is), as_it_is);
        }
    }
}
