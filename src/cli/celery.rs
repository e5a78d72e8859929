//! `asynctask celery`: what the settings of a Celery application are here.
//!
//! They are code in Python, so Python says it: the package `asynctask_celery` prints, in the foreground and in the current
//! folder, which is where the application is looked for first. No settings of ours are read and nothing is connected to.

use std::{path::Path, process::Command};

use super::args::Celery;
use crate::exit_code::{Code, Error};

pub(super) fn run(verb: &Celery) -> Result<Code, Error> {
    match verb {
        Celery::ImportBeat { app, python } => import_beat(app, python),
    }
}

fn import_beat(app: &str, python: &Path) -> Result<Code, Error> {
    // With `=`: an application's name is never taken for an option.
    let application = format!("--app={app}");
    let mut command = Command::new(python);
    command.args(["-m", "asynctask_celery", &application, "--import-beat"]);
    let status = command.status().map_err(|error| {
        Error::new(Code::Refused, format!("{} cannot be started: {error}", python.display()))
            .hint("--python names the Python of the application")
    })?;
    if status.success() {
        return Ok(Code::Ok);
    }
    Err(Error::new(Code::Refused, format!("{} ended with {status}: the lines above say why", python.display()))
        .hint("that Python needs the application, its celery and asynctask_celery (pip install asynctask-worker)"))
}
