//! Reads files and options into layers, and merges them.
//!
//! Nothing here knows what a key means, but for three things that merging cannot do without: the long prefix,
//! the short form of a queue, and that schedules add up.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    io::Read,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::{
    index::{self, Position},
    node::{Builder, Entry, Node, Value, segment},
    problem::Origin,
    raw,
    report::{LayerName, Place, Report},
    set,
    working_folder::{UNKNOWN, elsewhere},
};

/// Larger files are not settings.
const MAX_BYTES: u64 = 1 << 20;

/// The prefix that settings may have, for files that hold those of several programs.
const PREFIX: &str = "asynctask_";

/// Where settings come from.
#[derive(Clone, Default)]
pub struct Sources {
    /// Files named on the command line, in order. If there is none: `$ASYNCTASK_CONFIG`, else `asynctask.yaml` in
    /// the current directory if it exists.
    pub files: Vec<PathBuf>,
    /// `--set` options, `KEY=YAML`, in order; they override the files.
    pub set: Vec<String>,
    /// Worker kinds that are part of the program.
    pub rust_kinds: Vec<String>,
    /// The environment, for `$ASYNCTASK_CONFIG` and `${NAME}`.
    pub env: BTreeMap<OsString, OsString>,
    /// The current directory, absolute; empty where there is none, and then nothing may be relative to it.
    pub cwd: PathBuf,
    /// Name of the application if the settings give none: the program's name.
    pub application: String,
    /// Only files that lie on a disk are read: nobody is waited for.
    pub at_once: bool,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The environment and the options may hold secrets.
        f.debug_struct("Sources").field("files", &self.files).field("cwd", &self.cwd).finish_non_exhaustive()
    }
}

/// All layers, merged.
pub(super) struct Typed {
    /// The keys at the top.
    pub(super) root: Vec<Entry>,
    pub(super) folder: PathBuf,
    pub(super) files: Vec<PathBuf>,
}

impl Sources {
    /// Reads everything and merges it.
    pub(super) fn read(&self, report: &mut Report) -> Typed {
        let mut typed = Typed { root: Vec::new(), folder: self.cwd.clone(), files: Vec::new() };
        for (path, named_by) in self.chosen_files() {
            let absolute = self.cwd.join(&path);
            if typed.files.is_empty() {
                absolute.parent().unwrap_or(&self.cwd).clone_into(&mut typed.folder);
            }
            typed.files.push(absolute.clone());
            let (text, hint) = if absolute.is_absolute() {
                (read_bounded(&absolute, self.at_once), None)
            } else {
                (Err(UNKNOWN.to_owned()), Some(elsewhere()))
            };
            match text {
                Ok(text) => {
                    let folder = absolute.parent().unwrap_or(&self.cwd).to_owned();
                    let layer = report.layer(LayerName::File { path, text: text.clone() }, folder);
                    merge(&mut typed.root, self.document(&text, layer, report), true);
                }
                Err(what) => {
                    let origin = match named_by {
                        Some(variable) => Origin::Option(format!("${variable}: {}", path.display())),
                        None => Origin::File { path, position: None },
                    };
                    report.add_outside(origin, what, hint);
                }
            }
        }
        for option in &self.set {
            if let Some(entries) = self.option(option, report) {
                merge(&mut typed.root, entries, true);
            }
        }
        typed
    }

    /// Paths, with the environment variable that names one.
    fn chosen_files(&self) -> Vec<(PathBuf, Option<&'static str>)> {
        if !self.files.is_empty() {
            return self.files.iter().map(|path| (path.clone(), None)).collect();
        }
        if let Some(path) = self.env.get(OsStr::new("ASYNCTASK_CONFIG")).filter(|path| !path.is_empty()) {
            return vec![(path.into(), Some("ASYNCTASK_CONFIG"))];
        }
        let default = PathBuf::from("asynctask.yaml");
        // Nothing is left in a folder that was removed.
        if self.cwd.is_absolute() && self.cwd.join(&default).exists() { vec![(default, None)] } else { Vec::new() }
    }

    fn document(&self, text: &str, layer: usize, report: &Report) -> Vec<Entry> {
        let place = Place { layer, position: Some(Position { line: 1, column: 1 }) };
        match self.value(text, layer, String::new(), place, report).map(|node| (node.value, node.place)) {
            Some((Value::Map(entries), _)) => canonical(entries, report),
            None | Some((Value::Null, _)) => Vec::new(),
            Some((_, place)) => {
                report.add(place, "", "settings are a map of keys to values", None);
                Vec::new()
            }
        }
    }

