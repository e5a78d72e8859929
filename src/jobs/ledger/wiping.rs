//! What a job left is wiped: step after step, those that need others first.

use uuid::Uuid;

use super::{
    inputs,
    out::Out,
    state::{Job, Wipe},
    steps::told,
    view::Wiped,
};
use crate::{
    jobs::entry::{End, How, MemberId},
    membership::Membership,
    task::NewTask,
};

impl Job {
    /// The job has ended, or was kept long enough.
    pub(super) fn wipe_at_end(&mut self, out: &mut Out) {
        let has_to_wipe = self.has_to_wipe(false);
        if self.keep || !has_to_wipe {
            // Steps that were done again may leave nothing: then what was wiped before is all there is.
            if !has_to_wipe && self.steps.iter().any(|step| step.wiped) {
                self.wiped = Wiped::Yes;
            }
            self.closed = true;
            return;
        }
        self.begin_wipe(false, false, out);
    }

    /// Whether there is something left to wipe.
    pub(super) fn has_to_wipe(&self, all: bool) -> bool {
        (0..self.steps.len()).any(|step| self.is_to_wipe(step, all))
    }

    /// Wipes what is left to wipe; of a job that was wiped, all of it again.
    pub(super) fn begin_wipe(&mut self, all: bool, forget: bool, out: &mut Out) {
        if let Some(wipe) = self.wipe.take() {
            self.supersede_wipe(&wipe, out);
        }
        if !self.has_to_wipe(all) {
            for step in &mut self.steps {
                step.wiped = false;
            }
        }
        self.closed = false;
        self.waits_for_key = false;
        self.wiped = Wiped::UnderWay;
        self.wipe = Some(Wipe { all, forget, at: None, error: None });
        if !self.frozen {
            self.go_on_wiping(out);
        }
    }

    /// Another wipe, or none, takes the place of this one.
    pub(super) fn supersede_wipe(&self, wipe: &Wipe, out: &mut Out) {
        if let Some((place, round)) = wipe.at {
            out.supersede(Some(round), &self.definition.steps[place].wipe);
        }
    }

    /// Whether a wipe would have tasks: one of what was wiped does it again.
    pub(super) fn has_wipes(&self, all: bool) -> bool {
        self.pairs().any(|(_, step, record)| step.wipe.is_some() && record.ever_begun && (all || !step.keep))
    }

    fn is_to_wipe(&self, place: usize, all: bool) -> bool {
        let (step, record) = (&self.definition.steps[place], &self.steps[place]);
        step.wipe.is_some() && record.ever_begun && !record.wiped && (all || !step.keep)
    }

    /// The next step is wiped, if one is to be and none is under way.
    pub(super) fn go_on_wiping(&mut self, out: &mut Out) {
        let Some(wipe) = self.wipe.as_ref().filter(|wipe| wipe.at.is_none()) else { return };
        let (all, forget) = (wipe.all, wipe.forget);
        let next = (0..self.steps.len()).rev().find(|step| self.is_to_wipe(*step, all));
        let Some(next) = next else {
            self.wipe = None;
            self.wiped = Wiped::Yes;
            self.closed = true;
            out.info(format!("Job {} is wiped", self.id));
            if forget {
                out.forgotten.insert(self.id.clone());
            }
            return;
        };
        let round = out.id();
        out.step.advance.tasks.push(self.task_that_wipes(next, round, &out.application));
        if let Some(wipe) = &mut self.wipe {
            wipe.at = Some((next, round));
        }
    }

    fn task_that_wipes(&self, place: usize, round: Uuid, application: &str) -> NewTask {
        let step = &self.definition.steps[place];
        let queue = step.wipe.clone().unwrap_or_default();
        NewTask {
            queue: queue.clone(),
            id: round.to_string(),
            body: self.payload.as_str().as_bytes().to_vec(),
            membership: Some(Box::new(Membership {
                application: application.to_owned(),
                job: self.id.clone(),
                pipeline: self.definition.name.clone(),
                key: self.key.clone(),
                step: step.name.clone(),
                queue: queue.clone(),
                each: queue,
                round,
                feeder: round,
                index: 0,
                wipe: true,
                // A result and a memo: together less than inputs may have.
                inputs: inputs::of_steps(self, &[place]).ok(),
            })),
            ..NewTask::default()
        }
    }

