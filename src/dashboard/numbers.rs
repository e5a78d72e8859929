//! Texts that change while somebody looks, by the keys under which they stand in a page.

use std::collections::BTreeMap;

/// Texts by their keys.
pub(crate) type Numbers = BTreeMap<String, String>;
