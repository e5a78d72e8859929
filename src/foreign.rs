//! Text of others as it may be shown: of workers, producers, brokers, of whoever typed it.
//!
//! A terminal obeys control characters, a reader of lines takes a line end in a text for the end of the line, and some
//! letters change the order in which others are read, or cannot be seen at all. Wherever such a text is shown, these are
//! written as escapes, `\u{1b}`; everywhere by the same rule, which is this one.

use std::borrow::Cow;

/// Whether a letter is not to be shown as it is.
#[must_use]
pub(crate) fn is_obeyed(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            // Line and paragraph separators, and what sets the direction of reading.
            '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}' | '\u{61c}' | '\u{200e}' | '\u{200f}'
            // What cannot be seen. The joiners of letters, which change how words look, may stay.
            | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A text of several lines; line ends and tabs stay.
#[must_use]
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |letter| is_obeyed(letter) && !matches!(letter, '\n' | '\t'))
}

/// A text that is to stand on one line; tabs stay.
#[must_use]
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |letter| is_obeyed(letter) && letter != '\t')
}

/// A text of several lines, all but the first indented.
#[must_use]
pub(crate) fn indented(text: &str) -> String {
    lines(text.trim_end()).replace('\n', "\n  ")
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
    fn what_is_obeyed_is_escaped() {
        let text = "a\x1b[31m\r\u{85}\u{2028}\u{202e}\u{200b}\u{feff}\u{7f}\0\tb\nc";
        let all = "a\\u{1b}[31m\\r\\u{85}\\u{2028}\\u{202e}\\u{200b}\\u{feff}\\u{7f}\\u{0}\tb";
        assert_eq!(lines(text), format!("{all}\nc"));
        assert_eq!(line(text), format!("{all}\\nc"));
        assert_eq!(indented(text), format!("{all}\n  c"));
        assert!(matches!(lines("Grüße, 日本, می‌خواهم\n"), Cow::Borrowed(_)));
    }
}
