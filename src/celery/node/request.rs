//! A request of Celery's remote control, read from the body of a message. Pure.
//!
//! Anyone with an account at the broker can send one. The size is looked at first, then the whole is read once; nothing of it is
//! believed to be of any type.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::glob;

/// Longest body of a request, in bytes.
pub(super) const BODY_LIMIT: usize = 64 * 1024;
/// … but for `hello`, in which a node that starts tells all ids that it knows as revoked.
pub(super) const HELLO_LIMIT: usize = 4 * 1024 * 1024;
/// Longest ticket or routing key of whoever waits for the reply.
const WORD_LIMIT: usize = 255;
/// Where all replies go. No other exchange is published to: a request may name any.
pub(super) const REPLY_EXCHANGE: &str = "reply.celery.pidbox";

/// A request to this node.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Request {
    /// What is asked for.
    pub(super) method: String,
    /// With these arguments.
    pub(super) arguments: Map<String, Value>,
    /// Who waits for the reply; `None`: nobody does.
    pub(super) reply_to: Option<ReplyTo>,
}

/// Who waits for a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReplyTo {
    pub(super) routing_key: String,
    /// What the reply is told apart by.
    pub(super) ticket: Option<String>,
}

/// Why a body is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unread {
    /// Longer than any request.
    #[error("too long")]
    TooLong,
    /// Not JSON, or not of the form of a request.
    #[error("not readable")]
    Malformed,
}

