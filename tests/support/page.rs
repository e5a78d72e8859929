//! Pages of examples, typed: what a page says that one types is typed, and what it says that one sees is seen.
//!
//! In a block called `console` a line that begins with `$ ` is a command, and what is below it is its whole output, on stdout and
//! stderr; widths of columns do not count. A `…` stands for any text in a line, a line of it alone for any number of lines. The
//! command that starts the master goes on behind the others, and its lines have to come in their order, with others between them.

use std::time::Duration;

use super::log::{Master, Stopwatch, until};

/// How long what only looks is asked again.
const PATIENCE: Duration = Duration::from_secs(30);
/// What goes on until it is stopped.
const GOES_ON: &str = "asynctask workers";

/// A page, and who types it.
pub struct Page<'a> {
    pub text: &'a str,
    /// Beginnings of commands that only look: these are typed again, until what was begun before has come so far.
    pub looks: &'a [&'a str],
    /// Starts the master by its command.
    pub start: &'a dyn Fn(&str) -> Master,
    /// What a command prints.
    pub output: &'a dyn Fn(&str) -> String,
}

impl Page<'_> {
    /// Types all of it. Gives the last master, which goes on.
    pub fn type_all(&self) -> Master {
        let mut master: Option<Master> = None;
        for Typed { command, seen } in typed(self.text) {
            if command.starts_with(GOES_ON) && !command.contains("--halt-when-empty") {
                let started = (self.start)(&command);
                let text = started.log();
                for pattern in &seen {
                    until(&format!("{command} did not print: {pattern}\n{}", text.text()), || {
                        text.text().lines().any(|line| line_matches(pattern, line))
                    });
                }
                master = Some(started);
                continue;
            }
            let is_seen = |output: &str| lines_match(&seen, &output.lines().collect::<Vec<_>>());
            let watch = Stopwatch::start();
            let output = loop {
                let output = (self.output)(&command);
                let is_asked_again =
                    self.looks.iter().any(|look| command.starts_with(look)) && watch.elapsed() < PATIENCE;
                if is_seen(&output) || !is_asked_again {
                    break output;
                }
            };
            let log = || master.as_ref().map(|master| master.log().text()).unwrap_or_default();
            assert!(is_seen(&output), "$ {command}\n{output}\n--- the page\n{}\n--- log\n{}", seen.join("\n"), log());
        }
        master.expect("the page starts a master")
    }
}

/// A command and what it prints.
struct Typed {
    command: String,
    seen: Vec<String>,
}

/// What is typed in the blocks of a page.
fn typed(page: &str) -> Vec<Typed> {
    let mut all: Vec<Typed> = Vec::new();
    for block in page.split("```console\n").skip(1) {
        let (block, _) = block.split_once("```").expect("a block ends");
        for line in block.lines() {
            if let Some(command) = line.strip_prefix("$ ") {
                all.push(Typed { command: command.to_owned(), seen: Vec::new() });
            } else {
                all.last_mut().expect("a block begins with a command").seen.push(line.to_owned());
            }
        }
    }
    all
}

/// A line without what depends on the widest of a column.
fn narrow(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a line is as the page says.
fn line_matches(pattern: &str, line: &str) -> bool {
    let (pattern, line) = (&narrow(pattern), &narrow(line));
    let mut parts = pattern.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

fn lines_match(patterns: &[String], lines: &[&str]) -> bool {
    match (patterns.split_first(), lines.split_first()) {
        (None, lines) => lines.is_none(),
        (Some((pattern, patterns)), _) if pattern == "…" => {
            (0..=lines.len()).any(|skipped| lines_match(patterns, &lines[skipped..]))
        }
        (Some((pattern, patterns)), Some((line, lines))) => line_matches(pattern, line) && lines_match(patterns, lines),
        (Some(_), None) => false,
    }
}
