//! The state of a job, as it is stored: the JSON in a record's `content`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    members::Members,
    out::{Ended, Out},
    view::{StepState, Wiped, place},
};
use crate::{
    clock::Timestamp,
    jobs::{
        definition::{self, ForEach, Pipeline},
        record::{JobState, Record},
    },
    json_text::JsonText,
};

/// Orders that a job remembers to have carried out.
const ORDERS: usize = 32;

/// A job. Its flags are independent of each other.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Job {
    /// Of the coordinator that changed it last.
    pub(super) epoch: u64,
    /// Counts its changes.
    pub(super) version: u64,
    pub(super) id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    pub(super) definition: Pipeline,
    pub(super) payload: JsonText,
    pub(super) priority: i32,
    /// Its place among all that were made: what is older has a lower one, whatever the clock said.
    pub(super) number: u64,
    pub(super) state: JobState,
    /// It is planned, or not wiped, until another job with its key has ended.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) waits_for_key: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) frozen: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) frozen_since: Option<Timestamp>,
    /// So many milliseconds of its present time, since it began to run or has ended, do not count: it was frozen, or the wall clock
    /// was set ahead.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) stood_still: u64,
    /// Nothing is wiped at its end.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) keep: bool,
    pub(super) wiped: Wiped,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) wipe: Option<Wipe>,
    /// Entries change it no more.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) closed: bool,
    pub(super) made_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) began_at: Option<Timestamp>,
    /// When it began to run, this time: what its timeout is counted from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) running_since: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ended_at: Option<Timestamp>,
    pub(super) heard_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    /// How often it has failed.
    #[serde(default)]
    pub(super) failures: u32,
    /// That was told, and nothing has failed since.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) is_told: bool,
    /// The last orders that it was given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    orders: Vec<String>,
    /// The last restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) restarted: Option<Restarted>,
    /// One a step of the definition, in its order.
    pub(super) steps: Vec<StepRecord>,
}

/// What became of a step of a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct StepRecord {
    pub(super) state: StepState,
    /// Its present begin. `None`: nothing that is told of it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) round: Option<Uuid>,
    /// The one before, which is void: its dead letters stay until the step is done again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) void_round: Option<Uuid>,
    #[serde(default)]
    pub(super) members: Members,
    /// It began once in this job: there may be something to wipe.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) ever_begun: bool,
    /// A person wants it done again, whatever else failed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) asked: bool,
    /// What it left was wiped.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) wiped: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) began_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ended_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<JsonText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) memo: Option<JsonText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    /// When the last news were written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) news_at: Option<Timestamp>,
    /// The error of an attempt, and when the next one is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) retrying: Option<(String, Timestamp)>,
    /// When it is due again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) snoozed: Option<Timestamp>,
}

/// A restart that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Restarted {
    /// When, by the coordinator's clock.
    pub(super) at: Timestamp,
    /// These steps.
    pub(super) steps: Vec<usize>,
    /// Only tasks of theirs that failed or never ran.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) failed: bool,
}

/// A wipe under way, or one that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wipe {
    /// What is final, too.
    pub(super) all: bool,
    /// The job is forgotten after it.
    pub(super) forget: bool,
    /// The step whose output is being wiped, and the round of the task that does it; `None`: the next one is to begin.
    pub(super) at: Option<(usize, Uuid)>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

// The signature is serde's.
#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_false(value: &bool) -> bool {
    !*value
}

