//! What a person is shown in words: the run in a few lines of the log, and why a worker ended.
//!
//! The same things in JSON are in `json`. Nothing here changes anything.

use crate::{
    clock::Instant,
    master::core::{
        Core,
        event::Ended,
        process_per_task,
        state::in_flight::InFlight,
        state::slot::{KillReason, Life, Phase, Slot},
        worker_frames::MESSAGE_LENGTH,
    },
    plural::counted,
    text::one_line,
};

impl Core {
    /// How the run stands, a line each for the whole, for every queue and for every slot.
    #[must_use]
    pub fn status_lines(&self, now: Instant) -> Vec<String> {
        let mut lines = vec![self.headline()];
        for (index, slots) in self.shown() {
            let pool = &self.pools[index];
            let (name, state, kind) = (pool.name(), self.queue_state(index), &pool.plan.settings.kind);
            let (in_hand, waiting, done) = (counted(pool.in_hand, "task"), pool.waiting.len(), pool.done());
            lines.push(format!(
                "queue {name} ({kind}): {state}, {in_hand} in workers' hands, {waiting} delivered and not begun, {done} done"
            ));
            lines.extend(slots.into_iter().map(|slot| slot_line(slot, now)));
        }
        lines
    }
}

fn slot_line(slot: &Slot, now: Instant) -> String {
    let life = slot.process();
    let pid = life.and_then(|life| life.pid).map(|pid| format!(" (pid {pid})")).unwrap_or_default();
    let counts = format!("{} done, {} failed, {}", slot.done, slot.failed, counted(slot.restarts, "restart"));
    let mut parts = vec![format!("{}{pid}: {}, {counts}", slot.name, slot.state_word())];
    let begun = life.into_iter().flat_map(|life| life.in_flight.iter()).filter(|task| task.begun);
    parts.extend(begun.map(|task| task_words(task, now)));
    let ahead = life.map_or(0, |life| life.in_flight.ahead());
    parts.extend((ahead > 0).then(|| format!("{ahead} sent ahead")));
    parts.extend(slot.last_exit.as_ref().map(|exit| format!("last exit: {exit}")));
    // Ids and notes are other people's words.
    one_line(&parts.join("; "), MESSAGE_LENGTH)
}

fn task_words(task: &InFlight, now: Instant) -> String {
    let seconds = now.since(task.begun_at).as_secs_f64();
    let text = format!("task {} for {seconds:.1} s", task.id());
    match &task.progress {
        Some((Some(percent), note)) => format!("{text} ({percent} % {note})"),
        Some((None, note)) => format!("{text} ({note})"),
        None => text,
    }
}

/// How a process ended, and why if we know more than the kernel says. `is_outcome`: its end is what its task came to.
pub(in crate::master::core) fn last_exit(life: &Life, ended: &Ended, is_outcome: bool) -> String {
    let exit = &ended.exit;
    if let (Some(task), true) = (life.in_flight.first(), is_outcome) {
        return process_per_task::end_in_words(&task.delivery.task, ended);
    }
    let cause = match &life.phase {
        Phase::Killed(reason) => match reason {
            KillReason::StartLimit => "it was not ready in time".to_owned(),
            KillReason::TimeLimit { id, .. } => format!("task {id} ran into its time limit"),
            KillReason::Fault(fault) => format!("it broke the protocol: {fault}"),
            KillReason::Cancelled => "a person cancelled a task of it".to_owned(),
            KillReason::Void => "the step of a task of it counts for nothing any more".to_owned(),
            KillReason::Silent => "it was idle and did not answer a ping".to_owned(),
            KillReason::Stop => "it was told to stop".to_owned(),
        },
        Phase::Interrupted { .. } => "it was interrupted".to_owned(),
        _ if ended.oom == Some(true) => "out of memory".to_owned(),
        Phase::Starting { .. } => "before it was ready".to_owned(),
        Phase::Leaving => "it was told to go".to_owned(),
        Phase::Working { .. } | Phase::LeftProcesses { .. } => match (life.in_flight.first(), life.in_flight.len()) {
            (None, _) => return exit.to_string(),
            (Some(task), 1) => format!("with task {} in hand", task.id()),
            (Some(_), count) => format!("with {count} tasks in hand"),
        },
    };
    format!("{exit}: {cause}")
}
