//! A running master, found by its control socket and asked.

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use super::settings::invalid;
use crate::{
    config::Config,
    control::{
        self, client,
        types::{Answer, Command},
    },
    exit_code::{Code, Error},
};

/// Where the master of this configuration listens.
pub(super) fn socket(config: &Config, asked_for: Option<&PathBuf>) -> Result<PathBuf, Error> {
    place(config, asked_for).map(|place| place.path).ok_or_else(|| {
        Error::new(Code::NoMaster, "there is no control socket: no configuration file, and none was named")
            .hint("name it with --socket PATH, or the file with -c FILE")
    })
}

/// Where the control socket of this configuration is.
pub(super) fn place(config: &Config, asked_for: Option<&PathBuf>) -> Option<control::Place> {
    let runtime = env::var_os("RUNTIME_DIRECTORY");
    let asked_for = asked_for.or(config.control_socket.as_ref());
    control::place(asked_for.map(PathBuf::as_path), runtime.as_deref(), config.files.first().map(PathBuf::as_path))
}

pub(super) fn ask(path: &Path, command: &Command) -> Result<Value, Error> {
    ask_within(path, command, client::PATIENCE)
}

pub(super) fn ask_within(path: &Path, command: &Command, limit: Duration) -> Result<Value, Error> {
    match client::ask_within(path, command, limit) {
        Ok(Answer::Done(value)) => Ok(value),
        Ok(Answer::Refused { message }) => Err(Error::new(Code::Refused, message)),
        Ok(Answer::Invalid { problems }) => Err(invalid(&problems)),
        Err(error @ client::Error::NoMaster { .. }) => Err(Error::new(Code::NoMaster, error.to_string())
            .hint("is `asynctask workers` running with the same configuration file?")),
        // It may well be there and at work.
        Err(error @ client::Error::Denied { .. }) => {
            let user = match &error {
                client::Error::Denied { owner: Some(owner), .. } => format!("sudo -u {owner} …, or "),
                _ => String::new(),
            };
            let hint = format!("ask as the master's user: {user}as root");
            Err(Error::new(Code::Refused, error.to_string()).hint(hint))
        }
        Err(error @ client::Error::Unreadable { .. }) => Err(Error::new(Code::NoMaster, error.to_string())),
    }
}
