//! What was asked for and lasts: the ledger of an application, answers to orders.

use std::collections::BTreeSet;

use crate::{clock::Timestamp, jobs::record::EntryId, transport::Reply};

/// The ledger that was asked for.
pub(super) struct Ledger {
    pub(super) application: String,
    pub(super) held: Option<Held>,
}

/// A ledger that is ours.
#[derive(Default)]
pub(super) struct Held {
    /// The last entry that was told.
    pub(super) told: u64,
    /// Entries that were told and are not folded.
    pub(super) outstanding: BTreeSet<EntryId>,
}

/// An order that is stored.
pub(super) struct WaitingOrder {
    pub(super) application: String,
    pub(super) id: String,
    pub(super) until: Timestamp,
    pub(super) reply: Reply<Option<String>>,
}
