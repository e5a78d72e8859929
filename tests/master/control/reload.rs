//! Other settings while the master runs: what is the same goes on, what is different changes, what is wrong changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Command as Program, Stdio},
    time::Duration,
};

use asynctask::control::{
    client,
    types::{Answer, Command},
};
use nix::sys::signal::Signal;

use super::{
    Demo, LONG, Place, ends_with, failed_with, on_each_in_turn, refused, slots, started, status, told, until_slots,
};
use crate::support::{
    broker,
    demo::{Ran, demo_program},
    foreign::Foreign,
    log::{Master, until},
};

const RELOAD: &[&str] = &["control", "reload", "--wait"];

/// Writes other settings and has them taken.
fn reload(demo: &Demo, settings: &str) {
    demo.write("asynctask.yaml", settings);
    assert_eq!(told(demo, &["reload", "--wait"]), "the new settings are in force\n");
}

/// The master is asked whatever the file says by now.
fn reload_by_socket(demo: &Demo) -> Ran {
    demo.run(&[RELOAD, &["--socket", "asynctask.sock"]].concat())
}

/// The pids of a queue's workers by slot.
fn workers(demo: &Demo, queue: &str) -> BTreeMap<String, u64> {
    let status = status(demo);
    let slots = status["queues"][queue]["slots"].as_array().cloned().unwrap_or_default();
    let of = |slot: &serde_json::Value| Some((slot["slot"].as_str()?.to_owned(), slot["pid"].as_u64()?));
    slots.iter().filter_map(of).collect()
}

fn queues(demo: &Demo) -> Vec<String> {
    status(demo)["queues"].as_object().expect("an object").keys().cloned().collect()
}

fn descriptors(master: &Master) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", master.pid())).expect("it lives").count()
}

fn resident_kib(master: &Master) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", master.pid())).expect("it lives");
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).expect("a process has memory");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// One queue that stays, one whose workers are renewed each time, and two of which one is there at a time.
fn turn(number: u32) -> String {
    let (kind, guest) = if number.is_multiple_of(2) { ("sleep", "even") } else { ("file", "odd") };
    let attempts = 1 + number % 5;
    format!(
        "workers:\n  foo: {{ worker: demo_sleep_worker, processes: 2 }}\n  changing: {{ worker: demo_{kind}_worker, retry: {{ \
         max_attempts: {attempts} }} }}\n  {guest}: demo_sleep_worker\n"
    )
}