// The signature is serde's.
#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl Job {
    /// A job that is planned.
    pub(super) fn new(id: String, definition: Pipeline, payload: JsonText, number: u64, now: Timestamp) -> Self {
        let steps = vec![StepRecord::default(); definition.steps.len()];
        Self {
            epoch: 0,
            version: 0,
            id,
            key: None,
            definition,
            payload,
            priority: 0,
            number,
            state: JobState::Planned,
            waits_for_key: false,
            frozen: false,
            frozen_since: None,
            stood_still: 0,
            keep: false,
            wiped: Wiped::No,
            wipe: None,
            closed: false,
            made_at: now,
            began_at: None,
            running_since: None,
            ended_at: None,
            heard_at: now,
            error: None,
            failures: 0,
            is_told: false,
            orders: Vec::new(),
            restarted: None,
            steps,
        }
    }

    /// Reads a job as it is stored.
    ///
    /// # Errors
    /// What cannot be read, in one line.
    pub(super) fn read(record: &Record) -> Result<Self, String> {
        let unread = |cause: &dyn std::fmt::Display| format!("the state of job {} cannot be read: {cause}", record.id);
        let job: Self = serde_json::from_str(&record.content).map_err(|error| unread(&error))?;
        job.flaw(record).map_or(Ok(job), |flaw| Err(unread(&flaw)))
    }

    /// What other code relies on and does not hold: any program can write what is stored.
    fn flaw(&self, record: &Record) -> Option<&'static str> {
        let count = self.definition.steps.len();
        if self.steps.len() != count || self.id != record.id {
            return Some("its steps are not those of its definition");
        }
        // Both go up from here.
        if self.version != record.version || self.version >= i64::MAX as u64 {
            return Some("its version is not that of what is stored beside it");
        }
        let is_above = |(place, step): (usize, &definition::Step)| {
            step.needs.iter().all(|need| *need < place)
                && !matches!(&step.for_each, Some(ForEach::Result { step, .. }) if *step >= place)
        };
        if count == 0 || !self.definition.steps.iter().enumerate().all(is_above) {
            return Some("a step needs one that is not above it");
        }
        let restarted = self.restarted.iter().flat_map(|restarted| &restarted.steps);
        let wiped = self.wipe.iter().filter_map(|wipe| wipe.at.as_ref()).map(|(step, _)| step);
        if restarted.chain(wiped).any(|step| *step >= count) {
            return Some("it names a step that it has not");
        }
        if self.steps.iter().any(|step| !step.members.agree()) {
            return Some("its numbers of tasks do not agree");
        }
        None
    }

    /// The job as it is stored.
    pub(super) fn record(&self) -> Record {
        let may_be_worked = |step: &&StepRecord| step.may_go_on() || step.members.failed > 0 && self.wiped == Wiped::No;
        let rounds = self.steps.iter().filter(may_be_worked).filter_map(|step| step.round);
        let wipes = self.wipe.iter().filter_map(|wipe| wipe.at).map(|(_, round)| round);
        Record {
            id: self.id.clone(),
            pipeline: self.definition.name.clone(),
            key: self.key.clone(),
            holds_key: self.holds_key(),
            state: self.state,
            frozen: self.frozen,
            open: !self.closed,
            priority: self.priority,
            made_at: self.made_at,
            purge_at: self.closed.then(|| self.ended_at.unwrap_or(self.made_at).plus(self.definition.remember)),
            version: self.version,
            rounds: rounds.chain(wipes).collect(),
            // Maps with text keys and texts that were JSON before: writing them cannot fail.
            content: serde_json::to_string(self).unwrap_or_default(),
        }
    }

    /// Whether no other job with its key may begin: a wipe by key would take what that one has made.
    pub(super) const fn holds_key(&self) -> bool {
        self.key.is_some() && (self.state.is_live() && !self.waits_for_key || matches!(self.wiped, Wiped::UnderWay))
    }

    /// `PIPELINE/KEY`, or the pipeline alone.
    pub(super) fn place(&self) -> String {
        place(&self.definition.name, self.key.as_deref())
    }

    /// Whether an order was carried out before.
    pub(super) fn has_done(&self, order: &str) -> bool {
        self.orders.iter().any(|done| done == order)
    }

    /// An order is carried out.
    pub(super) fn note(&mut self, order: &str, now: Timestamp) {
        self.orders.push(order.to_owned());
        self.orders.drain(..self.orders.len().saturating_sub(ORDERS));
        self.heard_at = now;
    }

    /// Whether all that a step needs is done.
    pub(super) fn has_needs(&self, step: usize) -> bool {
        self.definition.steps[step].needs.iter().all(|need| self.steps[*need].state == StepState::Done)
    }

    /// The steps of the definition with what became of them.
    pub(super) fn pairs(&self) -> impl DoubleEndedIterator<Item = (usize, &definition::Step, &StepRecord)> {
        let pairs = self.definition.steps.iter().zip(&self.steps).enumerate();
        pairs.map(|(place, (step, record))| (place, step, record))
    }

    /// When time brings something for it.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        // Nobody may work it, so time does not judge it.
        if self.frozen || self.closed {
            return None;
        }
        let stood_still = Duration::from_millis(self.stood_still);
        if self.state == JobState::Running {
            return Some(self.running_since?.plus(self.definition.timeout?).plus(stood_still));
        }
        if self.state.is_live() || self.wiped == Wiped::UnderWay {
            return None;
        }
        let after = match self.state {
            JobState::Done if self.is_wiped_later() => Some(Duration::ZERO),
            _ => self.definition.wipe_failed_after.filter(|_| self.is_wiped_later()),
        };
        Some(self.ended_at?.plus(after.unwrap_or(self.definition.remember)).plus(stood_still))
    }

    /// The wall clock was set, by so many milliseconds; whether that changes its time. While it is frozen no time counts at all.
    pub(super) fn clock_jumped(&mut self, by: i64) -> bool {
        let before = self.stood_still;
        if self.deadline().is_some() {
            self.stood_still = before.saturating_add_signed(by);
        }
        self.stood_still != before
    }

    /// What is told of its end.
    pub(super) fn end_told(&self) -> Ended {
        let took = self.running_since.zip(self.ended_at).map(|(since, ended_at)| ended_at.remaining(since));
        Ended { id: self.id.clone(), pipeline: self.definition.name.clone(), state: self.state, took }
    }

    /// Another time of it begins: it runs, or has ended.
    pub(super) const fn count_time_anew(&mut self, now: Timestamp) {
        self.stood_still = 0;
        self.frozen_since = if self.frozen { Some(now) } else { None };
    }

    /// Whether time will wipe what it left: it failed, or is done while another job has its key.
    pub(super) const fn is_wiped_later(&self) -> bool {
        let has_time = match self.state {
            JobState::Failed => self.definition.wipe_failed_after.is_some(),
            JobState::Done => self.waits_for_key,
            JobState::Planned | JobState::Running | JobState::Cancelled => false,
        };
        has_time && matches!(self.wiped, Wiped::No) && !self.keep
    }
}

