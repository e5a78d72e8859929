//! What is known of queues that others have declared: each is looked at once, and told about once.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
};

use lapin::{Connection, types::AMQPValue};

use super::{attributes::Attributes, celery_queues::CeleryQueues, own_queue::OwnQueue};
use crate::{limits::KNOWN_QUEUES, transport::amqp::broker_error::Fault};

/// The attributes of a queue that change how it is used.
#[derive(Clone, Debug, Default)]
pub(crate) struct QueueTraits {
    /// Why tasks must not be published to it, or cannot be consumed from it.
    pub(crate) refusal: Option<String>,
    /// The broker deletes it with its last consumer.
    pub(crate) auto_delete: bool,
    /// A message can be returned to it any number of times: it has no delivery limit, or a high one.
    pub(crate) bears_returns: bool,
    /// The low delivery limit by which it drops messages that are returned, if it has one.
    pub(crate) few_returns: Option<String>,
    /// It delivers to one of its consumers alone (`x-single-active-consumer`).
    pub(crate) single: bool,
}

/// What is known of a queue.
struct Known {
    traits: QueueTraits,
    /// It is to be inspected again; its warnings were given.
    is_old: bool,
}

/// What was found out about queues in the life of this process. Each is inspected once, and warned of once.
pub(crate) struct ForeignQueues {
    known: RefCell<HashMap<String, Known>>,
    /// Names of the consumed queues, which are never forgotten.
    worked: RefCell<HashSet<String>>,
    /// Receives the warnings.
    warn: Box<dyn Fn(String)>,
    /// Those of them that are Celery's.
    pub(crate) celery: CeleryQueues,
    /// Of a master: work queues and dead-letter queues are inspected, too.
    is_master: Cell<bool>,
}

impl ForeignQueues {
    pub(crate) fn new(warn: impl Fn(String) + 'static) -> Self {
        Self {
            known: RefCell::default(),
            worked: RefCell::default(),
            warn: Box::new(warn),
            celery: CeleryQueues::default(),
            is_master: Cell::new(false),
        }
    }

    pub(crate) fn are_of_a_master(&self) {
        self.is_master.set(true);
    }

    /// What is known of a queue.
    pub(crate) fn of(&self, queue: &str) -> QueueTraits {
        self.known.borrow().get(queue).map(|known| known.traits.clone()).unwrap_or_default()
    }

    /// A queue that is worked, or one that belongs to it.
    pub(crate) fn is_worked(&self, queue: &str) {
        if !self.worked.borrow().contains(queue) {
            self.worked.borrow_mut().insert(queue.to_owned());
        }
    }

    /// The queue may be another one by now.
    pub(crate) fn look_again(&self, queue: &str) {
        if let Some(known) = self.known.borrow_mut().get_mut(queue) {
            known.is_old = true;
        }
    }

    /// The queue is gone.
    pub(crate) fn forget(&self, queue: &str) {
        self.known.borrow_mut().remove(queue);
    }

    /// Inspects a queue that exists, unless that was done before, and warns of what can lose tasks.
    ///
    /// # Errors
    /// If the broker did not answer; then nothing is remembered.
    pub(crate) async fn look(
        &self,
        connection: &Connection,
        own_queue: &OwnQueue,
        may_make: bool,
        keep: Option<u64>,
    ) -> Result<QueueTraits, Fault> {
        let name = own_queue.name();
        let mut told = None;
        if let Some(known) = self.known.borrow().get(&name) {
            if !known.is_old {
                return Ok(known.traits.clone());
            }
            told.clone_from(&known.traits.refusal);
        }
        let mut traits = QueueTraits::default();
        let celery = self.celery.of(&name).as_deref().cloned();
        if let Some(found) = Attributes::find(connection, own_queue, celery.as_ref(), may_make).await? {
            traits = QueueTraits {
                refusal: found.refusal(own_queue),
                auto_delete: found.auto_delete,
                bears_returns: found.bears_returns(),
                few_returns: found.few_returns(),
                single: found.arguments.get("x-single-active-consumer") == Some(&AMQPValue::Boolean(true)),
            };
            if told.is_none() || told != traits.refusal {
                self.warn_of(&found, own_queue, keep, traits.refusal.as_ref());
            }
        }
        self.know(name, traits.clone());
        Ok(traits)
    }

    /// Workers choose names of queues: of those that are not worked, some are looked at again when there are too many.
    fn know(&self, name: String, traits: QueueTraits) {
        let mut known = self.known.borrow_mut();
        if known.len() >= KNOWN_QUEUES {
            let worked = self.worked.borrow();
            known.retain(|name, _| worked.contains(name));
        }
        known.insert(name, Known { traits, is_old: false });
    }

    /// Whether work queues and dead-letter queues are looked at.
    pub(crate) fn are_wanted(&self, own_queue: &OwnQueue) -> bool {
        self.is_master.get() || own_queue.leads_back().is_some()
    }

    /// Something about a queue that its owner should know.
    pub(crate) fn tell(&self, text: String) {
        (self.warn)(text);
    }

    fn warn_of(&self, found: &Attributes, own_queue: &OwnQueue, keep: Option<u64>, refusal: Option<&String>) {
        // What its producers declare, they declare on purpose.
        let is_celery = self.celery.of(&own_queue.name()).is_some();
        let mut warnings = match (own_queue, refusal) {
            // Told at once: a task that is to be put there takes another queue.
            (OwnQueue::Delay(..) | OwnQueue::Frozen(_), refusal) => refusal.cloned().into_iter().collect(),
            // That it is refused is an error, and told as that.
            (_, Some(_)) => Vec::new(),
            _ => found.hazards(own_queue, keep, is_celery),
        };
        if let OwnQueue::Work(queue) = own_queue
            && found.kind == "classic"
            && !is_celery
        {
            let text = format!("queue \"{queue}\" is a classic queue; a quorum queue is safer and faster here");
            warnings.insert(0, text);
        }
        for text in warnings {
            (self.warn)(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_queues_those_that_are_worked_are_remembered() {
        let foreign_queues = ForeignQueues::new(drop);
        foreign_queues.is_worked("a");
        foreign_queues.know("a".to_owned(), QueueTraits { auto_delete: true, ..QueueTraits::default() });
        for number in 0..3 * KNOWN_QUEUES {
            foreign_queues.know(format!("q{number}"), QueueTraits::default());
        }
        assert!(foreign_queues.known.borrow().len() <= KNOWN_QUEUES);
        assert!(foreign_queues.of("a").auto_delete);
    }
}
