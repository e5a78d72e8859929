//! A master whose loop is blocked on purpose: the watchdog is not fed, and the probe says so.
//!
//! The master runs in this process, on a transport that blocks where none may: in `ask`. A process has one set of children
//! and of signals, so this program has one test.

use std::{
    io::Write,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::support::{http::Site, log::Stopwatch, notify::NotifySocket};
use asynctask::{
    config::Queue,
    exit_code::Code,
    logging::Logger,
    master::{
        self, Launch, QueueRun, RunConfig,
        core::event::{Plan, QueuePlan},
    },
    metrics::Listener,
    process::{Environment, Program},
    systemd::Notifier,
    task::Accepts,
    transport::{self, Request, Transport, Uri, localmem::Localmem},
};
use nix::sys::signal::{Signal, kill};

/// The watchdog is fed twice in that time.
const WATCHDOG: Duration = Duration::from_millis(600);
/// What is to come comes within that, on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// Closed, whoever comes waits.
#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
    /// How many came.
    count: AtomicU64,
}

impl Gate {
    fn set_closed(&self, closed: bool) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = closed;
        self.opened.notify_all();
    }

    fn pass(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.opened.wait_timeout_while(closed, LIMIT, |closed| *closed);
        assert!(!waited.unwrap_or_else(PoisonError::into_inner).1.timed_out(), "the gate stays closed");
    }
}

/// Asked for depths, it blocks while its gate is closed.
struct Blocking {
    behind: Localmem,
    gate: Arc<Gate>,
}

impl Transport for Blocking {
    fn ask(&self, request: Request) {
        if matches!(request, Request::Depths { .. }) {
            self.gate.pass();
        }
        self.behind.ask(request);
    }
}

/// One queue whose kind needs no process before its first task.
fn run(notifier: Notifier, metrics: Listener) -> RunConfig {
    let settings = Queue::new("foo", "true");
    let program = Program::Command { argv: vec!["true".into()], folder: "/".into(), options: Box::default() };
    let plan = QueuePlan { accepts: Accepts::Bytes, is_once: true, ..QueuePlan::of(settings) };
    RunConfig {
        settings: serde_json::Value::Null,
        page: None,
        reader: None,
        plan: Plan::of(Vec::new()),
        queues: vec![QueueRun { plan, launch: Launch { program, environment: Environment::default() } }],
        uri: Uri::Localmem("stuck".to_owned()),
        protocols: Vec::new(),
        passive: false,
        application: "stuck".to_owned(),
        pipelines: Vec::new(),
        timer: None,
        halt_timeout: None,
        notifier: Some(notifier),
        control: None,
        metrics: Some(metrics),
        report: None,
        celery: None,
    }
}

#[test]
fn a_loop_that_is_blocked_feeds_no_watchdog_and_is_not_alive() {
    let _turn = super::turn();
    let folder = tempfile::tempdir().expect("a folder");
    let hearing = NotifySocket::in_folder(folder.path());
    let socket = hearing.name.clone();
    let variable = |name: &str| match name {
        "NOTIFY_SOCKET" => Some(socket.clone().into()),
        "WATCHDOG_USEC" => Some(WATCHDOG.as_micros().to_string().into()),
        "WATCHDOG_PID" => Some(std::process::id().to_string().into()),
        _ => None,
    };
    let notifier = Notifier::of_process(variable).expect("it is there").expect("it was named");
    let metrics = Listener::bind("127.0.0.1:0".parse().expect("numbers")).expect("a port");
    let site = Site(metrics.address().expect("its number"));
    let gate = Arc::new(Gate::default());
    let behind = Arc::clone(&gate);
    let master = std::thread::spawn(move || {
        master::run_on(run(notifier, metrics), &Logger::quiet(), |events: transport::Events| {
            Ok(Box::new(Blocking { behind: Localmem::open("stuck", events), gate: behind }))
        })
    });

    let (ready, _) = hearing.until("READY=1");
    assert!(ready.contains("STATUS="), "{ready}");
    for _ in 0..3 {
        hearing.until("WATCHDOG=1");
    }
    assert_eq!((site.get("/livez").status, site.get("/metrics").status), (200, 200));

    // Those who ask and go away do not decide how often the transport counts.
    let watch = Stopwatch::start();
    for _ in 0..300 {
        site.connect().write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("it takes that");
    }
    assert_eq!(site.get("/metrics").status, 200);
    let count = gate.count.load(Ordering::Relaxed);
    assert!(count <= 3 + watch.elapsed().as_secs(), "{count} counts in {:?}", watch.elapsed());

    // The next page makes the loop ask for depths. The last page is served for a second.
    gate.set_closed(true);
    while site.get("/metrics").status == 200 {}
    let livez = site.get("/livez");
    assert_eq!((livez.status, livez.body.as_str()), (503, "the master's loop does not answer\n"));
    assert_eq!(site.get("/readyz").status, 503);
    hearing.rest();
    assert_eq!(hearing.next(3 * WATCHDOG), None, "a loop that is blocked said something");

    gate.set_closed(false);
    hearing.until("WATCHDOG=1");
    assert_eq!(site.get("/livez").status, 200);
    kill(nix::unistd::getpid(), Signal::SIGTERM).expect("it is ours");
    assert!(hearing.until("STOPPING=1").0.contains("EXTEND_TIMEOUT_USEC="));
    let finished = master.join().expect("no panic").expect("an end");
    assert_eq!((finished.code, finished.error), (Code::Ok, None));
}
