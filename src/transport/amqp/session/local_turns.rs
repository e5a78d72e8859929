//! The turns of a session: who goes through which queue (`walk_lock`).

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use tokio::sync::Mutex;

/// Who of a session goes through which queue.
#[derive(Default)]
pub(crate) struct LocalTurns {
    of: RefCell<HashMap<String, Rc<Mutex<()>>>>,
}

impl LocalTurns {
    /// The turn of a queue: whoever locks it has it, in the order in which they came.
    pub(crate) fn of(&self, queue: &str) -> Rc<Mutex<()>> {
        let mut of = self.of.borrow_mut();
        // Names of queues may come without end.
        of.retain(|_, turn| Rc::strong_count(turn) > 1);
        Rc::clone(of.entry(queue.to_owned()).or_default())
    }
}
