//! Who may know whom, as a failing build: the source text is read, each path in it (`use` trees unfolded, `super` and
//! `self` resolved) is held against the rules of the map.
//!
//! Tests inside of a file (its last module, behind `#[cfg(test)]`) may do what they like. A rule that is broken names the file, the
//! path, and why the rule is there.

#[path = "architecture/floors.rs"]
mod floors;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Decide in the core, act in the shell: these see time as an argument and the world as events.
const PURE: &[&str] = &[
    "master/coordinator",
    "master/core",
    "metrics/counts",
    "clock/jumps",
    "clock/time",
    "transport/attached",
    "jobs",
    "celery/message",
    "celery/payload",
    "celery/repr",
    "celery/result",
    "schedule",
    "retry",
    "backoff",
    "outcome",
    "unique",
    "level",
    "limits",
    "text",
    "unicode",
    "celery/node/budget",
    "celery/node/events",
    "celery/node/facts",
    "celery/node/glob",
    "celery/node/lamport",
    "celery/node/methods",
    "celery/node/replies",
    "celery/node/request",
    "celery/node/revoked",
    "celery/node/view",
    "celery/node/wording",
    "celery/node/work",
];

/// What does input and output, waits, or reads a clock.
const WORLD: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::sync::mpsc",
    "std::time::Instant",
    "std::time::SystemTime",
    "libc",
    "nix",
    "lapin",
    "rusqlite",
    "signal_hook",
    "tokio",
    "tokio_postgres",
    "tracing",
    "jiff::Timestamp::now",
    "jiff::Zoned::now",
    "crate::clock::Clock",
    "crate::logging::Logger",
    "crate::process",
    "crate::cli",
    "crate::worker",
    "crate::transport::amqp",
    "crate::transport::postgres",
    "crate::transport::sqlite",
    "crate::transport::localmem",
    "crate::transport::Transport",
    "crate::transport::contract::Transport",
    "crate::transport::open",
    "crate::metrics::Listener",
    "hyper",
    "prometheus_client",
];

/// The words that everybody uses: they know each other, and nothing else of ours.
const VOCABULARY: &[&str] = &[
    "task",
    "outcome",
    "retry",
    "backoff",
    "clock",
    "error",
    "frames",
    "json_text",
    "level",
    "limits",
    "membership",
    "properties",
    "protocol",
    "text",
    "unicode",
];

const ALONE: &str = "a transport stands alone";

/// `(files, may not know, why)`.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    (
        "worker",
        &["crate::master", "crate::transport", "crate::cli", "crate::config", "lapin", "rusqlite", "tokio_postgres"],
        "a worker talks to its master over one socket and to nobody else",
    ),
    (
        "transport",
        &["crate::master", "crate::worker", "crate::cli", "crate::process"],
        "a transport is asked and answers; it does not know by whom",
    ),
    (
        "transport/amqp",
        &["crate::transport::sqlite", "crate::transport::localmem", "crate::transport::postgres"],
        ALONE,
    ),
    (
        "transport/sqlite",
        &["crate::transport::amqp", "crate::transport::localmem", "crate::transport::postgres"],
        ALONE,
    ),
    (
        "transport/localmem",
        &["crate::transport::amqp", "crate::transport::sqlite", "crate::transport::postgres"],
        ALONE,
    ),
    (
        "transport/postgres",
        &["crate::transport::amqp", "crate::transport::sqlite", "crate::transport::localmem"],
        ALONE,
    ),
    (
        "process",
        &["crate::master", "crate::worker", "crate::cli", "crate::config", "crate::transport", "crate::schedule"],
        "processes are started for whoever asks",
    ),
    ("config", &["crate::master", "crate::worker", "crate::cli", "crate::process"], "settings mean, they do nothing"),
    ("schedule", &["crate::master", "crate::transport", "crate::cli", "crate::worker"], "the calendar is pure"),
    (
        "master",
        &["crate::cli", "crate::transport::amqp", "crate::transport::postgres", "crate::transport::sqlite"],
        "the master has one contract",
    ),
];

/// Files with more than 400 lines before their tests, and why they are whole.
const LONG: &[(&str, &str)] = &[];
const LINES: usize = 400;

/// Words that say nothing.
const EMPTY_WORDS: &[&str] = &["manager", "handler", "helper", "util", "common", "info", "data"];

/// All dependencies but serde's, and those that are functions over bytes alone: `data_encoding`, `memchr`.
const OTHER_CRATES: &[&str] = &[
    "clap",
    "clap_complete",
    "clap_mangen",
    "comfy_table",
    "flate2",
    "futures_util",
    "http_body_util",
    "hyper",
    "hyper_util",
    "indicatif",
    "jiff",
    "lapin",
    "libc",
    "nix",
    "prometheus_client",
    "rusqlite",
    "saphyr_parser",
    "serde_yaml",
    "signal_hook",
    "strsim",
    "tokio",
    "tokio_postgres",
    "tracing",
];

