//! What the holder of a ledger is asked for within its process.

use tokio::sync::oneshot;

use super::{names::Question, pending::PendingStep};

/// What is asked of the holder.
pub(crate) enum LedgerRequest {
    /// Store a step.
    Step(Box<PendingStep>),
    /// Answer a question of this process; dropped, if the ledger is not held.
    Ask { question: Question, reply: oneshot::Sender<Vec<Vec<u8>>> },
}