#[test]
fn two_hundred_reloads_lose_nothing_and_leave_nothing() {
    on_each_in_turn(|demo| {
        let master = started(demo, &turn(0));
        let steady = workers(demo, "foo");
        assert_eq!(steady.len(), 2);
        let socket = demo.folder.path().join("asynctask.sock");
        let mut submitted = 0;
        let mut after_50 = (0, 0);
        for number in 1..=200 {
            if number % 10 == 1 {
                for queue in ["foo", "changing", "even", "odd"] {
                    let payloads =
                        (0..25).map(|n| format!(r#"{{"of":"{queue}","n":{n},"in":{number},"sleep_ms":10}}"#));
                    demo.submit_all(queue, payloads);
                    submitted += 25;
                }
            }
            demo.write("asynctask.yaml", &turn(number));
            let answer = client::ask(&socket, &Command::Reload { wait: true }).expect("an answer");
            assert_eq!(answer, Answer::said("the new settings are in force"), "reload {number}");
            if number == 50 {
                after_50 = (descriptors(&master), resident_kib(&master));
            }
        }
        until(&format!("{} descriptors, after 50 reloads {}", descriptors(&master), after_50.0), || {
            descriptors(&master) <= after_50.0
        });
        let resident = resident_kib(&master);
        println!(
            "{}: {} descriptors, resident {} KiB after 50, {resident} KiB after 200",
            demo.uri, after_50.0, after_50.1
        );
        assert!(resident <= after_50.1 + 2048, "{resident} KiB after 200 reloads, {} KiB after 50", after_50.1);
        assert_eq!(workers(demo, "foo"), steady, "workers of a queue that is the same were renewed");
        reload(demo, &format!("{}  odd: demo_sleep_worker\n", turn(200)));
        until("the tasks are not done", || demo.done().len() >= submitted);
        let done = demo.done();
        let different: BTreeSet<&String> = done.iter().collect();
        assert_eq!((done.len(), different.len()), (submitted, submitted), "done, and different ones");
        told(demo, &["stop"]);
        let log = ends_with(master, 0);
        assert!(!log.contains("died"), "{log}");
        demo.nobody_is_left();
        for queue in ["foo", "changing", "even", "odd"] {
            assert_eq!(demo.dead_letters(queue).len(), 0);
        }
    });
}

#[test]
fn only_what_is_different_changes() {
    on_each_in_turn(|demo| {
        let foo = "foo: { worker: demo_sleep_worker, processes: 2 }";
        let mut master = started(demo, &format!("workers: {{ {foo}, bar: demo_sleep_worker }}\n"));
        let (foos, bars) = (workers(demo, "foo"), workers(demo, "bar"));
        // Settings that no process knows of.
        let other = "bar: { worker: demo_sleep_worker, timeout: 300ms, retry: { max_attempts: 2, first: 100ms } }";
        reload(demo, &format!("workers: {{ {foo}, {other} }}\nsupervisor: {{ grace: 5s }}\n"));
        master.expect("Settings taken: changed bar");
        assert_eq!((workers(demo, "foo"), workers(demo, "bar")), (foos.clone(), bars.clone()));
        demo.submit("bar", LONG);
        until("the new limit and the new attempts are not heeded", || demo.dead_letters("bar").len() == 1);
        assert_eq!(demo.dead_letters("bar")[0]["attempts"], 2);
        // Another program.
        let bars = workers(demo, "bar");
        reload(demo, &format!("workers: {{ {foo}, bar: demo_file_worker, baz: demo_sleep_worker }}\n"));
        let renewed = workers(demo, "bar");
        assert!(renewed.values().all(|pid| !bars.values().any(|old| old == pid)), "{bars:?} {renewed:?}");
        assert_eq!(
            (queues(demo), workers(demo, "foo")),
            (vec!["bar".into(), "baz".into(), "foo".into()], foos.clone())
        );
        demo.submit("baz", r#"{"n":1}"#);
        until("the new queue is not worked", || demo.done() == [r#"{"n":1}"#]);
        // Fewer queues: what is in hand is finished, what is not begun waits in its queue.
        demo.submit_all("baz", [r#"{"sleep_ms":1500}"#.to_owned(), r#"{"n":3}"#.to_owned()]);
        until("the task is not begun", || status(demo)["queues"]["baz"]["slots"][0]["state"] == "busy");
        reload(demo, &format!("workers: {{ {foo} }}\n"));
        assert_eq!(queues(demo), ["foo"]);
        assert_eq!(demo.done()[1..], [r#"{"sleep_ms":1500}"#]);
        assert_eq!(demo.depth("baz")["ready"], 1);
        assert_eq!(workers(demo, "foo"), foos);
        told(demo, &["stop"]);
        let log = ends_with(master, 0);
        assert_eq!(log.matches("The reload is complete").count(), 3, "{log}");
        demo.nobody_is_left();
    });
}

#[test]
fn a_hand_on_the_scale_is_heeded_until_the_settings_change() {
    let demo = Demo::new(&Place::sqlite());
    let master = started(&demo, "workers: { foo: demo_sleep_worker }\n");
    told(&demo, &["scale", "foo", "3"]);
    until_slots(&demo, "idle", 3);
    reload(&demo, "workers: { foo: demo_sleep_worker, bar: demo_sleep_worker }\n");
    assert_eq!(slots(&demo).len(), 3);
    reload(&demo, "workers: { foo: { worker: demo_sleep_worker, processes: 2 }, bar: demo_sleep_worker }\n");
    until_slots(&demo, "idle", 2);
    told(&demo, &["stop"]);
    ends_with(master, 0);
}

#[test]
fn a_queue_comes_back_while_its_last_task_is_in_hand() {
    on_each_in_turn(|demo| {
        let both = "workers: { foo: demo_sleep_worker, bar: demo_sleep_worker }\n";
        let master = started(demo, both);
        demo.submit("bar", r#"{"n":1,"sleep_ms":3000}"#);
        until("the task is not begun", || status(demo)["queues"]["bar"]["slots"][0]["state"] == "busy");
        demo.write("asynctask.yaml", "workers: { foo: demo_sleep_worker }\n");
        told(demo, &["reload"]);
        until("the queue is not drained", || status(demo)["queues"]["bar"]["state"] == "draining");
        demo.submit("bar", r#"{"n":2}"#);
        demo.write("asynctask.yaml", both);
        told(demo, &["reload"]);
        until("the other task waits for the first", || demo.done() == [r#"{"n":2}"#]);
        until("the first task is lost", || demo.done().len() == 2);
        told(demo, &["stop"]);
        ends_with(master, 0);
        assert!(demo.is_empty("bar"));
    });
}

#[test]
fn a_kind_takes_another_mode() {
    let demo = Demo::new(&Place::sqlite());
    let settings = |kind: &str| {
        format!(
            "workers: {{ foo: demo_quiet_worker, bar: {kind} }}\nkinds: {{ cat: {{ command: [cat], mode: once }} }}\n"
        )
    };
    let mut master = started(&demo, &settings("demo_sleep_worker"));
    demo.submit("bar", r#"{"n":1}"#);
    until("the task is not done", || demo.done().len() == 1);
    reload(&demo, &settings("cat"));
    demo.submit("bar", r#"{"n":2}"#);
    master.expect(r#"{"n":2}"#);
    reload(&demo, &settings("demo_sleep_worker"));
    demo.submit("bar", r#"{"n":3}"#);
    until("the task is not done", || demo.done().len() == 2);
    told(&demo, &["stop"]);
    ends_with(master, 0);
}

#[test]
fn what_is_wrong_changes_nothing() {
    on_each_in_turn(|demo| {
        let right = "workers: { foo: demo_sleep_worker }\n";
        let mut master = started(demo, right);
        let before = workers(demo, "foo");
        demo.write(
            "asynctask.yaml",
            "workers:\n  foo: nobodys_worker\n  bar: { worker: demo_sleep_worker, procesess: 2 }\n",
        );
        let check = demo.run(&["config", "check"]);
        for ran in [demo.run(RELOAD), reload_by_socket(demo)] {
            assert_eq!((ran.code, ran.stderr.as_str(), ran.stdout.as_str()), (78, check.stderr.as_str(), ""));
        }
        assert!(check.stderr.contains("nobodys_worker") && check.stderr.contains("procesess"), "{}", check.stderr);
        master.expect("procesess");
        master.signal(Signal::SIGHUP);
        master.expect("HUP asks: reload: the settings are not right, and stay as they were");
        master.expect("nobodys_worker");
        master.expect("procesess");
        // A pipe that nobody writes to holds up nobody.
        let file = demo.folder.path().join("asynctask.yaml");
        std::fs::remove_file(&file).expect("it is there");
        nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).expect("a folder of ours");
        let ran = reload_by_socket(demo);
        assert_eq!(ran.code, 78);
        failed_with(&ran, "is no regular file");
        std::fs::remove_file(&file).expect("it is there");
        assert_eq!(reload_by_socket(demo).code, 1, "a master without a queue");
        demo.write("asynctask.yaml", right);
        assert_eq!(workers(demo, "foo"), before);
        told(demo, &["stop"]);
        ends_with(master, 0);
    });
}

#[test]
fn what_cannot_change_is_refused_by_name() {
    let demo = Demo::new(&Place::sqlite());
    let settings = |more: &str| {
        let transport = demo.folder.path().join("tasks.db");
        format!("workers: {{ foo: demo_sleep_worker }}\ntransport: sqlite:{}\n{more}\n", transport.display())
    };
    demo.write("asynctask.yaml", &settings(""));
    // Without the option that has the last word on the transport.
    let mut program = Program::new(demo_program());
    program.arg("workers").current_dir(demo.folder.path()).env("DEMO_FILE", demo.done_file());
    program.env_remove("ASYNCTASK_CONFIG").stdin(Stdio::null());
    let mut master = demo.follow(program);
    master.expect("Starting; queue=foo");
    for (more, keys) in [
        ("application: another", "application"),
        ("declare: passive", "declare"),
        ("control: { socket: elsewhere.sock }\napplication: another", "application, control"),
    ] {
        demo.write("asynctask.yaml", &settings(more));
        let ran = reload_by_socket(&demo);
        assert_eq!(ran.code, 1);
        failed_with(&ran, &format!("another value of {keys} needs a restart"));
    }
    demo.write("asynctask.yaml", "workers: { foo: demo_sleep_worker }\ntransport: \"localmem:\"\n");
    let ran = reload_by_socket(&demo);
    assert_eq!(ran.code, 1);
    failed_with(&ran, "another value of transport needs a restart");
    master.signal(Signal::SIGHUP);
    master.expect("HUP asks: reload: another value of transport needs a restart");
    demo.write("asynctask.yaml", &settings(""));
    demo.submit("foo", LONG);
    until_slots(&demo, "busy", 1);
    master.signal(Signal::SIGQUIT);
    ends_with(master, 82);
}

#[test]
fn the_options_of_the_run_keep_their_meaning() {
    let demo = Demo::new(&Place::sqlite());
    demo.write("asynctask.yaml", "workers: { foo: demo_sleep_worker, bar: demo_sleep_worker }\n");
    let mut master = demo.start_configured(&["--queue", "foo", "-m", "2"]);
    master.expect("Starting; queue=foo");
    reload(&demo, "workers: { foo: { worker: demo_sleep_worker, processes: 5 }, baz: demo_sleep_worker }\n");
    assert_eq!((queues(&demo), slots(&demo).len()), (vec!["foo".to_owned()], 2));
    demo.write("asynctask.yaml", "workers: { bar: demo_sleep_worker }\n");
    refused(&demo, &["reload"], "--queue: \"foo\" is not a configured queue");
    assert_eq!(slots(&demo).len(), 2);
    told(&demo, &["stop"]);
    ends_with(master, 0);
}

#[test]
fn workers_that_cannot_start_are_told() {
    let demo = Demo::new(&Place::sqlite());
    let settings = |kind: &str| {
        format!(
            "workers: {{ foo: {kind} }}\nkinds: {{ broken: {{ command: [\"false\"] }} }}\n\
             supervisor: {{ restart: {{ first: 10ms }} }}\n"
        )
    };
    let master = started(&demo, &settings("demo_sleep_worker"));
    let before = workers(&demo, "foo");
    demo.write("asynctask.yaml", &settings("broken"));
    refused(&demo, &["reload", "--wait"], "queue foo: a worker cannot be started: exit status 1");
    // The old ones go on until there are new ones.
    let pid = before["foo[1]"];
    assert!(workers(&demo, "foo").values().any(|now| *now == pid));
    reload(&demo, &settings("demo_file_worker"));
    assert!(!workers(&demo, "foo").values().any(|now| *now == pid));
    told(&demo, &["stop"]);
    ends_with(master, 0);
}

#[test]
fn schedules_come_and_go() {
    let demo = Demo::new(&Place::sqlite());
    let settings =
        |schedules: &str| format!("workers: {{ foo: demo_quiet_worker }}\nscheduled_workers: [{schedules}]\n");
    demo.write("asynctask.yaml", &settings(""));
    let mut master = demo.start_configured(&["--scheduler"]);
    master.expect("No schedules configured");
    master.expect("Starting; queue=foo");
    reload(&demo, &settings("{ worker: demo_bar_worker, second: \"*\" }"));
    master.expect("Scheduling \"demo_bar_worker\"");
    master.expect("BAR processed");
    reload(&demo, &settings("{ worker: demo_bar_worker, second: \"*\" }, { worker: demo_baz_worker, second: \"*\" }"));
    master.expect("BAZ processed");
    master.expect("BAR processed");
    assert_eq!(queues(&demo), ["foo", "scheduled_0_demo_bar_worker", "scheduled_0_demo_baz_worker"]);
    reload(&demo, &settings(""));
    assert_eq!(queues(&demo), ["foo"]);
    told(&demo, &["stop"]);
    ends_with(master, 0);
}

#[test]
fn a_reload_without_a_broker_takes_effect_when_it_is_back() {
    let Some(broker) = broker::own() else { return };
    let demo = Demo::new(&Place::Amqp(broker.fresh_vhost()));
    let mut master = started(&demo, "workers: { foo: demo_sleep_worker, bar: demo_sleep_worker }\n");
    until("no session", || status(&demo)["transport"]["connected"] == true);
    broker.kill();
    until("the loss is not noticed", || status(&demo)["transport"]["connected"] == false);
    demo.write("asynctask.yaml", "workers: { foo: demo_sleep_worker, baz: demo_sleep_worker }\n");
    told(&demo, &["reload"]);
    master.expect("Starting; queue=baz");
    broker.restart();
    master.expect("The reload is complete");
    assert_eq!(queues(&demo), ["baz", "foo"]);
    demo.submit("baz", r#"{"n":1}"#);
    demo.submit("foo", r#"{"n":2}"#);
    until("the tasks are not done", || demo.done().len() == 2);
    told(&demo, &["stop"]);
    ends_with(master, 0);
}

#[test]
fn a_queue_that_the_broker_refuses_is_unavailable_alone() {
    let Some(broker) = broker::controlled() else { return };
    let address = broker.fresh_vhost();
    let demo = Demo::new(&Place::Amqp(address.clone()));
    let master = started(&demo, "workers: { foo: demo_sleep_worker }\n");
    until("no session", || status(&demo)["transport"]["connected"] == true);
    let somebody = Foreign::connect(&address);
    somebody.declare_exclusive("bar");
    let both = "workers: { foo: demo_sleep_worker, bar: demo_sleep_worker }\n";
    demo.write("asynctask.yaml", both);
    demo.submit("foo", r#"{"n":1,"sleep_ms":1000}"#);
    until_slots(&demo, "busy", 1);
    refused(&demo, &["reload", "--wait"], "queue bar is not worked yet: queue \"bar\" cannot be had: RESOURCE_LOCKED");
    demo.submit("foo", r#"{"n":2}"#);
    until("the other queue is not worked", || demo.done().len() == 2);
    assert_eq!(status(&demo)["queues"]["bar"]["state"], "unavailable");
    // Another reload changes nothing in that, and waits for nothing.
    refused(&demo, &["reload", "--wait"], "queue bar is not worked yet");
    // As soon as it can be had, it is worked.
    drop(somebody);
    demo.submit("bar", r#"{"n":3}"#);
    until("the queue is not worked", || demo.done().len() == 3);
    told(&demo, &["stop"]);
    let log = ends_with(master, 0);
    assert!(!log.contains("was lost"), "{log}");
}

/// The service manager's side.
struct Service(UnixDatagram);

impl Service {
    fn new(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("a folder of ours");
        socket.set_read_timeout(Some(Duration::from_mins(1))).expect("a time");
        Self(socket)
    }

    /// The next datagram that is more than a status.
    fn next(&self) -> Vec<String> {
        loop {
            let mut bytes = [0; 4096];
            let length = self.0.recv(&mut bytes).expect("a datagram in time");
            let lines: Vec<String> = String::from_utf8_lossy(&bytes[..length]).lines().map(str::to_owned).collect();
            if !lines.iter().all(|line| line.starts_with("STATUS=")) {
                return lines;
            }
        }
    }

    fn says_reloading_then_ready(&self) {
        let first = self.next();
        assert_eq!(first[0], "RELOADING=1");
        let micros = first[1].strip_prefix("MONOTONIC_USEC=").expect("in the same datagram");
        assert!(first.len() == 2 && micros.parse::<u64>().is_ok_and(|micros| micros > 0), "{first:?}");
        assert_eq!(self.next()[0], "READY=1");
    }
}

#[test]
fn the_service_manager_hears_of_each_reload() {
    on_each_in_turn(|demo| {
        let service = Service::new(&demo.folder.path().join("notify"));
        demo.write("asynctask.yaml", "workers: { foo: demo_sleep_worker }\n");
        let mut command = demo.command(&["workers"]);
        command.env("NOTIFY_SOCKET", demo.folder.path().join("notify"));
        let mut master = demo.follow(command);
        assert_eq!(service.next()[0], "READY=1");
        demo.write("asynctask.yaml", "workers: { foo: demo_sleep_worker, bar: demo_sleep_worker }\n");
        master.signal(Signal::SIGHUP);
        service.says_reloading_then_ready();
        master.expect("The reload is complete");
        demo.write("asynctask.yaml", "workers: [\n");
        master.signal(Signal::SIGHUP);
        service.says_reloading_then_ready();
        demo.write("asynctask.yaml", "workers: { foo: demo_sleep_worker, bar: demo_sleep_worker }\n");
        demo.submit("foo", r#"{"sleep_ms":1000}"#);
        until_slots(demo, "busy", 1);
        master.signal(Signal::SIGTERM);
        assert_eq!(service.next()[0], "STOPPING=1");
        master.signal(Signal::SIGHUP);
        master.expect("HUP asks: reload: the master is stopping");
        ends_with(master, 0);
    });
}