    /// A task that wipes and failed is back at work; whether it is the one that is under way. `holder`: another job that has the key.
    pub(super) fn wipe_retried(&mut self, member: &MemberId, holder: Option<&str>) -> bool {
        let is_failed = self.wiped == Wiped::Failed && holder.is_none();
        let Some(wipe) = self.wipe.as_mut().filter(|_| is_failed) else { return false };
        if wipe.at.is_none_or(|(_, round)| (member.round, member.feeder, member.index) != (round, round, 0)) {
            return false;
        }
        wipe.error = None;
        self.wiped = Wiped::UnderWay;
        true
    }

    /// A task that wipes has ended; whether it is the one that is under way. `holder`: another job that has the key.
    pub(super) fn wipe_ended(&mut self, end: &End, holder: Option<&str>, out: &mut Out) -> bool {
        let member = &end.member;
        let Some(wipe) = &mut self.wipe else { return false };
        let Some((place, _)) =
            wipe.at.filter(|(_, round)| (member.round, member.feeder, member.index) == (*round, *round, 0))
        else {
            return false;
        };
        match &end.how {
            How::Done { .. } => {
                (wipe.at, wipe.error) = (None, None);
                self.steps[place].wiped = true;
                if let Some(holder) = holder {
                    // A retry that came too late. The rest is wiped when somebody asks for it.
                    wipe.error = Some(format!("its key is held by job {holder}"));
                    return true;
                }
                self.wiped = Wiped::UnderWay;
                if !self.frozen {
                    self.go_on_wiping(out);
                }
            }
            How::Failed { reason, error, .. } => {
                if self.wiped == Wiped::Failed {
                    return false;
                }
                let (name, error) = (&self.definition.steps[place].name, told(Some(reason), Some(error)));
                out.warning(format!("Job {}: the wipe of step {name} failed: {error}", self.id));
                wipe.error = Some(format!("the wipe of step {name} failed: {error}"));
                self.wiped = Wiped::Failed;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::{Bench, chain, of, text};
    use crate::{
        jobs::{
            definition::{Conflict, Pipeline},
            entry::Entry,
            order::Wanted,
        },
        task::NewTask,
    };

    fn wiped(bench: &Bench) -> &'static str {
        bench.view("j").wiped.as_str()
    }

    fn wipe(all: bool) -> Wanted {
        Wanted::Wipe { job: "j".to_owned(), all }
    }

    /// Three steps, each with a queue that wipes; what the second leaves is final.
    fn pipeline() -> Pipeline {
        let mut pipeline = chain("p", &["a", "b", "c"]);
        for step in &mut pipeline.steps {
            step.wipe = Some(format!("wipe-{}", step.name));
        }
        pipeline.steps[1].keep = true;
        pipeline.wipe_failed_after = Some(Duration::from_mins(1));
        pipeline
    }

    fn done_job() -> Bench {
        let mut bench = Bench::new(vec![pipeline()]);
        bench.start("p", "j", "{}");
        for queue in ["a", "b", "c"] {
            bench.done(queue, "");
        }
        bench
    }

    #[test]
    fn a_wipe_that_failed_is_healed_by_a_retry_and_the_job_stays_done() {
        let mut bench = done_job();
        let task = bench.take("wipe-c");
        bench.failed(&task);
        bench.failed(&task);
        assert_eq!((wiped(&bench), bench.view("j").state.as_str()), ("failed", "done"));
        assert_eq!(bench.view("j").error.as_deref(), Some("the wipe of step c failed: crash: killed by SIGSEGV"));
        assert_eq!(bench.said("the wipe of step c failed"), 1, "of two that are told of one failure");
        let again = Entry::retried(of(&task), bench.now);
        bench.fold(vec![again]);
        assert_eq!((wiped(&bench), bench.view("j").error), ("under way", None));
        bench.failed(&task);
        assert_eq!(wiped(&bench), "failed");
        let (end, _) = bench.done_with(&task, 0, "");
        bench.fold(vec![end.clone()]);
        assert_eq!((wiped(&bench), bench.view("j").error), ("under way", None));
        bench.fold(vec![end]);
        bench.done("wipe-a", "");
        assert_eq!((wiped(&bench), bench.view("j").state.as_str()), ("yes", "done"));
        assert!(bench.tasks.is_empty(), "what is final stays");
    }

    #[test]
    fn a_wipe_that_failed_can_be_ordered_again() {
        let mut bench = done_job();
        bench.done("wipe-c", "");
        let task = bench.take("wipe-a");
        bench.failed(&task);
        assert_eq!(text(&bench.order(wipe(false))), "job j of p is being wiped");
        assert_eq!(bench.last.void, [of(&task).round], "the dead letter counts for nothing");
        let again = bench.take("wipe-a");
        assert_ne!(of(&again).round, of(&task).round);
        let (end, _) = bench.done_with(&task, 0, "");
        bench.fold(vec![end]);
        assert_eq!(wiped(&bench), "under way");
        let (end, _) = bench.done_with(&again, 0, "");
        bench.fold(vec![end]);
        assert_eq!(wiped(&bench), "yes");
        assert!(bench.tasks.is_empty(), "what was wiped is not wiped again");
    }

    #[test]
    fn what_a_failed_job_left_is_wiped_later_and_what_never_began_is_not() {
        let mut bench = Bench::new(vec![pipeline()]);
        bench.start("p", "j", "{}");
        bench.done("a", "");
        let task = bench.take("b");
        bench.failed(&task);
        assert!(bench.tasks.is_empty());
        bench.pass(59_999);
        assert!(bench.tasks.is_empty() && wiped(&bench) == "no");
        bench.pass(1);
        assert_eq!(bench.last.void, [of(&task).round], "a retry of its dead letters would do nothing good any more");
        bench.done("wipe-a", "");
        assert_eq!((wiped(&bench), bench.tasks.len()), ("yes", 0));
        assert!(!bench.stored["j"].open);
        let (end, _) = bench.done_with(&task, 0, "");
        bench.fold(vec![end]);
        assert_eq!(bench.states("j"), "failed a:done b:failed c:skipped");
    }

    #[test]
    fn a_kept_job_is_wiped_by_order_alone() {
        let mut bench = Bench::new(vec![pipeline()]);
        bench.start("p", "j", "{}");
        bench.order(Wanted::Keep { job: "j".to_owned() });
        for queue in ["a", "b", "c"] {
            bench.done(queue, "");
        }
        assert!(bench.tasks.is_empty() && !bench.stored["j"].open && wiped(&bench) == "no");
        bench.order(wipe(false));
        bench.done("wipe-c", "");
        bench.done("wipe-a", "");
        assert_eq!((wiped(&bench), bench.tasks.len()), ("yes", 0));
        assert!(text(&bench.order(Wanted::Keep { job: "j".to_owned() })).starts_with("refused: job j of p is wiped"));
        bench.order(wipe(true));
        bench.done("wipe-b", "");
        assert!(bench.tasks.is_empty() && bench.stored.is_empty() && bench.last.forgotten == ["j"]);
        assert!(text(&bench.order(wipe(true))).starts_with("refused: there is no job j"));
    }

    #[test]
    fn a_job_that_was_wiped_is_so_again_when_what_was_done_again_leaves_nothing() {
        let mut pipeline = pipeline();
        pipeline.steps[2].wipe = None;
        let mut bench = Bench::new(vec![pipeline]);
        bench.start("p", "j", "{}");
        for queue in ["a", "b", "c", "wipe-a"] {
            bench.done(queue, "");
        }
        assert_eq!(wiped(&bench), "yes");
        let again = |step: &str| Wanted::Restart {
            job: "j".to_owned(),
            steps: vec![step.to_owned()],
            only: true,
            failed: false,
            redefine: false,
            even_if_wiped: true,
        };
        bench.order(again("c"));
        assert_eq!(wiped(&bench), "no");
        bench.done("c", "");
        assert_eq!((wiped(&bench), bench.tasks.len()), ("yes", 0));
        // What is done again and leaves something is wiped again.
        bench.order(again("a"));
        for queue in ["a", "wipe-a"] {
            bench.done(queue, "");
        }
        assert_eq!((wiped(&bench), bench.tasks.len()), ("yes", 0));
    }

    #[test]
    fn what_is_wiped_can_be_wiped_again() {
        let mut bench = done_job();
        assert_eq!(text(&bench.order(wipe(false))), "job j of p is being wiped already");
        bench.done("wipe-c", "");
        bench.done("wipe-a", "");
        bench.order(wipe(false));
        bench.done("wipe-c", "");
        bench.done("wipe-a", "");
        assert_eq!((wiped(&bench), bench.said("Job j is wiped")), ("yes", 2));
    }

    /// Jobs of one key, whose first step leaves something.
    fn keyed(conflict: Conflict) -> Bench {
        let mut pipeline = Pipeline { key: Some("{payload}".to_owned()), conflict, ..chain("p", &["a", "b"]) };
        pipeline.steps[0].wipe = Some("wipe".to_owned());
        pipeline.wipe_failed_after = Some(Duration::from_mins(1));
        Bench::new(vec![pipeline])
    }

    #[test]
    fn the_next_job_of_a_key_begins_when_the_one_before_is_wiped() {
        for conflict in [Conflict::Refuse, Conflict::Wait] {
            let mut bench = keyed(conflict);
            bench.start("p", "j", "1");
            bench.done("a", "");
            bench.done("b", "");
            bench.take_over();
            assert_eq!(text(&bench.start("p", "k", "1")), "job k of p/1 is planned: it begins when job j is wiped");
            let refused = text(&bench.start("p", "l", "1"));
            assert!(refused.starts_with("refused: job k of p/1 waits already"), "{refused}");
            assert_eq!((bench.tasks.len(), bench.states("k").as_str()), (1, "planned a:planned b:planned"));
            // A wipe that failed gives the key back.
            let task = bench.take("wipe");
            if conflict == Conflict::Wait {
                bench.failed(&task);
            } else {
                let (end, _) = bench.done_with(&task, 0, "");
                bench.fold(vec![end]);
            }
            assert_eq!(bench.states("k"), "running a:waiting b:planned");
            bench.order(Wanted::Cancel { job: "k".to_owned() });
            assert_eq!(text(&bench.start("p", "l", "1")), "job l of p/1 is planned: it begins when job k is wiped");
            bench.done("wipe", "");
            assert_eq!(bench.states("l"), "running a:waiting b:planned");
        }
    }

    /// Job j has failed, and job k has its key. The task that failed.
    fn beside_a_failed_one() -> (Bench, NewTask) {
        let mut bench = keyed(Conflict::Refuse);
        bench.start("p", "j", "1");
        bench.done("a", "");
        let task = bench.take("b");
        bench.failed(&task);
        bench.start("p", "k", "1");
        (bench, task)
    }

    #[test]
    fn a_job_that_failed_is_not_wiped_while_another_one_has_its_key() {
        let (mut bench, _) = beside_a_failed_one();
        bench.pass(120_000);
        assert_eq!((wiped(&bench), bench.last.void.len()), ("no", 0));
        assert!(bench.ledger.next_deadline().is_none(), "nothing is due before the key is free");
        assert_eq!(
            text(&bench.order(wipe(false))),
            "refused: job j of p/1 cannot be wiped: its key is held by job k; asynctask jobs show k"
        );
        bench.done("a", "");
        bench.done("b", "");
        assert_eq!(wiped(&bench), "no", "job k is being wiped");
        bench.done("wipe", "");
        assert_eq!((wiped(&bench), bench.last.void.len()), ("under way", 1));
        assert!(text(&bench.start("p", "l", "1")).ends_with("it begins when job j is wiped"));
        bench.done("wipe", "");
        assert_eq!((wiped(&bench), bench.states("l").as_str()), ("yes", "running a:waiting b:planned"));
    }

    #[test]
    fn a_job_that_is_healed_while_another_one_has_its_key_is_wiped_later() {
        let (mut bench, task) = beside_a_failed_one();
        let (end, _) = bench.done_with(&task, 0, "");
        bench.fold(vec![end]);
        assert_eq!((bench.states("j").as_str(), wiped(&bench)), ("done a:done b:done", "no"));
        assert!(bench.stored["j"].open && !bench.stored["j"].holds_key);
        bench.take_over();
        bench.pass(10);
        bench.order(Wanted::Cancel { job: "k".to_owned() });
        assert_eq!((wiped(&bench), bench.view("k").wiped.as_str()), ("no", "under way"));
        bench.done("wipe", "");
        assert_eq!(wiped(&bench), "under way");
        bench.done("wipe", "");
        assert_eq!((wiped(&bench), bench.stored["j"].open), ("yes", false));
    }

    #[test]
    fn a_wipe_that_is_healed_while_another_one_has_the_key_goes_no_further() {
        let mut bench = keyed(Conflict::Refuse);
        bench.start("p", "j", "1");
        bench.done("a", "");
        bench.done("b", "");
        let task = bench.take("wipe");
        bench.failed(&task);
        bench.start("p", "k", "1");
        let (end, _) = bench.done_with(&task, 0, "");
        bench.fold(vec![end]);
        assert_eq!((wiped(&bench), bench.view("j").error.as_deref()), ("failed", Some("its key is held by job k")));
        bench.order(Wanted::Cancel { job: "k".to_owned() });
        bench.done("wipe", "");
        bench.order(wipe(false));
        bench.done("wipe", "");
        assert_eq!(wiped(&bench), "yes");
    }

    #[test]
    fn a_live_job_is_not_wiped() {
        let mut bench = Bench::new(vec![pipeline()]);
        bench.start("p", "j", "{}");
        assert!(text(&bench.order(wipe(true))).starts_with("refused: job j of p is running; asynctask jobs cancel j"));
    }
}
