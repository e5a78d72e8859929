//! The values that frames of both directions are made of: keys and durations as they are read; durations, numbers and all else as
//! they are written.
//!
//! A fraction of a millisecond counts as a whole one, read or written, so that a wait is never cut to nothing.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

use crate::{text::cut, unicode::read_text};

/// A key of a frame, without a copy where it has no escapes.
pub(super) struct Name<'a>(pub(super) std::borrow::Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_text(deserializer).map(Self)
    }
}

impl Name<'_> {
    /// As it may stand in a log line.
    pub(super) fn shown(&self) -> String {
        cut(&self.0, 64).to_owned()
    }
}

/// A duration in milliseconds; a fraction counts as a whole one.
pub(super) struct Millis(pub(super) Duration);

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl de::Visitor<'_> for Number {
            type Value = Millis;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of milliseconds, 0 or more")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Millis, E> {
                Ok(Millis(Duration::from_millis(number)))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Millis, E> {
                if number < 0.0 {
                    return Err(E::invalid_value(de::Unexpected::Float(number), &self));
                }
                Ok(Millis(Duration::from_millis(number.ceil() as u64)))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

/// Milliseconds for a frame; rounded up, so that a wait is never cut to nothing.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Appends a value as JSON.
pub(super) fn push_json<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("strings and maps with string keys are written to memory without fail");
}

/// Appends a number.
pub(super) fn push_number(out: &mut Vec<u8>, number: u64) {
    push_json(out, &number);
}

/// Appends JSON as one line. Valid JSON has line ends only between tokens; a frame has none.
pub(super) fn push_one_line(json: &RawValue, out: &mut Vec<u8>) {
    out.extend(json.get().bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
}
