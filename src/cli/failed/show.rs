//! `asynctask failed show`: one dead letter, with all that is known of its end.

use super::collect::collect;
use crate::{
    cli::{
        failed_args::FailedShow,
        output::{escape_control, print},
    },
    config::Config,
    dead_letters::{
        condition::is_id_of,
        letter::{cell, in_order, lines, whole},
    },
    exit_code::{Code, Error},
    payload::Body,
    plural::counted,
    text,
    transport::{DeadLetter, Visit},
};

pub(super) fn run(config: &Config, verb: &FailedShow) -> Result<Code, Error> {
    let id = verb.id.clone();
    let found = collect(config, &verb.queue, move |letter, found: &mut Vec<DeadLetter>| {
        if is_id_of(letter, &id) {
            found.push(letter.clone());
            return Visit::Stop;
        }
        Visit::Keep
    })?;
    let Some(letter) = found.first() else {
        let (queue, id) = (&verb.queue, &verb.id);
        return Err(Error::new(Code::Refused, format!("queue {queue} has no dead letter with id \"{id}\"")));
    };
    if verb.json {
        print(&format!("{}\n", whole(letter)))?;
        return Ok(Code::Ok);
    }
    let payload = match Body::from(letter).json(false) {
        Ok(payload) => format!("payload: {}", text::escape_line(&payload)),
        Err(_) => {
            format!(
                "payload ({}): {}",
                counted(letter.body.len(), "byte"),
                String::from_utf8_lossy(&letter.body).escape_debug()
            )
        }
    };
    print(&format!("{payload}\n"))?;
    let facts = in_order(letter);
    let facts = facts.iter().map(|(name, value)| {
        let value = escape_control(&cell(value));
        if !value.contains('\n') {
            return format!("{name}: {value}");
        }
        let indented = value.trim_end().replace('\n', "\n    ");
        format!("{name}:\n    {indented}")
    });
    print(&lines(facts))?;
    Ok(Code::Ok)
}
