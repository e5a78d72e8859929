//! What a process for one task has written into its files, read: the result and the follow-ups of one that is done, the memo of any
//! other. Pure rules. What cannot be read is an error, since somebody waits for it.

use std::time::Duration;

use serde_json::value::RawValue;

use super::{
    checked::{too_long, too_long_result, with},
    event::{FileText, Written, WrittenFile},
};
use crate::{
    frames::from_worker::follow_ups,
    json_text::JsonText,
    limits,
    outcome::{FollowUp, Given, Report},
    units::parse_duration,
};

impl Written {
    /// What the process said by its end, with what it wrote. `in_job`: steps wait for its result.
    pub(super) fn complete(&self, said: Report, in_job: bool) -> Report {
        match said {
            Report::Done { .. } => self.done(in_job).unwrap_or_else(Report::error),
            Report::Error { error, detail, .. } => {
                let (error, memo) = self.and_memo(error);
                Report::Error { error, detail, memo }
            }
            Report::Retry { error, delay, .. } => match read_snooze(self.snooze.as_ref()) {
                Ok(None) => {
                    let (error, memo) = self.and_memo(error);
                    Report::Retry { error, delay, memo }
                }
                // A memo that cannot be read must not be lost without a word.
                Ok(Some(delay)) => match read_memo(self.memo.as_ref()) {
                    Ok(memo) => Report::Snooze { delay, memo },
                    Err(error) => Report::error(error),
                },
                Err(error) => Report::error(error),
            },
            Report::DeadLetter { error, detail, .. } => {
                let (error, memo) = self.and_memo(error);
                Report::DeadLetter { error, detail, memo }
            }
            Report::Snooze { .. } | Report::Malformed { .. } => said,
        }
    }

    fn done(&self, in_job: bool) -> Result<Report, String> {
        let result = read_result(self.result.as_ref(), in_job)?;
        Ok(Report::Done { submit: read_submit(self.submit.as_ref())?, given: Given::of(result, None, None) })
    }

    /// The memo that goes with an error, which also says why there is none.
    fn and_memo(&self, error: String) -> (String, Option<JsonText>) {
        match read_memo(self.memo.as_ref()) {
            Ok(memo) => (error, memo),
            Err(more) => (with(error, &more), None),
        }
    }
}

/// What there is to be read of a file; `None`: nothing.
fn text_of<'a>(what: &str, file: Option<&'a WrittenFile>) -> Result<Option<(&'a [u8], &'a FileText)>, String> {
    let Some(file) = file else { return Ok(None) };
    let file = file.as_ref().map_err(|error| format!("its {what} cannot be read: {error}"))?;
    let text = file.text.trim_ascii();
    Ok((!text.is_empty() || file.bytes > file.text.len() as u64).then_some((text, file)))
}

/// Bytes that count: of a file that is not all here, all of them.
fn length(text: &[u8], file: &FileText) -> u64 {
    if file.bytes > file.text.len() as u64 { file.bytes } else { text.len() as u64 }
}

fn read_result(file: Option<&WrittenFile>, in_job: bool) -> Result<Option<Box<RawValue>>, String> {
    let Some((text, file)) = text_of("result", file)? else { return Ok(None) };
    let bytes = length(text, file);
    if in_job && bytes > limits::JOB_RESULT as u64 {
        return Err(too_long_result(bytes));
    }
    if bytes > limits::RESULT {
        return Err(format!("its result has more than {} MiB", limits::RESULT >> 20));
    }
    serde_json::from_slice(text).map_err(|error| format!("its result is not JSON: {error}"))
}

fn read_memo(file: Option<&WrittenFile>) -> Result<Option<JsonText>, String> {
    let Some((text, file)) = text_of("memo", file)? else { return Ok(None) };
    let bytes = length(text, file);
    if bytes > limits::MEMO as u64 {
        return Err(too_long("memo", bytes, limits::MEMO));
    }
    let memo: Option<JsonText> =
        serde_json::from_slice(text).map_err(|error| format!("its memo is not JSON: {error}"))?;
    Ok(memo)
}

fn read_snooze(file: Option<&WrittenFile>) -> Result<Option<Duration>, String> {
    let Some((text, _)) = text_of("snooze", file)? else { return Ok(None) };
    let delay = std::str::from_utf8(text).ok().and_then(parse_duration);
    delay.map(Some).ok_or_else(|| "its snooze is no duration: 30s, 10m, 1.5h; a bare number is seconds".to_owned())
}

