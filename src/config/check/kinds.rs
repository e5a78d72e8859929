//! Reads and checks worker kinds that are programs, and knows all kinds by name.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use super::exec_options;
use crate::{
    config::{
        reader::{Item, Section},
        types::{Command, Mode},
    },
    suggest::nearest,
    task::{Accepts, is_queue_name},
};

/// The kind that runs the command lines of schedules; part of every program.
pub(super) const CTL_EXECUTOR: &str = "ctl_executor";

pub(super) const KIND: &[&str] = &[
    "command",
    "mode",
    "accepts",
    "input",
    "cwd",
    "env",
    "clear_env",
    "pass_env",
    "user",
    "group",
    "umask",
    "nice",
    "oom_score_adj",
    "no_new_privs",
    "limits",
];

/// Kinds that a queue or a schedule may name.
pub(super) struct Known {
    names: BTreeSet<String>,
    once: BTreeSet<String>,
}

impl Known {
    pub(super) fn new(rust_kinds: &[String], programs: &BTreeMap<String, Command>) -> Self {
        let names = rust_kinds.iter().chain(programs.keys()).cloned().chain([CTL_EXECUTOR.to_owned()]).collect();
        let once = programs.iter().filter(|(_, program)| program.mode == Mode::Once);
        Self { names, once: once.map(|(name, _)| name.clone()).collect() }
    }

    /// Whether a kind does one task a process.
    pub(super) fn is_once(&self, kind: &str) -> bool {
        self.once.contains(kind)
    }

    /// Reads the name of a kind.
    pub(super) fn kind(&self, item: &Item<'_>) -> Option<String> {
        let name = item.text()?;
        if self.names.contains(name) {
            return Some(name.to_owned());
        }
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let mut hint = format!("known kinds: {}", names.join(", "));
        if let Some(near) = nearest(name, names) {
            hint = format!("did you mean \"{near}\"? {hint}");
        }
        item.problem(format!("unknown worker kind {}", item.shown()), Some(hint));
        None
    }
}

/// Reads `kinds`.
pub(super) fn read(top: &Section<'_>, rust_kinds: &[String]) -> BTreeMap<String, Command> {
    let mut kinds = BTreeMap::new();
    let Some(section) = top.get("kinds").and_then(|item| item.section()) else { return kinds };
    for (entry, item) in section.items() {
        if matches!(entry.node.value, super::super::node::Value::Null) {
            continue;
        }
        // It becomes part of a queue's name when it is scheduled.
        if !is_queue_name(&entry.key) || entry.key.len() > 180 {
            item.key_problem("the name of a kind is made of letters, digits and _ - . :", None);
        }
        if entry.key == CTL_EXECUTOR || rust_kinds.contains(&entry.key) {
            item.key_problem(format!("\"{}\" is a kind of this program already", entry.key), None);
        }
        // A wrong one is known nevertheless: its queues are not wrong for that.
        kinds.insert(entry.key.clone(), command(&item));
    }
    kinds
}

fn command(item: &Item<'_>) -> Command {
    let none = || Section { report: item.report, path: String::new(), entries: &[] };
    let section = item.section().unwrap_or_else(none).only(KIND);
    let mode = section.get("mode").and_then(|item| item.choice(&[("frames", Mode::Frames), ("once", Mode::Once)]));
    let mode = mode.unwrap_or_default();
    let accepts = section.get("accepts");
    let accepts = accepts.and_then(|item| item.choice(&[("json", Accepts::Json), ("bytes", Accepts::Bytes)]));
    let default = if mode == Mode::Once { Accepts::Bytes } else { Accepts::Json };
    let mut folder = item.folder().clone();
    let mut argv: Vec<OsString> = Vec::new();
    match section.get("command") {
        Some(command) => {
            folder.clone_from(command.folder());
            argv = words(&command).into_iter().map(OsString::from).collect();
        }
        None if !section.path.is_empty() => {
            item.key_problem("has no command", Some("command: [python3, worker.py]".to_owned()));
        }
        None => {}
    }
    if let Some(program) = argv.first_mut()
        && program.as_encoded_bytes().contains(&b'/')
    {
        *program = absolute(&folder, program);
    }
    if let Some(cwd) = section.get("cwd")
        && let Some(path) = cwd.text()
    {
        folder = cwd.path(path);
    } else if folder.as_os_str().is_empty() && !argv.is_empty() {
        let hint = "cwd: names a folder".to_owned();
        item.key_problem("would run in the current folder, which was removed", Some(hint));
    }
    let options = exec_options::read(&section, mode);
    Command { argv, folder, mode, accepts: accepts.unwrap_or(default), env: environment(&section), options }
}

fn words(command: &Item<'_>) -> Vec<String> {
    if command.word().is_some() {
        let hint = "a command is a list, as in [python3, worker.py]; it passes through no shell".to_owned();
        command.problem(format!("expected a list, not {}", command.shown()), Some(hint));
        return Vec::new();
    }
    let items = command.list().unwrap_or_default();
    let words: Vec<String> = items.iter().filter_map(|item| item.word().or_else(|| item.expected("a word"))).collect();
    if items.is_empty() || words.first().is_some_and(String::is_empty) {
        command.problem("names no program", None);
    }
    if words.iter().any(|word| word.contains('\0')) {
        command.problem("holds a NUL character", None);
    }
    words
}

/// `./` and doubled slashes are taken out, so that lists of processes read well.
fn absolute(folder: &Path, program: &OsStr) -> OsString {
    folder.join(program).components().collect::<PathBuf>().into()
}

fn environment(section: &Section<'_>) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    let Some(item) = section.get("env") else { return environment };
    let Some(variables) = item.section_quietly() else {
        // The value may be a secret.
        item.problem("expected a map of names to text", None);
        return environment;
    };
    for (entry, item) in variables.items() {
        if entry.key.is_empty() || entry.key.contains(['=', '\0']) {
            item.key_problem("is not the name of an environment variable", None);
        }
        match item.word() {
            Some(value) if value.contains('\0') => item.problem("holds a NUL character", None),
            Some(value) => drop(environment.insert(entry.key.clone(), value)),
            None => item.problem("expected text", None),
        }
    }
    environment
}
