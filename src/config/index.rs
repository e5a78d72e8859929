//! The position of each value in a YAML text.
//!
//! What a value *means* is for one parser alone to say (`raw`); this one only tells positions, and refuses what is
//! not YAML, nests too deep, or grows too much through aliases, before anything is built from it. It does not
//! recurse, so that no text can overflow the stack.

use std::{collections::HashMap, rc::Rc};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

/// Deeper than this nothing is a setting.
const MAX_DEPTH: usize = 32;

/// More values than this, aliases followed, are an attack or an accident.
const MAX_VALUES: usize = 50_000;

/// A line and a column, both from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

/// A text that is not taken.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) at: Position,
    pub(super) what: String,
}

/// A value's place, and the places of what is in it.
#[derive(Debug)]
pub(super) struct Spot {
    pub(super) at: Position,
    pub(super) inside: Inside,
    /// Values in it, itself included, aliases followed.
    size: usize,
}

#[derive(Debug)]
pub(super) enum Inside {
    /// The text of a plain scalar as it was written; `None` for quoted ones.
    Scalar(Option<String>),
    List(Vec<Rc<Spot>>),
    /// Keys with their places, in the order of the text, duplicates included.
    Map(Vec<(String, Position, Rc<Spot>)>),
}

/// A collection that is not closed yet.
struct Open {
    at: Position,
    anchor: usize,
    size: usize,
    inside: Inside,
    /// A key that waits for its value.
    key: Option<(String, Position)>,
}

/// Reads the first document; `None` if there is nothing in the text.
pub(super) fn index(text: &str) -> Result<Option<Rc<Spot>>, Refused> {
    let mut anchors: HashMap<usize, Rc<Spot>> = HashMap::new();
    let mut open: Vec<Open> = Vec::new();
    let mut root = None;
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| Refused {
            at: position(error.marker()),
            what: format!("is not YAML: {}", error.info()),
        })?;
        let at = position(&span.start);
        let refused = |what: &str| Refused { at, what: what.to_owned() };
        let (finished, anchor) = match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    return Err(refused("a second document begins here; one file is one document"));
                }
                continue;
            }
            Event::Scalar(text, style, anchor, _) => {
                let plain = (style == ScalarStyle::Plain).then(|| text.to_string());
                // A key is wanted as text, quoted or not.
                if let Some(Open { inside: Inside::Map(_), key: key @ None, .. }) = open.last_mut() {
                    *key = Some((text.into_owned(), at));
                    continue;
                }
                (Spot { at, inside: Inside::Scalar(plain), size: 1 }.into(), anchor)
            }
            Event::Alias(anchor) => {
                let spot = anchors.get(&anchor).ok_or_else(|| refused("an alias within its own anchor"))?;
                (Rc::clone(spot), 0)
            }
            Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) => {
                if open.len() >= MAX_DEPTH {
                    return Err(refused("is nested too deep"));
                }
                if open.last().is_some_and(Open::wants_key) {
                    return Err(refused("a key must be a word, not a list or a map"));
                }
                let map = matches!(event, Event::MappingStart(..));
                let inside = if map { Inside::Map(Vec::new()) } else { Inside::List(Vec::new()) };
                open.push(Open { at, anchor, size: 1, inside, key: None });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(done) = open.pop() else { continue };
                (Spot { at: done.at, inside: done.inside, size: done.size }.into(), done.anchor)
            }
            _ => continue,
        };
        if anchor > 0 {
            anchors.insert(anchor, Rc::clone(&finished));
        }
        let Some(parent) = open.last_mut() else {
            root = Some(finished);
            continue;
        };
        parent.size = parent.size.saturating_add(finished.size);
        if parent.size > MAX_VALUES {
            return Err(refused("grows to too many values"));
        }
        match (&mut parent.inside, parent.key.take()) {
            (Inside::Map(entries), Some((key, at))) => entries.push((key, at, finished)),
            (Inside::List(items), _) => items.push(finished),
            _ => return Err(refused("a key must be a word")),
        }
    }
    Ok(root)
}

impl Open {
    fn wants_key(&self) -> bool {
        matches!(self.inside, Inside::Map(_)) && self.key.is_none()
    }
}

fn position(marker: &Marker) -> Position {
    Position { line: marker.line().max(1), column: marker.col() + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(spot: &Spot, path: &[&str]) -> (usize, usize) {
        match (path, &spot.inside) {
            ([], _) => (spot.at.line, spot.at.column),
            ([key, rest @ ..], Inside::Map(entries)) => {
                at(&entries.iter().find(|(name, ..)| name == key).unwrap().2, rest)
            }
            ([number, rest @ ..], Inside::List(items)) => at(&items[number.parse::<usize>().unwrap()], rest),
            _ => panic!("{path:?} leads into a scalar"),
        }
    }

    #[test]
    fn positions_of_keys_and_values() {
        let text = "a: 1\nb:\n  - x\n  - {c: ü, d: \"e\"}\n? f\n: g\n";
        let spot = index(text).unwrap().unwrap();
        assert_eq!(at(&spot, &["a"]), (1, 4));
        assert_eq!(at(&spot, &["b", "0"]), (3, 5));
        assert_eq!(at(&spot, &["b", "1", "d"]), (4, 15));
        assert_eq!(at(&spot, &["f"]), (6, 3));
        assert!(index("# nothing\n").unwrap().is_none());
    }

    #[test]
    fn aliases_stand_where_their_anchor_is() {
        let spot = index("a: &x {k: 1}\nb: *x\nc:\n  <<: *x\n").unwrap().unwrap();
        assert_eq!(at(&spot, &["b", "k"]), (1, 11));
        assert_eq!(at(&spot, &["c", "<<", "k"]), (1, 11));
    }

    #[test]
    fn bombs_are_refused() {
        let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for (this, last) in ('b'..='k').zip('a'..) {
            let ten = format!("*{last},").repeat(10);
            bomb.extend([this.to_string().as_str(), ": &", &this.to_string(), " [", &ten, "]\n"]);
        }
        assert_eq!(index(&bomb).unwrap_err().what, "grows to too many values");
        assert_eq!(index(&"[".repeat(40)).unwrap_err().what, "is nested too deep");
        assert!(index(&"[".repeat(500_000)).is_err());
        assert!(index(&"{a: ".repeat(100_000)).is_err());
        assert!(index(&"- ".repeat(100_000)).is_err());
        assert!(index("a: &a [*a]").is_err());
        assert!(index("a: *b").is_err());
        assert!(index("? [a]\n: b\n").is_err());
        assert!(index("a: 1\n---\nb: 2\n").unwrap_err().what.contains("second document"));
        assert_eq!(index("a: [1,\nb: 2\n").unwrap_err().at.line, 2);
    }
}
