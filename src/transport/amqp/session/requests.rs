//! What clients ask: submit, depths, dead letters. Each runs beside the actor and ends with the session.

use std::{cell::Cell, collections::HashMap, rc::Rc};

use super::{
    lifecycle::refuse,
    reply_guard::ReplyGuard,
    state::{Actor, State},
    up::Up,
};
use crate::transport::{
    Error, Reply, Request, Walked,
    amqp::{
        dead_letters::{hindrances::Hindrances, walk, walk_lock, walk_progress::Progress},
        publish::{bulk_results::BulkResults, outbox::CLIENT_SENDS, submit::new_messages},
        queues::purge,
    },
};

impl Actor {
    /// Requests that need a session and are answered by a reply.
    pub(crate) fn serve(&mut self, request: Request) {
        let error = match &mut self.state {
            State::Up(up) if up.session.stands() || self.attachment.is_some() => return up.serve(request),
            // A client's connection ended while it was unused.
            State::Up(_) | State::Idle => {
                self.waiting_requests.push(request);
                return self.connect();
            }
            State::Connecting { .. } if self.failures == 0 => return self.waiting_requests.push(request),
            State::Connecting { .. } => self.shared.address.lost("it is being connected again"),
            State::Waiting { error, .. } | State::Refused(error) => error.clone(),
        };
        refuse(request, &error);
    }
}

impl Up {
    /// Does a request on the session that stands.
    pub(crate) fn serve(&mut self, request: Request) {
        match request {
            Request::Submit { tasks, reply } => {
                let results = Rc::new(BulkResults::new(tasks.len()));
                let known = Rc::clone(&results);
                let (messages, reply) =
                    (new_messages(&self.shared, &tasks), self.reply_guard_with(reply, move |lost| known.error(lost)));
                let outbox = self.outbox.clone();
                self.tasks.spawn_local(async move {
                    reply.send(match messages {
                        Ok(messages) => {
                            let stored = outbox.store_in_order(&messages, &results, CLIENT_SENDS).await;
                            stored.map_err(|error| results.error(error.into()))
                        }
                        Err(error) => Err(error),
                    });
                });
            }
            Request::Depths { queues, reply } => {
                let (reply, depth_counter) = (self.reply_guard(reply), Rc::clone(&self.shared.depth_counter));
                // A client asks once, and for all that there is.
                let everywhere = self.is_client;
                let in_transit = Rc::clone(&self.shared.in_transit);
                let session = Rc::clone(&self.session);
                self.tasks.spawn_local(async move {
                    reply.send_unless_closed(depth_counter.depths(&session, &in_transit, &queues, everywhere)).await;
                });
            }
            Request::Ready { queues, reply } => {
                let (reply, depth_counter) = (self.reply_guard(reply), Rc::clone(&self.shared.depth_counter));
                self.tasks.spawn_local(async move { reply.send_unless_closed(depth_counter.ready(&queues)).await });
            }
            Request::WalkDead { queue, visit, reply } => {
                let progress = Rc::new(Progress::default());
                let known = Rc::clone(&progress);
                let reply = self.reply_guard_with(reply, move |lost| known.error(lost));
                let (address, now) = (Rc::clone(&self.shared.address), self.shared.now().wall);
                let (outbox, clock) = (self.outbox.clone(), self.shared.clock);
                let jobs = Hindrances {
                    outbox: outbox.clone(),
                    address: Rc::clone(&address),
                    replies: self.replies.clone(),
                    clock,
                    known: HashMap::new(),
                };
                self.tasks.spawn_local(async move {
                    let walk = Box::pin(walk::walk(&outbox, &queue, (visit, Some(jobs)), now, &progress));
                    let walked = walk_lock::during(&outbox.session, &queue.name, walk).await;
                    reply.send(walked.map_err(|broke| progress.error(broke.error(&address, &queue.queue))));
                });
            }
            Request::Purge { queue, reply } => {
                let purged = Rc::new(Cell::new(0));
                let unfinished = |purged: &Cell<u64>, cause| {
                    let walked = Walked { removed: purged.get(), ..Walked::default() };
                    Error::unfinished(walked, 0, cause)
                };
                let known = Rc::clone(&purged);
                let reply = self.reply_guard_with(reply, move |lost| unfinished(&known, lost));
                let address = Rc::clone(&self.shared.address);
                let outbox = self.outbox.clone();
                self.tasks.spawn_local(async move {
                    let done = purge::purge(&outbox, &address, &queue, &purged).await;
                    reply.send(match done {
                        Ok(()) => Ok(purged.get()),
                        Err(fault) => Err(unfinished(&purged, address.fault(&queue, fault))),
                    });
                });
            }
            Request::Delete { queue, reply } => {
                let (reply, address) = (self.reply_guard(reply), Rc::clone(&self.shared.address));
                let outbox = self.outbox.clone();
                self.tasks.spawn_local(async move {
                    reply.send(match purge::delete(&outbox, &address, &queue).await {
                        Ok(Some(count)) => Ok(count),
                        Ok(None) => Err(Error::InUse { queue: queue.queue, cause: "it has consumers".to_owned() }),
                        Err(fault) => Err(address.fault(&queue.queue, fault)),
                    });
                });
            }
            request => self.serve_jobs(request),
        }
    }

    /// [`Self::reply_guard`], where the error for the end of the session tells more.
    pub(crate) fn reply_guard_with<T>(
        &self,
        reply: Reply<T>,
        told: impl FnOnce(Error) -> Error + 'static,
    ) -> ReplyGuard<T> {
        let lost = self.shared.address.lost("it ended while the answer was awaited");
        ReplyGuard::new(reply, || told(lost))
    }

    /// A promise to answer, kept even if the session ends.
    pub(crate) fn reply_guard<T>(&self, reply: Reply<T>) -> ReplyGuard<T> {
        self.reply_guard_with(reply, |lost| lost)
    }
}
