//! Texts of others as they are shown and kept: of workers, producers, brokers, of the command line.
//!
//! A terminal obeys control characters, a reader of lines takes a line end in a text for the end of the line, and some
//! letters change the order in which others are read, or cannot be seen at all. Wherever such a text is shown, these are
//! written as escapes, `\u{1b}`; everywhere by the same rule, which is this one. A text is cut at whole characters only.

use std::borrow::Cow;

/// The beginning of a text, at most `longest` bytes of whole characters.
pub(crate) fn cut(text: &str, longest: usize) -> &str {
    &text[..text.floor_char_boundary(longest)]
}

/// Cuts a text in place, and gives its memory back.
pub(crate) fn bound(text: &mut String, longest: usize) {
    if text.len() > longest {
        text.truncate(cut(text, longest).len());
        text.shrink_to_fit();
    }
}

/// Cuts a text for a line in a log or a table; an ellipsis tells that it went on.
pub(crate) fn shorten(mut text: String, longest: usize) -> String {
    if text.len() > longest {
        bound(&mut text, longest);
        text.push('…');
    }
    text
}

/// The first line of a text, empty without one.
pub(crate) fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Escapes a text for one line of at most about `longest` bytes; tabs stay. A longer one is not read to its end.
pub(crate) fn one_line(text: &str, longest: usize) -> String {
    let mut line = String::new();
    for letter in text.trim_end().chars() {
        if line.len() > longest {
            break;
        }
        if is_unsafe(letter) && letter != '\t' { line.extend(letter.escape_default()) } else { line.push(letter) }
    }
    line
}

/// Whether a letter may not be shown as it is.
pub(crate) fn is_unsafe(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            // Line and paragraph separators, and what sets the direction of reading.
            '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}' | '\u{61c}' | '\u{200e}' | '\u{200f}'
            // What cannot be seen. The joiners of letters, which change how words look, may stay.
            | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Escapes a text of several lines; line ends and tabs stay.
#[must_use]
pub(crate) fn escape_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |letter| is_unsafe(letter) && !matches!(letter, '\n' | '\t'))
}

/// Escapes a text that is to stand on one line; tabs stay.
#[must_use]
pub(crate) fn escape_line(text: &str) -> Cow<'_, str> {
    escaped(text, |letter| is_unsafe(letter) && letter != '\t')
}

/// Escapes a text of several lines, and indents all but the first.
#[must_use]
pub(crate) fn indented(text: &str) -> String {
    escape_lines(text.trim_end()).replace('\n', "\n  ")
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    let Some((first, _)) = text.char_indices().find(|(_, letter)| is_escaped(*letter)) else {
        return Cow::Borrowed(text);
    };
    let mut shown = String::with_capacity(text.len() + 16);
    shown.push_str(&text[..first]);
    for letter in text[first..].chars() {
        if is_escaped(letter) { shown.extend(letter.escape_default()) } else { shown.push(letter) }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_whole_characters() {
        assert_eq!(cut("aüb", 2), "a");
        assert_eq!(shorten("aüb".to_owned(), 3), "aü…");
        assert_eq!(shorten("aüb".to_owned(), 4), "aüb");
        let mut text = "x".repeat(10_000);
        bound(&mut text, 7);
        assert_eq!((text.len(), text.capacity()), (7, 7));
    }

    #[test]
    fn control_characters_are_escaped() {
        let text = "a\x1b[31m\r\u{85}\u{2028}\u{202e}\u{200b}\u{feff}\u{7f}\0\tb\nc";
        let all = "a\\u{1b}[31m\\r\\u{85}\\u{2028}\\u{202e}\\u{200b}\\u{feff}\\u{7f}\\u{0}\tb";
        assert_eq!(escape_lines(text), format!("{all}\nc"));
        assert_eq!(escape_line(text), format!("{all}\\nc"));
        assert_eq!(indented(text), format!("{all}\n  c"));
        assert!(matches!(escape_lines("Grüße, 日本, می‌خواهم\n"), Cow::Borrowed(_)));
    }
}