impl StepRecord {
    /// Whether it has begun and not ended.
    pub(super) const fn is_under_way(&self) -> bool {
        matches!(self.state, StepState::Waiting | StepState::Running)
    }

    /// Whether ends of its tasks can change it.
    pub(super) const fn may_go_on(&self) -> bool {
        self.is_under_way() || matches!(self.state, StepState::Failed)
    }

    /// Whether nothing of it failed or was left out.
    pub(super) const fn is_sound(&self) -> bool {
        self.members.failed == 0 && (self.is_under_way() || matches!(self.state, StepState::Done))
    }

    /// Nothing of its round counts any more. Its dead letters stay.
    pub(super) fn void(&mut self, out: &mut Out) {
        if let Some(round) = self.round.take() {
            out.void(Some(round));
            self.void_round = Some(round);
        }
    }

    /// It is to be done again: nothing of its rounds counts any more, and their dead letters go.
    pub(super) fn redo(&mut self, definition: &definition::Step, out: &mut Out) {
        let queues = [&definition.queue, &definition.each];
        out.supersede(self.round, queues);
        out.drop_dead(self.void_round, queues);
        self.reset();
    }

    /// It has not begun. What it left is still to be wiped.
    pub(super) fn reset(&mut self) {
        *self = Self { ever_begun: self.ever_begun, wiped: self.wiped, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::{Bench, chain};
    use crate::jobs::{ledger::View, record::Record};

    #[test]
    fn what_another_program_wrote_is_read_or_refused_and_breaks_nothing() {
        let mut pipeline = chain("p", &["a", "b"]);
        pipeline.steps[1].wipe = Some("wipe".to_owned());
        let mut bench = Bench::new(vec![pipeline]);
        bench.start("p", "j", "{}");
        let splitter = bench.take("a");
        let (end, _) = bench.done_with(&splitter, 3, "");
        bench.fold(vec![end]);
        let record = bench.stored["j"].clone();
        let whole: Value = serde_json::from_str(&record.content).unwrap();
        let changes = [
            ("/definition/steps/0/needs", json!([1])),
            ("/definition/steps/1/needs", json!([1])),
            ("/definition/steps/1/needs", json!([7])),
            ("/definition/steps/1/for_each", json!({"result": {"step": 9, "path": []}})),
            ("/definition/steps", json!([])),
            ("/wipe", json!({"all": false, "forget": false, "at": [2, "00000000-0000-0000-0000-000000000001"]})),
            ("/restarted", json!({"at": 0, "steps": [2]})),
            ("/steps/0/members/done", json!(5)),
            ("/steps/0/members/failed", json!(1)),
            ("/steps/0/members/known", json!(0)),
            ("/steps", json!([])),
            ("/version", json!(u64::MAX)),
            ("/id", json!("k")),
        ];
        for (place, value) in changes {
            let mut content = whole.clone();
            let (parent, name) = place.rsplit_once('/').unwrap();
            content.pointer_mut(parent).unwrap()[name] = value.clone();
            let read = View::of(&Record { content: content.to_string(), ..record.clone() });
            assert!(
                read.is_err_and(|error| error.starts_with("the state of job j cannot be read: ")),
                "{place} {value}"
            );
        }
        assert!(View::of(&record).is_ok());
    }
}
