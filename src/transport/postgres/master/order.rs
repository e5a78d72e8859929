//! Orders that wait for their answers. Whoever waits may be a command, which nobody wakes: it looks for the answer again and again.

use std::{rc::Rc, time::Duration};

use super::{actor::Actor, notes::Note};
use crate::{
    clock::Clock,
    jobs::{entry::Entry, order::Order},
    transport::{
        Error, Reply,
        postgres::{
            connect::{lane::Lane, session::Session},
            jobs::{answers, entries},
        },
    },
};

/// Between two looks: the first, and the longest, up to which it grows.
const LOOKS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));

impl Actor {
    /// Stores an order, unless it has its answer already, and waits for that.
    pub(super) fn order(&mut self, application: String, order: Order, within: Duration, reply: Reply<Option<String>>) {
        if let Some(refused) = self.gone() {
            return drop(reply.send(Err(refused)));
        }
        let (lane, notes) = (Rc::clone(&self.side), self.notes.clone());
        tokio::task::spawn_local(async move {
            let id = order.id.clone();
            let known = match store(&lane, &application, order).await {
                Ok(known) => known,
                Err(error) => return drop(reply.send(Err(error))),
            };
            if known.is_some() {
                return drop(reply.send(Ok(known)));
            }
            let told = std::iter::once(application.clone()).collect();
            drop(notes.send(Note::Stored { queues: std::collections::BTreeSet::new(), may_be_old: false, told }));
            let clock = Clock::start();
            let mut wait = LOOKS.0;
            loop {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LOOKS.1);
                let find = async |session: &Session| answers::find(session, &application, &id).await;
                let answer = lane.ask(find).await.map(Option::flatten);
                let is_late = clock.now().at.since_start() >= within;
                match answer {
                    Ok(None) | Err(_) if !is_late && !reply.is_closed() => {}
                    answer => return drop(reply.send(answer)),
                }
            }
        });
    }
}

/// Stores an order; the answer, if it has one.
async fn store(lane: &Lane, application: &str, order: Order) -> Result<Option<String>, Error> {
    let id = order.id.clone();
    let body = Entry::Order(Box::new(order)).to_bytes();
    let stored = lane.with(async |session| {
        session
            .transaction(async |session| {
                let known = answers::find(session, application, &id).await?;
                if known.is_none() {
                    let mut entry = entries::Batch::default();
                    entry.push(application, body.clone());
                    entry.store(session).await?;
                }
                Ok(known)
            })
            .await
    });
    stored.await.map_err(|(error, _)| error)
}