#[test]
fn the_decisions_are_pure() {
    let sources = sources();
    // A new chapter of the core does not escape.
    for source in sources.iter().filter(|source| source.is("master")) {
        let is_shell = [
            "master/mod",
            "master/run",
            "master/run_config",
            "master/queue_run",
            "master/finished",
            "master/kept_file",
            "master/page_keeper",
            "master/shell",
        ]
        .iter()
        .any(|name| source.is(name));
        assert!(is_shell || source.is_one_of(PURE), "src/{} is neither core nor shell: name it", source.name);
    }
    for name in PURE {
        assert!(sources.iter().any(|source| source.is(name)), "src/{name} is not there: correct the list");
    }
    none(&sources.iter().filter(|source| source.is_one_of(PURE)).flat_map(impure).collect::<Vec<_>>());
}

#[test]
fn nobody_knows_whom_they_may_not_know() {
    let sources = sources();
    for (name, _, _) in FORBIDDEN {
        assert!(sources.iter().any(|source| source.is(name)), "src/{name} is not there: correct the list");
    }
    none(&sources.iter().flat_map(broken_rules).collect::<Vec<_>>());
}

#[test]
fn the_vocabulary_knows_std_and_serde_alone() {
    let sources = sources();
    let vocabulary = sources.iter().filter(|source| source.is_one_of(VOCABULARY));
    none(&vocabulary.flat_map(foreign_words).collect::<Vec<_>>());
}

#[test]
fn unsafe_stands_in_process_alone() {
    let with = |source: &&Source| source.tokens.iter().any(|token| token == "unsafe");
    let sources = sources();
    assert!(sources.iter().filter(with).any(|source| source.is("process")), "the rule is about nothing");
    let others = sources.iter().filter(|source| !source.is("process")).filter(with);
    none(&others.map(|source| format!("src/{} has `unsafe`", source.name)).collect::<Vec<_>>());
}

#[test]
fn nobody_ends_the_process_and_one_file_reads_the_clock() {
    let ends = ["process::exit", "process::abort", "libc::_exit"];
    let clocks = ["Instant::now", "SystemTime::now", "Timestamp::now", "Zoned::now"];
    let mut broken = Vec::new();
    for source in sources() {
        for path in &source.paths {
            if ends.iter().any(|end| path.ends_with(end)) {
                broken.push(format!("src/{} has {path}: main returns, and nobody else ends the process", source.name));
            }
            if clocks.iter().any(|clock| path.ends_with(clock)) && !source.is("clock/system") {
                broken.push(format!("src/{} has {path}: clock/system.rs reads the clock", source.name));
            }
        }
    }
    none(&broken);
}

/// A directory server may not answer: it is asked where settings are read, and never where programs are started.
#[test]
fn users_and_groups_are_looked_up_in_one_place() {
    let asks =
        ["from_name", "from_uid", "from_gid", "getgrouplist", "initgroups", "getpwnam_r", "getpwuid_r", "getgrnam_r"];
    let place = "config/check/accounts";
    let (here, elsewhere): (Vec<_>, Vec<_>) = sources()
        .into_iter()
        .filter(|source| source.tokens.iter().any(|token| asks.contains(&token.as_str())))
        .partition(|source| source.is(place));
    assert_eq!(here.len(), 1, "the rule is about nothing");
    none(&elsewhere.iter().map(|source| format!("src/{} looks users up: {place}", source.name)).collect::<Vec<_>>());
}

#[test]
fn a_file_over_400_lines_has_a_reason() {
    let sources = sources();
    let excused = |source: &&Source| LONG.iter().any(|(name, _)| source.is(name));
    let long = |source: &&Source| source.lines > LINES;
    let told = |source: &Source| format!("src/{}: {} lines before its tests", source.name, source.lines);
    none(&sources.iter().filter(long).filter(|source| !excused(source)).map(told).collect::<Vec<_>>());
    for (name, reason) in LONG {
        let source = sources.iter().find(|source| source.is(name));
        let source = source.unwrap_or_else(|| panic!("src/{name} is not there: correct the list"));
        assert!(source.lines > LINES * 9 / 10, "src/{name} needs no reason ({reason}) any more");
    }
}

#[test]
fn file_names_say_something() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut broken = Vec::new();
    for file in ["src", "tests", "examples"].iter().flat_map(|folder| rust_files(&root.join(folder))) {
        let name = file.strip_prefix(root).expect("it was found there").with_extension("");
        let name = name.to_string_lossy();
        let mut words = name.split(|sign: char| !sign.is_alphanumeric());
        if words.any(|word| EMPTY_WORDS.iter().any(|empty| word == *empty || word == format!("{empty}s"))) {
            broken.push(format!("{name}: one of {EMPTY_WORDS:?}"));
        }
    }
    none(&broken);
}

