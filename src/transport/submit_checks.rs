//! What of a task a transport without a broker cannot store, found before anything is stored.

use super::error::Error;
use crate::{
    membership::ledger_of,
    task::{NewTask, is_queue_name},
};

/// Why tasks cannot be stored where there are no priorities, if one of them has some.
pub(crate) fn without_priorities(tasks: &[NewTask]) -> Result<(), Error> {
    tasks.iter().find(|task| task.priority.is_some()).map_or(Ok(()), |task| {
        let cause = "this transport has no priorities; tasks of a queue are taken oldest first".to_owned();
        Err(Error::NotStored { queue: task.queue.clone(), cause })
    })
}

/// Why tasks cannot be stored where all queues are ours: the first whose queue has no name for one. An entry of a ledger goes into no
/// queue.
pub(crate) fn with_own_names(tasks: &[NewTask]) -> Result<(), Error> {
    let is_nowhere = |task: &&NewTask| !is_queue_name(&task.queue) && ledger_of(&task.queue).is_none();
    tasks.iter().find(is_nowhere).map_or(Ok(()), |task| {
        let cause = "it is not a properly-formatted queue name".to_owned();
        Err(Error::NotStored { queue: task.queue.clone(), cause })
    })
}
