//! The demonstration program in a temporary folder, on a transport.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use serde_json::Value;

/// A transport to run on.
#[derive(Clone, Debug)]
pub enum Place {
    /// A file in the demo's folder.
    Sqlite,
    /// A virtual host of its own on the tests' broker.
    Amqp(String),
}

impl Place {
    /// SQLite.
    pub fn sqlite() -> Self {
        Self::Sqlite
    }

    /// RabbitMQ, if there is one.
    pub fn amqp() -> Option<Self> {
        super::broker::shared().map(|broker| Self::Amqp(broker.fresh_vhost()))
    }

    /// All that are there.
    pub fn all() -> Vec<Self> {
        [Some(Self::Sqlite), Self::amqp()].into_iter().flatten().collect()
    }
}

/// The demonstration program with its folder. The folder is kept if the test fails.
#[derive(Debug)]
pub struct Demo {
    pub folder: tempfile::TempDir,
    pub uri: String,
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
        let folder = tempfile::tempdir().expect("a temporary folder");
        let uri = match place {
            Place::Sqlite => format!("sqlite:{}", folder.path().join("tasks.db").display()),
            Place::Amqp(uri) => uri.clone(),
        };
        Self { folder, uri }
    }

    /// A command on the transport, not started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(demo_program());
        command.args(arguments).arg("--set").arg(format!("transport={}", self.uri));
        command.current_dir(self.folder.path()).env("LOG_LEVEL", "DEBUG").env("DEMO_FILE", self.done_file());
        command.env_remove("ASYNCTASK_CONFIG").stdin(Stdio::null());
        command
    }

    /// Where the file and sleep workers write what they did.
    pub fn done_file(&self) -> PathBuf {
        self.folder.path().join("done")
    }

    /// What they did.
    pub fn done(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.done_file()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        ran(&self.command(arguments).output().expect("the demo starts"))
    }

    /// Runs a master with these workers to its end.
    pub fn workers(&self, workers: &str, options: &[&str]) -> Ran {
        ran(&self.master(workers, options).output().expect("the demo starts"))
    }

    /// A master with these workers, not started.
    pub fn master(&self, workers: &str, options: &[&str]) -> Command {
        let mut command = self.command(&["workers"]);
        command.args(options).arg("--set").arg(format!("asynctask_workers={workers}"));
        command
    }

    /// Starts a master whose log can be followed.
    pub fn start(&self, workers: &str, options: &[&str]) -> super::log::Master {
        let mut command = self.master(workers, options);
        let child: Child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("the demo starts");
        super::log::Master::follow(child)
    }

    /// Starts a master that works what the folder's configuration file says.
    pub fn start_configured(&self, options: &[&str]) -> super::log::Master {
        let mut command = self.command(&["workers"]);
        let command = command.args(options).stdout(Stdio::piped()).stderr(Stdio::inherit());
        super::log::Master::follow(command.spawn().expect("the demo starts"))
    }

    /// Submits a task; its id.
    pub fn submit(&self, queue: &str, payload: &str) -> String {
        let ran = self.run(&["submit", queue, payload]);
        assert_eq!(ran.code, 0, "submit: {}", ran.stderr);
        ran.stdout.trim().to_owned()
    }

    /// Submits a task for each payload.
    pub fn submit_all(&self, queue: &str, payloads: impl IntoIterator<Item = String>) {
        use std::io::Write;
        let mut command = self.command(&["submit", queue, "-"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the demo starts");
        let mut input = child.stdin.take().expect("it is piped");
        let text: String = payloads.into_iter().map(|payload| payload + "\n").collect();
        input.write_all(text.as_bytes()).expect("submit reads");
        drop(input);
        assert!(child.wait().expect("submit ends").success());
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
        }
    }
}

fn ran(output: &std::process::Output) -> Ran {
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
