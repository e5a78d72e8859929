//! Orders that change one job: cancel, freeze, resume, priority, keep, wipe.

use super::answers::{done, refused_of};
use crate::jobs::{
    ledger::{out::Out, state::Job, view::Wiped},
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
        self.count_time_anew(out.now);
        out.info(format!("Job {} is cancelled", self.id));
        self.wipe_at_end(out);
        out.step.ended.push(self.end_told());
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
        self.frozen_since = Some(out.now);
        out.refrozen.insert(self.id.clone());
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
            let since = self.frozen_since.take().unwrap_or(out.now);
            let stood_still = u64::try_from(out.now.remaining(since).as_millis()).unwrap_or(u64::MAX);
            self.stood_still = self.stood_still.saturating_add(stood_still);
            out.refrozen.insert(self.id.clone());
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

    /// `holder`: another job that has its key.
    pub(super) fn wipe_now(&mut self, all: bool, holder: Option<&str>, out: &mut Out) -> Answer {
        if self.state.is_live() {
            let hint = format!("asynctask jobs cancel {} ends it, and wipes what it left", self.id);
            return refused_of(self, &format!("is {}", self.state.as_str()), Some(hint));
        }
        if let Some(holder) = holder.filter(|_| self.has_wipes(all)) {
            let hint = format!("asynctask jobs show {holder}");
            return refused_of(self, &format!("cannot be wiped: its key is held by job {holder}"), Some(hint));
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

#[cfg(test)]
mod tests {
    use crate::jobs::{
        entry::Entry,
        ledger::tests::{Bench, chain, of, text},
        order::{Order, Scope, Wanted},
    };

    fn cancel(job: &str) -> Wanted {
        Wanted::Cancel { job: job.to_owned() }
    }

    fn freeze(job: &str) -> Wanted {
        Wanted::Freeze(Scope::Job(job.to_owned()))
    }

    fn resume(job: &str) -> Wanted {
        Wanted::Resume(Scope::Job(job.to_owned()))
    }

    #[test]
    fn a_cancelled_job_ends_at_once_and_what_it_left_is_wiped() {
        let mut pipeline = chain("p", &["a", "b", "c"]);
        pipeline.steps[1].wipe = Some("wipe-b".to_owned());
        let mut bench = Bench::new(vec![pipeline]);
        bench.start("p", "j", "{}");
        bench.done("a", "");
        let splitter = bench.take("b");
        let (end, items) = bench.done_with(&splitter, 10, "");
        bench.fold(vec![end]);
        bench.order(freeze("j"));
        assert_eq!(text(&bench.order(cancel("j"))), "job j of p is cancelled");
        assert_eq!(bench.states("j"), "cancelled a:done b:cancelled c:skipped");
        assert_eq!((&bench.last.void[..], &bench.last.thawed[..]), (&[of(&splitter).round][..], &["j".to_owned()][..]));
        assert!(bench.stored["j"].open && bench.ended.len() == 1);
        let (late, _) = bench.done_with(&items[0], 0, "");
        bench.fold(vec![late]);
        bench.done("wipe-b", "");
        assert_eq!(bench.view("j").wiped.as_str(), "yes");
        assert_eq!(bench.states("j"), "cancelled a:done b:cancelled c:skipped");
        assert_eq!(text(&bench.order(cancel("j"))), "job j of p is cancelled already");
        assert_eq!(bench.said("Job j is cancelled"), 1);
    }

    #[test]
    fn what_has_ended_is_not_cancelled() {
        let mut bench = Bench::new(vec![chain("p", &["a"])]);
        bench.start("p", "done", "{}");
        bench.done("a", "");
        bench.start("p", "failed", "{}");
        let task = bench.take("a");
        bench.failed(&task);
        assert_eq!(text(&bench.order(cancel("done"))), "refused: job done of p is done; ");
        let refused = "refused: job failed of p has failed: nothing of it is begun any more";
        assert!(text(&bench.order(cancel("failed"))).starts_with(refused));
        assert_eq!(text(&bench.order(freeze("done"))), "refused: job done of p has ended: it is done; ");
        let priority = Wanted::Priority { job: "done".to_owned(), priority: 3 };
        assert_eq!(text(&bench.order(priority)), "refused: job done of p has ended: it is done; ");
    }

    #[test]
    fn a_frozen_job_begins_nothing_until_it_is_resumed() {
        let mut bench = Bench::new(vec![chain("p", &["a", "b"])]);
        bench.start("p", "j", "{}");
        assert_eq!(text(&bench.order(freeze("j"))), "job j of p is frozen: no task of it is begun");
        assert_eq!((&bench.last.frozen[..], bench.stored["j"].frozen), (&["j".to_owned()][..], true));
        assert_eq!(text(&bench.order(freeze("j"))), "job j of p is frozen already");
        bench.done("a", "");
        assert_eq!(bench.states("j"), "running a:done b:planned");
        bench.take_over();
        bench.pass(10);
        assert!(bench.tasks.is_empty() && bench.ledger.census().counts().frozen == 1);
        assert_eq!(text(&bench.order(resume("j"))), "job j of p goes on");
        assert_eq!(
            (bench.states("j").as_str(), &bench.last.thawed[..]),
            ("running a:done b:waiting", &["j".to_owned()][..])
        );
        assert_eq!(text(&bench.order(resume("j"))), "job j of p is not frozen");
    }

    #[test]
    fn of_several_orders_in_one_fold_the_last_one_says_whether_a_job_is_frozen() {
        let order =
            |bench: &Bench, id: &str, what| Entry::Order(Box::new(Order { id: id.to_owned(), at: bench.now, what }));
        for (before, orders, frozen, thawed) in [
            (false, [freeze("j"), resume("j")], false, true),
            (true, [resume("j"), freeze("j")], true, false),
            (false, [freeze("j"), cancel("j")], false, true),
        ] {
            let mut pipeline = chain("p", &["a"]);
            pipeline.steps[0].wipe = Some("wipe".to_owned());
            let mut bench = Bench::new(vec![pipeline]);
            bench.start("p", "j", "{}");
            if before {
                bench.order(freeze("j"));
            }
            let [first, second] = orders;
            let entries = vec![order(&bench, "first", first), order(&bench, "second", second)];
            bench.fold(entries);
            let told = |jobs: &[String]| jobs.iter().filter(|job| *job == "j").count();
            assert_eq!(
                (told(&bench.last.frozen), told(&bench.last.thawed)),
                (usize::from(frozen), usize::from(thawed))
            );
            assert_eq!(bench.stored["j"].frozen, frozen);
        }
    }

    #[test]
    fn a_job_that_is_closed_is_frozen_no_more() {
        let mut bench = Bench::new(vec![chain("p", &["a"])]);
        bench.start("p", "j", "{}");
        bench.order(freeze("j"));
        // A task that was in hand.
        bench.done("a", "");
        assert_eq!((bench.states("j").as_str(), bench.stored["j"].open), ("done a:done", false));
        assert!(!bench.stored["j"].frozen && bench.last.thawed == ["j"], "{:?}", bench.last);
    }

    #[test]
    fn a_pipeline_is_frozen_by_its_name() {
        let mut bench = Bench::new(vec![chain("nightly", &["a"])]);
        let scope = |name: &str| Scope::Pipeline { name: name.to_owned(), key: None };
        assert!(text(&bench.order(Wanted::Freeze(scope("nihgtly")))).ends_with("did you mean nightly?"));
        assert_eq!(text(&bench.order(Wanted::Freeze(scope("nightly")))), "nightly is frozen: no job of it begins");
        assert_eq!(text(&bench.order(Wanted::Freeze(scope("nightly")))), "nightly is frozen already");
        bench.start("nightly", "j", "{}");
        assert_eq!(bench.states("j"), "planned a:planned");
        assert_eq!(text(&bench.order(cancel("j"))), "job j of nightly is cancelled");
        assert!(!bench.stored["j"].open, "there is nothing to wipe");
        assert_eq!(text(&bench.order(Wanted::Resume(scope("nightly")))), "nightly is not frozen any more");
        assert_eq!(text(&bench.order(Wanted::Resume(scope("nightly")))), "nightly is not frozen");
    }
}
