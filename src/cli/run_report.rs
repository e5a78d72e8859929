//! The report of a run of the master (`--report`): begun before anything can fail, written when the run has ended.

use std::{cell::RefCell, path::Path, rc::Rc};

use crate::{
    exit_code::{Code, Error},
    junit::{End, Report},
    master::{self, Finished, Tally},
    redact::redact,
};

/// Begins the report of the run, if it can be written at all.
pub(super) fn begin(path: &Path, application: &str) -> Result<Rc<RefCell<Report>>, Error> {
    let report = Report::begin(path, application);
    let report = report
        .map_err(|error| Error::new(Code::Usage, format!("--report: {} cannot be written: {error}", path.display())))?;
    Ok(Rc::new(RefCell::new(report)))
}

/// Writes the report of a run that has ended so.
pub(super) fn write(report: &Report, ended: &Result<Finished, Error>) -> Result<(), Error> {
    let (tally, code) = match ended {
        Ok(finished) => (finished.tally, finished.code),
        Err(error) => (Tally::default(), error.code),
    };
    let counts = [("retried_attempts", tally.retried), ("exit_code", u64::from(code as u8))];
    report.write(&end(report, ended), &counts).map_err(|error| {
        Error::new(Code::Internal, format!("the report {} cannot be written: {error}", report.path().display()))
    })
}

/// What the report says of the run itself: as much as the exit code does.
fn end(report: &Report, ended: &Result<Finished, Error>) -> End {
    let failed = |message: &str, text: String| {
        let first = message.lines().next().unwrap_or_default();
        // Many readers show the text alone.
        let text = [message, &text].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n");
        End::Failed { message: redact(first).into_owned(), text: redact(&text).into_owned() }
    };
    let finished = match ended {
        Err(error) => {
            let unknown = (error.code == Code::Unavailable).then(|| master::LEFT_UNKNOWN.to_owned());
            let text: Vec<String> = error.hint.clone().into_iter().chain(unknown).collect();
            return failed(&error.message, text.join("\n"));
        }
        Ok(finished) => finished,
    };
    let left = finished.left.join("\n");
    match (&finished.error, finished.code) {
        (Some(error), code) => failed(error, format!("exit code {}\n{left}", code as u8)),
        (None, Code::Ok) if finished.stopped => End::Stopped("stopped before its queues were found empty".to_owned()),
        (None, Code::Ok) => End::Complete,
        (None, Code::DeadLettered) if report.has_failures() => End::Complete,
        (None, Code::DeadLettered) => failed("tasks were dead-lettered", left),
        (None, Code::Interrupted) => {
            failed("the run was stopped, and tasks had to be interrupted: they are back in their queues", left)
        }
        (None, code) => failed(&format!("the run ended with {}", code as u8), left),
    }
}
