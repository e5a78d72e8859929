//! `asynctask failed purge`: gone for good.

use std::sync::{Arc, Mutex, PoisonError};

use super::{
    DeadLetter, DeadQueue, Transport, Visit, Walked,
    chosen::{Choice, count, progress, tell},
    dead_queue, open, walk,
};
use crate::{
    cli::{args::FailedPurge, ask},
    config::Config,
    error::{Code, Error},
};

pub(super) fn run(config: &Config, verb: &FailedPurge) -> Result<Code, Error> {
    let choice = Choice::of(&verb.chosen)?;
    let queue = dead_queue(config, &verb.chosen.queue);
    if !verb.chosen.dry_run && !verb.yes {
        ask::needs_terminal("deleting dead letters")?;
    }
    let transport = open(config)?;
    if verb.chosen.dry_run || !verb.yes {
        let (found, walked) = go(&*transport, &queue, &choice, &Visit::Keep)?;
        if verb.chosen.dry_run || found.met == 0 {
            return tell(&verb.chosen, "deleted", &found, walked);
        }
        let question = format!("Delete {} dead letters of queue {} for good?", found.met, verb.chosen.queue);
        if !ask::yes(&question)? {
            return Err(Error::new(Code::Refused, "nothing was deleted"));
        }
    }
    let (choice, walked) = go(&*transport, &queue, &choice, &Visit::Remove)?;
    tell(&verb.chosen, "deleted", &choice, walked)
}

/// Does `verdict` to all that were chosen.
fn go(
    transport: &dyn Transport,
    queue: &DeadQueue,
    choice: &Choice,
    verdict: &Visit,
) -> Result<(Choice, Walked), Error> {
    let bar = progress(count(transport, queue)?);
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
    let walked = walk(transport, queue, Box::new(visit));
    bar.finish_and_clear();
    let choice = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok((choice, walked?))
}
