//! `asynctask workers`: from the settings to a run of the master.

use std::{
    cell::RefCell,
    ffi::OsString,
    io::{self, IsTerminal},
    net::SocketAddr,
    rc::Rc,
};

use super::{
    args::{Global, Workers},
    control_client::place,
    output::{LAST_LINES, logger},
    plan::{plan_of, queue_run},
    run_report,
    settings::{duration, load, load_to_fire, log_level, sources},
};
use crate::{
    celery::node,
    clock::Clock,
    config::{self, Config, Sources, dashboard::Secret},
    control::socket::{self, Socket},
    exit_code::{Code, Error},
    junit::Report,
    logging::{Format, Level, Logger, MASTER},
    master::{self, Finished, Fresh, Objection, Reader, RunConfig, core::event::Plan, page_keeper::PageProcess},
    metrics::Listener,
    process,
    schedule::Timer,
    systemd::Notifier,
    worker::registry::Registry,
};

pub(super) fn run(registry: &Registry, global: &Global, verb: &Workers) -> Result<Code, Error> {
    // First of all: whatever ends this run from here on, the report says it.
    let report = verb.report.as_deref().map(|path| run_report::begin(path, registry.name())).transpose()?;
    let ended = work(registry, global, verb, report.as_ref());
    let written = report.map_or(Ok(()), |report| run_report::write(&report.borrow(), &ended));
    let ended = ended?;
    match ended.error {
        Some(message) => Err(Error { code: ended.code, message, hint: ended.hint.map(str::to_owned) }),
        // A report that cannot be written is a failure, but how the run ended counts more.
        None if ended.code == Code::Ok => written.map(|()| Code::Ok),
        None => Ok(ended.code),
    }
}

