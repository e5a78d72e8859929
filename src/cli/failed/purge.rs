//! `asynctask failed purge`: gone for good.

use std::sync::{Arc, Mutex, PoisonError};

use super::chosen::{Choice, broke_off, progress, tell};
use crate::{
    cli::{
        args::FailedPurge,
        confirm,
        settings::dead_queue,
        waiting::{Patient, longest_wait},
    },
    config::Config,
    error::{Code, Error},
    plural::counted,
    transport::{DeadLetter, DeadQueue, Visit, Walked},
};

pub(super) fn run(config: &Config, verb: &FailedPurge) -> Result<Code, Error> {
    let choice = Choice::of(&verb.chosen)?;
    let queue = dead_queue(config, &verb.chosen.queue);
    if !verb.chosen.dry_run && !verb.yes {
        confirm::needs_terminal("deleting dead letters")?;
    }
    let mut patient = Patient::open(config, longest_wait(verb.chosen.wait.as_deref())?)?;
    if verb.chosen.dry_run || !verb.yes {
        let (found, walked) = go(&mut patient, &queue, &choice, &Visit::Keep)?;
        if verb.chosen.dry_run || found.met == 0 {
            return tell(&verb.chosen, "deleted", &found, walked);
        }
        let question = format!("Delete {} of queue {} for good?", counted(found.met, "dead letter"), verb.chosen.queue);
        if !confirm::yes(&question)? {
            return Err(Error::new(Code::Refused, "nothing was deleted"));
        }
    }
    // Not before: Ctrl-C is an answer to the question.
    patient.listen()?;
    let (choice, walked) = go(&mut patient, &queue, &choice, &Visit::Remove)?;
    tell(&verb.chosen, "deleted", &choice, walked)
}

/// Does `verdict` to all that were chosen.
fn go(patient: &mut Patient, queue: &DeadQueue, choice: &Choice, verdict: &Visit) -> Result<(Choice, Walked), Error> {
    let bar = progress(patient.depth(queue)?.failed);
    patient.bar = bar.clone();
    let shared = Arc::new(Mutex::new(choice.clone()));
    let (visiting, verdict, seen) = (Arc::clone(&shared), verdict.clone(), bar.clone());
    let visit = move |letter: &DeadLetter| {
        let mut choice = visiting.lock().unwrap_or_else(PoisonError::into_inner);
        if choice.is_complete() {
            return Visit::Stop;
        }
        seen.inc(1);
        if !choice.means(letter) {
            return Visit::Keep;
        }
        choice.meet(letter);
        verdict.clone()
    };
    let walked = patient.walk(queue, Box::new(visit));
    bar.finish_and_clear();
    let walked = walked.map_err(|broken| broke_off(&broken, "deleted"));
    let choice = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok((choice, walked?))
}
