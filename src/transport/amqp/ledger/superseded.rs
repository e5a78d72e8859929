//! Removing the dead letters of rounds whose steps are done again: nobody can put them back to work any more.
//!
//! A broker finds no dead letter by its round, so the dead-letter queues of the step are gone through. That may take long, and nothing
//! waits for it; what comes meanwhile is done together the next time.

use std::collections::HashSet;

use uuid::Uuid;

use crate::transport::{
    DeadLetter, DeadQueue, Visit,
    amqp::{
        dead_letters::{walk, walk_lock, walk_progress::Progress},
        publish::outbox::Outbox,
        session::{
            note::SessionNote,
            up::{Superseded, Up},
        },
    },
};

impl Up {
    /// The dead letters of these rounds are to go.
    pub(crate) fn supersede(&mut self, rounds: Vec<Uuid>, queues: Vec<DeadQueue>) {
        self.superseded.rounds.extend(rounds);
        for queue in queues {
            if !self.superseded.queues.contains(&queue) {
                self.superseded.queues.push(queue);
            }
        }
        self.remove_superseded();
    }

    /// Those that were to go are gone.
    pub(crate) fn superseded_removed(&mut self) {
        self.superseded.under_way = false;
        self.remove_superseded();
    }

    fn remove_superseded(&mut self) {
        if self.superseded.under_way || self.superseded.rounds.is_empty() {
            return;
        }
        let Superseded { rounds, queues, .. } =
            std::mem::replace(&mut self.superseded, Superseded { under_way: true, ..Superseded::default() });
        let (outbox, clock) = (self.outbox.clone(), self.shared.clock);
        self.tasks.spawn_local(async move {
            for queue in &queues {
                remove(&outbox, queue, &rounds, clock.now().wall).await;
            }
            let _ = outbox.notes.send(SessionNote::SupersededRemoved.of(outbox.session.number));
        });
    }
}

async fn remove(outbox: &Outbox, queue: &DeadQueue, rounds: &HashSet<Uuid>, now: crate::clock::Timestamp) {
    let rounds = rounds.clone();
    let visit = Box::new(move |letter: &DeadLetter| match &letter.membership {
        Some(of) if rounds.contains(&of.round) => Visit::Remove,
        _ => Visit::Keep,
    });
    let progress = Progress::default();
    let walk = Box::pin(walk::walk(outbox, queue, (visit, None), now, &progress));
    if walk_lock::during(&outbox.session, &queue.name, walk).await.is_err() {
        tracing::debug!(target: "asynctask::amqp", "dead letters of queue \"{}\" that have a successor stay", queue.queue);
    }
}
