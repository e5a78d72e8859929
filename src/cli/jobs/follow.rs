//! Following a job: until its end, or in front of a person.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use super::picture;
use crate::{
    cli::{
        job_names::by_id,
        output::print_while_read,
        waiting::{WaitingClient, interrupted},
    },
    clock::Instant,
    config::Config,
    exit_code::{Code, Error},
    jobs::{
        ledger::View,
        record::{JobState, Record},
    },
};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// Waits for the end of a job: 0 if it is done, 80 if it failed or was cancelled, 81 if it has not ended until `until`.
pub(super) fn to_its_end(
    client: &mut WaitingClient,
    config: &Config,
    id: &str,
    until: Option<Instant>,
) -> Result<Code, Error> {
    client.bar = progress();
    let ended = loop {
        let Some(record) = by_id(client, config, id)? else {
            break Err(Error::new(
                Code::Refused,
                format!("job {id} is not known any more: it was wiped and forgotten"),
            ));
        };
        if !record.state.is_live() {
            break end(&record);
        }
        let now = client.clock().now().at;
        if until.is_some_and(|until| until <= now) {
            let text = format!("job {id} has not ended in time: {}", picture::progress(&picture::view(&record)?));
            break Err(Error::new(Code::HaltTimeout, text).hint(format!("it goes on; see asynctask jobs show {id}")));
        }
        if !client.bar.is_hidden() {
            client.bar.set_message(picture::progress(&picture::view(&record)?));
            client.bar.tick();
        }
        let look = until.map_or(LOOK, |until| until.since(now).min(LOOK));
        client.pause(look).map_err(interrupted)?;
    };
    client.bar.finish_and_clear();
    ended
}

fn end(record: &Record) -> Result<Code, Error> {
    if record.state == JobState::Done {
        return Ok(Code::Ok);
    }
    let view = picture::view(record)?;
    let (id, place) = (&record.id, view.place());
    let text = match &view.error {
        Some(error) if record.state == JobState::Failed => format!("job {id} of {place} failed: {error}"),
        _ => format!("job {id} of {place} is {}", record.state.as_str()),
    };
    Err(Error::new(Code::DeadLettered, text).hint(format!("see asynctask jobs show {id}")))
}

/// Shows a job again at each change until it has ended; on a terminal in place of what was shown before.
pub(super) fn watch(
    client: &mut WaitingClient,
    config: &Config,
    first: Record,
    show: impl Fn(&View) -> Result<String, Error>,
) -> Result<Code, Error> {
    let (mut record, mut shown) = (first, String::new());
    loop {
        let text = show(&picture::view(&record)?)?;
        if text != shown {
            if io::stdout().is_terminal() {
                print_while_read("\x1b[2J\x1b[H")?;
            }
            // The reader may be gone (`| head`).
            if !print_while_read(&text)? {
                return Ok(Code::Ok);
            }
            shown = text;
        }
        if !record.state.is_live() {
            return Ok(Code::Ok);
        }
        client.pause(LOOK).map_err(interrupted)?;
        match by_id(client, config, &record.id)? {
            Some(next) => record = next,
            None => return Ok(Code::Ok),
        }
    }
}

/// Progress on a terminal; nothing elsewhere.
fn progress() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} {msg}, {elapsed}");
    style.map_or(bar.clone(), |style| bar.with_style(style))
}
