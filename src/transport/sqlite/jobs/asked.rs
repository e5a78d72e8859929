//! What was asked for and lasts: the ledger of an application, answers to orders.

use std::collections::BTreeMap;

use crate::{
    clock::Instant,
    jobs::record::{Advance, EntryId},
    transport::Reply,
};

/// The ledger that was asked for.
pub(crate) struct Ledger {
    pub(super) application: String,
    pub(super) held: Option<Held>,
}

/// A ledger that is ours.
#[derive(Default)]
pub(super) struct Held {
    pub(super) epoch: u64,
    /// Up to which number entries were looked for and told.
    pub(super) told: i64,
    /// Entries that were told and are not folded, with their bytes.
    pub(super) outstanding: BTreeMap<EntryId, usize>,
    /// No more are looked for before.
    pub(super) rests_until: Option<Instant>,
    /// The step that is to be stored.
    pub(super) advance: Option<Box<Advance>>,
}

impl Ledger {
    /// Whether it is ours.
    pub(crate) const fn is_held(&self) -> bool {
        self.held.is_some()
    }
}

/// An order that is stored.
pub(crate) struct WaitingOrder {
    pub(super) application: String,
    pub(super) id: String,
    pub(super) until: Instant,
    pub(super) reply: Reply<Option<String>>,
}
