//! `asynctask workers`: from the settings to a run of the master.

use std::{
    cell::RefCell,
    ffi::OsString,
    fs::File,
    hash::{BuildHasher, Hasher},
    io::{self, IsTerminal},
    net::SocketAddr,
    num::NonZero,
    os::fd::AsFd,
    path::Path,
    rc::Rc,
    time::Duration,
};

use tracing_subscriber::layer::SubscriberExt;

use super::{
    args::{Global, Workers},
    load, load_to_fire, log_level,
};
use crate::{
    app::{App, WORKER},
    clock::Clock,
    config::{self, Config, Mode, Queue, Sources, Target, parse_duration},
    control::socket::{self, Socket},
    error::{Code, Error},
    junit::{End, Report},
    logging::{Format, Level, Logger},
    master::{
        self, Finished, Fresh, MASTER, Objection, Reader, Run, Tally,
        core::event::{Plan, QueuePlan},
    },
    metrics::Listener,
    process::{self, Environment, Program},
    redact::redact,
    schedule::Timer,
    systemd::Notifier,
    task::Accepts,
    transport::Uri,
};

/// Settlements are remembered for two heartbeats of the connection, as long as a lost one can go unnoticed: these of ours, until
/// the transport says what was agreed with the broker.
const REMEMBERED: Duration = Duration::from_secs(40);
/// How long the end of the run waits for a reader of the log that has stopped reading.
pub(super) const LAST_LINES: Duration = Duration::from_secs(2);

pub(super) fn run(app: &App, global: &Global, verb: &Workers) -> Result<Code, Error> {
    // First of all: whatever ends this run from here on, the report says it.
    let report = verb.report.as_deref().map(|path| report(path, app.name())).transpose()?;
    let ended = work(app, global, verb, report.as_ref());
    let written = report.map_or(Ok(()), |report| write(&report.borrow(), &ended));
    let ended = ended?;
    match ended.error {
        Some(message) => Err(Error { code: ended.code, message, hint: ended.hint.map(str::to_owned) }),
        // A report that cannot be written is a failure, but how the run ended counts more.
        None if ended.code == Code::Ok => written.map(|()| Code::Ok),
        None => Ok(ended.code),
    }
}

fn work(app: &App, global: &Global, verb: &Workers, report: Option<&Rc<RefCell<Report>>>) -> Result<Finished, Error> {
    let level = log_level(global)?;
    let halt_timeout = verb.halt_timeout.as_deref().map(|text| duration("--halt-timeout", text)).transpose()?;
    let mut config = if verb.scheduler { load_to_fire(app, global) } else { load(app, global) }?;
    if config.queues.is_empty() && !config.says_workers {
        return Err(without_workers(&config));
    }
    choose(&mut config, &verb.queues, verb.processes)?;
    if let Some(report) = report {
        let queues = config.queues.iter().map(|queue| queue.name.clone()).collect();
        report.borrow_mut().concerns(&config.application, queues);
    }
    let format = format(&verb.log_format);
    let logger = logger(level, format, verb.quiet)?;
    // What the parts below say through `tracing` is part of the same log. A program with a subscriber of its own keeps it.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(logger.layer()));
    let info = |text: &str| logger.line(Level::Info, MASTER, text);
    if config.queues.is_empty() {
        info("No workers configured; terminating.");
        logger.close(LAST_LINES);
        return Ok(Finished::of_nothing());
    }
    let timer = match (verb.scheduler, config.schedules.is_empty()) {
        (false, _) => None,
        (true, true) => {
            info("No schedules configured -- not starting scheduler");
            None
        }
        (true, false) => {
            for schedule in &config.schedules {
                info(&schedule.announcement_at(Clock::wall()));
            }
            Some(Timer::new(config.schedules.clone(), Clock::wall()))
        }
    };
    let reader = reader(app, global, verb, &config, level);
    let launches = config.queues.iter().map(|queue| launch(&config, queue, level)).collect();
    let control = control(&config, verb, &logger)?;
    let metrics = config.metrics_listen.map(|address| metrics(address, &logger)).transpose()?;
    let notifier = Notifier::of_process(|name| std::env::var_os(name)).unwrap_or_else(|error| {
        logger.line(Level::Warning, MASTER, &format!("cannot tell the service manager anything: {error}"));
        None
    });
    let run = Run {
        control,
        notifier,
        metrics,
        report: report.cloned(),
        plan: plan(&config, verb, level, format, timer.is_some()),
        launches,
        setups: config.queues.iter().map(Queue::setup).collect(),
        passive: config.declare_passive,
        application: config.application.clone(),
        reader: Some(reader),
        uri: config.transport,
        timer,
        halt_timeout,
    };
    let finished = master::run(run, &logger);
    logger.close(LAST_LINES);
    let mut finished = finished?;
    if finished.code == Code::Ok && verb.fail_on_dead_letter && finished.tally.dead_lettered > 0 {
        finished.code = Code::DeadLettered;
    }
    Ok(finished)
}

