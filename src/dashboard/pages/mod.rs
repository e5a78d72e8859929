//! The pages, drawn here: each is whole without a script.

pub(crate) mod api;
pub(crate) mod chart;
mod command;
pub(crate) mod dead_letter;
pub(crate) mod dead_letters;
pub(crate) mod ended;
pub(crate) mod filter;
pub(crate) mod overview;
pub(crate) mod queue;
pub(crate) mod schedules;
pub(crate) mod task;
pub(crate) mod tasks;

use super::{
    access::visitor::Visitor,
    assets::{SCRIPT, STYLE},
    numbers::Numbers,
    office::Snapshot,
    shown, words,
};
use crate::clock::{Clock, Timestamp};

/// Bytes of a name in a page.
const NAME: usize = 600;
/// Bytes of a sentence about the master.
const SENTENCE: usize = 2000;
/// What stands for a state that the master does not tell at this moment.
const NOT_KNOWN: &str = "not known";

/// A text under the key by which it changes while it is seen.
pub(crate) struct Cell {
    pub(crate) key: String,
    /// Of the style.
    pub(crate) class: &'static str,
    pub(crate) text: String,
}

/// What each page has around it.
pub(crate) struct Frame {
    pub(crate) title: String,
    /// The path of the tab that is shown as the present one.
    pub(crate) tab: &'static str,
    pub(crate) style: String,
    pub(crate) script: String,
    /// Who looks.
    pub(crate) visitor: String,
    /// Who has a session can end it.
    pub(crate) can_leave: bool,
    pub(crate) health: Health,
    /// The command that shows the same.
    pub(crate) command: String,
}

/// The state of the master in a sentence.
pub(crate) struct Health {
    /// A word that is also a class of the style: `good`, `bad`, `unknown`.
    pub(crate) class: &'static str,
    pub(crate) sentence: String,
}

impl Frame {
    pub(crate) fn new(title: &str, tab: &'static str, visitor: &Visitor, snapshot: &Snapshot, command: &str) -> Self {
        Self {
            title: shown::line(title, NAME),
            tab,
            style: format!("/assets/{}", STYLE.name),
            script: format!("/assets/{}", SCRIPT.name),
            visitor: visitor.shown().to_owned(),
            can_leave: visitor.has_session,
            health: Health::of(snapshot, Clock::wall()),
            command: command.to_owned(),
        }
    }
}

impl Health {
    fn of(snapshot: &Snapshot, now: Timestamp) -> Self {
        let Self { class, sentence } = Self::told(snapshot, now);
        Self { class, sentence: shown::line(&sentence, SENTENCE) }
    }

    fn told(snapshot: &Snapshot, now: Timestamp) -> Self {
        if let Some(error) = &snapshot.unreachable {
            let heard = match snapshot.status_at.0 {
                0 => "it was not heard of yet".to_owned(),
                at => format!("last heard of {} ago", words::seconds(now.0.saturating_sub(at).max(0) as f64 / 1000.0)),
            };
            return Self { class: "unknown", sentence: format!("The master does not answer ({error}); {heard}.") };
        }
        let problems: Vec<&str> = snapshot.health["problems"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(serde_json::Value::as_str)
            .collect();
        match problems.as_slice() {
            _ if snapshot.health.is_null() => {
                Self { class: "unknown", sentence: "The master was not asked yet.".to_owned() }
            }
            [] => {
                Self { class: "good", sentence: format!("All is well: tasks are taken and done.{}", paused(snapshot)) }
            }
            [only] => Self { class: "bad", sentence: format!("Not well: {only}.") },
            [first, others @ ..] => {
                Self { class: "bad", sentence: format!("Not well: {first}; and {} more.", others.len()) }
            }
        }
    }
}

/// Of queues that somebody has paused no task is taken, and that is as it should be.
fn paused(snapshot: &Snapshot) -> String {
    let queues = snapshot.status["queues"].as_object().into_iter().flatten();
    let paused = queues.filter(|(_, queue)| queue["paused"].is_object()).map(|(name, _)| name.as_str());
    match paused.collect::<Vec<_>>().as_slice() {
        [] => String::new(),
        [only] => format!(" But {only} is paused."),
        [first, others @ ..] => format!(" But {first} and {} more are paused.", others.len()),
    }
}

/// What changes around every page.
pub(crate) fn frame_numbers(snapshot: &Snapshot) -> Numbers {
    let health = Health::of(snapshot, Clock::wall());
    [("health".to_owned(), health.sentence), ("health-class".to_owned(), health.class.to_owned())].into()
}

/// A segment of a path as it was before it was put there.
pub(crate) fn decoded(segment: &str) -> String {
    let bytes = segment.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%').then(|| segment.get(at + 1..at + 3)).flatten();
        if let Some(byte) = escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            plain.push(byte);
            at += 3;
        } else {
            plain.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// A text as a segment of a path or a value of a query.
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            encoded.extend(['%', hex(byte >> 4), hex(byte & 15)]);
        }
    }
    encoded
}

fn hex(digit: u8) -> char {
    char::from_digit(digit.into(), 16).unwrap_or('0').to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_is_decoded() {
        for text in ["foo", "a/b?c=d&e#f", "ü \u{0}\n%41", "<script>", ""] {
            assert_eq!(decoded(&encoded(text)), text);
        }
        assert_eq!([decoded("%zz%4"), decoded("%ff")], ["%zz%4", "\u{fffd}"]);
    }
}
