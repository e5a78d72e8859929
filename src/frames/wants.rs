//! The parts of a task frame that a worker asks for in its ready frame: `"wants":["properties"]`.
//!
//! A list, so that later versions can add entries: one that this master does not know changes nothing, whatever it is.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::values::Name;
use crate::text::cut;

/// The entry of [`Wants::properties`].
pub(super) const PROPERTIES: &str = "properties";
/// The entry of [`Wants::celery`].
const CELERY: &str = "celery";

/// What a worker asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// `"properties"`: those of the message.
    pub properties: bool,
    /// `"celery"`: bodies as they came, and what [`celery`](super::celery) holds.
    pub celery: bool,
    /// The first of the entries that are not known, as they are written, cut.
    pub unknown: Vec<String>,
}

/// Entries that are not known and are remembered, to be told.
const UNKNOWN: usize = 8;

impl<'de> Deserialize<'de> for Wants {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Wants;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of what is wanted")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Wants, A::Error> {
                let mut wants = Wants::default();
                while let Some(entry) = entries.next_element::<&RawValue>()? {
                    match serde_json::from_str::<Name<'_>>(entry.get()) {
                        Ok(name) if name.0 == PROPERTIES => wants.properties = true,
                        Ok(name) if name.0 == CELERY => wants.celery = true,
                        _ if wants.unknown.len() == UNKNOWN => {}
                        // As it is written: so it is one line, and it is seen if it is no text.
                        _ => wants.unknown.push(cut(entry.get(), 64).to_owned()),
                    }
                }
                Ok(wants)
            }
        }
        deserializer.deserialize_seq(Entries)
    }
}