/// Nobody has said what is to be worked: a mistake, and no run with nothing to do.
fn without_workers(config: &Config) -> Error {
    let files: Vec<String> = config.files.iter().map(|file| file.display().to_string()).collect();
    let message = if files.is_empty() {
        let folder = config.folder.join("asynctask.yaml");
        format!("no workers are configured: no -c FILE, no $ASYNCTASK_CONFIG, and there is no {}", folder.display())
    } else {
        format!("no workers are configured in {}", files.join(", "))
    };
    Error::new(Code::Config, message).hint(
        "workers: {QUEUE: KIND} says what is to be worked, in a file or with --set; workers: {} says that nothing is",
    )
}

/// Begins the report of the run, if it can be written at all.
fn report(path: &Path, application: &str) -> Result<Rc<RefCell<Report>>, Error> {
    let report = Report::begin(path, application);
    let report = report
        .map_err(|error| Error::new(Code::Usage, format!("--report: {} cannot be written: {error}", path.display())))?;
    Ok(Rc::new(RefCell::new(report)))
}

/// Writes the report of a run that has ended so.
fn write(report: &Report, ended: &Result<Finished, Error>) -> Result<(), Error> {
    let (tally, code) = match ended {
        Ok(finished) => (finished.tally, finished.code),
        Err(error) => (Tally::default(), error.code),
    };
    let counts = [("retried_attempts", tally.retried), ("exit_code", u64::from(code as u8))];
    report.write(&end(report, ended), &counts).map_err(|error| {
        Error::new(Code::Internal, format!("the report {} cannot be written: {error}", report.path().display()))
    })
}

/// What the report says of the run itself. Whoever reads it alone must see what the exit code says.
fn end(report: &Report, ended: &Result<Finished, Error>) -> End {
    let failed = |message: &str, text: String| {
        let first = message.lines().next().unwrap_or_default();
        // Many readers show the text alone.
        let text = [message, &text].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n");
        End::Failed { message: redact(first).into_owned(), text: redact(&text).into_owned() }
    };
    let finished = match ended {
        Err(error) => {
            let unknown = (error.code == Code::Unavailable).then(|| master::LEFT_UNKNOWN.to_owned());
            let text: Vec<String> = error.hint.clone().into_iter().chain(unknown).collect();
            return failed(&error.message, text.join("\n"));
        }
        Ok(finished) => finished,
    };
    let left = finished.left.join("\n");
    match (&finished.error, finished.code) {
        (Some(error), code) => failed(error, format!("exit code {}\n{left}", code as u8)),
        (None, Code::Ok) if finished.stopped => End::Stopped("stopped before its queues were found empty".to_owned()),
        (None, Code::Ok) => End::Told,
        (None, Code::DeadLettered) if report.has_failures() => End::Told,
        (None, Code::DeadLettered) => failed("tasks were dead-lettered", left),
        (None, Code::Interrupted) => {
            failed("the run was stopped, and tasks had to be interrupted: they are back in their queues", left)
        }
        (None, code) => failed(&format!("the run ended with {}", code as u8), left),
    }
}

fn format(word: &str) -> Format {
    match word {
        "full" => Format::Full { colour: io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() },
        "json" => Format::Json,
        _ => Format::Plain,
    }
}

