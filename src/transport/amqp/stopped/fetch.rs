//! Fetching tasks that were put aside because their jobs were frozen: all of them go back to their queues, where those of jobs that are
//! frozen still are put aside again.
//!
//! Each master that hears of a thaw does it for the queues that it works, and so perhaps several do; a task is moved by one of them. It
//! has a connection of its own, since it asks for queues that mostly do not exist, which costs a channel each time.

use std::{cell::Cell, rc::Rc};

use tokio::time::timeout;

use crate::transport::amqp::{
    broker_error::{ANSWER_TIMEOUT, Fault},
    connect::address::Address,
    message::properties::{self, Transition},
    publish::{
        outbox::{OutboundMessage, Outbox},
        publisher::Publication,
    },
    queues::{own_queue::OwnQueue, take_out::take_out},
    session::note::SessionNote,
};

/// Brings back what was put aside of these queues. What goes wrong is not told: the tasks come back by themselves, only later.
pub(crate) async fn fetch(outbox: Outbox, address: Rc<Address>, queues: Vec<String>) {
    if let Ok(connection) = address.connect("fetcher").await {
        for queue in &queues {
            let back = |message: &lapin::message::Delivery| Some(back(queue, message));
            let moved = Cell::new(0);
            if let Err(fault) = take_out(&outbox, &connection, &OwnQueue::Frozen(queue.clone()), back, &moved).await {
                let cause = fault.clone().cause();
                tracing::debug!(target: "asynctask::amqp", "tasks of queue \"{queue}\" that were frozen stay aside: {cause}");
                if matches!(fault, Fault::Broken(_)) {
                    break;
                }
            }
        }
        let _ = timeout(ANSWER_TIMEOUT, connection.close(200, "done".into())).await;
    }
    let _ = outbox.notes.send(SessionNote::Fetched.of(outbox.session.number));
}

/// A task as it was, for its queue.
fn back(queue: &str, message: &lapin::message::Delivery) -> OutboundMessage {
    let task = properties::read(&message.properties, Vec::new()).task;
    let (properties, _) = properties::copy(&message.properties, &task, queue, false, &Transition::Unchanged);
    let publication =
        Publication { queue: queue.to_owned(), properties: properties.into(), body: message.data.as_slice().into() };
    OutboundMessage { own_queue: OwnQueue::Work(queue.to_owned()), publication }
}