fn work(
    registry: &Registry,
    global: &Global,
    verb: &Workers,
    report: Option<&Rc<RefCell<Report>>>,
) -> Result<Finished, Error> {
    let level = log_level(global)?;
    let halt_timeout = verb.halt_timeout.as_deref().map(|text| duration("--halt-timeout", text)).transpose()?;
    let mut config = if verb.scheduler { load_to_fire(registry, global) } else { load(registry, global) }?;
    if config.queues.is_empty() && !config.says_workers {
        return Err(without_workers(&config));
    }
    // Those that are not worked here are submitted to, perhaps.
    let protocols = config.protocols();
    choose(&mut config, &verb.queues, verb.processes)?;
    if let Some(report) = report {
        let queues = config.queues.iter().map(|queue| queue.name.clone()).collect();
        report.borrow_mut().concerns(&config.application, queues);
    }
    let format = format(&verb.log_format);
    let logger = logger(level, format, verb.quiet)?;
    // Events that the layers below send through `tracing` are part of the same log. A program with its own subscriber keeps it.
    let _ = tracing::subscriber::set_global_default(logger.subscriber());
    let info = |text: &str| logger.line(Level::Info, MASTER, text);
    // With pipelines and no queue of its own it coordinates their jobs, which others work.
    if config.queues.is_empty() && config.pipelines.is_empty() {
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
    let reader = reader(registry, global, verb, &config, level);
    let control = control(&config, verb, &logger)?;
    let metrics = config.metrics_listen.map(|address| metrics(address, &logger)).transpose()?;
    let notifier = Notifier::of_process(|name| std::env::var_os(name)).unwrap_or_else(|error| {
        logger.line(Level::Warning, MASTER, &format!("cannot tell the service manager anything: {error}"));
        None
    });
    let run = RunConfig {
        settings: in_force(&config, &global.set),
        page: page(&config, global, verb, control.as_ref(), &logger),
        control,
        notifier,
        metrics,
        report: report.cloned(),
        celery: config.celery.as_ref().map(|celery| seen_by_celery(celery, config.declare_passive)),
        plan: plan(&config, verb, level, format, timer.is_some()),
        queues: config.queues.iter().map(|queue| queue_run(&config, queue, level)).collect(),
        protocols,
        passive: config.declare_passive,
        application: config.application.clone(),
        pipelines: config.pipelines.clone(),
        reader: Some(reader),
        uri: config.transport,
        timer,
        halt_timeout,
    };
    let finished = master::run(run, &logger);
    logger.close(LAST_LINES);
    let mut finished = finished?;
    if finished.code == Code::Ok && verb.fail_on_dead_letter && finished.tally.has_dead_letters() {
        finished.code = Code::DeadLettered;
    }
    Ok(finished)
}

/// How the page's process is started, if the settings want one kept: by this program, from the same settings.
fn page(
    config: &Config,
    global: &Global,
    verb: &Workers,
    control: Option<&Socket>,
    logger: &Logger,
) -> Option<PageProcess> {
    let settings = config.dashboard.clone()?;
    let warn = |text: &str| logger.line(Level::Warning, MASTER, &format!("no page is kept: {text}"));
    let Some(socket) = control else {
        warn("it asks the control socket, and there is none");
        return None;
    };
    if verb.halt_when_empty {
        return None;
    }
    let made = std::env::current_exe().and_then(|program| Ok((program, crate::dashboard::access::secret::random()?)));
    let (program, key) = match made {
        Ok(made) => made,
        Err(error) => {
            warn(&error.to_string());
            return None;
        }
    };
    let mut arguments: Vec<OsString> =
        vec!["dashboard".into(), "--kept".into(), "--socket".into(), socket.path().into()];
    for file in &global.config {
        arguments.extend(["-c".into(), file.into()]);
    }
    for option in &global.set {
        arguments.extend(["--set".into(), option.into()]);
    }
    Some(PageProcess { program, arguments, key: Secret(key), settings })
}

/// The settings as they are in force, and what they were read from: files, of which later ones win, and options, which win over all.
fn in_force(config: &Config, options: &[String]) -> serde_json::Value {
    let files: Vec<String> = config.files.iter().map(|file| file.display().to_string()).collect();
    let options: Vec<&str> = options.iter().map(|option| option.split('=').next().unwrap_or_default()).collect();
    serde_json::json!({ "files": files, "options": options, "settings": config.to_json() })
}

/// What Celery's tools see, as the settings say.
fn seen_by_celery(celery: &config::Celery, passive: bool) -> node::Settings {
    node::Settings {
        name: celery.node_name(&process::host()),
        events: match celery.events {
            config::CeleryEvents::Auto => node::EventsWanted::Auto,
            config::CeleryEvents::On => node::EventsWanted::On,
            config::CeleryEvents::Off => node::EventsWanted::Off,
        },
        works: celery.control == config::CeleryControl::Work,
        passive,
    }
}

/// The settings name no workers at all: a mistake, and not a run with nothing to do.
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

fn format(word: &str) -> Format {
    match word {
        "full" => Format::Full { colour: io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() },
        "json" => Format::Json,
        _ => Format::Plain,
    }
}

/// Makes the control socket. One that was not asked for by name is not worth a refusal.
fn control(config: &Config, verb: &Workers, logger: &Logger) -> Result<Option<Socket>, Error> {
    let Some(place) = place(config, verb.socket.as_ref()) else { return Ok(None) };
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
fn reader(registry: &Registry, global: &Global, verb: &Workers, config: &Config, level: Level) -> Reader {
    let sources = Sources { at_once: true, ..sources(registry, global) };
    let (queues, processes, scheduler) = (verb.queues.clone(), verb.processes, verb.scheduler);
    let options = global.set.clone();
    let before = config.clone();
    Reader::new(!config.files.is_empty(), move || {
        let load = if scheduler { config::load_to_fire } else { config::load };
        let mut config = load(&sources).map_err(|problems| Objection::Invalid(problems.to_string()))?;
        let keys = fixed(&before, &config);
        if !keys.is_empty() {
            let keys = keys.join(", ");
            return Err(Objection::Refused(format!("another value of {keys} needs a restart")));
        }
        let protocols = config.protocols();
        choose(&mut config, &queues, processes).map_err(|error| Objection::Refused(error.message))?;
        if config.queues.is_empty() {
            return Err(Objection::Refused("no queue would be left; to end its work, stop the master".to_owned()));
        }
        Ok(Fresh {
            settings: in_force(&config, &options),
            dashboard: config.dashboard.clone(),
            names: config.known_queues(),
            pipelines: config.pipelines.clone(),
            protocols,
            queues: config.queues.iter().map(|queue| queue_run(&config, queue, level)).collect(),
            supervisor: config.supervisor,
            schedules: scheduler.then(|| config.schedules.clone()),
            celery: config.celery.as_ref().map(|celery| seen_by_celery(celery, config.declare_passive)),
        })
    })
}

/// The keys that have another value and that a running master cannot change.
fn fixed(before: &Config, now: &Config) -> Vec<&'static str> {
    // It is there where a queue needs it, and queues may come and go.
    let celery = |config: &Config| config.celery.clone().unwrap_or_default();
    let keys = [
        ("application", before.application != now.application),
        ("transport", before.transport != now.transport),
        ("declare", before.declare_passive != now.declare_passive),
        ("control", before.control_socket != now.control_socket),
        ("metrics", before.metrics_listen != now.metrics_listen),
        // Its process reads the settings again by itself, but it must be there or not.
        ("dashboard", before.dashboard.is_some() != now.dashboard.is_some()),
        ("celery", celery(before) != celery(now)),
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

fn plan(config: &Config, verb: &Workers, level: Level, format: Format, scheduler: bool) -> Plan {
    Plan {
        halt_when_empty: verb.halt_when_empty,
        scheduler,
        structured: format != Format::Plain,
        max_in_hand: verb.processes.map(|most| most as usize),
        ..plan_of(config, level)
    }
}