/// Makes the control socket. One that was not asked for by name is not worth a refusal.
fn control(config: &Config, verb: &Workers, logger: &Logger) -> Result<Option<Socket>, Error> {
    let Some(place) = super::control::place(config, verb.socket.as_ref()) else { return Ok(None) };
    match Socket::bind(&place) {
        Ok(socket) => Ok(Some(socket)),
        Err(error @ socket::Error::Taken { .. }) => Err(Error::new(Code::Taken, error.to_string()).hint(
            "stop that one, or give this one a socket of its own with --socket PATH, or none with --socket none",
        )),
        Err(error) if place.asked_for => Err(Error::new(Code::Taken, error.to_string())),
        Err(error) => {
            logger.line(Level::Warning, MASTER, &format!("{error}; status and control will not find this master"));
            Ok(None)
        }
    }
}

/// How a running master reads its settings again: from the same files, options and environment, with the same options of
/// this run.
fn reader(app: &App, global: &Global, verb: &Workers, config: &Config, level: Level) -> Reader {
    let sources = Sources { at_once: true, ..super::sources(app, global) };
    let (queues, processes, scheduler) = (verb.queues.clone(), verb.processes, verb.scheduler);
    let before = config.clone();
    Reader::new(!config.files.is_empty(), move || {
        let load = if scheduler { config::load_to_fire } else { config::load };
        let mut config = load(&sources).map_err(|problems| Objection::Invalid(problems.to_string()))?;
        let keys = fixed(&before, &config);
        if !keys.is_empty() {
            let keys = keys.join(", ");
            return Err(Objection::Refused(format!("another value of {keys} needs a restart")));
        }
        choose(&mut config, &queues, processes).map_err(|error| Objection::Refused(error.message))?;
        if config.queues.is_empty() {
            return Err(Objection::Refused("no queue would be left; to end its work, stop the master".to_owned()));
        }
        let queue = |queue: &Queue| (queue_plan(&config, queue), launch(&config, queue, level));
        Ok(Fresh {
            names: config.known_queues(),
            queues: config.queues.iter().map(queue).collect(),
            supervisor: config.supervisor,
            schedules: scheduler.then(|| config.schedules.clone()),
        })
    })
}

/// The keys that have another value and that a running master cannot change.
fn fixed(before: &Config, now: &Config) -> Vec<&'static str> {
    let keys = [
        ("application", before.application != now.application),
        ("transport", before.transport != now.transport),
        ("declare", before.declare_passive != now.declare_passive),
        ("control", before.control_socket != now.control_socket),
        ("metrics", before.metrics_listen != now.metrics_listen),
    ];
    keys.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
}

/// Binds the address of the metrics.
fn metrics(address: SocketAddr, logger: &Logger) -> Result<Listener, Error> {
    let cannot = |error: io::Error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "another process may have it: give this one an address of its own with --set metrics.listen=…"
            }
            _ => "it must be an address of this machine, with a port that this user may have",
        };
        Error::new(Code::Unavailable, format!("metrics.listen: cannot listen at {address}: {error}")).hint(hint)
    };
    let listener = Listener::bind(address).map_err(cannot)?;
    let bound = listener.address().map_err(cannot)?;
    logger.line(Level::Info, MASTER, &format!("Metrics at http://{bound}/metrics"));
    Ok(listener)
}

/// Keeps the queues that were asked for, and no more processes of each than asked for.
fn choose(config: &mut Config, queues: &[String], processes: Option<u32>) -> Result<(), Error> {
    for name in queues {
        if !config.queues.iter().any(|queue| queue.name == *name) {
            let known: Vec<&str> = config.queues.iter().map(|queue| queue.name.as_str()).collect();
            let error = Error::new(Code::Usage, format!("--queue: \"{name}\" is not a configured queue"));
            return Err(error.hint(format!("configured are: {}", known.join(", "))));
        }
    }
    if !queues.is_empty() {
        // The others are worked elsewhere, as those that are disabled.
        let others = config.queues.extract_if(.., |queue| !queues.contains(&queue.name));
        config.disabled.extend(others.map(|queue| queue.name));
    }
    if let Some(most) = processes {
        for queue in &mut config.queues {
            queue.processes = queue.processes.min(most);
        }
    }
    Ok(())
}

