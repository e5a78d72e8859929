//! `asynctask process`: one queue, drained in the foreground.

use super::{
    args::{Global, Process},
    connection::from_transport_error,
    output::print,
    settings::{load_shared, log_level},
};
use crate::{
    drain,
    exit_code::{Code, Error},
    logging::Level,
    plural,
    worker::registry::Registry,
};

pub(super) fn run(registry: &Registry, global: &Global, verb: &Process) -> Result<Code, Error> {
    let level = log_level(global)?;
    // Lines of the log would stand between the JSON.
    let level = if verb.json { Level::Error } else { level };
    let config = load_shared(registry, global)?;
    let count =
        drain::process_queue(registry, &config, &verb.queue, verb.worker.as_deref(), level).map_err(in_words)?;
    if verb.json {
        print(&format!("{}\n", serde_json::json!({ "queue": verb.queue, "done": count })))?;
    } else {
        print(&format!("{count}\n"))?;
    }
    Ok(Code::Ok)
}

fn in_words(error: drain::Error) -> Error {
    match error {
        drain::Error::Transport(error) => from_transport_error(&error),
        drain::Error::NoKind { .. } => Error::new(Code::Refused, error.to_string()).hint("--worker KIND names one"),
        drain::Error::QueueName { .. } => Error::new(Code::Usage, error.to_string())
            .hint("1 to 200 bytes of letters, digits and _ - . :, beginning with a letter or digit"),
        drain::Error::Task { id, error, detail, done } => {
            let detail = if detail.is_empty() { detail } else { format!("\n{}", detail.trim_end()) };
            let done = plural::were(done, "task");
            Error::new(Code::Refused, format!("task {id}: {error}{detail}"))
                .hint(format!("{done} done before; this one follows the queue's retry policy"))
        }
        drain::Error::Io(_) | drain::Error::InFuture => Error::new(Code::Internal, error.to_string()),
        drain::Error::NoQueue { .. }
        | drain::Error::NoSuchKind { .. }
        | drain::Error::Program { .. }
        | drain::Error::Start { .. } => Error::new(Code::Refused, error.to_string()),
    }
}
