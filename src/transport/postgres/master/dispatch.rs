//! Which request is done by what: some by the next step, others beside the actor.

use std::{collections::BTreeSet, rc::Rc};

use super::{actor::Actor, asked::Change, notes::Note};
use crate::{
    plural,
    transport::{
        Cancelled, DeadQueue, Error, Event, QueueSetup, Reply, Request, ScheduleMemory, Visitor, Walked,
        dead_page::{DeadFound, DeadPage},
        postgres::{
            connect::{lane::Lane, session::Session},
            jobs::{
                records,
                survey::{Left, survey},
            },
            master::coordinate,
            requests::{dead_page, depth, walk},
            tasks::{cancel, purge, submit},
        },
        with_own_names, without_priorities,
    },
};

impl Actor {
    /// Does a request, or notes it. Gives the reply of a close.
    pub(super) async fn serve(&mut self, request: Request) -> Option<Reply<()>> {
        match request {
            Request::Close { reply } => return Some(reply),
            Request::Submit { tasks, reply } => {
                let checked = self.gone().map_or(Ok(()), Err);
                let checked = checked.and_then(|()| without_priorities(&tasks)).and_then(|()| with_own_names(&tasks));
                match checked.and_then(|()| submit::check(&tasks)) {
                    Ok(()) => drop(self.submits.send((tasks, reply))),
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            Request::Credit { queue, credit } => {
                if self.sessions > 0 && self.changes.is_empty() {
                    self.claimer.attached.set_credit(queue, credit);
                } else {
                    // While they cannot be given they change often; the last one counts.
                    self.credits.retain(|(other, _)| *other != queue);
                    self.credits.push((queue, credit));
                }
            }
            Request::Settle(settlements) => self.settle(settlements),
            Request::Lock { handle, key } => self.claimer.lock(handle, key),
            Request::Attach { queues, passive } => self.attach(queues, passive),
            Request::AddQueue { queue, setup } => self.changes.push_back(Change::Add(queue, setup)),
            Request::RemoveQueue { queue } => self.changes.push_back(Change::Remove(queue)),
            Request::Survey { serial, jobs } => self.survey = Some((serial, jobs)),
            Request::Lease { application } => self.ask_lease(application).await,
            Request::ReleaseLease => self.release_lease().await,
            Request::Fire { schedule, moment, task } => {
                self.advance().await;
                let stored = self.fire(&schedule, moment, task.as_ref()).await;
                self.tell(Event::Fired { schedule, moment, stored });
            }
            Request::Ledger { application } => self.ask_ledger(application).await,
            Request::Advance(advance) => self.advance_ledger(advance),
            Request::ReleaseLedger => self.release_ledger().await,
            // Nobody waits at queues here, and messages have one form.
            Request::Reply { .. } | Request::Protocols { .. } => {}
            Request::Order { application, order, within, reply } => {
                self.advance().await;
                self.order(application, *order, within, reply);
            }
            question => {
                // What was asked for before is stored before.
                self.advance().await;
                self.answer(question);
            }
        }
        None
    }

    fn attach(&mut self, queues: Vec<QueueSetup>, passive: bool) {
        (self.is_master, self.passive) = (true, passive);
        self.attach = Some(queues);
        self.need_work();
    }

    /// Settlements for the next step; of those that submit what can never be stored the owner is told.
    fn settle(&mut self, settlements: Vec<(crate::task::Handle, crate::task::Settlement)>) {
        let mut storable = Vec::with_capacity(settlements.len());
        for (handle, settlement) in settlements {
            let checked = match &settlement {
                crate::task::Settlement::Done { submit } => submit::check(submit),
                _ => Ok(()),
            };
            match (checked, self.claimer.unsettled(handle)) {
                (Err(error), Some((queue, task))) => self.tell(Event::Unstorable { handle, queue, task, error }),
                (Err(_), None) => {}
                (Ok(()), _) => storable.push((handle, settlement)),
            }
        }
        self.claimer.add_settlements(storable);
    }

    /// Answers a question beside the actor.
    fn answer(&mut self, question: Request) {
        if let Some(refused) = self.gone() {
            return refuse(question, &refused);
        }
        let (side, long, notes) = (Rc::clone(&self.side), Rc::clone(&self.long), self.notes.clone());
        match question {
            Request::Depths { queues, reply } => beside(reply, async move {
                let counted = side.ask(async |session| depth::depths(session, &queues).await).await?;
                Ok(counted.unwrap_or_else(|| vec![crate::transport::Depth::default(); queues.len()]))
            }),
            Request::Ready { queues, reply } => beside(reply, async move {
                let counted = side.ask(async |session| depth::ready(session, &queues).await).await?;
                Ok(counted.unwrap_or_else(|| vec![0; queues.len()]))
            }),
            Request::KnownQueues { reply } => beside(reply, async move {
                Ok(side.ask(async |session| depth::names(session).await).await?.unwrap_or_default())
            }),
            Request::DeadGroups { queue, reply } => beside(reply, async move {
                let groups = long.ask(async |session| dead_page::groups(session, &queue.queue).await).await?;
                Ok(Some(groups.unwrap_or_default()))
            }),
            Request::DeadPage { queue, filter, after, limit, reply } => beside(reply, async move {
                let page =
                    side.ask(async |session| dead_page::page(session, &queue.queue, &filter, after, limit).await);
                Ok(Some(page.await?.unwrap_or_else(DeadPage::default)))
            }),
            Request::DeadLetter { queue, key, reply } => beside(reply, async move {
                let letter = side.ask(async |session| dead_page::letter(session, &queue.queue, &key).await).await?;
                Ok(letter.flatten().map_or(DeadFound::Absent, |letter| DeadFound::Letter(Box::new(letter))))
            }),
            Request::Cancel { id, reply } => {
                let owner = self.claimer.owner;
                beside(reply, async move {
                    let found = long.ask(async |session| cancel::cancel(session, &id, owner).await).await?;
                    let Some((cancelled, told)) = found else { return Ok(Cancelled::Absent) };
                    removed(&notes, told);
                    Ok(cancelled)
                });
            }
            Request::Purge { queue, reply } => beside(reply, async move {
                let absent = || Error::NoSuchQueue { queue: queue.clone() };
                let purged = long.ask(async |session| purge::purge(session, &queue).await).await?;
                let purged = purged.flatten().ok_or_else(absent)?;
                removed(&notes, purged.told);
                Ok(purged.tasks)
            }),
            Request::Delete { queue, reply } => beside(reply, async move {
                let name = queue.queue;
                let absent = || Error::NoSuchQueue { queue: name.clone() };
                let deleted = long.ask(async |session| purge::delete(session, &name).await).await?;
                match deleted.flatten().ok_or_else(absent)? {
                    purge::Deleted::All(purged) => {
                        removed(&notes, purged.told);
                        Ok(purged.tasks)
                    }
                    purge::Deleted::Held(held) => {
                        let cause = format!("{} in hand", plural::are(held, "task"));
                        Err(Error::InUse { queue: name, cause })
                    }
                }
            }),
            Request::WalkDead { queue, visit, reply } => beside(reply, walk(long, notes, queue, visit)),
            Request::ScheduleMemory { application, reply } => {
                let schema = self.address.schema.clone();
                beside(reply, async move {
                    let seen = async |session: &Session| coordinate::seen(session, &schema, &application).await;
                    Ok(Some(side.ask(seen).await?.unwrap_or_else(ScheduleMemory::default)))
                });
            }
            Request::Jobs { application, filter, reply } => beside(reply, async move {
                let read = async |session: &Session| {
                    session
                        .snapshot(async |session| {
                            let found = records::find(session, &application, &filter).await?;
                            Ok((found, records::frozen(session, &application).await?))
                        })
                        .await
                };
                Ok(side.ask(read).await?.unwrap_or_default())
            }),
            // All others were done by the caller.
            other => drop(other),
        }
    }

    /// Begins the survey that was asked for, once there is a session and nothing of ours is open.
    pub(super) fn begin_survey(&mut self) {
        if self.survey.is_none() || !self.claimer.pending.is_empty() {
            return;
        }
        let Some((serial, jobs)) = self.survey.take() else { return };
        let (lane, notes, queues) = (Rc::clone(&self.side), self.notes.clone(), self.claimer.queue_ids());
        tokio::task::spawn_local(async move {
            let seen = lane.ask(async |session| survey(session, &queues, jobs.as_deref()).await).await;
            let left = seen.ok().map(Option::unwrap_or_default);
            drop(notes.send(Note::Surveyed { serial, left, jobs }));
        });
    }

    /// What a survey found. What was taken or submitted meanwhile is in hand now.
    pub(super) fn surveyed(&mut self, serial: u64, left: Option<Left>, jobs: Option<String>) {
        let Some(left) = left else {
            // Asked again with the next look, unless another was asked for.
            self.survey.get_or_insert((serial, jobs));
            return;
        };
        let empty = !left.any && !self.claimer.holds_any();
        self.tell(Event::Surveyed { serial, empty, stranded: left.stranded, again_in: super::look::SURVEY_AGAIN });
    }
}

/// Works out an answer beside the actor.
fn beside<T: 'static>(reply: Reply<T>, answer: impl Future<Output = Result<T, Error>> + 'static) {
    tokio::task::spawn_local(async move { drop(reply.send(answer.await)) });
}

/// Tasks were removed where they waited: the coordinators of their jobs are to hear of it.
fn removed(notes: &tokio::sync::mpsc::UnboundedSender<Note>, told: Vec<String>) {
    if !told.is_empty() {
        let told = told.into_iter().collect();
        drop(notes.send(Note::Stored { queues: BTreeSet::new(), may_be_old: false, told }));
    }
}

async fn walk(
    lane: Rc<Lane>,
    notes: tokio::sync::mpsc::UnboundedSender<Note>,
    queue: DeadQueue,
    mut visit: Visitor,
) -> Result<Walked, Error> {
    let mut walking = walk::Walking::default();
    let done = lane.ask(async |session| walk::walk(session, &queue, &mut visit, &mut walking).await).await;
    let told = walking.told.into_iter().collect();
    drop(notes.send(Note::Stored { queues: walking.queues, may_be_old: true, told }));
    done.map(|_| walking.walked).map_err(|cause| Error::unfinished(walking.walked, 0, cause))
}

/// Answers a question with an error.
fn refuse(question: Request, error: &Error) {
    let error = error.clone();
    match question {
        Request::Depths { reply, .. } => drop(reply.send(Err(error))),
        Request::Ready { reply, .. } => drop(reply.send(Err(error))),
        Request::KnownQueues { reply } => drop(reply.send(Err(error))),
        Request::DeadGroups { reply, .. } => drop(reply.send(Err(error))),
        Request::DeadPage { reply, .. } => drop(reply.send(Err(error))),
        Request::DeadLetter { reply, .. } => drop(reply.send(Err(error))),
        Request::Cancel { reply, .. } => drop(reply.send(Err(error))),
        Request::Purge { reply, .. } | Request::Delete { reply, .. } => drop(reply.send(Err(error))),
        Request::WalkDead { reply, .. } => drop(reply.send(Err(error))),
        Request::ScheduleMemory { reply, .. } => drop(reply.send(Err(error))),
        Request::Jobs { reply, .. } => drop(reply.send(Err(error))),
        other => drop(other),
    }
}
