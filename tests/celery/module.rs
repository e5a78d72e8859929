//! The module that runs an application's tasks, by its own tests.

use std::process::Command;

use super::{application::repository, support::celery};

#[test]
fn the_tests_of_the_module_pass() {
    let Some(python) = celery::python() else { return };
    let mut tests = Command::new(python);
    tests.args(["-m", "unittest", "test_asynctask_celery"]).current_dir(repository("examples/python"));
    let output = tests.env("PYTHONDONTWRITEBYTECODE", "1").output().expect("Python is installed");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    // Without Celery all are skipped.
    assert!(!text.contains("skipped"), "{text}");
}
