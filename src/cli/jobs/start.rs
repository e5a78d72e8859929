//! `asynctask jobs start`: a job of a pipeline, and with `--wait` its end.

use std::{
    io::{self, IsTerminal, Read},
    time::Duration,
};

use serde_json::json;

use super::{client::open, follow, order};
use crate::{
    cli::{jobs_args::Start, output::print, settings::duration, waiting::say},
    config::Config,
    exit_code::{Code, Error},
    jobs::order::Wanted,
    json_text::JsonText,
    limits,
    membership::{JOB_ID, is_job_id},
    task::{json_payload, without_mark},
};

/// How long whoever waits for the end of a job waits for its beginning: a coordinator that is stopped is replaced within a minute.
const BEGINS: Duration = Duration::from_mins(5);

pub(super) fn run(config: &Config, verb: &Start) -> Result<Code, Error> {
    let limit = verb.timeout.as_deref().map(|text| duration("--timeout", text)).transpose()?;
    let id = match &verb.id {
        Some(id) => checked(id)?,
        None => uuid::Uuid::now_v7().to_string(),
    };
    let what = Wanted::Start {
        pipeline: verb.pipeline.clone(),
        id: id.clone(),
        payload: payload(verb.payload.as_deref())?,
        priority: verb.priority,
        scheduled: false,
    };
    let mut client = open(config)?;
    let began_at = client.clock().now().at;
    let within = if verb.wait { limit.map_or(BEGINS, |limit| limit.min(BEGINS)) } else { order::WITHIN };
    let done = match order::give_within(&mut client, config, what, within) {
        // It begins all the same: whoever gave the order wants to find it.
        Err(error) if error.code == Code::NoMaster => return Err(not_yet(error, &id, verb, limit)),
        given => given?,
    };
    // Of an order that was carried out before, the job is the one of then.
    let id = done.job.clone().unwrap_or(id);
    print(&if verb.given.json { format!("{}\n", json!({ "id": id, "text": done.text })) } else { format!("{id}\n") })?;
    if io::stderr().is_terminal() {
        say(&client.bar, &done.text);
    }
    if !verb.wait {
        return Ok(Code::Ok);
    }
    follow::to_its_end(&mut client, config, &id, limit.map(|limit: Duration| began_at + limit))
}

/// The order is stored and not carried out yet: the id is printed, and where the time to wait is over, that is what is said.
fn not_yet(error: Error, id: &str, verb: &Start, limit: Option<Duration>) -> Error {
    let told =
        if verb.given.json { format!("{}\n", json!({ "id": id, "text": error.message })) } else { format!("{id}\n") };
    match print(&told) {
        Err(unprinted) => unprinted,
        Ok(()) if limit.is_some_and(|limit| limit <= BEGINS) => Error { code: Code::HaltTimeout, ..error },
        Ok(()) => error,
    }
}

/// An id that was chosen by hand.
fn checked(id: &str) -> Result<String, Error> {
    if is_job_id(id) {
        return Ok(id.to_owned());
    }
    Err(Error::new(Code::Usage, format!("--id: {id:?} cannot be the id of a job: that is {JOB_ID}")))
}

fn payload(argument: Option<&str>) -> Result<JsonText, Error> {
    let usage =
        |error: String| Error::new(Code::Usage, format!("PAYLOAD: {}", error.replace("the body", "the payload")));
    let read = match argument {
        None => b"{}".to_vec(),
        Some("-") => {
            let mut read = Vec::new();
            let cannot = |error| Error::new(Code::Usage, format!("standard input: {error}"));
            io::stdin().lock().take(limits::JOB_PAYLOAD as u64 + 1).read_to_end(&mut read).map_err(cannot)?;
            read
        }
        Some(text) => text.as_bytes().to_vec(),
    };
    if read.len() > limits::JOB_PAYLOAD {
        let error = format!("a job's payload has at most {} bytes", limits::JOB_PAYLOAD);
        return Err(usage(error).hint("put it into a file, and give its name"));
    }
    let body = without_mark(&read).map_err(usage)?;
    json_payload(body, false).map_err(usage)?;
    let text = std::str::from_utf8(body).map_err(|error| usage(error.to_string()))?;
    JsonText::parse(text).map_err(|error| usage(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_one_json_value_and_keeps_its_text() {
        assert_eq!(payload(None).unwrap().as_str(), "{}");
        assert_eq!(payload(Some(" {\"n\": 1e400} ")).unwrap().as_str(), "{\"n\": 1e400}");
        for wrong in ["", "{", "1 2", "nope"] {
            let error = payload(Some(wrong)).unwrap_err();
            assert_eq!(error.code, Code::Usage);
            assert!(error.message.starts_with("PAYLOAD: "), "{}", error.message);
        }
    }

    #[test]
    fn a_payload_that_no_task_could_carry_is_refused() {
        let long = format!("\"{}\"", "x".repeat(limits::JOB_PAYLOAD));
        let error = payload(Some(&long)).unwrap_err();
        assert_eq!(
            (error.code, error.message.as_str()),
            (Code::Usage, "PAYLOAD: a job's payload has at most 8388608 bytes")
        );
    }

    #[test]
    fn an_id_stands_on_one_line_and_is_no_pipeline_with_a_key() {
        assert_eq!(checked("nightly-7").unwrap(), "nightly-7");
        for wrong in ["", "a/b", "a\nb", "a b", "-a", "ü", &"x".repeat(201)] {
            assert_eq!(checked(wrong).unwrap_err().code, Code::Usage);
        }
    }
}
