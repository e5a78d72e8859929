//! Steps of a job are done again.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::Duration,
};

use uuid::Uuid;

use super::answers::{done, refused_of};
use crate::{
    clock::Timestamp,
    jobs::{
        definition::{Pipeline, Step},
        ledger::{
            fold::Ledger,
            out::Out,
            state::{Job, Restarted},
            view::{StepState, Wiped},
        },
        order::Answer,
        record::{JobState, Revived},
    },
    suggest::nearest,
};

/// Two people who restart the same steps within this time mean the same restart, while no task of it has ended.
const SAME_WITHIN: Duration = Duration::from_secs(2);

/// What is asked for. Its flags are those of the command, each for itself.
#[allow(clippy::struct_excessive_bools)]
pub(super) struct Wish<'a> {
    pub(super) steps: &'a [String],
    pub(super) only: bool,
    pub(super) failed: bool,
    pub(super) redefine: bool,
    pub(super) even_if_wiped: bool,
}

impl Ledger {
    /// Does steps of a job again.
    pub(super) fn restart(&self, job: &mut Job, wish: &Wish<'_>, out: &mut Out) -> Answer {
        match self.try_restart(job, wish, out) {
            Ok(answer) | Err(answer) => answer,
        }
    }

    fn try_restart(&self, job: &mut Job, wish: &Wish<'_>, out: &mut Out) -> Result<Answer, Answer> {
        if job.state == JobState::Planned && job.began_at.is_none() {
            return Err(refused_of(job, "has not begun", None));
        }
        if job.wiped != Wiped::No && !wish.even_if_wiped {
            let what = match job.wiped {
                Wiped::UnderWay => "is being wiped",
                Wiped::Failed => "is wiped in part",
                Wiped::Yes | Wiped::No => "is wiped",
            };
            let hint = "--even-if-wiped does its steps again without what earlier ones left".to_owned();
            return Err(refused_of(job, what, Some(hint)));
        }
        // A copy, until nothing can be refused any more.
        let mut next = job.clone();
        let gone = if wish.redefine { next.redefine(self.definition_of(job)?) } else { Vec::new() };
        let again = steps_of(&next, wish)?;
        if is_same(job, wish, &again, out.now) {
            return Ok(done(job, "was told to do these steps again a moment ago"));
        }
        if wish.only
            && let Some(refusal) = ends_nowhere(job, &again)
        {
            return Err(refusal);
        }
        if let Some((step, need)) = failed_need(&next, &again) {
            let (step, need) = (&next.definition.steps[step].name, &next.definition.steps[need].name);
            let hint = format!("asynctask jobs restart {} {need} does it and what needs it", job.id);
            return Err(refused_of(
                job,
                &format!("cannot do step {step}: it needs step {need}, which failed"),
                Some(hint),
            ));
        }
        if !next.state.is_live()
            && let Some(holder) = self.holder_beside(&next)
        {
            let hint = format!("asynctask jobs show {holder}");
            return Err(refused_of(job, &format!("cannot go on: its key is held by job {holder}"), Some(hint)));
        }
        *job = next;
        for (round, step) in gone {
            out.supersede(Some(round), [&step.queue, &step.each]);
        }
        Ok(job.do_again(again, wish.failed, &self.missing, out))
    }

    fn definition_of(&self, job: &Job) -> Result<Pipeline, Answer> {
        let name = &job.definition.name;
        let definition = self.pipelines.iter().find(|pipeline| pipeline.name == *name).cloned();
        definition
            .ok_or_else(|| refused_of(job, &format!("cannot be redefined: there is no pipeline {name} any more"), None))
    }
}

