//! What a broker says against a declare that does not fit a queue, taken apart.

/// What a queue has instead.
#[derive(Debug, PartialEq)]
pub(crate) enum Current<'a> {
    None,
    /// The type is told where we sent none, or one of another class.
    Value {
        value: &'a str,
        kind: Option<&'a str>,
    },
}

/// Takes apart `inequivalent arg 'x' for queue … but current is the value 'v' of type 't'` (or `… is 'v'`, or `… is none`).
pub(crate) fn differing(text: &str) -> Option<(&str, Current<'_>)> {
    let (name, rest) = text.split_once("inequivalent arg '")?.1.split_once('\'')?;
    let current = rest.rsplit_once("but current is ")?.1;
    if current.starts_with("none") {
        return Some((name, Current::None));
    }
    if let Some(value) = current.strip_prefix("the value '") {
        let (value, kind) = value.split_once("' of type '")?;
        return Some((name, Current::Value { value, kind: Some(kind.trim_end_matches('\'')) }));
    }
    let value = current.strip_prefix('\'')?.trim_end_matches('\'');
    Some((name, Current::Value { value, kind: None }))
}
