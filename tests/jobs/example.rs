//! The example project: what `examples/registry/README.md` says that one types is typed, and what it says that one sees is seen.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::sys::signal::Signal;

use super::support::{broker, log::Master, page::Page};

const FOLDER: &str = "examples/registry";
/// What only looks is asked again, until what was begun before has come so far.
const LOOKS: &[&str] = &["asynctask jobs list", "asynctask jobs show", "asynctask failed list", "cut "];

fn repository(path: &str) -> PathBuf {
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

/// Types the page, with these lines more in the settings.
fn typed(lines: &str) {
    let folder = tempfile::Builder::new().prefix("registry-").tempdir().expect("a temporary folder");
    let copied = Command::new("cp").arg("-r").arg(repository(FOLDER).join(".")).arg(folder.path()).status();
    assert!(copied.is_ok_and(|status| status.success()), "the project cannot be copied");
    let settings = folder.path().join("asynctask.yaml");
    let text = std::fs::read_to_string(&settings).expect("the project has settings");
    std::fs::write(&settings, text + lines).expect("a file of ours");
    let start = |line: &str| {
        let mut command = command(folder.path(), &format!("exec {line} --set supervisor.start_timeout=60s"));
        command.stdout(Stdio::piped()).stderr(Stdio::inherit());
        Master::follow(command.spawn().expect("there is a shell"))
    };
    let output = |line: &str| {
        let output = command(folder.path(), &format!("{{ {line}\n}} 2>&1")).output().expect("there is a shell");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let page = std::fs::read_to_string(repository(FOLDER).join("README.md")).expect("the page");
    let master = Page { text: &page, looks: LOOKS, start: &start, output: &output }.type_all();
    master.signal(Signal::SIGTERM);
    let (code, log) = master.wait();
    assert_eq!(code, 0, "{log}");
}