impl Job {
    fn do_again(
        &mut self,
        again: BTreeSet<usize>,
        failed_alone: bool,
        missing: &HashSet<Uuid>,
        out: &mut Out,
    ) -> Answer {
        if let Some(wipe) = self.wipe.take() {
            self.supersede_wipe(&wipe, out);
        }
        self.wiped = Wiped::No;
        self.waits_for_key = false;
        self.closed = false;
        self.is_told = false;
        let unskipped = self.unskip(out);
        let mut is_any_revived = false;
        for step in &again {
            let (definition, step) = (&self.definition.steps[*step], &mut self.steps[*step]);
            let is_asked = !failed_alone || step.state == StepState::Failed;
            // Tasks of which there is no dead letter cannot come back: then all of the step is done again.
            let has_all = failed_alone && step.members.failed > 0 && !step.members.has_gone();
            if let Some(round) = step.round.filter(|round| has_all && !missing.contains(round)) {
                out.step.advance.revived.push(Revived { round, failed: step.members.take_failed() });
                out.step.advance.revived_from.extend([definition.queue.clone(), definition.each.clone()]);
                step.state = StepState::Running;
                (step.ended_at, step.error, step.reason) = (None, None, None);
                is_any_revived = true;
            } else {
                step.redo(definition, out);
            }
            step.asked = is_asked;
        }
        let what = if failed_alone { "does again what failed and did not begin" } else { "does again" };
        let mut text = format!("{what}: {}", self.names(again.iter()));
        let begun_late: Vec<usize> = unskipped.into_iter().filter(|step| !again.contains(step)).collect();
        if !begun_late.is_empty() {
            text.extend(["; and begins what did not: ", &self.names(begun_late.iter())]);
        }
        self.restarted = Some(Restarted { at: out.now, steps: again.into_iter().collect(), failed: failed_alone });
        self.error = None;
        self.ended_at = None;
        if self.state == JobState::Running || is_any_revived {
            self.run(out);
        } else {
            self.state = JobState::Planned;
        }
        done(self, &text)
    }

    /// Its definition becomes another one. Steps keep what became of them by their names. Gives the rounds of those that are no
    /// more, which are void.
    fn redefine(&mut self, definition: Pipeline) -> Vec<(Uuid, Step)> {
        let steps = std::mem::take(&mut self.definition.steps).into_iter();
        let all = steps.zip(std::mem::take(&mut self.steps));
        let mut known: BTreeMap<String, _> = all.map(|(step, record)| (step.name.clone(), (step, record))).collect();
        let mut record_of = |name| known.remove(name).map(|(_, record)| record);
        self.steps = definition.steps.iter().map(|step| record_of(&step.name).unwrap_or_default()).collect();
        self.definition = definition;
        self.restarted = None;
        let gone = known.into_values();
        gone.filter_map(|(step, record)| Some((record.round.or(record.void_round)?, step))).collect()
    }

    /// `step a`, `steps a, b`.
    fn names<'a>(&self, steps: impl ExactSizeIterator<Item = &'a usize>) -> String {
        let noun = if steps.len() == 1 { "step" } else { "steps" };
        let names: Vec<&str> = steps.map(|step| self.definition.steps[*step].name.as_str()).collect();
        format!("{noun} {}", names.join(", "))
    }
}

/// Why steps of a job cannot be done again alone, if they cannot: others were ended or left out with the job, so that it would
/// neither be done after these, nor fail.
fn ends_nowhere(job: &Job, again: &BTreeSet<usize>) -> Option<Answer> {
    let is_failed = job.steps.iter().any(|step| step.state == StepState::Failed);
    let is_left_out = |state| match state {
        StepState::Cancelled => true,
        // What a failed step kept from beginning goes on with it.
        StepState::Skipped => !is_failed,
        _ => false,
    };
    let left_out: Vec<usize> =
        (0..job.steps.len()).filter(|step| is_left_out(job.steps[*step].state) && !again.contains(step)).collect();
    if left_out.is_empty() {
        return None;
    }
    let names = job.names(left_out.iter());
    let hint = format!("without --only it does {names}, too");
    Some(refused_of(job, &format!("is {}, with {names} not done", job.state.as_str()), Some(hint)))
}

/// The steps that are to be done again.
fn steps_of(job: &Job, wish: &Wish<'_>) -> Result<BTreeSet<usize>, Answer> {
    let mut again = BTreeSet::new();
    for name in wish.steps {
        let names = || job.definition.steps.iter().map(|step| step.name.as_str());
        let Some(step) = job.definition.step(name) else {
            let hint = nearest(name, names()).map_or_else(
                || format!("its steps are: {}", names().collect::<Vec<_>>().join(", ")),
                |near| format!("did you mean {near}?"),
            );
            return Err(refused_of(job, &format!("has no step {name}"), Some(hint)));
        };
        if wish.failed && job.steps[step].is_sound() {
            return Err(refused_of(job, &format!("has no failed task in step {name}"), None));
        }
        again.insert(step);
    }
    if wish.failed {
        if wish.steps.is_empty() {
            again = (0..job.steps.len()).filter(|step| !job.steps[*step].is_sound()).collect();
            again.retain(|step| job.steps[*step].state != StepState::Done);
        }
        let waits = |step: &usize| job.steps[*step].state == StepState::Planned;
        if again.iter().all(waits) {
            return Err(refused_of(job, "has nothing that failed", None));
        }
        return Ok(again);
    }
    if wish.steps.is_empty() {
        return Ok((0..job.steps.len()).collect());
    }
    if !wish.only {
        // Needs are above: one way down finds all that follows.
        for (step, definition) in job.definition.steps.iter().enumerate() {
            if definition.needs.iter().any(|need| again.contains(need)) {
                again.insert(step);
            }
        }
    }
    Ok(again)
}

