//! How much of what others say is kept: one limit for all transports, applied where a text comes in.
//!
//! Workers, producers and brokers say whatever they like. What becomes part of a dead letter, of `status` or of a line of
//! the log is bounded here, in bytes and at whole characters.

/// Longest error of a task. It must fit into a message's headers, beside all others.
pub(crate) const ERROR: usize = 2 * 1024;
/// Longest detail of an error, and longest output, likewise.
pub(crate) const DETAIL: usize = 32 * 1024;
/// Longest note of a task's progress.
pub(crate) const NOTE: usize = 256;
/// Longest text about what a worker, or a broker, did wrong.
pub(crate) const FAULT: usize = 300;
/// Tasks that one outcome may submit: as many as a transport can be asked to store in one step without being deaf for
/// long.
pub(crate) const FOLLOW_UPS: usize = 65_536;
/// Names of queues, chosen by workers, that a transport knows by heart. When there are more, it asks for them again.
pub(crate) const KNOWN_QUEUES: usize = 4096;

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
pub(crate) fn shortened(mut text: String, longest: usize) -> String {
    if text.len() > longest {
        bound(&mut text, longest);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_whole_characters() {
        assert_eq!(cut("aüb", 2), "a");
        assert_eq!(shortened("aüb".to_owned(), 3), "aü…");
        assert_eq!(shortened("aüb".to_owned(), 4), "aüb");
        let mut text = "x".repeat(10_000);
        bound(&mut text, 7);
        assert_eq!((text.len(), text.capacity()), (7, 7));
    }
}
