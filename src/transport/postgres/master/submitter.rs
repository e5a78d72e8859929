//! Submits, beside the actor: all that wait are stored by one transaction, and each is answered.

use std::{collections::BTreeSet, rc::Rc};

use tokio::sync::mpsc;

use super::notes::Note;
use crate::{
    membership::ledger_of,
    task::NewTask,
    transport::{
        Error, Extent, Reply,
        postgres::{
            connect::{
                fault::{Fault, Kind},
                lane::Lane,
            },
            schema::queue_ids::QueueIds,
            tasks::submit,
        },
    },
};

/// A submit that waits.
pub(super) type Submit = (Vec<NewTask>, Reply<()>);

/// Tasks that are stored together, at most, but for those of one submit.
const TOGETHER: usize = 20_000;

/// Stores submits until the actor is gone.
pub(super) async fn run(
    mut submits: mpsc::UnboundedReceiver<Submit>,
    lane: Rc<Lane>,
    ids: Rc<QueueIds>,
    notes: mpsc::UnboundedSender<Note>,
) {
    let mut next = None;
    loop {
        let Some(first) = (match next.take() {
            Some(submit) => Some(submit),
            None => submits.recv().await,
        }) else {
            return;
        };
        let mut group = vec![first];
        let mut count = group[0].0.len();
        while let Ok(submit) = submits.try_recv() {
            if count + submit.0.len() > TOGETHER {
                next = Some(submit);
                break;
            }
            count += submit.0.len();
            group.push(submit);
        }
        if let Some(rest) = store(&lane, &ids, &notes, group).await {
            // One of them cannot be stored: each by itself.
            for one in rest {
                store(&lane, &ids, &notes, vec![one]).await;
            }
        }
    }
}

/// Stores a group and answers it; gives it back if it is to be stored one by one.
async fn store(
    lane: &Lane,
    ids: &QueueIds,
    notes: &mpsc::UnboundedSender<Note>,
    mut group: Vec<Submit>,
) -> Option<Vec<Submit>> {
    let counts: Vec<usize> = group.iter().map(|(tasks, _)| tasks.len()).collect();
    let tasks: Vec<NewTask> = group.iter_mut().flat_map(|(tasks, _)| std::mem::take(tasks)).collect();
    let mut result = lane.with(async |session| submit::store_all(session, ids, &tasks).await).await;
    // The session may have been cut since it was used last; what was not committed is not stored.
    if let Err((_, Fault { kind: Kind::Broken | Kind::Again, is_unknown: false, .. })) = &result {
        result = lane.with(async |session| submit::store_all(session, ids, &tasks).await).await;
    }
    match result {
        Ok(queues) => {
            let told: BTreeSet<String> =
                tasks.iter().filter_map(|task| ledger_of(&task.queue)).map(str::to_owned).collect();
            let queues = queues.into_iter().collect();
            let _ = notes.send(Note::Stored { queues, may_be_old: false, told });
            for (_, reply) in group {
                drop(reply.send(Ok(())));
            }
            None
        }
        Err((_, fault)) if fault.kind == Kind::Datum && group.len() > 1 => {
            let mut tasks = tasks.into_iter();
            // Their tasks were taken together; each gets its own again.
            for ((own, _), count) in group.iter_mut().zip(counts) {
                own.extend(tasks.by_ref().take(count));
            }
            Some(group)
        }
        Err((error, fault)) => {
            let error = match fault.kind {
                Kind::Datum => Error::NotStored {
                    queue: tasks.first().map(|task| task.queue.clone()).unwrap_or_default(),
                    cause: fault.cause.clone(),
                },
                _ => error,
            };
            for ((_, reply), count) in group.into_iter().zip(counts) {
                let answer = if fault.is_unknown {
                    let extent = Extent { unknown: std::iter::once(0..count).collect(), ..Extent::default() };
                    Error::Unsubmitted { extent, cause: Box::new(error.clone()) }
                } else {
                    error.clone()
                };
                drop(reply.send(Err(answer)));
            }
            None
        }
    }
}
