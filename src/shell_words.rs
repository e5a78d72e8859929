//! A command line split into words as a shell would, with nothing expanded.
//!
//! The settings check a schedule's command with this, and the worker that runs it splits it with this: what passes the
//! one must mean the same to the other.

/// Why a text is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// There is no word in it.
    #[error("it names no program")]
    Empty,
    /// A quote does not end.
    #[error("a {0} is not closed")]
    Quote(char),
    /// The last character is a backslash.
    #[error("nothing follows the last \\")]
    Backslash,
}

/// A word as it is typed in a shell, in quotes where it needs them.
#[must_use]
pub(crate) fn as_word(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_-./:@%+=,".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The words of `text`: separated by blanks and line ends, kept together by `'…'`, `"…"` and backslashes. Between double
/// quotes a backslash takes away the meaning of `"`, `\`, `$` and a backquote, before any other it stands for itself; a
/// backslash before a line end joins the lines. `$`, `*` and `;` are ordinary characters.
///
/// # Errors
/// [`SplitError`]. The result is never empty.
pub fn split(text: &str) -> Result<Vec<String>, SplitError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        match next {
            // Not all that Unicode calls white space: to a shell a no-break space is a letter.
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\\' => match rest.next().ok_or(SplitError::Backslash)? {
                '\n' => {}
                next => word.get_or_insert_default().push(next),
            },
            '\'' | '"' => quoted(next, &mut rest, word.get_or_insert_default())?,
            _ => word.get_or_insert_default().push(next),
        }
    }
    words.extend(word);
    if words.is_empty() { Err(SplitError::Empty) } else { Ok(words) }
}

/// Takes what stands before the closing `quote`, and the quote.
fn quoted(quote: char, rest: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), SplitError> {
    loop {
        match rest.next().ok_or(SplitError::Quote(quote))? {
            next if next == quote => return Ok(()),
            '\\' if quote == '"' => match rest.next().ok_or(SplitError::Quote(quote))? {
                '\n' => {}
                next @ ('"' | '\\' | '$' | '`') => word.push(next),
                next => word.extend(['\\', next]),
            },
            next => word.push(next),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_does() {
        for (text, words) in [
            ("backup --all", &["backup", "--all"][..]),
            ("  a\t b\n", &["a", "b"]),
            (r#"echo 'a b' "c d"e"#, &["echo", "a b", "c de"]),
            (r#"a '' "" b"#, &["a", "", "", "b"]),
            (r"a\ b \'c \\", &["a b", "'c", r"\"]),
            (r#""\"\\\$\n" '\n'"#, &[r#""\$\n"#, r"\n"]),
            ("a \\\nb \"c\\\nd\"", &["a", "b", "cd"]),
            ("a\u{a0}b", &["a\u{a0}b"]),
            ("echo $HOME * ~ ; rm # x", &["echo", "$HOME", "*", "~", ";", "rm", "#", "x"]),
        ] {
            assert_eq!(split(text).unwrap(), words, "{text}");
        }
    }

    #[test]
    fn what_does_not_end_is_refused() {
        assert_eq!(split(" \n"), Err(SplitError::Empty));
        assert_eq!(split("a 'b"), Err(SplitError::Quote('\'')));
        assert_eq!(split(r#"a "b\""#), Err(SplitError::Quote('"')));
        assert_eq!(split("a\\"), Err(SplitError::Backslash));
    }

    #[test]
    fn what_is_quoted_is_one_word_again() {
        for word in ["a-1", "", "it's", "a b", "$(x) `y` \"z\" \\", "é\n"] {
            assert_eq!(split(&format!("x {}", as_word(word))).unwrap(), ["x", word]);
        }
        assert_eq!(as_word("0198-a.b"), "0198-a.b");
    }
}
