//! Substitutes values of the environment in scalars, by the syntax of compose files.
//!
//! ```text
//! ${NAME}             its value; unset is an error
//! ${NAME:-default}    the default where it is unset or empty; ${NAME-default}: where it is unset
//! ${NAME:?message}    an error with this message where it is unset or empty; ${NAME?message}: where it is unset
//! ${NAME:+instead}    `instead` where it is set and not empty, else nothing; ${NAME+instead}: where it is set
//! $${                 ${ itself
//! ```
//!
//! What follows the sign may hold `${…}` again. What was put in is text: it is not looked at once more.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    iter::Peekable,
    str::CharIndices,
};

/// Deeper than this no default stands in a default.
const MAX_DEPTH: usize = 8;

/// Replaces each `${…}`. `None` if there is nothing to replace.
pub(super) fn substitute(text: &str, environment: &BTreeMap<OsString, OsString>) -> Result<Option<String>, String> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut reader = Reader { text, rest: text.char_indices().peekable(), environment };
    let mut result = String::new();
    reader.until_end(Some(&mut result), 0)?;
    Ok(Some(result))
}

/// A text that is read again as it is: each `${` in it stands for itself.
pub(super) fn escaped(text: &str) -> String {
    text.replace("${", "$${")
}

struct Reader<'a> {
    text: &'a str,
    rest: Peekable<CharIndices<'a>>,
    environment: &'a BTreeMap<OsString, OsString>,
}

impl<'a> Reader<'a> {
    /// Reads to the end of the text or, within `${…}`, past the `}` that closes it. What is not wanted (a default that is
    /// not needed) is checked for its form alone: its variables may be unset.
    fn until_end(&mut self, mut into: Option<&mut String>, depth: usize) -> Result<(), String> {
        while let Some((_, letter)) = self.rest.next() {
            let after = &self.text[self.place()..];
            if letter == '}' && depth > 0 {
                return Ok(());
            }
            if letter == '$' && after.starts_with("${") {
                self.rest.nth(1);
                put(&mut into, "${");
            } else if letter == '$' && after.starts_with('{') {
                self.rest.next();
                self.variable(into.as_deref_mut(), depth + 1)?;
            } else {
                put(&mut into, letter.encode_utf8(&mut [0; 4]));
            }
        }
        if depth > 0 { Err(NOT_CLOSED.to_owned()) } else { Ok(()) }
    }

    /// Reads what stands between `${` and its `}`, and the `}`.
    fn variable(&mut self, into: Option<&mut String>, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err("${…} is nested too deep".to_owned());
        }
        let name = self.name()?;
        let set = self.environment.get(OsStr::new(name));
        let if_empty = self.rest.next_if(|(_, letter)| *letter == ':').is_some();
        let value = set.filter(|value| !if_empty || !value.is_empty());
        match (self.rest.next().map(|(_, letter)| letter), if_empty) {
            (Some('}'), false) => match (set, into) {
                (Some(value), Some(into)) => into.push_str(unicode(name, value)?),
                (None, Some(_)) => return Err(format!("the environment variable {name} is not set")),
                (_, None) => {}
            },
            (Some('-'), _) => match value {
                Some(value) => {
                    self.until_end(None, depth)?;
                    if let Some(into) = into {
                        into.push_str(unicode(name, value)?);
                    }
                }
                None => self.until_end(into, depth)?,
            },
            (Some('+'), _) => self.until_end(into.filter(|_| value.is_some()), depth)?,
            (Some('?'), _) => {
                let start = self.place();
                self.until_end(None, depth)?;
                match (value, into) {
                    (Some(value), Some(into)) => into.push_str(unicode(name, value)?),
                    // As it is written: what other variables hold may be secret.
                    (None, Some(_)) => {
                        return Err(missing(name, set.is_some(), self.text[start..self.place() - 1].trim()));
                    }
                    (_, None) => {}
                }
            }
            (None, _) => return Err(NOT_CLOSED.to_owned()),
            (Some(_), _) => return Err(NOT_A_NAME.to_owned()),
        }
        Ok(())
    }

    fn name(&mut self) -> Result<&'a str, String> {
        if self.rest.peek().is_none() {
            return Err(NOT_CLOSED.to_owned());
        }
        let start = self.place();
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        while self.rest.next_if(|(_, letter)| is_part(*letter)).is_some() {}
        let name = &self.text[start..self.place()];
        if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(NOT_A_NAME.to_owned());
        }
        Ok(name)
    }

    /// Where the next character stands.
    fn place(&mut self) -> usize {
        self.rest.peek().map_or(self.text.len(), |(at, _)| *at)
    }
}

