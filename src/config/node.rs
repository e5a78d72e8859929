//! The text of the settings as a tree in which every value has its place.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
};

use super::{
    index::{Inside, Position, Spot},
    raw::Raw,
    report::{Place, Report},
    substitute::substitute,
};

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
    /// The text as it was typed, where that differs from the value or is not known from it: `${NAME}`, `1.10`.
    pub(super) written: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    /// The key as it was typed, for paths; empty if it was not typed at all (the short form of a queue).
    pub(super) written: String,
    pub(super) place: Place,
    pub(super) node: Node,
}

impl Entry {
    pub(super) fn new(key: String, place: Place, node: Node) -> Self {
        Self { written: key.clone(), key, place, node }
    }
}

/// Builds the tree of one layer: joins values with places, takes merge keys apart, reports duplicates, puts the
/// environment's values into scalars.
pub(super) struct Builder<'a> {
    pub(super) layer: usize,
    /// Whether values have places of their own; in an option, the option is the place of all.
    pub(super) positions: bool,
    pub(super) environment: &'a BTreeMap<OsString, OsString>,
    pub(super) report: &'a Report,
    pub(super) path: String,
}

impl Builder<'_> {
    /// `spot` may lack; then the place is that of the parent.
    pub(super) fn build(&mut self, raw: Raw, spot: Option<&Spot>, parent: Place) -> Node {
        let place = self.place(spot.map(|spot| spot.at), parent);
        let mut written = match spot.map(|spot| &spot.inside) {
            Some(Inside::Scalar(Some(text))) if !matches!(raw, Raw::Text(_)) => Some(text.clone()),
            _ => None,
        };
        let value = match raw {
            Raw::Null => Value::Null,
            Raw::Bool(value) => Value::Bool(value),
            Raw::Int(value) => Value::Int(value),
            Raw::Float(value) => Value::Float(value),
            // 1e400: too large for the parser, which takes it for text.
            Raw::Text(text) if is_plain(spot, &text) && is_json_number(&text) => {
                let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
                written = Some(text);
                Value::Float(f64::INFINITY.copysign(sign))
            }
            Raw::Text(text) => match substitute(&text, self.environment) {
                Ok(None) => Value::Text(text),
                Ok(Some(value)) => {
                    written = Some(text);
                    Value::Text(value)
                }
                Err(problem) => {
                    self.report.add(place, &self.path, problem, None);
                    // Keeps the checks to come from complaining about the same value again.
                    written = Some(text);
                    Value::Null
                }
            },
            Raw::List(items) => Value::List(self.list(items, spot, place)),
            Raw::Map(entries) => Value::Map(self.map(entries, spot, place)),
        };
        Node { value, place, written }
    }

    fn place(&self, at: Option<Position>, parent: Place) -> Place {
        at.filter(|_| self.positions).map_or(parent, |at| Place { layer: self.layer, position: Some(at) })
    }

    fn list(&mut self, items: Vec<Raw>, spot: Option<&Spot>, place: Place) -> Vec<Node> {
        let spots = match spot.map(|spot| &spot.inside) {
            Some(Inside::List(spots)) => spots.as_slice(),
            _ => &[],
        };
        let mut nodes = Vec::new();
        for (number, raw) in items.into_iter().enumerate() {
            let spot = spots.get(number).map(AsRef::as_ref);
            nodes.push(self.below(&format!("[{number}]"), |builder| builder.build(raw, spot, place)));
        }
        nodes
    }

    fn map(&mut self, raw: Vec<(String, Raw)>, spot: Option<&Spot>, place: Place) -> Vec<Entry> {
        let spots = match spot.map(|spot| &spot.inside) {
            Some(Inside::Map(spots)) => spots.as_slice(),
            _ => &[],
        };
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged = Vec::new();
        let mut seen: HashMap<String, Place> = HashMap::new();
        for (number, (key, raw)) in raw.into_iter().enumerate() {
            let (at, spot) = match spots.get(number).filter(|(name, ..)| *name == key) {
                Some((_, at, spot)) => (self.place(Some(*at), place), Some(spot.as_ref())),
                None => (place, None),
            };
            let segment = segment(&self.path, &key);
            if key == "env" {
                self.hide(&raw, spot, at);
            }
            let node = self.below(&segment, |builder| builder.build(raw, spot, at));
            if let Some(first) = seen.get(&key) {
                let hint = first.position.map(|first| format!("it was given before, in line {}", first.line));
                self.below(&segment, |builder| builder.report.add(at, &builder.path, "duplicate key", hint));
                continue;
            }
            seen.insert(key.clone(), at);
            if key == "<<" {
                self.merge_key(node, at, &mut merged);
            } else {
                entries.push(Entry::new(key, at, node));
            }
        }
        // What is given here wins over what is merged in, and what is merged first over what comes later.
        for entry in merged {
            if !seen.contains_key(&entry.key) {
                seen.insert(entry.key.clone(), entry.place);
                entries.push(entry);
            }
        }
        entries
    }

    fn merge_key(&mut self, node: Node, at: Place, merged: &mut Vec<Entry>) {
        match node.value {
            Value::Map(entries) => merged.extend(entries),
            Value::List(nodes) if nodes.iter().all(|node| matches!(node.value, Value::Map(_))) => {
                for node in nodes {
                    self.merge_key(node, at, merged);
                }
            }
            _ => self.report.add(at, &self.path, "<< takes a map, or a list of maps", None),
        }
    }

    /// Most secrets of a configuration are in the environments of kinds: none of those is shown, whatever else
    /// is wrong with it.
    fn hide(&self, raw: &Raw, spot: Option<&Spot>, parent: Place) {
        let place = self.place(spot.map(|spot| spot.at), parent);
        match (raw, spot.map(|spot| &spot.inside)) {
            (Raw::List(items), Some(Inside::List(spots))) => {
                items.iter().zip(spots).for_each(|(raw, spot)| self.hide(raw, Some(spot), place));
            }
            (Raw::Map(entries), Some(Inside::Map(spots))) => {
                entries.iter().zip(spots).for_each(|((_, raw), (_, _, spot))| self.hide(raw, Some(spot), place));
            }
            (Raw::Text(text), _) | (_, Some(Inside::Scalar(Some(text)))) => self.report.hide_at(place, text),
            _ => {}
        }
    }

    fn below<T>(&mut self, segment: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        self.path.push_str(segment);
        let result = work(self);
        self.path.truncate(length);
        result
    }
}

fn is_plain(spot: Option<&Spot>, text: &str) -> bool {
    matches!(spot.map(|spot| &spot.inside), Some(Inside::Scalar(Some(plain))) if plain == text)
}

/// A key as a part of a path, quoted if it could be taken for several, with a dot if something stands before it.
pub(super) fn segment(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-:<".contains(&byte));
    let dot = if path.is_empty() { "" } else { "." };
    let key: String = key.chars().take(80).collect();
    if plain { format!("{dot}{key}") } else { format!("{dot}{key:?}") }
}

/// Whether JSON writes numbers so.
pub(super) fn is_json_number(written: &str) -> bool {
    written.starts_with(|first: char| first.is_ascii_digit() || first == '-')
        && serde_json::from_str::<&serde_json::value::RawValue>(written).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_with_dots_are_quoted() {
        assert_eq!(segment("workers", "foo-1"), ".foo-1");
        assert_eq!(segment("workers", "a.b"), ".\"a.b\"");
        assert_eq!(segment("", "a"), "a");
    }
}
