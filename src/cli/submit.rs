//! `asynctask submit`: one task, or a file of them.

use std::{
    io::{self, BufRead, IsTerminal},
    str::FromStr,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use uuid::Uuid;

use super::{
    args::{Global, Submit},
    load, open, print, told,
    workers::duration,
};
use crate::{
    app::App,
    clock::{Clock, Timestamp},
    config::Config,
    error::{Code, Error},
    task::{NewTask, is_delay_queue_name, is_queue_name, json_payload},
    transport::{self, Request, Transport},
};

/// Tasks that are stored in one step.
const BATCH: usize = 1000;
/// Longest line of input, in bytes.
const LINE_LIMIT: usize = 64 * 1024 * 1024;

pub(super) fn run(app: &App, global: &Global, verb: &Submit) -> Result<Code, Error> {
    let queue = &verb.queue;
    if !is_queue_name(queue) {
        return Err(Error::new(Code::Usage, format!("\"{queue}\" is not a properly-formatted queue name"))
            .hint("1 to 200 bytes of letters, digits and _ - . :, beginning with a letter or digit"));
    }
    if let Some(id) = verb.id.as_deref().filter(|id| !(1..=255).contains(&id.len()) || id.contains(char::is_control)) {
        return Err(Error::new(Code::Usage, format!("--id: {id:?} cannot be the id of a task"))
            .hint("1 to 255 bytes without control characters"));
    }
    let template = NewTask {
        queue: queue.clone(),
        delay: verb.delay.as_deref().map(|text| duration("--delay", text)).transpose()?.unwrap_or_default(),
        expires_at: verb.expires.as_deref().map(expiry).transpose()?,
        ..NewTask::default()
    };
    let load = |app: &App, global: &Global| load(app, global).and_then(|config| not_behind_the_scenes(config, queue));
    match verb.payload.as_deref() {
        Some(payload) if payload != "-" => {
            check(payload.as_bytes()).map_err(|error| Error::new(Code::Usage, format!("PAYLOAD: {error}")))?;
            let config = load(app, global)?;
            let id = verb.id.clone().unwrap_or_else(new_id);
            let task = NewTask { id: id.clone(), body: payload.as_bytes().to_vec(), ..template };
            let transport = open(&config)?;
            store(&*transport, vec![task])?;
            print(&if verb.json { json_line(&id) } else { format!("{id}\n") })?;
        }
        _ if verb.id.is_some() => {
            return Err(Error::new(Code::Usage, "--id goes with one PAYLOAD, not with lines from standard input"));
        }
        _ => {
            let config = load(app, global)?;
            lines(&*open(&config)?, &template, verb.json)?;
        }
    }
    Ok(Code::Ok)
}

/// A task among dead letters, or in a delay queue, would not be where whoever submits it thinks it is.
fn not_behind_the_scenes(config: Config, queue: &str) -> Result<Config, Error> {
    match config.behind(queue) {
        Some((owner, what)) => Err(Error::new(Code::Refused, format!("\"{queue}\" is {what} of queue \"{owner}\""))
            .hint(format!("submit to \"{owner}\"; asynctask failed retry {owner} works dead letters again"))),
        None if is_delay_queue_name(queue) => {
            Err(Error::new(Code::Refused, format!("\"{queue}\" is the name of a delay queue")))
        }
        None => Ok(config),
    }
}

/// Submits a task for each line of standard input.
fn lines(transport: &dyn Transport, template: &NewTask, json: bool) -> Result<(), Error> {
    let mut input = io::stdin().lock();
    let progress = progress();
    let mut batch = Vec::with_capacity(BATCH);
    let mut stored = 0_u64;
    let mut number = 0_u64;
    loop {
        let line = read_line(&mut input).map_err(|error| at_line(number + 1, stored, &error))?;
        let ended = line.is_none();
        if let Some(line) = line {
            number += 1;
            if !line.trim_ascii().is_empty() {
                // What was read before stays submitted: it was right, and the message says how much that is.
                if let Err(error) = check(&line) {
                    stored += flush(transport, &mut batch, json)?;
                    return Err(at_line(number, stored, &error));
                }
                batch.push(NewTask { id: new_id(), body: line, ..template.clone() });
            }
        }
        if batch.len() == BATCH || (ended && !batch.is_empty()) {
            stored += flush(transport, &mut batch, json)?;
            progress.set_position(stored);
        }
        if ended {
            progress.finish_and_clear();
            if !json {
                print(&format!("{stored} tasks submitted to queue {}\n", template.queue))?;
            }
            return Ok(());
        }
    }
}

fn flush(transport: &dyn Transport, batch: &mut Vec<NewTask>, json: bool) -> Result<u64, Error> {
    let tasks = std::mem::take(batch);
    if tasks.is_empty() {
        return Ok(0);
    }
    let count = tasks.len() as u64;
    let ids: String = if json { tasks.iter().map(|task| json_line(&task.id)).collect() } else { String::new() };
    store(transport, tasks)?;
    print(&ids)?;
    Ok(count)
}

fn store(transport: &dyn Transport, tasks: Vec<NewTask>) -> Result<(), Error> {
    transport::call(transport, |reply| Request::Submit { tasks, reply }).map_err(|error| told(&error))
}

fn at_line(line: u64, stored: u64, error: &str) -> Error {
    Error::new(Code::Usage, format!("standard input, line {line}: {error}"))
        .hint(format!("{stored} tasks before it were submitted"))
}

/// The next line without its end, or `None` at the end of the input.
fn read_line(input: &mut impl BufRead) -> Result<Option<Vec<u8>>, String> {
    let mut line = Vec::new();
    let mut limited = io::Read::take(input, LINE_LIMIT as u64 + 1);
    let length = limited.read_until(b'\n', &mut line).map_err(|error| error.to_string())?;
    if length > LINE_LIMIT {
        return Err(format!("it is longer than {LINE_LIMIT} bytes"));
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok((length > 0).then_some(line))
}

fn check(payload: &[u8]) -> Result<(), String> {
    json_payload(payload, false).map(drop).map_err(|error| error.replace("the body", "the payload"))
}

/// A duration from now, or a moment.
fn expiry(text: &str) -> Result<Timestamp, Error> {
    if let Ok(moment) = jiff::Timestamp::from_str(text) {
        return Ok(Timestamp(moment.as_millisecond()));
    }
    let after = crate::config::parse_duration(text).ok_or_else(|| {
        Error::new(Code::Usage, format!("--expires: \"{text}\" is neither a duration nor a moment"))
            .hint("as in 10m, or 2027-01-31T12:00:00Z; the last moment is 9999-12-30T22:00:00Z")
    })?;
    Ok(Clock::wall().plus(after))
}

fn new_id() -> String {
    Uuid::now_v7().to_string()
}

fn json_line(id: &str) -> String {
    serde_json::json!({ "id": id }).to_string() + "\n"
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
