//! Results as Celery's rpc backend writes them: the bodies of messages to the queue that a task's producer waits at.

use serde_json::{Value, json, value::RawValue};

use crate::{
    clock::Timestamp,
    task::{Reason, Task},
};

/// How a task ended.
#[derive(Clone, Copy, Debug)]
pub enum Ended<'a> {
    /// With this result; `None` is null.
    Succeeded(Option<&'a RawValue>),
    /// For good, without one.
    Failed {
        /// One line.
        error: &'a str,
        /// Causes, a traceback; may be empty.
        detail: &'a str,
    },
    /// It was not run, or not to its end: it expired, or was cancelled.
    Revoked {
        /// Why.
        reason: &'a str,
    },
}

impl<'a> Ended<'a> {
    /// The end that a dead letter is.
    #[must_use]
    pub const fn dead(reason: Reason, error: &'a str, detail: &'a str) -> Self {
        match reason {
            Reason::Expired | Reason::Cancelled => Self::Revoked { reason: error },
            _ => Self::Failed { error, detail },
        }
    }
}

/// The queue where the producer of a task waits for its result, if it does, and by which id it knows it.
#[must_use]
pub fn waiting_queue(task: &Task) -> Option<(&str, &str)> {
    let properties = task.properties.as_deref()?;
    let queue = properties.reply_to.as_deref().filter(|queue| !queue.is_empty())?;
    let is_ignored = task.headers.get("ignore_result") == Some(&Value::Bool(true));
    (!is_ignored).then(|| (queue, properties.correlation_id.as_deref().unwrap_or(&task.id)))
}

/// The body of a result's message.
#[must_use]
pub fn body(id: &str, ended: Ended<'_>, at: Timestamp) -> Vec<u8> {
    let (status, result, traceback) = match ended {
        Ended::Succeeded(result) => ("SUCCESS", result.map_or("null".to_owned(), |result| result.get().to_owned()), ""),
        // A class that Celery makes up where it does not exist, under its own name.
        Ended::Failed { error, detail } => ("FAILURE", exception("WorkerExit", "asynctask", error), detail),
        Ended::Revoked { reason } => ("REVOKED", exception("TaskRevokedError", "celery.exceptions", reason), ""),
    };
    let traceback = if traceback.is_empty() { Value::Null } else { traceback.into() };
    let done = super::message::iso_text(at);
    let id = Value::from(id);
    format!(
        r#"{{"status":"{status}","result":{result},"traceback":{traceback},"children":[],"date_done":"{done}","task_id":{id}}}"#
    )
    .into_bytes()
}

fn exception(kind: &str, module: &str, message: &str) -> String {
    json!({ "exc_type": kind, "exc_message": [message], "exc_module": module }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(ended: Ended<'_>) -> Value {
        serde_json::from_slice(&body("an \"id\"", ended, Timestamp(1_767_323_045_006))).unwrap()
    }

    #[test]
    fn results_have_the_fields_of_the_rpc_backend() {
        let result: Box<RawValue> = serde_json::from_str(r#"{"sum": 1.50}"#).unwrap();
        let done = "2026-01-02T03:04:05.006000+00:00";
        let expected = json!({"status": "SUCCESS", "result": {"sum": 1.5}, "traceback": null, "children": [],
            "date_done": done, "task_id": "an \"id\""});
        assert_eq!(written(Ended::Succeeded(Some(&result))), expected);
        assert_eq!(written(Ended::Succeeded(None))["result"], Value::Null);
        let failed = written(Ended::Failed { error: "no", detail: "because" });
        assert_eq!(failed["status"], "FAILURE");
        assert_eq!(
            failed["result"],
            json!({"exc_type": "WorkerExit", "exc_message": ["no"], "exc_module": "asynctask"})
        );
        assert_eq!(failed["traceback"], "because");
        let revoked = written(Ended::Revoked { reason: "expired" });
        assert_eq!((&revoked["status"], &revoked["result"]["exc_message"]), (&json!("REVOKED"), &json!(["expired"])));
    }
}
