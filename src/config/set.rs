//! The syntax of `--set KEY=YAML`.

/// Splits an option into the segments of its key and the text of its value. A segment that holds dots or an equals
/// sign is put in double quotes, in which a backslash stands before `"` and `\`.
pub(super) fn split(option: &str) -> Result<(Vec<String>, &str), &'static str> {
    let mut path = Vec::new();
    let mut rest = option;
    loop {
        let key;
        (key, rest) = if let Some(quoted) = rest.strip_prefix('"') {
            quoted_key(quoted).ok_or("a \" in the key is not closed")?
        } else {
            let (key, rest) = rest.split_at(rest.find(['.', '=']).ok_or("there is no = in it")?);
            (key.trim().to_owned(), rest)
        };
        if key.is_empty() {
            return Err("its key has an empty part");
        }
        path.push(key);
        if let Some(value) = rest.strip_prefix('=') {
            return if path.len() > 8 { Err("its key has too many parts") } else { Ok((path, value)) };
        }
        rest = rest.strip_prefix('.').ok_or("after a quoted part of the key comes . or =")?;
    }
}

/// What stands before the closing quote, and what follows it; `\"` and `\\` stand for themselves.
fn quoted_key(text: &str) -> Option<(String, &str)> {
    let mut key = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((key, &text[at + 1..])),
            '\\' => key.push(letters.next()?.1),
            _ => key.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values() {
        let good = |option| split(option).map(|(path, value)| (path.join("|"), value.to_owned())).unwrap();
        assert_eq!(good("transport=amqp://h?a=b"), ("transport".into(), "amqp://h?a=b".into()));
        assert_eq!(good("workers.\"a.b\".processes=2"), ("workers|a.b|processes".into(), "2".into()));
        assert_eq!(good("\"a=b\"="), ("a=b".into(), String::new()));
        assert_eq!(good(r#"workers." a/\"b\\ ".processes=2"#), ("workers| a/\"b\\ |processes".into(), "2".into()));
        for bad in ["", "x", "=1", "a..b=1", ".a=1", "a.=1", "\"a=1", "\"a\"b=1", "\"\"=1", "a.b.c.d.e.f.g.h.i=1"] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }
}
