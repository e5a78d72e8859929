//! How many dead letters there are. A walk or a sweep holds some of them for a moment, and the broker does not count those.

use std::time::Duration;

use crate::transport::{
    DeadQueue,
    amqp::{
        broker_error::Fault,
        queues::{
            counter::Counter,
            foreign_queues::QueueTraits,
            own_queue::{DELIVERY_LIMIT, dead_name},
        },
    },
};

/// How often the consumers of the queue are asked for, before a walk and before a count, and the time between two questions.
pub(crate) const WALK: u32 = 40;
pub(crate) const COUNT: u32 = 4;
const BETWEEN: Duration = Duration::from_millis(50);
/// Looks at whether those given back are there again, and the time between two looks.
const LOOKS: u32 = 200;
const SHORTLY: Duration = Duration::from_millis(5);

/// Where the dead letters of a queue lie: where ours go, and where the broker puts those that it makes of what lies there too
/// long or was delivered too often.
pub(crate) fn names(queue: &DeadQueue) -> impl Iterator<Item = String> {
    let default = Some(dead_name(&queue.queue)).filter(|default| *default != queue.name);
    [queue.name.clone()].into_iter().chain(default)
}

/// The count of a queue, once it has no consumer. Bounded, since the consumer may be another program that stays.
pub(crate) async fn ready(counter: &mut Counter<'_>, queue: &str, looks: u32) -> Result<u64, Fault> {
    let mut found = counter.found(queue).await?;
    for _ in 0..looks {
        if found.is_none_or(|found| found.consumers == 0) {
            break;
        }
        tokio::time::sleep(BETWEEN).await;
        found = counter.found(queue).await?;
    }
    Ok(found.map_or(0, |found| found.ready))
}

/// Waits until this many are there; bounded, since another consumer may have taken some.
pub(crate) async fn came_back(counter: &mut Counter<'_>, queue: &str, expected: u64) -> Result<(), Fault> {
    for _ in 0..LOOKS {
        if counter.ready(queue).await?.is_none_or(|ready| ready >= expected) {
            break;
        }
        tokio::time::sleep(SHORTLY).await;
    }
    Ok(())
}

/// Why a queue is not to be looked through: what stays of it is given back, and a walk that takes long gives back all.
pub(crate) fn refusal(traits: &QueueTraits) -> Option<String> {
    if traits.auto_delete {
        return Some("is deleted with its last consumer (auto-delete): a look would end it".to_owned());
    }
    let why = traits.few_returns.as_ref()?;
    Some(format!(
        "drops what is given back too often ({why}), and each look gives it back: nothing was taken; move its messages to one \
         declared with x-delivery-limit {DELIVERY_LIMIT}"
    ))
}
