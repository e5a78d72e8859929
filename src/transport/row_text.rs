//! What of a task stands as text in a row of a table, for transports that keep tasks in tables: headers, history, the failure of a
//! dead letter and the cause in it.

use crate::{
    clock::Timestamp,
    limits,
    task::{Ending, Failure, Headers, Reason},
    text,
    transport::dead_letter::fingerprint,
};

/// Headers as they are stored; most tasks have none.
pub(crate) fn headers_text(headers: &Headers) -> Option<String> {
    (!headers.is_empty()).then(|| serde_json::Value::Object(headers.clone()).to_string())
}

/// A history as it is stored; most tasks have none.
pub(crate) fn history_text(history: &[Ending]) -> Option<String> {
    (!history.is_empty()).then(|| serde_json::json!(history).to_string())
}

/// A failure that cannot be read (another program wrote to the table) is shown as its text.
pub(crate) fn read_failure(text: &str, died_at: Timestamp) -> Failure {
    serde_json::from_str(text).unwrap_or_else(|error| {
        let mut failure = Failure::new(Reason::Failed, format!("the cause cannot be read: {error}"), died_at);
        text::cut(text, limits::DETAIL).clone_into(&mut failure.detail);
        failure
    })
}

/// The cause of a failure as it stands in its columns: the reason's word, the error's fingerprint.
pub(crate) fn cause(failure: &Failure) -> (&'static str, String) {
    let reason = failure.reason.as_str();
    (reason, fingerprint(reason, &failure.error))
}
