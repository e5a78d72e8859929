//! Results that producers of Celery's wait for, until the tasks that they are of are settled: who has a result may not see its task
//! done again for want of an answer.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;

use crate::task::Handle;

/// Results of tasks whose handles are void; of more than these, the oldest are dropped.
const VOID: usize = 10_000;

/// A result on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::master::core) struct Reply {
    /// The queue where the producer waits.
    pub(in crate::master::core) queue: String,
    /// By which it knows it.
    pub(in crate::master::core) correlation_id: String,
    /// The message.
    pub(in crate::master::core) body: Vec<u8>,
}

/// Results that wait for the settlement of their tasks.
#[derive(Debug, Default)]
pub(in crate::master::core) struct Replies {
    pending: HashMap<Handle, Reply, RandomState>,
    /// Of tasks that come again before they can be settled, by their identities.
    void: HashMap<u64, Reply, RandomState>,
    order: VecDeque<u64>,
}

impl Replies {
    /// A task was done that is settled under this handle.
    pub(in crate::master::core) fn wait(&mut self, handle: Handle, reply: Reply) {
        self.pending.insert(handle, reply);
    }

    /// A task was done whose handle is void: it comes again.
    pub(in crate::master::core) fn wait_void(&mut self, identity: u64, reply: Reply) {
        self.void.insert(identity, reply);
        self.order.push_back(identity);
        if self.order.len() > VOID
            && let Some(oldest) = self.order.pop_front()
        {
            self.void.remove(&oldest);
        }
    }

    /// The handle is void before its settlement was answered.
    pub(in crate::master::core) fn voided(&mut self, handle: Handle, identity: Option<u64>) {
        if let (Some(reply), Some(identity)) = (self.take(handle), identity) {
            self.wait_void(identity, reply);
        }
    }

    /// A task came again, under another handle, and its settlement is repeated.
    pub(in crate::master::core) fn repeated(&mut self, identity: u64, handle: Handle) {
        if self.void.is_empty() {
            return;
        }
        if let Some(reply) = self.void.remove(&identity) {
            self.order.retain(|other| *other != identity);
            self.pending.insert(handle, reply);
        }
    }

    /// The result of a task that is settled, or that was not done after all.
    pub(in crate::master::core) fn take(&mut self, handle: Handle) -> Option<Reply> {
        if self.pending.is_empty() { None } else { self.pending.remove(&handle) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(number: usize) -> Reply {
        Reply { queue: number.to_string(), correlation_id: String::new(), body: Vec::new() }
    }

    #[test]
    fn a_result_goes_with_the_settlement_that_is_stored() {
        let mut replies = Replies::default();
        replies.wait(Handle(1), reply(1));
        replies.voided(Handle(1), Some(7));
        assert_eq!(replies.take(Handle(1)), None);
        replies.repeated(8, Handle(2));
        replies.repeated(7, Handle(3));
        assert_eq!((replies.take(Handle(2)), replies.take(Handle(3))), (None, Some(reply(1))));
        assert!(replies.order.is_empty() && replies.void.is_empty());
    }

    #[test]
    fn what_never_comes_again_is_bounded() {
        let mut replies = Replies::default();
        (0..VOID + 5).for_each(|number| replies.wait_void(number as u64, reply(number)));
        assert_eq!((replies.void.len(), replies.order.len(), replies.void.contains_key(&4)), (VOID, VOID, false));
    }
}
