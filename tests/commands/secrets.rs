//! The password of a broker is shown to nobody: not by a command, a log, a status, a page of numbers, an error, nor in the
//! title of a process that others can list.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use crate::support::{
    Demo, Place, broker,
    demo::demo_program,
    http::Site,
    log::{Master, until},
};
use nix::sys::signal::Signal;

/// As it is, and as it is written in an address.
const PASSWORD: &str = "hunter2/@pw";
const WRITTEN: &str = "hunter2%2F%40pw";
/// Whoever sees that has seen too much.
const MARK: &str = "hunter2";

/// A folder whose settings take the broker's address from the environment.
struct Keeper {
    demo: Demo,
    uri: String,
    /// What was seen, for the search.
    seen: Vec<(String, String)>,
}

const SETTINGS: &str = "transport: ${BROKER}
metrics: { listen: 127.0.0.1:0 }
workers:
  foo: { worker: demo_sleep_worker, retry: { max_attempts: 2, first: 100ms } }
  bar: closed
  baz: trusted
kinds:
  trusted: { command: [python3, worker.py, plain], env: { BROKER: '${BROKER}' } }
  closed: { command: [python3, worker.py, plain, 'postgres://u:hunter2@db/x'], clear_env: true, pass_env: [DEMO_FILE], env: { TOKEN: hunter2 } }
scheduled_workers:
  - { ctl: 'echo amqp://u:hunter2@h/', second: '*' }
";

