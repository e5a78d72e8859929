//! What clients ask: submit, depths, dead letters. Each runs beside the actor and ends with the session.

use super::{
    end,
    engine::Engine,
    state::State,
    topology::{Counter, Fault},
    walk,
};
use crate::transport::{DeadQueue, Depth, Error, Request};

impl Engine {
    /// Does a request on the session that stands.
    pub(super) fn work(&mut self, request: Request) {
        match request {
            Request::Submit { tasks, reply } => {
                let (parcels, owed) = (self.parcels(&tasks), self.owed(reply));
                let State::Up(up) = &mut self.state else { return };
                let store = up.store.clone();
                up.tasks.spawn_local(async move {
                    owed.send(match parcels {
                        Ok(parcels) => store.bulk(&parcels).await.map_err(Error::from),
                        Err(error) => Err(error),
                    });
                });
            }
            Request::Depths { queues, reply } => {
                let (owed, address) = (self.owed(reply), std::rc::Rc::clone(&self.address));
                let State::Up(up) = &mut self.state else { return };
                let session = std::rc::Rc::clone(&up.session);
                up.tasks.spawn_local(async move {
                    let connection = session.reader();
                    let depths = depths(&mut Counter::new(&connection), &queues).await;
                    owed.send(depths.map_err(|fault| address.fault(fault)));
                });
            }
            Request::WalkDead { queue, visit, reply } => {
                let (owed, address, now) = (self.owed(reply), std::rc::Rc::clone(&self.address), self.now().wall);
                let State::Up(up) = &mut self.state else { return };
                let store = up.store.clone();
                up.tasks.spawn_local(async move {
                    let walked = walk::walk(&store, &queue, visit, now).await;
                    owed.send(walked.map_err(|fault| address.fault(fault)));
                });
            }
            Request::Purge { queue, reply } => {
                let (owed, address) = (self.owed(reply), std::rc::Rc::clone(&self.address));
                let State::Up(up) = &mut self.state else { return };
                let session = std::rc::Rc::clone(&up.session);
                up.tasks.spawn_local(async move {
                    owed.send(end::purge(&session, &queue).await.map_err(|fault| address.fault(fault)));
                });
            }
            Request::Delete { queue, reply } => {
                let (owed, address) = (self.owed(reply), std::rc::Rc::clone(&self.address));
                let State::Up(up) = &mut self.state else { return };
                let session = std::rc::Rc::clone(&up.session);
                up.tasks.spawn_local(async move {
                    owed.send(match end::delete(&session, &queue).await {
                        Ok(Some(count)) => Ok(count),
                        Ok(None) => Err(Error::InUse { queue: queue.queue, cause: "it has consumers".to_owned() }),
                        Err(fault) => Err(address.fault(fault)),
                    });
                });
            }
            _ => {}
        }
    }
}

async fn depths(counter: &mut Counter<'_>, queues: &[DeadQueue]) -> Result<Vec<Depth>, Fault> {
    let mut depths = Vec::with_capacity(queues.len());
    for queue in queues {
        // What others hold in hand is not seen without the management interface.
        depths.push(Depth {
            ready: counter.ready(&queue.queue).await?.unwrap_or(0),
            delayed: counter.delayed(&queue.queue).await?,
            in_hand: 0,
            failed: counter.ready(&queue.name).await?.unwrap_or(0),
        });
    }
    Ok(depths)
}
