//! The demonstration program in a temporary folder, on a transport.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, OnceLock, mpsc},
    time::Duration,
};

use serde_json::Value;

/// No command runs longer, on a machine of two slow cores.
const RUN_LIMIT: Duration = Duration::from_mins(2);

/// A transport to run on.
#[derive(Clone, Debug)]
pub enum Place {
    /// A file in the demo's folder.
    Sqlite,
    /// A virtual host of its own on the tests' broker.
    Amqp(String),
    /// A database of its own on the tests' server.
    Postgres(String),
}

impl Place {
    /// SQLite.
    pub fn sqlite() -> Self {
        Self::Sqlite
    }

    /// RabbitMQ, if there is one.
    pub fn amqp() -> Option<Self> {
        super::broker::controlled().map(|broker| Self::Amqp(broker.fresh_vhost()))
    }

    /// PostgreSQL, if there is one.
    pub fn postgres() -> Option<Self> {
        super::postgres::shared().map(|server| Self::Postgres(server.fresh_database()))
    }

    /// All that are there. PostgreSQL has its own tests of transport and faults; `ASYNCTASK_TEST_ALL_ON_POSTGRES=1` has it take part in
    /// the others as well, not all of which know it.
    pub fn all() -> Vec<Self> {
        let postgres = std::env::var_os("ASYNCTASK_TEST_ALL_ON_POSTGRES").and_then(|_| Self::postgres());
        [Some(Self::Sqlite), Self::amqp(), postgres].into_iter().flatten().collect()
    }
}

/// A session on every transport that is there, all at once.
pub fn on_each(session: impl Fn(&Demo) + Sync) {
    let session = &session;
    std::thread::scope(|scope| {
        for place in Place::all() {
            scope.spawn(move || session(&Demo::new(&place)));
        }
    });
}

/// The same, one transport after the other.
pub fn on_each_in_turn(session: impl Fn(&Demo)) {
    for place in Place::all() {
        session(&Demo::new(&place));
    }
}

/// The demonstration program with its folder. If the test fails, the folder is kept and the logs are printed.
#[derive(Debug)]
pub struct Demo {
    pub folder: tempfile::TempDir,
    pub uri: String,
    logs: Mutex<Vec<super::log::Log>>,
}

/// A run that has ended.
#[derive(Debug)]
pub struct Ran {
    pub stdout: String,
    pub stderr: String,
    pub code: i32,
}

/// The demonstration program, up to date: `cargo test --test NAME` alone does not build it.
pub fn demo_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let test = std::env::current_exe().expect("a test has a path");
        let folder = test.ancestors().nth(2).expect("target/PROFILE/deps/test");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--example", "demo", "--target-dir"]);
        build.arg(folder.parent().expect("target/PROFILE"));
        // Cargo tells a test about its package; build scripts that look at that would be run again, and with them
        // half of the tree would be compiled again.
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("CARGO_PKG_") || name_text.starts_with("CARGO_MANIFEST_") {
                build.env_remove(&name);
            }
        }
        if folder.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo runs").success(), "the demonstration program does not build");
        folder.join("examples/demo")
    })
}

impl Demo {
    /// A fresh folder on this transport.
    pub fn new(place: &Place) -> Self {
        hear_hang_ups();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let uri = match place {
            Place::Sqlite => format!("sqlite:{}", folder.path().join("tasks.db").display()),
            Place::Amqp(uri) | Place::Postgres(uri) => uri.clone(),
        };
        Self { folder, uri, logs: Mutex::default() }
    }

