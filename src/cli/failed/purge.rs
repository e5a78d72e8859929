//! `asynctask failed purge`: gone for good.

use std::sync::{Arc, Mutex, PoisonError};

use super::selection::{broke_off, progress, selection, tell};
use crate::{
    cli::{
        confirm,
        failed_args::FailedPurge,
        settings::dead_queue,
        waiting::{WaitingClient, longest_wait},
    },
    config::Config,
    dead_letters::condition::Selection,
    exit_code::{Code, Error},
    plural::counted,
    transport::{DeadLetter, DeadQueue, Visit, Walked},
};

pub(super) fn run(config: &Config, verb: &FailedPurge) -> Result<Code, Error> {
    let selection = selection(&verb.chosen)?;
    let queue = dead_queue(config, &verb.chosen.queue);
    if !verb.chosen.dry_run && !verb.yes {
        confirm::needs_terminal("deleting dead letters")?;
    }
    let mut client = WaitingClient::open(config, longest_wait(verb.chosen.wait.as_deref())?)?;
    if verb.chosen.dry_run || !verb.yes {
        let (found, walked) = go(&mut client, &queue, &selection, &Visit::Keep)?;
        if verb.chosen.dry_run || found.met == 0 {
            return tell(&verb.chosen, "deleted", &found, walked);
        }
        let question = format!("Delete {} of queue {} for good?", counted(found.met, "dead letter"), verb.chosen.queue);
        if !confirm::yes(&question)? {
            return Err(Error::new(Code::Refused, "nothing was deleted"));
        }
    }
    // Not before: Ctrl-C is an answer to the question.
    client.listen()?;
    let (selection, walked) = go(&mut client, &queue, &selection, &Visit::Remove)?;
    tell(&verb.chosen, "deleted", &selection, walked)
}

/// Does `verdict` to all that were chosen.
fn go(
    client: &mut WaitingClient,
    queue: &DeadQueue,
    selection: &Selection,
    verdict: &Visit,
) -> Result<(Selection, Walked), Error> {
    let bar = progress(client.depth(queue)?.failed);
    client.bar = bar.clone();
    let shared = Arc::new(Mutex::new(selection.clone()));
    let (visiting, verdict, seen) = (Arc::clone(&shared), verdict.clone(), bar.clone());
    let visit = move |letter: &DeadLetter| {
        let mut selection = visiting.lock().unwrap_or_else(PoisonError::into_inner);
        if selection.is_complete() {
            return Visit::Stop;
        }
        seen.inc(1);
        if !selection.matches(letter) {
            return Visit::Keep;
        }
        selection.record(letter);
        verdict.clone()
    };
    let walked = client.walk(queue, Box::new(visit));
    bar.finish_and_clear();
    let walked = walked.map_err(|broken| broke_off(&broken, "deleted"));
    let selection = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok((selection, walked?))
}
