//! Stamps: what a producer has marked its tasks with, in the header `stamps`, and which of them are revoked. Pure.
//!
//! Celery's workers keep revoked stamps until they end, and tell no other node of them. So does a master, but of no more than
//! [`MOST`], the latest.

use std::collections::{HashSet, VecDeque};

use foldhash::fast::RandomState;
use serde_json::Value;

use super::revoked::{ID_LIMIT, MOST};
use crate::task::Headers;

/// The stamps of a task: the names of `stamped_headers`, each with what `stamps` has of it, one value or several.
pub fn of(headers: &Headers) -> impl Iterator<Item = (&str, &Value)> {
    let names = headers.get("stamped_headers").and_then(Value::as_array);
    let stamps = headers.get("stamps").and_then(Value::as_object);
    let stamped = names.into_iter().flatten().filter_map(Value::as_str);
    let values = stamped.filter_map(move |name| Some((name, stamps?.get(name)?)));
    values.flat_map(|(name, value)| match value {
        Value::Array(values) => values.iter().map(move |value| (name, value)).collect::<Vec<_>>(),
        value => vec![(name, value)],
    })
}

/// Whether a value can be a stamp that is revoked: a text, a number or a truth value of a length that is remembered.
#[must_use]
pub fn is_stamp(header: &str, value: &Value) -> bool {
    header.len() <= ID_LIMIT
        && match value {
            Value::String(text) => text.len() <= ID_LIMIT,
            Value::Number(_) | Value::Bool(_) => true,
            Value::Null | Value::Array(_) | Value::Object(_) => false,
        }
}

/// Stamps whose tasks are not to be run any more.
#[derive(Debug, Default)]
pub struct Revoked {
    /// The header and the value as JSON.
    stamps: HashSet<(String, String), RandomState>,
    /// In the order in which they were revoked first.
    order: VecDeque<(String, String)>,
}

impl Revoked {
    /// Remembers a stamp. What can be none is left out.
    pub fn add(&mut self, header: &str, value: &Value) {
        let stamp = (header.to_owned(), value.to_string());
        if is_stamp(header, value) && self.stamps.insert(stamp.clone()) {
            self.order.push_back(stamp);
        }
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.stamps.remove(&oldest);
        }
    }

    /// The header for whose stamp a task is revoked, if it is.
    #[must_use]
    pub fn header_of<'a>(&self, headers: &'a Headers) -> Option<&'a str> {
        if self.stamps.is_empty() {
            return None;
        }
        let is_revoked = |(header, value): &(&str, &Value)| {
            is_stamp(header, value) && self.stamps.contains(&((*header).to_owned(), value.to_string()))
        };
        of(headers).find(is_revoked).map(|(header, _)| header)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn headers(value: Value) -> Headers {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_task_is_revoked_for_one_of_its_stamps() {
        let mut revoked = Revoked::default();
        let order = headers(json!({"stamped_headers": ["run", "order"], "stamps": {"run": "r1", "order": ["o1", 7]}}));
        assert_eq!(revoked.header_of(&order), None);
        revoked.add("order", &json!("7"));
        revoked.add("run", &json!("o1"));
        assert_eq!(revoked.header_of(&order), None, "neither the text nor the other header");
        revoked.add("order", &json!(7));
        assert_eq!(revoked.header_of(&order), Some("order"));
        let unnamed = headers(json!({"stamped_headers": [], "stamps": {"order": 7}}));
        assert_eq!(revoked.header_of(&unnamed), None, "as with Celery, which looks at those that are named");
        for forged in
            [json!({"stamped_headers": 5, "stamps": []}), json!({"stamped_headers": ["order"], "stamps": null})]
        {
            assert_eq!(revoked.header_of(&headers(forged)), None);
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut revoked = Revoked::default();
        for bad in [json!(null), json!([1]), json!({}), json!("x".repeat(256))] {
            revoked.add("a", &bad);
        }
        revoked.add(&"x".repeat(256), &json!(1));
        assert!(revoked.order.is_empty());
        for number in 0..MOST + 2 {
            revoked.add("a", &json!(number));
            revoked.add("a", &json!(number));
        }
        assert_eq!((revoked.order.len(), revoked.stamps.len()), (MOST, MOST));
        let stamped = |number: usize| headers(json!({"stamped_headers": ["a"], "stamps": {"a": number}}));
        assert_eq!((revoked.header_of(&stamped(1)), revoked.header_of(&stamped(2))), (None, Some("a")));
    }
}
