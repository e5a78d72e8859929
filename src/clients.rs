//! Strangers on a socket of ours, bounded in number: each has a task of its own, and when there are too many, the one
//! that has been here longest goes.

use std::{cell::RefCell, collections::VecDeque, future::Future, rc::Rc};

use tokio::task::AbortHandle;

/// Those who are served at present. On a local set.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    most: usize,
    present: Rc<RefCell<Present>>,
}

#[derive(Debug, Default)]
struct Present {
    last: u64,
    tasks: VecDeque<(u64, AbortHandle)>,
}

impl Clients {
    /// Nobody yet, and never more than `most`.
    pub(crate) fn at_most(most: usize) -> Self {
        Self { most, present: Rc::default() }
    }

    /// Serves one more.
    pub(crate) fn admit(&self, served: impl Future<Output = ()> + 'static) {
        let mut present = self.present.borrow_mut();
        present.last += 1;
        let (id, leaving) = (present.last, Rc::clone(&self.present));
        let task = tokio::task::spawn_local(async move {
            served.await;
            leaving.borrow_mut().tasks.retain(|(client, _)| *client != id);
        });
        present.tasks.push_back((id, task.abort_handle()));
        if present.tasks.len() > self.most
            && let Some((_, longest)) = present.tasks.pop_front()
        {
            longest.abort();
        }
    }
}
