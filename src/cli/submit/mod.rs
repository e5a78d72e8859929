//! `asynctask submit`: one task, or a file of them.

mod lines;
mod moment;
mod stored_lines;

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use uuid::Uuid;

use self::{
    moment::{Due, expiry},
    stored_lines::{StoredLines, json_line},
};
use super::{
    args::{Global, Submit},
    output::print,
    settings::load_shared,
    waiting::{WaitingClient, interrupted, longest_wait, say},
};
use crate::{
    clock::Clock,
    config::Config,
    exit_code::{Code, Error},
    plural::counted,
    task::{NewTask, is_delay_queue_name, is_foreign_queue_name, is_own_queue_name, is_queue_name, without_mark},
    transport::Request,
    worker::registry::Registry,
};

pub(super) fn run(registry: &Registry, global: &Global, verb: &Submit) -> Result<Code, Error> {
    let queue = &verb.queue;
    let misnamed = || {
        Error::new(Code::Usage, format!("\"{queue}\" is not a properly-formatted queue name"))
            .hint("1 to 200 bytes of letters, digits and _ - . :, beginning with a letter or digit")
    };
    if !is_queue_name(queue) && !is_foreign_queue_name(queue) {
        return Err(misnamed());
    }
    if is_own_queue_name(queue) {
        return Err(Error::new(
            Code::Usage,
            format!("\"{queue}\" is a queue of asynctask's own: nothing is submitted to it"),
        )
        .hint("asynctask jobs start PIPELINE begins a job; asynctask jobs has what else its ledger can be told"));
    }
    if let Some(id) = verb.id.as_deref().filter(|id| !(1..=255).contains(&id.len()) || id.contains(char::is_control)) {
        return Err(Error::new(Code::Usage, format!("--id: {id:?} cannot be the id of a task"))
            .hint("1 to 255 bytes without control characters"));
    }
    let longest = longest_wait(verb.wait.as_deref())?;
    let due = Due::of(verb)?;
    let template = NewTask {
        queue: queue.clone(),
        expires_at: verb.expires.as_deref().map(|text| expiry("--expires", text)).transpose()?,
        priority: verb.priority,
        at_moment: due.is_moment(),
        ..NewTask::default()
    };
    let open = || {
        let config = load_shared(registry, global)?;
        // A queue of others may have any name, where there are others.
        if !config.transport.may_have(queue) {
            return Err(misnamed());
        }
        let config = reject_reserved_queue(config, queue)?;
        warn_of_unknown(&config, queue);
        if due.is_past() {
            say(&ProgressBar::hidden(), "warning: the moment of --at has passed: due at once");
        }
        let mut client = WaitingClient::open(&config, longest)?;
        client.listen()?;
        Ok(client)
    };
    match verb.payload.as_deref() {
        Some(payload) if payload != "-" => {
            let usage = |error| Error::new(Code::Usage, format!("PAYLOAD: {error}"));
            let body = without_mark(payload.as_bytes()).map_err(usage)?;
            lines::check(body).map_err(usage)?;
            let id = verb.id.clone().unwrap_or_else(new_id);
            let task = NewTask { id: id.clone(), body: body.to_vec(), delay: due.delay(Clock::wall()), ..template };
            one(&mut open()?, task)?;
            print(&if verb.json { json_line(&id) } else { format!("{id}\n") })?;
        }
        _ if verb.id.is_some() => {
            return Err(Error::new(Code::Usage, "--id goes with one PAYLOAD, not with lines from standard input"));
        }
        _ => many(&mut open()?, &template, &due, verb.json)?,
    }
    Ok(Code::Ok)
}

/// Refuses the names of dead-letter and delay queues: a task that is submitted to one of them is not worked there.
fn reject_reserved_queue(config: Config, queue: &str) -> Result<Config, Error> {
    match config.reserved_names().owner(queue) {
        Some((owner, what)) => Err(Error::new(Code::Refused, format!("\"{queue}\" is {what} of queue \"{owner}\""))
            .hint(format!("submit to \"{owner}\"; asynctask failed retry {owner} works dead letters again"))),
        None if is_delay_queue_name(queue) => {
            Err(Error::new(Code::Refused, format!("\"{queue}\" is the name of a delay queue")))
        }
        None => Ok(config),
    }
}

/// Warns of a queue that the settings do not name. Another master may work it, so this is no error.
fn warn_of_unknown(config: &Config, queue: &str) {
    if let Some(text) = config.known_queues().unknown(queue) {
        say(&ProgressBar::hidden(), &format!("warning: {text}"));
    }
}

fn one(client: &mut WaitingClient, task: NewTask) -> Result<(), Error> {
    let id = task.id.clone();
    let stored = client.call(|reply| Request::Submit { tasks: vec![task], reply });
    let Err(broken) = stored else { return Ok(()) };
    if broken.done.is_some() {
        return Ok(());
    }
    let unknown = broken.is_unanswered() || broken.last().is_some_and(|error| !error.extent().unknown.is_empty());
    Err(match broken.error() {
        error if unknown => error.hint(format!("task {id} may or may not be stored")),
        error => error,
    })
}

/// Submits a task for each line of standard input.
fn many(client: &mut WaitingClient, template: &NewTask, due: &Due, json: bool) -> Result<(), Error> {
    client.bar = progress();
    let queue = template.queue.clone();
    let mut stored_lines = StoredLines::new(json);
    let cannot = |error: io::Error| Error::new(Code::Internal, format!("standard input cannot be read: {error}"));
    let mut input = lines::read().map_err(cannot)?;
    let result = loop {
        let batch = match client.receive(&mut input) {
            Ok(Some(batch)) => batch,
            Ok(None) => break Ok(()),
            Err(by) => break Err(stored_lines.stopped(interrupted(by))),
        };
        let delay = due.delay(Clock::wall());
        let task = |body| NewTask { id: new_id(), body, delay, ..template.clone() };
        let tasks: Vec<NewTask> = batch.payloads.into_iter().map(task).collect();
        let ids: Vec<String> = tasks.iter().map(|task| task.id.clone()).collect();
        let stored = if tasks.is_empty() { Ok(()) } else { client.call(|reply| Request::Submit { tasks, reply }) };
        if let Err(error) = stored_lines.record(&ids, &batch.lines, stored) {
            break Err(error);
        }
        if let Some(bad) = batch.bad {
            break Err(stored_lines.stopped_at(bad.line, Error::new(Code::Usage, bad.error)));
        }
        client.bar.set_position(stored_lines.stored);
    };
    client.bar.finish_and_clear();
    result?;
    if !json {
        print(&format!("{} submitted to queue {queue}\n", counted(stored_lines.stored, "task")))?;
    }
    Ok(())
}

fn new_id() -> String {
    Uuid::now_v7().to_string()
}

/// Progress on a terminal; nothing elsewhere. The number of lines is not known before their end.
fn progress() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{spinner} {pos} tasks submitted, {per_sec}, {elapsed}");
    style.map_or(bar.clone(), |style| bar.with_style(style))
}
