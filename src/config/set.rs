//! The syntax of `--set KEY=YAML`.

/// Splits an option into the segments of its key and the text of its value. A segment that holds dots or an equals
/// sign is put in double quotes.
pub(super) fn split(option: &str) -> Result<(Vec<String>, &str), &'static str> {
    let mut path = Vec::new();
    let mut rest = option;
    loop {
        let key;
        (key, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or("a \" in the key is not closed")?,
            None => rest.split_at(rest.find(['.', '=']).ok_or("there is no = in it")?),
        };
        if key.trim().is_empty() {
            return Err("its key has an empty part");
        }
        path.push(key.trim().to_owned());
        if let Some(value) = rest.strip_prefix('=') {
            return if path.len() > 8 { Err("its key has too many parts") } else { Ok((path, value)) };
        }
        rest = rest.strip_prefix('.').ok_or("after a quoted part of the key comes . or =")?;
    }
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
        for bad in ["", "x", "=1", "a..b=1", ".a=1", "a.=1", "\"a=1", "\"a\"b=1", "\"\"=1", "a.b.c.d.e.f.g.h.i=1"] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }
}
