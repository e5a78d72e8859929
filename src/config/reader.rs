//! Reads typed values out of the tree. A wrong value is reported and reads as absent, so that one mistake
//! never hides the next.

use std::{cmp::Ordering, path::PathBuf, time::Duration};

use super::{
    node::{Entry, Node, Value, segment},
    report::Report,
};
use crate::{suggest::nearest, units};

/// A map with its keys.
pub(super) struct Section<'a> {
    pub(super) report: &'a Report,
    pub(super) path: String,
    pub(super) entries: &'a [Entry],
}

/// A value that was given.
pub(super) struct Item<'a> {
    pub(super) report: &'a Report,
    pub(super) path: String,
    pub(super) node: &'a Node,
    /// The key, for problems about the key itself.
    pub(super) entry: Option<&'a Entry>,
}

impl<'a> Section<'a> {
    /// Reports every key that is not known.
    pub(super) fn only(self, known: &[&str]) -> Self {
        for entry in self.entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let hint = match nearest(&entry.key, known.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("known keys: {}", known.join(", ")),
            };
            self.item(entry).key_problem("unknown key", Some(hint));
        }
        self
    }

    /// The value of a key, if there is one that is not null.
    pub(super) fn get(&self, key: &str) -> Option<Item<'a>> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        (!matches!(entry.node.value, Value::Null)).then(|| self.item(entry))
    }

    /// The value of a key that was given, null or not.
    pub(super) fn given(&self, key: &str) -> Option<Item<'a>> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| self.item(entry))
    }

    /// The map under a key; empty if there is none.
    pub(super) fn section(&self, key: &str, known: &[&str]) -> Section<'a> {
        let none = Section { report: self.report, path: String::new(), entries: &[] };
        self.get(key).and_then(|item| item.section()).unwrap_or(none).only(known)
    }

    /// All entries.
    pub(super) fn items(&self) -> impl Iterator<Item = (&'a Entry, Item<'a>)> {
        self.entries.iter().map(|entry| (entry, self.item(entry)))
    }

    fn item(&self, entry: &'a Entry) -> Item<'a> {
        let mut path = self.path.clone();
        if !entry.written.is_empty() {
            path += &segment(&self.path, &entry.written);
        }
        Item { report: self.report, path, node: &entry.node, entry: Some(entry) }
    }
}

impl<'a> Item<'a> {
    /// Something is wrong with the value.
    pub(super) fn problem(&self, what: impl Into<String>, hint: Option<String>) {
        self.report.add(self.node.place, &self.path, what, hint);
    }

    /// Something is wrong with the key.
    pub(super) fn key_problem(&self, what: impl Into<String>, hint: Option<String>) {
        let place = self.entry.map_or(self.node.place, |entry| entry.place);
        self.report.add(place, &self.path, what, hint);
    }

    /// `expected` describes what would have been right.
    pub(super) fn expected<T>(&self, expected: &str) -> Option<T> {
        self.problem(format!("expected {expected}, not {}", self.shown()), None);
        None
    }

    /// The value as it may be shown: as it was typed, `${NAME}` instead of what was put in.
    pub(super) fn shown(&self) -> String {
        let text = match (&self.node.value, &self.node.written) {
            (Value::List(_), _) => return "a list".to_owned(),
            (Value::Map(_), _) => return "a map".to_owned(),
            (Value::Null, _) => return "nothing".to_owned(),
            (Value::Text(_), Some(text)) | (Value::Text(text), None) => text,
            (_, Some(text)) => return text.clone(),
            (Value::Bool(value), None) => return value.to_string(),
            (Value::Int(value), None) => return value.to_string(),
            (Value::Float(value), None) => return value.to_string(),
        };
        // Masked before it is cut: half an address shows its password as its end.
        let cut: String = crate::redact::redact(text).chars().take(60).collect();
        format!("{cut:?}")
    }

