//! Which request is done by what: some at once, some by the next transaction.
//!
//! Nothing here waits for another program: a lock is waited for inside the database alone, and a visitor of dead letters inside
//! its walk.

use super::{
    actor::{Actor, Change},
    requests::reader::{CountQuery, DeadQuery},
    tasks::cancel::Search,
};
use crate::transport::{Cancelled, Event, Request, with_own_names, without_priorities};

impl Actor {
    /// Does a request, or notes it for the next transaction.
    pub(super) fn serve(&mut self, request: Request) {
        match request {
            Request::Submit { tasks, reply } => {
                match without_priorities(&tasks).and_then(|()| with_own_names(&tasks)) {
                    Ok(()) => self.submits.push((tasks, reply)),
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            Request::Credit { queue, credit } => match &mut self.claimer {
                Some(claimer) if self.changes.is_empty() => claimer.set_credit(queue, credit),
                _ => {
                    // While they cannot be given they change often; the last one counts.
                    self.credits.retain(|(other, _)| *other != queue);
                    self.credits.push((queue, credit));
                }
            },
            Request::Settle(settlements) => {
                if let Some(claimer) = &mut self.claimer {
                    claimer.add_settlements(settlements);
                }
            }
            Request::Lock { handle, key } => {
                if let Some(claimer) = &mut self.claimer {
                    claimer.lock(handle, key);
                }
            }
            Request::Attach { queues, .. } => {
                self.attach = Some(queues);
                self.flush();
            }
            Request::AddQueue { queue, setup } => self.change(Change::Add(queue, setup)),
            Request::RemoveQueue { queue } => self.change(Change::Remove(queue)),
            Request::Survey { serial, jobs } => {
                self.survey = Some((serial, jobs));
                self.flush();
            }
            Request::Depths { queues, reply } => {
                self.flush();
                self.count(CountQuery::Depths(queues, reply));
            }
            Request::Ready { queues, reply } => {
                self.flush();
                self.count(CountQuery::Ready(queues, reply));
            }
            Request::DeadGroups { queue, reply } => {
                self.flush();
                self.fill_causes(&queue.queue);
                self.count(CountQuery::DeadGroups(queue.queue, reply));
            }
            Request::DeadPage { queue, filter, after, limit, reply } => {
                self.flush();
                self.fill_causes(&queue.queue);
                self.count(CountQuery::DeadPage(DeadQuery { queue: queue.queue, filter, after, limit }, reply));
            }
            Request::DeadLetter { queue, key, reply } => {
                self.flush();
                self.count(CountQuery::DeadLetter(queue.queue, key, reply));
            }
            Request::KnownQueues { reply } => {
                self.flush();
                drop(reply.send(self.known_queues()));
            }
            Request::Purge { queue, reply } => {
                self.flush();
                drop(reply.send(self.purge(&queue)));
            }
            Request::Cancel { id, reply } => {
                self.flush();
                self.searches.push_back(Search::new(id, reply));
            }
            Request::Delete { queue, reply } => {
                self.flush();
                drop(reply.send(self.delete(&queue.queue)));
            }
            Request::WalkDead { queue, visit, reply } => {
                self.flush();
                drop(reply.send(self.walk(&queue, visit)));
            }
            Request::Lease { application } => self.ask_lease(application),
            Request::ScheduleMemory { application, reply } => {
                self.flush();
                drop(reply.send(self.schedule_memory(&application).map(Some)));
            }
            Request::Fire { schedule, moment, task } => {
                self.flush();
                let stored = self.fire(&schedule, moment, task.as_ref());
                self.tell(Event::Fired { schedule, moment, stored });
            }
            // Nobody waits at queues here, and messages have one form.
            Request::Reply { .. } | Request::Protocols { .. } => {}
            Request::Ledger { application } => self.ask_ledger(application),
            Request::Advance(advance) => self.advance_ledger(advance),
            Request::ReleaseLedger => self.release_ledger(),
            Request::Order { application, order, within, reply } => self.order(application, *order, within, reply),
            Request::Jobs { application, filter, reply } => {
                // Who coordinates them waits for what was stored before.
                self.tell_entries_at_once();
                self.flush();
                drop(reply.send(self.jobs(&application, &filter)));
            }
            Request::ReleaseLease => self.release_lease(),
            // The caller takes it, to end the loop.
            Request::Close { reply } => drop(reply),
        }
    }

    /// Reads some more rows for the first of the cancellations that were asked for.
    pub(super) fn search(&mut self) {
        let Some(mut search) = self.searches.pop_front() else { return };
        let owner = self.claimer.as_ref().map_or(0, |claimer| claimer.owner);
        let answer = match self.database_if_exists() {
            Ok(Some(database)) => search.step(database, owner).map_err(|error| database.error(&error)).transpose(),
            Ok(None) => Some(Ok(Cancelled::Absent)),
            Err(error) => Some(Err(error)),
        };
        match answer {
            Some(answer) => {
                self.after_removal(search.told);
                drop(search.reply.send(answer));
            }
            None => self.searches.push_front(search),
        }
        if !self.searches.is_empty() {
            // The next wait ends at once.
            self.waker.wake();
        }
    }
}