    fn option(&self, option: &str, report: &mut Report) -> Option<Vec<Entry>> {
        let (path, text) = match set::split(option) {
            Ok(split) => split,
            Err(what) => {
                // What stands before the first = is shown, never what follows it.
                let key = crate::redact::redact(option.split('=').next().unwrap_or_default());
                let origin = Origin::Option(format!("--set {}", key.chars().take(40).collect::<String>()));
                let hint = "--set takes KEY=YAML, as in --set workers.foo.processes=2".to_owned();
                report.add_outside(origin, what, Some(hint));
                return None;
            }
        };
        let name = path.iter().fold(String::new(), |name, key| name.clone() + &segment(&name, key));
        let layer = report.layer(LayerName::Option(format!("--set {name}")), self.cwd.clone());
        let place = Place { layer, position: None };
        // `localmem:` is an address, not a map with an empty value.
        let is_address = matches!(path.as_slice(), [key] if key.strip_prefix(PREFIX).unwrap_or(key) == "transport");
        let quoted = serde_json::Value::from(text).to_string();
        let text = if is_address && !text.starts_with(['"', '\'', '[']) { &quoted } else { text };
        let mut node = self.value(text, layer, name, place, report)?;
        let mut keys = path.into_iter().rev();
        let top = keys.next_back()?;
        for key in keys {
            node = Node { value: Value::Map(vec![Entry::new(key, place, node)]), place, written: None };
        }
        Some(canonical(vec![Entry::new(top, place, node)], report))
    }

    fn value(&self, text: &str, layer: usize, path: String, place: Place, report: &Report) -> Option<Node> {
        let at = |position| Place { layer, position: place.position.and(Some(position)) };
        let spot = match index::index(text) {
            Ok(spot) => spot,
            Err(refused) => {
                // `{` begins a map there: the commonest slip with the environment.
                if text.contains("env") {
                    report.hide_lines(layer);
                }
                let line = text.lines().nth(refused.at.line - 1);
                let braces = line.is_some_and(|line| line.contains("${"));
                let hint = braces.then(|| "within { } and [ ], a value with ${NAME} is put in quotes".to_owned());
                report.add(at(refused.at), &path, refused.what, hint);
                return None;
            }
        };
        // What the first parser took, the second one hardly ever refuses: tags are the one case known.
        let raw = match raw::read(text) {
            Ok(raw) => raw,
            Err(error) => {
                let position = error.location().map(|at| Position { line: at.line(), column: at.column() });
                let text = error.to_string();
                report.hide_lines(layer);
                // The place is told apart.
                let what = text.split(" at line ").next().unwrap_or(&text).to_owned();
                report.add(position.map_or(place, at), &path, what, None);
                return None;
            }
        };
        let positions = place.position.is_some();
        let mut builder = Builder { layer, positions, environment: &self.env, report, path };
        Some(builder.build(raw, spot.as_deref(), place))
    }
}

fn read_bounded(path: &Path, at_once: bool) -> Result<String, String> {
    let cannot = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    let mut bytes = Vec::new();
    // A pipe without a writer must not keep the one who opens it.
    let flags = if at_once { nix::fcntl::OFlag::O_NONBLOCK.bits() } else { 0 };
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(cannot)?;
    if at_once && !file.metadata().map_err(cannot)?.is_file() {
        return Err("is no regular file, and cannot be read again".to_owned());
    }
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err("is larger than 1 MiB".to_owned());
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        format!("is not UTF-8 text (line {})", valid.split(|byte| *byte == b'\n').count())
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Takes that prefix off the keys at the top, and makes maps of the short forms of queues.
fn canonical(entries: Vec<Entry>, report: &Report) -> Vec<Entry> {
    let mut result: Vec<Entry> = Vec::new();
    for mut entry in entries {
        if entry.key.starts_with(PREFIX) {
            entry.key.drain(..PREFIX.len());
        }
        if let Some(first) = result.iter().find(|first| first.key == entry.key) {
            let hint = format!("{} and {} are the same key", first.written, entry.written);
            report.add(entry.place, &entry.written, "duplicate key", Some(hint));
            continue;
        }
        if entry.key == "workers"
            && let Value::Map(queues) = &mut entry.node.value
        {
            for queue in queues {
                long_form(&mut queue.node);
            }
        }
        result.push(entry);
    }
    result
}

fn long_form(node: &mut Node) {
    if matches!(node.value, Value::Text(_)) {
        let place = node.place;
        let kind = node.clone();
        let entry = Entry { key: "worker".to_owned(), written: String::new(), place, node: kind };
        *node = Node { value: Value::Map(vec![entry]), place, written: None };
    }
}

/// Lays `over` on `base`: maps key by key, schedules (at the top) one after the other, everything else replaced.
fn merge(base: &mut Vec<Entry>, over: Vec<Entry>, top: bool) {
    for entry in over {
        let Some(old) = base.iter_mut().find(|old| old.key == entry.key) else {
            base.push(entry);
            continue;
        };
        match (&mut old.node.value, entry.node.value) {
            (Value::Map(old), Value::Map(new)) => merge(old, new, false),
            (Value::List(old), Value::List(new)) if top && entry.key == "scheduled_workers" => old.extend(new),
            (_, value) => *old = Entry { node: Node { value, ..entry.node }, ..entry },
        }
    }
}