fn put(into: &mut Option<&mut String>, text: &str) {
    if let Some(into) = into {
        into.push_str(text);
    }
}

const NOT_CLOSED: &str = "a ${ is not closed; write $${ for the characters themselves";
const NOT_A_NAME: &str = "between ${ and } stands the name of an environment variable, which :-default or :?message may \
                          follow; write $${ for the characters themselves";

/// The value of a variable as text, which a setting must be.
fn unicode<'a>(name: &str, value: &'a OsStr) -> Result<&'a str, String> {
    value.to_str().ok_or_else(|| format!("the environment variable {name} is not UTF-8"))
}

fn missing(name: &str, is_empty: bool, message: &str) -> String {
    let state = if is_empty { "is empty" } else { "is not set" };
    let colon = if message.is_empty() { "" } else { ": " };
    format!("the environment variable {name} {state}{colon}{message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_in(text: &str) -> Result<Option<String>, String> {
        let environment = [("A", "1"), ("B_2", "${A}"), ("E", "")];
        substitute(text, &environment.map(|(name, value)| (name.into(), value.into())).into())
    }

    #[test]
    fn substitution() {
        assert_eq!(put_in("plain $A $$ }").unwrap(), None);
        for (text, result) in [
            ("<${A}${B_2}>", "<1${A}>"),
            ("$${A} $$${A} ${A}", "${A} $${A} 1"),
            ("${A:-x}${E:-x}${E-x}${NO:-x}${NO-x}", "1xxx"),
            ("${A:?x}${A?x}${E?x}.", "11."),
            ("${A:+x}${A+x}${E:+y}${E+x}${NO+y}${NO:+y}", "xxx"),
            ("${NO:-amqp://u:p@h/%2f?a=b}", "amqp://u:p@h/%2f?a=b"),
            ("${NO:-}|${NO:- a b }", "| a b "),
            ("${NO:-${A}}${NO:-<${E:-${A}${NO-z}}>}", "1<1z>"),
            ("${A:-${NO}}${A:-${NO:?why}}", "11"),
            ("${NO:-$${ü} ü}}", "${ü ü}}"),
            ("${NO:-a:-b?c}", "a:-b?c"),
            ("ü${A}ü", "ü1ü"),
        ] {
            assert_eq!(put_in(text).unwrap().unwrap(), result, "{text}");
        }
    }

    #[test]
    fn what_is_missing_is_told_by_name_and_message() {
        for (text, error) in [
            ("${NO}", "the environment variable NO is not set"),
            ("${NO?}", "the environment variable NO is not set"),
            ("${E:?}", "the environment variable E is empty"),
            ("${NO:?give the broker's address}", "the environment variable NO is not set: give the broker's address"),
            ("${E:?by ${A}}", "the environment variable E is empty: by ${A}"),
            ("${E:-${NO}}", "the environment variable NO is not set"),
        ] {
            assert_eq!(put_in(text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn what_is_not_utf_8_is_missed_by_who_asks_for_it() {
        use std::os::unix::ffi::OsStringExt;

        let environment = [("L".into(), OsString::from_vec(b"Gr\xfc".to_vec()))].into();
        for text in ["${L}", "${L:-x}", "${L-x}", "${L:?why}", "${NO:-${L}}"] {
            assert_eq!(
                substitute(text, &environment).unwrap_err(),
                "the environment variable L is not UTF-8",
                "{text}"
            );
        }
        for (text, result) in [("${L:+x}", "x"), ("${L+x}", "x"), ("${NO+${L}}", "")] {
            assert_eq!(substitute(text, &environment).unwrap().unwrap(), result, "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let deep = "${NO:-".repeat(100_000);
        for bad in
            ["${", "${}", "${A", "${A B}", "${1}", "${:-x}", "${A:x}", "${A:}", "${A:-", "${A:-${B}", "${A*}", &deep]
        {
            assert!(put_in(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_escaped_comes_back() {
        for text in ["${A}", "$${A}", "a${", "$$", "${${"] {
            assert_eq!(put_in(&escaped(text)).unwrap().unwrap_or(escaped(text)), text);
        }
    }
}