/// A rule that can see nothing is no rule.
#[test]
fn each_rule_sees_what_it_is_about() {
    let core = |text: &str| impure(&Source::new("master/core.rs", text)).len();
    assert_eq!(core("use std::{collections::HashMap, io::{self, Read}, time::{Duration, Instant}};"), 3);
    assert_eq!(core("fn f() { let at = std::time::Instant::now(); crate::process::spawn(); }"), 2);
    assert_eq!(core("use super::{slot, super::process::Signal};\nuse crate::{clock::Clock, task::Task};"), 2);
    assert_eq!(
        core("// std::fs::read\n/* tokio::spawn */ const A: &str = \"nix::x\\\"\"; const B: &str = r#\"libc::a\"#;"),
        0
    );
    assert_eq!(core("fn f<'a>(a: &'a str) -> char { ':' }\n#[cfg(test)]\nmod tests { use std::fs; }"), 0);

    let rules = |name: &str, text: &str| broken_rules(&Source::new(name, text)).len();
    assert_eq!(rules("worker/serve.rs", "use crate::{master::Core, transport, frames};"), 2);
    assert_eq!(rules("transport/amqp/mod.rs", "use super::{sqlite::Store, Error};"), 1);
    assert_eq!(rules("transport/amqp/moves.rs", "use super::super::localmem;"), 1);
    assert_eq!(rules("transport/localmem.rs", "use super::Event; use crate::task::Task;"), 0);

    let words = |text: &str| foreign_words(&Source::new("task.rs", text)).len();
    assert_eq!(words("use crate::{config::Queue, clock::Timestamp}; use jiff::Zoned; use serde::de;"), 2);
}

