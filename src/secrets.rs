//! Passwords in texts: what is shown to somebody may hold the address of a broker or database, as a command line does.
//!
//! What is masked may be cut, what was cut may never be masked: half an address may show a password as its end.

use std::borrow::Cow;

/// The text with the passwords of all addresses in it replaced by `***`. An address ends at a blank or a quote.
#[must_use]
pub(crate) fn masked(text: &str) -> Cow<'_, str> {
    if !text.contains("://") {
        return Cow::Borrowed(text);
    }
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(colon) = rest.find("://") {
        let (before, address) = rest.split_at(colon + 3);
        masked.push_str(before);
        let end = address.find(|c: char| c.is_whitespace() || "\"'".contains(c)).unwrap_or(address.len());
        let (address, after) = address.split_at(end);
        match address.rfind('@').and_then(|at| Some((address[..at].split_once(':')?.0, &address[at..]))) {
            Some((user, host)) => masked.extend([user, ":***", host]),
            None => masked.push_str(address),
        }
        rest = after;
    }
    masked.push_str(rest);
    Cow::Owned(masked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_masked_wherever_they_stand() {
        assert_eq!(masked("{a: amqp://u:p@h/v, b: 'amqp://x:y@z'}"), "{a: amqp://u:***@h/v, b: 'amqp://x:***@z'}");
        assert_eq!(masked("http://h:80/ and no more"), "http://h:80/ and no more");
        assert_eq!(masked("redis://:p@h"), "redis://:***@h");
        assert!(matches!(masked("nothing"), Cow::Borrowed("nothing")));
    }
}