    /// Writes a file into the folder; a program that is started there finds `asynctask.yaml` by itself.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("a file in a folder of ours");
        path
    }

    /// Puts a worker written in Python into the folder, and a configuration in which the kind `python` is that
    /// worker in this mood: see `worker.py`.
    pub fn write_python_worker(&self, mood: &str) {
        self.write("worker.py", include_str!("worker.py"));
        self.write("asynctask.yaml", &format!("kinds: {{ python: {{ command: [python3, worker.py, {mood}] }} }}\n"));
    }

    /// What is in the folder, sorted.
    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).expect("a folder of ours");
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name();
        let mut names: Vec<String> = entries.map(|entry| name(entry).to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// A command on the transport, not started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(demo_program(), arguments)
    }

    /// The same with another build of the program.
    pub fn command_of(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).arg("--set").arg(format!("transport={}", self.uri));
        command.current_dir(self.folder.path()).env("LOG_LEVEL", "DEBUG").env("DEMO_FILE", self.done_file());
        command.env_remove("ASYNCTASK_CONFIG").stdin(Stdio::null());
        command
    }

    /// Where the file and sleep workers write what they did.
    pub fn done_file(&self) -> PathBuf {
        self.folder.path().join("done")
    }

    /// What they did. A line that is being written while it is read is not there yet: where a line crosses the end of a
    /// page, the system shows its first part before the rest.
    pub fn done(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.done_file()).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(str::to_owned).collect()
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        ran(self.command(arguments))
    }

    /// Runs a command to its end, on the transport of the folder's configuration file.
    pub fn run_configured(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new(demo_program());
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("LOG_LEVEL", "DEBUG").env("DEMO_FILE", self.done_file()).env_remove("ASYNCTASK_CONFIG");
        ran(command)
    }

    /// Runs a master with these workers to its end.
    pub fn workers(&self, workers: &str, options: &[&str]) -> Ran {
        ran(self.master(workers, options))
    }

    /// A master with these workers, not started.
    pub fn master(&self, workers: &str, options: &[&str]) -> Command {
        let mut command = self.command(&["workers"]);
        command.args(options).arg("--set").arg(format!("asynctask_workers={workers}"));
        command
    }

    /// Starts a master whose log can be followed.
    pub fn start(&self, workers: &str, options: &[&str]) -> super::log::Master {
        self.follow(self.master(workers, options))
    }

    /// Starts a command of which [`Self::master`] was the beginning, and follows its log.
    pub fn follow(&self, mut command: Command) -> super::log::Master {
        let child: Child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("the demo starts");
        let master = super::log::Master::follow(child);
        self.logs.lock().expect("nobody panics with it").push(master.log());
        master
    }

    /// The processes that were started for this demo and live: masters, workers, and what those started.
    pub fn processes(&self) -> Vec<i32> {
        let mark = format!("DEMO_FILE={}\0", self.done_file().display());
        let marked = |pid: &i32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.windows(mark.len()).any(|window| window == mark.as_bytes())
        };
        let entries = std::fs::read_dir("/proc").expect("Linux has /proc").flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(marked).collect()
    }

    /// Waits, bounded, until no process of this demo is left.
    pub fn nobody_is_left(&self) {
        super::log::until("a process of the demo is left", || self.processes().is_empty());
    }

    /// Starts a master that works what the folder's configuration file says.
    pub fn start_configured(&self, options: &[&str]) -> super::log::Master {
        let mut command = self.command(&["workers"]);
        command.args(options);
        self.follow(command)
    }

    /// Submits a task; its id.
    pub fn submit(&self, queue: &str, payload: &str) -> String {
        let ran = self.run(&["submit", queue, payload]);
        assert_eq!(ran.code, 0, "submit: {}", ran.stderr);
        ran.stdout.trim().to_owned()
    }

    /// Submits a task for each payload.
    pub fn submit_all(&self, queue: &str, payloads: impl IntoIterator<Item = String>) {
        self.submit_ids(queue, payloads);
    }

    /// Submits a task for each payload; their ids.
    pub fn submit_ids(&self, queue: &str, payloads: impl IntoIterator<Item = String>) -> Vec<String> {
        let text: String = payloads.into_iter().map(|payload| payload + "\n").collect();
        let ran = self.feed(&["submit", queue, "-", "--json"], &text);
        assert_eq!(ran.code, 0, "submit: {}", ran.stderr);
        let id = |line: &str| serde_json::from_str::<Value>(line).expect("an object a line")["id"].clone();
        ran.stdout.lines().map(|line| id(line).as_str().expect("a string").to_owned()).collect()
    }

    /// Runs a command to its end with this text on its standard input.
    pub fn feed(&self, arguments: &[&str], text: &str) -> Ran {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the demo starts");
        let mut input = child.stdin.take().expect("it is piped");
        let text = text.to_owned();
        // Beside the reading of its output, which may fill the pipe meanwhile.
        let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
        let ran = ended(child);
        // It may end before it has read everything.
        let _ = writer.join().expect("the writer does not panic");
        ran
    }

    /// A command's answer as JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.stderr);
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", ran.stdout))
    }

    /// What lies in a queue.
    pub fn depth(&self, queue: &str) -> Value {
        let set = format!("workers={{\"{queue}\": \"demo_quiet_worker\"}}");
        self.json(&["queues", "--json", "--set", &set])[queue].clone()
    }

    /// Whether nothing is ready, delayed or in hand.
    pub fn is_empty(&self, queue: &str) -> bool {
        let depth = self.depth(queue);
        ["ready", "delayed", "in_hand"].iter().all(|count| depth[count] == 0)
    }

    /// The dead letters of a queue, oldest first.
    pub fn dead_letters(&self, queue: &str) -> Vec<Value> {
        let ran = self.run(&["failed", "list", queue, "--json"]);
        assert_eq!(ran.code, 0, "failed list: {}", ran.stderr);
        ran.stdout.lines().map(|line| serde_json::from_str(line).expect("a line is an object")).collect()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.folder.disable_cleanup(true);
            eprintln!("kept: {} ({})", self.folder.path().display(), self.uri);
            for log in self.logs.lock().expect("nobody panics with it").iter() {
                eprintln!("--- log\n{}", log.text());
            }
        }
        // What a failed test left behind does not disturb the next one.
        for pid in self.processes() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// Tests that are run under nohup test the same: what is caught here, and not ignored, is as by default in whatever is started.
fn hear_hang_ups() {
    extern "C" fn nothing(_: libc::c_int) {}
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler does nothing, and one that somebody else has is put back.
        unsafe {
            let before = libc::signal(libc::SIGHUP, nothing as *const () as libc::sighandler_t);
            if before != libc::SIG_IGN {
                libc::signal(libc::SIGHUP, before);
            }
        }
    });
}

fn ran(mut command: Command) -> Ran {
    ended(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the demo starts"))
}

/// Waits for its end, bounded: what takes longer is killed, and its code is that of no program.
fn ended(child: Child) -> Ran {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    let (done, ended) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if ended.recv_timeout(RUN_LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    });
    let output = child.wait_with_output().expect("it is our child");
    drop(done);
    watchdog.join().expect("the watchdog does not panic");
    Ran {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    }
}

/// Holds if these lines stand in the output in this order; others may stand between.
pub fn in_order(run: &Ran, lines: &[&str]) {
    let mut rest = run.stdout.lines();
    for line in lines {
        assert!(
            rest.any(|got| got == *line),
            "missing, or out of order: {line}\n--- stdout\n{}--- stderr\n{}",
            run.stdout,
            run.stderr
        );
    }
}
