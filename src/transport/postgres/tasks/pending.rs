//! Settlements that were asked for and are not stored.

use std::{sync::Arc, time::Duration};

use tokio_postgres::types::ToSql;

use super::submit::queues;
use crate::{
    membership::ledger_of,
    task::{Failure, Handle, NewTask, Settlement, Task},
};

/// A settlement that was asked for and is not stored, with all that is needed to store it.
pub(crate) struct PendingSettlement {
    pub(crate) handle: Handle,
    /// The row; `None` if the task was accepted before, which removed it.
    pub(crate) row: Option<RowClaim>,
    /// Id of the task's queue.
    pub(crate) queue: i32,
    /// How long a dead letter of this queue is kept.
    pub(crate) keep: Option<Duration>,
    pub(crate) task: Arc<Task>,
    /// The key that is given back with it.
    pub(crate) key: Option<String>,
    /// It came again, and may have a key that was granted before.
    pub(crate) came_again: bool,
    pub(crate) settlement: Settlement,
}

/// The row of a delivery, with the number of its claim.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowClaim {
    pub(crate) id: i64,
    pub(crate) claim: i32,
}

impl PendingSettlement {
    /// Whether there is a task to claim after it, now or later.
    pub(crate) fn is_claimable(&self) -> bool {
        self.settlement.puts_back() || queues(self.submitted()).next().is_some()
    }

    /// What its `Done` submits.
    pub(crate) fn submitted(&self) -> &[NewTask] {
        match &self.settlement {
            Settlement::Done { submit } => submit,
            _ => &[],
        }
    }

    /// The applications whose ledgers it tells something, or may.
    pub(crate) fn ledgers(&self) -> impl Iterator<Item = &str> {
        let of_job = self.task.membership.as_deref().map(|membership| membership.application.as_str());
        self.submitted().iter().filter_map(|task| ledger_of(&task.queue)).chain(of_job)
    }
}

/// A statement with its parameters.
pub(crate) type Statement<'a> = (&'static str, Vec<&'a (dyn ToSql + Sync)>);

/// A failure as it is stored.
pub(crate) fn failure_text(failure: &Failure) -> String {
    serde_json::to_string(failure).expect("a failure is a map with text keys")
}
