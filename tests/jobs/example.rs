//! The example project: what `examples/registry/README.md` says that one types is typed, and what it says that one sees is seen.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::support::{
    broker,
    log::{Master, until},
    page::Page,
};

const FOLDER: &str = "examples/registry";
/// What only looks is asked again, until what was begun before has come so far.
const LOOKS: &[&str] = &["asynctask jobs list", "asynctask jobs show", "asynctask failed list", "cut "];

pub(super) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn command(folder: &Path, line: &str) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_asynctask"));
    let programs = program.parent().expect("a program lies in a folder").display();
    let mut command = Command::new("sh");
    command.args(["-c", line]).current_dir(folder).stdin(Stdio::null());
    command.env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap_or_default()));
    command.env("PYTHONPATH", repository("examples/python")).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env_remove("ASYNCTASK_CONFIG").env_remove("LOG_LEVEL");
    command
}

#[test]
fn what_the_page_of_the_registry_says_is_what_is_seen() {
    typed("");
}

#[test]
fn with_one_line_more_the_registry_is_on_a_broker() {
    if let Some(broker) = broker::controlled() {
        typed(&format!("transport: {}\n", broker.fresh_vhost()));
    }
}

/// The project in a folder of its own, with these lines more in the settings.
fn project(lines: &str) -> TempDir {
    let folder = tempfile::Builder::new().prefix("registry-").tempdir().expect("a temporary folder");
    let copied = Command::new("cp").arg("-r").arg(repository(FOLDER).join(".")).arg(folder.path()).status();
    assert!(copied.is_ok_and(|status| status.success()), "the project cannot be copied");
    let settings = folder.path().join("asynctask.yaml");
    let text = std::fs::read_to_string(&settings).expect("the project has settings");
    std::fs::write(&settings, text + lines).expect("a file of ours");
    folder
}

/// A master of the project.
fn start(folder: &Path, line: &str) -> Master {
    let mut command = command(folder, &format!("exec {line} --set supervisor.start_timeout=60s"));
    command.stdout(Stdio::piped()).stderr(Stdio::inherit());
    Master::follow(command.spawn().expect("there is a shell"))
}

/// What a command prints.
fn output(folder: &Path, line: &str) -> String {
    let output = command(folder, &format!("{{ {line}\n}} 2>&1")).output().expect("there is a shell");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Types the page, with these lines more in the settings.
fn typed(lines: &str) {
    let folder = project(lines);
    let page = std::fs::read_to_string(repository(FOLDER).join("README.md")).expect("the page");
    type_in(folder.path(), &page, LOOKS);
}

/// Types all of a page in a folder, and stops the master that it starts.
pub(super) fn type_in(folder: &Path, text: &str, looks: &[&str]) {
    let (start, output) = (|line: &str| start(folder, line), |line: &str| output(folder, line));
    let master = Page { text, looks, start: &start, output: &output }.type_all();
    master.signal(Signal::SIGTERM);
    let (code, log) = master.wait();
    assert_eq!(code, 0, "{log}");
}

#[test]
fn of_two_masters_that_are_two_users_of_a_broker_one_is_killed_and_the_registry_goes_on() {
    let Some(broker) = broker::controlled() else { return };
    let address = broker.fresh_vhost();
    let vhost = address.rsplit('/').next().expect("an address names a virtual host");
    broker.control(&["add_user", "second", "second"]);
    broker.control(&["set_permissions", "-p", vhost, "second", ".*", ".*", ".*"]);
    let folder = project(&format!("transport: {address}\n"));
    let place = folder.path();
    let line = "asynctask workers --socket none";
    let second = address.replace("guest:guest@", "second:second@");
    let mut first = start(place, line);
    // It has what is to be taken over, and half of the tasks.
    first.expect("Coordinates the jobs of asynctask");
    let second = start(place, &format!("{line} --set transport={second}"));
    let ids = ["chile", "moldova", "peru"].map(|publication| {
        let payload = format!(r#"'{{"publication": "{publication}"}}'"#);
        output(place, &format!("asynctask jobs start registry {payload} --id {publication}-1"))
    });
    assert_eq!(ids, ["chile-1\n", "moldova-1\n", "peru-1\n"]);
    first.expect("step process begins");
    first.signal(Signal::SIGKILL);
    drop(first);
    let jobs = || output(place, "asynctask jobs list --json");
    until("the other one does the rest", || jobs().matches(r#""state":"done""#).count() == 3);
    until("and wipes what they left", || jobs().matches(r#""wiped":"yes""#).count() == 3);
    let list = jobs();
    assert_eq!(list.matches(r#""tasks":{"done":8,"failed":0,"known":8}"#).count(), 3, "{list}");
    second.signal(Signal::SIGTERM);
    let (code, log) = second.wait();
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("Coordinates the jobs of asynctask"), "{log}");
}
