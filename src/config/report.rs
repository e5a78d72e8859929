//! Collects problems while the settings are read, and shows the line of each without showing secrets.

use std::{cell::RefCell, collections::HashSet, path::PathBuf};

use super::{
    index::Position,
    problem::{Origin, Problem},
};
use crate::redact::redact;

/// More problems than this are counted, not shown.
const MOST: usize = 100;

/// Longest part of a line that is shown.
const SHOWN: usize = 100;

/// One file, or one option.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) name: LayerName,
    /// What relative paths in it are relative to.
    pub(super) folder: PathBuf,
}

#[derive(Debug)]
pub(super) enum LayerName {
    File {
        path: PathBuf,
        text: String,
    },
    /// `--set KEY`.
    Option(String),
}

/// A place in a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) layer: usize,
    pub(super) position: Option<Position>,
}

/// What was read, and what is wrong with it so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) layers: Vec<Layer>,
    problems: RefCell<Vec<Problem>>,
    /// Texts that are never shown.
    secrets: RefCell<HashSet<String>>,
    /// Lines that are never shown, as layer and line; line 0 stands for all.
    hidden: RefCell<HashSet<(usize, usize)>>,
}

impl Report {
    /// Adds a layer; its number.
    pub(super) fn layer(&mut self, name: LayerName, folder: PathBuf) -> usize {
        self.layers.push(Layer { name, folder });
        self.layers.len() - 1
    }

    /// A problem at a place.
    pub(super) fn add(&self, place: Place, path: &str, what: impl Into<String>, hint: Option<String>) {
        let origin = match &self.layers[place.layer].name {
            LayerName::File { path, .. } => Origin::File { path: path.clone(), position: place.position },
            LayerName::Option(name) => Origin::Option(name.clone()),
        };
        let order = (place.layer, place.position);
        self.push(Problem { origin, path: path.to_owned(), what: what.into(), hint, snippet: None, order });
    }

    /// A problem that belongs to no layer: a file that cannot be read, an option that cannot be split.
    pub(super) fn add_outside(&self, origin: Origin, what: impl Into<String>, hint: Option<String>) {
        let order = (self.layers.len(), None);
        self.push(Problem { origin, path: String::new(), what: what.into(), hint, snippet: None, order });
    }

    fn push(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// Never show this text in a line.
    pub(super) fn hide(&self, text: &str) {
        // Of shorter ones too little is given away to make lines unreadable for.
        if text.len() >= 4 {
            self.secrets.borrow_mut().insert(text.to_owned());
        }
    }

    /// Never show this text, which stands at a place; nor its line, if it is written in another way there.
    pub(super) fn hide_at(&self, place: Place, text: &str) {
        let LayerName::File { text: lines, .. } = &self.layers[place.layer].name else { return };
        let Some(at) = place.position else { return };
        if lines.lines().nth(at.line - 1).is_some_and(|line| line.contains(text)) {
            self.hide(text);
        } else {
            self.hidden.borrow_mut().insert((place.layer, at.line));
        }
    }

    /// Show no line of a layer that could not be read and may hold secrets anywhere.
    pub(super) fn hide_lines(&self, layer: usize) {
        self.hidden.borrow_mut().insert((layer, 0));
    }

    /// Never show the password of this address, wherever it ends for whom.
    pub(super) fn hide_password(&self, address: &str) {
        let secret = address.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@')?.0.split_once(':'));
        if let Some((_, password)) = secret {
            self.hide(password);
        }
    }

    /// All problems in the order of layers and lines.
    pub(super) fn finish(self) -> Vec<Problem> {
        let mut problems = self.problems.take();
        problems.sort_by_key(|problem| problem.order);
        problems.dedup();
        let more = problems.len().saturating_sub(MOST);
        problems.truncate(MOST);
        for problem in &mut problems {
            problem.snippet = self.snippet(problem.order.0, problem.order.1);
        }
        if let Some(last) = problems.last_mut().filter(|_| more > 0) {
            last.hint = Some(format!("{more} more problems are not shown"));
        }
        problems
    }

    fn snippet(&self, layer: usize, position: Option<Position>) -> Option<(String, usize)> {
        let LayerName::File { text, .. } = &self.layers.get(layer)?.name else { return None };
        let at = position?;
        let hidden = self.hidden.borrow();
        if hidden.contains(&(layer, 0)) || hidden.contains(&(layer, at.line)) {
            return None;
        }
        let line = text.lines().nth(at.line - 1)?;
        let split = line.char_indices().nth(at.column - 1).map_or(line.len(), |(byte, _)| byte);
        let clean = |text: &str| -> Vec<char> {
            self.redact(text).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
        };
        let before = clean(&line[..split]);
        let after = clean(&line[split..]);
        // A secret may begin before the caret and end behind it: then the whole is shown, not its halves.
        let whole = clean(line);
        let halves: Vec<char> = before.iter().chain(&after).copied().collect();
        let (line, caret) = if halves == whole { (halves, before.len()) } else { (whole, before.len()) };
        let from = caret.saturating_sub(SHOWN / 2).min(line.len());
        let to = line.len().min(from + SHOWN);
        let mut shown: String = line[from..to].iter().collect();
        shown.truncate(shown.trim_end().len());
        Some((shown, caret - from + 1))
    }

    fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in self.secrets.borrow().iter() {
            text = text.replace(secret, "***");
        }
        redact(&text).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_around_the_caret_and_hide_secrets() {
        let text = format!("{}token: hunter2, x: 1", "é".repeat(500));
        let mut report = Report::default();
        let layer = report.layer(LayerName::File { path: "a".into(), text }, "/".into());
        report.hide("hunter2");
        let position = Some(Position { line: 1, column: 508 });
        report.add(Place { layer, position }, "p", "wrong", None);
        let (line, caret) = report.finish().remove(0).snippet.unwrap();
        assert!(line.contains("token: ***, x: 1") && !line.contains("hunter2"), "{line}");
        assert_eq!(line.chars().nth(caret - 1), Some('*'));
    }
}
