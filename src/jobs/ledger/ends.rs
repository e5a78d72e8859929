//! What the entries about tasks change in their job.

use super::{
    members::{Counted, Ending, FailedMember, MOST},
    out::Out,
    state::{Job, StepRecord},
    view::StepState,
};
use crate::jobs::{
    entry::{End, How, MemberId, News, What},
    record::JobState,
};

impl Job {
    /// A task of it has ended; whether that counts. `holder`: another job that has its key.
    pub(super) fn ended(&mut self, end: End, holder: Option<&str>, out: &mut Out) -> bool {
        if end.member.wipe {
            return self.wipe_ended(&end, out);
        }
        let Some(place) = self.step_of(&end.member) else { return false };
        let MemberId { feeder, round, index, .. } = end.member;
        let record = &mut self.steps[place];
        let (ending, result, failure) = match end.how {
            How::Done { execution, items, result } => (Ending::Done { execution, items }, result, None),
            How::Failed { reason, error, dead_letter } => {
                let failure = Some((reason.clone(), error.clone()));
                let is_gone = dead_letter.is_none();
                let shown = Some(FailedMember { feeder, index, reason, error, dead_letter });
                (Ending::Failed { is_gone, shown }, None, failure)
            }
        };
        match record.members.end(feeder, index, ending) {
            Counted::No => return false,
            Counted::Early => {
                record.begun();
                return true;
            }
            Counted::Yes => {}
            Counted::TooMany => {
                self.break_step(place, format!("it has more than {MOST} tasks"), out);
                self.go_on(out);
                return true;
            }
        }
        record.begun();
        if feeder == round {
            (record.retrying, record.snoozed) = (None, None);
            record.memo = end.memo.or(record.memo.take());
            if failure.is_none() {
                self.give(place, result);
            }
        }
        if let Some((reason, error)) = failure {
            let record = &mut self.steps[place];
            (record.reason, record.error) = (Some(reason), Some(error));
        }
        self.judge_step(place, out);
        if self.state == JobState::Failed {
            self.heal(holder, out);
        } else {
            self.go_on(out);
        }
        true
    }

    /// There are news of a task; whether they are new.
    pub(super) fn told(&mut self, news: News) -> bool {
        let member = &news.member;
        let Some(place) = self.step_of(member).filter(|_| !member.wipe) else { return false };
        let record = &mut self.steps[place];
        let is_old =
            record.news_at.is_some_and(|at| at > news.at) || record.members.has_ended(member.feeder, member.index);
        if is_old || !record.is_under_way() {
            return false;
        }
        record.begun();
        record.news_at = Some(news.at);
        (record.retrying, record.snoozed) = match news.what {
            What::Began => (None, None),
            What::Retrying { error, again_at } => (Some((error, again_at)), None),
            What::Snoozed { again_at } => (None, Some(again_at)),
        };
        record.memo = news.memo.or(record.memo.take());
        true
    }

    /// The step that a member is of, if its round is the present one.
    fn step_of(&self, member: &MemberId) -> Option<usize> {
        let place = self.definition.step(&member.step)?;
        (self.steps[place].round == Some(member.round)).then_some(place)
    }
}

impl StepRecord {
    /// A task of it has begun.
    fn begun(&mut self) {
        if self.state == StepState::Waiting {
            self.state = StepState::Running;
        }
    }
}