pub(super) fn logger(level: Level, format: Format, quiet: bool) -> Result<Logger, Error> {
    if quiet {
        return Ok(Logger::quiet());
    }
    io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .and_then(|stdout| Logger::start_with(File::from(stdout), level, format))
        .map_err(|error| Error::new(Code::Internal, format!("cannot open the log: {error}")))
}

fn plan(config: &Config, verb: &Workers, level: Level, format: Format, scheduler: bool) -> Plan {
    Plan {
        halt_when_empty: verb.halt_when_empty,
        scheduler,
        structured: format != Format::Plain,
        max_in_hand: verb.processes.map(|most| most as usize),
        ..plan_of(config, config.queues.iter().map(|queue| queue_plan(config, queue)).collect(), level)
    }
}

/// A queue with what the core needs to know of its kind.
pub(super) fn queue_plan(config: &Config, queue: &Queue) -> QueuePlan {
    let command = config.kinds.get(&queue.kind);
    QueuePlan {
        settings: queue.clone(),
        accepts: command.map_or(Accepts::Json, |command| command.accepts),
        is_program: command.is_some(),
        is_once: command.is_some_and(|command| command.mode == Mode::Once),
        payload_in_file: command.is_some_and(|command| command.options.payload_in_file),
        launch: 0,
    }
}

/// A plan for these queues, without the options of a run.
pub(super) fn plan_of(config: &Config, queues: Vec<QueuePlan>, level: Level) -> Plan {
    Plan {
        queues,
        supervisor: config.supervisor,
        halt_when_empty: false,
        scheduler: false,
        max_in_hand: None,
        starts_at_once: starts_at_once(),
        descriptors: u64::MAX,
        host: process::host(),
        // The standard library's own source of randomness for hash maps: as good as jitter needs.
        seed: std::hash::RandomState::new().build_hasher().finish(),
        remember: matches!(config.transport, Uri::Amqp(_)).then_some(REMEMBERED),
        foreign_names: matches!(config.transport, Uri::Amqp(_)),
        names: config.known_queues(),
        structured: false,
        log_level: level,
    }
}

/// Workers that start at once: a few for each core that this process may use, since some wait for something else at times.
fn starts_at_once() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get).saturating_mul(2).max(4)
}

/// What is started for a queue.
pub(super) fn launch(config: &Config, queue: &Queue, level: Level) -> (Program, Environment) {
    let mut pairs: Vec<(OsString, OsString)> = Vec::new();
    let program = match config.kinds.get(&queue.kind) {
        Some(command) => {
            pairs.extend(command.env.iter().map(|(name, value)| (name.into(), value.into())));
            let argv = command.argv.clone();
            Program::Command { argv, folder: command.folder.clone(), options: Box::new(command.options.clone()) }
        }
        None => Program::Own { args: vec![WORKER.into(), (&queue.kind).into(), (&queue.name).into()] },
    };
    let command_of = |schedule: &crate::config::Schedule| match &schedule.target {
        Target::Ctl(command) => Some(command.clone()),
        Target::Worker(_) | Target::Queue(_) => None,
    };
    if queue.kind == crate::worker::ctl::KIND {
        let commands: Vec<String> = config.schedules.iter().filter_map(command_of).collect();
        pairs.push(("ASYNCTASK_CTL_COMMANDS".into(), serde_json::json!(commands).to_string().into()));
        pairs.push(("ASYNCTASK_FOLDER".into(), config.folder.clone().into()));
    }
    let asked_for = config.kinds.get(&queue.kind).and_then(|command| command.options.pass_env.as_ref());
    let withheld = config.transport_variables.iter().filter(|name| asked_for.is_none_or(|names| !names.contains(name)));
    let environment = Environment {
        withheld: withheld.map(OsString::from).collect(),
        queue: queue.name.clone(),
        slot: String::new(),
        log_level: level.to_string(),
        // Workers write the plain form; the master puts it into the log's.
        log_format: "plain".to_owned(),
        pairs,
        mark: None,
    };
    (program, environment)
}

/// Reads an option that is a duration.
pub(super) fn duration(option: &str, text: &str) -> Result<Duration, Error> {
    parse_duration(text).ok_or_else(|| {
        Error::new(Code::Usage, format!("{option}: \"{text}\" is not a duration")).hint("as in 500ms, 30s, 10m, 2h")
    })
}
