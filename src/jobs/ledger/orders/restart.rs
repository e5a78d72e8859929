//! Steps of a job are done again.

use std::{collections::BTreeSet, time::Duration};

use super::answers::{done, refused_of};
use crate::{
    clock::Timestamp,
    jobs::{
        definition::Pipeline,
        ledger::{
            fold::Ledger,
            out::Out,
            state::Job,
            view::{StepState, Wiped},
        },
        order::Answer,
        record::JobState,
    },
    suggest::nearest,
};

/// Two people who restart the same steps within this time mean the same restart, while nothing of it has begun.
const AT_ONCE: Duration = Duration::from_secs(2);

/// What is asked for.
pub(super) struct Wish<'a> {
    pub(super) steps: &'a [String],
    pub(super) only: bool,
    pub(super) failed: bool,
    pub(super) redefine: bool,
    pub(super) even_if_wiped: bool,
    /// When it was asked for.
    pub(super) at: Timestamp,
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
        if is_same(job, wish, &again) {
            return Ok(done(job, "was told to do these steps again a moment ago"));
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
        out.step.advance.void.extend(gone);
        Ok(job.do_again(again, wish.failed, out))
    }

    fn definition_of(&self, job: &Job) -> Result<Pipeline, Answer> {
        let name = &job.definition.name;
        let definition = self.pipelines.iter().find(|pipeline| pipeline.name == *name).cloned();
        definition
            .ok_or_else(|| refused_of(job, &format!("cannot be redefined: there is no pipeline {name} any more"), None))
    }
}

impl Job {
    fn do_again(&mut self, again: BTreeSet<usize>, failed_alone: bool, out: &mut Out) -> Answer {
        if let Some(wipe) = self.wipe.take() {
            out.void(wipe.at.map(|(_, round)| round));
        }
        self.wiped = Wiped::No;
        self.closed = false;
        self.unskip();
        let mut is_any_revived = false;
        for step in &again {
            let step = &mut self.steps[*step];
            let is_asked = !failed_alone || step.state == StepState::Failed;
            // Tasks of which there is no dead letter cannot come back: then all of the step is done again.
            let revived = step.round.filter(|_| failed_alone && step.members.failed > 0 && !step.members.has_gone());
            if let Some(round) = revived {
                out.step.advance.revived.push(round);
                step.members.forget_failed();
                step.state = StepState::Running;
                (step.ended_at, step.error, step.reason) = (None, None, None);
                is_any_revived = true;
            } else {
                out.void(step.round.take());
                step.reset();
            }
            step.asked = is_asked;
        }
        let names: Vec<&str> = again.iter().map(|step| self.definition.steps[*step].name.as_str()).collect();
        let (noun, names) = (if names.len() == 1 { "step" } else { "steps" }, names.join(", "));
        let what = if failed_alone { "does again what failed and did not begin" } else { "does again" };
        let text = format!("{what}: {noun} {names}");
        self.restarted = Some((out.now, again.into_iter().collect()));
        self.error = None;
        self.ended_at = None;
        if self.state == JobState::Running || is_any_revived {
            self.run(out);
        } else {
            self.state = JobState::Planned;
        }
        done(self, &text)
    }
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

/// Whether this restart was carried out just now, for somebody else.
fn is_same(job: &Job, wish: &Wish<'_>, again: &BTreeSet<usize>) -> bool {
    let Some((at, steps)) = job.restarted.as_ref().filter(|_| !wish.redefine) else { return false };
    let is_untouched = |step: &usize| {
        let step = &job.steps[*step];
        matches!(step.state, StepState::Planned | StepState::Waiting) && step.members.done + step.members.failed == 0
    };
    again.iter().eq(steps) && (wish.at <= *at || (wish.at <= at.plus(AT_ONCE) && steps.iter().all(is_untouched)))
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