/// Whether this restart was carried out just now, for somebody else. By the coordinator's clock alone: that of whoever asks may be
/// any other, and a clock that was set back makes nothing the same.
fn is_same(job: &Job, wish: &Wish<'_>, again: &BTreeSet<usize>, now: Timestamp) -> bool {
    let Some(Restarted { at, steps, failed }) = job.restarted.as_ref().filter(|_| !wish.redefine) else { return false };
    let is_untouched = |step: &usize| {
        let step = &job.steps[*step];
        matches!(step.state, StepState::Planned | StepState::Waiting | StepState::Running)
            && step.members.done + step.members.failed == 0
    };
    (*at..=at.plus(SAME_WITHIN)).contains(&now)
        && wish.failed == *failed
        && again.iter().eq(steps)
        && steps.iter().all(is_untouched)
}

/// A step that is to be done, and one that failed and is not, on which it depends.
fn failed_need(job: &Job, again: &BTreeSet<usize>) -> Option<(usize, usize)> {
    again.iter().find_map(|step| {
        let mut needs = job.definition.steps[*step].needs.clone();
        while let Some(need) = needs.pop() {
            if again.contains(&need) || job.steps[need].state == StepState::Done {
                continue;
            }
            if job.steps[need].state == StepState::Failed {
                return Some((*step, need));
            }
            needs.extend(&job.definition.steps[need].needs);
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use crate::jobs::{
        definition::Tolerance,
        entry::Entry,
        ledger::tests::{Bench, chain, of, text},
        order::{Order, Wanted},
        record::Revived,
    };

    /// The words of the command line: names of steps and flags.
    fn restart(words: &str) -> Wanted {
        let has = |flag: &str| words.split(' ').any(|word| word == flag);
        Wanted::Restart {
            job: "j".to_owned(),
            steps: words
                .split(' ')
                .filter(|word| !word.is_empty() && !word.starts_with("--"))
                .map(str::to_owned)
                .collect(),
            only: has("--only"),
            failed: has("--failed"),
            redefine: has("--redefine"),
            even_if_wiped: has("--even-if-wiped"),
        }
    }

    fn begun(steps: &[&str], done: &[&str]) -> Bench {
        let mut bench = Bench::new(vec![chain("p", steps)]);
        bench.start("p", "j", "{}");
        for queue in done {
            bench.done(queue, &format!("\"of {queue}\""));
        }
        bench
    }

    #[test]
    fn a_step_is_done_again_with_all_that_needs_it() {
        let mut bench = begun(&["a", "b", "c", "d", "e"], &["a", "b", "c"]);
        let interrupted = bench.take("d");
        let rounds: Vec<_> = bench.view("j").steps.iter().filter_map(|step| step.round).collect();
        assert_eq!(text(&bench.order(restart("b"))), "job j of p does again: steps b, c, d, e");
        assert_eq!(bench.states("j"), "running a:done b:waiting c:planned d:planned e:planned");
        assert_eq!(bench.last.void, rounds[1..], "what is in hand is stopped");
        let (late, _) = bench.done_with(&interrupted, 3, "");
        bench.fold(vec![late]);
        assert_eq!(bench.states("j"), "running a:done b:waiting c:planned d:planned e:planned");
        let task = bench.take("b");
        assert_eq!(
            of(&task).inputs.as_ref().unwrap().as_str(),
            r#"{"a":{"state":"done","result":"of a","memo":null}}"#
        );
        let (end, _) = bench.done_with(&task, 0, "");
        bench.fold(vec![end]);
        for queue in ["c", "d", "e"] {
            bench.done(queue, "");
        }
        assert_eq!(bench.view("j").state.as_str(), "done");
    }

    #[test]
    fn a_step_is_done_again_alone() {
        let mut bench = begun(&["a", "b", "c"], &["a", "b", "c"]);
        assert_eq!(text(&bench.order(restart("b --only"))), "job j of p does again: step b");
        assert_eq!(bench.states("j"), "running a:done b:waiting c:done");
        bench.done("b", "");
        assert_eq!(bench.states("j"), "done a:done b:done c:done");
        assert!(bench.tasks.is_empty());
    }

    #[test]
    fn what_failed_and_what_never_began_is_done_again_and_what_is_done_is_not() {
        let mut bench = begun(&["a", "b"], &[]);
        let splitter = bench.take("a");
        let (end, items) = bench.done_with(&splitter, 3, "");
        let entries = vec![end, bench.dead(&items[0]), bench.done_with(&items[1], 0, "").0, bench.dead(&items[2])];
        bench.fold(entries);
        assert_eq!(bench.states("j"), "failed a:failed b:skipped");
        let round = of(&splitter).round;
        let answer = text(&bench.order(restart("--failed")));
        assert_eq!(answer, "job j of p does again what failed and did not begin: steps a, b");
        let last = &bench.last;
        let failed = [&items[0], &items[2]].into_iter().map(|item| (of(item).feeder, of(item).index)).collect();
        let revived = Revived { round, failed };
        assert_eq!((&last.revived[..], &last.void[..], last.tasks.len()), (&[revived][..], &[][..], 0));
        assert_eq!(bench.states("j"), "running a:running b:planned");
        assert_eq!(bench.view("j").steps[0].tasks.done, 2);
        let (end, _) = bench.done_with(&items[0], 0, "");
        let dead = bench.dead(&items[2]);
        bench.fold(vec![end, dead]);
        assert_eq!(bench.states("j"), "failed a:failed b:skipped", "it may fail again");
        bench.order(restart("--failed"));
        let (end, _) = bench.done_with(&items[2], 0, "");
        bench.fold(vec![end]);
        assert_eq!(bench.states("j"), "running a:done b:waiting");
        assert!(text(&bench.order(restart("--failed"))).starts_with("refused: job j of p has nothing that failed"));
        assert!(
            text(&bench.order(restart("a --failed"))).starts_with("refused: job j of p has no failed task in step a")
        );
    }

    #[test]
    fn tasks_without_a_dead_letter_are_done_again_with_all_of_their_step() {
        let mut bench = begun(&["a"], &[]);
        let splitter = bench.take("a");
        let (end, items) = bench.done_with(&splitter, 2, "");
        let purged = Entry::failed(of(&items[0]), bench.now, "cancelled", "the queue was purged", None, None);
        let dead = bench.dead(&items[1]);
        bench.fold(vec![end, purged, dead]);
        bench.order(restart("--failed"));
        assert_eq!((&bench.last.void[..], bench.last.revived.len()), (&[of(&splitter).round][..], 0));
        let splitter = bench.take("a");
        assert_ne!(of(&splitter).round, of(&items[0]).round);
        // A dead letter that was put back to work by hand, and removed there.
        bench.failed(&splitter);
        let purged = Entry::failed(of(&splitter), bench.now, "cancelled", "the queue was purged", None, None);
        bench.fold(vec![purged]);
        bench.pass(5_000);
        bench.order(restart("--failed"));
        assert_eq!((&bench.last.void[..], bench.last.revived.len()), (&[of(&splitter).round][..], 0));
    }

    #[test]
    fn dead_letters_that_are_missing_are_not_waited_for() {
        let mut bench = begun(&["a"], &[]);
        let splitter = bench.take("a");
        let (end, items) = bench.done_with(&splitter, 2, "");
        let entries = vec![end, bench.dead(&items[0]), bench.dead(&items[1])];
        bench.fold(entries);
        // One of them was purged.
        let gone = Entry::failed(of(&items[0]), bench.now, "cancelled", "its dead letter was purged", None, None);
        bench.fold(vec![gone]);
        let step = &bench.view("j").steps[0];
        let left: Vec<_> = step.dead_letters.iter().map(|dead| dead.id.as_ref()).collect();
        assert_eq!((left, step.reason.as_deref()), (vec![None, Some(&items[1].id)], Some("crash")));
        bench.order(restart("--failed"));
        let again = bench.take("a");
        assert_eq!((&bench.last.void[..], bench.last.revived.len()), (&[of(&splitter).round][..], 0));

        // One expired on a broker that tells nobody.
        bench.failed(&again);
        bench.take_over();
        bench.ledger.set_missing([of(&again).round]);
        bench.order(restart("--failed"));
        assert_eq!((&bench.last.void[..], bench.last.revived.len()), (&[of(&again).round][..], 0));
        assert_eq!(bench.states("j"), "running a:waiting");
    }

    #[test]
    fn the_dead_letters_of_what_is_done_again_go() {
        let mut bench = begun(&["a", "b"], &["a"]);
        let task = bench.take("b");
        bench.failed(&task);
        bench.order(restart("b"));
        assert_eq!(bench.last.superseded, [of(&task).round]);
        assert_eq!(bench.last.superseded_from, ["b", "items-b"]);
        let task = bench.take("b");
        bench.order(Wanted::Cancel { job: "j".to_owned() });
        assert_eq!((&bench.last.void[..], bench.last.superseded.len()), (&[of(&task).round][..], 0), "they stay");
        bench.order(restart("b"));
        assert_eq!((bench.last.void.len(), &bench.last.superseded[..]), (0, &[of(&task).round][..]));
    }

    #[test]
    fn a_record_names_the_rounds_of_which_a_dead_letter_can_go_back() {
        let mut pipeline = chain("p", &["a", "b"]);
        pipeline.steps[0].allow_failed = Tolerance::All;
        pipeline.steps[0].wipe = Some("wipe".to_owned());
        let mut bench = Bench::new(vec![pipeline]);
        bench.start("p", "j", "{}");
        let first = bench.take("a");
        bench.failed(&first);
        let second = bench.take("b");
        assert_eq!(bench.stored["j"].rounds, [of(&first).round, of(&second).round]);
        let (end, _) = bench.done_with(&second, 0, "");
        bench.fold(vec![end]);
        let wipe = bench.take("wipe");
        assert_eq!(bench.stored["j"].rounds, [of(&wipe).round]);
        let (end, _) = bench.done_with(&wipe, 0, "");
        bench.fold(vec![end]);
        assert!(bench.stored["j"].rounds.is_empty());
    }

    #[test]
    fn two_people_who_restart_at_once_restart_once() {
        let mut bench = begun(&["a", "b"], &["a"]);
        let order = |id: &str, bench: &Bench| Order { id: id.to_owned(), at: bench.now, what: restart("b") };
        let (first, second) = (order("x", &bench), order("y", &bench));
        bench.pass(100);
        assert_eq!(text(&bench.order_again(first.clone())), "job j of p does again: step b");
        let round = bench.view("j").steps[1].round;
        bench.pass(2_000);
        assert_eq!(text(&bench.order_again(second)), "job j of p was told to do these steps again a moment ago");
        bench.order_again(first.clone());
        bench.take_over();
        assert_eq!(text(&bench.order_again(first)), "job j of p was given this order before");
        assert_eq!(bench.view("j").steps[1].round, round);
        bench.pass(60_000);
        bench.order(restart("b"));
        assert_ne!(bench.view("j").steps[1].round, round, "later it is another one");
    }

    #[test]
    fn a_restart_is_another_one_when_something_has_ended_since_or_the_clock_was_set_back() {
        let mut bench = begun(&["a", "b"], &["a", "b"]);
        bench.order(restart("b"));
        bench.done("b", "");
        bench.pass(100);
        assert_eq!(text(&bench.order(restart("b"))), "job j of p does again: step b", "its task has ended");
        bench.pass(-3_600_000);
        let round = bench.view("j").steps[1].round;
        assert_eq!(text(&bench.order(restart("b"))), "job j of p does again: step b");
        assert_ne!(bench.view("j").steps[1].round, round, "before the last one by the clock, and after it");

        // Of two that were given before either was carried out, the flags count.
        let mut bench = begun(&["a"], &[]);
        let splitter = bench.take("a");
        let purged = Entry::failed(of(&splitter), bench.now, "cancelled", "the queue was purged", None, None);
        bench.fold(vec![purged]);
        let second = Order { id: "y".to_owned(), at: bench.now, what: restart("a") };
        assert!(text(&bench.order(restart("--failed"))).starts_with("job j of p does again what failed"));
        assert_eq!(text(&bench.order_again(second)), "job j of p does again: step a");
    }

    #[test]
    fn one_step_alone_is_no_way_out_of_a_job_that_was_ended() {
        let mut bench = begun(&["a", "b", "c"], &["a"]);
        bench.order(Wanted::Cancel { job: "j".to_owned() });
        assert_eq!(bench.states("j"), "cancelled a:done b:cancelled c:skipped");
        assert_eq!(
            text(&bench.order(restart("a --only"))),
            "refused: job j of p is cancelled, with steps b, c not done; without --only it does steps b, c, too"
        );
        assert_eq!(text(&bench.order(restart("a"))), "job j of p does again: steps a, b, c");
        bench.done("a", "");
        let task = bench.take("b");
        bench.failed(&task);
        assert_eq!(bench.states("j"), "failed a:done b:failed c:skipped");
        assert_eq!(
            text(&bench.order(restart("b --only"))),
            "job j of p does again: step b; and begins what did not: step c"
        );
        bench.done("b", "");
        assert_eq!(bench.states("j"), "running a:done b:done c:waiting");
    }

    #[test]
    fn what_was_wiped_is_restarted_only_on_purpose() {
        let mut pipeline = chain("p", &["a", "b"]);
        pipeline.steps[0].wipe = Some("wipe-a".to_owned());
        let mut bench = Bench::new(vec![pipeline]);
        bench.start("p", "j", "{}");
        bench.done("a", "");
        bench.done("b", "");
        assert!(text(&bench.order(restart("b"))).starts_with("refused: job j of p is being wiped; --even-if-wiped"));
        bench.done("wipe-a", "");
        assert!(text(&bench.order(restart("b"))).starts_with("refused: job j of p is wiped; --even-if-wiped"));
        assert_eq!(text(&bench.order(restart("b --even-if-wiped"))), "job j of p does again: step b");
        bench.done("b", "");
        assert_eq!(bench.states("j"), "done a:done b:done");
        assert!(bench.tasks.is_empty() && !bench.stored["j"].open, "what was wiped is not wiped twice");
    }

    #[test]
    fn a_job_goes_on_with_its_definition_until_it_is_told_otherwise() {
        let mut bench = begun(&["a", "b"], &["a"]);
        let mut changed = chain("p", &["a", "between", "b"]);
        changed.steps[2].queue = "other".to_owned();
        bench.reload(vec![changed]);
        bench.done("b", "");
        assert_eq!(bench.states("j"), "done a:done b:done");
        bench.start("p", "k", "{}");
        assert_eq!(bench.states("k"), "running a:waiting between:planned b:planned");
        bench.order(restart("between --redefine"));
        assert_eq!(bench.states("j"), "running a:done between:waiting b:planned");
        bench.done("between", "");
        assert_eq!(bench.take("other").queue, "other");
        bench.reload(Vec::new());
        let refused = text(&bench.order(restart("--redefine")));
        assert!(
            refused.starts_with("refused: job j of p cannot be redefined: there is no pipeline p any more"),
            "{refused}"
        );
    }

    #[test]
    fn what_cannot_be_restarted_is_refused_with_a_sentence() {
        let mut bench = begun(&["collect", "export", "upload"], &["collect"]);
        let task = bench.take("export");
        bench.failed(&task);
        for (words, expected) in [
            ("exprot", "job j of p has no step exprot; did you mean export?"),
            ("other", "job j of p has no step other; its steps are: collect, export, upload"),
            (
                "upload",
                "job j of p cannot do step upload: it needs step export, which failed; asynctask jobs restart j export",
            ),
        ] {
            let refused = text(&bench.order(restart(words)));
            assert!(refused.strip_prefix("refused: ").is_some_and(|text| text.starts_with(expected)), "{refused}");
        }
        assert_eq!(bench.states("j"), "failed collect:done export:failed upload:skipped");
        let mut frozen = Bench::new(vec![chain("p", &["a"])]);
        frozen.order(Wanted::Freeze(crate::jobs::order::Scope::Pipeline { name: "p".to_owned(), key: None }));
        frozen.start("p", "j", "{}");
        assert!(text(&frozen.order(restart(""))).starts_with("refused: job j of p has not begun"));
    }

    #[test]
    fn a_restart_keeps_to_the_number_of_jobs_that_may_run() {
        let mut pipeline = chain("p", &["a"]);
        pipeline.max_running = Some(1);
        let mut bench = Bench::new(vec![pipeline]);
        bench.start("p", "j", "{}");
        bench.done("a", "");
        bench.start("p", "k", "{}");
        bench.order(restart(""));
        assert_eq!(bench.states("j"), "planned a:planned");
        bench.done("a", "");
        assert_eq!(bench.states("j"), "running a:waiting");
        assert_eq!(bench.said("Job j of p begins again"), 1);
    }
}
