//! The comparison of `tests/bench` is not run by the tests, since it measures; what needs no measuring is.

use std::{
    path::Path,
    process::{Command, Output},
};

fn python(arguments: &[&str]) -> Output {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench");
    let mut command = Command::new("python3");
    command.args(arguments).current_dir(folder).env("PYTHONDONTWRITEBYTECODE", "1");
    command.output().expect("python3")
}

#[test]
fn its_own_tests() {
    let run = python(&["-m", "unittest", "comparison.test_comparison"]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

#[test]
fn its_help_names_what_it_measures_and_a_wrong_name_is_refused() {
    let run = python(&["compare", "--help"]);
    let help = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    for text in ["--quick", "bare-batched", "tests/bench/compare --quick --only amqp"] {
        assert!(help.contains(text), "no {text}: {help}");
    }
    let run = python(&["compare", "--only", "amqp/nobody"]);
    let error = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(64), "{error}");
    assert!(error.starts_with("error: --only: nothing is called \"amqp/nobody\"\nhint: "), "{error}");
}
