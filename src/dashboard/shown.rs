//! Texts of workers, producers and brokers on a page: without what a reader cannot see, and not longer than a page can bear.
//!
//! Control characters, marks that turn the direction of reading, and bytes that are no text stand there as escapes. A length is that
//! of the text in the page, in bytes: a template writes some signs as five.

use crate::{redact::redact, text};

/// Bytes that a template makes of a sign.
fn length(letter: char) -> usize {
    if "<>&\"'".contains(letter) { 5 } else { letter.len_utf8() }
}

/// The beginning of a text, at most `longest` bytes in the page; an ellipsis tells that it went on.
fn cut(mut text: String, longest: usize) -> String {
    if let Some(end) = end(&text, longest) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Where a text is to be cut; `None`: it need not be.
fn end(text: &str, longest: usize) -> Option<usize> {
    let mut used = 0;
    text.char_indices().find_map(|(at, letter)| {
        used += length(letter);
        (used > longest).then_some(at)
    })
}

/// A text on one line.
pub(crate) fn line(text: &str, longest: usize) -> String {
    cut(text::escape_line(&redact(text)).into_owned(), longest)
}

/// A text of several lines.
pub(crate) fn lines(text: &str, longest: usize) -> String {
    cut(text::escape_lines(&redact(text)).into_owned(), longest)
}

/// JSON text or bytes of a payload, in which nothing is redacted; `true`: it is not all of it.
pub(crate) fn bytes(bytes: &[u8], most: usize, longest: usize) -> (String, bool) {
    let part = &bytes[..bytes.len().min(most)];
    let is_part = part.len() < bytes.len();
    let mut shown = String::new();
    let mut chunks = part.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        shown.push_str(&text::escape_lines(chunk.valid()));
        // The rest of a letter in which the text was cut is in the part that is not shown.
        if !(is_part && chunks.peek().is_none() && is_begun(chunk.invalid())) {
            shown.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
        }
    }
    let is_cut = end(&shown, longest).is_some();
    (cut(shown, longest), is_cut || is_part)
}

/// Whether these bytes may be the beginning of a letter.
fn is_begun(invalid: &[u8]) -> bool {
    std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_escaped_and_the_rest_stays() {
        assert_eq!(line("a\u{202e}b\u{0}\nc <b>", 100), "a\\u{202e}b\\u{0}\\u{a}c <b>".replace("\\u{a}", "\\n"));
        assert_eq!(lines("a\nb\u{1b}[1m", 100), "a\nb\\u{1b}[1m");
        assert_eq!(line("amqp://u:secret@h/", 100), "amqp://u:***@h/");
        assert_eq!(bytes(b"a\xffb\x00 \xc3\xa9", 100, 100), ("a\\xffb\\u{0} é".to_owned(), false));
    }

    #[test]
    fn a_text_is_as_long_as_the_page_makes_it() {
        assert_eq!(line(&"<".repeat(100), 50), format!("{}…", "<".repeat(10)));
        assert_eq!(line("ééé", 5), "éé…");
        assert_eq!(line("abc", 3), "abc");
        let (shown, is_cut) = bytes("é".repeat(10).as_bytes(), 5, 100);
        assert_eq!((shown.as_str(), is_cut), ("éé", true));
        assert_eq!(bytes(&b"<".repeat(20), 100, 50), (format!("{}…", "<".repeat(10)), true));
        assert_eq!(bytes(b"\xc3", 100, 100), ("\\xc3".to_owned(), false));
    }
}
