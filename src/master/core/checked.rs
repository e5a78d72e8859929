//! The core's chapter on what an outcome may hold. What cannot be stored is a mistake of the worker's code: its task ends in an error
//! that says so, before anything is stored, and the worker goes on.

use super::Core;
use crate::{
    json_text::JsonText,
    limits,
    membership::{JOB_ID, Membership, is_job_id, ledger_of},
    outcome::{FollowUp, Report, Target},
    plural::counted,
    task::{Task, is_delay_queue_name, is_foreign_queue_name, is_own_queue_name, is_queue_name},
    text,
};

impl Core {
    /// An outcome as it can be stored.
    pub(super) fn checked(&self, outcome: Report, task: &Task) -> Report {
        let outcome = within_limits(outcome, task.membership.as_deref());
        let Report::Done { submit, .. } = &outcome else { return outcome };
        let is_own = task.membership.as_ref().is_none_or(|place| place.application == self.plan.application);
        let objection = |follow_up: &FollowUp| match &follow_up.target {
            Target::Queue(name) => self.objection_to_queue(name),
            Target::Pipeline { name, .. } if is_own => self.objection_to_pipeline(name),
            Target::Pipeline { .. } | Target::Item | Target::More => None,
        };
        match submit.iter().find_map(objection) {
            Some(error) => Report::error(error),
            None => outcome,
        }
    }

    /// A job of a pipeline that is not in the settings. A master that has none may work queues for others that do.
    fn objection_to_pipeline(&self, name: &str) -> Option<String> {
        let known = &self.plan.pipelines;
        if known.is_empty() || known.iter().any(|known| known == name) {
            return None;
        }
        Some(format!("there is no pipeline \"{name}\"; there are: {}", known.join(", ")))
    }

    /// A follow-up for a queue that cannot be, or that is not for tasks.
    fn objection_to_queue(&self, name: &str) -> Option<String> {
        let may_be = is_queue_name(name) || (self.plan.foreign_names && is_foreign_queue_name(name));
        if !may_be {
            let name = text::shorten(name.to_owned(), limits::FAULT);
            return Some(format!("\"{name}\" is not a properly-formatted queue name"));
        }
        if is_delay_queue_name(name) {
            return Some(format!("\"{name}\" is the name of a delay queue"));
        }
        if let Some(application) = ledger_of(name) {
            return Some(format!("\"{name}\" is the ledger of the jobs of {application}"));
        }
        if is_own_queue_name(name) {
            return Some(format!("\"{name}\" is a queue of asynctask's own"));
        }
        let owner = self.reserved_names.dead_letter_owner(name)?;
        Some(format!("\"{name}\" is the dead-letter queue of queue \"{owner}\""))
    }
}

/// An outcome without what is too long to be kept, or has no place.
pub(super) fn within_limits(outcome: Report, membership: Option<&Membership>) -> Report {
    let too_long = |memo: &Option<JsonText>| {
        let bytes = memo.as_ref().map_or(0, |memo| memo.as_str().len());
        (bytes > limits::MEMO).then(|| too_long("memo", bytes as u64, limits::MEMO))
    };
    match outcome {
        Report::Done { submit, given } => {
            let result = given.as_ref().and_then(|given| given.result.as_deref());
            let bytes = result.filter(|_| membership.is_some()).map_or(0, |result| result.get().len());
            let error = if bytes > limits::JOB_RESULT {
                Some(too_long_result(bytes as u64))
            } else {
                objection_to(&submit, membership)
            };
            error.map_or(Report::Done { submit, given }, Report::error)
        }
        Report::Snooze { memo, delay } => match too_long(&memo) {
            Some(error) => Report::error(error),
            None => Report::Snooze { delay, memo },
        },
        // What failed is said first: it is why the task is tried again, or is not.
        Report::Error { error, detail, memo } => match too_long(&memo) {
            Some(more) => Report::Error { error: with(error, &more), detail, memo: None },
            None => Report::Error { error, detail, memo },
        },
        Report::Retry { error, delay, memo } => match too_long(&memo) {
            Some(more) => Report::Retry { error: with(error, &more), delay, memo: None },
            None => Report::Retry { error, delay, memo },
        },
        Report::DeadLetter { error, detail, memo } => match too_long(&memo) {
            Some(more) => Report::DeadLetter { error: with(error, &more), detail, memo: None },
            None => Report::DeadLetter { error, detail, memo },
        },
        Report::Malformed { .. } => outcome,
    }
}