/// The message, as far as it is typed.
#[derive(Deserialize)]
struct Message {
    method: String,
    #[serde(default)]
    arguments: Option<Map<String, Value>>,
    #[serde(default)]
    destination: Option<Destination>,
    #[serde(default)]
    pattern: Option<String>,
    #[serde(default)]
    matcher: Option<String>,
    #[serde(default)]
    ticket: Option<String>,
    #[serde(default)]
    reply_to: Option<Reply>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Destination {
    One(String),
    Some(Vec<String>),
}

#[derive(Deserialize)]
struct Reply {
    exchange: String,
    routing_key: String,
}

/// What a request of this size costs of the node's budget: as much as so many small ones.
pub(super) fn cost(length: usize) -> f64 {
    (length as f64 / BODY_LIMIT as f64).max(1.0)
}

/// Reads a body. `Ok(None)`: it is for others.
///
/// # Errors
/// It is no request.
pub(super) fn read(body: &[u8], node: &str) -> Result<Option<Request>, Unread> {
    if body.len() > limit(body) {
        return Err(Unread::TooLong);
    }
    let message: Message = serde_json::from_slice(body).map_err(|_| Unread::Malformed)?;
    if !message.is_for(node) {
        return Ok(None);
    }
    let reply_to = match message.reply_to {
        Some(reply) if reply.exchange != REPLY_EXCHANGE || reply.routing_key.len() > WORD_LIMIT => {
            return Err(Unread::Malformed);
        }
        Some(reply) => Some(ReplyTo {
            routing_key: reply.routing_key,
            ticket: message.ticket.filter(|ticket| ticket.len() <= WORD_LIMIT),
        }),
        None => None,
    };
    Ok(Some(Request { method: message.method, arguments: message.arguments.unwrap_or_default(), reply_to }))
}

impl Message {
    /// An empty destination or pattern is none, as with Celery's nodes.
    fn is_for(&self, node: &str) -> bool {
        let named = match &self.destination {
            Some(Destination::One(name)) if !name.is_empty() => Some(name == node),
            Some(Destination::Some(names)) if !names.is_empty() => Some(names.iter().any(|name| name == node)),
            _ => None,
        };
        if let Some(named) = named {
            return named;
        }
        match (self.pattern.as_deref().unwrap_or_default(), self.matcher.as_deref().unwrap_or_default()) {
            ("", _) | (_, "") => true,
            (pattern, "glob") => glob::matches(pattern, node),
            // There are no regular expressions here: whoever selects nodes by one does not select this.
            _ => false,
        }
    }
}

/// The limit for a body that begins so. Celery's clients write the method first.
fn limit(body: &[u8]) -> usize {
    let hello = [&br#"{"method": "hello""#[..], br#"{"method":"hello""#];
    if hello.iter().any(|begin| body.starts_with(begin)) { HELLO_LIMIT } else { BODY_LIMIT }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NODE: &str = "asynctask@vm";

    fn message(more: Value) -> Value {
        // As `celery inspect active` writes it.
        let mut message = json!({
            "method": "active", "arguments": {"safe": null}, "destination": null, "pattern": null, "matcher": null,
            "ticket": "t", "reply_to": {"exchange": "reply.celery.pidbox", "routing_key": "oid"},
        });
        let Value::Object(more) = more else { panic!("an object") };
        message.as_object_mut().unwrap().extend(more);
        message
    }

    fn of(message: &Value) -> Result<Option<Request>, Unread> {
        read(&serde_json::to_vec(message).unwrap(), NODE)
    }

    #[test]
    fn a_request_is_read_with_who_waits_for_it() {
        let request = of(&message(json!({}))).unwrap().unwrap();
        assert_eq!(request.method, "active");
        assert_eq!(request.arguments.get("safe"), Some(&Value::Null));
        let reply_to = ReplyTo { routing_key: "oid".to_owned(), ticket: Some("t".to_owned()) };
        assert_eq!(request.reply_to, Some(reply_to));
        // A cast, as Flower sends it.
        let cast = read(br#"{"method":"enable_events","arguments":null,"destination":null}"#, NODE);
        assert_eq!(cast.unwrap().unwrap().reply_to, None);
    }

    #[test]
    fn it_is_for_this_node_or_for_others() {
        let is_for = |more| of(&message(more)).unwrap().is_some();
        assert!(is_for(json!({"destination": [NODE, "w1@vm"]})));
        assert!(is_for(json!({"destination": NODE})));
        assert!(is_for(json!({"destination": []})), "as if there were none");
        assert!(!is_for(json!({"destination": ["w1@vm"]})));
        assert!(!is_for(json!({"destination": "asynctask@vm2"})));
        assert!(is_for(json!({"pattern": "asynctask@*", "matcher": "glob"})));
        assert!(!is_for(json!({"pattern": "w?@*", "matcher": "glob"})));
        assert!(!is_for(json!({"pattern": ".*", "matcher": "pcre"})));
        assert!(is_for(json!({"pattern": "w?@*", "matcher": null})));
        assert!(!is_for(json!({"destination": ["w1@vm"], "pattern": "*", "matcher": "glob"})));
    }

    #[test]
    fn what_is_forged_is_not_read() {
        for bad in [
            json!([]),
            json!("ping"),
            json!({}),
            message(json!({"method": 5})),
            message(json!({"arguments": [1]})),
            message(json!({"destination": {"a": 1}})),
            message(json!({"destination": [5]})),
            message(json!({"ticket": {}})),
            message(json!({"reply_to": {"exchange": "", "routing_key": "celery"}})),
            message(json!({"reply_to": {"exchange": REPLY_EXCHANGE, "routing_key": "x".repeat(256)}})),
            message(json!({"reply_to": "oid"})),
        ] {
            assert_eq!(of(&bad), Err(Unread::Malformed), "{bad}");
        }
        assert_eq!(read(b"\x80\x02}q\x00.", NODE), Err(Unread::Malformed));
        let deep = format!(r#"{{"method":"ping","arguments":{}}}"#, "[".repeat(30_000));
        assert_eq!(read(deep.as_bytes(), NODE), Err(Unread::Malformed));
    }

    #[test]
    fn sizes_are_bounded_and_a_node_that_starts_may_know_much() {
        let of_ids = |method: &str, count: usize| {
            let ids: Vec<String> = (0..count).map(|id| format!("{id:036}")).collect();
            format!(r#"{{"method": "{method}", "arguments": {}}}"#, json!({"from_node": "w1@vm", "revoked": ids}))
        };
        assert_eq!(read(of_ids("revoke", 2_000).as_bytes(), NODE), Err(Unread::TooLong));
        assert!(read(of_ids("revoke", 1_500).as_bytes(), NODE).unwrap().is_some());
        let hello = of_ids("hello", 50_000);
        assert!(read(hello.as_bytes(), NODE).unwrap().is_some());
        assert_eq!(read(of_ids("hello", 120_000).as_bytes(), NODE), Err(Unread::TooLong));
        assert!(cost(hello.len()) > 20.0 && cost(100) < 1.01);
    }
}
