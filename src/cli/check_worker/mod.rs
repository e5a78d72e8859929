//! `asynctask check-worker`: plays the master against a program and says, line by line, what is right and what is
//! wrong about it.
//!
//! A program that has died is started again for the next check, so that one mistake hides no other. What it prints
//! goes to stderr.

mod checks;
mod worker_under_test;

use std::ffi::OsString;

use serde_json::{json, value::RawValue};

use self::checks::{Checker, Finding};
use super::{
    args::{CheckWorker, Global},
    output::print,
    settings::{duration, load, log_level},
};
use crate::{
    exit_code::{Code, Error},
    process::{Environment, Program, Signals, reserve_frame_fd},
    worker::registry::Registry,
};

pub(super) fn run(registry: &Registry, global: &Global, verb: &CheckWorker) -> Result<Code, Error> {
    let level = log_level(global)?;
    let within = duration("--within", &verb.within)?;
    let payload = verb.payload.as_deref().map(payload).transpose()?;
    let internal = |error: std::io::Error| Error::new(Code::Internal, format!("cannot play the master: {error}"));
    // Without a name it is still the one that the program is to run in.
    let folder = crate::config::working_folder().unwrap_or_else(|_| ".".into());
    reserve_frame_fd().map_err(internal)?;
    let environment = Environment {
        queue: checks::QUEUE.to_owned(),
        slot: format!("{}[1]", checks::QUEUE),
        log_level: level.to_string(),
        log_format: "plain".to_owned(),
        withheld: withheld(registry, global),
        ..Environment::default()
    };
    let program = Program::Command { argv: verb.command.clone(), folder, options: Box::default() };
    let signals = Signals::listen().map_err(internal)?;
    let (mut all, mut right) = (0, 0);
    let mut printed = Ok(());
    let tell = |finding: &Finding| {
        all += 1;
        right += usize::from(finding.wrong.is_none());
        let line = if verb.json { in_json(finding) } else { in_words(finding) };
        if printed.is_ok() {
            printed = print(&line);
        }
    };
    let done = Checker::new(&program, &environment, &signals, within, payload.as_deref()).run(tell);
    printed?;
    done.map_err(internal)?;
    if !verb.json {
        print(&format!("{right} of {all} checks passed\n"))?;
    }
    Ok(if right == all { Code::Ok } else { Code::Refused })
}

/// As under a master: the variables that the transport was taken from. A program can be checked where the settings are not right
/// yet; then those that hold the address of a broker.
fn withheld(registry: &Registry, global: &Global) -> Vec<OsString> {
    let holds_address = |value: &OsString| {
        let value = value.to_string_lossy();
        ["amqp:", "amqps:"].iter().any(|scheme| value.trim_start().starts_with(scheme))
    };
    match load(registry, global) {
        Ok(config) => config.withheld_variables.into_iter().map(OsString::from).collect(),
        Err(_) => std::env::vars_os().filter(|(_, value)| holds_address(value)).map(|(name, _)| name).collect(),
    }
}

fn payload(text: &str) -> Result<String, Error> {
    serde_json::from_str::<&RawValue>(text)
        .map(|value| value.get().replace(['\n', '\r'], " "))
        .map_err(|error| Error::new(Code::Usage, format!("--payload: it is not JSON: {error}")))
}

fn in_json(finding: &Finding) -> String {
    let Finding { check, what, wrong } = finding;
    format!("{}\n", json!({ "check": check, "ok": wrong.is_none(), "text": wrong.as_ref().unwrap_or(what) }))
}

fn in_words(finding: &Finding) -> String {
    match &finding.wrong {
        None => format!("ok     {}: {}\n", finding.check, finding.what),
        Some(wrong) => format!("WRONG  {}: {wrong}\n", finding.check),
    }
}