/// What is wrong with follow-ups, whatever the settings say.
fn objection_to(submit: &[FollowUp], membership: Option<&Membership>) -> Option<String> {
    if submit.len() > limits::FOLLOW_UPS {
        return Some(format!("{} follow-ups of one task, at most {} can be stored", submit.len(), limits::FOLLOW_UPS));
    }
    let is_member = |follow_up: &&FollowUp| matches!(follow_up.target, Target::Item | Target::More);
    let members = submit.iter().filter(is_member).count();
    match membership {
        None if members > 0 => return Some(format!("it submits {}, and is of no job", counted(members, "item"))),
        Some(Membership { wipe: true, .. }) if members > 0 => {
            return Some(format!("it submits {}, and is there to wipe", counted(members, "item")));
        }
        _ => {}
    }
    submit.iter().find_map(objection_to_job)
}

fn objection_to_job(follow_up: &FollowUp) -> Option<String> {
    let Target::Pipeline { name, id } = &follow_up.target else { return None };
    let shown = |text: &str| text::shorten(text.to_owned(), limits::FAULT);
    if !is_queue_name(name) {
        return Some(format!("\"{}\" is not a properly-formatted name of a pipeline", shown(name)));
    }
    if let Some(id) = id.as_deref().filter(|id| !is_job_id(id)) {
        return Some(format!("\"{}\" cannot be the id of a job: that is {JOB_ID}", shown(id)));
    }
    let bytes = follow_up.payload.get().len();
    if bytes > limits::JOB_PAYLOAD {
        return Some(too_long("payload of a job", bytes as u64, limits::JOB_PAYLOAD));
    }
    let is_delayed = !follow_up.delay.is_zero();
    is_delayed.then(|| format!("a job of pipeline {name} cannot be started after a delay"))
}

/// An error, and what is wrong beside it, within what is kept of an error.
pub(super) fn with(mut error: String, more: &str) -> String {
    if error.is_empty() {
        return more.to_owned();
    }
    text::bound(&mut error, limits::ERROR.saturating_sub(more.len() + 2));
    format!("{error}; {more}")
}

/// That a result is longer than what steps hand on.
pub(super) fn too_long_result(bytes: u64) -> String {
    too_long("result", bytes, limits::JOB_RESULT)
}