fn read_submit(file: Option<&WrittenFile>) -> Result<Vec<FollowUp>, String> {
    let Some((text, file)) = text_of("list of tasks to submit", file)? else { return Ok(Vec::new()) };
    let bytes = length(text, file);
    if bytes > limits::FRAME as u64 {
        return Err(format!("its list of tasks to submit has {bytes} bytes, more than {}", limits::FRAME));
    }
    follow_ups(&file.text).map_err(|error| format!("its list of tasks to submit, {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "what a field holds")]
    fn file(text: &str) -> Option<WrittenFile> {
        Some(Ok(FileText { text: text.as_bytes().to_vec(), bytes: text.len() as u64 }))
    }

    fn given(written: &Written, in_job: bool) -> Result<Option<String>, String> {
        match written.complete(Report::DONE, in_job) {
            Report::Done { given, .. } => {
                Ok(given.and_then(|given| given.result).map(|result| result.get().to_owned()))
            }
            Report::Error { error, .. } => Err(error),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_result_is_json_and_bounded() {
        let result = |text: &str, in_job| given(&Written { result: file(text), ..Written::default() }, in_job);
        assert_eq!(result("", true), Ok(None));
        assert_eq!(result(" \n", false), Ok(None));
        assert_eq!(result("null\n", true), Ok(None));
        assert_eq!(result(" {\"w\": 7e400}\n", true), Ok(Some("{\"w\": 7e400}".to_owned())));
        assert!(result("seven", false).unwrap_err().starts_with("its result is not JSON"));
        let long = format!("\"{}\"\n", "x".repeat(limits::JOB_RESULT - 2));
        assert!(result(&long, true).unwrap().is_some());
        let longer = long.replacen('x', "xx", 1);
        assert_eq!(result(&longer, true).unwrap_err(), too_long_result(32_769));
        assert!(result(&longer, false).is_ok());
        assert_eq!(result(&"1".repeat(1_048_577), false).unwrap_err(), "its result has more than 1 MiB");
        let gone = Written { result: Some(Err("it is no file".to_owned())), ..Written::default() };
        assert_eq!(given(&gone, true).unwrap_err(), "its result cannot be read: it is no file");
        // Of a long one the beginning is here.
        let cut = Written { result: Some(Ok(FileText { text: b" ".to_vec(), bytes: 1 << 40 })), ..Written::default() };
        assert_eq!(given(&cut, true).unwrap_err(), too_long_result(1 << 40));
    }

    #[test]
    fn what_is_done_submits_lines() {
        let submitted =
            |text: &str| match (Written { submit: file(text), ..Written::default() }).complete(Report::DONE, true) {
                Report::Done { submit, .. } => Ok(submit.len()),
                Report::Error { error, .. } => Err(error),
                other => panic!("{other:?}"),
            };
        assert_eq!(submitted(""), Ok(0));
        assert_eq!(submitted("{\"item\":1}\n\n{\"more\": null}"), Ok(2));
        let error = submitted("{\"item\":1}\n{\"itme\":2}\n").unwrap_err();
        assert_eq!(error, "its list of tasks to submit, line 2: missing field `queue`");
    }

    #[test]
    fn a_retry_with_a_duration_is_a_snooze() {
        let told = |snooze: &str, memo: &str| {
            let said = Report::Retry { error: "x".to_owned(), delay: None, memo: None };
            match (Written { snooze: file(snooze), memo: file(memo), ..Written::default() }).complete(said, true) {
                Report::Snooze { delay, memo } => {
                    format!("{} s, {}", delay.as_secs_f64(), memo.as_ref().map_or("", JsonText::as_str))
                }
                Report::Retry { error, .. } | Report::Error { error, .. } => error,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(told("", ""), "x");
        assert_eq!(told("2.5\n", "7"), "2.5 s, 7");
        assert_eq!(told(" 10m\n", ""), "600 s, ");
        assert!(told("soon", "7").starts_with("its snooze is no duration"));
        assert!(told("1s", "{").starts_with("its memo is not JSON"));
        // With any other status it means nothing.
        let written = Written { snooze: file("1s"), ..Written::default() };
        assert!(matches!(written.complete(Report::DONE, true), Report::Done { .. }));
        assert!(matches!(written.complete(Report::error("x".to_owned()), true), Report::Error { .. }));
    }

    #[test]
    fn a_memo_goes_with_every_end_but_done() {
        let ends = [
            Report::error("x".to_owned()),
            Report::Retry { error: "x".to_owned(), delay: None, memo: None },
            Report::DeadLetter { error: "x".to_owned(), detail: String::new(), memo: None },
        ];
        for said in ends {
            let told =
                |text: &str| match (Written { memo: file(text), ..Written::default() }).complete(said.clone(), false) {
                    Report::Error { error, memo, .. }
                    | Report::Retry { error, memo, .. }
                    | Report::DeadLetter { error, memo, .. } => (error, memo.map(|memo| memo.as_str().to_owned())),
                    other => panic!("{other:?}"),
                };
            assert_eq!(told(""), ("x".to_owned(), None));
            assert_eq!(told("{\"page\": 7}\n"), ("x".to_owned(), Some("{\"page\": 7}".to_owned())));
            assert!(told("{").0.starts_with("x; its memo is not JSON"));
            let (error, memo) = told(&"7".repeat(limits::MEMO + 1));
            assert!(error.starts_with("x; its memo has 16385 bytes") && memo.is_none(), "{error}");
        }
        assert!(matches!(
            (Written { memo: file("{"), ..Written::default() }).complete(Report::DONE, false),
            Report::Done { .. }
        ));
    }
}
