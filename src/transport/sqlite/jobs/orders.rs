//! Orders that wait for their answers. Whoever waits may be a command, which nobody wakes: it looks for the answer again and again.

use std::time::Duration;

use super::{answers, asked::WaitingOrder, entries};
use crate::{
    clock::Instant,
    jobs::{entry::Entry, order::Order},
    transport::{Reply, sqlite::actor::Actor, sqlite::peers::owner},
};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl Actor {
    /// Stores an order, unless it has its answer already, and waits for that.
    pub(crate) fn order(&mut self, application: String, order: Order, within: Duration, reply: Reply<Option<String>>) {
        let id = order.id.clone();
        let entry = Entry::Order(Box::new(order));
        let written = self.write(|transaction, _| {
            let known = answers::find(transaction, &application, &id)?;
            if known.is_none() {
                entries::tell(transaction, &application, &entry)?;
            }
            Ok((known, owner::owners(transaction)?))
        });
        match written {
            Err(unwritten) => drop(reply.send(Err(unwritten.error))),
            Ok((Some(answer), _)) => drop(reply.send(Ok(Some(answer)))),
            Ok((None, owners)) => {
                self.wake_all(owners);
                let until = self.clock.now().at + within;
                self.orders.push(WaitingOrder { application, id, until, reply });
            }
        }
    }

    /// Answers the orders that were carried out, and those that have waited long enough.
    pub(crate) fn answer_orders(&mut self) {
        if self.orders.is_empty() {
            return;
        }
        let now = self.clock.now().at;
        let Some(database) = &self.database else { return self.orders.clear() };
        let orders = std::mem::take(&mut self.orders).into_iter();
        self.orders = orders
            .filter_map(|order| match answers::find(database.read(), &order.application, &order.id) {
                // An error that stays is told by whatever else is done with the file.
                Ok(None) | Err(_) if order.until > now && !order.reply.is_closed() => Some(order),
                Ok(answer) => {
                    drop(order.reply.send(Ok(answer)));
                    None
                }
                Err(error) => {
                    drop(order.reply.send(Err(database.error(&error))));
                    None
                }
            })
            .collect();
    }

    /// When answers are looked for again.
    pub(crate) fn next_look(&self, now: Instant) -> Option<Duration> {
        let first = self.orders.iter().map(|order| order.until.since(now)).min()?;
        Some(first.min(LOOK_EVERY))
    }
}
