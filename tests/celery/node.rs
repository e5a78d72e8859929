//! The node that Celery's tools see: what they are told, and what becomes of it when its connection, its master or its name is
//! taken away.

use std::{
    path::PathBuf,
    process::{Child, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::{
    application::{Application, FOLDER, Kind, More, Workers},
    support::{
        broker::{self, Broker},
        foreign::publish_nested,
        log::{Master, Stopwatch, until},
    },
};

const NODE: &str = "asynctask@shop.example";
const WORKS: &str = "celery: { node: asynctask@shop.example, control: work }\n";
const LOOKS: &str = "celery: { node: asynctask@shop.example }\n";
/// A lost connection is back within this time, in seconds.
const BACK: f64 = 10.0;

/// An application whose node has these settings; `None` where something is not installed, or Celery works here.
fn application(processes: u32, section: &str) -> Option<Application> {
    application_at(broker::controlled()?.fresh_vhost(), processes, section)
}

fn application_at(address: String, processes: u32, section: &str) -> Option<Application> {
    if Workers::of_this_run() == Workers::Celerys {
        return None;
    }
    let environment = vec![("SHOP_NODE", NODE.to_owned())];
    let application = Application::at(address, vec![Kind { environment, ..Kind::shop(processes) }])?;
    application.configure(&More { sections: section, ..More::default() });
    Some(application)
}

/// What the node replied, as `celery` prints it.
fn celery(application: &Application, arguments: &[&str]) -> Value {
    let all = [&["-m", "celery", "-A", "shop"], arguments, &["-j", "-t", "10", "-d", NODE]].concat();
    let output = application.producer("shop", &all).output().expect("Celery is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.starts_with('{')).unwrap_or("null");
    serde_json::from_str::<Value>(line).expect("JSON")[NODE].clone()
}

fn is_online(application: &Application) -> bool {
    celery(application, &["inspect", "ping"])["ok"] == "pong"
}

fn up(master: &mut Master) {
    master.expect(&format!("Celery node {NODE} is up"));
}

/// A worker of Celery's beside our master.
struct Beside {
    child: Child,
    log: PathBuf,
}

impl Beside {
    fn start(application: &Application, queue: &str) -> Self {
        let log = application.folder.join(format!("{queue}.log"));
        let output = std::fs::File::create(&log).expect("a file of ours");
        let name = format!("celery@{queue}");
        let arguments = ["-m", "celery", "-A", "shop", "worker", "-c", "1", "-l", "INFO", "-Q", queue, "-n", &name];
        let mut command = application.producer("shop", &arguments);
        command.stdin(Stdio::null()).stdout(output.try_clone().expect("a file of ours")).stderr(output);
        let beside = Self { child: command.spawn().expect("Celery is installed"), log };
        until("Celery's worker is not ready", || beside.log().contains(" ready."));
        beside
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn warnings(&self) -> Vec<String> {
        let log = self.log();
        let bad = log.lines().filter(|line| line.contains("WARNING/") || line.contains("ERROR/"));
        bad.map(str::to_owned).collect()
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        let _ = kill(pid, Signal::SIGQUIT);
        let _ = self.child.wait();
    }
}

/// The node's connections at the broker, as `rabbitmqctl` names them.
fn connections(broker: &Broker) -> Vec<String> {
    let listed = broker.control(&["-q", "list_connections", "pid", "client_properties"]);
    let ours = listed.lines().filter(|line| line.contains("asynctask celery node"));
    ours.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn remote_control_and_monitors() {
    let Some(application) = application(2, WORKS) else { return };
    application.start(&[]);
    until("the node is not up", || application.logs().contains(&format!("Celery node {NODE} is up")));
    application.scenarios("shop", "remote_control.py");
    application.scenarios("shop", "monitors.py");
}

#[test]
fn whoever_waits_for_a_revoked_task_hears_of_it_at_once() {
    if Workers::of_this_run() == Workers::Celerys {
        return;
    }
    let Some(broker) = broker::controlled() else { return };
    let environment = vec![("SHOP_NODE", NODE.to_owned())];
    let kind = Kind { environment, results: FOLDER.to_owned(), ..Kind::shop(2) };
    let Some(application) = Application::at(broker.fresh_vhost(), vec![kind]) else { return };
    application.configure(&More { sections: WORKS, ..More::default() });
    application.start(&[]);
    until("the node is not up", || application.logs().contains(&format!("Celery node {NODE} is up")));
    application.scenarios("shop", "revoked.py");
}

#[test]
fn who_may_only_look_changes_nothing() {
    let Some(application) = application(1, LOOKS) else { return };
    let mut master = application.master(&[]);
    up(&mut master);
    let tried = application.python(
        "shop",
        &format!(
            "from shop import app\n\
             for method, more in [('shutdown', {{}}), ('pool_grow', {{'n': 3}}), ('cancel_consumer', {{'queue': 'celery'}}),\n\
             \x20   ('revoke', {{'task_id': 'x'}}), ('rate_limit', {{'task_name': 'shop.tasks.add', 'rate_limit': '1/h'}})]:\n\
             \x20   said = app.control.broadcast(method, arguments=more, reply=True, timeout=10, destination=['{NODE}'])\n\
             \x20   assert 'control: work' in said[0]['{NODE}']['error'], said\n\
             hello = dict(from_node='celery@elsewhere', revoked=['told'])\n\
             said = app.control.broadcast('hello', arguments=hello, reply=True, timeout=10, destination=['{NODE}'])\n\
             assert said[0]['{NODE}']['revoked'] == [], said\n\
             print(app.AsyncResult('x').id)"
        ),
    );
    assert_eq!(tried, "x");
    assert_eq!(celery(&application, &["inspect", "stats"])["pool"]["max-concurrency"], 1);
    assert_eq!(celery(&application, &["inspect", "revoked"]), Value::Array(Vec::new()));
    assert_eq!(celery(&application, &["inspect", "active_queues"])[0]["name"], "celery");
    assert!(master.log().text().contains("refused a request for"), "it is told once");
}

#[test]
fn a_lost_connection_comes_back_and_takes_nothing_with_it() {
    let Some(broker) = broker::controlled() else { return };
    let Some(application) = application(1, WORKS) else { return };
    let mut master = application.master(&[]);
    up(&mut master);
    assert!(is_online(&application));
    let workers = master.workers();
    for connection in connections(broker) {
        broker.control(&["-q", "close_connection", &connection, "a test"]);
    }
    let watch = Stopwatch::start();
    master.expect("has lost its connection");
    up(&mut master);
    println!("it was up again after {:.1} s", watch.elapsed().as_secs_f64());
    assert!(watch.elapsed().as_secs_f64() < BACK);
    assert!(is_online(&application));
    assert_eq!(master.workers(), workers, "the master's own session is another one");
    assert!(!master.log().text().contains("Lost the connection"), "{}", master.log().text());
}

/// The next master has a kind that begins a task at once, and the task waits for it.
#[test]
fn what_was_revoked_is_remembered_by_the_next_master() {
    let Some(application) = application(1, WORKS) else { return };
    let kinds = "  touch: { command: [sh, -c, 'cat > ran'], mode: once }\n";
    let workers = "  touched: { worker: touch, protocol: celery }\n";
    application.configure(&More { kinds, workers, sections: WORKS });
    let mut master = application.master(&[]);
    up(&mut master);
    let sent = format!(
        "from shop import app\n\
         def control(method, **arguments):\n\
         \x20   app.control.broadcast(method, arguments=arguments, reply=True, timeout=10, destination=['{NODE}'])\n\
         control('cancel_consumer', queue='touched')\n\
         result = app.send_task('any', queue='touched')\n\
         control('revoke', task_id=result.id)\n\
         print(result.id)"
    );
    let id = application.python("shop", &sent);
    master.signal(Signal::SIGKILL);
    master.wait();
    let mut master = application.master(&[]);
    master.expect(&format!("Task {id} of queue touched is dropped"));
    assert!(!application.folder.join("ran").exists(), "it ran");
    let known = celery(&application, &["inspect", "revoked"]);
    assert!(known.as_array().is_some_and(|known| known.iter().any(|known| *known == id)), "{known}");
}

#[test]
fn a_worker_of_celery_and_the_node_see_each_other_whoever_comes_first() {
    let Some(application) = application(1, WORKS) else { return };
    let mut master = application.master(&[]);
    up(&mut master);
    {
        let beside = Beside::start(&application, "beside");
        until("it does not see the node", || beside.log().contains("mingle: sync with 1 nodes"));
        assert_eq!(beside.warnings(), Vec::<String>::new());
    }
    master.signal(Signal::SIGTERM);
    master.wait();
    let beside = Beside::start(&application, "beside");
    let mut master = application.master(&[]);
    up(&mut master);
    until("it was not asked", || beside.log().contains(&format!("sync with {NODE}")));
    master.signal(Signal::SIGTERM);
    let (_, log) = master.wait();
    assert_eq!(beside.warnings(), Vec::<String>::new());
    let warned = log.lines().filter(|line| line.contains("Celery node") && line.contains("WARN")).count();
    assert_eq!(warned, 0, "{log}");
}

#[test]
fn a_reload_that_brings_the_first_queue_of_celerys_brings_the_node() {
    let Some(application) = application(1, LOOKS) else { return };
    let file = application.folder.join("asynctask.yaml");
    let with_celery = std::fs::read_to_string(&file).expect("a file of ours").replace(LOOKS, "");
    let plain = "kinds: { plain: { command: [cat], mode: once } }\nworkers: { plain: plain }\n";
    std::fs::write(&file, format!("transport: {}\n{plain}", application.address)).expect("a file of ours");
    let mut master = application.master(&[]);
    master.expect("Launching plain");
    std::fs::write(&file, with_celery).expect("a file of ours");
    application.run(&["control", "reload", "--wait"]);
    master.expect("is up");
    assert!(!master.log().text().contains(NODE), "it has the name that it has without a section");
}

/// The client library reads them by recursion.
#[test]
fn headers_of_a_request_that_go_deep_end_nothing() {
    let Some(application) = application(1, LOOKS) else { return };
    let mut master = application.master(&[]);
    up(&mut master);
    for depth in [2_000, 20_000] {
        let body = br#"{"method":"ping","arguments":{},"destination":null}"#;
        publish_nested(&application.address, &format!("{NODE}.celery.pidbox"), &[], depth, body);
    }
    assert!(is_online(&application));
    assert!(!master.log().text().contains("has lost its connection"), "{}", master.log().text());
}

#[test]
fn a_name_that_is_taken_is_said_and_waited_for() {
    let Some(application) = application(1, WORKS) else { return };
    let mut first = application.master(&[]);
    up(&mut first);
    let mut second = application.master(&["--socket", "none"]);
    second.expect("another node of this virtual host has the same name");
    assert!(is_online(&application));
    first.signal(Signal::SIGTERM);
    first.wait();
    up(&mut second);
    assert!(is_online(&application));
}
