//! A task of a job, with a memo.

use serde_json::json;
use uuid::Uuid;

use super::{Checker, Passed, QUEUE, word};
use crate::{
    json_text::JsonText,
    membership::Membership,
    outcome::{FollowUp, Report, Target},
    plural::counted,
};

impl Checker<'_> {
    /// A worker that knows nothing of jobs ignores what it does not know, and is a step all the same.
    pub(super) fn task_of_a_job(&mut self) -> Passed {
        let (place, memo) = (place(), JsonText::from(json!({ "seen": 1 })));
        let frame = self.framed("check-12", self.payload.unwrap_or("{}"), Some((&place, &memo)));
        self.send(&frame);
        let outcome = self.outcome("check-12")?;
        let mut said = format!("it said {}", word(&outcome));
        if let Report::Done { submit, given } = &outcome {
            let is_member = |follow_up: &&FollowUp| matches!(follow_up.target, Target::Item | Target::More);
            let members = submit.iter().filter(is_member).count();
            if members > 0 {
                said = format!("{said}, {} submitted", counted(members, "item"));
            }
            if given.as_ref().is_some_and(|given| given.result.is_some()) {
                said.push_str(", with a result");
            }
        }
        Ok(said)
    }
}

/// A place in a job, with what a step before gave.
fn place() -> Membership {
    let inputs = json!({ "before": { "state": "done", "result": { "n": 1 }, "memo": null } });
    Membership {
        application: "check".to_owned(),
        job: "check".to_owned(),
        pipeline: "check".to_owned(),
        key: Some("check".to_owned()),
        step: "check".to_owned(),
        queue: QUEUE.to_owned(),
        each: QUEUE.to_owned(),
        round: Uuid::nil(),
        feeder: Uuid::nil(),
        index: 0,
        wipe: false,
        inputs: Some(JsonText::from(inputs)),
    }
}
