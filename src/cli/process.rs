//! `asynctask process`: one queue, drained in the foreground.

use super::{
    args::{Global, Process},
    load_shared, log_level, print, told,
};
use crate::{
    app::App,
    drain,
    error::{Code, Error},
    logging::Level,
    plural,
};

pub(super) fn run(app: &App, global: &Global, verb: &Process) -> Result<Code, Error> {
    let level = log_level(global)?;
    // Whoever reads JSON wants no other lines of ours.
    let level = if verb.json { Level::Error } else { level };
    let config = load_shared(app, global)?;
    let count = drain::process_queue(app, &config, &verb.queue, verb.worker.as_deref(), level).map_err(in_words)?;
    if verb.json {
        print(&format!("{}\n", serde_json::json!({ "queue": verb.queue, "done": count })))?;
    } else {
        print(&format!("{count}\n"))?;
    }
    Ok(Code::Ok)
}

fn in_words(error: drain::Error) -> Error {
    use drain::Error as Told;
    match error {
        Told::Transport(error) => told(&error),
        Told::NoKind { .. } => Error::new(Code::Refused, error.to_string()).hint("--worker KIND names one"),
        Told::QueueName { .. } => Error::new(Code::Usage, error.to_string())
            .hint("1 to 200 bytes of letters, digits and _ - . :, beginning with a letter or digit"),
        Told::Task { id, error, detail, done } => {
            let detail = if detail.is_empty() { detail } else { format!("\n{}", detail.trim_end()) };
            let done = plural::were(done, "task");
            Error::new(Code::Refused, format!("task {id}: {error}{detail}"))
                .hint(format!("{done} done before; this one follows the queue's retry policy"))
        }
        Told::Io(_) => Error::new(Code::Internal, error.to_string()),
        Told::NoQueue { .. } | Told::NoSuchKind { .. } | Told::Program { .. } | Told::Start { .. } => {
            Error::new(Code::Refused, error.to_string())
        }
    }
}
