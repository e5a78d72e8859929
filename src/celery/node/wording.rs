//! The two forms of a short reply, `{"ok": …}` and `{"error": …}`. Pure.

use serde_json::{Value, json};

use crate::celery::repr;

/// It was done.
pub(super) fn ok(text: impl Into<String>) -> Value {
    json!({ "ok": text.into() })
}

/// It was not done, and why.
pub(super) fn error(text: &str) -> Value {
    json!({ "error": text })
}

/// There is no such method.
pub(super) fn key_error(method: &str) -> Value {
    let method: String = method.chars().take(100).collect();
    error(&format!("KeyError({})", repr::of(&method.into())))
}