/// That something is longer than what is kept of it.
pub(super) fn too_long(what: &str, bytes: u64, most: usize) -> String {
    format!("its {what} has {bytes} bytes, more than {most}: put it into a file and give its name")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::value::RawValue;
    use uuid::Uuid;

    use super::*;
    use crate::outcome::Given;

    fn text(bytes: usize) -> String {
        format!("\"{}\"", "x".repeat(bytes - 2))
    }

    fn membership(wipe: bool) -> Membership {
        Membership {
            application: "app".to_owned(),
            job: "j".to_owned(),
            pipeline: "p".to_owned(),
            key: None,
            step: "s".to_owned(),
            queue: "q".to_owned(),
            each: "e".to_owned(),
            round: Uuid::from_u128(1),
            feeder: Uuid::from_u128(1),
            index: 0,
            wipe,
            inputs: None,
        }
    }

    fn error_of(outcome: Report, membership: Option<&Membership>) -> Option<String> {
        match within_limits(outcome, membership) {
            Report::Error { error, memo, .. } => {
                assert!(memo.is_none());
                Some(error)
            }
            Report::Done { .. } | Report::Snooze { .. } => None,
            other => panic!("{other:?}"),
        }
    }

    fn giving(bytes: usize) -> Report {
        let result = RawValue::from_string(text(bytes)).unwrap();
        Report::Done { submit: Vec::new(), given: Given::of(Some(result), None, None) }
    }

    fn submitting(target: Target, delay: Duration) -> Report {
        let payload = RawValue::from_string("1".to_owned()).unwrap();
        Report::Done { submit: vec![FollowUp { target, payload, delay }], given: None }
    }

    #[test]
    fn a_result_is_bounded_in_a_job_alone() {
        let job = membership(false);
        assert_eq!(error_of(giving(limits::JOB_RESULT), Some(&job)), None);
        assert_eq!(
            error_of(giving(40_960), Some(&job)).unwrap(),
            "its result has 40960 bytes, more than 32768: put it into a file and give its name"
        );
        assert_eq!(error_of(giving(40_960), None), None);
    }

    #[test]
    fn a_memo_is_bounded_everywhere_and_the_error_beside_it_is_kept() {
        let memo = |bytes| JsonText::parse(&text(bytes)).ok();
        let delay = Duration::from_secs(3);
        assert_eq!(error_of(Report::Snooze { delay, memo: memo(limits::MEMO) }, None), None);
        let told = "its memo has 1048576 bytes, more than 16384: put it into a file and give its name";
        let long = memo(1 << 20);
        assert_eq!(error_of(Report::Snooze { delay, memo: long.clone() }, None).unwrap(), told);
        let detail = String::new();
        let error = |error: &str| Report::Error { error: error.to_owned(), detail: detail.clone(), memo: long.clone() };
        assert_eq!(error_of(error("Oops"), None).unwrap(), format!("Oops; {told}"));
        assert_eq!(error_of(error(""), None).unwrap(), told);
        let longest = error_of(error(&"ü".repeat(2000)), None).unwrap();
        assert!(longest.ends_with(told) && longest.len() <= limits::ERROR, "{longest}");
        let retry = Report::Retry { error: "x".to_owned(), delay: Some(delay), memo: long.clone() };
        let Report::Retry { error, delay: Some(_), memo: None } = within_limits(retry, None) else { panic!() };
        assert_eq!(error, format!("x; {told}"));
        let dead = Report::DeadLetter { error: "x".to_owned(), detail, memo: long };
        assert!(
            matches!(within_limits(dead, None), Report::DeadLetter { memo: None, error, .. } if error.ends_with(told))
        );
    }

    #[test]
    fn items_are_of_a_step_and_jobs_have_names() {
        let (job, wipe) = (membership(false), membership(true));
        for target in [Target::Item, Target::More] {
            let item = || submitting(target.clone(), Duration::from_secs(1));
            assert_eq!(error_of(item(), Some(&job)), None);
            assert_eq!(error_of(item(), None).unwrap(), "it submits 1 item, and is of no job");
            assert_eq!(error_of(item(), Some(&wipe)).unwrap(), "it submits 1 item, and is there to wipe");
        }
        let start = |name: &str, id: Option<&str>, delay| {
            let target = Target::Pipeline { name: name.to_owned(), id: id.map(str::to_owned) };
            error_of(submitting(target, delay), None)
        };
        assert_eq!(start("nightly", None, Duration::ZERO), None);
        assert_eq!(start("nightly", Some("2026-11-30"), Duration::ZERO), None);
        assert_eq!(
            start("a b", None, Duration::ZERO).unwrap(),
            "\"a b\" is not a properly-formatted name of a pipeline"
        );
        for id in ["a/b", "ü"] {
            let told = format!("\"{id}\" cannot be the id of a job: that is {JOB_ID}");
            assert_eq!(start("nightly", Some(id), Duration::ZERO).unwrap(), told);
        }
        let delayed = start("nightly", None, Duration::from_millis(1)).unwrap();
        assert_eq!(delayed, "a job of pipeline nightly cannot be started after a delay");
    }
}
