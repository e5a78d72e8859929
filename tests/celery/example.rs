//! The example project and its pages: what `examples/celery/README.md` says that one types is typed, and what it says that one
//! sees is seen; each test that the page about Celery names is there.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use nix::sys::signal::Signal;

use super::{
    application::{Workers, program, repository},
    support::{broker, celery, log::Master, page::Page},
};

const FOLDER: &str = "examples/celery";
/// What only looks is asked again, until what was begun before has come so far.
const LOOKS: &[&str] =
    &["asynctask failed list", "asynctask queues", "asynctask status", "celery ", "python3 order.py result"];

/// A copy of the project, and the environment of a person who has installed all of it.
struct Project {
    folder: tempfile::TempDir,
    address: String,
    path: String,
}

impl Project {
    fn new() -> Option<Self> {
        let address = broker::controlled()?.fresh_vhost();
        let python = celery::python()?;
        let folder = tempfile::Builder::new().prefix("example-").tempdir().expect("a temporary folder");
        let copied = Command::new("cp").arg("-r").arg(repository(FOLDER).join(".")).arg(folder.path()).status();
        assert!(copied.is_ok_and(|status| status.success()), "the project cannot be copied");
        let programs = [python, program()].map(|file| file.parent().expect("a folder").display().to_string());
        let path = [programs.join(":"), std::env::var("PATH").unwrap_or_default()].join(":");
        Some(Self { folder, address, path })
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("PATH", &self.path).env("PYTHONPATH", repository("examples/python"));
        command.env("CELERY_BROKER_URL", &self.address).env("PYTHONDONTWRITEBYTECODE", "1");
        command.env_remove("ASYNCTASK_CONFIG").env_remove("LOG_LEVEL");
        command
    }

    fn start(&self, line: &str) -> Master {
        let mut command = self.command(&format!("exec {line} --set supervisor.start_timeout=60s"));
        command.stdout(Stdio::piped()).stderr(Stdio::inherit());
        Master::follow(command.spawn().expect("there is a shell"))
    }

    fn output(&self, line: &str) -> String {
        let output = self.command(&format!("{{ {line}\n}} 2>&1")).output().expect("there is a shell");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

#[test]
fn what_the_page_of_the_example_says_is_what_is_seen() {
    if Workers::of_this_run() == Workers::Celerys {
        return;
    }
    let Some(project) = Project::new() else { return };
    let page = std::fs::read_to_string(repository(FOLDER).join("README.md")).expect("the page");
    let (start, output) = (|line: &str| project.start(line), |line: &str| project.output(line));
    let page = Page { text: &page, looks: LOOKS, start: &start, output: &output };
    let master = page.type_all();
    master.signal(Signal::SIGTERM);
    let (code, log) = master.wait();
    assert_eq!(code, 0, "{log}");
}

#[test]
fn each_test_that_the_page_names_is_there() {
    let page = std::fs::read_to_string(repository(FOLDER).join("FROM_CELERY.md")).expect("the page");
    let rows = page.lines().filter(|line| line.starts_with('|'));
    let named: Vec<(&str, &str)> =
        rows.flat_map(|row| row.split('`').skip(1).step_by(2)).filter_map(|word| word.split_once("::")).collect();
    assert!(named.len() > 50, "{named:?}");
    for (file, test) in named {
        let text = std::fs::read_to_string(file_of(file)).unwrap_or_default();
        let heads = [format!("fn {test}("), format!("def test_{test}(")];
        assert!(heads.iter().any(|head| text.contains(head)), "no test {test} in {file}");
    }
}

#[test]
fn the_three_lines_of_the_pages_are_a_configuration() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for page in ["README.md", "examples/celery/FROM_CELERY.md"] {
        let text = std::fs::read_to_string(repository(page)).expect("the page");
        let lines =
            text.lines().map(str::trim_start).skip_while(|line| *line != "transport: amqp://guest:guest@localhost");
        let settings: String = lines.take(3).map(|line| line.to_owned() + "\n").collect();
        assert!(settings.contains("protocol: celery") && settings.contains("asynctask_celery"), "{page}: {settings}");
        // A folder that there need not be here.
        let settings = settings.replace("/srv/shop", &folder.path().display().to_string());
        std::fs::write(folder.path().join("asynctask.yaml"), &settings).expect("a file of ours");
        let mut check = Command::new(program());
        let output = check.args(["config", "check"]).current_dir(folder.path()).output().expect("the program starts");
        assert!(output.status.success(), "{page}: {settings}{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The file that the page means with a word.
fn file_of(word: &str) -> PathBuf {
    match word {
        "ahead" => repository("tests/kinds/ahead.rs"),
        "broker" => repository("tests/transport/rabbitmq/celery.rs"),
        "commands" => repository("tests/commands/celery_queues.rs"),
        "config" => repository("tests/commands/config.rs"),
        "core" => repository("src/master/core/celery/tests.rs"),
        "module" => repository("examples/python/test_asynctask_celery.py"),
        "rolling" => repository("tests/master/control/rolling.rs"),
        _ => {
            let scenarios = repository("tests/celery/scenarios").join(word).with_extension("py");
            if scenarios.exists() { scenarios } else { repository("tests/celery").join(word).with_extension("rs") }
        }
    }
}