    /// The folder that relative paths in this value are relative to.
    pub(super) fn folder(&self) -> &'a PathBuf {
        &self.report.layers[self.node.place.layer].folder
    }

    /// A map.
    pub(super) fn section(&self) -> Option<Section<'a>> {
        match &self.node.value {
            Value::Map(entries) => Some(Section { report: self.report, path: self.path.clone(), entries }),
            Value::Null => Some(Section { report: self.report, path: self.path.clone(), entries: &[] }),
            _ => self.expected("a map"),
        }
    }

    /// A map; anything else was reported before.
    pub(super) fn section_quietly(&self) -> Option<Section<'a>> {
        matches!(self.node.value, Value::Map(_)).then(|| self.section()).flatten()
    }

    /// A list.
    pub(super) fn list(&self) -> Option<Vec<Item<'a>>> {
        let Value::List(nodes) = &self.node.value else { return self.expected("a list") };
        let item =
            |(number, node)| Item { report: self.report, path: format!("{}[{number}]", self.path), node, entry: None };
        Some(nodes.iter().enumerate().map(item).collect())
    }

    /// Text; a number where text is wanted is most likely a mistake.
    pub(super) fn text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Text(text) if !text.is_empty() => Some(text),
            _ => self.expected("text"),
        }
    }

    /// Any scalar, as it was written.
    pub(super) fn word(&self) -> Option<String> {
        match (&self.node.value, &self.node.written) {
            (Value::Text(text), _) => Some(text.clone()),
            (Value::List(_) | Value::Map(_) | Value::Null, _) => None,
            (_, Some(written)) => Some(written.clone()),
            _ => Some(self.shown()),
        }
    }

    /// One of some words. YAML has the words on and off as texts, and other programs have true and false for them.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        if let Value::Bool(flag) = self.node.value {
            let switch = if flag { "on" } else { "off" };
            if choices.iter().any(|(word, _)| *word == switch) {
                self.problem(
                    format!("expected {}, not {flag}", words(choices)),
                    Some(format!("{}: {switch}", self.path)),
                );
                return None;
            }
        }
        let text = self.text()?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        self.expected(&words(choices))
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Option<bool> {
        match (&self.node.value, self.substituted()) {
            (Value::Bool(value), _) => Some(*value),
            (_, Some("true")) => Some(true),
            (_, Some("false")) => Some(false),
            _ => self.expected("true or false"),
        }
    }

    /// A whole number within bounds.
    pub(super) fn integer(&self, min: u32, max: u32) -> Option<u32> {
        let number = match (&self.node.value, self.substituted()) {
            (Value::Int(number), _) => Some(*number),
            (_, Some(text)) => text.trim().parse().ok(),
            _ => None,
        };
        let Some(number) = number else { return self.expected("a whole number") };
        match u32::try_from(number) {
            Ok(number) if (min..=max).contains(&number) => Some(number),
            _ if number < i128::from(min) => self.expected(&format!("a whole number of at least {min}")),
            _ => self.expected(&format!("a whole number of at most {max}")),
        }
    }

    /// A number of at least 1: how fast something grows.
    pub(super) fn factor(&self) -> Option<f64> {
        let number: Option<f64> = self.number_text().and_then(|text| text.trim().parse().ok());
        number.filter(|number| (1.0..=1000.0).contains(number)).or_else(|| self.expected("a number from 1 to 1000"))
    }

    /// `30s`, `1h30m`, or a number of seconds; more than nothing.
    pub(super) fn duration(&self) -> Option<Duration> {
        let duration = self.duration_or_zero()?;
        if duration.is_zero() { self.expected("a duration of more than 0") } else { Some(duration) }
    }

    /// The same, and 0 too.
    pub(super) fn duration_or_zero(&self) -> Option<Duration> {
        let duration = self.number_text().and_then(|text| units::parse_duration(&text));
        duration.or_else(|| self.expected("a duration such as 500ms, 30s, 10m or 1h30m, at most 10 years"))
    }

    /// `512MiB`, or a number of bytes; more than nothing.
    pub(super) fn size(&self) -> Option<u64> {
        let size = self.number_text().and_then(|text| units::size(&text)).filter(|size| *size > 0);
        size.or_else(|| self.expected("a size such as 512MiB, 2GiB or a number of bytes"))
    }

    /// `10%` or 0.1.
    pub(super) fn fraction(&self) -> Option<f64> {
        let fraction = self.number_text().and_then(|text| units::fraction(&text));
        fraction.or_else(|| self.expected("a percentage from 0% to 100%"))
    }

    /// The text of a number or of text.
    fn number_text(&self) -> Option<String> {
        match &self.node.value {
            Value::Text(text) => Some(text.clone()),
            // Not as it was written: YAML has hexadecimal numbers.
            Value::Int(value) => Some(value.to_string()),
            Value::Float(value) => Some(value.to_string()),
            _ => None,
        }
    }

    /// Text that came from the environment stands for a number or truth value where one is wanted.
    fn substituted(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Text(text) if self.node.written.is_some() => Some(text),
            _ => None,
        }
    }
}

/// Checks that a series of delays does not end below its beginning.
pub(super) fn check_longest(section: &Section<'_>, key: &str, first: Duration, longest: Duration) {
    if longest.cmp(&first) == Ordering::Less
        && let Some(item) = section.get("longest").or_else(|| section.get(key))
    {
        item.problem(format!("\"longest\" is shorter than \"{key}\""), None);
    }
}

fn words<T>(choices: &[(&str, T)]) -> String {
    choices.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(" or ")
}
