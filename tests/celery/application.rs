//! An application in a folder of its own, on a virtual host of its own: the settings of its master, who works its queues, and
//! its producers.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
};

use serde_json::Value;

use super::{
    support::{
        broker, celery,
        log::{Master, until},
    },
    watchdog::Watchdog,
};

/// Who works the queues of all tests of this program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Workers {
    Ours,
    Celerys,
}

impl Workers {
    pub(super) fn of_this_run() -> Self {
        match std::env::var("ASYNCTASK_CELERY_WORKER").as_deref() {
            Ok("celery") => Self::Celerys,
            Ok("asynctask") | Err(_) => Self::Ours,
            Ok(other) => panic!("ASYNCTASK_CELERY_WORKER is asynctask or celery, not {other}"),
        }
    }
}

/// Results that are kept as files in the application's folder.
pub(super) const FOLDER: &str = "file://{folder}/results";

/// A worker kind that is a Celery application, and its queue.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// As `--app` has it.
    pub(super) application: &'static str,
    pub(super) queue: &'static str,
    pub(super) processes: u32,
    /// Where results go; none: `rpc://`.
    pub(super) results: String,
    /// More of its environment.
    pub(super) environment: Vec<(&'static str, String)>,
    /// More settings of its queue, as YAML in braces has them: `, timeout: 5s`.
    pub(super) settings: String,
}

impl Kind {
    /// The shop, on Celery's default queue.
    pub(super) fn shop(processes: u32) -> Self {
        Self {
            name: "shop",
            application: "shop:app",
            queue: "celery",
            processes,
            results: "rpc://".to_owned(),
            environment: Vec::new(),
            settings: String::new(),
        }
    }

    fn environment(&self, application: &Application) -> BTreeMap<String, String> {
        let mut environment = application.environment();
        environment.insert("SHOP_QUEUE".to_owned(), self.queue.to_owned());
        let results = self.results.replace("{folder}", &application.folder.display().to_string());
        environment.insert("SHOP_RESULTS".to_owned(), results);
        environment.extend(self.environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        environment
    }
}

/// What stands in a master's settings beside the application, as YAML.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct More<'a> {
    /// Lines of `kinds`, each indented by two.
    pub(super) kinds: &'a str,
    /// Lines of `workers`, likewise.
    pub(super) workers: &'a str,
    /// Other sections.
    pub(super) sections: &'a str,
}

/// A folder, a virtual host, and who works there.
pub(super) struct Application {
    pub(super) folder: PathBuf,
    pub(super) address: String,
    kinds: Vec<Kind>,
    python: &'static Path,
    running: Mutex<Vec<Running>>,
    watchdog: Mutex<Watchdog>,
}

enum Running {
    Ours(Master),
    Celerys(Child, PathBuf),
}

/// The program under test.
pub(super) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_asynctask"))
}

/// A file of the repository.
pub(super) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

impl Application {
    /// On the broker of this test program; `None` where something is not installed, after saying so.
    pub(super) fn new(kinds: Vec<Kind>) -> Option<Self> {
        let broker = broker::controlled()?;
        Self::at(broker.fresh_vhost(), kinds)
    }

    /// On this virtual host.
    pub(super) fn at(address: String, kinds: Vec<Kind>) -> Option<Self> {
        let python = celery::python()?;
        let folder = tempfile::Builder::new().prefix("celery-").tempdir().expect("a temporary folder").keep();
        std::fs::create_dir(folder.join("results")).expect("a folder of ours");
        let watchdog = Mutex::new(Watchdog::over(&folder));
        let application = Self { folder, address, kinds, python, running: Mutex::default(), watchdog };
        application.configure(&More::default());
        Some(application)
    }

    /// Writes the settings of the master, with more than the application's kinds.
    pub(super) fn configure(&self, more: &More<'_>) {
        let (mut kinds, mut workers) = (more.kinds.to_owned(), more.workers.to_owned());
        for kind in &self.kinds {
            let command = ["-m", "asynctask_celery", "--app", kind.application].map(quoted).join(", ");
            let command = format!("{}, {command}", quoted(&self.python.display().to_string()));
            // JSON is YAML, but for ${…}, which no variable here has.
            let environment = serde_json::to_string(&kind.environment(self)).expect("texts");
            let Kind { name, queue, processes, settings, .. } = kind;
            writeln!(kinds, "  {name}: {{ command: [{command}], env: {environment} }}").expect("a text");
            let settings = format!("worker: {name}, protocol: celery, processes: {processes}{settings}");
            writeln!(workers, "  {queue}: {{ {settings} }}").expect("a text");
        }
        // On two slow cores many interpreters start at once here.
        let text = format!(
            "transport: {}\nsupervisor: {{ start_timeout: 60s, restart: {{ longest: 1s }} }}\n\
             kinds:\n{kinds}workers:\n{workers}{}\n",
            self.address, more.sections
        );
        std::fs::write(self.folder.join("asynctask.yaml"), text).expect("a file of ours");
    }

    /// Writes a file of the tests into the folder.
    pub(super) fn copy(&self, path: &str) {
        let from = repository(path);
        std::fs::copy(&from, self.folder.join(from.file_name().expect("a file"))).expect("a file of the tests");
    }

