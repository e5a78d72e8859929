//! Orders that change one job: cancel, freeze, resume, priority, keep, wipe.

use super::answers::{done, refused_of};
use crate::jobs::{
    ledger::{
        out::Out,
        state::Job,
        view::{View, Wiped},
    },
    order::Answer,
    record::JobState,
};

impl Job {
    /// Nothing of it is begun any more, and what is in hand counts for nothing.
    pub(super) fn cancel(&mut self, out: &mut Out) -> Answer {
        match self.state {
            JobState::Planned | JobState::Running => {}
            JobState::Cancelled => return done(self, "is cancelled already"),
            JobState::Done => return refused_of(self, "is done", None),
            JobState::Failed => {
                let hint = format!("asynctask jobs wipe {} wipes what it left", self.id);
                return refused_of(self, "has failed: nothing of it is begun any more", Some(hint));
            }
        }
        self.stop(out);
        // What it left is to be wiped.
        self.thaw(out);
        self.state = JobState::Cancelled;
        self.waits_for_key = false;
        self.ended_at = Some(out.now);
        out.info(format!("Job {} is cancelled", self.id));
        self.wipe_at_end(out);
        out.step.ended.push(View::of_job(self));
        done(self, "is cancelled")
    }

    pub(super) fn freeze(&mut self, out: &mut Out) -> Answer {
        if self.closed {
            return refused_of(self, &format!("has ended: it is {}", self.state.as_str()), None);
        }
        if self.frozen {
            return done(self, "is frozen already");
        }
        self.frozen = true;
        out.step.advance.frozen.push(self.id.clone());
        done(self, "is frozen: no task of it is begun")
    }

    pub(super) fn resume(&mut self, out: &mut Out) -> Answer {
        if !self.frozen {
            return done(self, "is not frozen");
        }
        self.thaw(out);
        self.go_on(out);
        done(self, "goes on")
    }

    fn thaw(&mut self, out: &mut Out) {
        if std::mem::take(&mut self.frozen) {
            out.step.advance.thawed.push(self.id.clone());
        }
    }

    pub(super) fn prioritize(&mut self, priority: i32) -> Answer {
        if !self.state.is_live() {
            return refused_of(self, &format!("has ended: it is {}", self.state.as_str()), None);
        }
        self.priority = priority;
        let counts =
            if self.state == JobState::Running { ", which counts when it begins: it runs already" } else { "" };
        done(self, &format!("has priority {priority}{counts}"))
    }

    pub(super) fn keep_output(&mut self) -> Answer {
        match self.wiped {
            Wiped::No => {}
            Wiped::UnderWay => return refused_of(self, "is being wiped", None),
            Wiped::Yes => return refused_of(self, "is wiped", None),
            Wiped::Failed => return refused_of(self, "is wiped in part", None),
        }
        self.keep = true;
        done(self, "keeps what it left: nothing is wiped at its end")
    }

    pub(super) fn wipe_now(&mut self, all: bool, out: &mut Out) -> Answer {
        if self.state.is_live() {
            let hint = format!("asynctask jobs cancel {} ends it, and wipes what it left", self.id);
            return refused_of(self, &format!("is {}", self.state.as_str()), Some(hint));
        }
        // What failed cannot be done again without what is wiped now.
        self.stop(out);
        if self.wiped == Wiped::UnderWay
            && let Some(wipe) = &mut self.wipe
        {
            wipe.all |= all;
            wipe.forget |= all;
            return done(self, "is being wiped already");
        }
        self.begin_wipe(all, all, out);
        match self.wiped {
            Wiped::Yes if all => done(self, "is forgotten: nothing of it is to be wiped"),
            Wiped::Yes => done(self, "has nothing to wipe"),
            _ if self.frozen => done(self, "is wiped when it is resumed"),
            _ => done(self, "is being wiped"),
        }
    }
}
