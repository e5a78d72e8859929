//! Redacts the passwords of addresses in texts that are shown: a command line or a payload may hold the address of a broker or
//! database.
//!
//! A redacted text may be cut; a text that was cut may never be redacted afterwards: half an address may show a password as its
//! end. It is better to redact too much than too little: a password that was not escaped may hold any letter, so everything up to
//! the last `@` that could belong to the address is redacted, and anything that could be a password without one.

use std::borrow::Cow;

/// How far a password with blanks and quotes in it is searched for, in bytes.
const FAR: usize = 512;

/// An address's parameter with one of these in its name is a secret: nothing is shown from there on.
const SECRET: [&str; 8] = ["pass", "pwd", "secret", "token", "key=", "credential", "signature", "sig="];

/// The text with the passwords of all addresses in it replaced by `***`. An address ends at a blank or a quote, unless what
/// stands before that is half of a user and password.
#[must_use]
pub(crate) fn redact(text: &str) -> Cow<'_, str> {
    if begin(text).is_none() {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = begin(rest) {
        let (before, address) = rest.split_at(start);
        shown.push_str(before);
        let (address, after) = address.split_at(end(address));
        push_redacted(address, &mut shown);
        rest = after;
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// One address or what was meant to be one, without its password. Blanks and quotes are part of it.
#[must_use]
pub(crate) fn redact_address(text: &str) -> String {
    let Some(start) = begin(text).or_else(|| text.contains('@').then_some(0)) else { return text.to_owned() };
    let (before, address) = text.split_at(start);
    let mut shown = before.to_owned();
    push_redacted(address, &mut shown);
    shown
}

/// Where the next address begins, behind its `://` however that is written, or behind `amqp:` of one without.
fn begin(text: &str) -> Option<usize> {
    let sign = |(at, _): (usize, &str)| {
        let (before, after) = text.split_at(at);
        if after.starts_with("://") {
            return Some(at + 3);
        }
        if after.starts_with(r":\/\/") {
            return Some(at + 5);
        }
        if after.get(..9).is_some_and(|sign| sign.eq_ignore_ascii_case("%3a%2f%2f")) {
            return Some(at + 9);
        }
        let scheme = before.rsplit(|letter: char| !letter.is_ascii_alphanumeric()).next().unwrap_or_default();
        let is_ours = scheme.eq_ignore_ascii_case("amqp") || scheme.eq_ignore_ascii_case("amqps");
        (after.starts_with(':') && is_ours).then_some(at + 1)
    };
    text.match_indices([':', '%']).find_map(sign)
}

/// Where an address ends that begins this text.
fn end(text: &str) -> usize {
    let ends = |letter: char| letter.is_whitespace() || "\"'`".contains(letter);
    let near = text.find(ends).unwrap_or(text.len());
    // Addresses of one list.
    let next = text[..near].match_indices([',', ';']).find(|(at, _)| is_address(&text[at + 1..near]));
    let near = next.map_or(near, |(at, _)| at);
    if text[..near].contains('@') || text[..near].contains("%40") || !is_half(&text[..near]) {
        return near;
    }
    // A password with a blank or quote in it, perhaps: up to its @.
    let rest = &text[near..text.floor_char_boundary(near + FAR)];
    let line = rest.split('\n').next().unwrap_or_default();
    match line.find('@') {
        Some(at) => {
            let at = near + at;
            text[at..].find(ends).map_or(text.len(), |more| at + more)
        }
        None => near,
    }
}

/// Whether a scheme stands at the beginning.
fn is_address(text: &str) -> bool {
    let after = text.trim_start_matches(|letter: char| letter.is_ascii_alphanumeric() || "+.-".contains(letter));
    after.len() < text.len() && after.starts_with("://")
}

/// Whether this looks like a user and the beginning of a password: a colon follows, and no number of a port.
fn is_half(text: &str) -> bool {
    let text = text.trim_start_matches('/');
    let authority = text.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.starts_with('[') {
        return false;
    }
    match authority.split_once(':') {
        Some((_, port)) => {
            port.is_empty() || !port.bytes().take_while(|byte| *byte != b',').all(|byte| byte.is_ascii_digit())
        }
        None => false,
    }
}

fn push_redacted(address: &str, shown: &mut String) {
    // What a parameter says, whatever it holds, to the end.
    let address = match parameter(address) {
        Some(value) => Cow::Owned(format!("{}***", &address[..value])),
        None => Cow::Borrowed(address),
    };
    let at = address.rfind('@').into_iter().chain(address.rfind("%40")).max();
    match at {
        Some(at) => {
            let (user, host) = address.split_at(at);
            match user.split_once(':') {
                Some((user, _)) => shown.extend([user, ":***", host]),
                // A token, perhaps.
                None => shown.extend(["***", host]),
            }
        }
        None if is_half(&address) => {
            shown.push_str(address.split(':').next().unwrap_or_default());
            shown.push_str(":***");
        }
        None => shown.push_str(&address),
    }
}

/// Where the value of the first parameter begins that is a secret.
fn parameter(address: &str) -> Option<usize> {
    let is_secret = |name: &str| {
        let name = name.to_ascii_lowercase() + "=";
        SECRET.iter().any(|word| name.contains(word))
    };
    let mut names = address.match_indices(['?', '&', ';']).filter_map(|(at, _)| {
        // Up to the next of any of these: each letter is looked at once.
        let equals = at + 1 + address[at + 1..].find(['=', '?', '&', ';'])?;
        (address[equals..].starts_with('=') && is_secret(&address[at + 1..equals])).then_some(equals + 1)
    });
    names.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_redacted_wherever_they_stand() {
        for (text, shown) in [
            ("{a: amqp://u:p@h/v, b: 'amqp://x:y@z'}", "{a: amqp://u:***@h/v, b: 'amqp://x:***@z'}"),
            ("http://h:80/ and no more", "http://h:80/ and no more"),
            ("redis://:p@h", "redis://:***@h"),
            ("AMQP://U:P@H", "AMQP://U:***@H"),
            ("https://token@h/x", "https://***@h/x"),
            ("amqp://u:p@[::1]:5672/v amqp://[::1]:5672/v", "amqp://u:***@[::1]:5672/v amqp://[::1]:5672/v"),
            ("--to=amqp://u:a@b#c/d?e%f:g@h:1/v -x", "--to=amqp://u:***@h:1/v -x"),
            ("amqp://a:x@h1/v,amqp://b:y@h2/v;amqps://h3", "amqp://a:***@h1/v,amqp://b:***@h2/v;amqps://h3"),
            ("amqps://h/v?heartbeat=5&password=a@b&c", "amqps://h/v?heartbeat=5&password=***"),
            ("postgres://h/d?sslpassword=x", "postgres://h/d?sslpassword=***"),
            ("amqps://u:p@h?cacertfile=/a.pem&keyfile=/b.pem", "amqps://u:***@h?cacertfile=/a.pem&keyfile=/b.pem"),
            (r#"{"u":"amqp:\/\/u:p@h\/v"}"#, r#"{"u":"amqp:\/\/u:***@h\/v"}"#),
            ("to=amqp%3A%2F%2Fu%3Ap%40h", "to=amqp%3A%2F%2F***%40h"),
            ("amqp:/u:p@h amqp:u:p@h", "amqp:/u:***@h amqp:u:***@h"),
            ("cannot reach amqp://u:one two'three@h/v: no", "cannot reach amqp://u:***@h/v: no"),
            ("cut: amqp://u:secr", "cut: amqp://u:***"),
            ("http://localhost:80, see a@b", "http://localhost:80, see a@b"),
        ] {
            assert_eq!(redact(text), shown);
            assert_eq!(redact(&redact(text)), shown, "twice");
        }
        assert!(matches!(redact("nothing: at 5 %"), Cow::Borrowed(_)));
        // Texts of others: a megabyte of any of these takes no time worth mentioning.
        for piece in [",", "&", ";", "x://a: ", "?a&", "://", "%3a%2f%2f", "amqp:"] {
            let text = format!("http://{}", piece.repeat(1_000_000 / piece.len()));
            assert!(redact(&text).starts_with("http:"), "{piece}");
        }
        assert_eq!(redact_address("amqp://u:a \"b'@h/v"), "amqp://u:***@h/v");
        assert_eq!(redact_address("u:p@h"), "u:***@h");
        assert_eq!(redact_address("sqlite:a.db"), "sqlite:a.db");
    }
}
