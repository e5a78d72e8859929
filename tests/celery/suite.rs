//! A part of Celery's own integration tests, with our workers in the place of Celery's; all of them take too long for each
//! run of the tests: `tests/celery/suite/run.py`.

use std::process::Command;

use super::{
    application::repository,
    support::{celery, left_out},
};

/// What the program says if it lacks something.
const UNAVAILABLE: i32 = 69;

#[test]
fn tests_of_celerys_pass_with_our_workers() {
    if celery::python().is_none() {
        return;
    }
    let mut suite = Command::new("python3");
    suite.arg(repository("tests/celery/suite/run.py")).args(["--short", "--folder", env!("CARGO_TARGET_TMPDIR")]);
    let run = suite.args(["--program", env!("CARGO_BIN_EXE_asynctask")]).output().expect("a Python");
    let said = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    if run.status.code() == Some(UNAVAILABLE) {
        left_out(&format!("Celery's own integration tests: {}", said.trim_end().lines().last().unwrap_or_default()));
        return;
    }
    assert!(run.status.success(), "{said}");
}
