//! What clients ask: submit, depths, dead letters. Each runs beside the actor and ends with the session.

use std::{cell::Cell, rc::Rc};

use super::{actor::Engine, lifecycle::refuse, state::State};
use crate::transport::{
    Error, Request, Walked,
    amqp::{
        dead_letters::{walk, walk_lock, walk_progress::Progress},
        publish::{bulk::CLIENT_SENDS, bulk_results::Fates},
        queues::purge,
    },
};

impl Engine {
    /// Requests that need a session and are answered by a reply.
    pub(crate) fn serve(&mut self, request: Request) {
        let error = match &mut self.state {
            State::Up(up) if up.session.stands() || self.attachment.is_some() => return self.work(request),
            // A client's connection ended while nobody used it.
            State::Up(_) | State::Idle => {
                self.waiting.push(request);
                return self.connect();
            }
            State::Connecting { .. } if self.failures == 0 => return self.waiting.push(request),
            State::Connecting { .. } => self.address.lost("it is being connected again"),
            State::Waiting { error, .. } | State::Refused(error) => error.clone(),
        };
        refuse(request, &error);
    }

    /// Does a request on the session that stands.
    pub(crate) fn work(&mut self, request: Request) {
        match request {
            Request::Submit { tasks, reply } => {
                let fates = Rc::new(Fates::new(tasks.len()));
                let known = Rc::clone(&fates);
                let (parcels, owed) = (self.parcels(&tasks), self.owed_with(reply, move |lost| known.error(lost)));
                let State::Up(up) = &mut self.state else { return };
                let store = up.store.clone();
                up.tasks.spawn_local(async move {
                    owed.send(match parcels {
                        Ok(parcels) => {
                            let stored = store.bulk_of(&parcels, &fates, CLIENT_SENDS).await;
                            stored.map_err(|unstored| fates.error(unstored.into()))
                        }
                        Err(error) => Err(error),
                    });
                });
            }
            Request::Depths { queues, reply } => {
                let (owed, counting) = (self.owed(reply), Rc::clone(&self.counting));
                // A client asks once, and for all that there is.
                let everywhere = self.attachment.is_none();
                let horizon = Rc::clone(&self.horizon);
                let State::Up(up) = &mut self.state else { return };
                let session = Rc::clone(&up.session);
                up.tasks.spawn_local(async move {
                    owed.send_unless_closed(counting.depths(&session, &horizon, &queues, everywhere)).await;
                });
            }
            Request::Ready { queues, reply } => {
                let (owed, counting) = (self.owed(reply), Rc::clone(&self.counting));
                let State::Up(up) = &mut self.state else { return };
                up.tasks.spawn_local(async move { owed.send_unless_closed(counting.ready(&queues)).await });
            }
            Request::WalkDead { queue, visit, reply } => {
                let progress = Rc::new(Progress::default());
                let known = Rc::clone(&progress);
                let owed = self.owed_with(reply, move |lost| known.error(lost));
                let (address, now) = (Rc::clone(&self.address), self.now().wall);
                let State::Up(up) = &mut self.state else { return };
                let store = up.store.clone();
                up.tasks.spawn_local(async move {
                    let walk = Box::pin(walk::walk(&store, &queue, visit, now, &progress));
                    let walked = walk_lock::during(&store.session.reader(), &queue.name, walk).await;
                    owed.send(walked.map_err(|broke| progress.error(broke.error(&address, &queue.queue))));
                });
            }
            Request::Purge { queue, reply } => {
                let purged = Rc::new(Cell::new(0));
                let unfinished = |purged: &Cell<u64>, cause| {
                    let walked = Walked { removed: purged.get(), ..Walked::default() };
                    Error::unfinished(walked, 0, cause)
                };
                let known = Rc::clone(&purged);
                let owed = self.owed_with(reply, move |lost| unfinished(&known, lost));
                let address = Rc::clone(&self.address);
                let State::Up(up) = &mut self.state else { return };
                let session = Rc::clone(&up.session);
                up.tasks.spawn_local(async move {
                    let done = purge::purge(&session, &queue, &purged).await;
                    owed.send(match done {
                        Ok(()) => Ok(purged.get()),
                        Err(fault) => Err(unfinished(&purged, address.fault(&queue, fault))),
                    });
                });
            }
            Request::Delete { queue, reply } => {
                let (owed, address) = (self.owed(reply), Rc::clone(&self.address));
                let State::Up(up) = &mut self.state else { return };
                let session = Rc::clone(&up.session);
                up.tasks.spawn_local(async move {
                    owed.send(match purge::delete(&session, &queue).await {
                        Ok(Some(count)) => Ok(count),
                        Ok(None) => Err(Error::InUse { queue: queue.queue, cause: "it has consumers".to_owned() }),
                        Err(fault) => Err(address.fault(&queue.queue, fault)),
                    });
                });
            }
            _ => {}
        }
    }
}