impl Keeper {
    fn new(uri: String) -> Self {
        let demo = Demo::new(&Place::sqlite());
        demo.write("worker.py", include_str!("../support/worker.py"));
        demo.write("asynctask.yaml", SETTINGS);
        Self { demo, uri, seen: Vec::new() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(demo_program());
        command.args(arguments).current_dir(self.demo.folder.path()).stdin(Stdio::null());
        command.env("LOG_LEVEL", "DEBUG").env("DEMO_FILE", self.demo.done_file()).env("BROKER", &self.uri);
        command
    }

    /// Runs a command and keeps what it says.
    fn run(&mut self, arguments: &[&str]) -> (i32, String) {
        let output = self.command(arguments).output().expect("the demo starts");
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let text = stdout.clone() + &String::from_utf8_lossy(&output.stderr);
        self.saw(&format!("{arguments:?}"), text);
        (output.status.code().unwrap_or(-1), stdout)
    }

    fn saw(&mut self, what: &str, text: String) {
        assert!(!text.is_empty(), "{what} said nothing");
        self.seen.push((what.to_owned(), text));
    }

    fn start(&self) -> Master {
        self.demo.follow(self.command(&["workers", "--scheduler"]))
    }

    /// Nothing of all that was seen, nor any file but the settings, has the password.
    fn kept(mut self) {
        let folder = fs::read_dir(self.demo.folder.path()).expect("a folder of ours").flatten();
        for entry in folder.filter(|entry| entry.file_name() != "asynctask.yaml") {
            let bytes = fs::read(entry.path()).unwrap_or_default();
            self.seen.push((entry.path().display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
        }
        for (what, text) in &self.seen {
            assert!(!text.contains(MARK), "{what} shows the password:\n{text}");
        }
    }
}

/// What the system tells everybody of a process.
fn title(pid: u32) -> String {
    ["cmdline", "comm", "status"]
        .map(|name| fs::read(Path::new("/proc").join(pid.to_string()).join(name)).unwrap_or_default())
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .concat()
}

#[test]
fn a_master_and_all_commands_keep_the_password() {
    let Some(broker) = broker::controlled() else { return };
    let uri = broker.fresh_vhost();
    let vhost = uri.rsplit('/').next().expect("a name");
    broker.control(&[
        "eval",
        &format!(
            "begin rabbit_auth_backend_internal:add_user(<<\"keeper\">>, <<\"{PASSWORD}\">>, <<\"tests\">>), \
             rabbit_auth_backend_internal:set_permissions(<<\"keeper\">>, <<\"{vhost}\">>, <<\".*\">>, <<\".*\">>, \
             <<\".*\">>, <<\"tests\">>) end."
        ),
    ]);
    let mut keeper = Keeper::new(uri.replace("guest:guest", &format!("keeper:{WRITTEN}")));
    let mut master = keeper.start();
    let site = Site::told(&master.expect("Metrics at http://"));
    for _ in 0..3 {
        master.expect("Starting; queue=");
    }
    for (queue, payload) in [("foo", r#"{"then":"error"}"#), ("bar", "{}")] {
        let (code, _) = keeper.run(&["submit", queue, payload]);
        assert_eq!(code, 0, "{:?}", keeper.seen.last());
    }
    master.expect("PYTHON begins");
    master.expect("Executing Task: echo amqp://u:***@h/");
    until("it is not dead-lettered", || {
        site.numbers()[r#"asynctask_dead_letters_total{queue="foo",reason="error"}"#] > 0.0
    });
    let expected = [
        (&["config", "show"][..], 0),
        (&["config", "check"], 0),
        (&["status"], 0),
        (&["status", "--json"], 0),
        (&["health", "--wait", "30s"], 0),
        (&["queues"], 0),
        (&["failed", "list", "foo"], 0),
        (&["control", "restart"], 0),
        (&["control", "log-level", "debug"], 0),
        (&["control", "pause", "nobody"], 1),
    ];
    for (arguments, code) in expected {
        let (got, _) = keeper.run(arguments);
        assert_eq!(got, code, "{:?}", keeper.seen.last());
    }
    let (_, letters) = keeper.run(&["failed", "list", "foo", "--json"]);
    let letter: serde_json::Value = serde_json::from_str(letters.lines().next().expect("a line")).expect("an object");
    let id = letter["id"].as_str().expect("text");
    assert_eq!(keeper.run(&["failed", "show", "foo", id]).0, 0);
    let shown = &keeper.seen.iter().find(|(what, _)| what.contains("show")).expect("it was").1;
    assert!(shown.contains("amqp://keeper:***@") && shown.contains("postgres://u:***@db/x"), "{shown}");
    for path in ["/metrics", "/livez", "/readyz", "/"] {
        keeper.saw(path, site.get(path).body);
    }
    let pids: Vec<u32> =
        master.workers().into_iter().filter_map(|pid| u32::try_from(pid).ok()).chain([master.pid()]).collect();
    for pid in pids {
        // What a kind's command line says is its author's to keep.
        let title = title(pid).replace("postgres://u:hunter2@db/x", "");
        keeper.saw("a process", title);
    }
    let environment = |name: &str| {
        let environments = master.workers().into_iter().map(|pid| fs::read(format!("/proc/{pid}/environ")));
        let texts = environments.map(|bytes| String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned());
        texts.filter(|text| text.contains(&format!("ASYNCTASK_QUEUE={name}\0"))).collect::<Vec<_>>()
    };
    // With `clear_env` a program does not get what the master took the address from.
    until("the worker is not there", || !environment("bar").is_empty());
    for queue in ["foo", "bar", "scheduled_0_ctl"] {
        for text in master.workers().into_iter().map(|pid| fs::read(format!("/proc/{pid}/environ")).unwrap_or_default())
        {
            let text = String::from_utf8_lossy(&text).into_owned();
            if text.contains(&format!("ASYNCTASK_QUEUE={queue}")) {
                // What the command line of a schedule holds is its author's.
                let own = |pair: &&str| !pair.starts_with("ASYNCTASK_CTL_COMMANDS=");
                let pairs: Vec<&str> = text.split('\0').filter(own).collect();
                let has = |name: &str| pairs.iter().any(|pair| pair.starts_with(name));
                let is_kept = !pairs.iter().any(|pair| pair.contains("keeper"));
                assert!(!has("BROKER=") && is_kept && has("DEMO_FILE="), "{queue}: {pairs:?}");
            }
        }
    }
    assert!(environment("baz").iter().any(|text| text.contains("BROKER=amqp://keeper:")), "it asked for it");
    master.signal(Signal::SIGUSR1);
    master.signal(Signal::SIGTERM);
    let (code, log) = master.wait();
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("Got payload: {\"command\":\"echo amqp://u:***@h/\"}"), "{log}");
    // What a command prints is its own.
    keeper.saw("the log", log.lines().filter(|line| !line.contains(":amqp://u:hunter2@h/")).collect());
    keeper.kept();
}

#[test]
fn a_wrong_password_is_not_told_either() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its number");
    let mut wrong = vec![format!("amqp://keeper:{WRITTEN}@{nobody}/%2f")];
    wrong.extend(
        broker::controlled().map(|broker| broker.fresh_vhost().replace("guest:guest", &format!("guest:{WRITTEN}"))),
    );
    for uri in wrong {
        let mut keeper = Keeper::new(uri);
        let nothing = ["submit", "foo", "1"];
        for arguments in [
            &nothing[..],
            &["queues"],
            &["failed", "list", "foo"],
            &["process", "foo"],
            &["queues", "purge", "foo", "--yes"],
        ] {
            assert_eq!(keeper.run(arguments).0, 69, "{arguments:?}");
        }
        let (code, _) = keeper.run(&["workers", "--halt-when-empty", "--halt-timeout", "2s"]);
        assert!(code == 69 || code == 81, "{code}");
        keeper.kept();
    }
}

/// Addresses as people write them who do not know of escaping, or not of anything.
#[test]
fn however_it_is_written_nothing_of_it_is_shown() {
    for address in [
        "amqp://u:one@hunter2#hunter2@127.0.0.1:1",
        "amqp://u:hunter2/hunter2@127.0.0.1:1/v",
        "amqp://u:hunter2?hunter2@127.0.0.1:1/v",
        "amqp://u:hunter2%zz@127.0.0.1:1/v",
        "amqp://u:hunter2 hunter2\"hunter2'@127.0.0.1:1/v",
        "AMQP://u:hunter2@127.0.0.1:1/v",
        "amqp://u:hunter2@[::1]:1/v",
        "amqp://u:hunter2@127.0.0.1:1/v,amqp://u:hunter2@127.0.0.1:2/v",
        "amqp://u:hunter2@127.0.0.1:1/v,amqp://u:hunter2#@127.0.0.1:2/v",
        "amqp://hunter2:@127.0.0.1:x/v",
        "amqp://u:hunter2",
        "amqp:u:hunter2@h",
        "amqps://127.0.0.1:1/v?password=hunter2@hunter2&x=hunter2",
        "u:hunter2@h",
        "hunter2@h",
        "redis://:hunter2@h/0",
    ] {
        let mut keeper = Keeper::new(address.to_owned());
        let option = format!("transport={address}");
        let commands = [
            &["config", "check"][..],
            &["submit", "foo", "1"],
            &["queues"],
            &["failed", "list", "foo"],
            &["control", "reload"],
            &["status"],
        ];
        for command in commands {
            keeper.run(command);
            keeper.run(&[command, &["--set", &option]].concat());
        }
        keeper.run(&["workers", "--halt-when-empty", "--halt-timeout", "1s", "--scheduler"]);
        keeper.run(&["config", "show"]);
        for (what, _) in &mut keeper.seen {
            // What was typed is not what was said.
            what.truncate(20);
        }
        keeper.kept();
    }
}

#[test]
fn what_is_typed_in_the_wrong_place_is_not_repeated() {
    let mut keeper = Keeper::new("sqlite:tasks.db".to_owned());
    let address = format!("amqp://u:{WRITTEN}@h/");
    let set = |key: &str| format!("{key}={address}");
    let settings = [set("transport"), set("transpot"), set("application"), set("workers.foo"), set("metrics.listen")];
    for setting in &settings {
        keeper.run(&["config", "show", "--set", setting]);
        keeper.run(&["config", "check", "--set", setting]);
    }
    let words = [&["submit", &address, "1"][..], &["workers", &address], &["--set", &address, "queues"], &[&address]];
    for arguments in words {
        assert_ne!(keeper.run(arguments).0, 0, "{arguments:?}");
    }
    keeper.run(&["status", "--socket", &address]);
    keeper.run(&["failed", "list", &address]);
    for (number, text) in [
        format!("transport: {address}\nworkers: [{address}]\n"),
        format!("transport: {{ {address}\n"),
        format!("transport: amqp:/u:{WRITTEN}@h\n"),
        format!("worker: x\ntransport: \"{address}\" x\n"),
        format!("kinds: {{ a: {{ command: '{address}' }} }}\n"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("asynctask-{number}.yaml");
        let path = keeper.demo.write(&name, &text);
        assert_eq!(keeper.run(&["-c", &name, "config", "check"]).0, 78, "{text}");
        fs::remove_file(path).expect("it is there");
    }
    let mut shown = Vec::new();
    for (arguments, text) in &mut keeper.seen {
        // Only what was said counts.
        arguments.clear();
        shown.push(text.clone());
    }
    assert!(shown.iter().all(|text| !text.contains(PASSWORD)), "{shown:#?}");
    keeper.kept();
}