fn none(broken: &[String]) {
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

fn impure(source: &Source) -> Vec<String> {
    let why = "it opens nothing, waits for nothing and reads no clock";
    source.known_below(WORLD).iter().map(|path| format!("src/{} knows {path}; but {why}", source.name)).collect()
}

fn broken_rules(source: &Source) -> Vec<String> {
    let mut broken = Vec::new();
    for (_, roots, why) in FORBIDDEN.iter().filter(|(files, _, _)| source.is(files)) {
        for path in source.known_below(roots) {
            broken.push(format!("src/{} knows {path}; but {why}", source.name));
        }
    }
    broken
}

/// What of the vocabulary knows more than the vocabulary.
fn foreign_words(source: &Source) -> Vec<String> {
    let is_known = |path: &&String| match path.split("::").collect::<Vec<_>>()[..] {
        ["crate", module, ..] => VOCABULARY.contains(&module),
        // Other roots are names that were imported: they were seen there.
        [root, ..] => !OTHER_CRATES.contains(&root),
        [] => unreachable!("a path has words"),
    };
    let foreign = source.paths.iter().filter(|path| !is_known(path));
    foreign.map(|path| format!("src/{} knows {path}; the vocabulary knows std and serde alone", source.name)).collect()
}

// Reading source text.

struct Source {
    /// From `src/` on.
    name: String,
    /// Before its tests.
    lines: usize,
    tokens: Vec<String>,
    paths: BTreeSet<String>,
}

impl Source {
    fn new(name: &str, text: &str) -> Self {
        let text = text.find("\n#[cfg(test)]\nmod ").map_or(text, |tests| &text[..=tests]);
        let tokens = tokens(text);
        let paths = paths(&tokens, &module_of(name));
        Self { name: name.to_owned(), lines: text.lines().count(), tokens, paths }
    }

    /// A module's name means its file and all files below it, however many there are.
    fn is(&self, module: &str) -> bool {
        self.name.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    }

    fn is_one_of(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.is(name))
    }

    /// The paths in it that lie below one of these.
    fn known_below(&self, roots: &[&str]) -> Vec<&str> {
        let below = |path: &str, root: &str| {
            path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        let paths = self.paths.iter().map(String::as_str);
        paths.filter(|path| roots.iter().any(|root| below(path, root))).collect()
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let source = |file: &PathBuf| {
        let name = file.strip_prefix(&root).expect("it was found there").to_string_lossy();
        Source::new(&name, &fs::read_to_string(file).expect("a source file"))
    };
    let files = rust_files(&root);
    // A file of tests alone is a test module, wherever it stands.
    files.iter().filter(|file| file.file_name().is_none_or(|name| name != "tests.rs")).map(source).collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the crate").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// `master/core.rs` is `crate::master::core`.
fn module_of(name: &str) -> Vec<String> {
    let name = name.trim_end_matches(".rs").trim_end_matches("/mod");
    let inner = name.split('/').filter(|part| !matches!(*part, "lib" | "main"));
    std::iter::once("crate").chain(inner).map(str::to_owned).collect()
}

/// The words and signs of a source text. `::` is one sign; comments, strings and characters are none.
fn tokens(text: &str) -> Vec<String> {
    let text: Vec<char> = text.chars().collect();
    let is_word = |sign: char| sign.is_alphanumeric() || sign == '_';
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let begin = at;
        let next = text.get(at + 1).copied().unwrap_or_default();
        match text[at] {
            '/' if next == '/' => at = find(&text, at, &['\n']),
            '/' if next == '*' => at = find(&text, at + 2, &['*', '/']) + 2,
            '"' => at = end_of_string(&text, at),
            '\'' if next == '\\' => at = find(&text, at + 3, &['\'']) + 1,
            '\'' if text.get(at + 2) == Some(&'\'') => at += 3,
            'r' | 'b' if starts_raw_string(&text[at..]) => {
                let quote = find(&text, at, &['"']);
                let hashes = text[at..quote].iter().filter(|sign| **sign == '#').count();
                let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
                at = find(&text, quote + 1, &end) + end.len();
            }
            ':' if next == ':' => {
                at += 2;
                tokens.push("::".to_owned());
            }
            sign if is_word(sign) => {
                while at < text.len() && is_word(text[at]) {
                    at += 1;
                }
                tokens.push(text[begin..at].iter().collect());
            }
            sign => {
                at += 1;
                if !sign.is_whitespace() {
                    tokens.push(sign.to_string());
                }
            }
        }
    }
    tokens
}

fn find(text: &[char], from: usize, what: &[char]) -> usize {
    (from..text.len()).find(|at| text[*at..].starts_with(what)).unwrap_or(text.len())
}

fn end_of_string(text: &[char], quote: usize) -> usize {
    let mut at = quote + 1;
    while at < text.len() && text[at] != '"' {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

fn starts_raw_string(text: &[char]) -> bool {
    let text = text.strip_prefix(&['b']).unwrap_or(text);
    let Some(rest) = text.strip_prefix(&['r']) else { return false };
    rest.iter().find(|sign| **sign != '#') == Some(&'"')
}

/// All paths of two and more words, with what stands in braces behind `::` unfolded.
fn paths(tokens: &[String], module: &[String]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut at = 0;
    while at < tokens.len() {
        let begins = is_name(&tokens[at]) && tokens.get(at + 1).is_some_and(|next| next == "::");
        at = if begins { unfold(tokens, at, &[], &mut found) } else { at + 1 };
    }
    found.iter().map(|path| resolved(path, module)).collect()
}

fn is_name(token: &str) -> bool {
    token.starts_with(|sign: char| sign.is_alphabetic() || sign == '_')
}

/// Reads the path or tree that begins at `at`; where it ends.
fn unfold(tokens: &[String], at: usize, before: &[String], found: &mut BTreeSet<Vec<String>>) -> usize {
    let mut named = BTreeSet::new();
    let end = unfold_below(tokens, at, before, &mut named);
    found.extend(named.into_iter().map(|(path, _)| path));
    end
}

/// As [`unfold`], each path with the name that it has afterwards.
fn unfold_named(tokens: &[String], at: usize, found: &mut BTreeSet<(Vec<String>, String)>) {
    unfold_below(tokens, at, &[], found);
}

fn unfold_below(
    tokens: &[String],
    mut at: usize,
    before: &[String],
    found: &mut BTreeSet<(Vec<String>, String)>,
) -> usize {
    let mut path = before.to_vec();
    let token = |at: usize| tokens.get(at).map_or("", String::as_str);
    loop {
        if token(at) == "{" {
            at += 1;
            while at < tokens.len() && token(at) != "}" {
                at = if token(at) == "," { at + 1 } else { unfold_below(tokens, at, &path, found) };
            }
            return at + 1;
        }
        path.push(token(at).to_owned());
        at += 1;
        let goes_on = token(at) == "::" && (is_name(token(at + 1)) || matches!(token(at + 1), "{" | "*"));
        if !goes_on {
            break;
        }
        at += 1;
    }
    // `a::{self}` is `a`.
    let last = path.iter().rev().find(|word| *word != "self").cloned().unwrap_or_default();
    let (name, end) = if token(at) == "as" { (token(at + 1).to_owned(), at + 2) } else { (last, at) };
    found.insert((path, name));
    end
}

fn resolved(path: &[String], module: &[String]) -> String {
    let mut words = path.iter().peekable();
    let mut here = match path[0].as_str() {
        "self" | "super" => module.to_vec(),
        _ => Vec::new(),
    };
    while words.next_if(|word| *word == "super").is_some() {
        here.pop();
    }
    for word in words {
        match word.as_str() {
            "self" | "*" => {}
            "super" => drop(here.pop()),
            _ => here.push(word.clone()),
        }
    }
    here.join("::")
}