    /// What every process of the application has in its environment.
    fn environment(&self) -> BTreeMap<String, String> {
        let path = [repository("tests/celery"), repository("examples/python")].map(|path| path.display().to_string());
        let of = |name: &str, value: String| (name.to_owned(), value);
        BTreeMap::from([
            of("SHOP_BROKER", self.address.clone()),
            of("SHOP_FOLDER", self.folder.display().to_string()),
            of("WAREHOUSE_FILE", self.folder.join("warehouse.db").display().to_string()),
            of("PYTHONPATH", path.join(":")),
            of("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
            // Celery refuses pickle to root without that.
            of("C_FORCE_ROOT", "1".to_owned()),
        ])
    }

    /// Starts who works the queues, until the application is dropped.
    pub(super) fn start(&self, options: &[&str]) {
        let started = match Workers::of_this_run() {
            Workers::Ours => vec![Running::Ours(self.master(options))],
            Workers::Celerys => self.kinds.iter().map(|kind| self.celerys(kind)).collect(),
        };
        let mut running = self.running.lock().expect("nobody panics with it");
        running.extend(started);
        let pids: Vec<u32> = running.iter().map(Running::pid).collect();
        self.watchdog.lock().expect("nobody panics with it").tell(&pids);
    }

    /// Our master, which the caller has to itself.
    pub(super) fn master(&self, options: &[&str]) -> Master {
        let mut command = self.command(&["workers"]);
        command.args(options).stdout(Stdio::piped()).stderr(Stdio::inherit());
        Master::follow(command.spawn().expect("the program starts"))
    }

    fn celerys(&self, kind: &Kind) -> Running {
        let log = self.folder.join(format!("{}.log", kind.name));
        let output = std::fs::File::create(&log).expect("a file of ours");
        let mut command = Command::new(self.python);
        command.args(["-m", "celery", "-A", kind.application, "worker", "-P", "prefork", "-l", "INFO"]);
        command.args(["-c", &kind.processes.to_string(), "-Q", kind.queue, "-n", &format!("celery@{}", kind.name)]);
        command.envs(kind.environment(self)).current_dir(&self.folder).stdin(Stdio::null());
        command.stdout(output.try_clone().expect("a file of ours")).stderr(output);
        let child = command.spawn().expect("Celery is installed");
        until("Celery's worker is not ready", || {
            std::fs::read_to_string(&log).is_ok_and(|text| text.contains(" ready."))
        });
        Running::Celerys(child, log)
    }

    /// A command of the program in the folder, where it finds its settings.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(arguments).current_dir(&self.folder).stdin(Stdio::null());
        command.env("LOG_LEVEL", "DEBUG").env_remove("ASYNCTASK_CONFIG");
        // Its processes are known by that.
        command.env("SHOP_FOLDER", &self.folder);
        command
    }

    /// Runs a command of the program to its end; what it printed.
    pub(super) fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("the program starts");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {err}{out}{}", self.logs());
        out.into_owned()
    }

    /// The dead letters of a queue, oldest first.
    pub(super) fn dead_letters(&self, queue: &str) -> Vec<Value> {
        let listed = self.run(&["failed", "list", queue, "--json"]);
        listed.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
    }

    /// A program in the environment of a kind's producers, not started.
    pub(super) fn producer(&self, kind: &str, arguments: &[&str]) -> Command {
        let kind = self.kinds.iter().find(|one| one.name == kind).expect("a kind of this application");
        let mut command = Command::new(self.python);
        command.args(arguments).envs(kind.environment(self)).current_dir(repository("tests/celery/scenarios"));
        let worker = if Workers::of_this_run() == Workers::Ours { "asynctask" } else { "celery" };
        command.env("SHOP_WORKER", worker).env("ASYNCTASK", program()).stdin(Stdio::null());
        command
    }

    /// Runs a file of scenarios with a kind's producers to its end, and holds if all of them do.
    pub(super) fn scenarios(&self, kind: &str, file: &str) {
        self.scenarios_with(kind, file, &[]);
    }

    /// The same, with more arguments of pytest.
    pub(super) fn scenarios_with(&self, kind: &str, file: &str, arguments: &[&str]) {
        let mut command = self.producer(kind, &["-m", "pytest", "--durations=5", "-rs", file]);
        let output = command.args(arguments).output().expect("pytest is installed");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        println!("{out}{err}");
        assert!(output.status.success(), "{file}: {}", self.logs());
    }

    /// Runs lines of Python with a kind's producers to their end; what they printed.
    pub(super) fn python(&self, kind: &str, lines: &str) -> String {
        let output = self.producer(kind, &["-c", lines]).output().expect("Python is installed");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{lines}: {out}{err}{}", self.logs());
        out.trim_end().to_owned()
    }

    /// The processes of this application that live: masters, workers, and what those started; producers, too.
    pub(super) fn processes(&self) -> Vec<i32> {
        let mark = format!("SHOP_FOLDER={}\0", self.folder.display());
        let marked = |pid: &i32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.windows(mark.len()).any(|window| window == mark.as_bytes())
        };
        let entries = std::fs::read_dir("/proc").expect("Linux has /proc").flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(marked).collect()
    }

    /// The logs of who works the queues.
    pub(super) fn logs(&self) -> String {
        let running = self.running.lock().expect("nobody panics with it");
        running.iter().flat_map(|running| ["\n--- log\n".to_owned(), running.log()]).collect()
    }
}

impl Running {
    fn pid(&self) -> u32 {
        match self {
            Self::Ours(master) => master.pid(),
            Self::Celerys(child, _) => child.id(),
        }
    }

    fn log(&self) -> String {
        match self {
            Self::Ours(master) => master.log().text(),
            Self::Celerys(_, log) => std::fs::read_to_string(log).unwrap_or_default(),
        }
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let running = self.running.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        for running in running.drain(..) {
            match running {
                Running::Ours(master) => drop(master),
                Running::Celerys(mut child, _) => {
                    // TERM is a warm shutdown, which waits for tasks; its processes do not outlive a QUIT.
                    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
                    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGQUIT);
                    let _ = child.wait();
                }
            }
        }
    }
}

/// A text in YAML.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text")
}
