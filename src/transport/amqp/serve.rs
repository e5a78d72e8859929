//! What clients ask: submit, depths, dead letters. Each runs beside the actor and ends with the session.

use std::{cell::Cell, collections::HashMap, rc::Rc};

use futures_util::future::try_join_all;
use lapin::Connection;
use tokio::time::timeout;

use super::{
    address::{Address, PATIENCE},
    bulk::CLIENT_SENDS,
    dead_count, end,
    engine::Engine,
    fates::Fates,
    progress::Progress,
    state::State,
    topology::{Counter, Fault},
    walk,
};
use crate::transport::{DeadQueue, Depth, Error, Request, Walked};

/// Channels that count queues at the same time.
const LANES: usize = 16;
/// Queues that are counted over one connection: with two queues and all steps of a ladder absent, 1,600 channels.
const COUNTED: usize = 80;

impl Engine {
    /// Does a request on the session that stands.
    pub(super) fn work(&mut self, request: Request) {
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
                let (owed, address) = (self.owed(reply), Rc::clone(&self.address));
                let State::Up(up) = &mut self.state else { return };
                up.tasks.spawn_local(async move { owed.send(depths(&address, &queues).await) });
            }
            Request::WalkDead { queue, visit, reply } => {
                let progress = Rc::new(Progress::default());
                let known = Rc::clone(&progress);
                let owed = self.owed_with(reply, move |lost| known.error(lost));
                let (address, now) = (Rc::clone(&self.address), self.now().wall);
                let State::Up(up) = &mut self.state else { return };
                let store = up.store.clone();
                up.tasks.spawn_local(async move {
                    let walked = walk::walk(&store, &queue, visit, now, &progress).await;
                    owed.send(walked.map_err(|broke| progress.error(broke.error(&address))));
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
                    let done = end::purge(&session, &queue, &purged).await;
                    owed.send(match done {
                        Ok(()) => Ok(purged.get()),
                        Err(fault) => Err(unfinished(&purged, address.fault(fault))),
                    });
                });
            }
            Request::Delete { queue, reply } => {
                let (owed, address) = (self.owed(reply), Rc::clone(&self.address));
                let State::Up(up) = &mut self.state else { return };
                let session = Rc::clone(&up.session);
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

/// Counts queues over connections of their own: most steps of a ladder do not exist, each answer "no such queue" costs a
/// channel, and a connection has only so many ([`open_channel`](super::topology::open_channel)).
async fn depths(address: &Address, queues: &[DeadQueue]) -> Result<Vec<Depth>, Error> {
    let mut all = Vec::with_capacity(queues.len());
    for some in queues.chunks(COUNTED) {
        let connection = address.connect("counter").await?;
        let counted = count(&connection, some).await;
        let _ = timeout(PATIENCE, connection.close(200, "counted".into())).await;
        all.extend(counted.map_err(|fault| address.fault(fault))?);
    }
    let mut users: HashMap<&str, u32> = HashMap::new();
    for queue in queues {
        *users.entry(&queue.name).or_default() += 1;
    }
    for (queue, depth) in queues.iter().zip(&mut all) {
        depth.failed_shared = users[queue.name.as_str()] > 1;
    }
    Ok(all)
}

/// Several at a time.
async fn count(connection: &Connection, queues: &[DeadQueue]) -> Result<Vec<Depth>, Fault> {
    let next = Cell::new(0);
    let lane = async || {
        let mut counter = Counter::new(connection);
        let mut found = Vec::new();
        while let Some(queue) = queues.get(next.get()) {
            let position = next.replace(next.get() + 1);
            found.push((position, depth(&mut counter, queue).await?));
        }
        Ok::<_, Fault>(found)
    };
    let lanes = try_join_all((0..LANES.min(queues.len())).map(|_| lane())).await?;
    let mut counted = lanes.concat();
    counted.sort_unstable_by_key(|(position, _)| *position);
    Ok(counted.into_iter().map(|(_, depth)| depth).collect())
}

/// What others hold in hand is not seen without the management interface.
async fn depth(counter: &mut Counter<'_>, queue: &DeadQueue) -> Result<Depth, Fault> {
    Ok(Depth {
        ready: counter.ready(&queue.queue).await?.unwrap_or(0),
        delayed: counter.delayed(&queue.queue).await?,
        in_hand: 0,
        failed: dead_count::ready(counter, &queue.name, dead_count::COUNT).await?,
        failed_shared: false,
    })
}
