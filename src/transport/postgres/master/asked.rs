//! What was asked for and lasts, and what is waited for.

use std::collections::BTreeSet;

use crate::{
    clock::Instant,
    jobs::record::{Advance, EntryId},
    task::QueueIndex,
    transport::QueueSetup,
};

/// When the next try is due after a step that failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    pub(super) again_at: Instant,
    pub(super) failures: u32,
}

/// The scheduler's lease that was asked for.
pub(super) struct Lease {
    pub(super) application: String,
    pub(super) held: bool,
    /// That another one has it was told.
    pub(super) is_refused: bool,
}

/// A change of the attached queues that was asked for.
pub(super) enum Change {
    Add(QueueIndex, QueueSetup),
    Remove(QueueIndex),
}

/// The ledger that was asked for.
pub(super) struct Ledger {
    pub(super) application: String,
    pub(super) held: Option<HeldLedger>,
    /// Entries may have come.
    pub(super) is_told: bool,
    pub(super) is_refused: bool,
}

/// A ledger that is ours.
#[derive(Default)]
pub(super) struct HeldLedger {
    pub(super) epoch: i64,
    /// Entries that were told and are not folded.
    pub(super) outstanding: BTreeSet<EntryId>,
    /// The step that is to be stored.
    pub(super) advance: Option<Box<Advance>>,
}

impl Ledger {
    /// Whether it is ours.
    pub(super) const fn is_held(&self) -> bool {
        self.held.is_some()
    }
}
