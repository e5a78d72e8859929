//! `asynctask celery`: what is asked of the application's Python.

use std::os::unix::fs::PermissionsExt;

use super::{Demo, Place, refused};

#[test]
fn a_schedule_is_what_the_python_of_the_application_prints() {
    let demo = Demo::new(&Place::sqlite());
    let python = demo.write("python", "#!/bin/sh\nprintf '%s\\n' \"$@\"\ntest \"$3\" = --app=shop:app\n");
    std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).expect("a file of ours");
    let import = |app: &str| demo.run(&["celery", "import-beat", "--app", app, "--python", "./python"]);
    let run = import("shop:app");
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    assert_eq!(run.stdout, "-m\nasynctask_celery\n--app=shop:app\n--import-beat\n");
    // One that looks like an option is a name that Python does not find.
    refused(&import("--version"), 1, "./python ended with exit status: 1", Some("asynctask_celery"));
}

#[test]
fn a_python_that_is_not_there_is_said() {
    let demo = Demo::new(&Place::sqlite());
    let run = demo.run(&["celery", "import-beat", "-A", "shop", "--python", "/no/such/python"]);
    refused(&run, 1, "/no/such/python cannot be started: ", Some("--python"));
    refused(&demo.run(&["celery", "import-beat"]), 64, "--app", Some("Usage"));
}
