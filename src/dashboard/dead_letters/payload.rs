//! What of a dead letter may be shown: keys of payloads that are hidden are hidden in every view and in what is saved.

use std::borrow::Cow;

use serde_json::Value;

use crate::{
    dashboard::mask::{HIDDEN, Mask},
    dead_letters::letter,
    payload::Body,
    redact::redact,
    transport::DeadLetter,
};

/// Headers of Celery's that repeat the arguments as a text of Python's, in which no keys are found.
const REPEATED: [&str; 2] = ["argsrepr", "kwargsrepr"];

/// A payload, as far as it may be shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Payload<'a> {
    /// JSON text: its own, or without what is hidden.
    Json(Cow<'a, str>),
    /// It is no JSON.
    Bytes(&'a [u8]),
    /// It is no JSON, so nobody knows what would have to be hidden in it.
    Hidden,
}

/// The payload of a dead letter.
pub(crate) fn payload<'a>(letter: &'a DeadLetter, mask: &Mask) -> Payload<'a> {
    let hides = !mask.is_empty();
    // JSON in a string is what workers get, and is masked as that.
    match Body::from(letter).json(hides) {
        Ok(text) if hides => Payload::Json(Cow::Owned(mask.text(&text))),
        Ok(text) => Payload::Json(text),
        Err(_) if hides => Payload::Hidden,
        Err(_) => Payload::Bytes(&letter.body),
    }
}

/// The bytes of a payload as they are saved: as they came, or the text without what is hidden. `None`: they are not shown.
pub(crate) fn bytes<'a>(letter: &'a DeadLetter, mask: &Mask) -> Option<Cow<'a, [u8]>> {
    if mask.is_empty() {
        return Some(Cow::Borrowed(&letter.body));
    }
    match payload(letter, mask) {
        Payload::Json(Cow::Owned(text)) => Some(Cow::Owned(text.into_bytes())),
        Payload::Json(Cow::Borrowed(text)) => Some(Cow::Borrowed(text.as_bytes())),
        Payload::Bytes(_) | Payload::Hidden => None,
    }
}

/// All that there is but the payload. Passwords of addresses are redacted in what workers said, as everywhere on the page.
pub(crate) fn facts(letter: &DeadLetter, mask: &Mask) -> Value {
    let mut facts = letter::facts(letter);
    for key in ["error", "detail", "output_tail"] {
        redact_in(&mut facts[key]);
    }
    for ending in facts["history"].as_array_mut().into_iter().flatten() {
        redact_in(&mut ending["error"]);
    }
    if !mask.is_empty() {
        let mut headers = mask.apply(facts["headers"].take());
        for name in REPEATED {
            if let Some(header) = headers.get_mut(name) {
                *header = HIDDEN.into();
            }
        }
        facts["headers"] = headers;
    }
    facts
}

/// All that there is, as `asynctask failed show --json` has it.
pub(crate) fn whole(letter: &DeadLetter, mask: &Mask) -> String {
    let facts = facts(letter, mask);
    match payload(letter, mask) {
        Payload::Json(text) => letter::whole_with(&facts, &text, None),
        Payload::Bytes(bytes) => letter::whole_with(&facts, "", Some(bytes)),
        Payload::Hidden => letter::whole_with(&facts, &Value::from(HIDDEN).to_string(), None),
    }
}

fn redact_in(value: &mut Value) {
    if let Some(Cow::Owned(redacted)) = value.as_str().map(redact) {
        *value = redacted.into();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        clock::Timestamp,
        payload::Packing,
        properties::Properties,
        task::{Failure, Reason},
    };

    fn letter(body: &[u8]) -> DeadLetter {
        let failure = Failure::new(Reason::Error, "no luck", Timestamp(0));
        DeadLetter {
            id: "a".to_owned(),
            queue: "foo".to_owned(),
            body: body.to_vec(),
            headers: json!({ "password": "s3cret", "kwargsrepr": "{'password': 's3cret'}", "n": 1_152_921_504_606_846_977_u64 })
                .as_object()
                .cloned()
                .unwrap_or_default(),
            properties: None,
            reason: "error".to_owned(),
            failure,
            first_failed_at: None,
            history: Vec::new(),
            membership: None,
            memo: None,
        }
    }

    #[test]
    fn nothing_that_is_hidden_is_in_any_view() {
        let mask = Mask::new(&["password".to_owned()]);
        let packed = Packing::Gzip.pack(br#"{"password":"s3cret","n":1e400}"#);
        let gzip = Properties { content_encoding: Some("gzip".to_owned()), ..Properties::default() };
        let bodies: [(&[u8], Option<&Properties>); 5] = [
            (br#"{"password": "s3cret", "n": 1e400}"#, None),
            (br#""{\"password\":\"s3cret\",\"n\":1e400}""#, None),
            (b"password=s3cret", None),
            (b"\xff s3cret", None),
            (&packed, Some(&gzip)),
        ];
        for (body, properties) in bodies {
            let letter = DeadLetter { properties: properties.cloned().map(Box::new), ..letter(body) };
            let whole = whole(&letter, &mask);
            let saved = bytes(&letter, &mask).unwrap_or_default();
            for text in [whole.as_bytes(), &saved] {
                assert!(!text.windows(6).any(|part| part == b"s3cret"), "{}", String::from_utf8_lossy(text));
            }
            assert!(!whole.contains(&data_encoding::BASE64.encode(body)), "{whole}");
            assert!(serde_json::from_str::<Box<serde_json::value::RawValue>>(&whole).is_ok());
            assert!(whole.contains("1152921504606846977"));
        }
    }

    #[test]
    fn without_a_mask_all_is_as_it_came() {
        let mask = Mask::default();
        let json = letter(br#"{ "n": 1152921504606846977, "x": 2.50 }"#);
        assert_eq!(bytes(&json, &mask).as_deref(), Some(&json.body[..]));
        assert_eq!(payload(&json, &mask), Payload::Json(r#"{ "n": 1152921504606846977, "x": 2.50 }"#.into()));
        assert_eq!(whole(&json, &mask), letter::whole(&json));
        let binary = letter(b"\x00\xff");
        assert_eq!(payload(&binary, &mask), Payload::Bytes(b"\x00\xff"));
        assert_eq!(bytes(&binary, &mask).as_deref(), Some(&b"\x00\xff"[..]));
    }
}
